"""round-robin: each instance to the next node that has room, going round in the order of registration.

The round starts after the node that the group's latest placement went to, which is read from the state: there is no
cursor to lose when the leader changes.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.policy import NOWHERE, Turn
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import Int64Array, Wish


class RoundRobin:
    name = "round-robin"
    summary = "the next node that fits, after the group's latest placement"
    knows_groups = True
    big_first = False
    fullest_first = False

    def scores(self, problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
        return np.zeros(len(nodes), dtype=np.int64)

    def choose(self, scores: Int64Array, turn: Turn) -> int:
        fitting = np.flatnonzero(scores != NOWHERE)
        after = int(np.searchsorted(fitting, turn.last, side="right"))
        return int(fitting[after % len(fitting)])

    def place_many(
        self, problem: Problem, wish: Wish, scores: Int64Array, times: Int64Array, wanted: int, turn: Turn
    ) -> Int64Array:
        """Round r serves the nodes on which the wish fits more than r times; a node that is full drops out."""
        fitting = np.flatnonzero(scores != NOWHERE)
        after = int(np.searchsorted(fitting, turn.last, side="right"))
        circle = np.roll(fitting, -after)
        room = np.minimum(times[circle], wanted)
        rounds = _whole_rounds(room, wanted)
        share = np.minimum(room, rounds)
        partly = np.flatnonzero(room > rounds)[: wanted - int(share.sum())]
        share[partly] += 1
        place = np.repeat(np.arange(len(circle)), share)
        number = np.arange(len(place)) - np.repeat(np.cumsum(share) - share, share)
        return circle[place[np.lexsort((place, number))]]


def _whole_rounds(room: Int64Array, wanted: int) -> int:
    """The most rounds that can be served in full: sum(min(room, rounds)) <= wanted."""
    low, high = 0, wanted
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(room, middle).sum()) <= wanted:
            low = middle
        else:
            high = middle - 1
    return low
