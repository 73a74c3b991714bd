"""Settings of the engine: ``EngineConfig`` (times, sizes) and ``Guards`` (RAFT.md, S1 to S18; S19:
docs/guarantees.md).

Owns: the numbers and what they mean together. The one rule: guards are on; only tests that show that a hole is real
switch one off.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.replication.log import MAX_PROPOSAL_BYTES
from orchestrator.state.features import HIGHEST

BATCH_BYTES = 4 * 1024 * 1024
"""Payload bytes in one Raft entry at most; a proposal fits twice, so no size is awkward (RAFT.md, S8)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Which of PySyncObj's holes are closed. Each name says what the guard does, its comment which hole it closes."""

    cap_snapshot_commit: bool = True  # S1
    keep_matching_entries: bool = True  # S2
    stamp_acks: bool = True  # S3
    count_voters_once: bool = True  # S4
    check_snapshots: bool = True  # S7
    reject_to_commit: bool = True  # S9
    disk_incarnations: bool = True  # S10
    short_fallback: bool = True  # S13: a leader without a majority steps down after an election timeout
    answer_stale_terms: bool = True  # S13: and learns of its successor at once
    refuse_foreign_commands: bool = True  # S15
    prevote: bool = True  # S16
    pause_during_dump: bool = True  # S17
    fail_pending: bool = True  # S18
    keep_log_over_snapshot: bool = True  # S19: a snapshot never replaces a log that holds its last entry


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Seconds, entries, bytes. ``cluster_id`` is minted at the first start if it is empty."""

    cluster_id: str = ""
    epoch: int = 1
    feature_level: int = HIGHEST
    election_min_s: float = 0.4
    election_max_s: float = 1.0
    heartbeat_s: float = 0.125
    max_queue_count: int = 8192  # proposals that wait for their turn
    max_queue_bytes: int = 64 * 1024 * 1024
    batch_bytes: int = BATCH_BYTES
    gather_bytes: int = 256 * 1024
    """Small proposals share an entry up to this size: applying one must not take an election timeout."""
    pack_bytes: int = 4096
    """Entries of at least so many bytes are packed, once every peer reads that: of smaller ones it would take longer
    than it is worth."""
    compact_entries: int = 10_000  # entries applied since the last snapshot that make the next one due
    compact_commands: int = 25_000
    """Likewise, commands: an entry may hold hundreds, and a restart applies every one behind the snapshot again."""
    compact_bytes: int = 32 * 1024 * 1024
    settle_s: float = 0.0
    """So long after its start a peer that has entries to apply again takes no snapshot that is not long overdue: those
    that start together have better things to do than to encode what they have just read."""
    snapshot_rest: float = 0.0
    """So many times as long as it worked at a part of a snapshot, the thread that stores it rests before the next part:
    it takes turns with the loop at the interpreter, and with the journal at the disk."""
    tail_entries: int = 5_000  # kept behind a snapshot, so that a slightly late peer needs none
    tail_bytes: int = 16 * 1024 * 1024
    snapshot_chunk_bytes: int = 512 * 1024
    snapshot_window: int = 8  # chunks on their way to one peer
    notice_s: float = 0.01
    """So long the others may go without hearing that an entry is committed, for the next entry says it as well. Nobody
    waits for it but who asks a follower for what is newest, and that is told at once."""
    leader_lost_s: float = 0.1  # a peer whose stream from the leader broke asks for an election within this time

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_s * 3 < self.election_min_s < self.election_max_s:
            raise ValueError(
                f"elections after {self.election_min_s} to {self.election_max_s} s need a heartbeat below a third "
                f"of the lower one, not {self.heartbeat_s} s"
            )
        if self.batch_bytes < MAX_PROPOSAL_BYTES:
            raise ValueError(f"batch_bytes {self.batch_bytes} is less than one proposal ({MAX_PROPOSAL_BYTES})")

    @classmethod
    def fast_failover(cls) -> EngineConfig:
        """For peers in one rack: elections after 150 to 300 ms."""
        return cls(election_min_s=0.15, election_max_s=0.3, heartbeat_s=0.045, leader_lost_s=0.05)
