"""``Schedule``: everything about a run that its seed decides before it begins.

Owns: sizes, times, chances, and which faults this run knows. Leaves the run to ``world`` and ``faults``. The one rule:
a run differs from all others in what it leaves out, too (swarm testing, Groce et al. 2012): a run with every fault at
once makes little progress, and what needs progress is then never tested.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from orchestrator.replication.settings import EngineConfig

FAULTS: dict[str, float] = {
    "kill": 3.0,  # the process ends; what was written is there
    "power": 3.0,  # the machine loses power; what was not flushed is gone or torn
    "power_all": 0.4,
    "trap": 5.0,  # power goes at one step of the journal or the snapshots
    "disk_error": 2.0,  # one call fails: the process must end
    "slow_disk": 1.0,
    "slow_thread": 1.5,
    "pause": 2.0,  # longer than an election timeout
    "isolate": 3.0,
    "partition": 1.5,
    "one_way": 2.0,
    "break": 3.0,  # one session, with what is on its way
    "loss": 1.5,
    "slow_link": 2.0,
    "wall_clock": 1.0,
    "flip": 1.0,  # a byte of a stored file changes
    "wipe": 1.0,
    "change": 2.0,  # of the peers: one is added, removed or replaced
    "agent_away": 1.5,
    "lag": 2.0,  # a follower is away while much is written, and catches up over a slow link that breaks
    "flap": 2.0,  # a leader loses its leadership and gets it back while acknowledgements to it are on their way
    "depose": 2.0,  # a leader with writes in flight is cut off until the others have moved on
}
"""Fault -> weight among those that a run knows."""
ALWAYS = ("kill", "isolate")
MOST_COMMAND_BYTES = 2_500
"""More than any command of a run takes but the large ones: an entry must fit into one append message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Seconds are virtual; chances are per opportunity."""

    seed: int
    peers: int
    config: EngineConfig
    append_bytes: int  # entries in one append message
    thread_s: float  # what work in a thread takes at most
    segment_bytes: int
    delay_s: tuple[float, float]
    faults_s: float  # how long the faults go on
    pause_s: float  # between two faults, on average
    from_the_start: bool  # faults do not wait for the first leader
    faults: dict[str, float]
    clock_rates: tuple[float, ...]
    lost_after_ms: int
    stride: int
    clients: int
    keys: int
    value_bytes: int  # of a variable, besides its number
    junk: float  # of a client's writes: bytes that are no command
    large: int  # commands of the largest size
    duplicate_votes: float
    damaged_chunks: float
    foreign_commands: float
    late_commits: float  # appends that say less of what is committed than their leader knows
    every_s: int  # a periodic job is due so often; 0: there is none
    settle_s: float = 90.0
    """Within this time after the last fault, everything is as it should be."""

    @classmethod
    def draw(cls, seed: int, peers: int) -> Schedule:
        rng = random.Random(f"schedule-{seed}-{peers}")
        fast = rng.random() < 0.6
        times = (0.15, 0.3, 0.045) if fast else (0.4, 1.0, 0.125)
        tiny = rng.random() < 0.85
        config = EngineConfig(
            cluster_id="cluster",
            election_min_s=times[0],
            election_max_s=times[1],
            heartbeat_s=times[2],
            leader_lost_s=rng.choice((0.02, 0.05, 0.1)),
            max_queue_count=rng.choice((4, 16, 8192)),
            gather_bytes=rng.choice((1, 300, 1000)),
            compact_entries=rng.choice((6, 12, 25, 60)) if tiny else 400,
            compact_bytes=rng.choice((2_000, 10_000, 1_000_000)) if tiny else 1_000_000,
            tail_entries=rng.choice((0, 1, 4, 60, 60)) if tiny else 100,
            tail_bytes=rng.choice((200, 50_000, 50_000)) if tiny else 1_000_000,
            snapshot_chunk_bytes=rng.choice((300, 1000, 4000)),
            snapshot_window=rng.choice((1, 2, 4)),
        )
        known = {name: weight for name, weight in FAULTS.items() if name in ALWAYS or rng.random() < 0.6}
        slow = rng.random() < 0.2
        large = rng.choice((1, 2, 3)) if rng.random() < 0.04 else 0
        made = cls(
            seed=seed,
            peers=peers,
            config=config,
            append_bytes=5_000_000 if large else rng.choice((MOST_COMMAND_BYTES, MOST_COMMAND_BYTES, 5_000_000)),
            thread_s=rng.choice((0.0, 0.0, 0.05, 0.5)),
            segment_bytes=rng.choice((700, 2000, 8000, 64_000)),
            delay_s=(0.001, 0.02) if slow else (0.0002, 0.002),
            faults_s=rng.uniform(4.0, 8.0) if fast else rng.uniform(6.0, 12.0),
            pause_s=rng.choice((0.15, 0.3, 0.6)) * (1.0 if fast else 2.0),
            from_the_start=rng.random() < 0.15,
            faults=known,
            clock_rates=tuple(rng.choice((1.0, rng.uniform(0.95, 1.05))) for _ in range(peers)),
            lost_after_ms=rng.choice((2000, 3000)),
            stride=rng.choice((20, 30, 40)),
            clients=rng.randint(2, 5),
            keys=rng.randint(1, 4),
            value_bytes=rng.choice((0, 0, 300)),
            junk=rng.choice((0.0, 0.02, 0.1)),
            large=large,
            duplicate_votes=rng.choice((0.0, 0.3, 1.0)),
            damaged_chunks=rng.choice((0.0, 0.0, 0.05, 0.3)),
            foreign_commands=rng.choice((0.0, 0.0, 0.01, 0.05)),
            every_s=rng.choice((0, 0, 0, 1, 2)),
            late_commits=rng.choice((0.0, 0.0, 0.0, 0.7, 0.97)),
        )
        return replace(made, config=replace(config, pack_bytes=rng.choice((0, 300, config.pack_bytes))))
