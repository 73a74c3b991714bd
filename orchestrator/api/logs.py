"""Logs of running and ended tasks: from the agent that has them, over the stream that the agent opened.

Owns: ``LogHub`` (agents' reverse streams by node, many readers over one stream; also how agents are called to sessions
and asked for usage) and finding the peer that an agent is connected to. Leaves to others: who may read (``identity``),
which allocation is meant (``reads``), reading files (the agent's drivers). The rule: an agent's stream ends where the
agent dialled, so any peer may hold it; a reader's peer asks the others in turn, and without a majority too. A reader
that does not read is cut off, never the agent.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from orchestrator.api.forward import Call, Forwarder
from orchestrator.api.hello import first_of
from orchestrator.api.identity import CONTROL
from orchestrator.contract import codec
from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    NotFoundError,
    OverloadedError,
    PreconditionError,
    RaftsmanError,
    UnknownOutcomeError,
    from_reason,
)
from orchestrator.contract.model import AssignmentKey
from orchestrator.contract.v1 import agent_pb2 as agent_pb
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1.session_pb2 import SessionCall
from orchestrator.contract.v1.usage_pb2 import NodeUsage

QUEUE_CHUNKS = 64
MAX_CLOSED = 1_000
SLOW_READER_S = 10.0
AGENT_WAIT_S = 3.0
"""After a failover agents need a moment to open their streams again."""
NOT_HERE = "LOGS_NOT_HERE"


class _Agent:
    """One agent's open stream."""

    def __init__(self, *, sessions: bool = False) -> None:
        self.sessions = sessions  # it can be called to sessions and asked for usage
        self.down: asyncio.Queue[agent_pb.LogsDown | None] = asyncio.Queue()
        self.readers: dict[str, asyncio.Queue[agent_pb.LogsData | RaftsmanError]] = {}
        self._closed: set[str] = set()
        self.workload = False  # it can be asked what tasks said of themselves

    def close(self, stream_id: str) -> None:
        """Tell the agent, once, that nobody reads this any more; data may still be on its way."""
        if stream_id in self._closed:
            return
        if len(self._closed) >= MAX_CLOSED:
            self._closed.clear()
        self._closed.add(stream_id)
        self.down.put_nowait(agent_pb.LogsDown(close=agent_pb.LogsClose(stream_id=stream_id)))

    def end(self, error: RaftsmanError) -> None:
        for queue in self.readers.values():
            while queue.full():
                queue.get_nowait()
            queue.put_nowait(error)
        self.readers.clear()
        self.down.put_nowait(None)


