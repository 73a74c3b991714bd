"""Which periodic jobs are due now, and when the next one will be.

Owns: this judgement, what "missed" means. Leaves to others: cron expressions (``contract.cron``), that a due time comes
to one run only (``state.apply_batch``), uids and proposing (``leader.schedule``). The rules, for a job whose last due
time that was dealt with is L: of the due times after L only the latest counts, however many passed. It runs if it is
at most ``LATE_MS`` ago; if it is older nobody could start it in time, and the job's ``missed`` says whether it still
runs.
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
        late_ms = now_ms - due_ms
        skip = ""
        if late_ms > LATE_MS and periodic.missed is Missed.SKIP:
            skip = f"missed by {late_ms // 1000} s: nobody could start it then"
        runs.append(DueRun(uid=job.uid, version=job.version, after_ms=handled_ms, due_ms=due_ms, skip=skip))
    return Due(runs=tuple(runs), wake_at_ms=min(wakes, default=None))
