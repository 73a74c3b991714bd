"""``logs``: what tasks wrote, of one instance or of all of a job, now or as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from orchestrator.cli.following import follow as run_followed
from orchestrator.cli.log_merge import PATIENCE_S, Line, lines, merged
from orchestrator.cli.log_tasks import Tasks
from orchestrator.cli.session import STALE_AFTER_S, Session, colors_allowed, common
from orchestrator.cli.views import is_live, newest
from orchestrator.contract.errors import InvalidError, NotFoundError, PreconditionError, RaftsmanError
from orchestrator.contract.model import AllocState, Desired
from orchestrator.contract.place import nowhere, split_place
from orchestrator.contract.transitions import TERMINAL

if TYPE_CHECKING:
    from orchestrator.client.aio import Client
    from orchestrator.contract.answers import LogsChunk
    from orchestrator.contract.model import Allocation, AllocationId

MOST_AT_ONCE = 50
NEXT_RUN_S = 0.5
READ_PATIENCE_S = 1.0
"""A log that is not followed ends soon, so the others wait for a slow node a little longer: lines stay in order."""
COLORS = ("cyan", "yellow", "green", "magenta", "blue", "bright_red", "bright_cyan", "bright_yellow", "bright_green")


_Run = tuple[int, int]
"""(attempt, restarts): each has a log of its own, which ends with it."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One task of one allocation, and the run of it that is newest now.

    ``prefix``: before each of its lines, where several are shown. ``earlier``: the attempts before it that are to be
    shown too, oldest first. ``attempt``: the one to ask for, 0 = the newest: a task that only an older version had ends
    with its last attempt.
    """

    id: AllocationId
    task: str
    prefix: bytes
    run: _Run
    earlier: tuple[_Run, ...] = ()
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What was asked for. ``attempt`` 0: the newest; ``tail`` -1: all; ``since_ms`` 0: from the beginning;
    ``until_ms`` 0: to the end."""

    follow: bool
    previous: bool
    tail: int
    attempt: int
    since_ms: int
    until_ms: int
    all_attempts: bool

    @property
    def earlier_too(self) -> bool:
        """Whether runs before the newest one belong to it."""
        return self.all_attempts or bool(self.since_ms or self.until_ms)


@click.command()
@common
@click.argument("job", metavar="JOB[/GROUP[/ORDINAL]]")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written, also by later attempts.")
@click.option("--tail", "tail_lines", type=click.IntRange(1), metavar="LINES", help="Only the last lines.")
@click.option("--since", metavar="TIME", help="Only what was written since: 10m, 12:03 or 2026-01-31T12:03.")
@click.option("--until", metavar="TIME", help="Only what was written until then, by the same words.")
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
    until: str | None,
    previous: bool,
    all_attempts: bool,
    task: str,
    attempt: int | None,
    timestamps: bool,
) -> None:
    """What the tasks of JOB wrote, of all instances together: in the order of time, each line with its instance.

    With --since, --until and --all also of earlier attempts, on whichever node they were. Colours tell instances apart
    on a terminal.
    """
    if follow and previous:
        raise click.UsageError("--previous has ended already: it cannot be followed")
    if all_attempts and (previous or attempt):
        raise click.UsageError("--all shows every attempt: neither --previous nor --attempt goes with it")
    if follow and until is not None:
        raise click.UsageError("--until ends somewhere: it does not go with -f")
    last = -1 if tail_lines is None else tail_lines
    wanted = _Wanted(
        follow=follow,
        previous=previous,
        tail=last if until is None else -1,  # the last lines before then are found here
        attempt=attempt or 0,
        since_ms=_moment_ms("--since", since),
        until_ms=_moment_ms("--until", until),
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
            tasks, sources = await _sources(session, client, job, task, wanted)
            return await _show(session, _Reader(client, tasks, wanted), sources, timestamps=timestamps, last=last)

    code = run_followed(read())
    if code:
        click.get_current_context().exit(code)


def _moment_ms(option: str, text: str | None) -> int:
    if text is None:
        return 0
    from orchestrator.cli.past import parse_moment

    index, moment_ms = parse_moment(text, datetime.now().astimezone(), option)
    if index:
        raise click.UsageError(f"{option} {text}: expected a time (12:03, 2026-01-31T12:03) or a duration (10m)")
    return max(1, min(moment_ms, int(time.time() * 1000)))


async def _show(session: Session, reader: _Reader, sources: list[_Source], *, timestamps: bool, last: int) -> int:
    """Write everything; the exit code. ``last``: so many lines of what ends at a time, of each source; -1: all."""
    follow, until_ms = reader.wanted.follow, reader.wanted.until_ms
    failed: dict[int, RaftsmanError] = {}
    if len(sources) == 1 and not timestamps and not until_ms:
        async for chunk in reader.chunks(sources[0]):
            _out(chunk.data)
        return 0

    async def guarded(number: int) -> AsyncIterator[Line]:
        try:
            kept: deque[Line] = deque(maxlen=max(last, 0))
            async for line in lines(number, reader.chunks(sources[number])):
                if until_ms and line.time_ms > until_ms:
                    continue
                if until_ms and last >= 0:
                    kept.append(line)
                else:
                    yield line
            for line in kept:
                yield line
        except RaftsmanError as error:
            failed[number] = error
            if follow:  # the others may go on for days
                session.warn(told(sources[number].id, error.message))

    patience_s = PATIENCE_S if follow else READ_PATIENCE_S
    every = merged([guarded(number) for number in range(len(sources))], patience_s=patience_s)
    async with aclosing(every) as everything:
        async for line in everything:
            when = _moment(line.time_ms).encode() if timestamps else b""
            _out(when + sources[line.source].prefix + line.text + b"\n")
    if len(failed) == len(sources):
        raise failed[min(failed)]
    for number, error in sorted(failed.items()) if not follow else ():
        session.warn(told(sources[number].id, error.message))
    return 1 if failed else 0


def told(id_: object, message: str) -> str:
    """Whose message it is, once: agents name the allocation themselves."""
    return message if message.startswith(f"{id_} ") else f"{id_}: {message}"


def _moment(time_ms: int) -> str:
    if not time_ms:
        return "-".ljust(24) + " "
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03}Z "


