"""A peer takes on what it can serve in time, and says no to the rest before it has read it."""

from __future__ import annotations

import contextlib
import random

import pytest

from orchestrator.api import admission
from orchestrator.api.admission import BYTES, CALLS, FLOOR, TARGET_S, Admission, Lane
from orchestrator.contract.errors import OverloadedError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def one(clock: Clock) -> Admission:
    return Admission(clock=clock, rng=random.Random(1))


def took(one: Admission, clock: Clock, seconds: float, *, times: int = 200) -> None:
    """So many calls, one after the other."""
    for _ in range(times):
        with one.hold(Lane.CLIENT, 0):
            clock.now += seconds


@pytest.mark.parametrize("lane", list(Lane))
def test_each_lane_is_bounded_and_has_room_again_when_calls_end(one: Admission, lane: Lane) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(CALLS[lane]):
            held.enter_context(one.hold(lane, 0))
        with pytest.raises(OverloadedError) as caught, one.hold(lane, 0):
            pass
        assert 100 <= caught.value.retry_after_ms <= 300
        # Whoever has another lane notices nothing.
        for other in set(Lane) - {lane}:
            with one.hold(other, 0):
                pass
    with one.hold(lane, 0):
        pass


def test_the_bytes_of_clients_requests_are_bounded(one: Admission) -> None:
    with one.hold(Lane.CLIENT, BYTES - 10):
        with one.hold(Lane.FORWARDED, 10):
            pass
        with pytest.raises(OverloadedError), one.hold(Lane.FORWARDED, 11):
            pass
        with one.hold(Lane.AGENT, 11):
            pass
    with one.hold(Lane.CLIENT, BYTES + 1):  # one alone is bounded by the size of a message
        pass


def test_where_calls_take_long_more_of_them_at_once_are_refused(one: Admission, clock: Clock) -> None:
    took(one, clock, 2 * TARGET_S)
    with contextlib.ExitStack() as held:
        for _ in range(FLOOR):
            held.enter_context(one.hold(Lane.CLIENT, 0))  # a slow disk is no overload
        for lane in (Lane.CLIENT, Lane.FORWARDED):
            with pytest.raises(OverloadedError), one.hold(lane, 0):
                pass
        with one.hold(Lane.AGENT, 0):
            pass


def test_where_calls_are_short_again_more_are_taken_on(one: Admission, clock: Clock) -> None:
    took(one, clock, 2 * TARGET_S)
    took(one, clock, TARGET_S / 100)
    with contextlib.ExitStack() as held:
        for _ in range(2 * FLOOR):
            held.enter_context(one.hold(Lane.CLIENT, 0))


def test_calls_that_fail_say_nothing_about_how_long_calls_take(one: Admission, clock: Clock) -> None:
    """Without a majority every write waits for its patience and fails: that is no overload."""
    for _ in range(100):
        with contextlib.suppress(ValueError), one.hold(Lane.CLIENT, 0):
            clock.now += 10
            raise ValueError
    with contextlib.ExitStack() as held:
        for _ in range(2 * FLOOR):
            held.enter_context(one.hold(Lane.CLIENT, 0))


def test_what_is_refused_is_counted() -> None:
    one = Admission()
    before = admission.REFUSED.labels("client")._value.get()
    with contextlib.ExitStack() as held:
        for _ in range(CALLS[Lane.CLIENT]):
            held.enter_context(one.hold(Lane.CLIENT, 0))
        with pytest.raises(OverloadedError), one.hold(Lane.CLIENT, 0):
            pass
        assert next(iter(admission.IN_PROGRESS.labels("client").collect())).samples[0].value == CALLS[Lane.CLIENT]
    assert admission.REFUSED.labels("client")._value.get() == before + 1
