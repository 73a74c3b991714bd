"""``raftsman peers reset``: the operator's words around ``ops.reset``. Offline, on the machine of the damaged peer."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from orchestrator.cli.output import show
from orchestrator.cli.session import Session, common
from orchestrator.contract.errors import PreconditionError, StartupError
from orchestrator.ops import peer_disk
from orchestrator.ops.quiet import quietly
from orchestrator.ops.reset import put_aside

WHEN = (
    "Right only while a MAJORITY of the other peers runs, and for one peer at a time: this peer forgets what it "
    "acknowledged. If no majority of disks is left, use 'raftsman recover' on the best one instead."
)


@click.command("reset")
@common
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The peer's data directory."
)
@click.option("--id", "peer_id", metavar="ID", help="Which peer it is; needed where identity.json cannot be read.")
@click.option("--cluster", metavar="NAME", help="Refuse if the directory is of another cluster.")
@click.option("-f", "--force", is_flag=True, help="Also when nothing is damaged.")
@quietly()
def command(session: Session, data: Path, peer_id: str | None, cluster: str | None, force: bool) -> None:
    """Put the data of a peer that refuses to start aside; started again, it catches up from the others.

    Nothing is deleted. The peer comes back as a new disk without a vote, and votes again once it holds everything.
    """
    path = data.absolute()
    with peer_disk.held(path):
        peer_id, owner = _owner(path, peer_id, cluster)
        problem = peer_disk.damage(path)
        if not problem and not force:
            raise PreconditionError(
                f"{path} is whole: {owner} needs no reset, start it. (--force puts its data aside all the same)"
            )
        session.note(f"{owner}: {problem or 'nothing is damaged'}")
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
