"""Columns packed small: what a copy of the allocation table takes is a quarter of what the table does.

Owns: the packing, and the memory that copies are packed into. Leaves to others: which columns (``allocations``). The
rule: what comes out is bit by bit what went in.

Tables are written in order: within some ten thousand rows a column of eight bytes a row holds one value, or values that
differ in their last two bytes. So a block of rows is kept as its smallest value and the differences from it, in as few
bytes as the largest needs; a block of one value takes nothing. Looking for both costs less than copying all of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 65_536
_NARROW = ((0xFF, np.dtype("<u1")), (0xFFFF, np.dtype("<u2")), (0xFFFF_FFFF, np.dtype("<u4")))
_FEW_ROWS = 256
"""Up to so many are copied as they are: to look for the smallest and the largest takes longer than it could save."""
_TOUCHED_BYTES = 1 << 20

Block = tuple[int, "npt.NDArray[Any] | None"]
"""The smallest value, and the differences from it; None: there are none. Where packing saves nothing: 0, the values."""


class Room:
    """Memory for packed copies, used again and again: the system can hand out fresh memory many times slower than it is
    copied. What was packed in it is void as soon as the next copy is."""

    def __init__(self, size: int = 0) -> None:
        """``size``: bytes. They are touched here, which may be in a thread."""
        self._memory = np.empty(size, dtype=np.uint8)
        for start in range(0, size, _TOUCHED_BYTES):
            self._memory[start : start + _TOUCHED_BYTES] = 0
        self._used = 0

    @property
    def size(self) -> int:
        return len(self._memory)

    def clear(self) -> None:
        """What is packed here is needed no more."""
        self._used = 0

    def take(self, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An array of so many entries, here or, where there is no room left, in memory of its own."""
        start, end = self._used, self._used + count * dtype.itemsize
        if end > len(self._memory):
            return np.empty(count, dtype=dtype)
        self._used = -(-end // 8) * 8
        return self._memory[start:end].view(dtype)


class Packed:
    """A copy of a column, of bools or integers; to be read only, by any thread."""

    __slots__ = ("_blocks", "_rows", "dtype")

    def __init__(self, column: npt.NDArray[Any], room: Room) -> None:
        self.dtype: np.dtype[Any] = column.dtype
        self._rows = len(column)
        self._blocks: list[Block] = [
            _pack(column[start : start + BLOCK_ROWS], room) for start in range(0, len(column), BLOCK_ROWS)
        ]

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: slice) -> npt.NDArray[Any]:
        """Rows from one on up to another, as a new array."""
        start, end, step = rows.indices(self._rows)
        if step != 1:
            raise ValueError("only rows that follow each other")
        found = np.empty(max(0, end - start), dtype=self.dtype)
        at = start
        while at < end:
            number, first = divmod(at, BLOCK_ROWS)
            last = min(end - number * BLOCK_ROWS, BLOCK_ROWS)
            _unpack(self._blocks[number], slice(first, last), found[at - start : at - start + last - first])
            at += last - first
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return sum(values.nbytes for _, values in self._blocks if values is not None)


def _pack(part: npt.NDArray[Any], room: Room) -> Block:
    if len(part) <= _FEW_ROWS:
        return 0, part.copy()
    low, high = int(part.min()), int(part.max())
    if low == high:
        return low, None
    for most, narrow in _NARROW:
        if high - low <= most and narrow.itemsize < part.itemsize:
            values = room.take(len(part), narrow)
            np.subtract(part, part.dtype.type(low), out=values, casting="unsafe")
            return low, values
    values = room.take(len(part), part.dtype)
    values[:] = part
    return 0, values


def _unpack(block: Block, rows: slice, into: npt.NDArray[Any]) -> None:
    low, values = block
    if values is None:
        into[:] = low
        return
    into[:] = values[rows]
    if low:
        into += into.dtype.type(low)
