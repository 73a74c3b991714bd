"""The journal in ordinary use: order, atomic frames, segments and what is freed; on the simulated and the real disk."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from orchestrator.replication.journal import FileJournal, holds_anything
from orchestrator.replication.journal_format import HEADER_BYTES
from tests.sim.disk import PowerCutError, SimDisk

DIRECTORY = Path("/peer/journal")


def rows(start: int, stop: int, *, term: int = 1, size: int = 10) -> list[tuple[int, int, bytes]]:
    return [(index, term, f"{term}-{index}-".encode().ljust(size, b".")) for index in range(start, stop)]


def segment_names(disk: SimDisk) -> list[str]:
    return sorted(disk.listdir(DIRECTORY))


def test_entries_term_and_vote_are_there_after_reopening_on_a_real_disk(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    journal = FileJournal(directory)
    journal.set_vote(3, "p2")
    journal.append(rows(1, 50, term=3))
    journal.flush()
    journal.close()

    again = FileJournal(directory)
    assert (again.term, again.voted_for) == (3, "p2")
    assert (again.first_index, again.last_index, len(again)) == (1, 49, 49)
    assert again.entries(1, 50) == rows(1, 50, term=3)
    assert again.get(17) == rows(17, 18, term=3)[0]
    again.append(rows(50, 52, term=3))
    again.flush()
    again.close()
    assert FileJournal(directory).last_index == 51
    assert (directory.stat().st_mode & 0o777, next(directory.iterdir()).stat().st_mode & 0o777) == (0o700, 0o600)


def test_nothing_is_written_before_the_flush_and_nothing_by_an_empty_one() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    dirty = []
    for entries in ([], rows(1, 3), []):
        journal.append(entries)
        dirty.append((journal.dirty, len(disk.trace)))
        journal.flush()
    steps = len(disk.trace)
    assert dirty == [(False, 0), (True, 0), (False, steps)]


def test_what_changes_nothing_needs_no_flush() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.set_vote(2, "p1")
    journal.append(rows(5, 8))
    journal.flush()
    journal.set_vote(2, "p1")
    journal.truncate_from(8)
    journal.trim_before(5)
    journal.trim_before(1)
    assert not journal.dirty
    assert journal.entries(0, 99) == rows(5, 8)


def test_one_flush_is_one_write_and_one_sync() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 10))
    journal.flush()
    del disk.trace[:]
    journal.set_vote(2, "p1")
    journal.truncate_from(5)
    journal.append(rows(5, 8, term=2))
    journal.flush()
    assert disk.trace == ["write", "fdatasync"]


def test_unflushed_changes_are_gone_after_a_power_cut() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 3))
    journal.flush()
    journal.truncate_from(2)
    journal.append(rows(2, 9, term=4))
    disk.crash()
    assert FileJournal(DIRECTORY, disk=disk).entries(0, 100) == rows(1, 3)


def test_a_killed_process_leaves_its_last_flush_and_reopening_makes_it_durable() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 3))
    journal.flush()
    journal.append(rows(3, 5))
    disk.crash_at = disk.calls + 2  # written, killed before it was synced
    with pytest.raises(BaseException, match="power cut"):
        journal.flush()
    disk.crash_at = 0

    assert FileJournal(DIRECTORY, disk=disk).last_index == 4
    disk.crash(torn=False)
    assert FileJournal(DIRECTORY, disk=disk).last_index == 4


@pytest.mark.parametrize("segment_bytes", [1 << 20, 600])
def test_wherever_a_process_was_killed_what_the_next_one_flushes_survives_a_power_cut(segment_bytes: int) -> None:
    """Also where the killed one had begun a segment whose name was not durable yet."""
    for call in itertools.count(1):
        disk = SimDisk(seed=call)
        disk.crash_at = call
        try:
            journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=segment_bytes)
            for index in range(1, 4):
                journal.append(rows(index, index + 1, size=100))
                journal.flush()
        except PowerCutError:  # here the end of the process alone
            pass
        else:
            assert call > 10, "it was killed nowhere"
            return
        disk.crash_at = 0
        journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=segment_bytes)
        had = journal.last_index
        journal.append(rows(had + 1, had + 2, term=2))
        journal.flush()
        disk.crash(torn=False)
        expected = rows(1, had + 1, size=100) + rows(had + 1, had + 2, term=2)
        assert FileJournal(DIRECTORY, disk=disk, segment_bytes=segment_bytes).entries(0, 99) == expected


def test_the_directory_itself_is_durable_before_anything_in_it_is_relied_on() -> None:
    class Noted(SimDisk):
        """The simulated disk forgets files, not directories."""

        def fsync_dir(self, directory: Path) -> None:
            synced.append((directory, len(self.trace)))
            super().fsync_dir(directory)

    synced: list[tuple[Path, int]] = []
    disk = Noted()
    FileJournal(DIRECTORY, disk=disk).append([])
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 2))
    journal.flush()
    assert [directory for directory, _ in synced] == [DIRECTORY.parent, DIRECTORY]
    assert all("fdatasync" in disk.trace[at:] for _, at in synced), "the entries are flushed behind it"


def test_truncating_replaces_the_tail() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 10))
    journal.truncate_from(6)
    journal.append(rows(6, 8, term=2))
    journal.flush()
    expected = rows(1, 6) + rows(6, 8, term=2)
    assert journal.entries(1, 100) == expected
    assert FileJournal(DIRECTORY, disk=disk).entries(1, 100) == expected


def test_entries_outside_the_window_are_refused_by_get_and_left_out_of_slices() -> None:
    journal = FileJournal(DIRECTORY, disk=SimDisk())
    journal.append(rows(1, 20))
    journal.trim_before(10)
    for index in (0, 9, 20):
        with pytest.raises(IndexError):
            journal.get(index)
    assert journal.entries(0, 12) == rows(10, 12)
    assert journal.entries(18, 99) == rows(18, 20)
    assert journal.entries(1, 5) == []


def test_a_gap_is_refused_and_adds_nothing() -> None:
    journal = FileJournal(DIRECTORY, disk=SimDisk())
    journal.append(rows(1, 3))
    with pytest.raises(ValueError, match="entry 4 where entry 3 is due"):
        journal.append(rows(4, 5))
    with pytest.raises(ValueError, match="entry 9 where entry 4 is due"):
        journal.append([*rows(3, 4), *rows(9, 10)])
    assert journal.last_index == 2


def test_an_empty_journal_begins_at_any_index_from_1_on() -> None:
    journal = FileJournal(DIRECTORY, disk=SimDisk())
    with pytest.raises(ValueError, match="entry 0 where entry 1 is due"):
        journal.append([(0, 1, b"")])
    assert not journal.dirty
    journal.append(rows(7, 9))
    assert (journal.first_index, journal.last_index) == (7, 8)


def test_an_emptied_journal_may_begin_again_at_1() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 4))
    journal.trim_before(9)
    journal.append(rows(1, 3, term=2))
    journal.flush()
    assert FileJournal(DIRECTORY, disk=disk).entries(0, 99) == rows(1, 3, term=2)


@pytest.mark.parametrize(("term", "voted_for"), [(4, "p1"), (5, "p2"), (5, "")])
def test_going_back_on_a_vote_is_refused(term: int, voted_for: str) -> None:
    journal = FileJournal(DIRECTORY, disk=SimDisk())
    journal.set_vote(5, "")
    journal.set_vote(5, "p1")
    journal.set_vote(5, "p1")
    with pytest.raises(ValueError, match="after term 5"):
        journal.set_vote(term, voted_for)
    assert (journal.term, journal.voted_for) == (5, "p1")


def test_an_overlong_vote_is_refused_and_changes_nothing() -> None:
    journal = FileJournal(DIRECTORY, disk=SimDisk())
    with pytest.raises(ValueError, match="at most 255 bytes"):
        journal.set_vote(5, "p" * 256)
    assert (journal.term, journal.dirty) == (0, False)


def test_an_emptied_journal_goes_on_behind_an_installed_snapshot() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.set_vote(7, "p3")
    journal.append(rows(1, 10))
    journal.flush()
    journal.truncate_from(journal.first_index)
    assert (journal.first_index, journal.last_index, len(journal)) == (1, 0, 0)
    journal.append(rows(500, 502, term=7))
    journal.flush()
    again = FileJournal(DIRECTORY, disk=disk)
    assert (again.first_index, again.last_index, again.term, again.voted_for) == (500, 501, 7, "p3")


def test_what_a_snapshot_takes_the_place_of_is_freed_with_the_next_flush() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=1500)
    for index in range(1, 61):
        journal.append(rows(index, index + 1, size=50))
        journal.flush()
    assert len(segment_names(disk)) > 2
    journal.truncate_from(1)
    journal.append(rows(500, 502, size=50))
    journal.flush()
    assert len(segment_names(disk)) <= 2


def test_a_trim_that_stands_behind_the_first_entries_of_what_is_left_takes_none_of_them() -> None:
    """The segments before it were freed since, so on reading it names entries that are not there any more."""
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=1500)
    for index in range(1, 61):
        journal.append(rows(index, index + 1, size=50))
        journal.flush()
    first = len(segment_names(disk))
    while len(segment_names(disk)) == first:
        index = journal.last_index + 1
        journal.append(rows(index, index + 1, size=50))
        journal.flush()
    journal.trim_before(10)
    journal.flush()
    journal.trim_before(index)
    journal.flush()
    assert len(segment_names(disk)) == 1
    assert FileJournal(DIRECTORY, disk=disk).entries(0, 999) == rows(index, index + 1, size=50)


def test_trimming_above_everything_empties_the_journal() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 10))
    journal.trim_before(100)
    journal.flush()
    assert (journal.first_index, journal.last_index, len(journal)) == (100, 99, 0)
    again = FileJournal(DIRECTORY, disk=disk)
    assert (again.first_index, again.last_index, len(again)) == (100, 99, 0)


def test_segments_are_freed_when_only_trimmed_entries_are_in_them_and_the_vote_survives() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=2000)
    journal.set_vote(3, "p1")
    for index in range(1, 201):
        journal.append(rows(index, index + 1, term=3, size=50))
        journal.flush()
    before = segment_names(disk)
    assert len(before) > 5
    journal.trim_before(150)
    journal.flush()
    after = segment_names(disk)
    assert after == before[-len(after) :]
    assert len(after) < len(before) / 2
    assert journal.size_bytes == sum(len(disk.read(DIRECTORY / name).rstrip(b"\0")) for name in after)

    disk.crash(torn=False)
    again = FileJournal(DIRECTORY, disk=disk, segment_bytes=2000)
    assert again.entries(0, 999) == rows(150, 201, term=3, size=50)
    assert (again.term, again.voted_for) == (3, "p1")


def test_segments_that_a_crash_kept_from_being_freed_are_freed_at_the_next_opening() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=2000)
    for index in range(1, 101):
        journal.append(rows(index, index + 1, size=50))
        journal.flush()
    journal.trim_before(100)
    disk.crash_at = disk.calls + 3  # write, fdatasync, unlink
    with pytest.raises(BaseException, match="unlink"):
        journal.flush()
    disk.crash(torn=False)
    assert len(segment_names(disk)) > 2
    assert FileJournal(DIRECTORY, disk=disk, segment_bytes=2000).entries(0, 999) == rows(100, 101, size=50)
    assert len(segment_names(disk)) == 1


def test_a_truncation_across_segments_survives_reopening_and_freeing() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=1500)
    for index in range(1, 61):
        journal.append(rows(index, index + 1, size=50))
        journal.flush()
    journal.truncate_from(5)
    journal.append(rows(5, 40, term=2, size=50))
    journal.flush()
    journal.append(rows(40, 70, term=2, size=50))
    journal.flush()
    journal.trim_before(61)
    journal.flush()
    assert FileJournal(DIRECTORY, disk=disk, segment_bytes=1500).entries(0, 99) == rows(61, 70, term=2, size=50)
    assert len(segment_names(disk)) == 2, "the rewritten tail, and the trim behind it"


def test_a_flush_larger_than_a_segment_is_stored_whole() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=1000)
    for start in (1, 3, 5):
        journal.append(rows(start, start + 2, size=5000))
        journal.flush()
    assert len(segment_names(disk)) == 3
    assert FileJournal(DIRECTORY, disk=disk).entries(0, 9) == rows(1, 7, size=5000)


def test_a_segment_that_holds_nothing_yet_takes_even_a_flush_that_is_larger() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=1000)
    journal.append(rows(1, 2))
    journal.flush()
    (name,) = segment_names(disk)
    disk.cut(DIRECTORY / name, HEADER_BYTES)  # begun, and then the power failed
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=1000)
    journal.append(rows(1, 3, size=5000))
    journal.flush()
    assert segment_names(disk) == [name]


def test_one_file_is_open_at_a_time_and_none_after_the_end(tmp_path: Path) -> None:
    directory = tmp_path / "journal"

    def opened() -> int:
        links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return sum(directory in link.parents for link in links)

    journal = FileJournal(directory, segment_bytes=1000)
    for index in range(1, 20):
        journal.append(rows(index, index + 1, size=400))
        journal.flush()
        assert opened() == 1
    assert len(list(directory.iterdir())) > 5
    journal.close()
    journal.close()
    assert opened() == 0


def test_a_closed_journal_drops_what_is_staged_and_refuses_to_flush() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 2))
    journal.flush()
    journal.append(rows(2, 3))
    journal.close()
    with pytest.raises(OSError, match="closed"):
        journal.flush()
    assert FileJournal(DIRECTORY, disk=disk).last_index == 1


def test_a_journal_holds_something_only_after_its_first_flush() -> None:
    disk = SimDisk()
    assert not holds_anything(DIRECTORY, disk)
    journal = FileJournal(DIRECTORY, disk=disk)
    assert not holds_anything(DIRECTORY, disk)
    journal.set_vote(1, "p1")
    journal.flush()
    assert holds_anything(DIRECTORY, disk)
    (name,) = segment_names(disk)
    disk.cut(DIRECTORY / name, HEADER_BYTES)
    assert not holds_anything(DIRECTORY, disk), "it was begun, and nothing was flushed"
    disk.open(DIRECTORY / f"{2:016d}.journal").write(0, b"")
    assert holds_anything(DIRECTORY, disk), "a second one is begun only behind something, whatever became of that"


def test_other_files_are_nobodys_segments() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 4))
    journal.flush()
    for name in ("2.tmp", "journal", "x.journal", "0000000000000003"):
        disk.open(DIRECTORY / name).write(0, b"no segment")
    assert FileJournal(DIRECTORY, disk=disk).last_index == 3


def test_equal_operations_give_equal_bytes_with_an_equal_salt() -> None:
    contents = []
    for _ in range(2):
        disk = SimDisk()
        journal = FileJournal(DIRECTORY, disk=disk, entropy=lambda size: b"s" * size)
        journal.set_vote(1, "p1")
        journal.append(rows(1, 9))
        journal.flush()
        contents.append(disk.read(DIRECTORY / segment_names(disk)[0]))
    assert contents[0] == contents[1]


def test_the_commit_hint_rides_on_the_next_flush_and_survives_freed_segments() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=1500)
    journal.set_commit_hint(7)
    journal.flush()
    assert (journal.commit_hint, disk.trace) == (7, [])
    for index in range(1, 61):
        journal.append(rows(index, index + 1, size=50))
        journal.flush()
    journal.trim_before(60)
    journal.flush()
    assert segment_names(disk)[0] != "0000000000000001.journal"
    journal.set_commit_hint(60)
    assert FileJournal(DIRECTORY, disk=disk).commit_hint == 7
    journal.set_vote(1, "")
    journal.flush()
    assert FileJournal(DIRECTORY, disk=disk).commit_hint == 60


def test_a_commit_hint_that_must_be_kept_makes_a_flush_of_its_own() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk)
    journal.append(rows(1, 5))
    journal.flush()
    journal.set_commit_hint(4)
    journal.keep_commit_hint()
    journal.flush()
    assert FileJournal(DIRECTORY, disk=disk).commit_hint == 4
    assert not journal.dirty
    before = list(disk.trace)
    journal.keep_commit_hint()  # it is durable already
    journal.flush()
    assert not journal.dirty
    assert disk.trace == before


def test_room_is_written_ahead_so_that_most_flushes_leave_the_length_alone_but_never_beyond_the_segment() -> None:
    disk = SimDisk()
    journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=300_000)
    lengths = []
    for index in range(1, 5001):
        journal.append(rows(index, index + 1, size=200))
        journal.flush()
        lengths.append(disk.size(DIRECTORY / segment_names(disk)[-1]))
    changes = sum(before != after for before, after in itertools.pairwise(lengths))
    assert changes <= 2 * len(segment_names(disk))
    assert lengths[0] < max(lengths) == 300_000
    assert FileJournal(DIRECTORY, disk=disk).last_index == 5000
