"""Drills on the Docker engine below the agents: it dies, hangs, or somebody takes containers away through it.

Owns: those kinds, and ``Accounts``, what the engine runs held against what the control plane believes. Leaves to
others: the engine (``own_engine``), rounds and load (``drill``). The rule: while the engine is down or hangs, nothing
counts as lost; afterwards every container belongs to exactly one running allocation, and the other way round.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator.client.aio import Client
from orchestrator.contract.errors import RaftsmanError
from orchestrator.contract.model import Allocation, AllocState, Desired, NodeStatus
from orchestrator.contract.transitions import is_terminal
from orchestrator.ops.drill_jobs import SERVICE
from orchestrator.ops.drill_kind import HOLD_S, BrokenPromiseError, Kind, Strike, faulty
from orchestrator.ops.drill_needs import Need
from orchestrator.ops.drill_target import Target
from orchestrator.ops.drill_watch import ALLOCATION_LABEL, instance_of
from orchestrator.ops.engine import Container, Engine
from orchestrator.ops.leftovers import CLUSTER_LABEL, NODE_LABEL

NOTICE_S = 40.0
"""Within this time every agent says that its engine hangs: a refresh, and the deadline of a probe."""
SETTLE_S = 60.0
"""What does not agree after this time is forgotten."""
POLL_S = 0.05
JOB_LABEL, ATTEMPT_LABEL, RESTARTS_LABEL = "raftsman.job", "raftsman.attempt", "raftsman.restarts"


class EngineKill(Kind):
    """dockerd dies by SIGKILL, in every other round it is told to end; it is started again after some seconds."""

    mends_first = watches_engine = gradual = True
    needs = frozenset({Need.ENGINE})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        engine = faulty(target).engine
        ran = await _serving(target)
        at_ns = time.monotonic_ns()
        if number % 2:
            await engine.kill()
        else:
            await engine.end()
        await _nothing_lost(target, HOLD_S)
        how = "SIGKILL" if number % 2 else "SIGTERM"
        if engine.live_restore:
            return Strike(at_ns=at_ns, how=f"dockerd: {how}, containers went on")
        return Strike(
            at_ns=at_ns,
            how=f"dockerd: {how}; without live-restore it ends its {len(ran)} containers, they start once more",
            restarts=tuple(instance_of(one.labels) for one in ran),
        )

    async def mend(self, target: Target, strike: Strike) -> None:
        await faulty(target).engine.start_again()


class EnginePause(Kind):
    """dockerd hangs (SIGSTOP: it takes connections and answers nothing) until the agents have noticed."""

    mends_first = watches_engine = gradual = True
    needs = frozenset({Need.ENGINE})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        at_ns = time.monotonic_ns()
        faulty(target).engine.pause()
        try:
            async with target.new_client() as client:
                await _until_noticed(client)
                await _check_nothing_lost(client)
        except BaseException:
            faulty(target).engine.resume()
            raise
        noticed_s = (time.monotonic_ns() - at_ns) / 1e9
        return Strike(at_ns=at_ns, how=f"dockerd hung, every agent had noticed after {noticed_s:.1f} s")

    async def mend(self, target: Target, strike: Strike) -> None:
        faulty(target).engine.resume()


class ContainerRemoved(Kind):
    """Somebody does `docker rm -f`, `docker kill` or `docker stop`, in turn, to a container of the service."""

    mends_first = strikes_agent = watches_engine = True
    needs = frozenset({Need.ENGINE})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        node_id = next(one.node_id for one in faulty(target).agents if one.name == agent)
        victim = min(await _serving(target, {NODE_LABEL: node_id}), key=lambda one: one.name)
        async with Engine() as engine:
            ways = (("rm -f", engine.remove), ("kill", engine.kill), ("stop", engine.stop))
            word, take_away = ways[(number - 1) % len(ways)]
            at_ns = time.monotonic_ns()
            await take_away(victim.id)
        name = instance_of(victim.labels)
        return Strike(at_ns=at_ns, how=f"docker {word} of {name} on {agent}", restarts=(name,))

    async def mend(self, target: Target, strike: Strike) -> None:
        """Nobody but the agent does."""


async def _serving(target: Target, labels: Mapping[str, str] | None = None) -> list[Container]:
    """Containers of the drill's service; what the round before has placed beside it may still be going."""
    cluster = faulty(target).record.cluster_id
    async with Engine() as engine:
        found = await engine.containers({CLUSTER_LABEL: cluster, **(labels or {})})
    return [one for one in found if one.running and one.labels.get(JOB_LABEL, "").endswith(SERVICE)]


