"""The view's allocations seen from the jobs as they are now: which current group each row belongs to.

Owns: numbering the current groups, mapping rows of older versions to them by group name, and folding rows into
instances. The rule: no judgement here; what should change is for ``rounds`` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import Constraint, JobType, NodeStatus, OnDisconnect
from orchestrator.reconcile.work import Int64Array
from orchestrator.state.commands import Int32Array
from orchestrator.state.distinct import distinct
from orchestrator.state.failures import retries_of
from orchestrator.state.holding import Hold, base_record, hold_of, is_held_back, is_of_base, place_in, remains
from orchestrator.state.matching import may_take
from orchestrator.state.model import Job, Node
from orchestrator.state.versions import follows_policy, is_current
from orchestrator.state.views import ClusterView

BoolArray = npt.NDArray[np.bool_]

GONE = -1
"""Group number of a row whose group is no longer in its job."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Groups:
    """Every group of every job, numbered by job slot and place; arrays by that number.

    count: wanted instances (0 when the job is stopped or being removed, and of a template; not used for system jobs);
    active: neither of these; retries: of a start that failed; budgeted: its job has a disruption budget; gang: all of
    it runs or none; policy: ``rollouts`` says how it is replaced; ``jobs[i]``, ``places[i]``: whose and which.

    Of groups that are held at the version before (``state.holding``): ``holds[i]``; ``bases[i]``: the record to ask
    with at that version, whose groups stand at the same places, None: nothing is placed at it; base_retries. What the
    newer version has no more follows the job's other groups until that is promoted, as a group of the version before.
    """

    jobs: tuple[Job, ...]
    places: tuple[int, ...]
    count: Int64Array
    retries: Int32Array
    job_type: npt.NDArray[np.int8]
    system: BoolArray
    active: BoolArray
    budgeted: BoolArray
    gang: BoolArray
    policy: BoolArray
    holds: tuple[Hold | None, ...]
    bases: tuple[Job | None, ...]
    base_retries: Int32Array

    def __len__(self) -> int:
        return len(self.jobs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Per row of ``view.allocations``: its group's number or GONE, whether it is live, whether its job says ``keep``,
    the state of its node, whether its version is not current for its group (False where that is GONE), and whether it
    is of the version before at which its group is held (``Groups.bases``): then it is as it should be meanwhile.
    foreign: of a version in which the job was of another type, whose ordinals may have meant something else; wrong:
    of no version at which its group is placed now."""

    group: Int64Array
    live: BoolArray
    keep: BoolArray
    node_lost: BoolArray
    node_draining: BoolArray
    outdated: BoolArray
    of_base: BoolArray
    foreign: BoolArray
    wrong: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instances:
    """One entry per (group, ordinal) that has rows and whose group exists, by group and ordinal.

    newest: position of the attempt that counts (``Ordinals.newest``); live: whether any attempt of it is live; beside:
    position of the one before that, which lives too or is newer and has ended, -1 where there is none.
    ``bounds[g]:bounds[g + 1]`` are the instances of group g.
    """

    group: Int64Array
    ordinal: Int64Array
    newest: Int64Array
    live: BoolArray
    beside: Int64Array
    bounds: Int64Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """One round's view of everything. live: per row, as the round sees it (rows it gives up as lost are not live);
    system_nodes: for each active system group, the slots of the nodes that should run it; bounds: ``instances.bounds``
    as plain numbers, for looking at one group after the other."""

    view: ClusterView
    groups: Groups
    rows: Rows
    live: BoolArray
    lose: BoolArray
    instances: Instances
    system_nodes: Mapping[int, frozenset[int]]
    bounds: tuple[int, ...]


def look(view: ClusterView) -> Scene:
    """The scene of a round: rows of lost nodes are given up here, unless their job says ``keep``."""
    groups = number_groups(view)
    rows = read_rows(view, groups)
    lose = rows.live & rows.node_lost & ~rows.keep
    live = rows.live & ~lose
    instances = fold(view, groups, rows, live)
    return Scene(
        view=view,
        groups=groups,
        rows=rows,
        live=live,
        lose=lose,
        instances=instances,
        system_nodes=_system_nodes(view, groups),
        bounds=tuple(instances.bounds.tolist()),
    )


def number_groups(view: ClusterView) -> Groups:
    jobs: list[Job] = []
    places: list[int] = []
    counts: list[int] = []
    retries: list[int] = []
    types: list[int] = []
    active: list[bool] = []
    gang: list[bool] = []
    policy: list[bool] = []
    holds: list[Hold | None] = []
    bases: list[Job | None] = []
    base_retries: list[int] = []
    for slot in sorted(view.jobs_by_slot):
        job = view.jobs_by_slot[slot]
        running = not (job.stopped or job.removing or job.spec.is_template)
        before = Before(job) if is_held_back(job) else None
        for place, group in enumerate(job.spec.groups):
            hold = None if before is None else hold_of(job, place, before.record)
            base = before.aligned if before is not None and hold is not None and hold.at >= 0 else None
            held = group if base is None else base.spec.groups[place]
            jobs.append(job)
            places.append(place)
            counts.append(held.count if running else 0)
            retries.append(retries_of(group.restart))
            types.append(job.spec.type)
            active.append(running)
            gang.append(group.gang is not None)
            policy.append(follows_policy(job, place))
            holds.append(hold)
            bases.append(base)
            base_retries.append(retries_of(held.restart))
        if before is None or before.aligned is None:
            continue
        for place, at in before.former:
            group = before.aligned.spec.groups[place]
            jobs.append(before.aligned)
            places.append(place)
            counts.append(group.count)
            retries.append(retries_of(group.restart))
            types.append(job.spec.type)
            active.append(True)
            gang.append(group.gang is not None)
            policy.append(False)
            holds.append(Hold(at=at, canaries=0, growing=False, beside=False))
            bases.append(before.aligned)
            base_retries.append(retries_of(group.restart))
    return Groups(
        jobs=tuple(jobs),
        places=tuple(places),
        count=np.array(counts, dtype=np.int64),
        retries=np.array(retries, dtype=np.int32),
        job_type=np.array(types, dtype=np.int8),
        system=np.array(types, dtype=np.int8) == JobType.SYSTEM,
        active=np.array(active, dtype=np.bool_),
        budgeted=np.array([job.spec.disruption is not None for job in jobs], dtype=np.bool_),
        gang=np.array(gang, dtype=np.bool_),
        policy=np.array(policy, dtype=np.bool_),
        holds=tuple(holds),
        bases=tuple(bases),
        base_retries=np.array(base_retries, dtype=np.int32),
    )


class Before:
    """A job that is held back at the version before. record: as ``base_record``; aligned: the same with its groups at
    the places that they have now, and those that are no more behind them; former: of these, the place there and that at
    the version before."""

    def __init__(self, job: Job) -> None:
        self.record = base_record(job)
        self.aligned: Job | None = None
        self.former: list[tuple[int, int]] = []
        if self.record is None:
            return
        old = {group.name: group for group in self.record.spec.groups}
        groups = [old.get(group.name, group) for group in job.spec.groups]
        for at, group in enumerate(self.record.spec.groups):
            if place_in(job.spec, group.name) < 0 and remains(job, group.name):
                self.former.append((len(groups), at))
                groups.append(group)
        self.aligned = replace(
            self.record,
            spec=replace(self.record.spec, groups=tuple(groups)),
            group_versions=(self.record.version,) * len(groups),
        )


def read_rows(view: ClusterView, groups: Groups) -> Rows:
    """Map every row; runs of one (job, version, group) are looked up once."""
    columns = view.allocations
    n = len(columns)
    first: dict[int, int] = {}
    for number, job in enumerate(groups.jobs):
        first.setdefault(job.slot, number)
    starts = _run_starts(columns.job, columns.version, columns.group)
    run_group: list[int] = []
    run_keep: list[bool] = []
    run_outdated: list[bool] = []
    run_of_base: list[bool] = []
    run_foreign: list[bool] = []
    slots, versions, places = (array[starts].tolist() for array in (columns.job, columns.version, columns.group))
    for slot, version, place in zip(slots, versions, places, strict=True):
        owner = view.jobs_by_slot.get(slot)
        current = GONE if owner is None else _current_place(owner, version, place)
        former = GONE
        if owner is not None and current == GONE and is_held_back(owner):
            former = _former_place(owner, groups, first[slot] + len(owner.spec.groups), version, place)
        number = former if current == GONE else first[slot] + current
        run_group.append(number)
        run_keep.append(owner is not None and owner.spec.on_disconnect is OnDisconnect.KEEP)
        held = False
        if owner is not None and number != GONE and (base := groups.bases[number]) is not None:
            held = is_of_base(owner, base.spec.groups[groups.places[number]].name, version)
        run_of_base.append(held)
        run_foreign.append(owner is not None and _was_foreign(owner, version))
        if current == GONE or owner is None:
            run_outdated.append(number != GONE and not held)
        else:
            run_outdated.append(not is_current(owner, current, version))
    lengths = np.diff(np.append(starts, n))
    nodes: Mapping[int, Node] = view.nodes_by_slot
    if n < len(nodes):  # few rows of a large cluster
        nodes = {slot: nodes[slot] for slot in distinct(columns.node) if slot in nodes}
    lost, draining = _node_flags(nodes)
    outdated = np.repeat(np.array(run_outdated, dtype=np.bool_), lengths)
    of_base = np.repeat(np.array(run_of_base, dtype=np.bool_), lengths)
    return Rows(
        group=np.repeat(np.array(run_group, dtype=np.int64), lengths),
        live=columns.live,
        keep=np.repeat(np.array(run_keep, dtype=np.bool_), lengths),
        node_lost=lost[np.minimum(columns.node, len(lost) - 1)],
        node_draining=draining[np.minimum(columns.node, len(draining) - 1)],
        outdated=outdated,
        of_base=of_base,
        wrong=outdated & ~of_base,
        foreign=np.repeat(np.array(run_foreign, dtype=np.bool_), lengths),
    )


def fold(view: ClusterView, groups: Groups, rows: Rows, live: BoolArray) -> Instances:
    """The instances; ``live`` as the round sees it (rows about to be lost are not)."""
    columns = view.allocations
    positions = np.flatnonzero(rows.group != GONE)
    key = (rows.group[positions] << 32) | columns.ordinal[positions].astype(np.int64)
    if len(key) and bool((key[1:] < key[:-1]).any()):
        # Groups changed places between versions, so the table's order is not ours.
        order = np.lexsort((columns.attempt[positions], live[positions], key))
        positions, key = positions[order], key[order]
    starts = _run_starts(key)
    ends = np.append(starts[1:], len(key))
    group = key[starts] >> 32
    return Instances(
        group=group,
        ordinal=key[starts] & 0xFFFFFFFF,
        newest=positions[ends - 1] if len(key) else positions,
        beside=np.where(ends - starts > 1, positions[ends - 2], -1) if len(key) else positions,
        live=np.logical_or.reduceat(live[positions], starts) if len(key) else np.zeros(0, dtype=np.bool_),
        bounds=np.searchsorted(group, np.arange(len(groups) + 1)).astype(np.int64),
    )


def key_of(groups: Groups, number: int) -> tuple[int, int]:
    """(job slot, place in its groups)."""
    return groups.jobs[number].slot, groups.places[number]


def constraints_of(groups: Groups, number: int) -> tuple[Constraint, ...]:
    spec = groups.jobs[number].spec
    return spec.constraints + spec.groups[groups.places[number]].constraints


def _system_nodes(view: ClusterView, groups: Groups) -> dict[int, frozenset[int]]:
    found: dict[int, frozenset[int]] = {}
    for number in np.flatnonzero(groups.system & groups.active).tolist():
        spec = groups.jobs[number].spec
        group = spec.groups[groups.places[number]]
        found[number] = frozenset(node.slot for node in view.nodes.values() if may_take(node, spec, group))
    return found


def _current_place(job: Job, version: int, place: int) -> int:
    if version == job.version:
        return place if place < len(job.spec.groups) else GONE
    spec = next((spec for number, spec in job.specs if number == version), None)
    if spec is None:
        # Not expected: the state keeps the spec of every version that a row names. The place is a fair guess.
        return place if place < len(job.spec.groups) else GONE
    if place >= len(spec.groups):
        return GONE
    name = spec.groups[place].name
    return next((at for at, group in enumerate(job.spec.groups) if group.name == name), GONE)


def _was_foreign(job: Job, version: int) -> bool:
    if version == job.version:
        return False
    return any(number == version and spec.type != job.spec.type for number, spec in job.specs)


def _former_place(job: Job, groups: Groups, number: int, version: int, place: int) -> int:
    """The number of a group that the newest version has no more and that stays until it is promoted, or GONE.
    ``number``: where those of this job begin."""
    spec = next((spec for known, spec in job.specs if known == version), None)
    if spec is None or place >= len(spec.groups):
        return GONE
    while number < len(groups) and groups.jobs[number].slot == job.slot:
        if groups.jobs[number].spec.groups[groups.places[number]].name == spec.groups[place].name:
            return number
        number += 1
    return GONE


def _node_flags(nodes: Mapping[int, Node]) -> tuple[BoolArray, BoolArray]:
    """By slot; the last entry, beyond every slot, is that of rows whose node was forgotten: neither."""
    size = max(nodes, default=-1) + 2
    lost = np.zeros(size, dtype=np.bool_)
    draining = np.zeros(size, dtype=np.bool_)
    for slot, node in nodes.items():
        lost[slot] = node.status is NodeStatus.LOST
        draining[slot] = node.draining
    return lost, draining


def _run_starts(*arrays: npt.NDArray[np.signedinteger]) -> Int64Array:
    """Positions at which any of the arrays differs from the position before; [0, ...], empty for empty arrays."""
    n = len(arrays[0])
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    changed = np.zeros(n, dtype=np.bool_)
    changed[0] = True
    for array in arrays:
        changed[1:] |= array[1:] != array[:-1]
    return np.flatnonzero(changed).astype(np.int64)
