"""``Holes``: how often the precondition of each hole of PySyncObj (RAFT.md, S1 to S18; S19) was reached.

Owns: what counts as reached. Leaves making it happen to ``faults`` and ``meddler``. The one rule: only the situation
counts in which an engine without the guard could have gone wrong, so that a green run means something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from orchestrator.replication.log import MAX_PROPOSAL_BYTES
from orchestrator.replication.storage import BATCH, NO_OP
from orchestrator.replication.v1 import peer_pb2 as pb

if TYPE_CHECKING:
    from tests.sim.peer import SimPeer
    from tests.sim.watched import WatchedLog

MEANINGS: dict[str, str] = {
    "S1": "a snapshot chunk stated a commit index above the receiver's, which held an unverified tail",
    "S2": "an append whose entries the receiver had, with more of its own behind them",
    "S3": "an acknowledgement of another term reached a leader",
    "S4": "a second vote of one peer in one term reached a candidate",
    "S5": "a peer opened a disk whose snapshot its journal does not continue",
    "S6": "a change of the peers was asked for while another was under way",
    "S7": "a complete snapshot with the wrong checksum was assembled",
    "S8": "a command within 64 bytes of the largest was put into the log",
    "S9": "a divergent log rejected two appends of one session in a row",
    "S10": "a disk that was wiped was asked for its vote, or asked for one, before it was admitted",
    "S11": "the last flush was torn when a peer opened its journal",
    "S12": "a peer died while a change of the peers was under way",
    "S13": "a leader was without a majority beyond its fallback time",
    "S14": "a command that is malformed or refused was in the log",
    "S15": "a command that nobody proposed was offered in an append",
    "S16": "a peer asked for votes while those asked still heard a leader",
    "S17": "a snapshot was wanted while one was being written or read",
    "S18": "proposals were pending when leadership ended or a snapshot replaced the log",
    "S19": "part of a snapshot reached a peer whose log held its last entry, uncommitted, and more behind it",
}


class Holes:
    """``name_of`` in ``reached`` is a key of ``MEANINGS``."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(MEANINGS, 0)
        self.change_in_flight: Callable[[], bool] = lambda: False
        self._votes: set[tuple[str, str, int]] = set()  # voter, candidate, term
        self._rejecting: dict[tuple[str, str], int] = {}  # sender, receiver -> appends rejected in a row

    def reached(self, hole: str) -> None:
        self.counts[hole] += 1

    def died(self) -> None:
        if self.change_in_flight():
            self.reached("S12")

    def changing(self) -> None:
        if self.change_in_flight():
            self.reached("S6")

    def proposed(self, size: int) -> None:
        if MAX_PROPOSAL_BYTES - 64 <= size <= MAX_PROPOSAL_BYTES:
            self.reached("S8")

    def refused_commands(self, rejected: Mapping[str, int]) -> None:
        self.counts["S14"] += sum(rejected.values())

    def see(self, source: SimPeer, target: SimPeer, frame: pb.Frame) -> None:
        """A frame is about to be delivered to a running peer."""
        log = target.engine
        if log is None:
            return
        kind = frame.WhichOneof("kind")
        if kind == "append":
            self._append(source, target, log, frame.append)
        elif kind == "append_reply":
            if log.leads_core and frame.append_reply.term != log.term:
                self.reached("S3")
        elif kind == "vote_reply":
            vote = (source.peer_id, target.peer_id, frame.vote_reply.term)
            if vote in self._votes and frame.vote_reply.term == log.term:
                self.reached("S4")
            self._votes.add(vote)
        elif kind in ("prevote_request", "vote_request"):
            if log.hears_leader and kind == "prevote_request":
                self.reached("S16")
            wiped = [peer for peer in (source, target) if peer.wiped and not peer.admitted]
            if wiped:
                self.reached("S10")
        elif kind == "snapshot_chunk":
            chunk = frame.snapshot_chunk
            unverified = log.last_entry > log.core_commit and (log.term_at(log.last_entry) or 0) < chunk.term
            if chunk.term >= log.term and chunk.commit_index > log.core_commit and unverified:
                self.reached("S1")
            follows = chunk.term >= log.term and chunk.last_index > log.core_commit
            if follows and log.term_at(chunk.last_index) == chunk.last_term and log.last_entry > chunk.last_index:
                self.reached("S19")

    def _append(self, source: SimPeer, target: SimPeer, log: WatchedLog, append: pb.AppendEntries) -> None:
        pair = (source.peer_id, target.peer_id)
        if append.term < log.term:
            return
        if any(row.data[:1] not in (BATCH, NO_OP) for row in append.entries):
            self.reached("S15")
            return
        held = log.term_at(append.prev_index)
        last = append.prev_index + len(append.entries)
        if held == append.prev_term:
            self._rejecting[pair] = 0
            same = all(
                log.term_at(append.prev_index + 1 + place) == row.term for place, row in enumerate(append.entries)
            )
            if append.entries and same and log.last_entry > last:
                self.reached("S2")
        elif append.prev_index > log.core_commit:
            self._rejecting[pair] = self._rejecting.get(pair, 0) + 1
            if self._rejecting[pair] == 2 and log.last_entry > log.core_commit:
                self.reached("S9")
