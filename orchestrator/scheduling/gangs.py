"""Gangs: all instances in the smallest domain that holds them, or none; and no gang waits for ever behind small jobs.

Owns: how often a wish fits on each node, choosing domain and nodes, trying it out. Leaves to others: what is kept for
a gang that waits (``gang_holds``), the queue (``solve``), when a gang is asked for (``reconcile.gangs``), where members
may be because of each other and of other jobs (``neighbours``), rechecking (``state.apply_gangs``). The rules:

- Domains from small to large: island, node, rack, zone, cluster, up to the one the gang names. Of the domains of one
  size that hold it, the one in which its least preferred node is preferred most (``preferences.standing``: all but what
  its own members would change), then the one with the least room to spare; inside, the parts with the most room first,
  so that few nodes are used, and the last part is the smallest that does. Equal ones: by the job's placement policy,
  then by number. What members would rather because of each other (``place-anyway``, affinity that is not required)
  goes before that, but decides neither the domain nor whether the gang is placed.
- A gang holds nothing until all of it has a place, so two gangs never wait for each other.

Instances are alike, so how often one fits on a node says all; what else may be in the way (ports on a shared engine) is
seen by trying, and the count is then corrected and the choice made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import GangDomain
from orchestrator.scheduling import registry
from orchestrator.scheduling.domains import numbered
from orchestrator.scheduling.filters import ENDLESS, has_room, suitable
from orchestrator.scheduling.neighbours import Neighbours, neighbours_of
from orchestrator.scheduling.policy import NOWHERE
from orchestrator.scheduling.preferences import standing
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import Ask, BoolArray, Int64Array, Wish

Place = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Node, device numbers, host ports of one instance."""

