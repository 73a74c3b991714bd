"""Which drivers an agent that is told to choose by itself has, when an engine does not answer while it starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import daemon
from agent.config import load
from agent.daemon import Agent
from agent.drivers.fake import FakeDriver
from agent.store import Store


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeDriver]:
    """What stands in for Docker and for processes."""
    made = {"docker": FakeDriver(), "process": FakeDriver()}
    monkeypatch.setattr(daemon, "DRIVERS", {name: lambda _, name=name: made[name] for name in made})
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    one = Store(tmp_path)
    yield one
    one.close()


def agent(store: Store) -> Agent:
    return Agent(load({"data": store.directory, "peers": "127.0.0.1:7400", "insecure": True}))


async def test_an_engine_that_answered_here_before_is_waited_for(engines: dict[str, FakeDriver], store: Store) -> None:
    assert set(await agent(store)._drivers("127.0.0.1", store)) == {"docker", "process"}
    engines["docker"].set_available(False)
    assert set(await agent(store)._drivers("127.0.0.1", store)) == {"docker", "process"}, "its tasks may be running"


async def test_an_engine_that_never_answered_here_is_none(engines: dict[str, FakeDriver], store: Store) -> None:
    engines["docker"].set_available(False)
    assert set(await agent(store)._drivers("127.0.0.1", store)) == {"process"}
    engines["docker"].set_available(True)
    assert set(await agent(store)._drivers("127.0.0.1", store)) == {"docker", "process"}
