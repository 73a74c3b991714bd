"""The outbox: order, batches, acknowledgement."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent import outbox as module
from agent.outbox import Outbox
from orchestrator.contract.model import AllocState, AssignmentKey, Observation
from tests.integration.agent_fakes import key_of

S = AllocState


def seen(state: AllocState, *, restarts: int = 0, key: AssignmentKey | None = None) -> Observation:
    return Observation(key=key or key_of(), restarts=restarts, state=state)


def drain(box: Outbox) -> list[list[tuple[int, AllocState]]]:
    batches = []
    while (batch := box.batch()) is not None:
        batches.append([(one.restarts, one.state) for one in batch.observations])
        box.done(batch)
    return batches


def test_one_allocations_observations_keep_their_order_over_batches() -> None:
    box = Outbox()
    for one in (seen(S.RUNNING), seen(S.BACKOFF), seen(S.RUNNING, restarts=1)):
        box.add(one)
    assert drain(box) == [[(0, S.RUNNING)], [(0, S.BACKOFF)], [(1, S.RUNNING)]]


def test_starting_is_no_news_once_it_runs() -> None:
    box = Outbox()
    box.add(seen(S.STARTING))
    box.add(seen(S.RUNNING))
    assert drain(box) == [[(0, S.RUNNING)]]


def test_that_an_earlier_run_was_starting_is_told_before_the_next_one() -> None:
    box = Outbox()
    for restarts in (0, 1):
        box.add(seen(S.STARTING, restarts=restarts))
    assert drain(box) == [[(0, S.STARTING)], [(1, S.STARTING)]]


def test_an_unacknowledged_batch_is_sent_again_under_the_same_id() -> None:
    box = Outbox()
    box.add(seen(S.RUNNING))
    first = box.batch()
    box.add(seen(S.COMPLETE))
    assert first is not None
    assert box.batch() is first
    box.done(first)
    second = box.batch()
    assert second is not None
    assert second.request_id != first.request_id
    assert [one.state for one in second.observations] == [S.COMPLETE]


def test_saying_again_how_things_are_does_not_overtake_what_waits() -> None:
    box = Outbox()
    waiting, sending, quiet = (key_of(job) for job in ("waiting", "sending", "quiet"))
    box.add(seen(S.RUNNING, key=sending))
    in_flight = box.batch()
    assert in_flight is not None
    box.add(seen(S.FAILED, key=waiting))
    box.resend([seen(S.RUNNING, key=key) for key in (waiting, sending, quiet)] + [seen(S.PENDING, key=key_of("new"))])
    box.done(in_flight)
    batch = box.batch()
    assert batch is not None
    assert {(one.key, one.state) for one in batch.observations} == {(waiting, S.FAILED), (quiet, S.RUNNING)}


def test_a_batch_is_bounded_and_nothing_is_lost() -> None:
    box = Outbox()
    for number in range(module.MAX_BATCH + 5):
        box.add(seen(S.RUNNING, key=key_of(ordinal=number)))
    assert [len(batch) for batch in drain(box)] == [module.MAX_BATCH, 5]


def test_what_is_not_acknowledged_is_known() -> None:
    box = Outbox()
    box.add(seen(S.COMPLETE))
    assert box.has(key_of())
    batch = box.batch()
    assert batch is not None
    assert box.has(key_of())
    box.done(batch)
    assert not box.has(key_of())


async def test_waiting_ends_with_the_next_observation() -> None:
    box = Outbox()
    waiting = asyncio.ensure_future(box.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    box.add(seen(S.RUNNING))
    await asyncio.wait_for(waiting, 5)


async def test_nobody_waits_while_something_is_left_to_be_said_and_everybody_once_all_of_it_is() -> None:
    box = Outbox()
    for state in (S.RUNNING, S.COMPLETE):
        box.add(seen(state))
    for left in (True, False):
        batch = box.batch()
        assert batch is not None
        await asyncio.wait_for(box.wait(), 5)  # it may have to be sent again
        box.done(batch)
        waiting = asyncio.ensure_future(box.wait())
        await asyncio.sleep(0)
        assert waiting.done() is left
        waiting.cancel()


def not_all_started() -> bool:
    return False


async def test_the_last_of_those_that_start_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 3600.0)
    box = Outbox()
    box.add(seen(S.RUNNING))
    async with asyncio.timeout(10):
        await box.gather(lambda: True, lambda: True)


async def test_reports_of_ends_share_even_where_all_has_started() -> None:
    box = Outbox()
    box.add(seen(S.COMPLETE, key=key_of("first")))
    asyncio.get_running_loop().call_soon(box.add, seen(S.COMPLETE, key=key_of("second")))
    async with asyncio.timeout(10):
        await box.gather(lambda: False, lambda: True)
    assert drain(box) == [[(0, S.COMPLETE), (0, S.COMPLETE)]]


async def test_what_comes_in_the_same_moment_goes_together() -> None:
    box = Outbox()
    box.add(seen(S.COMPLETE, key=key_of("first")))
    asyncio.get_running_loop().call_soon(box.add, seen(S.COMPLETE, key=key_of("second")))
    async with asyncio.timeout(10):
        await box.gather(lambda: False, not_all_started)
    assert drain(box) == [[(0, S.COMPLETE), (0, S.COMPLETE)]]


async def test_that_one_report_could_not_wait_hurries_none_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BURST_S", float("inf"))
    box = Outbox()
    box.add(seen(S.FAILED))
    drain(box)
    box.add(seen(S.RUNNING))
    left = iter((True, True, False))
    async with asyncio.timeout(10):
        await box.gather(lambda: next(left), not_all_started)
    assert next(left, "all asked") == "all asked"


async def test_the_agent_goes_on_during_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BURST_S", float("inf"))
    ended: list[bool] = []
    asyncio.get_running_loop().call_later(2 * module.GATHER_S, ended.append, True)
    async with asyncio.timeout(10):
        await Outbox().gather(lambda: not ended, not_all_started)


async def test_in_a_burst_of_starts_those_that_go_well_are_said_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BURST_S", float("inf"))
    box = Outbox()
    box.add(seen(S.RUNNING, key=key_of("first")))
    left = iter((True, True, True, False))

    def busy() -> bool:
        box.add(seen(S.RUNNING, key=key_of("further")))
        return next(left)

    async with asyncio.timeout(10):
        await box.gather(busy, not_all_started)
    assert next(left, "all asked") == "all asked"
    assert drain(box) == [[(0, S.RUNNING), (0, S.RUNNING)]]


@pytest.mark.parametrize(
    "urgent",
    [seen(S.FAILED), seen(S.COMPLETE), seen(S.BACKOFF), seen(S.STOPPED), replace(seen(S.RUNNING), health=2)],
    ids=lambda one: one.state.name,
)
async def test_what_is_more_than_a_start_that_goes_well_waits_for_no_burst(
    monkeypatch: pytest.MonkeyPatch, urgent: Observation
) -> None:
    monkeypatch.setattr(module, "BURST_S", float("inf"))
    box = Outbox()
    box.add(seen(S.RUNNING, key=key_of("calm")))
    box.add(urgent)
    async with asyncio.timeout(10):
        await box.gather(lambda: True, not_all_started)
    batch = box.batch()
    assert batch is not None
    async with asyncio.timeout(10):
        await box.gather(lambda: True, not_all_started)  # nor does it when it has to be said again
    box.done(batch)


async def test_no_burst_keeps_anything_back_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BURST_S", 0.0)
    box = Outbox()
    box.add(seen(S.RUNNING))
    async with asyncio.timeout(10):
        await box.gather(lambda: True, not_all_started)
