"""What must not spread: which version instances are placed at while a newer one waits for its promotion.

Owns: whether a job's newest version is held back, the record of the job at the version before, how many instances of a
group may be of the newer version. Leaves to others: which instances these are (``reconcile.seats``), refusing rows
(``apply_placements``). The rules, of rollouts that know the version before (``Rollout.base_version``, the last one that
was promoted; ``features.HELD_VERSIONS``):

- Before its promotion only canaries run the newer version: whatever else is missing of a group that it changes is
  placed at the version before, with the count of now. A group that the version before has not (or had in a job of
  another type) has only canaries; one that the newer version has no more stays as it was. A gang has no canaries.
- While a rollout is paused or has failed, what is missing comes back at the version that it had last, and what is new
  (a larger count) at the version before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.contract.model import GroupSpec, JobSpec, JobType
from orchestrator.contract.rollouts import RolloutStatus, surge
from orchestrator.state.model import Job
from orchestrator.state.versions import is_current, same_group

ANY_NUMBER = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Of one group of the job as it is now. at: the group's place at the version before, -1: what is missing waits for
    the promotion; canaries: so many instances may be of the newer version; growing: more of them may become so now;
    beside: canaries come beside what runs of the version before, which is to be whole meanwhile."""

    at: int
    canaries: int
    growing: bool
    beside: bool


def is_held_back(job: Job) -> bool:
    """Whether the job's newest version must not spread now."""
    rollout = job.rollout
    if rollout is None or not rollout.base_version or job.stopped:  # what is being removed is stopped, too
        return False
    return not rollout.promoted or rollout.status in (RolloutStatus.PAUSED, RolloutStatus.FAILED)


def base_spec(job: Job) -> JobSpec | None:
    """What the job was at the version before the one that is rolled out."""
    if job.rollout is None:
        return None
    return next((spec for version, spec in job.specs if version == job.rollout.base_version), None)  # 0 is none


def may_ask_for_ports(job: Job) -> bool:
    """Whether anything that may be placed of it now has ports on its host."""
    before = base_spec(job)
    groups = job.spec.groups if before is None else job.spec.groups + before.groups
    return any(group.ports for group in groups)


def base_record(job: Job) -> Job | None:
    """The job as what is placed at the version before sees it: its groups as they were, with the counts of now (a
    gang's is content), all else that is no content as it is now. None: nothing is placed at it."""
    spec = base_spec(job)
    if spec is None or spec.type is not JobType.SERVICE or job.spec.type is not JobType.SERVICE:
        return None
    assert job.rollout is not None, "it names the version"
    counts = {group.name: group.count for group in job.spec.groups}
    groups = tuple(
        group if group.gang is not None else replace(group, count=counts.get(group.name, group.count))
        for group in spec.groups
    )
    version = job.rollout.base_version
    return replace(
        job,
        spec=replace(job.spec, groups=groups, constraints=spec.constraints),
        version=version,
        group_versions=(version,) * len(groups),
        twins=(),
    )


def hold_of(job: Job, place: int, base: Job | None) -> Hold | None:
    """How a group of a job that ``is_held_back`` is held; None: it is not. ``base``: the job's ``base_record``."""
    rollout, group = job.rollout, job.spec.groups[place]
    assert rollout is not None, "it is held back"
    if is_current(job, place, rollout.base_version):
        return None
    at = -1 if base is None else _place_alike(base.spec, group)
    if rollout.promoted:
        if at < 0 or group.gang is not None:
            return None
        return Hold(at=at, canaries=ANY_NUMBER, growing=False, beside=False)
    canaries = min(group.update.canaries, group.count) if group.update is not None and group.gang is None else 0
    return Hold(
        at=at,
        canaries=canaries,
        growing=rollout.status is RolloutStatus.RUNNING,
        beside=at >= 0 and surge(group.update, group.count) >= canaries,
    )


def place_in(spec: JobSpec, name: str) -> int:
    """The place of a group, -1 where there is none of that name."""
    return next((at for at, group in enumerate(spec.groups) if group.name == name), -1)


def _place_alike(spec: JobSpec, group: GroupSpec) -> int:
    """The same, of a group that was a gang if it is one now, and none if it is none."""
    at = place_in(spec, group.name)
    return at if at >= 0 and (spec.groups[at].gang is None) == (group.gang is None) else -1


def is_of_base(job: Job, name: str, version: int) -> bool:
    """Whether an allocation of this version is as the version before has it, of a group that it has."""
    base = base_spec(job)
    if base is None or (at := place_in(base, name)) < 0:
        return False
    assert job.rollout is not None, "it names the version"
    if version == job.rollout.base_version:
        return True
    older = next((spec for number, spec in job.specs if number == version), None)
    if older is None or older.type != base.type or older.constraints != base.constraints:
        return False
    return any(same_group(group, base.groups[at]) for group in older.groups)


def may_be_placed(job: Job, place: int, version: int) -> bool:
    """Whether instances of this version of the group are as they should be now: current, or of the version before,
    at which the group is held."""
    if is_current(job, place, version):
        return True
    if not is_held_back(job):
        return False
    hold = hold_of(job, place, base_record(job))
    return hold is not None and hold.at >= 0 and is_of_base(job, job.spec.groups[place].name, version)


def remains(job: Job, name: str) -> bool:
    """Whether a group that the newest version has no more stays until that is promoted."""
    if not is_held_back(job) or job.rollout is None or job.rollout.promoted:
        return False
    base = base_record(job)
    return base is not None and place_in(base.spec, name) >= 0


def base_refusal(job: Job, name: str) -> str:
    """Why nothing of a group may be placed at the version before, of a job that ``is_held_back``, or ""."""
    place = place_in(job.spec, name)
    if place < 0:
        return "" if remains(job, name) else "the group is not part of the job any more"
    hold = hold_of(job, place, base_record(job))
    return "" if hold is not None and hold.at >= 0 else "the group is of the newest version by now"


def differs(base: JobSpec, spec: JobSpec, group: GroupSpec) -> bool:
    """Whether a group of ``spec`` is not what it was in ``base``."""
    moved = base.type != spec.type or base.constraints != spec.constraints
    return moved or not any(same_group(one, group) for one in base.groups)
