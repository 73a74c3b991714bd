"""Everything in memory: ``MemoryLog`` (one process, applies at once), ``MemoryJournal`` and ``MemorySnapshots``.

Owns: stand-ins for tests of other parts and for the simulator. ``MemoryJournal`` knows what was flushed:
``crashed`` gives the journal that a machine would find after losing power. The one rule: they keep the protocols of
``log`` exactly; ``tests/unit/replication`` runs one contract test over these and the real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.contract.errors import CorruptError, InvalidError, NoLeaderError
from orchestrator.replication.log import (
    MAX_PROPOSAL_BYTES,
    LogStatus,
    PeerProgress,
    Proposed,
    Role,
    SnapshotMeta,
    StateMachine,
)

Row = tuple[int, int, bytes]


@dataclass(slots=True)
class _Disk:
    term: int = 0
    voted_for: str = ""
    commit_hint: int = 0
    first: int = 1
    rows: list[Row] = field(default_factory=list)

    def copy(self) -> _Disk:
        return _Disk(self.term, self.voted_for, self.commit_hint, self.first, list(self.rows))


class MemoryJournal:
    """A journal without files. ``on_flush`` may raise what a disk would."""

    def __init__(self, on_flush: Callable[[], None] | None = None) -> None:
        self._now = _Disk()
        self._durable = _Disk()
        self._dirty = False
        self._on_flush = on_flush
        self.flushes = 0
        self.closed = False

    @property
    def term(self) -> int:
        return self._now.term

    @property
    def voted_for(self) -> str:
        return self._now.voted_for

    def set_vote(self, term: int, voted_for: str) -> None:
        now = self._now
        if term < now.term or (term == now.term and now.voted_for not in ("", voted_for)):
            raise ValueError(f"term {term} with vote {voted_for!r} after term {now.term} with vote {now.voted_for!r}")
        now.term, now.voted_for = term, voted_for
        self._dirty = True

    @property
    def commit_hint(self) -> int:
        return self._now.commit_hint

    def set_commit_hint(self, index: int) -> None:
        self._now.commit_hint = index

    def keep_commit_hint(self) -> None:
        self._dirty = self._dirty or self._now.commit_hint != self._durable.commit_hint

    @property
    def dirty(self) -> bool:
        return self._dirty

    @property
    def first_index(self) -> int:
        return self._now.first

    @property
    def last_index(self) -> int:
        return self._now.first + len(self._now.rows) - 1

    def entries(self, start: int, stop: int) -> list[Row]:
        first = self._now.first
        return self._now.rows[max(start - first, 0) : max(stop - first, 0)]

    def append(self, entries: Sequence[Row]) -> None:
        if not entries:
            return
        now = self._now
        expected = self.last_index + 1 if now.rows else max(1, entries[0][0])
        for row, (index, _, _) in enumerate(entries):
            if index != expected + row:
                raise ValueError(f"entry {index} where entry {expected + row} is due")
        if not now.rows:
            now.first = expected
        now.rows.extend(entries)
        self._dirty = True

    def truncate_from(self, index: int) -> None:
        if index > self.last_index:
            return
        del self._now.rows[max(index - self._now.first, 0) :]
        self._dirty = True

    def trim_before(self, index: int) -> None:
        if index <= self._now.first:
            return
        del self._now.rows[: index - self._now.first]
        self._now.first = index
        self._dirty = True

    def flush(self) -> None:
        if not self._dirty:
            return
        if self._on_flush is not None:
            self._on_flush()
        self._durable = self._now.copy()
        self._dirty = False
        self.flushes += 1

    def close(self) -> None:
        self.closed = True

    def crashed(self) -> MemoryJournal:
        """The journal as found after a power cut now: what was staged is gone."""
        found = MemoryJournal(self._on_flush)
        found._now, found._durable = self._durable.copy(), self._durable.copy()
        found.flushes = self.flushes
        return found


class MemoryJournals:
    """The journals of a peer's epochs, without files. ``first``: that of epoch 1."""

    def __init__(self, first: MemoryJournal | None = None) -> None:
        self.held: dict[int, MemoryJournal] = {1: first if first is not None else MemoryJournal()}

    def exists(self, epoch: int) -> bool:
        return epoch in self.held and self.held[epoch].flushes > 0

    def open(self, epoch: int) -> MemoryJournal:
        if epoch > 1 and not self.exists(epoch):
            raise CorruptError(f"the journal of epoch {epoch} is gone")
        return self.held.setdefault(epoch, MemoryJournal())

    def prepare(self, epoch: int, term: int) -> None:
        journal = self.held[epoch] = MemoryJournal()
        journal.set_vote(term, "")
        journal.flush()

    def keep_only(self, epoch: int) -> None:
        self.held = {one: journal for one, journal in self.held.items() if one == epoch}

    def crashed(self) -> MemoryJournals:
        """As a machine would find them after losing power."""
        found = MemoryJournals()
        found.held = {epoch: journal.crashed() for epoch, journal in self.held.items()}
        return found


