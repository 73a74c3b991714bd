"""How peers reach each other, as the engine sees it: ``Network`` below, ``Receiver`` above.

Owns: the protocols that ``transport.GrpcNetwork`` and the simulator's network implement, and ``greeting_problem``,
which says whether two peers may talk at all. The rule of every network: between two peers, one direction at a time,
frames arrive in order, each at most once; whatever is lost is lost together with the session, and a newer session
drops the older one's tail. Everything is called on the loop that owns the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.replication.v1 import peer_pb2 as pb


class Receiver(Protocol):
    """The engine, as a network sees it."""

    def hello(self) -> pb.Hello:
        """What to introduce ourselves with now; the network fills in ``session``."""

    def judge(self, hello: pb.Hello) -> str:
        """Why this peer must be refused; "" if it is welcome."""

    def peer_up(self, peer_id: str, hello: pb.Hello) -> None:
        """Frames to this peer will be delivered from now on; ``hello`` is what it said."""

    def peer_down(self, peer_id: str) -> None:
        """Frames to this peer are lost from now on (and some that were sent may be)."""

    def session_began(self, peer_id: str, hello: pb.Hello, *, cert_expires_ms: int) -> None:
        """Frames from this peer follow; its older session, if any, is over."""

    def session_ended(self, peer_id: str) -> None:
        """No frame follows until the next ``session_began``."""

    def received(self, peer_id: str, frame: pb.Frame) -> None: ...

    def refused(self, peer_id: str, reason: str, hello: pb.Hello | None = None) -> None:
        """This peer refused us, or we refused it; ``hello`` is what it said of itself, if it said it provably."""


class Host(Protocol):
    """Who answers the calls that need no session: they go on while no session can be had (``epochs``)."""

    async def newest_snapshot(self, hello: pb.Hello) -> tuple[pb.SnapshotHeader, bytes]:
        """What to send to this peer; raises ``RaftsmanError`` if it must get nothing."""

    def snapshot_taken(self, hello: pb.Hello) -> None:
        """It was sent to its end."""

    async def invited(self, invitation: pb.Invitation) -> pb.InvitationReply:
        """A peer wants to know whether this one is fit to join."""


class Network(Protocol):
    """Sessions to a fixed set of peers."""

    async def start(self, peer_id: str, peers: dict[str, str], receiver: Receiver) -> None:
        """Begin to dial ``peers`` (id -> host:port, this peer left out) and to welcome them."""

    def send(self, peer_id: str, frames: Sequence[pb.Frame]) -> None:
        """Queue frames; dropped silently while the peer is down. A full queue ends the session."""

    async def stop(self) -> None: ...


class EpochNetwork(Network, Protocol):
    """Also calls to any peer; and ``start`` may follow ``stop``, with other peers."""

    def serve(self, host: Host) -> None:
        """From now on and whatever happens to sessions, let ``host`` answer."""

    async def fetch(self, address: str, request: pb.FetchRequest) -> tuple[pb.SnapshotHeader, bytes]:
        """The newest snapshot of the peer at ``address``, complete and checked; raises ``RaftsmanError``."""

    async def invite(self, address: str, invitation: pb.Invitation) -> pb.InvitationReply:
        """Raises ``RaftsmanError``."""


OUT_OF_TIME = "its certificate has expired or is not valid yet"
"""Begins a refusal that says nothing against this peer's own settings, and ends without its help."""


def greeting_problem(ours: pb.Hello, theirs: pb.Hello, *, level: int = 0) -> str:
    """Why the two must not talk; "" if they may. ``level``: the cluster's feature level, as far as this peer knows."""
    if theirs.peer_id == ours.peer_id:
        return f"it has the same peer id {ours.peer_id!r} as this peer: each data directory needs its own"
    if theirs.cluster_id and ours.cluster_id and theirs.cluster_id != ours.cluster_id:
        return (
            f"it belongs to cluster {theirs.cluster_id} and this peer to {ours.cluster_id}: "
            "one of the data directories is from another cluster"
        )
    if problem := version_problem(theirs, level):
        return problem
    if theirs.retired:
        return f"it was removed from the cluster in configuration epoch {theirs.epoch}"
    if theirs.epoch != ours.epoch:
        return f"it is in configuration epoch {theirs.epoch} and this peer in {ours.epoch}"
    if theirs.peer_id not in ours.peers:
        return f"{theirs.peer_id!r} is not in this peer's list ({', '.join(ours.peers)})"
    if list(theirs.peers) != list(ours.peers):
        return (
            f"its peer list is {', '.join(theirs.peers) or 'empty'} and this peer's is {', '.join(ours.peers)}: "
            "start every peer with the same list"
        )
    if not theirs.incarnation:
        return "it does not say which disk it has"
    return ""


def version_problem(theirs: pb.Hello, level: int) -> str:
    """Why a peer of that version may hold nothing of a state of that feature level; "" if it may."""
    if theirs.feature_level >= level:
        return ""
    return (
        f"it runs an older raftsman, which knows feature levels up to {theirs.feature_level}, and the cluster's is "
        f"{level}: start the newer version on its data directory (a cluster that was upgraded does not go back)"
    )
