"""``GrpcNetwork``: sessions between peers over gRPC.

Owns: one long-lived call per ordered pair of peers, dialled again whenever it ends, and the service that answers such
calls. Leaves the server to the daemon (``add_to_server``), certificates to its arguments, and what frames mean to the
engine. The one rule: a session's frames arrive in order, at most once, and a new session ends the old one first.

Each call carries one direction: the caller's frames. The callee answers with its Hello and then only pings, so a caller
notices a silent peer. A peer that dials us is dialled back at once, so a restarted one is found without waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog

from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    PermissionError_,
    RaftsmanError,
    TimeoutError_,
)
from orchestrator.contract.status import from_rpc_error, to_status
from orchestrator.replication.link import OUT_OF_TIME, Host, Receiver
from orchestrator.replication.snapshotting import MAX_SNAPSHOT_BYTES, checksum
from orchestrator.replication.v1 import peer_pb2 as pb
from orchestrator.replication.v1 import peer_pb2_grpc as rpc
from orchestrator.replication.whereabouts import Whereabouts

_log = structlog.get_logger("raftsman.replication.transport")

MAX_MESSAGE_BYTES = 24 * 1024 * 1024
"""Above the largest write: two full batches, or a write that was filled up to ``_WRITE_BYTES``."""

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
"""What the server that serves ``Peers`` must be built with at least."""

_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    *SERVER_OPTIONS,
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)
_WRITE_BYTES = 8 * 1024 * 1024  # frames that share one write
_QUEUE_BYTES = 128 * 1024 * 1024  # frames that wait for one peer; more ends the session
_REDIAL_S = (0.05, 0.4)  # after the first and after many failures; doubled in between
_GREETING_S = 3.0  # to connect and to hear the callee's Hello
_PING_S = 2.0
_STOP_S = 1.0  # for sessions to end when this peer stops
_PART_BYTES = 512 * 1024  # of a snapshot in one message
_PART_S = 15.0  # for the next part to come; the first needs the snapshot to be read or made
_INVITE_S = 60.0  # for a newcomer to answer: it fetches a snapshot meanwhile
_SILENT_S = 5.0  # without an answer to pings: the session is over
_RENEW_S = 0.5  # how often the deadline for that is moved at most: by so much the callee may be too early

_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # missing in grpc-stubs

Identify = Callable[[Any], str | None]
"""The peer id that a gRPC servicer context's certificate proves; raises or returns None if it proves none."""


@dataclass(slots=True)
class _Dialled:
    """The way to one peer."""

    peer_id: str
    target: str
    at: str = ""  # where it is looked for now
    queue: deque[bytes] = field(default_factory=deque)  # each a ``Frames`` of one; joined, they are one of all
    queued_bytes: int = 0
    filled: asyncio.Event = field(default_factory=asyncio.Event)  # frames wait, or the session must end
    redial: asyncio.Event = field(default_factory=asyncio.Event)  # the peer called: it is back
    up: bool = False
    greeted: bool = False  # the present attempt got as far as a session
    overflowed: bool = False
    sessions: int = 0


