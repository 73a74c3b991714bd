"""``EngineLog``: the replicated log. One PySyncObj under guards, one journal, one loop.

Owns: the turn. Whatever happens (a frame, a proposal, a deadline) asks for one turn of the loop; a turn handles
what came, lets PySyncObj tick, flushes the journal once, and only then lets frames and answers leave. Leaves to
others: what PySyncObj may see (``guard``), elections (``prevote``), whose disk counts (``membership``), reads
(``reads``), batches (``proposals``), the snapshot's way (``snapshotting``), sessions (a ``Network``) and bytes on
disk (``Journal``, ``SnapshotStore``). The one rule: nothing leaves before the flush that it depends on; if that
fails, the process ends.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from orchestrator.contract.errors import (
    CorruptError,
    NoLeaderError,
    NotLeaderError,
    OverloadedError,
    RaftsmanError,
    StartupError,
    UnknownOutcomeError,
)
from orchestrator.replication.guard import Guard
from orchestrator.replication.link import Network, greeting_problem
from orchestrator.replication.log import (
    FutureFormatError,
    Journal,
    LogStatus,
    PeerProgress,
    Proposed,
    Role,
    SnapshotMeta,
    SnapshotStore,
    StateMachine,
)
from orchestrator.replication.membership import Membership
from orchestrator.replication.memory import check_proposal
from orchestrator.replication.prevote import PreVote
from orchestrator.replication.proposals import Proposal, Proposals
from orchestrator.replication.pysync import CANDIDATE, FOLLOWER, LEADER, SUCCESS, Message, RaftCore
from orchestrator.replication.reads import Reads
from orchestrator.replication.settings import EngineConfig, Guards
from orchestrator.replication.snapshotting import Snapshot, SnapshotReceiver, SnapshotSenders, checksum
from orchestrator.replication.storage import BATCH, RaftStorage
from orchestrator.replication.v1 import peer_pb2 as pb

_log = structlog.get_logger("raftsman.replication")

T = TypeVar("T")

EXIT_STORAGE = 70
"""Exit status of a process whose disk failed or whose log is broken (DESIGN.md: it never runs on)."""
EXIT_FUTURE_FORMAT = 71
"""Exit status of a process that found a command of a newer format in the log."""

BATCH_FORMAT = 1
_CAUGHT_UP = 64  # entries behind the commit index with which a wiped peer counts as caught up
_READMIT_S = 1.0  # pause before a refused admission is proposed again
_ENTRY_SLACK = 64 * 1024  # batch framing, so that no entry reaches PySyncObj's own batch size (S8)


class EngineLog:
    """Implements ``ReplicatedLog``; see ``log`` for what its methods promise.

    ``peers`` maps every configured peer's id to its host:port, this one included. ``incarnation`` names this data
    directory's disk and ``fresh`` says that nothing was ever stored on it. ``admission_payload`` builds the command
    that admits disks: ``(cluster id, peer id -> incarnation) -> payload``. ``refused`` hears why sessions are
    refused. ``run_blocking`` runs disk work off the loop. The journal is closed by ``stop``.
    """

    def __init__(
        self,
        *,
        peer_id: str,
        peers: Mapping[str, str],
        machine: StateMachine,
        journal: Journal,
        snapshots: SnapshotStore,
        network: Network,
        incarnation: str,
        fresh: bool,
        admission_payload: Callable[[str, dict[str, str]], bytes],
        config: EngineConfig | None = None,
        guards: Guards | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        observe_commit_s: Callable[[float], None] | None = None,
        refused: Callable[[str, str], None] | None = None,
        exit_process: Callable[[int], object] = os._exit,
        run_blocking: Callable[[Callable[[], Any]], Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        if peer_id not in peers:
            raise StartupError(f"peer {peer_id!r} is not in its own peer list ({', '.join(sorted(peers))})")
        self._peer_id = peer_id
        self._peers = dict(sorted(peers.items()))
        self._others = [peer for peer in self._peers if peer != peer_id]
        self._machine = machine
        self._journal = journal
        self._store = snapshots
        self._network = network
        self._incarnation = incarnation
        self._fresh = fresh
        self._admission_payload = admission_payload
        self._config = config if config is not None else EngineConfig()
        self._guards = guards if guards is not None else Guards()
        self._clock = clock
        self._rng = rng if rng is not None else random.Random()
        self._observe_commit_s = observe_commit_s
        self._on_refused = refused
        self._exit_process = exit_process
        self._run_blocking = run_blocking

        self.elections = 0  # leaders seen by this process
        self.refusals: dict[str, str] = {}  # peer id -> why we do not talk
        self.snapshots_sent = self.snapshots_installed = self.snapshots_saved = 0

        self._loop: asyncio.AbstractEventLoop
        self._running = False
        self._stopped = False
        self._turn_due = False
        self._in_turn = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbox: list[tuple[str, pb.Frame]] = []
        self._outbox: list[tuple[str, pb.Frame]] = []
        self._last_out: dict[str, int] = {}  # peer -> position of its last frame in the outbox
        self._after_flush: list[Callable[[], None]] = []
        self._up: set[str] = set()
        self._sessions: set[str] = set()
        self._cert_expires: dict[str, int] = {}
        self._heard_from: dict[str, float] = {}
        self._leader_contact = float("-inf")
        self._seen_leader = ("", 0)
        self._state = FOLLOWER
        self._term_start = 0  # while leading: index of the first entry of our term
        self._leading = False
        self._admitting = False
        self._admit_after = float("-inf")
        self._submitted_at = 0.0
        self._saving = asyncio.Lock()
        self._compacting = False
        self._installing: tuple[int, int] | None = None  # last index and term of the snapshot
        self._loaded_index = 0
        self._pending_install: tuple[SnapshotMeta, bytes | None] | None = None
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next_listener = 0
        self._notify = False
        self._read_ids = 0
        self._remote_reads: dict[int, tuple[str, asyncio.Future[int | None]]] = {}
        self._core: RaftCore
        self._storage: RaftStorage
        self._guard: Guard
        self._membership: Membership
        self._prevote = PreVote(peer_id=peer_id, others=self._others, send=self._send)
        self._reads = Reads(others=self._others, send=self._send)
        self._proposals = Proposals(
            max_count=self._config.max_queue_count, max_bytes=self._config.max_queue_bytes,
            batch_bytes=self._config.batch_bytes,
        )  # fmt: skip
        self._senders = SnapshotSenders(
            send=self._send, stamp=lambda: (self._core.term, self._core.commit_index),
            chunk_bytes=self._config.snapshot_chunk_bytes, window=self._config.snapshot_window,
        )  # fmt: skip
        self._receiver = SnapshotReceiver(check=self._guards.check_snapshots)

    # ================================================================== start and stop

    async def start(self) -> None:
        """Restore what is stored, then begin to talk. Raises ``StartupError`` (``CorruptError``) if that can't be."""
        self._loop = asyncio.get_running_loop()
        held = await self._run_blocking(self._store.load)
        meta: SnapshotMeta | None = None
        if held is not None:
            meta, data = held
            self._machine.restore(data)
        self._storage = RaftStorage(self._journal, meta, protected=self._guards.keep_matching_entries)
        self._membership = Membership(
            peer_id=self._peer_id, others=self._others, machine=self._machine, incarnation=self._incarnation,
            fresh=self._fresh or self._journal.term == 0, enforced=self._guards.disk_incarnations,
        )  # fmt: skip
        config = self._config
        self._core = RaftCore(
            peer_id=self._peer_id, others=self._others, owner=self, storage=self._storage,
            applied_index=meta.last_index if meta is not None else 1,
            election_s=(config.election_min_s, config.election_max_s), heartbeat_s=config.heartbeat_s,
            fallback_s=config.election_max_s if self._guards.short_fallback else 30.0,
            batch_bytes=config.batch_bytes + _ENTRY_SLACK, clock=self._clock, rng=self._rng,
        )  # fmt: skip
        self._guard = Guard(
            core=self._core, storage=self._storage, membership=self._membership, guards=self._guards,
            send=self._send, clock=self._clock,
        )  # fmt: skip
        self._core.election_deadline = float("inf")
        self._running = True
        self._turn()  # applies what is known to be committed
        self._require_running()
        if not self._others and not self._membership.may_vote():
            raise StartupError(
                f"this disk ({self._incarnation}) is not the one that the cluster's only peer was admitted with: "
                "part of the data directory was replaced; restore it from a backup"
            )
        self._core.election_deadline = self._clock() + self._election_timeout() if self._others else float("-inf")
        await self._network.start(self._peer_id, {peer: self._peers[peer] for peer in self._others}, self)
        self._wake()

    @property
    def running(self) -> bool:
        """Between ``start`` and ``stop`` (or the end of the process)."""
        return self._running

    def kill(self) -> None:
        """Stop at once, as a crash would: nothing is flushed, sent or answered any more. For the simulator."""
        self._stopped = True
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()

    async def stop(self) -> None:
        """End all sessions, fail what waits, close the journal. A leader just leaves: the others notice and elect."""
        if self._stopped:
            return
        self.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._network.stop()
        self._fail_proposals("this peer is stopping")
        self._reads.fail()
        for _, future in self._remote_reads.values():
            _resolve(future, None)
        for _, waiter in self._waiters:
            _fail(waiter, NoLeaderError("the log of this peer is stopped"))
        self._waiters.clear()
        for callback in self._take_after_flush():
            callback()
        self._core.destroy()
        self._journal.close()

    def _die(self, code: int, event: str, **facts: object) -> None:
        """End the process: what is in memory is not what is on disk, or must not be."""
        self._running = False
        self._outbox.clear()
        self._after_flush.clear()
        _log.critical(event, exit_status=code, **facts)
        self._exit_process(code)

    # ================================================================== the turn

    def _wake(self) -> None:
        if not self._turn_due and not self._in_turn and self._running:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        if not self._running or self._in_turn:
            return
        self._in_turn = True
        began = self._clock()
        try:
            self._work()
        except FutureFormatError as error:
            self._die(EXIT_FUTURE_FORMAT, "replication.newer_command_format", error=str(error))
            return
        except Exception as error:
            self._die(EXIT_STORAGE, "replication.broken", error=repr(error), exc_info=error)
            return
        finally:
            self._in_turn = False
        if not self.running:
            return
        try:
            self._journal.flush()
        except OSError as error:
            self._die(EXIT_STORAGE, "replication.disk_failed", error=str(error))
            return
        self._release()
        now = self._clock()
        if now - began > self._config.heartbeat_s and not self._core.is_leader:
            # We were busy, not they silent: whoever leads gets the time to be heard.
            self._core.election_deadline = max(self._core.election_deadline, now + self._config.election_min_s)
        self._arm()

    def _work(self) -> None:
        core = self._core
        while self._inbox:
            inbox, self._inbox = self._inbox, []
            for peer_id, frame in inbox:
                self._dispatch(peer_id, frame)
        self._consider_election()
        while True:
            heartbeat = core.is_leader and self._clock() > core.heartbeat_due
            core.tick()
            self._watch_leader()
            if core.is_leader:
                if heartbeat:
                    self._heartbeat()
                self._lead()
                self._feed()
            if self._others or not core.is_leader or core.commit_index == self._storage.last_index:
                break  # alone, an entry is committed by the next tick
        self._consider_compaction()
        leading = core.is_leader and self._membership.complete and core.commit_index >= self._term_start
        if leading != self._leading:
            self._leading = leading
            self._notify = True
            _log.info("replication.leading" if leading else "replication.not_leading", term=core.term)

    def _release(self) -> None:
        """Everything that waited for the flush."""
        outbox, self._outbox = self._outbox, []
        self._last_out.clear()
        frames: dict[str, list[pb.Frame]] = {}
        for peer_id, frame in outbox:
            frames.setdefault(peer_id, []).append(frame)
        for peer_id, batch in frames.items():
            if peer_id in self._up:
                self._network.send(peer_id, batch)
        for callback in self._take_after_flush():
            callback()
        if self._notify:
            self._notify = False
            for listener in list(self._listeners.values()):
                listener()
        if self._waiters:
            waiting = self._waiters
            self._waiters = []
            for row in waiting:
                if row[1].done():
                    continue
                if row[0]():
                    row[1].set_result(None)
                else:
                    self._waiters.append(row)

    def _take_after_flush(self) -> list[Callable[[], None]]:
        taken, self._after_flush = self._after_flush, []
        return taken

    def _arm(self) -> None:
        """Sleep until the next deadline."""
        core = self._core
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if core.is_leader:
            if not self._others:
                return
            due = core.heartbeat_due
        else:
            due = core.election_deadline
        if due == float("inf"):
            return
        # PySyncObj compares strictly, so wake a moment later.
        self._timer = self._loop.call_later(max(0.0, due - self._clock()) + 0.0005, self._turn)

    def _send(self, peer_id: str, frame: pb.Frame) -> None:
        """Queue a frame behind the next flush; what a later frame says as well is left out."""
        position = self._last_out.get(peer_id)
        if position is not None:
            before = self._outbox[position][1]
            if _says_as_well(frame, before):
                self._outbox[position] = (peer_id, frame)
                return
        self._last_out[peer_id] = len(self._outbox)
        self._outbox.append((peer_id, frame))

    # ================================================================== frames

    def _dispatch(self, peer_id: str, frame: pb.Frame) -> None:
        kind = frame.WhichOneof("kind")
        guard = self._guard
        self._heard_from[peer_id] = self._clock()
        if kind == "append":
            if guard.append(peer_id, frame.append):
                self._leader_contact = self._clock()
                self._prevote.cancel()
        elif kind == "append_reply":
            reply = frame.append_reply
            ours = guard.append_reply(peer_id, reply)
            if ours and reply.success and self._senders.delivered(peer_id, reply.next_index, self._storage.first_index):
                self._snapshot_sent(peer_id, reply.next_index)
        elif kind == "vote_request":
            guard.vote_request(peer_id, frame.vote_request)
        elif kind == "vote_reply":
            guard.vote_reply(peer_id, frame.vote_reply)
        elif kind == "prevote_request":
            self._on_prevote_request(peer_id, frame.prevote_request)
        elif kind == "prevote_reply":
            self._on_prevote_reply(peer_id, frame.prevote_reply)
        elif kind == "stale_term":
            guard.stale_term(peer_id, frame.stale_term.term)
        elif kind == "snapshot_chunk":
            self._on_chunk(peer_id, frame.snapshot_chunk)
        elif kind == "snapshot_progress":
            if self._core.is_leader and guard.still_there(peer_id, frame.snapshot_progress.term):
                self._senders.progress(peer_id, frame.snapshot_progress)
        elif kind == "read_probe":
            self._on_read_probe(peer_id, frame.read_probe)
        elif kind == "read_probe_reply":
            reply_term = frame.read_probe_reply.term
            if self._core.is_leader and guard.still_there(peer_id, reply_term) and self._membership.counts(peer_id):
                self._reads.reply(peer_id, frame.read_probe_reply)
        elif kind == "read_index_request":
            self._on_read_index(peer_id, frame.read_index_request.id)
        elif kind == "read_index_reply":
            answer = frame.read_index_reply
            held = self._remote_reads.pop(answer.id, None)
            if held is not None:
                _resolve(held[1], answer.commit_index if answer.ok else None)
        elif kind == "hello":
            if (
                frame.hello.peer_id == peer_id
                and self._membership.hellos[peer_id].incarnation == frame.hello.incarnation
            ):
                self._membership.learn(frame.hello)
        else:
            _log.error("replication.unknown_frame", peer=peer_id)

    def _on_prevote_request(self, peer_id: str, request: pb.PreVoteRequest) -> None:
        core, now = self._core, self._clock()
        willing = (
            not core.is_leader
            and self._membership.may_vote()
            and request.term > self._membership.vote_floor
            and now - self._leader_contact >= self._config.election_min_s
        )
        if self._prevote.answer(peer_id, request, willing=willing, term=core.term, standing=self._standing()):
            # Let it try before we do.
            core.election_deadline = max(core.election_deadline, now + 2 * self._config.heartbeat_s)

    def _on_prevote_reply(self, peer_id: str, reply: pb.PreVoteReply) -> None:
        core = self._core
        if reply.term > core.term:
            core.adopt_term(peer_id, reply.term)
            return
        if core.is_leader or not self._membership.counts(peer_id):
            return
        if self._prevote.reply(peer_id, reply, term=core.term):
            core.election_deadline = float("-inf")  # the next tick holds the election

    def _on_read_probe(self, peer_id: str, probe: pb.ReadProbe) -> None:
        if probe.term > self._core.term:
            self._core.adopt_term(peer_id, probe.term)
        if probe.term == self._core.term:
            reply = pb.ReadProbeReply(term=probe.term, round=probe.round)
            self._send(peer_id, pb.Frame(read_probe_reply=reply))
        else:
            self._guard.answer_stale(peer_id)

    def _on_read_index(self, peer_id: str, number: int) -> None:
        def answer(index: int | None) -> None:
            reply = pb.ReadIndexReply(id=number, ok=index is not None, commit_index=index or 0)
            self._send(peer_id, pb.Frame(read_index_reply=reply))

        if self._core.is_leader:
            self._reads.ask(answer)
        else:
            answer(None)

    # ================================================================== elections and leading

    def _standing(self) -> tuple[int, int]:
        return self._storage.last_term, self._storage.last_index

    def _election_timeout(self) -> float:
        return self._rng.uniform(self._config.election_min_s, self._config.election_max_s)

    def _consider_election(self) -> None:
        """PySyncObj elects when its deadline has passed; let it only when it may, and when it would win."""
        core, now = self._core, self._clock()
        if core.is_leader or core.election_deadline >= now or not self._others:
            return
        if core.election_deadline == float("-inf") and self._up:
            return  # asked, and the majority said yes
        if not self._membership.may_vote() or not self._up:
            core.election_deadline = now + self._election_timeout()
        elif self._guards.prevote:
            core.election_deadline = now + self._rng.uniform(1.0, 2.0) * self._config.heartbeat_s
            self._prevote.begin(term=core.term, standing=self._standing())

    def _watch_leader(self) -> None:
        """Count elections and log them; wake whoever waits for a leader."""
        seen = (self._core.leader_id, self._core.term)
        if seen == self._seen_leader:
            return
        self._seen_leader = seen
        self._notify = True
        self._fail_remote_reads(None)
        if seen[0]:
            self.elections += 1
            _log.info("replication.leader", leader=seen[0], term=seen[1])

    def core_changed_state(self, old: int, new: int) -> None:
        self._state = new
        if new == LEADER:
            self._term_start = self._storage.last_index + 1  # PySyncObj appends its no-op next
            self._guard.acked.clear()
            self._guard.heard.clear()
            self._prevote.cancel()
            self._admitting = False
        if old == LEADER:
            self._reads.fail()
            for peer_id in self._senders.abort():
                if peer_id in self._up:
                    self._core.peer_connected(peer_id)
            if self._guards.fail_pending:
                self._fail_proposals("this peer lost its leadership while the write was in flight")

    def _heartbeat(self) -> None:
        """As often as PySyncObj sends to silent followers."""
        self._senders.keep_alive()
        self._reads.resend(term=self._core.term)

    def _lead(self) -> None:
        core = self._core
        if core.commit_index >= self._term_start:
            if self._reads.pending:
                self._reads.pump(term=core.term, commit_index=core.commit_index)
            self._consider_admission()
        if self._senders.wanting and not self._loaded_index:
            self._spawn(self._load_snapshot())

    def _consider_admission(self) -> None:
        """The first start, and wiped disks that have caught up: propose to admit them."""
        membership = self._membership
        if self._admitting or self._clock() < self._admit_after:
            return
        cluster_id = self._machine.cluster_id()
        if not membership.complete:
            if membership.missing():
                return
            cluster_id = self._config.cluster_id or str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
            admissions = membership.first_admission()
        else:
            caught_up = self._core.commit_index - _CAUGHT_UP
            ready = [peer for peer in membership.unadmitted() if self._guard.acked.get(peer, 0) >= max(caught_up, 1)]
            if not ready:
                return
            admissions = membership.with_disk_of(ready[0])
        self._admitting = True
        _log.info("replication.admitting", cluster_id=cluster_id, admissions=admissions)

        def done() -> None:
            self._admitting = False
            self._admit_after = self._clock() + (0 if self._membership.admitted == admissions else _READMIT_S)

        self._proposals.add(Proposal(self._admission_payload(cluster_id, admissions), None, done))

    # ================================================================== proposals

    def _feed(self) -> bool:
        """Put the next batch into the log; whether there was one."""
        if not self._core.is_leader:
            return False
        batch = self._proposals.next_batch()
        if not batch:
            return False
        began = self._clock()

        def landed(outcome: object, reason: int) -> None:
            self._proposals.landed(batch)
            if reason == SUCCESS:
                if self._observe_commit_s is not None:
                    self._observe_commit_s(self._clock() - began)
                assert isinstance(outcome, list)
                self._after_flush.append(lambda: _answer_all(batch, outcome))
            else:
                self._after_flush.append(
                    lambda: _fail_all(batch, UnknownOutcomeError("another leader's entry took the place of this write"))
                )

        data = pb.Batch(format=BATCH_FORMAT, payloads=[row.payload for row in batch]).SerializeToString()
        self._core.submit(BATCH + data, landed)
        return True

    def _fail_proposals(self, why: str) -> None:
        """Nobody will hear of them from here (S18): in flight means unknown, queued means not done."""
        flying, queued = self._proposals.give_up()
        leader = self._core.leader_id
        if flying:
            error = UnknownOutcomeError(f"{why}: repeat it with the same request id")
            self._after_flush.append(lambda: _fail_all(flying, error))
        if queued:
            refusal = NotLeaderError(f"{why}: nothing was done", leader_id="" if leader == self._peer_id else leader)
            self._after_flush.append(lambda: _fail_all(queued, refusal))

    def core_applies(self, command: bytes) -> object:
        """Apply one entry: the outcomes of its proposals as ``Proposed``."""
        if command[:1] != BATCH:
            return []
        try:
            batch = pb.Batch.FromString(command[1:])
        except Exception:
            _log.critical("replication.undecodable_entry", size=len(command))
            return []
        if batch.format != BATCH_FORMAT:
            raise FutureFormatError(f"a batch of format {batch.format}; this version reads {BATCH_FORMAT}")
        machine = self._machine
        outcomes = []
        for payload in batch.payloads:
            outcome = machine.apply(payload)
            outcomes.append(Proposed(machine.index, outcome))
        self._notify = True
        if self._membership.refresh():
            self._tell_admissions()
        return outcomes

    def _tell_admissions(self) -> None:
        """Peers that have not applied as much learn from us that they are admitted."""
        hello = self.hello()
        for peer_id in self._others:
            if peer_id in self._up:
                self._send(peer_id, pb.Frame(hello=hello))

    # ================================================================== PySyncObj sends

    def core_sends(self, peer_id: str, message: Message) -> None:
        if message["type"] == "append_entries" and "serialized" in message:
            if self._guards.pause_during_dump:
                self._core.peer_disconnected(peer_id)
            return
        frame = self._guard.outgoing(message)
        if frame is not None:
            self._send(peer_id, frame)

    def core_wants_snapshot(self, peer_id: str) -> None:
        if peer_id not in self._senders:
            self._senders.begin(peer_id)

    # ================================================================== snapshots: sending

    async def _load_snapshot(self) -> None:
        self._loaded_index = 1
        try:
            async with self._saving:
                held = await self._run_blocking(self._store.load)
            if held is None or held[0].last_index < self._storage.first_index:
                raise CorruptError("there is no snapshot before the journal's first entry")
            meta, data = held
            snapshot = Snapshot(meta, data, await self._run_blocking(lambda: checksum(data)))
            _log.info("replication.sending_snapshot", last_index=meta.last_index, size=len(data))
            self._senders.provide(snapshot)
        finally:
            self._loaded_index = 0
        self._wake()

    def _snapshot_sent(self, peer_id: str, next_index: int) -> None:
        self.snapshots_sent += 1
        self._senders.end(peer_id)
        self._guard.snapshot_done(peer_id, next_index)
        if peer_id in self._up:
            self._core.peer_connected(peer_id)
        self._core.send_soon()

    # ================================================================== snapshots: receiving

    def _on_chunk(self, peer_id: str, chunk: pb.SnapshotChunk) -> None:
        if not self._guard.snapshot_heartbeat(peer_id, chunk):
            return
        self._leader_contact = self._clock()
        self._prevote.cancel()
        if chunk.last_index and chunk.last_index <= self._core.commit_index:
            reply = pb.AppendReply(term=self._core.term, next_index=self._core.commit_index + 1, success=True)
            self._send(peer_id, pb.Frame(append_reply=reply))
            return
        stated = (chunk.last_index, chunk.last_term)
        last_index, wanted = chunk.last_index, 0
        if self._installing == stated:
            wanted = chunk.total_bytes
        elif self._installing or not chunk.last_index:
            last_index = 0  # only: we are here
        else:
            taken = self._receiver.take(peer_id, chunk)
            if isinstance(taken, tuple):
                wanted, meta, data = taken
                self._installing = stated
                self._spawn(self._install(peer_id, chunk.term, meta, data))
            else:
                wanted = taken
        progress = pb.SnapshotProgress(term=self._core.term, last_index=last_index, next_offset=wanted)
        self._send(peer_id, pb.Frame(snapshot_progress=progress))

    async def _install(self, peer_id: str, term: int, meta: SnapshotMeta, data: bytes) -> None:
        """Make the snapshot durable, then the state, then acknowledge it."""
        try:
            async with self._saving:
                if self._outdated(meta):
                    return
                if not self._guards.check_snapshots:
                    self._hand_over(peer_id, term, meta, data)
                    return
                await self._run_blocking(lambda: self._store.save(meta, data))
                if not self._running or self._core.term != term or self._outdated(meta):
                    return  # it is on disk, and true; the next leader sends what is needed
                try:
                    self._machine.restore(data)
                except CorruptError as error:
                    _log.error("replication.snapshot_refused", leader=peer_id, error=str(error))
                    return
                self._hand_over(peer_id, term, meta, None)
        except OSError as error:
            self._die(EXIT_STORAGE, "replication.disk_failed", error=str(error))
        finally:
            self._installing = None
            self._wake()

    def _outdated(self, meta: SnapshotMeta) -> bool:
        return meta.last_index <= self._core.commit_index

    def _hand_over(self, peer_id: str, term: int, meta: SnapshotMeta, data: bytes | None) -> None:
        self._pending_install = (meta, data)
        self._guard.install(peer_id, term, meta)
        if self.core_takes_snapshot(meta) and self._guards.check_snapshots:
            self._die(EXIT_STORAGE, "replication.broken", error="a snapshot that was restored could not be installed")
        self._pending_install = None

    def core_takes_snapshot(self, chunk: object) -> bool:
        return self._pending_install is not None

    def core_loads_snapshot(self) -> tuple[int, int]:
        assert self._pending_install is not None
        meta, data = self._pending_install
        if data is not None:
            self._machine.restore(data)
        self._storage.install(meta)
        self._pending_install = None
        self.snapshots_installed += 1
        self._notify = True
        if self._guards.fail_pending:
            self._fail_proposals("a snapshot replaced the log while the write was in flight")
        if self._membership.refresh():
            self._tell_admissions()
        _log.info("replication.snapshot_installed", last_index=meta.last_index, index=meta.index)
        return meta.last_index, meta.last_term

    # ================================================================== snapshots: taking

    def _consider_compaction(self) -> None:
        if self._compacting or self._installing:
            return
        storage, config = self._storage, self._config
        done = storage.snapshot.last_index if storage.snapshot is not None else 1
        applied = self._core.applied_index
        if applied <= done:
            return
        if applied - done < config.compact_entries and storage.bytes_since_snapshot < config.compact_bytes:
            return
        term = storage.term_at(applied)
        if term is None:
            return
        self._compacting = True
        meta = SnapshotMeta(last_index=applied, last_term=term, index=self._machine.index)
        self._spawn(self._compact(meta, self._machine.capture()))

    async def _compact(self, meta: SnapshotMeta, encode: Callable[[], bytes]) -> None:
        try:
            async with self._saving:
                newest = self._storage.snapshot
                if newest is not None and newest.last_index >= meta.last_index:
                    return
                await self._run_blocking(lambda: self._store.save(meta, encode()))
                if not self._running:
                    return
                self.snapshots_saved += 1
                self._storage.saved(meta, tail_entries=self._config.tail_entries, tail_bytes=self._config.tail_bytes)
        except OSError as error:
            self._die(EXIT_STORAGE, "replication.disk_failed", error=str(error))
        finally:
            self._compacting = False
            self._wake()

    # ================================================================== the network calls

    def hello(self) -> pb.Hello:
        return pb.Hello(
            cluster_id=self._machine.cluster_id(), peer_id=self._peer_id, incarnation=self._incarnation,
            epoch=self._config.epoch, feature_level=self._config.feature_level, peers=list(self._peers),
            term=self._core.term, admitted=self._membership.admitted,
        )  # fmt: skip

    def judge(self, hello: pb.Hello) -> str:
        return greeting_problem(self.hello(), hello, proven_id=None)

    def refused(self, peer_id: str, reason: str) -> None:
        if self.refusals.get(peer_id) != reason:
            self.refusals[peer_id] = reason
            _log.error("replication.refused", peer=peer_id, reason=reason)
            if self._on_refused is not None:
                self._on_refused(peer_id, reason)

    def peer_up(self, peer_id: str, hello: pb.Hello) -> None:
        self._met(peer_id, hello)
        self._up.add(peer_id)
        self._core.peer_connected(peer_id)
        if self._core.is_leader:
            self._core.send_soon()
        self._notify = True
        self._wake()

    def peer_down(self, peer_id: str) -> None:
        self._up.discard(peer_id)
        self._core.peer_disconnected(peer_id)
        self._senders.end(peer_id)
        self._fail_remote_reads(peer_id)
        self._lost(peer_id)

    def session_began(self, peer_id: str, hello: pb.Hello, *, cert_expires_ms: int) -> None:
        # What the session before has left in the inbox is of the old disk, or may be.
        self._inbox = [row for row in self._inbox if row[0] != peer_id]
        self._met(peer_id, hello)
        self._sessions.add(peer_id)
        self._cert_expires[peer_id] = cert_expires_ms
        self._heard_from[peer_id] = self._clock()
        self._wake()

    def session_ended(self, peer_id: str) -> None:
        self._sessions.discard(peer_id)
        self._lost(peer_id)

    def received(self, peer_id: str, frame: pb.Frame) -> None:
        if self._running:
            self._inbox.append((peer_id, frame))
            self._wake()

    def _met(self, peer_id: str, hello: pb.Hello) -> None:
        self.refusals.pop(peer_id, None)
        if self._membership.learn(hello):
            _log.warning("replication.disk_changed", peer=peer_id, incarnation=hello.incarnation)
            if self._guards.disk_incarnations:
                self._core.forget_match(peer_id)
            self._guard.acked.pop(peer_id, None)
        if not self._membership.complete and not self._membership.missing() and not self._core.is_leader:
            # Everybody is here for the first start: no reason to wait long.
            soon = self._clock() + self._rng.uniform(0, self._config.leader_lost_s)
            self._core.election_deadline = min(self._core.election_deadline, soon)

    def _lost(self, peer_id: str) -> None:
        """A stream broke. If it was the leader's, it probably died: ask soon whether the others think so too."""
        if not self._running:
            return
        core = self._core
        if peer_id == core.leader_id and not core.is_leader and self._guards.prevote:
            self._leader_contact = float("-inf")
            soon = self._clock() + self._rng.uniform(0, self._config.leader_lost_s)
            core.election_deadline = min(core.election_deadline, soon)
        self._wake()

    # ================================================================== what others see

    def is_leader(self) -> bool:
        return self._leading

    @property
    def leader_id(self) -> str:
        return self._core.leader_id if self._running else ""

    @property
    def term(self) -> int:
        return self._core.term

    def match_index(self, peer_id: str) -> int:
        """The last entry that this leader counts as stored at the peer."""
        return self._core.match_index(peer_id)

    @property
    def role(self) -> Role:
        if self._core.is_leader:
            return Role.LEADER
        if not self._membership.may_vote():
            return Role.JOINING
        return Role.CANDIDATE if self._state == CANDIDATE else Role.FOLLOWER

    def status(self) -> LogStatus:
        core, membership, now = self._core, self._membership, self._clock()
        rows = []
        for peer_id, address in self._peers.items():
            me = peer_id == self._peer_id
            voter = membership.may_vote() if me else membership.complete and membership.counts(peer_id)
            hello = membership.hellos.get(peer_id)
            heard = self._heard_from.get(peer_id)
            incarnation = self._incarnation if me else (hello.incarnation if hello is not None else "")
            match = self._storage.last_index if me else self._guard.acked.get(peer_id, 0) if core.is_leader else 0
            rows.append(PeerProgress(
                peer_id=peer_id, address=address, connected=me or peer_id in self._up,
                voter=voter, incarnation=incarnation, match_index=match,
                last_contact_ms=0 if me else -1 if heard is None else int((now - heard) * 1000),
                feature_level=self._config.feature_level if me else hello.feature_level if hello is not None else 0,
                cert_expires_ms=self._cert_expires.get(peer_id, 0),
            ))  # fmt: skip
        return LogStatus(
            cluster_id=self._machine.cluster_id(), peer_id=self._peer_id, role=self.role, term=core.term,
            leader_id=self.leader_id, commit_index=core.commit_index, applied_index=core.applied_index,
            first_index=self._storage.first_index, index=self._machine.index, last_quorum_ms=self._last_quorum_ms(now),
            elections=self.elections, peers=tuple(rows),
        )  # fmt: skip

    def _last_quorum_ms(self, now: float) -> int:
        if not self._core.is_leader:
            return -1 if self._leader_contact == float("-inf") else int((now - self._leader_contact) * 1000)
        needed = len(self._peers) // 2  # beside ourselves
        if not needed:
            return 0
        counted = (self._guard.heard.get(peer, float("-inf")) for peer in self._others if self._membership.counts(peer))
        heard = sorted(counted, reverse=True)
        if len(heard) < needed or heard[needed - 1] == float("-inf"):
            return -1
        silent = now - heard[needed - 1]
        return 0 if silent < 2 * self._config.heartbeat_s else int(silent * 1000)

    async def propose(self, payload: bytes, *, timeout_s: float = 10.0) -> Proposed:
        check_proposal(payload)
        self._require_running()
        core = self._core
        if not core.is_leader:
            leader = core.leader_id
            if not leader:
                raise NoLeaderError("no leader is known here: a majority of the peers must reach each other first")
            raise NotLeaderError(f"peer {leader} leads, not {self._peer_id}", leader_id=leader)
        if not self._membership.complete:
            raise NoLeaderError("the first start is not complete yet: the peers have not agreed on their disks")
        future: asyncio.Future[Proposed] = self._loop.create_future()
        proposal = Proposal(payload, future)
        self._proposals.add(proposal)
        self._wake()
        timer = self._loop.call_later(timeout_s, self._expire, proposal)
        try:
            return await future
        except asyncio.CancelledError:
            self._proposals.withdraw(proposal)
            raise
        finally:
            timer.cancel()

    def _expire(self, proposal: Proposal) -> None:
        error: RaftsmanError
        if self._proposals.withdraw(proposal):
            error = OverloadedError("the write waited for its turn too long: nothing was done", retry_after_ms=500)
        else:
            error = UnknownOutcomeError("the write is in flight and no majority has confirmed it in time")
        if proposal.future is not None:
            _fail(proposal.future, error)

    async def read_barrier(self, *, timeout_s: float = 5.0) -> int:
        deadline = self._clock() + timeout_s
        while True:
            self._require_running()
            index = await self._read_index(deadline)
            if index is not None:
                break
            left = deadline - self._clock()
            if left <= 0:
                raise NoLeaderError(f"no leader with a majority could be asked within {timeout_s} s")
            seen = self._seen_leader
            await self._wait(lambda seen=seen: self._seen_leader != seen, min(left, self._config.heartbeat_s))  # type: ignore[misc]
        if not await self._wait(lambda: self._core.applied_index >= index, deadline - self._clock()):
            raise NoLeaderError(f"this peer could not catch up with the leader within {timeout_s} s")
        return self._machine.index

    async def confirm_leadership(self, *, timeout_s: float = 5.0) -> None:
        self._require_running()
        if self._core.is_leader:
            future: asyncio.Future[int | None] = self._loop.create_future()
            self._reads.ask(lambda index: self._resolve_later(future, index))
            self._wake()
            if await self._within(future, timeout_s) is not None:
                return
        leader = self._core.leader_id
        raise NotLeaderError("this peer does not lead", leader_id="" if leader == self._peer_id else leader)

    async def _read_index(self, deadline: float) -> int | None:
        """The commit index that a leader with a majority knows now; None if that cannot be said yet."""
        left = deadline - self._clock()
        future: asyncio.Future[int | None] = self._loop.create_future()
        leader = self._core.leader_id
        if self._core.is_leader:
            self._reads.ask(lambda index: self._resolve_later(future, index))
            self._wake()
            return await self._within(future, left)
        if not leader or leader not in self._up:
            return None
        self._read_ids += 1
        number = self._read_ids
        self._remote_reads[number] = (leader, future)
        self._send(leader, pb.Frame(read_index_request=pb.ReadIndexRequest(id=number)))
        self._wake()
        try:
            return await self._within(future, min(left, self._config.election_max_s))
        finally:
            self._remote_reads.pop(number, None)

    def _resolve_later(self, future: asyncio.Future[int | None], index: int | None) -> None:
        self._after_flush.append(lambda: _resolve(future, index))
        self._wake()

    def _fail_remote_reads(self, peer_id: str | None) -> None:
        """Whoever asked a leader that is gone asks again."""
        for number in [n for n, row in self._remote_reads.items() if peer_id is None or row[0] == peer_id]:
            _, future = self._remote_reads.pop(number)
            self._resolve_later(future, None)

    async def changed(self, *, after: int) -> int:
        if self._machine.index <= after:
            self._require_running()
            await self._wait(lambda: self._machine.index > after, None)
        return self._machine.index

    async def leadership_changed(self, *, was: bool) -> bool:
        if self._leading == was:
            self._require_running()
            await self._wait(lambda: self._leading != was, None)
        return self._leading

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        number = self._next_listener
        self._next_listener += 1
        self._listeners[number] = listener

        def unsubscribe() -> None:
            self._listeners.pop(number, None)

        return unsubscribe

    # ================================================================== waiting

    def _require_running(self) -> None:
        if not self._running:
            raise NoLeaderError("the log of this peer is not running")

    async def _wait(self, condition: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait until the condition holds after some turn; whether it does."""
        if condition():
            return True
        future: asyncio.Future[None] = self._loop.create_future()
        row = (condition, future)
        self._waiters.append(row)
        try:
            if timeout_s is None:
                await future
            else:
                await self._within(future, timeout_s)
        finally:
            if row in self._waiters:
                self._waiters.remove(row)
        return condition()

    async def _within(self, future: asyncio.Future[T], timeout_s: float) -> T | None:
        """The future's result, or None if it has none in time."""
        await asyncio.wait((future,), timeout=max(timeout_s, 0.0))
        if future.done():
            return future.result()
        future.cancel()
        return None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def watched() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._die(EXIT_STORAGE, "replication.broken", error=repr(error), exc_info=error)

        task = self._loop.create_task(watched())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _says_as_well(frame: pb.Frame, before: pb.Frame) -> bool:
    """Whether ``frame`` makes the frame queued right before it unnecessary."""
    if before.HasField("append") and frame.HasField("append"):
        old, new = before.append, frame.append
        return not old.entries and old.term == new.term and old.prev_index == new.prev_index
    if before.HasField("append_reply") and frame.HasField("append_reply"):
        first, second = before.append_reply, frame.append_reply
        return (
            first.success and second.success and not first.reset and first.term == second.term
            and first.next_index <= second.next_index
        )  # fmt: skip
    return False


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: RaftsmanError) -> None:
    if not future.done():
        future.set_exception(error)


def _answer_all(batch: Sequence[Proposal], outcomes: Sequence[Proposed]) -> None:
    for proposal, outcome in zip(batch, outcomes, strict=True):
        if proposal.future is not None:
            _resolve(proposal.future, outcome)
        if proposal.done is not None:
            proposal.done()


def _fail_all(batch: Sequence[Proposal], error: RaftsmanError) -> None:
    for proposal in batch:
        if proposal.future is not None:
            _fail(proposal.future, error)
        if proposal.done is not None:
            proposal.done()
