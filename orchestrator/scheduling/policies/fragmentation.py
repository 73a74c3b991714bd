"""fragmentation: where the free devices stay most useful to what the cluster is typically asked for. The default for
jobs that ask for GPUs.

Points for how little the placement adds to the fragments (``fragments``), as in fragmentation gradient descent (Weng et
al., USENIX ATC 2023), and among nodes with equal points the lowest remainder: cores and devices left and their balance,
what is left of devices that are shared, and how much of the one given is expected to be wasted (``waste``). A share
goes to the device of the node that is best by the same score. docs/placements/fragmentation.md has the formula and
where its constants are from.

An instance without devices goes to nodes that have devices only when no other node has room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.contract.model import WHOLE_DEVICE, DeviceRequest
from orchestrator.scheduling.descent import POINTS, point_limits, points
from orchestrator.scheduling.fragments import Fragments
from orchestrator.scheduling.onebyone import place_one_by_one
from orchestrator.scheduling.policy import Turn
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.waste import expected_waste
from orchestrator.scheduling.wish import CPU, Int64Array, Wish

ONE = 1_000_000_000
"""Remainders are counted in thousand millionths."""
POINT = 1_000 * ONE
"""Weight of one point: more than the remainders of two nodes differ."""
LAST = (POINTS + 2) * POINT
"""Taken off where devices would be of no use to an instance without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Weights in the remainder, in thousand millionths per what the name says; width_millis is the sigmoid's.

    They were fitted to one variant of one trace; docs/placements/fragmentation.md says how much each matters.
    """

    width_millis: int = 2_740
    per_device_milli: int = 60_000  # 0.06 a device
    per_core_milli: int = 37_500  # 0.45 / 12 a core
    empty: int = 138_000_000
    per_part_milli: int = 6_060_000  # 6.06 a device
    cores_per_hundred_devices: int = 1_094  # 10.94 cores a device
    per_spare: int = 150  # 0.18 / 12 a core, per hundredth of a milli
    per_short: int = 9_500  # 11.4 / 12 a core
    per_waste_micro: int = 23_600  # 23.6 a device
    per_rank: int = 850_000  # 1.7 / 2000 a node


class _Tables:
    """What the policy keeps about one problem. limits: of the points; rank: by node; way: the best, by request, state,
    and steps before and after."""

    def __init__(self, problem: Problem, constants: Constants) -> None:
        self.fragments = Fragments.of(problem)
        self.limits = point_limits(constants.width_millis, self.fragments.weights)
        self.rank: Int64Array = np.arange(len(problem), dtype=np.int64) * constants.per_rank
        self.cpu_of_empty: Int64Array = problem.capacity[:, CPU].copy()
        self.has_devices = problem.devices.capacity > 0
        self.way: dict[tuple[DeviceRequest, int, int, int], tuple[int, int]] = {}
        self._waste = expected_waste(self.fragments.classes)
        self._by_left: dict[DeviceRequest, Int64Array] = {}
        self._constants = constants

    def by_left(self, request: DeviceRequest) -> Int64Array:
        """int64 (WHOLE_DEVICE + 2,): the waste in the remainder, by what the device has left before it is given; for
        ``NO_WAY`` more than anything else counts."""
        known = self._by_left.get(request)
        if known is None:
            before = np.arange(WHOLE_DEVICE + 1)
            after = np.maximum(before - request.gpu_millis, 0)
            each = (self._waste[after] - self._waste) * self._constants.per_waste_micro
            known = self._by_left[request] = np.append(each * request.count, 2 * LAST)
        return known


class Fragmentation:
    name = "fragmentation"
    summary = "GPUs stay most useful to what is typically asked for (FGD, refined)"
    knows_groups = False
    big_first = False
    fullest_first = False

    def __init__(self, constants: Constants | None = None) -> None:
        self.constants = constants or Constants()

    def scores(self, problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
        return self.scores_with(problem, wish, nodes, problem.free[:, CPU].take(nodes))

    def scores_with(self, problem: Problem, wish: Wish, nodes: Int64Array, cpu: Int64Array) -> Int64Array:
        """As ``scores``, if the nodes had so much cpu free (int64 per node, millis)."""
        # Written for few calls: of the hundred nodes that are usually refreshed, the overhead of each is what costs.
        tables, constants = self._tables(problem), self.constants
        fragments = tables.fragments
        states = fragments.states(nodes)
        cpu_left = cpu - wish.request[CPU]
        before = fragments.measure(states, cpu)
        left = fragments.left.take(states)
        if wish.gpus is None:
            value = points(before - fragments.measure(states, cpu_left), tables.limits) * POINT
            value -= fragments.partly.take(states) * constants.per_part_milli
            value -= tables.has_devices.take(nodes) * LAST
        else:
            options = fragments.options(wish.gpus, states)
            if options.after.shape[1] == 1:
                after = options.after.take(states)
                value = points(before - fragments.measure(after, cpu_left), tables.limits) * POINT
                value -= fragments.partly.take(after) * constants.per_part_milli
                value -= tables.by_left(wish.gpus).take(options.left.take(states))
            else:
                after = options.after.take(states, axis=0)
                shrinkage = before[:, None] - fragments.measure(after, cpu_left[:, None])
                ways = points(shrinkage, tables.limits) * POINT
                ways -= fragments.partly.take(after) * constants.per_part_milli
                ways -= tables.by_left(wish.gpus).take(options.left.take(states, axis=0))
                value = ways.max(axis=1)
            left -= wish.gpus.count * wish.gpus.gpu_millis
        # per_spare * max(S, 0) + per_short * max(-S, 0), with S = spare cores
        short = np.maximum(left * constants.cores_per_hundred_devices - cpu_left * 100, 0)
        short *= constants.per_spare + constants.per_short
        value -= short
        value -= cpu_left * (constants.per_core_milli + 100 * constants.per_spare)
        value -= left * (constants.per_device_milli - constants.cores_per_hundred_devices * constants.per_spare)
        value -= tables.rank.take(nodes)
        value += (cpu == tables.cpu_of_empty.take(nodes)) * constants.empty
        return value

    def devices(self, problem: Problem, wish: Wish, node: int) -> tuple[int, ...]:
        """The device for a request for one; () leaves it to the links."""
        request = wish.gpus
        if request is None or request.count != 1:
            return ()
        tables = self._tables(problem)
        fragments = tables.fragments
        state = fragments.state(node)
        cpu = int(problem.free[node, CPU])
        step, step_after = fragments.step(cpu), fragments.step(cpu - wish.request[CPU])
        key = (request, state, step, step_after)
        way = tables.way.get(key)
        if way is None:
            options = fragments.options(request, np.array([state]))
            after = options.after[state]
            shrinkage = fragments.table[state, step] - fragments.table[after, step_after]
            value = points(shrinkage, tables.limits) * POINT - tables.by_left(request).take(options.left[state])
            value -= fragments.partly.take(after) * self.constants.per_part_milli
            best = int(value.argmax())
            way = tables.way[key] = (int(options.code[state, best]), int(after[best]))
        code, after_state = way
        number = fragments.device(node, code)
        fragments.expect(node, number, request.gpu_millis, after_state)
        return (number,)

    def choose(self, scores: Int64Array, turn: Turn) -> int:
        return int(scores.argmax())

    def place_many(
        self, problem: Problem, wish: Wish, scores: Int64Array, times: Int64Array, wanted: int, turn: Turn
    ) -> Int64Array:
        """A plain wish has no devices, so a node's next score follows from its cpu alone."""

        def score(node: int, placed: Int64Array) -> Int64Array:
            nodes = np.full(len(placed), node, dtype=np.int64)
            return self.scores_with(problem, wish, nodes, problem.free[node, CPU] - placed * wish.request[CPU])

        return place_one_by_one(scores, times, wanted, score)

    def _tables(self, problem: Problem) -> _Tables:
        found = problem.tables.get(self.name)
        if found is None:
            found = problem.tables[self.name] = _Tables(problem, self.constants)
        assert isinstance(found, _Tables)
        return found
