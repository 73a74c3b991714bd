"""The node that a plain instance fills most, found and taken without a call of numpy.

Owns: nodes on shelves, and the search. Leaves to others: which nodes are suitable, what else is placed meanwhile (it
reads the log of touched nodes). The rule: exactly what ``binpack`` chooses, the highest utilisation after the placement
(``scoring``), of equal ones the lowest number; how the nodes are shelved changes the time and nothing else.

Nodes of like size share a shelf. A shelf is a grid of cells by free cpu and by free memory; the lines of the grid are
taken from what is asked for, so that what fits somewhere in a cell mostly fits everywhere in it. A cell is a list of
nodes, fullest first; one integer has a bit for each cell that holds any. A search masks the cells that have too little,
visits the others from the fullest on, and ends where no node can score what the best one found so far does.

A decision visits few nodes, so that it costs some microseconds; putting the node back costs the logarithm of a cell and
moving its tail. Building costs one sort.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from orchestrator.scheduling.room import Room
from orchestrator.scheduling.scoring import SCALE
from orchestrator.scheduling.wish import CPU, DISK, MEMORY, Int64Array

LINES_MAX = 8
"""Lines of a grid in each direction: more make cells smaller and the search for full ones longer."""
SPAN = 4
"""Nodes share a shelf if the largest has at most so many times what the smallest has: a search looks at every shelf,
which costs more than it saves as long as a score tells sizes apart well enough."""
FINE = 18
ONE = SCALE << FINE
"""All of a node's cpu or memory in a key. So fine that a share of one unit rounds to less than a score can tell."""
BITS = 20
"""For the node's number below the key in an entry: a million nodes. An entry stays within 60 bits, two digits of a
Python integer."""
_NUMBER = (1 << BITS) - 1
NOT_SHOWN, HIDDEN = -1, -2
"""In place of a cell: nothing fits there; another node that is just like it is shown."""


