"""``logs``: what tasks wrote, of one instance or of all of a job, now or as it comes."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from orchestrator.cli.session import STALE_AFTER_S, Session, common
from orchestrator.cli.views import newest
from orchestrator.contract.batch import split_place
from orchestrator.contract.errors import InvalidError, NotFoundError, RaftsmanError
from orchestrator.contract.model import AllocState, Desired
from orchestrator.contract.transitions import TERMINAL

if TYPE_CHECKING:
    from orchestrator.client.aio import Client
    from orchestrator.contract.model import AllocationId

MOST_AT_ONCE = 50
NEXT_RUN_S = 0.5


_Run = tuple[int, int]
"""(attempt, restarts): each has a log of its own, which ends with it."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One task of one allocation, and the run of it that is newest now.

    ``prefix``: before each of its lines, where several are shown.
    """

    id: AllocationId
    task: str
    prefix: bytes
    run: _Run


@click.command()
@common
@click.argument("job", metavar="JOB[/GROUP[/ORDINAL]]")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written, also by later attempts.")
@click.option("--tail", "tail_lines", type=click.IntRange(1), metavar="LINES", help="Only the last lines.")
@click.option("--previous", is_flag=True, help="Of the run before the last restart.")
@click.option("--task", default="", help="Only this task (where a group has several).")
@click.option("--attempt", type=click.IntRange(1), default=None, help="Of this attempt; default: the newest.")
def logs(
    session: Session,
    job: str,
    follow: bool,
    tail_lines: int | None,
    previous: bool,
    task: str,
    attempt: int | None,
) -> None:
    """What the tasks of JOB wrote; lines carry their instance where several are shown."""
    if follow and previous:
        raise click.UsageError("--previous has ended already: it cannot be followed")
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
            sources = await _sources(session, client, job, task)
            reader = _Reader(
                client,
                follow=follow,
                previous=previous,
                tail=-1 if tail_lines is None else tail_lines,
                attempt=attempt or 0,
            )
            results = await asyncio.gather(*(reader.read(source) for source in sources), return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        for error in failed:
            if not isinstance(error, RaftsmanError):
                raise error
        if len(failed) == len(sources):
            raise failed[0]
        for source, result in zip(sources, results, strict=True):
            if isinstance(result, RaftsmanError):
                session.warn(f"{source.id}: {result.message}")
        return 1 if failed else 0

    code = asyncio.run(read())
    if code:
        click.get_current_context().exit(code)


async def _sources(session: Session, client: Client, text: str, task: str) -> list[_Source]:
    parts = split_place(text)
    if len(parts) > 3 or not all(parts) or (len(parts) == 3 and not parts[2].isdigit()):
        raise InvalidError(f"expected JOB, JOB/GROUP or JOB/GROUP/ORDINAL, got {text!r}")
    found = await client.get_job(parts[0])
    session.warn_if_stale(found.read)
    placed = await client.list_allocations(job=parts[0], stale=found.read.stale)
    tasks = {group.name: [one.name for one in group.tasks] for group in found.job.spec.groups}
    chosen: list[tuple[AllocationId, str, _Run]] = []
    for allocation in newest(placed.allocations):
        where = allocation.id
        if len(parts) == 2 and where.group != parts[1] and not (parts[1].isdigit() and where.ordinal == int(parts[1])):
            continue
        if len(parts) == 3 and (where.group, where.ordinal) != (parts[1], int(parts[2])):
            continue
        names = tasks.get(where.group) or [""]
        run = (allocation.attempt, allocation.restarts)
        chosen += [(where, name, run) for name in names if task in ("", name)]
    if not chosen:
        known = [name for names in tasks.values() for name in names]
        if task and task not in known:
            raise NotFoundError(f"{parts[0]} has no task '{task}' (it has: {', '.join(known)})")
        raise NotFoundError(f"nothing of {text} was placed yet: there are no logs; 'raftsman why {parts[0]}' says why")
    if len(chosen) > MOST_AT_ONCE:
        session.warn(f"showing {MOST_AT_ONCE} of {len(chosen)} logs; name a group or an instance for others")
        chosen = chosen[:MOST_AT_ONCE]
    several_tasks = any(len(names) > 1 for names in tasks.values()) and not task
    width = max(len(_label(where, name, several_tasks)) for where, name, _ in chosen)
    several = len(chosen) > 1
    return [
        _Source(
            where,
            name,
            f"{_label(where, name, several_tasks).ljust(width)} | ".encode() if several else b"",
            run,
        )
        for where, name, run in chosen
    ]


def _label(where: AllocationId, task: str, several_tasks: bool) -> str:
    return f"{where} {task}" if several_tasks else str(where)


class _Reader:
    """Reads sources and writes whole lines to stdout."""

    def __init__(self, client: Client, *, follow: bool, previous: bool, tail: int, attempt: int) -> None:
        self._client = client
        self._follow = follow
        self._previous = previous
        self._tail = tail
        self._attempt = attempt

    async def read(self, source: _Source) -> None:
        """Until the log ends; when following, through restarts and later attempts."""
        attempt, run, tail = self._attempt, source.run, self._tail
        while True:
            rest = b""
            async for chunk in self._client.logs(
                source.id, source.task, attempt, previous=self._previous, follow=self._follow, tail_lines=tail
            ):
                rest = self._write(source, rest + chunk.data)
            if rest:
                _out(source.prefix + rest + (b"\n" if source.prefix else b""))
            if not self._follow or self._attempt:
                return
            following = await self._next_run(source, run)
            if following is None:
                return
            run = following
            attempt, tail = run[0], -1

    def _write(self, source: _Source, data: bytes) -> bytes:
        """Write what can be written of ``data``; the rest waits for the end of its line (where lines are prefixed)."""
        if not source.prefix:
            _out(data)
            return b""
        *lines, rest = data.split(b"\n")
        if lines:
            _out(b"".join(source.prefix + line + b"\n" for line in lines))
        return rest

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


def _out(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