async def _sources(
    session: Session, client: Client, text: str, task: str, wanted: _Wanted
) -> tuple[Tasks, list[_Source]]:
    parts = split_place(text)
    if len(parts) > 3 or not all(parts) or (len(parts) == 3 and not parts[2].isdecimal()):
        raise InvalidError(f"expected JOB, JOB/GROUP or JOB/GROUP/ORDINAL, got {text!r}")
    found = await client.get_job(parts[0])
    session.warn_if_stale(found.read)
    placed = (await client.list_allocations(job=parts[0], stale=found.read.stale)).allocations
    tasks = Tasks(client, found.job, stale=found.read.stale)
    chosen: list[_Source] = []
    known: list[str] = []
    for allocation in newest(placed):
        where = allocation.id
        if len(parts) == 2 and parts[1] not in (where.group, str(where.ordinal)):
            continue
        if len(parts) == 3 and (where.group, str(where.ordinal)) != (parts[1], parts[2]):
            continue
        for one in await _of_instance(tasks, allocation, placed, wanted):
            known += [one.task] if one.task not in known else []
            chosen += [one] if task in ("", one.task) else []
    if not chosen:
        if known:
            raise NotFoundError(f"{parts[0]} has no task '{task}' (it has: {', '.join(known)})")
        if gone := nowhere(found.job.spec, parts[1:]):
            raise NotFoundError(gone)
        if found.job.spec.is_template:
            raise NotFoundError(
                f"{parts[0]} is a template, of which nothing runs: its runs have logs (raftsman job runs {parts[0]})"
            )
        raise NotFoundError(f"nothing of {text} was placed yet: there are no logs; 'raftsman why {parts[0]}' says why")
    if len(chosen) > MOST_AT_ONCE:
        session.warn(f"showing {MOST_AT_ONCE} of {len(chosen)} logs; name a group or an instance for others")
        chosen = chosen[:MOST_AT_ONCE]
    several_tasks = len({(one.id, one.task) for one in chosen}) > len({one.id for one in chosen})
    several = len({(one.id, one.task) for one in chosen}) > 1
    width = max(len(_label(one.id, one.task, several_tasks)) for one in chosen)
    colored = sys.stdout.isatty() and colors_allowed(session.no_color)

    def prefix(number: int, label: str) -> bytes:
        if not several:
            return b""
        text = f"{label.ljust(width)} | "
        return (click.style(text, fg=COLORS[number % len(COLORS)]) if colored else text).encode()

    return tasks, [
        replace(one, prefix=prefix(number, _label(one.id, one.task, several_tasks)))
        for number, one in enumerate(chosen)
    ]


async def _of_instance(
    tasks: Tasks, now: Allocation, everything: tuple[Allocation, ...], wanted: _Wanted
) -> list[_Source]:
    """The tasks of one instance that are to be shown. Those that it only had in versions of before, too, where the
    attempts of then are to be shown."""
    attempts = {one.attempt: one for one in everything if one.id == now.id}
    shown = attempts.get(wanted.attempt, now)
    if wanted.previous and not shown.restarts:
        shown = attempts.get(shown.attempt - 1, shown) if wanted.attempt else _before(now, attempts.values())
    others = _others(now, everything, wanted)
    found = []
    # What a rollout began and gave up is newer than what runs on, and has ended: read beside it, in the order of time.
    for of in (
        [*(one for one in others if one.attempt < now.attempt), shown],
        [one for one in others if one.attempt > now.attempt],
    ):
        runs: dict[str, list[_Run]] = {}
        for one in of:
            for name in await tasks.of(one):
                runs.setdefault(name, []).append((one.attempt, one.restarts))
        for name, its in runs.items():
            gone = shown is now and its[-1][0] != now.attempt
            found.append(_Source(now.id, name, b"", its[-1], tuple(its[:-1]), its[-1][0] if gone else 0))
    return found


