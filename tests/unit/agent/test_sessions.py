"""The agent's end of sessions: frames of the fake driver's commands, and every way in which they end."""

from __future__ import annotations

import asyncio
import contextlib
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent import answering
from agent.driver import Exit
from agent.drivers.fake import FakeDriver
from agent.drivers.fake_hands import FLOOD
from agent.hands import HandsError
from agent.metrics import Metrics
from agent.runspec import NodeFacts
from agent.sessions import SessionServer
from agent.store import Store
from agent.supervisor import Supervisor
from orchestrator.contract.v1.session_pb2 import AgentFrame, ClientFrame, SessionCall, SessionEnd, SessionOpen
from tests.integration.agent_fakes import assignment_of, key_of, task_of, until


class Peer:
    """The peer's end of ``JoinSession``: what it sends, and what it got and when it took it."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[ClientFrame | None] = asyncio.Queue()
        self.got: list[AgentFrame] = []
        self.takes = asyncio.Semaphore(1 << 20)
        self.done = False
        self.cancelled = False

    def JoinSession(self) -> Peer:  # noqa: N802
        return self

    async def write(self, frame: AgentFrame) -> None:
        await self.takes.acquire()
        self.got.append(frame)

    async def read(self) -> Any:
        frame = await self.frames.get()
        return object() if frame is None else frame

    async def done_writing(self) -> None:
        self.done = True

    def cancel(self) -> None:
        self.cancelled = True

    @property
    def end(self) -> SessionEnd:
        assert self.got[-1].WhichOneof("frame") == "end", self.got[-1]
        return self.got[-1].end

    @property
    def data(self) -> bytes:
        return b"".join(frame.data for frame in self.got)


class World:
    def __init__(self, directory: Path) -> None:
        self.driver = FakeDriver()
        self.store = Store(directory)
        self.supervisor = Supervisor(
            store=self.store,
            drivers={"fake": self.driver},
            node=NodeFacts(node_id=self.store.node_id, name="n1", address="127.0.0.1", api=""),
            metrics=Metrics(),
            report=lambda _observation: None,
        )
        self.server = SessionServer(self.supervisor, node_id=self.store.node_id, node_name="n1", most=2)
        self.key = key_of("web")
        self.name = ""

    async def start(self) -> None:
        await self.supervisor.start()
        task = task_of("run", driver="fake")
        await self.supervisor.apply(index=1, full=True, assignments=[assignment_of(self.key, task)])
        await until(lambda: len(self.driver.starts) == 1)
        self.name = self.driver.starts[0]

    def call(self, wanted: SessionOpen) -> SessionCall:
        where = self.key.id
        return SessionCall(
            session_id="s1",
            id={"namespace": where.namespace, "job": where.job, "group": where.group, "ordinal": where.ordinal},
            job_uid=self.key.job_uid,
            attempt=self.key.attempt,
            open=wanted,
        )

    def join(self, peer: Peer, wanted: SessionOpen) -> asyncio.Task[None]:
        return asyncio.ensure_future(self.server.join(peer, self.call(wanted)))

    async def joined(self, wanted: SessionOpen, *frames: ClientFrame | None) -> Peer:
        """A whole session."""
        peer = Peer()
        for frame in (*frames, None):
            peer.frames.put_nowait(frame)
        async with asyncio.timeout(5):
            await self.join(peer, wanted)
        assert peer.got[0] == AgentFrame(join="s1")
        assert peer.cancelled
        return peer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.start()
    yield world
    await world.supervisor.close()
    world.store.close()


def command(*argv: str, **more: Any) -> SessionOpen:
    return SessionOpen(exec={"command": list(argv), **more})


async def test_a_command_is_given_input_and_says_its_output_and_exit_code(world: World) -> None:
    peer = await world.joined(command("cat", stdin=True), ClientFrame(data=b"hello"), ClientFrame(end_of_data=True))
    started = peer.got[1].started
    assert (started.node, started.id.job, started.task, started.attempt) == ("n1", "web", "main", 1)
    assert peer.data == b"hello"
    assert peer.end == SessionEnd(exit_code=0)
    assert (await world.joined(command("exit", "7"))).end == SessionEnd(exit_code=7)
    assert all(entered.closed for entered in world.driver.hands(world.name).entered)
    assert world.server.count == 0


async def test_sizes_and_signals_reach_the_command(world: World) -> None:
    peer = Peer()
    running = world.join(peer, command("size", tty=True))
    peer.frames.put_nowait(ClientFrame(size={"rows": 40, "columns": 100}))
    await until(lambda: peer.data == b"40x100\n")
    peer.frames.put_nowait(ClientFrame(signal="SIGINT"))
    peer.frames.put_nowait(None)
    await running
    assert peer.end.exit_code == 130


async def test_a_peer_that_takes_nothing_makes_the_command_wait(world: World) -> None:
    peer = Peer()
    peer.takes = asyncio.Semaphore(5)
    running = world.join(peer, command("flood"))
    await until(lambda: len(peer.got) == 5)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(peer.data) == 3 * len(FLOOD), "join, start and three pieces: no more was read from the command"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert world.driver.hands(world.name).entered[0].closed


async def test_a_command_that_reads_nothing_does_not_hold_up_its_end(world: World) -> None:
    peer = Peer()
    running = world.join(peer, command("sleep", stdin=True))
    for _ in range(50):
        peer.frames.put_nowait(ClientFrame(data=b"never read"))
    await until(lambda: bool(world.driver.hands(world.name).entered))
    for _ in range(50):
        await asyncio.sleep(0)
    assert peer.frames.qsize() >= 47, "no more is fetched than one frame ahead of what it takes"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert world.driver.hands(world.name).entered[0].closed
    assert world.server.count == 0


async def test_the_end_of_the_task_ends_the_command_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.sessions.DRAIN_S", 0.01)
    peer = Peer()
    running = world.join(peer, command("sleep"))
    await until(lambda: bool(world.driver.hands(world.name).entered))
    world.driver.end(world.name, Exit(code=137, signal=9))
    await until(lambda: peer.got[-1].HasField("end"))
    assert peer.end.exit_code == 137
    assert peer.end.error_reason == "TASK_ENDED"
    assert "killed by signal 9" in peer.end.error
    peer.frames.put_nowait(None)
    await running


@pytest.mark.parametrize(
    ("wanted", "reason", "said"),
    [
        (command(), "INVALID", "no command"),
        (command("x" * 200_000), "INVALID", "longer than"),
        (command("nosuch"), "INVALID", "executable file not found"),
        (SessionOpen(task="other", exec={"command": ["x"]}), "NOT_FOUND", "no task 'other'; it has main"),
        (SessionOpen(copy_out={"path": "/x"}), "NOT_FOUND", "there is no /x"),
        (SessionOpen(copy_in={"path": "/x", "name": "../x"}), "INVALID", "needs a path"),
        (SessionOpen(connect={"port": 70_000}), "INVALID", "70000 is no port"),
        (SessionOpen(connect={"label": "web"}), "INVALID", "no port 'web'"),
        (SessionOpen(), "UNSUPPORTED", "update it"),
    ],
)
async def test_what_cannot_be_done_ends_with_its_reason(
    world: World, wanted: SessionOpen, reason: str, said: str
) -> None:
    end = (await world.joined(wanted)).end
    assert end.error_reason == reason
    assert said in end.error


async def test_nothing_is_done_with_what_does_not_run_but_its_files_can_be_had(world: World) -> None:
    world.driver.hands(world.name).files["/a/b"] = b"kept"
    world.driver.end(world.name, Exit(code=3))
    peer = await world.joined(command("cat"))
    assert peer.end.error_reason == "NOT_RUNNING"
    peer = await world.joined(SessionOpen(copy_out={"path": "/a/b"}))
    assert peer.got[1].started.name == "b"
    with tarfile.open(fileobj=io.BytesIO(peer.data)) as tar:
        content = tar.extractfile("b")
        assert content is not None
        assert content.read() == b"kept"


async def test_a_copy_is_in_place_when_it_ends_and_one_that_breaks_off_says_so(world: World) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("f")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    wanted = SessionOpen(copy_in={"path": "/", "name": "f"})
    frames = [ClientFrame(data=out.getvalue()), ClientFrame(end_of_data=True)]
    peer = await world.joined(wanted, *frames)
    assert peer.end == SessionEnd()
    assert world.driver.hands(world.name).files["/f"] == b"abc"
    peer = await world.joined(wanted, frames[0])
    assert peer.end.error_reason == "SESSION_LOST"


async def test_a_connection_carries_both_ways_until_both_have_ended(world: World) -> None:
    peer = await world.joined(
        SessionOpen(connect={"port": 80}),
        ClientFrame(data=b"ping"),
        ClientFrame(end_of_data=True),
    )
    assert [frame.WhichOneof("frame") for frame in peer.got] == ["join", "started", "data", "end_of_data", "end"]
    assert peer.data == b"80:ping"


async def test_the_ways_to_a_port_may_take_longer_than_an_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "ANSWER_S", 0.01)

    async def connect(_name: str, _port: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):  # a way that swallows what is sent
                await asyncio.Event().wait()
        raise HandsError("nothing answers", reason="NO_LISTENER")

    monkeypatch.setattr(world.driver, "connect", connect)
    end = (await world.joined(SessionOpen(connect={"port": 80}))).end
    assert (end.error, end.error_reason) == ("nothing answers", "NO_LISTENER")


async def test_a_node_takes_so_many_sessions_and_no_more(world: World) -> None:
    peers = [Peer(), Peer()]
    running = [world.join(peer, command("cat")) for peer in peers]
    await until(lambda: len(world.driver.hands(world.name).entered) == 2)
    end = (await world.joined(command("cat"))).end
    assert end.error_reason == "SESSIONS_FULL"
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert world.server.count == 0
    assert (await world.joined(command("exit", "0"))).end == SessionEnd()


async def test_an_engine_that_does_not_answer_is_said(world: World) -> None:
    world.driver.set_available(False)
    end = (await world.joined(command("cat"))).end
    assert "engine is down" in end.error


def test_names_of_runs_are_what_drivers_know(world: World) -> None:
    run = world.supervisor.run_of(world.key, "")
    assert not isinstance(run, str)
    assert run.name == world.name
