"""``raftsman certs``: make an authority, issue certificates, show what is there. Thin; the work is in ``ops.certs``."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from orchestrator.cli import output
from orchestrator.cli.session import Session, common
from orchestrator.contract import address
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
@click.option("--owner", metavar="UID:GID", help="Who owns the peers' and gateways' files (compose runs those as it).")
@click.option("--endpoints", metavar="HOST:PORT,...", help="Also write each client's context.json with these peers.")
def init(
    directory: Path,
    cluster: str,
    peers: tuple[str, ...],
    agents: int,
    clients: tuple[str, ...],
    gateways: tuple[str, ...],
    owner: str | None,
    endpoints: str | None,
) -> None:
    """Make an authority, and whatever is asked for and absent. Safe to repeat."""
    addresses = [part for part in (part.strip() for part in (endpoints or "").split(",")) if part]
    owned = _owner(owner) if owner is not None else None
    for one in addresses:
        if wrong := address.problem(one):
            raise click.BadParameter(wrong, param_hint="--endpoints")
    certs.create_authority(directory, cluster)
    for peer in peers:
        name, _, hosts = peer.partition("=")
        certs.issue(directory, "peer", name, [host for host in hosts.split(",") if host])
    for number in range(1, agents + 1):
        certs.issue(directory, "agent", f"agent-{number}")
    for name in clients:
        target = certs.issue(directory, "client", name)
        if addresses:
            certs.write_context(target, cluster, addresses)
        # A folder of the host's user, mounted here: its files are that user's, not root's.
        certs.give_to(target, target.stat().st_uid, target.stat().st_gid)
    for name in gateways:
        certs.issue(directory, "gateway", name)
    if owned is not None:
        for kind in ("peers", "gateways"):
            for target in sorted((directory / kind).glob("[!.]*")):
                certs.give_to(target, *owned)
    click.echo(f"authority of cluster {cluster!r} and its certificates are in {directory}", err=True)


def _owner(text: str) -> tuple[int, int]:
    uid, _, gid = text.partition(":")
    try:
        both = int(uid[:20]), int(gid[:20])
        if min(both) < 0 or max(both) >= 2**32 - 1:
            raise ValueError
        return both
    except ValueError:
        raise click.BadParameter(f"expected UID:GID as numbers, got {text!r}", param_hint="--owner") from None


@command.command()
@_DIRECTORY
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option("--host", "hosts", multiple=True, help="Further DNS name or address in the certificate; repeatable.")
@click.option("--renew", is_flag=True, help="Replace the one that is there (same hosts unless --host is given).")
def issue(directory: Path, kind: Kind, name: str, hosts: tuple[str, ...], renew: bool) -> None:
    """Issue the certificate of KIND:NAME (kept if it is there, unless --renew) and print its directory."""
    made = certs.issue(directory, kind, name, hosts, renew=renew)
    lacks = sorted(set(hosts) - set(certs.read(made / "cert.pem").hosts))
    if lacks:
        click.echo(f"{kind}:{name} was kept as it is, without {', '.join(lacks)}; --renew makes a new one", err=True)
    click.echo(made)


@command.command()
@common
@_DIRECTORY
def show(session: Session, directory: Path) -> None:
    """List the certificates with the days that they have left."""
    found = certs.list_certificates(directory)
    now = datetime.datetime.now(datetime.UTC)
    if not found and session.output in ("table", "wide"):
        raise click.ClickException(f"no certificates in {directory}; `raftsman certs init --dir DIR` makes them")
    output.show(
        session.output,
        value=lambda: [
            {
                "subject": info.subject,
                "cluster": info.cluster,
                "expires": info.expires.isoformat(),
                "days_left": info.days_left(now),
                "hosts": list(info.hosts),
                "path": str(info.path),
            }
            for info in found
        ],
        names=lambda: [info.subject for info in found],
        table=lambda wide: _table(found, now),
    )


def _table(found: list[certs.CertificateInfo], now: datetime.datetime) -> str:
    width = max(len(info.subject) for info in found)
    lines = []
    for info in found:
        left = info.days_left(now)
        note = "  expires soon: certs issue --renew" if left < certs.WARN_BEFORE.days else ""
        lines.append(f"{info.subject:<{width}}  {info.expires:%Y-%m-%d}  {left:>5} days  {info.path}{note}")
    return "\n".join(lines)