MOST = 1 << 20
"""More instances than any gang has, and few enough to be added up."""
LEVELS_MAX = 64
"""So many different preferences of nodes are told apart, the highest ones."""
LARGER = (GangDomain.NODE, GangDomain.RACK, GangDomain.ZONE, GangDomain.CLUSTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The domain that could take most of a gang: its kind, a name for it, and how many instances fit there."""

    domain: GangDomain
    name: str
    fits: int


def place(problem: Problem, wish: Wish, ask: Ask) -> list[Place] | None:
    """A place for every instance of the ask, taken out of ``problem``; None: there is none, and nothing was taken."""
    wanted = len(ask.ordinals)
    mask = suitable(problem, wish)
    avoided = problem.number_of_slot.get(ask.avoid, -1)
    if avoided >= 0 and mask[avoided]:
        elsewhere = mask.copy()
        elsewhere[avoided] = False
        found = _place_on(problem, wish, ask, wanted, elsewhere)
        if found is not None:
            return found
    return _place_on(problem, wish, ask, wanted, mask)


def _place_on(problem: Problem, wish: Wish, ask: Ask, wanted: int, mask: BoolArray) -> list[Place] | None:
    times, neighbours = room_for_members(problem, wish, mask, leaning=True)
    scores = _scores(problem, wish, times)
    preferred = standing(problem, wish)
    while True:
        chosen = _choose(problem, wish, ask, wanted, times, scores, preferred, neighbours)
        if chosen is None:
            return None
        found, stuck = _try(problem, wish, chosen)
        if stuck < 0:
            return found
        # One node took fewer than was thought: count what it took, and choose again.
        times[stuck] = sum(1 for node, _, _ in found if node == stuck)


def room_for_members(
    problem: Problem, wish: Wish, mask: BoolArray, *, leaning: bool = False
) -> tuple[Int64Array, Neighbours | None]:
    """``times_on`` of now, no more than may be on each node; and what there is to heed besides (with ``leaning`` also
    what is not required), None if nothing."""
    times = times_on(problem, wish, mask)
    neighbours = neighbours_of(problem, wish, mask, leaning=leaning)
    if neighbours is None:
        return times, None
    return neighbours.limit(times), neighbours if neighbours.moving else None


def times_on(
    problem: Problem,
    wish: Wish,
    mask: BoolArray,
    free: Int64Array | None = None,
    devices: npt.NDArray[np.int32] | None = None,
    custom: Int64Array | None = None,
) -> Int64Array:
    """int64 per node: how many instances fit one after the other, as far as amounts and devices say; 0 outside of
    ``mask``. ``free``, ``devices``, ``custom``: to use instead of what is free now, of all nodes; with ``free`` alone
    custom resources do not count, and of ports only that a fixed one is there once."""
    times: Int64Array = np.zeros(len(problem), dtype=np.int64)
    nodes = np.flatnonzero(mask)
    if not len(nodes):
        return times
    if free is None:
        nodes = nodes[has_room(problem, wish, nodes)]
    here = (problem.free if free is None else free)[nodes]
    fits = np.where((here < 0).any(axis=1), 0, ENDLESS)
    for dimension, amount in enumerate(wish.request):
        if amount:
            np.minimum(fits, np.maximum(here[:, dimension], 0) // amount, out=fits)
    if wish.gpus is not None and len(nodes):
        mine = None if devices is None else devices[nodes]
        np.minimum(fits, problem.devices.times(wish.gpus, nodes, mine), out=fits)
    if free is None or custom is not None:
        problem.custom.limit(fits, wish.custom, nodes, custom)
    if wish.ports and free is None:
        by_ports = [problem.ports.times(node, wish.ports) for node in nodes.tolist()]
        np.minimum(fits, np.array(by_ports, dtype=np.int64), out=fits)
    elif any(wish.ports):
        np.minimum(fits, 1, out=fits)
    times[nodes] = fits
    return times


def _scores(problem: Problem, wish: Wish, times: Int64Array) -> Int64Array:
    """The policy's opinion of each node, for ties."""
    scores = np.full(len(problem), NOWHERE, dtype=np.int64)
    nodes = np.flatnonzero(times > 0)
    nodes = nodes[has_room(problem, wish, nodes)] if len(nodes) else nodes
    if len(nodes):
        scores[nodes] = registry.get(wish.policy).scores(problem, wish, nodes)
    return scores


# ---------------------------------------------------------------------------- choosing


@dataclass(frozen=True, slots=True)
class _Chosen:
    """``nodes[i]`` takes ``counts[i]`` instances, in this order, and a node may come again; ``island`` >= 0: on one
    node, from that island's devices alone."""

    nodes: list[int]
    counts: list[int]
    island: int = -1


def _choose(
    problem: Problem,
    wish: Wish,
    ask: Ask,
    wanted: int,
    times: Int64Array,
    scores: Int64Array,
    preferred: Int64Array,
    neighbours: Neighbours | None,
) -> _Chosen | None:
    """``preferred``: int64 per node, more is better, however the members are placed."""
    assert wish.gang is not None, "the caller has seen that it is a gang"
    limit = wish.gang.domain
    peers = problem.numbers(np.unique(ask.peers).astype(np.int32))
    if wish.gpus is not None:
        homes = home_islands(problem, ask)
        single = _choose_island(problem, wish, wanted, times, scores, preferred, peers, homes, neighbours)
        if single is not None:
            return single
    levels = np.unique(preferred[times > 0])[::-1].tolist()
    levels = [*levels[: LEVELS_MAX - 1], levels[-1]] if len(levels) > LEVELS_MAX else levels
    for domain in LARGER:
        if domain > limit:
            return None
        where, _ = numbered(problem.nodes, domain)
        if not len(_holding(where, peers, wanted, times)[0]):
            continue
        for level in levels:
            here = np.where(preferred >= level, times, 0)
            found = _choose_in(problem, where, peers, wanted, here, scores, neighbours)
            if found is not None:
                return found
    return None


def _holding(where: Int64Array, peers: Int64Array, wanted: int, times: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The domains that hold so many, as far as amounts say, and how many each holds."""
    room = np.bincount(where, weights=np.minimum(times, wanted), minlength=int(where.max(initial=-1)) + 1)
    if len(peers):
        # It joins those that run: their domain, or none of this size.
        homes = np.unique(where[peers])
        only = room[homes[0]] if len(homes) == 1 else 0.0
        room[:] = 0
        if only:
            room[homes[0]] = only
    return np.flatnonzero(room >= wanted), room.astype(np.int64)


def _choose_in(
    problem: Problem,
    where: Int64Array,
    peers: Int64Array,
    wanted: int,
    times: Int64Array,
    scores: Int64Array,
    neighbours: Neighbours | None,
) -> _Chosen | None:
    """``where``: the domain of each node, of one size."""
    enough, room = _holding(where, peers, wanted, times)
    spare = {one: (int(room[one]), -_best_score(scores, where == one), one) for one in enough.tolist()}
    if spare and neighbours is None:
        nodes = _in(where, min(spare, key=spare.__getitem__), times)
        return _fill(problem, nodes, wanted, times, scores)
    for one in sorted(spare, key=spare.__getitem__):
        nodes = _most_room_first(problem, _in(where, one, times), times, scores)
        found = neighbours.fill(nodes, times, wanted) if neighbours is not None else []
        if len(found) == wanted:
            return _Chosen(found, [1] * wanted)
    return None


def _best_score(scores: Int64Array, mask: BoolArray) -> int:
    return int(scores[mask].max(initial=NOWHERE))


def _choose_island(
    problem: Problem,
    wish: Wish,
    wanted: int,
    times: Int64Array,
    scores: Int64Array,
    preferred: Int64Array,
    peers: Int64Array,
    homes: frozenset[int] | None,
    neighbours: Neighbours | None,
) -> _Chosen | None:
    """All in one island of one node. ``homes``: as ``home_islands``."""
    assert wish.gpus is not None, "the caller has seen that"
    devices = problem.devices
    best: tuple[int, int, int, int, int] | None = None
    for node in np.flatnonzero(times >= wanted).tolist():
        if len(peers) and not (len(peers) == 1 and peers[0] == node):
            continue
        if neighbours is not None and len(neighbours.fill(np.array([node]), times, wanted)) < wanted:
            continue
        for island, fits in fits_by_island(problem, wish, node, devices.free[node], homes).items():
            spare = fits - wanted
            key = (-int(preferred[node]), spare, -int(scores[node]), node, island)
            if spare >= 0 and (best is None or key < best):
                best = key
    return None if best is None else _Chosen([best[3]], [wanted], best[4])


def home_islands(problem: Problem, ask: Ask) -> frozenset[int] | None:
    """The islands in which members of the gang run, of the node that they share: whoever is missing joins them there.
    None: nobody runs, so any will do."""
    if not len(ask.peers):
        return None
    columns, specs = problem.view.allocations, dict(ask.job.specs)
    name = ask.job.spec.groups[ask.group].name
    found: set[int] = set()
    # Rows are in the order of job slots; a group is the same whatever its place in a version.
    begin, end = np.searchsorted(columns.job, [ask.job.slot, ask.job.slot + 1]).tolist()
    for position in range(begin, end):
        groups = specs.get(int(columns.version[position]), ask.job.spec).groups
        place, node = int(columns.group[position]), problem.number_of_slot.get(int(columns.node[position]), -1)
        if not columns.live[position] or node < 0 or place >= len(groups) or groups[place].name != name:
            continue
        mask = int(columns.device_mask[position])
        found.update(one.island for at, one in enumerate(problem.nodes[node].spec.devices) if mask >> at & 1)
    return frozenset(found)


def fits_by_island(
    problem: Problem, wish: Wish, node: int, free: npt.NDArray[np.int32], homes: frozenset[int] | None
) -> dict[int, int]:
    """How many instances the devices of each island of a node suffice for, of ``homes`` alone where some are given.
    ``free``: millis of each device."""
    assert wish.gpus is not None, "the caller has seen that"
    request, devices = wish.gpus, problem.devices
    usable = devices.matching(request)[node] & ~devices.closed[node] & (free >= request.gpu_millis)
    members: dict[int, int] = {}
    for number in np.flatnonzero(usable).tolist():
        fits = 1 if request.count > 1 else int(free[number]) // request.gpu_millis
        island = problem.nodes[node].spec.devices[number].island
        if homes is not None and island not in homes:
            continue
        members[island] = members.get(island, 0) + fits
    return {island: fits // request.count for island, fits in members.items()}


def _fill(problem: Problem, nodes: Int64Array, wanted: int, times: Int64Array, scores: Int64Array) -> _Chosen:
    """Most room first, by zone, then by rack, then by node; the last part is the smallest that does."""
    chosen: list[int] = []
    counts: list[int] = []

    def pour(members: Int64Array, level: int, left: int) -> int:
        """How many of ``left`` are still without a node."""
        if level == len(_PARTS):
            node = int(members[0])
            taken = min(left, int(times[node]))
            chosen.append(node)
            counts.append(taken)
            return left - taken
        where, _ = numbered([problem.nodes[node] for node in members.tolist()], _PARTS[level])
        parts = [members[where == part] for part in range(int(where.max()) + 1)]
        rooms = [int(np.minimum(times[part], left).sum()) for part in parts]
        bests = [int(scores[part].max(initial=NOWHERE)) for part in parts]
        order = sorted(range(len(parts)), key=lambda at: (-rooms[at], -bests[at], int(parts[at][0])))
        while left and order:
            enough = [at for at in order if rooms[at] >= left]
            at = min(enough, key=lambda one: (rooms[one], -bests[one], int(parts[one][0]))) if enough else order[0]
            order.remove(at)
            left = pour(parts[at], level + 1, left)
        return left

    pour(nodes, 0, wanted)
    return _Chosen(chosen, counts)


_PARTS = (GangDomain.ZONE, GangDomain.RACK, GangDomain.NODE)


def _most_room_first(problem: Problem, nodes: Int64Array, times: Int64Array, scores: Int64Array) -> Int64Array:
    """The nodes by the room of their zone, then of their rack, then their own: few are used if the first ones are."""
    records = [problem.nodes[node] for node in nodes.tolist()]
    keys: list[Int64Array] = []
    for part in _PARTS:
        where, _ = numbered(records, part)
        rooms = np.bincount(where, weights=np.minimum(times[nodes], MOST)).astype(np.int64) if len(nodes) else where
        keys += [-rooms[where], where]
    return nodes[np.lexsort((nodes, -scores[nodes], *reversed(keys[:-1])))]


# ---------------------------------------------------------------------------- trying


def _try(problem: Problem, wish: Wish, chosen: _Chosen) -> tuple[list[Place], int]:
    """Take room for all of it; if a node does not have it after all, nothing is taken, and that node is named."""
    nodes = np.array(chosen.nodes, dtype=np.int64)
    free, devices = problem.free[nodes].copy(), problem.devices.free[nodes].copy()
    closed, custom = problem.devices.closed[nodes].copy(), problem.custom.free[nodes].copy()
    restore_ports = problem.ports.remember(chosen.nodes) if wish.ports else None
    if chosen.island >= 0:
        for number, device in enumerate(problem.nodes[chosen.nodes[0]].spec.devices):
            if device.island != chosen.island:
                problem.devices.closed[chosen.nodes[0], number] = True
    found: list[Place] = []
    stuck = -1
    for node, count in zip(chosen.nodes, chosen.counts, strict=True):
        where = np.array([node], dtype=np.int64)
        for _ in range(count):
            if not bool(has_room(problem, wish, where)[0]):
                stuck = node
                break
            numbers, ports = problem.take(node, wish)
            found.append((node, numbers, ports))
        if stuck >= 0:
            break
    problem.devices.closed[nodes] = closed
    if stuck >= 0:
        problem.free[nodes], problem.devices.free[nodes], problem.custom.free[nodes] = free, devices, custom
        if restore_ports is not None:
            restore_ports()
    return found, stuck


# ---------------------------------------------------------------------------- explaining


def nearest(problem: Problem, wish: Wish, peers: npt.NDArray[np.int32], wanted: int) -> Nearest | None:
    """The domain, no larger than allowed, that takes the most instances now (``wanted`` or more are as good as any);
    None: no node takes any."""
    assert wish.gang is not None, "the caller has seen that it is a gang"
    times, neighbours = room_for_members(problem, wish, suitable(problem, wish))
    at = problem.numbers(np.unique(peers).astype(np.int32))
    domain = max(wish.gang.domain, GangDomain.NODE)
    where, names = numbered(problem.nodes, domain)
    room = np.bincount(where, weights=np.minimum(times, MOST), minlength=len(names)).astype(np.int64)
    if len(at):
        homes = np.unique(where[at])
        room[np.setdiff1d(np.arange(len(names)), homes)] = 0
    if neighbours is not None:
        most = 0
        for one in np.lexsort((np.arange(len(room)), -room)).tolist():
            room[one] = 0 if room[one] <= most else len(neighbours.fill(_in(where, one, times), times, wanted))
            most = max(most, int(room[one]))
    if not len(room) or not int(room.max()):
        return None
    best = int(room.argmax())
    first = problem.nodes[int(np.flatnonzero(where == best)[0])].spec.name
    named = domain in (GangDomain.RACK, GangDomain.ZONE) and names[best]
    return Nearest(domain=domain, name=names[best] if named else first, fits=int(room[best]))


def _in(where: Int64Array, part: int, times: Int64Array) -> Int64Array:
    return np.flatnonzero((where == part) & (times > 0))


def alone(wish: Wish) -> Wish:
    """The wish of one member, as if it were no gang."""
    return wish._replace(gang=None)


__all__: Sequence[str] = (
    "Nearest",
    "Place",
    "alone",
    "fits_by_island",
    "home_islands",
    "nearest",
    "place",
    "room_for_members",
    "times_on",
)
