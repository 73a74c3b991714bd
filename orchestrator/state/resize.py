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

from orchestrator.contract.containers import has_processes, in_place
from orchestrator.contract.model import Desired, JobSpec, JobType, NodeStatus
from orchestrator.state import images
from orchestrator.state.distinct import distinct
from orchestrator.state.model import Job
from orchestrator.state.quota import quota_of
from orchestrator.state.state import Rows, State


def resize(state: State, before: Job, after: Job) -> Job:
    """Move what can be moved to ``after``, the record that is about to replace ``before``; returns it, with the pins
    that what moved goes on to run."""
    if after.spec.type is JobType.SYSTEM and quota_of(state, after.spec.namespace) is not None:
        return after  # what system jobs hold is held against a quota where they are placed
    olds = {group.name: (place, group) for place, group in enumerate(before.spec.groups)}
    moved = 0
    for place, group in enumerate(after.spec.groups):
        known = olds.get(group.name)
        if known is None or after.group_versions[place] != after.version or known[1] == group:
            continue
        if after.spec.constraints != before.spec.constraints or after.spec.type != before.spec.type:
            continue
        if not in_place(known[1], group) or (group.update is not None and group.update.canaries):
            continue  # canaries were asked for: somebody wants to look first
        rows = _candidates(state, before, known[0])
        if after.spec.type is not JobType.SYSTEM:
            rows = rows[state.table.ordinal[rows] < group.count]
        need = group.resources
        rows = _with_room(state, rows, need.cpu_millis, need.memory_mib)
        if len(rows):
            state.resize_rows(rows, after.version, place, need.cpu_millis, need.memory_mib)
            since = before.group_versions[known[0]]
            after = replace(after, pins=images.carried(after.pins, group.name, since, after.version))
        moved += len(rows)
    if moved:
        what = "1 instance goes" if moved == 1 else f"{moved} instances go"
        state.events.emit(
            "job.resized",
            namespace=after.spec.namespace,
            job=after.spec.name,
            message=f"version {after.version}: {what} on with the new cpu and memory",
        )
    return after


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
    table = state.table
    rows = state.live_rows(job.slot)
    gid = state.ordinals.gids[(job.slot, job.spec.groups[place].name)]
    rows = rows[(table.gid[rows] == gid) & (table.desired[rows] == int(Desired.RUN))]
    rows = rows[table.version[rows] >= job.group_versions[place]]
    processes = has_processes(job.spec.groups[place])
    there = {
        slot: state.node_at[slot].status is NodeStatus.READY
        and slot not in state.forgotten
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
