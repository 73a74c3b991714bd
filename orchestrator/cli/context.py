"""``context``: which cluster to talk to."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import click

from orchestrator.cli.output import show, table
from orchestrator.cli.session import Session, common
from orchestrator.client import contexts
from orchestrator.client.contexts import Context
from orchestrator.contract.address import problem
from orchestrator.contract.channel import PEER_SERVER_NAME, TlsFiles


@click.group()
def context() -> None:
    """Which cluster to talk to. --context NAME and RAFTSMAN_CONTEXT choose another for one command."""


@context.command(name="list")
@common
def list_(session: Session) -> None:
    """All contexts; '*' marks the current one."""
    known = contexts.load()
    every = contexts.available()
    listed = [every[name] for name in sorted(every)]

    def text(wide: bool) -> str:
        if not listed:
            return "No contexts yet: 'raftsman dev' makes one, 'raftsman context add' another."
        rows = [
            ["*" if one.name == known.current else " ", one.name, one.kind, ",".join(one.endpoints), one.data]
            for one in listed
        ]
        return table(["", "NAME", "KIND", "ENDPOINTS", "DATA"], rows)

    show(
        session.output,
        value=lambda: {"current": known.current, "contexts": listed},
        names=lambda: [one.name for one in listed],
        table=text,
    )


@context.command()
@common
@click.argument("name")
def use(session: Session, name: str) -> None:
    """Make NAME the current context."""
    contexts.use(name)
    session.note(f"current context: {name}")


@context.command(name="show")
@common
@click.argument("name", required=False)
@click.option("--grpcurl", is_flag=True, help="Print a grpcurl line that works with this context.")
def show_(session: Session, name: str | None, grpcurl: bool) -> None:
    """One context (default: the one that commands would use)."""
    one = contexts.resolve(name or session.context)
    if grpcurl:
        click.echo(grpcurl_line(one))
        return
    facts = [
        ("Name", one.name),
        ("Kind", one.kind),
        ("Endpoints", ", ".join(one.endpoints)),
        ("Authority", one.ca or "none: plain text"),
        ("Certificate", one.cert),
        ("Key", one.key),
        ("Data", one.data),
    ]
    show(
        session.output,
        value=lambda: one,
        names=lambda: [one.name],
        table=lambda wide: "\n".join(f"{label + ':':<13}{text}" for label, text in facts if text),
    )


def grpcurl_line(one: Context) -> str:
    """A command line that lists jobs by way of grpcurl; the peers serve reflection, so it needs no proto files."""
    words = ["grpcurl"]
    if one.ca:
        words += ["-cacert", one.ca, "-cert", one.cert, "-key", one.key, "-authority", PEER_SERVER_NAME]
    else:
        words.append("-plaintext")
    words += ["-d", "{}", one.endpoints[0], "orchestrator.contract.v1.Control/ListJobs"]
    return shlex.join(words)


@context.command()
@common
@click.argument("name")
@click.option(
    "--endpoint", "endpoints", multiple=True, required=True, metavar="HOST:PORT", help="A peer; may be repeated."
)
@click.option("--tls-dir", type=click.Path(file_okay=False, path_type=Path), help="With ca.pem, cert.pem and key.pem.")
@click.option("--ca", default="", help="Instead of --tls-dir.")
@click.option("--cert", default="", help="Instead of --tls-dir.")
@click.option("--key", default="", help="Instead of --tls-dir.")
@click.option(
    "--kind", type=click.Choice(["dev", "compose", "remote"]), default="remote", help="Drills refuse 'remote'."
)
@click.option("--use/--no-use", default=True, help="Make it the current one.")
def add(
    session: Session,
    name: str,
    endpoints: tuple[str, ...],
    tls_dir: Path | None,
    ca: str,
    cert: str,
    key: str,
    kind: str,
    use: bool,
) -> None:
    """Add or replace a context."""
    for endpoint in endpoints:
        if wrong := problem(endpoint):
            raise click.UsageError(f"--endpoint: {wrong}")
    if not name.strip() or not name.isprintable():
        raise click.UsageError(f"expected a name for the context, got {name[:80]!r}")
    if tls_dir is not None and (ca or cert or key):
        raise click.UsageError("--ca, --cert and --key stand in the place of --tls-dir: leave one out")
    made = Context(name=name, endpoints=endpoints, ca=ca, cert=cert, key=key, kind=kind)
    if tls_dir is not None:
        tls = TlsFiles.in_directory(tls_dir.absolute())
        made = replace(made, ca=str(tls.ca), cert=str(tls.cert), key=str(tls.key))
    missing = [file for file in (made.ca, made.cert, made.key) if file and not Path(file).is_file()]
    if missing:
        raise click.UsageError(f"there is no file {missing[0]}")
    if bool(made.ca) != bool(made.cert) or bool(made.cert) != bool(made.key):
        raise click.UsageError("--ca, --cert and --key go together")
    contexts.add(made, use=use)
    selected = " (selected)" if contexts.load().current == name else ""
    session.note(f"context {name}{selected}: {', '.join(endpoints)}")
    if not made.ca:
        session.warn(
            "it has no certificates, so it speaks plain text and reaches only peers with --insecure: --tls-dir"
        )


@context.command()
@common
@click.argument("name")
def remove(session: Session, name: str) -> None:
    """Forget a context; the cluster itself is not touched."""
    contexts.remove(name)
    session.note(f"context {name}: removed")
