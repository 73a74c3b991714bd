"""``Membership``: whose disk may vote and whose acknowledgements count (RAFT.md, Membership and first start; S10).

Owns: what peers said in their Hellos, and the rules of the first start and of wiped disks. Leaves to the state
machine the admissions themselves, which are replicated. The one rule: a disk votes only while everything it ever
acknowledged is still on it.

A disk may vote when its incarnation is admitted, by our own applied state or by a peer's (then the admission is
committed by others). Before the first admission all configured peers must have said Hello, each without a cluster.
A disk that was empty when this process started then also keeps out of every term that existed before: it may have
voted there and been wiped since.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence

import structlog

from orchestrator.replication.log import StateMachine
from orchestrator.replication.proposals import Proposal
from orchestrator.replication.v1 import peer_pb2 as pb

_log = structlog.get_logger("raftsman.replication")

CAUGHT_UP = 64
"""Entries behind the commit index with which a wiped peer counts as caught up."""
READMIT_S = 1.0
"""Pause before an admission that the state refused is proposed again."""


class Membership:
    def __init__(
        self,
        *,
        peer_id: str,
        others: Sequence[str],
        machine: StateMachine,
        incarnation: str,
        fresh: bool,
        enforced: bool,
    ) -> None:
        self._peer_id = peer_id
        self._others = tuple(others)
        self._machine = machine
        self._incarnation = incarnation
        self._fresh = fresh
        self._enforced = enforced
        self._terms: dict[str, int] = {}  # each peer's term at its first Hello to this process
        self._admitted: dict[str, str] = {}
        self._admitted_by_others = False
        self.hellos: dict[str, pb.Hello] = {}
        self.refresh()

    @property
    def admitted(self) -> dict[str, str]:
        """Peer id -> disk incarnation, as applied here; read only."""
        return self._admitted

    @property
    def complete(self) -> bool:
        """Whether the first start is complete here."""
        return bool(self._admitted)

    def refresh(self) -> bool:
        """Look at the state again after something was applied; whether the admissions changed."""
        admitted = self._machine.admitted()
        if admitted == self._admitted:
            return False
        self._admitted = dict(admitted)
        return True

    def learn(self, hello: pb.Hello) -> bool:
        """A peer said Hello (again); whether its disk is another one than before."""
        before = self.hellos.get(hello.peer_id)
        self.hellos[hello.peer_id] = hello
        self._terms.setdefault(hello.peer_id, hello.term)
        if hello.admitted.get(self._peer_id) == self._incarnation:
            self._admitted_by_others = True
        return before is not None and before.incarnation != hello.incarnation

    def learn_again(self, peer_id: str, hello: pb.Hello) -> None:
        """The peer told more within its session; who and which disk it is does not change there."""
        known = self.hellos.get(peer_id)
        if known is not None and (hello.peer_id, hello.incarnation) == (peer_id, known.incarnation):
            self.learn(hello)

    def may_vote(self) -> bool:
        """Whether this peer's disk may vote (and ask for votes)."""
        if not self._enforced or self._admitted_by_others:
            return True
        if self._admitted:
            return self._admitted.get(self._peer_id) == self._incarnation
        return all(
            (hello := self.hellos.get(peer)) is not None and not hello.cluster_id and not hello.admitted
            for peer in self._others
        )

    @property
    def vote_floor(self) -> int:
        """No vote in this term or an older one."""
        if not self._enforced or not self._fresh or self._admitted or self._admitted_by_others:
            return 0
        return max(self._terms.values(), default=0)

    def counts(self, peer_id: str) -> bool:
        """Whether votes and acknowledgements of the peer's present disk count."""
        if not self._enforced:
            return True
        hello = self.hellos.get(peer_id)
        if hello is None:
            return False
        return not self._admitted or hello.incarnation == self._admitted.get(peer_id)

    def missing(self) -> list[str]:
        """Peers that have not said Hello to this process yet."""
        return [peer for peer in self._others if peer not in self.hellos]

    def first_admission(self) -> dict[str, str]:
        """All disks as they are at the first start."""
        found = {self._peer_id: self._incarnation}
        found.update({peer: self.hellos[peer].incarnation for peer in self._others if peer in self.hellos})
        return dict(sorted(found.items()))

    def unadmitted(self) -> list[str]:
        """Peers whose present disk is not the admitted one."""
        return [
            peer
            for peer in self._others
            if (hello := self.hellos.get(peer)) is not None and hello.incarnation != self._admitted.get(peer)
        ]

    def with_disk_of(self, peer_id: str) -> dict[str, str]:
        """The admissions with this peer's present disk in place of its old one."""
        return dict(sorted({**self._admitted, peer_id: self.hellos[peer_id].incarnation}.items()))


class Admissions:
    """The leader's part: proposes to admit the disks of the first start, and wiped disks that have caught up."""

    def __init__(
        self,
        *,
        membership: Membership,
        machine: StateMachine,
        payload: Callable[[str, dict[str, str]], bytes],
        cluster_id: str,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._membership = membership
        self._machine = machine
        self._payload = payload
        self._cluster_id = cluster_id
        self._clock = clock
        self._rng = rng
        self._running = False
        self._not_before = float("-inf")

    def elected(self) -> None:
        """A new term: what was proposed before does not stand in its way."""
        self._running = False

    def due(self, *, commit_index: int, acked: Mapping[str, int]) -> Proposal | None:
        """The admission to propose now, if any. ``acked``: what each peer's disk is known to hold."""
        membership = self._membership
        if self._running or self._clock() < self._not_before:
            return None
        cluster_id = self._machine.cluster_id()
        if not membership.complete:
            if membership.missing():
                return None
            cluster_id = self._cluster_id or str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
            admissions = membership.first_admission()
        else:
            enough = max(commit_index - CAUGHT_UP, 1)
            ready = [peer for peer in membership.unadmitted() if acked.get(peer, 0) >= enough]
            if not ready:
                return None
            admissions = membership.with_disk_of(ready[0])
        self._running = True
        _log.info("replication.admitting", cluster_id=cluster_id, admissions=admissions)

        def done() -> None:
            self._running = False
            if self._membership.admitted != admissions:
                self._not_before = self._clock() + READMIT_S

        return Proposal(self._payload(cluster_id, admissions), None, done)
