"""fgd: fragmentation gradient descent as published (Weng et al., USENIX ATC 2023, section 4), to compare with.

Score: floor(100 * sigmoid(how much F shrinks / 1000)), F in millis of devices (``fragments``), for the best device of
the node where a share is asked for. The lowest node breaks ties. Not offered to jobs: ``fragmentation`` refines it.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.descent import POINTS, point_limits, points
from orchestrator.scheduling.fragments import NO_WAY, Fragments
from orchestrator.scheduling.onebyone import place_one_by_one
from orchestrator.scheduling.policy import Turn
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import CPU, Int64Array, Wish

WIDTH_MILLIS = 1000


class Fgd:
    name = "fgd"
    summary = "fragmentation gradient descent as published, to compare with"
    knows_groups = False
    big_first = False
    fullest_first = False

    def scores(self, problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
        return self._scores(problem, wish, nodes, problem.free[:, CPU].take(nodes))

    def _scores(self, problem: Problem, wish: Wish, nodes: Int64Array, cpu: Int64Array) -> Int64Array:
        best: Int64Array = self._ways(problem, wish, nodes, cpu).max(axis=1)
        return best

    def _ways(self, problem: Problem, wish: Wish, nodes: Int64Array, cpu: Int64Array) -> Int64Array:
        """int64 (nodes, ways): points of each way to give the devices, less than none where there is no such way."""
        fragments, limits = self._tables(problem)
        states = fragments.states(nodes)
        before = fragments.measure(states, cpu)[:, None]
        left = (cpu - wish.request[CPU])[:, None]
        if wish.gpus is None:
            return points(before - fragments.measure(states[:, None], left), limits)
        options = fragments.options(wish.gpus, states)
        found = points(before - fragments.measure(options.after[states], left), limits)
        found[options.left[states] == NO_WAY] = -POINTS
        return found

    def devices(self, problem: Problem, wish: Wish, node: int) -> tuple[int, ...]:
        """The device for a request for one; () leaves it to the links."""
        if wish.gpus is None or wish.gpus.count != 1:
            return ()
        fragments, _ = self._tables(problem)
        nodes = np.array([node])
        best = int(self._ways(problem, wish, nodes, problem.free[nodes, CPU])[0].argmax())
        states = fragments.states(nodes)
        return (fragments.device(node, int(fragments.options(wish.gpus, states).code[states[0], best])),)

    def choose(self, scores: Int64Array, turn: Turn) -> int:
        return int(scores.argmax())

    def place_many(
        self, problem: Problem, wish: Wish, scores: Int64Array, times: Int64Array, wanted: int, turn: Turn
    ) -> Int64Array:
        """A plain wish has no devices, so a node's next score follows from its cpu alone."""

        def score(node: int, placed: Int64Array) -> Int64Array:
            nodes = np.full(len(placed), node, dtype=np.int64)
            return self._scores(problem, wish, nodes, problem.free[node, CPU] - placed * wish.request[CPU])

        return place_one_by_one(scores, times, wanted, score)

    def _tables(self, problem: Problem) -> tuple[Fragments, Int64Array]:
        fragments = Fragments.of(problem)
        limits = problem.tables.get(self.name)
        if limits is None:
            limits = problem.tables[self.name] = point_limits(WIDTH_MILLIS, fragments.weights)
        assert isinstance(limits, np.ndarray)
        return fragments, limits
