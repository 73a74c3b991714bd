"""``SimAgent``: a node's agent that obeys the fencing rules of DESIGN.md, and ``Floor``, which sees what really runs.

Owns: registering, heartbeats, taking full sets of assignments that a majority confirmed, starting, stopping and
reporting; and the one judgement that only an onlooker can make: how many attempts of an allocation run at the same
time. The one rule: an agent never starts an attempt that is not newer than all it has ever started of the allocation.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from orchestrator.contract.errors import RaftsmanError
from orchestrator.contract.model import (
    AllocState,
    AssignmentKey,
    Desired,
    JobType,
    NodeSpec,
    Observation,
    OnDisconnect,
    Resources,
)
from orchestrator.contract.transitions import TERMINAL
from orchestrator.state import commands as cmd
from orchestrator.state import views
from orchestrator.state.views import AssignmentsUpdate
from tests.sim.peer import Life
from tests.sim.world import World

T = TypeVar("T")

STOP_SHARE = 8 / 15
"""When an agent out of touch stops what may not run twice, as a share of the bound after which its node is lost."""
MOST_REPORTED = 4
"""Observations in one command, which keeps it small."""

Slot = tuple[str, str, int]
"""Job uid, group, ordinal: at most one attempt of it runs."""


def slot_of(key: AssignmentKey) -> Slot:
    return key.job_uid, key.id.group, key.id.ordinal


@dataclass(slots=True)
class _Run:
    key: AssignmentKey
    on_disconnect: OnDisconnect
    batch: bool
    state: AllocState = AllocState.STARTING
    reported: AllocState | None = None
    start_failed: bool = False


class Floor:
    """What runs on all nodes, whatever the control plane believes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running: dict[Slot, dict[str, tuple[int, OnDisconnect]]] = {}
        self.starts = 0
        self.doubles = 0  # of jobs that allow it: replaced while out of touch

    def started(self, node_id: str, run: _Run) -> None:
        self.starts += 1
        here = self._running.setdefault(slot_of(run.key), {})
        if node_id in here:
            self._world.witness.violation(f"{node_id} runs two attempts of {slot_of(run.key)}")
        for other, (attempt, policy) in here.items():
            if policy is OnDisconnect.REPLACE:
                self.doubles += 1  # it was out of touch, and that is what its job asked for
            else:
                self._world.witness.violation(
                    f"attempt {run.key.attempt} of {slot_of(run.key)} starts on {node_id} while attempt {attempt}, "
                    f"which is never doubled ({policy.name}), runs on {other}"
                )
        here[node_id] = (run.key.attempt, run.on_disconnect)

    def stopped(self, node_id: str, key: AssignmentKey) -> None:
        self._running.get(slot_of(key), {}).pop(node_id, None)

    def running(self) -> dict[Slot, list[tuple[str, int]]]:
        return {
            slot: sorted((node, attempt) for node, (attempt, _) in here.items())
            for slot, here in self._running.items()
            if here
        }


