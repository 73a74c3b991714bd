"""``logs``: what tasks wrote, of one instance or of all of a job, now or as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from orchestrator.cli.log_merge import Line, lines, merged
from orchestrator.cli.session import STALE_AFTER_S, Session, colors_allowed, common
from orchestrator.cli.views import newest
from orchestrator.contract.batch import split_place
from orchestrator.contract.errors import InvalidError, NotFoundError, PreconditionError, RaftsmanError
from orchestrator.contract.model import AllocState, Desired
from orchestrator.contract.transitions import TERMINAL

if TYPE_CHECKING:
    from orchestrator.client.aio import Client
    from orchestrator.contract.answers import LogsChunk
    from orchestrator.contract.model import Allocation, AllocationId

MOST_AT_ONCE = 50
NEXT_RUN_S = 0.5
COLORS = ("cyan", "yellow", "green", "magenta", "blue", "bright_red", "bright_cyan", "bright_yellow", "bright_green")


_Run = tuple[int, int]
"""(attempt, restarts): each has a log of its own, which ends with it."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One task of one allocation, and the run of it that is newest now.

    ``prefix``: before each of its lines, where several are shown. ``earlier``: the attempts before it that are to be
    shown too, oldest first.
    """

    id: AllocationId
    task: str
    prefix: bytes
    run: _Run
    earlier: tuple[_Run, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What was asked for. ``attempt`` 0: the newest; ``tail`` -1: all; ``since_ms`` 0: from the beginning."""

    follow: bool
    previous: bool
    tail: int
    attempt: int
    since_ms: int
    all_attempts: bool


@click.command()
@common
@click.argument("job", metavar="JOB[/GROUP[/ORDINAL]]")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written, also by later attempts.")
@click.option("--tail", "tail_lines", type=click.IntRange(1), metavar="LINES", help="Only the last lines.")
@click.option("--since", metavar="TIME", help="Only what was written since: 10m, 12:03 or 2026-01-31T12:03.")
@click.option("--previous", is_flag=True, help="Of the run before the last restart, or of the attempt before.")
@click.option("--all", "all_attempts", is_flag=True, help="Of all attempts that are known, wherever they ran.")
@click.option("--task", default="", help="Only this task (where a group has several).")
@click.option("--attempt", type=click.IntRange(1), default=None, help="Of this attempt; default: the newest.")
@click.option("-t", "--timestamps", is_flag=True, help="With the time of each line, where it is known.")
def logs(
    session: Session,
    job: str,
    follow: bool,
    tail_lines: int | None,
    since: str | None,
    previous: bool,
    all_attempts: bool,
    task: str,
    attempt: int | None,
    timestamps: bool,
) -> None:
    """What the tasks of JOB wrote, of all instances together: in the order of time, each line with its instance.

    With --since and --all also of earlier attempts, on whichever node they were. Colours tell instances apart on a
    terminal.
    """
    if follow and previous:
        raise click.UsageError("--previous has ended already: it cannot be followed")
    if all_attempts and (previous or attempt):
        raise click.UsageError("--all shows every attempt: neither --previous nor --attempt goes with it")
    wanted = _Wanted(
        follow=follow,
        previous=previous,
        tail=-1 if tail_lines is None else tail_lines,
        attempt=attempt or 0,
        since_ms=_since_ms(since),
        all_attempts=all_attempts,
    )
    context = session.resolve()

    async def read() -> int:
        from orchestrator.client.aio import Client

        async with Client(
            context.endpoints,
            tls=context.tls,
            namespace=session.place,
            timeout_s=session.timeout_s or 30.0,
            stale_after_s=STALE_AFTER_S / 2,  # the peer itself waits a second for a leader before it answers
        ) as client:
            sources = await _sources(session, client, job, task, wanted)
            return await _show(session, client, sources, wanted, timestamps=timestamps)

    code = asyncio.run(read())
    if code:
        click.get_current_context().exit(code)


def _since_ms(text: str | None) -> int:
    if text is None:
        return 0
    from orchestrator.cli.past import parse_moment

    index, moment_ms = parse_moment(text, datetime.now().astimezone(), "--since")
    if index:
        raise click.UsageError(f"--since {text}: expected a time (12:03, 2026-01-31T12:03) or a duration (10m)")
    return max(1, min(moment_ms, int(time.time() * 1000)))


