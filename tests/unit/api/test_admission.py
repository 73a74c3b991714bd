"""A peer takes on what it can serve in time, and says no to the rest before it has read it."""

from __future__ import annotations

import contextlib
import random
from collections import deque
from contextlib import AbstractContextManager

import pytest

from orchestrator.api import admission
from orchestrator.api.admission import BYTES, CALLS, FLOOR, OVER, TARGET_S, Admission, Lane
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
        assert one.room() == FLOOR
        for _ in range(FLOOR):
            held.enter_context(one.hold(Lane.CLIENT, 0))  # a slow disk is no overload
        assert one.room() == 0
        for _ in range(FLOOR // 2):  # what came nevertheless
            held.enter_context(one.hold(Lane.CLIENT, 0))
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


def test_there_is_room_for_as_many_as_end_in_time(one: Admission, clock: Clock) -> None:
    """At 1,000 a second: for 150 that take 150 ms."""
    took(one, clock, 0.001, times=5_000)
    most = int(1.2 * 1_000 * TARGET_S)
    held: deque[AbstractContextManager[None]] = deque()
    for _ in range(2_000):
        held.append(one.hold(Lane.FORWARDED, 0))
        held[-1].__enter__()
        clock.now += 0.001
        if len(held) == most:
            held.popleft().__exit__(None, None, None)
    assert one.room() == 0
    with contextlib.ExitStack() as more, pytest.raises(OverloadedError):
        while True:
            held.append(one.hold(Lane.CLIENT, 0))
            more.enter_context(held[-1])
    assert len(held) == pytest.approx(OVER * 1_000 * TARGET_S, rel=0.05)


def test_what_was_begun_takes_up_room_before_it_is_there_but_not_for_ever(one: Admission, clock: Clock) -> None:
    room = one.room()
    one.came()
    one.came()
    assert one.room() == room - 2
    with one.hold(Lane.CLIENT, 0):  # one of them
        assert one.room() == room - 2
        with one.hold(Lane.AGENT, 0):  # none of them
            assert one.room() == room - 2
    assert one.room() == room - 1
    clock.now += 2 * admission.ON_ITS_WAY_S  # its caller was gone before it got there
    assert one.room() == room


def test_while_what_they_wait_for_is_full_there_is_no_room(one: Admission, clock: Clock) -> None:
    one.shut(0.05)
    assert one.room() == 0
    with one.hold(Lane.CLIENT, 0):  # whatever was begun is served
        pass
    clock.now += 0.06
    assert one.room() == CALLS[Lane.CLIENT]


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
