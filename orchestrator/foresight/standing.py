"""Where everything stands in a state, and what changed from one state to another.

Owns: ``Standings`` (every live instance with its node and devices), ``outcomes`` (the difference in words), ``balance``
(how evenly nodes are used). The rule: read only, and sorted by what users call things, never by row or slot. Most of
hundreds of thousands of instances stay where they are: they are compared as columns, and only the others are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.contract.foresight import Balance, Outcome
from orchestrator.contract.model import WHOLE_DEVICE, AllocationId, JobType, NodeStatus
from orchestrator.state.state import State

MILLION = 1_000_000

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One live instance. ``devices``: ids."""

    node_id: str
    node_name: str
    devices: tuple[str, ...]
    attempt: int


class Standings:
    """Every live instance of a state as it is now (the state may go on changing)."""

    def __init__(self, state: State) -> None:
        table = state.table
        self._rows = table.live_rows()
        self._jobs, self._nodes, self._names = dict(state.job_at), dict(state.node_at), dict(state.ordinals.names)
        self._gid = table.gid[self._rows].astype(np.int64)
        self._ordinal = table.ordinal[self._rows].astype(np.int64)
        self._attempt = table.attempt[self._rows].astype(np.int64)
        self._node = table.node[self._rows].astype(np.int64)
        self._mask = table.device_mask[self._rows]
        self._made = table.create_index[self._rows]

    @property
    def _keys(self) -> Int64Array:
        """int64 per row: which instance it is an attempt of."""
        return self._gid << 32 | self._ordinal

    def differing(self, other: Standings) -> Int64Array:
        """int64: keys of the instances of which some attempt is not the same here and there. Both states come from one
        image, so that a row which is in both has one number in both."""
        _, here, there = np.intersect1d(self._rows, other._rows, assume_unique=True, return_indices=True)
        same = np.ones(len(here), dtype=np.bool_)
        for name in ("_gid", "_ordinal", "_attempt", "_node", "_mask", "_made"):
            same &= getattr(self, name)[here] == getattr(other, name)[there]
        return np.union1d(
            np.delete(self._keys, here[same]),
            np.delete(other._keys, there[same]),
        )

    def of(self, keys: Int64Array) -> dict[AllocationId, Standing]:
        """These instances by id, each as its newest attempt that lives."""
        found: dict[AllocationId, Standing] = {}
        for place in np.flatnonzero(np.isin(self._keys, keys)).tolist():
            slot, group = self._names[int(self._gid[place])]
            spec, where = self._jobs[slot].spec, self._nodes[int(self._node[place])].spec
            mask = int(self._mask[place])
            standing = Standing(
                node_id=where.id,
                node_name=where.name,
                devices=tuple(device.id for number, device in enumerate(where.devices) if mask >> number & 1),
                attempt=int(self._attempt[place]),
            )
            key = AllocationId(namespace=spec.namespace, job=spec.name, group=group, ordinal=int(self._ordinal[place]))
            if key not in found or found[key].attempt < standing.attempt:
                found[key] = standing
        return found


def standing_of(state: State, wanted: AllocationId) -> Standing | None:
    """Of one instance; None: it does not live."""
    job = state.find_job(wanted.namespace, wanted.job)
    gid = None if job is None else state.ordinals.gids.get((job.slot, wanted.group))
    if gid is None:
        return None
    return Standings(state).of(np.array([gid << 32 | wanted.ordinal], dtype=np.int64)).get(wanted)


def outcomes(
    before: Standings,
    after: Standings,
    baseline: Standings,
    *,
    reasons: Mapping[AllocationId, str],
    lost: frozenset[str],
) -> list[Outcome]:
    """What changes between ``before`` and ``after``, by id. ``baseline``: what would be without the change; ``lost``:
    ids of the nodes that are lost after it. All come from one image."""
    keys = before.differing(after)
    was_at, then_at, otherwise = before.of(keys), after.of(keys), baseline.of(keys)
    found = []
    for key in sorted(was_at.keys() | then_at.keys()):
        was, then = was_at.get(key), then_at.get(key)
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
                anyway=_place(otherwise.get(key)) == _place(then) and otherwise.get(key) != was,
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
