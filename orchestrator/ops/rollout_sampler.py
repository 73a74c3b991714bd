"""Rolling updates while somebody looks: how many instances are ready, how many live, every 50 ms.

Owns: the job, the rounds of updates, the samples and what they come to. Leaves to others: the cluster. The rule: a
sample is one linearizable answer of the cluster, and every one is counted, from the first round's begin to the last
one's end.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from orchestrator.client.job import Job
from orchestrator.client.sync import Client
from orchestrator.contract.errors import RaftsmanError
from orchestrator.contract.rollouts import RolloutStatus
from orchestrator.contract.transitions import is_terminal

EVERY_S = 0.05
READY_AFTER_S = 0.3
SCRIPT = "sleep {pause}; echo {version} > ready; exec sleep 100000"
CHECK = {"exec": ["test", "-e", "ready"], "interval": "200ms"}


@dataclass(slots=True)
class Sampled:
    """``below``, ``above``: samples outside the bounds; ``gap_ms_max``: the longest time without a sample."""

    rounds: int = 0
    samples: int = 0
    ready_min: int = 10**9
    live_max: int = 0
    below: int = 0
    above: int = 0
    errors: int = 0
    gap_ms_max: int = 0
    took_ms: list[int] = field(default_factory=list)


class _Sampler(threading.Thread):
    def __init__(self, client: Client, name: str, count: int, floor: int, most: int, into: Sampled) -> None:
        super().__init__(name="sampler", daemon=True)
        self._client, self._name, self._count = client, name, count
        self._floor, self._most, self._into = floor, most, into
        self.stop = threading.Event()

    def run(self) -> None:
        before = time.monotonic()
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                listed = self._client.list_allocations(job=self._name, live_only=True).allocations
            except RaftsmanError:
                self._into.errors += 1
                continue
            now = time.monotonic()
            self._into.gap_ms_max = max(self._into.gap_ms_max, int((now - before) * 1000))
            before = now
            ready = len({one.id.ordinal for one in listed if one.ready and one.id.ordinal < self._count})
            live = sum(not is_terminal(one.state) for one in listed)
            self._into.samples += 1
            self._into.ready_min = min(self._into.ready_min, ready)
            self._into.live_max = max(self._into.live_max, live)
            self._into.below += ready < self._floor
            self._into.above += live > self._most
            self.stop.wait(max(0.0, EVERY_S - (now - began)))


def sample_rollouts(
    client: Client,
    *,
    name: str = "rolling",
    count: int = 3,
    surge: int = 1,
    unavailable: int = 0,
    rounds: int = 20,
    round_s: float = 120.0,
) -> Sampled:
    """Run a job, update it ``rounds`` times and sample meanwhile. Raises ``TimeoutError`` when one takes too long."""
    into = Sampled()
    _submit(client, name, count, surge, unavailable, 0)
    _until_done(client, name, 1, round_s)
    sampler = _Sampler(client, name, count, count - unavailable, count + surge, into)
    sampler.start()
    try:
        for version in range(1, rounds + 1):
            began = time.monotonic()
            wanted = _submit(client, name, count, surge, unavailable, version)
            _until_done(client, name, wanted, round_s)
            into.rounds += 1
            into.took_ms.append(int((time.monotonic() - began) * 1000))
    finally:
        sampler.stop.set()
        sampler.join(timeout=30.0)
    return into


def _submit(client: Client, name: str, count: int, surge: int, unavailable: int, version: int) -> int:
    script = SCRIPT.format(pause=READY_AFTER_S, version=version)
    job = Job(
        name,
        count=count,
        command=["/bin/sh", "-c", script],
        cpu="10m",
        memory="16Mi",
        health={"readiness": CHECK},
        update={"max_surge": surge, "max_unavailable": unavailable},
        stop_signal="SIGKILL",
    )
    return client.submit(job).version


def _until_done(client: Client, name: str, version: int, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        job = client.get_job(name).job
        rollout = job.rollout
        if rollout is not None and rollout.version >= version and rollout.status is RolloutStatus.SUCCEEDED:
            return
        if rollout is not None and rollout.status is RolloutStatus.FAILED:
            raise TimeoutError(f"the rollout of {name} version {version} failed: {rollout.reason}")
        time.sleep(0.1)
    raise TimeoutError(f"the rollout of {name} version {version} was not through after {limit_s:g} s")
