"""Client histories, in memory and as JSON lines in RAFT.md's format: what was called, what was answered, and when.

Owns: ``Operation`` and the file's format. Leaves judging to the checker. The rule: an operation is added, and is one
line, when it is over; its times are of one monotonic clock; ``ok`` is None whenever the outcome is not certain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TextIO

Op = Literal["put", "get", "cas", "delete"]


class Unset:
    """The type of ``UNCONDITIONAL``: None already means "expects absence"."""


UNCONDITIONAL = Unset()

Value = str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One client operation, with the fields of RAFT.md's history format. Times are of one monotonic clock.

    ``value``: written or read, None for absent. ``expect``: what cas or delete expects, None for absence. ``hit``:
    whether the expectation held. ``ok``: True answered, False certainly did not happen, None unknown. ``index`` 0: the
    answer named none.
    """

    process: int
    op: Op
    key: str
    value: Value
    call_ns: int
    return_ns: int
    ok: bool | None
    hit: bool = False
    index: int = 0
    expect: Value | Unset = UNCONDITIONAL

    def as_json(self) -> dict[str, object]:
        """The object of its line; ``expect`` is left out where nothing was expected."""
        line: dict[str, object] = {"process": self.process, "op": self.op, "key": self.key, "value": self.value}
        if not isinstance(self.expect, Unset):
            line["expect"] = self.expect
        return line | {
            "hit": self.hit,
            "ok": self.ok,
            "call_ns": self.call_ns,
            "return_ns": self.return_ns,
            "index": self.index,
        }


class History:
    """Keeps operations, and writes them to ``path`` if one is given."""

    def __init__(self, path: Path | None = None) -> None:
        self.operations: list[Operation] = []
        self._file: TextIO | None = path.open("w", encoding="utf-8") if path is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        if self._file is not None:
            self._file.write(json.dumps(operation.as_json()) + "\n")
