"""A drill: break something, again and again, under load, and account for every write, container and request.

Owns: the rounds. Leaves to others: what is broken (``drill_kinds``), what loads the cluster (``drill_load``,
``drill_jobs``), who watches (``drill_watch``), the verdict (``drill_facts``). The rule: nothing that goes wrong is
retried away; whatever a client of the cluster would have seen ends up in the facts.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.client.aio import Client
from orchestrator.contract.errors import NotFoundError, RaftsmanError, TimeoutError_
from orchestrator.contract.model import Allocation
from orchestrator.ops.drill_engines import Accounts
from orchestrator.ops.drill_facts import Facts, Found, Verdict, judge
from orchestrator.ops.drill_health import STEP_TIMEOUT_S, Health
from orchestrator.ops.drill_jobs import SERVICE, Workload, address_of, choose_workload, running
from orchestrator.ops.drill_kind import Kind, Strike
from orchestrator.ops.drill_lives import check_lives
from orchestrator.ops.drill_load import Writers
from orchestrator.ops.drill_target import Target
from orchestrator.ops.drill_watch import DockerObserver, HttpLoad, Observer, RecordObserver
from orchestrator.ops.history import History
from orchestrator.ops.http import answered

WRITERS = 4
WRITES_PER_ROUND = 50
POLL_S = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    kind: Kind
    rounds: int
    history: Path | None = None
    image: str = ""
    service_count: int = 0
    """Instances of the service; 0: one per agent, at least two."""
    keep_no_trace: bool = True
    """Remove the drill's variables afterwards (a throw-away cluster goes as a whole)."""


def each_once(lines: Counter[str]) -> list[str]:
    """In the order in which they came first, each with how often."""
    return [line if times == 1 else f"{line} ({times} times)" for line, times in lines.items()]