async def _show(session: Session, client: Client, sources: list[_Source], wanted: _Wanted, *, timestamps: bool) -> int:
    """Write everything; the exit code."""
    reader = _Reader(client, wanted)
    failed: dict[int, RaftsmanError] = {}
    if len(sources) == 1 and not timestamps:
        async for chunk in reader.chunks(sources[0]):
            _out(chunk.data)
        return 0

    async def guarded(number: int) -> AsyncIterator[Line]:
        try:
            async for line in lines(number, reader.chunks(sources[number])):
                yield line
        except RaftsmanError as error:
            failed[number] = error

    async with aclosing(merged([guarded(number) for number in range(len(sources))])) as everything:
        async for line in everything:
            when = _moment(line.time_ms).encode() if timestamps else b""
            _out(when + sources[line.source].prefix + line.text + b"\n")
    if len(failed) == len(sources):
        raise failed[min(failed)]
    for number, error in sorted(failed.items()):
        session.warn(f"{sources[number].id}: {error.message}")
    return 1 if failed else 0


def _moment(time_ms: int) -> str:
    if not time_ms:
        return "-".ljust(24) + " "
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03}Z "


async def _sources(session: Session, client: Client, text: str, task: str, wanted: _Wanted) -> list[_Source]:
    parts = split_place(text)
    if len(parts) > 3 or not all(parts) or (len(parts) == 3 and not parts[2].isdigit()):
        raise InvalidError(f"expected JOB, JOB/GROUP or JOB/GROUP/ORDINAL, got {text!r}")
    found = await client.get_job(parts[0])
    session.warn_if_stale(found.read)
    placed = await client.list_allocations(job=parts[0], stale=found.read.stale)
    tasks = {group.name: [one.name for one in group.tasks] for group in found.job.spec.groups}
    chosen: list[tuple[AllocationId, str, _Run, tuple[_Run, ...]]] = []
    for allocation in newest(placed.allocations):
        where = allocation.id
        if len(parts) == 2 and where.group != parts[1] and not (parts[1].isdigit() and where.ordinal == int(parts[1])):
            continue
        if len(parts) == 3 and (where.group, where.ordinal) != (parts[1], int(parts[2])):
            continue
        names = tasks.get(where.group) or [""]
        run = (allocation.attempt, allocation.restarts)
        earlier = _earlier(allocation, placed.allocations, wanted)
        chosen += [(where, name, run, earlier) for name in names if task in ("", name)]
    if not chosen:
        known = [name for names in tasks.values() for name in names]
        if task and task not in known:
            raise NotFoundError(f"{parts[0]} has no task '{task}' (it has: {', '.join(known)})")
        raise NotFoundError(f"nothing of {text} was placed yet: there are no logs; 'raftsman why {parts[0]}' says why")
    if len(chosen) > MOST_AT_ONCE:
        session.warn(f"showing {MOST_AT_ONCE} of {len(chosen)} logs; name a group or an instance for others")
        chosen = chosen[:MOST_AT_ONCE]
    several_tasks = any(len(names) > 1 for names in tasks.values()) and not task
    width = max(len(_label(where, name, several_tasks)) for where, name, _, _ in chosen)
    colored = sys.stdout.isatty() and colors_allowed(session.no_color)

    def prefix(number: int, label: str) -> bytes:
        if len(chosen) == 1:
            return b""
        text = f"{label.ljust(width)} | "
        return (click.style(text, fg=COLORS[number % len(COLORS)]) if colored else text).encode()

    return [
        _Source(where, name, prefix(number, _label(where, name, several_tasks)), run, earlier)
        for number, (where, name, run, earlier) in enumerate(chosen)
    ]


def _earlier(now: Allocation, everything: tuple[Allocation, ...], wanted: _Wanted) -> tuple[_Run, ...]:
    """Attempts before the newest that are to be shown: all, or those that still ran at the time that was said."""
    if wanted.attempt or wanted.previous or not (wanted.all_attempts or wanted.since_ms):
        return ()
    before = [
        (one.attempt, one.restarts)
        for one in everything
        if one.id == now.id
        and one.attempt < now.attempt
        and (wanted.all_attempts or one.modify_time_ms >= wanted.since_ms)
    ]
    return tuple(sorted(before))


