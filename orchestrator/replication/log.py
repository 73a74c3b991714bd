"""``ReplicatedLog``: what the rest of Raftsman may know about replication, and the state machine it drives.

Owns: the protocol that ``engine.EngineLog`` (PySyncObj under guards) and ``memory.MemoryLog`` implement, and the
``StateMachine`` protocol between the log and the replicated state. The one rule: everything here runs on one asyncio
loop, which owns the state; nothing is called from another thread.

Two kinds of index exist. ``index`` everywhere outside this package is the *command index*: the number of commands
applied so far, counted by the state machine. Raft's own entry index (one entry carries a batch of commands) never
leaves ``replication``, except in ``LogStatus`` for operators.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from orchestrator.contract.quick import dataclass


class Role(enum.StrEnum):
    LEADER = "leader"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    JOINING = "joining"  # empty or wiped disk: catches up, may not vote yet (RAFT.md, Membership and first start)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerProgress:
    """What this peer knows of one configured peer (itself included)."""

    peer_id: str
    address: str
    connected: bool
    voter: bool
    incarnation: str  # disk incarnation it last said Hello with, "" if never
    match_index: int  # Raft entry index known to be stored there; only the leader knows it of others, else 0
    last_contact_ms: int  # milliseconds since we last heard from it; -1 if never
    feature_level: int
    cert_expires_ms: int  # unix milliseconds, from the certificate it presented; 0 if unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    cluster_id: str
    epoch: int  # of the configuration that this peer is in
    peer_id: str
    role: Role
    term: int
    leader_id: str  # "" while unknown
    commit_index: int  # Raft entry index
    applied_index: int  # Raft entry index
    first_index: int  # lowest Raft entry index still in the journal
    index: int  # command index of the state here
    last_quorum_ms: int  # milliseconds since this peer last knew of a majority (0 on a healthy leader); -1 if never
    state_age_ms: int  # so long ago the state here held every acknowledged write, as far as known; -1 if it never did
    elections: int  # elections seen by this process
    peers: tuple[PeerProgress, ...]
    waits_for: str = ""  # why this peer takes no part (yet), and what would change it


class StateMachine(Protocol):
    """The replicated state, as the log sees it: bytes in, outcome out. Total and deterministic."""

    @property
    def index(self) -> int:
        """Command index: how many commands have been applied."""

    def apply(self, payload: bytes) -> object:
        """Apply one command; never raises for anything that is in the log, except ``FutureFormatError``.

        Returns the outcome that ``propose`` hands to its caller on the peer that proposed it.
        """

    def make_room(self) -> Callable[[], None]:
        """Work for a thread, done before ``capture``: it gets the memory that makes copying cheap."""

    def capture(self) -> Callable[[], Iterable[bytes]]:
        """Copy what a snapshot needs (cheap, on the loop) and return the encoder, which may run in a thread; its parts
        one after the other are the snapshot."""

    def prepare(self, data: bytes) -> Callable[[], None]:
        """Read a snapshot, which may run in a thread; the result, called on the loop, puts its state in place of this
        one. Raises ``CorruptError``."""

    def state_hash(self) -> str:
        """Hex digest of the whole state; equal on every peer at the same index."""

    def admitted(self) -> dict[str, str]:
        """Replicated admissions: peer id -> disk incarnation. Empty before the first start is complete."""

    def cluster_id(self) -> str:
        """Replicated cluster id; "" before the first start is complete."""

    def epoch(self) -> int:
        """Configuration epoch of the peers; 0 before the first start is complete. Only ``apply`` raises it, by one."""

    def addresses(self) -> dict[str, str]:
        """Peer id -> host:port as replicated; empty in epoch 1, where every peer's own settings say it."""

    def feature_level(self) -> int:
        """What every peer that takes part must know (``state.features``); it never falls."""


class FutureFormatError(Exception):
    """A well-formed command of a newer format: the peer stops before it is applied (DESIGN.md, Rules)."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """An applied proposal: its command index and the state machine's outcome."""

    index: int
    outcome: object


MAX_PROPOSAL_BYTES = 2 * 1024 * 1024
"""One proposal at most; well below the engine's batch size of 4 MiB (RAFT.md, S8)."""


