"""Cron expressions: which minutes they name, in which time zone, and the first one after an instant.

Owns: reading them (``parse``), the rules of daylight saving time (``Schedule.after``). Leaves to others: what becomes
of a due time (``reconcile.periodic``). The rule: a function of the expression, the zone's data and the instant;
nobody's clock is read here. ``apply`` never asks it: peers may have different data on time zones, so the leader alone
decides.

Five fields, ``minute hour day-of-month month day-of-week``, each ``*``, a number, a range ``1-5``, a list ``1,15``,
with a step ``*/10``; months and days by their first three letters, too; Sunday is 0 or 7. Where both days are
restricted (neither begins with ``*``) either of them is enough, as cron has always done. ``@yearly``, ``@annually``,
``@monthly``, ``@weekly``, ``@daily``, ``@midnight``, ``@hourly``; ``@every 90s`` counts from 1970-01-01 UTC, so that
no new leader begins to count anew.

Daylight saving time, for a zone that has it. Where the hour begins with ``*`` the job runs all day long, and what
counts is that time passes: the hour that comes twice has its runs twice, the one that is left out has none. Any other
hour means once on that day: a time that comes twice counts when it comes first, and one that is left out is made up
for at the end of the gap.
"""

from __future__ import annotations

import bisect
import datetime
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = re.compile(r"@every\s+(\d{1,9})(s|m|h|d)")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,31}){0,2}")
MAX_TEXT = 256
MAX_EVERY_S = 366 * 86_400
HORIZON_DAYS = 12 * 366
"""The 29th of February may be eight years away, and no combination of days is rarer than that, doubled by a weekday."""
END_MS = 250_000_000_000_000
"""In the year 9892; nothing is due later, for dates end in 9999."""
_DAY = datetime.timedelta(days=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class CronError(ValueError):
    """What is wrong with an expression or a time zone, for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The numbers that each field names. ``dom_star``, ``dow_star``: that field begins with ``*``; ``all_day``: the
    hour does. ``dow``: 0 is Sunday."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    dom: frozenset[int]
    months: frozenset[int]
    dow: frozenset[int]
    dom_star: bool
    dow_star: bool
    all_day: bool

    def has_day(self, day: datetime.date) -> bool:
        if day.month not in self.months:
            return False
        dom, dow = day.day in self.dom, day.isoweekday() % 7 in self.dow
        if self.dom_star or self.dow_star:
            return dom and dow
        return dom or dow


def parse(expression: str) -> Fields | int:
    """The fields, or of ``@every`` the seconds. Raises ``CronError``."""
    text = " ".join(expression.split()).lower()
    if len(expression) > MAX_TEXT:
        raise CronError(f"at most {MAX_TEXT} characters")
    if text.startswith("@every"):
        match = _EVERY.fullmatch(text)
        seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
        if not 1 <= seconds <= MAX_EVERY_S:
            raise CronError(f"{expression!r}: expected '@every' and a whole time such as 90s, 10m, 2h or 1d")
        return seconds
    if text.startswith("@"):
        if text not in _NAMED:
            raise CronError(f"no such schedule {expression!r}; there are {', '.join(_NAMED)} and '@every 10m'")
        text = _NAMED[text]
    words = text.split(" ")
    if len(words) != 5:
        raise CronError(
            f"{expression!r} has {len(words) if text else 0} fields; expected 5: "
            "minute hour day-of-month month day-of-week"
        )
    dow = _field("day-of-week", words[4], 0, 7, _DAYS)
    fields = Fields(
        minutes=tuple(sorted(_field("minute", words[0], 0, 59))),
        hours=tuple(sorted(_field("hour", words[1], 0, 23))),
        dom=_field("day-of-month", words[2], 1, 31),
        months=_field("month", words[3], 1, 12, _MONTHS),
        dow=frozenset(day % 7 for day in dow),
        dom_star=words[2].startswith("*"),
        dow_star=words[4].startswith("*"),
        all_day=words[1].startswith("*"),
    )
    if not any(fields.has_day(day) for day in _leap_cycle()):
        raise CronError(f"{expression!r} never comes: no month that it names has such a day")
    return fields


def _field(what: str, word: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        span, slash, step_text = part.partition("/")
        if slash and not (step_text.isascii() and step_text.isdigit() and 1 <= int(step_text[:6]) <= high):
            raise CronError(f"{what}: {part!r}: expected a step from 1 to {high} behind the slash")
        step = int(step_text) if slash else 1
        if span == "*":
            first, last = low, high
        else:
            begin, dash, end = span.partition("-")
            first = _number(what, begin, low, high, names)
            last = _number(what, end, low, high, names) if dash else (high if slash else first)
            if last < first:
                raise CronError(f"{what}: {part!r} ends before it begins")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(what: str, word: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if word in names:
        return names.index(word) + (1 if low else 0)
    if word.isascii() and word.isdigit() and len(word) <= 4 and low <= int(word) <= high:
        return int(word)
    also = f" or {names[0]} to {names[-1]}" if names else ""
    raise CronError(f"{what}: expected {low} to {high}{also}, got {word!r}")


@functools.cache
def _leap_cycle() -> tuple[datetime.date, ...]:
    """Every date of four years: any day of the month that ever comes is among them, on some weekday or other."""
    first = datetime.date(2024, 1, 1)
    return tuple(first + offset * _DAY for offset in range(28 * 366))


@functools.lru_cache(maxsize=256)
def zone(name: str) -> datetime.tzinfo:
    """Raises ``CronError``."""
    if name in ("", "UTC"):
        return datetime.UTC
    if not _ZONE.fullmatch(name):
        raise CronError(f"expected a time zone such as Europe/Berlin, got {name[:64]!r}")
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise CronError(
            f"no such time zone {name!r}: expected a name such as Europe/Berlin or UTC (or the system's time zone "
            "data, package tzdata, is not installed there)"
        ) from None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Expressions in a time zone; any of them makes a time due."""

    expressions: tuple[str, ...]
    time_zone: str = "UTC"

    def after(self, time_ms: int) -> int | None:
        """The first due time after ``time_ms``, unix ms at a whole second; None: none within twelve years. Raises
        ``CronError``."""
        found = [_after(expression, self.time_zone, time_ms) for expression in self.expressions]
        return min((due for due in found if due is not None), default=None)

    def latest(self, time_ms: int, after_ms: int) -> int | None:
        """The last due time that is not after ``time_ms``, if it is after ``after_ms``. Raises ``CronError``."""
        due = self.after(after_ms)
        if due is None or due > time_ms:
            return None
        # Far back there may be millions: look at ever longer spans before now, until one holds a due time.
        span_ms = 1_000
        while True:
            begin = max(after_ms, time_ms - span_ms)
            candidate = self.after(begin)
            if candidate is not None and candidate <= time_ms:
                break
            span_ms *= 2
        while True:
            following = self.after(candidate)
            if following is None or following > time_ms:
                return candidate
            candidate = following


@functools.lru_cache(maxsize=4096)
def _after(expression: str, time_zone: str, time_ms: int) -> int | None:
    fields = _parsed(expression)
    if not 0 <= time_ms < END_MS:
        return None
    if isinstance(fields, int):
        every_ms = fields * 1000
        return (time_ms // every_ms + 1) * every_ms
    tz = zone(time_zone)
    begin = (_EPOCH + datetime.timedelta(milliseconds=time_ms)).astimezone(tz).date() - _DAY
    best: int | None = None
    more = 2  # days after the one that has a due time: an hour that comes twice may lie on both sides of midnight
    for offset in range(HORIZON_DAYS):
        day = begin + offset * _DAY
        if fields.has_day(day):
            due = _first(fields, day, tz, time_ms)
            if due is not None and (best is None or due < best):
                best = due
        if best is not None:
            more -= 1
            if not more:
                break
    return best


@functools.lru_cache(maxsize=1024)
def _parsed(expression: str) -> Fields | int:
    return parse(expression)


def _first(fields: Fields, day: datetime.date, tz: datetime.tzinfo, time_ms: int) -> int | None:
    """The first due time of one local day that is after ``time_ms``, unix ms."""
    midnight = datetime.datetime(day.year, day.month, day.day, tzinfo=tz)
    following = datetime.datetime.combine(day + _DAY, datetime.time(fold=1), tzinfo=tz)
    if midnight.utcoffset() != following.utcoffset() or not _exists(midnight):
        instants = _in_order(fields, day, tz)
        place = bisect.bisect_right(instants, time_ms)
        return instants[place] if place < len(instants) else None
    # A day like any other: only the minutes that are still to come are looked at.
    begin_ms = _unix_ms(midnight)
    passed_min = (time_ms - begin_ms) // 60_000
    for hour in fields.hours:
        if hour * 60 + 59 <= passed_min:
            continue
        for minute in fields.minutes:
            if hour * 60 + minute > passed_min:
                return begin_ms + (hour * 60 + minute) * 60_000
    return None


@functools.lru_cache(maxsize=64)
def _in_order(fields: Fields, day: datetime.date, tz: datetime.tzinfo) -> tuple[int, ...]:
    """The due times of one local day; kept, since whoever asks for one goes on to ask for the next."""
    return tuple(sorted(_instants(fields, day, tz)))


def _instants(fields: Fields, day: datetime.date, tz: datetime.tzinfo) -> Iterator[int]:
    """Unix ms of the due times of one local day."""
    for hour in fields.hours:
        for minute in fields.minutes:
            wall = datetime.datetime(day.year, day.month, day.day, hour, minute, tzinfo=tz)
            early, late = wall, wall.replace(fold=1)
            before, after = early.utcoffset(), late.utcoffset()
            if before == after:
                yield _unix_ms(early)
            elif _exists(early):  # it comes twice
                yield _unix_ms(early)
                if fields.all_day:
                    yield _unix_ms(late)
            elif not fields.all_day:
                yield _end_of_gap(_unix_ms(late), _unix_ms(early), tz)


def _exists(wall: datetime.datetime) -> bool:
    there = wall.astimezone(datetime.UTC).astimezone(wall.tzinfo)
    return there.replace(tzinfo=None, fold=0) == wall.replace(tzinfo=None, fold=0)


def _end_of_gap(low_ms: int, high_ms: int, tz: datetime.tzinfo) -> int:
    """The instant at which clocks are put forward; it is after ``low_ms`` and not after ``high_ms``."""

    def offset(time_ms: int) -> datetime.timedelta | None:
        return (_EPOCH + datetime.timedelta(milliseconds=time_ms)).astimezone(tz).utcoffset()

    old = offset(low_ms)
    low, high = low_ms // 1000, high_ms // 1000
    while high - low > 1:
        middle = (low + high) // 2
        if offset(middle * 1000) == old:
            low = middle
        else:
            high = middle
    return high * 1000


def _unix_ms(moment: datetime.datetime) -> int:
    return (moment.astimezone(datetime.UTC) - _EPOCH) // datetime.timedelta(milliseconds=1)
