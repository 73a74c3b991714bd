"""``follow``: run what goes on for ever, until nobody reads it any more.

Owns: noticing that standard output was closed at its other end. Leaves to others: the exit status of that (``main``).
The rule: ``raftsman events -f | head -1`` ends when ``head`` does, not with the next event.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def follow(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, on a loop of its own; raises ``BrokenPipeError`` as soon as nobody reads stdout."""
    return asyncio.run(_until_closed(work))


async def _until_closed(work: Coroutine[Any, Any, T]) -> T:
    closed = asyncio.Event()
    working = asyncio.ensure_future(work)
    with _told_of_closing(closed):
        waiting = asyncio.ensure_future(closed.wait())
        try:
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise BrokenPipeError
            return working.result()
        finally:
            waiting.cancel()
            if not working.done():
                working.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await working


@contextlib.contextmanager
def _told_of_closing(closed: asyncio.Event) -> Iterator[None]:
    """An epoll asked for nothing tells of hang-ups and errors alone, and can itself be waited for."""
    loop = asyncio.get_running_loop()
    try:
        ends = select.epoll()
    except AttributeError:  # no Linux: whoever writes next is told
        yield
        return
    with ends:
        try:
            ends.register(sys.stdout.fileno(), 0)
        except (OSError, ValueError):  # a file, or nothing at all: nobody reads along
            yield
            return
        loop.add_reader(ends.fileno(), closed.set)
        try:
            yield
        finally:
            loop.remove_reader(ends.fileno())
