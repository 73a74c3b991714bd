"""Independent observers of what really ran: the engine's events for containers, own records for processes.

Owns: turning what the engine and the kernel said into ``drill_facts.Run`` rows. Leaves to others: judging them. The
rule: neither the control plane nor an agent is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from orchestrator.ops.drill_facts import Run
from orchestrator.ops.engine import ContainerEvent, Engine, EngineError
from orchestrator.ops.http import probe
from orchestrator.ops.leftovers import CLUSTER_LABEL

ALLOCATION_LABEL = "raftsman.allocation"
ENDED = ("die", "destroy")
FAILURES_KEPT = 100
"""Different ones."""


class Observer(Protocol):
    """Watches every run whose allocation belongs to a job with the drill's prefix."""

    async def start(self) -> None: ...

    async def runs(self) -> list[Run]:
        """Every run seen until now."""

    async def stop(self) -> None: ...


class DockerObserver:
    """Listens to one engine from ``start`` on; on ``runs`` it asks again for the last seconds, so nothing is missed."""

    def __init__(self, cluster_id: str, job_prefix: str) -> None:
        self._labels = {CLUSTER_LABEL: cluster_id}
        self._prefix = job_prefix
        self._engine = Engine()
        self._events: dict[tuple[str, str, int], ContainerEvent] = {}
        self._since_s = 0.0
        self._listener: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._since_s = time.time() - 1.0
        self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        since = self._since_s
        while True:
            try:
                async for event in self._engine.events(self._labels, since_s=since):
                    self._note(event)
                    since = event.time_ns / 1e9
            except EngineError:
                await asyncio.sleep(0.2)  # the engine was restarted: go on from the last event

    def _note(self, event: ContainerEvent) -> None:
        # Repeated ones (two overlapping queries) have the same key.
        self._events[event.id, event.action, event.time_ns] = event

    async def runs(self) -> list[Run]:
        now = time.time()
        async for event in self._engine.events(self._labels, since_s=max(self._since_s, now - 5.0), until_s=now):
            self._note(event)
        mine = (e for e in self._events.values() if e.labels.get(ALLOCATION_LABEL, "").startswith(self._prefix))
        return runs_of_events(mine)

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        await self._engine.__aexit__()


def runs_of_events(events: Iterable[ContainerEvent]) -> list[Run]:
    """One run per ``start``; it ends with the container's next ``die``."""
    runs: list[Run] = []
    open_runs: dict[str, int] = {}
    for event in sorted(events, key=lambda event: event.time_ns):
        at = event.time_ns / 1e9
        if event.action == "start":
            open_runs[event.id] = len(runs)
            runs.append(Run(instance_of(event.labels), event.id, at, None))
        elif event.action in ENDED and event.id in open_runs:
            place = open_runs.pop(event.id)
            runs[place] = Run(runs[place].instance, event.id, runs[place].started_s, at)
    return runs


def instance_of(labels: Mapping[str, str]) -> str:
    """What must not run twice: an allocation (a drill's have one task each)."""
    return labels.get(ALLOCATION_LABEL, "")


class RecordObserver:
    """Reads what ``drill_service`` processes wrote."""

    def __init__(self, records: Path) -> None:
        self._records = records

    async def start(self) -> None:
        self._records.mkdir(parents=True, exist_ok=True)

    async def runs(self) -> list[Run]:
        logs = sorted(self._records.glob("*.log"))
        return [run for log in logs for run in runs_of_record(log.stem.replace("@", "/"), log.read_text())]

    async def stop(self) -> None:
        return


def runs_of_record(instance: str, text: str) -> list[Run]:
    """A start that found the lock free proves that earlier runs have ended; ``double-end`` tells when they did."""
    lines = [(what, pid, int(at) / 1e9) for what, pid, at in (line.split() for line in text.splitlines())]
    doubles = {pid for what, pid, _ in lines if what == "double-begin"}
    runs: list[Run] = []
    for what, pid, at in lines:
        if what == "start":
            if pid not in doubles:
                runs = [_ended(run, at) for run in runs]
            runs.append(Run(instance, pid, at, None))
        elif what == "double-end":
            runs = [run if run.run_id == pid else _ended(run, at) for run in runs]
    return runs


def _ended(run: Run, at: float) -> Run:
    return run if run.ended_s is not None else Run(run.instance, run.run_id, run.started_s, at)


class HttpLoad:
    """Steady requests to every running instance of the drill's service; counts those that failed."""

    def __init__(self, interval_s: float = 0.05, timeout_s: float = 2.0) -> None:
        self.requests = 0
        self.failed = 0
        self.failures: Counter[str] = Counter()
        """What went wrong, and how often: one address that is away fails twenty times a second."""
        self._interval_s, self._timeout_s = interval_s, timeout_s
        self._targets: dict[str, asyncio.Task[None]] = {}

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(self._targets)

    def aim(self, addresses: Iterable[str]) -> None:
        """Load exactly these ``host:port`` from now on."""
        wanted = set(addresses)
        for address in wanted - self._targets.keys():
            self._targets[address] = asyncio.create_task(self._load(address))
        for address in self._targets.keys() - wanted:
            self._targets.pop(address).cancel()

    async def stop(self) -> None:
        tasks = list(self._targets.values())
        self.aim(())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, address: str) -> None:
        while True:
            problem = await probe(address, self._timeout_s)
            self.requests += 1
            if problem:
                self.failed += 1
                said = f"{address}: {problem}"
                if len(self.failures) < FAILURES_KEPT or said in self.failures:
                    self.failures[said] += 1
            await asyncio.sleep(self._interval_s)
