"""What commands about jobs do: submit, stop, scale, restart, remove.

The rule: a submission of many is all or none; an equal one does nothing; only a group whose content changed gets a new
group version, so changing a count restarts nothing. Whatever makes a job ask for more is held against the quota of its
namespace here, so that callers who submit at the same time get exactly what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.contract.model import Desired, GroupSpec, JobSpec, JobType, Usage
from orchestrator.contract.rollouts import Rollout, RolloutStatus
from orchestrator.state.apply_namespaces import unknown_namespace
from orchestrator.state.batch import next_schedule
from orchestrator.state.check import gang_problem, id_problem, job_problem, range_problem
from orchestrator.state.commands import (
    JobAnswer,
    JobsAnswer,
    JobSubmission,
    Outcome,
    Rejected,
    RemoveJob,
    RestartJob,
    ScaleJob,
    StopJob,
    SubmitJobs,
)
from orchestrator.state.features import HELD_VERSIONS
from orchestrator.state.holding import base_spec, differs, is_held_back
from orchestrator.state.images import kept
from orchestrator.state.model import MAX_COMMAND_ROWS, MAX_COUNT, Job
from orchestrator.state.quota import growth_refusal
from orchestrator.state.resize import resize
from orchestrator.state.rollouts import remembered
from orchestrator.state.state import State
from orchestrator.state.typical import count_submitted
from orchestrator.state.usage import of_job, of_new
from orchestrator.state.versions import same_content, same_group


def submit(state: State, command: SubmitJobs) -> Outcome:
    problem = range_problem("number of jobs", len(command.jobs), 1, MAX_COMMAND_ROWS)
    if problem:
        return state.reject("INVALID", problem)
    names: set[tuple[str, str]] = set()
    uids: set[str] = set()
    for submission in command.jobs:
        refusal = _refusal(state, submission)
        if refusal is not None:
            return refusal
        name = (submission.spec.namespace, submission.spec.name)
        if name in names or submission.uid in uids:
            return state.reject("INVALID", f"job {submission.spec.name!r} is in the request twice")
        names.add(name)
        uids.add(submission.uid)
    refusal = over_quota(state, [submission.spec for submission in command.jobs])
    if refusal is not None:
        return refusal
    return state.answer(JobsAnswer(jobs=tuple(submit_one(state, submission) for submission in command.jobs)))


def _refusal(state: State, submission: JobSubmission) -> Rejected | None:
    spec = submission.spec
    problem = job_problem(spec) or id_problem("job uid", submission.uid)
    if spec.origin is not None:
        problem = "only the control plane says where a run came from"
    if problem:
        return state.reject("INVALID", f"job {spec.name[:64]!r}: {problem}")
    job = state.find_job(spec.namespace, spec.name)
    expected = submission.expect_version
    if job is None:
        if submission.uid in state.jobs:
            return state.reject(
                "ALREADY_EXISTS", f"job uid {submission.uid!r} belongs to another job: mint a fresh one"
            )
        if expected:
            return state.reject(
                "CONFLICT",
                f"job {spec.name!r} does not exist, but was expected at version {expected}: expect 0, or nothing",
                version="0",
            )
        return unknown_namespace(state, spec.namespace)
    if expected is not None and expected != job.version:
        wanted = f"at version {expected}" if expected else "not to exist"
        return state.reject(
            "CONFLICT",
            f"job {spec.name!r} is at version {job.version}, but was expected {wanted}: read it, then submit again",
            version=str(job.version),
        )
    if job.removing:
        return being_removed(state, job)
    return None


def over_quota(state: State, specs: Sequence[JobSpec]) -> Rejected | None:
    """Whether the quotas of their namespaces have room for all of these jobs as they would be."""
    if not state.namespaces:
        return None
    changes: list[tuple[Job | None, str, Usage]] = []
    for spec in specs:
        job = state.find_job(spec.namespace, spec.name)
        if job is None:
            changes.append((job, spec.namespace, of_new(spec)))
        elif job.spec != spec or job.stopped:
            changes.append((job, spec.namespace, of_job(state, _next_job(state, job, spec, everything=job.stopped))))
    return growth_refusal(state, changes)


def submit_one(state: State, submission: JobSubmission) -> JobAnswer:
    spec = submission.spec
    job = state.find_job(spec.namespace, spec.name)
    if job is None:
        job = Job(
            slot=state.take_job_slot(),
            uid=submission.uid,
            spec=spec,
            version=1,
            group_versions=(1,) * len(spec.groups),
            specs=((1, spec),),
            submit_index=state.index,
            create_index=state.index,
            modify_index=state.index,
            create_time_ms=state.time_ms,
            modify_time_ms=state.time_ms,
            schedule=next_schedule(state.time_ms, None, spec),
            tracked=submission.remember,
            rollout=_first_rollout(state, spec) if submission.remember else None,
        )
        state.put_job(job)
        if not spec.is_template:
            count_submitted(state.typical, spec, None)
        state.events.emit("job.submitted", namespace=spec.namespace, job=spec.name, message="version 1")
        return JobAnswer(uid=job.uid, version=1, changed=True)
    if job.spec == spec and not job.stopped:
        return JobAnswer(uid=job.uid, version=job.version, changed=False)
    # Starting a stopped job again is a new version of everything: what ran (or completed) before does not count.
    again = job.stopped
    if submission.remember and not job.tracked:
        job = replace(job, tracked=True)
    job = next_version(state, job, spec, everything=again, in_place=submission.in_place)
    kind = "job.submitted" if again else "job.updated"
    state.events.emit(kind, namespace=spec.namespace, job=spec.name, message=f"version {job.version}")
    return JobAnswer(uid=job.uid, version=job.version, changed=True)


def _next_job(state: State, job: Job, spec: JobSpec, *, everything: bool) -> Job:
    """The record of the job's next version; ``everything``: every instance is outdated, changed or not."""
    version = job.version + 1
    old = {group.name: (group, at) for group, at in zip(job.spec.groups, job.group_versions, strict=True)}
    everything = everything or spec.type != job.spec.type or spec.constraints != job.spec.constraints
    group_versions = []
    twins = []
    before_twins = dict(zip(old, job.twins, strict=True)) if job.twins else {}
    for group in spec.groups:
        before = old.get(group.name)
        if before is not None and not everything and same_group(before[0], group):
            group_versions.append(before[1])
            twins.append(before_twins.get(group.name, ()))
        else:
            group_versions.append(version)
            twins.append(() if everything or not job.tracked else _twins(job, spec, group))
    return replace(
        job,
        spec=spec,
        version=version,
        group_versions=tuple(group_versions),
        specs=(*job.specs, (version, spec)),
        twins=tuple(twins) if any(twins) else (),
        stopped=False,
        schedule=next_schedule(state.time_ms, job, spec),
        submit_index=state.index,
        modify_index=state.index,
        modify_time_ms=state.time_ms,
    )


