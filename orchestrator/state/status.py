"""How a job stands, computed from its ordinals' newest attempts.

Owns: the counts of ``GroupStatus`` and the one word of ``JobStatus.state``. The rule: every instance counts once.

``running``: RUNNING, also while it is being stopped (until its agent says that it ended). ``starting``: placed, not
yet running (PENDING, STARTING, BACKOFF). ``complete``, ``failed``, ``lost``: the newest attempt ended so, at a version
that is current for its group, or at which it is held (``holding``); ``failed`` only for good: one that will be tried
again is pending. ``pending``: everything else below ``count``. Live instances beyond ``count`` (a
scale-down that has not finished) count as running or starting. A system job's ``count`` is the number of its instances.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from orchestrator.contract.answers import GroupStatus, JobStatus
from orchestrator.contract.batch import Template
from orchestrator.contract.model import AllocState, JobType, RestartPolicy
from orchestrator.state.allocations import LAST_LIVE
from orchestrator.state.batch import next_run
from orchestrator.state.dependencies import judge
from orchestrator.state.failures import Ended, retries_of, stays_failed
from orchestrator.state.holding import is_held_back, may_be_placed
from orchestrator.state.model import MAX_COUNT, Job
from orchestrator.state.rollouts import ready_count, ready_rows
from orchestrator.state.state import Rows, State
from orchestrator.state.versions import current

_STARTING = (int(AllocState.PENDING), int(AllocState.STARTING), int(AllocState.BACKOFF))
_RUNNING = (int(AllocState.RUNNING), int(AllocState.STOPPING))
_ENDED = (int(AllocState.COMPLETE), int(AllocState.FAILED), int(AllocState.LOST))
_STATES = max(AllocState) + 1
GONE = -1
"""Place of a group that its job has no more."""


def job_status(state: State, job: Job) -> JobStatus:
    groups = group_statuses(state, job)
    return JobStatus(
        spec=job.spec,
        uid=job.uid,
        version=job.version,
        state=_word(job, groups),
        stopped=job.stopped,
        removing=job.removing,
        create_index=job.create_index,
        modify_index=job.modify_index,
        create_time_ms=job.create_time_ms,
        modify_time_ms=job.modify_time_ms,
        groups=groups,
        rollout=job.rollout,
        stable_version=job.stable_version,
        template=_template(state, job),
    )


def has_ended(state: State, job: Job) -> bool:
    """Whether a batch job has nothing left to do."""
    return job.spec.type is JobType.BATCH and _word(job, group_statuses(state, job)) in ("complete", "failed")


def group_statuses(state: State, job: Job) -> tuple[GroupStatus, ...]:
    """One for each group of the current spec, then one for each former group of which something lives."""
    known = {group.name for group in job.spec.groups}
    statuses = [
        _count(state, job, group.name, place, group.count, group.restart) for place, group in enumerate(job.spec.groups)
    ]
    if any(group.after for group in job.spec.groups):
        statuses = _in_order(job, statuses)
    for gid in state.ordinals.by_job.get(job.slot, ()):
        name = state.ordinals.names[gid][1]
        if name not in known:
            former = _count(state, job, name, GONE, 0, RestartPolicy())
            if former.running or former.starting:
                statuses.append(former)
    return tuple(statuses)


def _in_order(job: Job, statuses: list[GroupStatus]) -> list[GroupStatus]:
    """What waits for other groups says so, and what never will run is skipped."""
    verdicts = judge(job.spec.groups, [(one.complete, one.failed) for one in statuses])
    said = []
    for one, verdict in zip(statuses, verdicts, strict=True):
        if one.pending and verdict.skipped:
            said.append(replace(one, pending=0, skipped=one.pending, waits=verdict.text))
        else:
            said.append(replace(one, waits=verdict.text) if one.pending else one)
    return said


def _template(state: State, job: Job) -> Template | None:
    schedule = job.schedule
    if schedule is None:
        return None
    words = [_word(run, group_statuses(state, run)) for run in state.runs_of(job.spec.namespace, job.spec.name)]
    next_ms, problem = 0, ""
    if not job.stopped:
        next_ms, problem = next_run(job)
    complete, failed = words.count("complete"), words.count("failed")
    return Template(
        next_ms=next_ms,
        last_ms=schedule.last_ms,
        last_job=schedule.last_job,
        runs=schedule.runs,
        skipped=schedule.skipped,
        last_skipped=schedule.last_skipped,
        live=len(words) - complete - failed - words.count("stopped"),
        complete=complete,
        failed=failed,
        problem=problem,
    )


def _count(state: State, job: Job, name: str, place: int, count: int, restart: RestartPolicy) -> GroupStatus:
    table = state.table
    gid = state.ordinals.gids[(job.slot, name)]
    rows = state.ordinals.rows(gid)
    rows = rows[rows >= 0]
    observed = table.state[rows]
    outdated = _outdated(state, job, place, rows)
    live = observed <= LAST_LIVE
    beside = state.seconds(rows[live]) if gid in state.ordinals.paired else rows[:0]
    system = job.spec.type is JobType.SYSTEM
    wanted = np.ones(len(rows), dtype=np.bool_) if system else table.ordinal[rows] < count
    by_state = np.bincount(observed, minlength=_STATES).tolist()
    meant = ~outdated | _held(job, place, table.version[rows])
    ended = np.bincount(observed[wanted & meant], minlength=_STATES).tolist()
    running = sum(by_state[number] for number in _RUNNING)
    starting = sum(by_state[number] for number in _STARTING)
    complete, failed, lost = (ended[number] for number in _ENDED)
    again = 0
    if failed and not job.stopped:
        judged = rows[wanted & meant & (observed == int(AllocState.FAILED))]
        again = failed - int(stays_failed(_ended(state, job, judged, restart)).sum())
        failed -= again
    placed = int((wanted & live).sum()) + complete + failed + lost
    if system:
        count = placed + again
    return GroupStatus(
        group=name,
        count=count,
        running=running,
        starting=starting,
        pending=0 if job.stopped or job.spec.is_template else max(0, count - placed),
        complete=complete,
        failed=failed,
        lost=lost,
        outdated=int((live & outdated).sum() + _outdated(state, job, place, beside).sum()),
        ready=ready_count(state, gid, MAX_COUNT if system else count),
        updated=int((wanted & ~outdated & ready_rows(state, rows)).sum()),
        surplus=len(beside),
    )


def _outdated(state: State, job: Job, place: int, rows: Rows) -> npt.NDArray[np.bool_]:
    versions = state.table.version[rows]
    return versions < job.version if place == GONE else ~current(job, place, versions)


def _held(job: Job, place: int, versions: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """bool per version: what ended at it is as it should be, for its group is held there."""
    if place == GONE or not is_held_back(job):
        return np.zeros(len(versions), dtype=np.bool_)
    meant = [version for version in np.unique(versions).tolist() if may_be_placed(job, place, version)]
    return np.isin(versions, meant)


def _ended(state: State, job: Job, rows: Rows, restart: RestartPolicy) -> Ended:
    table = state.table
    return Ended(
        job_type=np.full(len(rows), int(job.spec.type), dtype=np.int8),
        desired=table.desired[rows],
        state=table.state[rows],
        start_failed=table.start_failed[rows],
        failures=table.failures[rows],
        retries=np.full(len(rows), retries_of(restart), dtype=np.int32),
        create_ms=table.create_time_ms[rows],
        modify_ms=table.modify_time_ms[rows],
    )


def _word(job: Job, groups: tuple[GroupStatus, ...]) -> str:
    running = sum(group.running for group in groups)
    starting = sum(group.starting for group in groups)
    if job.stopped:
        return "stopping" if running + starting else "stopped"
    if job.spec.periodic is not None:
        return "scheduled"
    if job.spec.parameterized is not None:
        return "dispatchable"
    pending = sum(group.pending + group.lost for group in groups)
    failed = sum(group.failed + group.skipped for group in groups)
    if job.spec.type is JobType.BATCH and not (running + starting + pending):
        return "failed" if failed else "complete"
    if running:
        return "running"
    if starting + pending:
        return "pending"
    return "failed" if failed else "running"  # a service of no instances is as it should be
