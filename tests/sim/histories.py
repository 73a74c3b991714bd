"""``History``: what clients asked and were told, in the format of RAFT.md, and whether it is linearizable.

Owns: the record and ``judge``. The one rule: an operation that certainly did nothing is left out, one whose outcome is
unknown stays with ``ok`` None.

``judge`` asks two judges. The product's checker (``orchestrator.ops.linearizability``) sees only the history. The other
knows from ``Witness`` what the log holds: each answer names its index, so the order is given; it remains to see that
it respects real time and that every answer fits the value at its index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.ops.history import Operation
from orchestrator.ops.linearizability import check_history

Row = dict[str, Any]


class History:
    def __init__(self) -> None:
        self._operations: dict[int, Row] = {}
        self._processes = 0

    def __iter__(self) -> Iterator[Row]:
        return iter(self._operations.values())

    def __len__(self) -> int:
        return len(self._operations)

    def new_process(self) -> int:
        """A process does one operation after the other; it ends with an unknown outcome."""
        self._processes += 1
        return self._processes

    def call(self, process: int, op: str, key: str, now: float, *, value: str | None = None) -> Row:
        operation: Row = {"process": process, "op": op, "key": key, "call_ns": int(now * 1e9)}
        if op != "get":
            operation["value"] = value
        self._operations[id(operation)] = operation
        return operation

    def drop(self, operation: Row) -> None:
        del self._operations[id(operation)]

    def answered(self, operation: Row, now: float, *, index: int, **result: object) -> None:
        operation.update(ok=True, return_ns=int(now * 1e9), index=index, **result)

    def unknown(self, operation: Row, now: float) -> None:
        operation.update(ok=None, return_ns=int(now * 1e9))


def judge(history: History, value_at: Callable[[str, int], str | None]) -> list[str]:
    """Every way in which it is not linearizable; empty if it is. ``value_at``: a key's value after an index."""
    report = check_history(Operation(**operation) for operation in history)
    return [*(violation.explanation for violation in report.violations), *_against_the_log(history, value_at)]


def _against_the_log(history: History, value_at: Callable[[str, int], str | None]) -> list[str]:
    problems: list[str] = []
    done = [operation for operation in history if operation.get("ok")]
    returned = sorted(done, key=lambda operation: int(operation["return_ns"]))
    behind: dict[str, int] = {}  # key -> the highest index that was answered before
    place = 0
    for operation in sorted(done, key=lambda operation: int(operation["call_ns"])):
        while returned[place]["return_ns"] < operation["call_ns"]:
            key = returned[place]["key"]
            behind[key] = max(behind.get(key, 0), returned[place]["index"])
            place += 1
        key, index = operation["key"], operation["index"]
        if index < behind.get(key, 0):
            problems.append(f"{operation} was answered at an index below {behind[key]}, answered before it was asked")
        now = value_at(key, index)
        if operation["op"] == "get":
            if operation["value"] != now:
                problems.append(f"{operation} read another value than {now!r}, which was there at its index")
            continue
        before = value_at(key, index - 1)
        hit = "expect" not in operation or operation["expect"] == before
        if operation["op"] == "delete" and before is None and "expect" not in operation:
            hit = bool(operation["hit"])  # there is no rule about deleting what is not there
        if operation["hit"] != hit:
            problems.append(f"{operation} does not fit the value {before!r} that it found")
        if now != (operation["value"] if hit else before):
            problems.append(f"{operation} left the value {now!r}")
    return problems
