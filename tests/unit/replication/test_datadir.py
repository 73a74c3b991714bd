"""The data directory: one owner, one process, one incarnation; every refusal says how to proceed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.contract.errors import CorruptError, StartupError
from orchestrator.replication import datadir
from orchestrator.replication.datadir import DataDirectory, open_data_directory
from orchestrator.replication.disk import RealDisk
from orchestrator.replication.journal import FileJournal
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.snapshots import FileSnapshots
from tests.effort import places
from tests.sim.disk import PowerCutError, SimDisk


def opened(path: Path, *, peer_id: str = "p1", cluster_name: str = "home", minted: str = "disk-1") -> DataDirectory:
    return open_data_directory(path, peer_id=peer_id, cluster_name=cluster_name, mint=lambda: minted)


@pytest.fixture
def used(tmp_path: Path) -> Iterator[Path]:
    """A directory that peer p1 of cluster home has voted from."""
    path = tmp_path / "data"
    directory = opened(path)
    journal = FileJournal(directory.path / "journal")
    journal.set_vote(1, "p1")
    journal.flush()
    journal.close()
    directory.bind_cluster_id("c-1")
    directory.close()
    yield path


def test_a_new_directory_is_private_and_fresh(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data"
    directory = opened(path)
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "identity.json").stat().st_mode & 0o777 == 0o600
    assert (directory.fresh, directory.incarnation, directory.cluster_id) == (True, "disk-1", "")
    directory.close()


def test_the_incarnation_is_minted_once(tmp_path: Path) -> None:
    opened(tmp_path).close()
    again = opened(tmp_path, minted="disk-2")
    assert (again.incarnation, again.fresh) == ("disk-1", True)
    again.close()


def test_a_directory_with_a_vote_is_not_fresh(used: Path) -> None:
    directory = opened(used)
    assert not directory.fresh
    assert directory.cluster_id == "c-1"
    directory.close()


def test_a_directory_with_only_a_snapshot_is_not_fresh(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    FileSnapshots(directory.snapshots_path).save(SnapshotMeta(last_index=1, last_term=1, index=1), (b"state",))
    directory.close()
    again = opened(tmp_path)
    assert not again.fresh
    again.close()


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from orchestrator.replication.datadir import open_data_directory\n"
        "d = open_data_directory(pathlib.Path(sys.argv[1]), peer_id='p1', cluster_name='home', mint=lambda: 'x')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3], text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        lines = iter(other.stdout.readline, "")
        assert any(line == "held\n" for line in lines)
        with pytest.raises(StartupError, match=f"in use by process {other.pid}: stop that one") as caught:
            opened(tmp_path)
        assert caught.value.metadata == {"pid": str(other.pid)}
        other.kill()
    opened(tmp_path).close()  # the lock went with the process


def test_the_same_process_cannot_open_it_twice(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    with pytest.raises(StartupError, match=f"in use by process {os.getpid()}"):
        opened(tmp_path)
    directory.close()
    opened(tmp_path).close()


@pytest.mark.parametrize(("peer_id", "cluster_name"), [("p2", "home"), ("p1", "work")])
def test_another_owners_directory_is_refused_and_stays_as_it_is(used: Path, peer_id: str, cluster_name: str) -> None:
    before = (used / "identity.json").read_bytes()
    expected = (
        f"belongs to peer 'p1' of cluster 'home', but this process was started as peer '{peer_id}' of cluster "
        f"'{cluster_name}': start it as the former, or name another data directory"
    )
    with pytest.raises(StartupError, match=expected):
        opened(used, peer_id=peer_id, cluster_name=cluster_name)
    assert (used / "identity.json").read_bytes() == before
    opened(used).close()  # a refusal leaves no lock behind


def test_a_flipped_byte_anywhere_in_the_identity_is_refused(used: Path) -> None:
    file = used / "identity.json"
    whole = file.read_bytes()
    for offset, byte in places(list(enumerate(whole.rstrip()))):
        file.write_bytes(whole[:offset] + bytes([byte ^ 0x01]) + whole[offset + 1 :])
        if chr(byte ^ 0x01).isspace() and chr(byte).isspace():
            continue
        with pytest.raises(CorruptError, match=r"identity.json is damaged.*peers reset --data DIR"):
            opened(used)
    for size in places(range(len(whole) - 2)):
        file.write_bytes(whole[:size])
        with pytest.raises(CorruptError, match=r"identity.json is damaged"):
            opened(used)


@pytest.mark.parametrize("content", ["[]", "null", "3", "{}", '{"crc32c": null}'])
def test_json_that_is_not_an_identity_is_damage(used: Path, content: str) -> None:
    (used / "identity.json").write_text(content)
    with pytest.raises(CorruptError, match=r"identity.json is damaged"):
        opened(used)


def test_a_newer_format_is_refused_with_the_way_on(used: Path) -> None:

    fields = json.loads((used / "identity.json").read_text())
    del fields["crc32c"]
    fields["format"] = 2
    fields["crc32c"] = datadir._checksum(fields)
    (used / "identity.json").write_text(json.dumps(fields))
    with pytest.raises(StartupError, match="newer raftsman") as caught:
        opened(used)
    assert not isinstance(caught.value, CorruptError)


def test_a_lost_identity_beside_a_journal_is_refused(used: Path) -> None:
    (used / "identity.json").unlink()
    with pytest.raises(CorruptError, match=r"identity.json is gone.*peers reset --data DIR"):
        opened(used)


def test_a_lost_journal_beside_a_bound_identity_is_refused_because_the_peer_would_vote_again(used: Path) -> None:
    for file in (used / "journal").iterdir():
        file.unlink()
    with pytest.raises(CorruptError, match=r"took part in cluster c-1, but its journal and snapshots are gone"):
        opened(used)


def test_a_cluster_id_is_bound_once_and_durably(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    directory.bind_cluster_id("c-1")
    directory.bind_cluster_id("c-1")
    with pytest.raises(StartupError, match=r"belongs to cluster c-1, but .* cluster c-2: correct the peer list"):
        directory.bind_cluster_id("c-2")
    with pytest.raises(ValueError, match="not empty"):
        directory.bind_cluster_id("")
    FileJournal(directory.path / "journal").close()
    assert json.loads((tmp_path / "identity.json").read_text())["cluster_id"] == "c-1"
    directory.close()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    for path in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(StartupError, match="is not a directory: name another one"):
            opened(path)


def test_an_unwritable_path_is_refused_with_the_reason(tmp_path: Path) -> None:
    class ReadOnly(RealDisk):
        def makedirs(self, directory: Path) -> None:
            raise PermissionError(13, "Permission denied")

    with pytest.raises(StartupError, match=r"Permission denied.*change its owner"):
        open_data_directory(tmp_path / "data", peer_id="p1", cluster_name="home", mint=lambda: "x", disk=ReadOnly())


def test_a_power_cut_while_the_identity_is_made_leaves_none_or_the_one_that_was_used(tmp_path: Path) -> None:
    for seed in range(5):
        call, cut = 1, True
        while cut:
            disk = SimDisk(seed)
            disk.crash_at = call
            try:
                open_data_directory(
                    tmp_path, peer_id="p1", cluster_name="home", mint=lambda: "first", disk=disk
                ).close()
                cut = False
            except PowerCutError:
                pass
            disk.crash()
            again = open_data_directory(
                tmp_path, peer_id="p1", cluster_name="home", mint=lambda: "second", disk=disk
            )  # fmt: skip
            assert again.incarnation == "first" if not cut else again.incarnation in ("first", "second")
            again.close()
            call += 1


def test_a_directory_that_is_taken_away_under_its_process_is_noticed(used: Path, tmp_path: Path) -> None:
    directory = opened(used)
    assert directory.displaced() == ""
    moved = used.rename(tmp_path / "moved")
    assert "deleted or moved" in directory.displaced()
    shutil.copytree(moved, used)
    assert "replaced by another directory" in directory.displaced(), "it looks the same, and nothing is written there"
    shutil.rmtree(used)
    moved.rename(used)
    assert directory.displaced() == ""
    directory.close()
