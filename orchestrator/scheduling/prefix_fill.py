"""Many different plain instances at once: runs of a sorted list poured into one node after the other.

Owns: the nodes in order, fullest first, and the filling. Leaves to others: which instances may trade places and when
(``solve``), which nodes are suitable. The rule: all of the given instances are placed, or none.

The instances are sorted big first, and for each resource there is a running sum. A node, the fullest first, takes the
longest run from the big end that fits, found by bisecting the sums, then the longest run from the small end. Whoever is
left is one interval of the list, so a node costs a few bisections however many it takes.

Runs that are heavy on cpu here and on memory there would leave much of the other unused, so among instances of about
the same size those heavy on one and those heavy on the other take turns (``big_first``). With that the nodes used are
about as many as best-fit-decreasing uses, as long as many instances fit on a node; what takes a quarter of one or more
is better placed one by one (``README.md`` has figures).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.scheduling.room import Room
from orchestrator.scheduling.scoring import SCALE
from orchestrator.scheduling.wish import CPU, DISK, MEMORY, Int64Array
from orchestrator.state.commands import Int32Array

BITS = 20
"""For the node's number below the key in an entry: a million nodes."""
NUMBER = (1 << BITS) - 1
_LEFT_BITS, _SIZE_BITS = 21, 14
IDLE_MAX = 3
"""So many nodes in a row without use for anybody, and the next ones are looked for and not tried in turn."""
RESORT_FROM = 256
"""From so many nodes used on the order is sorted anew and not mended."""
IN_LISTS = 512
"""Up to so many instances sums are Python's lists, for which a bisection costs least; more are not worth unpacking."""
REACH = 4
"""A run is looked for among twice as many instances as the last one had, and so many, before it is in all."""
_GROUPS = 64
_FIXED = (1 << _SIZE_BITS + BITS) - 1 | _GROUPS - 1 << _LEFT_BITS + _SIZE_BITS + BITS
"""The part of an entry that placing does not change."""
_TURNED = (1 << 62) - 1
"""An entry is this less the place in the order, so that what is opened first stands last: a list is changed cheaply
only at its end."""
END = -1
"""Before the entries: beyond the last one that may be opened."""


SIZES = 16
"""Of sizes that are told apart before the balance of cpu and memory counts."""


