"""The allocation table: a structure of numpy arrays, one row per allocation attempt.

Owns: the columns and which rows are free. Leaves to others: which row is the newest of an ordinal (``ordinals``), what
a node has given away (``ledger``), meaning (``apply``). The rule: arrays change in place on the loop that owns the
state; nobody else reads them, everybody else gets ``Columns`` copies.

Rows are handed out smallest first, so that which row a placement gets follows from the table's content alone: a
snapshot needs no free-list, and a peer that starts from one goes on exactly like the others.

Many columns hold next to nothing but zeros: of devices, of failures, of restarts. Memory that was asked for and never
written costs nothing, so zeros are written only over something else (``put``), neither when the table grows nor when it
is copied: of a million plain allocations that is a third of every copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import AllocState, IntMap
from orchestrator.state.packed import Packed, Room

LAST_LIVE = int(AllocState.STOPPING)
"""Numbers up to here are live, numbers above are terminal (``contract.transitions``)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """A copy of rows; every array has the same length n. Row order: by (job slot, group by first use, ordinal).

    row: int32, the table's row number; job: int32, ``Job.slot``; group: int32, place in ``spec.groups`` of the row's
    version; ordinal, attempt, version, restarts: int32; node: int32, ``Node.slot``; desired, state: int8, numbers of
    ``Desired`` and ``AllocState``; cpu_millis, memory_mib, disk_mib: int64, what it takes; device_mask: uint64 over the
    node's devices; gpu_millis: int32 of each device in the mask; exit_code: int32; start_failed: bool, it ended before
    it ever ran; failures: int32, failed starts in a row of this ordinal, this one included; moved: bool,
    told to stop so that the next attempt goes to another node; health: int64, a word of ``contract.health`` while it
    runs, 0 where nobody checks; create_index, modify_index,
    create_time_ms, modify_time_ms: int64. ``ports``, ``reasons`` and ``custom``
    (resources) are keyed by ``row``, with what is not empty.
    """

    row: npt.NDArray[np.int32]
    job: npt.NDArray[np.int32]
    group: npt.NDArray[np.int32]
    ordinal: npt.NDArray[np.int32]
    attempt: npt.NDArray[np.int32]
    version: npt.NDArray[np.int32]
    restarts: npt.NDArray[np.int32]
    node: npt.NDArray[np.int32]
    desired: npt.NDArray[np.int8]
    state: npt.NDArray[np.int8]
    cpu_millis: npt.NDArray[np.int64]
    memory_mib: npt.NDArray[np.int64]
    disk_mib: npt.NDArray[np.int64]
    device_mask: npt.NDArray[np.uint64]
    gpu_millis: npt.NDArray[np.int32]
    exit_code: npt.NDArray[np.int32]
    start_failed: npt.NDArray[np.bool_]
    failures: npt.NDArray[np.int32]
    moved: npt.NDArray[np.bool_]
    create_index: npt.NDArray[np.int64]
    modify_index: npt.NDArray[np.int64]
    create_time_ms: npt.NDArray[np.int64]
    modify_time_ms: npt.NDArray[np.int64]
    ports: Mapping[int, tuple[int, ...]]
    reasons: Mapping[int, str]
    health: npt.NDArray[np.int64]
    custom: Mapping[int, IntMap] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row)

    @property
    def live(self) -> npt.NDArray[np.bool_]:
        """bool per row, a new array: whether it may still run."""
        live: npt.NDArray[np.bool_] = self.state <= LAST_LIVE
        return live

    @property
    def ready(self) -> npt.NDArray[np.bool_]:
        """bool per row, a new array: whether it runs and its checks are good."""
        return well(self.state, self.health)


