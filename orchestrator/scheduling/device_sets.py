"""The best set of devices inside one node: exact for up to 64 devices, by dynamic programming over circles of links.

Owns: the cost of links, what the free devices left over are worth, the order between sets. Leaves to others: what is
free on which node (``devices``), choosing the node (``policies``).

The order, first difference decides: cheapest links; shares on the fullest devices that will do; the smallest memory
that will do; the most valuable rest; within each island, neighbours by number; the lowest numbers.

Links are counted in pairs: 0 within an island (NVLink, NVSwitch), 1 below one PCIe switch, 2 within a NUMA node, 4
across. What is left is worth the sum of squares of whole free devices per island, per PCIe switch, per NUMA node and of
the node: four free ones in one circle are worth more than two and two, and a pair comes out of a broken circle and not
out of a whole one.

Circles nest on every real machine (an island may lie within a switch or span the NUMA nodes), so pairs have a tree of
distances, and the best k devices below a branch are the best split of k between its children. All terms of the order
are sums over the set (or over circles), so a set that is best in a part stays best in the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from orchestrator.contract.devices import UNKNOWN_NUMA, circle_of
from orchestrator.contract.model import WHOLE_DEVICE, Device, DeviceRequest, Link

ISLAND, SWITCH, SOCKET, ACROSS = 0, 1, 2, 4
"""Cost of a pair of devices."""

Key = tuple[int, int, int, int, int, int]
"""Lower is better: links, free millis, memory, what the rest loses, numbers skipped, minus bits for low numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSet:
    """The best set of a node. cost: of its links; rest: what the whole free devices left over are worth; loss: how much
    less that is than before."""

    numbers: tuple[int, ...]
    cost: int
    rest: int
    loss: int


@dataclass(frozen=True, slots=True)
class _Branch:
    """Devices that are ``cost`` from each other unless they are in one child. ``circles``: how many levels it counts
    for in the worth of the rest. A leaf has no children."""

    cost: int
    circles: int
    numbers: tuple[int, ...]
    children: tuple[_Branch, ...]


def pair_cost(left: Device, right: Device) -> int:
    if left.island == right.island:
        return ISLAND
    if left.pcie == right.pcie and left.pcie:
        return SWITCH
    return SOCKET if left.numa == right.numa and left.numa != UNKNOWN_NUMA else ACROSS


def link_cost(inventory: Sequence[Device], numbers: Sequence[int]) -> int:
    return sum(pair_cost(inventory[left], inventory[right]) for left, right in combinations(numbers, 2))


def best_set(
    inventory: Sequence[Device], free: Sequence[int], usable: Sequence[int], request: DeviceRequest
) -> DeviceSet | None:
    """The best set of ``request.count`` of the ``usable`` numbers (that match and have the share free), or None.

    ``free``: millis per device, less than a whole where it must not count as left over (a cordoned one).
    """
    tree = _tree(tuple(inventory))
    before = _worth(tree, [millis == WHOLE_DEVICE for millis in free])
    found = None
    for circle in _circles(inventory, usable, request):
        candidate = _best(tree, inventory, free, circle, request.count)
        if candidate is not None and (found is None or candidate[0] < found[0]):
            found = candidate
    if found is None:
        return None
    numbers = found[1]
    taken = frozenset(numbers)
    rest = _worth(tree, [millis == WHOLE_DEVICE and number not in taken for number, millis in enumerate(free)])
    return DeviceSet(numbers=numbers, cost=link_cost(inventory, numbers), rest=rest, loss=before - rest)


def _circles(inventory: Sequence[Device], usable: Sequence[int], request: DeviceRequest) -> list[list[int]]:
    """The usable numbers from among which the set may come: all, or those of one circle of the required link."""
    if request.link is Link.ANY or request.count < 2:
        return [list(usable)]
    members: dict[int, list[int]] = {}
    for number in usable:
        circle = circle_of(inventory[number], request.link)
        if circle is not None:
            members.setdefault(circle, []).append(number)
    return [members[circle] for circle in sorted(members)]


# ---------------------------------------------------------------------------- the tree


@lru_cache(maxsize=256)
def _tree(inventory: tuple[Device, ...]) -> _Branch:
    """Circles from the whole node down to islands, single children left out."""
    everybody = tuple(range(len(inventory)))

    def grow(numbers: tuple[int, ...], level: int, circles: int) -> _Branch:
        parts = _parts(inventory, numbers, _LEVELS[level]) if level < len(_LEVELS) else []
        if level == len(_LEVELS):
            return _Branch(ISLAND, circles, numbers, ())
        if len(parts) == 1:
            return grow(numbers, level + 1, circles + 1)
        children = tuple(grow(part, level + 1, 1) for part in parts)
        return _Branch((ACROSS, SOCKET, SWITCH)[level], circles, numbers, children)

    return grow(everybody, 0, 1)


