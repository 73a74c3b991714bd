"""spread: the node with the fewest allocations of the same group, so that losing one node costs few of them.

Among those the one that will be least full (``scoring``).
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.policy import NOWHERE, Turn
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.scoring import SCALE, utilisation
from orchestrator.scheduling.wish import Int64Array, Wish

LEVEL = 1 << 40
"""Weight of one allocation of the group: more than any utilisation, also of a node far over a shrunken capacity."""


class Spread:
    name = "spread"
    summary = "the node with the fewest instances of the group"
    knows_groups = True
    big_first = False
    fullest_first = False

    def scores(self, problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
        return -_fullness(problem, wish, nodes, 1)

    def choose(self, scores: Int64Array, turn: Turn) -> int:
        return int(np.argmax(np.where(scores == NOWHERE, scores, scores - LEVEL * turn.counts)))

    def place_many(
        self, problem: Problem, wish: Wish, scores: Int64Array, times: Int64Array, wanted: int, turn: Turn
    ) -> Int64Array:
        """Water-filling: every node's next placements have ever higher keys (level, fullness), so the ``wanted`` lowest
        of all of them, in order, are what choosing one by one gives."""
        nodes = np.flatnonzero(scores != NOWHERE)
        counts = turn.counts[nodes]
        room = np.minimum(times[nodes], wanted)
        level = _water_level(counts, room, wanted)
        share = np.clip(level - counts, 0, room)
        rest = wanted - int(share.sum())
        if rest:
            rim = np.flatnonzero((counts + share == level) & (share < room))
            fullness = _fullness(problem, wish, nodes[rim], share[rim] + 1)
            share[rim[np.argsort(fullness, kind="stable")[:rest]]] += 1
        place = np.repeat(np.arange(len(nodes)), share)
        number = np.arange(len(place)) - np.repeat(np.cumsum(share) - share, share)
        fullness = _fullness(problem, wish, nodes[place], number + 1)
        return nodes[place[np.lexsort((place, fullness, counts[place] + number))]]


def _fullness(problem: Problem, wish: Wish, nodes: Int64Array, times: Int64Array | int) -> Int64Array:
    """Utilisation, limited so that one allocation more of the group always weighs more."""
    return np.clip(utilisation(problem, wish, nodes, times), 0, SCALE * 1000)


def _water_level(counts: Int64Array, room: Int64Array, wanted: int) -> int:
    """The highest level to which all nodes can be filled: sum(clip(level - counts, 0, room)) <= wanted."""
    if not len(counts):
        return 0
    low, high = int(counts.min()), int(counts.max()) + wanted + 1
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.clip(middle - counts, 0, room).sum()) <= wanted:
            low = middle
        else:
            high = middle - 1
    return low
