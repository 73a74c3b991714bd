"""The relay between a client and an agent, and everything that may go away in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
import pytest

from orchestrator.api import sessions
from orchestrator.contract.errors import (
    InvalidError,
    NotFoundError,
    OverloadedError,
    PermissionError_,
    PreconditionError,
    RaftsmanError,
)
from orchestrator.contract.v1 import agent_pb2
from orchestrator.contract.v1.session_pb2 import AgentFrame, ClientFrame, SessionCall, SessionEnd, SessionOpen
from tests.unit.api.harness import Api, call
from tests.unit.api.test_logs import Agent

F = TypeVar("F")
EXEC = SessionOpen(id={"job": "web", "group": "main"}, exec={"command": ["cat"]})


@pytest.fixture
async def api() -> Api:
    api = Api()
    await api.register("a")
    await api.submit("web")
    assert await api.place() == 1
    return api


class Ends(Generic[F]):
    """One end of a stream: frames that a test says, read by the other side one by one."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[F | None] = asyncio.Queue()
        self.taken = 0

    def say(self, *frames: F | None) -> None:
        for frame in frames:
            self._frames.put_nowait(frame)

    async def read(self) -> AsyncIterator[F]:
        while (frame := await self._frames.get()) is not None:
            self.taken += 1
            yield frame


class Client:
    """A client's call of ``Control.Session``."""

    def __init__(self, api: Api, wanted: SessionOpen = EXEC, *, forwarded: bool = False) -> None:
        self.ups: Ends[ClientFrame] = Ends()
        self._answers = api.sessions.session(self.ups.read(), call(forwarded=forwarded))
        self.ups.say(ClientFrame(open=wanted))

    async def next(self) -> AgentFrame | None:
        async with asyncio.timeout(5):
            found: Any = await anext(self._answers, None)
            return found  # type: ignore[no-any-return]

    async def go(self) -> None:
        await self._answers.aclose()  # type: ignore[attr-defined]


class Joined:
    """The agent's call of ``Agents.JoinSession``."""

    def __init__(self, api: Api, session_id: str, identity: str = "agent:n1") -> None:
        self.ups: Ends[AgentFrame] = Ends()
        self._frames = api.sessions.join_session(self.ups.read(), call(identity))
        self.ups.say(AgentFrame(join=session_id))
        self._pending: asyncio.Future[Any] | None = asyncio.ensure_future(self._anext())  # it joins at once

    async def _anext(self) -> Any:
        return await anext(self._frames, None)

    async def next(self) -> ClientFrame | None:
        pending, self._pending = self._pending or asyncio.ensure_future(self._anext()), None
        async with asyncio.timeout(5):
            found: Any = await asyncio.shield(pending)
            return found  # type: ignore[no-any-return]


async def able(api: Api) -> Agent:
    """An agent that can be called to sessions, with its stream open."""
    agent = Agent.__new__(Agent)
    agent._ups = asyncio.Queue()
    agent._downs = api.hub.serve_logs(agent._read(), call("agent:n1"))
    agent.send(agent_pb2.LogsUp(hello={"node_id": "a", "sessions": True}))
    return agent


async def begun(
    api: Api, wanted: SessionOpen = EXEC
) -> tuple[Agent, Client, Joined, asyncio.Future[AgentFrame | None], SessionCall]:
    """A session of which both ends are there; the future is the client's first frame."""
    agent = await able(api)
    called = asyncio.ensure_future(agent.next())
    assert await api.hub.wait_for("a", 5)
    client = Client(api, wanted)
    first = asyncio.ensure_future(client.next())
    down = await called
    assert down is not None
    joined = Joined(api, down.session.session_id)
    return agent, client, joined, first, down.session


async def test_frames_go_both_ways_and_the_last_one_ends_it(api: Api) -> None:
    _, client, joined, first, called = await begun(api)
    assert (called.id.job, called.attempt, list(called.open.exec.command)) == ("web", 1, ["cat"])
    client.ups.say(ClientFrame(data=b"in"), ClientFrame(end_of_data=True))
    joined.ups.say(AgentFrame(data=b"out"), AgentFrame(end=SessionEnd(exit_code=3)))
    assert (await joined.next()) == ClientFrame(data=b"in")
    assert (await joined.next()) == ClientFrame(end_of_data=True)
    assert (await first) == AgentFrame(data=b"out")
    assert (await client.next()) == AgentFrame(end=SessionEnd(exit_code=3))
    assert await client.next() is None
    assert await joined.next() is None, "the agent's stream ends with the session"


