"""What commands about rollouts do: pause, resume, promote, roll back; the leader's verdicts; replacing one by one.

The rule: everything that a rollout needs is in the job's record, so whoever leads next goes on with it; the leader only
says what it saw, and each verdict and each replacement is judged again here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from orchestrator.contract.model import Desired, JobType
from orchestrator.contract.rollouts import Rollout, RolloutAction, RolloutStatus
from orchestrator.state.apply_jobs import job_at_work, next_version, over_quota
from orchestrator.state.apply_rows import describe, emit, set_reason
from orchestrator.state.commands import (
    ApplyPlan,
    EndRollouts,
    JobAnswer,
    JobsAnswer,
    Outcome,
    Rejected,
    RollbackJob,
    RolloutVerdict,
    SteerRollout,
)
from orchestrator.state.features import HELD_VERSIONS, PAUSED_PROMOTIONS
from orchestrator.state.holding import base_spec, differs
from orchestrator.state.model import Job
from orchestrator.state.resize import resize_promoted
from orchestrator.state.rollouts import Bounds, status_text, taken_back, target
from orchestrator.state.state import Rows, State, under_way
from orchestrator.state.versions import current


def steer(state: State, command: SteerRollout) -> Outcome:
    job = job_at_work(state, command.namespace, command.name)
    if isinstance(job, Rejected):
        return job
    rollout = job.rollout
    if rollout is None and len(outdated_rows(state, job)):
        # A job from before rollouts were remembered.
        rollout = Rollout(
            version=job.version, began_version=job.version, status=RolloutStatus.RUNNING, began_ms=state.time_ms
        )
    if rollout is None:
        return state.reject("FAILED_PRECONDITION", f"job {command.name!r}: nothing is being rolled out")
    refused = state.reject("FAILED_PRECONDITION", f"job {command.name!r}: {status_text(job)}")
    match command.action:
        case RolloutAction.PAUSE:
            if rollout.status is RolloutStatus.PAUSED:
                return state.changed(False)
            if rollout.status is not RolloutStatus.RUNNING:
                return refused
            kind, rollout = "rollout.paused", replace(rollout, status=RolloutStatus.PAUSED)
        case RolloutAction.RESUME:
            if rollout.status is RolloutStatus.RUNNING:
                return state.changed(False)
            if rollout.status is RolloutStatus.SUCCEEDED:
                return refused
            kind, rollout = "rollout.resumed", replace(rollout, status=RolloutStatus.RUNNING, reason="")
        case RolloutAction.PROMOTE:
            if rollout.status not in (RolloutStatus.RUNNING, RolloutStatus.PAUSED):
                return refused
            if rollout.promoted:
                return state.reject("FAILED_PRECONDITION", f"job {command.name!r} has no canaries that wait")
            # A pause ends when somebody says so; a peer of before took this for saying so.
            stays = state.feature_level >= PAUSED_PROMOTIONS
            status = rollout.status if stays else RolloutStatus.RUNNING
            kind, rollout = "rollout.promoted", replace(rollout, status=status, promoted=True)
    if under_way(rollout) and rollout.promoted:
        job = resize_promoted(state, job)
    rollout = replace(rollout, progress_ms=state.time_ms)
    _put(state, replace(job, rollout=rollout, tracked=True))
    _tell(state, kind, job, f"version {rollout.version}")
    return state.changed()


def rollback(state: State, command: RollbackJob) -> Outcome:
    job = job_at_work(state, command.namespace, command.name)
    if isinstance(job, Rejected):
        return job
    revision, problem = target(job, command.version)
    if revision is None:
        return state.reject("FAILED_PRECONDITION", problem)
    spec = taken_back(job, revision)
    if spec == job.spec:
        return state.reject("FAILED_PRECONDITION", f"version {revision.version} is what job {command.name!r} is now")
    refusal = over_quota(state, [spec])
    if refusal is not None:
        return refusal
    held = state.feature_level >= HELD_VERSIONS
    job = next_version(state, job, spec, everything=False, in_place=held, known=True)
    if job.rollout is not None and not job.rollout.promoted:  # of before, for nothing is replaced
        _put(state, replace(job, rollout=replace(job.rollout, promoted=True)))
    _tell(state, "job.rolled-back", job, f"version {job.version}, as version {revision.version} was")
    return state.answer(JobsAnswer(jobs=(JobAnswer(uid=job.uid, version=job.version, changed=True),)))


def end_rollouts(state: State, command: EndRollouts) -> Outcome:
    """The leader's verdicts; one that does not hold any more does nothing."""
    changed = False
    for verdict in command.verdicts:
        changed = _end(state, verdict) or changed
    return state.changed(changed)


