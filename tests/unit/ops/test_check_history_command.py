"""``raftsman check-history``: exit codes, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.unit.ops.histories import operation
from tests.unit.ops.test_history_file import written


def test_a_linearizable_history_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "h", [operation("put", "a", 0, 1), operation("put", "b", 0, 9, ok=None)])
    assert main.run(["check-history", str(path)]) == 0
    assert "2 operations (1 without an outcome) on 1 keys: linearizable" in capsys.readouterr().out


def test_a_violation_exits_1_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "h", [operation("put", "a", 0, 1), operation("get", None, 2, 3, process=4)])
    assert main.run(["check-history", str(path)]) == 1
    out = capsys.readouterr().out
    assert 'not-linearizable: key "k"' in out
    assert "line 2" in out
    assert "process 4: get found absent" in out


def test_json_has_the_documented_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "h", [operation("put", "a", 0, 1), operation("get", None, 2, 3)])
    assert main.run(["check-history", str(path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"operations", "unknown", "keys", "violations", "seconds"}
    assert (found["operations"], found["unknown"], found["keys"]) == (2, 0, 1)
    assert [violation.keys() for violation in found["violations"]] == [{"key", "kind", "explanation"}]


def test_a_malformed_file_exits_2_with_file_line_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text('{"op": "put"}\n')
    assert main.run(["check-history", str(path)]) == 2
    assert capsys.readouterr().err == f"raftsman: {path}:1: process is missing; expected an integer\n"


def test_a_missing_file_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["check-history", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err
