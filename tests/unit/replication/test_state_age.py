"""How old a stale answer may be: a peer never calls its state younger than it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from orchestrator.contract.errors import RaftsmanError
from orchestrator.replication.log import Role
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.effort import examples
from tests.sim.cluster import SimCluster, SimPeer
from tests.sim.loop import run_virtual
from tests.unit.replication.puppet import Puppet, append

HEARTBEAT_MS = EngineConfig().heartbeat_s * 1000


def in_virtual_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(scenario)


def age_ms(peer: SimPeer | Puppet) -> int:
    return peer.engine.status().state_age_ms


async def leads(p1: Puppet) -> int:
    """Make p1 a leader that has committed an entry of its term; returns the term."""
    term = await p1.lead("p2")
    await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
    assert p1.engine.is_leader()
    return term


def test_healthy_peers_are_as_old_as_the_last_heartbeat() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=21) as cluster:
            await cluster.elect()
            await cluster.converge()
            await cluster.pass_time(1.0)
            assert all(0 <= age_ms(peer) <= HEARTBEAT_MS + 50 for peer in cluster.running())

    in_virtual_time(scenario)


def test_age_grows_with_the_clock_once_the_majority_is_gone() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=22) as cluster:
            leader = await cluster.elect()
            await cluster.converge()
            follower = next(peer for peer in cluster.running() if peer is not leader)
            for cut in (leader, follower):
                cluster.network.isolate(cut.peer_id)
            await cluster.pass_time(7.0)
            assert leader.engine.status().role != Role.LEADER  # stepping down makes nothing younger
            for peer in cluster.running():
                assert 7_000 <= age_ms(peer) <= 7_000 + HEARTBEAT_MS + 50

    in_virtual_time(scenario)


def test_age_covers_every_write_that_was_acknowledged_longer_ago() -> None:
    """The definition, on every peer, through crashes and cuts: what was acknowledged before the stated age is there."""

    async def scenario(seed: int) -> int:
        checked = 0
        config = EngineConfig(compact_entries=15, tail_entries=2, snapshot_chunk_bytes=64, snapshot_window=2)
        async with SimCluster(seed=seed, config=config) as cluster:
            loop = asyncio.get_running_loop()
            await cluster.elect()
            acknowledged: list[tuple[float, bytes]] = []

            async def write() -> None:
                for number in range(10_000):
                    leader = cluster.leader()
                    if leader is not None:
                        payload = b"%d" % number
                        try:
                            await leader.engine.propose(payload, timeout_s=1.0)
                            acknowledged.append((loop.time(), payload))
                        except RaftsmanError:
                            pass
                    await asyncio.sleep(cluster.rng.uniform(0, 0.05))

            writer = asyncio.ensure_future(write())
            # A leader cut off with a follower is believed by it for so long.
            slack_s = config.election_max_s + 2 * max(cluster.network.delay_s)
            for _ in range(300):
                await asyncio.sleep(0.03)
                kind = cluster.rng.random()
                name = cluster.rng.choice(list(cluster.peers))
                if kind < 0.05:
                    cluster.crash(name)
                elif kind < 0.1:
                    cluster.network.isolate(name)
                elif kind < 0.2:
                    cluster.network.heal()
                    for peer in cluster.peers.values():
                        if not peer.running:
                            await cluster.start(peer.peer_id)
                for peer in cluster.running():
                    age = age_ms(peer)
                    if age < 0:
                        continue
                    whole_at = loop.time() - age / 1000 - slack_s
                    held = set(peer.machine.applied)
                    missing = [payload for when, payload in acknowledged if when <= whole_at and payload not in held]
                    assert not missing, f"{peer.peer_id} says {age} ms and misses {missing[:3]}"
                    checked += age > 0
            writer.cancel()
        return checked

    for seed in range(max(1, examples(3))):
        assert run_virtual(lambda seed=seed: scenario(seed)) > 200  # type: ignore[misc]


def test_peer_that_hears_a_leader_but_misses_entries_does_not_call_itself_fresh() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(3, (20, 3), [b"z"], commit=20))  # rejected: it has none of them
            assert age_ms(p1) == -1
            await p1.say("p2", append=append(3, (1, 0), [b"%d" % number for number in range(19)], commit=20))
            assert age_ms(p1) == 0

    in_virtual_time(scenario)


def test_peer_that_takes_in_a_snapshot_does_not_call_itself_fresh() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=2))
            assert age_ms(p1) == 0
            for _ in range(20):
                await asyncio.sleep(0.1)
                alive = pb.SnapshotChunk(term=1, commit_index=90, last_index=90, last_term=1, total_bytes=9, crc32c=1)
                await p1.say("p2", snapshot_chunk=alive)
            assert age_ms(p1) == pytest.approx(2000, abs=1)

    in_virtual_time(scenario)


def test_commit_index_of_a_leader_that_has_committed_nothing_in_its_term_makes_nothing_fresh() -> None:
    """The leader before it may have acknowledged more than the new one knows to be committed."""

    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"acknowledged"], commit=2))
            await asyncio.sleep(3.0)
            await p1.say("p3", append=append(2, (3, 1), [b""], commit=2))
            assert (p1.machine.applied, age_ms(p1)) == ([b"a"], 3000)
            await p1.say("p3", append=append(2, (4, 2), commit=4))
            assert (p1.machine.applied, age_ms(p1)) == ([b"a", b"acknowledged", b""], 0)

    in_virtual_time(scenario)


def test_leader_is_as_old_as_the_last_answer_of_a_majority() -> None:
    async def scenario() -> None:
        async with Puppet(peers=5) as p1:
            term = await p1.lead("p2", "p3")
            for name in ("p2", "p3"):
                await p1.say(name, append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            assert age_ms(p1) == 0
            await asyncio.sleep(0.5)
            await p1.say("p2", snapshot_progress=pb.SnapshotProgress(term=term))
            assert age_ms(p1) == pytest.approx(500, abs=1)  # p1 and p2 are no majority
            await p1.say("p4", snapshot_progress=pb.SnapshotProgress(term=term))
            assert age_ms(p1) <= 1

    in_virtual_time(scenario)


def test_new_leader_is_no_younger_than_it_was_before_its_first_commit() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"acknowledged"], commit=2))
            await p1.say("p2", append=append(1, (3, 1), commit=2))
            began = asyncio.get_running_loop().time()
            term = await p1.lead("p3")
            await p1.say("p3", snapshot_progress=pb.SnapshotProgress(term=term))
            waited = (asyncio.get_running_loop().time() - began) * 1000
            assert age_ms(p1) >= waited > 100
            await p1.say("p3", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            assert age_ms(p1) == 0

    in_virtual_time(scenario)


def test_peer_without_others_is_never_old() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=1, peers=1) as cluster:
            leader = await cluster.elect()
            await asyncio.sleep(5)
            assert age_ms(leader) == 0

    in_virtual_time(scenario)
