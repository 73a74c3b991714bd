"""Streams of an engine are read by threads: these end with whoever listened, whatever they are doing then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agent.drivers import docker_calls
from agent.drivers.docker_calls import Calls


class Endless:
    """As many items as anybody takes."""

    def __init__(self) -> None:
        self.given = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            self.given += 1
            yield self.given

    def close(self) -> None:
        pass


def test_a_thread_that_waits_for_a_slow_reader_ends_quietly_with_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    broken: list[Any] = []
    stream = Endless()
    monkeypatch.setattr(docker_calls, "connect", lambda timeout_s: stream)
    monkeypatch.setattr(threading, "excepthook", broken.append)
    readers: list[threading.Thread] = []

    async def main() -> None:
        source = Calls().stream(lambda api: api, first="open")
        assert await anext(source) == "open"
        readers.extend(one for one in threading.enumerate() if one.name == "docker-stream")
        seen = -1
        while seen != stream.given or seen < 64:  # until the queue is full and the thread waits
            seen = stream.given
            await asyncio.sleep(0.01)

    asyncio.run(main())  # which cancels what is still under way
    assert readers
    for reader in readers:
        reader.join(30)
        assert not reader.is_alive()
    assert broken == []
