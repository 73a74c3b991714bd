"""``raftsman certs``: make an authority, issue certificates, show what is there. Thin; the work is in ``ops.certs``."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import click

from orchestrator.contract.channel import KINDS, Kind
from orchestrator.ops import certs

_DIRECTORY = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("certs"),
    show_default=True,
    help="Directory that holds the authority and what it issued.",
)


@click.group(name="certs")
def command() -> None:
    """The cluster's own authority and the certificates of its peers, agents, clients and gateways."""


@command.command()
@_DIRECTORY
@click.option("--cluster", default="raftsman", show_default=True, help="Name of the cluster.")
@click.option("--peer", "peers", multiple=True, metavar="ID[=HOST,...]", help="Also issue this peer's; repeatable.")
@click.option("--agents", type=click.IntRange(min=0), default=0, help="Also fill a pool agents/agent-1..N.")
@click.option("--client", "clients", multiple=True, default=("admin",), show_default=True, help="Also this client's.")
@click.option("--gateway", "gateways", multiple=True, metavar="NAME", help="Also issue this gateway's.")
def init(
    directory: Path,
    cluster: str,
    peers: tuple[str, ...],
    agents: int,
    clients: tuple[str, ...],
    gateways: tuple[str, ...],
) -> None:
    """Make an authority, and whatever is asked for and absent. Safe to repeat."""
    certs.create_authority(directory, cluster)
    for peer in peers:
        name, _, hosts = peer.partition("=")
        certs.issue(directory, "peer", name, [host for host in hosts.split(",") if host])
    for number in range(1, agents + 1):
        if not (directory / "agents" / f".claimed-agent-{number}").exists():
            certs.issue(directory, "agent", f"agent-{number}")
    for name in clients:
        certs.issue(directory, "client", name)
    for name in gateways:
        certs.issue(directory, "gateway", name)
    click.echo(f"authority of cluster {cluster!r} and its certificates are in {directory}", err=True)


@command.command()
@_DIRECTORY
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option("--host", "hosts", multiple=True, help="Further DNS name or address in the certificate; repeatable.")
def issue(directory: Path, kind: Kind, name: str, hosts: tuple[str, ...]) -> None:
    """Issue the certificate of KIND:NAME (kept if it is there) and print its directory."""
    click.echo(certs.issue(directory, kind, name, hosts))


@command.command()
@click.argument("pool", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
def claim(pool: Path, target: Path) -> None:
    """Move one unclaimed certificate from POOL (DIR/agents) to TARGET; nothing to do when TARGET has one."""
    files = certs.claim(pool, target)
    click.echo(certs.read(files.cert).subject)


@command.command()
@_DIRECTORY
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def show(directory: Path, output: str) -> None:
    """List the certificates with the days that they have left."""
    found = certs.list_certificates(directory)
    now = datetime.datetime.now(datetime.UTC)
    if output == "json":
        rows = [
            {
                "subject": info.subject,
                "cluster": info.cluster,
                "expires": info.expires.isoformat(),
                "days_left": info.days_left(now),
                "hosts": list(info.hosts),
                "path": str(info.path),
            }
            for info in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not found:
        raise click.ClickException(f"no certificates in {directory}; `raftsman certs init --dir DIR` makes them")
    width = max(len(info.subject) for info in found)
    for info in found:
        left = info.days_left(now)
        note = "  expires soon: issue a new one" if left < certs.WARN_BEFORE.days else ""
        click.echo(f"{info.subject:<{width}}  {info.expires:%Y-%m-%d}  {left:>5} days  {info.path}{note}")
