"""Copies of the state that other threads, planners and streams may keep: values with the index they belong to.

Owns: turning tables into what planners (``ClusterView``), clients (``Allocation``, ``JobStatus``, ``NodeInfo``) and
agents (``AssignmentsUpdate``) see. The rule: nothing returned here shares an array with the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from orchestrator.contract.answers import DeviceUse, NodeInfo
from orchestrator.contract.containers import variables_of
from orchestrator.contract.model import (
    Allocation,
    AllocationId,
    AllocState,
    Assignment,
    AssignmentKey,
    Desired,
    DeviceRequest,
    GroupSpec,
    JobUid,
    Namespace,
    NodeId,
    NodeStatus,
    PortBinding,
    Resources,
    Settings,
    StrMap,
    Usage,
)
from orchestrator.state.allocations import NO_ROWS, Columns
from orchestrator.state.holding import may_ask_for_ports
from orchestrator.state.images import digests
from orchestrator.state.model import Job, Node
from orchestrator.state.ordinals import LastAttempts
from orchestrator.state.packed import Room
from orchestrator.state.rollouts import is_ready
from orchestrator.state.state import Rows, State
from orchestrator.state.typical import Shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """What nodes have given away, to whatever job; arrays by ``Node.slot``, as in ``ledger``. ``ports``: host ports
    that are taken, by ``engine_key``; ``device_millis`` has no columns beyond ``Ledger.wide``, where nothing is."""

    cpu_millis: npt.NDArray[np.int64]
    memory_mib: npt.NDArray[np.int64]
    disk_mib: npt.NDArray[np.int64]
    device_millis: npt.NDArray[np.int32]
    ports: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterView:
    """Everything that deciding needs, as of ``index``. Deciding is a function of this, liveness and the time.

    ``allocations`` holds every live row and the newest attempt of every (job, group, ordinal), whatever its state; the
    one that counts (``Ordinals.newest``) is the last of its ordinal;
    ``last_attempt[(job slot, group name)]`` is an int32 array by ordinal: the highest attempt ever placed (0 = none),
    which survives scale-down and collection; the next one is also above ``attempt_floor``. ``variables``: the names
    that exist, as (namespace, name). ``held``: not None in a view of some jobs alone (``view_of``): what nodes have
    given away to all of them. ``namespaces``: those that were created; ``usage``: by namespace, what jobs ask for.
    ``typical``: instances counted by shape (``state.typical``); ``default_placement``: of jobs that name none, "" =
    what suits each. ``feature_level``: see ``state.features``.
    """

    index: int
    time_ms: int
    jobs: Mapping[JobUid, Job]
    jobs_by_slot: Mapping[int, Job]
    nodes: Mapping[NodeId, Node]
    nodes_by_slot: Mapping[int, Node]
    allocations: Columns
    last_attempt: Mapping[tuple[int, str], npt.NDArray[np.int32]]
    variables: frozenset[tuple[str, str]]
    attempt_floor: int = 0
    held: Held | None = None
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    usage: Mapping[str, Usage] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    typical: tuple[tuple[Shape, int], ...] = ()
    default_placement: str = ""
    feature_level: int = 0


def cluster_view(state: State, room: Room | None = None) -> ClusterView:
    """The planner's copy. ``nodes_by_slot`` holds the forgotten nodes that rows still name, ``nodes`` does not.
    ``room``: where the allocations are packed; the view is void when that is used again."""
    # Whole tables at a time: this runs on the loop that owns the state, for every plan.
    jobs = dict(sorted(state.job_at.items()))
    by_job = state.ordinals.by_job
    rows = state.rows_that_count([gid for slot in jobs for gid in by_job.get(slot, ())])
    nodes = dict(sorted(state.node_at.items()))
    return ClusterView(
        index=state.index,
        time_ms=state.time_ms,
        jobs={JobUid(job.uid): job for job in jobs.values()},
        jobs_by_slot=jobs,
        nodes=_present(state, nodes),
        nodes_by_slot=nodes,
        allocations=state.table.copy(rows, room),
        last_attempt=LastAttempts(state.ordinals),
        variables=frozenset(state.variables),
        attempt_floor=state.attempt_floor,
        namespaces=dict(state.namespaces),
        usage=state.usage.copy(),
        settings=state.settings,
        typical=state.typical.shown(),
        default_placement=state.limits.default_placement,
        feature_level=state.feature_level,
    )


def with_nodes(state: State, view: ClusterView) -> ClusterView:
    """The view with the nodes as they are now."""
    nodes = dict(sorted(state.node_at.items()))
    return replace(view, nodes=_present(state, nodes), nodes_by_slot=nodes)


def _present(state: State, nodes: Mapping[int, Node]) -> dict[NodeId, Node]:
    """By id, without the forgotten ones."""
    return {NodeId(node.spec.id): node for slot, node in nodes.items() if slot not in state.forgotten}


def nodes_alone(view: ClusterView) -> ClusterView:
    """The view without jobs and rows: small, whatever the number of allocations."""
    return replace(view, allocations=NO_ROWS, jobs={}, jobs_by_slot={}, last_attempt={})


def view_of(state: State, slots: Iterable[int], whole: ClusterView) -> ClusterView:
    """The planner's copy of the jobs with these slots (ascending) alone, with what all jobs hold as sums.

    ``whole``: an earlier view of everything, since which no node and no variable's name has changed.
    """
    jobs = {slot: state.job_at[slot] for slot in slots if slot in state.job_at}
    by_job, ledger = state.ordinals.by_job, state.ledger
    gids = [gid for slot in jobs for gid in by_job.get(slot, ())]
    with_ports = any(map(may_ask_for_ports, jobs.values()))
    return replace(
        whole,
        index=state.index,
        time_ms=state.time_ms,
        jobs={JobUid(job.uid): job for job in jobs.values()},
        jobs_by_slot=jobs,
        allocations=state.table.copy_few(state.rows_that_count(gids)),
        last_attempt={state.ordinals.names[gid]: state.ordinals.attempts(gid) for gid in gids},
        usage=state.usage.copy(),
        held=Held(
            cpu_millis=ledger.cpu_millis.copy(),
            memory_mib=ledger.memory_mib.copy(),
            disk_mib=ledger.disk_mib.copy(),
            device_millis=ledger.device_millis[:, : ledger.wide].copy(),
            ports={key: tuple(taken) for key, taken in ledger.ports.items()} if with_ports else {},
        ),
        typical=state.typical.shown(),
    )


# ---------------------------------------------------------------------------- allocations


def allocation(state: State, row: int) -> Allocation:
    """One row of the table, made readable."""
    table = state.table
    node = state.node_at[int(table.node[row])]
    millis = int(table.gpu_millis[row])
    devices = _device_ids(node, int(table.device_mask[row]))
    return Allocation(
        id=allocation_id(state, row),
        job_uid=state.job_at[int(table.job[row])].uid,
        attempt=int(table.attempt[row]),
        restarts=int(table.restarts[row]),
        job_version=int(table.version[row]),
        node_id=node.spec.id,
        node_name=node.spec.name,
        node_address=node.spec.address,
        desired=Desired(int(table.desired[row])),
        state=AllocState(int(table.state[row])),
        reason=table.reasons.get(row, ""),
        exit_code=int(table.exit_code[row]),
        ports=_bindings(state, row),
        device_ids=devices,
        gpu_millis=millis,
        create_index=int(table.create_index[row]),
        modify_index=int(table.modify_index[row]),
        create_time_ms=int(table.create_time_ms[row]),
        modify_time_ms=int(table.modify_time_ms[row]),
        resources=Resources(
            cpu_millis=int(table.cpu_millis[row]),
            memory_mib=int(table.memory_mib[row]),
            disk_mib=int(table.disk_mib[row]),
            gpus=DeviceRequest(count=len(devices), gpu_millis=millis) if devices else None,
            custom=table.custom.get(row, ()),
        ),
        ready=is_ready(state, row),
    )


def allocation_id(state: State, row: int) -> AllocationId:
    table = state.table
    spec = state.job_at[int(table.job[row])].spec
    group = state.ordinals.names[int(table.gid[row])][1]
    return AllocationId(namespace=spec.namespace, job=spec.name, group=group, ordinal=int(table.ordinal[row]))


def live_count(state: State) -> int:
    """How many allocations may still run."""
    return sum(map(len, state.ledger.live))


# ---------------------------------------------------------------------------- jobs and nodes


def node_info(state: State, node: Node) -> NodeInfo:
    """A node with what is given away of it; ``heartbeat_age_ms`` is the caller's to fill in."""
    ledger, slot = state.ledger, node.slot
    sick = dict(node.spec.sick_devices)
    return NodeInfo(
        spec=node.spec,
        status=node.status,
        cordoned=node.cordoned,
        draining=node.draining,
        used=Resources(
            cpu_millis=int(ledger.cpu_millis[slot]),
            memory_mib=int(ledger.memory_mib[slot]),
            disk_mib=int(ledger.disk_mib[slot]),
            custom=ledger.custom.of(slot),
        ),
        allocations=len(ledger.live[slot]),
        devices=tuple(
            DeviceUse(
                device=device,
                used_millis=int(ledger.device_millis[slot, place]),
                cordoned=device.id in node.cordoned_devices,
                sick=sick.get(device.id, ""),
            )
            for place, device in enumerate(node.spec.devices)
        ),
        register_index=node.register_index,
        status_reason=node.status_reason,
        taints=node.taints,
        drain_deadline_ms=node.drain_deadline_ms,
    )


