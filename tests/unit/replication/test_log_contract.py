"""What every ``ReplicatedLog`` promises, over both of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orchestrator.contract.errors import InvalidError, NoLeaderError
from orchestrator.replication.engine import EngineLog
from orchestrator.replication.log import MAX_PROPOSAL_BYTES, ReplicatedLog, Role
from orchestrator.replication.memory import MemoryJournal, MemoryLog, MemorySnapshots
from tests.sim.loop import run_inline
from tests.sim.machine import ListMachine, admission_payload
from tests.unit.replication.puppet import _Ear


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[tuple[ReplicatedLog, ListMachine]]:
    machine = ListMachine({"p1": "disk"})
    log: ReplicatedLog
    if kind == "memory":
        log = MemoryLog(machine, peer_id="p1")
    else:
        log = EngineLog(
            peer_id="p1", peers={"p1": "here:1"}, machine=machine, journal=MemoryJournal(), snapshots=MemorySnapshots(),
            network=_Ear(), incarnation="disk", fresh=True, admission_payload=admission_payload,
            run_blocking=run_inline,
        )  # fmt: skip
    await log.start()
    try:
        if not log.is_leader():
            await asyncio.wait_for(log.leadership_changed(was=False), 10)
        yield log, machine
    finally:
        await log.stop()


pytestmark = pytest.mark.parametrize("kind", ["memory", "engine"])


async def test_proposal_is_applied_once_and_answered_with_index_and_outcome(kind: str) -> None:
    async with opened(kind) as (log, machine):
        first, second = await log.propose(b"a"), await log.propose(b"b")
        assert (first.index, first.outcome) == (machine.index - 1, machine.index - 1)
        assert second.index == machine.index
        assert machine.applied == [b"a", b"b"]


async def test_concurrent_proposals_are_each_answered_with_their_own_outcome(kind: str) -> None:
    async with opened(kind) as (log, machine):
        done = await asyncio.gather(*(log.propose(b"%d" % number) for number in range(50)))
        assert [machine.applied[row.index - 1] for row in done] == [b"%d" % number for number in range(50)]


async def test_too_large_a_proposal_is_refused_and_nothing_is_done(kind: str) -> None:
    async with opened(kind) as (log, machine):
        with pytest.raises(InvalidError):
            await log.propose(b"x" * (MAX_PROPOSAL_BYTES + 1))
        assert machine.applied == []


async def test_barrier_returns_the_index_that_includes_earlier_writes(kind: str) -> None:
    async with opened(kind) as (log, _):
        done = await log.propose(b"a")
        assert await log.read_barrier() == done.index
        await log.confirm_leadership()


async def test_status_names_the_leader_and_every_peer(kind: str) -> None:
    async with opened(kind) as (log, machine):
        await log.propose(b"a")
        status = log.status()
        assert (status.role, status.leader_id, log.leader_id) == (Role.LEADER, "p1", "p1")
        assert status.index == machine.index
        assert status.cluster_id == "cluster"
        assert [(row.peer_id, row.voter, row.connected) for row in status.peers] == [("p1", True, True)]
        assert status.term == log.term >= 1


async def test_changed_returns_when_the_index_passes(kind: str) -> None:
    async with opened(kind) as (log, machine):
        waiter = asyncio.ensure_future(log.changed(after=machine.index))
        await asyncio.sleep(0)
        assert not waiter.done()
        done = await log.propose(b"a")
        assert await asyncio.wait_for(waiter, 5) == done.index
        assert await log.changed(after=0) == done.index


async def test_listener_hears_of_applied_commands_until_it_unsubscribes(kind: str) -> None:
    async with opened(kind) as (log, machine):
        heard: list[int] = []
        unsubscribe = log.subscribe(lambda: heard.append(machine.index))
        await log.propose(b"a")
        await log.read_barrier()
        assert heard[-1] == machine.index
        unsubscribe()
        unsubscribe()
        count = len(heard)
        await log.propose(b"b")
        await log.read_barrier()
        assert len(heard) == count


async def test_stopped_log_refuses_everything_and_leads_no_more(kind: str) -> None:
    async with opened(kind) as (log, _):
        await log.stop()
        assert not log.is_leader()
        assert log.leader_id == ""
        for call in (log.propose(b"a"), log.read_barrier()):
            with pytest.raises(NoLeaderError):
                await call
