"""``EngineLog``: the replicated log. One PySyncObj under guards, one journal, one loop.

Owns: what ``ReplicatedLog`` promises to callers: start and stop, writes, reads, status. Leaves to ``turns`` everything
that happens in between. The one rule: every caller is answered, and never before what the answer says is durable.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from orchestrator.contract.errors import (
    NoLeaderError,
    NotLeaderError,
    OverloadedError,
    RaftsmanError,
    StartupError,
    UnknownOutcomeError,
)
from orchestrator.replication.log import (
    LogStatus,
    PeerProgress,
    Proposed,
    Role,
    SnapshotMeta,
)
from orchestrator.replication.memory import check_proposal
from orchestrator.replication.proposals import Proposal, fail_all
from orchestrator.replication.pysync import CANDIDATE
from orchestrator.replication.turns import EXIT_FUTURE_FORMAT, EXIT_STORAGE, NOT_RUNNING, EngineRoom
from orchestrator.replication.v1 import peer_pb2 as pb
from orchestrator.replication.waiting import within

__all__ = ["EXIT_FUTURE_FORMAT", "EXIT_STORAGE", "EngineLog"]


class EngineLog(EngineRoom):
    """Implements ``ReplicatedLog``; see ``log`` for what its methods promise.

    ``peers`` maps every configured peer's id to its host:port, this one included. ``incarnation`` names this data
    directory's disk and ``fresh`` says that nothing was ever stored on it. ``admission_payload`` builds the command
    that admits disks: ``(cluster id, peer id -> incarnation) -> payload``. ``refused`` hears why sessions are
    refused. ``run_blocking`` runs disk work off the loop. The journal is closed by ``stop``.
    """

    # ================================================================== start and stop

    async def start(self) -> None:
        """Restore what is stored, then begin to talk. Raises ``StartupError`` (``CorruptError``) if that can't be."""
        held = await self._run_blocking(self._store.load)
        meta: SnapshotMeta | None = None
        if held is not None:
            meta, data = held
            (await self._run_blocking(lambda: self._machine.prepare(data)))()
        await self.begin(meta)

    async def begin(self, meta: SnapshotMeta | None) -> None:
        """``start`` with a state that was restored from this snapshot already (None: an empty one)."""
        self._loop = asyncio.get_running_loop()
        self._build(meta)
        self._running = True
        self._turn()  # applies what is known to be committed
        if not self._running:
            raise NoLeaderError(NOT_RUNNING)
        if not self._others and not self._membership.may_vote():
            raise StartupError(
                f"this disk ({self._incarnation}) is not the one that the cluster's only peer was admitted with: "
                "part of the data directory was replaced; restore it from a backup"
            )
        self._elections.open()
        await self._network.start(self._peer_id, {peer: self._peers[peer] for peer in self._others}, self)
        self.wake()

    async def stop(self) -> None:
        """End all sessions, fail what waits, close the journal. A leader just leaves: the others notice and elect."""
        if self._stopped:
            return
        started = self._running
        self.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._network.stop()
        if started:
            self._fail_proposals("this peer is stopping")
            self._core.destroy()
        self._reads.fail()
        self._fail_remote_reads()
        if self._owns_waiting:
            self._waiting.fail(NoLeaderError(NOT_RUNNING))
        else:
            self._waiting.look()
        self._answer()
        self._journal.close()

    # ================================================================== what others see

    def is_leader(self) -> bool:
        return self._leading and self._running and self.seal is None

    @property
    def leader_id(self) -> str:
        if not self._running or self.seal is not None:
            return ""
        core = self._core
        if not core.is_leader and self._clock() - self._elections.majority_seen > 2 * self._config.election_max_s:
            return ""  # long silent: without a majority nobody replaces it, but it leads no more
        return core.leader_id

    @property
    def term(self) -> int:
        return self._core.term if self._running else self._journal.term

    @property
    def admitted(self) -> dict[str, str]:
        """Peer id -> disk incarnation in this epoch."""
        return dict(self._membership.admitted)

    @property
    def snapshots_installed(self) -> int:
        return self._snapshots.installed

    @property
    def snapshots_saved(self) -> int:
        return self._snapshots.saved

    def sealed_everywhere(self) -> bool:
        """Whether nobody has to be told of the seal: a leader is answered by every peer that is connected since."""
        seal, heard = self.seal, self._guard.heard
        return (
            not self._core.is_leader
            or seal is None
            or all(heard.get(peer, float("-inf")) > seal.at for peer in self._contacts.up)
        )

    def entry_term(self, index: int) -> int | None:
        """The term of a Raft entry that is held here."""
        return self._storage.term_at(index)

    def match_index(self, peer_id: str) -> int:
        """The last entry that this leader counts as stored at the peer."""
        return self._core.match_index(peer_id)

    def _role(self) -> Role:
        if self._core.is_leader and self.seal is None:
            return Role.LEADER
        if not self._membership.may_vote():
            return Role.JOINING
        return Role.CANDIDATE if self._state == CANDIDATE else Role.FOLLOWER

    def status(self) -> LogStatus:
        """Raises ``NoLeaderError`` before ``start``."""
        if not self._running and not self._stopped:
            raise NoLeaderError(NOT_RUNNING)
        core, now = self._core, self._clock()
        return LogStatus(
            cluster_id=self._machine.cluster_id(), epoch=self._config.epoch, peer_id=self._peer_id, role=self._role(),
            term=core.term,
            leader_id=self.leader_id, commit_index=core.commit_index, applied_index=core.applied_index,
            first_index=self._storage.first_index, index=self._machine.index, last_quorum_ms=self._last_quorum_ms(now),
            state_age_ms=self._state_age_ms(now), elections=self.elections,
            peers=tuple(self._progress(peer_id, now) for peer_id in self._peers),
        )  # fmt: skip

    def _progress(self, peer_id: str, now: float) -> PeerProgress:
        if peer_id == self._peer_id:
            return PeerProgress(
                peer_id=peer_id, address=self._peers[peer_id], connected=True, voter=self._membership.may_vote(),
                incarnation=self._incarnation, match_index=self._storage.last_index, last_contact_ms=0,
                feature_level=self._config.feature_level, cert_expires_ms=0,
            )  # fmt: skip
        hello = self._membership.hellos.get(peer_id, pb.Hello())
        heard = self._contacts.heard_at(peer_id)
        if peer_id in self._contacts.up and self._is_quiet(peer_id):
            heard = now
        return PeerProgress(
            peer_id=peer_id, address=self._peers[peer_id], connected=peer_id in self._contacts.up,
            voter=self._membership.complete and self._membership.counts(peer_id), incarnation=hello.incarnation,
            match_index=self._guard.acked.get(peer_id, 0) if self._core.is_leader else 0,
            last_contact_ms=-1 if heard is None else int((now - heard) * 1000), feature_level=hello.feature_level,
            cert_expires_ms=self._contacts.cert_expires_ms(peer_id),
        )  # fmt: skip

    def _last_quorum_ms(self, now: float) -> int:
        if not self._core.is_leader:
            return _ms_since(self._elections.majority_seen, now)
        answered = self._majority_answered()
        return 0 if now - answered < 3 * self._config.heartbeat_s else _ms_since(answered, now)

    def _state_age_ms(self, now: float) -> int:
        whole_at = self._elections.whole_at
        return _ms_since(max(whole_at, self._majority_answered()) if self._leading else whole_at, now)

    async def changed(self, *, after: int) -> int:
        if self._machine.index <= after:
            self._require_running()
            await self._waiting.until(lambda: self._machine.index > after)
        return self._machine.index

    async def leadership_changed(self, *, was: bool) -> bool:
        if self.is_leader() == was:
            self._require_running()
            await self._waiting.until(lambda: self.is_leader() != was)
        return self.is_leader()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        return self._waiting.subscribe(listener)

    def not_met(self) -> list[str]:
        """Peers that a first start still waits for: nobody is admitted yet, and they have not said who they are."""
        return [] if self._membership.complete else self._membership.missing()

    # ================================================================== writes

    async def propose(
        self, payload: bytes, *, timeout_s: float = 10.0, alone: bool = False, urgent: bool = False
    ) -> Proposed:
        check_proposal(payload)
        self._require_running()
        if not self._core.is_leader:
            leader = self._core.leader_id
            if not leader:
                raise NoLeaderError("no leader is known here: a majority of the peers must reach each other first")
            raise NotLeaderError(f"peer {leader} leads, not {self._peer_id}", leader_id=leader)
        if not self._membership.complete:
            raise NoLeaderError("the first start is not complete yet: the peers have not agreed on their disks")
        future: asyncio.Future[Proposed] = self._loop.create_future()
        proposal = Proposal(payload, future, alone=alone, urgent=urgent)
        self._proposals.add(proposal)
        if not self._proposals.in_flight:
            self.wake()  # else the turn that the entry in flight lands in takes this one up
        timer = self._loop.call_later(timeout_s, self._expire, proposal)
        try:
            return await future
        except asyncio.CancelledError:
            self._proposals.withdraw(proposal)
            raise
        finally:
            timer.cancel()
            del future, proposal  # an error that comes by them would hold them, by this frame, which only GC undoes

    def _expire(self, proposal: Proposal) -> None:
        error: RaftsmanError
        if self._proposals.withdraw(proposal):
            error = OverloadedError("the write waited for its turn too long: nothing was done", retry_after_ms=500)
        else:
            error = UnknownOutcomeError("the write is in flight and no majority has confirmed it in time")
        fail_all([proposal], error)

    # ================================================================== reads

    async def read_barrier(self, *, timeout_s: float = 5.0) -> int:
        deadline = self._clock() + timeout_s
        while True:
            self._require_running()
            index = await self._read_index(deadline)
            if index is not None:
                break
            left = deadline - self._clock()
            if left <= 0:
                raise NoLeaderError(f"no leader with a majority could be asked within {timeout_s:.3g} s")
            await self._next_leader(min(left, self._config.heartbeat_s))
        if not await self._waiting.until(
            lambda: not self._running or self._core.applied_index >= index, deadline - self._clock()
        ):
            raise NoLeaderError(f"this peer could not catch up with the leader within {timeout_s:.3g} s")
        if not self._running:
            raise NoLeaderError(NOT_RUNNING)
        return self._machine.index

    async def confirm_leadership(self, *, timeout_s: float = 5.0) -> None:
        self._require_running()
        if self._core.is_leader and await within(self._ask_here(), timeout_s) is not None:
            return
        leader = self._core.leader_id
        raise NotLeaderError("this peer does not lead", leader_id="" if leader == self._peer_id else leader)

    async def _read_index(self, deadline: float) -> int | None:
        """The commit index that a leader with a majority knows now; None if that cannot be said yet."""
        left = deadline - self._clock()
        leader = self._core.leader_id
        if self._core.is_leader:
            return await within(self._ask_here(), left)
        if not leader or leader not in self._contacts.up:
            return None
        future: asyncio.Future[int | None] = self._loop.create_future()
        number = self._remote_reads.ask(leader, future)
        self.wake()
        try:
            return await within(future, min(left, self._config.election_max_s))
        finally:
            self._remote_reads.forget(number)

    @property
    def _closed(self) -> bool:
        return not self._running or self.seal is not None

    def _ask_here(self) -> asyncio.Future[int | None]:
        future: asyncio.Future[int | None] = self._loop.create_future()
        self._reads.ask(lambda index: self._resolve_later(future, index))
        self.wake()
        return future

    async def _next_leader(self, timeout_s: float) -> None:
        seen = self._seen_leader
        await self._waiting.until(lambda: self._closed or self._seen_leader != seen, timeout_s)


def _ms_since(when: float, now: float) -> int:
    """Whole milliseconds, rounded up; -1 if it never was."""
    return -1 if when == float("-inf") else math.ceil((now - when) * 1000)
