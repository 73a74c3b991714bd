"""The gRPC server of a peer, which takes in calls as fast as they come.

Owns: how many calls of one method gRPC may have ready for the loop. Leaves to others: what is served (``forward``),
where it listens (``daemon``), how many may be served at once (``admission``). The rules: a call waits for its turn of
the loop, and not for one turn for each call that came before it; and what would only be refused is not begun.

``grpc.aio`` asks its core for one call, takes five or six turns of the loop until it has begun it, and asks for the
next one. With turns of some milliseconds, as where thousands of nodes are served, that is less than a hundred calls a
second, however little each of them costs, and the others wait in front of a loop that has time for them. Here some more
are asked for ahead, of each method, and as many more as turn out to be there already.

Under overload it is the other way round: a call that Python begins and refuses costs many times what it costs gRPC's
core to refuse it, and thousands a second of those take the processor from what is being served. So where the ``Gate``
says that there is no room, none is asked for. They wait in the core, which refuses what is more than
``max_pending_requests`` of a method by itself. Only one is let in every ``PACE_S`` nevertheless, so that the wait ends
for all of them, however long those that are being served may take.

That needs one method of gRPC's that is not public (``_make_request_call_future`` of ``cygrpc.AioServer``). Where
another version does not have it, the server is gRPC's own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import grpc
import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # grpc-stubs does not know it

MOST_AHEAD = 16
"""Calls of one method that are asked for ahead, at most; 1 at first."""
PACE_S = 0.010
"""While there is no room, one call of a method is let in after so long, so that the wait outside ends however long that
lasts. More often costs what it is there to save: on a slow machine, each 2 ms took a third off what got done."""
_ASK = "_make_request_call_future"

Ask = Callable[[], "asyncio.Future[Any]"]


class Gate(Protocol):
    """Says how many more calls may be begun."""

    def room(self) -> int:
        """So many; 0 where there are enough."""

    def came(self) -> None:
        """One was begun: it is on its way to where it is counted."""


def server(
    options: Sequence[tuple[str, Any]], *, gate: Gate | None = None, behind: Iterable[str] = ()
) -> grpc.aio.Server:
    """``grpc.aio.server`` with these options; the methods with the paths ``behind`` are taken in as ``gate`` has room.

    Call it on the loop that will serve.
    """
    plain = cygrpc.AioServer
    if hasattr(plain, _ASK):
        gates = {path.encode(): gate for path in behind}
        cygrpc.AioServer = type("AioServer", (_AsksAhead, plain), {"_gates": gates})
    try:
        return grpc.aio.server(options=options)
    finally:
        cygrpc.AioServer = plain


class Ahead:
    """Calls of one method; ``ask`` gives a future of the next one that the core has. ``close`` it at the end."""

    def __init__(self, ask: Ask, gate: Gate | None = None) -> None:
        self._ask = ask
        self._gate = gate
        self._timer: asyncio.TimerHandle | None = None
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
        self._ask_for_more()
        return waiter

    def close(self) -> None:
        """Nothing more is asked for."""
        if self._timer is not None:
            self._timer.cancel()

    def _ask_for_more(self) -> None:
        missing = self._most + (self._waiter is not None) - self._asked - len(self._here)
        if self._gate is not None:
            missing = min(missing, self._gate.room())
        for _ in range(missing):
            self._ask_for_one()
        if self._asked == 0 and not self._here and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PACE_S, self._let_one_in)

    def _ask_for_one(self) -> None:
        self._asked += 1
        self._ask().add_done_callback(self._came)

    def _let_one_in(self) -> None:
        self._timer = None
        if self._asked == 0:
            self._ask_for_one()
        self._ask_for_more()

    def _came(self, call: asyncio.Future[Any]) -> None:
        self._asked -= 1
        if self._gate is not None:
            self._gate.came()
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
    _gates: Mapping[bytes, Gate | None]

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        if method not in (ahead := self.__dict__.setdefault("_ahead", {})):
            ask: Callable[[Any], asyncio.Future[Any]] = getattr(super(), _ASK)
            ahead[method] = Ahead(lambda: ask(method), self._gates.get(method or b""))
        found: Ahead = ahead[method]
        return found.next()

    async def shutdown(self, grace: float | None) -> None:
        # Calls that nobody has begun: without anybody who holds them they end, and nobody waits for them.
        for ahead in self.__dict__.pop("_ahead", {}).values():
            ahead.close()
        await super().shutdown(grace)  # type: ignore[misc]
