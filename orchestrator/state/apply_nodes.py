"""What commands about nodes do: register, cordon, drain, forget, and the leader's verdicts lost and back.

The rule: the identity that registers a node id first owns it. A lost node keeps its rows; what becomes of them is the
plan's decision (``Action.LOSE``), because it is the job's choice.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orchestrator.contract.model import NodeSpec, NodeStatus, Resources, StrMap
from orchestrator.state import apply_taints
from orchestrator.state.apply_rows import lose
from orchestrator.state.check import id_problem, node_problem, range_problem
from orchestrator.state.commands import (
    CordonDevice,
    CordonNode,
    DrainNode,
    ForgetNode,
    MarkNodes,
    NodeMark,
    Outcome,
    RegisterNode,
)
from orchestrator.state.features import OWNED_DEVICES, TOLD_REBOOTS
from orchestrator.state.ledger import device_bits, engine_key
from orchestrator.state.model import MAX_COMMAND_ROWS, MAX_CORDONED_DEVICES, Node
from orchestrator.state.state import Rows, State

MAX_DRAIN_MS = 365 * 24 * 3_600_000


def register(state: State, command: RegisterNode) -> Outcome:
    spec = command.node
    problem = node_problem(spec) or id_problem("identity", command.identity)
    if problem:
        return state.reject("INVALID", problem)
    known = state.nodes.get(spec.id)
    if known is not None and known.identity != command.identity:
        return state.reject(
            "PERMISSION_DENIED",
            f"node {spec.id!r} belongs to {known.identity!r}: give this agent its own data directory, "
            f"or forget the node first",
        )
    for slot in state.node_names.get(spec.name, ()):
        other = state.node_at[slot]
        if other.spec.id != spec.id and other.status is not NodeStatus.LOST:
            return state.reject(
                "ALREADY_EXISTS",
                f"another node ({other.spec.id}) is called {spec.name!r}: give this agent another name, "
                f"or stop the other one",
            )
    if owned := _owned_elsewhere(state, spec):
        return state.reject(
            "ALREADY_EXISTS",
            f"GPU {owned[0]} is node {owned[1].name}'s already: two agents run on one machine; start this one with "
            f"--gpu none, or stop the other one",
        )
    if known is None:
        slot = state.take_node_slot()
        state.put_node(
            Node(
                slot=slot,
                spec=spec,
                status=NodeStatus.READY,
                identity=command.identity,
                register_index=state.index,
                modify_index=state.index,
                status_time_ms=state.time_ms,
                ceiling=spec.capacity,
                taints=apply_taints.declared(state, None, spec.taints),
            )
        )
        state.ledger.touched[slot] = state.index
        state.changes.widen(state.index)
        state.events.emit("node.registered", node_id=spec.id, message=spec.name)
        _tell_sick(state, spec, ())
        apply_taints.tell(state, None, state.nodes[spec.id])
        return state.changed()
    if known.spec != spec:
        _replace_spec(state, known, spec)
        state.events.emit("node.registered", node_id=spec.id, message=spec.name)
        before = known.spec.boot_id
        if before and spec.boot_id and before != spec.boot_id and state.feature_level >= TOLD_REBOOTS:
            state.events.emit("node.rebooted", node_id=spec.id, message=spec.name)
        _tell_sick(state, spec, known.spec.sick_devices)
        apply_taints.tell(state, known, state.nodes[spec.id])
    if known.status is NodeStatus.LOST:
        _back(state, known.spec.id)
    node = state.nodes[spec.id]
    state.put_node(replace(node, register_index=state.index))
    # Whoever registers begins a new stream and must be told everything.
    state.ledger.touched[node.slot] = state.index
    changed = known.spec != spec or known.status is NodeStatus.LOST
    if changed:
        state.changes.sweep(state.index)  # what it holds may have to go elsewhere, or have come back
    else:
        state.changes.widen(state.index)
    return state.changed(changed)


def _tell_sick(state: State, spec: NodeSpec, before: StrMap) -> None:
    was, now = dict(before), dict(spec.sick_devices)
    for device, why in spec.sick_devices:
        if was.get(device) != why:
            state.events.emit("device.sick", node_id=spec.id, message=f"{device}: {why}")
    for device, _ in before:
        if device not in now:
            state.events.emit("device.well", node_id=spec.id, message=device)


def _replace_spec(state: State, node: Node, spec: NodeSpec) -> None:
    """The machine says something else of itself, while allocations hold parts of it."""
    ledger = state.ledger
    rows = ledger.live[node.slot]
    if len(rows):
        if engine_key(node) != engine_key(replace(node, spec=spec)):
            _move_ports(state, node, replace(node, spec=spec))
            rows = ledger.live[node.slot]
        if node.spec.devices != spec.devices:
            _renumber_devices(state, node, spec, rows)
    ceiling = Resources(
        cpu_millis=max(spec.capacity.cpu_millis, int(ledger.cpu_millis[node.slot])),
        memory_mib=max(spec.capacity.memory_mib, int(ledger.memory_mib[node.slot])),
        disk_mib=max(spec.capacity.disk_mib, int(ledger.disk_mib[node.slot])),
        custom=ledger.custom.ceiling(node.slot, spec.capacity.custom),
    )
    taints = apply_taints.declared(state, node, spec.taints)
    state.put_node(replace(node, spec=spec, ceiling=ceiling, taints=taints, modify_index=state.index))


def _move_ports(state: State, old: Node, new: Node) -> None:
    """Another engine: ports move there. Whoever's port is taken there cannot be running: it is lost."""
    taken = state.ledger.ports.get(engine_key(new), {})
    rows = np.sort(state.ledger.live[old.slot])
    clash = [row for row in rows.tolist() if any(port in taken for port in state.table.ports.get(row, ()))]
    if clash:
        lose(state, np.array(clash, dtype=np.int32), "its node changed to an engine where its port is taken")
    for row in state.ledger.live[old.slot].tolist():
        for port in state.table.ports.get(row, ()):
            _take_port(state.ledger.ports, engine_key(old), port)
            state.ledger.ports.setdefault(engine_key(new), {})[port] = row


