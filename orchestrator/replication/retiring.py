"""``Retiree``: what is left of a peer that is no member of the newest epoch that it knows.

Owns: the wish to end, and not too early: the new peers may still need the sealed state from here. The one rule: it is
over only when a majority of the new peers has said, in a Hello of that epoch, that they have begun it (or somebody
speaks of a later one): a Hello of an epoch is only said from behind its durable snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from orchestrator.replication.v1 import peer_pb2 as pb

_log = structlog.get_logger("raftsman.replication")

REMOVED = "this peer was removed from the cluster"


class Retiree:
    """Implements ``link.Receiver``; refuses everybody. ``hello`` makes what it says; ``over`` is called once."""

    def __init__(
        self, *, epoch: int, members: Mapping[str, str], hello: Callable[[], pb.Hello], over: Callable[[], None]
    ) -> None:
        self.epoch = epoch
        self.members = dict(members)
        self._hello = hello
        self._over: Callable[[], None] | None = over
        self.begun: set[str] = set()  # members that are in the new epoch

    def hello(self) -> pb.Hello:
        return self._hello()

    def judge(self, hello: pb.Hello) -> str:
        return f"{REMOVED} in configuration epoch {self.epoch}"

    def refused(self, peer_id: str, reason: str, hello: pb.Hello | None = None) -> None:
        if hello is None or hello.cluster_id != self._hello().cluster_id:
            return
        if hello.epoch == self.epoch and hello.peer_id in self.members and hello.peer_id not in self.begun:
            self.begun.add(hello.peer_id)
            _log.info("replication.successor_begun", peer=hello.peer_id, epoch=self.epoch, of=sorted(self.members))
        if (hello.epoch > self.epoch or 2 * len(self.begun) > len(self.members)) and self._over is not None:
            over, self._over = self._over, None
            over()

    def peer_up(self, peer_id: str, hello: pb.Hello) -> None:
        """No session outlives its judgement."""

    def peer_down(self, peer_id: str) -> None:
        """There was none."""

    def session_began(self, peer_id: str, hello: pb.Hello, *, cert_expires_ms: int) -> None:
        """No session outlives its judgement."""

    def session_ended(self, peer_id: str) -> None:
        """There was none."""

    def received(self, peer_id: str, frame: pb.Frame) -> None:
        """Nobody speaks here."""