async def test_nothing_is_read_from_one_end_before_the_other_has_taken_what_came_before(api: Api) -> None:
    _, client, joined, first, _ = await begun(api)
    joined.ups.say(*[AgentFrame(data=b"%d" % number) for number in range(50)])
    client.ups.say(*[ClientFrame(data=b"%d" % number) for number in range(50)])
    assert (await first) == AgentFrame(data=b"0")
    assert (await joined.next()) == ClientFrame(data=b"0")
    for _ in range(20):
        await asyncio.sleep(0)
    assert joined.ups.taken == 2, "the join and one frame: the client asked for no more"
    assert client.ups.taken == 2, "the opening and one frame"


async def test_an_agent_that_goes_away_in_the_middle_is_said_to_have(api: Api) -> None:
    _, client, joined, first, _ = await begun(api)
    joined.ups.say(AgentFrame(data=b"half"), None)
    assert (await first) == AgentFrame(data=b"half")
    with pytest.raises(PreconditionError, match="agent of node name-a went away in the middle") as caught:
        await client.next()
    assert caught.value.reason == "SESSION_LOST"


async def test_a_client_that_goes_away_ends_it_at_the_agent(api: Api) -> None:
    agent, client, joined, first, called = await begun(api)
    joined.ups.say(AgentFrame(data=b"x"))
    await first
    waiting = asyncio.ensure_future(joined.next())
    await asyncio.sleep(0)
    await client.go()
    assert await waiting is None
    down = await agent.next()
    assert down is not None
    assert down.close.stream_id == called.session_id


async def test_a_client_that_says_no_more_is_still_told_how_it_ends(api: Api) -> None:
    _, client, joined, first, _ = await begun(api)
    client.ups.say(None)
    waiting = asyncio.ensure_future(joined.next())
    await asyncio.sleep(0)
    joined.ups.say(AgentFrame(data=b"late"), AgentFrame(end=SessionEnd()))
    assert (await first) == AgentFrame(data=b"late")
    assert not waiting.done()
    assert (await client.next()) == AgentFrame(end=SessionEnd())
    assert await client.next() is None
    assert await waiting is None


async def test_an_agent_that_does_not_come_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "JOIN_S", 0.01)
    agent = await able(api)
    called = asyncio.ensure_future(agent.next())
    assert await api.hub.wait_for("a", 5)
    client = Client(api)
    with pytest.raises(PreconditionError, match="did not come within"):
        await client.next()
    down = await called
    assert down is not None
    with pytest.raises(NotFoundError, match="nobody waits for that session"):
        await Joined(api, down.session.session_id).next()


async def test_another_node_cannot_join_a_session(api: Api) -> None:
    await api.register("b", identity="agent:n2")
    agent = await able(api)
    called = asyncio.ensure_future(agent.next())
    assert await api.hub.wait_for("a", 5)
    client = Client(api)
    first = asyncio.ensure_future(client.next())
    down = await called
    assert down is not None
    with pytest.raises(PermissionError_, match="agent:n2 may not speak for node a"):
        await Joined(api, down.session.session_id, "agent:n2").next()
    joined = Joined(api, down.session.session_id)
    joined.ups.say(AgentFrame(end=SessionEnd()))
    waiting = asyncio.ensure_future(joined.next())
    assert (await first) == AgentFrame(end=SessionEnd())
    with pytest.raises(PreconditionError, match="somebody joined that session before"):
        await Joined(api, down.session.session_id).next()
    await client.go()
    await waiting


