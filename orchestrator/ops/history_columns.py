"""``Columns``: a client history as numpy arrays, one row per operation that counts.

Owns: what an operation demands of the register and does to it (``wants``, ``equal``, ``gives``), so that the judges
know no names of operations. Leaves to others: the file (``history_file``), judging (``linearizability``). The rule: an
operation that certainly did not happen, and a read without an answer, say nothing and have no row.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from orchestrator.ops.history import Op, Operation, Unset, Value

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

NOTHING: Final = -1
"""In ``wants``: no demand; in ``gives``: no effect."""
ABSENT: Final = 0
"""The number of the value None."""
NEVER: Final = int(np.iinfo(np.int64).max)
"""``returned`` of an operation whose outcome is unknown: it may take effect at any time after its call."""

OPS: Final[tuple[Op, ...]] = ("get", "put", "cas", "delete")
_GET, _PUT, _CAS, _DELETE = range(4)
_NUMBER_OF_OP: Final[dict[str, int]] = {name: number for number, name in enumerate(OPS)}
_CHUNK: Final = 10_000

H = TypeVar("H", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Rows are in the order of the history. ``values`` and ``keys`` give back what the numbers stand for."""

    number: Int64s  # 1, 2, ...: the line of the file, or the place in the sequence
    process: Int64s
    op: NDArray[np.int8]  # index into OPS
    key: Int64s
    wants: Int64s  # the value that the operation found, or NOTHING
    equal: Bools  # False: it found another value than ``wants``
    gives: Int64s  # the value that it left, or NOTHING
    known: Bools  # False: its outcome is unknown
    call: Int64s
    returned: Int64s
    index: Int64s  # 0: none
    keys: Sequence[str]
    values: Sequence[Value]
    operations: int  # in the history, with those that have no row
    unknown: int  # of them, those without an outcome
    numbered: str = "operation"  # what ``number`` counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some operations by field, in sequences of equal length."""

    number: Sequence[int]
    process: Sequence[int]
    op: Sequence[str]
    key: Sequence[str]
    value: Sequence[Value]
    expect: Sequence[Value | Unset]
    hit: Sequence[bool]
    ok: Sequence[bool | None]
    call_ns: Sequence[int]
    return_ns: Sequence[int]
    index: Sequence[int]


class Builder:
    """Makes ``Columns`` from batches. ``numbered`` says what their numbers count."""

    def __init__(self, numbered: str = "operation") -> None:
        self._numbered = numbered
        self._operations = self._unknown = 0
        self._keys: dict[str, int] = {}
        self._values: dict[Value, int] = {None: ABSENT}
        self._parts: list[dict[str, NDArray[np.generic]]] = []

    def add(self, batch: Batch) -> None:
        """Raises ``OverflowError`` for an integer of more than 64 bits."""
        count = len(batch.op)
        op = np.fromiter(map(_NUMBER_OF_OP.__getitem__, batch.op), np.int8, count)
        happened = np.fromiter((one is not False for one in batch.ok), np.bool_, count)
        known = np.fromiter((one is True for one in batch.ok), np.bool_, count)
        value = _numbers(batch.value, self._values)
        wants = _numbers([None if isinstance(one, Unset) else one for one in batch.expect], self._values)
        conditional = np.fromiter((not isinstance(one, Unset) for one in batch.expect), np.bool_, count)
        conditional &= op >= _CAS
        missed = conditional & known & ~np.fromiter(batch.hit, np.bool_, count)
        wants = np.where(op == _GET, value, np.where(conditional, wants, NOTHING))
        gives = np.where(op == _DELETE, ABSENT, value)
        # What leaves the register as it found it is a read; so is a swap of a value for itself.
        gives[(op == _GET) | missed | (conditional & (wants == gives))] = NOTHING
        counts = happened & (known | (gives != NOTHING))
        part: dict[str, NDArray[np.generic]] = {
            "number": np.array(batch.number, np.int64),
            "process": np.array(batch.process, np.int64),
            "op": op,
            "key": _numbers(batch.key, self._keys),
            "wants": wants,
            "equal": ~missed,
            "gives": gives,
            "known": known,
            "call": np.array(batch.call_ns, np.int64),
            "returned": np.where(known, np.array(batch.return_ns, np.int64), NEVER),
            "index": np.where(known, np.array(batch.index, np.int64), 0),
        }
        self._parts.append({name: column[counts] for name, column in part.items()})
        self._operations += count
        self._unknown += int((happened & ~known).sum())

    def done(self) -> Columns:
        if not self._parts:
            self.add(_batch([]))
        whole: dict[str, Any] = {}
        for name in tuple(self._parts[0]):
            whole[name] = np.concatenate([part.pop(name) for part in self._parts])
        return Columns(
            **whole,
            keys=tuple(self._keys),
            values=tuple(self._values),
            operations=self._operations,
            unknown=self._unknown,
            numbered=self._numbered,
        )


def columns(operations: Iterable[Operation]) -> Columns:
    """A history in memory. Raises ``ValueError`` for an operation that returned before it was called."""
    builder = Builder()
    chunk: list[tuple[int, Operation]] = []
    for number, operation in enumerate(operations, 1):
        if operation.ok is not None and operation.return_ns < operation.call_ns:
            raise ValueError(f"operation {number} returned before it was called: {operation}")
        chunk.append((number, operation))
        if len(chunk) == _CHUNK:
            builder.add(_batch(chunk))
            chunk = []
    builder.add(_batch(chunk))
    return builder.done()


def _batch(chunk: Sequence[tuple[int, Operation]]) -> Batch:
    names = ("process", "op", "key", "value", "expect", "hit", "ok", "call_ns", "return_ns", "index")
    fields = {name: [getattr(operation, name) for _, operation in chunk] for name in names}
    return Batch(number=[number for number, _ in chunk], **fields)


def _numbers(column: Sequence[H], known: dict[H, int]) -> Int64s:
    """A number for each text or value, the same for equal ones."""
    number = known.setdefault
    return np.fromiter([number(one, len(known)) for one in column], np.int64, len(column))