async def _until_noticed(client: Client) -> None:
    deadline = time.monotonic() + NOTICE_S
    while True:
        nodes = (await client.list_nodes()).nodes
        blind = [node.spec.name for node in nodes if "docker" in node.spec.drivers]
        if not blind:
            return
        if time.monotonic() > deadline:
            raise BrokenPromiseError(f"{', '.join(blind)}: {NOTICE_S:g} s without an answer of the engine unnoticed")
        await asyncio.sleep(POLL_S)


async def _nothing_lost(target: Target, seconds: float) -> None:
    """For so long, the control plane gives nothing up because its engine is down."""
    until = time.monotonic() + seconds
    async with target.new_client() as client:
        while True:
            await _check_nothing_lost(client)
            if time.monotonic() > until:
                return
            await asyncio.sleep(0.2)


async def _check_nothing_lost(client: Client) -> None:
    for node in (await client.list_nodes()).nodes:
        if node.status is not NodeStatus.READY:
            raise BrokenPromiseError(f"node {node.spec.name} is {node.status.name} because its engine does not answer")
    for one in (await client.list_allocations()).allocations:
        if one.attempt > 1:
            raise BrokenPromiseError(f"{one.id} was placed again (attempt {one.attempt}) because its engine is down")


class Accounts:
    """What runs on the engine against what the control plane says runs."""

    def __init__(self, client: Client, cluster_id: str) -> None:
        self._client = client
        self._labels = {CLUSTER_LABEL: cluster_id}

    async def agree(self) -> list[str]:
        """Waits until both are the same; those that are not after ``SETTLE_S``, in words."""
        deadline = time.monotonic() + SETTLE_S
        async with Engine() as engine:
            while True:
                try:
                    wrong = await self._differences(engine)
                except RaftsmanError as error:
                    wrong = [error.message]
                if not wrong or time.monotonic() > deadline:
                    return wrong
                await asyncio.sleep(POLL_S)

    async def _differences(self, engine: Engine) -> list[str]:
        listed = (await self._client.list_allocations()).allocations
        return differences(
            {f"{one.id} attempt {one.attempt} restarts {one.restarts}": one.state for one in listed if _wanted(one)},
            [_told(one.labels) for one in await engine.containers(self._labels) if one.running],
        )


def _wanted(one: Allocation) -> bool:
    return one.desired is Desired.RUN and not is_terminal(one.state)


def differences(believed: Mapping[str, AllocState], found: Sequence[str]) -> list[str]:
    """``believed``: state of every run that is wanted; ``found``: runs with a running container, as often as they have
    one. One line for each that is forgotten, unknown or doubled."""
    wrong = [f"{run} is {state.name}" for run, state in believed.items() if state is not AllocState.RUNNING]
    count = Counter(found)
    for run, state in believed.items():
        if state is AllocState.RUNNING and not count[run]:
            wrong.append(f"{run} is said to run, and no container does")
    for run, containers in count.items():
        if run not in believed:
            wrong.append(f"a container of {run} runs, and nobody wants it")
        elif containers > 1:
            wrong.append(f"{run} runs in {containers} containers")
    return sorted(wrong)


def _told(labels: Mapping[str, str]) -> str:
    return (
        f"{labels.get(ALLOCATION_LABEL, '')} attempt {labels.get(ATTEMPT_LABEL, '')} "
        f"restarts {labels.get(RESTARTS_LABEL, '')}"
    )