async def test_an_old_agent_is_not_called(api: Api) -> None:
    agent = Agent(api)
    waiting = asyncio.ensure_future(agent.next())
    assert await api.hub.wait_for("a", 5)
    with pytest.raises(PreconditionError, match="too old for this: update it"):
        await Client(api).next()
    waiting.cancel()


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        pytest.param(ClientFrame(data=b"x"), "expected what is wanted first", id="data first"),
        pytest.param(ClientFrame(open=SessionOpen()), "expected what is wanted first", id="nothing wanted"),
        pytest.param(None, "expected what is wanted first", id="nothing said"),
    ],
)
async def test_what_does_not_begin_like_a_session_is_refused(api: Api, frame: ClientFrame | None, said: str) -> None:
    ups: Ends[ClientFrame] = Ends()
    ups.say(frame)
    with pytest.raises(InvalidError, match=said):
        await anext(api.sessions.session(ups.read(), call()))


async def test_an_unknown_allocation_is_said_at_once(api: Api) -> None:
    with pytest.raises(NotFoundError, match="nosuch"):
        await Client(api, SessionOpen(id={"job": "nosuch", "group": "main"}, exec={"command": ["x"]})).next()


async def test_a_peer_takes_so_many_sessions_and_no_more(api: Api) -> None:
    agent = await able(api)
    calls = [asyncio.ensure_future(agent.next())]
    assert await api.hub.wait_for("a", 5)
    clients = [Client(api) for _ in range(3)]
    waiting = [asyncio.ensure_future(client.next()) for client in clients]
    await calls[0]
    with pytest.raises(OverloadedError, match="relays 3 sessions"):
        await Client(api).next()
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for client in clients:
        await client.go()
    assert api.sessions._count == 0
    assert not api.sessions._relays


async def test_a_peer_without_the_agents_stream_says_so_to_the_peer_that_asked(api: Api) -> None:
    with pytest.raises(PreconditionError) as caught:
        await Client(api, forwarded=True).next()
    assert caught.value.reason == "LOGS_NOT_HERE"


async def test_a_node_without_a_stream_anywhere_is_unreachable(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "AGENT_WAIT_S", 0.0)
    with pytest.raises(RaftsmanError, match="no stream to a peer that can be reached") as caught:
        await Client(api).next()
    assert caught.value.reason == "NODE_UNREACHABLE"


async def test_usage_is_asked_of_the_agents_and_who_does_not_answer_is_named(api: Api) -> None:
    from orchestrator.contract.v1 import control_pb2 as pb

    await api.register("b", identity="agent:n2")
    agent = await able(api)
    asked = asyncio.ensure_future(agent.next())
    assert await api.hub.wait_for("a", 5)
    answer = asyncio.ensure_future(api.usages.get_usage(pb.GetUsageRequest(), call(timeout_s=1.0)))
    down = await asked
    assert down is not None
    usage = {"request_id": down.usage.request_id, "usage": {"node_id": "a", "cpu_millis": 7}}
    agent.send(agent_pb2.LogsUp(usage=usage))
    waiting = asyncio.ensure_future(agent.next())
    found = await answer
    assert [(one.node_id, one.cpu_millis) for one in found.nodes] == [("a", 7)]
    assert [(one.node, one.why) for one in found.unknown] == [
        ("name-b", "its agent has no stream to this peer (yet): ask again")
    ]
    with pytest.raises(NotFoundError, match="no node 'nowhere'"):
        await api.usages.get_usage(pb.GetUsageRequest(node="nowhere"), call())
    waiting.cancel()


async def test_what_another_peer_sent_is_passed_on_though_the_client_went_on_talking() -> None:
    """A write that comes after the other peer's end makes gRPC's ``read`` forget what is still to be read."""

    async def whole(ups: Any, _context: Any) -> AsyncIterator[bytes]:
        await anext(aiter(ups))
        for piece in (b"one", b"two", b"three"):
            yield piece

    async def talk() -> AsyncIterator[ClientFrame]:
        while not link.done():
            yield ClientFrame(data=b"x" * 1000)

    server = grpc.aio.server()
    handlers = {"Session": grpc.stream_stream_rpc_method_handler(whole)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(30):
            made: Any = channel.stream_stream
            link = made("/test/Session")()
            await link.write(b"hello")
            frames = sessions._pumped(link, await anext(aiter(link)), talk(), "p2")
            heard = [await anext(frames)]
            while not link.done():  # the client's side is pumped beside, and nobody takes the answers meanwhile
                await asyncio.sleep(0)
            heard += [frame async for frame in frames]
    finally:
        await server.stop(None)
    assert heard == [b"one", b"two", b"three"]
