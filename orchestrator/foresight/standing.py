"""Where everything stands in a state, and what changed from one state to another.

Owns: ``standings`` (every live instance with its node and devices), ``outcomes`` (the difference in words), ``balance``
(how evenly nodes are used). The rule: read only, and sorted by what users call things, never by row or slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.contract.foresight import Balance, Outcome
from orchestrator.contract.model import WHOLE_DEVICE, AllocationId, JobType, NodeStatus
from orchestrator.state.state import State
from orchestrator.state.views import allocation_id

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One live instance. ``devices``: ids."""

    node_id: str
    node_name: str
    devices: tuple[str, ...]
    attempt: int


def standings(state: State) -> dict[AllocationId, Standing]:
    """Every live instance by its id (its newest attempt, should two live)."""
    table = state.table
    found: dict[AllocationId, Standing] = {}
    for row in table.live_rows().tolist():
        spec = state.node_at[int(table.node[row])].spec
        mask = int(table.device_mask[row])
        standing = Standing(
            node_id=spec.id,
            node_name=spec.name,
            devices=tuple(device.id for place, device in enumerate(spec.devices) if mask >> place & 1),
            attempt=int(table.attempt[row]),
        )
        key = allocation_id(state, row)
        if key not in found or found[key].attempt < standing.attempt:
            found[key] = standing
    return found


def outcomes(
    before: Mapping[AllocationId, Standing],
    after: Mapping[AllocationId, Standing],
    baseline: Mapping[AllocationId, Standing],
    *,
    reasons: Mapping[AllocationId, str],
    lost: frozenset[str],
) -> list[Outcome]:
    """What changes between ``before`` and ``after``, by id. ``baseline``: what would be without the change; ``lost``:
    ids of the nodes that are lost after it."""
    found = []
    for key in sorted(before.keys() | after.keys()):
        was, then = before.get(key), after.get(key)
        if was == then:
            continue
        found.append(
            Outcome(
                id=key,
                kind=_kind(was, then, lost),
                from_node=was.node_name if was else "",
                to_node=then.node_name if then else "",
                from_devices=was.devices if was else (),
                to_devices=then.devices if then else (),
                reason=reasons.get(key, ""),
                anyway=_place(baseline.get(key)) == _place(then) and baseline.get(key) != was,
            )
        )
    return found


def _kind(was: Standing | None, then: Standing | None, lost: frozenset[str]) -> str:
    if was is None:
        return "placed"
    if then is None:
        return "lost" if was.node_id in lost else "stopped"
    return "replaced" if was.node_id == then.node_id else "moved"


def _place(standing: Standing | None) -> tuple[str, tuple[str, ...]] | None:
    return None if standing is None else (standing.node_id, standing.devices)


def balance(state: State, pending: int) -> Balance:
    """Of the nodes that take work (ready, neither cordoned nor draining); ``nodes_used`` counts every node on which
    something else than system jobs lives."""
    shares = node_shares(state)
    open_shares = [
        share
        for slot, share in shares.items()
        if state.node_at[slot].status is NodeStatus.READY and not state.node_at[slot].cordoned
    ]
    return Balance(
        nodes_used=len(used_nodes(state)),
        nodes=len(state.nodes),
        highest=max(open_shares, default=0),
        lowest=min(open_shares, default=0),
        squares=sum(share * share for share in open_shares) // MILLION,
        pending=pending,
    )


def used_nodes(state: State) -> list[int]:
    """Slots of nodes on which something lives that is no system job's, ascending."""
    table = state.table
    rows = table.live_rows()
    jobs, where = np.unique(table.job[rows], return_inverse=True)
    bound = np.array([state.job_at[slot].spec.type is JobType.SYSTEM for slot in jobs.tolist()], dtype=np.bool_)
    slots: list[int] = np.unique(table.node[rows[~bound[where]]] if len(rows) else table.node[rows]).tolist()
    return slots


def node_shares(state: State) -> dict[int, int]:
    """By slot: the dominant share of each node that is given away, in millionths of its capacity."""
    ledger = state.ledger
    found: dict[int, int] = {}
    for node in state.nodes.values():
        slot, capacity = node.slot, node.spec.capacity
        devices = len(node.spec.devices)
        pairs = (
            (int(ledger.cpu_millis[slot]), capacity.cpu_millis),
            (int(ledger.memory_mib[slot]), capacity.memory_mib),
            (int(ledger.disk_mib[slot]), capacity.disk_mib),
            (int(ledger.device_millis[slot, :devices].sum()), devices * WHOLE_DEVICE),
        )
        found[slot] = max((used * MILLION // most for used, most in pairs if most > 0), default=0)
    return dict(sorted(found.items()))
