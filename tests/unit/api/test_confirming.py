"""Heartbeats of one moment share one round with the majority, and only a round that began later counts."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from orchestrator.api.confirming import AT_ONCE, Confirming
from orchestrator.contract.errors import NotLeaderError


class Log:
    """Counts rounds; each ends when it is let go."""

    def __init__(self) -> None:
        self.rounds = 0
        self.go = asyncio.Event()
        self.error: NotLeaderError | None = None

    async def confirm_leadership(self, *, timeout_s: float) -> None:
        self.rounds += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error


async def test_those_who_ask_together_share_a_round() -> None:
    log = Log()
    log.go.set()
    confirming = Confirming(log, gather_s=0.0)  # type: ignore[arg-type]
    await asyncio.gather(*(confirming.confirmed() for _ in range(50)))
    assert log.rounds == 1
    await confirming.confirmed()
    assert log.rounds == 2


async def test_who_asks_while_a_round_is_on_its_way_gets_another_one() -> None:
    log = Log()
    confirming = Confirming(log, gather_s=0.0)  # type: ignore[arg-type]
    first = asyncio.ensure_future(confirming.confirmed())
    while log.rounds < 1:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(confirming.confirmed())
    while log.rounds < 2:
        await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    log.go.set()
    await asyncio.gather(first, second)


async def test_everybody_hears_that_this_peer_leads_no_more_and_the_next_one_asks_again() -> None:
    log = Log()
    log.go.set()
    log.error = NotLeaderError("deposed", leader_id="p2")
    confirming = Confirming(log, gather_s=0.0)  # type: ignore[arg-type]
    found = await asyncio.gather(*(confirming.confirmed() for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [NotLeaderError] * 3
    log.error = None
    await confirming.confirmed()


async def test_one_that_gives_up_does_not_take_the_others_along() -> None:
    log = Log()
    confirming = Confirming(log, gather_s=0.0)  # type: ignore[arg-type]
    first, second = (asyncio.ensure_future(confirming.confirmed()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    log.go.set()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_many_are_answered_in_several_turns_of_the_loop() -> None:
    log = Log()
    log.go.set()
    confirming = Confirming(log, gather_s=0.0)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    turn, answered = [0], Counter[int]()

    def tick() -> None:
        turn[0] += 1
        if answered.total() < 120:
            loop.call_soon(tick)

    async def one() -> None:
        await confirming.confirmed()
        answered[turn[0]] += 1

    tick()
    await asyncio.gather(*(one() for _ in range(120)))
    assert len(answered) == 120 / AT_ONCE
    assert max(answered.values()) == AT_ONCE
