"""The devices of all nodes: what is free of each, and what a request would get on which node.

Owns: free shares per device, cordoned ones, which devices match a request, and the memory of best sets: per request a
table over the masks of whole free devices (256 of them for up to 8 devices), so that nodes of one kind with the same
mask are judged once. Leaves to others: which set is best (``device_sets``), choosing the node (``policies``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from orchestrator.contract.devices import circle_of, mismatch
from orchestrator.contract.model import WHOLE_DEVICE, Device, DeviceRequest, Link
from orchestrator.scheduling.device_sets import DeviceSet, best_set
from orchestrator.scheduling.wish import BoolArray, Int64Array

ABSENT = -1
"""Free millis of a device number that a node does not have."""
TABLE_WIDTH = 8
"""Up to so many devices a node, best sets are kept by mask in an array; beyond, in a dictionary."""
ENDLESS = np.iinfo(np.int64).max
NO_CIRCLE = -1

_Kind = tuple[tuple[object, ...], ...]
_kinds_of: dict[int, tuple[tuple[Device, ...], _Kind]] = {}
"""What is alike about an inventory, by the identity of its tuple, which is kept so that it stays its own."""
_KINDS_MAX = 100_000


@dataclass(slots=True)
class _Memory:
    """What is known of one request. matching: bool (kinds, devices). cost, loss: int64 (kinds, masks), UNKNOWN or
    IMPOSSIBLE where there is no set; sets: by kind and state of its devices."""

    matching: BoolArray
    cost: Int64Array
    loss: Int64Array
    sets: dict[tuple[int, int | bytes], DeviceSet | None] = field(default_factory=dict)


UNKNOWN, IMPOSSIBLE = -1, -2


class Devices:
    """``free``: int32 (nodes, devices), millis, ABSENT where there is none. ``closed``: bool (nodes, devices), cordoned
    or not to be used for now. ``capacity``: int64 (nodes,), in millis, cordoned ones included."""

    def __init__(self, inventories: Sequence[tuple[Device, ...]], cordoned: Sequence[tuple[str, ...]] = ()) -> None:
        width = max((len(inventory) for inventory in inventories), default=0)
        self.free: npt.NDArray[np.int32] = np.full((len(inventories), width), ABSENT, dtype=np.int32)
        self.closed: BoolArray = np.zeros((len(inventories), width), dtype=np.bool_)
        for node, inventory in enumerate(inventories):
            self.free[node, : len(inventory)] = WHOLE_DEVICE
        for node, ids in enumerate(cordoned):
            if ids:
                self.closed[node, : len(inventories[node])] = [device.id in ids for device in inventories[node]]
        self.capacity: Int64Array = np.array(
            [len(inventory) * WHOLE_DEVICE for inventory in inventories], dtype=np.int64
        )
        self.any = width > 0
        # Nodes with the same devices (but for their ids) are alike: matching and choosing are done once for all.
        self._kinds: dict[_Kind, int] = {}
        self._inventory_of_kind: list[tuple[Device, ...]] = []
        self._kind: Int64Array = np.array([self._intern(inventory) for inventory in inventories], dtype=np.int64)
        self._memory: dict[DeviceRequest, _Memory] = {}
        self._circles: dict[Link, Int64Array] = {}
        self._bits: npt.NDArray[np.uint64] = np.uint64(1) << np.arange(width, dtype=np.uint64)

    def _intern(self, inventory: tuple[Device, ...]) -> int:
        key = _kind_of(inventory)
        kind = self._kinds.setdefault(key, len(self._kinds))
        if kind == len(self._inventory_of_kind):
            self._inventory_of_kind.append(inventory)
        return kind

    def inventory(self, node: int) -> tuple[Device, ...]:
        """The devices of the node, but for their ids, which are those of a node like it."""
        return self._inventory_of_kind[int(self._kind[node])]

    def used(self, nodes: Int64Array) -> Int64Array:
        """int64 per node: millis given away."""
        held: Int64Array = self.capacity[nodes] - np.maximum(self.free[nodes], 0).sum(axis=1, dtype=np.int64)
        return held

    def matching(self, request: DeviceRequest) -> BoolArray:
        """bool (nodes, devices): the device is what was asked for, free or not, cordoned or not."""
        return self._of(request).matching[self._kind]

    def usable(self, request: DeviceRequest, nodes: Int64Array) -> BoolArray:
        """bool (given nodes, devices): matches, may be given away and has the share free."""
        good = self._of(request).matching[self._kind[nodes]] & (self.free[nodes] >= request.gpu_millis)
        return np.asarray(good & ~self.closed[nodes], dtype=np.bool_)

    def times(self, request: DeviceRequest, nodes: Int64Array, free: npt.NDArray[np.int32] | None = None) -> Int64Array:
        """int64 per given node: for how many instances one after the other its devices suffice. ``free``: instead of
        what is free now, int32 (given nodes, devices)."""
        if request.count <= 0:
            return np.full(len(nodes), ENDLESS, dtype=np.int64)
        here = self.free[nodes] if free is None else free
        fit = np.where(
            self._of(request).matching[self._kind[nodes]] & ~self.closed[nodes],
            np.maximum(here, 0) // request.gpu_millis,
            0,
        ).astype(np.int64)
        if request.count == 1:
            alone: Int64Array = fit.sum(axis=1)
            return alone
        one = np.minimum(fit, 1)  # several at once are whole ones: a share is of one device
        if request.link is Link.ANY:
            together: Int64Array = one.sum(axis=1) // request.count
            return together
        circles = self._circle_table(request.link)[self._kind[nodes]]
        total = np.zeros(len(nodes), dtype=np.int64)
        for circle in range(int(circles.max(initial=NO_CIRCLE)) + 1):
            total += np.where(circles == circle, one, 0).sum(axis=1) // request.count
        return total

    def enough(self, request: DeviceRequest, nodes: Int64Array) -> BoolArray:
        """bool per node: as many matching devices as asked, linked as asked, have the share free."""
        return np.asarray(self.times(request, nodes) > 0, dtype=np.bool_)

    def best(self, node: int, request: DeviceRequest) -> DeviceSet | None:
        """The set that a node would give, or None; a function of the node's kind and what is free there."""
        memory, kind = self._of(request), int(self._kind[node])
        key: tuple[int, int | bytes]
        if request.gpu_millis == WHOLE_DEVICE:
            key = kind, int(self._masks(np.array([node], dtype=np.int64))[0])
        else:
            key = kind, np.where(self.closed[node], 0, self.free[node]).tobytes()
        if key not in memory.sets:
            inventory = self._inventory_of_kind[kind]
            free = np.where(self.closed[node], 0, self.free[node])[: len(inventory)].tolist()
            matching = memory.matching[kind].tolist()
            usable = [at for at, millis in enumerate(free) if matching[at] and millis >= request.gpu_millis]
            memory.sets[key] = best_set(inventory, free, usable, request)
        return memory.sets[key]

    def judge(self, request: DeviceRequest, nodes: Int64Array) -> tuple[Int64Array, Int64Array]:
        """int64 twice per given node, on each of which one more instance fits: cost of the best set's links, and how
        much less the devices left over are worth."""
        memory = self._of(request)
        if request.gpu_millis == WHOLE_DEVICE and self.free.shape[1] <= TABLE_WIDTH:
            kinds, masks = self._kind[nodes], self._masks(nodes).astype(np.int64)
            for place in np.unique(kinds[memory.cost[kinds, masks] == UNKNOWN]).tolist():
                here = np.flatnonzero((kinds == place) & (memory.cost[kinds, masks] == UNKNOWN))
                for mask, first in zip(*np.unique(masks[here], return_index=True), strict=True):
                    found = self.best(int(nodes[here[first]]), request)
                    memory.cost[place, mask] = IMPOSSIBLE if found is None else found.cost
                    memory.loss[place, mask] = 0 if found is None else found.loss
            return memory.cost[kinds, masks], memory.loss[kinds, masks]
        sets = [self.best(node, request) for node in nodes.tolist()]
        return (
            np.array([IMPOSSIBLE if one is None else one.cost for one in sets], dtype=np.int64),
            np.array([0 if one is None else one.loss for one in sets], dtype=np.int64),
        )

    def take(self, node: int, numbers: Iterable[int], millis: int) -> None:
        for number in numbers:
            self.free[node, number] -= millis

    def _masks(self, nodes: Int64Array) -> npt.NDArray[np.uint64]:
        """uint64 per given node: its whole free devices that are not closed."""
        whole = (self.free[nodes] == WHOLE_DEVICE) & ~self.closed[nodes]
        masks: npt.NDArray[np.uint64] = np.where(whole, self._bits, np.uint64(0)).sum(axis=1, dtype=np.uint64)
        return masks

    def _of(self, request: DeviceRequest) -> _Memory:
        memory = self._memory.get(request)
        if memory is None:
            kinds, width = len(self._inventory_of_kind), self.free.shape[1]
            matching = np.zeros((kinds, width), dtype=np.bool_)
            for kind, inventory in enumerate(self._inventory_of_kind):
                matching[kind, : len(inventory)] = [not mismatch(device, request) for device in inventory]
            masks = 1 << width if width <= TABLE_WIDTH else 0
            unknown = np.full((kinds, masks), UNKNOWN, dtype=np.int64)
            memory = self._memory[request] = _Memory(matching, unknown, np.zeros_like(unknown))
        return memory

    def _circle_table(self, link: Link) -> Int64Array:
        """int64 (kinds, devices): which circle of the link a device belongs to, numbered from 0; NO_CIRCLE: none."""
        table = self._circles.get(link)
        if table is None:
            table = np.full((len(self._inventory_of_kind), self.free.shape[1]), NO_CIRCLE, dtype=np.int64)
            for kind, inventory in enumerate(self._inventory_of_kind):
                numbers: dict[int, int] = {}
                for at, device in enumerate(inventory):
                    circle = circle_of(device, link)
                    if circle is not None:
                        table[kind, at] = numbers.setdefault(circle, len(numbers))
            self._circles[link] = table
        return table


def mask_of(numbers: Iterable[int]) -> int:
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


def _kind_of(inventory: tuple[Device, ...]) -> _Kind:
    known = _kinds_of.get(id(inventory))
    if known is None or known[0] is not inventory:
        if len(_kinds_of) >= _KINDS_MAX:
            _kinds_of.clear()
        kind = tuple(
            (
                device.model, device.memory_mib, device.island, device.numa, device.pcie, device.compute_capability,
                device.driver_version, device.mig,
            )
            for device in inventory
        )  # fmt: skip
        known = _kinds_of[id(inventory)] = (inventory, kind)
    return known[1]
