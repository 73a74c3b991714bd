"""Which periodic jobs are due now, and when the next one will be.

Owns: this judgement, what "missed" means. Leaves to others: cron expressions (``contract.cron``), that a due time comes
to one run only (``state.apply_batch``), uids and proposing (``leader.schedule``). The rules, for a job whose last due
time that was dealt with is L: of the due times after L only the latest counts, however many passed. It runs if it is
at most ``LATE_MS`` ago; if it is older nobody could start it in time, and the job's ``missed`` says whether it still
runs. Those before it are skipped, and said to be, unless ``missed`` has one run stand for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.contract.batch import Missed
from orchestrator.contract.cron import CronError, Schedule
from orchestrator.state.model import Job

LATE_MS = 60_000
"""An election takes seconds, and a busy leader some more: a run that begins so late is not called missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRun:
    """``after_ms``: the due time that was dealt with before; ``skip``: why it comes to no run."""

    uid: str
    version: int
    after_ms: int
    due_ms: int
    skip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """``wake_at_ms``: unix ms of the next due time of all that is not among ``runs``; None: there is none."""

    runs: tuple[DueRun, ...] = ()
    wake_at_ms: int | None = None


def due_runs(jobs: Iterable[Job], now_ms: int) -> Due:
    runs: list[DueRun] = []
    wakes: list[int] = []
    for job in jobs:
        periodic, schedule = job.spec.periodic, job.schedule
        if periodic is None or schedule is None or periodic.paused or job.stopped or job.removing:
            continue
        times = Schedule(periodic.cron, periodic.time_zone)
        handled_ms = schedule.handled_ms
        try:
            due_ms = times.latest(now_ms, handled_ms)
            if due_ms is None:
                following = times.after(handled_ms)
                wakes += [following] if following is not None else []
                continue
        except CronError:
            continue  # its time zone is unknown here: the job's status says so
        skip = ""
        if periodic.missed is Missed.SKIP:
            passed_ms = times.latest(due_ms - 1, handled_ms)
            if now_ms - due_ms > LATE_MS:
                skip = _missed(now_ms - due_ms, others=passed_ms is not None)
            elif passed_ms is not None:
                others = times.latest(passed_ms - 1, handled_ms) is not None
                said = _missed(now_ms - passed_ms, others=others)
                runs.append(DueRun(uid=job.uid, version=job.version, after_ms=handled_ms, due_ms=passed_ms, skip=said))
                handled_ms = passed_ms
        runs.append(DueRun(uid=job.uid, version=job.version, after_ms=handled_ms, due_ms=due_ms, skip=skip))
    return Due(runs=tuple(runs), wake_at_ms=min(wakes, default=None))


def _missed(late_ms: int, *, others: bool) -> str:
    return f"missed by {late_ms // 1000} s{', as were those before it' if others else ''}: nobody could start it then"
