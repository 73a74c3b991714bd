"""What each job and each namespace asks for: the figures that quotas are compared with.

Owns: what counts, and the index over jobs (never stored: a restored state builds it anew). Leaves to others: saying no
(``quota``), when to count again (``State``, at each move of a job or a row). The rules:

- A job that is stopped or being removed asks for nothing, nor does a template (periodic, parameterized): its runs do.
- Service and batch jobs: requests times count of the newest version, whether or not anything is placed yet.
- An instance of a batch job that is complete, or has failed for good, asks for nothing any more; once all have, the job
  is not counted either.
- System jobs: what their live allocations hold, for their count is the number of nodes that got one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.contract.model import AllocState, GroupSpec, JobSpec, JobType, Usage
from orchestrator.state.dependencies import judge
from orchestrator.state.failures import Ended, retries_of, stays_failed
from orchestrator.state.model import Job
from orchestrator.state.versions import counted

if TYPE_CHECKING:
    from orchestrator.state.state import State

RESOURCES = ("cpu_millis", "memory_mib", "disk_mib", "gpu_millis", "jobs", "allocations")
"""The fields of ``Usage`` and ``Quota``, in the order in which they are checked and told."""
NOTHING = Usage()


def add(left: Usage, right: Usage, sign: int = 1) -> Usage:
    return Usage(**{name: getattr(left, name) + sign * getattr(right, name) for name in RESOURCES})


def of_instance(group: GroupSpec) -> Usage:
    """What one instance of a group asks for."""
    need = group.tasks[0].resources if len(group.tasks) == 1 else group.resources
    gpus = need.gpus.count * need.gpus.gpu_millis if need.gpus is not None else 0
    return Usage(
        cpu_millis=need.cpu_millis, memory_mib=need.memory_mib, disk_mib=need.disk_mib, gpu_millis=gpus, allocations=1
    )


def of_new(spec: JobSpec) -> Usage:
    """What a job asks for of which nothing exists yet."""
    if spec.is_template:
        return NOTHING
    return _counted(spec, [0 if spec.type is JobType.SYSTEM else group.count for group in spec.groups])


def of_job(state: State, job: Job) -> Usage:
    """What a job asks for, its record as given: it need not be the one in the state (a version that is considered)."""
    spec = job.spec
    if job.stopped or spec.is_template:  # what is being removed is stopped, too
        return NOTHING
    if spec.type is JobType.SYSTEM:
        return _held(state, job)
    if spec.type is not JobType.BATCH:
        return _counted(spec, [group.count for group in spec.groups])
    ends = [_ended(state, job, place) for place in range(len(spec.groups))]
    verdicts = judge(spec.groups, ends)
    left = [
        0 if verdict.skipped else group.count - sum(ended)
        for group, ended, verdict in zip(spec.groups, ends, verdicts, strict=True)
    ]
    if not any(left) and any(group.count for group in spec.groups):
        return NOTHING
    return _counted(spec, left)


def _counted(spec: JobSpec, counts: list[int]) -> Usage:
    cpu = memory = disk = gpus = 0
    for group, count in zip(spec.groups, counts, strict=True):
        if count:
            one = of_instance(group)
            cpu += count * one.cpu_millis
            memory += count * one.memory_mib
            disk += count * one.disk_mib
            gpus += count * one.gpu_millis
    return Usage(cpu_millis=cpu, memory_mib=memory, disk_mib=disk, gpu_millis=gpus, jobs=1, allocations=sum(counts))


def _held(state: State, job: Job) -> Usage:
    table, rows = state.table, state.live_rows(job.slot)
    devices = np.bitwise_count(table.device_mask[rows]).astype(np.int64)
    return Usage(
        cpu_millis=int(table.cpu_millis[rows].sum()),
        memory_mib=int(table.memory_mib[rows].sum()),
        disk_mib=int(table.disk_mib[rows].sum()),
        gpu_millis=int((devices * table.gpu_millis[rows]).sum()),
        jobs=1,
        allocations=len(rows),
    )


def _ended(state: State, job: Job, place: int) -> tuple[int, int]:
    """Of a batch group: how many instances are complete, how many have failed for good, at a current version."""
    group = job.spec.groups[place]
    gid = state.ordinals.gids.get((job.slot, group.name))
    if gid is None:
        return 0, 0
    table, rows = state.table, state.ordinals.rows(gid)[: group.count]
    rows = rows[rows >= 0]
    rows = rows[counted(job, place, table.version[rows], state.feature_level)]
    complete = int((table.state[rows] == int(AllocState.COMPLETE)).sum())
    failed = rows[table.state[rows] == int(AllocState.FAILED)]
    if not len(failed):
        return complete, 0
    ended = Ended(
        job_type=np.full(len(failed), int(JobType.BATCH), dtype=np.int8),
        desired=table.desired[failed],
        state=table.state[failed],
        start_failed=table.start_failed[failed],
        failures=table.failures[failed],
        retries=np.full(len(failed), retries_of(group.restart), dtype=np.int32),
        create_ms=table.create_time_ms[failed],
        modify_ms=table.modify_time_ms[failed],
    )
    return complete, int(stays_failed(ended).sum())


class UsageIndex:
    """``by_job``: slot to usage; ``by_namespace``: the sums, of namespaces that have jobs."""

    __slots__ = ("_partly", "by_job", "by_namespace", "jobs_in")

    def __init__(self) -> None:
        self.by_job: dict[int, Usage] = {}
        self.by_namespace: dict[str, Usage] = {}
        self.jobs_in: dict[str, int] = {}  # all jobs, stopped ones too
        self._partly: set[int] = set()  # batch jobs of which something has ended: a new attempt counts again

    def of(self, namespace: str) -> Usage:
        return self.by_namespace.get(namespace, NOTHING)

    def put(self, state: State, job: Job) -> None:
        """The job's record, or what there is of it, changed."""
        before, namespace = self.by_job.get(job.slot), job.spec.namespace
        now = of_job(state, job)
        if before is None:
            self.jobs_in[namespace] = self.jobs_in.get(namespace, 0) + 1
        self.by_job[job.slot] = now
        if before != now:
            self.by_namespace[namespace] = add(add(self.of(namespace), now), before or NOTHING, -1)
        if job.spec.type is JobType.BATCH and now.allocations < sum(group.count for group in job.spec.groups):
            self._partly.add(job.slot)
        else:
            self._partly.discard(job.slot)

    def drop(self, job: Job) -> None:
        namespace = job.spec.namespace
        self.by_namespace[namespace] = add(self.of(namespace), self.by_job.pop(job.slot, NOTHING), -1)
        self._partly.discard(job.slot)
        self.jobs_in[namespace] -= 1
        if not self.jobs_in[namespace]:
            del self.jobs_in[namespace], self.by_namespace[namespace]

    def entered(self, state: State, slots: list[int]) -> None:
        """New attempts of these jobs are live."""
        for slot in slots:
            job = state.job_at[slot]
            if job.spec.type is JobType.SYSTEM or slot in self._partly:
                self.put(state, job)

    def ended(self, state: State, slots: list[int], how: AllocState) -> None:
        """Attempts of these jobs ended."""
        for_good = how in (AllocState.COMPLETE, AllocState.FAILED)
        for slot in slots:
            job = state.job_at[slot]
            if job.spec.type is JobType.SYSTEM or (for_good and job.spec.type is JobType.BATCH):
                self.put(state, job)

    def rebuild(self, state: State) -> None:
        for index in (self.by_job, self.by_namespace, self.jobs_in):
            index.clear()
        self._partly.clear()
        for slot in sorted(state.job_at):
            self.put(state, state.job_at[slot])

    def copy(self) -> Mapping[str, Usage]:
        return dict(self.by_namespace)
