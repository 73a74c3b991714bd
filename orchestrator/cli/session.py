"""What every command shares: the options that work everywhere, the client, and how to talk to the user.

Owns: ``Session`` and the ``common`` decorator that gives it to a command. Leaves to others: what commands do, how
results look (``cli.output``). The rule: data goes to stdout, everything else to stderr; nothing here imports what
``ps`` does not need.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from orchestrator.client.contexts import Context
    from orchestrator.client.sync import Client
    from orchestrator.contract.answers import ReadInfo

OUTPUTS = ("table", "wide", "json", "yaml", "name")
STALE_AFTER_S = 1.0
"""A read without a linearizable answer by then becomes a stale one: together under two seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The common options of one invocation."""

    context: str | None = None
    namespace: str | None = None
    output: str = "table"
    quiet: bool = False
    no_color: bool = False
    timeout_s: float | None = None
    yes: bool = False

    @property
    def place(self) -> str:
        """The namespace to work in."""
        return self.namespace or "default"

    def resolve(self) -> Context:
        from orchestrator.client import contexts

        return contexts.resolve(self.context)

    @contextmanager
    def client(self, timeout_s: float = 30.0) -> Iterator[Client]:
        """A blocking client of the chosen cluster; reads fall back to stale ones."""
        from orchestrator.client.sync import Client

        context = self.resolve()
        with Client(
            context.endpoints,
            tls=context.tls,
            namespace=self.place,
            timeout_s=timeout_s if self.timeout_s is None else self.timeout_s,
            stale_after_s=STALE_AFTER_S,
        ) as client:
            yield client

    def note(self, text: str) -> None:
        """Progress; silent with -q."""
        if not self.quiet:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        click.echo(f"raftsman: warning: {text}", err=True)

    def warn_if_stale(self, read: ReadInfo) -> None:
        """Say how old an answer is, and what brings fresh ones back."""
        if not read.stale:
            return
        age = "it never knew of a majority" if read.age_ms < 0 else f"{read.age_ms / 1000:.1f} s old"
        self.warn(
            f"no leader: this is what peer {read.peer_id or '?'} knows ({age}). "
            "Start enough peers for a majority; 'raftsman peers' shows who is missing"
        )

    def confirm(self, question: str) -> None:
        """Ask on a terminal; without one only -y goes on. Raises click.UsageError or click.Abort."""
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise click.UsageError(f"{question} Repeat with -y to go on.")
        click.confirm(question, abort=True, err=True)

    @property
    def live(self) -> bool:
        """Whether progress may redraw lines: a terminal, and nobody asked for quiet."""
        return sys.stderr.isatty() and not self.quiet and os.environ.get("TERM") != "dumb"


def colors_allowed(no_color: bool) -> bool:
    return not no_color and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _Seconds(click.ParamType[float]):
    """Seconds, or a duration such as ``2m``; a number of seconds in the end."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from orchestrator.jobfile.units import parse_duration

        try:
            ms = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 < ms <= 7 * 24 * 3600 * 1000:
            self.fail("expected more than 0 and at most 7d", param, ctx)
        return ms / 1000


def duration() -> click.ParamType[float]:
    """The type of an option that takes seconds or ``2m``, as --timeout does."""
    return _Seconds()


_OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option("--context", metavar="NAME", help="Which cluster; see 'raftsman context list'."),
    click.option(
        "-n", "--namespace", metavar="NAME", envvar="RAFTSMAN_NAMESPACE", help="Namespace (default: default)."
    ),
    click.option("-o", "--output", type=click.Choice(OUTPUTS), envvar="RAFTSMAN_OUTPUT", help="How results look."),
    click.option("-q", "--quiet", is_flag=True, default=None, help="Only results and errors."),
    click.option("--no-color", is_flag=True, default=None, help="No colours; NO_COLOR does the same."),
    click.option(
        "--timeout",
        "timeout_s",
        type=_Seconds(),
        metavar="TIME",
        envvar="RAFTSMAN_TIMEOUT",
        help="How long it may take: 30s, 2m (a single call: 30s when unsaid).",
    ),
    click.option("-y", "--yes", is_flag=True, default=None, help="Do not ask."),
)
_NAMES = ("context", "namespace", "output", "quiet", "no_color", "timeout_s", "yes")


def _merged(ctx: click.Context, said: dict[str, Any]) -> Session:
    above = ctx.find_object(Session) or Session()
    session = replace(above, **{name: value for name, value in said.items() if value is not None})
    ctx.obj = session
    ctx.color = None if colors_allowed(session.no_color) else False
    return session


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the common options; it is called with a ``Session`` first."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        said = {name: kwargs.pop(name, None) for name in _NAMES}
        return function(_merged(click.get_current_context(), said), *args, **kwargs)

    made: Callable[..., Any] = command
    for option in reversed(_OPTIONS):
        made = option(made)
    return made