class LogHub:
    """Agents' reverse streams on this peer. ``check`` refuses a caller that is not that node's agent."""

    def __init__(self, *, check: Callable[[Call, str], Awaitable[None]]) -> None:
        self._check = check
        self._agents: dict[str, _Agent] = {}
        self._arrived = asyncio.Event()
        self._measuring: dict[str, asyncio.Future[NodeUsage]] = {}  # by request

    def has(self, node_id: str) -> bool:
        return node_id in self._agents

    def call(self, node_id: str, session: SessionCall) -> None:
        """Call the node's agent to a session. Raises ``PreconditionError`` where it has no stream here."""
        self._able(node_id).down.put_nowait(agent_pb.LogsDown(session=session))

    def end_call(self, node_id: str, session_id: str) -> None:
        """Nobody waits for that session any more."""
        agent = self._agents.get(node_id)
        if agent is not None:
            agent.close(session_id)

    async def usage(self, node_id: str) -> NodeUsage:
        """What the node uses now; as long as its agent takes to answer. Raises ``PreconditionError``."""
        agent = self._able(node_id)
        request_id = uuid.uuid4().hex
        answer: asyncio.Future[NodeUsage] = asyncio.get_running_loop().create_future()
        self._measuring[request_id] = answer
        agent.down.put_nowait(agent_pb.LogsDown(usage=agent_pb.UsageCall(request_id=request_id)))
        try:
            return await answer
        finally:
            del self._measuring[request_id]

    def _able(self, node_id: str) -> _Agent:
        agent = self._agents.get(node_id)
        if agent is None:
            raise PreconditionError(f"node {node_id} has no stream to this peer", reason=NOT_HERE)
        if not agent.sessions:
            raise PreconditionError(f"the agent of node {node_id} is too old for this: update it", reason="UNSUPPORTED")
        return agent

    async def serve_logs(self, ups: AsyncIterator[Any], call: Call) -> AsyncIterator[Message]:
        """``Agents.ServeLogs``: a hello first, then data up and requests down until either side ends."""
        first = await first_of(ups)
        if first is None or first.WhichOneof("message") != "hello":
            raise InvalidError("ServeLogs: expected a hello with the node's id first")
        node_id = first.hello.node_id
        await self._check(call, node_id)
        agent = _Agent(sessions=first.hello.sessions)
        agent.workload = first.hello.workload
        older = self._agents.get(node_id)
        if older is not None:
            older.end(NoLeaderError("the agent opened another stream"))
        self._agents[node_id] = agent
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()
        reader = asyncio.ensure_future(self._read(agent, ups))
        try:
            while (message := await agent.down.get()) is not None:
                yield message
        finally:
            reader.cancel()
            if self._agents.get(node_id) is agent:
                del self._agents[node_id]
            agent.end(NoLeaderError(f"node {node_id} went away; its agent comes back by itself: try again"))

    async def _read(self, agent: _Agent, ups: AsyncIterator[Any]) -> None:
        try:
            async for up in ups:
                kind = up.WhichOneof("message")
                if kind == "usage":
                    waiting = self._measuring.get(up.usage.request_id)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(up.usage.usage)
                if kind != "data":
                    continue
                data = up.data
                queue = agent.readers.get(data.stream_id)
                if queue is None:
                    if not data.end:
                        agent.close(data.stream_id)
                    continue
                try:
                    async with asyncio.timeout(SLOW_READER_S):
                        await queue.put(data)
                except TimeoutError:
                    agent.readers.pop(data.stream_id, None)
                    agent.close(data.stream_id)
                    queue.get_nowait()
                    queue.put_nowait(OverloadedError("the reader was too slow: resume", retry_after_ms=1000))
        finally:
            agent.down.put_nowait(None)

    async def wait_for(self, node_id: str, timeout_s: float) -> bool:
        """Whether the node's agent has a stream here, now or within ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                while node_id not in self._agents:
                    await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    async def read(self, node_id: str, wanted: agent_pb.LogsOpen) -> AsyncIterator[agent_pb.LogsData]:
        """What the agent sends for ``wanted`` (its ``stream_id`` is set here); raises what the agent answered."""
        agent = self._agents.get(node_id)
        if agent is None:
            raise PreconditionError(f"node {node_id} has no stream to this peer", reason=NOT_HERE)
        if wanted.workload and not agent.workload:
            raise PreconditionError(f"the agent of node {node_id} is too old for this: update it", reason="UNSUPPORTED")
        wanted.stream_id = uuid.uuid4().hex
        queue: asyncio.Queue[agent_pb.LogsData | RaftsmanError] = asyncio.Queue(QUEUE_CHUNKS)
        agent.readers[wanted.stream_id] = queue
        agent.down.put_nowait(agent_pb.LogsDown(open=wanted))
        ended = False
        try:
            while True:
                item = await queue.get()
                if isinstance(item, RaftsmanError):
                    ended = True
                    raise item
                ended = item.end
                if item.error:
                    raise from_reason(item.error_reason or "FAILED_PRECONDITION", item.error, {})
                if item.data or not ended:
                    yield item
                if ended:
                    return
        finally:
            agent.readers.pop(wanted.stream_id, None)
            if not ended:
                agent.close(wanted.stream_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTarget:
    """Which run is meant, and where it is."""

    node_id: str
    node_name: str
    lost: bool
    key: AssignmentKey
    previous: bool


class Logs:
    """``Control.Logs``. ``find`` gives the target of a request, after a read barrier where there is a majority."""

    def __init__(
        self, hub: LogHub, forwarder: Forwarder, *, find: Callable[[pb.LogsRequest, Call], Awaitable[LogTarget]]
    ) -> None:
        self._hub = hub
        self._forwarder = forwarder
        self._find = find

    async def logs(self, request: pb.LogsRequest, call: Call) -> AsyncIterator[Message]:
        try:
            target = await self._find(request, call)
        except NotFoundError as error:
            if call.caller.forwarded:  # the caller knows the allocation, this peer does not yet
                raise PreconditionError(error.message, reason=NOT_HERE) from None
            raise
        if self._hub.has(target.node_id) or call.caller.forwarded:
            async for chunk in self._here(request, target):
                yield chunk
            return
        async for chunk in self._elsewhere(request, target, call):
            yield chunk

    async def _here(self, request: pb.LogsRequest, target: LogTarget) -> AsyncIterator[Message]:
        wanted = agent_pb.LogsOpen(
            task=request.task,
            previous=target.previous,
            follow=request.follow,
            tail_lines=request.tail_lines,
            offset=request.offset,
            since_ms=request.since_ms,
            workload=request.workload,
        )
        codec.encode(target.key, wanted.key)
        async for data in self._hub.read(target.node_id, wanted):
            yield pb.LogsChunk(
                data=data.data,
                offset=data.offset,
                task=data.task,
                attempt=target.key.attempt,
                stderr=data.stderr,
                time_ms=data.time_ms,
            )

    async def _elsewhere(self, request: pb.LogsRequest, target: LogTarget, call: Call) -> AsyncIterator[Message]:
        raw = request.SerializeToString()
        leader = self._forwarder.leader_elsewhere()
        order = sorted(self._forwarder.others, key=lambda peer: peer != leader)
        give_up = asyncio.get_running_loop().time() + (0.0 if target.lost else call.timeout_s(AGENT_WAIT_S))
        while True:
            for peer_id in order:
                began = False
                try:
                    stream = self._forwarder.stream(peer_id, f"/{CONTROL}/Logs", raw, call, bound_to_leader=False)
                    async for chunk in stream:
                        began = True
                        yield pb.LogsChunk.FromString(chunk)
                    return
                except (PreconditionError, UnknownOutcomeError, NoLeaderError) as error:
                    # Not connected there, not there yet, or that peer is away: the next one.
                    if began or (isinstance(error, PreconditionError) and error.reason != NOT_HERE):
                        raise
            if asyncio.get_running_loop().time() >= give_up:
                raise PreconditionError(
                    f"the logs are on node {target.node_name}, whose agent has no stream to a peer that can be "
                    "reached: they can be read when it is back",
                    reason="NODE_UNREACHABLE",
                )
            if await self._hub.wait_for(target.node_id, 0.25):
                async for here in self._here(request, target):
                    yield here
                return
