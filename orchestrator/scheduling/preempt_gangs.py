"""Room for a gang: in which domain to make it, so that all of the gang fits and the least is evicted.

Owns: the choice of the domain. Leaves to others: room for one instance (``preempt``), the least harm on one node
(``harm``), what domains there are (``domains``), placing the gang once the room is there (``gangs``). The rules:

- A domain comes into question where all of the gang would fit if everything of a lower priority ended. Of each size
  ``DOMAINS_MAX`` are tried, those first that will have room for the most instances without evicting anybody.
- The least harm wins: nobody before anybody, then the lowest highest priority of a victim, then the fewest victims,
  then the smaller domain. Whoever finds one in which nobody needs to be evicted looks no further, so while victims stop
  no others are chosen.
- Nodes that were kept for the gang are given back once room is made: that is held by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.contract.model import GangDomain
from orchestrator.scheduling.domains import numbered
from orchestrator.scheduling.filters import suitable
from orchestrator.scheduling.gangs import LARGER, home_islands, times_on
from orchestrator.scheduling.preempt import Preemption
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import Ask, Int64Array, Wish

DOMAINS_MAX = 4
"""Of each size, how many domains are tried."""


@dataclass(frozen=True, slots=True, eq=False)
class _Domain:
    """``island`` >= 0: only that one's devices of its one node."""

    nodes: Int64Array
    island: int = -1


def make_room(preemption: Preemption, ask: Ask, wish: Wish, places: Sequence[int], number: int) -> None:
    """Find and hold room for all of the gang, or for none of it. ``number``: its own, for ``Problem.held_for``."""
    problem = preemption.problem
    preemption.asks += 1
    kept = np.flatnonzero(problem.held_for == number)
    problem.held_for[kept] = -1
    begun = len(preemption.evictions)
    best: tuple[tuple[int, int], _Domain] | None = None
    budgets: dict[str, str] = {}
    for domain in _domains(preemption, ask, wish):
        mark = preemption.mark(ports=any(wish.ports))
        harm = preemption.harm_since(begun) if _try(preemption, ask, wish, places, domain) else None
        if harm is not None and not harm[1]:
            best = harm, domain
            break  # and what was held stays so
        budgets |= preemption.budgets_of(ask)
        preemption.undo(mark)
        if harm is not None and (best is None or harm < best[0]):
            best = harm, domain
    if best is None:
        problem.held_for[kept] = number
        preemption.not_met(ask, len(places), budgets)
        preemption.give_up(ask, wish)
        return
    (_, victims), domain = best
    if victims:
        done = _try(preemption, ask, wish, places, domain)
        assert done, "it was possible a moment ago"
    problem.waiting.pop(number, None)


def _try(preemption: Preemption, ask: Ask, wish: Wish, places: Sequence[int], domain: _Domain) -> bool:
    if domain.island < 0:
        return preemption.make_room_together(ask, wish, places, domain.nodes)
    node, closed = int(domain.nodes[0]), preemption.problem.devices.closed
    before = closed[node].copy()
    for number, device in enumerate(preemption.problem.nodes[node].spec.devices):
        closed[node, number] |= device.island != domain.island
    preemption.look_again()  # what is known of this node was with all of its devices
    try:
        return preemption.make_room_together(ask, wish, places, domain.nodes)
    finally:
        closed[node] = before
        preemption.look_again()


def _domains(preemption: Preemption, ask: Ask, wish: Wish) -> Iterator[_Domain]:
    """Those that come into question, small ones first, those with the most room of each size first."""
    assert wish.gang is not None, "the caller has seen that it is a gang"
    problem, wanted = preemption.problem, len(ask.ordinals)
    mask = suitable(problem, wish)
    free, devices, free_at_most, devices_at_most = preemption.later(ask.job.spec.priority)
    soon = np.minimum(times_on(problem, wish, mask, free, devices), wanted)
    most = np.minimum(times_on(problem, wish, mask, free_at_most, devices_at_most), wanted)
    neighbours = preemption.neighbours(wish)
    if neighbours is not None:
        soon, most = neighbours.limit(soon), neighbours.limit(most)
    peers = problem.numbers(np.unique(ask.peers).astype(np.int32))
    limit = wish.gang.domain
    for domain in (GangDomain.ISLAND, *LARGER):
        if domain > limit or (domain is GangDomain.ISLAND and wish.gpus is None):
            continue
        where, _ = numbered(problem.nodes, max(domain, GangDomain.NODE))
        size = int(where.max(initial=-1)) + 1
        rooms = np.bincount(where, weights=most, minlength=size)
        now = np.bincount(where, weights=soon, minlength=size)
        homes = np.unique(where[peers])
        if len(homes):
            # It joins those that run: their domain, or none of this size.
            rooms[np.setdiff1d(np.arange(size), homes if len(homes) == 1 else ())] = 0
        enough = np.flatnonzero(rooms >= wanted)
        for one in enough[np.lexsort((enough, -rooms[enough], -now[enough]))][:DOMAINS_MAX].tolist():
            nodes = np.flatnonzero((where == one) & (most > 0))
            if domain is GangDomain.ISLAND:
                islands, mine = _islands(problem, int(nodes[0])), home_islands(problem, ask)
                yield from (_Domain(nodes, island) for island in islands if mine is None or island in mine)
                continue
            for part in neighbours.parts(nodes) if neighbours is not None else [nodes]:
                if int(most[part].sum()) >= wanted:
                    yield _Domain(part)


def _islands(problem: Problem, node: int) -> list[int]:
    return sorted({device.island for device in problem.nodes[node].spec.devices})
