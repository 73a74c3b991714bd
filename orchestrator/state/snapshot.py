"""An image of the whole state: copied cheaply on the loop, then hashed or encoded elsewhere; and the way back.

Owns: what a state consists of, once (``Image``): what is not in it is an index and is built anew. Leaves to others:
bytes (``replication.codec``). The rule: ``restore(capture(state))`` goes on exactly as ``state`` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import Limits, Namespace, Settings, Variable
from orchestrator.state import canonical
from orchestrator.state.allocations import FREE, LAST_LIVE, STORED, AllocationTable
from orchestrator.state.answers import Answers, Kept, Key, read
from orchestrator.state.events import EventLog
from orchestrator.state.events import Kept as KeptEvent
from orchestrator.state.events import read as read_event
from orchestrator.state.model import Job, Node
from orchestrator.state.ordinals import GroupImage, GroupImages
from orchestrator.state.packed import BLOCK_ROWS, Packed, Room
from orchestrator.state.state import State
from orchestrator.state.typical import Shape, Typical
from orchestrator.state.typical import problem as typical_problem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """The state at ``index``; records are shared with it (they never change), arrays and containers are copies."""

    index: int
    time_ms: int
    cluster_id: str
    feature_level: int
    epoch: int
    admitted: Mapping[str, str]
    addresses: Mapping[str, str]
    attempt_floor: int
    limits: Limits
    jobs: Mapping[int, Job]  # by slot, as the following two
    nodes: Mapping[int, Node]
    forgotten: Mapping[int, Node]
    variables: Mapping[tuple[str, str], Variable]
    answers: Sequence[tuple[Key, Kept]]  # oldest first
    events: Sequence[KeptEvent]  # oldest first
    events_dropped_index: int
    groups: Sequence[GroupImage]  # by gid
    columns: Mapping[str, Packed | npt.NDArray[Any]]  # allocations.STORED
    ports: Mapping[int, tuple[int, ...]]  # by row, as the following
    reasons: Mapping[int, str]
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    health: Mapping[int, int] = field(default_factory=dict)  # by row
    answer_bytes: int | None = None  # what the answers count against their limit, if that is known
    typical: tuple[tuple[Shape, int], ...] = ()  # instances by shape; () in what was written before it was counted


class SnapshotError(ValueError):
    """An image that is no state: it contradicts itself."""


def capture(state: State, room: Room | None = None) -> Image:
    """Copy what there is; costs about as much as copying the memory of the tables. ``room``: where the allocations are
    packed; it is used up."""
    return Image(
        index=state.index,
        time_ms=state.time_ms,
        cluster_id=state.cluster_id,
        feature_level=state.feature_level,
        epoch=state.epoch,
        admitted=dict(state.admitted),
        addresses=dict(state.addresses),
        attempt_floor=state.attempt_floor,
        limits=state.limits,
        jobs=dict(state.job_at),
        nodes={node.slot: node for node in state.nodes.values()},
        forgotten=dict(state.forgotten),
        variables=dict(state.variables),
        answers=state.answers.items(),
        answer_bytes=state.answers.bytes,
        events=state.events.records(),
        events_dropped_index=state.events.dropped_index,
        groups=GroupImages(state.ordinals),
        columns=state.table.stored(room),
        ports=dict(state.table.ports),
        reasons=dict(state.table.reasons),
        namespaces=dict(state.namespaces),
        settings=state.settings,
        typical=state.typical.shown(),
        health=state.table.healths(),
    )


def restore(image: Image) -> State:
    """A state that equals the captured one. Raises ``SnapshotError`` if the image contradicts itself."""
    problem = _problem(image)
    if problem:
        raise SnapshotError(problem)
    state = State(image.limits)
    state.index = state.shown_index = image.index
    state.time_ms = image.time_ms
    state.cluster_id = image.cluster_id
    state.feature_level = image.feature_level
    # Before there were epochs, who was admitted was so in the first one.
    state.epoch = image.epoch or (1 if image.admitted else 0)
    state.admitted = dict(image.admitted)
    state.addresses = dict(image.addresses)
    state.attempt_floor = image.attempt_floor
    state.jobs = {image.jobs[slot].uid: image.jobs[slot] for slot in sorted(image.jobs)}
    state.nodes = {image.nodes[slot].spec.id: image.nodes[slot] for slot in sorted(image.nodes)}
    state.forgotten = dict(image.forgotten)
    state.variables = dict(image.variables)
    state.namespaces = {name: image.namespaces[name] for name in sorted(image.namespaces)}
    state.settings = image.settings
    state.answers = Answers(image.answers, counted=image.answer_bytes)
    state.typical = Typical(dict(image.typical))
    state.events = EventLog(image.limits.events, image.events, image.events_dropped_index)
    state.table = AllocationTable(image.columns)
    state.table.ports = dict(image.ports)
    state.table.reasons = dict(image.reasons)
    for row, health in image.health.items():
        state.table.health[row] = health
    state.ordinals.restore(image.groups)
    state.rebuild()
    return state


def state_hash(state: State) -> str:
    """Hex digest of everything in the state; equal on every peer at the same index."""
    return image_hash(capture(state))


def image_hash(image: Image) -> str:
    """The state's hash from its image; may run in a thread."""
    digest = hashlib.sha256()
    out = bytearray()
    canonical.put(out, (image.index, image.time_ms, image.cluster_id, image.feature_level, image.events_dropped_index))
    for value in (
        image.epoch,
        image.admitted,
        image.addresses,
        image.attempt_floor,
        image.limits,
        image.jobs,
        image.nodes,
        image.forgotten,
        image.variables,
        image.namespaces,
        image.settings,
    ):
        canonical.put(out, value)
    canonical.put(out, [(key, read(kept)) for key, kept in image.answers])
    canonical.put(out, [(*shape, count) for shape, count in image.typical])
    canonical.put(out, list(image.groups))
    canonical.put_flat(out, list(map(read_event, image.events)))
    canonical.put_flat(out, sorted(image.ports.items()))
    canonical.put_flat(out, sorted(image.reasons.items()))
    if image.health:
        canonical.put_flat(out, sorted(image.health.items()))
    digest.update(out)
    for name, dtype in STORED:
        column = image.columns[name]
        digest.update(f"{name} {dtype} {len(column)};".encode())
        for start in range(0, len(column), BLOCK_ROWS):
            digest.update(np.ascontiguousarray(column[start : start + BLOCK_ROWS], dtype=dtype).data)
    return digest.hexdigest()


