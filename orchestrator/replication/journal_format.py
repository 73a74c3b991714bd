"""Bytes of the journal: segment headers, frames, operations, and how a damaged end is told from a torn one.

Owns: encoding and checked decoding of one segment. Leaves to ``journal`` what the operations mean, and the files. The
one rule: every byte is covered by a check, and only what a crash in the middle of the last flush can leave behind
counts as torn; everything else that is wrong is damage.

A segment is one sector of header, then frames, then zeros (room that is allocated ahead: writing within a file's length
is cheaper to make durable). A frame is what one flush wrote::

    header   magic, length of the body, sequence number, checksum of the body, checksum of this header
    body     operations, in order:
             VOTE term, name | TRUNCATE index | TRIM index | ENTRY index, term, payload | COMMIT index
    trailer  one byte, not zero, so that zeros behind an unfinished frame are never taken for its end

Checksums are CRC32C and start from the segment's random salt, so that stored payloads that look like frames (somebody's
copy of a journal) are never taken for one. Frame numbers go up by one through all segments.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import google_crc32c

HEADER_BYTES = 512
"""One disk sector, which is written whole or not at all."""

SALT_BYTES = 8
FORMAT_VERSION = 1
MAX_VOTE_BYTES = 255

_SEGMENT_MAGIC = b"RAFTJRNL"
# magic, version, salt, number, first sequence, first index, next index, commit hint, term, length of the vote
_SEGMENT = struct.Struct("<8sHxx8sQQQQQQB")
_FRAME_MAGIC = b"\xf4RJ\x01"
_FRAME = struct.Struct("<4sIQII")  # magic, body length, sequence, body checksum, header checksum
_FRAME_CHECKED = _FRAME.size - 4
_TRAILER = b"\xf5"
FRAME_BYTES = _FRAME.size + len(_TRAILER)
"""What a frame takes beside its body."""

VOTE, TRUNCATE, TRIM, ENTRY, COMMIT = 1, 2, 3, 4, 5
_VOTE = struct.Struct("<BQB")
_INDEX = struct.Struct("<BQ")
_ENTRY = struct.Struct("<BQQI")

_U32 = struct.Struct("<I")


def _crc(data: bytes) -> int:
    return int(google_crc32c.value(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """What was true, and durable, when the segment was begun."""

    number: int
    salt: bytes
    first_sequence: int  # number of the first frame in it
    first_index: int  # lowest entry index held then
    next_index: int  # the highest held then, plus one
    commit_hint: int
    term: int
    voted_for: str

    def encode(self) -> bytes:
        name = self.voted_for.encode()
        head = _SEGMENT.pack(
            _SEGMENT_MAGIC, FORMAT_VERSION, self.salt, self.number, self.first_sequence, self.first_index,
            self.next_index, self.commit_hint, self.term, len(name),
        )  # fmt: skip
        body = (head + name).ljust(HEADER_BYTES - 4, b"\0")
        return body + _U32.pack(_crc(body))


class NewerFormatError(Exception):
    """Intact, but written by a later version; ``version`` is the format's."""

    def __init__(self, version: int) -> None:
        super().__init__(f"journal format {version}; this version reads up to {FORMAT_VERSION}")
        self.version = version


