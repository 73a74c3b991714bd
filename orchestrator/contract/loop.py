"""The event loop of a process that speaks gRPC: uvloop where it is installed, and deaf to wake-ups that say nothing.

Owns: making and running that loop. Leaves to others: everything on it. The rule: whatever gRPC's thread has told by the
time that the loop looks is taken at once.

gRPC's asyncio layer has a thread that queues each event and writes one byte into a socket; the loop's reader takes one
byte and all events. So a burst leaves bytes that wake the loop for nothing, once in each of its turns; and when the
socket is full (on Linux that is at 278 of them) the thread waits until three quarters have been read, one byte a turn.
Nothing that comes by gRPC is heard meanwhile: not the other peers, no heartbeat, no call.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import termios
from array import array
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_GRPC_QUEUE = "PollerCompletionQueue"
"""The class in ``grpc._cython.cygrpc`` whose method the reader is."""


def run_on_loop(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on a loop of ``new_loop``."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def new_loop() -> asyncio.AbstractEventLoop:
    """A new loop, uvloop's where it is installed."""
    base: Any
    try:
        import uvloop

        base = uvloop.Loop
    except ImportError:
        base = asyncio.SelectorEventLoop
    made: asyncio.AbstractEventLoop = type("Loop", (_TakesAllWakeUps, base), {})()
    return made


class _TakesAllWakeUps:
    """Mixed into a loop: gRPC's reader is called with one byte left in its socket, however many there were."""

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        method = getattr(callback, "func", callback)  # gRPC's is a partial
        if isinstance(fd, socket.socket) and type(getattr(method, "__self__", None)).__name__ == _GRPC_QUEUE:
            callback = _taking_all(fd, callback)
        super().add_reader(fd, callback, *args)  # type: ignore[misc]


def _taking_all(wakes: socket.socket, handle: Callable[..., object]) -> Callable[..., None]:
    """An event is queued before its byte is written, so each byte that is there tells of one that ``handle``, which
    reads the last byte itself, will find."""
    waiting = array("i", [0])

    def handle_all(*args: Any) -> None:
        fcntl.ioctl(wakes, termios.FIONREAD, waiting)
        if waiting[0] > 1:
            wakes.recv(waiting[0] - 1)
        handle(*args)

    return handle_all
