"""Who of the other peers is there: connected or not, with which disk, heard when, refused why.

Owns: those facts, as the network tells them. Leaves to others: what they mean for votes (``membership``), elections and
the log (``turns``). The rule: what was refused is forgotten as soon as the peer is met.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from orchestrator.replication.v1 import peer_pb2 as pb

_log = structlog.get_logger("raftsman.replication")


class Contacts:
    """``clock``: seconds, monotonic. ``epoch``: this log's."""

    def __init__(self, *, clock: Callable[[], float], epoch: int) -> None:
        self._clock = clock
        self._epoch = epoch
        self.up: set[str] = set()
        """Peers that we can send to."""
        self.refusals: dict[str, str] = {}
        """Peer id -> why we do not talk."""
        self._refusals_logged: set[tuple[str, str]] = set()
        self._disks: dict[str, str] = {}  # peer id -> incarnation: who talks to us
        self._heard_at: dict[str, float] = {}
        self._cert_expires_ms: dict[str, int] = {}

    def heard(self, peer_id: str) -> None:
        self._heard_at[peer_id] = self._clock()

    def heard_at(self, peer_id: str) -> float | None:
        return self._heard_at.get(peer_id)

    def cert_expires_ms(self, peer_id: str) -> int:
        """Unix time; 0: not known."""
        return self._cert_expires_ms.get(peer_id, 0)

    def met(self, peer_id: str) -> None:
        """We talk."""
        self.refusals.pop(peer_id, None)
        self._refusals_logged.clear()

    def refused(self, peer_id: str, reason: str, hello: pb.Hello | None) -> None:
        """``hello``: what the other said, if it was as much."""
        self.refusals[peer_id] = reason
        if (peer_id, reason) in self._refusals_logged:
            return
        self._refusals_logged.add((peer_id, reason))
        # That the other is in another epoch passes by itself.
        say = _log.error if hello is None or hello.epoch == self._epoch else _log.info
        say("replication.refused", peer=peer_id, reason=reason)

    def session_began(self, peer_id: str, incarnation: str, *, cert_expires_ms: int) -> None:
        """It talks to us."""
        self._disks[peer_id] = incarnation
        self._cert_expires_ms[peer_id] = cert_expires_ms
        self.heard(peer_id)

    def session_ended(self, peer_id: str) -> None:
        self._disks.pop(peer_id, None)

    def second_disk(self, hello: pb.Hello, admitted: str | None) -> str:
        """Why a new disk must wait: the one of its peer that counts (``admitted``) lives, on another machine. "" """
        peer_id = hello.peer_id
        if admitted is None or hello.incarnation == admitted or self._disks.get(peer_id) != admitted:
            return ""
        return (
            f"peer {peer_id} is connected, with another disk: stop that one, or take this one in by "
            f"`raftsman peers replace {peer_id} {peer_id}=HOST:PORT`"
        )
