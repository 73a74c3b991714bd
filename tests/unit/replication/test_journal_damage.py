"""What the journal makes of damaged files: a torn end is cut and logged, everything else stops the peer."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import structlog

from orchestrator.contract.errors import CorruptError, StartupError
from orchestrator.replication import journal_format as fmt
from orchestrator.replication.journal import FileJournal
from tests.effort import places
from tests.sim.disk import SimDisk
from tests.unit.replication.test_journal import DIRECTORY, rows, segment_names


def length(disk: SimDisk, name: str) -> int:
    """Bytes of a segment without the room behind them."""
    return len(disk.read(DIRECTORY / name).rstrip(b"\0"))


def filled(flushes: int, *, segment_bytes: int = 1 << 20, size: int = 50) -> tuple[SimDisk, list[int]]:
    """A disk with a journal of one entry a flush, and where in the last segment then each flush ended."""
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=segment_bytes)
    ends = []
    for index in range(1, flushes + 1):
        journal.append(rows(index, index + 1, size=size))
        journal.flush()
        ends.append(length(disk, segment_names(disk)[-1]))
    journal.close()
    return disk, ends


@pytest.mark.parametrize("room", [True, False])
def test_a_frame_cut_short_at_any_byte_is_recovered_and_logged(room: bool) -> None:
    original, ends = filled(3)
    path = DIRECTORY / segment_names(original)[0]
    for size in places(range(ends[1] + 1, ends[2])):
        disk = original.copy()
        disk.cut(path, size)
        if room:
            disk.open(path).write(size, bytes(3000))
        with structlog.testing.capture_logs() as logs:
            journal = FileJournal(DIRECTORY, disk=disk)
        assert journal.last_index == 2
        assert [(entry["event"], entry["offset"]) for entry in logs] == [("journal.torn_tail_cut", ends[1])]
        assert 0 < logs[0]["bytes_cut"] <= size - ends[1]
        disk.crash(torn=False)
        assert disk.size(path) == ends[1]
        journal.append(rows(3, 4, term=2))
        journal.flush()
        with structlog.testing.capture_logs() as logs:
            assert FileJournal(DIRECTORY, disk=disk).get(3) == rows(3, 4, term=2)[0]
        assert logs == []


def test_a_clean_end_is_not_logged() -> None:
    disk, _ = filled(3)
    with structlog.testing.capture_logs() as logs:
        assert FileJournal(DIRECTORY, disk=disk).last_index == 3
    assert logs == []


def test_a_flipped_byte_anywhere_before_the_last_frame_stops_the_peer() -> None:
    original, ends = filled(3)
    path = DIRECTORY / segment_names(original)[0]
    for offset in places(range(ends[1])):
        disk = original.copy()
        disk.flip(path, offset)
        with pytest.raises(CorruptError) as caught:
            FileJournal(DIRECTORY, disk=disk)
        assert str(path) in caught.value.message
        assert "at byte" in caught.value.message
        assert "raftsman peers reset --data DIR" in caught.value.message
        assert disk.size(path) == original.size(path), "a damaged journal must be left as it is"


def test_a_flipped_byte_in_the_complete_last_frame_stops_the_peer_because_it_was_flushed() -> None:
    original, ends = filled(3)
    path = DIRECTORY / segment_names(original)[0]
    for offset in places(range(ends[1], ends[2])):
        disk = original.copy()
        disk.flip(path, offset)
        with pytest.raises(CorruptError, match=f"at byte {ends[1]}"):
            FileJournal(DIRECTORY, disk=disk)


def test_a_last_frame_with_an_unwritten_sector_counts_as_torn() -> None:
    original, ends = filled(3, size=3000)
    path = DIRECTORY / segment_names(original)[0]
    for start in range(ends[1] // 512 * 512, ends[2], 512):
        disk = original.copy()
        for offset in range(max(start, ends[1]), min(start + 512, ends[2])):
            disk.flip(path, offset, disk.read(path)[offset])
        assert FileJournal(DIRECTORY, disk=disk).last_index == 2


def test_a_torn_end_of_a_segment_that_is_not_the_last_stops_the_peer() -> None:
    disk, _ = filled(60, segment_bytes=1500)
    path = DIRECTORY / segment_names(disk)[1]
    disk.cut(path, length(disk, path.name) - 5)
    with pytest.raises(CorruptError, match="not the last"):
        FileJournal(DIRECTORY, disk=disk)


def test_a_segment_that_ends_a_whole_frame_early_stops_the_peer() -> None:
    disk, ends = filled(60, segment_bytes=1500)
    path = DIRECTORY / segment_names(disk)[1]
    disk.cut(path, length(disk, path.name) - (ends[1] - ends[0]))
    with pytest.raises(CorruptError, match="does not continue the segment before it"):
        FileJournal(DIRECTORY, disk=disk)


@pytest.mark.parametrize("position", [0, 1])
def test_a_missing_segment_stops_the_peer(position: int) -> None:
    disk, _ = filled(60, segment_bytes=1500)
    disk.unlink(DIRECTORY / segment_names(disk)[position])
    with pytest.raises(CorruptError, match=f"000{1 + position}.journal is missing" if position else "are missing"):
        FileJournal(DIRECTORY, disk=disk)


@pytest.mark.parametrize("size", [0, 100, fmt.HEADER_BYTES - 1, fmt.HEADER_BYTES])
def test_a_segment_whose_beginning_was_interrupted_is_removed(size: int) -> None:
    disk, _ = filled(60, segment_bytes=1500)
    names = segment_names(disk)
    unborn = DIRECTORY / f"{int(names[-1].partition('.')[0]) + 1:016d}.journal"
    disk.open(unborn).write(0, b"\0" * size)
    with structlog.testing.capture_logs() as logs:
        journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=1500)
    assert [entry["event"] for entry in logs] == ["journal.unborn_segment_removed"]
    assert segment_names(disk) == names
    assert journal.last_index == 60


def test_what_stands_before_a_segment_whose_beginning_was_interrupted_must_be_whole() -> None:
    """It was durable to its end before the next one was begun, so no crash cuts it short."""
    disk, _ = filled(60, segment_bytes=1500)
    last = DIRECTORY / segment_names(disk)[-1]
    disk.cut(last, length(disk, last.name) - 5)
    assert FileJournal(DIRECTORY, disk=disk.copy()).last_index == 59
    disk.open(DIRECTORY / f"{int(last.stem) + 1:016d}.journal").write(0, b"\0" * 100)
    with pytest.raises(CorruptError, match="not the last"):
        FileJournal(DIRECTORY, disk=disk)


@pytest.mark.parametrize("flushes", [1, 0])
def test_a_newer_format_is_refused_with_the_way_on_and_left_as_it_is(flushes: int) -> None:
    """Also where nothing but the header is there: it is intact, so its beginning was not interrupted."""
    disk, _ = filled(1)
    path = DIRECTORY / segment_names(disk)[0]
    if not flushes:
        disk.cut(path, fmt.HEADER_BYTES)
    size = disk.size(path)
    header = bytearray(disk.read(path)[: fmt.HEADER_BYTES])
    header[8] = 9
    header[-4:] = fmt._crc(bytes(header[:-4])).to_bytes(4, "little")
    for offset, byte in enumerate(header):
        disk.flip(path, offset, disk.read(path)[offset] ^ byte)
    with pytest.raises(StartupError, match="newer raftsman") as caught:
        FileJournal(DIRECTORY, disk=disk)
    assert not isinstance(caught.value, CorruptError)
    assert disk.size(path) == size


def test_a_segment_under_the_name_of_another_stops_the_peer() -> None:
    disk, _ = filled(1)
    (name,) = segment_names(disk)
    disk.open(DIRECTORY / f"{7:016d}.journal").write(0, disk.read(DIRECTORY / name))
    disk.unlink(DIRECTORY / name)
    with pytest.raises(CorruptError, match="at byte 0: it calls itself segment 1"):
        FileJournal(DIRECTORY, disk=disk)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (fmt.encode_entry(5, 1, 0), "entry 5 where entry 4 is due"),
        (fmt.encode_entry(3, 1, 0), "entry 3 where entry 4 is due"),
        (fmt.encode_truncate(1) + fmt.encode_entry(0, 1, 0), "entry 0 where entry 1 is due"),
        (b"\x09", "unknown operation 9"),
        (fmt.encode_entry(4, 1, 1), "cut short"),
        (fmt.encode_vote(9, "p1")[:-1], "cut short"),
        (fmt.encode_commit(2)[:-1], "unpack"),
    ],
    ids=[
        "a gap",
        "again",
        "below the first",
        "unknown",
        "a payload cut short",
        "a name cut short",
        "a number cut short",
    ],
)
def test_an_intact_frame_that_does_not_fit_stops_the_peer(body: bytes, said: str) -> None:
    """No crash leaves one: its checksum is right."""
    disk, ends = filled(3)
    path = DIRECTORY / segment_names(disk)[0]
    salt = fmt.decode_header(disk.read(path)).salt
    disk.open(path).write(ends[-1], fmt.FrameCodec(salt).encode(4, body))
    with pytest.raises(CorruptError, match=f"the frame at byte {ends[-1]} cannot be replayed: .*{said}") as caught:
        FileJournal(DIRECTORY, disk=disk)
    assert "raftsman peers reset --data DIR" in caught.value.message


def test_a_stored_payload_that_looks_like_frames_does_not_turn_a_torn_end_into_damage() -> None:
    donor, _ = filled(5)
    copy_of_a_journal = donor.read(DIRECTORY / segment_names(donor)[0])
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 2))
    journal.flush()
    journal.append([(2, 1, copy_of_a_journal)])
    journal.flush()
    path = DIRECTORY / segment_names(disk)[0]
    disk.cut(path, length(disk, path.name) - 1)
    assert FileJournal(DIRECTORY, disk=disk).last_index == 1


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EIO])
def test_a_failed_flush_raises_stays_failed_and_leaves_a_recoverable_file(failure: int) -> None:
    original, _ = filled(3)
    for call in (1, 2):  # write, fdatasync
        disk = original.copy()
        journal = FileJournal(DIRECTORY, disk=disk)
        journal.append(rows(4, 9))
        disk.fail_at, disk.fail_errno = disk.calls + call, failure
        with pytest.raises(OSError) as caught:
            journal.flush()
        assert caught.value.errno == failure
        with pytest.raises(OSError, match="the process must stop"):
            journal.flush()
        again = FileJournal(DIRECTORY, disk=disk)
        assert again.entries(1, 4) == rows(1, 4, size=50)
        assert again.last_index in (3, 8)
        again.append(rows(again.last_index + 1, again.last_index + 2))
        again.flush()


def test_a_failed_read_is_an_os_error_and_not_damage(tmp_path: Path) -> None:
    (tmp_path / "0000000000000001.journal").mkdir()
    with pytest.raises(OSError):
        FileJournal(tmp_path)