class SimAgent:
    def __init__(self, world: World, floor: Floor, node_id: str) -> None:
        self._world = world
        self._floor = floor
        self.node_id = node_id
        self._rng: random.Random = world.new_rng()
        self._runs: dict[AssignmentKey, _Run] = {}
        self._newest: dict[Slot, int] = {}
        self._seen_index = 0
        self._contact = world.loop.time()
        self._bound_s = world.schedule.lost_after_ms / 1000
        self.away_until = 0.0  # no peer can be reached before
        self.failing = 0  # starts that will fail

    async def live(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(0.06, 0.12) * self._bound_s)
            self._mind_the_bound()
            if self._world.loop.time() < self.away_until:
                continue
            try:
                await self._round()
            except RaftsmanError:
                continue

    def _mind_the_bound(self) -> None:
        """Out of touch for too long: what must not run twice stops, in time before it is replaced."""
        if self._world.loop.time() - self._contact < STOP_SHARE * self._bound_s:
            return
        for run in list(self._runs.values()):
            if run.on_disconnect is OnDisconnect.STOP and run.state not in TERMINAL:
                self._end(run, AllocState.STOPPED)

    async def _round(self) -> None:
        sent = self._world.loop.time()
        known = await self._call(self._beat)
        self._contact = max(self._contact, sent)
        if not known:
            await self._call(self._register)
        update = await self._call(self._assignments)
        if update is not None and update.index >= self._seen_index:
            self._seen_index = update.index
            self._take(update)
        await self._report()

    async def _call(self, handler: Callable[[Life], Coroutine[Any, Any, T]]) -> T:
        return await self._world.ask(self._rng, handler, leader=True, timeout_s=0.3 * self._bound_s)

    # ------------------------------------------------------------------ as ``api.agents`` does it

    async def _beat(self, life: Life) -> bool:
        known = self.node_id in life.machine.state.nodes
        if known:
            life.liveness.beat(self.node_id)
        await life.log.confirm_leadership(timeout_s=1.0)
        return known and self.node_id in life.machine.state.nodes

    async def _register(self, life: Life) -> None:
        spec = NodeSpec(
            id=self.node_id, name=self.node_id, drivers=("docker",),
            capacity=Resources(cpu_millis=1000, memory_mib=1024, disk_mib=1000),
        )  # fmt: skip
        await life.proposer.propose(cmd.RegisterNode(node=spec, identity=f"agent-{self.node_id}"), timeout_s=1.5)
        life.liveness.beat(self.node_id)

    async def _assignments(self, life: Life) -> AssignmentsUpdate | None:
        """A full set, once a majority confirmed that this peer leads."""
        await life.log.read_barrier(timeout_s=1.0)
        state = life.machine.state
        if not life.log.is_leader() or self.node_id not in state.nodes:
            return None
        return views.assignments_for(state, self.node_id)

    async def _report(self) -> None:
        runs = [run for run in self._runs.values() if run.reported is not run.state][:MOST_REPORTED]
        if not runs:
            return
        said = [(run, run.state) for run in runs]
        observations = tuple(
            Observation(key=run.key, restarts=0, state=run.state, start_failed=run.start_failed) for run in runs
        )

        async def report(life: Life) -> None:
            await life.proposer.propose(
                cmd.RecordStatuses(node_id=self.node_id, observations=observations), timeout_s=1.5
            )

        await self._call(report)
        for run, state in said:
            run.reported = state

    # ------------------------------------------------------------------ what runs

    def _take(self, update: AssignmentsUpdate) -> None:
        wanted = {row.key: row for row in update.assignments}
        for key, run in list(self._runs.items()):
            row = wanted.get(key)
            if row is None:
                if run.state not in TERMINAL:
                    self._end(run, AllocState.STOPPED)
                if run.reported is run.state or row is None:
                    del self._runs[key]
            elif row.desired is Desired.STOP:
                self._stop(run)
            else:
                run.on_disconnect = row.on_disconnect
                self._go_on(run)
        for key, row in wanted.items():
            slot = slot_of(key)
            if key in self._runs or key.attempt <= self._newest.get(slot, 0):
                continue
            self._newest[slot] = key.attempt
            run = self._runs[key] = _Run(key, row.on_disconnect, row.job_type is JobType.BATCH)
            if row.desired is Desired.STOP:
                run.state = AllocState.STOPPED
            elif self.failing:
                self.failing -= 1
                run.state, run.start_failed = AllocState.FAILED, True
            else:
                self._floor.started(self.node_id, run)

    def _go_on(self, run: _Run) -> None:
        if run.state is AllocState.STARTING:
            run.state = AllocState.RUNNING
        elif run.state is AllocState.RUNNING and run.batch and self._rng.random() < 0.3:
            self._end(run, AllocState.COMPLETE)

    def _stop(self, run: _Run) -> None:
        if run.state is AllocState.STOPPING:
            self._end(run, AllocState.STOPPED)
        elif run.state not in TERMINAL:
            run.state = AllocState.STOPPING

    def _end(self, run: _Run, state: AllocState) -> None:
        run.state = state
        self._floor.stopped(self.node_id, run.key)
