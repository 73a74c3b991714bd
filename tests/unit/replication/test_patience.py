"""A leader with much to do is waited for longer; a leader that is gone, on machines with time to spare, is not."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.replication.settings import EngineConfig, Guards
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.effort import seeds
from tests.sim.loop import run_virtual
from tests.unit.replication.puppet import Puppet, append

CONFIG = EngineConfig(election_min_s=0.4, election_max_s=0.8, heartbeat_s=0.125)


async def leads(p1: Puppet, seconds: float, *, every_s: float = 0.125, term: int = 1) -> None:
    """p2 is heard so often, and now."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        await asyncio.sleep(every_s)
        await p1.say("p2", append=append(term, (1, 0)))


async def waits_for(p1: Puppet) -> float:
    """Seconds from now on until p1 asks whether it may lead."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    p1.ear.heard.clear()
    await p1.hear("prevote_request", within_s=5)
    return loop.time() - began


async def would_vote(p1: Puppet, term: int) -> bool:
    request = pb.PreVoteRequest(term=term, round=1, last_index=9, last_term=9)
    return any(frame.prevote_reply.granted for frame in await p1.say("p3", prevote_request=request))


def waited(silences: list[float], *, then_s: float = 0.0, guards: Guards | None = None) -> float:
    """Seconds that p1 waits for a leader that was silent for so long, now and then, and regular afterwards."""

    async def scenario() -> float:
        async with Puppet(config=CONFIG, guards=guards) as p1:
            await leads(p1, 1)
            for silence in silences:
                await leads(p1, silence, every_s=silence)
            await leads(p1, then_s)
            return await waits_for(p1)

    return run_virtual(scenario)


def test_a_regular_leader_is_waited_for_no_longer_than_the_timeout() -> None:
    assert 0.4 <= waited([]) <= 0.81


def test_after_a_silence_twice_as_long_a_one_is_borne() -> None:
    extra = 2 * 0.35 - 0.4
    assert 0.4 + extra - 0.01 <= waited([0.35]) <= 0.8 + extra + 0.02
    assert waited([0.3, 0.3, 0.3]) <= 0.8 + (2 * 0.3 - 0.4) + 0.02  # the longest counts, and not their sum


@pytest.mark.parametrize("silences", seeds([[0.39, 0.6, 0.9], [3600.0]], fast=[[0.39, 0.6, 0.9]]))
def test_patience_has_an_end(silences: list[float]) -> None:
    assert 0.8 <= waited(silences) <= 0.8 + 0.4 + 0.02


@pytest.mark.parametrize("silence", seeds([0.39, 3600.0], fast=[0.39]))
def test_patience_fades(silence: float) -> None:
    assert waited([silence], then_s=1) > 0.75
    assert waited([silence], then_s=30) <= 0.81


def test_until_then_nobody_else_gets_the_vote() -> None:
    async def scenario() -> None:
        async with Puppet(config=CONFIG) as p1:
            await leads(p1, 1)
            await leads(p1, 0.35, every_s=0.35)
            await asyncio.sleep(0.6)  # of 0.4 + 0.3 s
            assert not await would_vote(p1, 2)
            await asyncio.sleep(0.15)
            assert await would_vote(p1, 2)

    run_virtual(scenario)


def test_a_time_without_leader_is_no_leaders_silence() -> None:
    async def scenario() -> float:
        async with Puppet(config=CONFIG) as p1:
            await leads(p1, 1)
            await asyncio.sleep(0.39)
            await leads(p1, 1, term=2)
            return await waits_for(p1)

    assert run_virtual(scenario) <= 0.81


def test_a_leader_whose_stream_breaks_is_not_waited_for() -> None:
    async def scenario() -> float:
        async with Puppet(config=CONFIG) as p1:
            await leads(p1, 1)
            for _ in range(3):
                await leads(p1, 0.35, every_s=0.35)
            p1.engine.session_ended("p2")
            return await waits_for(p1)

    assert run_virtual(scenario) <= 0.11
