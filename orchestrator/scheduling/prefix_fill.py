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
from orchestrator.scheduling.wish import CPU, DIMENSIONS, MEMORY, Int64Array

BITS = 20
"""For the node's number below the key in an entry: a million nodes."""
NUMBER = (1 << BITS) - 1
_LEFT_BITS, _SIZE_BITS = 21, 14
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
    """The given nodes that have room for ``least`` (what every instance asks for at least), as a policy that fills
    nodes up opens them: those without devices first, then by utilisation, of equally full ones the smaller, then by
    number.

    An entry is one integer with all of that in it, which makes sorting cheap.
    """

    def __init__(self, room: Room, nodes: Int64Array, least: tuple[int, ...]) -> None:
        self.least = least
        self._room = room
        self._nodes = nodes
        problem = room.problem
        size = problem.divisor_cpu * SCALE // max(int(problem.divisor_cpu.max(initial=1)), 1)
        size += problem.divisor_memory * SCALE // max(int(problem.divisor_memory.max(initial=1)), 1)
        self._fixed: Int64Array = (size >> _LEFT_BITS - _SIZE_BITS) << BITS | np.arange(len(problem))
        self._fixed |= (problem.devices.capacity > 0).astype(np.int64) << _LEFT_BITS + _SIZE_BITS + BITS
        self._facts: dict[int, tuple[int, ...]] = {}
        self._entry: dict[int, int] = {}
        self._mending = False
        self._order: list[int] = []
        self._seen = -1

    def order(self) -> list[int]:
        """Entries in order; a node's number is in the lowest ``BITS``. The room's lists are current afterwards."""
        room = self._room
        log = room.log
        if self._seen < 0 or len(log) - self._seen > RESORT_FROM:
            self._sort()
        room.lists()
        if self._seen < len(log):
            self.mend(sorted(set(log[self._seen :])))
        self._seen = len(log)
        return self._order

    def _sort(self) -> None:
        room, problem = self._room, self._room.problem
        room.arrays()
        free = problem.free[self._nodes]
        enough = (free >= self.least).all(axis=1)
        nodes, free = self._nodes[enough], free[enough]
        left = free[:, CPU] * SCALE // problem.divisor_cpu[nodes]
        left += free[:, MEMORY] * SCALE // problem.divisor_memory[nodes]
        entries = (left << _SIZE_BITS + BITS) + self._fixed[nodes]
        entries.sort()
        self._order = entries.tolist()
        self._mending = False
        self._seen = len(room.log)

    def mend(self, nodes: list[int]) -> None:
        """Put these where they belong now; the room's lists are current."""
        room, order = self._room, self._order
        if not self._mending:
            # Only who mends needs them: a round that fills once does not.
            self._mending = True
            self._entry = {entry & NUMBER: entry for entry in order}
        if not self._facts:
            columns = (self._fixed, room.problem.divisor_cpu, room.problem.divisor_memory)
            facts = zip(*(column[self._nodes].tolist() for column in columns), strict=True)
            self._facts = dict(zip(self._nodes.tolist(), facts, strict=True))
        cpu, memory, disk = self.least
        for node in nodes:
            if node not in self._facts:
                continue
            entry = self._entry.pop(node, -1)
            if entry >= 0:
                del order[bisect_left(order, entry)]
            free_cpu, free_memory = room.cpu[node], room.memory[node]
            if free_cpu >= cpu and free_memory >= memory and room.disk[node] >= disk:
                fixed, divisor_cpu, divisor_memory = self._facts[node]
                left = free_cpu * SCALE // divisor_cpu + free_memory * SCALE // divisor_memory
                self._entry[node] = entry = (left << _SIZE_BITS + BITS) + fixed
                insort(order, entry)


def prefix_fill(room: Room, order: list[int], requests: Int64Array) -> Int64Array | None:
    """Place instances that ask for ``requests`` (int64 (instances, 3), big first) on the nodes of ``order``.

    int64 (instances,): the node of each; None when not all of them find room, and then nothing is taken. The room's
    lists are current before and after, and its log is told.
    """
    count = len(requests)
    sums = np.zeros((len(DIMENSIONS), count + 1), dtype=np.int64)
    np.cumsum(requests.T, axis=1, out=sums[:, 1:])
    frees = (room.cpu, room.memory, room.disk)
    # What nobody asks for limits nothing: nodes that gave away more than they have are not in the order.
    used = [(total, free) for total, free in zip(sums.tolist(), frees, strict=True) if total[-1]]
    head, tail = 0, count
    takers, takes, backfillers, backfills = [], [], [], []
    for entry in order:
        node = entry & NUMBER
        end = tail
        for total, free in used:
            end = bisect_right(total, total[head] + free[node], head, end + 1) - 1
        if end > head:
            takers.append(node)
            takes.append(end)
        start = tail
        if end < tail:
            start = end
            for total, free in used:
                start = bisect_left(total, total[tail] - free[node] + total[end] - total[head], start, tail)
            if start < tail:
                backfillers.append(node)
                backfills.append(start)
        head, tail = end, start
        if head == tail:
            break
    if head < tail:
        return None
    nodes = takers + backfillers[::-1]
    # The last to backfill begins where the last run from the big end ends.
    bounds = [0, *takes, *backfills[-2::-1], count] if backfills else [0, *takes]
    for amounts, free in zip(np.diff(sums[:, bounds]).tolist(), frees, strict=True):
        for node, amount in zip(nodes, amounts, strict=True):
            free[node] -= amount
    room.log.extend(nodes)
    return np.repeat(np.array(nodes, dtype=np.int64), np.diff(bounds))