class _Gathered(Columns):
    """``Columns`` that are gathered from whole columns when they are first asked for: nobody asks for all of them, and
    whoever decides in a thread gathers there and not on the loop."""

    __slots__ = ("_whole",)

    _whole: Mapping[str, Any]

    def __init__(self, row: npt.NDArray[np.int32], whole: Mapping[str, Any]) -> None:
        """``whole``: by name, a column with an entry for every row of the table (``Packed``), or what some rows have,
        by row."""
        object.__setattr__(self, "row", row)
        object.__setattr__(self, "_whole", whole)

    def __getattr__(self, name: str) -> Any:
        """Python asks here for what is not set yet."""
        if name == "_whole":
            raise AttributeError(name)
        try:
            whole = self._whole[name]
        except KeyError:
            raise AttributeError(name) from None
        value: Any
        if isinstance(whole, Packed):
            value = np.asarray(whole)[self.row]
        else:
            value = _some(whole, self.row)
        object.__setattr__(self, name, value)
        return value


def _some(whole: Mapping[int, Any], rows: npt.NDArray[np.int32]) -> dict[int, Any]:
    """What these rows have of it."""
    if not whole or not len(rows):
        return {}
    chosen = np.zeros(max(int(rows.max()), max(whole)) + 1, dtype=np.bool_)
    chosen[rows] = True
    return {row: one for row, one in whole.items() if chosen[row]}


