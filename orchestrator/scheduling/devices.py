"""The devices of all nodes: what is free of each, and which of them an allocation gets.

Owns: free shares per device, matching a request's model, memory and share, and choosing the best set inside one node.
Leaves to others: choosing the node (``policies``). The rule for a set, in this order: best links, then shares on the
fullest devices that will do, the smallest memory that will do, neighbours by number, and whatever leaves the most
valuable rest; the lowest numbers break ties.

The cost of links is counted in pairs: 0 within an island, 1 within a NUMA node, 2 across. What is left is worth the sum
of squares of whole free devices per island: four free ones in one island are worth more than two and two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import WHOLE_DEVICE, Device, DeviceRequest
from orchestrator.scheduling.wish import BoolArray, Int64Array

ABSENT = -1
"""Free millis of a device number that a node does not have."""
SUBSETS_MAX = 512
"""Up to so many sets are compared one by one; of larger nodes only runs within their circles are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSet:
    """The best set of a node. cost: of its links; rest: what the free devices left over are worth."""

    numbers: tuple[int, ...]
    cost: int
    rest: int


class Devices:
    """``free``: int32 (nodes, devices), millis, ABSENT where there is none. ``capacity``: int64 (nodes,), in millis."""

    def __init__(self, inventories: Sequence[tuple[Device, ...]]) -> None:
        width = max((len(inventory) for inventory in inventories), default=0)
        self.free: npt.NDArray[np.int32] = np.full((len(inventories), width), ABSENT, dtype=np.int32)
        for node, inventory in enumerate(inventories):
            self.free[node, : len(inventory)] = WHOLE_DEVICE
        self.capacity: Int64Array = np.array(
            [len(inventory) * WHOLE_DEVICE for inventory in inventories], dtype=np.int64
        )
        self.any = width > 0
        # Nodes with the same devices (but for their ids) are alike: matching and choosing are done once for all.
        self._kinds: dict[tuple[tuple[str, int, int, int], ...], int] = {}
        self._inventory_of_kind: list[tuple[Device, ...]] = []
        self._kind: Int64Array = np.array([self._intern(inventory) for inventory in inventories], dtype=np.int64)
        self._matching: dict[tuple[int, tuple[str, ...]], BoolArray] = {}
        self._best: dict[tuple[int, DeviceRequest, bytes], DeviceSet | None] = {}

    def _intern(self, inventory: tuple[Device, ...]) -> int:
        key = tuple((device.model, device.memory_mib, device.island, device.numa) for device in inventory)
        kind = self._kinds.setdefault(key, len(self._kinds))
        if kind == len(self._inventory_of_kind):
            self._inventory_of_kind.append(inventory)
        return kind

    def used(self, nodes: Int64Array) -> Int64Array:
        """int64 per node: millis given away."""
        held: Int64Array = self.capacity[nodes] - np.maximum(self.free[nodes], 0).sum(axis=1, dtype=np.int64)
        return held

    def matching(self, request: DeviceRequest) -> BoolArray:
        """bool (nodes, devices): right model and enough memory, free or not."""
        key = (request.memory_mib, request.models)
        known = self._matching.get(key)
        if known is None:
            table = np.zeros((len(self._inventory_of_kind), self.free.shape[1]), dtype=np.bool_)
            for kind, inventory in enumerate(self._inventory_of_kind):
                table[kind, : len(inventory)] = [_matches(device, request) for device in inventory]
            known = self._matching[key] = table[self._kind]
        return known

    def enough(self, request: DeviceRequest, nodes: Int64Array) -> BoolArray:
        """bool per node: as many matching devices as asked have the share free."""
        good = self.matching(request)[nodes] & (self.free[nodes] >= request.gpu_millis)
        return np.asarray(good.sum(axis=1) >= request.count, dtype=np.bool_)

    def best(self, node: int, request: DeviceRequest) -> DeviceSet | None:
        """The set that a node would give, or None; a function of the node's kind and what is free there."""
        free = self.free[node]
        key = (int(self._kind[node]), request, free.tobytes())
        if key not in self._best:
            inventory = self._inventory_of_kind[key[0]]
            self._best[key] = best_set(inventory, free.tolist()[: len(inventory)], request)
        return self._best[key]

    def take(self, node: int, numbers: Iterable[int], millis: int) -> None:
        for number in numbers:
            self.free[node, number] -= millis


def best_set(inventory: tuple[Device, ...], free: Sequence[int], request: DeviceRequest) -> DeviceSet | None:
    """The best set of ``request.count`` devices with the share free, by the module's rule."""
    usable = [
        number
        for number, device in enumerate(inventory)
        if free[number] >= request.gpu_millis and _matches(device, request)
    ]
    if len(usable) < request.count:
        return None

    def badness(numbers: tuple[int, ...]) -> tuple[int, int, int, int, int, tuple[int, ...]]:
        return (
            link_cost(inventory, numbers),
            sum(free[number] for number in numbers),
            sum(inventory[number].memory_mib for number in numbers),
            numbers[-1] - numbers[0] + 1 - len(numbers),
            -_rest(inventory, free, numbers),
            numbers,
        )

    numbers = min(_candidates(inventory, usable, free, request.count), key=badness)
    return DeviceSet(numbers=numbers, cost=link_cost(inventory, numbers), rest=_rest(inventory, free, numbers))


def link_cost(inventory: tuple[Device, ...], numbers: tuple[int, ...]) -> int:
    cost = 0
    for left, right in combinations(numbers, 2):
        if inventory[left].island != inventory[right].island:
            cost += 1 if inventory[left].numa == inventory[right].numa else 2
    return cost


def mask_of(numbers: Iterable[int]) -> int:
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


def _matches(device: Device, request: DeviceRequest) -> bool:
    if device.memory_mib < request.memory_mib:
        return False
    model = device.model.lower()
    return not request.models or any(wanted.lower() in model for wanted in request.models)


def _rest(inventory: tuple[Device, ...], free: Sequence[int], taken: tuple[int, ...]) -> int:
    left: dict[int, int] = {}
    for number, device in enumerate(inventory):
        if free[number] == WHOLE_DEVICE and number not in taken:
            left[device.island] = left.get(device.island, 0) + 1
    return sum(count * count for count in left.values())


def _candidates(
    inventory: tuple[Device, ...], usable: list[int], free: Sequence[int], count: int
) -> Iterable[tuple[int, ...]]:
    if comb(len(usable), count) <= SUBSETS_MAX:
        yield from combinations(usable, count)
        return
    # Too many to compare: runs of each island and NUMA node, by number and by fullness; then runs over islands that lie
    # side by side in size order, which takes whole islands before it breaks one.
    circles: list[list[int]] = []
    for circle in ("island", "numa"):
        members: dict[int, list[int]] = {}
        for number in usable:
            members.setdefault(getattr(inventory[number], circle), []).append(number)
        circles.extend(members[name] for name in sorted(members))
        largest_first = sorted(members, key=lambda name: (-len(members[name]), name))
        circles.append([number for name in largest_first for number in members[name]])
    for group in circles:
        for order in (group, sorted(group, key=lambda number: (free[number], number))):
            for start in range(len(order) - count + 1):
                yield tuple(sorted(order[start : start + count]))
