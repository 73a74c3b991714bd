"""The Docker driver on an engine of the tests' own that is killed, hung, full, and changed behind the agent's back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import answering
from agent.driver import DriverUnavailableError, StartError
from agent.drivers import docker, docker_calls, docker_hands, docker_images, docker_usage
from agent.drivers.docker import DockerDriver
from agent.metrics import Metrics
from agent.runspec import NodeFacts
from agent.sessions import SessionServer
from agent.store import Store
from agent.supervisor import Supervisor
from agent.usage import Usage
from orchestrator.contract.errors import PreconditionError, RaftsmanError
from orchestrator.contract.model import AllocState, GroupSpec, JobSpec
from orchestrator.contract.v1.session_pb2 import SessionCall, SessionEnd, SessionOpen
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.drill_tools import MissingError
from orchestrator.ops.engine import Engine
from orchestrator.ops.images import OWN, find_or_make
from orchestrator.ops.own_engine import OwnEngine
from orchestrator.ops.processes import last_lines
from tests.integration.agent_fakes import assignment_of, key_of, task_of, until
from tests.integration.test_driver_contract import Kit
from tests.unit.agent.test_sessions import Peer

pytestmark = pytest.mark.docker

DISK_MIB = 48


async def start_with_image(own: OwnEngine) -> None:
    await own.start()
    async with Engine(own.host) as engine:
        await find_or_make(engine)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    own = OwnEngine(tmp_path_factory.mktemp("e") / "engine", data_mib=DISK_MIB)

    try:
        asyncio.run(start_with_image(own))
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
    monkeypatch.setattr(docker_calls, "CALL_S", 0.3)
    monkeypatch.setattr(docker, "PROBE_S", 0.3)
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


class People:
    """An agent's parts for people who look into a task, on the engine of the tests; what they do is heard as frames."""

    def __init__(self, driver: DockerDriver, directory: Path, cluster: str) -> None:
        self.store = Store(directory)
        self.store.join(cluster)
        self.driver = driver
        node = NodeFacts(node_id=self.store.node_id, name="n7", address="127.0.0.1", api="")
        self.supervisor = Supervisor(
            store=self.store,
            drivers={"docker": driver},
            node=node,
            metrics=Metrics(),
            report=lambda _observation: None,
        )
        self.sessions = SessionServer(self.supervisor, node_id=self.store.node_id, node_name="n7")
        self.usage = Usage(self.supervisor, data=directory)
        self.key = key_of("looked-at")
        self.count = 0

    async def start(self) -> None:
        await self.supervisor.start()
        task = task_of("sh", "-c", "echo begun; exec sleep 1000", image=OWN)
        await self.supervisor.apply(index=1, full=True, assignments=[assignment_of(self.key, task)])
        await until(lambda: self.supervisor.running_count() == 1, "the container")

    def join(self, wanted: SessionOpen) -> tuple[Peer, asyncio.Task[None]]:
        where, peer = self.key.id, Peer()
        self.count += 1
        call = SessionCall(
            session_id=f"session-{self.count}-{self.store.node_id}",
            id={"namespace": where.namespace, "job": where.job, "group": where.group, "ordinal": where.ordinal},
            job_uid=self.key.job_uid,
            attempt=self.key.attempt,
            open=wanted,
        )
        return peer, asyncio.ensure_future(self.sessions.join(peer, call))

    async def end_of(self, wanted: SessionOpen) -> SessionEnd:
        peer, joined = self.join(wanted)
        peer.frames.put_nowait(None)
        await asyncio.wait_for(joined, 30)
        return peer.end

    async def log(self, *, follow: bool) -> bytes:
        chunks = self.supervisor.logs(self.key, "", previous=False, follow=follow, tail_lines=0, offset=0)
        return b"".join([chunk.data async for chunk in chunks])


@pytest.fixture
async def people(kit: Kit, tmp_path: Path) -> AsyncIterator[People]:
    assert isinstance(kit.driver, DockerDriver)
    made = People(kit.driver, tmp_path / "agent", kit.cluster)
    await made.start()
    yield made
    for task in made.supervisor._background:  # what follows is the kit's to remove
        task.cancel()
    made.store.close()


