"""Lines of several logs as one: by time where it is known, and as they come where it is not.

Owns: ``merged`` and ``lines``. Leaves to others: reading logs, showing them (``cli.logs``). The rule: at most a few
lines of each log are held, however long the logs are; a log that says nothing for a while holds nobody up.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

HELD = 64
PATIENCE_S = 0.15
"""So long after its last line the others wait for the next one of a log, which might be older than theirs."""


class Chunk(Protocol):
    """A piece of a log; ``time_ms`` of its first byte, 0 = unknown."""

    @property
    def data(self) -> bytes: ...

    @property
    def time_ms(self) -> int: ...


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """Without its line end."""

    time_ms: int
    source: int
    text: bytes = field(compare=False)


async def lines(source: int, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Line]:
    """Whole lines; the last one may lack its end. A line has the time of the piece that it begins in."""
    rest, began_ms, newest_ms = b"", 0, 0
    async for chunk in chunks:
        # Several streams of one task may be some milliseconds out of order, and what has no time follows the last one.
        newest_ms = max(newest_ms, chunk.time_ms)
        *whole, tail = chunk.data.split(b"\n")
        for number, text in enumerate(whole):
            yield Line(began_ms or newest_ms if number == 0 and rest else newest_ms, source, rest + text)
            rest, began_ms = b"", 0
        if tail and not rest:
            began_ms = newest_ms
        rest += tail
    if rest:
        yield Line(began_ms or newest_ms, source, rest)


async def merged(
    sources: Sequence[AsyncIterator[Line]], *, patience_s: float = PATIENCE_S
) -> AsyncGenerator[Line, None]:
    """The lines of all. A source that fails is left out from there on, and its error is raised at the end, with the
    others' in one group."""
    queues: list[asyncio.Queue[Line | BaseException | None]] = [asyncio.Queue(HELD) for _ in sources]
    came = asyncio.Event()
    clock = asyncio.get_running_loop().time
    heard: dict[int, float] = {}  # when a log last said something; of one that has not: since when others wait for it
    errors: list[Exception] = []

    async def pump(number: int) -> None:
        end: BaseException | None = None
        try:
            async for line in sources[number]:
                await queues[number].put(line)
                heard[number] = clock()
                came.set()
        except Exception as error:
            end = error
        await queues[number].put(end)
        came.set()

    pumps = [asyncio.ensure_future(pump(number)) for number in range(len(sources))]
    heads: list[Line] = []
    silent = set(range(len(sources)))  # of which no line is at hand
    try:
        while silent or heads:
            came.clear()
            for number in list(silent):
                if not queues[number].empty():
                    item = queues[number].get_nowait()
                    if isinstance(item, Line):
                        heapq.heappush(heads, item)
                    elif isinstance(item, Exception):
                        errors.append(item)
                    silent.discard(number)
            if not heads:
                if silent:
                    await came.wait()
                continue
            now = clock()
            # Once for each silence and not for each line: else one quiet log would slow down all others for good.
            left_s = max((heard.setdefault(number, now) for number in silent), default=now) + patience_s - now
            if silent and left_s > 0 and await _within(came, left_s):
                continue
            line = heapq.heappop(heads)
            yield line
            silent.add(line.source)
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
    if errors:
        raise ExceptionGroup("some logs could not be read", errors)


async def _within(came: asyncio.Event, seconds: float) -> bool:
    """Whether something comes in that time; it waits for it."""
    try:
        async with asyncio.timeout(seconds):
            return await came.wait()
    except TimeoutError:
        return False
