"""``ClusterMachine``: the replicated state as the log sees it, bytes in, outcome out.

Owns: decoding what is committed, applying it, and snapshots as bytes. Leaves to others: the log (``engine``,
``memory``), meaning (``state``). The rule: whatever the log holds, ``apply`` returns, except for a command of a newer
format, which must stop the peer, and for a machine that is out of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from orchestrator.contract.codec import CodecError
from orchestrator.contract.errors import CorruptError
from orchestrator.contract.model import Limits, str_map
from orchestrator.replication.codec import decode_entry, encode_entry
from orchestrator.replication.journal import WAY_BACK
from orchestrator.replication.log import FutureFormatError
from orchestrator.replication.snapshot_codec import decode_snapshot, encode_snapshot
from orchestrator.state.allocations import PACKED_ROW_BYTES
from orchestrator.state.apply import apply, apply_malformed
from orchestrator.state.commands import AdmitPeers, Entry, Outcome, SetFeatureLevel
from orchestrator.state.features import beyond
from orchestrator.state.packed import Room
from orchestrator.state.snapshot import SnapshotError, capture, image_hash, restore
from orchestrator.state.state import State, new_state

_log = structlog.get_logger("raftsman.state")

ROOM_ROWS = 20_000
"""Rows that may be added between ``make_room`` and ``capture`` without making the latter slow."""
ROOMS_MAX = 2
"""That wait for a copy: of a snapshot and for a hash."""


class ClusterMachine:
    """Implements ``replication.log.StateMachine``. ``state`` may be read on the loop that owns it, and nowhere else;
    ``restore`` puts another object there."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.state: State = new_state(limits)
        self._rooms: list[Room] = []

    @property
    def index(self) -> int:
        return self.state.index

    def apply(self, payload: bytes) -> Outcome:
        """Apply one command. Raises ``FutureFormatError`` and nothing else."""
        try:
            entry = decode_entry(payload)
        except CodecError as error:
            return apply_malformed(self.state, str(error)[:500])
        if isinstance(entry.command, SetFeatureLevel) and (problem := beyond(entry.command.level)):
            raise FutureFormatError(problem)
        try:
            return apply(self.state, entry)
        except MemoryError:
            raise  # this peer's own trouble: the others go on
        except Exception as error:
            # A mistake of ours. It happens on every peer alike, at the same place; a peer that raised would never get
            # past this entry, nor would it after a restart. So it is answered, loudly.
            _log.exception("apply_failed", index=self.state.index, command=type(entry.command).__name__)
            return self.state.reject("INTERNAL", f"applying {type(entry.command).__name__} failed: {error!r}"[:500])

    def make_room(self) -> Callable[[], None]:
        high = self.state.table.high

        def work() -> None:
            # Whoever asked for one that is there gave up, or is about to copy.
            self._rooms = [room for room in self._rooms if room.size >= PACKED_ROW_BYTES * high]
            if len(self._rooms) < ROOMS_MAX:
                self._rooms.append(Room(PACKED_ROW_BYTES * (high + ROOM_ROWS)))

        return work

    def capture(self) -> Callable[[], Iterable[bytes]]:
        """Copy the state as it is now, and return what encodes it; that may run in a thread."""
        image = capture(self.state, self._room())
        return lambda: encode_snapshot(image)

    def _room(self) -> Room | None:
        """The first that is large enough, used up; smaller ones are given back."""
        while self._rooms:
            room = self._rooms.pop(0)
            if room.size >= PACKED_ROW_BYTES * self.state.table.high:
                return room
        return None

    def restore(self, data: bytes) -> None:
        """Raises ``CorruptError`` and leaves the state as it was if ``data`` is no snapshot that this version reads."""
        self.prepare(data)()

    def prepare(self, data: bytes) -> Callable[[], None]:
        """Raises ``CorruptError`` if ``data`` is no snapshot that this version reads. May run in a thread."""
        try:
            image = decode_snapshot(data)
            if problem := beyond(image.feature_level):
                raise FutureFormatError(problem)
            state = restore(image)
        except FutureFormatError as error:
            raise CorruptError(str(error)) from error
        except (CodecError, SnapshotError) as error:
            raise CorruptError(f"the snapshot holds no state ({error}). {WAY_BACK}") from error

        def put() -> None:
            self.state = state

        return put

    def state_hash(self) -> str:
        return self.capture_hash()()

    def capture_hash(self) -> Callable[[], str]:
        """Copy the state as it is now, and return what computes its hash, which may run in a thread."""
        image = capture(self.state, self._room())
        return lambda: image_hash(image)

    def admitted(self) -> dict[str, str]:
        return dict(self.state.admitted)

    def cluster_id(self) -> str:
        return self.state.cluster_id

    def epoch(self) -> int:
        return self.state.epoch

    def addresses(self) -> dict[str, str]:
        return dict(self.state.addresses)

    def feature_level(self) -> int:
        return self.state.feature_level


def admission_payload(cluster_id: str, incarnations: dict[str, str], *, time_ms: int = 0) -> bytes:
    """The command that admits peers (id -> disk incarnation) to the cluster, as the log proposes it by itself."""
    return encode_entry(
        Entry(
            identity="",
            request_id="",
            digest=b"",
            time_ms=time_ms,
            command=AdmitPeers(cluster_id=cluster_id, incarnations=str_map(incarnations)),
        )
    )
