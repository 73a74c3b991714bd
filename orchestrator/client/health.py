"""Whether every peer takes its full part: what must be true before the next one may be stopped.

Owns: ``unready``. The rule: it is judged by the leader's answer (a fresh read), which alone knows what the others hold.
"""

from __future__ import annotations

from orchestrator.contract.answers import ClusterStatus

MAX_LAG = 64
"""Log entries that a peer may be behind and count as caught up: under load none is ever at 0."""


def unready(status: ClusterStatus) -> str:
    """Which peers are away, have no vote or are behind; "" when each one may be the next to be stopped."""
    said = []
    for peer in status.peers:
        if not peer.connected or peer.role not in ("leader", "follower"):
            said.append(f"{peer.id} is {peer.role if peer.role != 'follower' else 'away'}")
        elif not peer.voter:
            said.append(f"{peer.id} has no vote yet")
        elif peer.lag < 0:
            said.append(f"{peer.id} has not answered the leader yet")
        elif peer.lag > MAX_LAG:
            said.append(f"{peer.id} is {peer.lag} entries behind")
    if not status.leader_id:
        said.append("nobody leads")
    return ", ".join(said)