class GrpcNetwork:
    """Implements ``Network``.

    ``credentials``: of the channels to other peers; None for plain text (tests on loopback). ``identify``: proves who
    calls, from the servicer context; None trusts the Hello (tests). ``server_name``: the name in the certificate of a
    peer's server, by peer id, where it is not the host that is dialled. ``cert_expires_ms``: when the caller's
    certificate ends (unix milliseconds), from the servicer context. ``whereabouts``: where else peers may be.
    """

    def __init__(
        self,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        identify: Identify | None = None,
        server_name: Callable[[str], str] | None = None,
        cert_expires_ms: Callable[[Any], int] | None = None,
        whereabouts: Whereabouts | None = None,
    ) -> None:
        self._whereabouts = whereabouts if whereabouts is not None else Whereabouts("", {})
        self._credentials = credentials
        self._identify = identify
        self._server_name = server_name
        self._cert_expires_ms = cert_expires_ms
        self._host: Host | None = None
        self._receiver: Receiver | None = None
        self._peers: dict[str, _Dialled] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._inbound: dict[str, asyncio.Task[Any] | None] = {}  # peer -> the task of its present session
        self._servicer = _PeersServicer(self)
        self._stopping = False
        self._packed: tuple[pb.Frame, bytes] = (pb.Frame(), b"")  # the last one: often all peers get the same

    def add_to_server(self, server: grpc.aio.Server) -> None:
        """Serve ``Peers`` there; calls are refused until ``start``."""
        rpc.add_PeersServicer_to_server(self._servicer, server)

    def stranger(self, context: Any) -> str:
        """Why whoever calls must not even say Hello; "" if it proved to be a peer (or no proof is asked for)."""
        if self._identify is None or self._identify(context) is not None:
            return ""
        return "only peers may call this: the certificate is not a peer's"

    async def start(self, peer_id: str, peers: dict[str, str], receiver: Receiver) -> None:
        self._stopping = False
        self._peers.clear()
        self._inbound.clear()
        self._receiver = receiver
        for other, target in peers.items():
            way = self._peers[other] = _Dialled(other, target)
            self._tasks.append(asyncio.create_task(self._keep_dialling(way, receiver), name=f"dial-{other}"))

    async def stop(self) -> None:
        self._stopping = True
        self._receiver = None
        calls = [task for task in self._inbound.values() if task is not None]
        for task in [*self._tasks, *calls]:
            task.cancel()
        if self._tasks or calls:
            _, late = await asyncio.wait([*self._tasks, *calls], timeout=_STOP_S)
            if late:
                _log.warning("replication.sessions_end_late", count=len(late))
        self._tasks.clear()

    # ------------------------------------------------------------------ calls without a session

    def serve(self, host: Host) -> None:
        self._host = host

    async def fetch(self, address: str, request: pb.FetchRequest) -> tuple[pb.SnapshotHeader, bytes]:
        async with self._channel("", address) as channel:
            call = rpc.PeersStub(channel).Fetch(request)
            try:
                first = await self._part(call)
                header, data = first.header, bytearray()
                if header.total_bytes > MAX_SNAPSHOT_BYTES:
                    raise InvalidError(f"{address} offers a snapshot of {header.total_bytes} bytes")
                while len(data) < header.total_bytes:
                    part = await self._part(call)
                    if not part.data or len(data) + len(part.data) > header.total_bytes:
                        raise InvalidError(f"the snapshot of {address} is not as long as it says")
                    data += part.data
                await self._end(call)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
            except TimeoutError:
                raise TimeoutError_(f"{address} fell silent while it sent its snapshot") from None
            finally:
                call.cancel()
        whole = bytes(data)
        if await asyncio.to_thread(checksum, whole) != header.crc32c:
            raise InvalidError(f"the snapshot of {address} arrived with a wrong checksum")
        return header, whole

    async def _part(self, call: Any) -> Any:
        async with asyncio.timeout(_PART_S):
            part = await call.read()
        if part is _EOF:
            raise InvalidError("the snapshot ended too early")
        return part

    async def _end(self, call: Any) -> None:
        """Read the end, so that the sender knows that all of it arrived."""
        async with asyncio.timeout(_PART_S):
            if await call.read() is not _EOF:
                raise InvalidError("the snapshot is longer than it said")

    async def invite(self, address: str, invitation: pb.Invitation) -> pb.InvitationReply:
        async with self._channel("", address) as channel:
            try:
                reply: pb.InvitationReply = await rpc.PeersStub(channel).Invite(invitation, timeout=_INVITE_S)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
        return reply

    async def give(self, request: pb.FetchRequest, context: Any) -> AsyncIterator[pb.SnapshotPart]:
        """Answer a ``fetch``."""
        host = self._called(request.hello, context)
        header, data = await host.newest_snapshot(request.hello)
        yield pb.SnapshotPart(header=header)
        for offset in range(0, len(data), _PART_BYTES):
            yield pb.SnapshotPart(data=data[offset : offset + _PART_BYTES])
        host.snapshot_taken(request.hello)

    async def greet(self, invitation: pb.Invitation, context: Any) -> pb.InvitationReply:
        """Answer an ``invite``."""
        return await self._called(invitation.hello, context).invited(invitation)

    def _called(self, hello: pb.Hello, context: Any) -> Host:
        """Who answers a call of the peer that said this; raises ``PermissionError_`` if it is another."""
        proven = self._identify(context) if self._identify is not None else hello.peer_id
        if proven != hello.peer_id:
            raise PermissionError_(f"it says it is peer {hello.peer_id!r} but its certificate is for {proven!r}")
        if self._host is None:
            raise NoLeaderError("this peer is starting or stopping")
        return self._host

    def send(self, peer_id: str, frames: Sequence[pb.Frame]) -> None:
        way = self._peers[peer_id]
        if not way.up:
            return
        for frame in frames:
            packed = self._pack(frame)
            way.queue.append(packed)
            way.queued_bytes += len(packed)
        if way.queued_bytes > _QUEUE_BYTES:
            way.overflowed = True
        way.filled.set()

    def _pack(self, frame: pb.Frame) -> bytes:
        last, packed = self._packed
        if frame is not last:
            packed = pb.Frames(frames=[frame]).SerializeToString()
            self._packed = (frame, packed)
        return packed

    # ------------------------------------------------------------------ calling

    def _channel(self, peer_id: str, target: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        options: tuple[tuple[str, int | str], ...] = _CHANNEL_OPTIONS
        if self._server_name is not None:
            options = (*options, ("grpc.ssl_target_name_override", self._server_name(peer_id)))
        return grpc.aio.secure_channel(target, self._credentials, options=options)

    async def _keep_dialling(self, way: _Dialled, receiver: Receiver) -> None:
        pause = _REDIAL_S[0]
        ways, turn = self._whereabouts.ways(way.peer_id, way.target), 0
        while not self._stopping:
            way.redial.clear()
            if not way.greeted:
                way.at = ways[turn % len(ways)]
                turn += 1
            way.greeted = False
            # A channel of its own for every session: gRPC's would wait a second or more before it tries again.
            async with self._channel(way.peer_id, way.at) as channel:
                session = asyncio.ensure_future(self._call(way, _raft(channel), receiver))
                back = asyncio.ensure_future(way.redial.wait())
                try:
                    await asyncio.wait((session, back), return_when=asyncio.FIRST_COMPLETED)
                    if way.up:
                        await asyncio.wait((session,))
                    if not session.done():
                        pause = 0.0  # it is back, and this attempt may still wait for what it was before
                    elif session.cancelled():
                        # gRPC cancels a write that waits when the silent call is given up: not us, so dial again.
                        raise _SessionOverError("the peer fell silent")
                    else:
                        session.result()
                except (grpc.aio.AioRpcError, TimeoutError, asyncio.InvalidStateError, _SessionOverError) as error:
                    _refusal(way.peer_id, error, receiver)
                except Exception as error:  # whatever it was, this peer must be dialled again
                    _log.error("replication.session_failed", peer=way.peer_id, exc_info=error)
                finally:
                    session.cancel()
                    back.cancel()
                    await asyncio.gather(session, back, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):  # wait_for would swallow a cancellation that meets the event
                    await way.redial.wait()
            pause = _REDIAL_S[0] if way.greeted else min(max(2 * pause, _REDIAL_S[0]), _REDIAL_S[1])

    async def _call(self, way: _Dialled, raft: Any, receiver: Receiver) -> None:
        """One session; ends by an exception."""
        call = raft()
        reading: asyncio.Task[None] | None = None
        try:
            way.sessions += 1
            ours = receiver.hello()
            ours.session = way.sessions
            async with asyncio.timeout(_GREETING_S):
                await call.write(self._pack(pb.Frame(hello=ours)))
                welcome = await call.read()
            if welcome is _EOF:
                raise _SessionOverError("the peer ended the call") from None
            if welcome.refused:
                reason = f"it refuses this peer and says: {welcome.refused}"
            else:
                reason = self._judge(way.peer_id, welcome.hello, receiver)
            if reason:
                receiver.refused(way.peer_id, reason, welcome.hello)
                raise _SessionOverError(reason)
            way.queue.clear()
            way.queued_bytes = 0
            way.overflowed = False
            way.filled.clear()
            way.up = way.greeted = True
            self._whereabouts.met(way.peer_id, way.at, address=way.target)
            receiver.peer_up(way.peer_id, welcome.hello)
            reading = asyncio.create_task(_watch(call, way))
            await self._write(way, call, reading)
        finally:
            if way.up:
                way.up = False
                way.queue.clear()
                receiver.peer_down(way.peer_id)
            if reading is not None:
                reading.cancel()
            call.cancel()

    def _judge(self, expected: str, hello: pb.Hello, receiver: Receiver) -> str:
        if hello.peer_id != expected:
            return (
                f"its address answers as peer {hello.peer_id!r}: the address in the peer list belongs to another peer"
            )
        return receiver.judge(hello)

    async def _write(self, way: _Dialled, call: Any, reading: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()
        ping_due = loop.time() + _PING_S
        # One timer, not a deadline around every wait: there are two waits for every write of a client.
        ping = loop.call_later(_PING_S, way.filled.set)
        try:
            while True:
                await way.filled.wait()
                if reading.done():
                    await reading
                    raise _SessionOverError("the peer ended the call")
                if way.overflowed:
                    raise _SessionOverError(f"{way.queued_bytes} bytes wait for it: it is too slow")
                packed: list[bytes] = []
                size = 0
                while way.queue and size < _WRITE_BYTES:
                    packed.append(way.queue.popleft())
                    size += len(packed[-1])
                way.queued_bytes -= size
                if not way.queue:
                    way.filled.clear()
                if packed:
                    await call.write(packed[0] if len(packed) == 1 else b"".join(packed))
                if loop.time() >= ping_due:
                    ping_due = loop.time() + _PING_S
                    ping = loop.call_later(_PING_S, way.filled.set)
                    await call.write(b"")
        finally:
            ping.cancel()

    # ------------------------------------------------------------------ being called

    async def answer(self, context: Any) -> None:
        """One inbound session."""
        receiver = self._receiver
        if receiver is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this peer is starting or stopping")
            return
        first = await context.read()
        if first is _EOF or len(first.frames) != 1 or not first.frames[0].HasField("hello"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message of a session is a Hello")
            return
        hello = first.frames[0].hello
        peer_id = hello.peer_id
        proven = self._identify(context) if self._identify is not None else peer_id
        if proven != peer_id:
            reason = f"it says it is peer {peer_id!r} but its certificate is for {proven!r}"
            receiver.refused(peer_id, reason)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, reason)
            return
        reason = receiver.judge(hello)
        if reason:
            receiver.refused(peer_id, reason, hello)
            await context.write(pb.Welcome(hello=receiver.hello(), refused=reason))
            return
        before = self._inbound.get(peer_id)
        task = asyncio.current_task()
        self._inbound[peer_id] = task
        if before is not None:
            before.cancel()
        expires = self._cert_expires_ms(context) if self._cert_expires_ms is not None else 0
        receiver.session_began(peer_id, hello, cert_expires_ms=expires)
        self._peers[peer_id].redial.set()
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        try:
            await context.write(pb.Welcome(hello=receiver.hello()))
            async with asyncio.timeout(_SILENT_S) as patience:
                while True:
                    batch = await context.read()
                    if batch is _EOF or self._inbound.get(peer_id) is not task:
                        return
                    now = loop.time()
                    if now > renewed + _RENEW_S:
                        renewed = now
                        patience.reschedule(now + _SILENT_S)
                    if not batch.frames:
                        await context.write(pb.Welcome())
                        continue
                    for frame in batch.frames:
                        receiver.received(peer_id, frame)
        except TimeoutError:
            _log.warning("replication.peer_silent", peer=peer_id)
        except asyncio.CancelledError:
            if task is None or (self._inbound.get(peer_id) is task and not self._stopping):
                raise  # not by us
            task.uncancel()  # gRPC tells the caller nothing of a cancelled handler
            await context.abort(
                grpc.StatusCode.ABORTED, "a newer session took the place of this one, or the peer stops"
            )
        finally:
            if self._inbound.get(peer_id) is task:
                self._inbound[peer_id] = None
                if not self._stopping:
                    receiver.session_ended(peer_id)


class _SessionOverError(Exception):
    """The session ends for this reason."""


def _raft(channel: grpc.aio.Channel) -> Any:
    """The stub of ``Peers.Raft`` for messages that are bytes already."""
    peers = pb.DESCRIPTOR.services_by_name["Peers"]
    method = peers.methods_by_name["Raft"]
    return channel.stream_stream(
        f"/{peers.full_name}/{method.name}", request_serializer=None, response_deserializer=pb.Welcome.FromString
    )


async def _watch(call: Any, way: _Dialled) -> None:
    """Wait for the callee's answers to pings; returns or raises when the session is over, and ends writing then."""
    try:
        while True:
            async with asyncio.timeout(_SILENT_S):
                if await call.read() is _EOF:
                    return
    finally:
        way.filled.set()
        call.cancel()


def _refusal(peer_id: str, error: Exception, receiver: Receiver) -> None:
    if not isinstance(error, grpc.aio.AioRpcError):
        return
    if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
        receiver.refused(peer_id, f"it refuses this peer and says: {error.details()}")
    elif "CERTIFICATE_VERIFY_FAILED" in (details := error.details() or ""):
        receiver.refused(peer_id, _certificate_problem(peer_id, details))


def _certificate_problem(peer_id: str, details: str) -> str:
    if any(words in details for words in ("has expired", "not yet valid")):
        way = f"`raftsman certs issue peer {peer_id} --renew`, copy it there, restart that peer"
        return f"{OUT_OF_TIME}, or a clock is wrong: {way}"
    return "its certificate is not of the authority in this peer's ca.pem: one of the two is another cluster's"


class _PeersServicer(rpc.PeersServicer):
    def __init__(self, network: GrpcNetwork) -> None:
        self._network = network

    async def _admit(self, context: Any) -> None:
        """Before anything is read: who is no peer learns nothing and holds nothing open."""
        problem = self._network.stranger(context)
        if problem:
            await context.abort_with_status(to_status(PermissionError_(problem)))

    async def Fetch(self, request: pb.FetchRequest, context: Any) -> AsyncIterator[pb.SnapshotPart]:  # noqa: N802
        await self._admit(context)
        try:
            async for part in self._network.give(request, context):
                yield part
        except RaftsmanError as error:
            await context.abort_with_status(to_status(error))

    async def Invite(self, request: pb.Invitation, context: Any) -> pb.InvitationReply:  # noqa: N802
        await self._admit(context)
        try:
            return await self._network.greet(request, context)
        except RaftsmanError as error:
            await context.abort_with_status(to_status(error))
        raise AssertionError("abort_with_status raises")

    async def Raft(self, request_iterator: AsyncIterator[pb.Frames], context: Any) -> None:  # noqa: N802
        # ``context.read``, not the iterator: that is another two coroutines for every message.
        await self._admit(context)
        await self._network.answer(context)
