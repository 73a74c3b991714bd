"""Any peer answers any call: serve it here, or pass the raw bytes on to the peer that leads.

Owns: the generic gRPC handlers of a service (decode, authorise, route, errors as rich status), the channels to other
peers, and waiting for a leader. Leaves to others: what a method does (``control``, ``agents``), who may call
(``identity``). The rule: one hop only; a forwarded call is answered where it arrives or refused with NOT_LEADER, which
means that nothing was done. A call is repeated here only when that is safe: every write carries a request id (minted
here when the caller sent none), so a repetition is done at most once.
"""

from __future__ import annotations

import asyncio
import enum
import random
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from orchestrator.api.admission import RETRY_MS, Admission, Lane
from orchestrator.api.feed import too_slow
from orchestrator.api.identity import AGENTS, Caller, authorize, caller_of
from orchestrator.contract.channel import FORWARDED_IDENTITY, MAX_MESSAGE_BYTES, WHICH_PEERS, TlsFiles
from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    NotLeaderError,
    OverloadedError,
    RaftsmanError,
    TimeoutError_,
    UnknownOutcomeError,
)
from orchestrator.contract.line import Line
from orchestrator.contract.status import from_rpc_error, to_status
from orchestrator.replication.log import ReplicatedLog

logger = structlog.get_logger(__name__)

WRITE_PATIENCE_S = 2.0
"""How long a call waits for a leader to appear: an election or two."""
READ_PATIENCE_S = 1.2
"""Reads give up earlier: whoever asks ``ps`` without a quorum gets stale data within 2 s."""
LONG_ALONE_MS = 2_500
ALONE_PATIENCE_S = 0.3
"""Without a majority for so long, an election is overdue: reads then give up almost at once."""
PAUSE_S = 0.05
MARGIN_S = 0.05
"""Give up this long before the caller's own deadline, so that it hears why."""
LEADER_FULL_S = 0.05
"""A leader that refused a call for want of room is spared further ones for so long: they wait outside, and what was let
in is refused here."""
STALLED_S = 30.0
"""A stream whose reader takes nothing for so long is ended."""
DEFAULT_TIMEOUT_S = 30.0
"""For calls that come without a deadline; streams have none then."""


def read_patience_s(log: ReplicatedLog) -> float:
    """How long a read may wait for a majority: an election, unless there has been none for long."""
    silent_ms = log.status().last_quorum_ms
    return ALONE_PATIENCE_S if silent_ms < 0 or silent_ms > LONG_ALONE_MS else READ_PATIENCE_S


class Route(enum.Enum):
    HERE = "here"  # this peer answers, from its own state (after a read barrier, unless stale)
    LEADER = "leader"
    FRESH = "fresh"  # the leader, unless the request says stale: it alone knows the whole answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call as a method sees it. ``deadline`` is in ``time.monotonic`` seconds; None: a stream without one."""

    caller: Caller
    deadline: float | None

    def timeout_s(self, most: float | None = None) -> float:
        """Seconds left, less the margin that answering takes; at most ``most`` where that is said. The caller alone
        says how long all of it may take: a large submit may well take minutes."""
        if self.deadline is None:
            return DEFAULT_TIMEOUT_S if most is None else most
        left = self.deadline - time.monotonic() - MARGIN_S
        return max(0.001, left if most is None else min(most, left))


