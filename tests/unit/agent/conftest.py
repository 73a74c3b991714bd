"""Deterministic agent parts around the fake driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.drivers.fake import FakeDriver
from agent.metrics import Metrics
from agent.runspec import NodeFacts
from agent.store import Store
from agent.supervisor import Supervisor
from orchestrator.contract.model import AllocState, Assignment, AssignmentKey, Observation
from tests.integration.agent_fakes import CLUSTER, until

NODE = "node-1"


@dataclass
class Bench:
    """A supervisor on a fake driver, and what it reported."""

    directory: Path
    driver: FakeDriver = field(default_factory=FakeDriver)
    metrics: Metrics = field(default_factory=Metrics)
    reported: list[Observation] = field(default_factory=list)
    index: int = 0
    refresh_s: float = 0.05

    def __post_init__(self) -> None:
        self.supervisor = self._build()

    def _build(self) -> Supervisor:
        self.store = Store(self.directory)
        self.store._node["node_id"] = NODE
        self.store.join(CLUSTER)
        return Supervisor(
            store=self.store,
            drivers={"fake": self.driver},
            node=NodeFacts(node_id=NODE, name="n1", address="127.0.0.1", api="127.0.0.1:7400"),
            metrics=self.metrics,
            report=self.reported.append,
            refresh_s=self.refresh_s,
        )

    async def restart(self, *, without_contact: bool = False) -> None:
        """The agent dies and comes back; the driver's engine goes on."""
        await self.supervisor.close()
        self.store.close()
        self.reported.clear()
        self.supervisor = self._build()
        await self.supervisor.start(without_contact=without_contact)

    async def assign(
        self, *assignments: Assignment, full: bool = False, superseded: tuple[AssignmentKey, ...] = ()
    ) -> bool:
        self.index += 1
        return await self.supervisor.apply(index=self.index, full=full, assignments=assignments, superseded=superseded)

    def states(self, key: AssignmentKey) -> list[tuple[int, AllocState]]:
        return [(one.restarts, one.state) for one in self.reported if one.key == key]

    async def wait_state(self, key: AssignmentKey, state: AllocState, *, restarts: int = 0) -> Observation:
        def look() -> Observation | None:
            wanted = (key, state, restarts)
            return next((o for o in self.reported if (o.key, o.state, o.restarts) == wanted), None)

        found = await until(look, f"{state.name} {restarts}; seen {self.states(key)}", deadline_s=10)
        assert isinstance(found, Observation)
        return found

    async def until_running(self, names: set[str]) -> None:
        """Until exactly these runs run on the engine."""

        async def running() -> set[str]:
            return {one.name for one in await self.driver.list(CLUSTER) if one.running}

        async with asyncio.timeout(10):
            while await running() != names:
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    one = Bench(tmp_path / "data")
    await one.supervisor.start()
    yield one
    await one.supervisor.close()
    one.store.close()
