"""What a data directory holds from one configuration epoch to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contract.errors import CorruptError, StartupError
from orchestrator.replication import datadir
from orchestrator.replication.journals import FileJournals, any_holds_anything
from orchestrator.replication.log import Journals, SnapshotMeta
from orchestrator.replication.memory import MemoryJournals
from orchestrator.replication.snapshots import FileSnapshots
from tests.sim.disk import PowerCutError, SimDisk

DATA = Path("/data")


def journals(kind: str) -> Journals:
    return MemoryJournals() if kind == "memory" else FileJournals(DATA, disk=SimDisk())


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_a_prepared_journal_is_in_its_term_without_a_vote_or_entries(kind: str) -> None:
    held = journals(kind)
    first = held.open(1)
    first.set_vote(3, "p1")
    first.append([(1, 0, b"a"), (2, 3, b"b")])
    first.flush()
    first.close()
    held.prepare(2, 7)
    assert held.exists(1) and held.exists(2) and not held.exists(3)
    second = held.open(2)
    assert (second.term, second.voted_for, second.first_index, second.last_index) == (7, "", 1, 0)
    held.keep_only(2)
    assert held.exists(2) and not held.exists(1)


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_preparing_again_forgets_what_an_interrupted_switch_left(kind: str) -> None:
    held = journals(kind)
    held.prepare(2, 7)
    left = held.open(2)
    left.append([(5, 7, b"void")])
    left.flush()
    left.close()
    held.prepare(2, 9)
    again = held.open(2)
    assert (again.term, again.last_index) == (9, 0)


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_a_later_epoch_without_its_journal_is_damage(kind: str) -> None:
    with pytest.raises(CorruptError, match="gone"):
        journals(kind).open(2)


def test_power_cut_at_every_step_of_a_switch_leaves_a_whole_epoch() -> None:
    """Journal first, then the snapshot, then the old journal goes: whichever snapshot is found has its journal."""

    def switch(disk: SimDisk) -> None:
        held = FileJournals(DATA, disk=disk)
        held.prepare(2, 7)
        FileSnapshots(DATA / "snapshots", disk=disk).save(
            SnapshotMeta(last_index=9, last_term=6, index=5, epoch=2), [b"sealed"]
        )
        held.keep_only(2)

    steps, found = 0, set()
    while True:
        steps += 1
        disk = SimDisk(seed=steps)
        first = FileJournals(DATA, disk=disk).open(1)
        first.set_vote(6, "p2")
        first.flush()
        first.close()
        disk.crash_at = disk.calls + steps
        try:
            switch(disk)
        except PowerCutError:
            disk.crash()
        else:
            break
        stored = FileSnapshots(DATA / "snapshots", disk=disk).load()
        epoch = stored[0].epoch if stored is not None else 1
        found.add(epoch)
        held = FileJournals(DATA, disk=disk)
        held.keep_only(epoch)
        journal = held.open(epoch)
        assert (journal.term, journal.voted_for) == ((6, "p2") if epoch == 1 else (7, ""))
        assert any_holds_anything(DATA, disk)
    assert steps > 10 and found == {1, 2}


def test_a_snapshot_says_its_epoch_and_never_gives_way_to_an_older_one(tmp_path: Path) -> None:
    store = FileSnapshots(tmp_path / "snapshots")
    store.save(SnapshotMeta(last_index=9, last_term=2, index=5), [b"first"])
    first = (tmp_path / "snapshots" / "state.snapshot").read_bytes()
    assert first[8] == 1, "an older raftsman could not read it, for no reason"
    sealed = SnapshotMeta(last_index=9, last_term=2, index=5, epoch=2)
    store.save(sealed, [b"sealed"])
    assert store.load() == (sealed, b"sealed")
    store.save(SnapshotMeta(last_index=9, last_term=2, index=5), [b"first"])
    store.save(SnapshotMeta(last_index=20, last_term=2, index=15), [b"of the epoch before"])
    assert FileSnapshots(tmp_path / "snapshots").load() == (sealed, b"sealed")


def test_every_bit_of_a_later_epochs_header_is_checked(tmp_path: Path) -> None:
    store = FileSnapshots(tmp_path / "snapshots")
    store.save(SnapshotMeta(last_index=9, last_term=2, index=5, epoch=3), [b"state"])
    file = tmp_path / "snapshots" / "state.snapshot"
    good = file.read_bytes()
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :])
        with pytest.raises(StartupError):
            FileSnapshots(tmp_path / "snapshots").load()
    for size in range(1, len(good)):
        file.write_bytes(good[:size])
        with pytest.raises(CorruptError):
            FileSnapshots(tmp_path / "snapshots").load()


def test_the_directory_of_a_removed_peer_is_refused(tmp_path: Path) -> None:
    def opened() -> datadir.DataDirectory:
        return datadir.open_data_directory(tmp_path / "data", peer_id="p1", cluster_name="prod", mint=lambda: "disk-1")

    directory = opened()
    directory.bind_cluster_id("c-1", ["p1", "p2"])
    journal = FileJournals(directory.path).open(1)
    journal.set_vote(1, "p1")
    journal.flush()
    journal.close()
    directory.mark_removed(4)
    directory.close()
    with pytest.raises(StartupError, match=r"was removed from cluster c-1 in configuration epoch 4.*peers add"):
        opened()


def test_a_directory_of_a_later_epoch_holds_its_own_journal_only(tmp_path: Path) -> None:
    directory = datadir.open_data_directory(tmp_path / "data", peer_id="p1", cluster_name="prod", mint=lambda: "disk-1")
    directory.bind_cluster_id("c-1", ["p1"])
    held = FileJournals(directory.path)
    held.prepare(2, 3)
    held.keep_only(2)
    directory.close()
    again = datadir.open_data_directory(tmp_path / "data", peer_id="p1", cluster_name="prod", mint=lambda: "disk-2")
    assert (again.incarnation, again.fresh) == ("disk-1", False)
    again.close()