class DamageError(Exception):
    """Bytes that no crash of ours can explain."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(what)
        self.offset = offset
        self.what = what


def decode_header(data: bytes) -> SegmentHeader:
    """Raises ``DamageError``, and ``NewerFormatError`` for an intact header of a later format."""
    body = data[: HEADER_BYTES - 4]
    if len(data) < HEADER_BYTES or _U32.unpack_from(data, HEADER_BYTES - 4)[0] != _crc(body):
        raise DamageError(0, "segment header with a wrong checksum")
    magic, version, salt, number, sequence, first, next_index, commit, term, length = _SEGMENT.unpack_from(body)
    if magic != _SEGMENT_MAGIC:
        raise DamageError(0, "not a journal segment")
    if version != FORMAT_VERSION:
        raise NewerFormatError(version)
    name = body[_SEGMENT.size : _SEGMENT.size + length].decode()
    return SegmentHeader(
        number=number, salt=salt, first_sequence=sequence, first_index=first, next_index=next_index,
        commit_hint=commit, term=term, voted_for=name,
    )  # fmt: skip


def encode_vote(term: int, voted_for: str) -> bytes:
    """Raises ``ValueError`` if the name is longer than ``MAX_VOTE_BYTES``."""
    name = voted_for.encode()
    if len(name) > MAX_VOTE_BYTES:
        raise ValueError(f"the name of a peer is at most {MAX_VOTE_BYTES} bytes, not {len(name)}")
    return _VOTE.pack(VOTE, term, len(name)) + name


def encode_truncate(index: int) -> bytes:
    return _INDEX.pack(TRUNCATE, index)


def encode_trim(index: int) -> bytes:
    return _INDEX.pack(TRIM, index)


def encode_commit(index: int) -> bytes:
    return _INDEX.pack(COMMIT, index)


def encode_entry(index: int, term: int, length: int) -> bytes:
    """The head of an entry; its payload of ``length`` bytes follows it."""
    return _ENTRY.pack(ENTRY, index, term, length)


class FrameCodec:
    """Frames of one segment."""

    def __init__(self, salt: bytes) -> None:
        self._seed = _crc(salt)

    def encode(self, sequence: int, body: bytes) -> bytes:
        seed = self._seed
        extend = google_crc32c.extend
        head = _FRAME.pack(_FRAME_MAGIC, len(body), sequence, extend(seed, body), 0)[:_FRAME_CHECKED]
        return b"".join((head, _U32.pack(extend(seed, head)), body, _TRAILER))

    def scan(self, data: bytes, sequence: int) -> Iterator[tuple[int, bytes]]:
        """Yield ``(offset, body)`` of every intact frame, in order; stop at the end or at the first that is not intact.

        ``sequence`` is the number that the first frame must have. What follows the last frame yielded, the caller asks
        ``torn_bytes``.
        """
        offset, total, seed = HEADER_BYTES, len(data), self._seed
        trailer = _TRAILER[0]
        unpack, extend, checked, header = _FRAME.unpack_from, google_crc32c.extend, _FRAME_CHECKED, _FRAME.size
        while total - offset >= header:
            magic, length, number, body_crc, head_crc = unpack(data, offset)
            if magic != _FRAME_MAGIC or number != sequence or extend(seed, data[offset : offset + checked]) != head_crc:
                return
            start = offset + header
            body = data[start : start + length]
            following = start + length + 1
            if following > total or data[following - 1] != trailer or extend(seed, body) != body_crc:
                return
            yield offset, body
            offset = following
            sequence += 1

    def torn_bytes(self, data: bytes, offset: int, sequence: int) -> int:
        """How many bytes of an unfinished flush begin at ``offset``, where no intact frame is; 0 if only zeros do.

        A crash in the middle of a flush leaves a frame that ends early, or one in which whole sectors were never
        written and read as zeros. Raises ``DamageError`` for everything else: something intact follows, or the frame is
        complete and wrong.
        """
        end = len(data.rstrip(b"\0"))
        if end <= offset:
            return 0
        follower = self._find_frame(data, offset + 1, sequence)
        if follower is not None:
            raise DamageError(offset, f"damaged frame, with an intact one after it at byte {follower}")
        if end - offset < _FRAME.size:
            return end - offset
        magic, length, number, _, head_crc = _FRAME.unpack_from(data, offset)
        head = data[offset : offset + _FRAME_CHECKED]
        if magic == _FRAME_MAGIC and google_crc32c.extend(self._seed, head) == head_crc:
            if number != sequence:
                raise DamageError(offset, f"frame {number} where frame {sequence} is due")
            if offset + FRAME_BYTES + length > end:
                return end - offset
        if not _has_unwritten_sector(data, offset, end):
            raise DamageError(offset, "complete frame with a wrong checksum")
        return end - offset

    def _find_frame(self, data: bytes, start: int, after: int) -> int | None:
        """Offset of the first intact frame at or behind ``start`` whose number is greater than ``after``."""
        found = data.find(_FRAME_MAGIC, start)
        while found >= 0:
            if len(data) - found >= _FRAME.size:
                _, length, number, body_crc, head_crc = _FRAME.unpack_from(data, found)
                extend = google_crc32c.extend
                body_start = found + _FRAME.size
                if (
                    number > after
                    and extend(self._seed, data[found : found + _FRAME_CHECKED]) == head_crc
                    and body_start + length <= len(data)
                    and extend(self._seed, data[body_start : body_start + length]) == body_crc
                ):
                    return found
            found = data.find(_FRAME_MAGIC, found + 1)
        return None


_SECTOR = 512


def _has_unwritten_sector(data: bytes, start: int, end: int) -> bool:
    while start < end:
        stop = min(end, (start // _SECTOR + 1) * _SECTOR)
        if not any(data[start:stop]):
            return True
        start = stop
    return False


def decode_operations(body: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield ``(kind, index, term, payload)``; for VOTE the index is 0 and the payload the name.

    Raises ``ValueError`` or ``struct.error`` if the body, whose checksum was right, is not a list of operations.
    """
    position, total = 0, len(body)
    while position < total:
        kind = body[position]
        if kind == ENTRY:
            _, index, term, length = _ENTRY.unpack_from(body, position)
            position += _ENTRY.size + length
            yield ENTRY, index, term, body[position - length : position]
        elif kind == VOTE:
            _, term, length = _VOTE.unpack_from(body, position)
            position += _VOTE.size + length
            yield VOTE, 0, term, body[position - length : position]
        elif kind in (TRUNCATE, TRIM, COMMIT):
            _, index = _INDEX.unpack_from(body, position)
            position += _INDEX.size
            yield kind, index, 0, b""
        else:
            raise ValueError(f"unknown operation {kind}")
    if position != total:
        raise ValueError("the last operation is cut short")
