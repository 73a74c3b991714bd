"""``FileJournal``: Raft entries, term and vote on disk, in append-only segments.

Owns: the segment files of one directory, when they are begun and freed, and the entries in memory. Leaves the bytes to
``journal_format``, the file operations to ``disk``, and what an entry means to the engine. The one rule: what is staged
since the last flush becomes durable as one frame, wholly or not at all, and ``flush`` returns only when it is.

A segment's header repeats term, vote and the range of indexes held when it was begun, so whole segments can be freed
from the old end, once they only hold entries below the first; those that a crash leaves behind are freed when the
journal is opened next.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator.contract.errors import CorruptError, StartupError
from orchestrator.replication import journal_format as fmt
from orchestrator.replication.disk import Disk, DiskFile, RealDisk

DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024
ROOM_BYTES = 256 * 1024
"""Zeros written ahead now and then: a flush within the file's length is a quarter cheaper (no change of metadata)."""

WAY_BACK = (
    "Way back, while a majority of the peers runs: `raftsman peers reset --data DIR` on this machine, then start this "
    "peer again: it catches up from the others, without a vote until it has. Without a majority: `raftsman recover`"
)
"""What every message about damage ends with: the only safe repair is to catch up from a majority."""

_log = structlog.get_logger("raftsman.journal")

Entry = tuple[int, int, bytes]


@dataclass(slots=True)
class _Segment:
    number: int
    size: int  # bytes of header and frames; the file may be longer (room)
    highest: int  # highest entry index ever written to it, truncated or not; 0 if none


def _name(number: int) -> str:
    return f"{number:016d}.journal"


def _numbers(disk: Disk, directory: Path) -> list[int]:
    """Numbers of the segment files in the directory, ascending."""
    return sorted(
        int(stem)
        for stem, _, suffix in (name.partition(".") for name in disk.listdir(directory))
        if suffix == "journal" and stem.isdigit()
    )


def holds_anything(directory: Path, disk: Disk) -> bool:
    """Whether anything was ever flushed to a journal in this directory (a begun but empty segment does not count)."""
    numbers = _numbers(disk, directory)
    return len(numbers) > 1 or any(
        disk.read(directory / _name(number))[fmt.HEADER_BYTES :].strip(b"\0") for number in numbers
    )


