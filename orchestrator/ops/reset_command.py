"""``raftsman peers reset``: the operator's words around ``ops.reset``, on the machine of the damaged peer.

The peer itself is stopped; the others are asked first (``other_peers``).
"""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from orchestrator.cli.output import show
from orchestrator.cli.session import Session, common
from orchestrator.contract.address import is_address
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import InvalidError, NotFoundError, PreconditionError, StartupError
from orchestrator.ops import peer_disk
from orchestrator.ops.interrupt import run
from orchestrator.ops.other_peers import Known, asking, required
from orchestrator.ops.quiet import quietly
from orchestrator.ops.reset import put_aside

WHEN = (
    "Right only while the other peers form a MAJORITY without this one, and for one peer at a time: this peer forgets "
    "what it acknowledged. If no majority of disks is left, use 'raftsman recover' on the best one instead."
)
WAY_OUT = (
    "Nothing was changed. Start the others, or wait until 'raftsman peers -o wide' shows their votes, and repeat this. "
    "A peer whose machine is gone: 'raftsman peers replace' it first. If a majority of the disks is gone for good: "
    "'raftsman recover' on the best one that is left. Where the others cannot be reached from here: --ask HOST:PORT "
    "and --tls DIR say how; --unasked goes on without, and is right only if you have seen elsewhere that they do"
)
MOMENT_S = 5.0


@click.command("reset")
@common
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The peer's data directory."
)
@click.option("--id", "peer_id", metavar="ID", help="Which peer it is; needed where identity.json cannot be read.")
@click.option("--cluster", metavar="NAME", help="Refuse if the directory is of another cluster.")
@click.option("-f", "--force", is_flag=True, help="Also when nothing is damaged.")
@click.option("--ask", multiple=True, metavar="HOST:PORT", help="Where another peer is.  [the context's, the disk's]")
@click.option(
    "--tls", type=click.Path(path_type=Path), metavar="DIR", help="Certificates to ask with, the peer's own will do."
)
@click.option("--unasked", is_flag=True, help="Ask nobody: you know that the others form a majority without it.")
@quietly()
def command(
    session: Session,
    data: Path,
    peer_id: str | None,
    cluster: str | None,
    force: bool,
    ask: tuple[str, ...],
    tls: Path | None,
    unasked: bool,
) -> None:
    """Put the data of a peer that refuses to start aside; started again, it catches up from the others.

    Asks every other peer first, and refuses unless those that run form a majority without this one. Nothing is
    deleted. The peer comes back as a new disk without a vote, and votes again once it holds everything.
    """
    if unasked and (ask or tls is not None):
        raise click.UsageError("--unasked asks nobody: neither --ask nor --tls goes with it")
    path = data.absolute()
    with peer_disk.held(path):
        peer_id, owner = _owner(path, peer_id, cluster)
        problem = peer_disk.damage(path)
        if not problem and not force:
            raise PreconditionError(
                f"{path} is whole: {owner} needs no reset, start it. (--force puts its data aside all the same)"
            )
        session.note(f"{owner}: {problem or 'nothing is damaged'}")
        if unasked:
            session.warn("nobody was asked: if the others form no majority without it, the cluster stands still")
        else:
            _ask_others(session, _known(path, peer_id, cluster), [*ask, *_addresses(path, peer_id)], tls)
        session.note(WHEN)
        session.confirm(f"Put the data of {owner} aside?")
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = put_aside(path, stamp)
    session.note(
        f"Next: start {peer_id} with the flags that it had; 'raftsman peers -o wide' shows when it votes again. Then, "
        f"and not before, its old data may go: rm -r '{aside}'. (To undo this before it was started: move it back.)"
    )
    show(
        session.output,
        value=lambda: {"peer": peer_id, "data": str(path), "moved_to": str(aside), "damage": problem},
        names=lambda: [str(aside)],
        table=lambda wide: str(aside),
    )


def _known(path: Path, peer_id: str, cluster: str | None) -> Known:
    identity = peer_disk.identity_of(path)
    epoch, _ = peer_disk.recollect(path)
    return Known(
        peer_id=peer_id,
        cluster_id=identity.cluster_id if identity is not None else "",
        cluster_name=identity.cluster_name if identity is not None else cluster or "",
        epoch=epoch,
    )


def _addresses(path: Path, peer_id: str) -> list[str]:
    _, addresses = peer_disk.recollect(path)
    return [address for peer, address in addresses.items() if peer != peer_id]


def _ask_others(session: Session, known: Known, addresses: list[str], tls: Path | None) -> None:
    """Raises ``PreconditionError`` with the way out unless they can do without the disk."""
    for address in addresses:
        if not is_address(address):
            raise InvalidError(f"--ask {address!r}: expected host:port, for example 10.0.0.2:7400")
    files = TlsFiles.in_directory(tls) if tls is not None else None
    try:
        context = session.resolve()
        addresses = [*addresses, *context.endpoints]
        files = files or context.tls
    except NotFoundError as error:
        if session.context or error.reason != "NO_CONTEXT":
            raise
    if not addresses:
        raise PreconditionError(
            f"the disk of {known.peer_id} must not be given up unasked, and neither a context nor the disk says where "
            f"the other peers are. {WAY_OUT}"
        )
    within_s = MOMENT_S if session.timeout_s is None else session.timeout_s
    try:
        seen = run(required(known, addresses, asking(files), within_s=within_s))
    except PreconditionError as error:
        raise PreconditionError(f"{error.message}\n{WAY_OUT}") from None
    for line in seen:
        session.note(line)


def _owner(path: Path, peer_id: str | None, cluster: str | None) -> tuple[str, str]:
    """The peer's id, and who that is in words; raises unless the flags agree with what the directory says."""
    identity = peer_disk.identity_of(path)
    if identity is None:
        if not peer_id:
            raise StartupError(
                f"{path}: identity.json is gone or damaged, so it does not say which peer's it is: name it with --id"
            )
        return peer_id, f"peer {peer_id}"
    owner = f"peer {identity.peer_id} of cluster {identity.cluster_name}"
    if (peer_id or identity.peer_id, cluster or identity.cluster_name) != (identity.peer_id, identity.cluster_name):
        raise StartupError(f"{path} belongs to {owner}, not to what was named: nothing was changed")
    return identity.peer_id, owner
