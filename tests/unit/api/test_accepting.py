"""Calls are asked for ahead, so that one does not wait for turns that those before it take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from orchestrator.api import accepting
from orchestrator.api.accepting import MOST_AHEAD, Ahead


class Core:
    """What is asked of gRPC's core, to be answered in any order."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Any]] = []

    def ask(self) -> asyncio.Future[Any]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]

    @property
    def open(self) -> list[asyncio.Future[Any]]:
        return [one for one in self.asked if not one.done()]


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_call_that_came_while_another_is_begun_is_there_at_once() -> None:
    core = Core()
    ahead = Ahead(core.ask)
    first = ahead.next()
    assert len(core.open) == 2  # the one that is waited for, and one ahead
    for call, future in zip("ab", core.open, strict=True):
        future.set_result(call)
    await turn()
    assert first.result() == "a"
    assert ahead.next().result() == "b"


async def test_more_are_asked_for_where_some_were_there_already_but_not_without_end() -> None:
    core = Core()
    ahead = Ahead(core.ask)
    got: list[int] = []
    waiter = ahead.next()
    for number in range(200):
        for future in core.open:
            future.set_result(number)
        await turn()
        got.append(waiter.result())
        waiter = ahead.next()
        assert len(core.open) <= MOST_AHEAD + 1
        held = len(core.asked) - len(core.open) - len(got) - (1 if waiter.done() else 0)
        assert held <= MOST_AHEAD + 1
    assert len(core.open) + held >= MOST_AHEAD


async def test_calls_that_come_in_another_order_wait_for_none() -> None:
    core = Core()
    ahead = Ahead(core.ask)
    waiter = ahead.next()
    core.asked[1].set_result("second")
    await turn()
    assert waiter.result() == "second"
    core.asked[0].set_result("first")
    await turn()
    assert ahead.next().result() == "first"


async def test_a_refusal_of_the_core_is_passed_on_and_another_is_asked_for() -> None:
    core = Core()
    ahead = Ahead(core.ask)
    waiter = ahead.next()
    for future in core.open:
        future.set_exception(OSError("shut down"))
    await turn()
    assert isinstance(waiter.exception(), OSError)
    assert not ahead.next().done() and len(core.open) == 2


async def test_a_call_for_a_waiter_that_was_cancelled_is_dropped() -> None:
    core = Core()
    ahead = Ahead(core.ask)
    ahead.next().cancel()
    core.asked[0].set_result("late")
    await turn()
    assert len(core.open) == 1


class Door:
    def __init__(self) -> None:
        self.free = 0
        self.begun = 0

    def room(self) -> int:
        return max(0, self.free - self.begun)

    def came(self) -> None:
        self.begun += 1


async def start(server: Any, **methods: Callable[[bytes, Any], Awaitable[bytes]]) -> int:
    """Serve them as those of ``of.Test``, and return the port."""
    handlers = {name: grpc.unary_unary_rpc_method_handler(serve) for name, serve in methods.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("of.Test", handlers),))
    server.add_registered_method_handlers("of.Test", handlers)
    port: int = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return port


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.001)


async def test_as_many_are_asked_for_as_there_is_room_for() -> None:
    core, door = Core(), Door()
    door.free = 3
    ahead = Ahead(core.ask, door)
    ahead._most = MOST_AHEAD
    ahead.next()
    assert len(core.open) == 3


async def test_without_room_one_at_a_time_is_let_in_and_more_once_there_is_some() -> None:
    """However long those take that are being served: whoever waits outside gets an answer."""
    core, door = Core(), Door()
    ahead = Ahead(core.ask, door)
    ahead._most = MOST_AHEAD
    waiter = ahead.next()
    assert core.asked == []
    await until(lambda: len(core.asked) == 1)
    core.asked[0].set_result("first")
    await turn()
    assert waiter.result() == "first" and door.begun == 1
    ahead.next()
    assert len(core.asked) == 1
    await until(lambda: len(core.asked) == 2)
    door.free = 5
    core.asked[1].set_result("second")
    await turn()
    ahead.next()
    assert len(core.open) == 3  # of five two were begun
    ahead.close()


async def test_where_there_was_no_room_nothing_is_asked_for_after_the_end() -> None:
    core = Core()
    ahead = Ahead(core.ask, Door())
    ahead.next()
    ahead.close()
    loop = asyncio.get_running_loop()
    later = loop.create_future()
    loop.call_later(3 * accepting.PACE_S, later.set_result, None)
    await later
    assert core.asked == []


async def test_what_there_is_no_room_for_is_refused_by_the_core_and_does_not_hold_up_other_methods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "PACE_S", 1e6)
    served = 0

    async def serve(request: bytes, _: Any) -> bytes:
        nonlocal served
        served += 1
        return request

    door = Door()
    options = [("grpc.server.max_pending_requests", 4), ("grpc.server.max_pending_requests_hard_limit", 8)]
    server = accepting.server(options, gate=door, behind=["/of.Test/Hurried"])
    port = await start(server, Hurried=serve, Other=serve)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        hurried = channel.unary_unary("/of.Test/Hurried", None, None)
        calls = [asyncio.ensure_future(hurried(b"%d" % number, timeout=60)) for number in range(50)]
        await until(lambda: sum(call.done() for call in calls) >= 42)
        refused = [call for call in calls if call.done()]
        for call in refused:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                call.result()
            assert caught.value.code() is grpc.StatusCode.CANCELLED  # so says gRPC's core
        assert served == 0 and len(refused) <= 46
        other = channel.unary_unary("/of.Test/Other", None, None)
        for _ in range(50):
            assert await other(b"x", timeout=60) == b"x"
        door.free = 100
        server._server._ahead[b"/of.Test/Hurried"]._let_one_in()  # type: ignore[attr-defined]
        for call in set(calls) - set(refused):
            await call
        assert served == 50 + len(calls) - len(refused)
    await server.stop(None)


def test_the_installed_grpc_has_what_is_mixed_into() -> None:
    """If not, peers are served by gRPC's own server, which takes in less than a hundred calls a second."""
    assert hasattr(cygrpc.AioServer, accepting._ASK)


async def test_a_server_answers_calls_that_come_together_and_stops() -> None:
    async def double(request: bytes, _: Any) -> bytes:
        return request + request

    plain = cygrpc.AioServer
    server = accepting.server([])
    assert cygrpc.AioServer is plain
    port = await start(server, Double=double)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/of.Test/Double", None, None)
        answers = await asyncio.gather(*(call(b"%d " % number) for number in range(300)))
    assert answers == [b"%d %d " % (number, number) for number in range(300)]
    ahead = server._server._ahead[b"/of.Test/Double"]  # type: ignore[attr-defined]
    assert ahead._most == MOST_AHEAD
    await server.stop(None)
