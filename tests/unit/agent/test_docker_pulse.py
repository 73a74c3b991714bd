"""Whether an engine answers is asked once for everybody, and an old answer is no answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.driver import DriverUnavailableError
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
