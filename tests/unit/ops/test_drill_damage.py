"""A flipped bit must hit something that a peer cannot honestly take for a torn write."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contract.errors import CorruptError, PreconditionError
from orchestrator.ops.drill_damage import before_the_tail, flip_in_journal, flip_in_snapshot
from orchestrator.replication.journal import WAY_BACK, FileJournal
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.snapshots import FileSnapshots


def written(directory: Path, frames: int, payload: int = 40) -> Path:
    journal = FileJournal(directory / "journal")
    for index in range(1, frames + 1):
        journal.append([(index, 1, b"x" * payload)])
        journal.flush()
    journal.close()
    return directory


@pytest.mark.parametrize("frames", [2, 3, 10])
def test_a_flipped_bit_in_a_journal_is_refused_with_the_way_back(tmp_path: Path, frames: int) -> None:
    where = flip_in_journal(written(tmp_path, frames))
    with pytest.raises(CorruptError) as refused:
        FileJournal(tmp_path / "journal")
    assert WAY_BACK in str(refused.value)
    assert "0000000000000001.journal at byte" in where


def test_one_bit_is_flipped_and_no_other(tmp_path: Path) -> None:
    segment = written(tmp_path, 3) / "journal" / "0000000000000001.journal"
    before = segment.read_bytes()
    flip_in_journal(tmp_path)
    after = segment.read_bytes()
    assert sum((old ^ new).bit_count() for old, new in zip(before, after, strict=True)) == 1


def test_a_last_frame_however_large_is_left_alone(tmp_path: Path) -> None:
    segment = written(tmp_path, 2) / "journal" / "0000000000000001.journal"
    small = len(segment.read_bytes().rstrip(b"\0"))
    journal = FileJournal(tmp_path / "journal")
    journal.append([(3, 1, b"y" * 100_000)])
    journal.flush()
    journal.close()
    assert 0 < before_the_tail(segment.read_bytes()) < small


def test_a_journal_with_one_frame_has_nothing_to_flip(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match="two frames"):
        flip_in_journal(written(tmp_path, 1))


def test_a_flipped_bit_in_a_snapshot_is_refused_with_the_way_back(tmp_path: Path) -> None:
    assert flip_in_snapshot(tmp_path) == "", "there is none"
    FileSnapshots(tmp_path / "snapshots").save(SnapshotMeta(last_index=9, last_term=1, index=7), [b"z" * 500])
    assert "state.snapshot at byte" in flip_in_snapshot(tmp_path)
    with pytest.raises(CorruptError) as refused:
        FileSnapshots(tmp_path / "snapshots").load()
    assert WAY_BACK in str(refused.value)
