"""``raftsman restore`` and ``raftsman recover`` on directories that a peer left: what they make, refuse and leave."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from orchestrator.contract.answers import BackupHead, BackupPart
from orchestrator.contract.errors import PreconditionError, StartupError
from orchestrator.ops import backup_file, peer_disk, recovery
from orchestrator.ops.restore import restore
from orchestrator.replication.datadir import RESTORING, lock_directory, open_data_directory
from orchestrator.replication.disk import Disk, RealDisk
from orchestrator.replication.journal import FileJournal
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state.renewal import ATTEMPT_STEP, EPOCH_STEP, INDEX_STEP
from tests.unit.ops.peer_data import CLUSTER_ID, StoppedError, StoppingDisk, break_journal, copied, make, put, tree
from tests.unit.ops.test_reset import Run, run

__all__ = ["run"]  # a fixture

VARIABLES = {("default", "a"): "x", ("default", "b"): "x", ("default", "c"): "x"}


def values(machine: ClusterMachine) -> dict[tuple[str, str], str]:
    return {key: variable.value for key, variable in machine.state.variables.items()}


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    machine = make(tmp_path / "source", [put("a"), put("b"), put("c")])
    state = b"".join(machine.capture()())
    head = BackupHead(
        format=1, cluster_id=CLUSTER_ID, cluster_name="home", index=machine.index, size_bytes=len(state), term=2,
        entry_index=6,
    )  # fmt: skip
    parts = [BackupPart(head=head), BackupPart(data=state), BackupPart(sha256=hashlib.sha256(state).digest())]
    backup_file.write(tmp_path / "backup", parts, force=False)
    return tmp_path / "backup"


def restored(path: Path) -> peer_disk.PeerDisk:
    """Opened as its peer would, and read."""
    open_data_directory(path, peer_id="p1", cluster_name="home", mint=lambda: "other").close()
    return peer_disk.read(path)


# ---------------------------------------------------------------------------- restore


def test_a_backup_becomes_the_directory_of_the_only_peer_of_a_new_life(run: Run, backup: Path, tmp_path: Path) -> None:
    data = tmp_path / "new" / "p1"
    arguments = ("restore", backup, "--data", data, "--id", "p1", "--address", "10.0.0.1:7400", "-o", "json")
    assert run(*arguments)[0] == 2, "without a yes nothing is done"
    assert not data.exists()
    code, out, err = run(*arguments, "-y")
    assert code == 0
    said = json.loads(out)
    assert (said["epoch"], said["index"], said["cluster_id"]) == (EPOCH_STEP, INDEX_STEP, CLUSTER_ID)
    assert "raftsman peers add" in err
    assert "what was written after the backup is gone" in err
    disk = restored(data)
    state = disk.machine.state
    assert values(disk.machine) == VARIABLES
    assert disk.identity.members == "p1"
    assert state.admitted == {"p1": disk.identity.incarnation}
    assert disk.identity.incarnation not in ("d-p1", "other")
    assert (state.addresses, state.attempt_floor) == ({"p1": "10.0.0.1:7400"}, ATTEMPT_STEP)
    assert RESTORING not in os.listdir(data)  # noqa: PTH208 - names are wanted


def test_a_directory_that_holds_something_is_refused_and_stays(run: Run, backup: Path, tmp_path: Path) -> None:
    make(tmp_path / "p1", [])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    before = tree(tmp_path)
    for data in (tmp_path / "p1", tmp_path / "photos", backup):
        code, _, err = run("restore", backup, "--data", data, "--id", "p1", "--address", "a:1", "-y")
        assert code == 1
        assert "is not empty" in err or "is not a directory" in err
    assert tree(tmp_path) == before


def test_wrong_words_and_files_are_refused_before_anything_is_made(run: Run, backup: Path, tmp_path: Path) -> None:
    data = tmp_path / "new"
    (tmp_path / "foreign").write_text("no backup")
    (tmp_path / "cut").write_bytes(backup.read_bytes()[:-40])
    for file, peer_id, address, expected, *more in (
        (backup, "p1", "a:1", "--cluster 'A B'", "--cluster", "A B"),
        (tmp_path / "foreign", "p1", "a:1", "is no backup"),
        (tmp_path / "cut", "p1", "a:1", "cut short or damaged"),
        (tmp_path / "absent", "p1", "a:1", "there is no file"),
        (backup, "P 1", "a:1", "--id 'P 1'"),
        (backup, "p1", "nowhere", "--address 'nowhere'"),
    ):
        code, _, err = run("restore", file, "--data", data, "--id", peer_id, "--address", address, "-y", *more)
        assert code in (1, 2)
        assert expected in err
        assert not data.exists()


def test_a_crash_at_any_step_of_a_restore_leaves_nothing_usable_or_all_and_it_can_be_repeated(
    backup: Path, tmp_path: Path
) -> None:
    head, state = backup_file.read(backup)

    def attempt(path: Path, disk: Disk) -> None:
        restore(
            backup, head, state, path, peer_id="p1", address="a:1", cluster_name="home", mint=lambda: "new", disk=disk
        )

    seen = set()
    for stop_at in range(1, 200):
        path = tmp_path / f"at-{stop_at}"
        try:
            attempt(path, StoppingDisk(stop_at))
            break
        except StoppedError:
            pass
        names = set(os.listdir(path)) if path.exists() else set()  # noqa: PTH208
        if "identity.json" in names:
            seen.add("new")
            with pytest.raises(PreconditionError, match="is not empty"):
                attempt(path, RealDisk())
        else:
            seen.add("unusable")
            if names & {RESTORING, "snapshots"} or any(name.startswith("journal") for name in names):
                with pytest.raises(StartupError, match="was not finished: repeat"):
                    restored(path)
            attempt(path, RealDisk())
        assert values(restored(path).machine) == VARIABLES
    else:
        raise AssertionError("it never came to an end")
    assert seen == {"new", "unusable"}


# ---------------------------------------------------------------------------- recover


@pytest.mark.parametrize("snapshot_after", [0, 2, 4])
def test_everything_on_the_surviving_disk_is_kept_also_what_is_not_known_to_be_committed(
    run: Run, tmp_path: Path, snapshot_after: int
) -> None:
    data = tmp_path / "p1"
    make(data, [put("a"), put("b"), put("c")], committed=max(2, snapshot_after), snapshot_after=snapshot_after)
    before = tree(data)
    uncertain = 4 - max(2, snapshot_after)
    code, out, err = run("recover", "--data", data, "--dry-run", "-o", "json")
    said = json.loads(out)
    assert (code, tree(data)) == (0, before)
    assert (said["uncertain_entries"], said["last_entry"], said["last_term"]) == (uncertain, 6, 2)
    assert (said["members"], said["voter"], said["variables"]) == (["p1", "p2", "p3"], True, 3)
    assert "MAY BE MISSING" in err
    assert ("are KEPT" in err) == (uncertain > 0)
    assert run("recover", "--data", data, "-y")[0] == 1, "its address is not on its disk"
    assert run("recover", "--data", data, "--address", "h:7400")[0] == 2, "without a yes nothing is done"
    assert tree(data) == before
    code, out, err = run("recover", "--data", data, "--address", "h:7400", "-y", "-o", "json")
    assert code == 0
    said = json.loads(out)
    assert tree(Path(said["copy"])) == before
    disk = restored(data)
    state = disk.machine.state
    assert values(disk.machine) == VARIABLES
    assert (state.epoch, state.index, state.attempt_floor) == (EPOCH_STEP, INDEX_STEP, ATTEMPT_STEP)
    assert (state.addresses, state.admitted) == ({"p1": "h:7400"}, {"p1": "d-p1"})
    assert (disk.snapshot is not None) and (disk.snapshot.last_index, disk.snapshot.last_term) == (6, 2)
    # Its address is on the disk now; and one life follows the other.
    assert run("recover", "--data", data, "-y")[0] == 0
    assert restored(data).machine.state.epoch == 2 * EPOCH_STEP


def test_a_running_peer_a_foreign_and_an_empty_directory_are_refused(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "p1"
    make(data, [put("a")])
    before = tree(tmp_path)
    lock = lock_directory(data, RealDisk())
    for words in (["--dry-run"], ["--address", "h:1", "-y"]):
        code, _, err = run("recover", "--data", data, *words)
        assert (code, tree(tmp_path)) == (1, before)
        assert f"in use by process {os.getpid()}" in err
    os.close(lock)
    (tmp_path / "photos").mkdir()
    code, _, err = run("recover", "--data", tmp_path / "photos", "--address", "h:1", "-y")
    assert code == 1
    assert "is no peer's data directory" in err
    assert os.listdir(tmp_path / "photos") == []  # noqa: PTH208


def test_a_damaged_disk_is_not_recovered_from(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "p1"
    make(data, [put("a")])
    break_journal(data)
    before = tree(tmp_path)
    code, _, err = run("recover", "--data", data, "--address", "h:1", "-y")
    assert (code, tree(tmp_path)) == (1, before)
    assert "is damaged at byte" in err


def test_compare_names_the_disk_that_holds_the_most(run: Run, tmp_path: Path) -> None:
    make(tmp_path / "p1", [put("a"), put("b"), put("c")], peer_id="p1", term=2)
    make(tmp_path / "p2", [put("a")], peer_id="p2", term=3)
    make(tmp_path / "p3", [put("a"), put("b")], peer_id="p3", term=3)
    make(tmp_path / "p4", [put("a"), put("b"), put("c"), put("d")], peer_id="p4", term=4)  # never had a vote
    before = tree(tmp_path)
    directories = [tmp_path / name for name in ("p1", "p2", "p3", "p4")]
    code, out, _ = run("recover", "--compare", *directories, "-o", "json")
    assert code == 0
    found = json.loads(out)
    assert found["best"] == str(tmp_path / "p3")
    assert [row["best"] for row in found["disks"]] == [False, False, True, False]
    assert [row["voter"] for row in found["disks"]] == [True, True, True, False]
    assert tree(tmp_path) == before
    assert run("recover", "--compare", tmp_path / "p1")[0] == 2
    assert run("recover", tmp_path / "p1")[0] == 2


@pytest.mark.parametrize("flags", [("--dry-run",), ("--address", "a:1"), ("--data", "x")])
def test_compare_does_nothing_else(run: Run, tmp_path: Path, flags: tuple[str, ...]) -> None:
    code, _, err = run("recover", "--compare", tmp_path / "a", tmp_path / "b", *flags)
    assert code == 2
    assert "--compare takes two or more directories, and no --data, --address or --dry-run" in err


def test_compare_leaves_out_disks_that_cannot_be_read_and_says_so(run: Run, tmp_path: Path) -> None:
    make(tmp_path / "p1", [put("a"), put("b")], peer_id="p1")
    make(tmp_path / "p2", [put("a")], peer_id="p2")
    break_journal(tmp_path / "p2")
    make(tmp_path / "p3", [put("a")], peer_id="p3")
    opened = open_data_directory(tmp_path / "p3", peer_id="p3", cluster_name="home", mint=lambda: "x")
    opened.mark_removed(2)
    opened.close()
    shutil.rmtree(tmp_path / "p3" / "journal")  # as the epoch that removed it does
    code, out, err = run("recover", "--compare", *(tmp_path / name for name in ("p1", "p2", "p3")), "-o", "name")
    assert (code, out.strip()) == (0, str(tmp_path / "p1"))
    assert "left out: " in err
    assert "is damaged at byte" in err
    assert "its peer was removed from the cluster in epoch 2" in err
    code, _, err = run("recover", "--compare", tmp_path / "p2", tmp_path / "p3")
    assert code == 1
    assert "is damaged at byte" in err


def test_a_crash_at_any_step_of_a_recovery_leaves_the_old_or_the_new_life_whole(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    make(origin, [put("a"), put("b"), put("c")], committed=2, snapshot_after=2)
    seen = set()
    for stop_at in range(1, 200):
        data = copied(origin, tmp_path / f"at-{stop_at}" / "p1")
        survivor = recovery.survey(data)
        try:
            recovery.recover(survivor, "h:7400", "now", StoppingDisk(stop_at))
            break
        except StoppedError:
            pass
        assert tree(data.with_name("p1.before-recover-now")) == tree(origin)
        open_data_directory(data, peer_id="p1", cluster_name="home", mint=lambda: "other").close()
        again = recovery.survey(data)
        assert {key: one.value for key, one in again.state.variables.items()} == VARIABLES
        seen.add(again.state.epoch)
    else:
        raise AssertionError("it never came to an end")
    assert seen == {1, EPOCH_STEP}


def test_a_cluster_that_never_started_is_not_recovered(tmp_path: Path) -> None:
    directory = open_data_directory(tmp_path / "p1", peer_id="p1", cluster_name="home", mint=lambda: "d")
    directory.close()
    journal = FileJournal(tmp_path / "p1" / "journal")
    journal.set_vote(1, "p1")
    journal.flush()
    journal.close()
    with pytest.raises(PreconditionError, match="was never complete"):
        recovery.survey(tmp_path / "p1")