class MemorySnapshots:
    """A snapshot store without files."""

    def __init__(self) -> None:
        self.held: tuple[SnapshotMeta, bytes] | None = None
        self.saves = 0

    def save(self, meta: SnapshotMeta, parts: Iterable[bytes]) -> None:
        if self.held is not None and (meta.epoch, meta.last_index) < (self.held[0].epoch, self.held[0].last_index):
            return
        self.held = (meta, b"".join(parts))
        self.saves += 1

    def load(self) -> tuple[SnapshotMeta, bytes] | None:
        return self.held


class MemoryLog:
    """``ReplicatedLog`` of one process without a disk: a proposal is applied when it is made.

    ``lead(False)`` makes it a peer without a leader, for tests of callers.
    """

    def __init__(self, machine: StateMachine, *, peer_id: str = "peer-1", cluster_id: str = "memory") -> None:
        self._machine = machine
        self._peer_id = peer_id
        self._cluster_id = cluster_id
        self._leading = False
        self._term = 0
        self._entries = 0
        self._elections = 0
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next_listener = 0
        self._changed = asyncio.Event()
        self._stopped = False

    def status(self) -> LogStatus:
        me = PeerProgress(
            peer_id=self._peer_id, address="memory", connected=True, voter=True, incarnation="memory",
            match_index=self._entries, last_contact_ms=0, feature_level=1, cert_expires_ms=0,
        )  # fmt: skip
        return LogStatus(
            cluster_id=self._machine.cluster_id() or self._cluster_id, epoch=1, peer_id=self._peer_id,
            role=Role.LEADER if self._leading else Role.FOLLOWER, term=self._term, leader_id=self.leader_id,
            commit_index=self._entries, applied_index=self._entries, first_index=1, index=self._machine.index,
            last_quorum_ms=0 if self._leading else -1, state_age_ms=0 if self._leading else -1,
            elections=self._elections, peers=(me,),
        )  # fmt: skip

    def is_leader(self) -> bool:
        return self._leading

    @property
    def leader_id(self) -> str:
        return self._peer_id if self._leading else ""

    @property
    def term(self) -> int:
        return self._term

    def lead(self, leading: bool) -> None:
        """Gain or lose leadership."""
        if leading == self._leading:
            return
        self._leading = leading
        if leading:
            self._term += 1
            self._elections += 1
        self._notify()

    async def propose(
        self, payload: bytes, *, timeout_s: float = 10.0, alone: bool = False, urgent: bool = False
    ) -> Proposed:
        check_proposal(payload)
        self._require_leader()
        self._entries += 1
        outcome = self._machine.apply(payload)
        proposed = Proposed(self._machine.index, outcome)
        self._notify()
        return proposed

    async def read_barrier(self, *, timeout_s: float = 5.0) -> int:
        self._require_leader()
        return self._machine.index

    async def confirm_leadership(self, *, timeout_s: float = 5.0) -> None:
        self._require_leader()

    async def changed(self, *, after: int) -> int:
        while self._machine.index <= after:
            await self._changed.wait()
        return self._machine.index

    async def leadership_changed(self, *, was: bool) -> bool:
        while self._leading == was:
            await self._changed.wait()
        return self._leading

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        number = self._next_listener
        self._next_listener += 1
        self._listeners[number] = listener
        return lambda: self._listeners.pop(number, None) and None

    async def start(self) -> None:
        self.lead(True)

    async def stop(self) -> None:
        self._stopped = True
        self.lead(False)

    def _require_leader(self) -> None:
        if not self._leading:
            raise NoLeaderError("the log is not started" if not self._stopped else "the log is stopped")

    def _notify(self) -> None:
        waiters, self._changed = self._changed, asyncio.Event()
        waiters.set()
        for listener in list(self._listeners.values()):
            listener()


def check_proposal(payload: bytes) -> None:
    """Raises ``InvalidError`` if the proposal is too large for the log."""
    if len(payload) > MAX_PROPOSAL_BYTES:
        raise InvalidError(
            f"the command has {len(payload)} bytes and the log takes at most {MAX_PROPOSAL_BYTES}: send it in parts"
        )
