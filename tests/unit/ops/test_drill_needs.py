"""What a machine lacks is said before anything starts, and told from a drill that failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.contract.errors import PreconditionError
from orchestrator.ops import drill_command, drill_disks, drill_namespaces
from orchestrator.ops.drill_disks import Disk
from orchestrator.ops.drill_kinds import KINDS
from orchestrator.ops.drill_needs import Need
from orchestrator.ops.drill_strace import exited_with, failing, slow
from orchestrator.ops.drill_tools import MissingError, run_tool, tool


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
    refused = bool(needs & {Need.LINKS, Need.DISKS}) or (context == "compose" and bool(needs))
    assert ("--throwaway makes a cluster that has" in str(result.exception)) == refused
    assert not isinstance(result.exception, AssertionError)


def test_containers_are_refused_where_their_ports_could_not_be_reached(command: Path) -> None:
    result = CliRunner().invoke(drill_command.command, ["partition-leader", "--throwaway", "--driver", "docker"])
    assert "leave --driver out" in str(result.exception)


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"raftsman-no-such-tool is not installed \(Debian: apt-get install tools\)"):
        tool("raftsman-no-such-tool", "tools")


def test_a_tool_that_fails_is_quoted() -> None:
    with pytest.raises(MissingError, match="`false` does not work here: exit status 1"):
        run_tool(["false"])


def test_no_disk_is_ever_mounted_among_the_machines_own(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match="mount namespace of the drill's own"):
        Disk(tmp_path / "image", tmp_path / "root").make()
    with pytest.raises(PreconditionError):
        drill_disks.check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_asking_for_no_namespace_enters_none() -> None:
    drill_namespaces.enter(network=False, mounts=False)
    assert not drill_namespaces.inside("network")
    assert not drill_namespaces.inside("mounts")


def test_injections_are_in_straces_syntax() -> None:
    assert failing("EIO") == "fsync,fdatasync:error=EIO:when=1+"
    assert slow(150) == "fsync,fdatasync:delay_enter=150000"


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ("12 fdatasync(3) = -1 EIO (INJECTED)\n13 +++ exited with 70 +++\n12 +++ exited with 70 +++\n", 70),
        ("12 fdatasync(3) = 0\n", -1),
        ("12 +++ killed by SIGKILL +++\n", -1),
        ("", -1),
    ],
    ids=["by itself", "still runs", "killed", "nothing seen"],
)
def test_the_exit_status_is_read_from_straces_record(record: str, status: int) -> None:
    assert exited_with(record) == status
