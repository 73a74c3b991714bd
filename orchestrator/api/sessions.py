"""Hands on a task: commands, copies and connections, relayed between a client and the agent that has the task.

Owns: ``Sessions``: who waits for which agent, joining the two streams, finding the peer that the agent is connected to,
and how many there may be. Leaves to others: what is done with the frames (the agent, the client), calling the agent
(``logs.LogHub``), who calls (``identity``). The rules:

- Both ends have a stream of their own for each session, and nothing is queued between them: a frame is read from one
  only when the other has taken the frame before. So a slow reader slows down the writer by the transport's own flow
  control, and a session costs this peer two windows of that, whatever runs through it.
- Sessions have nothing to do with who leads: they go on through an election. Whichever of client, peer, agent and task
  goes first ends it, and the others are told why.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from prometheus_client import Gauge

from orchestrator.api.forward import Call, Forwarder
from orchestrator.api.hello import first_of
from orchestrator.api.identity import CONTROL
from orchestrator.api.logs import AGENT_WAIT_S, NOT_HERE, LogHub, LogTarget
from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    NotFoundError,
    OverloadedError,
    PreconditionError,
    RaftsmanError,
    UnknownOutcomeError,
)
from orchestrator.contract.status import BROKEN, from_rpc_error
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1.session_pb2 import AgentFrame, ClientFrame, SessionCall, SessionOpen
from orchestrator.contract.v1.types_pb2 import AllocationId

MAX_SESSIONS = 512
"""On one peer at once."""
JOIN_S = 10.0
"""An agent that was called comes within this time, or it does not come."""
RETRY_MS = 1_000
SESSION_LOST = "SESSION_LOST"
PATH = f"/{CONTROL}/Session"

IN_PROGRESS = Gauge("raftsman_sessions", "Commands, copies and connections that this peer relays now")


class _Relay:
    """One session here: the client's frames, and once the agent has come the agent's."""

    def __init__(self, node_id: str, node_name: str, ups: AsyncIterator[Any]) -> None:
        self.id = secrets.token_hex(16)
        self.node_id = node_id
        self.node_name = node_name
        self.ups = ups
        self.joined: asyncio.Future[AsyncIterator[Any]] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()


class Sessions:
    """``Control.Session`` and ``Agents.JoinSession``.

    ``find`` gives where an allocation is, after a read barrier where there is a majority; ``check`` refuses a caller
    that is not that node's agent; ``may`` refuses a client (nobody, until there are tokens): the one place that does.
    """

    def __init__(
        self,
        hub: LogHub,
        forwarder: Forwarder,
        *,
        find: Callable[[pb.LogsRequest, Call], Awaitable[LogTarget]],
        check: Callable[[Call, str], Awaitable[None]],
        may: Callable[[Call, SessionOpen], None] = lambda _call, _open: None,
        most: int = MAX_SESSIONS,
    ) -> None:
        self._hub = hub
        self._forwarder = forwarder
        self._find = find
        self._check = check
        self._may = may
        self._most = most
        self._relays: dict[str, _Relay] = {}
        self._count = 0
        IN_PROGRESS.set_function(lambda: self._count)

    # ------------------------------------------------------------------ the client's side

    async def session(self, ups: AsyncIterator[ClientFrame], call: Call) -> AsyncIterator[Message | bytes]:
        """What the agent says to the client; what the client says is read by the agent's side."""
        wanted = await _first(ups)
        self._may(call, wanted)
        if self._count >= self._most:
            raise OverloadedError(
                f"this peer relays {self._count} sessions, and takes no more: end some, or ask another peer",
                retry_after_ms=RETRY_MS,
            )
        self._count += 1
        try:
            try:
                target = await self._find(pb.LogsRequest(id=wanted.id, attempt=wanted.attempt), call)
            except NotFoundError as error:
                if call.caller.forwarded:  # the caller knows the allocation, this peer does not yet
                    raise PreconditionError(error.message, reason=NOT_HERE) from None
                raise
            if self._hub.has(target.node_id) or call.caller.forwarded:
                async for frame in self._here(wanted, target, ups):
                    yield frame
                return
            async for raw in self._elsewhere(wanted, target, ups, call):
                yield raw
        finally:
            self._count -= 1

    async def _here(
        self, wanted: SessionOpen, target: LogTarget, ups: AsyncIterator[ClientFrame]
    ) -> AsyncIterator[Message]:
        relay = _Relay(target.node_id, target.node_name, ups)
        self._relays[relay.id] = relay
        try:
            where = target.key.id
            id_ = AllocationId(namespace=where.namespace, job=where.job, group=where.group, ordinal=where.ordinal)
            self._hub.call(
                target.node_id,
                SessionCall(
                    session_id=relay.id,
                    id=id_,
                    job_uid=target.key.job_uid,
                    attempt=target.key.attempt,
                    open=wanted,
                ),
            )
            try:
                async with asyncio.timeout(JOIN_S):
                    frames = await asyncio.shield(relay.joined)
            except TimeoutError:
                raise PreconditionError(
                    f"the agent of node {target.node_name} did not come within {JOIN_S:.0f} s: try again",
                    reason="NODE_UNREACHABLE",
                ) from None
            async for frame in frames:
                yield frame
                if frame.WhichOneof("frame") == "end":
                    return
            raise PreconditionError(
                f"the agent of node {target.node_name} went away in the middle (stopped, restarted, or cut off): the "
                "session is over",
                reason=SESSION_LOST,
            )
        finally:
            relay.ended.set()
            relay.joined.cancel()
            del self._relays[relay.id]
            self._hub.end_call(target.node_id, relay.id)

    async def _elsewhere(
        self, wanted: SessionOpen, target: LogTarget, ups: AsyncIterator[ClientFrame], call: Call
    ) -> AsyncIterator[bytes]:
        leader = self._forwarder.leader_elsewhere()
        order = sorted(self._forwarder.others, key=lambda peer: peer != leader)
        give_up = asyncio.get_running_loop().time() + (0.0 if target.lost else AGENT_WAIT_S)
        while True:
            for peer_id in order:
                found = await self._try(peer_id, wanted, call)
                if found is not None:
                    link, first = found
                    async for raw in _pumped(link, first, ups, peer_id):
                        yield raw
                    return
            if asyncio.get_running_loop().time() >= give_up:
                raise PreconditionError(
                    f"{target.node_name} has no stream to a peer that can be reached: is its agent running?",
                    reason="NODE_UNREACHABLE",
                )
            if await self._hub.wait_for(target.node_id, 0.25):
                async for frame in self._here(wanted, target, ups):
                    yield frame.SerializeToString()
                return

    async def _try(self, peer_id: str, wanted: SessionOpen, call: Call) -> tuple[Any, bytes] | None:
        """A session by way of that peer and its first frame; None where the agent is not connected there."""
        link = None
        try:
            link = await self._forwarder.duplex(peer_id, PATH, call)
            await link.write(ClientFrame(open=wanted).SerializeToString())
            first = await anext(aiter(link), None)
            if isinstance(first, bytes):
                return link, first
        except grpc.aio.AioRpcError as broken:
            error: RaftsmanError = from_rpc_error(broken)
            if isinstance(error, PreconditionError) and error.reason != NOT_HERE:
                raise error from None
            away = isinstance(error, PreconditionError | UnknownOutcomeError | NoLeaderError)
            if not away and error.reason != "UNIMPLEMENTED":  # that would be an older peer
                raise error from None
        except (NoLeaderError, asyncio.InvalidStateError):
            pass  # no peer any more; or the call was over before the frame was written
        except asyncio.CancelledError:
            if link is not None:
                link.cancel()
            raise
        if link is not None:
            link.cancel()
        return None

    # ------------------------------------------------------------------ the agent's side

    async def join_session(self, ups: AsyncIterator[AgentFrame], call: Call) -> AsyncIterator[Message]:
        """What the client says to the agent; what the agent says is read by the client's side."""
        first = await first_of(ups)
        if first is None or first.WhichOneof("frame") != "join":
            raise InvalidError("JoinSession: expected the id of a session first")
        relay = self._relays.get(first.join)
        if relay is None:
            raise NotFoundError("nobody waits for that session (any more)")
        await self._check(call, relay.node_id)
        if relay.joined.done():
            raise PreconditionError("somebody joined that session before")
        relay.joined.set_result(ups)
        over = asyncio.ensure_future(relay.ended.wait())
        reading: asyncio.Future[Any] | None = None
        try:
            while not relay.ended.is_set():
                reading = asyncio.ensure_future(_next(relay.ups))
                await asyncio.wait({reading, over}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    return
                frame = reading.result()
                if frame is None:
                    await over  # the client says no more, and listens still
                    return
                if frame.WhichOneof("frame") != "open":
                    yield frame
        finally:
            over.cancel()
            if reading is not None:
                reading.cancel()


async def _first(ups: AsyncIterator[ClientFrame]) -> SessionOpen:
    first = await first_of(ups)
    if first is None or first.WhichOneof("frame") != "open" or first.open.WhichOneof("what") is None:
        raise InvalidError("Session: expected what is wanted first: exec, copy_out, copy_in or connect")
    return first.open


async def _next(ups: AsyncIterator[Any]) -> Any:
    """The next frame, None at the end; a broken stream ends, too (its own side says why)."""
    try:
        return await anext(ups, None)
    except BROKEN:
        return None


async def _pumped(link: Any, first: bytes, ups: AsyncIterator[ClientFrame], peer_id: str) -> AsyncIterator[bytes]:
    """Frames from the other peer, while the client's go there. By iteration: ``link.read`` loses what has come once a
    write has failed, and a client may well say something just when the session ends."""

    async def up() -> None:
        with contextlib.suppress(*BROKEN):
            async for frame in ups:
                await link.write(frame.SerializeToString())
            await link.done_writing()

    writing = asyncio.ensure_future(up())
    try:
        yield first
        async for frame in link:
            yield frame
    except grpc.aio.AioRpcError as broken:
        error = from_rpc_error(broken)
        if isinstance(error, UnknownOutcomeError):
            raise PreconditionError(
                f"peer {peer_id}, through which the session went, went away: it is over", reason=SESSION_LOST
            ) from None
        raise error from None
    finally:
        writing.cancel()
        link.cancel()
