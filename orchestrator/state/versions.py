"""Which versions of a job are the same for a group, and which of them its instances may be of.

Owns: comparing the content of two versions, whether a version is current for a group, which groups are rolled out by
``rollouts``. Leaves to others: which version is placed meanwhile (``holding``). The rule: a version is current for a
group if it is not older than the group's last change of content, or has the same content as now (``Job.twins``): going
back to a version leaves alone what still runs it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import GroupSpec, JobSpec, JobType
from orchestrator.state.features import SAME_CONTENT
from orchestrator.state.model import Job

Bools = npt.NDArray[np.bool_]


def is_current(job: Job, place: int, version: int) -> bool:
    """Whether an allocation of this version is as the job's group at ``place`` wants it."""
    return version >= job.group_versions[place] or bool(job.twins and version in job.twins[place])


def current(job: Job, place: int, versions: npt.NDArray[np.int32]) -> Bools:
    """bool per version: ``is_current``."""
    fresh: Bools = versions >= job.group_versions[place]
    if job.twins and job.twins[place]:
        fresh |= np.isin(versions, job.twins[place])
    return fresh


def counted(
    job: Job, place: int, versions: npt.NDArray[np.int32], level: int, *, known_from: int = SAME_CONTENT
) -> Bools:
    """bool per version: ``is_current``, as far as what is judged at commit knows it at the feature level ``level``.
    ``known_from``: the level from which on it knows of older versions with the content of now."""
    if level >= known_from:
        return current(job, place, versions)
    newer: Bools = versions >= job.group_versions[place]
    return newer


def place_of(job: Job, name: str) -> int:
    """The place of a group in the job's spec, -1 if it is gone."""
    return next((place for place, group in enumerate(job.spec.groups) if group.name == name), -1)


def follows_policy(job: Job, place: int) -> bool:
    """Whether a group is rolled out by the rules here: of a service that remembers, and no gang."""
    group = job.spec.groups[place]
    return job.rollout is not None and job.spec.type is JobType.SERVICE and group.gang is None


def same_content(before: JobSpec, after: JobSpec) -> bool:
    """Whether two versions run the same, whatever the counts and the policies of how to get there."""
    return _bare(before) == _bare(after)


def same_group(before: GroupSpec, after: GroupSpec) -> bool:
    """Whether what runs of a group may stay. A gang's count is content, too: its members know how many they are. How it
    is replaced is not: that holds for the next time."""
    count = before.count if after.gang is not None else after.count
    return replace(before, count=count, update=after.update) == after


def _bare(spec: JobSpec) -> JobSpec:
    return replace(spec, groups=tuple(replace(group, count=0, update=None) for group in spec.groups))