def well(state: npt.NDArray[np.int8], health: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """bool per row: it runs and its checks are good (``contract.health.is_ready``)."""
    ready: npt.NDArray[np.bool_] = (state == int(AllocState.RUNNING)) & ((health == 0) | (health & 1 == 1))
    return ready


STORED: tuple[tuple[str, str], ...] = (
    ("job", "<i4"),
    ("gid", "<i4"),
    ("group", "<i4"),
    ("ordinal", "<i4"),
    ("attempt", "<i4"),
    ("version", "<i4"),
    ("restarts", "<i4"),
    ("node", "<i4"),
    ("desired", "<i1"),
    ("state", "<i1"),
    ("cpu_millis", "<i8"),
    ("memory_mib", "<i8"),
    ("disk_mib", "<i8"),
    ("device_mask", "<u8"),
    ("gpu_millis", "<i4"),
    ("exit_code", "<i4"),
    ("start_failed", "|b1"),
    ("failures", "<i4"),
    ("moved", "|b1"),
    ("create_index", "<i8"),
    ("modify_index", "<i8"),
    ("create_time_ms", "<i8"),
    ("modify_time_ms", "<i8"),
)
"""Name and dtype of every column that a snapshot holds, in the order in which it is hashed."""

StoredColumns = dict[str, npt.NDArray[Any]]
PACKED_ROW_BYTES = 16
"""What a row takes in a copy, about: of its 132 bytes."""


_COPIED_ROWS = 50_000


def put(column: npt.NDArray[Any], rows: npt.NDArray[np.integer[Any]], values: Any) -> None:
    """``column[rows] = values``, but zeros are written only over something else."""
    if np.any(values) or column[rows].any():
        column[rows] = values


def _is_blank(column: npt.NDArray[Any]) -> bool:
    """Whether it holds zeros alone; quick where it begins with something else."""
    return not (column[:_PEEK].any() or column.any())


def _copy(source: Packed | npt.NDArray[Any], target: npt.NDArray[Any]) -> None:
    """``target`` holds zeros."""
    for start in range(0, len(source), _COPIED_ROWS):
        part = source[start : start + _COPIED_ROWS]
        if not _is_blank(part):
            target[start : start + len(part)] = part


_PEEK = 256

VIEWED: tuple[str, ...] = (*(name for name, _ in STORED if name != "gid"), "health")

SPARSE = 8
"""A table with less than one row in so many of interest."""

FREE = -1
"""In column ``job``: nobody's row. Its other columns are 0, so that equal tables have equal bytes."""


class AllocationTable:
    """Rows in ``[0, high)`` may be in use. ``gid`` numbers the row's (job, group name), see ``ordinals``.

    Not stored: ``prev``, the row of the attempt before it, or -1; ``told``, the last index at which something changed
    that its agent must hear of (a hint for streams); ``custom``, the custom resources of rows that hold some.
    ``health`` is stored as pairs of row and word: most rows have none.
    """

    __slots__ = (
        "_free", "attempt", "count", "cpu_millis", "create_index", "create_time_ms", "custom", "desired", "device_mask",
        "disk_mib", "exit_code", "failures", "gid", "gpu_millis", "group", "health", "high", "job", "memory_mib",
        "modify_index", "modify_time_ms", "moved", "node", "ordinal", "ports", "prev", "reasons", "restarts",
        "start_failed", "state", "told", "version",
    )  # fmt: skip

    job: npt.NDArray[np.int32]
    gid: npt.NDArray[np.int32]
    group: npt.NDArray[np.int32]
    ordinal: npt.NDArray[np.int32]
    attempt: npt.NDArray[np.int32]
    version: npt.NDArray[np.int32]
    restarts: npt.NDArray[np.int32]
    node: npt.NDArray[np.int32]
    desired: npt.NDArray[np.int8]
    state: npt.NDArray[np.int8]
    cpu_millis: npt.NDArray[np.int64]
    memory_mib: npt.NDArray[np.int64]
    disk_mib: npt.NDArray[np.int64]
    device_mask: npt.NDArray[np.uint64]
    gpu_millis: npt.NDArray[np.int32]
    exit_code: npt.NDArray[np.int32]
    start_failed: npt.NDArray[np.bool_]
    failures: npt.NDArray[np.int32]
    moved: npt.NDArray[np.bool_]
    create_index: npt.NDArray[np.int64]
    modify_index: npt.NDArray[np.int64]
    create_time_ms: npt.NDArray[np.int64]
    modify_time_ms: npt.NDArray[np.int64]
    prev: npt.NDArray[np.int32]
    told: npt.NDArray[np.int64]
    health: npt.NDArray[np.int64]

    def __init__(self, columns: Mapping[str, Packed | npt.NDArray[Any]] | None = None) -> None:
        """An empty table, or one with these ``STORED`` columns (copied; ``prev`` is then for ``ordinals`` to fill)."""
        self.high = 0 if columns is None else len(columns["job"])
        capacity = max(16, self.high)
        for name, dtype in STORED:
            array = np.zeros(capacity, dtype=dtype)
            if columns is not None:
                _copy(columns[name], array)
            setattr(self, name, array)
        self.job[self.high :] = FREE
        self.prev = np.full(capacity, -1, dtype=np.int32)
        self.told = np.zeros(capacity, dtype=np.int64)
        self.health = np.zeros(capacity, dtype=np.int64)
        self._free = np.flatnonzero(self.job[: self.high] == FREE).astype(np.int32)[::-1]
        self.count = self.high - len(self._free)
        self.ports: dict[int, tuple[int, ...]] = {}
        self.reasons: dict[int, str] = {}
        self.custom: dict[int, IntMap] = {}

    def take(self, wanted: int) -> npt.NDArray[np.int32]:
        """int32 (wanted,): free rows, smallest first. The caller fills every column; they are 0 until then."""
        reused = min(wanted, len(self._free))
        rows = np.empty(wanted, dtype=np.int32)
        if reused:
            # The free rows are kept in falling order, so the smallest are at the end.
            rows[:reused] = self._free[-reused:][::-1]
            self._free = self._free[:-reused].copy()
        if wanted > reused:
            fresh = wanted - reused
            self._reserve(self.high + fresh)
            rows[reused:] = np.arange(self.high, self.high + fresh, dtype=np.int32)
            self.high += fresh
        self.count += wanted
        return rows

    def drop(self, rows: npt.NDArray[np.int32]) -> None:
        """Give rows back (each once); they become zeros. The caller has taken them out of every index."""
        for name in (*(name for name, _ in STORED), "health"):
            put(getattr(self, name), rows, 0)
        self.job[rows] = FREE
        self.prev[rows] = -1
        self.told[rows] = 0
        for row in rows.tolist():
            self.ports.pop(row, None)
            self.reasons.pop(row, None)
            self.custom.pop(row, None)
        self._free = np.sort(np.concatenate((self._free, rows)))[::-1].astype(np.int32)
        self.count -= len(rows)
        if self.count == 0:
            # Without this a table that was large once would stay large for ever.
            self._clear()

    def used(self) -> npt.NDArray[np.int32]:
        """int32: every row in use, ascending."""
        rows: npt.NDArray[np.int32] = np.flatnonzero(self.job[: self.high] != FREE).astype(np.int32)
        return rows

    def is_live(self, row: int) -> bool:
        return self.job[row] != FREE and int(self.state[row]) <= LAST_LIVE

    def healths(self) -> dict[int, int]:
        """The words of rows that have one, by row."""
        rows = np.flatnonzero(self.health[: self.high])
        return dict(zip(rows.tolist(), self.health[rows].tolist(), strict=True))

    def live_rows(self) -> npt.NDArray[np.int32]:
        """int32: every row whose allocation may still run, ascending."""
        live = (self.job[: self.high] != FREE) & (self.state[: self.high] <= LAST_LIVE)
        rows: npt.NDArray[np.int32] = np.flatnonzero(live).astype(np.int32)
        return rows

    def copy(self, rows: npt.NDArray[np.int32], room: Room | None = None) -> Columns:
        """The ``Columns`` of these rows, in this order. Where they are most of the table, whole columns are packed,
        which costs less than gathering them; ``room``: there, and the result is void when that is used again."""
        if len(rows) * SPARSE < self.high:
            return self.copy_few(rows)
        if room is not None:
            room.clear()
        return _Gathered(
            rows.copy(),
            {
                **self._packed(VIEWED, room),
                "ports": dict(self.ports),
                "reasons": dict(self.reasons),
                "custom": dict(self.custom),
            },
        )

    def copy_few(self, rows: npt.NDArray[np.int32]) -> Columns:
        """Like ``copy``, at a price that goes by the number of these rows and not by the table's size."""
        listed = rows.tolist()
        return Columns(
            row=rows.copy(),
            ports={row: self.ports[row] for row in listed if row in self.ports},
            reasons={row: self.reasons[row] for row in listed if row in self.reasons},
            custom={row: self.custom[row] for row in listed if row in self.custom},
            **{name: getattr(self, name)[rows] for name in VIEWED},
        )

    def stored(self, room: Room | None = None) -> dict[str, Packed]:
        """Copies of all ``STORED`` columns, ``high`` rows each; ``room``: there."""
        return self._packed([name for name, _ in STORED], room)

    def _packed(self, names: Sequence[str], room: Room | None) -> dict[str, Packed]:
        into = room if room is not None else Room()
        return {name: Packed(getattr(self, name)[: self.high], into) for name in names}

    def _clear(self) -> None:
        self.high = 0
        for name, dtype in STORED:
            setattr(self, name, np.zeros(16, dtype=dtype))
        self.job[:] = FREE
        self.prev = np.full(16, -1, dtype=np.int32)
        self.told = np.zeros(16, dtype=np.int64)
        self.health = np.zeros(16, dtype=np.int64)
        self._free = np.empty(0, dtype=np.int32)

    def _reserve(self, rows: int) -> None:
        capacity = len(self.job)
        if rows <= capacity:
            return
        # In small steps: of a million rows a column is several megabytes, and touching new memory is what it costs.
        larger = max(rows, capacity + capacity // 8 + 16)
        for name in (*(name for name, _ in STORED), "prev", "told", "health"):
            if _is_blank(getattr(self, name)):
                setattr(self, name, np.zeros(larger, dtype=getattr(self, name).dtype))
                continue
            try:
                getattr(self, name).resize(larger)  # the system moves whole pages, and the new entries are 0
            except ValueError:
                # A thread that copies it holds it, too.
                old = getattr(self, name)
                new = np.zeros(larger, dtype=old.dtype)
                new[:capacity] = old
                setattr(self, name, new)
        self.job[capacity:] = FREE
        self.prev[capacity:] = -1


NO_ROWS = AllocationTable().copy(np.empty(0, dtype=np.int32))
