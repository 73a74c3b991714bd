"""``SnapshotKeeper``: takes this peer's snapshots, installs the leader's, and reads them for peers that need one.

Owns: the order of durable steps. A snapshot of ours is on disk before the journal behind it is forgotten; a leader's is
on disk before the state is replaced, and both before it is acknowledged (RAFT.md, S5, S7). Leaves the chunks to
``snapshotting`` and threads to its host. The one rule: the store never goes back to an older snapshot.

Nobody waits for a snapshot of ours, and everybody for the loop and the disk that it takes its share of. So it is stored
at leisure, part by part with rests between them; and because all peers apply the same entries, each takes its snapshots
after another number of them: were they all at it at once, no majority would be quick.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import structlog

from orchestrator.contract.errors import CorruptError
from orchestrator.replication.guard import Guard
from orchestrator.replication.log import SnapshotMeta, SnapshotStore, StateMachine
from orchestrator.replication.pysync import RaftCore
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.snapshotting import Snapshot, SnapshotReceiver, SnapshotSenders, checksum
from orchestrator.replication.storage import RaftStorage
from orchestrator.replication.v1 import peer_pb2 as pb

OVERDUE = 8
"""So many times what makes a snapshot due, it does not wait for a peer that has just started to settle."""
LONGEST_REST_S = 0.1
_log = structlog.get_logger("raftsman.replication")


def share_of(peer_id: str, peers: Sequence[str]) -> float:
    """How much of what makes a snapshot due is enough for this peer: from one half on, all for the last one."""
    place = sorted(peers).index(peer_id)
    return 1 - (len(peers) - 1 - place) / (2 * len(peers))


def at_leisure(
    parts: Iterable[bytes],
    rest: float,
    go_on: Callable[[], bool],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[bytes]:
    """The parts; after each ``rest`` times as long as it took to make and to use it, but no more once ``go_on`` says
    that somebody waits."""
    began = clock()
    for part in parts:
        yield part
        if rest and go_on():
            sleep(min(rest * (clock() - began), LONGEST_REST_S))
        began = clock()


class Host(Protocol):
    """The engine, as far as snapshots need it."""

    @property
    def running(self) -> bool: ...

    @property
    def serving(self) -> bool:
        """Running, and its log not sealed: the state is that of the last entry applied."""

    def wake(self) -> None: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...

    async def in_thread(self, work: Callable[[], Any]) -> Any: ...

    def broken(self, error: str) -> None: ...

    def replaced(self, meta: SnapshotMeta) -> None:
        """A snapshot took the place of log and state."""


class SnapshotKeeper:
    def __init__(
        self,
        *,
        host: Host,
        core: RaftCore,
        storage: RaftStorage,
        guard: Guard,
        machine: StateMachine,
        store: SnapshotStore,
        config: EngineConfig,
        check: bool,
        keep_log: bool,
        send: Callable[[str, pb.Frame], None],
        clock: Callable[[], float],
        share: float = 1.0,
    ) -> None:
        """``share``: of what makes a snapshot due, see ``share_of``."""
        self._host = host
        self._share = share
        self._core = core
        self._storage = storage
        self._guard = guard
        self._machine = machine
        self._store = store
        self._config = config
        self._check = check
        self._keep_log = keep_log
        self._send = send
        self._clock = clock
        # Whoever has read nothing has nothing to apply again, and no peers that do.
        self._settled_at = clock() + config.settle_s if storage.bytes_since_snapshot else float("-inf")
        self._settling = False
        self.senders = SnapshotSenders(
            send=send,
            stamp=lambda: (core.term, core.commit_index),
            chunk_bytes=config.snapshot_chunk_bytes,
            window=config.snapshot_window,
        )
        self._receiver = SnapshotReceiver(check=check)
        self._disk = asyncio.Lock()  # one at a time uses the store
        self._compacting = False
        self._reading = False
        self._installing: tuple[int, int] | None = None  # last index and term of the snapshot
        self._handed: tuple[SnapshotMeta, bytes | None] | None = None
        self.saved = self.installed = 0

    # ------------------------------------------------------------------ taking

    def consider(self) -> None:
        """After a turn: take a snapshot if enough was applied since the last one."""
        if self._compacting or self._installing:
            return
        storage, config = self._storage, self._config
        applied, snapshot = self._core.applied_index, storage.snapshot
        done, done_index = (snapshot.last_index, snapshot.index) if snapshot is not None else (1, 0)
        if applied <= done:
            return
        due = max(
            (applied - done) / config.compact_entries,
            (self._machine.index - done_index) / config.compact_commands,
            storage.bytes_since_snapshot / config.compact_bytes,
        )
        if due < self._share:
            return
        settles_s = self._settled_at - self._clock()
        if settles_s > 0 and due < OVERDUE:
            if not self._settling:
                self._settling = True
                self._host.spawn(self._settle(settles_s))
            return
        self._compacting = True
        self._host.spawn(self._compact())

    async def _settle(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._settled_at = float("-inf")
        self._host.wake()

    async def _compact(self) -> None:
        try:
            async with self._disk:
                await self._host.in_thread(self._machine.make_room())
                applied = self._core.applied_index
                term, newest = self._storage.term_at(applied), self._storage.snapshot
                if not self._host.serving or term is None or (newest is not None and newest.last_index >= applied):
                    return
                meta = SnapshotMeta(
                    last_index=applied, last_term=term, index=self._machine.index, epoch=self._config.epoch
                )
                encode = self._machine.capture()
                rest = self._config.snapshot_rest
                parts = at_leisure(encode(), rest, self._nobody_waits) if rest else encode()
                await self._host.in_thread(lambda: self._store.save(meta, parts))
                if self._host.running:
                    self.saved += 1
                    self._storage.saved(
                        meta, tail_entries=self._config.tail_entries, tail_bytes=self._config.tail_bytes
                    )
        finally:
            self._compacting = False
            self._host.wake()

    def _nobody_waits(self) -> bool:
        """For the store. Asked in a thread."""
        return self._host.serving and not self._installing and not self.senders

    # ------------------------------------------------------------------ sending

    def wanted_by(self, peer_id: str) -> None:
        """The peer needs entries that are no longer held here."""
        if peer_id not in self.senders:
            self.senders.begin(peer_id)

    def provide(self) -> None:
        """Read the newest snapshot for those who wait for it."""
        if self.senders.wanting and not self._reading:
            self._reading = True
            self._host.spawn(self._read())

    async def _read(self) -> None:
        try:
            async with self._disk:
                held = await self._host.in_thread(self._store.load)
            if held is None or held[0].last_index < self._storage.first_index:
                raise CorruptError("there is no snapshot before the journal's first entry")
            meta, data = held
            snapshot = Snapshot(meta, data, await self._host.in_thread(lambda: checksum(data)))
            _log.info("replication.sending_snapshot", last_index=meta.last_index, size=len(data))
            self.senders.provide(snapshot)
        finally:
            self._reading = False
            self._host.wake()

    # ------------------------------------------------------------------ receiving

    def chunk(self, peer_id: str, chunk: pb.SnapshotChunk) -> None:
        """Part of the leader's snapshot."""
        if chunk.last_index and self._needless(chunk.last_index, chunk.last_term):
            self._receiver.drop()
            held = max(chunk.last_index, self._core.commit_index)
            reply = pb.AppendReply(term=self._core.term, next_index=held + 1, success=True)
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
                wanted, meta, parts = taken
                meta = replace(meta, epoch=self._config.epoch)  # sessions are of one epoch
                self._installing = stated
                self._host.spawn(self._install(peer_id, chunk.term, meta, parts))
            else:
                wanted = taken
        progress = pb.SnapshotProgress(term=self._core.term, last_index=last_index, next_offset=wanted)
        self._send(peer_id, pb.Frame(snapshot_progress=progress))

    async def _install(self, peer_id: str, term: int, meta: SnapshotMeta, parts: Sequence[bytes]) -> None:
        """Read the snapshot, make it durable, then the state, then acknowledge it."""
        try:
            async with self._disk:
                if self._needless(meta.last_index, meta.last_term):
                    return
                if not self._check:
                    self._hand_over(peer_id, term, meta, b"".join(parts))
                    return
                try:
                    put = await self._host.in_thread(lambda: self._machine.prepare(b"".join(parts)))
                except CorruptError as error:
                    _log.error("replication.snapshot_refused", leader=peer_id, error=str(error))
                    return
                await self._host.in_thread(lambda: self._store.save(meta, parts))
                if not self._host.running or self._core.term != term or self._needless(meta.last_index, meta.last_term):
                    return  # it is on disk, and true; the next leader sends what is needed
                put()
                self._hand_over(peer_id, term, meta, None)
        finally:
            self._installing = None
            self._host.wake()

    def _needless(self, last_index: int, last_term: int) -> bool:
        """Whether we hold what a snapshot up to that entry covers: it is committed here, or will
        be: our log has that entry.

        Logs that have an entry of one index and term in common are equal up to there (Raft's log matching property).
        What stands behind it here may have been acknowledged to this leader, so a snapshot must not take its place
        (S19; Raft, section 7: "retain log entries following it").
        """
        if last_index <= self._core.commit_index:
            return True
        return self._keep_log and self._storage.term_at(last_index) == last_term

    def _hand_over(self, peer_id: str, term: int, meta: SnapshotMeta, data: bytes | None) -> None:
        """Through PySyncObj, which asks ``taken`` and ``load`` and acknowledges."""
        self._handed = (meta, data)
        self._guard.install(peer_id, term, meta)
        if self.taken() and self._check:
            self._host.broken("a snapshot that was restored could not be installed")
        self._handed = None

    def taken(self) -> bool:
        """Whether a complete snapshot waits to be loaded."""
        return self._handed is not None

    def load(self) -> tuple[int, int]:
        """The snapshot takes the place of the log; returns its last index and term."""
        assert self._handed is not None
        meta, data = self._handed
        if data is not None:
            self._machine.prepare(data)()
        self._storage.install(meta)
        self._handed = None
        self.installed += 1
        _log.info("replication.snapshot_installed", last_index=meta.last_index, index=meta.index)
        self._host.replaced(meta)
        return meta.last_index, meta.last_term
