"""``raftsman drill``: what it refuses, what it skips, and how its exit status tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.ops import drill_command
from orchestrator.ops.drill_facts import Facts, Verdict, judge
from orchestrator.ops.drill_kinds import KINDS
from orchestrator.ops.drill_needs import Need
from orchestrator.ops.drill_tools import MissingError


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration directory of commands that must not start a cluster, or touch this process's namespaces."""
    monkeypatch.setenv("RAFTSMAN_CONFIG_DIR", str(tmp_path))

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(drill_command, "FaultyCluster", start)
    monkeypatch.setattr(drill_command, "prepare", lambda needs: None)
    return tmp_path


def test_what_is_missing_is_told_as_skipped_with_the_reason_and_status_77(
    command: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(needs: object) -> None:
        raise MissingError("strace is not installed (Debian: apt-get install strace)")

    monkeypatch.setattr(drill_command, "prepare", lacks)
    result = CliRunner().invoke(drill_command.command, ["fsync-error", "--json"])
    assert result.exit_code == 77
    assert json.loads(result.stdout) == {"skipped": "strace is not installed (Debian: apt-get install strace)"}
    assert "skipped: strace is not installed" in result.stderr


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("context", ["dev", "compose"])
def test_a_drill_that_a_context_cannot_bear_is_refused_with_the_way_out(command: Path, kind: str, context: str) -> None:
    data = "/nowhere" if context == "dev" else ""
    saved = {"endpoints": ["127.0.0.1:1"], "kind": context, "data": data}
    (command / "contexts.json").write_text(json.dumps({"current": "mine", "contexts": {"mine": saved}}))
    result = CliRunner().invoke(drill_command.command, [kind])
    needs = KINDS[kind].needs
    refused = bool(needs & {Need.LINKS, Need.DISKS, Need.ENGINE}) or (context == "compose" and bool(needs))
    assert ("--throwaway makes a cluster that has" in str(result.exception)) == refused
    assert not isinstance(result.exception, AssertionError)


@pytest.mark.parametrize("flags", [["--peers", "5"], ["--agents", "2"], ["--no-live-restore"], ["--fast-failover"]])
def test_what_is_said_of_a_throw_away_cluster_is_refused_for_another(command: Path, flags: list[str]) -> None:
    saved = {"endpoints": ["127.0.0.1:1"], "kind": "dev", "data": "/nowhere"}
    (command / "contexts.json").write_text(json.dumps({"current": "mine", "contexts": {"mine": saved}}))
    result = CliRunner().invoke(drill_command.command, ["kill-leader", *flags])
    assert result.exit_code == 2
    assert "is for a throw-away cluster (--throwaway), and this drill is of context 'mine'" in result.output


def test_a_violation_makes_the_command_exit_1(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drilled(*_: object) -> Verdict:
        return judge(Facts(rounds=1, hashes=[{"p1": "x", "p2": "x"}], violations=["a stale read"]))

    monkeypatch.setattr(drill_command, "_run", drilled)
    monkeypatch.setattr(drill_command, "FaultyCluster", lambda *_, **__: None)
    result = CliRunner().invoke(drill_command.command, ["kill-leader", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["violations"] == 1


def test_containers_are_refused_where_their_ports_could_not_be_reached(command: Path) -> None:
    result = CliRunner().invoke(drill_command.command, ["partition-leader", "--throwaway", "--driver", "docker"])
    assert "leave --driver out" in str(result.exception)


def test_processes_are_refused_where_containers_are_what_it_is_about(command: Path) -> None:
    result = CliRunner().invoke(drill_command.command, ["engine-kill", "--throwaway", "--driver", "process"])
    assert "engine-kill is about containers: leave --driver out" in str(result.exception)