class FileJournal:
    """Implements ``Journal`` (see ``log``). One owner; not for several threads.

    Opening raises ``CorruptError`` for damage (file, offset and way back in the message), ``StartupError`` for a newer
    format, and ``OSError`` as the disk does. A torn last flush is cut off, made durable and logged.
    """

    def __init__(
        self,
        directory: Path,
        *,
        disk: Disk | None = None,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._directory = directory
        self._disk: Disk = disk if disk is not None else RealDisk()
        self._segment_bytes = segment_bytes
        self._entropy = entropy
        self._term = 0
        self._voted_for = ""
        self._commit_hint = 0
        self._keep_hint = False
        self._first = 1
        self._next = 1
        self._entries: list[Entry] = []  # indexes [_next - len, _next); complete from _first on, once opened
        self._staged: list[bytes] = []
        self._durable = self._position()  # as of the last flush: what a new segment's header says
        self._raised = 0  # highest index appended since the last flush, 0 if none
        self._may_free = False
        self._broken = ""  # why no flush is possible any more
        self._segments: list[_Segment] = []
        self._sequence = 1  # number of the next frame
        self._file: DiskFile | None = None
        self._room_to = 0  # length of the last segment's file
        self._codec = fmt.FrameCodec(b"")
        self._open()

    # ------------------------------------------------------------------ what it holds

    @property
    def term(self) -> int:
        return self._term

    @property
    def voted_for(self) -> str:
        """Peer voted for in ``term``; "" if none."""
        return self._voted_for

    @property
    def commit_hint(self) -> int:
        """The commit index that was stored last: a true lower bound of what is committed, 0 if never stored."""
        return self._commit_hint

    @property
    def first_index(self) -> int:
        """Index of the first entry held; one more than ``last_index`` when there is none."""
        return self._first

    @property
    def last_index(self) -> int:
        return self._next - 1

    @property
    def size_bytes(self) -> int:
        """Bytes in segment files, trimmed but not yet freed ones included; for metrics and compaction."""
        return sum(segment.size for segment in self._segments)

    @property
    def dirty(self) -> bool:
        """Whether anything but a mere commit hint is staged, so that ``flush`` would write."""
        return bool(self._staged) or self._keep_hint

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, index: int) -> Entry:
        """The entry ``(index, term, payload)``; raises ``IndexError`` if it is not held."""
        if not self._first <= index < self._next:
            raise IndexError(f"entry {index} is not in the journal, which holds [{self._first}, {self._next})")
        return self._entries[index - self._first]

    def entries(self, start: int, stop: int) -> list[Entry]:
        """The entries held at indexes in ``[start, stop)``, in order; those not held are left out."""
        return self._entries[max(start - self._first, 0) : max(stop - self._first, 0)]

    # ------------------------------------------------------------------ changes

    def set_vote(self, term: int, voted_for: str) -> None:
        """Enter ``term``, with the vote given in it ("" for none yet).

        Raises ``ValueError`` if that would go back to an older term, or change or withdraw a vote within one: both
        would let two leaders be elected.
        """
        if term < self._term or (term == self._term and self._voted_for not in ("", voted_for)):
            raise ValueError(
                f"term {term} with vote {voted_for!r} after term {self._term} with vote {self._voted_for!r}"
            )
        if (term, voted_for) == (self._term, self._voted_for):
            return
        self._staged.append(fmt.encode_vote(term, voted_for))
        self._term, self._voted_for = term, voted_for

    def set_commit_hint(self, index: int) -> None:
        """Note the commit index; it rides on the next flush and never makes one necessary."""
        self._commit_hint = index

    def keep_commit_hint(self) -> None:
        """The commit index as it is now must be durable with the next flush, whatever else is staged."""
        self._keep_hint = self._commit_hint != self._durable[2]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add ``(index, term, payload)`` rows. An empty journal takes any first index from 1 on (snapshot installed).

        Raises ``ValueError`` if the indexes do not continue the journal; nothing is added then.
        """
        if not entries:
            return
        expected = self._next if self._first < self._next else max(1, entries[0][0])
        for row, (index, _, _) in enumerate(entries):
            if index != expected + row:
                raise ValueError(f"entry {index} where entry {expected + row} is due")
        if self._first == self._next:
            self._first = self._next = expected
        staged = self._staged
        for index, term, payload in entries:
            staged.append(fmt.encode_entry(index, term, len(payload)))
            staged.append(payload)
        self._entries.extend(entries)
        self._next += len(entries)
        self._raised = max(self._raised, self._next - 1)

    def truncate_from(self, index: int) -> None:
        """Drop the entries at ``index`` and above; with everything else staged before the flush, one atomic frame."""
        if index >= self._next:
            return
        self._staged.append(fmt.encode_truncate(index))
        self._truncate(index)
        self._may_free = True

    def trim_before(self, index: int) -> None:
        """Forget the entries below ``index`` (a snapshot covers them); ``flush`` then frees what is not needed.

        An index above all entries empties the journal.
        """
        if index <= self._first:
            return
        self._staged.append(fmt.encode_trim(index))
        self._trim(index)
        self._may_free = True

    def flush(self) -> None:
        """Write what is staged as one checksummed frame and make it durable; nothing staged, nothing done.

        Raises ``OSError`` as the disk does (full, failed). The journal refuses every later flush then, since what the
        disk holds is unknown; the process must stop, and the next opening finds everything up to the last good flush.
        """
        if self._broken:
            raise OSError(errno.EIO, f"the journal in {self._directory} {self._broken}")
        if not self.dirty:
            return
        self._broken = "failed before: the process must stop"  # until all of it worked
        if self._commit_hint != self._durable[2]:
            self._staged.append(fmt.encode_commit(self._commit_hint))
        body = b"".join(self._staged)
        size = fmt.FRAME_BYTES + len(body)
        segment = self._segments[-1] if self._segments else None
        if segment is None or (segment.size > fmt.HEADER_BYTES and segment.size + size > self._segment_bytes):
            segment = self._begin_segment()
        file = self._file
        assert file is not None
        frame = self._codec.encode(self._sequence, body)
        end = segment.size + size
        if end > self._room_to:
            self._room_to = max(end, min(end + ROOM_BYTES, self._segment_bytes))
            frame = frame.ljust(self._room_to - segment.size, b"\0")
        file.write(segment.size, frame)
        file.fdatasync()
        self._sequence += 1
        segment.size = end
        self._staged.clear()
        self._keep_hint = False
        self._durable = self._position()
        segment.highest = max(segment.highest, self._raised)
        self._raised = 0
        if self._may_free:
            self._may_free = False
            self._free_segments()
        self._broken = ""

    def close(self) -> None:
        """Release the file; what is staged is dropped."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._broken = "is closed"

    # ------------------------------------------------------------------ shared by changes and replay

    def _position(self) -> tuple[int, int, int, int, str]:
        """First and next index, commit hint, term and vote: what segment headers repeat."""
        return (self._first, self._next, self._commit_hint, self._term, self._voted_for)

    def _truncate(self, index: int) -> None:
        present = self._next - len(self._entries)
        del self._entries[max(index - present, 0) :]
        self._next = max(index, self._first)

    def _trim(self, index: int) -> None:
        present = self._next - len(self._entries)
        del self._entries[: max(index - present, 0)]
        self._first = index
        self._next = max(self._next, index)

    # ------------------------------------------------------------------ segments

    def _begin_segment(self) -> _Segment:
        """A new last segment, durable with its name before anything is written to it."""
        number = self._segments[-1].number + 1 if self._segments else 1
        salt = self._entropy(fmt.SALT_BYTES)
        first, next_index, commit_hint, term, voted_for = self._durable
        header = fmt.SegmentHeader(
            number=number, salt=salt, first_sequence=self._sequence, first_index=first, next_index=next_index,
            commit_hint=commit_hint, term=term, voted_for=voted_for,
        )  # fmt: skip
        if not self._segments:
            self._disk.makedirs(self._directory)
            self._disk.fsync_dir(self._directory.parent)
        if self._file is not None:
            self._file.close()
            self._file = None
        file = self._file = self._disk.open(self._directory / _name(number))
        file.write(0, header.encode())
        file.fdatasync()
        self._disk.fsync_dir(self._directory)
        self._codec = fmt.FrameCodec(salt)
        segment = _Segment(number, fmt.HEADER_BYTES, 0)
        self._segments.append(segment)
        self._room_to = segment.size
        return segment

    def _free_segments(self) -> None:
        """Remove segments from the old end that hold only entries below the first; never the last one."""
        while len(self._segments) > 1 and self._segments[0].highest < self._first:
            self._disk.unlink(self._directory / _name(self._segments[0].number))
            # One by one, so that a power cut leaves no gap in the middle.
            self._disk.fsync_dir(self._directory)
            del self._segments[0]

    # ------------------------------------------------------------------ opening

    def _open(self) -> None:
        numbers = _numbers(self._disk, self._directory)
        if not numbers:
            return
        dropped = self._drop_unborn(numbers)
        for position, number in enumerate(numbers):
            if position and number != numbers[position - 1] + 1:
                missing = _name(numbers[position - 1] + 1)
                raise CorruptError(f"{self._directory / missing} is missing, with later segments present. {WAY_BACK}")
            # A segment is begun only when the one before it is durable to its end.
            may_be_torn = position == len(numbers) - 1 and not dropped
            self._read_segment(number, first=position == 0, may_be_torn=may_be_torn)
        if not numbers:
            return
        present = self._next - len(self._entries)
        if present > self._first:
            raise CorruptError(
                f"{self._directory}: entries {self._first} to {present - 1} are missing: "
                f"{_name(numbers[0])} needs an earlier segment. {WAY_BACK}"
            )
        path = self._directory / _name(numbers[-1])
        self._file = self._disk.open(path)
        self._room_to = self._segments[-1].size
        if self._disk.size(path) > self._room_to:
            self._file.truncate(self._room_to)  # room always reads as zeros
        # What was read may be only in the page cache (killed between write and sync), and is about to be relied on.
        self._file.fdatasync()
        self._disk.fsync_dir(self._directory)
        self._durable = self._position()
        self._free_segments()

    def _drop_unborn(self, numbers: list[int]) -> bool:
        """Remove a last segment whose beginning was interrupted: no frame is written before the header is durable."""
        path = self._directory / _name(numbers[-1])
        if self._disk.size(path) > fmt.HEADER_BYTES:
            return False
        try:
            fmt.decode_header(self._disk.read(path))
        except fmt.DamageError:
            _log.warning("journal.unborn_segment_removed", file=str(path))
            self._disk.unlink(path)
            self._disk.fsync_dir(self._directory)
            numbers.pop()
            return True
        except fmt.NewerFormatError:
            pass  # reported when it is read
        return False

    def _read_segment(self, number: int, *, first: bool, may_be_torn: bool) -> None:
        path = self._directory / _name(number)
        data = self._disk.read(path)
        offset = 0
        try:
            header = fmt.decode_header(data)
            self._check_header(header, number, first=first)
            segment = _Segment(number, fmt.HEADER_BYTES, 0)
            self._segments.append(segment)
            self._codec = fmt.FrameCodec(header.salt)
            for offset, body in self._codec.scan(data, self._sequence):
                self._replay(body, segment)
                self._sequence += 1
                segment.size = offset + fmt.FRAME_BYTES + len(body)
            offset = segment.size
            torn = self._codec.torn_bytes(data, offset, self._sequence)
            if torn and not may_be_torn:
                raise fmt.DamageError(offset, "damaged frame at the end of a segment that is not the last")
            if torn:
                _log.warning("journal.torn_tail_cut", file=str(path), offset=offset, bytes_cut=torn)
        except fmt.NewerFormatError as error:
            raise StartupError(
                f"{path} was written by a newer raftsman (journal format {error.version}; this one reads "
                f"{fmt.FORMAT_VERSION}): start the newer version on this data directory"
            ) from error
        except fmt.DamageError as error:
            raise CorruptError(f"{path} is damaged at byte {error.offset}: {error.what}. {WAY_BACK}") from error
        except (ValueError, struct.error) as error:
            raise CorruptError(
                f"{path} is damaged: the frame at byte {offset} cannot be replayed: {error}. {WAY_BACK}"
            ) from error

    def _check_header(self, header: fmt.SegmentHeader, number: int, *, first: bool) -> None:
        """Take over the first segment's header; every later one must say what replaying the earlier ones gave."""
        if header.number != number:
            raise fmt.DamageError(0, f"it calls itself segment {header.number}")
        if first:
            self._sequence = header.first_sequence
            self._first, self._next, self._commit_hint = header.first_index, header.next_index, header.commit_hint
            self._term, self._voted_for = header.term, header.voted_for
            return
        stated = (
            header.first_sequence, header.first_index, header.next_index, header.commit_hint, header.term,
            header.voted_for,
        )  # fmt: skip
        found = (self._sequence, *self._position())
        if stated != found:
            raise fmt.DamageError(0, f"its header does not continue the segment before it ({stated} after {found})")

    def _replay(self, body: bytes, segment: _Segment) -> None:
        """Do again what one frame recorded; raises ``ValueError`` if it does not fit."""
        for kind, index, term, payload in fmt.decode_operations(body):
            if kind == fmt.ENTRY:
                if index != self._next:
                    if self._first != self._next or index < 1:
                        raise ValueError(f"entry {index} where entry {self._next} is due")
                    self._first = self._next = index
                self._entries.append((index, term, payload))
                self._next += 1
                segment.highest = max(segment.highest, index)
            elif kind == fmt.VOTE:
                self._term, self._voted_for = term, payload.decode()
            elif kind == fmt.COMMIT:
                self._commit_hint = index
            elif kind == fmt.TRUNCATE:
                self._truncate(index)
            elif index > self._first:
                self._trim(index)
