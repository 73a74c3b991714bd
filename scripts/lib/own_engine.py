"""A throw-away cluster on a Docker engine of its own, for measurements: nobody else's containers slow it down or are
slowed down by it.

Owns: entering the namespaces and making the cluster. Leaves to others: the engine (``orchestrator.ops.own_engine``).
The rule: however the measurement ends, a kill of its own process included, nothing of it goes on (``keeper``).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from orchestrator.client.aio import Client
from orchestrator.contract.errors import RaftsmanError
from orchestrator.contract.model import (
    Allocation,
    GroupSpec,
    JobSpec,
    JobType,
    Resources,
    StopPolicy,
    TaskSpec,
)
from orchestrator.ops.drill_cluster import FaultyCluster
from orchestrator.ops.drill_jobs import running
from orchestrator.ops.drill_needs import Need, prepare
from orchestrator.ops.engine import Engine
from orchestrator.ops.images import find_or_make
from scripts.lib.keeper import Keeper

TIMEOUT_S = 600.0
COMMAND = ("sleep", "86400")


def enter() -> None:
    """Before there are threads. Raises ``MissingError`` where this machine cannot have an engine of its own."""
    prepare({Need.ENGINE})


class _Kept(FaultyCluster):
    """One whose processes, engine and data go even when this process is killed."""

    _keeper: Keeper | None = None

    async def start(self) -> tuple[str, ...]:
        if self._keeper is None:
            self._keeper = Keeper(self.data, (self.engine.root, self.engine.group.lstrip("/")))
            print(f"cluster and engine in {self.data}, control group {self.engine.group}", file=sys.stderr, flush=True)
        return await super().start()

    async def stop(self) -> None:
        await super().stop()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.dismiss()


def cluster(peers: int, *, live_restore: bool = True) -> FaultyCluster:
    """One agent, with Docker; to be entered after ``enter``."""
    return _Kept(peers, 1, driver="docker", engine=True, live_restore=live_restore)


async def image() -> str:
    """A small one, which the engine has from now on."""
    async with Engine() as engine:
        return (await find_or_make(engine)).name


def job(name: str, count: int, image_name: str) -> JobSpec:
    """``count`` containers that do nothing."""
    task = TaskSpec(
        name="main",
        image=image_name,
        command=COMMAND,
        resources=Resources(cpu_millis=5, memory_mib=16),
        stop=StopPolicy(signal="SIGKILL", timeout_ms=0),
    )
    return JobSpec(name=name, type=JobType.SERVICE, groups=(GroupSpec(name="main", count=count, tasks=(task,)),))


async def until_running(client: Client, name: str, count: int) -> list[Allocation]:
    """Asks as the command line does. Raises ``SystemExit`` where they do not come up."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        listed = (await client.list_allocations(job=name)).allocations
        runs = running(listed)
        if len(runs) >= count:
            return runs
        if time.monotonic() > deadline:
            reasons = {one.reason for one in listed if one.reason}
            raise SystemExit(f"{len(runs)} of {count} instances of {name} run after {TIMEOUT_S:g} s: {reasons}")
        await asyncio.sleep(0.01)


async def seen_running(client: Client, name: str, count: int, after_index: int) -> None:
    """Told of each by the API, which costs the cluster less than asking again and again. Raises ``SystemExit`` where
    they do not come up."""
    seen: set[str] = set()
    events = client.watch_events(after_index, kinds=["alloc.running"], job=name)
    try:
        async with contextlib.aclosing(events), asyncio.timeout(TIMEOUT_S):  # type: ignore[type-var]
            async for event in events:
                seen.add(event.allocation)
                if len(seen) == count:
                    return
    except TimeoutError:
        raise SystemExit(f"{len(seen)} of {count} instances of {name} run after {TIMEOUT_S:g} s") from None


async def remove(client: Client, name: str) -> None:
    """The job, and wait until its containers are gone."""
    try:
        await client.remove_job(name)
    except RaftsmanError as error:
        raise SystemExit(f"{name} cannot be removed: {error.message}") from None
    deadline = time.monotonic() + TIMEOUT_S
    async with Engine() as engine:
        while any(one.running for one in await engine.containers({"raftsman.job": name})):
            if time.monotonic() > deadline:
                raise SystemExit(f"containers of {name} still run after {TIMEOUT_S:g} s")
            await asyncio.sleep(0.05)
