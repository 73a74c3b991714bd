"""What is kept for a gang that has found no place, so that small jobs behind it do not take it bit by bit.

Owns: which nodes are kept, and whether it is of use. Leaves to others: the queue (``solve``), who is kept off
(``filters``, ``explain``), eviction (``preempt_gangs``). The rules:

- A gang keeps nodes that are nearest to giving it room, as many as it needs, as soon as what is free there and what
  ends by itself there (batch work, and what is stopping) would do. Whoever comes later in the queue goes elsewhere,
  that is, it is placed only where it cannot delay the gang; system jobs go anywhere.
- The room on kept nodes only grows, so the gang gets its turn once enough of that work has ended. So nothing is kept
  where something would still be in the way then: room, devices of one island, custom resources or host ports that
  services have, which do not end by themselves (unless they are evicted for it), or conditions of the gang itself.
- At most ``HELD_GANGS`` gangs keep nodes, the first of the queue; the kept nodes are chosen anew in each round, so
  nothing is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import Desired, GangDomain, JobType
from orchestrator.contract.transitions import TERMINAL
from orchestrator.scheduling.domains import numbered
from orchestrator.scheduling.filters import ENDLESS, suitable
from orchestrator.scheduling.gangs import LARGER, fits_by_island, home_islands, times_on
from orchestrator.scheduling.neighbours import neighbours_of
from orchestrator.scheduling.presence import Presence
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import Ask, Int64Array, Wish

HELD_GANGS = 4
"""So many waiting gangs may keep nodes to themselves at once."""

_ENDED = [int(state) for state in TERMINAL]


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
    later = np.minimum(times_on(problem, wish, mask, free, devices, custom), _ports_later(problem, wish, ending))
    if wish.gang.domain is GangDomain.ISLAND:
        mine = home_islands(problem, ask)
        _of_one_island(problem, wish, now, problem.devices.free, mine)
        _of_one_island(problem, wish, later, devices, mine)
    later = np.maximum(now, later)
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
        rooms = np.bincount(where, weights=np.minimum(later, wanted))
        for one in np.flatnonzero(rooms >= wanted).tolist():
            if homes is not None and one != homes[0]:
                continue
            members = np.flatnonzero((where == one) & (later > 0))
            order = members[np.lexsort((members, -later[members], -nearness[members], -now[members]))]
            if any(wish.ports):
                order = _one_a_host(problem, order)
            if int(np.minimum(later[order], wanted).sum()) < wanted:
                continue
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


def _ports_later(problem: Problem, wish: Wish, ending: tuple[Int64Array, Int64Array]) -> Int64Array:
    """int64 per node: for how many instances its host ports suffice once these have ended."""
    if not wish.ports:
        return np.full(len(problem), ENDLESS, dtype=np.int64)
    columns, ports = problem.view.allocations, problem.ports
    rows = zip(columns.row[ending[0]].tolist(), ending[1].tolist(), strict=True)
    coming = [(node, columns.ports[row]) for row, node in rows if row in columns.ports]
    for node, theirs in coming:
        ports.release(node, theirs)
    times = [ports.times(node, wish.ports) for node in range(len(problem))]
    for node, theirs in coming:
        ports.occupy(node, theirs)
    return np.array(times, dtype=np.int64)


def _of_one_island(
    problem: Problem, wish: Wish, times: Int64Array, devices: npt.NDArray[np.int32], mine: frozenset[int] | None
) -> None:
    """No more on a node than its best island takes, of those in which members run. ``devices``: what is free of each,
    of all nodes."""
    for node in np.flatnonzero(times).tolist() if wish.gpus is not None else ():
        most = max(fits_by_island(problem, wish, node, devices[node], mine).values(), default=0)
        times[node] = min(int(times[node]), most)


def _one_a_host(problem: Problem, nodes: Int64Array) -> Int64Array:
    """The first of the nodes on each engine: a fixed port is there once."""
    seen: set[int] = set()
    first = []
    for node in nodes.tolist():
        if node not in seen:
            first.append(node)
            seen.update(problem.ports.neighbours(node))
    return np.array(first, dtype=np.int64)


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
    ends = np.zeros(max(view.jobs_by_slot, default=-1) + 1, dtype=np.bool_)
    for slot, job in view.jobs_by_slot.items():
        ends[slot] = job.spec.type is JobType.BATCH
    live = ~np.isin(columns.state, _ENDED)
    if problem.given_up is not None:
        live[problem.given_up] = False
    ending = live & (ends[columns.job] | (columns.desired == Desired.STOP))
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
