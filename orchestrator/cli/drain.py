"""``node drain``: move everything off a machine, with what is left and what holds it up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from orchestrator.cli.output import span
from orchestrator.cli.session import Session, common, duration

if TYPE_CHECKING:
    from orchestrator.client.sync import Client
    from orchestrator.contract.answers import DrainStatus, DrainStep

LOOK_S = 0.5
WAIT_S = 300.0
NAMED_MAX = 20


@click.command()
@common
@click.argument("name", metavar="NODE")
@click.option(
    "--deadline", type=duration(), metavar="TIME", help="Then stop at once what is left, whatever budgets say (10m)."
)
@click.option("--wait/--detach", default=False, help="Stay until nothing runs there, and show what goes on.")
@click.option("--cancel", is_flag=True, help="End the drain; what is still there stays, and the node takes work again.")
@click.option("--keep-cordoned", is_flag=True, help="With --cancel: the node still gets nothing new.")
def drain(session: Session, name: str, deadline: float | None, wait: bool, cancel: bool, keep_cordoned: bool) -> None:
    """Move everything from NODE to others, and place nothing new on it.

    Instances of a service go one at a time, or as many as their disruption budget allows; batch and system jobs stop at
    once. Without --wait it says what is left now; give it again to look again, or with another --deadline.
    """
    if cancel and (deadline is not None or wait):
        raise click.UsageError("--cancel ends the drain: neither --deadline nor --wait goes with it")
    if keep_cordoned and not cancel:
        raise click.UsageError("--keep-cordoned goes with --cancel; a node that is drained is cordoned anyway")
    with session.client() as client:
        if cancel:
            changed = client.cancel_drain(name, keep_cordoned=keep_cordoned).changed
            how = "the drain is cancelled" + (", still cordoned" if keep_cordoned else ", in use again")
            session.note(f"{name}: {how}" if changed else f"{name}: was not draining")
            return
        changed = client.drain_node(name, deadline_s=deadline or 0.0).changed
        session.note(f"{name}: draining" if changed else f"{name}: was draining already")
        if wait:
            _watch(session, client, name)
            return
        status = client.drain_status(name)
        if status.left:
            session.note(f"{name}: {_summary(status)}; --wait shows how it goes on")
            for text in _reasons(status.left):
                session.note(f"  {text}")


def _summary(status: DrainStatus) -> str:
    left = f"{len(status.left)} left"
    if status.deadline_ms:
        left += (
            f", at most {span(status.deadline_ms - status.now_ms)} more"
            if status.deadline_ms > status.now_ms
            else ", past its deadline"
        )
    return left


def _reasons(left: tuple[DrainStep, ...]) -> list[str]:
    """One line per allocation, the first few."""
    lines = [f"{step.id}: {step.kind}: {step.why}" if step.why else f"{step.id}: {step.kind}" for step in left]
    return lines if len(lines) <= NAMED_MAX else [*lines[:NAMED_MAX], f"and {len(lines) - NAMED_MAX} more"]


def _watch(session: Session, client: Client, name: str) -> None:
    """Say what changes until nothing is left. Raises ``TimeoutError_``, ``PreconditionError`` when it is cancelled."""
    from orchestrator.contract.errors import PreconditionError, TimeoutError_

    began = time.monotonic()
    said: dict[str, str] = {}
    while True:
        status = client.drain_status(name)
        now = {str(step.id): f"{step.kind}: {step.why}" if step.why else step.kind for step in status.left}
        for id_ in said.keys() - now.keys():
            session.note(f"{name}: {id_} is gone ({_summary(status)})")
        for id_, text in now.items():
            if said.get(id_) != text:
                session.note(f"{name}: {id_} {text}")
        said = now
        if not status.left:
            session.note(f"{name}: nothing runs there any more")
            return
        if not status.draining:
            raise PreconditionError(f"{name}: the drain was cancelled; {len(status.left)} stay there")
        limit_s = session.timeout_s
        if limit_s is None:
            limit_s = WAIT_S + max(0, status.deadline_ms - status.now_ms) / 1000
        if time.monotonic() - began >= limit_s:
            first = status.left[0]
            raise TimeoutError_(
                f"{name}: {len(status.left)} still there after {time.monotonic() - began:.0f} s; draining goes on. "
                f"{first.id}: {first.kind}: {first.why or 'no reason is known'}"
            )
        time.sleep(LOOK_S)