class ReplicatedLog(Protocol):
    """One loop owns it. All methods are called on that loop."""

    def status(self) -> LogStatus: ...

    def is_leader(self) -> bool:
        """A hint to start the leader's loop, never permission: only the commit decides."""

    @property
    def leader_id(self) -> str:
        """The peer that leads as far as this one knows; "" while unknown."""

    @property
    def term(self) -> int: ...

    async def propose(
        self, payload: bytes, *, timeout_s: float = 10.0, alone: bool = False, urgent: bool = False
    ) -> Proposed:
        """Append, replicate, apply here, and return the outcome. ``alone``: shares its Raft entry with no other;
        ``urgent``: the control plane's own, which goes first.

        Raises ``NotLeaderError`` (nothing was done), ``NoLeaderError`` (nothing was done), ``OverloadedError`` (the
        bounded queue is full: nothing was done), ``UnknownOutcomeError`` (step-down, snapshot install or timeout while
        in flight: it may still happen; resolve by request id), ``InvalidError`` (larger than ``MAX_PROPOSAL_BYTES``).
        """

    async def read_barrier(self, *, timeout_s: float = 5.0) -> int:
        """ReadIndex: after it returns, this peer's state includes every write acknowledged before the call.

        Works on every peer (a follower asks the leader for the index and waits until it has applied it). Returns the
        command index of the state here. Raises ``NoLeaderError``.
        """

    async def confirm_leadership(self, *, timeout_s: float = 5.0) -> None:
        """One round of stamped acks from a majority; raises ``NotLeaderError`` if this peer does not lead."""

    async def changed(self, *, after: int) -> int:
        """Wait until the command index here is greater than ``after``; return it."""

    async def leadership_changed(self, *, was: bool) -> bool:
        """Wait until ``is_leader()`` differs from ``was``; return the new value."""

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` on the loop after commands were applied or leadership changed; returns the unsubscriber."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Journal(Protocol):
    """Durable storage of Raft entries, term and vote: what ``engine`` needs, so the simulator can model a disk.

    Methods change memory and stage bytes; nothing is durable, and nothing may leave the process (no message, no
    answer), before ``flush`` returned. An ``OSError`` in ``flush`` is fatal: the caller stops the process. All that was
    staged since the last flush becomes durable together or not at all.
    """

    @property
    def term(self) -> int: ...

    @property
    def voted_for(self) -> str: ...

    def set_vote(self, term: int, voted_for: str) -> None: ...

    @property
    def commit_hint(self) -> int:
        """The highest commit index that was stored: a true lower bound of what is committed, 0 if never stored."""

    def set_commit_hint(self, index: int) -> None:
        """Stage the commit index; it rides on the next flush and never makes one necessary (``dirty`` unchanged)."""

    def keep_commit_hint(self) -> None:
        """The staged commit index must be durable with the next flush (``dirty``, unless it is already)."""

    @property
    def dirty(self) -> bool:
        """Whether entries, truncations, a reset or a vote are staged and not yet durable."""

    @property
    def first_index(self) -> int:
        """Index of the first entry held (the last one covered by the snapshot counts as held); ``last_index + 1`` if
        there is none."""

    @property
    def last_index(self) -> int:
        """Index of the last entry held; ``first_index - 1`` if there is none."""

    def entries(self, start: int, stop: int) -> Sequence[tuple[int, int, bytes]]:
        """The entries held at indexes in ``[start, stop)``, oldest first, as ``(index, term, payload)``."""

    def append(self, entries: Sequence[tuple[int, int, bytes]]) -> None:
        """Add ``(index, term, payload)`` rows; indexes must continue the journal (an empty one may start anywhere)."""

    def truncate_from(self, index: int) -> None:
        """Drop the entries at ``index`` and above; together with the next ``append`` one atomic frame."""

    def trim_before(self, index: int) -> None:
        """Forget entries below ``index`` (a snapshot covers them); frees whole segments.

        An index above all entries empties the journal, which may then start anywhere.
        """

    def flush(self) -> None:
        """Write what is staged as one checksummed frame and fdatasync it; returns at once if nothing is staged."""

    def close(self) -> None:
        """Release the files. Does not flush."""


class Journals(Protocol):
    """The journals of one peer's configuration epochs.

    All methods may run in a thread and raise ``OSError``, which is fatal to the process.
    """

    def exists(self, epoch: int) -> bool:
        """Whether anything was ever stored in that epoch's journal."""

    def open(self, epoch: int) -> Journal:
        """Raises ``CorruptError`` if it is damaged, or of an epoch after the first and not there."""

    def prepare(self, epoch: int, term: int) -> None:
        """Make that epoch's journal anew, durably: in ``term`` (at least 1), without a vote or entries."""

    def keep_only(self, epoch: int) -> None:
        """Remove the journals of all other epochs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotMeta:
    """What a snapshot covers."""

    last_index: int  # Raft entry index of the last entry it contains
    last_term: int  # that entry's term
    index: int  # command index of the state
    epoch: int = 1  # of the configuration whose log it belongs to; indexes and terms go on from one to the next


class SnapshotStore(Protocol):
    """Where a peer keeps its newest snapshot. The engine owns when; the store owns bytes, checksums and fsync."""

    def save(self, meta: SnapshotMeta, parts: Iterable[bytes]) -> None:
        """Write, fsync, rename, fsync the directory; runs in a thread. Raises ``OSError`` (fatal to the process).

        Never goes back: one of an older epoch, or of the same with a lower index, is dropped.
        """

    def load(self) -> tuple[SnapshotMeta, bytes] | None:
        """The newest snapshot, checked against its checksum; None if there is none. May run in a thread.

        Raises ``CorruptError`` if there is one and it is damaged.
        """
