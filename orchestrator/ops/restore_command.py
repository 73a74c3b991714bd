"""``raftsman restore``: the operator's words around ``ops.restore``. Offline, on the machine of the first new peer."""

from __future__ import annotations

import uuid
from pathlib import Path

import click

from orchestrator.cli.output import show
from orchestrator.cli.session import Session, common
from orchestrator.config import NAME
from orchestrator.contract.address import is_address
from orchestrator.contract.errors import InvalidError
from orchestrator.ops import backup_file
from orchestrator.ops.backup_command import describe
from orchestrator.ops.quiet import quietly
from orchestrator.ops.restore import require_empty, restore
from orchestrator.replication.disk import RealDisk

WHEN = (
    "Right only when every disk of the cluster is lost, or its state is to go back on purpose: what was written after "
    "the backup is gone. Peers of the old life that still run and reach the new one stop for good: end them first."
)


@click.command("restore")
@common
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New data directory; empty."
)
@click.option("--id", "peer_id", required=True, metavar="ID", help="The first peer's id.")
@click.option("--address", required=True, metavar="HOST:PORT", help="Where other peers and clients will reach it.")
@click.option("--cluster", metavar="NAME", help="The cluster's name, as in certificates.  [that of the backup]")
@quietly()
def command(session: Session, file: Path, data: Path, peer_id: str, address: str, cluster: str | None) -> None:
    """Make the data directory of one peer from a backup: the cluster goes on with it, and more peers are added.

    Certificates, contexts and agents stay as they are. What still runs as the backup says is taken up; everything else
    is placed anew.
    """
    if not NAME.fullmatch(peer_id):
        raise InvalidError(f"--id {peer_id!r}: expected a-z, 0-9, '.', '_', '-', at most 63")
    if cluster is not None and not NAME.fullmatch(cluster):
        raise InvalidError(f"--cluster {cluster!r}: expected a-z, 0-9, '.', '_', '-', at most 63")
    if not is_address(address):
        raise InvalidError(f"--address {address!r}: expected host:port, for example 10.0.0.1:7400")
    head, state = backup_file.read(file)
    path = data.absolute()
    require_empty(path, RealDisk())
    session.note(describe(file, head))
    session.note(WHEN)
    session.confirm(f"Restore it as peer {peer_id} into {path}?")
    made = restore(
        file, head, state, path,
        peer_id=peer_id, address=address, cluster_name=cluster or head.cluster_name, mint=lambda: uuid.uuid4().hex,
    )  # fmt: skip
    session.note(
        f"Next: raftsman peer --id {peer_id} --peers {peer_id}={address} --data '{path}' --cluster {made.cluster_name} "
        "--tls DIR; then the others with empty data directories, and 'raftsman peers add ID=HOST:PORT ...'"
    )
    show(
        session.output,
        value=lambda: {
            "data": str(path), "peer": peer_id, "cluster_id": made.cluster_id, "cluster": made.cluster_name,
            "epoch": made.epoch, "index": made.index, "backup_index": head.index,
        },
        names=lambda: [str(path)],
        table=lambda wide: f"{path}: epoch {made.epoch}, index {made.index}",
    )  # fmt: skip
