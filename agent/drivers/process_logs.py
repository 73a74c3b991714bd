"""Reading what the process shim wrote: frames of (stream, length, time, bytes) in files named by their first offset.

Owns: offsets, and rotation seen from the reader's side. Leaves to others: writing (``process_shim``); shims of older
agents wrote no time. The rule: a frame that is not complete yet is left for the next call.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.driver import LogChunk
from agent.drivers.process_shim import TIMED

HEADER = 5
TIME = 8
READ = 1 << 20


class LogReader:
    """Yields chunks from ``offset`` on, each byte once; remembers where it was between calls."""

    def __init__(self, directory: Path, *, offset: int = 0) -> None:
        self._directory = directory
        self._wanted = offset
        self._segment = -1  # first offset of the file being read
        self._position = 0  # bytes of it already taken
        self._offset = 0  # of the next frame's payload

    def read(self) -> Iterator[LogChunk]:
        while True:
            segments = sorted(int(path.name[4:]) for path in self._directory.glob("log.*") if path.name[4:].isdigit())
            if self._segment < 0:
                if not segments:
                    return
                # The last file that begins at or before the wanted offset; the first one if that is gone.
                self._enter(max((s for s in segments if s <= self._wanted), default=segments[0]))
            yield from self._frames()
            later = [segment for segment in segments if segment > self._segment]
            if not later:
                return
            # A newer file exists, so this one is complete: once more, for what was written before it was left.
            yield from self._frames()
            self._enter(later[0])

    def _enter(self, segment: int) -> None:
        self._segment = self._offset = segment
        self._position = 0

    def _frames(self) -> Iterator[LogChunk]:
        try:
            file = (self._directory / f"log.{self._segment:020d}").open("rb")
        except OSError:
            return
        with file:
            file.seek(self._position)
            held = b""
            while piece := file.read(READ):
                held += piece
                at = 0
                while len(held) - at >= HEADER:
                    length = int.from_bytes(held[at + 1 : at + HEADER], "big")
                    timed = bool(held[at] & TIMED)
                    head = HEADER + (TIME if timed else 0)
                    if len(held) - at - head < length:
                        break
                    stream = held[at] & ~TIMED
                    time_ms = int.from_bytes(held[at + HEADER : at + head], "big") if timed else 0
                    data = held[at + head : at + head + length]
                    at += head + length
                    start = self._offset
                    self._offset += length
                    self._position += head + length
                    if self._offset > self._wanted:
                        skip = max(0, self._wanted - start)
                        yield LogChunk(data=data[skip:], offset=start + skip, stderr=stream == 2, time_ms=time_ms)
                held = held[at:]
