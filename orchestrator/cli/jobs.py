"""``stop``, ``rm``, ``scale`` and ``restart``: changes to a job that is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from orchestrator.cli.session import Session, common
from orchestrator.contract.errors import NotFoundError, TimeoutError_
from orchestrator.contract.model import JobType

if TYPE_CHECKING:
    from orchestrator.client.sync import Client
    from orchestrator.contract.answers import JobStatus, WriteResult

WAIT_S = 120.0
POLL_S = 0.2

_wait = click.option("--wait/--detach", default=True, help="Stay until it is so.")


def _until(session: Session, client: Client, name: str, good: Callable[[JobStatus], bool], goal: str) -> None:
    """Wait until the job is ``good``, or gone. Raises TimeoutError_."""
    limit_s = WAIT_S if session.timeout_s is None else session.timeout_s
    deadline = time.monotonic() + limit_s
    while True:
        try:
            job = client.get_job(name).job
        except NotFoundError:
            return
        if good(job):
            return
        if time.monotonic() >= deadline:
            counts = ", ".join(f"{group.group} {group.running}/{group.count} running" for group in job.groups)
            raise TimeoutError_(
                f"{name} is not {goal} after {limit_s:g} s ({job.state}; {counts}); it goes on by itself"
            )
        time.sleep(POLL_S)


def _said(session: Session, name: str, result: WriteResult, done: str) -> None:
    session.note(f"{name}: {done}" if result.changed else f"{name}: nothing to change")


def _settled(job: JobStatus) -> bool:
    return all(
        not (group.pending or group.starting or group.outdated or group.lost)
        and group.running >= group.count - group.complete
        and (job.spec.type is not JobType.SERVICE or group.ready >= group.count)
        for group in job.groups
    )


def _counted(job: JobStatus, groups: frozenset[str]) -> bool:
    """Whether these groups ("" for all) have as many instances as they should, whichever version those run: a rollout
    may be held for days, and other groups are not what was asked for."""
    service = job.spec.type is JobType.SERVICE
    return all(
        not (group.pending or group.starting or group.lost)
        and group.running >= group.count - group.complete
        and not (service and (group.ready < group.count or group.running > group.count))
        for group in job.groups
        if "" in groups or group.group in groups
    )


@click.command()
@common
@click.argument("names", metavar="JOB...", nargs=-1, required=True)
@_wait
def stop(session: Session, names: tuple[str, ...], wait: bool) -> None:
    """Stop every instance of JOB; it stays known, and 'run' starts it again."""
    with session.client() as client:
        for name in names:
            _said(session, name, client.stop_job(name), "stopping")
        for name in names if wait else ():
            _until(session, client, name, lambda job: job.state == "stopped", "stopped")
            session.note(f"{name}: stopped")


@click.command(name="rm")
@common
@click.argument("names", metavar="JOB...", nargs=-1, required=True)
@_wait
def remove(session: Session, names: tuple[str, ...], wait: bool) -> None:
    """Stop JOB and forget it, with its history. Asks first while it runs (-y: does not)."""
    with session.client() as client:
        for name in names:
            job = client.get_job(name).job
            running = sum(group.running + group.starting for group in job.groups)
            if running and not job.removing:
                session.confirm(
                    f"{name} has {running} running {'instance' if running == 1 else 'instances'}. Remove it?"
                )
            _said(session, name, client.remove_job(name), "removing")
        for name in names if wait else ():
            _until(session, client, name, lambda job: False, "gone")
            session.note(f"{name}: removed")


@click.command()
@common
@click.argument("job")
@click.argument("counts", metavar="[GROUP=]N...", nargs=-1, required=True)
@_wait
def scale(session: Session, job: str, counts: tuple[str, ...], wait: bool) -> None:
    """Change how many instances of JOB run; nothing that runs is restarted."""
    wanted: list[tuple[str, int]] = []
    for text in counts:
        group, _, number = text.rpartition("=")
        if not number.isdecimal() or len(number) > 9:
            raise click.UsageError(f"expected a count such as 3, or GROUP=3, got {text[:80]!r}")
        if group in dict(wanted):
            raise click.UsageError(f"{group or 'the count'} is there twice: {' '.join(counts)[:80]!r}")
        wanted.append((group, int(number)))
    with session.client() as client:
        for group, count in wanted:
            result = client.scale_job(job, count, group=group)
            _said(session, job, result, f"{group or 'count'} = {count}")
        if wait:
            groups = frozenset(group for group, _ in wanted)
            _until(session, client, job, lambda now: _counted(now, groups), "at its new count")


@click.command()
@common
@click.argument("job")
@_wait
def restart(session: Session, job: str, wait: bool) -> None:
    """Replace every instance of JOB, as its update policy says (one at a time when it has none)."""
    with session.client() as client:
        _said(session, job, client.restart_job(job), "restarting")
        if wait:
            _until(session, client, job, _settled, "restarted")
            session.note(f"{job}: restarted")
