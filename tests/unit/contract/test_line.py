"""A line to a peer that dies and comes back, over real channels on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from orchestrator.contract import channel
from orchestrator.contract import line as module
from orchestrator.contract.line import Line


class Echo:
    """Answers ``/a/b`` with the request, or when ``hold`` is set."""

    def __init__(self) -> None:
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def answer(self, raw: bytes, context: object) -> bytes:
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        return raw


async def serve(port: int, echo: Echo) -> grpc.aio.Server:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    method = grpc.unary_unary_rpc_method_handler(echo.answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a", {"b": method}),))
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    await server.start()
    return server


@pytest.fixture
def port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found: int = taken.getsockname()[1]
        return found


@pytest.fixture
async def line(port: int) -> AsyncIterator[Line]:
    made = Line(f"127.0.0.1:{port}", None)
    yield made
    await made.close()


async def ask(line: Line) -> bytes:
    answer: bytes = await (await line.channel()).unary_unary("/a/b", None, None)(b"hello", timeout=20)
    return answer


async def assert_refused(line: Line) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(line)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_first_call_after_a_peer_came_back_succeeds(line: Line, port: int) -> None:
    for _ in range(3):
        for _ in range(3):  # gRPC's own pause grows with each
            await assert_refused(line)
        server = await serve(port, Echo())
        assert await ask(line) == b"hello"
        await server.stop(None)


async def test_calls_in_a_row_share_one_channel_while_it_works(line: Line, port: int) -> None:
    server = await serve(port, Echo())
    first = await line.channel()
    await asyncio.gather(*(ask(line) for _ in range(5)))
    assert await line.channel() is first
    await server.stop(None)


async def test_many_calls_for_a_dead_peer_share_few_attempts(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = 0

    def counted(address: str, tls: None) -> grpc.aio.Channel:
        nonlocal dialled
        dialled += 1
        return channel.dial(address, tls)

    monkeypatch.setattr(module, "dial", counted)
    monkeypatch.setattr(module, "REDIAL_S", 1.0)
    await assert_refused(line)
    await asyncio.gather(*(assert_refused(line) for _ in range(50)))
    assert 2 <= dialled <= 5  # whoever is late on a busy machine finds that one failed, and shares another


async def test_a_call_that_a_stopping_peer_still_serves_outlives_the_next_dial(line: Line, port: int) -> None:
    echo = Echo()
    echo.hold = asyncio.Event()
    server = await serve(port, echo)
    held = asyncio.ensure_future(ask(line))
    await echo.asked.wait()
    stopping = asyncio.ensure_future(server.stop(20))  # refuses connections, and lets the call end
    before = await line.channel()
    while await line.channel() is before:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await ask(line)
    echo.hold.set()
    assert await held == b"hello"
    await stopping
