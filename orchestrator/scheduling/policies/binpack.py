"""binpack: the node that will be fullest, so that few nodes are used and whole ones stay free. The default.

Score: utilisation after the placement (``scoring``). An instance without devices goes to nodes that have devices only
when no other node has room: there it would take the cpu that somebody needs beside a GPU.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.policy import NOWHERE, Turn
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.scoring import SCALE, fill_in_order, utilisation
from orchestrator.scheduling.wish import Int64Array, Wish


class BinPack:
    name = "binpack"
    summary = "the fullest node that fits; without GPUs, nodes that have GPUs come last"
    knows_groups = False
    big_first = False
    fullest_first = True

    def scores(self, problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
        score = utilisation(problem, wish, nodes)
        if wish.gpus is None and problem.devices.any:
            score = score - (2 * SCALE) * (problem.devices.capacity[nodes] > 0)
        return score

    def choose(self, scores: Int64Array, turn: Turn) -> int:
        return int(np.argmax(scores))

    def place_many(
        self, problem: Problem, wish: Wish, scores: Int64Array, times: Int64Array, wanted: int, turn: Turn
    ) -> Int64Array:
        """The best node only gets better by what is put on it, so the nodes fill up one after the other."""
        fitting = np.flatnonzero(scores != NOWHERE)
        return fill_in_order(fitting[np.argsort(-scores[fitting], kind="stable")], times, wanted)
