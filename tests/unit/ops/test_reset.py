"""``raftsman peers reset``: what it refuses, what it moves, and that no crash leaves a part that would vote."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest

from orchestrator.cli import main
from orchestrator.contract.errors import CorruptError
from orchestrator.ops import reset
from orchestrator.replication import journal_format as fmt
from orchestrator.replication.datadir import lock_directory, open_data_directory
from orchestrator.replication.disk import RealDisk
from tests.unit.ops.peer_data import StoppedError, StoppingDisk, break_journal, copied, flip, make, put, tree

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make(tmp_path / "p1", [put("a"), put("b")], snapshot_after=2)
    return tmp_path / "p1"


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("RAFTSMAN_CONFIG_DIR", str(tmp_path / "config"))
    for name in ("RAFTSMAN_CONTEXT", "RAFTSMAN_ENDPOINTS", "RAFTSMAN_TLS_DIR"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = main.run([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return int(code), out.decode(), err.decode()

    return call


def test_a_damaged_directory_is_put_aside_whole_and_an_empty_one_takes_its_place(run: Run, data: Path) -> None:
    break_journal(data)
    before = tree(data)
    data.chmod(0o750)
    code, out, err = run("peers", "reset", "--data", data, "-y", "--unasked")
    aside = Path(out.strip())
    assert code == 0
    assert aside.parent == data.parent
    assert tree(aside) == before
    assert list(data.iterdir()) == []
    assert data.stat().st_mode & 0o777 == 0o750
    assert "peer p1 of cluster home" in err
    assert "is damaged at byte" in err
    assert "only while the other peers form a MAJORITY without this one" in err
    assert "warning: nobody was asked" in err
    assert "raftsman recover" in err
    assert f"rm -r '{aside}'" in err
    fresh = open_data_directory(data, peer_id="p1", cluster_name="home", mint=lambda: "new")
    assert (fresh.fresh, fresh.incarnation) == (True, "new")
    fresh.close()


@pytest.mark.parametrize("what", ["journal", "snapshot", "identity", "no-identity", "no-journal"])
def test_every_damage_is_seen(run: Run, data: Path, what: str) -> None:
    identified = ["--id", "p1"] if "identity" in what else []
    if what == "journal":
        break_journal(data)
    elif what == "snapshot":
        flip(data / "snapshots" / "state.snapshot", 90)
    elif what == "identity":
        flip(data / "identity.json", 30)
    elif what == "no-identity":
        (data / "identity.json").unlink()
    else:
        for file in (data / "journal").iterdir():
            file.unlink()
    if identified:
        before = tree(data)
        code, _, err = run("peers", "reset", "--data", data, "-y")
        assert (code, tree(data)) == (1, before)
        assert "name it with --id" in err
    code, out, _ = run("peers", "reset", "--data", data, "-y", "--unasked", "-o", "json", *identified)
    assert code == 0
    assert json.loads(out)["damage"]
    assert list(data.iterdir()) == []


def test_unless_the_others_were_asked_nothing_is_moved(run: Run, data: Path) -> None:
    break_journal(data)
    before = tree(data)
    code, out, err = run("peers", "reset", "--data", data, "-y")
    assert (code, out, tree(data)) == (1, "", before)
    assert "neither a context nor the disk says where the other peers are" in err
    code, out, err = run("peers", "reset", "--data", data, "-y", "--ask", "127.0.0.1:9")
    assert (code, out, tree(data)) == (1, "", before)
    assert "no other peer of its cluster has told which peers there are" in err
    assert "\n  127.0.0.1:9: " in err
    for way in ("peers replace", "raftsman recover", "--unasked", "repeat this"):
        assert way in err
    code, _, err = run("peers", "reset", "--data", data, "-y", "--ask", "nowhere")
    assert (code, tree(data)) == (2, before)
    assert "expected host:port" in err


def test_a_whole_directory_is_left_alone_unless_it_is_forced(run: Run, data: Path) -> None:
    before = tree(data)
    code, out, err = run("peers", "reset", "--data", data, "-y")
    assert (code, out, tree(data)) == (1, "", before)
    assert "is whole: peer p1 of cluster home needs no reset" in err
    assert run("peers", "reset", "--data", data, "-y", "--unasked", "--force")[0] == 0
    assert list(data.iterdir()) == []


def test_who_asks_nobody_does_not_say_whom_to_ask(run: Run, data: Path) -> None:
    for flags in (("--ask", "127.0.0.1:9"), ("--tls", data)):
        code, _, err = run("peers", "reset", "--data", data, "-y", "--unasked", *flags)
        assert code == 2
        assert "--unasked asks nobody" in err


def test_without_a_yes_nothing_is_moved(run: Run, data: Path) -> None:
    break_journal(data)
    before = tree(data)
    assert run("peers", "reset", "--data", data, "--unasked")[0] == 2
    assert tree(data) == before


def test_what_is_no_peers_directory_or_another_peers_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    break_journal(data)
    before = tree(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    for wrong in (tmp_path / "photos", tmp_path / "nowhere"):
        code, _, err = run("peers", "reset", "--data", wrong, "-y")
        assert code == 1
        assert f"{wrong} is no peer's data directory" in err
    assert not (tmp_path / "nowhere").exists()
    for flags in (["--id", "p2"], ["--cluster", "work"]):
        code, _, err = run("peers", "reset", "--data", data, "-y", *flags)
        assert code == 1
        assert "belongs to peer p1 of cluster home" in err
    assert {name: body for name, body in tree(tmp_path).items() if "photos" not in name} == before


def test_a_directory_in_use_is_refused(run: Run, data: Path) -> None:
    break_journal(data)
    before = tree(data)
    lock = lock_directory(data, RealDisk())
    try:
        code, _, err = run("peers", "reset", "--data", data, "-y")
    finally:
        os.close(lock)
    assert (code, tree(data)) == (1, before)
    assert f"in use by process {os.getpid()}: stop that one" in err


def test_a_newer_format_is_not_called_damage(run: Run, data: Path) -> None:
    segment = next((data / "journal").glob("*.journal"))
    content = bytearray(segment.read_bytes())
    content[8] = 2  # the format's version, behind the magic
    content[fmt.HEADER_BYTES - 4 : fmt.HEADER_BYTES] = struct.pack(
        "<I", google_crc32c.value(bytes(content[: fmt.HEADER_BYTES - 4]))
    )
    segment.write_bytes(bytes(content))
    before = tree(data)
    code, _, err = run("peers", "reset", "--data", data, "-y")
    assert (code, tree(data)) == (1, before)
    assert "was written by a newer raftsman" in err


class MountedDisk(StoppingDisk):
    """The data directory is a mounted volume: what is in it can be moved, the directory itself cannot."""

    def __init__(self, data: Path, stop_at: int) -> None:
        super().__init__(stop_at)
        self.data = data

    def rename(self, source: Path, target: Path) -> None:
        if source == self.data:
            raise OSError(errno.EBUSY, "Device or resource busy")
        super().rename(source, target)


def test_a_mounted_volume_keeps_its_data_in_a_folder_within(data: Path) -> None:
    before = tree(data)
    aside = reset.put_aside(data, "now", MountedDisk(data, 1_000))
    assert aside == data / ".reset-now"
    assert tree(aside) == before
    fresh = open_data_directory(data, peer_id="p1", cluster_name="home", mint=lambda: "new")
    assert fresh.fresh
    fresh.close()
    again = reset.put_aside(data, "later", MountedDisk(data, 1_000))
    assert tree(aside) == before, "what was put aside before stays where it is"
    assert set(tree(again)) == {"identity.json"}


@pytest.mark.parametrize("is_mounted", [False, True])
def test_a_crash_at_any_step_leaves_the_old_an_empty_or_a_refused_directory(tmp_path: Path, is_mounted: bool) -> None:
    make(tmp_path / "origin", [put("a"), put("b")], snapshot_after=2)
    seen = set()
    for stop_at in range(1, 100):
        data = copied(tmp_path / "origin", tmp_path / f"at-{stop_at}" / "p1")
        disk = MountedDisk(data, stop_at) if is_mounted else StoppingDisk(stop_at)
        try:
            reset.put_aside(data, "now", disk)
            finished = True
        except StoppedError:
            finished = False
        kept = {name.rpartition(".reset-now/")[2].removeprefix("p1/") for name in tree(data.parent)}
        assert kept == set(tree(tmp_path / "origin")), "nothing is lost"
        try:
            opened = open_data_directory(data, peer_id="p1", cluster_name="home", mint=lambda: "new")
            seen.add("empty" if opened.fresh else "old")
            assert opened.fresh == (opened.incarnation == "new")
            assert opened.fresh or set(tree(tmp_path / "origin")) <= set(tree(data)), "whole or not at all"
            opened.close()
        except CorruptError:
            seen.add("refused")
        if finished:
            break
    else:
        raise AssertionError("it never came to an end")
    assert seen == ({"old", "refused", "empty"} if is_mounted else {"old", "empty"})
