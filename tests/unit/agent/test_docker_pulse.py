"""Whether an engine answers is asked once for everybody, and an old answer is no answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from agent import answering
from agent.answering import until_silent
from agent.driver import Driver, DriverUnavailableError
from agent.drivers import docker_http
from agent.drivers.docker_http import EngineError, Pulse


class Engine:
    """What is asked of it, and what it says: nothing while ``silent``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.silent = asyncio.Event()
        self.says: Exception | None = None
        monkeypatch.setattr(docker_http, "call", self._call)

    async def _call(self, method: str, path: str) -> Any:
        assert (method, path) == ("GET", "/_ping")
        self.asked += 1
        await self.silent.wait()
        if self.says is not None:
            raise self.says
        return self

    async def close(self) -> None: ...


async def test_many_who_ask_at_once_cost_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, pulse = Engine(monkeypatch), Pulse()
    waiting = [asyncio.ensure_future(pulse()) for _ in range(10)]
    gave_up = waiting.pop()
    await asyncio.sleep(0)
    gave_up.cancel()  # which takes the question from nobody else
    engine.silent.set()
    await asyncio.gather(*waiting)
    await pulse()
    assert engine.asked == 1, "it has just answered"
    monkeypatch.setattr(docker_http, "FRESH_S", 0.0)
    await pulse()
    assert engine.asked == 2


async def test_no_is_an_answer_and_nothing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, pulse = Engine(monkeypatch), Pulse()
    engine.silent.set()
    engine.says = EngineError(500, "shutting down")
    await pulse()
    monkeypatch.setattr(docker_http, "FRESH_S", 0.0)
    engine.says = DriverUnavailableError("the Docker engine does not answer")
    for _ in range(2):
        with pytest.raises(DriverUnavailableError):
            await pulse()
    assert engine.asked == 3, "asked anew each time"


class Said:
    async def close(self) -> None: ...


class Pulsing:
    """A driver of which only the pulse counts."""

    name = "docker"

    def __init__(self) -> None:
        self.answer = Pulse()


@pytest.mark.parametrize("lost", [1, 2])
async def test_one_lost_answer_is_one_silence(monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    assert docker_http.PULSE_S < answering.LOOK_S, "over before it is asked again"
    monkeypatch.setattr(answering, "LOOK_S", 0.01)
    monkeypatch.setattr(docker_http, "FRESH_S", 0.0)
    monkeypatch.setattr(docker_http, "PULSE_S", 0.05)
    asked, enough = 0, asyncio.Event()

    async def call(_method: str, _path: str) -> Any:
        nonlocal asked
        asked += 1
        if asked <= lost:
            await asyncio.Event().wait()
        if asked == 5:
            enough.set()
        return Said()

    monkeypatch.setattr(docker_http, "call", call)
    watching = asyncio.ensure_future(until_silent(cast(Driver, Pulsing())))
    heard = asyncio.ensure_future(enough.wait())
    await asyncio.wait({watching, heard}, return_when=asyncio.FIRST_COMPLETED)
    assert watching.done() == (lost == 2)
    assert (asked == 2) == (lost == 2)
    for one in (watching, heard):
        one.cancel()
    await asyncio.gather(watching, heard, return_exceptions=True)


async def test_an_error_without_its_words_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 20\r\n\r\n")
        await over.wait()
        writer.close()

    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine")
    server = await asyncio.start_unix_server(serve, tmp_path / "engine")
    try:
        async with asyncio.timeout(20):
            with pytest.raises(DriverUnavailableError, match="does not answer"):
                await docker_http.call("GET", "/_ping", patience_s=0.05)
    finally:
        over.set()
        server.close()