class _Method:
    """One method of a service: its shape, its route and who implements it."""

    def __init__(self, descriptor: MethodDescriptor, route: Route, servicers: Sequence[object]) -> None:
        self.name: str = descriptor.name
        self.service: str = descriptor.containing_service.full_name
        self.path = f"/{self.service}/{self.name}"
        self.route = route
        self.request: type[Message] = GetMessageClass(descriptor.input_type)
        self.takes_stream: bool = descriptor.client_streaming
        self.gives_stream: bool = descriptor.server_streaming
        self.writes = "request_id" in descriptor.input_type.fields_by_name
        self.reads = route is Route.FRESH
        name = _snake(self.name)
        self.serve: Any = next(getattr(servicer, name) for servicer in servicers if hasattr(servicer, name))

    def parse(self, raw: bytes) -> Message:
        try:
            return self.request.FromString(raw)
        except DecodeError:
            raise InvalidError(f"the body of {self.name} is not a {self.request.DESCRIPTOR.full_name}") from None


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Forwarder:
    """Channels to the other peers, and where the leader is. One per process; everything on the loop.

    ``peers`` gives the present peers' addresses by id; ``changed_peers`` says whether they are others than at first.
    """

    def __init__(
        self,
        log: ReplicatedLog,
        *,
        peer_id: str,
        peers: Callable[[], Mapping[str, str]],
        tls: TlsFiles | None,
        changed_peers: Callable[[], bool] = lambda: False,
    ) -> None:
        self._log = log
        self._peer_id = peer_id
        self._peers = peers
        self.changed_peers = changed_peers
        self._tls = tls
        self._lines: dict[str, Line] = {}  # by address
        self._bound: dict[Any, str] = {}  # calls that are given up when another peer than this leads
        self._full_until: dict[str, float] = {}  # by service: agents' calls have a lane of their own there
        self._seen: tuple[bool, str] = (False, "")
        self._moved: asyncio.Event = asyncio.Event()
        self._unsubscribe: Callable[[], None] | None = None
        self.leaving = False
        """This peer is about to stop: calls that would wait for a leader are sent away at once."""

    def start(self) -> None:
        self._unsubscribe = self._log.subscribe(self._look)
        self._look()

    def leave(self) -> None:
        """What is on its way goes on; nothing new is taken up."""
        self.leaving = True
        event, self._moved = self._moved, asyncio.Event()
        event.set()

    async def stop(self) -> None:
        """Close the channels; what is still on its way there ends with an unknown outcome."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            await line.close()

    @property
    def addresses(self) -> Mapping[str, str]:
        """Of all peers, by id."""
        return self._peers()

    @property
    def others(self) -> list[str]:
        return [peer for peer in self.addresses if peer != self._peer_id]

    async def _channel(self, peer_id: str) -> grpc.aio.Channel:
        address = self.addresses.get(peer_id)
        if address is None:
            raise NoLeaderError(f"{peer_id} is no peer any more")
        line = self._lines.get(address)
        if line is None:
            line = self._lines[address] = Line(address, self._tls)
        return await line.channel()

    def leader_elsewhere(self) -> str:
        """The other peer that leads as far as this one knows; "" when unknown or when this one leads."""
        leader = self._log.leader_id
        return leader if leader != self._peer_id and leader in self.addresses else ""

    async def wait_moved(self, timeout_s: float) -> None:
        """Return when the leader changed, or after ``timeout_s``."""
        event = self._moved
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            pass

    async def call(
        self, peer_id: str, path: str, raw: bytes, call: Call, *, timeout_s: float, follow: bool = True
    ) -> bytes:
        """One unary call to another peer on behalf of ``call.caller``; raises ``RaftsmanError``.

        ``follow``: given up with ``UnknownOutcomeError`` as soon as another leader is known, for a frozen peer would
        hold the call until its deadline.
        """
        service = path.rpartition("/")[0]
        if follow and self.spares(service):
            raise OverloadedError(
                f"{peer_id}, which leads, has more to do than it can: try again a little later",
                retry_after_ms=random.randint(*RETRY_MS),
            )
        rpc = (await self._channel(peer_id)).unary_unary(path, None, None)
        pending = rpc(raw, timeout=timeout_s, metadata=((FORWARDED_IDENTITY, str(call.caller.identity)),))
        if follow:
            self._bound[pending] = peer_id
        try:
            return bytes(await pending)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # the caller is gone
            if follow and pending not in self._bound:
                raise UnknownOutcomeError(f"{peer_id} stopped leading before it answered") from None
            raise UnknownOutcomeError("this peer stopped before the leader answered") from None
        except grpc.aio.AioRpcError as error:
            raise self._failure(error, service if follow else "") from None
        finally:
            self._bound.pop(pending, None)

    def spares(self, service: str) -> bool:
        """Whether the leader lately had no room for a call of that service, so that it is asked for nothing."""
        return time.monotonic() < self._full_until.get(service, 0.0)

    def _failure(self, error: grpc.aio.AioRpcError, followed: str) -> RaftsmanError:
        """``followed``: the service of a call to who leads. A function of its own: a caller that holds what it raises
        would be held by it in turn, with the call."""
        found = from_rpc_error(error)
        # CANCELLED is what gRPC's core says where it has no room, but also what a peer that stops says of the calls
        # that it was serving. Which of them is not told: the outcome stays unknown, but the leader is spared.
        full = isinstance(found, OverloadedError) or error.code() is grpc.StatusCode.CANCELLED
        if followed and full:
            self._full_until[followed] = time.monotonic() + LEADER_FULL_S
        return found

    async def stream(
        self, peer_id: str, path: str, raw: bytes, call: Call, *, bound_to_leader: bool
    ) -> AsyncIterator[bytes]:
        """Messages of a streaming call to another peer; ``bound_to_leader``: ends when another peer leads."""
        rpc = (await self._channel(peer_id)).unary_stream(path, None, None)
        timeout_s = None if call.deadline is None else call.timeout_s()
        pending = rpc(raw, timeout=timeout_s, metadata=((FORWARDED_IDENTITY, str(call.caller.identity)),))
        watcher = asyncio.ensure_future(self._cancel_when_moved(peer_id, pending)) if bound_to_leader else None
        try:
            async for message in pending:
                yield message
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        except asyncio.CancelledError:
            if watcher is not None and watcher.done() and not watcher.cancelled():
                raise NotLeaderError(f"{peer_id} stopped leading", leader_id=self._log.leader_id) from None
            raise
        finally:
            if watcher is not None:
                watcher.cancel()
            pending.cancel()

    async def duplex(self, peer_id: str, path: str, call: Call) -> Any:
        """A started call with streams both ways to another peer (``read``, ``write``, ``done_writing``, ``cancel``)."""
        rpc: Any = (await self._channel(peer_id)).stream_stream(path, None, None)
        timeout_s = None if call.deadline is None else call.timeout_s()
        return rpc(timeout=timeout_s, metadata=((FORWARDED_IDENTITY, str(call.caller.identity)),))

    async def _cancel_when_moved(self, peer_id: str, pending: Any) -> None:
        while self._log.leader_id in ("", peer_id):
            await self._moved.wait()
        pending.cancel()

    def _look(self) -> None:
        seen = (self._log.is_leader(), self._log.leader_id)
        if seen != self._seen:
            self._seen = seen
            self._full_until.clear()  # said of another one, or of one that has begun anew
            event, self._moved = self._moved, asyncio.Event()
            event.set()
            if self._log.leader_id:
                for pending in [call for call, peer in self._bound.items() if peer != self._log.leader_id]:
                    del self._bound[pending]
                    pending.cancel()


class Service:
    """A gRPC service whose methods are served here or at the leader, as ``routes`` says.

    One of ``servicers`` has a coroutine function ``snake_case(request, call)`` for each method, or an async generator
    function (of messages, or their bytes) where it streams its answer. Methods that are missing in ``routes`` are
    routed to the leader.
    """

    def __init__(
        self,
        descriptor: ServiceDescriptor,
        servicers: Sequence[object],
        routes: Mapping[str, Route],
        *,
        log: ReplicatedLog,
        forwarder: Forwarder,
        admission: Admission,
        secure: bool,
    ) -> None:
        unknown = routes.keys() - {method.name for method in descriptor.methods}
        if unknown:
            raise ValueError(f"routes of methods that {descriptor.full_name} does not have: {sorted(unknown)}")
        self.name: str = descriptor.full_name
        self._log = log
        self._forwarder = forwarder
        self._admission = admission
        self._secure = secure
        self._methods = [_Method(m, routes.get(m.name, Route.LEADER), servicers) for m in descriptor.methods]

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """By the methods' names. Requests and answers cross them as raw bytes."""
        return {method.name: self._method_handler(method) for method in self._methods}

    def hurried(self) -> list[str]:
        """Paths of the methods whose calls count in the lanes of clients: they are begun as there is room."""
        if self.name == AGENTS:
            return []
        return [one.path for one in self._methods if not one.takes_stream and not one.gives_stream]

    def add_to_server(self, server: grpc.aio.Server) -> None:
        """Serve there, from when it starts.

        Each method is registered by its name: gRPC takes in one call at a time for each of those (``accepting`` makes
        it more), and one at a time for all that are not registered, where calls of the agents would hold up a client's.
        """
        handlers = self.handlers()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(self.name, handlers),))
        server.add_registered_method_handlers(self.name, handlers)  # type: ignore[attr-defined]  # missing in grpc-stubs

    def _method_handler(self, method: _Method) -> grpc.RpcMethodHandler[Any, Any]:
        if method.takes_stream:

            async def duplex(raws: AsyncIterator[bytes], context: Any) -> None:
                try:
                    await _write_all(context, method.serve(_parsed(method, raws), self._begin(method, context)), None)
                except RaftsmanError as error:
                    _refuse(context, error)
                except Exception as error:
                    self._failed(method, context, error)

            return grpc.stream_stream_rpc_method_handler(duplex)
        if method.gives_stream:

            async def streaming(raw: bytes, context: Any) -> None:
                try:
                    with self._admitted(len(raw)):
                        await _write_all(context, await self._source(method, raw, context), STALLED_S)
                except RaftsmanError as error:
                    _refuse(context, error)
                except Exception as error:
                    self._failed(method, context, error)

            return grpc.unary_stream_rpc_method_handler(streaming)

        async def unary(raw: bytes, context: Any) -> bytes:
            beside = self._beside(context)
            if beside:
                context.set_trailing_metadata(beside)
            try:
                with self._admission.hold(self._lane(context), len(raw)):
                    return await self._unary(method, raw, context)
            except RaftsmanError as error:
                _refuse(context, error, beside)
            except Exception:
                logger.exception("call failed", method=method.name)
                _refuse(context, _internal(method))
            return b""  # clients leave it aside, as the status is not OK

        return grpc.unary_unary_rpc_method_handler(unary)

    def _lane(self, context: Any) -> Lane:
        """Before anything is believed: whoever only says that a call was forwarded is refused in the next step."""
        if self.name == AGENTS:
            return Lane.AGENT
        metadata = context.invocation_metadata() or ()
        return Lane.FORWARDED if any(key == FORWARDED_IDENTITY for key, _ in metadata) else Lane.CLIENT

    def _beside(self, context: Any) -> tuple[tuple[str, str], ...]:
        """Who asks beside its call hears who the peers are, once they are others than those it was set up with."""
        asked = any(key == WHICH_PEERS for key, _ in context.invocation_metadata() or ())
        if not asked or not self._forwarder.changed_peers():
            return ()
        return ((WHICH_PEERS, ",".join(self._forwarder.addresses.values())),)

    def _begin(self, method: _Method, context: Any) -> Call:
        caller = caller_of(context, secure=self._secure)
        authorize(caller, self.name, method.name)
        left = context.time_remaining()
        if left is None and not method.gives_stream:
            left = DEFAULT_TIMEOUT_S
        if left is not None and left <= 0:
            raise TimeoutError_("the call's deadline had passed before it was begun: nothing was done")
        return Call(caller=caller, deadline=None if left is None else time.monotonic() + left)

    def _why_no_leader(self) -> str:
        return (
            self._log.status().waits_for
            or "no leader is known: a majority of the peers must be up and reach each other"
        )

    def _failed(self, method: _Method, context: Any, error: Exception) -> None:
        """End a stream for a reason that nobody foresaw."""
        # What was to be written found the caller gone, which gRPC, who gets it back, knows as well.
        if isinstance(error, grpc.aio.InternalError):
            raise error
        logger.error("call failed", method=method.name, exc_info=error)
        _refuse(context, _internal(method))

    # ------------------------------------------------------------------ unary

    async def _unary(self, method: _Method, raw: bytes, context: Any) -> bytes:
        call = self._begin(method, context)
        request: Any = method.parse(raw)
        if method.writes and not request.request_id:
            # A hand-written call (grpcurl): from here on it is safe to repeat it.
            request.request_id = f"minted-{uuid.uuid4().hex}"
            raw = request.SerializeToString()
        if method.route is Route.HERE or (method.route is Route.FRESH and request.read.stale):
            return _encoded(await method.serve(request, call))
        patience = _Patience(method, call, self._log)
        while True:
            try:
                self._require_staying()
                if self._log.is_leader():
                    return _encoded(await method.serve(request, call))
                if call.caller.forwarded:
                    raise NotLeaderError("this peer does not lead", leader_id=self._log.leader_id)
                leader = self._forwarder.leader_elsewhere()
                if not leader:
                    raise NoLeaderError(self._why_no_leader())
                return await self._forwarder.call(leader, method.path, raw, call, timeout_s=call.timeout_s())
            except (NotLeaderError, NoLeaderError, UnknownOutcomeError, OverloadedError) as error:
                full = isinstance(error, OverloadedError)
                if self.name != AGENTS and (full or self._forwarder.spares(self.name)):
                    self._admission.shut(LEADER_FULL_S)
                if full or call.caller.forwarded or self._forwarder.leaving or not patience.lasts(error):
                    raise patience.verdict(error) from None
            await self._forwarder.wait_moved(PAUSE_S)

    # ------------------------------------------------------------------ streams

    def _admitted(self, size: int) -> AbstractContextManager[object]:
        """While a stream is served: of agents there are as many as there are nodes."""
        return nullcontext() if self.name == AGENTS else self._admission.hold(Lane.STREAM, size)

    async def _source(self, method: _Method, raw: bytes, context: Any) -> AsyncIterator[Message | bytes]:
        """What the stream consists of: of the method here, or of the peer that leads."""
        call = self._begin(method, context)
        request = method.parse(raw)
        leader = ""
        if method.route is not Route.HERE:
            leader = await self._await_leader(method, call)
        messages: AsyncIterator[Message | bytes]
        if leader:
            messages = self._forwarder.stream(leader, method.path, raw, call, bound_to_leader=True)
        else:
            messages = method.serve(request, call)
        return messages

    async def _await_leader(self, method: _Method, call: Call) -> str:
        """The other peer to ask, "" if this one leads; raises ``NoLeaderError`` or, forwarded, ``NotLeaderError``."""
        patience = _Patience(method, call, self._log)
        while True:
            self._require_staying()
            if self._log.is_leader():
                return ""
            if call.caller.forwarded:
                raise NotLeaderError("this peer does not lead", leader_id=self._log.leader_id)
            leader = self._forwarder.leader_elsewhere()
            if leader:
                return leader
            error = NoLeaderError(self._why_no_leader())
            if not patience.lasts(error):
                raise error
            await self._forwarder.wait_moved(PAUSE_S)

    def _require_staying(self) -> None:
        if self._forwarder.leaving:
            raise NoLeaderError("this peer is stopping, nothing was done: ask another one")


