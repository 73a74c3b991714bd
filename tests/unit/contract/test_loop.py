"""The loop takes all of gRPC's wake-ups at once, and knows gRPC's reader when it sees it."""

from __future__ import annotations

import array
import asyncio
import fcntl
import functools
import socket
import subprocess
import sys
import termios
from typing import Any

import pytest

from orchestrator.contract import loop as own


class PollerCompletionQueue:
    """As gRPC's: a thread would queue an event and write a byte; the reader takes one byte and all events."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.read, self.write = socket.socketpair()
        self.events: list[int] = []
        self.taken: list[list[int]] = []
        self.done = loop.create_future()
        loop.add_reader(self.read, functools.partial(self._handle_events, loop))

    def _handle_events(self, loop: asyncio.AbstractEventLoop) -> None:
        self.read.recv(1)
        events, self.events = self.events, []
        self.taken.append(events)
        if events and events[-1] < 0:
            self.done.set_result(None)

    def tell(self, event: int) -> None:
        self.events.append(event)
        self.write.send(b"1")

    def waiting(self) -> int:
        found = array.array("i", [0])
        fcntl.ioctl(self.read, termios.FIONREAD, found)
        return found[0]


def made_loop(monkeypatch: pytest.MonkeyPatch, with_uvloop: bool) -> asyncio.AbstractEventLoop:
    if not with_uvloop:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    return own.new_loop()


@pytest.mark.parametrize("with_uvloop", [True, False])
def test_a_burst_of_events_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch, with_uvloop: bool) -> None:
    loop = made_loop(monkeypatch, with_uvloop)

    async def burst() -> PollerCompletionQueue:
        queue = PollerCompletionQueue(loop)
        for event in range(1, 200):
            queue.tell(event)
        queue.tell(-1)
        await queue.done
        assert queue.waiting() == 0, "bytes are left that wake the loop for nothing, and fill the socket in the end"
        queue.done = loop.create_future()
        queue.tell(-2)  # one byte alone is gRPC's to read
        await queue.done
        loop.remove_reader(queue.read)
        return queue

    try:
        queue = loop.run_until_complete(burst())
    finally:
        loop.close()
    assert queue.taken == [[*range(1, 200), -1], [-2]]
    queue.read.close()
    queue.write.close()


@pytest.mark.parametrize("with_uvloop", [True, False])
def test_other_readers_are_left_alone(monkeypatch: pytest.MonkeyPatch, with_uvloop: bool) -> None:
    loop = made_loop(monkeypatch, with_uvloop)
    near, far = socket.socketpair()

    async def read() -> bytes:
        found: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(near, lambda: found.set_result(near.recv(100)))
        far.send(b"all of it")
        got = await found
        loop.remove_reader(near)
        return got

    try:
        assert loop.run_until_complete(read()) == b"all of it"
    finally:
        loop.close()
        near.close()
        far.close()


REAL = """
import asyncio
from orchestrator.contract import loop as own
seen = []
plain = own._taking_all
def taking_all(*args):
    seen.append(args)
    return plain(*args)
own._taking_all = taking_all
async def main():
    import grpc.aio
    async with grpc.aio.insecure_channel("127.0.0.1:1"):
        pass
own.run_on_loop(main())
print(len(seen))
"""


def test_the_reader_of_the_installed_grpc_is_known() -> None:
    """If not, it goes by another name in this version: see ``contract.loop``."""
    said = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.split() == ["1"], said.stderr


def test_what_ran_is_returned() -> None:
    async def main() -> Any:
        return type(asyncio.get_running_loop()).__mro__[1].__name__

    assert own.run_on_loop(main()) == "_TakesAllWakeUps"
