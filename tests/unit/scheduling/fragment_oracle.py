"""The fragmentation placement, written down slowly from its definition: one node, one class, one device at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from orchestrator.contract.devices import mismatch
from orchestrator.contract.model import Device, DeviceRequest
from orchestrator.scheduling.typical import TypicalClass
from orchestrator.scheduling.waste import expected_waste

Kinds = dict[tuple[str | int, ...], int]


def kind_of(device: Device) -> tuple[str | int, ...]:
    return device.model, device.memory_mib, device.compute_capability, device.driver_version, device.mig


@dataclass(frozen=True)
class Way:
    """One way to give devices: better is greater."""

    points: int
    cost: Fraction
    numbers: tuple[int, ...]


def matches(device: Device, request: DeviceRequest) -> bool:
    return not mismatch(device, request)


def fragmentation(
    cpu: int, inventory: Sequence[Device], left: Sequence[int], classes: Sequence[TypicalClass]
) -> Fraction:
    """F of the paper, section 3.2: what share of what is left a random typical class cannot use, in millis."""
    weights = sum(one.weight for one in classes)
    total = Fraction(0)
    for one in classes:
        total += Fraction(one.weight, weights) * unusable(cpu, inventory, left, one)
    return total


def unusable(cpu: int, inventory: Sequence[Device], left: Sequence[int], one: TypicalClass) -> int:
    everything = sum(max(millis, 0) for millis in left)
    if one.gpus is None:
        return everything
    request = one.gpus
    good = [
        millis
        for device, millis in zip(inventory, left, strict=True)
        if matches(device, request) and millis >= request.gpu_millis
    ]
    if cpu < one.cpu_millis or len(good) < request.count:
        return everything
    return everything - sum(good)


def waste(left: int, classes: Sequence[TypicalClass]) -> Fraction:
    """W by its recursion, exactly, in devices."""
    fitting = [one for one in classes if one.shared and one.gpus is not None and one.gpus.gpu_millis <= left]
    if not fitting:
        return Fraction(left, 1000)
    total = sum(one.weight for one in fitting)
    parts = (Fraction(one.weight, total) * waste(left - one.gpus.gpu_millis, classes) for one in fitting if one.gpus)
    return sum(parts, Fraction(0))


def partly(left: Sequence[int]) -> Fraction:
    """What is left of the devices of which a part is taken, in devices."""
    return Fraction(sum(millis for millis in left if 0 < millis < 1000), 1000)


def points(shrinkage: Fraction) -> int:
    return math.floor(100 / (1 + math.exp(-float(shrinkage) / 2740)))


def ways(
    cpu: int,
    cpu_wanted: int,
    inventory: Sequence[Device],
    left: Sequence[int],
    request: DeviceRequest,
    classes: Sequence[TypicalClass],
    kinds: Kinds,
) -> list[Way]:
    """Every set that differs in kind or in what is left: all alike if there are enough, else the fullest."""
    levels: dict[tuple[int, int], list[int]] = {}
    for number, device in enumerate(inventory):
        if matches(device, request) and left[number] >= request.gpu_millis:
            key = (kinds[kind_of(device)], left[number])
            levels.setdefault(key, []).append(number)
    sets = [tuple(levels[key][: request.count]) for key in sorted(levels) if len(levels[key]) >= request.count]
    if not sets:
        fullest = [number for key in sorted(levels, key=lambda key: (key[1], key[0])) for number in levels[key]]
        sets = [tuple(fullest[: request.count])] if len(fullest) >= request.count else []
    before = fragmentation(cpu, inventory, left, classes)
    table = expected_waste(classes)
    found = []
    for numbers in sets:
        after = [millis - (request.gpu_millis if at in numbers else 0) for at, millis in enumerate(left)]
        gained = points(before - fragmentation(cpu - cpu_wanted, inventory, after, classes))
        had = left[numbers[0]]
        rest = had - request.gpu_millis
        wasted = Fraction(int(table[rest]) - int(table[had]), 1_000_000)
        cost = Fraction(606, 100) * partly(after) + Fraction(236, 10) * wasted * request.count
        found.append(Way(gained, cost, numbers))
    return found


def badness(
    cpu: int,
    cpu_wanted: int,
    capacity: int,
    rank: int,
    inventory: Sequence[Device],
    left: Sequence[int],
    request: DeviceRequest | None,
    classes: Sequence[TypicalClass],
    kinds: Kinds,
) -> tuple[int, int, Fraction]:
    """Lower is better: the last resort, points against, the remainder."""
    devices_left = Fraction(sum(max(millis, 0) for millis in left), 1000)
    if request is None:
        before = fragmentation(cpu, inventory, left, classes)
        gained = points(before - fragmentation(cpu - cpu_wanted, inventory, left, classes))
        best = Way(gained, Fraction(606, 100) * partly(left), ())
    else:
        best = max(
            ways(cpu, cpu_wanted, inventory, left, request, classes, kinds), key=lambda way: (way.points, -way.cost)
        )
        devices_left -= Fraction(request.count * request.gpu_millis, 1000)
    cores_left = Fraction(cpu - cpu_wanted, 1000)
    spare = cores_left - Fraction(1094, 100) * devices_left
    remainder = (
        Fraction(6, 100) * devices_left
        + Fraction(45, 100) * cores_left / 12
        - (Fraction(138, 1000) if cpu == capacity else 0)
        + Fraction(18, 100) * max(spare, Fraction(0)) / 12
        + Fraction(114, 10) * max(-spare, Fraction(0)) / 12
        + Fraction(17, 10) * rank / 2000
        + best.cost
    )
    return int(request is None and bool(inventory)), -best.points, remainder


def device_of(
    cpu: int,
    cpu_wanted: int,
    inventory: Sequence[Device],
    left: Sequence[int],
    request: DeviceRequest,
    classes: Sequence[TypicalClass],
    kinds: Kinds,
) -> tuple[int, ...]:
    """The one device that a request for one gets."""
    found = ways(cpu, cpu_wanted, inventory, left, request, classes, kinds)
    return max(enumerate(found), key=lambda item: (item[1].points, -item[1].cost, -item[0]))[1].numbers
