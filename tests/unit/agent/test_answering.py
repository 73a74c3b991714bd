"""Waiting for what runs tasks: within a bound, and given up once it is silent twice in a row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from agent import answering
from agent.answering import in_time, pieces_while_answering, until_silent, while_answering
from agent.driver import Driver, DriverUnavailableError


class Engine:
    """A driver of which only its word counts; ``silences``: how many of its next answers do not come."""

    name = "docker"

    def __init__(self, silences: int = 0) -> None:
        self.silences = silences
        self.asked = 0

    async def answer(self) -> None:
        self.asked += 1
        if self.silences:
            self.silences -= 1
            await asyncio.Event().wait()


class Plain:
    name = "process"


def driver(one: object) -> Driver:
    return cast(Driver, one)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "ANSWER_S", 0.02)
    monkeypatch.setattr(answering, "LOOK_S", 0.02)


async def never() -> str:
    await asyncio.Event().wait()
    return ""


async def at_once() -> str:
    return "said"


async def test_an_answer_is_passed_on_and_nothing_else_is_asked() -> None:
    engine = Engine()
    assert await in_time(driver(engine), at_once()) == "said"
    assert await while_answering(driver(engine), at_once()) == "said"
    assert engine.asked == 0


async def test_silence_about_a_task_is_told_from_silence_about_everything() -> None:
    with pytest.raises(DriverUnavailableError, match=r"^the Docker engine does not answer"):
        await in_time(driver(Engine(silences=1)), never())
    with pytest.raises(DriverUnavailableError, match=r"answers, but said nothing about this task.*a copy"):
        await in_time(driver(Engine()), never())
    with pytest.raises(DriverUnavailableError, match=r"^driver process answers, but"):
        await in_time(driver(Plain()), never())


async def test_a_deadline_of_what_was_asked_is_its_own() -> None:
    async def late() -> None:
        raise TimeoutError("its own")

    engine = Engine()
    with pytest.raises(TimeoutError, match="its own"):
        await in_time(driver(engine), late())
    assert engine.asked == 0


async def test_what_is_under_way_survives_one_silence_and_not_two() -> None:
    engine = Engine(silences=1)

    async def until_asked_again() -> str:
        while engine.asked < 3:
            await asyncio.sleep(0)
        return "done"

    assert await while_answering(driver(engine), until_asked_again()) == "done"
    given_up = asyncio.Event()

    async def work() -> None:
        try:
            await never()
        finally:
            given_up.set()

    with pytest.raises(DriverUnavailableError, match="does not answer"):
        await while_answering(driver(Engine(silences=2)), work())
    assert given_up.is_set()


async def test_an_error_of_the_work_itself_is_its_own() -> None:
    async def work() -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await while_answering(driver(Engine()), work())


async def test_nothing_that_could_hang_is_never_silent() -> None:
    watching = asyncio.ensure_future(until_silent(driver(Plain())))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not watching.done()
    watching.cancel()


async def test_pieces_come_as_they_come_and_end_with_silence() -> None:
    engine = Engine()
    closed = asyncio.Event()

    async def said(most: int) -> AsyncIterator[int]:
        try:
            for number in range(most):
                yield number
            if most < 3:
                return
            await never()
        finally:
            closed.set()

    assert [one async for one in pieces_while_answering(driver(engine), said(2))] == [0, 1]
    assert (engine.asked, closed.is_set()) == (0, True)
    closed.clear()
    engine.silences = 2
    got = []
    with pytest.raises(DriverUnavailableError, match="does not answer"):
        async for one in pieces_while_answering(driver(engine), said(3)):
            got.append(one)
    assert (got, closed.is_set()) == ([0, 1, 2], True)
