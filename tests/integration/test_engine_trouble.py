"""The Docker driver on an engine of the tests' own that is killed, hung, full, and changed behind the agent's back."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.driver import DriverUnavailableError, StartError
from agent.drivers import docker, docker_images
from agent.drivers.docker import DockerDriver
from orchestrator.ops.drill_tools import MissingError
from orchestrator.ops.engine import Engine
from orchestrator.ops.images import OWN, find_or_make
from orchestrator.ops.own_engine import OwnEngine
from tests.integration.agent_fakes import until
from tests.integration.test_driver_contract import Kit

pytestmark = pytest.mark.docker

DISK_MIB = 48


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    own = OwnEngine(tmp_path_factory.mktemp("e") / "engine", data_mib=DISK_MIB)

    async def start() -> None:
        await own.start()
        async with Engine(own.host) as engine:
            await find_or_make(engine)

    try:
        asyncio.run(start())
    except MissingError as error:
        pytest.skip(error.message)
    yield own
    asyncio.run(own.stop())
    assert not own.root.exists()
    assert list(Path("/sys/fs/cgroup").glob(f"**/{own.group.strip('/')}")) == []


@pytest.fixture
async def kit(engine: OwnEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kit]:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    one = Kit(DockerDriver(), os.urandom(8).hex())
    yield one
    for instance in await one.driver.list(one.cluster):
        await one.driver.remove(instance.name)
    await one.driver.close()


def command_line(engine: OwnEngine, *arguments: str) -> str:
    argv = ["docker", "-H", engine.host, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


async def test_a_killed_engine_is_unavailable_and_its_containers_go_on(engine: OwnEngine, kit: Kit) -> None:
    before = await kit.start(kit.sleeper())
    opened = asyncio.Event()

    async def listen() -> None:
        async for name in kit.driver.changes():
            assert name == "", "anything may have changed before it listened"
            opened.set()

    listening = asyncio.create_task(listen())
    await asyncio.wait_for(opened.wait(), 10)
    await engine.kill()
    with pytest.raises(DriverUnavailableError):
        await asyncio.wait_for(listening, 10)
    for call in (kit.driver.list(kit.cluster), kit.driver.inspect(before.name), kit.driver.start(kit.sleeper())):
        with pytest.raises(DriverUnavailableError):
            await call
    assert not (await kit.driver.probe()).available
    await engine.start_again()
    info = await kit.driver.probe()
    assert (info.available, info.keeps_runs) == (True, True)
    assert await kit.driver.list(kit.cluster) == (before,)
    assert await kit.driver.start(kit.sleeper()) == before, "asked again, it starts nothing"


async def test_an_engine_that_hangs_answers_every_call_with_a_deadline(
    engine: OwnEngine, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await kit.start(kit.sleeper())
    for constant in ("CALL_S", "PROBE_S"):
        monkeypatch.setattr(docker, constant, 0.3)
    monkeypatch.setattr(docker_images, "ASK_S", 0.3)
    driver = DockerDriver()
    await driver.probe()  # connected before it hangs
    name, spec = running.name, kit.sleeper(restarts=1)
    engine.pause()
    try:

        async def said() -> None:
            async for _ in driver.logs(name, follow=True, tail_lines=0, offset=0):
                pass

        async def told() -> None:
            async for _ in driver.changes():
                pass

        calls: list[Awaitable[object]] = [
            driver.list(kit.cluster),
            driver.inspect(name),
            driver.prepare(spec),
            driver.start(spec),
            driver.remove(name),
            driver.stop(name, signal="SIGTERM", timeout_ms=0),
            driver.images(),
            driver.resize(spec),
            said(),
            told(),
        ]
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
        assert [type(answer) for answer in answers] == [DriverUnavailableError] * len(calls)
        assert not (await asyncio.wait_for(driver.probe(), 10)).available
    finally:
        engine.resume()
        await driver.close()

    async def removed() -> bool:
        return await kit.driver.inspect(name) is None

    # What had been asked is carried out late: so whoever repeats a call must find what the first one did.
    await until(removed, "the late removal")
    again = await kit.start(spec)
    assert again.running
    assert [one.name for one in await kit.driver.list(kit.cluster) if one.running] == [spec.name]


async def test_a_name_that_somebody_else_has_is_a_reason(engine: OwnEngine, kit: Kit) -> None:
    spec = kit.sleeper()
    command_line(engine, "create", "--name", spec.name, OWN, "true")
    try:
        with pytest.raises(StartError, match=f"the container name {spec.name} is taken") as refused:
            await kit.start(spec)
        assert not refused.value.permanent
    finally:
        command_line(engine, "rm", spec.name)
    assert (await kit.start(spec)).running


async def test_an_image_that_went_before_its_start_is_a_reason_and_the_leader_may_decide(
    engine: OwnEngine, kit: Kit
) -> None:
    command_line(engine, "tag", OWN, "gone:1")
    spec = kit.sleeper()
    spec = replace(spec, task=replace(spec.task, image="gone:1"))
    await kit.driver.prepare(spec)
    command_line(engine, "rmi", "gone:1")
    with pytest.raises(StartError, match="image gone:1 not found") as refused:
        await kit.driver.start(spec)
    assert refused.value.permanent


async def test_a_full_disk_is_a_reason_and_no_more_than_that(engine: OwnEngine, kit: Kit) -> None:
    filler = replace(kit.sleeper(), run=replace(kit.sleeper().run, task="filler"))
    filler = replace(filler, task=replace(filler.task, command=("sh", "-c", "cat /dev/zero >/fill")))
    await kit.start(filler)

    await kit.ended(filler.name)
    spec = kit.sleeper()
    with pytest.raises(StartError, match="the disk of this node's Docker engine is full") as refused:
        await kit.start(spec)
    assert not refused.value.permanent
    assert await kit.driver.inspect(spec.name) is None, "nothing is left of it"
    await kit.driver.remove(filler.name)
    assert (await kit.start(spec)).running


@pytest.mark.parametrize("way", ["stop", "kill", "rm"])
async def test_what_is_done_behind_its_back_is_told_and_found(engine: OwnEngine, kit: Kit, way: str) -> None:
    spec = kit.sleeper()
    await kit.start(spec)
    changes = kit.driver.changes()
    assert await asyncio.wait_for(anext(changes), 10) == ""
    arguments = {"stop": ("stop", "-t", "0"), "kill": ("kill",), "rm": ("rm", "-f")}[way]
    command_line(engine, *arguments, spec.name)
    assert await asyncio.wait_for(anext(changes), 10) == spec.name

    async def over() -> bool:
        found = await kit.driver.inspect(spec.name)
        return found is None if way == "rm" else found is not None and found.exit is not None

    await until(over, "its end to be seen")


async def test_without_live_restore_the_next_engine_ends_what_runs_and_says_that_it_does(tmp_path: Path) -> None:
    own = OwnEngine(tmp_path / "engine", live_restore=False)
    try:
        await own.start()
    except MissingError as error:
        pytest.skip(error.message)
    try:
        await _ended_by_the_next(own)
    finally:
        await own.stop()


async def _ended_by_the_next(own: OwnEngine) -> None:
    async with Engine(own.host) as engine:
        await find_or_make(engine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", own.host)
        kit = Kit(DockerDriver(), "0" * 16)
        await kit.start(kit.sleeper())
        assert not (await kit.driver.probe()).keeps_runs
        await own.kill()
        await own.start_again()
        (found,) = await kit.driver.list(kit.cluster)
        assert found.exit is not None and found.exit.code == 143
        await kit.driver.close()
