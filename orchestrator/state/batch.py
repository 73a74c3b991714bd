"""Templates (periodic and parameterized jobs) and their runs, as values: what a run is, when the next one is due.

Owns: the spec of a run, the record of a schedule, the next time for whoever asks. Leaves to others: deciding that a
time is due (``reconcile.periodic``), entering runs (``apply_batch``). The rule: what ``apply`` calls here reads no cron
expression and no time zone.
"""

from __future__ import annotations

import datetime
from dataclasses import replace

from orchestrator.contract import cron
from orchestrator.contract.batch import Origin
from orchestrator.contract.model import JobSpec
from orchestrator.state.model import Job, Schedule

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def has_batch(spec: JobSpec) -> bool:
    """Whether a peer that knows nothing of templates, order and timeouts would misread the job."""
    return (
        spec.is_template
        or spec.origin is not None
        or any(group.after or any(task.timeout_ms for task in group.tasks) for group in spec.groups)
    )


def run_spec(template: JobSpec, name: str, origin: Origin) -> JobSpec:
    """What a run of the template is: the same job, once."""
    return replace(template, name=name, periodic=None, parameterized=None, origin=origin)


def moment(time_ms: int) -> str:
    """A time for people: ``2026-01-31 03:00:00 UTC``. Total: a clock may say anything."""
    if not 0 <= time_ms < cron.END_MS:
        return f"{time_ms} ms"
    return f"{_EPOCH + datetime.timedelta(milliseconds=time_ms):%Y-%m-%d %H:%M:%S} UTC"


def next_schedule(time_ms: int, before: Job | None, spec: JobSpec) -> Schedule | None:
    """The record of a job's schedule at a submission. Times count from now on where the schedule is another one than
    before, or the job was stopped: what was due meanwhile was not missed."""
    if not spec.is_template:
        return None
    schedule = before.schedule if before is not None else None
    if before is None or schedule is None:
        return Schedule(since_ms=time_ms)
    if before.stopped or before.spec.periodic != spec.periodic:
        return replace(schedule, since_ms=time_ms)
    return schedule


def next_run(job: Job) -> tuple[int, str]:
    """(unix ms of the next due time, or 0; why none is known, or "")."""
    periodic, schedule = job.spec.periodic, job.schedule
    if periodic is None or schedule is None:
        return 0, ""
    if periodic.paused:
        return 0, "its schedule is paused"
    try:
        due = cron.Schedule(periodic.cron, periodic.time_zone).after(schedule.handled_ms)
    except cron.CronError as error:
        return 0, str(error)
    return (due, "") if due is not None else (0, "no time is due any more")
