"""What batch jobs have beside instances: groups that come after others, schedules, dispatch, and where a run came from.

Owns: these shapes, and the names of runs. Leaves to others: reading cron expressions (``contract.cron``), what is due
(``reconcile.periodic``), making a run (``state.apply_batch``). The rule: a periodic or a parameterized job is a
template of which nothing runs; each of its runs is a job of its own, named ``NAME/periodic-...`` or
``NAME/dispatch-...``.
"""

from __future__ import annotations

import enum
import re

from orchestrator.contract.quick import dataclass

UTC = "UTC"
MAX_PAYLOAD_BYTES = 16 * 1024
"""Of a dispatch; what is larger belongs where the job can fetch it."""
MAX_META = 64
MAX_META_BYTES = 16 * 1024
META_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_RUN = re.compile(r"(periodic|dispatch)-\d{1,15}(-[0-9a-f]{8})?")


class AfterCondition(enum.IntEnum):
    SUCCESS = 1
    ANY = 2  # also when it failed for good, or was skipped


class Overlap(enum.IntEnum):
    """What a run does that is due while an earlier one has not ended."""

    ALLOW = 1
    FORBID = 2  # it is skipped
    REPLACE = 3  # the earlier one is stopped, and it starts when that has ended


class Missed(enum.IntEnum):
    """What becomes of due times that passed while nobody could start them; however many, they are one run at most."""

    SKIP = 1
    ONCE = 2


class PayloadRule(enum.IntEnum):
    OPTIONAL = 1
    REQUIRED = 2
    FORBIDDEN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """All instances of ``group`` have ended, as ``condition`` says."""

    group: str
    condition: AfterCondition = AfterCondition.SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicSpec:
    """``cron``: one expression or several, any of which makes a time due; ``time_zone``: a name of the IANA database;
    ``paused``: nothing is due."""

    cron: tuple[str, ...]
    time_zone: str = UTC
    overlap: Overlap = Overlap.ALLOW
    missed: Missed = Missed.SKIP
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterizedSpec:
    """What a dispatch must and may bring."""

    payload: PayloadRule = PayloadRule.OPTIONAL
    meta_required: tuple[str, ...] = ()
    meta_optional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a run came from: the template's name, uid and version; ``due_ms``: unix ms for which a periodic run was
    due (when it was forced: that time), 0 of a dispatch; ``meta`` and ``payload``: what a dispatch brought;
    ``replaces``: uids of runs that were stopped for it, and that it waits for."""

    job: str
    uid: str
    version: int
    due_ms: int = 0
    meta: tuple[tuple[str, str], ...] = ()
    payload: bytes = b""
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a periodic or parameterized job stands. ``next_ms``: unix ms of the next run, 0 = none is to come;
    ``last_ms``: the last due time that was dealt with; ``last_job``: the newest run; ``runs``, ``skipped``: since the
    job was made; ``live``, ``complete``, ``failed``: of the runs that are known; ``problem``: why no next time is."""

    next_ms: int = 0
    last_ms: int = 0
    last_job: str = ""
    runs: int = 0
    skipped: int = 0
    last_skipped: str = ""
    live: int = 0
    complete: int = 0
    failed: int = 0
    problem: str = ""


def periodic_name(job: str, due_ms: int, uid: str = "") -> str:
    """``uid``: of a run that was forced, which is no run of a due time."""
    return f"{job}/periodic-{due_ms // 1000}" + (f"-{uid[:8]}" if uid else "")


def dispatch_name(job: str, time_ms: int, uid: str) -> str:
    return f"{job}/dispatch-{time_ms // 1000}-{uid[:8]}"


def is_run_suffix(word: str) -> bool:
    """Whether it is what stands behind the slash in the name of a run."""
    return _RUN.fullmatch(word) is not None