class _Shelf:
    """``cells``: entries (key and number) in order, by rank; the grid's cells are ranked by ``floor``, what the keys of
    their nodes cannot be below. ``used``: a bit for each rank with nodes; ``enough_*``: by level of the request, the
    ranks that are not below it. ``steepest``: what one unit of cpu, of memory adds to a key at most."""

    __slots__ = ("cells", "enough_cpu", "enough_memory", "floor", "rank", "steepest", "used")

    def __init__(self, least: Sequence[int], most: Sequence[int], cpu: list[int], memory: list[int]) -> None:
        self.steepest = (ONE // least[0] + 1, ONE // least[1] + 1)
        width = len(memory) + 1
        corners = [(x * (ONE // most[0]) + y * (ONE // most[1])) for x in (0, *cpu) for y in (0, *memory)]
        order = sorted(range(len(corners)), key=lambda place: (corners[place], place))
        self.floor = [corners[place] << BITS for place in order]
        rank = [0] * len(order)
        for at, place in enumerate(order):
            rank[place] = at
        self.rank = [rank[at : at + width] for at in range(0, len(rank), width)]
        self.cells: list[list[int]] = [[] for _ in order]
        self.used = 0
        self.enough_cpu = [_bits(self.rank[level:]) for level in range(len(cpu) + 1)]
        self.enough_memory = [_bits([row[level:] for row in self.rank]) for level in range(width)]


def _bits(rows: Sequence[Sequence[int]]) -> int:
    return sum(1 << rank for row in rows for rank in row)


class BestFit:
    """Over the given suitable nodes. ``requests``: int64 (any, 3), what will be asked for; other requests are served as
    well, only slower."""

    def __init__(self, room: Room, nodes: Int64Array, requests: Int64Array) -> None:
        self._room = room
        problem = room.problem
        room.lists()
        self._cpu_lines = _lines(requests[:, CPU])
        self._memory_lines = _lines(requests[:, MEMORY])
        divisors = np.stack([problem.divisor_cpu, problem.divisor_memory], axis=1)
        kinds, kind = np.unique(np.hstack([problem.capacity[:, :DISK], divisors]), axis=0, return_inverse=True)
        sizes = [(row[0], row[1], row[2], row[3]) for row in kinds.tolist()]
        slopes = [(ONE // divisor_cpu, ONE // divisor_memory) for _, _, divisor_cpu, divisor_memory in sizes]
        of_node = kind.reshape(-1).tolist()
        # By node: capacity (cpu, memory) and what to divide by; what one unit adds to its key.
        self._sizes: list[tuple[int, int, int, int]] = [sizes[at] for at in of_node]
        self._slopes: list[tuple[int, int]] = [slopes[at] for at in of_node]
        self._shelf: list[_Shelf | None] = [None] * len(problem)
        self._rank: list[int] = [NOT_SHOWN] * len(problem)
        self._entry: list[int] = [0] * len(problem)
        self._twins: dict[int, list[int]] = {}
        self._shelves: list[_Shelf] = []
        self._seen = len(room.log)
        for least, most, members in _like_sizes(divisors, nodes):
            shelf = _Shelf(least, most, self._cpu_lines, self._memory_lines)
            self._shelves.append(shelf)
            self._fill(shelf, members)
        for waiting in self._twins.values():
            waiting.reverse()

    def _fill(self, shelf: _Shelf, members: list[int]) -> None:
        """Put the nodes on an empty shelf. Of those that are wholly alike just the first is shown: it stands before the
        others, which wait in line until it changes."""
        room = self._room
        first: dict[tuple[int, ...], int] = {}
        for node in members:
            self._shelf[node] = shelf
            alike = (room.cpu[node], room.memory[node], room.disk[node], *self._sizes[node])
            before = first.setdefault(alike, node)
            if before == node:
                self._put(shelf, node)
            elif self._rank[before] != NOT_SHOWN:
                self._rank[node] = HIDDEN
                self._twins.setdefault(before, []).append(node)

    def take(self, cpu: int, memory: int, disk: int) -> int:
        """Take room for one instance on the best node and return it; -1 if it fits nowhere. Afterwards the room's lists
        are current, its arrays are not."""
        # One long body: a call costs as much as looking at a node.
        room = self._room
        if self._seen != len(room.log) or not room.listed:
            self._catch_up()
        frees_cpu, frees_memory = room.cpu, room.memory
        cpu_level = bisect_right(self._cpu_lines, cpu)
        memory_level = bisect_right(self._memory_lines, memory)
        best, chosen, best_rank, best_entry = -1, -1, -1, -1
        found: _Shelf | None = None
        for shelf in self._shelves:
            cells = shelf.used & shelf.enough_cpu[cpu_level] & shelf.enough_memory[memory_level]
            if not cells:
                continue
            # Keys and scores round down: no node with a greater key scores as much as the best one so far.
            cpu_slope, memory_slope = shelf.steepest
            end = 2 * ONE + cpu * cpu_slope + memory * memory_slope
            limit = (end - (best << FINE + 1) + 1) << BITS
            floor, all_cells = shelf.floor, shelf.cells
            while cells:
                lowest = cells & -cells
                rank = lowest.bit_length() - 1
                if floor[rank] >= limit:
                    break
                cells ^= lowest
                for entry in all_cells[rank]:
                    if entry >= limit:
                        break
                    node = entry & _NUMBER
                    free_cpu = frees_cpu[node]
                    if free_cpu < cpu:
                        continue
                    free_memory = frees_memory[node]
                    if free_memory < memory or (disk and room.disk[node] < disk):
                        continue
                    size_cpu, size_memory, divisor_cpu, divisor_memory = self._sizes[node]
                    score = (
                        (size_cpu - free_cpu + cpu) * SCALE // divisor_cpu
                        + (size_memory - free_memory + memory) * SCALE // divisor_memory
                    ) >> 1
                    if score > best or (score == best and node < chosen):
                        best, chosen, found, best_rank, best_entry = score, node, shelf, rank, entry
                        limit = (end - (score << FINE + 1) + 1) << BITS
        if found is None:
            return -1
        free_cpu, free_memory = frees_cpu[chosen] - cpu, frees_memory[chosen] - memory
        frees_cpu[chosen], frees_memory[chosen] = free_cpu, free_memory
        if disk:
            room.disk[chosen] -= disk
        room.log.append(chosen)
        self._seen += 1
        # What ``_move`` does, with what is known here.
        cell = found.cells[best_rank]
        if len(cell) > 1:
            del cell[bisect_left(cell, best_entry)]
        else:
            cell.clear()
            found.used ^= 1 << best_rank
        if chosen in self._twins:
            self._show_twin(found, chosen)
        rank = found.rank[bisect_right(self._cpu_lines, free_cpu)][bisect_right(self._memory_lines, free_memory)]
        slope_cpu, slope_memory = self._slopes[chosen]
        entry = (free_cpu * slope_cpu + free_memory * slope_memory) << BITS | chosen
        self._rank[chosen], self._entry[chosen] = rank, entry
        cell = found.cells[rank]
        if cell:
            insort(cell, entry)
        else:
            cell.append(entry)
            found.used |= 1 << rank
        return chosen

    def _catch_up(self) -> None:
        room = self._room
        room.lists()
        for node in sorted(set(room.log[self._seen :])):
            if self._shelf[node] is not None:
                self._move(node)
        self._seen = len(room.log)

    def _move(self, node: int) -> None:
        """Put a node where what is now free of it belongs; it moves from where it was."""
        shelf = self._shelf[node]
        assert shelf is not None
        rank = self._rank[node]
        if rank >= 0:
            cell = shelf.cells[rank]
            del cell[bisect_left(cell, self._entry[node])]
            if not cell:
                shelf.used ^= 1 << rank
            if node in self._twins:
                self._show_twin(shelf, node)
        self._put(shelf, node)

    def _put(self, shelf: _Shelf, node: int) -> None:
        room = self._room
        cpu, memory = room.cpu[node], room.memory[node]
        if cpu < 0 or memory < 0 or room.disk[node] < 0:
            # It shrank below what it has given away: nothing fits, not even what asks for nothing.
            self._rank[node] = NOT_SHOWN
            return
        rank = shelf.rank[bisect_right(self._cpu_lines, cpu)][bisect_right(self._memory_lines, memory)]
        slope_cpu, slope_memory = self._slopes[node]
        self._show(shelf, node, rank, cpu * slope_cpu + memory * slope_memory)

    def _show(self, shelf: _Shelf, node: int, rank: int, key: int) -> None:
        self._rank[node] = rank
        self._entry[node] = entry = key << BITS | node
        cell = shelf.cells[rank]
        if cell:
            insort(cell, entry)
        else:
            cell.append(entry)
            shelf.used |= 1 << rank

    def _show_twin(self, shelf: _Shelf, node: int) -> None:
        """The next one that is still as this one was takes its place."""
        waiting = self._twins.pop(node)
        while waiting:
            twin = waiting.pop()
            if self._rank[twin] == HIDDEN:
                self._show(shelf, twin, self._rank[node], self._entry[node] >> BITS)
                if waiting:
                    self._twins[twin] = waiting
                return


def _lines(amounts: Int64Array) -> list[int]:
    """At most LINES_MAX amounts that split those asked for evenly, the smallest and the largest among them."""
    distinct = np.unique(amounts)
    if len(distinct) > LINES_MAX:
        distinct = distinct[np.arange(LINES_MAX) * (len(distinct) - 1) // (LINES_MAX - 1)]
    found: list[int] = distinct.tolist()
    return found


def _like_sizes(divisors: Int64Array, nodes: Int64Array) -> list[tuple[tuple[int, int], tuple[int, int], list[int]]]:
    """Nodes of like size: the least and the greatest capacity (cpu, memory), and which they are."""
    if not len(nodes):
        return []
    sizes = divisors[nodes]
    distinct, kind = np.unique(sizes, axis=0, return_inverse=True)
    groups: list[tuple[list[int], list[int]]] = []
    of_size = [_group(groups, cpu, memory) for cpu, memory in distinct.tolist()]
    kind = np.array(of_size, dtype=np.int64)[kind.reshape(-1)]
    order = np.argsort(kind, kind="stable")
    bounds = np.searchsorted(kind[order], np.arange(len(groups) + 1)).tolist()
    return [
        ((least[0], least[1]), (most[0], most[1]), nodes[order[start:end]].tolist())
        for (least, most), (start, end) in zip(groups, pairwise(bounds), strict=True)
    ]


def _group(groups: list[tuple[list[int], list[int]]], *size: int) -> int:
    """The group (least and greatest of each) that this size may join, which it does; a new one if there is none."""
    for at, (least, most) in enumerate(groups):
        low, high = list(map(min, least, size)), list(map(max, most, size))
        if all(big <= SPAN * small for small, big in zip(low, high, strict=True)):
            least[:], most[:] = low, high
            return at
    groups.append((list(size), list(size)))
    return len(groups) - 1
