"""What tasks say of themselves, by run: ready, heartbeats, metrics, that they are done. No I/O.

Owns: these facts with their bounds, the tokens that runs are known by. Leaves to others: how tasks say it
(``endpoint``), ports (``ports``), what follows from it (``side``). The rules: a token is of one run of one task, so
what an earlier run said is never taken for the present one's; tokens are derived from a secret, so that a restarted
agent knows those that are out there.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.driver import RunId, run_name
from agent.records import Record
from orchestrator.contract.model import AssignmentKey

METRICS_MAX = 64
"""Names that one run may report."""
SERIES_MAX = 20_000
"""Metrics of all runs together."""
METRIC = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")
METRIC_RULE = "1 to 64 letters, digits and '_', not beginning with a digit"


class SaysError(ValueError):
    """What a task said cannot be taken; the text says why."""


@dataclass(slots=True)
class Said:
    """Of one run. ``known_s``: monotonic, when this agent first knew of it."""

    known_s: float
    ready: bool = False
    beat_s: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    listens: bool = False  # it has asked for the notice of its end
    heard_s: float | None = None  # and was given it then
    deadline_s: float | None = None  # told to stop: then it is killed
    notice: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False
    done: bool = False
    ended: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # draining, done or ended
    news: asyncio.Event = field(default_factory=asyncio.Event)  # its readiness


class Board:
    """``records`` gives what the agent knows of allocations now, for runs whose token was given out before it came."""

    def __init__(
        self,
        secret: bytes,
        cluster_id: Callable[[], str],
        records: Callable[[], Mapping[AssignmentKey, Record]],
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secret = secret
        self._cluster_id = cluster_id
        self._records = records
        self._clock_s = clock_s
        self._said: dict[RunId, Said] = {}
        self._tokens: dict[str, RunId] = {}
        self._series = 0

    def token(self, run: RunId) -> str:
        """Of a run that may begin now."""
        name = run_name(self._cluster_id(), run)
        token = hmac.new(self._secret, name.encode(), hashlib.sha256).hexdigest()[:40]
        self._tokens[token] = run
        return token

    def find(self, token: str) -> RunId | None:
        """The run that it is of, as long as that is its allocation's present one."""
        run = self._tokens.get(token)
        if run is None:
            for record in self._records().values():
                if record.live:
                    for task in record.assignment.group.tasks:
                        self.token(RunId(key=record.key, restarts=record.restarts, task=task.name))
            run = self._tokens.get(token)
        return run if run is not None and self._present(run) else None

    def of(self, run: RunId) -> Said:
        said = self._said.get(run)
        if said is None:
            said = self._said[run] = Said(known_s=self._clock_s())
        return said

    def known(self, run: RunId) -> Said | None:
        return self._said.get(run)

    def runs(self) -> list[tuple[RunId, Said]]:
        return list(self._said.items())

    # ------------------------------------------------------------------------ what tasks say

    def ready(self, run: RunId, ready: bool) -> bool:
        """Whether that is news."""
        said = self.of(run)
        changed, said.ready = said.ready is not ready, ready
        if changed:
            said.news.set()
        return changed

    def beat(self, run: RunId) -> None:
        self.of(run).beat_s = self._clock_s()

    def report(self, run: RunId, metrics: Mapping[str, object]) -> None:
        """Take over these values, all or none; names that are not said stay as they were."""
        said = self.of(run)
        taken: dict[str, float] = {}
        for name, value in metrics.items():
            if not METRIC.fullmatch(name):
                raise SaysError(f"metric {name[:80]!r}: expected {METRIC_RULE}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
                raise SaysError(f"metric {name}: expected a finite number, got {value!r:.80}")
            taken[name] = float(value)
        fresh = len(taken.keys() - said.metrics.keys())
        if len(said.metrics) + fresh > METRICS_MAX:
            raise SaysError(f"a task reports at most {METRICS_MAX} metrics, and has {len(said.metrics)} already")
        if self._series + fresh > SERIES_MAX:
            raise SaysError(f"the tasks of this node report {self._series} metrics already: that is the most it takes")
        self._series += fresh
        said.metrics.update(taken)

    def drains(self, run: RunId) -> None:
        said = self.of(run)
        said.draining = True
        said.changed.set()

    def is_done(self, run: RunId) -> bool:
        """It may be ended, and gets no more work. Whether its readiness is news."""
        said = self.of(run)
        said.done = True
        said.changed.set()
        return self.ready(run, False)

    def ended(self, run: RunId) -> Said | None:
        """It runs no more; what it said was of that run alone."""
        said = self._drop(run)
        for other in [other for other in self._said if not self._present(other)]:
            self._drop(other)  # somebody asked for it after its end
        self._tokens = {token: one for token, one in self._tokens.items() if one != run and self._present(one)}
        return said

    def _drop(self, run: RunId) -> Said | None:
        said = self._said.pop(run, None)
        if said is not None:
            self._series -= len(said.metrics)
            said.ended = True
            said.changed.set()
            said.notice.set()
        return said

    def _present(self, run: RunId) -> bool:
        """Whether it is its allocation's present run."""
        record = self._records().get(run.key)
        return record is not None and record.live and record.restarts == run.restarts

    # ------------------------------------------------------------------------ what follows

    def is_ready(self, run: RunId) -> bool:
        """Whether the task said so in this run."""
        said = self._said.get(run)
        return said is not None and said.ready

    def silent_for_s(self, run: RunId) -> float:
        """Since its last heartbeat; before the first one, since this agent knows of the run."""
        said = self.of(run)
        return self._clock_s() - (said.known_s if said.beat_s is None else said.beat_s)

    async def changed(self, run: RunId, timeout_s: float) -> None:
        """Until its readiness may have changed, or ``timeout_s``."""
        said = self.of(run)
        said.news.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await said.news.wait()
        except TimeoutError:
            pass


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can be
        return False