async def test_people_hear_of_an_engine_that_hangs_whatever_they_want(
    engine: OwnEngine, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await people.end_of(SessionOpen(exec={"command": ["true"]}))).exit_code == 0
    assert await people.log(follow=False) == b"begun\n"
    (known,) = (await people.usage()).tasks
    assert (known.why, known.source, known.memory_bytes > 0) == ("", "cgroup", True)
    monkeypatch.setattr(answering, "ANSWER_S", 0.5)
    monkeypatch.setattr(answering, "LOOK_S", 0.5)
    monkeypatch.setattr(docker_hands, "CLOSE_S", 0.5)
    inside, joined = people.join(SessionOpen(exec={"command": ["sh", "-c", "echo in; sleep 86397"]}))
    await until(lambda: inside.data == b"in\n", "the command")
    following = asyncio.ensure_future(people.log(follow=True))
    (container,) = await people.driver.list(people.store.cluster_id)
    sleeps = [pid for pid in pids_of(container.runtime_id) if b"86397" in command_of(pid)]
    assert sleeps
    engine.pause()
    try:
        for wanted in (
            SessionOpen(exec={"command": ["true"]}),
            SessionOpen(copy_out={"path": "/etc"}),
            SessionOpen(copy_in={"path": "/tmp", "name": "x"}),
            SessionOpen(connect={"port": 80}),
        ):
            end = await people.end_of(wanted)
            assert end.error.startswith("node n7: the Docker engine does not answer"), end
            assert end.error_reason == "FAILED_PRECONDITION"
        await until(lambda: inside.got[-1].HasField("end"), "the end of the session that had begun")
        assert inside.end.error.startswith("node n7: the Docker engine does not answer")
        inside.frames.put_nowait(None)
        await asyncio.wait_for(joined, 10)
        await until(lambda: not any(command_of(pid) for pid in sleeps), "the end of the command without its engine")
        for output in (following, people.log(follow=False)):
            with pytest.raises(DriverUnavailableError, match="the Docker engine does not answer"):
                await asyncio.wait_for(output, 10)
        monkeypatch.setattr("agent.usage.FRESH_S", 0.0)
        (known,) = (await people.usage()).tasks
        assert (known.why, known.source, known.memory_bytes > 0) == ("", "cgroup", True)
        people.driver._measured = docker_usage.Measured()  # as of an agent that never knew where to look
        usage = await asyncio.wait_for(Usage(people.supervisor, data=people.store.directory)(), 2.0)
        assert usage.memory_total_bytes > 0
        (unknown,) = usage.tasks
        assert (unknown.why, unknown.source) == ("the Docker engine does not answer (no word for 1.2 s)", "none")
    finally:
        engine.resume()

    async def works() -> bool:
        return (await people.end_of(SessionOpen(exec={"command": ["true"]}))).exit_code == 0

    await until(works, "a command as before")
    assert people.supervisor.running_count() == 1, "nothing of it touched the container"


@pytest.mark.cluster
async def test_a_client_hears_whose_engine_hangs_and_everything_else_goes_on(
    engine: OwnEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    async with LocalCluster(peers=1, agents=1) as cluster:
        client = cluster.client
        box, beside = (
            JobSpec(name=name, groups=(GroupSpec(name="main", tasks=(task_of("sleep", "1000", image=image),)),))
            for name, image in (("box", OWN), ("beside", ""))
        )
        await client.submit_many([box, beside])

        async def running() -> bool:
            found = (await client.list_allocations(live_only=True)).allocations
            return [one.state for one in found] == [AllocState.RUNNING] * 2

        await until(running, "both tasks")
        (node,) = (await client.list_nodes()).nodes
        told: list[RaftsmanError] = []

        async def read_log() -> None:
            async for _ in client.logs((await client.get_allocation("box/main/0")).allocation.id, follow=True):
                pass

        async def connect() -> None:
            async with client.port_forward("box", 80, told=told.append) as forward:
                reader, writer = await asyncio.open_connection("127.0.0.1", forward.port)
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
            raise told[0]

        engine.pause()
        try:
            calls: list[Awaitable[object]] = [
                client.run_in("box", ["true"]),
                client.copy_from("box", "/etc", tmp_path / "etc"),
                client.copy_to(Path(__file__), "box", "/tmp"),
                read_log(),
                connect(),
            ]
            said = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 60)
            for error in said:
                assert isinstance(error, PreconditionError), error
                assert error.message.startswith(f"node {node.spec.name}: the Docker engine does not answer"), error
            usage = await client.get_usage()
            assert (len(usage.nodes), usage.unknown) == (1, ())
            assert (await client.run_in("beside", ["true"])).exit_code == 0
        finally:
            engine.resume()

        async def entered() -> bool:
            try:
                return (await client.run_in("box", ["true"])).exit_code == 0
            except PreconditionError:
                return False

        await until(entered, "the engine's return")


async def test_what_only_the_engine_can_measure_is_asked_of_it(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.drivers.docker_processes.is_of", lambda *_arguments: False)  # it is somebody else's
    monkeypatch.setattr("agent.usage.FRESH_S", 0.0)
    for _ in range(2):
        (told,) = (await people.usage()).tasks
        assert (told.source, told.why, told.memory_bytes > 0) == ("engine", "", True)
    assert told.cpu_millis >= 0, "known from the second question on"


def pids_of(container_id: str) -> list[int]:
    """Of the processes of this machine that are in the container."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if container_id in (directory / "cgroup").read_text():
                found.append(int(directory.name))
    return found


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


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


async def test_what_is_started_again_behind_its_back_is_told(engine: OwnEngine, kit: Kit) -> None:
    changes = kit.driver.changes()
    assert await asyncio.wait_for(anext(changes), 10) == ""
    spec = kit.sleeper()
    await kit.start(spec)
    command_line(engine, "restart", "-t", "0", spec.name)
    for _ in ("its end", "its start"):  # and not of its first one, which was ours
        assert await asyncio.wait_for(anext(changes), 10) == spec.name
    found = await kit.driver.inspect(spec.name)
    assert found is not None and found.running

    command_line(engine, "kill", spec.name)
    assert await asyncio.wait_for(anext(changes), 10) == spec.name
    await changes.aclose()  # type: ignore[attr-defined]
    await kit.ended(spec.name)
    await kit.driver.list(kit.cluster)
    changes = kit.driver.changes()
    assert await asyncio.wait_for(anext(changes), 10) == "", "it listens anew, and knows what had ended"
    command_line(engine, "start", spec.name)
    assert await asyncio.wait_for(anext(changes), 10) == spec.name


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
        found = await kit.ended(found.name)  # on a busy machine the engine answers before it has seen the end
        assert found.exit is not None and found.exit.code == 143, last_lines(own.root / "dockerd.log", 30)
        await kit.driver.close()