# ---------------------------------------------------------------------------- assignments


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentsUpdate:
    """What an agent is told (message ``AssignmentsUpdate``).

    ``full``: replaces everything that it knew. ``removed``: nothing may run under these keys any more (LOST here, but
    perhaps still running there). ``superseded``: LOST allocations of other nodes on the same engine: stop their
    containers before starting anything.
    """

    index: int
    full: bool
    assignments: tuple[Assignment, ...] = ()
    removed: tuple[AssignmentKey, ...] = ()
    superseded: tuple[AssignmentKey, ...] = ()


def assignments_index(state: State, node_id: str) -> int:
    """The last index at which this node's agent had something to hear, 0 for an unknown node: cheap, ask it first."""
    node = state.nodes.get(node_id)
    return 0 if node is None else int(state.ledger.touched[node.slot])


def assignments_for(state: State, node_id: str, after_index: int = 0) -> AssignmentsUpdate:
    """Everything that a node's agent has to know (``after_index`` 0), or what changed since that index."""
    return AssignmentsUpdate(
        index=state.index,
        full=after_index <= 0,
        assignments=tuple(assignment(state, row) for row in assignment_rows(state, node_id, after_index).tolist()),
        removed=removed_for(state, node_id, after_index),
        superseded=superseded_for(state, node_id, after_index),
    )


