"""``var``: small replicated values that tasks can take into their environment."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from orchestrator.cli.output import show, table
from orchestrator.cli.session import Session, common
from orchestrator.contract.errors import ConflictError, ExistsError, NotFoundError

if TYPE_CHECKING:
    from orchestrator.contract.model import Variable


@click.group()
def var() -> None:
    """Small replicated values; a job takes them into its environment under 'variables'."""


def _value(text: str) -> str:
    """``-`` reads standard input, without the newline at its end."""
    return sys.stdin.read().removesuffix("\n") if text == "-" else text


def _told(session: Session, variable: Variable | None, name: str, done: str) -> None:
    if session.output in ("json", "yaml"):
        show(session.output, value=lambda: variable, names=list, table=lambda wide: "")
    else:
        version = f" (version {variable.version})" if variable is not None else ""
        session.note(f"{name}: {done}{version}")


@var.command()
@common
@click.argument("name")
@click.argument("value")
def put(session: Session, name: str, value: str) -> None:
    """Set NAME to VALUE ('-': from standard input)."""
    with session.client() as client:
        _told(session, client.put_variable(name, _value(value)).variable, name, "set")


@var.command()
@common
@click.argument("name")
@click.argument("value")
def create(session: Session, name: str, value: str) -> None:
    """Set NAME to VALUE, only if it does not exist."""
    with session.client() as client:
        result = client.create_variable(name, _value(value))
    if not result.hit:
        raise ExistsError(f"variable '{name}' exists already; 'raftsman var put' overwrites it")
    _told(session, result.variable, name, "created")


@var.command()
@common
@click.argument("name")
def get(session: Session, name: str) -> None:
    """Print the value of NAME."""
    with session.client() as client:
        result = client.get_variable(name)
    session.warn_if_stale(result.read)
    variable = result.variable
    if variable is None:
        raise NotFoundError(f"no variable '{name}' in namespace '{session.place}'")
    show(session.output, value=lambda: variable, names=lambda: [name], table=lambda wide: variable.value)


@var.command()
@common
@click.argument("name")
@click.argument("expect", required=False)
@click.argument("value", required=False)
@click.option("--absent", is_flag=True, help="Expect that it does not exist: raftsman var cas --absent NAME VALUE")
def cas(session: Session, name: str, expect: str | None, value: str | None, absent: bool) -> None:
    """Set NAME to VALUE only if it is EXPECT now; exit 1 otherwise."""
    if absent:
        if expect is None or value is not None:
            raise click.UsageError("expected: raftsman var cas --absent NAME VALUE")
        expect, value = None, expect
    if value is None or (expect is None and not absent):
        raise click.UsageError("expected: raftsman var cas NAME EXPECT VALUE")
    with session.client() as client:
        result = client.compare_and_set_variable(name, expect, _value(value))
    if not result.hit:
        now = f"it is {result.variable.value!r}" if result.variable is not None else "it does not exist"
        raise ConflictError(f"variable '{name}' was not set: {now}")
    _told(session, result.variable, name, "set")


@var.command()
@common
@click.argument("name")
@click.option("--expect", help="Only if this is its value.")
def delete(session: Session, name: str, expect: str | None) -> None:
    """Delete NAME; exit 1 if there is no such variable."""
    with session.client() as client:
        if client.get_variable(name).variable is None:  # the deletion itself would be content with that
            raise NotFoundError(f"no variable '{name}' in namespace '{session.place}'")
        result = client.delete_variable(name, expect)
    if not result.hit:
        raise ConflictError(f"variable '{name}' was not deleted: its value is not the expected one")
    session.note(f"{name}: deleted")


@var.command(name="list")
@common
@click.argument("prefix", default="")
@click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces.")
def list_(session: Session, prefix: str, all_namespaces: bool) -> None:
    """Variables whose names begin with PREFIX."""
    with session.client() as client:
        listed = client.list_variables(prefix, namespace="*" if all_namespaces else session.place)
    session.warn_if_stale(listed.read)

    def text(wide: bool) -> str:
        if not listed.variables:
            return "No variables."
        rows = [
            [one.name, one.value if wide else _short(one.value), one.version, one.modify_index, one.namespace]
            for one in listed.variables
        ]
        if not all_namespaces:
            rows = [row[:-1] for row in rows]
        headings = ["NAME", "VALUE", "VERSION", "INDEX", "NAMESPACE"]
        return table(headings if all_namespaces else headings[:-1], rows)

    show(
        session.output,
        value=lambda: {"variables": listed.variables, "read": listed.read},
        names=lambda: [one.name for one in listed.variables],
        table=text,
    )


def _short(value: str) -> str:
    line = value.replace("\n", "\\n")
    return line if len(line) <= 60 else f"{line[:57]}..."
