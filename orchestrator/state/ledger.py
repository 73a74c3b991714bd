"""What nodes have given away: sums per node, shares per device, ports per engine, live rows per node.

Owns: these indexes over the live rows, and nothing that is stored: a restored state builds them anew. Leaves to
others: whether something fits (``apply_plan``). The rule: ``hold`` when a row is placed, ``release`` exactly once when
its state becomes terminal (resources are free at once), ``forget_rows`` when rows leave the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import MAX_DEVICES
from orchestrator.state.allocations import AllocationTable
from orchestrator.state.custom import CustomUse
from orchestrator.state.distinct import distinct
from orchestrator.state.model import Node

Rows = npt.NDArray[np.int32]

_NO_ROWS: Rows = np.empty(0, dtype=np.int32)
_BITS = np.arange(MAX_DEVICES, dtype=np.uint64)


def engine_key(node: Node) -> str:
    """Whose ports these are: the engine's where the agent named one, else the node's own."""
    return f"engine:{node.spec.engine_id}" if node.spec.engine_id else f"node:{node.spec.id}"


def device_bits(masks: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """bool (rows, MAX_DEVICES): which devices each mask holds."""
    bits: npt.NDArray[np.bool_] = ((masks[:, None] >> _BITS) & np.uint64(1)).astype(np.bool_)
    return bits


class Ledger:
    """Arrays are by ``Node.slot``. cpu_millis, memory_mib, disk_mib: int64, in use; device_millis: int32 (slot,
    MAX_DEVICES), in use, nothing from column ``wide`` on; rows_kept: int64, table rows of any state that name the slot.
    Hints for streams, never hashed: touched: int64, the last index at which something changed that the node's agent
    must hear of; lost_touched: likewise, of its LOST rows alone. ``live``: int32 rows by slot, in no order that
    anything may depend on. ``custom``: custom resources in use, which few have.
    """

    __slots__ = (
        "cpu_millis", "custom", "device_millis", "disk_mib", "live", "lost_touched", "memory_mib", "ports", "rows_kept",
        "touched", "wide",
    )  # fmt: skip

    def __init__(self) -> None:
        self.cpu_millis: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.memory_mib: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.disk_mib: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.rows_kept: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.touched: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.lost_touched: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.device_millis: npt.NDArray[np.int32] = np.zeros((0, MAX_DEVICES), dtype=np.int32)
        self.wide = 0
        self.live: list[Rows] = []
        self.ports: dict[str, dict[int, int]] = {}
        self.custom = CustomUse()

    def reserve(self, slot: int) -> None:
        """Make room for this node slot; a new one starts with nothing in use."""
        have = len(self.live)
        if slot < have:
            return
        larger = max(slot + 1, 2 * have)
        for name in ("cpu_millis", "memory_mib", "disk_mib", "rows_kept", "touched", "lost_touched"):
            new = np.zeros(larger, dtype=np.int64)
            new[:have] = getattr(self, name)
            setattr(self, name, new)
        devices = np.zeros((larger, MAX_DEVICES), dtype=np.int32)
        devices[:have] = self.device_millis
        self.device_millis = devices
        self.live.extend([_NO_ROWS] * (larger - have))

    def hold(self, table: AllocationTable, rows: Rows, nodes: Mapping[int, Node]) -> None:
        """Enter new live rows whose columns (and ports) are filled."""
        if not len(rows):
            return
        slots = table.node[rows]
        self._add(table, rows, slots, 1)
        np.add.at(self.rows_kept, slots, 1)
        order = np.argsort(slots, kind="stable")
        sorted_slots = slots[order]
        starts = np.flatnonzero(np.diff(sorted_slots, prepend=-1))
        for start, part in zip(starts.tolist(), np.split(rows[order], starts[1:]), strict=True):
            slot = int(sorted_slots[start])
            old = self.live[slot]
            self.live[slot] = np.concatenate((old, part)) if len(old) else part.copy()
        if table.ports:
            for row in rows.tolist():
                for port in table.ports.get(row, ()):
                    self.ports.setdefault(engine_key(nodes[int(table.node[row])]), {})[port] = row

    def release(self, table: AllocationTable, rows: Rows, nodes: Mapping[int, Node]) -> None:
        """Give back what live rows hold; call it before the node's record changes."""
        slots = table.node[rows]
        self._add(table, rows, slots, -1)
        if len(rows) == 1:
            slot = int(slots[0])
            old = self.live[slot]
            self.live[slot] = old[old != rows[0]]
        else:
            for slot in distinct(slots):
                old = self.live[slot]
                self.live[slot] = old[~np.isin(old, rows)]
        if table.ports:
            for row in rows.tolist():
                held = table.ports.get(row)
                if held:
                    key = engine_key(nodes[int(table.node[row])])
                    taken = self.ports[key]
                    for port in held:
                        taken.pop(port, None)
                    if not taken:
                        del self.ports[key]

    def forget_rows(self, table: AllocationTable, rows: Rows) -> None:
        """Count terminal rows out that are about to leave the table."""
        np.subtract.at(self.rows_kept, table.node[rows], 1)

    def touch(self, slots: npt.NDArray[np.int32], index: int) -> None:
        self.touched[slots] = index

    def rebuild(self, table: AllocationTable, nodes: Mapping[int, Node], index: int) -> None:
        """Everything from the table's content. ``index`` becomes every node's ``touched``."""
        self.reserve(max(nodes, default=-1))
        live = table.live_rows()
        self.hold(table, live, nodes)
        self.rows_kept[:] = 0
        np.add.at(self.rows_kept, table.node[table.used()], 1)
        self.touched[:] = index
        self.lost_touched[:] = index

    def hold_devices(self, slot: int, millis: npt.NDArray[np.int32]) -> None:
        """int32 (MAX_DEVICES): what is in use of a node's devices from now on."""
        self.device_millis[slot] = millis
        if millis.any():
            self.wide = max(self.wide, int(np.flatnonzero(millis)[-1]) + 1)

    def _add(self, table: AllocationTable, rows: Rows, slots: npt.NDArray[np.int32], sign: int) -> None:
        if table.custom:
            for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
                self.custom.add(slot, table.custom.get(row, ()), sign)
        np.add.at(self.cpu_millis, slots, sign * table.cpu_millis[rows])
        np.add.at(self.memory_mib, slots, sign * table.memory_mib[rows])
        np.add.at(self.disk_mib, slots, sign * table.disk_mib[rows])
        with_devices = np.flatnonzero(table.device_mask[rows])
        if len(with_devices):
            chosen = rows[with_devices]
            place, device = np.nonzero(device_bits(table.device_mask[chosen]))
            self.wide = max(self.wide, int(device.max()) + 1)
            amount: npt.NDArray[Any] = sign * table.gpu_millis[chosen][place]
            np.add.at(self.device_millis, (slots[with_devices][place], device), amount)
