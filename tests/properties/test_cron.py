"""Cron against brute force: every minute of some days, asked one by one whether it is due, over changes of the
clocks."""

from __future__ import annotations

import datetime
import functools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.cron import CronError, Fields, Schedule, parse

MINUTE_MS = 60_000
CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00"),
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30"),  # by half an hour
    "Africa/Cairo": ("2026-04-23T22:00", "2026-10-29T21:00"),  # at midnight: the hour before comes twice
    "Pacific/Apia": ("2011-12-30T10:00",),  # a day that never was
    "Asia/Kathmandu": ("2026-01-01T00:00",),  # no change, and an odd offset
    "UTC": ("2026-02-28T23:00",),
}
"""UTC instants at which clocks are changed."""


def _ms(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text + "+00:00").timestamp() * 1000)


def _local(time_ms: int, tz: ZoneInfo) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).astimezone(tz)


def _matches(fields: Fields, wall: datetime.datetime) -> bool:
    return wall.hour in fields.hours and wall.minute in fields.minutes and fields.has_day(wall.date())


@functools.cache
def _walk(zone: str, first_ms: int, last_ms: int) -> list[tuple[int, datetime.datetime, bool, list[datetime.datetime]]]:
    """Every minute as a clock on the wall shows it, whether it has shown that before, and what it left out."""
    tz = ZoneInfo(zone)
    walk = []
    seen: set[datetime.datetime] = set()
    begin_ms = first_ms - 180 * MINUTE_MS
    before = _local(begin_ms, tz).replace(tzinfo=None, fold=0)
    for time_ms in range(begin_ms + MINUTE_MS, last_ms + 1, MINUTE_MS):
        wall = _local(time_ms, tz).replace(tzinfo=None, fold=0)
        jump = int((wall - before).total_seconds() // 60)
        left_out = [before + datetime.timedelta(minutes=step) for step in range(1, jump)]
        if time_ms >= first_ms:
            walk.append((time_ms, wall, wall in seen, left_out))
        seen.add(wall)
        before = wall
    return walk


def _brute(fields: Fields, zone: str, first_ms: int, last_ms: int) -> list[int]:
    due = []
    for time_ms, wall, again, left_out in _walk(zone, first_ms, last_ms):
        hit = _matches(fields, wall) and (fields.all_day or not again)
        if not fields.all_day:
            hit = hit or any(_matches(fields, one) for one in left_out)
        if hit:
            due.append(time_ms)
    return due


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.builds(lambda word, by: f"{word}/{by}", st.one_of(st.just("*"), span), st.integers(1, high))
    return st.one_of(
        st.just("*"),
        number.map(str),
        span,
        step,
        st.lists(number, min_size=2, max_size=3).map(lambda n: ",".join(map(str, n))),
    )


EXPRESSIONS = st.builds(
    lambda *words: " ".join(words),
    _field(0, 59),
    st.one_of(_field(0, 23), _field(0, 4)),
    st.one_of(st.just("*"), st.just("*"), _field(1, 31)),
    st.one_of(st.just("*"), _field(1, 12)),
    st.one_of(st.just("*"), st.just("*"), _field(0, 7)),
)


@pytest.mark.soak
@given(EXPRESSIONS, st.sampled_from([(zone, at) for zone, changes in CHANGES.items() for at in changes]))
def test_every_due_time_is_that_of_a_clock_on_the_wall(expression: str, change: tuple[str, str]) -> None:
    zone, at = change
    try:
        fields = parse(expression)
    except CronError as error:
        assert "never comes" in str(error)
        return
    assert isinstance(fields, Fields)
    first, last = _ms(at) - 4 * 60 * MINUTE_MS, _ms(at) + 6 * 60 * MINUTE_MS
    expected = _brute(fields, zone, first, last)
    schedule = Schedule((expression,), zone)
    found: list[int] = []
    due = schedule.after(first - 1)
    while due is not None and due <= last and len(found) <= len(expected):
        found.append(due)
        due = schedule.after(due)
    assert found == expected
    assert schedule.latest(last, first - 1) == (expected[-1] if expected else None)


@pytest.mark.parametrize(
    ("expression", "zone", "at", "due"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T23:00", "2026-03-29T01:00"),  # 02:30 does not exist: at 03:00
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00", "2026-03-30T00:30"),  # and not again that day
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:30"),  # comes twice: the first time only
        ("30 * * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25T01:30"),  # all day: the second time, too
        ("0 0 29 2 *", "UTC", "2096-03-01T00:00", "2104-02-29T00:00"),  # 2100 is no leap year
        ("0 12 13 * fri", "UTC", "2026-11-01T00:00", "2026-11-06T12:00"),  # either day
        ("@weekly", "UTC", "2026-11-26T00:00", "2026-11-29T00:00"),
        ("@every 90s", "UTC", "1970-01-01T00:01", "1970-01-01T00:01:30"),
    ],
)
def test_what_is_documented(expression: str, zone: str, at: str, due: str) -> None:
    assert Schedule((expression,), zone).after(_ms(at)) == _ms(due)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("* * * *", "4 fields"),
        ("60 * * * *", "minute: expected 0 to 59, got '60'"),
        ("* * * foo *", "month: expected 1 to 12 or jan to dec, got 'foo'"),
        ("*/0 * * * *", "a step from 1 to 59"),
        ("30-10 * * * *", "ends before it begins"),
        ("0 0 30 2 *", "never comes"),
        ("@fortnightly", "there are @yearly"),
        ("@every 0s", "a whole time such as 90s"),
        ("", "0 fields"),
    ],
)
def test_a_bad_expression_says_what_is_wrong(expression: str, said: str) -> None:
    with pytest.raises(CronError, match=said.replace("*", r"\*")):
        parse(expression)


def test_an_unknown_zone_says_so() -> None:
    with pytest.raises(CronError, match="no such time zone 'Europe/Atlantis'"):
        Schedule(("@daily",), "Europe/Atlantis").after(0)


def test_the_latest_of_a_long_absence_is_found_without_walking_through_it() -> None:
    year_ms = 365 * 86_400_000
    assert Schedule(("@every 1s",)).latest(50 * year_ms + 500, 0) == 50 * year_ms
    assert Schedule(("0 0 29 2 *",)).latest(_ms("2026-01-01T00:00"), _ms("2000-01-01T00:00")) == _ms("2024-02-29T00:00")
