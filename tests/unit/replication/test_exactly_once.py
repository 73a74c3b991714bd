"""Exactly once, with the real state in the simulator: a write that is repeated with its request id is done once.

Whatever happened between the two: leader changes, power cuts, snapshots, an answer that was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator.contract.errors import UnknownOutcomeError
from orchestrator.contract.model import Limits
from orchestrator.replication.machine import ClusterMachine, admission_payload
from orchestrator.replication.propose import Proposer
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.v1 import peer_pb2 as pb
from orchestrator.state.answers import Answers
from orchestrator.state.commands import Applied, Outcome, Rejected, VariableAnswer, WriteVariable
from tests.sim.cluster import SimCluster, SimPeer
from tests.sim.loop import run_virtual

DAY_MS = 24 * 3600 * 1000


class StateCluster(SimCluster):
    """Peers with the real state; ``now_ms`` is every proposer's clock."""

    def __init__(self, *, seed: int, limits: Limits | None = None, config: EngineConfig | None = None) -> None:
        super().__init__(seed=seed, config=config, machines=lambda: ClusterMachine(limits), admission=admission_payload)
        self.now_ms = 1_000_000
        self.hashes: dict[int, str] = {}

    def check(self) -> None:
        """One leader a term, and equal states at equal indexes."""
        for peer in self.running():
            status = peer.engine.status()
            if status.role == "leader":
                assert self.leaders.setdefault(status.term, peer.peer_id) == peer.peer_id
            known = self.hashes.setdefault(peer.machine.index, peer.machine.state_hash())
            assert known == peer.machine.state_hash(), f"{peer.peer_id} differs at index {peer.machine.index}"

    async def write(
        self, peer: SimPeer, request_id: str, *, digest: bytes = b"body", name: str = "v", identity: str = "client:a"
    ) -> Outcome:
        """Write a variable; its version counts how often that was really done."""
        proposer = Proposer(peer.engine, clock_ms=lambda: self.now_ms)
        command = WriteVariable(namespace="default", name=name, value="x")
        return await proposer.propose(command, identity=identity, request_id=request_id, digest=digest, timeout_s=2.0)

    async def done(self, name: str = "v") -> int:
        """How often the write was done; equal on all peers."""
        await self.elect()
        await self.converge()
        versions = {peer.machine.state.variables[("default", name)].version for peer in self.running()}
        assert len(versions) == 1
        return int(versions.pop())

    async def next_leader(self, old: SimPeer) -> SimPeer:
        await self.wait(lambda: self.leader() not in (None, old), what="another leader")
        return await self.elect()


def in_virtual_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(scenario)


def version(outcome: Outcome) -> int:
    assert isinstance(outcome, Applied), outcome
    assert isinstance(outcome.answer, VariableAnswer) and outcome.answer.variable is not None
    return outcome.answer.variable.version


