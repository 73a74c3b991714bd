"""What a history file may hold, and that every mistake in one is named with its place."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from orchestrator.contract.errors import InvalidError
from orchestrator.ops import history_file
from orchestrator.ops.history import History, Operation
from orchestrator.ops.history_columns import NOTHING, Columns, Int64s, columns
from orchestrator.ops.linearizability import check_columns
from tests.unit.ops.histories import operation, recorded

GOOD = {
    "process": 1, "op": "put", "key": "k", "value": "a", "hit": True, "ok": True,
    "call_ns": 1, "return_ns": 2, "index": 3,
}  # fmt: skip


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(line + "\n" if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def written(path: Path, operations: list[Operation]) -> Path:
    with History(path) as history:
        for one in operations:
            history.add(one)
    return path


def named(history: Columns, numbers: Int64s) -> list[object]:
    return [history.values[number] if number != NOTHING else ... for number in numbers.tolist()]


def test_what_history_writes_is_read_as_it_was(tmp_path: Path) -> None:
    operations = recorded(random.Random(5), 3 * history_file.BLOCK_LINES // 2, keys=("a", "b"), unknown=0.1)
    operations.append(operation("put", "\udcff line\nbreak \u2028 ü", 1, 2, key="odd", ok=False))
    from_file = history_file.read(written(tmp_path / "h", operations))
    from_memory = columns(operations)
    for name in ("number", "process", "op", "key", "equal", "known", "call", "returned", "index"):
        assert getattr(from_file, name).tolist() == getattr(from_memory, name).tolist(), name
    for name in ("wants", "gives"):  # the numbers of values depend on what was read together
        assert named(from_file, getattr(from_file, name)) == named(from_memory, getattr(from_memory, name)), name
    assert from_file.keys == from_memory.keys
    assert (from_file.operations, from_file.unknown) == (from_memory.operations, from_memory.unknown)


def test_an_empty_file_is_an_empty_history(tmp_path: Path) -> None:
    report = check_columns(history_file.read(write(tmp_path / "h")))
    assert (report.operations, report.keys, report.ok) == (0, 0, True)


def test_what_says_nothing_may_be_left_out(tmp_path: Path) -> None:
    """``index`` always, ``hit`` where nothing was expected or answered, ``return_ns`` of what did not happen."""
    short = {"process": 1, "op": "put", "key": "k", "value": "a", "ok": True, "call_ns": 1, "return_ns": 2}
    path = write(
        tmp_path / "h",
        short,
        short | {"ok": None, "return_ns": None, "index": None},
        "",
        {"process": 2, "op": "cas", "key": "k", "value": "b", "expect": None, "ok": None, "call_ns": 4},
        GOOD | {"value": 7},
    )
    history = history_file.read(path)
    assert history.number.tolist() == [1, 2, 4, 5]
    assert history.known.tolist() == [True, False, False, True]
    assert history.index.tolist() == [0, 0, 0, 3]


def test_what_says_nothing_may_be_null(tmp_path: Path) -> None:
    """In a block of such lines, and (because of the blank one) line by line."""
    lines: list[object] = [
        GOOD | {"hit": None, "index": None},
        GOOD | {"op": "get", "hit": None, "expect": None},
        GOOD | {"op": "cas", "expect": "x", "hit": None, "ok": False, "return_ns": None},
        GOOD | {"op": "delete", "hit": None},
    ]
    for some in (lines, [*lines, ""]):
        history = history_file.read(write(tmp_path / "h", *some))
        assert (history.operations, history.number.tolist()) == (4, [1, 2, 4])
        assert history.index.tolist() == [0, 3, 3]


@pytest.mark.parametrize("short", [{"index": None}, {"hit": None}, {"hit": None, "index": None, "ok": None}])
def test_a_long_history_without_what_says_nothing_is_read_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: dict[str, object]
) -> None:
    """Line by line a million operations would take twice as long."""
    lines: list[object] = [GOOD | short] * history_file.BLOCK_LINES
    lines += [{name: value for name, value in (GOOD | short).items() if value is not None or name == "ok"}]
    monkeypatch.setattr(history_file, "_line_by_line", None)
    assert history_file.read(write(tmp_path / "h", *lines)).operations == len(lines)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON"),
        ('{"process": 1', "no JSON"),
        ("[1, 2]", "[1, 2]; expected a JSON object"),
        ("7", "7; expected a JSON object"),
        (json.dumps(GOOD) + "," + json.dumps(GOOD), "no JSON"),
        ("\udcff", "no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ({}, "process is missing; expected an integer"),
        ({name: value for name, value in GOOD.items() if name != "ok"}, "ok is missing; expected true, false or null"),
        ({name: value for name, value in GOOD.items() if name != "key"}, "key is missing; expected a text"),
        (GOOD | {"expct": "x"}, 'unknown field "expct"; expected process, op, key'),
        (GOOD | {"op": "increment"}, 'op: "increment"; expected one of get, put, cas, delete'),
        (GOOD | {"op": None}, "op: null; expected one of"),
        (GOOD | {"key": 7}, "key: 7; expected a text"),
        (GOOD | {"value": ["a"]}, 'value: ["a"]; expected a text, an integer or null'),
        (GOOD | {"value": True}, "value: true; expected a text"),
        (GOOD | {"ok": "yes"}, 'ok: "yes"; expected true, false or null'),
        (GOOD | {"op": "delete", "expect": "x", "hit": None}, "hit: null; expected true or false"),
        (GOOD | {"hit": "yes"}, 'hit: "yes"; expected true or false'),
        (GOOD | {"process": True}, "process: true; expected an integer"),
        (GOOD | {"call_ns": 1.5}, "call_ns: 1.5; expected an integer"),
        (GOOD | {"call_ns": 2**70, "return_ns": 2**70}, "expected an integer of 64 bits"),
        (GOOD | {"return_ns": None}, "return_ns: null; expected an integer"),
        (GOOD | {"call_ns": 5}, "return_ns: 2 is before call_ns 5"),
        (GOOD | {"index": -1}, "index: -1; expected 0 (none) or more"),
        (GOOD | {"op": "cas", "expect": 1.0}, "expect: 1.0; expected a text, an integer or null"),
        ({**{n: v for n, v in GOOD.items() if n != "hit"}, "op": "cas", "expect": "x"}, "hit is missing"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_understood_is_named(tmp_path: Path, line: object, reason: str) -> None:
    path = tmp_path / "h.jsonl"
    text = line if isinstance(line, str) else json.dumps(line)
    path.write_bytes((json.dumps(GOOD) + "\n\n" + text + "\n").encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidError) as caught:
        history_file.read(path)
    assert caught.value.message.startswith(f"{path}:3: ")
    assert reason in caught.value.message


def test_a_mistake_is_found_at_its_line_in_a_later_block(tmp_path: Path) -> None:
    lines: list[object] = [GOOD] * (2 * history_file.BLOCK_LINES + 10)
    lines[-3] = GOOD | {"op": "?"}
    with pytest.raises(InvalidError, match=f":{len(lines) - 2}: op"):
        history_file.read(write(tmp_path / "h", *lines))
