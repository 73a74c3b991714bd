"""Random schedules of crashes, cuts, broken sessions and wiped disks: nothing acknowledged is lost, and all converge.

Issue 3 builds the full simulator on ``SimCluster``; this is its first, small use. A failure prints its seed.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from orchestrator.contract.errors import RaftsmanError
from orchestrator.replication.settings import EngineConfig
from tests.effort import seeds
from tests.sim.cluster import SimCluster
from tests.sim.loop import run_virtual

TINY = EngineConfig(
    compact_entries=15,
    tail_entries=4,
    tail_bytes=4000,
    snapshot_chunk_bytes=64,
    snapshot_window=3,
    compact_bytes=10_000,
)


class Writers:
    """Clients that write unique values through whoever leads, and remember what was acknowledged."""

    def __init__(self, cluster: SimCluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.rng = rng
        self.acknowledged: list[bytes] = []
        self.unknown = 0
        self.reads = 0
        self.on = True

    async def write(self, name: int) -> None:
        number = 0
        while self.on:
            leader = self.cluster.leader()
            if leader is None:
                await asyncio.sleep(0.02)
                continue
            number += 1
            payload = b"%d-%d" % (name, number)
            try:
                await leader.engine.propose(payload, timeout_s=2.0)
            except RaftsmanError:
                self.unknown += 1
                await asyncio.sleep(0.01)
            else:
                self.acknowledged.append(payload)
            await asyncio.sleep(self.rng.uniform(0, 0.1))

    async def read(self) -> None:
        """What was acknowledged before a read began is in the state that it reads."""
        while self.on:
            await asyncio.sleep(self.rng.uniform(0.01, 0.1))
            peer = self.rng.choice(list(self.cluster.peers.values()))
            if peer.log is None:
                continue
            engine, machine = peer.log, peer.machine
            known = len(self.acknowledged)
            try:
                await engine.read_barrier(timeout_s=1.0)
            except RaftsmanError:
                continue
            if engine.running:
                missing = set(self.acknowledged[:known]) - set(machine.applied)
                assert not missing, f"a read on {peer.peer_id} misses {sorted(missing)[:5]}"
                self.reads += 1


async def _faults(cluster: SimCluster, rng: random.Random, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    names = list(cluster.peers)
    wiped = False
    while loop.time() < until:
        await cluster.pass_time(rng.uniform(0.05, 0.8))
        kind = rng.random()
        name = rng.choice(names)
        other = rng.choice([peer for peer in names if peer != name])
        if kind < 0.25:
            cluster.crash(name, power=rng.random() < 0.7)
        elif kind < 0.55:
            for peer in cluster.peers.values():
                if not peer.running and rng.random() < 0.7:
                    await cluster.start(peer.peer_id)
        elif kind < 0.65:
            cluster.network.isolate(name)
        elif kind < 0.75:
            cluster.network.cut_link(name, other)
        elif kind < 0.85:
            cluster.network.break_stream(name, other)
        elif kind < 0.9:
            cluster.network.slow[name, other] = rng.uniform(0.01, 0.6)
        elif kind < 0.97:
            cluster.network.heal()
        elif not wiped and all(peer.running for peer in cluster.peers.values()) and not cluster.network.cut:
            states = [peer.engine.status() for peer in cluster.peers.values()]
            if all(status.cluster_id and all(row.voter for row in status.peers) for status in states):
                wiped = True  # one disk of a healthy cluster at a time, as an operator may
                cluster.wipe(name)
                await cluster.start(name)


async def _schedule(seed: int, peers: int) -> tuple[int, int]:
    rng = random.Random(seed)
    async with SimCluster(seed=seed, peers=peers, config=TINY) as cluster:
        await cluster.elect()
        writers = Writers(cluster, rng)
        tasks = [asyncio.create_task(writers.write(n)) for n in range(4)]
        tasks += [asyncio.create_task(writers.read()) for _ in range(2)]
        await _faults(cluster, rng, 8.0)
        cluster.network.heal()
        for peer in cluster.peers.values():
            if not peer.running:
                await cluster.start(peer.peer_id)
        await cluster.elect()
        writers.on = False
        await asyncio.gather(*tasks)
        await cluster.converge()
        cluster.check()
        applied = cluster.running()[0].machine.applied
        lost = set(writers.acknowledged) - set(applied)
        assert not lost, f"acknowledged and lost: {sorted(lost)[:5]}"
        assert len(applied) == len(set(applied)), "applied twice"
        assert not any(peer.exits for peer in cluster.peers.values()), "a peer stopped itself"
        await cluster.wait(lambda: all(row.voter for row in cluster.running()[0].engine.status().peers))
        return len(writers.acknowledged), writers.reads


@pytest.mark.parametrize("seed", seeds(range(5), fast=[0]))
def test_three_peers_keep_every_acknowledged_write(seed: int) -> None:
    acknowledged, reads = run_virtual(lambda: _schedule(seed, 3))
    assert acknowledged > 50 and reads > 0, f"seed {seed} tested nothing"


@pytest.mark.parametrize("seed", seeds(range(100, 103), fast=[]))
def test_five_peers_keep_every_acknowledged_write(seed: int) -> None:
    acknowledged, reads = run_virtual(lambda: _schedule(seed, 5))
    assert acknowledged > 50 and reads > 0, f"seed {seed} tested nothing"
