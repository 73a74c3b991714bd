"""``Clients``: callers that write and read variables and steer jobs, and the history of what they were told.

Owns: what is asked for, repeating what has an unknown outcome under the same request id, and the histories. Leaves
judging them to ``histories``. The one rule: a client believes only answers, and every answer is held against the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from typing import Any

from orchestrator.contract.batch import Missed, Overlap, PeriodicSpec
from orchestrator.contract.errors import NoLeaderError, NotLeaderError, OverloadedError, RaftsmanError
from orchestrator.contract.model import GroupSpec, JobSpec, JobType, OnDisconnect, Resources, RestartPolicy, TaskSpec
from orchestrator.replication.codec import encode_entry
from orchestrator.replication.log import MAX_PROPOSAL_BYTES
from orchestrator.state import commands as cmd
from tests.sim.histories import History
from tests.sim.peer import Life
from tests.sim.world import World

NAMESPACE = "default"
TRIES = 4
TICK = "tick"
"""The periodic job, where there is one."""
JOBS = ("web", "work", "cache")
NODES = ("n1", "n2", "n3")


class Clients:
    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.new_rng()
        self._number = 0
        # One for each job name: an agent out of touch cannot know that its job asks for something else now.
        self._policies = {name: self._rng.choice(tuple(OnDisconnect)) for name in JOBS}
        self.history = History()
        self.on = True
        self.acknowledged = 0
        self.unknown = 0
        self.reads = 0
        self.refused = 0

    def start(self) -> list[asyncio.Task[None]]:
        schedule = self._world.schedule
        loop = self._world.loop
        tasks = [loop.create_task(self._vary(self._world.new_rng())) for _ in range(schedule.clients)]
        tasks.append(loop.create_task(self._steer(self._world.new_rng())))
        if schedule.large:
            tasks.append(loop.create_task(self._overwhelm(self._world.new_rng(), schedule.large)))
        if schedule.every_s:
            tasks.append(loop.create_task(self._tick(self._world.new_rng())))
        return tasks

    # ------------------------------------------------------------------ writing

    async def _write(self, rng: random.Random, command: cmd.Command) -> tuple[bool | None, cmd.Outcome | None]:
        """``(True, outcome)``: done; ``(False, None)``: certainly not; ``(None, None)``: unknown.

        The last two only after some tries with the same request id, so that at most one of them counts.
        """
        self._number += 1
        request_id = f"r{self._number}"
        digest = hashlib.sha256(repr(command).encode()).digest()[:8]
        perhaps = False
        for attempt in range(TRIES):
            payload = b""

            async def propose(life: Life) -> tuple[int, cmd.Outcome]:
                nonlocal payload
                entry = cmd.Entry(
                    identity="client", request_id=request_id, digest=digest, command=command,
                    time_ms=self._world.peers[life.wire.peer_id].wall_ms(),
                )  # fmt: skip
                payload = encode_entry(entry)
                proposed = await life.log.propose(payload, timeout_s=1.5)
                assert isinstance(proposed.outcome, cmd.Applied | cmd.Rejected)
                return proposed.index, proposed.outcome

            try:
                index, outcome = await self._world.ask(rng, propose, leader=True)
            except (NotLeaderError, NoLeaderError, OverloadedError):
                pass  # nothing was done
            except RaftsmanError:
                perhaps = True
            else:
                self._acknowledge(payload, index, outcome)
                return True, outcome
            if not self.on and attempt:
                break
            await asyncio.sleep(rng.uniform(0.02, 0.3))
        self.unknown += perhaps
        return (None if perhaps else False), None

    def _acknowledge(self, payload: bytes, index: int, outcome: cmd.Outcome) -> None:
        self.acknowledged += 1
        if isinstance(outcome, cmd.Rejected):
            self.refused += 1
        # A repetition answers with what the first one did; that of a refusal does not say that it is one.
        repeated = isinstance(outcome, cmd.Rejected) or outcome.repeated
        self._world.witness.acknowledged(payload, index, repeated=repeated)

    # ------------------------------------------------------------------ variables

    async def _vary(self, rng: random.Random) -> None:
        process = self.history.new_process()
        pause = rng.choice((0.02, 0.1, 0.3))
        while self.on:
            await asyncio.sleep(rng.uniform(0, 2 * pause))
            kind = rng.random()
            if kind < self._world.schedule.junk:
                await self._junk(rng, rng.randint(0, 40))
            elif kind < 0.45:
                process = await self._read(rng, process)
            else:
                process = await self._change(rng, process)

    async def _read(self, rng: random.Random, process: int) -> int:
        key = f"k{rng.randrange(self._world.schedule.keys)}"

        async def read(life: Life) -> tuple[int, str | None]:
            index = await life.log.read_barrier(timeout_s=1.0)
            held = life.machine.state.variables.get((NAMESPACE, key))
            return index, None if held is None else held.value

        operation = self.history.call(process, "get", key, self._world.loop.time())
        try:
            index, value = await self._world.ask(rng, read, leader=False)
        except RaftsmanError:
            self.history.drop(operation)  # a read that failed did nothing
            return process
        self.reads += 1
        self.history.answered(operation, self._world.loop.time(), index=index, value=value)
        return process

    async def _change(self, rng: random.Random, process: int) -> int:
        key = f"k{rng.randrange(self._world.schedule.keys)}"
        self._number += 1
        value: str | None = f"v{self._number}" + "." * self._world.schedule.value_bytes
        kind = rng.random()
        expectation, expected = cmd.Expectation.NONE, ""
        if kind < 0.25:
            known = self._world.witness.variables.get(key)
            expected = (known[-1][1] if known else None) or "v0"
            expectation = cmd.Expectation.VALUE
        elif kind < 0.4:
            expectation = cmd.Expectation.ABSENT
        if kind > 0.9 or (expectation is cmd.Expectation.VALUE and rng.random() < 0.3):
            value = None
        operation = self.history.call(
            process, "delete" if value is None else "cas" if expectation else "put", key, self._world.loop.time(),
            value=value,
        )  # fmt: skip
        if expectation:
            operation["expect"] = expected if expectation is cmd.Expectation.VALUE else None
        command = cmd.WriteVariable(
            namespace=NAMESPACE, name=key, value=value, expectation=expectation, expected=expected
        )
        done, outcome = await self._write(rng, command)
        now = self._world.loop.time()
        if done and isinstance(outcome, cmd.Applied) and isinstance(outcome.answer, cmd.VariableAnswer):
            self.history.answered(operation, now, index=outcome.index, hit=outcome.answer.hit)
            return process
        if done is None:
            self.history.unknown(operation, now)
            return self.history.new_process()
        self.history.drop(operation)
        return process

    # ------------------------------------------------------------------ jobs

    async def _steer(self, rng: random.Random) -> None:
        version = 0
        await self._write(rng, cmd.SubmitJobs(jobs=(self._submission(rng, "web", 0),)))
        while self.on:
            await asyncio.sleep(rng.uniform(0.05, 0.8))
            name = rng.choice(JOBS)
            kind = rng.random()
            command: cmd.Command
            if kind < 0.4:
                version += 1
                command = cmd.SubmitJobs(jobs=(self._submission(rng, name, version),))
            elif kind < 0.65:
                command = cmd.ScaleJob(namespace=NAMESPACE, name=name, group="", count=rng.randint(0, 4))
            elif kind < 0.72:
                command = cmd.StopJob(namespace=NAMESPACE, name=name)
            elif kind < 0.79:
                command = cmd.RemoveJob(namespace=NAMESPACE, name=name)
            elif kind < 0.86:
                command = cmd.RestartJob(namespace=NAMESPACE, name=name)
            elif kind < 0.91:
                command = cmd.DrainNode(node_id=rng.choice(NODES))
            elif kind < 0.97:
                command = cmd.CordonNode(node_id=rng.choice(NODES), cordoned=rng.random() < 0.3)
            else:
                command = cmd.Collect()
            await self._write(rng, command)

    async def _tick(self, rng: random.Random) -> None:
        """A periodic job that is changed, forced, stopped, removed and made anew while its times come."""
        version = 0
        await self._write(rng, cmd.SubmitJobs(jobs=(self._periodic(rng, version),)))
        while self.on:
            await asyncio.sleep(rng.uniform(0.3, 2.0))
            kind = rng.random()
            command: cmd.Command
            if kind < 0.6:
                version += 1
                command = cmd.SubmitJobs(jobs=(self._periodic(rng, version),))
            elif kind < 0.8:
                self._number += 1
                command = cmd.ForceRun(namespace=NAMESPACE, name=TICK, uid=f"{self._number:032x}")
            elif kind < 0.9:
                command = cmd.StopJob(namespace=NAMESPACE, name=TICK)
            else:
                command = cmd.RemoveJob(namespace=NAMESPACE, name=TICK)
            await self._write(rng, command)

    async def begin_ticking(self) -> None:
        """The periodic job is there and not stopped, whatever was done to it."""
        rng = self._world.new_rng()
        submission = self._periodic(rng, -1)
        await self._until_done(rng, lambda: cmd.SubmitJobs(jobs=(submission,)))

    async def end_ticking(self) -> None:
        rng = self._world.new_rng()
        await self._until_done(rng, lambda: cmd.StopJob(namespace=NAMESPACE, name=TICK))

    def _periodic(self, rng: random.Random, version: int) -> cmd.JobSubmission:
        task = TaskSpec(name="main", image=f"image-{version}", resources=Resources(cpu_millis=50, memory_mib=16))
        group = GroupSpec(name="g", tasks=(task,), restart=RestartPolicy(attempts=1, delay_ms=100))
        periodic = PeriodicSpec(
            cron=(f"@every {self._world.schedule.every_s}s",), overlap=rng.choice(tuple(Overlap)),
            missed=rng.choice(tuple(Missed)),
        )  # fmt: skip
        self._number += 1
        spec = JobSpec(name=TICK, type=JobType.BATCH, groups=(group,), periodic=periodic)
        return cmd.JobSubmission(spec=spec, uid=f"uid-{self._number}", remember=True)

    async def undo_cordons(self) -> None:
        """Every node takes work again, and the first job runs: what the end of a run expects."""
        rng = self._world.new_rng()
        for node in NODES:
            await self._until_done(rng, lambda node=node: cmd.CordonNode(node_id=node, cordoned=False))  # type: ignore[misc]
        submission = self._submission(rng, "web", -1)
        await self._until_done(rng, lambda: cmd.SubmitJobs(jobs=(submission,)))

    async def _until_done(self, rng: random.Random, command: Callable[[], cmd.Command]) -> None:
        while not (await self._write(rng, command()))[0]:
            self._world.witness.require()
            await asyncio.sleep(0.1)

    def _submission(self, rng: random.Random, name: str, version: int) -> cmd.JobSubmission:
        task = TaskSpec(name="main", image=f"image-{version}", resources=Resources(cpu_millis=100, memory_mib=64))
        group = GroupSpec(
            name="g", count=rng.randint(1, 4), tasks=(task,), restart=RestartPolicy(attempts=1, delay_ms=100)
        )
        batch = name == "work" and rng.random() < 0.7
        spec = JobSpec(
            name=name, type=JobType.BATCH if batch else JobType.SERVICE, groups=(group,),
            on_disconnect=self._policies[name],
        )  # fmt: skip
        self._number += 1
        return cmd.JobSubmission(spec=spec, uid=f"uid-{self._number}", in_place=True)

    # ------------------------------------------------------------------ what no client of ours would send

    async def _junk(self, rng: random.Random, size: int) -> None:
        payload = b"\xff" + rng.randbytes(size)

        async def propose(life: Life) -> Any:
            self._world.holes.proposed(len(payload))
            return await life.log.propose(payload, timeout_s=1.5)

        try:
            proposed = await self._world.ask(rng, propose, leader=True)
        except RaftsmanError:
            return
        self._world.witness.acknowledged(payload, proposed.index, repeated=False)

    async def _overwhelm(self, rng: random.Random, count: int) -> None:
        """Some commands of the largest size at once."""
        await asyncio.sleep(rng.uniform(0, self._world.schedule.faults_s))
        sizes = [MAX_PROPOSAL_BYTES - 1 - rng.choice((0, 0, 1, rng.randint(2, 63))) for _ in range(count)]
        await asyncio.gather(*(self._junk(rng, size) for size in sizes))
