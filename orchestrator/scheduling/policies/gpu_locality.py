"""gpu-locality: the node whose free devices are linked best, then the one that loses least by giving them.

Score: first the cost of the links inside the best set (``device_sets``: 0 within one island), then how much less the
devices left over on the node are worth without it, so that a pair comes out of a broken circle and not out of a whole
one; then the fuller node, as instances without devices are placed, too: on nodes without devices first.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.policy import NOWHERE, Turn
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.scoring import SCALE, fill_in_order, utilisation
from orchestrator.scheduling.wish import Int64Array, Wish

REST = 1 << 31
"""Weight of one unit of leftover value: more than any utilisation."""
LINKS = REST << 15
"""Weight of one unit of link cost: more than any leftover value (64 devices in one island, counted for each of four
kinds of circle: 16,384). The dearest links of all, 64 devices across NUMA nodes, cost 8,064: 2^59 in all."""


class GpuLocality:
    name = "gpu-locality"
    summary = "the best-linked GPUs, breaking the least valuable set"
    knows_groups = False
    big_first = False
    fullest_first = True

    def scores(self, problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
        fullness = np.clip(utilisation(problem, wish, nodes), 0, SCALE * 1000)
        if wish.gpus is None:
            return fullness - REST * (problem.devices.capacity[nodes] > 0)
        cost, loss = problem.devices.judge(wish.gpus, nodes)
        return fullness - LINKS * cost - REST * loss

    def choose(self, scores: Int64Array, turn: Turn) -> int:
        return int(np.argmax(scores))

    def place_many(
        self, problem: Problem, wish: Wish, scores: Int64Array, times: Int64Array, wanted: int, turn: Turn
    ) -> Int64Array:
        """A plain wish has no devices: the best node only gets fuller, so the nodes fill up one after the other."""
        fitting = np.flatnonzero(scores != NOWHERE)
        return fill_in_order(fitting[np.argsort(-scores[fitting], kind="stable")], times, wanted)
