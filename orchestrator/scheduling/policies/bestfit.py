"""bestfit: the node that has least left afterwards, to compare with.

Score: cpu and device millis left, each as a share of the most that any node has, added up, less is better; the
published comparison ("Beware of Fragmentation", USENIX ATC 2023) leaves memory out as well. Not offered to jobs.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.policy import NOWHERE, Turn
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.scoring import SCALE, fill_in_order
from orchestrator.scheduling.wish import CPU, Int64Array, Wish


class BestFit:
    name = "bestfit"
    summary = "the node that has least left afterwards, to compare with"
    knows_groups = False
    big_first = False
    fullest_first = False

    def scores(self, problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
        cpu = (problem.free[nodes, CPU] - wish.request[CPU]) * SCALE // max(int(problem.capacity[:, CPU].max()), 1)
        left = problem.devices.capacity[nodes] - problem.devices.used(nodes)
        if wish.gpus is not None:
            left = left - wish.gpus.count * wish.gpus.gpu_millis
        score: Int64Array = -(cpu + left * SCALE // max(int(problem.devices.capacity.max()), 1))
        return score

    def choose(self, scores: Int64Array, turn: Turn) -> int:
        return int(scores.argmax())

    def place_many(
        self, problem: Problem, wish: Wish, scores: Int64Array, times: Int64Array, wanted: int, turn: Turn
    ) -> Int64Array:
        """The best node only gets better by what is put on it, so the nodes fill up one after the other."""
        fitting = np.flatnonzero(scores != NOWHERE)
        return fill_in_order(fitting[np.argsort(-scores[fitting], kind="stable")], times, wanted)
