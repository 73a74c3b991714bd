"""Keeps asking the checks of what runs here, and tells the supervisor what they come to.

Owns: one background task per run of an allocation that has checks. Leaves to others: one question (``agent.checks``),
judging (``agent.health``), what follows (``agent.supervisor``). The rule: it follows the record. Whatever leaves
RUNNING, or begins another run, is asked no more; what an agent takes up again goes on as it stood.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from agent.checks import SAID_MAX, NoAnswerError, ask
from agent.driver import Driver, RunId, run_name
from agent.health import Tally, asks, is_checked, says
from agent.records import Record
from orchestrator.contract.health import CheckSpec, HealthSpec, describe, is_ready
from orchestrator.contract.model import AllocState, AssignmentKey, TaskSpec, WorkloadSpec

EAGER_S = 1.0
"""Until a task was ready for the first time it is asked so often, if its interval is longer."""
TELL_S = 10.0
"""Why a task is not through its startup check is told so often."""

log = structlog.get_logger("agent.prober")


class Says(Protocol):
    """What tasks say of themselves (``agent.workload``)."""

    def is_ready(self, run: RunId) -> bool:
        """Whether the task said so in this run."""

    def silent_for_s(self, run: RunId) -> float:
        """Since its last heartbeat; before the first one, since this agent knows of the run."""

    async def changed(self, run: RunId, timeout_s: float) -> None:
        """Until its readiness may have changed, or ``timeout_s``."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an allocation."""

    key: AssignmentKey
    restarts: int


