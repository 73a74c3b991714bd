"""Pipes and terminals as things to await: one end of a descriptor, on whatever event loop runs.

Owns: reading and writing a non-blocking descriptor, and closing it once. Leaves to others: making descriptors. The
rule: nothing is read before somebody asks for it, so whoever writes on the other side waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os

READ = 64 * 1024
_ENDED = (errno.EIO, errno.EPIPE, errno.EBADF)
"""A terminal whose other side is closed says EIO; that is its end of file."""


class Pipe:
    """Takes over ``fd``. One reader and one writer at a time."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._waiting: set[asyncio.Future[None]] = set()

    async def read(self, size: int) -> bytes:
        """At least one byte, at most ``size``; b"" at the end."""
        while self._fd >= 0:
            try:
                return os.read(self._fd, size)
            except BlockingIOError:
                await self._ready(reading=True)
            except OSError as error:
                if error.errno in _ENDED:
                    return b""
                raise
        return b""

    async def write(self, data: bytes) -> None:
        """All of it; what nobody reads any more is dropped."""
        left = memoryview(data)
        while left and self._fd >= 0:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                await self._ready(reading=False)
            except OSError as error:
                if error.errno in _ENDED:
                    return
                raise

    async def _ready(self, *, reading: bool) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        add, remove = (loop.add_reader, loop.remove_reader) if reading else (loop.add_writer, loop.remove_writer)
        fd = self._fd
        add(fd, lambda: None if ready.done() else ready.set_result(None))
        self._waiting.add(ready)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if self._fd == fd:
                remove(fd)

    def fileno(self) -> int:
        """-1 once it is closed."""
        return self._fd

    def close(self) -> None:
        """Idempotent; whoever waits sees the end."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ValueError, OSError):
            loop.remove_reader(fd)
        with contextlib.suppress(ValueError, OSError):
            loop.remove_writer(fd)
        os.close(fd)
        for ready in self._waiting:
            if not ready.done():
                ready.set_result(None)


class StreamConnection:
    """A TCP connection as ``hands.Connection``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        return await self._reader.read(READ)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def end_input(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            if self._writer.can_write_eof():
                self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
