"""The product's parts with an onlooker: ``WatchedMachine``, ``WatchedLog``, ``WatchedSnapshots``.

Owns: where ``Witness`` and ``Holes`` look into the real parts, and every private name of theirs that this needs. Leaves
judging to them. The one rule: looking changes nothing, with one exception that says so.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from orchestrator.contract.model import Limits
from orchestrator.replication.engine import EngineLog
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.machine import ClusterMachine
from orchestrator.replication.pysync import LEADER
from orchestrator.replication.snapshots import FileSnapshots
from orchestrator.state.commands import Outcome
from tests.sim.fingerprint import Fingerprint
from tests.sim.holes import Holes
from tests.sim.witness import Witness

EVENTS_KEPT = 30
"""Fewer than by default, so that they are trimmed in every run. Answers stay: exactly-once rests on them."""


class WatchedMachine(ClusterMachine):
    def __init__(self, name: str, witness: Witness) -> None:
        super().__init__(Limits(events=EVENTS_KEPT))
        self._name = name
        self._witness = witness
        self._fingerprint = Fingerprint()

    def fingerprint(self) -> tuple[object, ...]:
        return self._fingerprint.of(self.state)

    def apply(self, payload: bytes) -> Outcome:
        outcome = super().apply(payload)
        self._witness.after_apply(self._name, self, payload, outcome)
        return outcome

    def prepare(self, data: bytes) -> Callable[[], None]:
        put = super().prepare(data)

        def put_and_look() -> None:
            put()
            self._witness.after_restore(self._name, self, data)

        return put_and_look


class WatchedLog(EngineLog):
    """The engine with a witness that looks after every turn, and the holes counted where only the engine sees them."""

    def __init__(
        self, *, witness: Witness, holes: Holes, append_bytes: int, installing: Callable[[], None], **parts: Any
    ) -> None:
        super().__init__(**parts)
        self._installing = installing
        self._append_bytes = append_bytes
        self._witness = witness
        self.holes = holes
        self.name = self._peer_id
        self.checked_commit = 0
        self.seen_term = 0

    def _build(self, snapshot: SnapshotMeta | None) -> None:
        begun = self._journal.last_index >= self._journal.first_index
        if snapshot is not None and (begun or snapshot.epoch == 1):  # a later epoch begins with an empty journal
            held = self._journal.entries(snapshot.last_index, snapshot.last_index + 1)
            if not held or held[0][1] != snapshot.last_term:
                self.holes.reached("S5")
        super()._build(snapshot)
        # ``EngineConfig`` allows no message below one largest proposal, and a backlog of several is worth testing.
        self._core._raft._SyncObj__conf.appendEntriesBatchSizeBytes = self._append_bytes

    def _turn(self) -> None:
        refused = self.garbage_refused
        super()._turn()
        if self._running:
            self._witness.after_turn(self)
            if self.garbage_refused > refused:
                self.holes.reached("S7")

    # ------------------------------------------------------------------ what the witness sees

    @property
    def epoch(self) -> int:
        return self._config.epoch

    @property
    def members(self) -> list[str]:
        return list(self._peers)

    @property
    def leads_core(self) -> bool:
        return self._core.is_leader

    @property
    def core_commit(self) -> int:
        return self._core.commit_index

    @property
    def first_entry(self) -> int:
        return self._storage.first_index

    @property
    def last_entry(self) -> int:
        return self._storage.last_index

    def term_at(self, index: int) -> int | None:
        return self._storage.term_at(index)

    def held(self, start: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
        """``(index, term, command)`` of the entries held in ``[start, stop)``."""
        first = self._storage.first_index
        for command, index, term in self._storage[max(start - first, 0) : max(stop - first, 0)]:
            yield index, term, command

    # ------------------------------------------------------------------ what the holes need

    @property
    def garbage_refused(self) -> int:
        return self._snapshots._receiver.refused if self._running else 0

    @property
    def may_vote(self) -> bool:
        return self._membership.may_vote()

    @property
    def admission_complete(self) -> bool:
        return self._membership.complete

    @property
    def hears_leader(self) -> bool:
        return self._core.is_leader or self._clock() - self._elections.leader_contact < self._config.election_min_s

    def core_wants_snapshot(self, peer_id: str) -> None:
        if peer_id not in self._snapshots.senders and (self._snapshots._compacting or self._snapshots._disk.locked()):
            self.holes.reached("S17")
        super().core_wants_snapshot(peer_id)

    def replaced(self, meta: SnapshotMeta) -> None:
        self._installing()
        super().replaced(meta)

    def core_changed_state(self, old: int, new: int) -> None:
        if old == LEADER and self._last_quorum_ms(self._clock()) >= self._config.election_max_s * 1000:
            self.holes.reached("S13")
        super().core_changed_state(old, new)

    def _fail_proposals(self, why: str) -> None:
        if len(self._proposals) or self._proposals.in_flight:
            self.holes.reached("S18")
        super()._fail_proposals(why)


class WatchedSnapshots(FileSnapshots):
    written: Callable[[SnapshotMeta, int], None]

    def save(self, meta: SnapshotMeta, parts: Iterable[bytes]) -> None:
        def seen() -> Iterator[bytes]:
            checksum = 0
            for part in parts:
                checksum = zlib.crc32(part, checksum)
                yield part
            self.written(meta, checksum)

        super().save(meta, seen())
