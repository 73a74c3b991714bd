"""Client histories as JSON lines, in RAFT.md's format: what was called, what was answered, and when.

Owns: the file's format. The rule: an operation is one line, written when it is over; its times are of one monotonic
clock; ``ok`` is None whenever the outcome is not certain.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TextIO

Op = Literal["put", "get", "cas", "delete"]


class Unset:
    """The type of ``UNCONDITIONAL``: None already means "expects absence"."""


UNCONDITIONAL = Unset()


class History:
    """Appends operations to a file; without a path it keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = path.open("w", encoding="utf-8") if path is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def kept(self) -> bool:
        return self._file is not None

    def add(
        self,
        *,
        process: int,
        op: Op,
        key: str,
        value: str | None,
        call_ns: int,
        return_ns: int,
        ok: bool | None,
        hit: bool = False,
        index: int = 0,
        expect: str | Unset | None = UNCONDITIONAL,
    ) -> None:
        """``value``: written or read, None for absent; ``expect``: what cas or delete expects, None for absence."""
        if self._file is None:
            return
        line: dict[str, object] = {"process": process, "op": op, "key": key, "value": value}
        if not isinstance(expect, Unset):
            line["expect"] = expect
        line |= {"hit": hit, "ok": ok, "call_ns": call_ns, "return_ns": return_ns, "index": index}
        self._file.write(json.dumps(line) + "\n")