def big_first(requests: Iterable[Int64Array], capacity: Sequence[int]) -> npt.NDArray[np.uint16]:
    """uint16 per request: the keys of the order in which a fill wants them. ``requests``: by dimension; ``capacity``:
    of the whole cluster; sizes are shares of it. Equal keys are told apart by nothing."""
    shares = [column * ((1 << 40) // max(total, 1)) for column, total in zip(requests, capacity, strict=True)]
    sizes = shares[CPU] + shares[MEMORY] + shares[DISK]
    level = (SIZES - 1 - sizes * (SIZES - 1) // max(int(sizes.max(initial=0)), 1)).astype(np.uint16)
    lean = shares[CPU] - shares[MEMORY]
    lowest = int(lean.min(initial=0))
    steps = (lean - lowest) * 65535 // max(int(lean.max(initial=0)) - lowest, 1)
    # Sorting numbers of 16 bits takes a tenth of the time that others take.
    order = steps.astype(np.uint16).argsort(kind="stable")
    order = order.take(level.take(order).argsort(kind="stable"))
    level = level.take(order)
    starts = level.searchsorted(np.arange(SIZES + 1))
    place = np.arange(len(order)) - starts.take(level)
    behind = 2 * ((starts[1:] - starts[:-1]).take(level) - place) - 1
    place = starts.take(level) + np.minimum(2 * place, behind)
    if len(order) > 65535:
        place = place * 65535 // len(order)
    keys = np.empty(len(order), dtype=np.uint16)
    keys[order] = place
    return keys


class FullestFirst:
    """The given nodes that have room for ``least`` (what every instance asks for at least), in the order in which a
    fill opens them: those whose taints discourage least first (``discouraged``: per node), of these those without
    devices, then by how much is left of the resource that will run out first, of equal ones the smaller, then by
    number. ``demand``: what is asked for in sum (cpu, memory); it tells what runs out.

    Where cpu will run out first and where memory will are lists of their own: of each, only nodes from a certain place
    on have room for a given amount. An entry is one integer with all of the order in it, which makes sorting cheap and
    lets an entry that a fill used up be put back without looking anything up.
    """

    def __init__(
        self, room: Room, nodes: Int64Array, least: tuple[int, ...], demand: tuple[int, int], discouraged: Int64Array
    ) -> None:
        self.least = least
        self._room = room
        self._nodes = nodes
        problem = room.problem
        self._group = 2 * np.minimum(discouraged, _GROUPS // 2 - 1) + (problem.devices.capacity > 0)
        self._grouped = bool(self._group.any())
        totals = problem.total
        cpu, memory = demand[CPU] * max(totals[MEMORY], 1), demand[MEMORY] * max(totals[CPU], 1)
        # Shares of cpu and of memory are compared after these are multiplied in: the scarcer one counts more.
        weight = min(max(1024 * memory // max(cpu + memory, 1), 64), 960)
        self._weights: tuple[int, int] = (weight, 1024 - weight)
        self._divisors = problem.divisor_cpu, problem.divisor_memory
        self._largest = int(problem.divisor_cpu.max(initial=1)), int(problem.divisor_memory.max(initial=1))
        self._orders: tuple[list[int], list[int]] = ([END], [END])
        self._used: tuple[list[int], list[int]] = ([], [])
        self._seen = -1

    def orders(self) -> tuple[list[int], list[int]]:
        """Entries, the first in the order last, where cpu runs out first and where memory does; below them is ``END``.
        ``~entry & NUMBER`` is the node. The room's lists are current afterwards."""
        if self._seen != len(self._room.log) or len(self._used[CPU]) + len(self._used[MEMORY]) > RESORT_FROM:
            self._sort()
        elif self._used[CPU] or self._used[MEMORY]:
            self._mend()
        self._room.lists()
        return self._orders

    def used(self, by_cpu: list[int], by_memory: list[int]) -> None:
        """A fill took from the nodes of these entries, and wrote so to the room's lists and log."""
        self._used = by_cpu, by_memory
        self._seen = len(self._room.log)

    def first_for(self, resource: int, amount: int) -> int:
        """In the list of the resource (CPU or MEMORY), nodes with entries above this have less of it, unless they have
        devices or taints."""
        share = amount * SCALE // self._largest[resource]
        return _TURNED - ((share * self._weights[resource] >> 10) << _SIZE_BITS + BITS)

    def _sort(self) -> None:
        room, problem = self._room, self._room.problem
        room.arrays()
        free, nodes = problem.free, self._nodes
        if len(nodes) == len(problem):
            columns = free[:, CPU], free[:, MEMORY], free[:, DISK]
        else:
            columns = free[:, CPU].take(nodes), free[:, MEMORY].take(nodes), free[:, DISK].take(nodes)
        least = self.least
        enough = (columns[CPU] >= least[CPU]) & (columns[MEMORY] >= least[MEMORY]) & (columns[DISK] >= least[DISK])
        cpu, memory = columns[CPU], columns[MEMORY]
        if not enough.all():
            nodes, cpu, memory = nodes[enough], cpu[enough], memory[enough]
        divisor_cpu, divisor_memory = self._divisors
        if len(nodes) != len(problem):
            divisor_cpu, divisor_memory = divisor_cpu.take(nodes), divisor_memory.take(nodes)
        fixed = divisor_cpu * SCALE // self._largest[CPU] + divisor_memory * SCALE // self._largest[MEMORY]
        fixed >>= 21 - _SIZE_BITS
        if self._grouped:
            fixed |= self._group.take(nodes) << _LEFT_BITS + _SIZE_BITS
        cpu = cpu * SCALE // divisor_cpu * self._weights[CPU]
        memory = memory * SCALE // divisor_memory * self._weights[MEMORY]
        entries = _TURNED - (((np.minimum(cpu, memory) >> 10 << _SIZE_BITS) + fixed << BITS) + nodes)
        by_cpu = cpu <= memory
        self._orders = [END, *np.sort(entries[by_cpu]).tolist()], [END, *np.sort(entries[~by_cpu]).tolist()]
        self._used = ([], [])
        self._seen = len(room.log)

    def _mend(self) -> None:
        """Put the entries that were used up where what their nodes have left belongs."""
        room = self._room
        room.lists()
        for order, used in zip(self._orders, self._used, strict=True):
            for entry in used:
                del order[bisect_left(order, entry)]
        least_cpu, least_memory, least_disk = self.least
        cpu_weight, memory_weight = self._weights
        divisor_cpu, divisor_memory = self._divisors
        frees_cpu, frees_memory = room.cpu, room.memory
        for used in self._used:
            for entry in used:
                node = ~entry & NUMBER
                free_cpu, free_memory = frees_cpu[node], frees_memory[node]
                if free_cpu >= least_cpu and free_memory >= least_memory and room.disk[node] >= least_disk:
                    cpu = free_cpu * SCALE // divisor_cpu.item(node) * cpu_weight
                    memory = free_memory * SCALE // divisor_memory.item(node) * memory_weight
                    if cpu <= memory:
                        insort(self._orders[CPU], _TURNED - (cpu >> 10 << _SIZE_BITS + BITS) - (~entry & _FIXED))
                    else:
                        insort(self._orders[MEMORY], _TURNED - (memory >> 10 << _SIZE_BITS + BITS) - (~entry & _FIXED))
        self._used = ([], [])


def prefix_fill(room: Room, nodes: FullestFirst, requests: Sequence[Int64Array]) -> Int32Array | None:
    """Place instances that ask for ``requests`` (int64 (instances,) by dimension, in the order of ``big_first``; disk
    is left out if nobody asks for any).

    int32 (instances,): the node of each; None when not all of them find room, and then nothing is taken. The room's log
    is told.
    """
    count = len(requests[CPU])
    # One more at the end: who looks at the one after the last need not ask whether there is any.
    if count <= IN_LISTS:
        sums: list[Sequence[int]] = [[0, *column.cumsum().tolist(), 0] for column in requests]
    else:
        sums = [array("q", bytes(8) + column.cumsum().tobytes() + bytes(8)) for column in requests]
    runs = _Runs(count)
    if not runs.fill(room, nodes, sums):
        runs.give_back(room, sums)
        return None
    touched, bounds = runs.touched(), np.array(runs.bounds())
    room.log.extend(touched)
    nodes.used(runs.by_cpu, runs.by_memory)
    return np.array(touched, dtype=np.int32).repeat(bounds[1:] - bounds[:-1])


class _Runs:
    """``takers[i]`` has the instances up to ``takes[i]`` from the big end, ``backfillers[i]`` those from
    ``backfills[i]`` on from the small end; ``by_cpu``, ``by_memory``: the entries of nodes that have any."""

    __slots__ = ("_count", "backfillers", "backfills", "by_cpu", "by_memory", "takers", "takes")

    def __init__(self, count: int) -> None:
        self._count = count
        self.takers: list[int] = []
        self.takes: list[int] = []
        self.backfillers: list[int] = []
        self.backfills: list[int] = []
        self.by_cpu: list[int] = []
        self.by_memory: list[int] = []

    def touched(self) -> list[int]:
        """Nodes, in the order of the instances; a node comes up twice if it takes some from both ends."""
        return self.takers + self.backfillers[::-1]

    def bounds(self) -> list[int]:
        """``touched()[i]`` has the instances from ``bounds()[i]`` to ``bounds()[i + 1]``."""
        # The last to backfill begins where the last run from the big end ends.
        return [0, *self.takes, *self.backfills[-2::-1], self._count] if self.backfills else [0, *self.takes]

    def give_back(self, room: Room, sums: Sequence[Sequence[int]]) -> None:
        """To the room's lists."""
        for total, free in zip(sums, (room.cpu, room.memory, room.disk), strict=False):
            for node, start, end in zip(self.takers, [0, *self.takes], self.takes, strict=False):
                free[node] += total[end] - total[start]
            for node, start, end in zip(self.backfillers, self.backfills, [self._count, *self.backfills], strict=False):
                free[node] += total[end] - total[start]

    def fill(self, room: Room, nodes: FullestFirst, sums: Sequence[Sequence[int]]) -> bool:
        """Whether all found room, which is taken from the room's lists so far. ``sums``: running ones, by resource."""
        by_cpu, by_memory = nodes.orders()
        cpu, memory = sums[CPU], sums[MEMORY]
        # Disk is there only if somebody asks for any: nodes that gave away more than they have are not in the order.
        disk = sums[DISK] if len(sums) > DISK else None
        frees_cpu, frees_memory, frees_disk = room.cpu, room.memory, room.disk
        head, tail = 0, self._count
        take_node, take, give_node, give = (
            some.append for some in (self.takers, self.takes, self.backfillers, self.backfills)
        )
        use_cpu, use_memory = self.by_cpu.append, self.by_memory.append
        idle, reach, reach_back = IDLE_MAX, REACH, REACH
        at_cpu, at_memory = len(by_cpu) - 1, len(by_memory) - 1
        next_cpu = next_memory = END
        # What the biggest and the smallest of those who are left ask for, and the sums where they stand.
        head_cpu, head_memory, tail_cpu, tail_memory = cpu[0], memory[0], cpu[tail], memory[tail]
        big_cpu, big_memory = cpu[1], memory[1]
        small_cpu, small_memory = tail_cpu - cpu[tail - 1], tail_memory - memory[tail - 1]
        while head < tail:
            if idle >= IDLE_MAX:
                # Several nodes in a row that had room for neither end: on to the next that may have.
                idle = 0
                first = nodes.first_for(CPU, big_cpu if big_cpu < small_cpu else small_cpu)
                at_cpu = bisect_right(by_cpu, first, 0, at_cpu + 1) - 1
                first = nodes.first_for(MEMORY, big_memory if big_memory < small_memory else small_memory)
                at_memory = bisect_right(by_memory, first, 0, at_memory + 1) - 1
                next_cpu, next_memory = by_cpu[at_cpu], by_memory[at_memory]
            if next_cpu > next_memory:
                entry, use = next_cpu, use_cpu
                at_cpu -= 1
                next_cpu = by_cpu[at_cpu]
            elif next_memory > END:
                entry, use = next_memory, use_memory
                at_memory -= 1
                next_memory = by_memory[at_memory]
            else:
                return False
            node = ~entry & NUMBER
            free_cpu, free_memory = frees_cpu[node], frees_memory[node]
            end = head
            if big_cpu <= free_cpu and big_memory <= free_memory:
                stop = head + reach
                if stop > tail:
                    stop = tail
                end = bisect_right(cpu, head_cpu + free_cpu, head + 1, stop + 1) - 1
                if end == stop < tail:
                    end = bisect_right(cpu, head_cpu + free_cpu, stop, tail + 1) - 1
                if memory[end] - head_memory > free_memory:
                    end = bisect_right(memory, head_memory + free_memory, head + 1, end) - 1
                if disk is not None:
                    end = bisect_right(disk, disk[head] + frees_disk[node], head, end + 1) - 1
                    frees_disk[node] -= disk[end] - disk[head]
                if end > head:
                    take_node(node)
                    take(end)
                    reach = 2 * (end - head) + REACH
                    free_cpu -= cpu[end] - head_cpu
                    free_memory -= memory[end] - head_memory
                    head_cpu, head_memory = cpu[end], memory[end]
                    big_cpu, big_memory = cpu[end + 1] - head_cpu, memory[end + 1] - head_memory
            start = tail
            if small_cpu <= free_cpu and small_memory <= free_memory and end < tail:
                stop = tail - reach_back
                if stop < end:
                    stop = end
                start = bisect_left(cpu, tail_cpu - free_cpu, stop, tail)
                if start == stop > end:
                    start = bisect_left(cpu, tail_cpu - free_cpu, end, stop + 1)
                if tail_memory - memory[start] > free_memory:
                    start = bisect_left(memory, tail_memory - free_memory, start + 1, tail)
                if disk is not None:
                    start = bisect_left(disk, disk[tail] - frees_disk[node], start, tail)
                    frees_disk[node] -= disk[tail] - disk[start]
                if start < tail:
                    give_node(node)
                    give(start)
                    reach_back = 2 * (tail - start) + REACH
                    free_cpu -= tail_cpu - cpu[start]
                    free_memory -= tail_memory - memory[start]
                    tail_cpu, tail_memory = cpu[start], memory[start]
                    small_cpu, small_memory = tail_cpu - cpu[start - 1], tail_memory - memory[start - 1]
            if end > head or start < tail:
                frees_cpu[node], frees_memory[node] = free_cpu, free_memory
                use(entry)
                head, tail, idle = end, start, 0
            else:
                idle += 1
        return True
