"""Which nodes are lost, which are back, and when mass silence is our own trouble rather than theirs.

Owns: the lost bound, the election grace and the mass-loss brake, as one function. Leaves to others: hearing heartbeats
and keeping time (``leader.liveness``), recording the verdict (``state.apply``), acting on it (``reconcile.rounds``).
The rule: silence is measured by the judge's own clock only, so a node is never lost before this leader has itself
waited one full bound; and longer while it is the judge who is late.

Who is late. After an election every node has to find the new leader, and thousands of them take a busy leader longer
than the bound: as long as others are still heard for the first time, those that were not yet are on their way, too
(``coming``). And where most heartbeats come later than they are sent, it is this peer that hears late (``bound_for``).

The brake. When at least three nodes are ready and more than half of them fall silent together, the likely culprit is a
switch, a firewall or this very peer, and replacing half a cluster on the other half would do more harm than waiting.
Nobody is marked lost while that holds. It ends by itself when enough nodes are heard again for the silent ones to be
no more than half, and by ``raftsman node forget`` for each node that is really gone. There is no time limit: waiting
longer tells us nothing new. With one or two ready nodes there is no majority to believe, so they are lost as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.contract.model import NodeStatus
from orchestrator.state.commands import MarkNodes, NodeMark

LOST_AFTER_MS = 15_000
"""The bound: a node silent for so long is lost (DESIGN.md)."""
HEARTBEAT_MS = 3_000
"""How often an agent sends one."""
MOST_BOUNDS = 2
"""A leader that is late itself waits for at most so many bounds."""
COMING_MS = 5_000
"""Since a node was last heard for the first time, while others may still come."""
MOST_COMING_BOUNDS = 3
"""Since the election, while others may still come."""
BRAKE_MIN_READY = 3
"""Fewer ready nodes than this are never braked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLiveness:
    """One registered node. ``silent_ms``: since its last heartbeat to this leader; None: none since the election."""

    node_id: str
    register_index: int
    status: NodeStatus
    silent_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``mark`` None: nothing to write. ``message`` says what the brake holds back, "" while it is off."""

    mark: MarkNodes | None
    braked: bool
    message: str


def bound_for(typical_ms: int, bound_ms: int = LOST_AFTER_MS) -> int:
    """The bound where a heartbeat typically comes ``typical_ms`` after the one before: as many of them as else."""
    return min(max(bound_ms, bound_ms * typical_ms // HEARTBEAT_MS), MOST_BOUNDS * bound_ms)


def may_still_come(*, since_election_ms: int, since_first_ms: int, bound_ms: int = LOST_AFTER_MS) -> bool:
    """Whether nodes that were not heard since the election are on their way, when another one was heard for the first
    time ``since_first_ms`` ago."""
    return since_first_ms < COMING_MS and since_election_ms < MOST_COMING_BOUNDS * bound_ms


def judge(
    nodes: Sequence[NodeLiveness], *, since_election_ms: int, bound_ms: int = LOST_AFTER_MS, coming: bool = False
) -> Verdict:
    """Judge every registered node at one moment. ``coming``: those that were not heard yet may still come.

    A node counts as silent with the others from two thirds of the bound on: nodes behind one dead switch miss their
    heartbeats up to an interval apart, and the first of them to reach the bound must not be evicted for being first.
    """
    ready = [node for node in nodes if node.status is NodeStatus.READY]
    silence = {node.node_id: since_election_ms if node.silent_ms is None else node.silent_ms for node in ready}
    gone = [node for node in ready if silence[node.node_id] >= bound_ms]
    if since_election_ms < bound_ms:
        gone = []
    suspects = [node for node in ready if silence[node.node_id] * 3 >= bound_ms * 2]
    braked = bool(gone) and len(ready) >= BRAKE_MIN_READY and len(suspects) * 2 > len(ready)
    message = ""
    if braked:
        message = (
            f"{len(suspects)} of {len(ready)} ready nodes fell silent together: no node is marked lost until half of "
            "them are heard again; check the network of this peer, or `raftsman node forget NODE` what is really gone"
        )
        gone = []
    elif coming:
        gone = [node for node in gone if node.silent_ms is not None]
    back = [
        node
        for node in nodes
        if node.status is NodeStatus.LOST and node.silent_ms is not None and node.silent_ms < bound_ms
    ]
    if not gone and not back:
        return Verdict(mark=None, braked=braked, message=message)
    mark = MarkNodes(
        lost=tuple(
            NodeMark(
                node_id=node.node_id,
                register_index=node.register_index,
                reason=f"silent for {silence[node.node_id] / 1000:.1f} s",
            )
            for node in sorted(gone, key=lambda node: node.node_id)
        ),
        back=tuple(
            NodeMark(node_id=node.node_id, register_index=node.register_index, reason="heard again")
            for node in sorted(back, key=lambda node: node.node_id)
        ),
    )
    return Verdict(mark=mark, braked=braked, message=message)
