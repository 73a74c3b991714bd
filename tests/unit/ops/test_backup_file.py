"""``raftsman backup``: a file is whole or refused, and appears only when it is."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from orchestrator.contract.answers import BackupHead, BackupPart
from orchestrator.contract.errors import CorruptError, ExistsError, NotFoundError, StartupError
from orchestrator.ops import backup_file
from orchestrator.ops.restore import load
from tests.effort import places
from tests.unit.cli.conftest import Cli, cli, peer, world
from tests.unit.client.fake import FakePeer, World
from tests.unit.ops.peer_data import make, put

__all__ = ["cli", "peer", "world"]  # fixtures

STATE = b"the state" * 100


def parts(state: bytes = STATE, **head: object) -> list[BackupPart]:
    facts = BackupHead(**{"format": 1, "index": 7, "size_bytes": len(state), **head})  # type: ignore[arg-type]
    return [
        BackupPart(head=facts),
        *(BackupPart(data=state[start : start + 100]) for start in range(0, len(state), 100)),
        BackupPart(sha256=hashlib.sha256(state).digest()),
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    backup_file.write(tmp_path / "b", parts(), force=False)
    return tmp_path / "b"


def test_what_was_written_is_read_and_is_for_its_owner_only(file: Path) -> None:
    head, state = backup_file.read(file)
    assert (head.index, state) == (7, STATE)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in file.parent.iterdir()] == ["b"]


def test_a_head_in_the_middle_begins_anew(tmp_path: Path) -> None:
    begun = [*parts(b"x" * 5_000, index=6)[:20], *parts(index=8)]
    head = backup_file.write(tmp_path / "b", begun, force=False)
    assert head.index == 8
    assert backup_file.read(tmp_path / "b") == (head, STATE)


def test_every_cut_and_every_flipped_byte_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for size in places(range(0, len(whole), 7)):
        file.write_bytes(whole[:size])
        with pytest.raises(CorruptError):
            backup_file.read(file)
    for offset in places(range(0, len(whole), 5)):
        file.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        with pytest.raises(CorruptError):
            backup_file.read(file)
    file.write_bytes(whole + b"\0")
    with pytest.raises(CorruptError):
        backup_file.read(file)


def test_a_disk_that_takes_no_backup_is_named_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It said `[Errno 28] No space left on device`, and no more."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/safe'") as caught:
        backup_file.write(tmp_path / "safe", parts(), force=False)
    assert caught.value.filename == str(tmp_path / "safe")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_backup_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8" * 100)
    with pytest.raises(CorruptError, match=r"cat.jpg is no backup"):
        backup_file.read(tmp_path / "cat.jpg")
    with pytest.raises(NotFoundError, match="there is no file"):
        backup_file.read(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match="is a directory"):
        backup_file.read(tmp_path)


def test_a_newer_format_names_the_version_that_made_it(tmp_path: Path) -> None:
    backup_file.write(tmp_path / "b", parts(format=2, version="9.9"), force=False)
    with pytest.raises(StartupError, match=r"newer raftsman \(9\.9;") as caught:
        backup_file.read(tmp_path / "b")
    assert not isinstance(caught.value, CorruptError)


def test_an_older_file_is_replaced_only_when_told_and_only_by_a_whole_one(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ExistsError, match="replace it with -f"):
        backup_file.write(file, parts(b"new"), force=False)

    def breaks() -> Iterator[BackupPart]:
        yield from parts(b"new" * 100)[:2]
        raise KeyboardInterrupt

    damaged = [*parts(b"new")[:-1], BackupPart(sha256=b"0" * 32)]
    cases: list[tuple[Iterable[BackupPart], type[BaseException]]] = [
        (breaks(), KeyboardInterrupt),
        (parts(b"new")[:-1], CorruptError),
        (damaged, CorruptError),
        (parts(b"new", size_bytes=4), CorruptError),
        (parts(b"new")[1:], CorruptError),
    ]
    for broken, error in cases:
        with pytest.raises(error):
            backup_file.write(file, broken, force=True)
        assert file.read_bytes() == before
        assert [one.name for one in file.parent.iterdir()] == ["b"]
    backup_file.write(file, parts(b"new"), force=True)
    assert backup_file.read(file)[1] == b"new"
    with pytest.raises(NotFoundError, match="make it first"):
        backup_file.write(file.parent / "nowhere" / "b", parts(), force=False)


def test_one_that_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def slow() -> Iterator[BackupPart]:
        yield from parts()[:-1]
        (tmp_path / "b").write_text("somebody else's")
        yield parts()[-1]

    with pytest.raises(ExistsError, match="was made meanwhile"):
        backup_file.write(tmp_path / "b", slow(), force=False)
    assert (tmp_path / "b").read_text() == "somebody else's"


# ---------------------------------------------------------------------------- the command


def test_the_command_survives_a_cut_stream_and_says_what_it_wrote(cli: Cli, peer: FakePeer, tmp_path: Path) -> None:
    peer.cut_streams_after.extend([3, 0])
    code, out, err = cli("backup", str(tmp_path / "b"), "--json")
    assert code == 0
    assert (json.loads(out)["index"], json.loads(out)["file"]) == (10, str(tmp_path / "b"))
    assert "keep it like a secret" in err
    assert backup_file.read(tmp_path / "b")[1] == f"state of {peer.name}".encode() * 3
    code, out, err = cli("backup", str(tmp_path / "b"))
    assert (code, out) == (1, "")
    assert "replace it with -f" in err
    assert cli("backup", str(tmp_path / "b"), "-f", "-q")[::2] == (0, "")


def test_a_stale_backup_says_how_old_it_is(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("backup", str(tmp_path / "b"), "--stale")
    assert code == 0
    assert "(stale: it knew of a majority 2.5 s before" in out
    assert "warning: a stale backup" in err


def test_check_loads_the_state_and_refuses_what_is_none(cli: Cli, world: World, tmp_path: Path) -> None:
    cli("backup", str(tmp_path / "b"))
    code, _, err = cli("backup", "--check", str(tmp_path / "b"))  # the fake's state is none
    assert code == 1
    assert "holds no state that this raftsman can use" in err
    machine = make(tmp_path / "p1", [put("a")])
    state = b"".join(machine.capture()())
    backup_file.write(tmp_path / "c", parts(state, index=machine.index, variables=1), force=False)
    code, out, err = cli("backup", "--check", str(tmp_path / "c"))
    assert (code, err) == (0, "")
    assert f"index {machine.index}" in out
    assert "1 variables" in out
    assert load(tmp_path / "c", state).index == machine.index
    backup_file.write(tmp_path / "d", parts(state, index=machine.index + 1), force=False)
    code, _, err = cli("backup", "--check", str(tmp_path / "d"))
    assert code == 1
    assert "its head says" in err