def _end(state: State, verdict: RolloutVerdict) -> bool:
    job = state.jobs.get(verdict.uid)
    if job is None or job.stopped or job.rollout is None or job.rollout.version != verdict.version:
        return False
    rollout = job.rollout
    if not under_way(rollout):
        return False
    if verdict.succeeded:
        if len(outdated_rows(state, job)) or (rollout.base_version and not rollout.promoted):
            return False
        rollout = replace(rollout, status=RolloutStatus.SUCCEEDED, promoted=True, base_version=0)
        _put(state, replace(job, rollout=rollout, stable_version=job.version))
        _tell(state, "rollout.succeeded", job, f"version {job.version}")
        return True
    if rollout.progress_ms != verdict.progress_ms:
        return False
    reason = verdict.reason[:1_000]
    _put(state, replace(job, rollout=replace(rollout, status=RolloutStatus.FAILED, reason=reason)))
    _tell(state, "rollout.failed", job, f"version {job.version}: {reason}")
    _revert(state, state.jobs[job.uid], reason)
    return True


def _revert(state: State, job: Job, reason: str) -> None:
    """Go back by itself, where the policy says so and there is something that was good."""
    failed = job.rollout
    assert failed is not None, "it has just failed"
    waiting = None if failed.promoted else base_spec(job)  # versions since then may have brought canaries, too
    wanted = any(
        group.update is not None
        and group.update.auto_revert
        and (
            job.group_versions[place] >= failed.began_version
            or (waiting is not None and differs(waiting, job.spec, group))
        )
        for place, group in enumerate(job.spec.groups)
    )
    if not wanted or failed.reverts:
        return  # what takes a version back is not taken back in turn
    revision, problem = target(job, 0)
    if revision is None or not revision.stable:
        _tell(state, "rollout.not-reverted", job, problem or "no version before was good")
        return
    if revision.spec.type is not JobType.SERVICE:  # its work would be done a second time, and nobody asked for that
        kind = revision.spec.type.name.lower()
        _tell(state, "rollout.not-reverted", job, f"version {revision.version} was a {kind} job")
        return
    spec = taken_back(job, revision)
    refusal = over_quota(state, [spec])
    if refusal is not None:
        _tell(state, "rollout.not-reverted", job, refusal.message)
        return
    version = job.version
    job = next_version(state, job, spec, everything=False, in_place=state.feature_level >= HELD_VERSIONS, known=True)
    assert job.rollout is not None, "a tracked service has one"
    rollout = replace(job.rollout, promoted=True, reverts=version, reason=reason)
    _put(state, replace(job, rollout=rollout))
    _tell(state, "job.rolled-back", job, f"version {job.version}, as version {revision.version} was: {reason}")


def replace_outdated(state: State, command: ApplyPlan, replaced: Sequence[tuple[int, int]]) -> list[str]:
    """``replaced``: (live row, place in the plan's actions); returns a reason for each that may not stop now."""
    stale = []
    bounds = Bounds(state)
    for row, place in replaced:
        problem = bounds.refusal(row)
        if problem:
            stale.append(f"{describe(state, row)[2]} {problem}")
            continue
        bounds.take(row)
        rows = np.array([row], dtype=np.int32)
        reason = command.reasons[int(command.actions.reason[place])]
        state.table.desired[row] = int(Desired.STOP)
        state.stamp(rows)
        set_reason(state, row, reason)
        state.tell(rows)
        state.touch_jobs(rows)
        emit(state, "alloc.stop", rows, reason)
    return stale


def outdated_rows(state: State, job: Job) -> Rows:
    """int32: live rows of the job that are not of a current version, or of a group that is gone."""
    rows = state.live_rows(job.slot)
    keep = np.ones(len(rows), dtype=np.bool_)
    for place, group in enumerate(job.spec.groups):
        mine = state.table.gid[rows] == state.ordinals.gids[(job.slot, group.name)]
        keep &= ~(mine & current(job, place, state.table.version[rows]))
    found: Rows = rows[keep]
    return found


def _put(state: State, job: Job) -> None:
    state.put_job(replace(job, modify_index=state.index))


def _tell(state: State, kind: str, job: Job, message: str) -> None:
    state.events.emit(kind, namespace=job.spec.namespace, job=job.spec.name, message=message)
