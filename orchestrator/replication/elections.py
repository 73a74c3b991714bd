"""``Elections``: when this peer asks to lead, and whom it lets.

Owns: the election deadline (PySyncObj's, moved), PreVote, and what is known of the living leader and how old that is.
Leaves votes to ``guard`` and PySyncObj. The one rule: PySyncObj only reaches its deadline when a majority said that it
would vote.

A leader that dies breaks its streams; whoever sees that asks at once, and is told no if the others still hear the
leader. So a crash costs tens of milliseconds, and a lost packet nothing. The same holds when peers find each other
after they were all away.

What is left for the timeout are leaders that hang or are cut off, and those that merely have much to do. A leader that
was silent for a while and went on has much to do, so the next silence is borne for twice as long (``_patience_s``): on
machines with time to spare that is nothing, and under load it spares elections, which would only add to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from orchestrator.replication.membership import Membership
from orchestrator.replication.prevote import PreVote
from orchestrator.replication.pysync import RaftCore
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.storage import RaftStorage
from orchestrator.replication.v1 import peer_pb2 as pb

NEVER = float("inf")
NOW = float("-inf")
FADES_S = 10.0
"""After so long a silence that is over counts half."""


class Elections:
    """``reachable`` says whether any peer can be sent to."""

    def __init__(
        self,
        *,
        peer_id: str,
        others: Sequence[str],
        core: RaftCore,
        storage: RaftStorage,
        membership: Membership,
        config: EngineConfig,
        prevote: bool,
        send: Callable[[str, pb.Frame], None],
        reachable: Callable[[], bool],
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._others = tuple(others)
        self._core = core
        self._storage = storage
        self._membership = membership
        self._config = config
        self._asks_first = prevote
        self._reachable = reachable
        self._clock = clock
        self._rng = rng
        self._prevote = PreVote(peer_id=peer_id, others=others, send=send)
        self.leader_contact = NOW  # when we last heard a leader; NOW if never, or if it is gone
        self.majority_seen = NOW  # when we last heard a leader or led
        self.whole_at = NOW  # when our state last held all that was committed then: how old a stale answer is
        self._stated = (0, NOW)  # the leader's commit index, and when it said so
        self._leaderless = True  # never heard one, or saw it go
        self._heard_term = 0  # in which we last heard a leader
        self._silence_s = 0.0  # the longest that it went on after, fading
        self._yielded: dict[str, int] = {}  # peer -> term in which we last let it try before us
        core.election_deadline = NEVER

    def open(self) -> None:
        """From now on elections may be held."""
        self._core.election_deadline = self._clock() + self._timeout() if self._others else NOW

    def consider(self) -> None:
        """Before PySyncObj ticks: if its deadline has passed, let it elect only if it may, and would win."""
        core, now = self._core, self._clock()
        if core.is_leader or core.election_deadline >= now or not self._others:
            return
        if core.election_deadline == NOW and self._reachable():
            return  # asked, and the majority said yes
        if core.election_deadline != NOW and now - core.election_deadline > self._config.heartbeat_s:
            # The loop was held up past the deadline, and what the leader said meanwhile is still to be read.
            core.election_deadline = now + self._config.heartbeat_s
        elif not self._membership.may_vote() or not self._reachable():
            core.election_deadline = now + self._timeout()
        elif self._asks_first:
            core.election_deadline = now + self._rng.uniform(1.0, 2.0) * self._config.heartbeat_s
            self._prevote.begin(term=core.term, standing=self._standing())

    def request(self, peer_id: str, request: pb.PreVoteRequest) -> None:
        """Another peer asks whether we would vote for it."""
        core, now = self._core, self._clock()
        willing = (
            not core.is_leader
            and self._membership.may_vote()
            and request.term > self._membership.vote_floor
            and now - self.leader_contact >= self._config.election_min_s + self._patience_s()
        )
        # Once a term: whoever asks again had our yes and could do nothing with it. A peer that is heard and hears
        # nobody asks for ever, and nobody would be elected while it does.
        yields = self._yielded.get(peer_id) != request.term
        standing = self._standing()
        granted = self._prevote.answer(
            peer_id, request, willing=willing, yields=yields, term=core.term, standing=standing
        )
        if granted and yields:
            # Let it try before we do.
            self._yielded[peer_id] = request.term
            core.election_deadline = max(core.election_deadline, now + 2 * self._config.heartbeat_s)

    def reply(self, peer_id: str, reply: pb.PreVoteReply) -> None:
        core = self._core
        if reply.term > core.term:
            core.adopt_term(peer_id, reply.term)
        elif core.is_leader or not self._membership.counts(peer_id):
            return
        elif self._prevote.reply(peer_id, reply, term=core.term):
            core.election_deadline = NOW  # the next tick holds the election

    def leader_heard(self, commit_index: int) -> None:
        """A leader of the present term spoke; PySyncObj has just set the deadline anew."""
        now = self._clock()
        if self._core.term != self._heard_term:
            self._heard_term = self._core.term
        elif self.leader_contact != NOW:
            since = min(now - self.leader_contact, self._config.election_max_s)  # more was our own sleep
            self._silence_s = max(since, self._silence_s * 0.5 ** (since / FADES_S))
            self._core.election_deadline += self._patience_s()
        self.leader_contact = self.majority_seen = now
        self._stated = (commit_index, self.leader_contact)
        self._leaderless = False
        self._prevote.cancel()

    def applied(self) -> None:
        """After a tick: if the state holds all that the leader calls committed, it was whole when the leader said so.

        A leader knows what is committed once that includes an entry of its own term (Ongaro's thesis, 6.4).
        """
        index, when = self._stated
        if index <= self._core.applied_index and self._storage.term_at(index) == self._core.term:
            self.whole_at = max(self.whole_at, when)

    def leads(self) -> None:
        """We lead."""
        self._leaderless = False
        self._prevote.cancel()

    def lost(self, peer_id: str) -> None:
        """A stream broke. If it was the leader's, it probably died: ask soon whether the others think so too."""
        core = self._core
        if peer_id == core.leader_id and not core.is_leader and self._asks_first:
            self.leader_contact = NOW
            self._leaderless = True
            self._ask_soon()

    def met(self) -> None:
        """A peer said Hello. With no leader to be heard, there may be a majority now: no reason to wait long."""
        if self._leaderless and not self._core.is_leader:
            self._ask_soon()

    def was_busy(self, began: float) -> None:
        """A turn took this long: we were busy, not they silent, so whoever leads gets the time to be heard."""
        core, now = self._core, self._clock()
        if now - began > self._config.heartbeat_s and not core.is_leader:
            core.election_deadline = max(core.election_deadline, now + self._config.election_min_s)

    def _patience_s(self) -> float:
        """By how much longer than the timeout a silent leader is waited for.

        At most so that a vote can be had at the longest timeout: a leader that heard nobody for so long has resigned.
        """
        shortest_s, longest_s = self._config.election_min_s, self._config.election_max_s
        return min(max(2 * self._silence_s - shortest_s, 0.0), longest_s - shortest_s)

    def _ask_soon(self) -> None:
        soon = self._clock() + self._rng.uniform(0, self._config.leader_lost_s)
        self._core.election_deadline = min(self._core.election_deadline, soon)

    def _timeout(self) -> float:
        return self._rng.uniform(self._config.election_min_s, self._config.election_max_s)

    def _standing(self) -> tuple[int, int]:
        return self._storage.last_term, self._storage.last_index
