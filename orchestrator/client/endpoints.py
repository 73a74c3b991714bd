"""The peers that a client may ask: channels, which of them answered last, and how one call survives their deaths.

Owns: choosing an endpoint, hedging, retrying with one request id, and the truth about what is known when time is up.
Leaves to others: what is called (``client.calls``). The rules: a write is repeated only with the request id that it
began with; an error says "nothing was done" only where that is certain.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from orchestrator.client import forks
from orchestrator.client.calls import SERVICE, Call, Stream
from orchestrator.contract.address import problem
from orchestrator.contract.channel import WHICH_PEERS, TlsFiles
from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    OverloadedError,
    PreconditionError,
    RaftsmanError,
    StartupError,
    TimeoutError_,
    UnknownOutcomeError,
)
from orchestrator.contract.line import Line
from orchestrator.contract.status import UNCONNECTED, from_rpc_error

T = TypeVar("T")

Beside = tuple[tuple[str, str], ...]
"""Metadata of a call."""

HEDGE_S = 0.5
"""An endpoint that has not answered for so long gets company: the same call goes to the next one too."""
STALE_HEDGE_S = 0.25
BACKOFF_S = (0.05, 0.2)
"""Between two rounds over all endpoints."""
LONGEST_PAUSE_S = 5.0
"""What an overloaded peer asks for is doubled with every such answer to one call, up to this."""
CONNECT_S = 1.0
LEARN_S = 1.0
"""So often at most a call also asks who the peers are; a client that lives long outlives all that it was made with."""
CLOSED = "CLOSED"
"""Reason of what a call of a closed client raises."""
UNREACHABLE = "UNREACHABLE"
"""Reason of a ``NoLeaderError`` when not one peer could be reached."""


class Endpoint:
    """One peer as a client sees it. Everything that needs a channel raises ``StartupError`` without certificates."""

    def __init__(self, address: str, tls: TlsFiles | None) -> None:
        self.address = address
        self._line = Line(address, tls)

    async def unary(
        self, call: Call[Any], *, timeout_s: float, beside: Beside = (), told: Callable[[Any], None] | None = None
    ) -> Message:
        """The answer. ``beside`` goes along as metadata; ``told`` gets what came with the answer or refusal."""
        made = (await self._channel()).unary_unary(
            SERVICE + call.method,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.answer.FromString,
        )
        attempt = made(call.request, timeout=timeout_s, metadata=beside or None)
        try:
            message: Message = await attempt
        except grpc.aio.AioRpcError as error:
            if told is not None:
                told(error.trailing_metadata())
            raise
        if told is not None:
            told(await attempt.trailing_metadata())
        return message

    async def stream(self, call: Stream[Any]) -> Any:
        """The started call: an async iterator of messages with ``cancel``."""
        made = (await self._channel()).unary_stream(
            SERVICE + call.method,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.answer.FromString,
        )
        return made(call.request)

    async def duplex(self, method: str, request: type[Message], answer: type[Message]) -> Any:
        """The started call, with streams both ways: ``read``, ``write``, ``done_writing``, ``cancel``."""
        made: Any = (await self._channel()).stream_stream(
            SERVICE + method, request_serializer=request.SerializeToString, response_deserializer=answer.FromString
        )
        return made()

    async def _channel(self) -> grpc.aio.Channel:
        try:
            return await self._line.channel()
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise StartupError(
                f"cannot read the certificates: {what}; point the context (raftsman "
                "context add) at ca.pem, cert.pem and key.pem that this user reads"
            ) from None

    async def connected(self, timeout_s: float) -> bool:
        """Whether there is a connection, or can be made one in time."""
        channel = await self._channel()
        state = channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(timeout_s):
                while state is not grpc.ChannelConnectivity.READY:
                    if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                        return False
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        await self._line.close()


class Endpoints:
    """All endpoints of one cluster; the one that answered last is asked first."""

    def __init__(self, addresses: Sequence[str], tls: TlsFiles | None) -> None:
        if not addresses:
            raise InvalidError("a client needs at least one endpoint (host:port)")
        for at in addresses:
            if wrong := problem(at):
                raise InvalidError(f"endpoint: {wrong}", field="endpoints")
        self._all = [Endpoint(address, tls) for address in dict.fromkeys(addresses)]
        self._gone: list[Endpoint] = []  # forgotten; a call may still run there
        self._tls = tls
        self._given = frozenset(addresses)
        self._first = 0
        self._asked_s = float("-inf")  # when a peer was last asked who the peers are
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(endpoint.address for endpoint in self._all)

    @property
    def closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        closed, self._closed = self._closed, True  # first: nobody is to dial anew
        if not closed and self._is_ours():
            await asyncio.gather(*(endpoint.close() for endpoint in [*self._all, *self._gone]))
            forks.ends(self)

    def enter(self) -> None:
        """Before each call: connections belong to the event loop that made them. Raises ``PreconditionError``."""
        self.require_open()
        forks.require_none_lost()
        forks.connects(self)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self._is_ours():
            return
        if not self._loop.is_closed():
            raise PreconditionError(
                "this client serves another event loop: make one for each (or a SyncClient, which any thread may use)",
                reason="OTHER_LOOP",
            )
        # As after one asyncio.run in the next one: what that loop left behind can be neither used nor closed.
        self._all = [Endpoint(one.address, self._tls) for one in self._all]
        self._gone = []
        self._loop = asyncio.get_running_loop()

    def require_open(self) -> None:
        """Raises ``PreconditionError`` once the client was closed, also in the middle of a call."""
        if self._closed:
            raise PreconditionError("this client is closed: make another one", reason=CLOSED)

    def _is_ours(self) -> bool:
        return self._loop is asyncio.get_running_loop()

    # ------------------------------------------------------------------ peers come and go

    def learn(self, addresses: Sequence[str]) -> None:
        """The cluster's peers are these now. Those that the client was made with stay: it may reach them by names of
        its own; others that are not among them are forgotten."""
        known = {endpoint.address for endpoint in self._all}
        if not addresses or (known - self._given <= set(addresses) <= known):
            return
        answered = self._all[self._first]
        kept = [one for one in self._all if one.address in self._given or one.address in addresses or one is answered]
        self._gone += [one for one in self._all if one not in kept]
        self._all = kept + [Endpoint(address, self._tls) for address in addresses if address not in known]
        self._first = self._all.index(answered)

    def wanted(self) -> Beside:
        """Metadata for the next call: now and then it asks who the peers are."""
        now = time.monotonic()
        if now - self._asked_s < LEARN_S:
            return ()
        self._asked_s = now
        return ((WHICH_PEERS, "?"),)

    def told(self, metadata: Any) -> None:
        """What a peer said beside its answer or refusal."""
        for key, value in metadata or ():
            if key == WHICH_PEERS and isinstance(value, str):
                self.learn(value.split(","))

    # ------------------------------------------------------------------ one answer

    async def call(self, call: Call[T], timeout_s: float, leaderless_s: float = math.inf) -> T:
        """The answer, from whichever peer gives it first. Raises a ``RaftsmanError``; see the module's rules.

        ``leaderless_s``: a peer that still knows no leader after so long is believed, and not asked again.
        """
        self.enter()
        attempts = _Attempts(self, call, timeout_s, leaderless_s)
        try:
            message = await attempts.run()
        finally:
            attempts.cancel()
        return call.decode(message)

    def answered(self, endpoint: Endpoint) -> None:
        if endpoint in self._all:
            self._first = self._all.index(endpoint)

    def in_order(self) -> list[Endpoint]:
        return self._all[self._first :] + self._all[: self._first]

    # ------------------------------------------------------------------ a stream

    async def stream(
        self, make: Callable[[], Stream[T]], patience_s: float, leaderless_s: float = math.inf
    ) -> AsyncIterator[T]:
        """The messages of a stream that moves to another peer when its own dies.

        ``make`` is asked anew each time, so that it can say where to resume. Ends when the peer ends it; raises what is
        not worth retrying at once, and anything else when nothing was heard for ``patience_s``; where a peer says that
        it knows no leader, or none can be reached at all, for ``leaderless_s``.
        """
        self.enter()
        heard = time.monotonic()
        refusals = 0
        failures: dict[str, RaftsmanError] = {}
        while True:
            for endpoint in self.in_order():
                self.require_open()
                call = make()
                error: RaftsmanError
                if not await endpoint.connected(CONNECT_S):
                    failures[endpoint.address] = UnknownOutcomeError("cannot connect", reason=UNCONNECTED)
                    continue
                rpc = await endpoint.stream(call)
                try:
                    async for message in rpc:
                        self.answered(endpoint)
                        heard, refusals = time.monotonic(), 0
                        yield call.decode(message)
                    return
                except grpc.aio.AioRpcError as broken:
                    error = from_rpc_error(broken)
                    if not error.retryable:
                        raise error from None
                    failures[endpoint.address] = error
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    failures[endpoint.address] = error = _cut_off()
                finally:
                    rpc.cancel()
                if isinstance(error, OverloadedError):
                    refusals += 1
                    await asyncio.sleep(pause_s(error, refusals))
            leaderless = any(isinstance(error, NoLeaderError) for error in failures.values()) or all(
                error.reason == UNCONNECTED for error in failures.values()
            )
            limit_s = min(patience_s, leaderless_s) if leaderless else patience_s
            if time.monotonic() - heard > limit_s:
                raise nobody(failures, limit_s)
            await asyncio.sleep(random.uniform(*BACKOFF_S))


class _Attempts:
    """One call on its way: the attempts in flight, what failed, and whether something may have been done."""

    def __init__(self, endpoints: Endpoints, call: Call[Any], timeout_s: float, leaderless_s: float) -> None:
        self._endpoints = endpoints
        self._call = call
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._leaderless_at = time.monotonic() + leaderless_s
        self._hedge_s = min(STALE_HEDGE_S if call.is_stale else HEDGE_S, timeout_s / 3)
        self._flying: dict[asyncio.Task[Message], Endpoint] = {}
        self._failures: dict[str, RaftsmanError] = {}
        self._maybe_done = False
        self._refusals = 0

    async def run(self) -> Message:
        untried = self._endpoints.in_order()
        start_at = time.monotonic()  # when the next attempt may begin
        while True:
            now = time.monotonic()
            if now >= self._deadline:
                raise self._out_of_time()
            if not (self._call.is_write and self._maybe_done):
                self._endpoints.require_open()
            elif self._endpoints.closed:
                raise self._unknown("the client was closed before an answer came")
            if now >= start_at:
                untried = untried or self._endpoints.in_order()
                busy = set(self._flying.values())
                free = next((endpoint for endpoint in untried if endpoint not in busy), None)
                if free is None:
                    untried = []
                else:
                    untried.remove(free)
                    self._start(free, self._deadline - now)
                start_at = now + self._hedge_s
            wait_s = max(0.0, min(start_at, self._deadline) - now)
            if not self._flying:
                await asyncio.sleep(wait_s)
                continue
            done, _ = await asyncio.wait(self._flying, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                endpoint = self._flying.pop(task)
                # Its channel was closed, by somebody else than whoever waits here.
                failure = _cut_off() if task.cancelled() else task.exception()
                if failure is None:
                    self._endpoints.answered(endpoint)
                    return task.result()
                delay_s = self._failed(endpoint, failure)
                # Somebody not yet asked: at once. All asked: a pause, then a new round.
                start_at = time.monotonic() + max(delay_s, 0.0 if untried else random.uniform(*BACKOFF_S))

    def cancel(self) -> None:
        for task in self._flying:
            task.cancel()
        self._flying.clear()

    def _start(self, endpoint: Endpoint, timeout_s: float) -> None:
        beside = self._endpoints.wanted()
        told = self._endpoints.told if beside else None
        answer = endpoint.unary(self._call, timeout_s=timeout_s, beside=beside, told=told)
        self._flying[asyncio.ensure_future(answer)] = endpoint

    def _failed(self, endpoint: Endpoint, failure: BaseException) -> float:
        """Note a failed attempt; returns how long to wait, or raises what no retry would change."""
        if isinstance(failure, grpc.aio.AioRpcError):
            error = from_rpc_error(failure)
        elif isinstance(failure, UnknownOutcomeError):
            error = failure
        else:
            raise failure
        self._failures[endpoint.address] = error
        if isinstance(error, TimeoutError_):
            self._maybe_done = True
            return 0.0
        if isinstance(error, UnknownOutcomeError) and not (error.reason == UNCONNECTED and _never_sent(error)):
            self._maybe_done = True
        if not error.retryable:
            raise error
        if isinstance(error, NoLeaderError) and time.monotonic() >= self._leaderless_at:
            raise error
        if isinstance(error, OverloadedError):
            self._refusals += 1
            return pause_s(error, self._refusals)
        return 0.0

    def _out_of_time(self) -> RaftsmanError:
        if self._call.is_write and (self._maybe_done or self._flying):
            return self._unknown(f"no answer within {self._timeout_s:g} s")
        if self._flying and not self._failures:
            return TimeoutError_(f"no answer within {self._timeout_s:g} s from {', '.join(self._endpoints.addresses)}")
        return nobody(self._failures, self._timeout_s)

    def _unknown(self, why: str) -> UnknownOutcomeError:
        return UnknownOutcomeError(
            f"{why}: {self._call.method} may or may not have happened. "
            f"Repeating it with request id {self._call.request_id} does it at most once",
            request_id=self._call.request_id,
        )


def _cut_off() -> UnknownOutcomeError:
    return UnknownOutcomeError("no answer: the connection was closed here", reason=UNCONNECTED)


def pause_s(error: OverloadedError, refusals: int) -> float:
    """How long to wait after so many refusals in a row; at random, so that those refused together come back apart."""
    asked = error.retry_after_ms / 1000 * 2.0 ** min(refusals - 1, 16)
    return min(asked, LONGEST_PAUSE_S) * random.uniform(1.0, 1.5)


def _never_sent(error: RaftsmanError) -> bool:
    """Whether gRPC says that there was no connection at all, so that nothing can have been done."""
    return "failed to connect" in error.message or "name resolution" in error.message.lower()


def nobody(failures: dict[str, RaftsmanError], timeout_s: float) -> RaftsmanError:
    """The truth when time is up and nobody answered: no leader, an overload, or nobody there at all."""
    for error in failures.values():
        if isinstance(error, (OverloadedError, TimeoutError_)):
            return error
    for error in failures.values():
        if not isinstance(error, UnknownOutcomeError) or error.reason != UNCONNECTED:
            return NoLeaderError(f"no leader within {timeout_s:g} s: {error.message}")
    told = "; ".join(f"{address}: {_short(error)}" for address, error in failures.items()) or "nobody answered"
    return NoLeaderError(f"no peer could be reached within {timeout_s:g} s ({told})", reason=UNREACHABLE)


def _short(error: RaftsmanError) -> str:
    text = error.message.lower()
    for mark, words in (
        ("wrong_version_number", "no TLS is spoken there"),  # a peer without it, or the port of something else
        ("failed parsing http/2", "no gRPC is spoken there, or only with TLS"),
        ("lookup", "no such host"),
        (
            "socket closed",
            "it closed the connection at once: it starts, wants a certificate, or finds ours ended or not valid yet",
        ),
        ("refused", "connection refused"),
        ("certificate has expired", "its certificate has expired"),
        ("not yet valid", "its certificate is not valid yet, or a clock is wrong"),
        ("certificate", "its certificate is of another authority"),
        ("ssl", "TLS failed"),
        ("handshake", "TLS failed"),
    ):
        if mark in text:
            return words
    return error.message.removeprefix("no answer: ")[:120]
