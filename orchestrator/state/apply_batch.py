"""What commands about templates do: a due time becomes a run, or is skipped; a dispatch and a forced run.

The rule: exactly one run per due time. The leader says which time it found due, after which one; here that is compared
with what the job's record says, so that the second leader's command (or the repeated one) finds it dealt with. No cron
expression is read here: peers may know different time zones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.contract.batch import (
    MAX_META,
    MAX_META_BYTES,
    MAX_PAYLOAD_BYTES,
    Origin,
    Overlap,
    PayloadRule,
    dispatch_name,
    periodic_name,
)
from orchestrator.contract.model import StrMap
from orchestrator.state.apply_jobs import job_at_work, over_quota, stop, submit_one
from orchestrator.state.batch import moment, run_spec
from orchestrator.state.check import id_problem, job_problem, range_problem
from orchestrator.state.commands import (
    DispatchJob,
    ForceRun,
    JobAnswer,
    JobsAnswer,
    JobSubmission,
    Launch,
    LaunchRuns,
    Outcome,
    Rejected,
    StopJob,
)
from orchestrator.state.model import MAX_COMMAND_ROWS, Job, Schedule
from orchestrator.state.state import State
from orchestrator.state.status import has_ended


def launch(state: State, command: LaunchRuns) -> Outcome:
    """Each due time alone; what was dealt with since the leader looked changes nothing."""
    problem = range_problem("number of launches", len(command.launches), 1, MAX_COMMAND_ROWS)
    if problem:
        return state.reject("INVALID", problem)
    changed = False
    for one in command.launches:
        changed = _launch(state, one) or changed
    return state.changed(changed)


def _launch(state: State, one: Launch) -> bool:
    job = state.jobs.get(one.uid)
    if job is None or job.stopped or job.version != one.version:
        return False
    periodic, schedule = job.spec.periodic, job.schedule
    if periodic is None or periodic.paused:
        return False
    assert schedule is not None  # a template's
    if schedule.handled_ms != one.after_ms or not one.after_ms < one.due_ms <= state.time_ms:
        return False
    schedule = replace(schedule, last_ms=one.due_ms)
    live = live_runs(state, job)
    reason = one.skip[:500]
    if not reason and periodic.overlap is Overlap.FORBID and live:
        reason = f"{live[-1].spec.name} has not ended"
    if not reason:
        replaces = tuple(run.uid for run in live) if periodic.overlap is Overlap.REPLACE else ()
        origin = Origin(
            job=job.spec.name, uid=job.uid, version=job.version, due_ms=one.due_ms, replaces=replaces[-_MAX_REPLACED:]
        )
        made = _run(state, job, periodic_name(job.spec.name, one.due_ms), one.child_uid, origin)
        if isinstance(made, Rejected):
            reason = made.message
        else:
            for run in live if replaces else ():
                stop(state, StopJob(namespace=run.spec.namespace, name=run.spec.name))
            _record(state, job, replace(schedule, runs=schedule.runs + 1, last_job=made.spec.name))
            return True
    said = f"due at {moment(one.due_ms)}: {reason}"
    state.events.emit("periodic.skipped", namespace=job.spec.namespace, job=job.spec.name, message=said)
    _record(state, job, replace(schedule, skipped=schedule.skipped + 1, last_skipped=reason))
    return True


_MAX_REPLACED = 100
"""A run waits for so many of those that it replaces, the newest; older ones are told to stop as well."""


def dispatch(state: State, command: DispatchJob) -> Outcome:
    job = job_at_work(state, command.namespace, command.name)
    if isinstance(job, Rejected):
        return job
    rule = job.spec.parameterized
    if rule is None:
        hint = ": it is periodic, 'raftsman job periodic force' runs it" if job.spec.periodic is not None else ""
        return state.reject("FAILED_PRECONDITION", f"job {command.name!r} is not parameterized{hint}")
    problem = _meta_problem(command.meta, rule.meta_required, rule.meta_optional)
    problem = problem or range_problem("length of the payload", len(command.payload), 0, MAX_PAYLOAD_BYTES)
    if not problem and rule.payload is PayloadRule.REQUIRED and not command.payload:
        problem = "the job requires a payload"
    if not problem and rule.payload is PayloadRule.FORBIDDEN and command.payload:
        problem = "the job takes no payload"
    if problem:
        return state.reject("INVALID", f"job {command.name!r}: {problem}")
    origin = Origin(
        job=job.spec.name, uid=job.uid, version=job.version, meta=tuple(sorted(command.meta)), payload=command.payload
    )
    return _made(state, job, dispatch_name(job.spec.name, state.time_ms, command.uid), command.uid, origin)


def force(state: State, command: ForceRun) -> Outcome:
    """Neither the schedule nor its overlap policy has a say; the due times stay as they are."""
    job = job_at_work(state, command.namespace, command.name)
    if isinstance(job, Rejected):
        return job
    if job.spec.periodic is None:
        hint = ": it is parameterized, 'raftsman job dispatch' runs it" if job.spec.parameterized is not None else ""
        return state.reject("FAILED_PRECONDITION", f"job {command.name!r} is not periodic{hint}")
    origin = Origin(job=job.spec.name, uid=job.uid, version=job.version, due_ms=state.time_ms)
    return _made(state, job, periodic_name(job.spec.name, state.time_ms, command.uid), command.uid, origin)


def _made(state: State, job: Job, name: str, uid: str, origin: Origin) -> Outcome:
    made = _run(state, job, name, uid, origin)
    if isinstance(made, Rejected):
        return made
    assert job.schedule is not None  # a template's
    _record(state, job, replace(job.schedule, runs=job.schedule.runs + 1, last_job=name))
    return state.answer(JobsAnswer(jobs=(JobAnswer(uid=made.uid, version=1, changed=True, name=name),)))


def _run(state: State, job: Job, name: str, uid: str, origin: Origin) -> Job | Rejected:
    """Enter a run of ``job``, if there is room for it in the quota."""
    spec = run_spec(job.spec, name, origin)
    problem = id_problem("uid of the run", uid) or job_problem(spec)
    if problem:
        return state.reject("INVALID", problem)
    if uid in state.jobs or state.find_job(spec.namespace, name) is not None:
        return state.reject("ALREADY_EXISTS", f"run {name!r} is there already: mint a fresh uid")
    refusal = over_quota(state, [spec])
    if refusal is not None:
        return refusal
    kind = "periodic.launched" if job.spec.periodic is not None else "job.dispatched"
    state.events.emit(kind, namespace=job.spec.namespace, job=job.spec.name, message=name)
    submit_one(state, JobSubmission(spec=spec, uid=uid))
    return state.jobs[uid]


def _record(state: State, job: Job, schedule: Schedule) -> None:
    state.put_job(replace(job, schedule=schedule))


def live_runs(state: State, job: Job) -> list[Job]:
    """Runs that have something to do, or of which something still runs; oldest first."""
    found = []
    for run in state.runs_of(job.spec.namespace, job.spec.name):
        if len(state.live_rows(run.slot)) or not (run.stopped or has_ended(state, run)):
            found.append(run)
    return found


def _meta_problem(meta: StrMap, required: Sequence[str], optional: Sequence[str]) -> str:
    names = [name for name, _ in meta]
    if len(names) > MAX_META:  # each once: the log has them in a map
        return f"meta: expected at most {MAX_META} different keys"
    missing = [name for name in required if name not in names]
    if missing:
        return f"meta: {', '.join(missing)[:500]} missing"
    unknown = [name for name in names if name not in required and name not in optional]
    if unknown:
        known = ", ".join((*required, *optional)) or "none"
        return f"meta: {', '.join(unknown)[:300]} unknown; the job takes: {known[:300]}"
    size = sum(len(name.encode()) + len(value.encode()) for name, value in meta)
    return range_problem("size of meta in bytes", size, 0, MAX_META_BYTES)
