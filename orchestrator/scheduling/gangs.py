"""Gangs: all instances in the smallest domain that holds them, or none; and no gang waits for ever behind small jobs.

Owns: how often a wish fits on each node, choosing domain and nodes, trying it out, and what is kept for a gang that
waits. Leaves to others: the queue (``solve``), when a gang is asked for (``reconcile.gangs``), where members may be
because of each other and of other jobs (``neighbours``), rechecking (``state.apply_gangs``). The rules:

- Domains from small to large: island, node, rack, zone, cluster, up to the one the gang names. Of the domains of one
  size that hold it, the one with the least room to spare; inside, the parts with the most room first, so that few nodes
  are used, and the last part is the smallest that does. Equal ones: by the job's placement policy, then by number.
- A gang holds nothing until all of it has a place, so two gangs never wait for each other.
- A gang that finds no place keeps nodes to itself: those that are nearest to giving it room, as many as it needs, as
  soon as what is free there and what ends by itself there (batch work, and what is stopping) would do. Whoever comes
  later in the queue goes elsewhere, that is, it is placed only where it cannot delay the gang; system jobs go anywhere.
  The room on kept nodes only grows, so the gang gets its turn once enough of that work has ended. Services do not end
  by themselves: no room is kept where only they could give way, unless they are evicted for it (``preempt_gangs``). At
  most ``HELD_GANGS`` gangs keep nodes, the first of the queue; the kept nodes are chosen anew in each round, so nothing
  is stored.

Instances are alike, so how often one fits on a node says all; what else may be in the way (ports on a shared engine) is
seen by trying, and the count is then corrected and the choice made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import Desired, GangDomain, JobType
from orchestrator.contract.transitions import TERMINAL
from orchestrator.scheduling import registry
from orchestrator.scheduling.domains import numbered
from orchestrator.scheduling.filters import ENDLESS, has_room, suitable
from orchestrator.scheduling.neighbours import Neighbours, neighbours_of
from orchestrator.scheduling.policy import NOWHERE
from orchestrator.scheduling.presence import Presence
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import Ask, BoolArray, Int64Array, Wish

HELD_GANGS = 4
"""So many waiting gangs may keep nodes to themselves at once."""

Place = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Node, device numbers, host ports of one instance."""

MOST = 1 << 20
"""More instances than any gang has, and few enough to be added up."""
LARGER = (GangDomain.NODE, GangDomain.RACK, GangDomain.ZONE, GangDomain.CLUSTER)

_ENDED = [int(state) for state in TERMINAL]


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
    times, neighbours = room_for_members(problem, wish, mask)
    scores = _scores(problem, wish, times)
    while True:
        chosen = _choose(problem, wish, ask, wanted, times, scores, neighbours)
        if chosen is None:
            return None
        found, stuck = _try(problem, wish, chosen)
        if stuck < 0:
            return found
        # One node took fewer than was thought: count what it took, and choose again.
        times[stuck] = sum(1 for node, _, _ in found if node == stuck)


