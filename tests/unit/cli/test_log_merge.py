"""Lines of several logs in the order of time, with little held and nobody held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli import log_merge
from orchestrator.cli.log_merge import HELD, Line, lines, merged
from orchestrator.cli.logs import told


@dataclass
class Piece:
    data: bytes
    time_ms: int = 0


async def said(*pieces: Piece) -> AsyncIterator[Piece]:
    for piece in pieces:
        yield piece


async def of(*given: Line) -> AsyncIterator[Line]:
    for line in given:
        yield line


async def test_lines_are_whole_and_have_the_time_of_their_beginning() -> None:
    pieces = said(Piece(b"on", 5), Piece(b"e\ntwo\nth", 9), Piece(b"ree", 12))
    found = [(line.time_ms, line.text) async for line in lines(3, pieces)]
    assert found == [(5, b"one"), (9, b"two"), (9, b"three")]


async def test_what_has_no_time_follows_what_came_before() -> None:
    pieces = said(Piece(b"a\n"), Piece(b"b\n", 7), Piece(b"c\n"), Piece(b"d\n", 6))
    assert [line.time_ms async for line in lines(0, pieces)] == [0, 7, 7, 7]


@given(st.lists(st.lists(st.integers(1, 50), max_size=30).map(sorted), max_size=5))
async def test_logs_that_are_in_order_are_merged_in_order(times: list[list[int]]) -> None:
    sources = [of(*(Line(at, number, b"x") for at in log)) for number, log in enumerate(times)]
    found = [line async for line in merged(sources)]
    assert [line.time_ms for line in found] == sorted(at for log in times for at in log)
    for number, log in enumerate(times):
        assert [line.time_ms for line in found if line.source == number] == log


async def test_a_log_that_says_nothing_holds_nobody_up() -> None:
    async def silent() -> AsyncIterator[Line]:
        await asyncio.Event().wait()
        yield Line(0, 1, b"")

    everything = merged([of(Line(1, 0, b"a"), Line(2, 0, b"b")), silent()])
    assert [(await anext(everything)).text, (await anext(everything)).text] == [b"a", b"b"]
    await everything.aclose()


async def test_a_quiet_log_is_waited_for_once_and_not_before_each_line_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_vain = 0
    within = log_merge._within

    async def counted(came: asyncio.Event, seconds: float) -> bool:
        nonlocal in_vain
        spoke = await within(came, seconds)
        in_vain += not spoke
        return spoke

    async def quiet() -> AsyncIterator[Line]:
        yield Line(1, 1, b"hello")
        await asyncio.Event().wait()

    async def busy() -> AsyncIterator[Line]:
        for at in range(2, 200):
            yield Line(at, 0, b"x")
            await asyncio.sleep(0)

    monkeypatch.setattr(log_merge, "_within", counted)
    everything = merged([busy(), quiet()], patience_s=0.01)
    found = [(await anext(everything)).time_ms for _ in range(199)]
    await everything.aclose()
    assert found == list(range(1, 200))
    assert in_vain < 20


async def test_a_long_log_is_not_read_ahead_of_its_reader() -> None:
    read = 0

    async def endless() -> AsyncIterator[Line]:
        nonlocal read
        while True:
            read += 1
            yield Line(read, 0, b"x")

    everything = merged([endless()])
    for _ in range(10):
        await anext(everything)
    assert read <= HELD + 20
    await everything.aclose()


async def test_what_fails_is_raised_after_what_the_others_say() -> None:
    async def broken() -> AsyncIterator[Line]:
        yield Line(1, 0, b"half")
        raise ValueError("gone")

    found = []
    with pytest.raises(ExceptionGroup) as caught:
        async for line in merged([broken(), of(Line(2, 1, b"whole"))]):
            found.append(line.text)
    assert found == [b"half", b"whole"]
    assert isinstance(caught.value.exceptions[0], ValueError)


def test_whose_output_cannot_be_had_is_named_once() -> None:
    assert told("web/main/0", "web/main/0 task b has no output") == "web/main/0 task b has no output"
    assert told("web/main/0", "no answer within 30 s") == "web/main/0: no answer within 30 s"
    assert told("web/main/1", "web/main/10 is gone") == "web/main/1: web/main/10 is gone"
