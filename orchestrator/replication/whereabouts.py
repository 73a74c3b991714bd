"""``Whereabouts``: at which address each peer was found, where the cluster remembers another one.

From the second configuration epoch on the peers' addresses are replicated, and those of ``--peers`` only say where a
peer looks first. When all machines get other addresses at once (a renumbered network, a restored site), nobody is where
the log says, and nobody can change the log. So a peer is looked for at both, in turn; who answers proves by certificate
and Hello who it is.

Owns: the second addresses, and where peers answered last. Leaves to others: dialling (``transport``). The rule: an
address that was not seen to answer takes the place of no replicated one.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

_log = structlog.get_logger("raftsman.replication")


class Whereabouts:
    """``configured``: id -> host:port as this peer was started with, itself included."""

    def __init__(self, peer_id: str, configured: Mapping[str, str]) -> None:
        self._peer_id = peer_id
        self._configured = dict(configured)
        self._found: dict[str, str] = {}
        self._shown: tuple[Mapping[str, str], dict[str, str]] | None = None

    def ways(self, peer_id: str, address: str) -> tuple[str, ...]:
        """Where to look for a peer that should be at ``address``, in this order."""
        other = self._configured.get(peer_id, address)
        return (address,) if other == address else (address, other)

    def met(self, peer_id: str, at: str, *, address: str) -> None:
        """It answered there; it should be at ``address``."""
        if at == address:
            changed = self._found.pop(peer_id, None) is not None
        else:
            changed = self._found.get(peer_id) != at
            self._found[peer_id] = at
            if changed:
                _log.warning("replication.found_elsewhere", peer=peer_id, at=at, remembered=address)
        if changed:
            self._shown = None

    def of(self, peers: Mapping[str, str]) -> Mapping[str, str]:
        """The peers (id -> host:port) as they are reached; the same object as long as nothing changes.

        Where others were found by ``--peers`` alone, what that says of this peer is true, too.
        """
        if not self._found:
            return peers
        if self._shown is None or self._shown[0] is not peers:
            here = {**self._found, self._peer_id: self._configured.get(self._peer_id, "")}
            self._shown = (peers, {peer: here.get(peer) or address for peer, address in peers.items()})
        return self._shown[1]
