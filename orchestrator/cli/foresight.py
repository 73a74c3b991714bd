"""``plan`` and ``what-if``: asking before doing. Nothing here writes anything.

Exit codes: 0, whatever the answer is. ``plan --exit-code``: 0 where running the file would change nothing, 1 where it
would, and 255 for what else would have been 1, so that a script can tell an error from a change; all others stay.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.output import show, span, table
from orchestrator.cli.ps import explanation_text
from orchestrator.cli.session import Session, common
from orchestrator.contract.answers import Explanation
from orchestrator.contract.errors import ExitCode, RaftsmanError
from orchestrator.contract.foresight import Change, FieldChange, JobPlan, Outcome, WhatIf

if TYPE_CHECKING:
    from orchestrator.contract.model import NodeSpec

PLAN_FAILED = 255
SHOWN = 200
"""Allocations in a table; JSON has them all."""
_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
_HEADS = {
    "create": ("+", "green", "would be created"),
    "update": ("~", "yellow", "would change"),
    "restart": ("~", "yellow", "would start again"),
    "none": (" ", None, "is as it is in the file"),
}
_ORDER = ("placed", "moved", "replaced", "stopped", "lost")


@click.command()
@common
@click.argument("file")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if something would change (0 if not, 255 on errors).")
@click.pass_context
def plan(ctx: click.Context, /, session: Session, file: str, exit_code: bool) -> None:
    """What 'run FILE' would change, field by field, and where everything would go. Nothing is written."""
    from orchestrator.cli.run import spec_from_file

    spec = spec_from_file(session, file)
    try:
        with session.client() as client:
            answer = client.plan_job(spec)
        session.warn_if_stale(answer.what_if.read)
    except RaftsmanError as error:
        if not exit_code or error.exit_code is not ExitCode.ERROR:
            raise
        click.echo(f"raftsman: {error.message}", err=True)
        ctx.exit(PLAN_FAILED)
    show(
        session.output,
        value=lambda: answer,
        names=lambda: [str(one.id) for one in answer.what_if.outcomes],
        table=lambda wide: plan_text(spec.name, file, answer),
    )
    if exit_code and answer.change != "none":
        ctx.exit(1)


@click.group("what-if")
def what_if() -> None:
    """What would happen, played out by the leader's own rules on a copy of the state. Nothing is written."""


@what_if.command()
@common
@click.argument("node")
def drain(session: Session, node: str) -> None:
    """NODE is drained."""
    _ask(session, Change(drain=node))


@what_if.command()
@common
@click.argument("node")
def lose(session: Session, node: str) -> None:
    """NODE is lost: its machine dies."""
    _ask(session, Change(lose=node))


@what_if.command()
@common
@click.argument("file")
def submit(session: Session, file: str) -> None:
    """The job in FILE is run ('plan' shows the difference, too)."""
    from orchestrator.cli.run import spec_from_file

    _ask(session, Change(submit=spec_from_file(session, file)))


@what_if.command("add-node")
@common
@click.argument("spec", nargs=-1, required=True, metavar="SPEC | FILE | like NODE")
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="So many of them.")
def add_node(session: Session, spec: tuple[str, ...], count: int) -> None:
    """A node joins: cpu=8,memory=32Gi,gpus=4xA100,labels=zone=b, a YAML file with such keys, or one like NODE."""
    if len(spec) == 2 and spec[0] == "like":
        _ask(session, Change(like=spec[1], count=count))
        return
    if len(spec) != 1:
        raise click.UsageError("expected one SPEC, one FILE, or 'like NODE'")
    _ask(session, Change(add_node=_node(spec[0]), count=count))


def _node(text: str) -> NodeSpec:
    from orchestrator.jobfile.nodespec import load_node, parse_node

    if text != "-" and not text.endswith((".yaml", ".yml")):
        return parse_node(text)
    try:
        content = sys.stdin.read() if text == "-" else Path(text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {text}: {error}") from None
    return load_node(content, text)


def _ask(session: Session, change: Change) -> None:
    with session.client() as client:
        answer = client.what_if(change)
    session.warn_if_stale(answer.read)
    show(
        session.output,
        value=lambda: answer,
        names=lambda: [str(one.id) for one in answer.outcomes],
        table=lambda wide: what_if_text(answer),
    )


# ---------------------------------------------------------------------------- for reading


def plan_text(name: str, file: str, answer: JobPlan) -> str:
    sign, color, words = _HEADS.get(answer.change, ("~", "yellow", answer.change))
    version = f"version {answer.version}" if answer.version == answer.next_version else (
        f"version {answer.version} -> {answer.next_version}" if answer.version else "version 1"
    )  # fmt: skip
    lines = [click.style(f"{sign} job {name} {words} ({version})", fg=color, bold=True)]
    lines += [f"  {_field(one)}" for one in answer.fields]
    parts = ["\n".join(lines), what_if_text(answer.what_if)]
    if answer.change != "none":
        guard = f" --expect-version {answer.version}"
        parts.append(f"Nothing was changed. To do it, and only if nobody was faster: raftsman run {file}{guard}")
    return "\n\n".join(parts)


def _field(one: FieldChange) -> str:
    sign, color = _SIGNS[one.kind]
    values = {"added": one.after, "removed": one.before}.get(one.kind, f"{one.before} -> {one.after}")
    return click.style(f"{sign} {one.path}" + (f": {values}" if values else ""), fg=color)


def what_if_text(answer: WhatIf) -> str:
    parts = [_summary(answer)]
    if answer.outcomes:
        parts.append(outcomes_table(answer.outcomes[:SHOWN]))
        rest = len(answer.outcomes) - SHOWN + answer.left_out
        if rest > 0:
            parts.append(f"and {rest} more" + (" (-o json shows them)" if not answer.left_out else ""))
    waiting = tuple(one for one in answer.pending if one.after)
    if waiting:
        texts = [
            f"{click.style(one.job, bold=True)}: {explanation_text(Explanation(groups=(one.why,)))}" for one in waiting
        ]
        parts.append("\n".join(["Without a node afterwards:", *texts]))
    return "\n\n".join(parts)


def _summary(answer: WhatIf) -> str:
    counts = Counter(one.kind for one in answer.outcomes if not one.anyway)
    anyway = sum(one.anyway for one in answer.outcomes)
    said = ", ".join(f"{counts[kind]} {kind}" for kind in _ORDER if counts[kind]) or "No allocation would change"
    if anyway:
        said += f" ({anyway} more would change anyway)"
    pending = f"pending {answer.pending_before} -> {answer.pending_after}"
    nodes = f"nodes in use {answer.nodes_used_before} -> {answer.nodes_used_after}"
    lines = [f"{said}; {pending}; {nodes}."]
    if answer.takes_ms >= 1_000:
        lines.append(
            f"It takes {span(answer.takes_ms)} at least, beside starting and stopping: somebody waits for time."
        )
    if not answer.settled:
        lines.append(
            click.style(
                f"It did not come to rest within {answer.rounds} rounds: this is how far it got in the given time "
                "(--timeout).",
                fg="yellow",
            )
        )
    return "\n".join(lines)


def outcomes_table(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [
            str(one.id),
            one.kind + (" (anyway)" if one.anyway else ""),
            one.from_node,
            one.to_node,
            ",".join(one.to_devices),
            one.id.namespace if one.id.namespace != "default" else "",
            one.reason,
        ]
        for one in outcomes
    ]
    return table(["ALLOCATION", "CHANGE", "FROM", "TO", "DEVICES", "NAMESPACE", "REASON"], rows)