def _problem(image: Image) -> str:
    """Whether rows name what exists: checked before anything is indexed by it."""
    columns = {name: np.asarray(image.columns[name]) for name in ("job", "node", "gid", "ordinal", "state")}
    used = columns["job"] != FREE
    jobs, nodes, gids = (columns[name][used] for name in ("job", "node", "gid"))
    names = {gid: (slot, name) for gid, slot, name, _ in image.groups}
    lengths = {gid: len(attempts) for gid, _, _, attempts in image.groups}
    if len(names) != len(image.groups) or len(set(names.values())) != len(names):
        return "a group is there twice"
    if not {slot for slot, _ in names.values()} <= set(image.jobs):
        return "a group belongs to no job"
    if not set(np.unique(jobs).tolist()) <= set(image.jobs):
        return "an allocation belongs to no job"
    if set(image.nodes) & set(image.forgotten):
        return "two nodes have one slot"
    if not set(np.unique(nodes).tolist()) <= set(image.nodes) | set(image.forgotten):
        return "an allocation belongs to no node"
    if not set(np.unique(gids).tolist()) <= set(names):
        return "an allocation belongs to no group"
    wrong = typical_problem(image.typical)
    if wrong:
        return wrong
    known = set(names.values())
    for job in image.jobs.values():
        if any((job.slot, group.name) not in known for group in job.spec.groups):
            return f"job {job.uid} has a group that is not indexed"
    if len(gids):
        top = int(gids.max()) + 1
        bound = np.zeros(top, dtype=np.int64)
        for gid, length in lengths.items():
            if gid < top:
                bound[gid] = length
        ordinal = columns["ordinal"][used]
        if np.any(ordinal < 0) or np.any(ordinal >= bound[gids]):
            return "an allocation's ordinal never had an attempt"
        if np.any(columns["state"][used] > 90) or np.any(columns["state"][used & (columns["state"] <= LAST_LIVE)] < 10):
            return "an allocation has an unknown state"
    return ""
