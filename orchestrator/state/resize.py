"""A new version of a job that changes only cpu and memory: what runs goes on, and belongs to the new version.

Owns: which rows that is, and moving them. Leaves to others: whether a group's change is of that kind
(``contract.containers.in_place``), doing it on the node (agents hear of the new size under the same key). The rules:
a row moves where it is meant to run and its node has room for the difference, row by row in the table's order, and of
processes where the node says that it can change them; a row that does not stays outdated, and is replaced elsewhere as
in any rollout. The proposer says whether to look at all, because peers of an older version would not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from orchestrator.contract.containers import has_processes, in_place
from orchestrator.contract.model import Desired, GroupSpec, JobSpec, JobType, NodeStatus
from orchestrator.state import images
from orchestrator.state.distinct import distinct
from orchestrator.state.features import RESIZED_TWINS
from orchestrator.state.holding import base_spec, is_of_base, place_in
from orchestrator.state.model import Job
from orchestrator.state.quota import quota_of
from orchestrator.state.state import Rows, State
from orchestrator.state.versions import counted, is_current


def resize(state: State, before: Job, after: Job) -> Job:
    """Move what can be moved to ``after``, the record that is about to replace ``before``; returns it, with the pins
    that what moved goes on to run."""
    if after.spec.type is JobType.SYSTEM and quota_of(state, after.spec.namespace) is not None:
        return after  # what system jobs hold is held against a quota where they are placed
    rollout = after.rollout
    waits = rollout is not None and not rollout.promoted
    if waits and rollout is not None and rollout.base_version:
        return after  # none of it before its promotion
    known = rollout is not None and not waits
    olds = {group.name: (place, group) for place, group in enumerate(before.spec.groups)}
    moved = 0
    for place, group in enumerate(after.spec.groups):
        old = olds.get(group.name)
        if old is None or after.group_versions[place] != after.version:
            continue
        if after.spec.constraints != before.spec.constraints or after.spec.type != before.spec.type:
            continue
        if not in_place(old[1], group) or (group.update is not None and group.update.canaries and not known):
            continue  # canaries were asked for: somebody wants to look first
        rows = _candidates(state, before, old[0])
        if after.spec.type is not JobType.SYSTEM:
            rows = rows[state.table.ordinal[rows] < group.count]
        need = group.resources
        rows = _with_room(state, rows, need.cpu_millis, need.memory_mib)
        if len(rows):
            ran = {images.since(before, group.name, version) for version in distinct(state.table.version[rows])}
            state.resize_rows(rows, after.version, place, need.cpu_millis, need.memory_mib)
            for since in sorted(ran, reverse=True):
                pins = images.carried(after.pins, group.name, since, after.version, level=state.feature_level)
                after = replace(after, pins=pins)
        moved += len(rows)
    _tell(state, after, moved)
    return after


def _tell(state: State, job: Job, moved: int) -> None:
    if not moved:
        return
    what = "1 instance goes" if moved == 1 else f"{moved} instances go"
    state.events.emit(
        "job.resized",
        namespace=job.spec.namespace,
        job=job.spec.name,
        message=f"version {job.version}: {what} on with the new cpu and memory",
    )


def resize_promoted(state: State, job: Job) -> Job:
    """The same for a version that is being promoted: what is still of the version before and differs from it in sizes
    alone, canaries or none, goes on with the new ones. Returns the record with the pins for that."""
    base = base_spec(job)
    if base is None or base.type != job.spec.type or base.constraints != job.spec.constraints:
        return job
    assert job.rollout is not None
    table, moved = state.table, 0
    for place, group in enumerate(job.spec.groups):
        at = place_in(base, group.name)
        if at < 0 or is_current(job, place, job.rollout.base_version) or not in_place(base.groups[at], group):
            continue
        rows = _reachable(state, job, group)
        held = [is_of_base(job, group.name, version) for version in table.version[rows].tolist()]
        rows = rows[np.array(held, dtype=np.bool_)]
        rows = rows[(table.ordinal[rows] < group.count) & _alone(state, rows)]
        need = group.resources
        rows = _with_room(state, rows, need.cpu_millis, need.memory_mib)
        if len(rows):
            since = images.since(job, group.name, job.rollout.base_version)
            state.resize_rows(rows, job.version, place, need.cpu_millis, need.memory_mib)
            at_version = job.group_versions[place]
            pins = images.carried(job.pins, group.name, since, at_version, level=state.feature_level)
            job = replace(job, pins=pins)
        moved += len(rows)
    _tell(state, job, moved)
    return job


def _alone(state: State, rows: Rows) -> npt.NDArray[np.bool_]:
    """bool per live row: no canary lives beside it, which is to replace it."""
    table = state.table
    heads = [
        state.ordinals.find(int(gid), int(ordinal))
        for gid, ordinal in zip(table.gid[rows].tolist(), table.ordinal[rows].tolist(), strict=True)
    ]
    both = set(state.seconds(np.array(heads, dtype=np.int32)).tolist()) if heads else set()
    return np.array(
        [head == row and int(table.prev[row]) not in both for head, row in zip(heads, rows.tolist(), strict=True)],
        dtype=np.bool_,
    )


def may_resize(state: State, spec: JobSpec) -> bool:
    """Whether submitting ``spec`` may change what runs in its size alone: what a proposer says in its command."""
    job = state.find_job(spec.namespace, spec.name)
    if job is None or job.stopped:
        return False
    olds = {group.name: group for group in job.spec.groups}
    return any(
        group.name in olds and olds[group.name] != group and in_place(olds[group.name], group) for group in spec.groups
    )


def _candidates(state: State, job: Job, place: int) -> Rows:
    """int32: live rows of the group's present content that are meant to run on a node that is there."""
    rows = _reachable(state, job, job.spec.groups[place])
    return rows[counted(job, place, state.table.version[rows], state.feature_level, known_from=RESIZED_TWINS)]


def _reachable(state: State, job: Job, group: GroupSpec) -> Rows:
    """int32: live rows of the group that are meant to run where their size can be changed."""
    table = state.table
    rows = state.live_rows(job.slot)
    gid = state.ordinals.gids[(job.slot, group.name)]
    rows = rows[(table.gid[rows] == gid) & (table.desired[rows] == int(Desired.RUN))]
    processes = has_processes(group)
    there = {
        slot: state.node_at[slot].status is NodeStatus.READY
        and (state.node_at[slot].spec.resizes_processes or not processes)
        for slot in distinct(table.node[rows])
    }
    chosen: Rows = rows[np.array([there[slot] for slot in table.node[rows].tolist()], dtype=np.bool_)]
    return chosen


def _with_room(state: State, rows: Rows, cpu_millis: int, memory_mib: int) -> Rows:
    """Those whose nodes have room for what they would take beyond what they have, one after the other."""
    table, ledger = state.table, state.ledger
    more: dict[int, tuple[int, int]] = {}
    kept = []
    for row in rows.tolist():
        slot = int(table.node[row])
        capacity = state.node_at[slot].spec.capacity
        cpu, memory = more.get(slot, (0, 0))
        cpu += cpu_millis - int(table.cpu_millis[row])
        memory += memory_mib - int(table.memory_mib[row])
        grows_cpu, grows_memory = cpu_millis > int(table.cpu_millis[row]), memory_mib > int(table.memory_mib[row])
        if (grows_cpu and ledger.cpu_millis[slot] + cpu > capacity.cpu_millis) or (
            grows_memory and ledger.memory_mib[slot] + memory > capacity.memory_mib
        ):
            continue
        more[slot] = (cpu, memory)
        kept.append(row)
    return np.array(kept, dtype=np.int32)
