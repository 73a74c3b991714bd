"""A client survives the death, the slowness and the confusion of any peer, and says the truth when it cannot."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from orchestrator.client.aio import STALE_TIMEOUT_S, Client
from orchestrator.client.endpoints import LONGEST_PAUSE_S, UNREACHABLE, Endpoints, nobody, pause_s
from orchestrator.contract import foresight
from orchestrator.contract.errors import (
    ConflictError,
    InvalidError,
    NoLeaderError,
    NotFoundError,
    NotLeaderError,
    OverloadedError,
    TimeoutError_,
    UnknownOutcomeError,
)
from orchestrator.contract.status import UNCONNECTED
from tests.unit.client.fake import FakePeer, World, job_spec


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peers(world: World) -> Iterator[list[FakePeer]]:
    made = [FakePeer(world, f"p{number}") for number in (1, 2, 3)]
    yield made
    for peer in made:
        peer.kill()


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never says a word: a stopped process."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def client(*peers: FakePeer | str, timeout_s: float = 20.0, **more: float) -> Client:
    return Client([peer if isinstance(peer, str) else peer.address for peer in peers], timeout_s=timeout_s, **more)  # type: ignore[arg-type]


async def test_a_write_is_answered(peers: list[FakePeer]) -> None:
    async with client(*peers) as it:
        result = await it.submit(job_spec())
        assert (result.version, result.changed) == (1, True)
        assert (await it.get_job("web")).job.spec == job_spec()


async def test_a_dead_peer_is_skipped(peers: list[FakePeer]) -> None:
    peers[0].kill()
    async with client(*peers) as it:
        assert (await it.submit(job_spec())).changed
        await it.list_jobs()
    # The one that answered is asked first from then on.
    assert len(peers[1].calls) == 2


async def test_a_silent_peer_is_overtaken(peers: list[FakePeer], silent: str) -> None:
    async with client(silent, peers[0]) as it:
        assert (await it.submit(job_spec())).changed


@pytest.mark.parametrize(
    "error",
    [
        NotLeaderError("ask another"),
        NoLeaderError("electing"),
        UnknownOutcomeError("lost"),
        OverloadedError("full", retry_after_ms=1),
    ],
    ids=lambda error: error.reason,
)
async def test_what_is_retryable_is_tried_again_with_the_same_request_id(
    error: NotLeaderError, peers: list[FakePeer], world: World
) -> None:
    for peer in peers:
        peer.fail("SubmitJob", error)
    async with client(*peers) as it:
        assert (await it.submit(job_spec())).changed
    ids = {request.request_id for peer in peers for method, request in peer.calls if method == "SubmitJob"}
    assert len(ids) == 1
    assert world.writes == 1


async def test_a_write_whose_answer_is_lost_happens_once(peers: list[FakePeer], world: World) -> None:
    from collections import deque

    peers[0].after["PutVariable"] = deque([UnknownOutcomeError("stepped down")])
    async with client(*peers) as it:
        result = await it.put_variable("a", "1")
    assert result.variable is not None
    assert result.variable.version == 1
    assert world.writes == 1


@pytest.mark.parametrize(
    "error", [InvalidError("no"), ConflictError("no"), NotFoundError("no")], ids=lambda error: error.reason
)
async def test_what_no_retry_would_change_is_raised_at_once(error: InvalidError, peers: list[FakePeer]) -> None:
    peers[0].fail("SubmitJob", error)
    async with client(*peers) as it:
        with pytest.raises(type(error)):
            await it.submit(job_spec())
    assert sum(len(peer.calls) for peer in peers) == 1


async def test_without_any_peer_nothing_was_done(peers: list[FakePeer]) -> None:
    for peer in peers:
        peer.kill()
    async with client(*peers, timeout_s=2.0) as it:
        for _ in range(8):
            with pytest.raises((NoLeaderError, UnknownOutcomeError)) as caught:
                await it.submit(job_spec())
            if caught.type is NoLeaderError:  # else a try was under way just then, and nobody knows what became of it
                break
    assert isinstance(caught.value, NoLeaderError)
    assert caught.value.reason == UNREACHABLE and "connection refused" in str(caught.value).lower()


async def test_without_a_majority_no_leader_is_said(peers: list[FakePeer]) -> None:
    for peer in peers:
        peer.no_quorum = True
    async with client(*peers, timeout_s=2.0) as it:
        with pytest.raises(NoLeaderError, match="no majority"):
            await it.list_jobs()


async def test_a_peer_that_falls_silent_is_overtaken(peers: list[FakePeer]) -> None:
    peers[0].silent = True
    async with client(*peers) as it:
        assert (await it.submit(job_spec())).changed
    assert [len(peer.calls) for peer in peers] == [1, 1, 0]


async def test_a_write_into_silence_has_an_unknown_outcome(peers: list[FakePeer]) -> None:
    for peer in peers:
        peer.silent = True
    async with client(*peers, timeout_s=0.5) as it:
        with pytest.raises(UnknownOutcomeError, match="may or may not have happened") as caught:
            await it.submit(job_spec(), request_id="r1")
    assert caught.value.metadata["request_id"] == "r1"


async def test_a_read_into_silence_times_out(peers: list[FakePeer]) -> None:
    peers[0].silent = True
    async with client(peers[0], timeout_s=0.5) as it:
        with pytest.raises(TimeoutError_):
            await it.list_jobs()


async def test_an_address_that_only_takes_connections_is_unreachable(silent: str) -> None:
    async with client(silent, timeout_s=1.5) as it:
        with pytest.raises((NoLeaderError, TimeoutError_, UnknownOutcomeError)):
            await it.submit(job_spec())


async def test_an_unknown_outcome_stays_unknown_when_time_is_up(peers: list[FakePeer]) -> None:
    for peer in peers:
        peer.fail("SubmitJob", *[UnknownOutcomeError("lost")] * 1000)
    async with client(*peers, timeout_s=2.0) as it:
        with pytest.raises(UnknownOutcomeError, match="may or may not have happened"):
            await it.submit(job_spec())


async def test_reads_fall_back_to_stale_ones_when_asked_to(peers: list[FakePeer]) -> None:
    for peer in peers:
        peer.no_quorum = True
    async with client(*peers, stale_after_s=0.2) as it:
        answer = await it.list_jobs()
    assert answer.read.stale
    assert answer.read.age_ms == 4_200


async def test_what_is_worked_out_falls_back_too_once_a_peer_says_that_nobody_leads(peers: list[FakePeer]) -> None:
    for peer in peers:
        peer.no_quorum = True
    async with client(*peers, stale_after_s=0.2) as it:
        assert (await it.explain_job("web")).read.stale
        await it.what_if(foresight.Change(lose="n1"))
    asked = [request.read.stale for peer in peers for method, request in peer.calls if method == "WhatIf"]
    assert asked.count(True) == 1
    async with client(*peers, timeout_s=0.5) as it:
        with pytest.raises(NoLeaderError):
            await it.explain_job("web")


async def test_what_takes_long_to_work_out_is_waited_for_and_not_asked_for_again(peers: list[FakePeer]) -> None:
    began = asyncio.Event()
    loop, go_on = asyncio.get_running_loop(), threading.Event()

    def think(method: str) -> None:
        if method == "WhatIf":
            loop.call_soon_threadsafe(began.set)
            go_on.wait(30)

    peers[0].on_call = think
    async with client(peers[0], stale_after_s=0.001) as it:
        asking = asyncio.create_task(it.what_if(foresight.Change(lose="n1")))
        await began.wait()
        await it.list_jobs(stale=True)  # takes longer than `stale_after_s`
        assert not asking.done()
        go_on.set()
        await asking
    assert [request.read.stale for method, request in peers[0].calls if method == "WhatIf"] == [False]


async def test_a_request_id_of_the_caller_is_used(peers: list[FakePeer], world: World) -> None:
    async with client(*peers) as it:
        await it.put_variable("a", "1", request_id="mine")
        await it.put_variable("a", "1", request_id="mine")
    assert world.writes == 1


async def test_expectations_travel(peers: list[FakePeer]) -> None:
    async with client(*peers) as it:
        await it.submit(job_spec(), expect_version=0)
        with pytest.raises(ConflictError):
            await it.submit(job_spec(priority=1), expect_version=0)
        assert (await it.compare_and_set_variable("x", None, "1")).hit
        assert not (await it.compare_and_set_variable("x", None, "2")).hit
        assert (await it.compare_and_set_variable("x", "1", "")).hit
        assert (await it.compare_and_set_variable("x", "", "3")).hit


def test_pauses_after_refusals_grow_differ_and_are_bounded() -> None:
    error = OverloadedError("full", retry_after_ms=200)
    for refusals, least in ((1, 0.2), (2, 0.4), (3, 0.8), (20, LONGEST_PAUSE_S), (2_000, LONGEST_PAUSE_S)):
        pauses = [pause_s(error, refusals) for _ in range(50)]
        assert least <= min(pauses) < max(pauses) <= least * 1.5


async def test_an_overload_that_lasts_is_told_at_the_deadline(peers: list[FakePeer]) -> None:
    for peer in peers:
        peer.fail("SubmitJob", *[OverloadedError("full", retry_after_ms=50)] * 1000)
    async with client(*peers, timeout_s=0.5) as it:
        for _ in range(8):
            for peer in peers:
                peer.calls.clear()
            with pytest.raises((OverloadedError, UnknownOutcomeError)) as caught:
                await it.submit(job_spec())
            if caught.type is OverloadedError:  # else a try was under way just then, and nobody knows what became of it
                break
    assert caught.type is OverloadedError
    assert 1 < sum(len(peer.calls) for peer in peers) < 10


async def test_an_overloaded_read_falls_back_to_a_stale_one_when_asked_to(peers: list[FakePeer]) -> None:
    for peer in peers:
        peer.fail("ListJobs", *[OverloadedError("full", retry_after_ms=1_000)] * 1)
    async with client(*peers, stale_after_s=0.2) as it:
        assert (await it.list_jobs()).read.stale


def test_who_refused_while_it_had_no_connection_is_told_as_it_said() -> None:
    said = nobody({"a": NoLeaderError("nobody leads here", reason=UNCONNECTED)}, 2.0)
    assert isinstance(said, NoLeaderError)
    assert said.message == "no leader within 2 s: nobody leads here"


@pytest.mark.parametrize(("reason", "again_s"), [(UNREACHABLE, STALE_TIMEOUT_S), ("NO_LEADER", 6.0)])
async def test_nobody_there_is_not_waited_for_twice_as_long(
    monkeypatch: pytest.MonkeyPatch, reason: str, again_s: float
) -> None:
    """``why`` and ``plan`` took twice their time to say that no peer could be reached."""
    asked: list[float] = []

    async def call(self: Endpoints, call: object, timeout_s: float, leaderless_s: float = 0.0) -> None:
        asked.append(timeout_s)
        raise NoLeaderError("nobody", reason=reason)

    monkeypatch.setattr(Endpoints, "call", call)
    async with Client(["127.0.0.1:1"], timeout_s=6.0, stale_after_s=1.0) as client:
        with pytest.raises(NoLeaderError):
            await client.explain_job("web")
    assert asked == [6.0, again_s]
