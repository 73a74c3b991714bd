"""``Proposer``: a command becomes an entry, bytes, a place in the log and an outcome; the one road for every write.

Owns: stamping entries with the proposer's clock, encoding them, and measuring the log. Leaves to others: what the
outcome means to a caller (``api.control``, ``leader.loop``). The rule: nothing else calls ``log.propose``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import Counter, Histogram

from orchestrator.replication.cluster_clock import unix_ms
from orchestrator.replication.codec import encode_entry
from orchestrator.replication.log import ReplicatedLog
from orchestrator.state.commands import Applied, ChangePeers, Command, Entry, Outcome, Rejected

COMMIT_LATENCY = Histogram(
    "raftsman_commit_latency_seconds",
    "From proposing a command until it was committed and applied here",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
PROPOSALS = Counter("raftsman_proposals", "Commands proposed by this peer", ["command"])
REJECTED = Counter("raftsman_rejected", "Commands that were committed and refused by the state", ["reason"])

LEADER_IDENTITY = "leader"
"""``Entry.identity`` of the leader's own commands, which carry no request id."""


class Proposer:
    """Proposes on one log. ``clock_ms`` gives unix milliseconds (a peer's: ``ClusterClock``)."""

    def __init__(self, log: ReplicatedLog, *, clock_ms: Callable[[], int] = unix_ms) -> None:
        self._log = log
        self._clock_ms = clock_ms

    async def propose(
        self,
        command: Command,
        *,
        identity: str = LEADER_IDENTITY,
        request_id: str = "",
        digest: bytes = b"",
        timeout_s: float = 10.0,
        urgent: bool = False,
    ) -> Outcome:
        """The outcome of ``command``; raises what ``ReplicatedLog.propose`` raises. The leader's own are urgent."""
        entry = Entry(
            identity=identity, request_id=request_id, digest=digest, time_ms=self._clock_ms(), command=command
        )
        payload = encode_entry(entry)
        PROPOSALS.labels(type(command).__name__).inc()
        began = time.perf_counter()
        # Whatever stands behind a change of the peers in its entry would be void.
        alone = isinstance(command, ChangePeers)
        urgent = urgent or identity == LEADER_IDENTITY
        outcome = (await self._log.propose(payload, timeout_s=timeout_s, alone=alone, urgent=urgent)).outcome
        COMMIT_LATENCY.observe(time.perf_counter() - began)
        if not isinstance(outcome, Applied | Rejected):
            raise TypeError(f"the state machine answered {type(outcome).__name__}")
        if isinstance(outcome, Rejected):
            REJECTED.labels(outcome.reason).inc()
        return outcome
