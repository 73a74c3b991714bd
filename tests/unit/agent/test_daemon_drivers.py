"""Which drivers an agent that is told to choose by itself has, when an engine does not answer while it starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import daemon
from agent.config import load
from agent.daemon import Agent
from agent.driver import DriverInfo, DriverUnavailableError
from agent.drivers.docker import DockerDriver
from agent.drivers.fake import FakeDriver
from agent.registry import DRIVERS, DriverSettings
from agent.store import Store
from orchestrator.contract.errors import StartupError


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


async def test_drivers_are_built_with_what_the_operator_said(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    asked: list[DriverSettings] = []

    def build(settings: DriverSettings) -> FakeDriver:
        asked.append(settings)
        return FakeDriver()

    monkeypatch.setattr(daemon, "DRIVERS", {"docker": build})
    flags = {"pull_stall": "10m", "allow_cap": "NET_ADMIN", "allow_host_paths": True, "driver": "docker"}
    one = Agent(load({"data": store.directory, "peers": "127.0.0.1:7400", "insecure": True, **flags}))
    await one._drivers(store)
    (settings,) = asked
    assert settings.pull_stall_s == 600
    assert settings.allow_caps == {"NET_ADMIN"}
    assert settings.allow_host_paths
    driver = DRIVERS["docker"](settings)
    assert isinstance(driver, DockerDriver)
    assert driver._images._silence_s == 600
    assert driver._policy.capabilities == {"NET_ADMIN"}


async def test_an_engine_that_answered_here_before_is_waited_for(engines: dict[str, FakeDriver], store: Store) -> None:
    assert set(await agent(store)._drivers(store)) == {"docker", "process"}
    engines["docker"].set_available(False)
    assert set(await agent(store)._drivers(store)) == {"docker", "process"}, "its tasks may be running"


async def test_an_engine_that_never_answered_here_is_none(engines: dict[str, FakeDriver], store: Store) -> None:
    engines["docker"].set_available(False)
    assert set(await agent(store)._drivers(store)) == {"process"}
    engines["docker"].set_available(True)
    assert set(await agent(store)._drivers(store)) == {"docker", "process"}


class Bridged(FakeDriver):
    """With a bridge network, as the Docker driver."""

    def __init__(self) -> None:
        super().__init__()
        self.found: str | Exception = "172.30.0.1"

    async def gateway(self) -> str:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    ("flags", "published", "address"),
    [
        ({"address": "127.0.0.1"}, ("127.0.0.1",), "127.0.0.1"),
        ({"address": "10.0.0.5"}, ("0.0.0.0",), "10.0.0.5"),
        ({"address": "bridge"}, ("127.0.0.1", "bridge"), "172.30.0.1"),
        ({"address": "bridge", "publish_address": "10.0.0.5"}, ("10.0.0.5",), "172.30.0.1"),
    ],
)
async def test_where_ports_are_published_and_answer(
    monkeypatch: pytest.MonkeyPatch, store: Store, flags: dict[str, str], published: tuple[str, ...], address: str
) -> None:
    asked: list[DriverSettings] = []

    def build(settings: DriverSettings) -> Bridged:
        asked.append(settings)
        return Bridged()

    monkeypatch.setattr(daemon, "DRIVERS", {"docker": build})
    given = {"data": store.directory, "peers": "127.0.0.1:7400", "insecure": True, "driver": "docker", **flags}
    one = Agent(load(given))
    drivers = await one._drivers(store)
    assert asked[0].publish == published
    assert await one._address(drivers, store) == address


async def test_the_bridges_address_is_remembered_while_the_engine_is_down(store: Store) -> None:
    one = Agent(load({"data": store.directory, "peers": "127.0.0.1:7400", "insecure": True, "address": "bridge"}))
    driver = Bridged()
    driver.found = DriverUnavailableError("it does not answer")
    with pytest.raises(StartupError, match="bridge network; is it up"):
        await one._address({"docker": driver}, store)
    with pytest.raises(StartupError, match="bridge network"):
        await one._address({"process": FakeDriver()}, store)
    driver.found = "172.30.0.1"
    assert await one._address({"docker": driver}, store) == "172.30.0.1"
    driver.found = DriverUnavailableError("it does not answer")
    assert await one._address({"docker": driver}, store) == "172.30.0.1"
    driver.found = ""  # it has none any more
    with pytest.raises(StartupError, match="bridge network"):
        await one._address({"docker": driver}, store)


def test_a_driver_that_is_not_available_resizes_nothing() -> None:
    assert daemon.resizes(DriverInfo(available=True))
    for info in (None, DriverInfo(available=False), DriverInfo(available=True, resizes=False)):
        assert not daemon.resizes(info)
