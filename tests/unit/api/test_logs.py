from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.api import logs
from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    NotFoundError,
    OverloadedError,
    PermissionError_,
    PreconditionError,
    RaftsmanError,
)
from orchestrator.contract.v1 import agent_pb2
from orchestrator.contract.v1 import control_pb2 as pb
from tests.unit.api.harness import Api, call


@pytest.fixture
async def api() -> Api:
    api = Api()
    await api.register("a")
    await api.submit("web")
    assert await api.place() == 1
    return api


class Agent:
    """An agent's end of a reverse stream."""

    def __init__(self, api: Api, node_id: str = "a", identity: str = "agent:n1") -> None:
        self._ups: asyncio.Queue[agent_pb2.LogsUp | None] = asyncio.Queue()
        self._downs: AsyncIterator[Any] = api.hub.serve_logs(self._read(), call(identity))
        self.send(agent_pb2.LogsUp(hello={"node_id": node_id}))

    async def _read(self) -> AsyncIterator[Any]:
        while (up := await self._ups.get()) is not None:
            yield up

    def send(self, up: agent_pb2.LogsUp | None) -> None:
        self._ups.put_nowait(up)

    def say(self, stream_id: str, data: bytes = b"", **fields: Any) -> None:
        self.send(agent_pb2.LogsUp(data={"stream_id": stream_id, "data": data, **fields}))

    async def next(self) -> agent_pb2.LogsDown | None:
        async with asyncio.timeout(5):
            return await anext(self._downs, None)


def reading(api: Api, **fields: Any) -> asyncio.Future[bytes]:
    """All that ``Logs`` gives, or its error."""

    async def run() -> bytes:
        request = pb.LogsRequest(id={"job": "web", "group": "main"}, **fields)
        return b"".join([chunk.data async for chunk in api.logs.logs(request, call())])  # type: ignore[attr-defined]

    return asyncio.ensure_future(run())


async def opened(agent: Agent) -> agent_pb2.LogsOpen:
    down = await agent.next()
    assert down is not None
    return down.open


async def connected(api: Api, agent: Agent) -> asyncio.Future[agent_pb2.LogsOpen]:
    """The agent's stream is open; the result is its first request."""
    waiting = asyncio.ensure_future(opened(agent))
    assert await api.hub.wait_for("a", 5)
    return waiting


async def test_two_readers_share_an_agents_stream(api: Api) -> None:
    agent = Agent(api)
    first_open = await connected(api, agent)
    one = reading(api, tail_lines=5)
    first = await first_open
    assert (first.key.id.job, first.key.attempt, first.tail_lines) == ("web", 1, 5)
    two = reading(api, follow=True)
    second = await opened(agent)
    assert second.follow
    agent.say(second.stream_id, b"2a")
    agent.say(first.stream_id, b"1a")
    agent.say(second.stream_id, b"2b", end=True)
    agent.say(first.stream_id, b"1b", end=True)
    assert (await one, await two) == (b"1a1b", b"2a2b")


async def test_what_the_agent_says_is_wrong_reaches_the_reader(api: Api) -> None:
    agent = Agent(api)
    first_open = await connected(api, agent)
    answer = reading(api)
    wanted = await first_open
    agent.say(wanted.stream_id, end=True, error="the output is gone", error_reason="NOT_FOUND")
    with pytest.raises(NotFoundError, match="the output is gone"):
        await answer


async def test_a_reader_that_goes_away_is_closed_at_the_agent(api: Api) -> None:
    agent = Agent(api)
    first_open = await connected(api, agent)
    answer = reading(api, follow=True)
    wanted = await first_open
    answer.cancel()
    down = await agent.next()
    assert down is not None
    assert down.close.stream_id == wanted.stream_id


async def test_data_that_nobody_reads_any_more_closes_it_at_the_agent(api: Api) -> None:
    agent = Agent(api)
    waiting = asyncio.ensure_future(agent.next())
    assert await api.hub.wait_for("a", 5)
    agent.say("nobody", b"x")
    down = await waiting
    assert down is not None
    assert down.close.stream_id == "nobody"


async def test_readers_hear_that_the_agent_went_away(api: Api) -> None:
    agent = Agent(api)
    first_open = await connected(api, agent)
    answer = reading(api, follow=True)
    await first_open
    agent.send(None)
    assert await agent.next() is None
    with pytest.raises(NoLeaderError, match="went away"):
        await answer
    assert not api.hub.has("a")


async def test_a_newer_stream_of_an_agent_replaces_the_older(api: Api) -> None:
    old = Agent(api)
    old_open = await connected(api, old)
    answer = reading(api, follow=True)
    await old_open
    new = Agent(api)
    new_open = asyncio.ensure_future(opened(new))
    with pytest.raises(NoLeaderError):
        await answer
    assert await old.next() is None
    assert api.hub.has("a")
    again = reading(api)
    wanted = await new_open
    new.say(wanted.stream_id, b"x", end=True)
    assert await again == b"x"


async def test_a_slow_reader_is_cut_and_the_others_go_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SLOW_READER_S", 0.01)
    monkeypatch.setattr(logs, "QUEUE_CHUNKS", 2)
    agent = Agent(api)
    first_open = await connected(api, agent)
    slow = api.hub.read("a", agent_pb2.LogsOpen())
    starting: asyncio.Future[Any] = asyncio.ensure_future(anext(slow))
    wanted = await first_open
    for number in range(6):
        agent.say(wanted.stream_id, str(number).encode())
    await starting
    down = await agent.next()
    assert down is not None
    assert down.close.stream_id == wanted.stream_id
    with pytest.raises(OverloadedError):
        async for _ in slow:
            pass
    quick = reading(api)
    other = await opened(agent)
    agent.say(other.stream_id, b"x", end=True)
    assert await quick == b"x"


async def test_only_the_nodes_own_agent_may_serve_its_logs(api: Api) -> None:
    with pytest.raises(PermissionError_):
        await Agent(api, identity="agent:n2").next()
    impolite = api.hub.serve_logs(_only(agent_pb2.LogsUp(data={"stream_id": "x"})), call("agent:n1"))
    with pytest.raises(InvalidError, match="hello"):
        await anext(impolite)
    assert not api.hub.has("a")


async def _only(up: agent_pb2.LogsUp) -> AsyncIterator[Any]:
    yield up


async def test_an_agent_that_is_connected_nowhere_is_said_to_be_out_of_reach(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "AGENT_WAIT_S", 0.01)
    with pytest.raises(PreconditionError, match="name-a") as caught:
        await reading(api)
    assert caught.value.reason == "NODE_UNREACHABLE"


async def test_an_agent_that_comes_back_in_time_is_waited_for(api: Api) -> None:
    answer = reading(api)
    await asyncio.sleep(0)
    agent = Agent(api)
    wanted = await opened(agent)
    agent.say(wanted.stream_id, b"x", end=True)
    assert await answer == b"x"


@pytest.mark.parametrize("job", ["web", "not-here-yet"])
async def test_another_peer_is_told_that_the_stream_is_not_here(api: Api, job: str) -> None:
    request = pb.LogsRequest(id={"job": job, "group": "main"})
    with pytest.raises(RaftsmanError) as caught:
        async for _ in api.logs.logs(request, call(forwarded=True)):
            pass
    assert caught.value.reason == logs.NOT_HERE
