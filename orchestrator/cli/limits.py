"""``limits``: what the cluster keeps, for how long."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.output import show, table
from orchestrator.cli.session import Session, common

if TYPE_CHECKING:
    from orchestrator.contract.model import Limits

_MEANING = {
    "allocations_per_ordinal": "ended allocations of each instance that are kept",
    "allocation_age_ms": "how long they are kept",
    "stopped_job_age_ms": "how long a job is kept that has ended",
    "events": "events that are kept",
    "answers": "outcomes of requests that are remembered, so that a repeated one does nothing",
    "answer_age_ms": "how long they are remembered",
    "answer_bytes": "memory that they may take, about",
    "children_per_job": "ended runs of each periodic or parameterized job that are kept",
    "child_age_ms": "how long they are kept",
    "variable_bytes": "size of one variable's value",
}


@click.group()
def limits() -> None:
    """What the cluster keeps, for how long; the limits are replicated and hold on every peer."""


@limits.command()
@common
def get(session: Session) -> None:
    """Show the limits."""
    with session.client() as client:
        answer = client.get_limits()
    session.warn_if_stale(answer.read)
    now = answer.limits

    def text(wide: bool) -> str:
        return table(["LIMIT", "VALUE", "MEANING"], [[name, getattr(now, name), _MEANING[name]] for name in _MEANING])

    show(session.output, value=lambda: now, names=lambda: list(_MEANING), table=text)


@limits.command(name="set")
@common
@click.argument("changes", nargs=-1, required=True, metavar="LIMIT=NUMBER...")
def set_(session: Session, changes: tuple[str, ...]) -> None:
    """Change limits, for example events=20000; what is over the new ones is forgotten."""
    from orchestrator.contract.model import LimitsChange

    given: dict[str, Any] = {}
    for change in changes:
        name, equals, number = change.partition("=")
        if name not in _MEANING or not equals or not number.isdecimal() or len(number) > 18:
            raise click.UsageError(f"{change!r}: expected LIMIT=NUMBER, with one of {', '.join(_MEANING)}")
        given[name] = int(number)
    with session.client() as client:
        before: Limits = client.get_limits().limits
        client.set_limits(LimitsChange(**given))
    for name, value in given.items():
        was = dataclasses.asdict(before)[name]
        session.note(f"{name}: {value}" + (f" (was {was})" if was != value else " (as it was)"))
