"""The snapshot file: replaced whole or not at all, and refused when it is damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from orchestrator.contract.errors import CorruptError, InvalidError, StartupError
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.snapshots import FILE_NAME, FileSnapshots, holds_anything
from tests.effort import places
from tests.sim.disk import PowerCutError, SimDisk

DIRECTORY = Path("/peer/snapshots")
PATH = DIRECTORY / FILE_NAME
OLD = (SnapshotMeta(last_index=10, last_term=2, index=70), b"old state " * 100)
NEW = (SnapshotMeta(last_index=25, last_term=3, index=200), b"new state " * 120)


def saved(*snapshots: tuple[SnapshotMeta, bytes]) -> SimDisk:
    disk = SimDisk()
    store = FileSnapshots(DIRECTORY, disk=disk)
    for meta, data in snapshots:
        store.save(meta, (data,))
    return disk


def test_the_newest_snapshot_is_there_after_reopening_on_a_real_disk(tmp_path: Path) -> None:
    directory = tmp_path / "snapshots"
    store = FileSnapshots(directory)
    assert store.load() is None
    store.save(OLD[0], (OLD[1],))
    store.save(NEW[0], (NEW[1][:700], NEW[1][700:]))
    assert FileSnapshots(directory).load() == NEW
    assert [path.name for path in directory.iterdir()] == [FILE_NAME]
    assert (directory / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_an_empty_state_can_be_stored() -> None:
    disk = saved((OLD[0], b""))
    assert FileSnapshots(DIRECTORY, disk=disk).load() == (OLD[0], b"")


def test_a_power_cut_at_every_disk_call_leaves_the_old_snapshot_or_the_new_one() -> None:
    outcomes = []
    for seed in range(8):
        call, cut = 1, True
        while cut:
            disk = SimDisk(seed * 100 + call)
            FileSnapshots(DIRECTORY, disk=disk).save(OLD[0], (OLD[1],))
            disk.crash_at = disk.calls + call
            try:
                FileSnapshots(DIRECTORY, disk=disk).save(NEW[0], (NEW[1][:700], NEW[1][700:]))
                cut = False
            except PowerCutError:
                pass
            disk.crash()
            store = FileSnapshots(DIRECTORY, disk=disk)
            found = store.load()
            assert found in (OLD, NEW) if cut else found == NEW
            assert disk.listdir(DIRECTORY) == [FILE_NAME], "leftovers are removed at opening"
            store.save(replace(NEW[0], last_index=30), (b"goes on",))
            disk.crash()
            assert FileSnapshots(DIRECTORY, disk=disk).load() == (replace(NEW[0], last_index=30), b"goes on")
            outcomes.append(found)
            call += 1
    assert OLD in outcomes


def test_the_first_snapshot_survives_a_power_cut_right_after_saving() -> None:
    disk = saved(OLD)
    disk.crash(torn=False)
    assert FileSnapshots(DIRECTORY, disk=disk).load() == OLD


def test_a_snapshot_that_was_read_is_durable_though_its_saving_failed_at_the_last_step() -> None:
    """Journals of earlier epochs are removed because of what it says (soak, seed 3356 of three peers): the process
    ended between rename and sync, the next one read the new snapshot, and a power cut brought the old one back."""
    for seed in range(20):
        disk = SimDisk(seed)
        FileSnapshots(DIRECTORY, disk=disk).save(OLD[0], (OLD[1],))
        counted = SimDisk(seed)
        FileSnapshots(DIRECTORY, disk=counted).save(OLD[0], (OLD[1],))
        before = counted.calls
        FileSnapshots(DIRECTORY, disk=counted).save(NEW[0], (NEW[1],))
        disk.fail_at = disk.calls + counted.calls - before  # the sync of the directory
        with pytest.raises(OSError, match=r"\[Errno"):
            FileSnapshots(DIRECTORY, disk=disk).save(NEW[0], (NEW[1],))
        found = FileSnapshots(DIRECTORY, disk=disk).load()
        disk.crash()
        assert FileSnapshots(DIRECTORY, disk=disk).load() == found


def test_an_older_snapshot_never_replaces_a_newer_one() -> None:
    disk = saved(NEW)
    store = FileSnapshots(DIRECTORY, disk=disk)
    store.load()
    with structlog.testing.capture_logs() as logs:
        store.save(OLD[0], (OLD[1],))
    assert store.load() == NEW
    assert [entry["event"] for entry in logs] == ["snapshots.older_dropped"]


def test_a_flipped_byte_anywhere_is_refused_with_file_and_way_back() -> None:
    original = saved(OLD)
    for offset in places(range(original.size(PATH))):
        disk = original.copy()
        disk.flip(PATH, offset)
        with pytest.raises(CorruptError) as caught:
            FileSnapshots(DIRECTORY, disk=disk).load()
        assert str(PATH) in caught.value.message
        assert "raftsman peers reset --data DIR" in caught.value.message


def test_a_snapshot_cut_short_or_too_long_is_refused() -> None:
    original = saved(OLD)
    for size in range(0, original.size(PATH), 7):
        disk = original.copy()
        disk.cut(PATH, size)
        with pytest.raises(CorruptError, match="damaged"):
            FileSnapshots(DIRECTORY, disk=disk).load()
    original.open(PATH).write(original.size(PATH), b"x")
    with pytest.raises(CorruptError, match=f"holds {len(OLD[1]) + 1} bytes of state where {len(OLD[1])} are due"):
        FileSnapshots(DIRECTORY, disk=original).load()


def test_a_newer_format_is_refused_with_the_way_on() -> None:
    disk = saved(OLD)
    disk.flip(PATH, 8, 1 ^ 9)
    disk.open(PATH).write(46, b"its own")  # where we have our checksum
    with pytest.raises(StartupError, match="newer raftsman") as caught:
        FileSnapshots(DIRECTORY, disk=disk).load()
    assert not isinstance(caught.value, CorruptError)


def test_a_snapshot_above_the_limit_is_refused_and_the_old_one_stays() -> None:
    disk = saved(OLD)
    with pytest.raises(InvalidError, match="larger than the limit of 1100"):
        FileSnapshots(DIRECTORY, disk=disk, max_bytes=1100).save(NEW[0], (NEW[1][:700], NEW[1][700:]))
    assert FileSnapshots(DIRECTORY, disk=disk).load() == OLD


def test_a_full_disk_is_an_os_error_and_the_old_one_stays() -> None:
    for call in range(1, 6):
        disk = saved(OLD)
        disk.fail_at = disk.calls + call
        with pytest.raises(OSError, match="No space left"):
            FileSnapshots(DIRECTORY, disk=disk).save(NEW[0], (NEW[1][:700], NEW[1][700:]))
        assert FileSnapshots(DIRECTORY, disk=disk).load() in (OLD, NEW)


def test_a_directory_holds_something_only_after_a_save_was_finished() -> None:
    disk = SimDisk()
    assert not holds_anything(DIRECTORY, disk)
    disk.crash_at = 4  # directory of the parent, create, write, fdatasync
    with pytest.raises(PowerCutError):
        FileSnapshots(DIRECTORY, disk=disk).save(OLD[0], (OLD[1],))
    assert not holds_anything(DIRECTORY, disk)
    disk.crash_at = 0
    FileSnapshots(DIRECTORY, disk=disk).save(OLD[0], (OLD[1],))
    assert holds_anything(DIRECTORY, disk)
