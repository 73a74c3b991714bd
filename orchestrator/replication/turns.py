"""``EngineRoom``: the turn, in which everything happens. ``engine.EngineLog`` is its deck: what callers see.

Owns: the order of a turn. Whatever happens (a frame, a proposal, a deadline) asks for one turn of the loop; a turn
handles what came, lets PySyncObj tick, flushes the journal once, and only then lets frames and answers leave. Leaves to
others: what PySyncObj may see (``guard``), elections, whose disk counts (``membership``), ``contacts``, reads, batches
(``proposals``), snapshots (``compaction``), sessions (a ``Network``) and bytes on disk (``Journal``,
``SnapshotStore``). The one rule: nothing leaves before the flush that it depends on; if that fails, the process ends.

A leader's new entries do not depend on its own flush (Ongaro's thesis, 10.2.1): they go ahead of it, so that the
followers' disks work beside its own. It may count itself among those who have them only afterwards, so no turn begins
in between (``_finish``).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from orchestrator.contract.errors import (
    NoLeaderError,
    NotLeaderError,
    StartupError,
    UnknownOutcomeError,
)
from orchestrator.replication import batches
from orchestrator.replication.compaction import SnapshotKeeper, share_of
from orchestrator.replication.contacts import Contacts
from orchestrator.replication.elections import Elections
from orchestrator.replication.guard import Guard
from orchestrator.replication.link import Network, greeting_problem
from orchestrator.replication.log import (
    FutureFormatError,
    Journal,
    Proposed,
    SnapshotMeta,
    SnapshotStore,
    StateMachine,
)
from orchestrator.replication.membership import Admissions, Membership
from orchestrator.replication.outbox import Outbox
from orchestrator.replication.proposals import Proposals, answer_all, fail_all
from orchestrator.replication.pysync import FOLLOWER, LEADER, SUCCESS, Message, RaftCore
from orchestrator.replication.reads import Reads, RemoteReads
from orchestrator.replication.settings import EngineConfig, Guards
from orchestrator.replication.storage import RaftStorage
from orchestrator.replication.v1 import peer_pb2 as pb
from orchestrator.replication.waiting import Waiting, resolve
from orchestrator.state.features import PACKED_ENTRIES

_log = structlog.get_logger("raftsman.replication")

EXIT_STORAGE = 70
"""Exit status of a process whose disk failed or whose log is broken (DESIGN.md: it never runs on)."""
EXIT_FUTURE_FORMAT = 71
"""Exit status of a process that found a command of a newer format in the log."""

AHEAD_PROPOSALS = 4
"""An entry of more proposals than this does not go ahead of its flush: with so many callers processors are what is
short, and what comes in meanwhile makes the next entry larger, which costs less for each."""
_ENTRY_SLACK = 64 * 1024  # batch framing, so that no entry reaches PySyncObj's own batch size (S8)
NOT_RUNNING = "the log of this peer is not running"
SEALED = "the peers of the cluster are just being changed"
VOID = "a change of the peers came first and made this write void: nothing was done, repeat it with the same request id"


@dataclass(frozen=True, slots=True)
class Seal:
    """The end of an epoch: the state behind its last command."""

    meta: SnapshotMeta  # of the next epoch
    at: float  # on the engine's clock


def apply_entry(machine: StateMachine, command: bytes, *, epoch: int) -> list[Proposed]:
    """Apply one committed entry of that epoch's log; the outcomes of its proposals, none if it carries no batch.

    A proposal that begins the next epoch is the last one that counts: whatever stands behind it, in its entry or later,
    has no outcome. Raises ``FutureFormatError``.
    """
    if machine.epoch() > epoch:
        return []
    outcomes = []
    for payload in batches.decode(command):
        outcome = machine.apply(payload)
        outcomes.append(Proposed(machine.index, outcome))
        if machine.epoch() > epoch:
            break
    return outcomes


class EngineRoom:
    """Everything of ``EngineLog`` but its public methods; ``EngineLog`` says what the arguments mean."""

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
        refused: Callable[[str, str, pb.Hello | None], None] | None = None,
        sealed: Callable[[], None] | None = None,
        waiting: Waiting | None = None,
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
        self._on_sealed = sealed
        self._exit_process = exit_process
        self._run_blocking = run_blocking

        self.elections = 0  # leaders seen by this process
        self.snapshots_sent = 0

        self._loop: asyncio.AbstractEventLoop
        self._running = self._stopped = False
        self._turn_due = self._in_turn = False
        self._flush_due = False  # within a turn: its entries went ahead, the rest follows
        self._turn_began = 0.0
        self._strict = False  # nothing of this turn may go ahead of its flush
        self._flushed_term = -1  # the journal's, as of its last flush
        self._notice_due = False  # the others were not told yet what is committed
        self._beats = False  # this tick sends to everybody, whether there is news or not
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbox: list[tuple[str, pb.Frame]] = []
        self._outbox = Outbox()
        self._answers: list[Callable[[], None]] = []  # after the flush
        self._notify = False
        self._contacts = Contacts(clock=self._clock, epoch=self._config.epoch)
        self._seen_leader = ("", 0)
        self._state = FOLLOWER
        self._term_start = 0  # while leading: index of the first entry of our term
        self._leading = False
        self.seal: Seal | None = None  # nothing is applied any more
        self._owns_waiting = waiting is None
        self._waiting = waiting if waiting is not None else Waiting()
        self._reads = Reads(others=self._others, send=self._outbox.send)
        self._remote_reads = RemoteReads(send=self._outbox.send)
        self._proposals = Proposals(
            max_count=self._config.max_queue_count,
            max_bytes=self._config.max_queue_bytes,
            batch_bytes=self._config.gather_bytes,
            rng=self._rng,
        )
        # Built by ``start``, when it is known what is stored.
        self._core: RaftCore
        self._storage: RaftStorage
        self._guard: Guard
        self._membership: Membership
        self._admissions: Admissions
        self._elections: Elections
        self._snapshots: SnapshotKeeper

    # ================================================================== life

    def _build(self, snapshot: SnapshotMeta | None) -> None:
        config, guards, send = self._config, self._guards, self._outbox.send
        self._storage = RaftStorage(
            self._journal, snapshot, protected=guards.keep_matching_entries, weight=batches.weight
        )
        self._membership = Membership(
            peer_id=self._peer_id, others=self._others, machine=self._machine, incarnation=self._incarnation,
            fresh=self._fresh or self._journal.term == 0, enforced=guards.disk_incarnations,
        )  # fmt: skip
        self._admissions = Admissions(
            membership=self._membership, machine=self._machine, payload=self._admission_payload,
            cluster_id=config.cluster_id, clock=self._clock, rng=self._rng,
        )  # fmt: skip
        self._core = RaftCore(
            peer_id=self._peer_id, others=self._others, owner=self, storage=self._storage,
            applied_index=snapshot.last_index if snapshot is not None else 1,
            election_s=(config.election_min_s, config.election_max_s), heartbeat_s=config.heartbeat_s,
            fallback_s=config.election_max_s if guards.short_fallback else 30.0,
            batch_bytes=config.batch_bytes + _ENTRY_SLACK, clock=self._clock, rng=self._rng,
        )  # fmt: skip
        self._guard = Guard(
            core=self._core, storage=self._storage, membership=self._membership, guards=guards, send=send,
            clock=self._clock, heartbeat_s=config.heartbeat_s,
        )  # fmt: skip
        self._elections = Elections(
            peer_id=self._peer_id, others=self._others, core=self._core, storage=self._storage,
            membership=self._membership, config=config, prevote=guards.prevote, send=send,
            reachable=lambda: bool(self._contacts.up), clock=self._clock, rng=self._rng,
        )  # fmt: skip
        self._snapshots = SnapshotKeeper(
            host=self, core=self._core, storage=self._storage, guard=self._guard, machine=self._machine,
            store=self._store, config=config, check=guards.check_snapshots, keep_log=guards.keep_log_over_snapshot,
            send=send, clock=self._clock, share=share_of(self._peer_id, list(self._peers)),
        )  # fmt: skip

    @property
    def running(self) -> bool:
        """Between ``start`` and ``stop`` (or the end of the process)."""
        return self._running

    @property
    def serving(self) -> bool:
        """Running, and the log is not sealed."""
        return self._running and self.seal is None

    def kill(self) -> None:
        """Stop at once, as a crash would: nothing is flushed, sent or answered any more. For the simulator."""
        self._stopped = True
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()

    def _die(self, code: int, event: str, error: Exception | str) -> None:
        """End the process: what is in memory is not what is on disk, or must not be."""
        self._running = False
        self._answers.clear()
        info = error if isinstance(error, Exception) and not isinstance(error, OSError) else None
        _log.critical(event, exit_status=code, error=str(error), exc_info=info)
        self._exit_process(code)

    def broken(self, error: Exception | str) -> None:
        self._die(EXIT_STORAGE, "replication.broken", error)

    def _require_running(self) -> None:
        if not self._running:
            raise NoLeaderError(NOT_RUNNING)
        if self.seal is not None:
            raise NoLeaderError(SEALED)

    # ================================================================== the turn

    def wake(self) -> None:
        """Ask for a turn."""
        if self._turn_due or not self._running:
            return
        if not self._in_turn:
            self._turn_due = True
            self._loop.call_soon(self._turn)
        elif self._flush_due:
            self._turn_due = True  # right behind the flush

    def _turn(self) -> None:
        if self._in_turn:
            return
        self._turn_due = False
        if not self._running:
            return
        self._in_turn = True
        self._turn_began = self._clock()
        if not self._survives(self._work):
            self._in_turn = False
            return
        if self._go_ahead():
            self._flush_due = True
            # The writers of the streams to the others run first, since they were woken first.
            self._loop.call_soon(self._finish)
        else:
            self._finish()

    def _finish(self) -> None:
        """The flush, and what waited for it."""
        self._flush_due = False
        if not self._running or not self._survives(self._journal.flush):
            self._in_turn = False
            return
        self._in_turn = self._strict = False
        self._flushed_term = self._journal.term
        self._release()
        self._elections.was_busy(self._turn_began)
        self._arm()
        if self._turn_due:
            self._loop.call_soon(self._turn)

    def _survives(self, step: Callable[[], None]) -> bool:
        """Do one step of a turn; False if this process has ended, which it does when the step fails."""
        try:
            step()
        except FutureFormatError as error:
            self._die(EXIT_FUTURE_FORMAT, "replication.newer_command_format", error)
        except OSError as error:
            self._die(EXIT_STORAGE, "replication.disk_failed", error)
        except Exception as error:
            self.broken(error)
        return self.running

    def _go_ahead(self) -> bool:
        """While leading: send the new entries now, which are about to be flushed; whether there were any.

        Only what is in the term that the journal already has: nobody may hear of one that could be forgotten.
        """
        if not self._core.is_leader or self._strict or not self._journal.dirty or self._flushed_term != self._core.term:
            return False
        ahead = self._outbox.take_entries()
        for peer_id, frames in ahead.items():
            if peer_id in self._contacts.up:
                self._network.send(peer_id, frames)
        return bool(ahead)

    def _work(self) -> None:
        core = self._core
        while self._inbox:
            inbox, self._inbox = self._inbox, []
            for peer_id, frame in inbox:
                self._dispatch(peer_id, frame)
        if self.seal is None:
            self._elections.consider()
        while True:
            heartbeat = self._beats = core.is_leader and self._clock() > core.heartbeat_due
            core.tick()
            if heartbeat:
                self._notice_due = False
            self._watch_leader()
            if self.seal is not None:
                self._close()
                return
            if core.is_leader:
                self._lead(heartbeat)
                if self._notice_due:
                    core.send_by(self._clock() + self._config.notice_s)
            if self._others or not core.is_leader or core.commit_index == self._storage.last_index:
                break  # alone, an entry is committed by the next tick
        self._elections.applied()
        self._snapshots.consider()
        leading = core.is_leader and self._membership.complete and core.commit_index >= self._term_start
        if leading != self._leading:
            self._leading = leading
            if not leading:
                self._elections.majority_seen = self._clock()  # within the time that a leader believes without acks
                self._elections.whole_at = max(self._elections.whole_at, self._majority_answered())
            self._notify = True
            _log.info("replication.leading" if leading else "replication.not_leading", term=core.term)

    def _close(self) -> None:
        """The log is sealed. PySyncObj still tells the others what is committed; callers are sent elsewhere."""
        self._core.election_deadline = float("inf")
        self._reads.fail()
        self._fail_remote_reads()
        self._fail_proposals(SEALED)
        if self._leading:
            self._leading = False
            self._notify = True

    def _majority_answered(self) -> float:
        """While leading: when the last of a majority answered in our term; -inf if not yet, now if we are alone."""
        needed = len(self._peers) // 2  # beside ourselves
        if not needed:
            return self._clock()
        counted = (self._guard.heard.get(peer, float("-inf")) for peer in self._others if self._membership.counts(peer))
        answered = sorted(counted, reverse=True)
        return answered[needed - 1] if len(answered) >= needed else float("-inf")

    def _release(self) -> None:
        """Everything that waited for the flush."""
        for peer_id, frames in self._outbox.take().items():
            if peer_id in self._contacts.up:
                self._network.send(peer_id, frames)
        self._answer()
        if self._notify:
            self._notify = False
            self._waiting.notify()
        self._waiting.look()
        if self.seal is not None and self._on_sealed is not None:
            told, self._on_sealed = self._on_sealed, None
            told()

    def _answer(self) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            answer()

    def _arm(self) -> None:
        """Sleep until the next deadline. It moves with every message, nearly always away: the timer stays, and looks
        again when it rings."""
        due = float("inf")
        if self._running and (self._others or not self._core.is_leader):
            due = self._core.heartbeat_due if self._core.is_leader else self._core.election_deadline
        if self._timer is not None:
            if self._timer_at <= due < float("inf"):
                return
            self._timer.cancel()
            self._timer = None
        if due != float("inf"):
            self._timer_at = due
            # PySyncObj compares strictly, so wake a moment later.
            self._timer = self._loop.call_later(max(0.0, due - self._clock()) + 0.0005, self._ring)

    def _ring(self) -> None:
        self._timer = None
        due = self._core.heartbeat_due if self._core.is_leader else self._core.election_deadline
        if self._in_turn or due >= self._clock():
            self._arm()
        else:
            self._turn()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task; what it raises ends the process."""

        async def watched() -> None:
            try:
                await work
            except OSError as error:
                self._die(EXIT_STORAGE, "replication.disk_failed", error)
            except Exception as error:
                self.broken(error)

        task = self._loop.create_task(watched())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # a task that is cancelled before it began never awaits it

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        return await self._run_blocking(work)

    # ================================================================== frames

    def _dispatch(self, peer_id: str, frame: pb.Frame) -> None:
        kind = frame.WhichOneof("kind")
        core, guard = self._core, self._guard
        self._contacts.heard(peer_id)
        if self.seal is not None and kind not in ("append", "append_reply"):
            return
        if kind == "append":
            if guard.append(peer_id, frame.append):
                self._elections.leader_heard(frame.append.commit_index)
        elif kind == "append_reply":
            self._on_append_reply(peer_id, frame.append_reply)
        elif kind == "vote_request":
            guard.vote_request(peer_id, frame.vote_request)
        elif kind == "vote_reply":
            guard.vote_reply(peer_id, frame.vote_reply)
        elif kind == "prevote_request":
            self._elections.request(peer_id, frame.prevote_request)
        elif kind == "prevote_reply":
            self._elections.reply(peer_id, frame.prevote_reply)
        elif kind == "stale_term":
            guard.stale_term(peer_id, frame.stale_term.term)
        elif kind == "snapshot_chunk":
            if guard.snapshot_heartbeat(peer_id, frame.snapshot_chunk):
                self._elections.leader_heard(frame.snapshot_chunk.commit_index)
                self._snapshots.chunk(peer_id, frame.snapshot_chunk)
        elif kind == "snapshot_progress":
            if core.is_leader and guard.still_there(peer_id, frame.snapshot_progress.term):
                self._snapshots.senders.progress(peer_id, frame.snapshot_progress)
        elif kind == "read_probe":
            self._on_read_probe(peer_id, frame.read_probe)
        elif kind == "read_probe_reply":
            answer = frame.read_probe_reply
            if core.is_leader and guard.still_there(peer_id, answer.term) and self._membership.counts(peer_id):
                self._reads.reply(peer_id, answer)
        elif kind == "read_index_request":
            self._on_read_index(peer_id, frame.read_index_request.id)
        elif kind == "read_index_reply":
            answered = self._remote_reads.answered(frame.read_index_reply)
            if answered is not None:
                self._resolve_later(*answered)
        elif kind == "hello":
            self._membership.learn_again(peer_id, frame.hello)
        else:
            _log.error("replication.unknown_frame", peer=peer_id)

    def _on_append_reply(self, peer_id: str, reply: pb.AppendReply) -> None:
        ours = self._guard.append_reply(peer_id, reply)
        senders = self._snapshots.senders
        if ours and reply.success and senders.delivered(peer_id, reply.next_index, self._storage.first_index):
            self.snapshots_sent += 1
            senders.end(peer_id)
            self._guard.snapshot_done(peer_id, reply.next_index)
            if peer_id in self._contacts.up:
                self._core.peer_connected(peer_id)
            self._core.send_soon()

    def _on_read_probe(self, peer_id: str, probe: pb.ReadProbe) -> None:
        if probe.term > self._core.term:
            self._core.adopt_term(peer_id, probe.term)
        if probe.term == self._core.term:
            reply = pb.ReadProbeReply(term=probe.term, round=probe.round)
            self._outbox.send(peer_id, pb.Frame(read_probe_reply=reply))
        else:
            self._guard.answer_stale(peer_id)

    def _on_read_index(self, peer_id: str, number: int) -> None:
        def answer(index: int | None) -> None:
            reply = pb.ReadIndexReply(id=number, ok=index is not None, commit_index=index or 0)
            self._outbox.send(peer_id, pb.Frame(read_index_reply=reply))
            if self._notice_due:
                self._core.send_soon()  # it waits to hear that this much is committed

        if self._core.is_leader:
            self._reads.ask(answer)
        else:
            answer(None)

    # ================================================================== leading

    def _watch_leader(self) -> None:
        """Count elections and log them; whoever asked the leader before asks again."""
        seen = (self._core.leader_id, self._core.term)
        if seen == self._seen_leader:
            return
        self._seen_leader = seen
        self._notify = True
        self._fail_remote_reads()
        if seen[0]:
            self.elections += 1
            _log.info("replication.leader", leader=seen[0], term=seen[1])

    def _lead(self, heartbeat: bool) -> None:
        core = self._core
        if heartbeat:  # as often as PySyncObj sends to silent followers
            self._snapshots.senders.keep_alive()
            self._reads.resend(term=core.term)
        if core.commit_index >= self._term_start:
            if self._reads.pending:
                self._reads.pump(term=core.term, commit_index=core.commit_index)
            admission = self._admissions.due(commit_index=core.commit_index, acked=self._guard.acked)
            if admission is not None:
                self._proposals.add_first(admission)
        self._snapshots.provide()
        self._feed()

    def _feed(self) -> None:
        """Put the next batch into the log, if none is in flight."""
        batch = self._proposals.next_batch()
        if not batch:
            return
        began = self._clock()

        def landed(outcomes: object, reason: int) -> None:
            self._proposals.landed(batch)
            if reason == SUCCESS and isinstance(outcomes, list):
                if self._observe_commit_s is not None:
                    self._observe_commit_s(self._clock() - began)
                applied, void = batch[: len(outcomes)], batch[len(outcomes) :]
                self._answers.append(lambda: answer_all(applied, outcomes))
                if void:
                    self._answers.append(lambda: fail_all(void, NotLeaderError(VOID)))
            else:
                error = UnknownOutcomeError("another leader's entry took the place of this write")
                self._answers.append(lambda: fail_all(batch, error))

        self._notice_due = False  # the entry says what is committed
        self._strict = self._strict or len(batch) > AHEAD_PROPOSALS
        pack_from = self._config.pack_bytes if self._machine.feature_level() >= PACKED_ENTRIES else None
        self._core.submit(batches.encode([row.payload for row in batch], pack_from=pack_from), landed)

    def _fail_proposals(self, why: str) -> None:
        """Nobody will hear of them from here (S18): in flight means unknown, queued means not done.

        Behind a seal nothing happens any more, wherever it is stored.
        """
        flying, queued = self._proposals.give_up()
        leader = self._core.leader_id
        if flying and self.seal is not None:
            self._answers.append(lambda: fail_all(flying, NotLeaderError(VOID)))
        elif flying:
            unknown = UnknownOutcomeError(f"{why}: repeat it with the same request id")
            self._answers.append(lambda: fail_all(flying, unknown))
        if queued:
            refusal = NotLeaderError(f"{why}: nothing was done", leader_id="" if leader == self._peer_id else leader)
            self._answers.append(lambda: fail_all(queued, refusal))

    # ================================================================== PySyncObj calls

    def core_sends(self, peer_id: str, message: Message) -> None:
        if message["type"] == "append_entries" and "serialized" in message:
            if self._guards.pause_during_dump:
                self._core.peer_disconnected(peer_id)
            return
        if self._can_wait(message):
            self._notice_due = True
            return
        frame = self._guard.outgoing(message)
        if frame is not None:
            self._outbox.send(peer_id, frame)

    def _can_wait(self, message: Message) -> bool:
        """Whether it only says what has been committed since the last one: that can ride on the next entry, which is
        probably near, and spares every peer a message for every write."""
        return (
            message["type"] == "append_entries"
            and not message["entries"]
            and not self._beats
            and self.seal is None
            and self._config.notice_s > 0
        )

    def core_applies(self, command: bytes) -> list[Proposed]:
        """Apply one entry: the outcomes of its proposals."""
        outcomes = apply_entry(self._machine, command, epoch=self._config.epoch)
        if not outcomes:
            return outcomes
        self._notify = True
        if self._machine.epoch() > self._config.epoch:
            self._seal()  # the peers that count here are still this epoch's
        elif self._membership.refresh():
            # A disk counts from now on, and without it there may be no majority to learn this from again.
            self._journal.keep_commit_hint()
            self._strict = True
            self._tell_admissions()
        return outcomes

    def _seal(self) -> None:
        """The entry that is being applied is the last one of this epoch."""
        index = self._core.applied_index + 1  # PySyncObj counts it when we return
        term = self._storage.term_at(index)
        if term is None or self._machine.epoch() != self._config.epoch + 1:
            raise AssertionError(f"epoch {self._config.epoch} ends at entry {index} with {self._machine.epoch()}")
        meta = SnapshotMeta(last_index=index, last_term=term, index=self._machine.index, epoch=self._machine.epoch())
        self.seal = Seal(meta, self._clock())
        _log.info("replication.sealed", epoch=self._config.epoch, entry=index, index=meta.index)

    def core_changed_state(self, old: int, new: int) -> None:
        self._state = new
        if new == LEADER:
            self._term_start = self._storage.last_index + 1  # PySyncObj appends its no-op next
            self._guard.elected()
            self._elections.leads()
            self._admissions.elected()
        if old == LEADER:
            self._reads.fail()
            for peer_id in self._snapshots.senders.abort():
                if peer_id in self._contacts.up:
                    self._core.peer_connected(peer_id)
            if self._guards.fail_pending:
                self._fail_proposals("this peer lost its leadership while the write was in flight")

    def core_wants_snapshot(self, peer_id: str) -> None:
        self._snapshots.wanted_by(peer_id)

    def core_takes_snapshot(self, chunk: object) -> bool:
        return self._snapshots.taken()

    def core_loads_snapshot(self) -> tuple[int, int]:
        return self._snapshots.load()

    def replaced(self, meta: SnapshotMeta) -> None:
        """A snapshot took the place of log and state."""
        self._notify = True
        if self._guards.fail_pending:
            self._fail_proposals("a snapshot replaced the log while the write was in flight")
        if self._membership.refresh():
            self._tell_admissions()

    def _tell_admissions(self) -> None:
        """Peers that have not applied as much learn from us that they are admitted."""
        hello = self.hello()
        for peer_id in self._others:
            if peer_id in self._contacts.up:
                self._outbox.send(peer_id, pb.Frame(hello=hello))

    # ================================================================== the network calls

    def hello(self) -> pb.Hello:
        return pb.Hello(
            cluster_id=self._machine.cluster_id(), peer_id=self._peer_id, incarnation=self._incarnation,
            epoch=self._config.epoch, feature_level=self._config.feature_level, peers=list(self._peers),
            term=self._core.term, admitted=self._membership.admitted, addresses=self._peers,
            address=self._peers[self._peer_id],
        )  # fmt: skip

    def judge(self, hello: pb.Hello) -> str:
        level = self._machine.feature_level()
        problem = greeting_problem(self.hello(), hello, level=level)
        return problem or self._contacts.second_disk(hello, self._membership.admitted.get(hello.peer_id))

    @property
    def refusals(self) -> dict[str, str]:
        """Peer id -> why we do not talk."""
        return self._contacts.refusals

    def refused(self, peer_id: str, reason: str, hello: pb.Hello | None = None) -> None:
        self._contacts.refused(peer_id, reason, hello)
        if self._on_refused is not None:
            self._on_refused(peer_id, reason, hello)

    def peer_up(self, peer_id: str, hello: pb.Hello) -> None:
        self._contacts.up.add(peer_id)
        self._met(peer_id, hello)
        self._core.peer_connected(peer_id)
        if self._core.is_leader:
            self._core.send_soon()
        self._notify = True
        self.wake()

    def peer_down(self, peer_id: str) -> None:
        if peer_id in self._contacts.up and self._is_quiet(peer_id):
            self._contacts.heard(peer_id)
        self._contacts.up.discard(peer_id)
        if self._running:
            self._core.peer_disconnected(peer_id)
            self._snapshots.senders.end(peer_id)
            self._fail_remote_reads(peer_id)
            self._elections.lost(peer_id)
            self._notify = True
            self.wake()

    def _is_quiet(self, peer_id: str) -> bool:
        """Followers say nothing to each other between elections: while their session stands, that is the contact."""
        return not self._core.is_leader and peer_id != self._core.leader_id

    def session_began(self, peer_id: str, hello: pb.Hello, *, cert_expires_ms: int) -> None:
        # What the session before has left in the inbox is of the old disk, or may be.
        self._inbox = [row for row in self._inbox if row[0] != peer_id]
        self._contacts.session_began(peer_id, hello.incarnation, cert_expires_ms=cert_expires_ms)
        self._met(peer_id, hello)
        self.wake()

    def session_ended(self, peer_id: str) -> None:
        self._contacts.session_ended(peer_id)
        if self._running:
            self._elections.lost(peer_id)
            self.wake()

    def received(self, peer_id: str, frame: pb.Frame) -> None:
        if self._running:
            self._inbox.append((peer_id, frame))
            self.wake()

    def _met(self, peer_id: str, hello: pb.Hello) -> None:
        self._contacts.met(peer_id)
        if self._membership.learn(hello):
            _log.warning("replication.disk_changed", peer=peer_id, incarnation=hello.incarnation)
            if self._guards.disk_incarnations:
                self._core.forget_match(peer_id)
            self._guard.acked.pop(peer_id, None)
        self._elections.met()

    def _resolve_later(self, future: asyncio.Future[int | None], index: int | None) -> None:
        self._answers.append(lambda: resolve(future, index))
        self.wake()

    def _fail_remote_reads(self, peer_id: str | None = None) -> None:
        """Whoever asked a leader that is gone asks again."""
        for future in self._remote_reads.drop(peer_id):
            self._resolve_later(future, None)
