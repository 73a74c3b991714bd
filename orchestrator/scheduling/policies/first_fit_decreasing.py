"""first-fit-decreasing: big ones first, each to the first node that has room, in the order of registration.

Within one priority the asks of this policy trade places so that the largest come first; size is the sum of what is
asked as shares of the whole cluster, devices included (``solve``). Where one resource is what counts and nodes are
equal, it uses at most 11/9 of the fewest possible nodes, and one more.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.policy import NOWHERE, Turn
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.scoring import fill_in_order
from orchestrator.scheduling.wish import Int64Array, Wish


class FirstFitDecreasing:
    name = "first-fit-decreasing"
    summary = "largest first, each to the first node that fits"
    knows_groups = False
    big_first = True
    fullest_first = False

    def scores(self, problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
        return -nodes

    def choose(self, scores: Int64Array, turn: Turn) -> int:
        return int(np.argmax(scores))

    def place_many(
        self, problem: Problem, wish: Wish, scores: Int64Array, times: Int64Array, wanted: int, turn: Turn
    ) -> Int64Array:
        return fill_in_order(np.flatnonzero(scores != NOWHERE), times, wanted)
