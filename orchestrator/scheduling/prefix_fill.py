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

from bisect import bisect_left, bisect_right, insort

import numpy as np
import numpy.typing as npt

from orchestrator.scheduling.room import Room
from orchestrator.scheduling.scoring import SCALE
from orchestrator.scheduling.wish import CPU, DIMENSIONS, DISK, MEMORY, Int64Array

BITS = 20
"""For the node's number below the key in an entry: a million nodes."""
NUMBER = (1 << BITS) - 1
_LEFT_BITS, _SIZE_BITS = 21, 14
IDLE_MAX = 3
"""So many nodes in a row without use for anybody, and the next ones are looked for and not tried in turn."""
RESORT_FROM = 256
"""From so many touches on the list is sorted anew and not mended."""


SIZES = 16
"""Of sizes that are told apart before the balance of cpu and memory counts."""


def big_first(requests: Int64Array, capacity: Int64Array) -> npt.NDArray[np.uint16]:
    """uint16 per request: the keys of the order in which a fill wants them. ``capacity``: of the whole cluster, int64
    (3,); sizes are shares of it. Equal keys are told apart by nothing."""
    shares = requests * ((1 << 40) // np.maximum(capacity, 1))
    sizes = shares.sum(axis=1)
    level = (SIZES - 1 - sizes * (SIZES - 1) // max(int(sizes.max(initial=0)), 1)).astype(np.uint16)
    lean = shares[:, CPU] - shares[:, MEMORY]
    lowest = int(lean.min(initial=0))
    steps = (lean - lowest) * 65535 // max(int(lean.max(initial=0)) - lowest, 1)
    # Sorting numbers of 16 bits takes a tenth of the time that others take.
    order = np.argsort(steps.astype(np.uint16), kind="stable")
    order = order[np.argsort(level[order], kind="stable")]
    level = level[order]
    starts = np.searchsorted(level, np.arange(SIZES + 1))
    start, count = starts[level], np.diff(starts)[level]
    place = np.arange(len(order)) - start
    place = start + np.where(2 * place < count, 2 * place, 2 * (count - 1 - place) + 1)
    keys = np.empty(len(order), dtype=np.uint16)
    keys[order] = place * 65535 // max(len(order), 65535)
    return keys


class FullestFirst:
    """The given nodes that have room for ``least`` (what every instance asks for at least), in the order in which a
    fill opens them: those without devices first, then by how much is left of the resource that will run out first, of
    equal ones the smaller, then by number. ``demand``: int64 (3,), what is asked for in sum; it tells what runs out.

    Where cpu will run out first and where memory will are lists of their own: of each, only nodes from a certain place
    on have room for a given amount. An entry is one integer with all of the order in it, which makes sorting cheap.
    """

    def __init__(self, room: Room, nodes: Int64Array, least: tuple[int, ...], demand: Int64Array) -> None:
        self.least = least
        self._room = room
        self._nodes = nodes
        problem = room.problem
        totals = problem.capacity.sum(axis=0).tolist()
        cpu, memory = int(demand[CPU]) * max(totals[MEMORY], 1), int(demand[MEMORY]) * max(totals[CPU], 1)
        # Shares of cpu and of memory are compared after these are multiplied in: the scarcer one counts more.
        weight = min(max(1024 * memory // max(cpu + memory, 1), 64), 960)
        self._weights: tuple[int, int] = (weight, 1024 - weight)
        self._largest = int(problem.divisor_cpu.max(initial=1)), int(problem.divisor_memory.max(initial=1))
        size = problem.divisor_cpu * SCALE // self._largest[0] + problem.divisor_memory * SCALE // self._largest[1]
        self._fixed: Int64Array = (size >> 21 - _SIZE_BITS) << BITS | np.arange(len(problem))
        self._fixed |= (problem.devices.capacity > 0).astype(np.int64) << _LEFT_BITS + _SIZE_BITS + BITS
        self._facts: dict[int, tuple[int, ...]] = {}
        self._entry: dict[int, tuple[list[int], int]] = {}
        self._mending = False
        self._orders: tuple[list[int], list[int]] = ([], [])
        self._seen = -1

    def orders(self) -> tuple[list[int], list[int]]:
        """Entries in order, where cpu runs out first and where memory does; a node's number is in the lowest ``BITS``.
        The room's lists are current afterwards."""
        log = self._room.log
        if self._seen < 0 or len(log) - self._seen > RESORT_FROM:
            self._sort()
        self._room.lists()
        if self._seen < len(log):
            self._mend(sorted(set(log[self._seen :])))
        self._seen = len(log)
        return self._orders

    def first_for(self, resource: int, amount: int) -> int:
        """Nodes without devices in the list of the resource (CPU or MEMORY) with entries below this have less of it."""
        share = amount * SCALE // self._largest[resource]
        return (share * self._weights[resource] >> 10) << _SIZE_BITS + BITS

    def _sort(self) -> None:
        room, problem = self._room, self._room.problem
        room.arrays()
        free = problem.free[self._nodes]
        enough = (free >= self.least).all(axis=1)
        nodes, free = self._nodes[enough], free[enough]
        cpu = free[:, CPU] * SCALE // problem.divisor_cpu[nodes] * self._weights[CPU]
        memory = free[:, MEMORY] * SCALE // problem.divisor_memory[nodes] * self._weights[MEMORY]
        entries = (np.minimum(cpu, memory) >> 10 << _SIZE_BITS + BITS) + self._fixed[nodes]
        by_cpu = cpu <= memory
        self._orders = np.sort(entries[by_cpu]).tolist(), np.sort(entries[~by_cpu]).tolist()
        self._mending = False
        self._seen = len(room.log)

    def _mend(self, nodes: list[int]) -> None:
        """Put these where they belong now; the room's lists are current."""
        room = self._room
        if not self._mending:
            # Only who mends needs them: a round that fills once does not.
            self._mending = True
            self._entry = {entry & NUMBER: (order, entry) for order in self._orders for entry in order}
        if not self._facts:
            columns = (self._fixed, room.problem.divisor_cpu, room.problem.divisor_memory)
            facts = zip(*(column[self._nodes].tolist() for column in columns), strict=True)
            self._facts = dict(zip(self._nodes.tolist(), facts, strict=True))
        least_cpu, least_memory, least_disk = self.least
        cpu_weight, memory_weight = self._weights
        for node in nodes:
            if node not in self._facts:
                continue
            known = self._entry.pop(node, None)
            if known is not None:
                order, entry = known
                del order[bisect_left(order, entry)]
            free_cpu, free_memory = room.cpu[node], room.memory[node]
            if free_cpu >= least_cpu and free_memory >= least_memory and room.disk[node] >= least_disk:
                fixed, divisor_cpu, divisor_memory = self._facts[node]
                cpu = free_cpu * SCALE // divisor_cpu * cpu_weight
                memory = free_memory * SCALE // divisor_memory * memory_weight
                order = self._orders[cpu > memory]
                entry = (min(cpu, memory) >> 10 << _SIZE_BITS + BITS) + fixed
                self._entry[node] = order, entry
                insort(order, entry)


def prefix_fill(room: Room, nodes: FullestFirst, requests: Int64Array) -> Int64Array | None:
    """Place instances that ask for ``requests`` (int64 (instances, 3), in the order of ``big_first``).

    int64 (instances,): the node of each; None when not all of them find room, and then nothing is taken. The room's
    lists are current afterwards, and its log is told.
    """
    count = len(requests)
    dimensions = len(DIMENSIONS) if requests[:, DISK].any() else DISK
    sums = np.zeros((dimensions, count + 1), dtype=np.int64)
    np.cumsum(requests[:, :dimensions].T, axis=1, out=sums[:, 1:])
    totals = sums.tolist()
    runs = _runs(room, nodes, totals)
    if runs is None:
        return None
    touched, bounds = runs
    for total, free in zip(totals, (room.cpu, room.memory, room.disk), strict=False):
        for node, start, end in zip(touched, bounds, bounds[1:], strict=False):
            free[node] -= total[end] - total[start]
    room.log.extend(touched)
    ends = np.array(bounds)
    return np.repeat(np.array(touched, dtype=np.int64), ends[1:] - ends[:-1])


def _runs(room: Room, nodes: FullestFirst, totals: list[list[int]]) -> tuple[list[int], list[int]] | None:
    """Nodes, and the bounds of the run that each takes: ``nodes[i]`` has those from ``bounds[i]`` to ``bounds[i + 1]``.
    A node comes up twice if it takes some from both ends. ``totals``: running sums by resource."""
    by_cpu, by_memory = nodes.orders()
    cpu, memory = totals[CPU], totals[MEMORY]
    # Disk is there only if somebody asks for any: nodes that gave away more than they have are not in the order.
    disk = totals[DISK] if len(totals) > DISK else None
    free_cpu, free_memory, free_disk = room.cpu, room.memory, room.disk
    head, tail, idle = 0, len(cpu) - 1, IDLE_MAX
    at_cpu = at_memory = 0
    takers, takes, backfillers, backfills = [], [], [], []
    while head < tail:
        if idle >= IDLE_MAX:
            # Several nodes in a row that had room for neither end: on to the next that may have.
            idle = 0
            needed = min(cpu[head + 1] - cpu[head], cpu[tail] - cpu[tail - 1])
            at_cpu = bisect_left(by_cpu, nodes.first_for(CPU, needed), at_cpu)
            needed = min(memory[head + 1] - memory[head], memory[tail] - memory[tail - 1])
            at_memory = bisect_left(by_memory, nodes.first_for(MEMORY, needed), at_memory)
        if at_cpu < len(by_cpu) and (at_memory == len(by_memory) or by_cpu[at_cpu] < by_memory[at_memory]):
            node = by_cpu[at_cpu] & NUMBER
            at_cpu += 1
        elif at_memory < len(by_memory):
            node = by_memory[at_memory] & NUMBER
            at_memory += 1
        else:
            return None
        end = bisect_right(cpu, cpu[head] + free_cpu[node], head, tail + 1) - 1
        end = bisect_right(memory, memory[head] + free_memory[node], head, end + 1) - 1
        if disk is not None:
            end = bisect_right(disk, disk[head] + free_disk[node], head, end + 1) - 1
        start = tail
        if end < tail:
            start = bisect_left(cpu, cpu[tail] - free_cpu[node] + cpu[end] - cpu[head], end, tail)
            start = bisect_left(memory, memory[tail] - free_memory[node] + memory[end] - memory[head], start, tail)
            if disk is not None:
                start = bisect_left(disk, disk[tail] - free_disk[node] + disk[end] - disk[head], start, tail)
            if start < tail:
                backfillers.append(node)
                backfills.append(start)
            elif end == head:
                idle += 1
                continue
        if end > head:
            takers.append(node)
            takes.append(end)
        head, tail, idle = end, start, 0
    # The last to backfill begins where the last run from the big end ends.
    bounds = [0, *takes, *backfills[-2::-1], len(cpu) - 1] if backfills else [0, *takes]
    return takers + backfillers[::-1], bounds