def _take_port(ports: dict[str, dict[int, int]], key: str, port: int) -> None:
    taken = ports.get(key, {})
    taken.pop(port, None)
    if not taken:
        ports.pop(key, None)


def _renumber_devices(state: State, node: Node, spec: NodeSpec, rows: Rows) -> None:
    """Masks count places in the node's list of devices: keep them on the same ids. A vanished device is let go."""
    table, ledger = state.table, state.ledger
    place = {device.id: number for number, device in enumerate(spec.devices)}
    held = rows[table.device_mask[rows] != 0]
    bits = device_bits(table.device_mask[held])
    masks = np.zeros(len(held), dtype=np.uint64)
    usage = np.zeros_like(ledger.device_millis[node.slot])
    for number, device in enumerate(node.spec.devices):
        new = place.get(device.id)
        if new is not None:
            masks[bits[:, number]] |= np.uint64(1 << new)
            usage[new] = ledger.device_millis[node.slot, number]
    table.device_mask[held] = masks
    table.gpu_millis[held[masks == 0]] = 0
    ledger.hold_devices(node.slot, usage)
    state.usage.entered(state, sorted(set(table.job[held].tolist())))


def cordon(state: State, command: CordonNode) -> Outcome:
    node = state.nodes.get(command.node_id)
    if node is None:
        return _not_found(state, command.node_id)
    if node.cordoned == command.cordoned:
        return state.changed(False)  # one that is draining is cordoned, too
    draining = node.draining and command.cordoned
    deadline_ms = node.drain_deadline_ms if draining else 0
    state.put_node(
        replace(
            node,
            cordoned=command.cordoned,
            draining=draining,
            drain_deadline_ms=deadline_ms,
            modify_index=state.index,
        )
    )
    state.events.emit("node.cordoned" if command.cordoned else "node.uncordoned", node_id=node.spec.id)
    return state.changed()


def cordon_device(state: State, command: CordonDevice) -> Outcome:
    node = state.nodes.get(command.node_id)
    if node is None:
        return _not_found(state, command.node_id)
    device, closed = command.device_id, node.cordoned_devices
    if (device in closed) == command.cordoned:
        return state.changed(False)
    if not command.cordoned:
        kept = tuple(one for one in closed if one != device)
    elif all(one.id != device for one in node.spec.devices):
        return state.reject("NOT_FOUND", f"node {node.spec.name!r} has no device {device[:128]!r}")
    elif len(closed) >= MAX_CORDONED_DEVICES:
        return state.reject(
            "FAILED_PRECONDITION", f"node {node.spec.name!r} has {len(closed)} cordoned devices: uncordon some first"
        )
    else:
        kept = tuple(sorted((*closed, device)))
    state.put_node(replace(node, cordoned_devices=kept, modify_index=state.index))
    kind = "device.cordoned" if command.cordoned else "device.uncordoned"
    state.events.emit(kind, node_id=node.spec.id, message=device)
    return state.changed()