def _before(now: Allocation, attempts: Iterable[Allocation]) -> Allocation:
    """The attempt before ``now``, as the API has it: the newest other one, and first of those that live."""
    others = [one for one in attempts if one.attempt != now.attempt]
    return max(others, key=lambda one: (is_live(one), one.attempt), default=now)


def _others(now: Allocation, everything: tuple[Allocation, ...], wanted: _Wanted) -> list[Allocation]:
    """Other attempts that are to be shown, by number: all, or those that still ran at the time that was said."""
    if wanted.attempt or wanted.previous or not wanted.earlier_too:
        return []
    others = [
        one
        for one in everything
        if one.id == now.id
        and one.attempt != now.attempt
        and (wanted.all_attempts or is_live(one) or one.modify_time_ms >= wanted.since_ms)
    ]
    return sorted(others, key=lambda one: one.attempt)


def _label(where: AllocationId, task: str, several_tasks: bool) -> str:
    return f"{where} {task}" if several_tasks else str(where)


class _Reader:
    """Reads the logs of sources."""

    def __init__(self, client: Client, tasks: Tasks, wanted: _Wanted) -> None:
        self._client = client
        self._tasks = tasks
        self.wanted = wanted

    async def chunks(self, source: _Source) -> AsyncIterator[LogsChunk]:
        """Earlier runs first; until the log ends, or when following, through restarts and later attempts."""
        wanted = self.wanted
        if wanted.earlier_too:
            async for chunk in self._before(source) if wanted.tail < 0 else self._last_before(source):
                yield chunk
        attempt, run, tail = wanted.attempt or source.attempt, source.run, wanted.tail
        on_and_on = wanted.follow and not attempt
        followed = False
        while True:
            ended, heard = b"\n", False
            try:
                async for chunk in self._client.logs(
                    source.id,
                    source.task,
                    attempt,
                    previous=wanted.previous,
                    follow=wanted.follow,
                    tail_lines=tail,
                    since_ms=wanted.since_ms,
                ):
                    ended, heard = chunk.data[-1:] or ended, heard or bool(chunk.data)
                    yield chunk
            except NotFoundError:
                # A run that has yet to begin has no output; in the end whoever follows hears of it.
                if not on_and_on or not (followed or await self._is_to_come(source, run)):
                    raise
            if not on_and_on:
                return
            following = await self._next_run(source, run, again=not heard)
            if following is None:
                return
            if following != run:
                tail = -1
            run, followed = following, True
            attempt = run[0]
            if ended != b"\n" and source.prefix:
                yield _line_end()

    async def _before(self, source: _Source) -> AsyncIterator[LogsChunk]:
        """Runs before the newest one, as far as anybody still has their output."""
        for attempt, previous in _runs_before(source):
            async for chunk in self._run(source, attempt, previous=previous):
                yield chunk

    async def _last_before(self, source: _Source) -> AsyncIterator[LogsChunk]:
        """The last lines of all runs together, less those of the newest one: at most ``tail`` lines are held."""
        left = self.wanted.tail
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
                source.id, source.task, attempt, previous=previous, tail_lines=tail, since_ms=self.wanted.since_ms
            ):
                yield chunk

    async def _is_to_come(self, source: _Source, run: _Run) -> bool:
        """Whether that run has not ended yet, or another one has followed."""
        now = (await self._client.get_allocation(source.id)).allocation
        return now.state not in TERMINAL or (now.attempt, now.restarts) > run

    async def _next_run(self, source: _Source, last: _Run, *, again: bool) -> _Run | None:
        """The run after ``last``, once there is one; None when there will be none. ``again``: nothing was heard of
        ``last``, so while it has not ended it is the next one, for it may just begin."""
        while True:
            try:
                now = (await self._client.get_allocation(source.id)).allocation
                if (now.attempt, now.restarts) > last:
                    return (now.attempt, now.restarts) if source.task in await self._tasks.of(now) else None
                if now.state in TERMINAL and (now.desired is Desired.STOP or now.state is AllocState.COMPLETE):
                    return None
                if now.state is AllocState.FAILED:
                    job = (await self._client.get_job(source.id.job)).job
                    if job.state in ("failed", "complete", "stopped"):
                        return None
            except NotFoundError:
                return None
            await asyncio.sleep(NEXT_RUN_S)
            if again and now.state not in TERMINAL:
                return last


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
