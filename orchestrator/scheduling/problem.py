"""The nodes as arrays: what each has, and what is free of it now. One problem per round; solving uses it up.

Owns: building the arrays from a view, taking room for a placement. Leaves to others: what fits (``filters``), where to
put it (``policies``). The rules: nodes are in the order of their slots, which is that of their first registration, so
that nothing depends on the order of a mapping; only live allocations hold room.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import WHOLE_DEVICE, Toleration
from orchestrator.contract.taints import unwelcome
from orchestrator.scheduling.custom import CustomResources
from orchestrator.scheduling.devices import ABSENT, Devices
from orchestrator.scheduling.labels import Labels
from orchestrator.scheduling.locality import Holdings
from orchestrator.scheduling.ports import Ports
from orchestrator.scheduling.presence import Presence
from orchestrator.scheduling.wish import CPU, DIMENSIONS, MEMORY, BoolArray, Int64Array, Wish
from orchestrator.state.holding import may_ask_for_ports
from orchestrator.state.ledger import engine_key
from orchestrator.state.matching import is_open
from orchestrator.state.model import Node
from orchestrator.state.views import ClusterView, Held, nodes_alone

_Any = TypeVar("_Any")


def _copied(thing: _Any) -> _Any:
    """What ``copy.copy`` gives, which takes ten times as long to find out how."""
    twin = object.__new__(type(thing))
    twin.__dict__.update(thing.__dict__)
    return twin


class Problem:
    """``nodes`` by number; arrays by that number.

    slots: int32; capacity, free: int64 (nodes, dimensions) in cpu millis, memory MiB, disk MiB (free may be negative
    where a node shrank); total: all nodes' capacity; open: bool, READY and neither cordoned nor draining;
    held_for: int64, number of the waiting gang that a node is kept for, -1 = none; waiting: what to call each of these
    gangs. view, given_up: as given.
    """

    def __init__(self, view: ClusterView, given_up: Int64Array | None = None) -> None:
        """``given_up``: positions of allocations that this round declares lost, so that they hold nothing any more."""
        # Not ``nodes_by_slot``: that also names forgotten nodes of which there still are records.
        self.nodes: tuple[Node, ...] = tuple(sorted(view.nodes.values(), key=lambda node: node.slot))
        nodes = self.nodes
        self.slots: npt.NDArray[np.int32] = np.array([node.slot for node in nodes], dtype=np.int32)
        self.number_of_slot = {node.slot: number for number, node in enumerate(nodes)}
        capacities = [
            (node.spec.capacity.cpu_millis, node.spec.capacity.memory_mib, node.spec.capacity.disk_mib)
            for node in nodes
        ]
        # By columns in memory: whole columns are read far more often than rows.
        self.capacity: Int64Array = np.array(
            np.array(capacities, dtype=np.int64).reshape(len(nodes), len(DIMENSIONS)), order="F"
        )
        self.total: tuple[int, ...] = tuple(int(column.sum()) for column in self.capacity.T)
        self.free: Int64Array = self.capacity.copy(order="F")
        # Capacities to divide by, which are never 0.
        self.divisor_cpu: Int64Array = np.maximum(self.capacity[:, CPU], 1)
        self.divisor_memory: Int64Array = np.maximum(self.capacity[:, MEMORY], 1)
        self.open: BoolArray = np.array(
            [is_open(node) for node in nodes],
            dtype=np.bool_,
        )
        self.devices = Devices([node.spec.devices for node in nodes], [node.closed_devices for node in nodes])
        self.ports = Ports(nodes, view.index)
        self.labels = Labels(nodes)
        self.drivers = [frozenset(node.spec.drivers) for node in nodes]
        self.typical = view.typical
        self.default_placement = view.default_placement
        self.tables: dict[str, object] = {}  # what policies keep about this problem, each under a name of its own
        self.held_for: Int64Array = np.full(len(nodes), -1, dtype=np.int64)
        self.waiting: dict[int, str] = {}
        self.view, self.given_up = view, given_up
        # Few different sets, so that a wish is compared with each of them once.
        self.driver_sets: dict[frozenset[str], int] = {}
        self.driver_set: Int64Array = np.array(
            [self.driver_sets.setdefault(drivers, len(self.driver_sets)) for drivers in self.drivers], dtype=np.int64
        )
        self.custom = CustomResources(nodes)
        self.holdings = Holdings(nodes)
        self.tainted: Int64Array = np.flatnonzero([bool(node.taints) for node in nodes])
        self.soft_taints = any(unwelcome(nodes[number].taints, ()) for number in self.tainted.tolist())
        self.presence = self._nobody(view)
        self._occupy(view, given_up)

    def __len__(self) -> int:
        return len(self.nodes)

    def discouraged(self, tolerations: tuple[Toleration, ...]) -> Int64Array:
        """int64 per node: how many PreferNoSchedule taints are not tolerated."""
        counts = np.zeros(len(self.nodes), dtype=np.int64)
        for number in self.tainted.tolist() if self.soft_taints else ():
            counts[number] = unwelcome(self.nodes[number].taints, tolerations)
        return counts

    def numbers(self, slots: npt.NDArray[np.int32]) -> Int64Array:
        """int64: the numbers of the nodes with these slots; unknown ones are left out."""
        if not len(slots) or not len(self.slots):
            return np.zeros(0, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.slots, slots), len(self.slots) - 1)
        found: Int64Array = at[self.slots[at] == slots].astype(np.int64)
        return found

    def take(self, node: int, wish: Wish, numbers: tuple[int, ...] = ()) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Take room for one instance, which the caller has seen to fit: device numbers and host ports it gets.
        ``numbers``: the devices, where the policy chose them; else the best-linked ones."""
        self.free[node] -= wish.request
        self.custom.take(node, wish.custom)
        if wish.gpus is not None:
            if not numbers:
                best = self.devices.best(node, wish.gpus)
                assert best is not None, "the caller checks that it fits"
                numbers = best.numbers
            self.devices.take(node, numbers, wish.gpus.gpu_millis)
        return numbers, self.ports.take(node, wish.ports) if wish.ports else ()

    def again(self, view: ClusterView) -> Problem:
        """The problem of a later view of the same nodes that says what they have given away (``view.held``)."""
        problem = _copied(self)
        problem.free = self.capacity.copy(order="F")
        problem.held_for = np.full(len(self.nodes), -1, dtype=np.int64)
        problem.waiting = {}
        problem.view, problem.given_up = view, None
        problem.typical, problem.default_placement = view.typical, view.default_placement
        problem.tables = {}
        problem.presence = self._nobody(view)  # whoever asks where others are is not decided about alone
        if self.devices.any:
            problem.devices = _copied(self.devices)
            problem.devices.closed = self.devices.closed.copy()
            there = np.arange(self.devices.free.shape[1]) < (self.devices.capacity // WHOLE_DEVICE)[:, None]
            problem.devices.free = np.where(there, WHOLE_DEVICE, ABSENT).astype(np.int32)
        if any(map(may_ask_for_ports, view.jobs.values())):
            problem.ports = Ports(self.nodes, view.index)
        problem._occupy(view, None)
        return problem

    def forget_rows(self) -> None:
        """Nothing will be asked of what was there; ``again`` may follow."""
        self.view = nodes_alone(self.view)  # the rows may be a million, and are void when there is a newer view
        self.presence = self._nobody(self.view)

    def _nobody(self, view: ClusterView) -> Presence:
        return Presence(view, self.tainted[:0], self.tainted[:0], len(self.nodes))

    def _occupy_held(self, held: Held) -> None:
        """What a view of some jobs says that all jobs hold."""
        for dimension, used in enumerate((held.cpu_millis, held.memory_mib, held.disk_mib)):
            self.free[:, dimension] -= used[self.slots]
        if self.devices.any:
            width = min(self.devices.free.shape[1], held.device_millis.shape[1])
            free = self.devices.free[:, :width]
            free -= np.where(free != ABSENT, held.device_millis[self.slots, :width], 0).astype(np.int32)
        if held.ports:
            for number, node in enumerate(self.nodes):
                self.ports.occupy(number, held.ports.get(engine_key(node), ()))

    def _occupy(self, view: ClusterView, given_up: Int64Array | None) -> None:
        if view.held is not None:
            self._occupy_held(view.held)
            return
        columns = view.allocations
        live = columns.live
        if given_up is not None:
            live[given_up] = False
        positions = np.flatnonzero(live)
        if not len(positions) or not len(self.nodes):
            return
        at = np.minimum(np.searchsorted(self.slots, columns.node[positions]), len(self.slots) - 1)
        known = self.slots[at] == columns.node[positions]
        positions, at = positions[known], at[known]
        self.presence = Presence(view, positions, at, len(self.nodes))
        self.custom.occupy(columns.row[positions], at, columns.custom)
        for dimension, column in enumerate((columns.cpu_millis, columns.memory_mib, columns.disk_mib)):
            # Sums are exact: a float64 holds whole numbers up to 2^53.
            used = np.bincount(at, weights=column[positions], minlength=len(self.nodes))
            self.free[:, dimension] -= used.astype(np.int64)
        holding = columns.device_mask[positions] != 0
        holders, where = positions[holding], at[holding]
        for number in range(self.devices.free.shape[1]):
            has = (columns.device_mask[holders] >> np.uint64(number)) & np.uint64(1) == 1
            has &= self.devices.capacity[where] > number * 1000
            np.subtract.at(self.devices.free[:, number], where[has], columns.gpu_millis[holders[has]])
        if columns.ports:
            number_of_row = dict(zip(columns.row[positions].tolist(), at.tolist(), strict=True))
            for row, ports in columns.ports.items():
                node = number_of_row.get(row)
                if node is not None:
                    self.ports.occupy(node, ports)
