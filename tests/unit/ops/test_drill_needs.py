"""Tools and namespaces of drills: what is missing is said; the machine's own network and mounts stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contract.errors import PreconditionError
from orchestrator.ops import drill_disks, drill_namespaces
from orchestrator.ops.drill_disks import Disk
from orchestrator.ops.drill_strace import exited_with, failing, slow
from orchestrator.ops.drill_tools import MissingError, run_tool, tool


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
