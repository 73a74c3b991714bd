"""Placing plain instances on the fullest nodes, one by one or all at once, with all that is kept for it in a round.

Owns: what is sorted and shelved, per set of suitable nodes, and when it is built. Leaves to others: who is served when
(``solve``), the search (``best_fit``), the filling (``prefix_fill``). The rule: whatever is kept here is a cache of
``Room``, so building it sooner, later or twice changes nothing but the time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import Toleration
from orchestrator.scheduling.backlog import Columns, Wishes
from orchestrator.scheduling.best_fit import BestFit
from orchestrator.scheduling.filters import suitable
from orchestrator.scheduling.prefix_fill import FullestFirst, big_first, prefix_fill
from orchestrator.scheduling.room import Room
from orchestrator.scheduling.wish import CPU, DIMENSIONS, DISK, MEMORY, BoolArray, Int64Array
from orchestrator.state.commands import Int32Array

GROUNDS_MAX = 32
"""Sets of suitable nodes of which sorted lists are kept."""
LARGE = 4
"""What takes more than this part of a node (of the lower quarter by size) is placed one by one before a fill: so few
fit on a node that which ones decides how full it gets."""


class _Ground:
    """The suitable nodes of wishes with equal drivers and constraints. ``wishes``: their numbers; ``large``: (cpu,
    memory) above which an instance is large here."""

    def __init__(
        self,
        room: Room,
        nodes: Int64Array,
        columns: Columns,
        wishes: Int64Array,
        tolerations: tuple[Toleration, ...],
    ) -> None:
        self._room = room
        self._columns = columns
        self._wishes = wishes
        self.nodes = nodes
        problem = room.problem
        quarter = (len(nodes) - 1) // 4
        sizes = [np.partition(problem.capacity[nodes, dimension], quarter)[quarter] for dimension in (CPU, MEMORY)]
        self.large = int(sizes[0]) // LARGE, int(sizes[1]) // LARGE
        self.any_large = any(
            int(columns.requests[:, dimension].take(wishes).max()) > self.large[dimension]
            for dimension in (CPU, MEMORY)
        )
        self.discouraged = problem.discouraged(tolerations)
        self.any_discouraged = bool(self.discouraged[nodes].any())
        self.ready: tuple[BestFit, ...] = ()  # once there are shelves
        self._order: FullestFirst | None = None

    def shelves(self) -> tuple[BestFit, ...]:
        """Nodes whose taints discourage least come first, of these those without devices: there cpu is wanted by those
        who sit beside a device."""
        if not self.ready:
            groups = 2 * self.discouraged[self.nodes] + (self._room.problem.devices.capacity[self.nodes] > 0)
            requests = self._columns.requests[self._wishes]
            self.ready = tuple(
                BestFit(self._room, self.nodes[groups == group], requests) for group in np.unique(groups).tolist()
            )
        return self.ready

    def in_order(self, least: tuple[int, ...]) -> FullestFirst:
        if self._order is None:
            cpu, memory = (self._columns.requests[:, dimension].take(self._wishes) for dimension in (CPU, MEMORY))
            demand = int(cpu.sum()), int(memory.sum())
            self._order = FullestFirst(self._room, self.nodes, least, demand, self.discouraged)
        return self._order


class Fullest:
    """For the wishes of one table, all of which must be ``Wishes.batch`` where they are named here."""

    def __init__(self, room: Room, wishes: Wishes) -> None:
        self._room = room
        self._wishes = wishes
        self._grounds: dict[int, _Ground | None] = {}
        self._known = 0
        self._keys: npt.NDArray[np.uint16] = np.zeros(0, dtype=np.uint16)
        self._least: tuple[int, ...] = ()
        self._dimensions = len(DIMENSIONS)  # without disk if nobody asks for any

    def take(self, number: int) -> int:
        """The fullest node with room for one more of this wish, which is taken, or -1."""
        wishes = self._wishes
        where = wishes.where[number]
        ground = self._grounds[where] if where in self._grounds else self._ground(where)
        if ground is None:
            return -1
        cpu, memory, disk = wishes.known[number].request
        for shelves in ground.ready or ground.shelves():
            node = shelves.take(cpu, memory, disk)
            if node >= 0:
                return node
        return -1

    def take_all(self, numbers: Int32Array) -> Int32Array | None:
        """int32 per given wish: its node, all of them taken; or None when not all find room, and nothing is taken."""
        self._learn()
        if self._wishes.grounds == 1:
            return self._fill(0, numbers)
        wheres = self._wishes.columns().where[numbers]
        nodes = np.full(len(numbers), -1, dtype=np.int32)
        for where in self._choosy_first(wheres):
            mine = np.flatnonzero(wheres == where)
            found = self._fill(where, numbers[mine])
            if found is None:
                self._give_back(numbers, nodes)
                return None
            nodes[mine] = found
        return nodes

    def hopeless(self, numbers: Int32Array) -> BoolArray:
        """bool per given wish: no node has both the cpu and the memory, or none the disk, so it fits nowhere."""
        self._learn()
        self._room.arrays()
        distinct, inverse = np.unique(numbers, return_inverse=True)
        columns = self._wishes.columns()
        requests, wheres = columns.requests[distinct], columns.where[distinct]
        lost = np.ones(len(distinct), dtype=np.bool_)
        for where in np.unique(wheres).tolist():
            ground = self._ground(where)
            if ground is not None:
                mine = wheres == where
                lost[mine] = _fits_nowhere(self._room.problem.free[ground.nodes], requests[mine])
        return lost[inverse.reshape(-1)]

    def _fill(self, where: int, numbers: Int32Array) -> Int32Array | None:
        ground = self._ground(where)
        if ground is None:
            return None
        columns = self._wishes.columns()
        order = self._keys.take(numbers).argsort(kind="stable")
        in_order = numbers.take(order)
        requests = [column.take(in_order) for column in columns.requests.T[: self._dimensions]]
        nodes = np.empty(len(numbers), dtype=np.int32)
        if ground.any_large:
            nodes.fill(-1)
            large = (requests[CPU] > ground.large[CPU]) | (requests[MEMORY] > ground.large[MEMORY])
            if large.any():
                if not self._take_large(numbers, nodes, order[large], [column[large] for column in requests]):
                    return None
                order, requests = order[~large], [column[~large] for column in requests]
                if not len(order):
                    return nodes
        filled = prefix_fill(self._room, ground.in_order(self._least), requests)
        if filled is None:
            if len(order) < len(numbers):
                self._give_back(numbers, nodes)
            return None
        nodes[order] = filled
        if ground.any_discouraged and not self._move_away(numbers, nodes, ground.discouraged):
            return None
        return nodes

    def _move_away(self, numbers: Int32Array, nodes: Int32Array, discouraged: Int64Array) -> bool:
        """Who was put where taints discourage from may fit elsewhere: these choose again one by one, or none stays."""
        places = np.flatnonzero(discouraged[nodes])
        if not len(places):
            return True
        self._give_back(numbers[places], nodes[places])
        nodes[places] = -1
        for place, number in zip(places.tolist(), numbers[places].tolist(), strict=True):
            nodes[place] = node = self.take(number)
            if node < 0:
                self._give_back(numbers, nodes)
                return False
        return True

    def _take_large(
        self, numbers: Int32Array, nodes: Int32Array, places: Int64Array, requests: list[Int64Array]
    ) -> bool:
        """Place those at ``places`` one by one, the largest first, and write where into ``nodes``; or none of them."""
        shares = np.zeros(len(places), dtype=np.int64)
        for column, total in zip(requests, self._room.problem.total, strict=False):
            shares += column * ((1 << 40) // max(total, 1))
        places = places[np.argsort(-shares, kind="stable")]
        for place, number in zip(places.tolist(), numbers[places].tolist(), strict=True):
            nodes[place] = node = self.take(number)
            if node < 0:
                self._give_back(numbers, nodes)
                return False
        return True

    def _give_back(self, numbers: Int32Array, nodes: Int32Array) -> None:
        room = self._room
        room.lists()
        placed = nodes >= 0
        for node, number in zip(nodes[placed].tolist(), numbers[placed].tolist(), strict=True):
            cpu, memory, disk = self._wishes.known[number].request
            room.cpu[node] += cpu
            room.memory[node] += memory
            room.disk[node] += disk
            room.log.append(node)

    def _choosy_first(self, wheres: Int64Array) -> list[int]:
        """The distinct ones, those with the fewest nodes first, then as they come."""
        distinct, first = np.unique(wheres, return_index=True)
        grounds = [self._ground(where) for where in distinct.tolist()]
        choice = np.array([0 if ground is None else len(ground.nodes) for ground in grounds])
        found: list[int] = distinct[np.lexsort((first, choice))].tolist()
        return found

    def _ground(self, where: int) -> _Ground | None:
        """None where no node is suitable."""
        if where in self._grounds:
            return self._grounds[where]
        self._learn()
        if len(self._grounds) >= GROUNDS_MAX:
            del self._grounds[next(iter(self._grounds))]
        columns = self._wishes.columns()
        mine = np.flatnonzero((columns.where == where) & columns.batch)
        problem = self._room.problem
        wish = self._wishes.known[int(mine[0])]
        nodes = np.flatnonzero(suitable(problem, wish))
        ground = _Ground(self._room, nodes, columns, mine, wish.tolerations) if len(nodes) else None
        self._grounds[where] = ground
        return ground

    def _learn(self) -> None:
        """Take note of wishes that are new in the table."""
        if self._known == len(self._wishes):
            return
        self._known = len(self._wishes)
        self._grounds.clear()
        columns = self._wishes.columns()
        self._keys = big_first(columns.requests.T, self._room.problem.total)
        self._dimensions = len(DIMENSIONS) if columns.requests[:, DISK].any() else DISK
        batch = None if columns.batch.all() else columns.batch
        self._least = tuple(int((column if batch is None else column[batch]).min()) for column in columns.requests.T)


def _fits_nowhere(free: Int64Array, requests: Int64Array) -> BoolArray:
    """Of cpu and memory exactly; disk is looked at alone."""
    free = free[(free >= 0).all(axis=1)]
    if not len(free):
        return np.ones(len(requests), dtype=np.bool_)
    free = free[np.argsort(-free[:, CPU], kind="stable")]
    most_memory = np.maximum.accumulate(free[:, MEMORY])
    with_cpu = np.searchsorted(-free[:, CPU], -requests[:, CPU], side="right")
    lost: BoolArray = (with_cpu == 0) | (requests[:, DISK] > free[:, DISK].max())
    lost |= most_memory[np.maximum(with_cpu - 1, 0)] < requests[:, MEMORY]
    return lost