def room_for_members(problem: Problem, wish: Wish, mask: BoolArray) -> tuple[Int64Array, Neighbours | None]:
    """``times_on`` of now, no more than may be on each node; and what there is to heed besides, None if nothing."""
    times = times_on(problem, wish, mask)
    neighbours = neighbours_of(problem, wish, mask)
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
    custom resources do not count."""
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
    if any(wish.ports):
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
    neighbours: Neighbours | None,
) -> _Chosen | None:
    assert wish.gang is not None, "the caller has seen that it is a gang"
    limit = wish.gang.domain
    peers = problem.numbers(np.unique(ask.peers).astype(np.int32))
    if wish.gpus is not None:
        single = _choose_island(problem, wish, wanted, times, scores, peers, neighbours)
        if single is not None:
            return single
    for domain in LARGER:
        if domain > limit:
            return None
        where, _ = numbered(problem.nodes, domain)
        room = np.bincount(where, weights=np.minimum(times, wanted), minlength=int(where.max(initial=-1)) + 1)
        if len(peers):
            # It joins those that run: their domain, or none of this size.
            homes = np.unique(where[peers])
            only = room[homes[0]] if len(homes) == 1 else 0.0
            room[:] = 0
            if only:
                room[homes[0]] = only
        enough = np.flatnonzero(room >= wanted)
        if not len(enough):
            continue

        spare = {one: (room[one], -_best_score(scores, where == one), one) for one in enough.tolist()}
        if neighbours is None:
            nodes = _in(where, min(spare, key=spare.__getitem__), times)
            return _fill(problem, nodes, wanted, times, scores)
        for one in sorted(spare, key=spare.__getitem__):
            nodes = _most_room_first(problem, _in(where, one, times), times, scores)
            found = neighbours.fill(nodes, times, wanted)
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
    peers: Int64Array,
    neighbours: Neighbours | None,
) -> _Chosen | None:
    """All in one island of one node."""
    assert wish.gpus is not None, "the caller has seen that"
    devices = problem.devices
    best: tuple[int, int, int, int] | None = None
    for node in np.flatnonzero(times >= wanted).tolist():
        if len(peers) and not (len(peers) == 1 and peers[0] == node):
            continue
        if neighbours is not None and len(neighbours.fill(np.array([node]), times, wanted)) < wanted:
            continue
        usable = devices.usable(wish.gpus, np.array([node], dtype=np.int64))[0]
        members: dict[int, int] = {}
        for number in np.flatnonzero(usable).tolist():
            fits = 1 if wish.gpus.count > 1 else int(devices.free[node, number]) // wish.gpus.gpu_millis
            island = problem.nodes[node].spec.devices[number].island
            members[island] = members.get(island, 0) + fits
        for island, fits in members.items():
            spare = fits // wish.gpus.count - wanted
            key = (spare, -int(scores[node]), node, island)
            if spare >= 0 and (best is None or key < best):
                best = key
    return None if best is None else _Chosen([best[2]], [wanted], best[3])


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


# ---------------------------------------------------------------------------- waiting


@dataclass(frozen=True, slots=True, eq=False)
class Ending:
    """Batch work that this very round has placed, one row each: node, request (int64, three columns), device mask,
    millis of each device."""

    node: Int64Array
    request: Int64Array
    mask: npt.NDArray[np.uint64]
    millis: Int64Array


def hold(problem: Problem, wish: Wish, ask: Ask, number: int, placed: Ending) -> bool:
    """Keep nodes for a gang that has found no place; whether any are. ``number``: its own, for ``held_for``."""
    assert wish.gang is not None, "the caller has seen that it is a gang"
    if len(problem.waiting) >= HELD_GANGS:
        return False
    nodes = _nodes_to_hold(problem, wish, ask, placed)
    if not len(nodes):
        return False
    spec = ask.job.spec
    problem.held_for[nodes] = number
    problem.waiting[number] = f"{spec.name}/{spec.groups[ask.group].name}"
    return True


def _nodes_to_hold(problem: Problem, wish: Wish, ask: Ask, placed: Ending) -> Int64Array:
    """The nodes of one domain that are nearest to giving the gang room, as many as it needs; none if it is no use."""
    assert wish.gang is not None, "the caller has seen that it is a gang"
    wanted = len(ask.ordinals)
    mask = suitable(problem, wish)
    now = times_on(problem, wish, mask)
    ending = _ending(problem)
    free, devices, custom = _room_later(problem, ending, placed)
    later = np.maximum(now, times_on(problem, wish, mask, free, devices, custom))
    neighbours = neighbours_of(problem, wish, mask, Presence(problem.view, *ending, len(problem)))
    if neighbours is not None:
        now, later = neighbours.limit(now), neighbours.limit(later)
    peers = problem.numbers(np.unique(ask.peers).astype(np.int32))
    nearness = _nearness(problem, wish)
    best: tuple[tuple[int, int, int], Int64Array] | None = None
    for domain in LARGER:
        if domain > max(wish.gang.domain, GangDomain.NODE):
            break
        where, _ = numbered(problem.nodes, domain)
        homes = np.unique(where[peers]) if len(peers) else None
        if homes is not None and len(homes) != 1:
            continue
        rooms = np.bincount(where, weights=np.minimum(later, wanted), minlength=int(where.max(initial=-1)) + 1)
        for one in np.flatnonzero(rooms >= wanted).tolist():
            if homes is not None and one != homes[0]:
                continue
            members = np.flatnonzero((where == one) & (later > 0))
            order = members[np.lexsort((members, -later[members], -nearness[members], -now[members]))]
            needed = int(np.searchsorted(np.cumsum(np.minimum(later[order], wanted)), wanted)) + 1
            kept = order[:needed]
            if neighbours is not None and neighbours.moving:
                found = neighbours.fill(order, later, wanted)
                if len(found) < wanted:
                    continue
                kept = np.unique(np.array(found, dtype=np.int64))
            key = (-int(np.minimum(now[kept], wanted).sum()), -int(nearness[kept].sum()), one)
            if best is None or key < best[0]:
                best = key, kept
        if best is not None:
            return best[1]
    return np.zeros(0, dtype=np.int64)


def _nearness(problem: Problem, wish: Wish) -> Int64Array:
    """int64 per node: how much of what one instance needs is free, in thousandths, the scarcest thing counting."""
    nodes = np.arange(len(problem), dtype=np.int64)
    near = np.full(len(problem), 1000, dtype=np.int64)
    for dimension, amount in enumerate(wish.request):
        if amount:
            np.minimum(near, np.maximum(problem.free[:, dimension], 0) * 1000 // amount, out=near)
    if wish.gpus is not None:
        usable = problem.devices.usable(wish.gpus, nodes).sum(axis=1)
        np.minimum(near, usable * 1000 // wish.gpus.count, out=near)
    return near


def _ending(problem: Problem) -> tuple[Int64Array, Int64Array]:
    """What there is that ends by itself, batch work and what is stopping: positions, and numbers of the nodes."""
    view = problem.view
    columns = view.allocations
    ends = np.zeros(max(view.jobs_by_slot, default=-1) + 2, dtype=np.bool_)
    for slot, job in view.jobs_by_slot.items():
        ends[slot] = job.spec.type is JobType.BATCH
    live = ~np.isin(columns.state, _ENDED)
    if problem.given_up is not None:
        live[problem.given_up] = False
    ending = live & (ends[np.minimum(columns.job, len(ends) - 1)] | (columns.desired == Desired.STOP))
    positions = np.flatnonzero(ending)
    at = np.minimum(np.searchsorted(problem.slots, columns.node[positions]), max(len(problem.slots) - 1, 0))
    known = problem.slots[at] == columns.node[positions] if len(problem.slots) else np.zeros(len(at), dtype=np.bool_)
    return positions[known], at[known].astype(np.int64)


def _room_later(
    problem: Problem, ending: tuple[Int64Array, Int64Array], placed: Ending
) -> tuple[Int64Array, npt.NDArray[np.int32], Int64Array]:
    """What is free per node, per device, and of custom resources, once these have ended. Of ``placed`` the custom
    resources are not known, and count as taken."""
    columns = problem.view.allocations
    positions, at = ending
    free, devices = problem.free.copy(), problem.devices.free.copy()
    for dimension, column in enumerate((columns.cpu_millis, columns.memory_mib, columns.disk_mib)):
        np.add.at(free[:, dimension], at, column[positions])
    np.add.at(free, placed.node, placed.request)
    masks = np.concatenate([columns.device_mask[positions], placed.mask])
    millis = np.concatenate([columns.gpu_millis[positions], placed.millis])
    where = np.concatenate([at, placed.node])
    for number in range(devices.shape[1]):
        has = (masks >> np.uint64(number)) & np.uint64(1) == 1
        np.add.at(devices[:, number], where[has], millis[has])
    custom = problem.custom.free.copy()
    if columns.custom:
        for place, row in enumerate(columns.row[positions].tolist()):
            if row in columns.custom:
                problem.custom.add(custom, int(at[place]), columns.custom[row], 1)
    return free, devices, custom


# ---------------------------------------------------------------------------- explaining


def nearest(problem: Problem, wish: Wish, peers: npt.NDArray[np.int32], number: int, wanted: int) -> Nearest | None:
    """The domain, no larger than allowed, that takes the most instances now (``wanted`` or more are as good as any);
    None: no node takes any. ``number``: the gang's own, so that what is kept for it counts."""
    assert wish.gang is not None, "the caller has seen that it is a gang"
    kept = problem.held_for.copy()
    problem.held_for[kept == number] = -1
    times, neighbours = room_for_members(problem, wish, suitable(problem, wish))
    problem.held_for[:] = kept
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
    "HELD_GANGS",
    "Nearest",
    "Place",
    "alone",
    "hold",
    "nearest",
    "place",
    "room_for_members",
    "times_on",
)
