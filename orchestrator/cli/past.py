"""``why --at``: moments as people write them, and what was said to be in the way then."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import click

from orchestrator.cli.output import show
from orchestrator.cli.ps import explanation_text
from orchestrator.cli.session import Session
from orchestrator.contract.answers import Explanation

EXPECTED = "expected a time (12:03, 12:03:10, 2026-01-31T12:03), a duration ago (5m), or a command index (1234)"


def parse_moment(text: str, now: datetime, option: str = "--at") -> tuple[int, int]:
    """(index, unix ms); the one that was not said is 0. A time of day is the last one before ``now``, in its zone."""
    said = text.strip()
    if said.isdecimal():
        index = int(said[:20])
        if not 0 < index < 2**63:
            raise click.UsageError(f"{option} {text[:40]}: an index is from 1 to 2^63 - 1")
        return index, 0
    for form in ("%H:%M", "%H:%M:%S"):
        try:
            clock = datetime.strptime(said, form)
        except ValueError:
            continue
        moment = now.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
        return 0, _ms(moment if moment <= now else moment - timedelta(days=1))
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        ago_ms = _ago_ms(said, option)
        if ago_ms >= _ms(now):
            raise click.UsageError(f"{option} {text!r}: before 1970") from None
        return 0, _ms(now) - ago_ms
    return 0, _ms(moment if moment.tzinfo is not None else moment.replace(tzinfo=now.tzinfo))


def _ago_ms(text: str, option: str) -> int:
    from orchestrator.jobfile.units import parse_duration

    try:
        return parse_duration(text.removesuffix("ago").strip())
    except ValueError:
        raise click.UsageError(f"{option} {text!r}: {EXPECTED}") from None


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def clock_text(ms: int) -> str:
    """Local time, with the date where it is not today's."""
    moment = time.localtime(ms / 1000)
    same_day = moment[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", moment)


def why_then(session: Session, name: str, at: str) -> None:
    index, time_ms = parse_moment(at, datetime.now().astimezone())
    with session.client() as client:
        found = client.explain_past(name, index, time_ms)

    def text(wide: bool) -> str:
        said = explanation_text(Explanation(groups=found.groups, summary=found.summary))
        # A span that ends before the peer's own index is followed by a gap.
        ends = ["on" if one.last_index >= found.read.index else f"to {one.last_index}" for one in found.known]
        starts = [f"index {one.first_index} ({clock_text(one.first_time_ms)})" for one in found.known]
        known = ", and from ".join(f"{start} {end}" for start, end in zip(starts, ends, strict=True))
        head = f"At index {found.index} ({clock_text(found.time_ms)}):"
        return "\n".join([head, said, f"Peer {found.read.peer_id} knows this from {known}."])

    show(
        session.output,
        value=lambda: found,
        names=lambda: [group.group for group in found.groups if group.pending],
        table=text,
    )