class _Patience:
    """How long one call goes on looking for a leader, and what to say when that was too long."""

    def __init__(self, method: _Method, call: Call, log: ReplicatedLog) -> None:
        self._writes = method.writes
        self._deadline = call.deadline
        self._seconds = read_patience_s(log) if method.reads else WRITE_PATIENCE_S
        self._until: float | None = None
        # What was said of a try that may have been done; the error itself would hold this object, by its frames.
        self._unknown = ""

    def lasts(self, error: RaftsmanError) -> bool:
        """Whether to try again; the time counts from the first failure."""
        now = time.monotonic()
        if isinstance(error, UnknownOutcomeError):
            self._unknown = error.message
        if self._until is None:
            self._until = now + self._seconds
            if self._deadline is not None:
                self._until = min(self._until, self._deadline - MARGIN_S)
        return now + PAUSE_S < self._until

    def verdict(self, error: RaftsmanError) -> RaftsmanError:
        """A try that may have been done outweighs later ones that certainly were not."""
        if not self._writes:
            return error if isinstance(error, NotLeaderError | OverloadedError) else NoLeaderError(error.message)
        if self._unknown:
            return UnknownOutcomeError(
                f"{self._unknown}; it may or may not be done: repeat it with the same request id"
            )
        return error


async def _write_all(context: Any, messages: Any, stalled_s: float | None) -> None:
    """Write what the generator ``messages`` gives, and close it; a reader that takes nothing for ``stalled_s`` is cut.

    There are no generators around that one, and of what was written nothing is kept until the next one comes: each of
    thousands of agents holds two such streams open.
    """
    async with aclosing(messages) as given:
        async for message in given:
            raw = message if isinstance(message, bytes) else message.SerializeToString()
            del message
            if stalled_s is None:
                await context.write(raw)
            else:
                try:
                    async with asyncio.timeout(stalled_s):
                        await context.write(raw)
                except TimeoutError:
                    raise too_slow() from None
            del raw


def _refuse(context: Any, error: RaftsmanError, beside: Sequence[tuple[str, str]] = ()) -> None:
    """What the call ends with once its handler returns.

    Not by ``context.abort_with_status``: the call would hold the exception that this raises, which holds by its frames
    the call and, of a forwarded one, the call to the other peer, 16 KiB. Of ten thousand refusals a second those that a
    look at the young objects finds under way would stay until one at all objects, and those are hours apart.
    """
    status = to_status(error)
    context.set_code(status.code)
    context.set_details(status.details)
    context.set_trailing_metadata((*status.trailing_metadata, *beside))


async def _parsed(method: _Method, raws: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for raw in raws:
        yield method.parse(raw)


def _encoded(message: Message) -> bytes:
    raw = message.SerializeToString()
    if len(raw) > MAX_MESSAGE_BYTES:
        raise InvalidError(
            f"the answer has {len(raw)} bytes, and a message may have {MAX_MESSAGE_BYTES}: ask for less of it at once, "
            "such as one namespace, one job, one node, or what is live"
        )
    return raw


def _internal(method: _Method) -> RaftsmanError:
    return RaftsmanError(f"{method.name} failed inside the peer; its log says why")