def _twins(job: Job, spec: JobSpec, group: GroupSpec) -> tuple[int, ...]:
    """Older versions that rows still name and whose content of this group is that of now."""
    found = []
    for version, older in job.specs:
        if older.type != spec.type or older.constraints != spec.constraints:
            continue
        if any(same_group(one, group) for one in older.groups):
            found.append(version)
    return tuple(found)


def _first_rollout(state: State, spec: JobSpec) -> Rollout | None:
    """Of a new job: only where a policy gives it a deadline to keep, for each one costs a verdict in the log."""
    if spec.type is not JobType.SERVICE or not any(group.update for group in spec.groups):
        return None
    return _begun(state, 1, promoted=True)


def _begun(state: State, version: int, *, promoted: bool) -> Rollout:
    return Rollout(
        version=version,
        began_version=version,
        status=RolloutStatus.RUNNING,
        promoted=promoted,
        began_ms=state.time_ms,
        progress_ms=state.time_ms,
    )


def _with_rollout(state: State, before: Job, job: Job, *, known: bool) -> Job:
    """The next version of a job that remembers: what it was, and the rollout that begins or goes on."""
    history = remembered(state, before)
    if spec_changed := any(version == job.version for version in job.group_versions):
        stable = history[-1].version if history[-1].stable else before.stable_version
    else:  # a count: whatever is under way goes on under the new number
        stable = job.version if history[-1].stable else before.stable_version
    rollout = before.rollout
    waiting = base_spec(before) if rollout is not None and not rollout.promoted else None
    if job.spec.type is not JobType.SERVICE:
        rollout = None
    elif spec_changed:
        canaries = not known and _asks_for_canaries(before, job, waiting)
        # Nothing runs of a job that was stopped: there is nothing to compare canaries with.
        begun = _begun(state, job.version, promoted=before.stopped or not canaries)
        rollout = replace(begun, base_version=_base(state, before))
    elif rollout is not None:
        back = waiting is not None and _as_before(waiting, job.spec)
        rollout = replace(rollout, version=job.version, promoted=rollout.promoted or back)
    return replace(job, history=history, rollout=rollout, stable_version=stable)