def _label(where: AllocationId, task: str, several_tasks: bool) -> str:
    return f"{where} {task}" if several_tasks else str(where)


class _Reader:
    """Reads the logs of sources."""

    def __init__(self, client: Client, wanted: _Wanted) -> None:
        self._client = client
        self._wanted = wanted

    async def chunks(self, source: _Source) -> AsyncIterator[LogsChunk]:
        """Earlier runs first; until the log ends, or when following, through restarts and later attempts."""
        wanted = self._wanted
        if wanted.all_attempts or wanted.since_ms:
            async for chunk in self._before(source) if wanted.tail < 0 else self._last_before(source):
                yield chunk
        attempt, run, tail = wanted.attempt, source.run, wanted.tail
        while True:
            ended = b"\n"
            async for chunk in self._client.logs(
                source.id,
                source.task,
                attempt,
                previous=wanted.previous,
                follow=wanted.follow,
                tail_lines=tail,
                since_ms=wanted.since_ms,
            ):
                ended = chunk.data[-1:] or ended
                yield chunk
            if not wanted.follow or wanted.attempt:
                return
            following = await self._next_run(source, run)
            if following is None:
                return
            run = following
            attempt, tail = run[0], -1
            if ended != b"\n" and source.prefix:
                yield _line_end()

    async def _before(self, source: _Source) -> AsyncIterator[LogsChunk]:
        """Runs before the newest one, as far as anybody still has their output."""
        for attempt, previous in _runs_before(source):
            async for chunk in self._run(source, attempt, previous=previous):
                yield chunk

    async def _last_before(self, source: _Source) -> AsyncIterator[LogsChunk]:
        """The last lines of all runs together, less those of the newest one: at most ``tail`` lines are held."""
        left = self._wanted.tail
        left -= _line_count([chunk async for chunk in self._run(source, source.run[0], tail=left)])
        kept: list[list[LogsChunk]] = []
        for attempt, previous in reversed(_runs_before(source)):
            if left <= 0:
                break
            kept.append([chunk async for chunk in self._run(source, attempt, previous=previous, tail=left)])
            left -= _line_count(kept[-1])
        for run in reversed(kept):
            for chunk in run:
                yield chunk

    async def _run(
        self, source: _Source, attempt: int, *, previous: bool = False, tail: int = -1
    ) -> AsyncIterator[LogsChunk]:
        """What one run has said; nothing where its output is gone, or on a node that is away."""
        with contextlib.suppress(NotFoundError, PreconditionError):
            async for chunk in self._client.logs(
                source.id, source.task, attempt, previous=previous, tail_lines=tail, since_ms=self._wanted.since_ms
            ):
                yield chunk

    async def _next_run(self, source: _Source, last: _Run) -> _Run | None:
        """The run after ``last``, once there is one; None when there will be none."""
        while True:
            try:
                now = (await self._client.get_allocation(source.id)).allocation
                if (now.attempt, now.restarts) > last:
                    return now.attempt, now.restarts
                if now.state in TERMINAL and (now.desired is Desired.STOP or now.state is AllocState.COMPLETE):
                    return None
                if now.state is AllocState.FAILED:
                    job = (await self._client.get_job(source.id.job)).job
                    if job.state in ("failed", "complete", "stopped"):
                        return None
            except NotFoundError:
                return None
            await asyncio.sleep(NEXT_RUN_S)


def _runs_before(source: _Source) -> list[tuple[int, bool]]:
    """(attempt, whether before its last restart) of the runs before the newest one, oldest first."""
    return [
        (attempt, previous)
        for attempt, restarts in (*source.earlier, source.run)
        for previous in (True, False)
        if (restarts if previous else (attempt, restarts) != source.run)
    ]


def _line_count(chunks: list[LogsChunk]) -> int:
    """Also of a last line without its end."""
    text = b"".join(chunk.data for chunk in chunks)
    return text.count(b"\n") + (not text.endswith(b"\n") and text != b"")


def _line_end() -> LogsChunk:
    from orchestrator.contract.answers import LogsChunk

    return LogsChunk(data=b"\n")


def _out(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
