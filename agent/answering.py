"""Bounded waiting for what runs a task: a Docker engine may take a call and never say a word.

Owns: how long people wait for it, and noticing that it hangs while something of theirs is under way. Leaves to
others: the deadlines of the agent's own calls (drivers), what is told to whom (``sessions``, ``log_server``). The rule:
somebody who looks into a task hears in about ``ANSWER_S`` that what runs it does not answer, and what had begun ends at
the second question in a row that got no answer; a driver that has nothing which could hang (no ``Answers``) is only
waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import NoReturn, Protocol, TypeVar, runtime_checkable

from agent.driver import Driver, DriverUnavailableError

ANSWER_S = 10.0
LOOK_S = 3.0
"""So often it is asked while something is under way, or while an output is quiet."""
SILENCES = 2
"""So many questions in a row without an answer: one may be lost by an engine that has much to do."""

T = TypeVar("T")


@runtime_checkable
class Answers(Protocol):
    """A driver whose tasks are run by something else, that may hang."""

    async def answer(self) -> None:
        """Return as soon as it says anything at all. Raises ``DriverUnavailableError``."""


async def in_time(driver: Driver, asked: Awaitable[T]) -> T:
    """What was asked, within ``ANSWER_S``. Raises ``DriverUnavailableError``, besides what it raises itself."""
    try:
        async with asyncio.timeout(ANSWER_S) as bound:
            return await asked
    except TimeoutError:
        if not bound.expired():
            raise  # its own
    if isinstance(driver, Answers):
        try:
            async with asyncio.timeout(LOOK_S):
                await driver.answer()
        except (TimeoutError, DriverUnavailableError):
            raise _silent(driver) from None
    # An engine lets nobody else at a container while it copies files from it or to it, and starts take their turns.
    raise DriverUnavailableError(
        f"{_name_of(driver)} answers, but said nothing about this task for {ANSWER_S:g} s: a copy from it or to it may "
        "be under way, or many other tasks are being started; try again"
    )


async def until_silent(driver: Driver) -> NoReturn:
    """Raises ``DriverUnavailableError`` once it does not answer any more; never returns."""
    silences = 0
    while True:
        if not isinstance(driver, Answers):
            await asyncio.Event().wait()
            continue
        await asyncio.sleep(LOOK_S)
        try:
            async with asyncio.timeout(ANSWER_S):
                await driver.answer()
            silences = 0
        except (TimeoutError, DriverUnavailableError):
            silences += 1
            if silences >= SILENCES:
                raise _silent(driver) from None


async def while_answering(driver: Driver, work: Awaitable[T]) -> T:
    """What ``work`` gives; it is given up, with ``DriverUnavailableError``, when what runs the task falls silent."""
    doing, watch = asyncio.ensure_future(work), asyncio.ensure_future(until_silent(driver))
    try:
        await asyncio.wait({doing, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            watch.result()
        return await doing
    finally:
        left = [one for one in (doing, watch) if not one.done()]
        for one in left:
            one.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def pieces_while_answering(driver: Driver, pieces: AsyncIterator[T]) -> AsyncIterator[T]:
    """``pieces``, as long as what runs the task answers while none comes. Only ``pieces`` is to be closed by others."""
    while True:
        following = asyncio.ensure_future(_next(pieces))
        try:
            await asyncio.wait({following}, timeout=LOOK_S)
            piece = following.result() if following.done() else await while_answering(driver, following)
        finally:
            if not following.done():
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
        if piece is None:
            return
        yield piece


async def _next(pieces: AsyncIterator[T]) -> T | None:
    return await anext(pieces, None)


def _silent(driver: Driver) -> DriverUnavailableError:
    return DriverUnavailableError(
        f"{_name_of(driver)} does not answer (no word for {ANSWER_S:g} s). Its tasks may well be running; try again "
        f"when 'raftsman nodes -o wide' shows driver {driver.name} there again"
    )


def _name_of(driver: Driver) -> str:
    return "the Docker engine" if driver.name == "docker" else f"driver {driver.name}"