class Drill:
    """One run of ``options.kind`` on ``target``. ``say`` gets one line of progress at a time."""

    def __init__(
        self, target: Target, options: Options, say: Callable[[str], None], workload: Workload | None = None
    ) -> None:
        self._given = workload
        self._target = target
        self._options = options
        self._kind = options.kind
        self._say = say
        self._name = f"drill-{secrets.token_hex(3)}"
        self.facts = Facts()
        self._load = HttpLoad()
        self._probes: list[str] = []

    async def run(self) -> Verdict:
        """Raises ``TimeoutError_`` when the cluster does not get over a strike, and whatever a client may raise."""
        async with contextlib.AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(self._target.new_client())
            clients = [await stack.enter_async_context(self._client_of(number)) for number in range(WRITERS)]
            pinned = [
                await stack.enter_async_context(Client((endpoint,), tls=self._target.tls))
                for endpoint in self._target.endpoints
            ]
            history = stack.enter_context(History(self._options.history))
            self._workload = self._given or await choose_workload(self._client, self._say, image=self._options.image)
            observer = await stack.enter_async_context(self._observed())
            writers = Writers(clients, pinned, self.facts, history, f"{self._name}/")
            stack.push_async_callback(self._clean_up)
            await self._start_service()
            writers.start()
            try:
                await writers.reached(WRITES_PER_ROUND, STEP_TIMEOUT_S)
                for number in range(1, self._options.rounds + 1):
                    await self._round(number, writers)
            finally:
                await writers.stop()
                await self._load.stop()
            self.facts.requests, self.facts.requests_failed = self._load.requests, self._load.failed
            self.facts.runs = await observer.runs()
            await self._audit(writers)
            await self._judge_history(history)
        verdict = judge(self.facts)
        for line in each_once(Counter(verdict.problems) + self._load.failures):
            self._say(line)
        return verdict

    def _client_of(self, number: int) -> Client:
        """Asks every peer if need be, another one first than the client before it."""
        endpoints = self._target.endpoints
        first = number % len(endpoints)
        return Client(endpoints[first:] + endpoints[:first], tls=self._target.tls)

    # ------------------------------------------------------------------------ before the first round

    @contextlib.asynccontextmanager
    async def _observed(self) -> AsyncIterator[Observer]:
        observer: Observer = RecordObserver(self._workload.records)
        if self._workload.driver == "docker":
            observer = DockerObserver((await self._client.cluster_status()).cluster_id, self._name)
        await observer.start()
        try:
            yield observer
        finally:
            await observer.stop()
            if self._workload.driver == "process":
                shutil.rmtree(self._workload.records, ignore_errors=True)

    async def _start_service(self) -> None:
        count = self._options.service_count or max(2, len(self._target.agent_names()))
        service = f"{self._name}{SERVICE}"
        await self._client.submit(self._workload.service(service, count))
        self._health = Health(self._client, self._target, self._workload, self._load, service=service, count=count)
        await self._health.whole()

    # ------------------------------------------------------------------------ a round

    async def _round(self, number: int, writers: Writers) -> None:
        acked_before, began = writers.acked, time.monotonic()
        victim = self._health.victim() if self._kind.strikes_agent else ""
        moved = [run for run in self._health.service_runs if self._kind.loses_node and run.node_name == victim]
        if moved:
            self._health.aim(without=victim)
            for run in moved:
                self.facts.replacements[str(run.id)] += 1
        strike = await self._kind.strike(self._target, victim, number)
        self.facts.replacements.update(strike.restarts)
        mending: list[int] = []  # when it began
        try:
            acked_ns, placed_ns, replaced_ns = await self._over(number, strike, moved, mending, writers)
            if not mending:
                await self._mend(strike, mending)
        except BaseException:
            if not mending:
                await self._mend(strike, mending)
            raise
        if strike.life is not None:
            self.facts.lives.append(strike.life)
        await self._health.peers_back()
        self.facts.hashes.append(await self._health.same_state())
        whole_ns = time.monotonic_ns()
        await self._health.whole()
        await writers.reached(acked_before + WRITES_PER_ROUND, STEP_TIMEOUT_S)
        await self._remove_probes()
        gap_ns = acked_ns - strike.at_ns
        if self._kind.gradual:
            gap_ns = writers.longest_gap_ns(strike.at_ns, time.monotonic_ns())
        self.facts.unavailable_ms.append(gap_ns / 1e6)
        self.facts.placement_ms.append((placed_ns - strike.at_ns) / 1e6)
        self.facts.replaced_ms += [(at_ns - strike.at_ns) / 1e6 for at_ns in replaced_ns]
        self.facts.ready_ms.append((whole_ns - mending[0]) / 1e6)
        self.facts.rounds = number
        self._tell(number, strike, writers.acked - acked_before, time.monotonic() - began)

    async def _over(
        self, number: int, strike: Strike, moved: Sequence[Allocation], mending: list[int], writers: Writers
    ) -> tuple[int, int, list[int]]:
        """The cluster gets over it: when (monotonic ns) it acknowledged a write, placed a job, replaced ``moved``."""
        waits = [
            writers.acked_after(strike.at_ns, STEP_TIMEOUT_S),
            self._probe(number, strike.agents[0] if strike.agents and self._kind.mends_first else ""),
            *(self._replaced(run) for run in moved),
            self._held(strike),
        ]
        if self._kind.mends_first:
            waits.append(self._mend(strike, mending))
        if self._kind.watches_engine:
            waits.append(self._converged(mending))
        acked_ns, placed_ns, *more = await _all(waits)
        return acked_ns, placed_ns, more[: len(moved)]

    async def _held(self, strike: Strike) -> int:
        """The fault lasts as long as its kind says."""
        left_s = strike.at_ns / 1e9 + self._kind.hold_s - time.monotonic()
        await asyncio.sleep(max(0.0, left_s))
        return time.monotonic_ns()

    async def _converged(self, mending: list[int]) -> int:
        """The engine runs what the control plane believes, however long that takes to be so."""
        while not mending:
            await asyncio.sleep(POLL_S)
        cluster = (await self._client.cluster_status()).cluster_id
        self.facts.forgotten += await Accounts(self._client, cluster).agree()
        at_ns = time.monotonic_ns()
        self.facts.converged_ms.append((at_ns - mending[0]) / 1e6)
        return at_ns

    async def _mend(self, strike: Strike, mending: list[int]) -> int:
        mending.append(time.monotonic_ns())
        await self._kind.mend(self._target, strike)
        return mending[0]

    def _tell(self, number: int, strike: Strike, acked: int, seconds: float) -> None:
        facts = self.facts
        text = (
            f"round {number}/{self._options.rounds}: {' '.join((*strike.peers, *strike.agents))}  "
            f"{'no write for' if self._kind.gradual else 'next write after'} {facts.unavailable_ms[-1]:.0f} ms, "
            f"next placement after {facts.placement_ms[-1]:.0f} ms, ready {facts.ready_ms[-1]:.0f} ms after mending"
        )
        if strike.how:
            text += f" ({strike.how})"
        if self._kind.loses_node and facts.replaced_ms:
            text += f", replaced after {facts.replaced_ms[-1]:.0f} ms"
        if self._kind.watches_engine:
            text += f", converged {facts.converged_ms[-1]:.0f} ms after mending"
        same = "equal" if len(set(facts.hashes[-1].values())) == 1 else "DIFFERENT"
        self._say(
            f"{text}; {acked} writes, {self._load.requests} requests ({self._load.failed} failed), "
            f"hashes {same}, {seconds:.1f} s"
        )

    async def _probe(self, number: int, node: str) -> int:
        """Submit a fresh job; monotonic ns at which it was seen running."""
        name = f"{self._name}-p{number}"
        self._probes.append(name)
        await self._client.at_most(STEP_TIMEOUT_S).submit(self._workload.probe(name, node))
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while True:
            with contextlib.suppress(RaftsmanError):
                allocations = (await self._client.list_allocations(job=name)).allocations
                if running(allocations):
                    return time.monotonic_ns()
            if time.monotonic() > deadline:
                raise TimeoutError_(f"job {name} does not run {STEP_TIMEOUT_S:g} s after it was submitted")
            await asyncio.sleep(POLL_S)

    async def _replaced(self, lost: Allocation) -> int:
        """Monotonic ns at which the next attempt of ``lost`` answered HTTP (ran, where nothing answers)."""
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while True:
            with contextlib.suppress(RaftsmanError):
                allocations = (await self._client.list_allocations(job=lost.id.job)).allocations
                for run in running(allocations):
                    if run.id == lost.id and run.attempt > lost.attempt:
                        if not self._workload.answers_http:
                            return time.monotonic_ns()
                        at = await answered(address_of(run), max(1.0, deadline - time.monotonic()))
                        return int(at * 1e9)
            if time.monotonic() > deadline:
                raise TimeoutError_(f"{lost.id} was not replaced within {STEP_TIMEOUT_S:g} s after its node was lost")
            await asyncio.sleep(POLL_S)

    async def _remove_probes(self) -> None:
        while self._probes:
            await self._client.remove_job(self._probes.pop())

    # ------------------------------------------------------------------------ afterwards

    async def _audit(self, writers: Writers) -> None:
        """What is there of everything that was acknowledged: creates writer by writer, hot keys through every peer."""
        await writers.read_back()
        for number in range(WRITERS):
            prefix = f"{self._name}/{number}-"
            listed = (await self._client.list_variables(prefix=prefix)).variables
            for variable in listed:
                self.facts.found[variable.name] = Found(variable.value, variable.version, variable.create_index)

    async def _judge_history(self, history: History) -> None:
        lives = self.facts.lives
        for life in lives:
            given_up = sum(life.gives_up(ack.index) for ack in self.facts.acks)
            self._say(f"given up, as stated: {given_up} creates acknowledged behind index {life.index}")
        report = await asyncio.to_thread(check_lives, history.operations, lives)
        self.facts.operations, self.facts.unknown = report.operations, report.unknown
        self.facts.violations = [f"{one.kind}: key {one.key}\n{one.explanation}" for one in report.violations]

    async def _clean_up(self) -> None:
        """Remove the drill's jobs and, where the cluster stays, its variables. Never hides what went wrong before."""
        try:
            await self._remove_probes()
            with contextlib.suppress(NotFoundError):
                await self._client.remove_job(f"{self._name}{SERVICE}")
            if self._options.keep_no_trace:
                names = iter([v.name for v in (await self._client.list_variables(prefix=f"{self._name}/")).variables])

                async def remove() -> None:
                    for name in names:
                        await self._client.delete_variable(name)

                await asyncio.gather(*(remove() for _ in range(16)))
        except RaftsmanError as error:
            self._say(f"could not clean up: {error.message}; remove job {self._name}{SERVICE} with `raftsman rm`")


async def _all(waits: Iterable[Coroutine[Any, Any, int]]) -> list[int]:
    """Their results in order; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
