"""Cluster time while this machine's clock is behind it: it goes on, at half speed, until both agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.replication.cluster_clock import ClusterClock

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_700_000_000_000


class Machine:
    """A clock on the wall that can be set, cluster time as the log has it, and seconds since boot."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.set_by_ms = 0
        self.reached_ms = 0
        self.clock_ms = ClusterClock(
            lambda: self.reached_ms,
            wall_ms=lambda: START_MS + self.set_by_ms + int(self.passed_s * 1000),
            monotonic=lambda: self.passed_s,
        )

    def after(self, seconds: float) -> int:
        self.passed_s += seconds
        return self.clock_ms()


@pytest.fixture
def machine() -> Iterator[Machine]:
    yield Machine()


def test_it_is_the_clock_on_the_wall_where_nothing_is_wrong(machine: Machine) -> None:
    assert machine.clock_ms() == START_MS
    machine.reached_ms = START_MS
    assert machine.after(10) == START_MS + 10_000
    assert machine.after(86_400) == START_MS + 10_000 + DAY_MS


def test_a_clock_that_is_set_forward_is_followed_at_once(machine: Machine) -> None:
    machine.clock_ms()
    machine.set_by_ms = HOUR_MS
    assert machine.clock_ms() == START_MS + HOUR_MS


@pytest.mark.parametrize("back_ms", [HOUR_MS, DAY_MS])
def test_a_clock_that_is_set_back_does_not_stop_time(machine: Machine, back_ms: int) -> None:
    machine.set_by_ms = back_ms
    begin = machine.clock_ms()
    machine.set_by_ms = 0
    assert machine.after(0) == begin
    assert machine.after(60) == begin + 30_000
    assert machine.after(60) == begin + 60_000


def test_twice_the_difference_later_both_agree_again(machine: Machine) -> None:
    machine.set_by_ms = HOUR_MS
    machine.clock_ms()
    machine.set_by_ms = 0
    machine.after(0)
    assert machine.after(7199) > START_MS + 7_199_000
    assert machine.after(2) == START_MS + 7_201_000
    assert machine.after(100) == START_MS + 7_301_000


def test_a_leader_that_follows_a_fast_one_goes_on_from_cluster_time(machine: Machine) -> None:
    machine.reached_ms = START_MS + DAY_MS
    assert machine.clock_ms() == START_MS + DAY_MS
    assert machine.after(10) == START_MS + DAY_MS + 5000
    machine.reached_ms = START_MS + DAY_MS + 5000  # its own entry: that is no reason to begin anew
    assert machine.after(10) == START_MS + DAY_MS + 10_000
    machine.reached_ms = START_MS + 2 * DAY_MS
    assert machine.after(10) == START_MS + 2 * DAY_MS


def test_it_never_goes_back_whatever_the_clock_does(machine: Machine) -> None:
    seen = [machine.clock_ms()]
    for set_by_ms in (HOUR_MS, -DAY_MS, 0, DAY_MS, -HOUR_MS, 0):
        machine.set_by_ms = set_by_ms
        seen += [machine.after(0), machine.after(1)]
    assert seen == sorted(seen)