class Prober:
    """``ready`` is told when an allocation's readiness changes (with the reason where it is not), ``dead`` when a check
    says that the run must end. ``host``: where published ports answer."""

    def __init__(
        self,
        *,
        drivers: Mapping[str, Driver],
        host: str,
        cluster_id: Callable[[], str],
        now_ms: Callable[[], int],
        ready: Callable[[Run, bool, str], None],
        dead: Callable[[Run, str], None],
        says: Says | None = None,
    ) -> None:
        self._drivers = drivers
        self._host = host
        self._cluster_id = cluster_id
        self._now_ms = now_ms
        self._ready = ready
        self._dead = dead
        self._says = says
        self._runs: dict[AssignmentKey, tuple[Run, asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def follow(self, record: Record) -> None:
        """The record is so now."""
        known = self._runs.get(record.key)
        run = Run(record.key, record.restarts)
        wanted = record.wanted and record.state is AllocState.RUNNING and record.cause is None
        if known is not None and (not wanted or known[0] != run):
            known[1].cancel()
            del self._runs[record.key]
            known = None
        if (
            wanted
            and known is None
            and any(task.health is not None or task.workload is not None for task in record.assignment.group.tasks)
        ):
            watch = asyncio.get_running_loop().create_task(self._watch(run, record))
            self._runs[record.key] = (run, watch)

    async def close(self) -> None:
        tasks = [task for _, task in self._runs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._runs.clear()

    async def _watch(self, run: Run, record: Record) -> None:
        was_ready = record.health != 0 and is_ready(record.health)
        standing = _Standing(run, record, was_ready, self._ready)
        try:
            async with asyncio.TaskGroup() as group:
                for task in record.assignment.group.tasks:
                    if task.health is not None:
                        group.create_task(self._task(run, record, task, task.health, standing, was_ready))
                    if task.workload is not None and self._says is not None:
                        group.create_task(self._listen(run, record, task, task.workload, standing, self._says))
        except* Exception as errors:  # a defect in one check must not end the agent
            log.exception("prober_failed", allocation=str(run.key.id), error=str(errors.exceptions[0]))

    async def _task(
        self, run: Run, record: Record, task: TaskSpec, spec: HealthSpec, standing: _Standing, started: bool
    ) -> None:
        if spec.startup is not None and not started:
            standing.say(task.name, False, f"{task.name} is starting up")
            tally = Tally(spec.startup)
            tell_s = 0.0
            while tally.passing is None:
                said = await self._ask(tally, record, task)
                if tally.passing is None:
                    now_s = time.monotonic()
                    if said and now_s >= tell_s:  # not with each answer: they may all be different
                        tell_s = now_s + TELL_S
                        check = f"startup check ({describe(spec.startup)})"
                        standing.say(task.name, False, f"{task.name} is starting up, {check}: {said}")
                    await asyncio.sleep(max(0.05, spec.startup.interval_ms / 1000))
            if not tally.passing:
                self._dead(run, f"startup check of {task.name} failed ({describe(spec.startup)}): {said}")
                return
        if spec.readiness is None:
            standing.say(task.name, True, "")
        async with asyncio.TaskGroup() as group:
            if spec.readiness is not None:
                group.create_task(self._keep_ready(record, task, spec.readiness, standing, started))
            if spec.liveness is not None:
                group.create_task(self._keep_alive(run, record, task, spec.liveness))

    async def _listen(
        self, run: Run, record: Record, task: TaskSpec, spec: WorkloadSpec, standing: _Standing, said: Says
    ) -> None:
        """What it promised to say itself. A silence ends the run once; what follows is the restart policy's."""
        which = RunId(key=record.key, restarts=record.restarts, task=task.name)
        while True:
            if spec.ready:
                ready = said.is_ready(which)
                standing.say(_own(task), ready, "" if ready else f"{task.name} has not said that it is ready")
            left_s = EAGER_S
            if spec.heartbeat_ms:
                left_s = spec.heartbeat_ms / 1000 - said.silent_for_s(which)
                if left_s <= 0:
                    self._dead(run, f"{task.name} sent no heartbeat for {spec.heartbeat_ms / 1000:g} s")
                    return
            await said.changed(which, left_s)

    async def _keep_ready(
        self, record: Record, task: TaskSpec, check: CheckSpec, standing: _Standing, started: bool
    ) -> None:
        tally = Tally(check, passing=True if started else None)
        interval_s = max(0.05, check.interval_ms / 1000)
        while True:
            before = tally.passing
            said = await self._ask(tally, record, task)
            if tally.passing is not before or (tally.passing is None and said):
                standing.say(
                    task.name,
                    tally.passing is True,
                    "" if tally.passing else f"readiness check of {task.name} ({describe(check)}): {said}",
                )
            await asyncio.sleep(interval_s if tally.passing is not None else min(interval_s, EAGER_S))

    async def _keep_alive(self, run: Run, record: Record, task: TaskSpec, check: CheckSpec) -> None:
        tally = Tally(check)
        while True:
            await asyncio.sleep(max(0.05, check.interval_ms / 1000))
            said = await self._ask(tally, record, task)
            if tally.passing is False:
                self._dead(run, f"liveness check of {task.name} failed ({describe(check)}): {said}")
                return

    async def _ask(self, tally: Tally, record: Record, task: TaskSpec) -> str:
        """One question, counted; what was wrong with the answer ("" = nothing)."""
        name = run_name(self._cluster_id(), RunId(key=record.key, restarts=record.restarts, task=task.name))
        driver = self._drivers.get(task.driver_name)
        try:
            said = await ask(tally.check, record.assignment, self._host, driver, name)
        except NoAnswerError:
            return ""
        except Exception as error:  # a defect in a check says nothing of the task, and must not go unsaid
            log.exception("check_failed", allocation=str(record.key.id), task=task.name)
            return f"it cannot be asked: {type(error).__name__}: {error}"[:SAID_MAX]
        tally.count(not said, max(0, self._now_ms() - record.running_since_ms))
        return said


def _own(task: TaskSpec) -> str:
    """Of what a task says itself, beside what its checks say; no task has such a name."""
    return f"{task.name}:"


class _Standing:
    """What the tasks of one run are together: ready when all that are checked are."""

    def __init__(self, run: Run, record: Record, ready: bool, tell: Callable[[Run, bool, str], None]) -> None:
        self._run = run
        self._checked = is_checked(record.assignment.group.tasks)
        self._reasons = {
            task.name: "" if ready else "not checked yet" for task in record.assignment.group.tasks if asks(task)
        }
        self._reasons |= {
            _own(task): "" if ready else f"{task.name} has not said that it is ready"
            for task in record.assignment.group.tasks
            if says(task)
        }
        self._told: tuple[bool, str] = (ready, "")
        self._tell = tell

    def say(self, task: str, ready: bool, reason: str) -> None:
        if not self._checked or task not in self._reasons:
            return
        self._reasons[task] = "" if ready else reason or "not ready"
        bad = [text for text in self._reasons.values() if text]
        now = (not bad, bad[0] if bad else "")
        if now != self._told:
            self._told = now
            self._tell(self._run, *now)
