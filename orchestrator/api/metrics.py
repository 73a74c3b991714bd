"""What a peer shows to Prometheus beside the counters of whoever counts: gauges computed when they are scraped.

Owns: the gauges of the log and of the state. Leaves to others: counters and histograms, which stand beside what they
count (``replication.propose``, ``leader.loop``, ``api.agents``), serving them (``status``). The rule: a scrape costs
milliseconds, whatever the size of the cluster: array operations, and a few simple steps per job. Where a million
allocations make it more, counts are given again for twenty times as long as counting took.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.contract.model import AllocState, JobType, NodeStatus
from orchestrator.replication.log import LogStatus
from orchestrator.state.allocations import FREE, LAST_LIVE
from orchestrator.state.failures import retries_of
from orchestrator.state.model import Job
from orchestrator.state.state import State

APPLY_SECONDS = Histogram(
    "raftsman_apply_seconds",
    "Time to apply one command to the state",
    buckets=(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)

BRIEF_S = 0.02
AGE_PER_COST = 20

JOB_STATES = ("pending", "running", "complete", "failed", "stopping", "stopped")


class PeerCollector(Collector):
    """Called on the loop that owns the state (``StatusServer`` renders there). ``cert_expires_ms``: when this peer's
    own certificate ends (unix milliseconds), 0 without TLS."""

    def __init__(
        self,
        status: Callable[[], LogStatus],
        state: Callable[[], State],
        *,
        cert_expires_ms: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cert_expires_ms = cert_expires_ms
        self._status = status
        self._state = state
        self._jobs = Counted(lambda: _jobs(state()), clock)
        self._allocations = Counted(lambda: _allocations(state()), clock)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        status, state = self._status(), self._state()
        yield GaugeMetricFamily("raftsman_leader", "1 on the peer that leads", value=status.leader_id == status.peer_id)
        yield GaugeMetricFamily("raftsman_term", "Raft term", value=status.term)
        yield GaugeMetricFamily("raftsman_epoch", "Configuration epoch of the peers", value=status.epoch)
        yield GaugeMetricFamily("raftsman_index", "Commands applied to the state", value=status.index)
        yield GaugeMetricFamily("raftsman_commit_index", "Raft entry index committed", value=status.commit_index)
        yield CounterMetricFamily("raftsman_elections", "Elections seen by this process", value=status.elections)
        yield _by("raftsman_peer_connected", "1 while this peer is connected to that one", "peer", {
            peer.peer_id: int(peer.connected) for peer in status.peers if peer.peer_id != status.peer_id
        })  # fmt: skip
        ends = {peer.peer_id: peer.cert_expires_ms for peer in status.peers} | {status.peer_id: self._cert_expires_ms}
        yield _by("raftsman_certificate_end_seconds", "When a peer's certificate ends, unix time", "peer", {
            peer: end // 1000 for peer, end in ends.items() if end > 0
        })  # fmt: skip
        yield _by("raftsman_jobs", "Jobs by state", "state", self._jobs())
        yield _by("raftsman_allocations", "Allocation records by observed state", "state", self._allocations())
        nodes = Counter(node.status for node in state.nodes.values())
        yield _by("raftsman_nodes", "Nodes by status", "status", {s.name.lower(): nodes[s] for s in NodeStatus})


class Counted:
    """Counts that are given again while counting anew would cost more than its share."""

    def __init__(self, count: Callable[[], dict[str, int]], clock: Callable[[], float]) -> None:
        self._count = count
        self._clock = clock
        self._counts: Mapping[str, int] = {}
        self._again_at = float("-inf")

    def __call__(self) -> Mapping[str, int]:
        began = self._clock()
        if began >= self._again_at:
            self._counts = self._count()
            took = self._clock() - began
            self._again_at = began + AGE_PER_COST * took if took > BRIEF_S else float("-inf")
        return self._counts


def _by(name: str, text: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _allocations(state: State) -> dict[str, int]:
    table = state.table
    used = table.job[: table.high] != FREE
    counts = np.bincount(table.state[: table.high][used], minlength=max(AllocState) + 1)
    return {one.name.lower(): int(counts[one]) for one in AllocState}


def _jobs(state: State) -> dict[str, int]:
    """Like ``state.status`` for every job at once, from sums per job."""
    newest = state.ordinals.newest
    rows = newest[newest >= 0]
    slots, observed = state.table.job[rows], state.table.state[rows]
    size = max(state.job_at, default=0) + 1

    def per_job(chosen: np.ndarray) -> list[int]:
        sums: list[int] = np.bincount(slots[chosen], minlength=size).tolist()
        return sums

    live = per_job(observed <= LAST_LIVE)
    running = per_job((observed == int(AllocState.RUNNING)) | (observed == int(AllocState.STOPPING)))
    ended = observed == int(AllocState.FAILED)
    failed = per_job(ended & ~_tried_again(state, rows, ended))
    complete = per_job(observed == int(AllocState.COMPLETE))
    found = dict.fromkeys(JOB_STATES, 0)
    for slot, job in state.job_at.items():
        found[_word(job, live[slot], running[slot], failed[slot], complete[slot])] += 1
    return found


def _tried_again(state: State, rows: np.ndarray, failed: np.ndarray) -> np.ndarray:
    """bool per row: it failed to start and will be tried again, so its job is pending and not failed."""
    table = state.table
    again: np.ndarray = failed & table.start_failed[rows]
    if again.any():
        retries = np.zeros(max(state.ordinals.names, default=0) + 1, dtype=np.int64)
        for slot, job in state.job_at.items():
            for group in job.spec.groups:
                gid = state.ordinals.gids.get((slot, group.name))
                if gid is not None:
                    retries[gid] = retries_of(group.restart)
        return np.asarray(again & (table.failures[rows] <= retries[table.gid[rows]]))
    return np.asarray(again)


def _word(job: Job, live: int, running: int, failed: int, complete: int) -> str:
    if job.stopped:
        return "stopping" if live else "stopped"
    wanted = live if job.spec.type is JobType.SYSTEM else sum(group.count for group in job.spec.groups)
    pending = max(0, wanted - live - failed - complete)
    if job.spec.type is JobType.BATCH and not live and not pending:
        return "failed" if failed else "complete"
    if running:
        return "running"
    if live or pending:
        return "pending"
    return "failed" if failed else "running"