def assignment_rows(state: State, node_id: str, after_index: int = 0) -> Rows:
    """int32, ascending: the live rows of a node that its agent has to hear of; all of them for ``after_index`` 0."""
    node = state.nodes.get(node_id)
    if node is None:
        return np.empty(0, dtype=np.int32)
    rows = np.sort(state.ledger.live[node.slot])
    if after_index > 0:
        rows = rows[state.table.told[rows] > after_index]
    return rows


def removed_for(state: State, node_id: str, after_index: int) -> tuple[AssignmentKey, ...]:
    """What must not run on this node any more although its agent may not know; () for a full set: it leaves it out."""
    node = state.nodes.get(node_id)
    if node is None or after_index <= 0 or state.ledger.lost_touched[node.slot] <= after_index:
        return ()
    return tuple(_key(state, row) for row in _lost_rows(state, [node.slot], after_index).tolist())


def superseded_for(state: State, node_id: str, after_index: int = 0) -> tuple[AssignmentKey, ...]:
    """LOST allocations of lost or forgotten nodes on this node's engine, of which containers may still run there."""
    node = state.nodes.get(node_id)
    if node is None or not node.spec.engine_id:
        return ()
    slots = [
        slot
        for slot in state.engine_nodes.get(node.spec.engine_id, ())
        if slot != node.slot and (slot in state.forgotten or state.node_at[slot].status is NodeStatus.LOST)
    ]
    if not slots or int(state.ledger.lost_touched[slots].max()) <= after_index:
        return ()
    return tuple(_key(state, row) for row in _lost_rows(state, slots, after_index).tolist())


def _lost_rows(state: State, slots: list[int], after_index: int) -> Rows:
    rows = state.lost_rows(slots)
    found: Rows = rows[state.table.told[rows] > after_index]
    return found


def _key(state: State, row: int) -> AssignmentKey:
    return AssignmentKey(
        id=allocation_id(state, row),
        job_uid=state.job_at[int(state.table.job[row])].uid,
        attempt=int(state.table.attempt[row]),
    )


def assignment(state: State, row: int) -> Assignment:
    """What the agent of the row's node is told of it. ``group`` is one object for every row of the same version."""
    table = state.table
    node = state.node_at[int(table.node[row])]
    job = state.job_at[int(table.job[row])]
    group = _group_spec(state, row)
    return Assignment(
        key=_key(state, row),
        desired=Desired(int(table.desired[row])),
        group=group,
        on_disconnect=job.spec.on_disconnect,
        job_type=job.spec.type,
        ports=_bindings(state, row),
        device_ids=_device_ids(node, int(table.device_mask[row])),
        gpu_millis=int(table.gpu_millis[row]),
        variables=_values(state, job.spec.namespace, group),
        job_version=int(table.version[row]),
        modify_index=int(table.told[row]),
        origin=job.spec.origin,
        digests=digests(job, group.name, int(table.version[row])),
        adopt_only=int(table.attempt[row]) <= state.attempt_floor,
    )


def _group_spec(state: State, row: int) -> GroupSpec:
    """The group as of the row's version."""
    job = state.job_at[int(state.table.job[row])]
    return state.spec_of(job, int(state.table.version[row])).groups[int(state.table.group[row])]


def _values(state: State, namespace: str, group: GroupSpec) -> StrMap:
    """The values of the variables that the group's tasks name, as far as they exist."""
    names: Iterable[str] = sorted({name for task in group.tasks for name in variables_of(task)})
    return tuple(
        (name, state.variables[(namespace, name)].value) for name in names if (namespace, name) in state.variables
    )


def _bindings(state: State, row: int) -> tuple[PortBinding, ...]:
    ports = state.table.ports.get(row)
    if not ports:
        return ()
    return tuple(
        PortBinding(label=spec.label, host_port=port, to=spec.to, protocol=spec.protocol)
        for spec, port in zip(_group_spec(state, row).ports, ports, strict=True)
    )


def _device_ids(node: Node, mask: int) -> tuple[str, ...]:
    return tuple(device.id for place, device in enumerate(node.spec.devices) if mask >> place & 1)
