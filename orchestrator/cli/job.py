"""``job``: runs of templates: ``job dispatch``, ``job periodic force``, and how they stand (``job runs``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import click

from orchestrator.cli.output import age, show, table
from orchestrator.cli.session import Session, common
from orchestrator.contract.errors import ExitCode

if TYPE_CHECKING:
    from orchestrator.client.sync import Client
    from orchestrator.contract.answers import DispatchResult

_wait = click.option("--wait/--detach", default=False, help="Stay until the run has ended; 4 if it failed.")


@click.group()
def job() -> None:
    """Runs of parameterized and periodic jobs: each is a job of its own, NAME/dispatch-... or NAME/periodic-..."""


@job.command()
@common
@click.argument("name", metavar="JOB")
@click.option("--meta", "meta", multiple=True, metavar="KEY=VALUE", help="May be given again.")
@click.option(
    "--payload",
    type=click.File("rb"),
    metavar="FILE",
    help="What the run gets as RAFTSMAN_PAYLOAD and in RAFTSMAN_PAYLOAD_FILE, at most 16 KiB; - for stdin.",
)
@_wait
def dispatch(session: Session, name: str, meta: tuple[str, ...], payload: BinaryIO | None, wait: bool) -> int:
    """Start a run of the parameterized JOB; prints the run's name."""
    given: dict[str, str] = {}
    for text in meta:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--meta {text!r}: expected KEY=VALUE")
        if key in given:
            raise click.UsageError(f"--meta {key} is given twice")
        given[key] = value
    data = b"" if payload is None else payload.read()
    with session.client() as client:
        done = client.dispatch_job(name, meta=given, payload=data)
        return _said(session, client, done, "dispatched", wait)


@job.group()
def periodic() -> None:
    """Runs of periodic jobs."""


@periodic.command()
@common
@click.argument("name", metavar="JOB")
@_wait
def force(session: Session, name: str, wait: bool) -> int:
    """Start a run of the periodic JOB now, whatever its schedule and overlap policy say; prints the run's name."""
    with session.client() as client:
        return _said(session, client, client.force_run(name), "started", wait)


@job.command()
@common
@click.argument("name", metavar="JOB")
def runs(session: Session, name: str) -> None:
    """The runs of JOB that are known, the newest first: how they ended, with their exit codes."""
    with session.client() as client:
        client.get_job(name)
        listed = client.list_jobs()
        session.warn_if_stale(listed.read)
        mine = [one for one in listed.jobs if one.spec.origin is not None and one.spec.origin.job == name]
        codes: dict[str, list[int]] = {}
        for allocation in client.list_allocations(stale=listed.read.stale).allocations:
            if allocation.state.name == "FAILED":
                codes.setdefault(allocation.id.job, []).append(allocation.exit_code)
    mine.sort(key=lambda one: (-one.create_index, one.spec.name))

    def text(wide: bool) -> str:
        if not mine:
            return f"No runs of {name} are known."
        rows = [
            [one.spec.name, one.state, age(one.create_time_ms), " ".join(map(str, codes.get(one.spec.name, [])[-5:]))]
            for one in mine
        ]
        return table(["RUN", "STATE", "AGE", "EXIT CODES OF FAILURES"], rows)

    show(session.output, value=lambda: mine, names=lambda: [one.spec.name for one in mine], table=text)


def _said(session: Session, client: Client, done: DispatchResult, word: str, wait: bool) -> int:
    if session.output in ("json", "yaml"):
        show(session.output, value=lambda: done, names=lambda: [done.name], table=lambda wide: done.name)
    else:
        click.echo(done.name)
    session.note(f"{done.name}: {word}")
    if not wait:
        return ExitCode.OK
    from orchestrator.cli.rollout import Rollout

    return Rollout(session, client, client.get_job(done.name).job.spec, 1).wait().exit_code