def _parts(
    inventory: Sequence[Device], numbers: Sequence[int], near: Callable[[Device, Device], bool]
) -> list[tuple[int, ...]]:
    """Numbers that are near each other, or near through others, together; by their lowest number."""
    parts: list[list[int]] = []
    for number in numbers:
        joined = [part for part in parts if any(near(inventory[number], inventory[other]) for other in part)]
        merged = sorted({number}.union(*joined)) if joined else [number]
        parts = [part for part in parts if part not in joined] + [merged]
    return sorted(tuple(part) for part in parts)


_LEVELS: tuple[Callable[[Device, Device], bool], ...] = (
    lambda left, right: pair_cost(left, right) <= SOCKET,
    lambda left, right: pair_cost(left, right) <= SWITCH,
    lambda left, right: pair_cost(left, right) <= ISLAND,
)


def _worth(branch: _Branch, whole: Sequence[bool]) -> int:
    count = sum(whole[number] for number in branch.numbers)
    return branch.circles * count * count + sum(_worth(child, whole) for child in branch.children)


# ---------------------------------------------------------------------------- choosing


def _best(
    tree: _Branch, inventory: Sequence[Device], free: Sequence[int], usable: Sequence[int], count: int
) -> tuple[Key, tuple[int, ...]] | None:
    """The best ``count`` of the usable numbers with its key."""
    if len(usable) < count:
        return None
    best = _table(tree, inventory, free, frozenset(usable), count)
    return best[count]


_Table = list[tuple[Key, tuple[int, ...]]]
_NOTHING: tuple[Key, tuple[int, ...]] = ((0, 0, 0, 0, 0, 0), ())


def _table(
    branch: _Branch, inventory: Sequence[Device], free: Sequence[int], usable: frozenset[int], most: int
) -> _Table:
    """For every k that the branch can give, up to ``most``: the best k devices below it, with their key."""
    mine = [number for number in branch.numbers if number in usable]
    if not mine:
        return [_NOTHING]
    if branch.children:
        table: _Table = [_NOTHING]
        for child in branch.children:
            below = _table(child, inventory, free, usable, most)
            if len(below) > 1:
                table = _merge(table, below, branch.cost, most)
    else:
        table = [_NOTHING, *(_within(mine, inventory, free, count) for count in range(1, min(most, len(mine)) + 1))]
    whole = sum(free[number] == WHOLE_DEVICE for number in branch.numbers)
    return [_with_loss(entry, branch.circles, whole, free) for entry in table]


def _within(
    island: list[int], inventory: Sequence[Device], free: Sequence[int], count: int
) -> tuple[Key, tuple[int, ...]]:
    """The best ``count`` of one island, all at no cost from each other: the fullest, then the smallest, then a run."""
    order = sorted(island, key=lambda number: (free[number], inventory[number].memory_mib, number))
    last = order[count - 1]
    alike = [
        number
        for number in order
        if (free[number], inventory[number].memory_mib) == (free[last], inventory[last].memory_mib)
    ]
    sure = order[: order.index(alike[0])]
    wanted = count - len(sure)
    found: tuple[Key, tuple[int, ...]] | None = None
    for start in range(len(alike) - wanted + 1):
        numbers = tuple(sorted((*sure, *alike[start : start + wanted])))
        key = (
            0,
            sum(free[number] for number in numbers),
            sum(inventory[number].memory_mib for number in numbers),
            0,
            numbers[-1] - numbers[0] + 1 - count,
            -sum(1 << 63 >> number for number in numbers),
        )
        if found is None or key < found[0]:
            found = key, numbers
    assert found is not None, "the island has that many"
    return found


def _merge(left: _Table, right: _Table, cost: int, most: int) -> _Table:
    table: _Table = []
    for wanted in range(min(most, len(left) + len(right) - 2) + 1):
        splits = []
        for here in range(max(0, wanted - len(right) + 1), min(wanted, len(left) - 1) + 1):
            one, other = left[here], right[wanted - here]
            first, second = one[0], other[0]
            key = (
                first[0] + second[0] + cost * here * (wanted - here),
                first[1] + second[1],
                first[2] + second[2],
                first[3] + second[3],
                first[4] + second[4],
                first[5] + second[5],
            )
            splits.append((key, one[1] + other[1]))
        table.append(min(splits))
    return [(key, tuple(sorted(numbers))) for key, numbers in table]


def _with_loss(
    entry: tuple[Key, tuple[int, ...]], circles: int, whole: int, free: Sequence[int]
) -> tuple[Key, tuple[int, ...]]:
    """Counts what this circle's rest loses by the set: its square of whole free devices before, less that after."""
    key, numbers = entry
    taken = sum(free[number] == WHOLE_DEVICE for number in numbers)
    loss = circles * (whole * whole - (whole - taken) * (whole - taken))
    return (key[0], key[1], key[2], key[3] + loss, key[4], key[5]), numbers
