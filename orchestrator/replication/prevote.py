"""``PreVote``: asks whether an election could be won before one is held (RAFT.md, S16).

Owns: the round of questions of this peer and its answers to those of others. Leaves the election to PySyncObj,
which only reaches its deadline when a majority said yes. The one rule: asking changes no term and no vote, so a
peer that cannot win disturbs nobody.

When two ask at the same time, the one with the longer log (then the smaller id) goes first, and the other waits: split
votes are what makes failover slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.replication.v1 import peer_pb2 as pb

Standing = tuple[int, int]
"""Term and index of the last entry: what votes are decided by."""


class PreVote:
    def __init__(self, *, peer_id: str, others: Sequence[str], send: Callable[[str, pb.Frame], None]) -> None:
        self._peer_id = peer_id
        self._others = tuple(others)
        self._send = send
        self._round = 0
        self._term = 0  # of the running round; 0 if none runs
        self._granted: set[str] = set()

    def begin(self, *, term: int, standing: Standing) -> None:
        """Ask everybody whether they would vote for us in the term after ``term``."""
        self._round += 1
        self._term = term + 1
        self._granted = set()
        request = pb.PreVoteRequest(term=self._term, last_term=standing[0], last_index=standing[1], round=self._round)
        for peer in self._others:
            self._send(peer, pb.Frame(prevote_request=request))

    def cancel(self) -> None:
        self._term = 0

    def answer(
        self, peer_id: str, request: pb.PreVoteRequest, *, willing: bool, yields: bool, term: int, standing: Standing
    ) -> bool:
        """Answer another's question; ``willing``: we may vote and know of no living leader; ``yields``: if we say yes,
        we give up asking ourselves. Returns what we said."""
        theirs = (request.last_term, request.last_index)
        granted = willing and request.term > term and theirs >= standing
        if granted and self._term and _order(standing, self._peer_id) < _order(theirs, peer_id):
            granted = False
        if granted and yields:
            self.cancel()
        reply = pb.PreVoteReply(round=request.round, granted=granted, term=term)
        self._send(peer_id, pb.Frame(prevote_reply=reply))
        return granted

    def reply(self, peer_id: str, reply: pb.PreVoteReply, *, term: int) -> bool:
        """Count an answer; whether this round is now won (said once)."""
        if not reply.granted or reply.round != self._round or self._term != term + 1:
            return False
        self._granted.add(peer_id)
        if 2 * (len(self._granted) + 1) <= len(self._others) + 1:
            return False
        self.cancel()
        return True


def _order(standing: Standing, peer_id: str) -> tuple[int, int, str]:
    """Sorts whoever goes first to the front."""
    return -standing[0], -standing[1], peer_id
