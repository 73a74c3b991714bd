"""``Guard``: stands between the wire and PySyncObj, in both directions (RAFT.md, S1 to S4, S9, S13, S15).

Owns: the translation of frames to PySyncObj's messages and back, and every correction on the way. Leaves elections to
``prevote``, snapshots to ``snapshotting``, and what is sent when to PySyncObj. The one rule: PySyncObj only ever sees
messages that it handles correctly, and its replies say no more than what was verified.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import structlog

from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.membership import Membership
from orchestrator.replication.pysync import Message, RaftCore
from orchestrator.replication.settings import Guards
from orchestrator.replication.storage import BATCH, NO_OP, RaftStorage, TruncationError
from orchestrator.replication.v1 import peer_pb2 as pb

_log = structlog.get_logger("raftsman.replication")


class Guard:
    """``send`` queues a frame for a peer behind the next flush."""

    def __init__(
        self,
        *,
        core: RaftCore,
        storage: RaftStorage,
        membership: Membership,
        guards: Guards,
        send: Callable[[str, pb.Frame], None],
        clock: Callable[[], float],
        heartbeat_s: float,
    ) -> None:
        self._core = core
        self._storage = storage
        self._membership = membership
        self._guards = guards
        self._send = send
        self._clock = clock
        self._verified: int | None = None  # while an append is handled: the last entry known to equal the leader's
        self._repeat_s = 1.5 * heartbeat_s
        self._answered: tuple[pb.AppendReply, float] = (pb.AppendReply(), float("-inf"))  # our last reply, and when
        self._sent: tuple[tuple[int, int, int, int], list[Any], pb.Frame] | None = None  # the last append with entries
        self._voters: tuple[int, set[str]] = (0, set())  # who voted for us in which term
        self.acked: dict[str, int] = {}  # while leading: the last entry each peer said it has, counted or not
        self.heard: dict[str, float] = {}  # when each peer last answered us in our term

    def elected(self) -> None:
        """We lead in a new term: nobody has acknowledged anything in it."""
        self.acked.clear()
        self.heard.clear()

    # ------------------------------------------------------------------ appends

    def append(self, peer_id: str, append: pb.AppendEntries) -> bool:
        """Entries or a heartbeat; whether the sender is a leader that we follow."""
        if append.term < self._core.term:
            self.answer_stale(peer_id)
            return False
        if self._guards.refuse_foreign_commands and any(row.data[:1] not in (BATCH, NO_OP) for row in append.entries):
            _log.error("replication.foreign_command_refused", peer=peer_id)
            return False
        prev, prev_term, commit = append.prev_index, append.prev_term, append.commit_index
        entries = [(row.data, prev + 1 + n, row.term) for n, row in enumerate(append.entries)]
        if self._guards.keep_matching_entries:
            entries, prev, prev_term = self._strip_committed(entries, prev, prev_term)
            if self._storage.term_at(prev) == prev_term:
                entries, prev, prev_term, commit = self._strip_matching(entries, prev, prev_term, commit)
        try:
            self._core.receive(peer_id, {
                "type": "append_entries", "term": append.term, "commit_index": commit, "entries": entries,
                "prevLogIdx": prev, "prevLogTerm": prev_term,
            })  # fmt: skip
        finally:
            self._verified = None
        return True

    def _strip_committed(
        self, entries: list[tuple[bytes, int, int]], prev: int, prev_term: int
    ) -> tuple[list[tuple[bytes, int, int]], int, int]:
        """What is committed here is the same in every later leader's log: nothing of it needs looking at."""
        floor = self._storage.commit_index  # it is held: at least the last entry of the snapshot
        if prev >= floor:
            return entries, prev, prev_term
        for _, index, term in entries[: floor - prev]:
            here = self._storage.term_at(index)
            if here not in (None, term):
                raise TruncationError(
                    f"committed entry {index} is of term {here} here and of term {term} at the leader: the disk of a "
                    "peer has lost what it had flushed, and nothing is dropped here. Way back: to keep what the others "
                    "have, `raftsman peers reset --data DIR` on this machine; to keep what this disk has, stop the "
                    "others and `raftsman recover` from it"
                )
        floor_term = self._storage.term_at(floor)
        assert floor_term is not None
        return entries[floor - prev :], floor, floor_term

    def _strip_matching(
        self, entries: list[tuple[bytes, int, int]], prev: int, prev_term: int, commit: int
    ) -> tuple[list[tuple[bytes, int, int]], int, int, int]:
        """Leave only entries that are new or replace different ones; remember what equals the leader's (S2)."""
        matching = 0
        for _, index, term in entries:
            if self._storage.term_at(index) != term:
                break
            matching += 1
        verified = prev + matching
        if matching < len(entries):
            if matching:
                prev, prev_term = verified, entries[matching - 1][2]
            self._verified = verified + len(entries) - matching
            return entries[matching:], prev, prev_term, min(commit, self._verified)
        # Nothing new. PySyncObj would cut off whatever follows prev, so it sees an append at the end of our log; the
        # entries in between are unverified and neither acknowledged nor committed.
        self._verified = verified
        return [], self._storage.last_index, self._storage.last_term, min(commit, verified)

    def append_reply(self, peer_id: str, reply: pb.AppendReply) -> bool:
        """A follower's answer; whether it was of our term."""
        if not self._in_our_term(peer_id, reply.term):
            return False
        self.heard[peer_id] = self._clock()
        if reply.success:
            self.acked[peer_id] = max(self.acked.get(peer_id, 0), reply.next_index - 1)
        if self._membership.counts(peer_id):
            self._feed_reply(peer_id, reply.next_index, reset=reply.reset, success=reply.success)
        elif reply.reset:
            self._feed_reply(peer_id, reply.next_index, reset=True, success=False)
        if reply.reset:
            self._core.send_soon()
        return True

    def snapshot_done(self, peer_id: str, next_index: int) -> None:
        """The peer has our snapshot: go on behind it (its acknowledgement counts only if the peer does)."""
        self._feed_reply(peer_id, next_index, reset=True, success=False)

    def still_there(self, peer_id: str, term: int) -> bool:
        """The peer answered something else of our term: it is in touch."""
        if not self._in_our_term(peer_id, term):
            return False
        self.heard[peer_id] = self._clock()
        if self._membership.counts(peer_id):
            self._feed_reply(peer_id, 0, reset=False, success=False)
        return True

    def _feed_reply(self, peer_id: str, next_index: int, *, reset: bool, success: bool) -> None:
        self._core.receive(
            peer_id, {"type": "next_node_idx", "next_node_idx": next_index, "reset": reset, "success": success}
        )

    def _in_our_term(self, peer_id: str, term: int) -> bool:
        if not self._guards.stamp_acks or term == self._core.term:
            return True
        self._core.adopt_term(peer_id, term)
        return False

    # ------------------------------------------------------------------ votes and terms

    def vote_request(self, peer_id: str, request: pb.VoteRequest) -> None:
        if not self._membership.may_vote() or request.term <= self._membership.vote_floor:
            return
        if request.term < self._core.term:
            self.answer_stale(peer_id)
            return
        self._core.receive(peer_id, {
            "type": "request_vote", "term": request.term, "last_log_index": request.last_index,
            "last_log_term": request.last_term,
        })  # fmt: skip

    def vote_reply(self, peer_id: str, reply: pb.VoteReply) -> None:
        if reply.term != self._core.term or not self._membership.counts(peer_id):
            return
        if self._guards.count_voters_once:
            term, voters = self._voters
            if term != reply.term:
                self._voters = (reply.term, voters := set())
            if peer_id in voters:
                return
            voters.add(peer_id)
        self._core.receive(peer_id, {"type": "response_vote", "term": reply.term})

    def answer_stale(self, peer_id: str) -> None:
        """To a leader or candidate of an older term: the present one."""
        if self._guards.answer_stale_terms:
            self._send(peer_id, pb.Frame(stale_term=pb.StaleTerm(term=self._core.term)))

    def stale_term(self, peer_id: str, term: int) -> None:
        """A peer knows a later term than ours, or did."""
        self._core.adopt_term(peer_id, term)

    # ------------------------------------------------------------------ snapshots

    def snapshot_heartbeat(self, peer_id: str, chunk: pb.SnapshotChunk) -> bool:
        """Part of a snapshot came: its sender leads. Whether it does; commits nothing (S1)."""
        if chunk.term < self._core.term:
            self.answer_stale(peer_id)
            return False
        commit = self._core.commit_index if self._guards.cap_snapshot_commit else chunk.commit_index
        self._core.receive(peer_id, {"type": "append_entries", "term": chunk.term, "commit_index": commit})
        return True

    def install(self, peer_id: str, term: int, meta: SnapshotMeta) -> None:
        """Hand a complete snapshot to PySyncObj: it asks the owner to load it, and acknowledges it."""
        self._core.receive(
            peer_id, {"type": "append_entries", "term": term, "commit_index": meta.last_index, "serialized": meta}
        )

    # ------------------------------------------------------------------ what PySyncObj sends

    def outgoing(self, message: Message) -> pb.Frame | None:
        """The frame for a message of PySyncObj; None for what is never sent."""
        kind = message["type"]
        if kind == "append_entries":
            return self._append_frame(message)
        if kind == "next_node_idx":
            reply = self._reply(message)
            return None if self._is_no_news(reply) else pb.Frame(append_reply=reply)
        if kind == "request_vote":
            return pb.Frame(
                vote_request=pb.VoteRequest(
                    term=message["term"], last_index=message["last_log_index"], last_term=message["last_log_term"]
                )
            )
        if kind == "response_vote":
            return pb.Frame(vote_reply=pb.VoteReply(term=message["term"]))
        _log.error("replication.message_not_sent", kind=kind)  # forwarded commands and the like (S15)
        return None

    def _append_frame(self, message: dict[str, Any]) -> pb.Frame:
        entries = message["entries"]
        stated = (message["term"], message["commit_index"], message["prevLogIdx"], message["prevLogTerm"])
        # PySyncObj sends to one peer after the other: who is as far gets the same frame, made and packed once.
        if self._sent is not None:
            before, held, frame = self._sent
            if stated == before and len(entries) == len(held) and all(map(operator.is_, entries, held)):
                return frame
        term, commit_index, prev_index, prev_term = stated
        frame = pb.Frame(
            append=pb.AppendEntries(
                term=term, commit_index=commit_index, prev_index=prev_index, prev_term=prev_term,
                entries=[pb.Entry(term=of, data=command) for command, _, of in entries],
            )
        )  # fmt: skip
        if entries:
            self._sent = (stated, entries, frame)
        return frame

    def _reply(self, message: dict[str, Any]) -> pb.AppendReply:
        next_index = message["next_node_idx"]
        if self._verified is not None:  # an append that fits: nothing of it is refused
            next_index = self._verified + 1
        elif message["reset"] and self._guards.reject_to_commit:
            next_index = self._storage.commit_index + 1
        return pb.AppendReply(
            term=self._core.term, next_index=next_index, reset=message["reset"], success=message["success"]
        )

    def _is_no_news(self, reply: pb.AppendReply) -> bool:
        """Whether the leader just heard exactly this. Every second answer to an idle leader's heartbeats is spared:
        they are most of what an idle cluster costs, and a leader asks for one within its fallback time, not for each.
        """
        said, at = self._answered
        now = self._clock()
        if reply.success and now - at < self._repeat_s and reply == said:
            return True
        self._answered = (reply, now)
        return False
