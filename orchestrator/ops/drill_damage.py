"""Flipping one bit of what a peer has stored, at a place where it must not go unnoticed.

Owns: choosing the place. The rule: never in the last frame of a journal, which a peer may take for a torn write and cut
off: that would be right of it, and no test.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.contract.errors import PreconditionError
from orchestrator.replication import journal_format as fmt
from orchestrator.replication.snapshots import FILE_NAME


def flip_in_journal(directory: Path) -> str:
    """One bit in the middle of a data directory's newest journal segment; returns where, in words.

    Raises ``PreconditionError`` when there are not two frames to choose from.
    """
    for segment in sorted(directory.glob("journal*/*.journal"), reverse=True):
        data = segment.read_bytes()
        place = before_the_tail(data)
        if place:
            _flip(segment, place)
            return f"{segment.name} at byte {place}"
    raise PreconditionError(f"{directory} holds no journal with two frames; write more before the bit is flipped")


def flip_in_snapshot(directory: Path) -> str:
    """One bit in the middle of its snapshot; "" when there is none."""
    snapshot = directory / "snapshots" / FILE_NAME
    if not snapshot.exists():
        return ""
    place = snapshot.stat().st_size // 2
    _flip(snapshot, place)
    return f"{snapshot.name} at byte {place}"


def before_the_tail(segment: bytes) -> int:
    """Offset of a byte in the body of a frame in the middle, not the last one; 0 when there are fewer than two."""
    header = fmt.decode_header(segment)
    frames = list(fmt.FrameCodec(header.salt).scan(segment, header.first_sequence))[:-1]
    if not frames:
        return 0
    offset, body = frames[len(frames) // 2]
    return offset + fmt.FRAME_BYTES - 1 + len(body) // 2


def _flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        old = file.read(1)[0]
        file.seek(place)
        file.write(bytes([old ^ 1]))
