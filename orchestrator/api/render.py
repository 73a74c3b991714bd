"""Rows and records of the state as the dataclasses that callers see. No I/O; called on the loop that owns the state.

Owns: how a row becomes an ``Allocation`` or an ``Assignment``, a node's use. Leaves to others: which rows (``reads``,
``agents``), a job's counts (``state.status``). The rule: nothing here keeps a reference to a column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from orchestrator.contract import answers as ans
from orchestrator.contract.model import (
    Allocation,
    AllocationId,
    AllocState,
    Assignment,
    AssignmentKey,
    Desired,
    GroupSpec,
    NodeSpec,
    PortBinding,
    Resources,
)
from orchestrator.state.allocations import LAST_LIVE, Columns
from orchestrator.state.model import Job, Node
from orchestrator.state.state import State


def key_of(state: State, row: int) -> AssignmentKey:
    job = state.job_at[int(state.table.job[row])]
    name = state.ordinals.names[int(state.table.gid[row])][1]
    return AssignmentKey(
        id=AllocationId(
            namespace=job.spec.namespace, job=job.spec.name, group=name, ordinal=int(state.table.ordinal[row])
        ),
        job_uid=job.uid,
        attempt=int(state.table.attempt[row]),
    )


def _ports(held: tuple[int, ...], group: GroupSpec) -> tuple[PortBinding, ...]:
    return tuple(
        PortBinding(label=port.label, host_port=number, to=port.to, protocol=port.protocol)
        for port, number in zip(group.ports, held, strict=False)
    )


def _devices(mask: int, node: NodeSpec) -> tuple[str, ...]:
    if not mask:
        return ()
    return tuple(device.id for place, device in enumerate(node.devices) if mask >> place & 1)


def allocations(state: State, rows: Sequence[int]) -> Iterator[Allocation]:
    """The rows as they are now. What they need is copied by this call; the iterator may be drained later, in parts."""
    chosen = np.asarray(rows, dtype=np.int32)
    return _allocations(state.table.copy(chosen), dict(state.job_at), dict(state.node_at))


def _allocations(columns: Columns, jobs: Mapping[int, Job], nodes: Mapping[int, Node]) -> Iterator[Allocation]:
    groups: dict[tuple[int, int, int], tuple[GroupSpec, Resources]] = {}
    for place, row in enumerate(columns.row.tolist()):
        job = jobs[int(columns.job[place])]
        version, group_place = int(columns.version[place]), int(columns.group[place])
        known = groups.get((job.slot, version, group_place))
        if known is None:
            spec = next((spec for number, spec in job.specs if number == version), job.spec)
            group = spec.groups[group_place]
            known = groups[(job.slot, version, group_place)] = (group, group.resources)
        group, resources = known
        node = nodes[int(columns.node[place])].spec
        yield Allocation(
            id=AllocationId(
                namespace=job.spec.namespace,
                job=job.spec.name,
                group=group.name,
                ordinal=int(columns.ordinal[place]),
            ),
            job_uid=job.uid,
            attempt=int(columns.attempt[place]),
            restarts=int(columns.restarts[place]),
            job_version=version,
            node_id=node.id,
            node_name=node.name,
            node_address=node.address,
            desired=Desired(int(columns.desired[place])),
            state=AllocState(int(columns.state[place])),
            reason=columns.reasons.get(row, ""),
            exit_code=int(columns.exit_code[place]),
            ports=_ports(columns.ports.get(row, ()), group),
            device_ids=_devices(int(columns.device_mask[place]), node),
            gpu_millis=int(columns.gpu_millis[place]),
            create_index=int(columns.create_index[place]),
            modify_index=int(columns.modify_index[place]),
            create_time_ms=int(columns.create_time_ms[place]),
            modify_time_ms=int(columns.modify_time_ms[place]),
            resources=resources,
        )


def assignment(state: State, row: int) -> Assignment:
    table = state.table
    job = state.job_at[int(table.job[row])]
    spec = state.spec_of(job, int(table.version[row]))
    group = spec.groups[int(table.group[row])]
    names = sorted({name for task in group.tasks for _, name in task.variables})
    values = ((name, state.variables.get((spec.namespace, name))) for name in names)
    return Assignment(
        key=key_of(state, row),
        desired=Desired(int(table.desired[row])),
        group=group,
        on_disconnect=spec.on_disconnect,
        job_type=spec.type,
        ports=_ports(table.ports.get(row, ()), group),
        device_ids=_devices(int(table.device_mask[row]), state.node_at[int(table.node[row])].spec),
        gpu_millis=int(table.gpu_millis[row]),
        variables=tuple((name, variable.value) for name, variable in values if variable is not None),
        job_version=int(table.version[row]),
        modify_index=int(table.modify_index[row]),
    )


def node_info(state: State, node: Node, *, heartbeat_age_ms: int) -> ans.NodeInfo:
    ledger, slot = state.ledger, node.slot
    return ans.NodeInfo(
        spec=node.spec,
        status=node.status,
        cordoned=node.cordoned,
        draining=node.draining,
        used=Resources(
            cpu_millis=int(ledger.cpu_millis[slot]),
            memory_mib=int(ledger.memory_mib[slot]),
            disk_mib=int(ledger.disk_mib[slot]),
        ),
        allocations=len(ledger.live[slot]),
        devices=tuple(
            ans.DeviceUse(device=device, used_millis=int(ledger.device_millis[slot, place]))
            for place, device in enumerate(node.spec.devices)
        ),
        register_index=node.register_index,
        heartbeat_age_ms=heartbeat_age_ms,
        status_reason=node.status_reason,
    )


def find_row(state: State, wanted: AllocationId, attempt: int) -> int:
    """The row of an attempt (0: the newest one), or -1 when there is none (any more)."""
    job = state.find_job(wanted.namespace, wanted.job)
    if job is None:
        return -1
    gid = state.ordinals.gids.get((job.slot, wanted.group))
    if gid is None:
        return -1
    row = state.ordinals.find(gid, wanted.ordinal)
    while row >= 0 and attempt and int(state.table.attempt[row]) != attempt:
        row = int(state.table.prev[row])
    return row


def chosen_rows(state: State, *, namespace: str, job: str, node_id: str, live_only: bool) -> list[int]:
    """Rows for a listing, by (namespace, job, group, ordinal, attempt). ``namespace`` "*": all; "" elsewhere: any."""
    jobs = [
        one
        for one in state.jobs.values()
        if (namespace == "*" or one.spec.namespace == namespace) and (not job or one.spec.name == job)
    ]
    jobs.sort(key=lambda one: (one.spec.namespace, one.spec.name))
    node = state.nodes.get(node_id) if node_id else None
    if node_id and node is None:
        return []
    table = state.table
    found: list[int] = []
    for one in jobs:
        rows = state.live_rows(one.slot) if live_only else state.job_rows(one.slot)
        if live_only and len(rows):
            # A rollout may have two live attempts of one ordinal: the older one is not the newest.
            older = table.prev[rows]
            older = older[older >= 0]
            rows = np.concatenate((rows, older[table.state[older] <= LAST_LIVE]))
        if node is not None:
            rows = rows[table.node[rows] == node.slot]
        order = np.lexsort((table.attempt[rows], table.ordinal[rows], table.gid[rows]))
        found.extend(rows[order].tolist())
    return found
