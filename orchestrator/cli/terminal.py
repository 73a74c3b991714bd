"""The terminal that a command in a task is given: raw keys, its size, its signals.

Owns: raw mode and its end, reading the keyboard, noticing a new size. Leaves to others: where the bytes go
(``cli.exec``). The rules: the terminal is put back whatever happens; nothing is read from standard input before what
was read has been taken; POSIX only (Linux and macOS).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import shutil
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Iterator

CHUNK = 64 * 1024


def is_terminal() -> bool:
    """Whether somebody types and sees what comes."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def size() -> tuple[int, int]:
    """(rows, columns); what a terminal has, or a usual one."""
    found = shutil.get_terminal_size()
    return found.lines, found.columns


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Keys go through as they are, Ctrl-C too."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # what was typed ahead is for the command
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


async def standard_input() -> AsyncIterator[bytes]:
    """What comes, as it comes; in a thread, for a terminal shares its mode with everybody else who has it open."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue(1)

    def read() -> None:
        # The command may end while more is typed: the loop is closed then, or closing and cancels what waits in it.
        with contextlib.suppress(RuntimeError, OSError, concurrent.futures.CancelledError):
            while True:
                data = os.read(0, CHUNK)
                asyncio.run_coroutine_threadsafe(queue.put(data), loop).result()
                if not data:
                    return

    threading.Thread(target=read, name="keyboard", daemon=True).start()
    while data := await queue.get():
        yield data


def write(data: bytes, *, error: bool) -> None:
    """All of it, at once; blocks while whoever reads does not."""
    fd = 2 if error else 1
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
