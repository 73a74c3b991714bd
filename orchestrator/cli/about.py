"""``schema`` and ``version``."""

from __future__ import annotations

import json

import click

from orchestrator.cli.session import Session, common


@click.command()
@common
def schema(session: Session) -> None:
    """Print the JSON Schema of job files, for editors: raftsman schema > job.schema.json"""
    from orchestrator.jobfile.file import schema as job_schema

    click.echo(json.dumps(job_schema(), indent=2))


@click.command()
@common
def version(session: Session) -> None:
    """Print the version of this program."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        click.echo(f"raftsman {installed('raftsman')}")
    except PackageNotFoundError:
        click.echo("raftsman (from a source tree, not installed)")