@contextmanager
def answers_forgotten() -> Iterator[None]:
    """Takes out the rule: no first answer is ever found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answers, "get", lambda _answers, _key: None)
        yield


async def _repeat_on_the_next_leader(seed: int) -> tuple[bool, int]:
    async with StateCluster(seed=seed) as cluster:
        leader = await cluster.elect()
        first = await cluster.write(leader, "r1")
        cluster.crash(leader.peer_id)
        new = await cluster.next_leader(leader)
        again = await cluster.write(new, "r1")
        assert isinstance(first, Applied) and isinstance(again, Applied)
        same = (again.index, again.answer, again.repeated) == (first.index, first.answer, True)
        await cluster.start(leader.peer_id)
        return same, await cluster.done()


@pytest.mark.parametrize(
    ("guarded", "happened"), [(True, (True, 1)), (False, (False, 2))], ids=["guarded holds", "unguarded fails"]
)
def test_repeated_write_gets_the_first_answer_from_the_next_leader(guarded: bool, happened: object) -> None:
    for seed in range(40, 43):
        if guarded:
            assert run_virtual(lambda seed=seed: _repeat_on_the_next_leader(seed)) == happened  # type: ignore[misc]
        else:
            with answers_forgotten():
                assert run_virtual(lambda seed=seed: _repeat_on_the_next_leader(seed)) == happened  # type: ignore[misc]


@pytest.mark.parametrize("arrived", [True, False], ids=["it was committed", "it was lost"])
def test_write_with_an_unknown_outcome_is_done_once_when_repeated(arrived: bool) -> None:
    """The leader is cut off with the write in flight: after the others got it, or before."""

    async def scenario() -> None:
        async with StateCluster(seed=44) as cluster:
            leader = await cluster.elect()
            await cluster.converge()

            def tap(source: str, target: str, frame: pb.Frame) -> pb.Frame | None:
                lost = frame.HasField("append_reply") if arrived else frame.HasField("append")
                return None if lost and leader.peer_id in (source, target) else frame

            cluster.network.tap = tap
            write = asyncio.ensure_future(cluster.write(leader, "r1"))
            await cluster.pass_time(0.05)
            cluster.network.isolate(leader.peer_id)
            cluster.network.tap = None
            with pytest.raises(UnknownOutcomeError):
                await write
            new = await cluster.next_leader(leader)
            again = await cluster.write(new, "r1")
            assert isinstance(again, Applied)
            assert (version(again), again.repeated) == (1, arrived)
            cluster.network.heal()
            assert await cluster.done() == 1

    in_virtual_time(scenario)


def test_another_body_under_a_used_request_id_is_refused_by_every_leader_and_does_nothing() -> None:
    async def scenario() -> None:
        async with StateCluster(seed=45) as cluster:
            leader = await cluster.elect()
            await cluster.write(leader, "r1")
            cluster.crash(leader.peer_id)
            new = await cluster.next_leader(leader)
            refused = await cluster.write(new, "r1", digest=b"another body", name="other")
            assert isinstance(refused, Rejected) and refused.reason == "REQUEST_ID_REUSED"
            # Another caller's id of the same text is another id.
            other = await cluster.write(new, "r1", digest=b"another body", identity="client:b")
            assert (version(other), getattr(other, "repeated", None)) == (2, False)
            await cluster.start(leader.peer_id)
            assert await cluster.done() == 2
            assert all(("default", "other") not in peer.machine.state.variables for peer in cluster.running())

    in_virtual_time(scenario)


def test_answers_travel_with_snapshots_and_survive_a_power_cut_of_all() -> None:
    async def scenario() -> None:
        config = EngineConfig(compact_entries=4, tail_entries=0)
        async with StateCluster(seed=46, config=config) as cluster:
            leader = await cluster.elect()
            first = await cluster.write(leader, "r1")
            wiped = next(peer.peer_id for peer in cluster.running() if peer is not leader)
            for number in range(10):
                await cluster.write(leader, f"n{number}", name="noise")
            cluster.wipe(wiped)
            await cluster.start(wiped)
            await cluster.converge()
            new = cluster.peers[wiped]
            assert new.engine.snapshots_installed > 0  # it has never seen the entry itself
            await cluster.wait(lambda: all(row.voter for row in leader.engine.status().peers))
            for peer_id in cluster.peers:
                cluster.crash(peer_id)
            for peer_id in cluster.peers:
                await cluster.start(peer_id)
            for _ in range(20):  # until the one that was wiped leads
                leader = await cluster.elect()
                if leader.peer_id == wiped:
                    break
                cluster.crash(leader.peer_id)
                await cluster.next_leader(leader)
                await cluster.start(leader.peer_id)
                await cluster.converge()
            assert leader.peer_id == wiped
            again = await cluster.write(leader, "r1")
            assert isinstance(first, Applied) and isinstance(again, Applied)
            assert (again.index, again.answer, again.repeated) == (first.index, first.answer, True)
            assert await cluster.done() == 1

    in_virtual_time(scenario)


def test_answer_is_remembered_for_a_day_and_no_longer() -> None:
    async def scenario() -> None:
        async with StateCluster(seed=47) as cluster:
            leader = await cluster.elect()
            await cluster.write(leader, "r1")
            cluster.now_ms += DAY_MS
            again = await cluster.write(leader, "r1")
            assert isinstance(again, Applied) and again.repeated
            cluster.now_ms += 1
            await cluster.write(leader, "r2", name="other")  # the next remembered answer puts out the old ones
            cluster.crash(leader.peer_id)
            new = await cluster.next_leader(leader)
            late = await cluster.write(new, "r1")
            assert isinstance(late, Applied) and not late.repeated
            await cluster.start(leader.peer_id)
            assert await cluster.done() == 2

    in_virtual_time(scenario)


def test_only_the_last_answers_up_to_the_limit_are_remembered_by_every_leader() -> None:
    async def scenario() -> None:
        async with StateCluster(seed=48, limits=Limits(answers=3)) as cluster:
            leader = await cluster.elect()
            for number in range(1, 5):
                await cluster.write(leader, f"r{number}", name=f"v{number}")
            cluster.crash(leader.peer_id)
            new = await cluster.next_leader(leader)
            kept = await cluster.write(new, "r2", name="v2")
            gone = await cluster.write(new, "r1", name="v1")
            assert [getattr(outcome, "repeated", None) for outcome in (kept, gone)] == [True, False]
            await cluster.start(leader.peer_id)
            assert (await cluster.done("v2"), await cluster.done("v1")) == (1, 2)

    in_virtual_time(scenario)


def test_refusals_are_remembered_as_well() -> None:
    """What was refused once stays refused under its id, also when it would be accepted by now."""

    async def scenario() -> None:
        async with StateCluster(seed=49) as cluster:
            leader = await cluster.elect()
            first = await cluster.write(leader, "r1", name="bad name")
            assert isinstance(first, Rejected)
            cluster.crash(leader.peer_id)
            new = await cluster.next_leader(leader)
            again = await cluster.write(new, "r1", name="bad name")
            assert again == first

    in_virtual_time(scenario)
