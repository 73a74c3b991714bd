"""``schema`` and ``version``."""

from __future__ import annotations

import click

from orchestrator.cli.output import show, structured
from orchestrator.cli.session import Session, common


@click.command()
@common
def schema(session: Session) -> None:
    """Print the JSON Schema of job files, for editors: raftsman schema > job.schema.json"""
    from orchestrator.jobfile.file import schema as job_schema

    made = job_schema()
    show(
        session.output,
        value=lambda: made,
        names=lambda: [made["title"]],
        table=lambda wide: structured(made, "json"),
    )


@click.command()
@common
def version(session: Session) -> None:
    """Print the version of this program."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        number = installed("raftsman")
    except PackageNotFoundError:
        number = "unknown (a source tree, not installed)"
    show(
        session.output,
        value=lambda: {"version": number},
        names=lambda: [number],
        table=lambda wide: f"raftsman {number}",
    )
