"""``placements``: the ways to choose nodes that jobs may name, and which one a job gets that names none."""

from __future__ import annotations

import click

from orchestrator.cli.output import show, table
from orchestrator.cli.session import Session, common

AUTOMATIC = "auto"
_ALONE = {"fragmentation": "default with GPUs", "binpack": "default without GPUs"}


@click.group(invoke_without_command=True)
@common
@click.pass_context
def placements(context: click.Context, session: Session) -> None:
    """The placements that jobs may name; 'placements default NAME' says what others get."""
    if context.invoked_subcommand is not None:
        return
    with session.client() as client:
        answer = client.get_limits()
    session.warn_if_stale(answer.read)
    chosen = answer.limits.default_placement

    def role(name: str) -> str:
        if chosen:
            return "default" if name == chosen else ""
        return _ALONE.get(name, "")

    def text(wide: bool) -> str:
        rows = [[one.name, role(one.name), one.summary] for one in answer.placements]
        return table(["PLACEMENT", "USED FOR", "GOES TO"], rows)

    names = [one.name for one in answer.placements]
    value = [{"name": one.name, "summary": one.summary, "default": role(one.name)} for one in answer.placements]
    show(session.output, value=lambda: value, names=lambda: names, table=text)


@placements.command(name="default")
@common
@click.argument("name")
def default(session: Session, name: str) -> None:
    """Use NAME for jobs that name none; 'auto': fragmentation for groups with GPUs, binpack for others."""
    from orchestrator.contract.model import LimitsChange

    if not name.strip():
        raise click.UsageError(f"expected a placement, or '{AUTOMATIC}', got {name!r}")
    with session.client() as client:
        client.set_limits(LimitsChange(default_placement="" if name == AUTOMATIC else name))
    session.note(f"default placement: {name}; it holds for what is placed from now on")