def _asks_for_canaries(before: Job, job: Job, waiting: JobSpec | None) -> bool:
    """``waiting``: the version at which most of the job is held, where the one before was not promoted either: what
    has been changed since then counts."""
    if waiting is None and same_content(before.spec, job.spec):
        return False
    return any(
        group.update is not None
        and group.update.canaries
        and group.count
        and (version == job.version if waiting is None else differs(waiting, job.spec, group))
        for group, version in zip(job.spec.groups, job.group_versions, strict=True)
    )


def _as_before(waiting: JobSpec, spec: JobSpec) -> bool:
    """Whether nothing is left that waits for a promotion."""
    names = {group.name for group in spec.groups}
    return all(group.name in names for group in waiting.groups) and not any(
        differs(waiting, spec, group) for group in spec.groups
    )


def _base(state: State, before: Job) -> int:
    """The version that was promoted last, from which a rollout begins: that of now, unless it waits for its promotion
    itself, or has failed. 0: none, for nothing runs."""
    rollout = before.rollout
    if state.feature_level < HELD_VERSIONS or before.stopped:
        return 0
    if rollout is None or (rollout.promoted and rollout.status is not RolloutStatus.FAILED):
        return before.version
    return rollout.base_version or (before.version if rollout.promoted else 0)


def next_version(
    state: State, job: Job, spec: JobSpec, *, everything: bool, in_place: bool = False, known: bool = False
) -> Job:
    """Replace the job's record by its next version. ``known``: it is gone back to, so it needs no canaries."""
    if spec.on_disconnect != job.spec.on_disconnect:
        # Agents act on it while they are cut off, so those that keep running must hear of it now.
        rows = state.live_rows(job.slot)
        state.stamp(rows)
        state.tell(rows)
    if not spec.is_template:
        count_submitted(state.typical, spec, None if job.stopped or job.spec.is_template else job.spec)
    after = _next_job(state, job, spec, everything=everything)
    if job.tracked:
        after = _with_rollout(state, job, after, known=known)
    if in_place:
        after = resize(state, job, after)
    state.put_job(replace(after, pins=kept(after)))
    return state.jobs[job.uid]


def stop(state: State, command: StopJob) -> Outcome:
    job = state.find_job(command.namespace, command.name)
    if job is None:
        return not_found(state, command.namespace, command.name)
    if job.stopped:
        return state.changed(False)
    _stop_all(state, job)
    _put_modified(state, replace(job, stopped=True))
    state.events.emit("job.stopped", namespace=job.spec.namespace, job=job.spec.name)
    return state.changed()


