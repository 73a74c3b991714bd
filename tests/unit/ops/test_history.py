"""Histories are exactly as RAFT.md says, since two checkers read them."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.ops.history import History, Operation

CREATE = Operation(
    process=1, op="cas", key="k", value="v", expect=None, hit=True, ok=True, call_ns=1, return_ns=2, index=3
)
PUT = Operation(process=2, op="put", key="k", value="w", ok=None, call_ns=4, return_ns=5)
GET = Operation(process=3, op="get", key="k", value=None, ok=True, call_ns=6, return_ns=7, index=9)


def test_one_operation_is_one_line_with_the_documented_fields(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    with History(path) as history:
        for operation in (CREATE, PUT, GET):
            history.add(operation)
    cas, put, get = (json.loads(line) for line in path.read_text().splitlines())
    assert cas == {
        "process": 1, "op": "cas", "key": "k", "value": "v", "expect": None, "hit": True, "ok": True,
        "call_ns": 1, "return_ns": 2, "index": 3,
    }  # fmt: skip
    assert "expect" not in put
    assert put["ok"] is None
    assert get["value"] is None
    assert history.operations == [CREATE, PUT, GET]


def test_without_a_path_operations_are_kept_in_memory_alone() -> None:
    with History() as history:
        history.add(GET)
    assert history.operations == [GET]
