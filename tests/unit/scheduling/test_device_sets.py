"""The best set of devices inside one node, against every set that there is, on machines as they are built.

At random, and with all that a request may ask for: ``tests/properties/test_scheduling.py``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations

import pytest

from orchestrator.contract.devices import UNKNOWN_NUMA
from orchestrator.contract.model import Device, DeviceRequest, Link
from orchestrator.scheduling import device_sets
from orchestrator.scheduling.device_sets import DeviceSet, best_set, link_cost, pair_cost


@pytest.fixture(autouse=True)
def every_tree_anew() -> Iterator[None]:
    device_sets._tree.cache_clear()
    yield


def machine(*where: tuple[int, str, int], memory: Sequence[int] = ()) -> tuple[Device, ...]:
    """``where``: island, PCIe switch ("" = it says none) and NUMA node of each device."""
    return tuple(
        Device(
            id=f"d{at}", island=island, pcie=ord(switch) if switch else 0, numa=numa,
            memory_mib=memory[at] if memory else 80_000,
        )
        for at, (island, switch, numa) in enumerate(where)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "cost"),
    [
        ((0, "a", 0), (0, "b", 1), 0),
        ((0, "a", 0), (1, "a", 1), 1),
        ((0, "", 0), (1, "", 1), 4),
        ((0, "", 0), (1, "", 0), 2),
        ((0, "a", 0), (1, "b", 0), 2),
        ((0, "a", 0), (1, "", 0), 2),
        ((0, "a", 0), (1, "b", 1), 4),
        ((0, "a", UNKNOWN_NUMA), (1, "b", UNKNOWN_NUMA), 4),
        ((0, "a", UNKNOWN_NUMA), (1, "b", 0), 4),
        ((0, "a", UNKNOWN_NUMA), (1, "a", UNKNOWN_NUMA), 1),
    ],
)
def test_how_far_two_devices_are_apart(one: tuple[int, str, int], other: tuple[int, str, int], cost: int) -> None:
    """0 within an island, 1 below a switch, 2 within a NUMA node, 4 across; what nobody says is nothing in common."""
    pair = machine(one, other)
    assert pair_cost(*pair) == pair_cost(*reversed(pair)) == link_cost(pair, (0, 1)) == cost


def test_a_set_costs_what_its_pairs_cost() -> None:
    devices = machine((0, "a", 0), (0, "a", 0), (1, "a", 0), (2, "b", 0), (3, "c", 1))
    assert [link_cost(devices, numbers) for numbers in ((0,), (0, 1), (0, 1, 2), (0, 2, 3), (0, 1, 2, 3, 4))] == [
        0, 0, 2, 5, 0 + 2 + 6 + 16,
    ]  # fmt: skip


# ---------------------------------------------------------------------------- against all sets

THREE = ((0, "a", 0), (0, "a", 0), (1, "b", 0), (2, "c", 0))
FOUR = ((3, "d", 0), (4, "d", 0), (5, "e", 0), (6, "e", 0))
"""Of as many links, and of as much worth."""
MACHINES = {
    "one island": machine(*[(0, "", 0)] * 6),
    "two islands": machine(*[(0, "", 0)] * 3, *[(1, "", 0)] * 3),
    "islands alternate": machine(*[(at % 2, "", 0) for at in range(6)]),
    "switches": machine(*[(at, "ab"[at // 3], 0) for at in range(6)]),
    "islands below switches": machine(*[(at // 2, "aab"[at // 2], at // 4) for at in range(6)]),
    "numa nodes": machine(*[(at, "", at // 3) for at in range(6)]),
    "an island over both numa nodes": machine(*[(0, "abc"[at // 2], at // 3) for at in range(6)]),
    "nothing is known": machine(*[(at, "", UNKNOWN_NUMA) for at in range(5)]),
    "mixed": machine((0, "a", 0), (0, "a", 0), (1, "a", 0), (2, "b", 0), (3, "", 1), (3, "", 1), (4, "c", 1)),
    "memories": machine(*[(at // 3, "", 0) for at in range(6)], memory=(40, 80, 40, 80, 40, 80)),
    "one": machine((0, "", 0)),
    "a pair, and three below a switch": machine((0, "a", 0), (0, "a", 0), (1, "b", 0), (2, "b", 0), (3, "b", 0)),
    "four over three islands or four": machine(*THREE, *FOUR),
    "and the other way round": machine(*FOUR, *THREE),
}


def circles(devices: Sequence[Device], most: int) -> list[set[int]]:
    """Those that are at most so far from each other, or through others."""
    found: list[set[int]] = []
    for at in range(len(devices)):
        near = [circle for circle in found if any(pair_cost(devices[at], devices[one]) <= most for one in circle)]
        found = [circle for circle in found if circle not in near] + [set().union({at}, *near)]
    return found


def worth(devices: Sequence[Device], whole: set[int]) -> int:
    """What whole free devices are worth: their squares per island, switch, NUMA node and node."""
    every = [circle for most in (0, 1, 2) for circle in circles(devices, most)] + [set(range(len(devices)))]
    return sum(len(circle & whole) ** 2 for circle in every)


def by_looking(
    devices: Sequence[Device], free: Sequence[int], usable: Sequence[int], request: DeviceRequest
) -> DeviceSet | None:
    whole = {at for at, millis in enumerate(free) if millis == 1000}

    def allowed(numbers: tuple[int, ...]) -> bool:
        said = {devices[at].island if request.link is Link.ISLAND else devices[at].numa for at in numbers}
        return request.link is Link.ANY or len(numbers) < 2 or (len(said) == 1 and said != {UNKNOWN_NUMA})

    def skipped(numbers: tuple[int, ...]) -> int:
        islands: dict[int, list[int]] = {}
        for at in numbers:
            islands.setdefault(devices[at].island, []).append(at)
        return sum(max(some) - min(some) + 1 - len(some) for some in islands.values())

    sets = [numbers for numbers in combinations(sorted(usable), request.count) if allowed(numbers)]
    if not sets:
        return None
    best = min(
        sets,
        key=lambda numbers: (
            link_cost(devices, numbers),
            sum(free[at] for at in numbers),
            sum(devices[at].memory_mib for at in numbers),
            -worth(devices, whole - set(numbers)),
            skipped(numbers),
            numbers,
        ),
    )
    rest = worth(devices, whole - set(best))
    return DeviceSet(numbers=best, cost=link_cost(devices, best), rest=rest, loss=worth(devices, whole) - rest)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("link", [Link.ANY, Link.ISLAND, Link.NUMA])
def test_no_other_set_is_better(name: str, link: Link) -> None:
    devices, chance = MACHINES[name], random.Random(name + link.name)
    for taken in range(4):
        free = [1000 if not taken else chance.choice((1000, 1000, 1000, 600, 300, 0)) for _ in devices]
        for count in range(1, len(devices) + 1):
            millis = 1000 if count > 1 or taken % 2 else 300
            usable = [at for at, left in enumerate(free) if left >= millis]
            request = DeviceRequest(count=count, gpu_millis=millis, link=link)
            assert best_set(devices, free, usable, request) == by_looking(devices, free, usable, request), (free, count)


def test_what_is_not_usable_is_not_taken_and_counts_in_what_is_left() -> None:
    """Device 0 is of another model, say, so the set comes from the other island; both stand in what is left over."""
    devices = MACHINES["two islands"]
    found = best_set(devices, [1000] * 6, [1, 2, 3, 4, 5], DeviceRequest(count=3))
    assert found == by_looking(devices, [1000] * 6, [1, 2, 3, 4, 5], DeviceRequest(count=3))
    assert found is not None and found.numbers == (3, 4, 5)
    assert best_set(devices, [1000] * 6, [1, 2], DeviceRequest(count=3)) is None


def test_in_an_island_the_smallest_come_first_and_of_equal_ones_those_side_by_side() -> None:
    devices = machine(*[(0, "", 0)] * 6, memory=(80, 80, 80, 80, 80, 40))
    found = best_set(devices, [1000, 0, 1000, 1000, 0, 1000], [0, 2, 3, 5], DeviceRequest(count=3))
    assert found is not None and found.numbers == (2, 3, 5)


def test_devices_that_are_near_through_others_are_one_circle_of_what_is_left() -> None:
    """The first two share a switch, the last two a NUMA node."""
    devices = machine((0, "a", 0), (1, "a", 1), (2, "b", 1))
    found = best_set(devices, [1000] * 3, [0, 1, 2], DeviceRequest(count=1))
    assert found == by_looking(devices, [1000] * 3, [0, 1, 2], DeviceRequest(count=1))
    assert found is not None and (found.numbers, found.rest, found.loss) == ((2,), 14, 26 - 14)


def test_sixty_four_devices_are_no_more_than_that() -> None:
    devices = machine(*[(at // 8, "abcdefgh"[at // 8], at // 32) for at in range(64)])
    free = [1000] * 64
    for at in (0, 8, 9, 63):
        free[at] = 0
    usable = [at for at in range(64) if free[at]]
    found = best_set(devices, free, usable, DeviceRequest(count=6))
    assert found is not None and found.numbers == tuple(range(10, 16)), "the only island with no more than that"
    found = best_set(devices, free, usable, DeviceRequest(count=7))
    assert found is not None and found.numbers == tuple(range(1, 8)), "of two with no more the first"
    found = best_set(devices, free, usable, DeviceRequest(count=60))
    assert found is not None and (found.rest, len(found.numbers)) == (0, 60)
