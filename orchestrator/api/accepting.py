"""The gRPC server of a peer, which takes in calls as fast as they come.

Owns: how many calls of one method gRPC may have ready for the loop. Leaves to others: what is served (``forward``),
where it listens (``daemon``). The rule: a call waits for its turn of the loop, and not for one turn for each call that
came before it.

``grpc.aio`` asks its core for one call, takes five or six turns of the loop until it has begun it, and asks for the
next one. With turns of some milliseconds, as where thousands of nodes are served, that is less than a hundred calls a
second, however little each of them costs, and the others wait in front of a loop that has time for them. Here some more
are asked for ahead, of each method, and as many more as turn out to be there already.

That needs one method of gRPC's that is not public (``_make_request_call_future`` of ``cygrpc.AioServer``). Where
another version does not have it, the server is gRPC's own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # grpc-stubs does not know it

MOST_AHEAD = 16
"""Calls of one method that are asked for ahead, at most; 1 at first."""
_ASK = "_make_request_call_future"

Ask = Callable[[], "asyncio.Future[Any]"]


def server(options: Sequence[tuple[str, Any]]) -> grpc.aio.Server:
    """``grpc.aio.server`` with these options. Call it on the loop that will serve."""
    plain = cygrpc.AioServer
    if hasattr(plain, _ASK):
        cygrpc.AioServer = type("AioServer", (_AsksAhead, plain), {})
    try:
        return grpc.aio.server(options=options)
    finally:
        cygrpc.AioServer = plain


class Ahead:
    """Calls of one method; ``ask`` gives a future of the next one that the core has."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._asked = 0
        self._most = 1
        self._here: deque[asyncio.Future[Any]] = deque()  # nobody waits for these yet
        self._waiter: asyncio.Future[Any] | None = None

    def next(self) -> asyncio.Future[Any]:
        """A future of the next call; by one caller, who waits for the last one before it asks again."""
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._here:
            _pass_on(self._here.popleft(), waiter)
            self._most = min(2 * self._most, MOST_AHEAD)
        else:
            self._waiter = waiter
        while self._asked + len(self._here) < self._most + (self._waiter is not None):
            self._asked += 1
            self._ask().add_done_callback(self._came)
        return waiter

    def _came(self, call: asyncio.Future[Any]) -> None:
        self._asked -= 1
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            _pass_on(call, waiter)
        elif not call.cancelled() and call.exception() is None:
            self._here.append(call)


def _pass_on(call: asyncio.Future[Any], waiter: asyncio.Future[Any]) -> None:
    if call.cancelled():
        waiter.cancel()
    elif (error := call.exception()) is not None:
        if not waiter.done():
            waiter.set_exception(error)
    elif not waiter.done():  # else the server is being stopped, and the call ends with it
        waiter.set_result(call.result())


class _AsksAhead:
    """Mixed into gRPC's server."""

    _ahead: dict[Any, Ahead]

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        if method not in (ahead := self.__dict__.setdefault("_ahead", {})):
            ask: Callable[[Any], asyncio.Future[Any]] = getattr(super(), _ASK)
            ahead[method] = Ahead(lambda: ask(method))
        found: Ahead = ahead[method]
        return found.next()

    async def shutdown(self, grace: float | None) -> None:
        # Calls that nobody has begun: without anybody who holds them they end, and nobody waits for them.
        self.__dict__.pop("_ahead", None)
        await super().shutdown(grace)  # type: ignore[misc]