def scale(state: State, command: ScaleJob) -> Outcome:
    job = job_at_work(state, command.namespace, command.name)
    if isinstance(job, Rejected):
        return job
    if job.spec.type is JobType.SYSTEM:
        return state.reject("FAILED_PRECONDITION", f"job {command.name!r} is a system job: it runs once on every node")
    problem = range_problem("count", command.count, 0, MAX_COUNT)
    if problem:
        return state.reject("INVALID", problem)
    names = [group.name for group in job.spec.groups]
    if not command.group and len(names) > 1:
        return state.reject("INVALID", f"job {command.name!r} has several groups, say which: {', '.join(names)[:500]}")
    wanted = command.group or names[0]
    if wanted not in names:
        return state.reject(
            "NOT_FOUND", f"job {command.name!r} has no group {wanted[:64]!r}; it has: {', '.join(names)[:500]}"
        )
    groups = tuple(replace(group, count=command.count) if group.name == wanted else group for group in job.spec.groups)
    if groups == job.spec.groups:
        return state.changed(False)
    problem = next((text for group in groups if (text := gang_problem(group, job.spec.type))), "")
    if problem:
        return state.reject("INVALID", problem)
    spec = replace(job.spec, groups=groups)
    refusal = over_quota(state, [spec])
    if refusal is not None:
        return refusal
    job = next_version(state, job, spec, everything=False)
    state.events.emit(
        "job.scaled", namespace=job.spec.namespace, job=job.spec.name, message=f"{wanted} to {command.count}"
    )
    return state.changed()


def restart(state: State, command: RestartJob) -> Outcome:
    job = job_at_work(state, command.namespace, command.name)
    if isinstance(job, Rejected):
        return job
    if is_held_back(job) and job.rollout is not None and not job.rollout.promoted:
        return state.reject(
            "FAILED_PRECONDITION",
            f"job {command.name!r}: a restart would bring the newest version everywhere, which waits for its promotion:"
            f" raftsman promote {command.name}, or raftsman rollback {command.name}, first",
        )
    # What had ended asks for its share again.
    again = of_job(state, _next_job(state, job, job.spec, everything=True))
    refusal = growth_refusal(state, [(job, job.spec.namespace, again)])
    if refusal is not None:
        return refusal
    job = next_version(state, job, job.spec, everything=True)
    state.events.emit(
        "job.restarted", namespace=job.spec.namespace, job=job.spec.name, message=f"version {job.version}"
    )
    return state.changed()


def remove(state: State, command: RemoveJob) -> Outcome:
    job = state.find_job(command.namespace, command.name)
    if job is None:
        return not_found(state, command.namespace, command.name)
    if job.removing:
        return state.changed(False)
    if not job.stopped:
        _stop_all(state, job)
        state.events.emit("job.stopped", namespace=job.spec.namespace, job=job.spec.name)
    _put_modified(state, replace(job, stopped=True, removing=True))
    state.remove_if_done(job.slot)
    return state.changed()


def _stop_all(state: State, job: Job) -> None:
    rows = state.live_rows(job.slot)
    rows = rows[state.table.desired[rows] != int(Desired.STOP)]
    state.table.desired[rows] = int(Desired.STOP)
    state.stamp(rows)
    state.tell(rows)


def _put_modified(state: State, job: Job) -> None:
    state.put_job(replace(job, modify_index=state.index, modify_time_ms=state.time_ms))


def job_at_work(state: State, namespace: str, name: str) -> Job | Rejected:
    """The job of that name, if it may be changed as it stands."""
    job = state.find_job(namespace, name)
    if job is None:
        return not_found(state, namespace, name)
    if job.removing:
        return being_removed(state, job)
    if job.stopped:
        return stopped(state, job)
    return job


def not_found(state: State, namespace: str, name: str) -> Rejected:
    return state.reject("NOT_FOUND", f"there is no job {name[:128]!r} in namespace {namespace[:128]!r}")


def being_removed(state: State, job: Job) -> Rejected:
    return state.reject(
        "FAILED_PRECONDITION",
        f"job {job.spec.name!r} is being removed: try again once its last allocation has stopped",
    )


def stopped(state: State, job: Job) -> Rejected:
    return state.reject("FAILED_PRECONDITION", f"job {job.spec.name!r} is stopped: submit it again to start it")
