"""Whole lives of an agent: whatever its engine, its control plane and its own process do, it ends with what is wanted.

A supervisor in virtual time on a fake engine that answers late, breaks off, forgets what it ran, and carries out calls
that were given up; updates that come in part, late or not at all; people who stop, remove and start containers behind
its back; agents that die and come back. At no time does a task run twice. A failure prints its seed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.driver import DriverUnavailableError, Exit, Instance, RunSpec, StartError
from agent.drivers.fake import FakeDriver
from agent.metrics import Metrics
from agent.runspec import NodeFacts
from agent.store import Store
from agent.supervisor import Supervisor
from orchestrator.contract.model import (
    AllocState,
    Assignment,
    AssignmentKey,
    Desired,
    JobType,
    Observation,
    OnDisconnect,
    RestartMode,
    RestartPolicy,
    StopPolicy,
    TaskRole,
    TaskSpec,
)
from tests.effort import seeds
from tests.integration.agent_fakes import CLUSTER, assignment_of, key_of, task_of
from tests.sim.loop import run_virtual

NODE = "node-1"
START_MS = 1_790_000_000_000
STEPS = 120
MEDDLING = 12
CALM_S = 300
"""So long nobody disturbs it any more: longer than any delay or deadline here."""


class Engine(FakeDriver):
    """Slow, now and then away; and what was begun is carried out, whether its caller waits for it or not."""

    def __init__(self, dice: Random, now_ms: Any) -> None:
        super().__init__()
        self.dice = dice
        self.now_ms = now_ms
        self.calm = False
        self.doubled: list[str] = []
        self.agents = 0  # that were there before
        # Begun by people, or by a call of an agent that died before it was carried out: nobody can know beforehand what
        # else has just begun in its place. They are ended once they are seen.
        self.surprising: set[str] = set()
        self._at_work: set[asyncio.Task[Any]] = set()

    async def _late(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def done() -> Any:
            try:
                await asyncio.sleep(self.dice.choice((0, 0, 0, 0.01, 0.3, 2.0)))
                result = await work
                await asyncio.sleep(self.dice.choice((0, 0, 0.01, 0.3)))
            finally:
                work.close()
            if not self.calm and self.dice.random() < 0.04:
                raise DriverUnavailableError("the answer was lost")
            return result

        task = asyncio.get_running_loop().create_task(done())
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        task.add_done_callback(lambda one: one.cancelled() or one.exception())
        return await asyncio.shield(task)

    async def prepare(self, spec: RunSpec) -> None:
        await self._late(super().prepare(spec))

    async def start(self, spec: RunSpec) -> Instance:
        found: Instance = await self._late(self._start(spec, self.agents))
        return found

    async def _start(self, spec: RunSpec, agents: int) -> Instance:
        if not self.calm and spec.name not in self._runs and self.dice.random() < 0.05:
            raise StartError("the port is taken")
        if agents != self.agents:
            self.surprising.add(spec.name)
        one = await super().start(spec)
        self.doubled += [
            f"{other.name} beside {one.name}"
            for other in self.running()
            if other.name not in (one.name, *self.surprising)
            and one.running
            and (other.run.key, other.run.task) == (one.run.key, one.run.task)
        ]
        return one

    async def resize(self, spec: RunSpec) -> None:
        await self._late(super().resize(spec))

    async def stop(self, name: str, *, signal: str, timeout_ms: int) -> None:
        await self._late(super().stop(name, signal=signal, timeout_ms=timeout_ms))

    async def remove(self, name: str) -> None:
        await self._late(super().remove(name))

    async def inspect(self, name: str) -> Instance | None:
        found: Instance | None = await self._late(super().inspect(name))
        return found

    async def list(self, cluster_id: str) -> tuple[Instance, ...]:
        found: tuple[Instance, ...] = await self._late(super().list(cluster_id))
        return found

    def end(self, name: str, exit_: Exit) -> None:
        super().end(name, replace(exit_, ended_ms=exit_.ended_ms or self.now_ms()))

    def running(self) -> tuple[Instance, ...]:
        return tuple(run.instance for run in self._runs.values() if run.instance.running)

    def ended(self) -> tuple[str, ...]:
        return tuple(name for name, run in self._runs.items() if not run.instance.running)

    def begin_anew(self) -> None:
        """It comes back without what it ran."""
        for one in self.running():
            self.end(one.name, Exit(code=137, signal=9))
        self.set_available(True)

    async def settled(self) -> None:
        while self._at_work:
            await asyncio.wait(set(self._at_work))


class Life:
    def __init__(self, seed: int, directory: Path) -> None:
        self.dice = Random(seed)
        self.directory = directory
        self.clock_ms = START_MS - 1_000_000
        self.engine = Engine(self.dice, self.now_ms)
        self.wanted: dict[AssignmentKey, Assignment] = {}
        self.said: dict[AssignmentKey, Observation] = {}
        self.news: set[AssignmentKey] = set()
        self.gone: set[AssignmentKey] = set()
        self.index = 0
        self.whole = False  # the agent has heard everything up to now
        self.sending: asyncio.Task[bool] | None = None

    def now_ms(self) -> int:
        return self.clock_ms + int(asyncio.get_running_loop().time() * 1000)

    # ------------------------------------------------------------------------ the agent

    async def begin(self) -> None:
        self.engine.keeps_runs = self.dice.random() < 0.5
        self.store = Store(self.directory)
        self.store._node["node_id"] = NODE
        self.store.join(CLUSTER)
        self.supervisor = Supervisor(
            store=self.store,
            drivers={"fake": self.engine},
            node=NodeFacts(node_id=NODE, name="n1", address="127.0.0.1", api="127.0.0.1:7400"),
            metrics=Metrics(),
            report=self.hear,
            now_ms=self.now_ms,
            noted_ms=self.now_ms,
        )
        self.whole = False
        await self.supervisor.start(without_contact=self.dice.random() < 0.1)

    def hear(self, one: Observation) -> None:
        self.said[one.key] = one

    async def die(self) -> None:
        if self.sending is not None:
            self.sending.cancel()
        with suppress(asyncio.CancelledError, DriverUnavailableError):
            if self.sending is not None:
                await self.sending
        self.sending = None
        await self.supervisor.close()
        self.store.close()
        self.engine.agents += 1

    # ------------------------------------------------------------------------ the control plane

    def task(self, name: str, kind: JobType) -> TaskSpec:
        dice, env = self.dice, {}
        if kind is JobType.BATCH or dice.random() < 0.2:
            env = {"FAKE_EXIT_AFTER_MS": dice.choice(("10", "30000")), "FAKE_EXIT_CODE": dice.choice(("0", "0", "3"))}
        if dice.random() < 0.05:
            env = {"FAKE_START_ERROR": "no such image"}
        stop = StopPolicy(timeout_ms=2_000)
        return task_of("run", name=name, driver="fake", env=env, memory_mib=dice.choice((64, 128)), stop=stop)

    def made(self, key: AssignmentKey, version: int) -> Assignment:
        dice = self.dice
        kind = dice.choice((JobType.SERVICE, JobType.SERVICE, JobType.BATCH))
        tasks = [self.task("main", kind)]
        if dice.random() < 0.3:
            tasks.append(self.task("side", kind))
        if dice.random() < 0.2:
            env = (("FAKE_EXIT_AFTER_MS", "20"), ("FAKE_EXIT_CODE", dice.choice(("0", "0", "1"))))
            tasks.insert(0, replace(self.task("first", kind), role=TaskRole.INIT, env=env))
        policy = RestartPolicy(
            attempts=dice.choice((0, 1, 3)), delay_ms=dice.choice((100, 5_000)), mode=dice.choice(tuple(RestartMode))
        )
        one = assignment_of(
            key,
            *tasks,
            job_type=kind,
            restart=policy,
            on_disconnect=dice.choice(tuple(OnDisconnect)),
            modify_index=self.index + 1,
        )
        return replace(one, job_version=version)

    def change(self) -> None:
        """What the control plane wants is another thing now."""
        dice = self.dice
        luck = dice.random()
        known = sorted(self.wanted, key=lambda one: (one.id.ordinal, one.attempt))
        if luck < 0.4 or not known:
            ordinal = dice.randrange(4)
            mine = [one for one in known if one.id.ordinal == ordinal]
            attempt = 1 + max(
                (one.attempt for one in [*mine, *self.said, *self.gone] if one.id.ordinal == ordinal), default=0
            )
            key = key_of(ordinal=ordinal, attempt=attempt)
            if dice.random() < 0.7:
                for old in mine:
                    self.tell(replace(self.wanted[old], desired=Desired.STOP))
            self.tell(self.made(key, 1))
            return
        key = dice.choice(known)
        now = self.wanted[key]
        if luck < 0.6:
            self.tell(replace(now, desired=Desired.STOP))
        elif luck < 0.75:
            ended = key in self.said and self.said[key].state in (
                AllocState.STOPPED, AllocState.FAILED, AllocState.COMPLETE,
            )  # fmt: skip
            if ended or dice.random() < 0.3:
                del self.wanted[key]
                self.news.discard(key)
                self.gone.add(key)
        elif now.desired is Desired.RUN:
            tasks = tuple(
                replace(one, resources=replace(one.resources, memory_mib=dice.choice((64, 128, 256))))
                for one in now.group.tasks
            )
            grown = replace(now, job_version=now.job_version + 1, group=replace(now.group, tasks=tasks))
            self.tell(grown)

    def tell(self, one: Assignment) -> None:
        self.wanted[one.key] = replace(one, modify_index=self.index + 1)
        self.news.add(one.key)

    async def send(self) -> None:
        """What changed since, or all; some of it is lost on the way."""
        if self.sending is not None:
            await self.sending
        self.index += 1
        news, gone, full = sorted(self.news, key=repr), tuple(sorted(self.gone, key=repr)), not self.whole
        self.news, self.gone = set(), set()
        if self.dice.random() < 0.2 and not self.engine.calm:
            self.whole = False
            return
        assignments = list(self.wanted.values()) if full else [self.wanted[key] for key in news]
        self.whole = True
        work = self.supervisor.apply(index=self.index, full=full, assignments=assignments, removed=() if full else gone)
        self.sending = asyncio.get_running_loop().create_task(work)

    # ------------------------------------------------------------------------ what happens

    async def disturb(self) -> None:
        luck = self.dice.randrange(20)
        if luck < 5:
            self.change()
        elif luck < 9:
            await self.send()
        elif luck < 10:
            self.supervisor.contact_lost()
        elif luck < 11:
            self.clock_ms += self.dice.choice((-3_600_000, -5_000, 5_000, 3_600_000))
        elif luck < 12:
            self.supervisor.expire()
        else:
            await self.meddle()

    async def meddle(self) -> None:
        """People at the engine, the engine itself, and the agent's process."""
        dice, engine = self.dice, self.engine
        running, ended = [one.name for one in engine.running()], engine.ended()
        luck = dice.randrange(8)
        if luck < 2 and running:
            engine.end(dice.choice(running), Exit(code=dice.choice((0, 1, 137))))
        elif luck < 3 and running:
            engine.vanish(dice.choice(running))
        elif luck < 4 and ended:
            name = dice.choice(ended)
            engine.surprising.add(name)
            engine.revive(name)
        elif luck < 5:
            engine.tell("")
        elif luck < 7:
            if engine.available:
                engine.go()
            elif dice.random() < 0.3 and not engine.keeps_runs:
                engine.begin_anew()
            else:
                engine.set_available(True)
        else:
            await self.die()
            await self.begin()

    async def live(self) -> None:
        await self.begin()
        for _ in range(STEPS):
            await asyncio.sleep(self.dice.choice((0, 0, 0.01, 0.5, 3, 20)))
            await self.disturb()
        await self.send()
        for _ in range(MEDDLING):  # what is wanted stays, and what people do now must not
            await asyncio.sleep(self.dice.choice((0, 0.5, 3, 20)))
            await self.meddle()
        self.engine.calm = True
        self.engine.set_available(True)
        for one in self.engine.running():
            if one.run.task == "first":  # an init task that people started again ends by itself, as all do
                self.engine.end(one.name, Exit(code=0))
        if self.sending is not None:
            await self.sending
        self.whole = False
        await self.send()
        await asyncio.sleep(CALM_S)
        await self.engine.settled()

    def judge(self) -> None:
        """Exactly what is wanted runs, once, and the control plane was told how it is."""
        running: dict[AssignmentKey, list[str]] = {}
        for one in self.engine.running():
            running.setdefault(one.run.key, []).append(one.run.task)
        ended = (AllocState.STOPPED, AllocState.FAILED, AllocState.COMPLETE)
        for key, wanted in self.wanted.items():
            told = self.said[key].state
            record = self.supervisor.records.get(key)
            tasks = sorted(running.pop(key, []))
            if record is None:  # only the newest of what has ended are kept
                assert told in ended and tasks == [], (key, told, tasks)
                continue
            assert told is record.state, (key, told, record)
            if record.state is AllocState.RUNNING:
                assert wanted.desired is Desired.RUN, record
                left = [one.name for one in wanted.group.tasks if one.role is not TaskRole.INIT]
                ends = wanted.job_type is JobType.BATCH or wanted.group.restart.mode is RestartMode.DELAY
                assert set(tasks) <= set(left) if ends else tasks == sorted(left), (tasks, record)
            elif record.state in ended:
                assert tasks == [], (tasks, record)
            else:  # what fails again and again has its next try now and then
                assert record.state in (AllocState.BACKOFF, AllocState.STARTING), record
                assert wanted.desired is Desired.RUN and wanted.group.restart.mode is RestartMode.DELAY, record
        assert running == {}, "runs that nobody wants"
        assert self.engine.doubled == []


@pytest.mark.parametrize("seed", seeds(range(8), fast={3}))
def test_whatever_happens_to_an_agent_what_is_wanted_runs_once(seed: int, tmp_path: Path) -> None:
    bad: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: bad.append(context))
        life = Life(seed, tmp_path / "agent")
        await life.live()
        life.judge()
        await life.die()

    with capture_logs() as logs:
        run_virtual(main)
    assert bad == []
    assert [one for one in logs if one["log_level"] in ("error", "critical")] == []