def drain(state: State, command: DrainNode) -> Outcome:
    node = state.nodes.get(command.node_id)
    if node is None:
        return _not_found(state, command.node_id)
    problem = range_problem("a drain's deadline in ms", command.deadline_after_ms, 0, MAX_DRAIN_MS)
    if problem:
        return state.reject("INVALID", problem)
    if command.cancel:
        return _cancel_drain(state, node, command)
    deadline_ms = state.time_ms + command.deadline_after_ms if command.deadline_after_ms else node.drain_deadline_ms
    if node.draining and deadline_ms == node.drain_deadline_ms:
        return state.changed(False)
    state.put_node(replace(node, cordoned=True, draining=True, drain_deadline_ms=deadline_ms, modify_index=state.index))
    within = f"within {command.deadline_after_ms / 1000:g} s" if command.deadline_after_ms else ""
    state.events.emit("node.draining", node_id=node.spec.id, message=within)
    return state.changed()


def _cancel_drain(state: State, node: Node, command: DrainNode) -> Outcome:
    if not node.draining:
        return state.changed(False)
    state.put_node(
        replace(
            node,
            cordoned=command.keep_cordoned,
            draining=False,
            drain_deadline_ms=0,
            modify_index=state.index,
        )
    )
    state.events.emit("node.undrained", node_id=node.spec.id)
    return state.changed()


def forget(state: State, command: ForgetNode) -> Outcome:
    node = state.nodes.get(command.node_id)
    if node is None:
        return _not_found(state, command.node_id)
    rows = np.sort(state.ledger.live[node.slot])  # the order in which they came is not part of the state
    if len(rows) and node.status is NodeStatus.READY:
        return state.reject(
            "FAILED_PRECONDITION",
            f"node {node.spec.id!r} is ready and runs {len(rows)} allocations: drain it, or stop its agent and "
            f"wait until it is lost",
        )
    if len(rows):
        lose(state, rows, "its node was forgotten")
    # Losing the last live row of a job that is being removed drops rows; the record is the same.
    state.forget_node(node)
    state.events.emit("node.forgotten", node_id=node.spec.id, message=node.spec.name)
    return state.changed()


def mark(state: State, command: MarkNodes) -> Outcome:
    problem = range_problem("number of marks", len(command.lost) + len(command.back), 0, MAX_COMMAND_ROWS)
    if problem:
        return state.reject("INVALID", problem)
    changed = bool(command.brake)
    if command.brake:
        state.events.emit("node.braked", message=command.brake)
    for verdict in command.lost:
        node = _marked(state, verdict)
        if node is not None and node.status is NodeStatus.READY:
            state.put_node(
                replace(
                    node,
                    status=NodeStatus.LOST,
                    status_time_ms=state.time_ms,
                    status_reason=verdict.reason[:500],
                    modify_index=state.index,
                )
            )
            # Agents on the same engine may have to stop what was its.
            state.touch_engine(node)
            state.events.emit("node.lost", node_id=node.spec.id, message=verdict.reason)
            changed = True
    for verdict in command.back:
        node = _marked(state, verdict)
        if node is not None and node.status is NodeStatus.LOST and not _replaced(state, node):
            _back(state, node.spec.id)
            changed = True
    return state.changed(changed)


def _marked(state: State, verdict: NodeMark) -> Node | None:
    """The node that was judged, unless it has registered again since."""
    node = state.nodes.get(verdict.node_id)
    return node if node is not None and node.register_index == verdict.register_index else None


def _replaced(state: State, lost: Node) -> bool:
    """Whether a ready node is called like this lost one, or has one of its GPUs."""
    same_name = state.node_names.get(lost.spec.name, ())
    return any(state.node_at[slot].status is NodeStatus.READY for slot in same_name) or bool(
        _owned_elsewhere(state, lost.spec)
    )


def _owned_elsewhere(state: State, spec: NodeSpec) -> tuple[str, NodeSpec] | None:
    """The first of its GPUs that another ready node has, and that node: it would be given out twice."""
    if state.feature_level < OWNED_DEVICES:
        return None
    for device in spec.devices:
        for slot in state.device_nodes.get(device.id, ()):
            other = state.node_at[slot]
            if other.spec.id != spec.id and other.status is NodeStatus.READY:
                return device.id, other.spec
    return None


def _back(state: State, node_id: str) -> None:
    node = state.nodes[node_id]
    state.put_node(
        replace(
            node,
            status=NodeStatus.READY,
            status_time_ms=state.time_ms,
            status_reason="",
            modify_index=state.index,
        )
    )
    state.ledger.touched[node.slot] = state.index
    state.events.emit("node.back", node_id=node_id)


def _not_found(state: State, node_id: str) -> Outcome:
    return state.reject("NOT_FOUND", f"there is no node {node_id[:128]!r}")
