"""Changing the peers while they run, in the simulator: nothing acknowledged is lost, and all end in one epoch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine

import pytest

from orchestrator.contract.errors import RaftsmanError
from orchestrator.replication.settings import EngineConfig
from tests.effort import seeds
from tests.sim.epochs import EpochCluster
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

    def __init__(self, cluster: EpochCluster, count: int = 3) -> None:
        self.cluster = cluster
        self.acknowledged: list[bytes] = []
        self.on = True
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(count)]
        self._tasks.append(asyncio.create_task(self._read()))
        self.reads = 0

    async def _write(self, name: int) -> None:
        number = 0
        while self.on:
            leader = self.cluster.leader()
            if leader is None:
                await asyncio.sleep(0.02)
                continue
            number += 1
            payload = b"%d-%d" % (name, number)
            try:
                await leader.epochs.propose(payload, timeout_s=2.0)
            except RaftsmanError:
                await asyncio.sleep(0.01)
            else:
                self.acknowledged.append(payload)
            await asyncio.sleep(self.cluster.rng.uniform(0, 0.05))

    async def _read(self) -> None:
        """What was acknowledged before a read began is in the state that it reads."""
        while self.on:
            await asyncio.sleep(self.cluster.rng.uniform(0.01, 0.1))
            peer = self.cluster.rng.choice(list(self.cluster.peers.values()))
            log, machine, known = peer.log, peer.machine, len(self.acknowledged)
            if log is None:
                continue
            try:
                await log.read_barrier(timeout_s=1.0)
            except RaftsmanError:
                continue
            if peer.log is log:
                missing = set(self.acknowledged[:known]) - set(machine.applied)
                assert not missing, f"a read on {peer.peer_id} misses {sorted(missing)[:5]}"
                self.reads += 1

    async def stop(self) -> None:
        self.on = False
        await asyncio.gather(*self._tasks)

    def audit(self) -> None:
        leader = self.cluster.leader()
        assert leader is not None
        applied = leader.machine.applied
        lost = set(self.acknowledged) - set(applied)
        assert not lost, f"acknowledged and lost: {sorted(lost)[:5]}"
        assert len(applied) == len(set(applied)), "applied twice"
        assert len(self.acknowledged) > 20 and self.reads > 0, "nothing was tested"


async def audited(cluster: EpochCluster, work: Callable[[Writers], Coroutine[None, None, None]]) -> None:
    """Run ``work`` under load, then demand that nothing was lost and that all members agree."""
    await cluster.elect()
    writers = Writers(cluster)
    await cluster.pass_time(0.5)
    await work(writers)
    await cluster.pass_time(0.5)
    await writers.stop()
    await cluster.converge()
    writers.audit()
    assert not any(peer.exits for peer in cluster.peers.values()), "a peer stopped itself"


def simulate(
    work: Callable[[EpochCluster], Coroutine[None, None, None]], *, seed: int = 1, peers: int = 3
) -> EpochCluster:
    """The cluster, after ``work`` was done under load."""

    async def main() -> EpochCluster:
        async with EpochCluster(seed=seed, peers=peers, config=TINY) as cluster:
            await audited(cluster, lambda _: work(cluster))
            return cluster

    return run_virtual(main)


async def add(cluster: EpochCluster, *names: str) -> int:
    for name in names:
        cluster.place(name)
        await cluster.start(name)
    return await cluster.change(add=names)


# ---------------------------------------------------------------------------- growing and shrinking


@pytest.mark.parametrize("seed", seeds(range(4), fast=range(1)))
def test_one_peer_becomes_three(seed: int) -> None:
    async def work(cluster: EpochCluster) -> None:
        epoch = await add(cluster, "p2", "p3")
        leader = await cluster.settle(epoch)
        assert sorted(leader.epochs.peers) == ["p1", "p2", "p3"]
        cluster.crash("p1")  # the newcomers are a majority, with all that p1 had acknowledged alone
        await cluster.elect()

    simulate(work, seed=seed, peers=1)


@pytest.mark.parametrize("seed", seeds(range(4), fast=range(1)))
def test_three_peers_become_five_and_stand_two_deaths(seed: int) -> None:
    async def work(cluster: EpochCluster) -> None:
        await cluster.settle(await add(cluster, "p4", "p5"))
        cluster.crash("p1")
        await cluster.pass_time(0.5)
        cluster.crash("p2")
        await cluster.elect()

    simulate(work, seed=seed)


@pytest.mark.parametrize("seed", seeds(range(4), fast=range(1)))
def test_five_peers_become_three_and_the_removed_end(seed: int) -> None:
    async def work(cluster: EpochCluster) -> None:
        leader = await cluster.elect()
        gone = [peer for peer in cluster.peers if peer != leader.peer_id][:2]
        await cluster.settle(await cluster.change(remove=gone))
        await cluster.wait(lambda: all(cluster.peers[peer].retired == 2 for peer in gone), what="the removed end")

    simulate(work, seed=seed, peers=5)


@pytest.mark.parametrize("seed", seeds(range(4), fast=range(1)))
def test_the_leader_can_be_removed(seed: int) -> None:
    async def work(cluster: EpochCluster) -> None:
        leader = await cluster.elect()
        epoch = await cluster.change(remove=[leader.peer_id])
        await cluster.settle(epoch)
        await cluster.wait(lambda: leader.retired == epoch, what="the old leader ends")

    simulate(work, seed=seed)


@pytest.mark.parametrize("seed", seeds(range(4), fast=range(1)))
def test_the_only_peer_can_be_replaced_by_another(seed: int) -> None:
    async def work(cluster: EpochCluster) -> None:
        cluster.place("p2")
        await cluster.start("p2")
        epoch = await cluster.change(add=["p2"], remove=["p1"])
        leader = await cluster.settle(epoch)
        assert leader.peer_id == "p2"
        await cluster.wait(lambda: cluster.peers["p1"].retired == epoch, what="the old one ends")

    simulate(work, seed=seed, peers=1)


@pytest.mark.parametrize("seed", seeds(range(4), fast=range(1)))
def test_all_peers_are_replaced_one_by_one(seed: int) -> None:
    async def work(cluster: EpochCluster) -> None:
        for number in (1, 2, 3):
            old, new = f"p{number}", f"p{number + 3}"
            cluster.place(new)
            await cluster.start(new)
            epoch = await cluster.change(add=[new], remove=[old])
            await cluster.settle(epoch)
            await cluster.wait(lambda old=old: bool(cluster.peers[old].retired), what=f"{old} ends")  # type: ignore[misc]
        assert sorted(cluster.members()) == ["p4", "p5", "p6"]

    simulate(work, seed=seed)


@pytest.mark.parametrize("seed", seeds(range(4), fast=range(1)))
def test_a_dead_peer_is_replaced_and_is_told_when_it_comes_back(seed: int) -> None:
    async def work(cluster: EpochCluster) -> None:
        leader = await cluster.elect()
        dead = next(peer for peer in cluster.peers if peer != leader.peer_id)
        cluster.crash(dead)
        cluster.place("p4")
        await cluster.start("p4")
        epoch = await cluster.change(add=["p4"], remove=[dead])
        await cluster.settle(epoch)
        await cluster.start(dead)
        await cluster.wait(lambda: cluster.peers[dead].retired == epoch, what="the replaced one ends")

    simulate(work, seed=seed)


@pytest.mark.parametrize("seed", seeds(range(4), fast=range(1)))
def test_a_dead_peer_is_replaced_under_its_own_id(seed: int) -> None:
    async def work(cluster: EpochCluster) -> None:
        leader = await cluster.elect()
        dead = next(peer for peer in cluster.peers if peer != leader.peer_id)
        cluster.crash(dead)
        cluster.place(dead, address=f"{dead}:7999")
        await cluster.start(dead)
        epoch = await cluster.change(add=[dead], remove=[dead])
        leader = await cluster.settle(epoch)
        assert leader.epochs.peers[dead] == f"{dead}:7999"
        await cluster.wait(lambda: all(row.voter for row in leader.epochs.status().peers))

    simulate(work, seed=seed)


@pytest.mark.parametrize("seed", seeds(range(4), fast=range(1)))
def test_a_dead_peer_is_replaced_under_its_own_id_in_a_later_epoch(seed: int) -> None:
    """The new disk fetches the state by itself, as a lost one would; that must not make it look like a used one."""

    async def work(cluster: EpochCluster) -> None:
        leader = await cluster.settle(await add(cluster, "p4", "p5"))
        dead = next(peer for peer in ("p4", "p5") if peer != leader.peer_id)
        cluster.crash(dead)
        cluster.place(dead, address=f"{dead}:7999")
        cluster.network.isolate(dead)
        await cluster.start(dead)
        cluster.network.cut = {link for link in cluster.network.cut if link[0] == dead}  # it is not dialled yet
        await cluster.pass_time(0.3)
        cluster.network.heal()
        leader = await cluster.settle(await cluster.change(add=[dead], remove=[dead]))
        assert leader.epochs.peers[dead] == f"{dead}:7999"
        await cluster.wait(lambda: all(row.voter for row in leader.epochs.status().peers))

    simulate(work, seed=seed)


def test_the_term_goes_on_from_epoch_to_epoch() -> None:
    async def work(cluster: EpochCluster) -> None:
        for _ in range(4):
            leader = await cluster.elect()
            cluster.network.isolate(leader.peer_id)
            await cluster.wait(lambda leader=leader: cluster.leader() not in (None, leader))  # type: ignore[misc]
            cluster.network.heal()
            await cluster.pass_time(0.5)
        before = (await cluster.elect()).epochs.term
        assert before > 3
        leader = await cluster.settle(await add(cluster, "p4"))
        engines = [peer.epochs.engine for peer in cluster.running()]
        assert all(engine is not None and engine.term > before for engine in engines)

    simulate(work)


def test_a_wiped_disk_is_admitted_again_in_a_later_epoch() -> None:
    async def work(cluster: EpochCluster) -> None:
        leader = await cluster.settle(await add(cluster, "p4", "p5"))
        wiped = next(peer for peer in ("p5", "p4") if peer != leader.peer_id)
        cluster.place(wiped, configured=cluster.peers["p1"].configured | {wiped: f"{wiped}:7400"})
        await cluster.start(wiped)
        disk = cluster.peers[wiped].incarnation
        await cluster.wait(
            lambda: all(peer.machine.admitted().get(wiped) == disk for peer in cluster.running()), what="admitted again"
        )
        assert cluster.peers[wiped].epochs.epoch == 2

    simulate(work)


def test_a_newcomer_waits_and_never_forms_a_cluster() -> None:
    async def work(cluster: EpochCluster) -> None:
        cluster.place("p4")
        await cluster.start("p4")
        log = cluster.peers["p4"].epochs
        await cluster.wait(lambda: "peers add p4=" in log.waits_for, what="it says that it waits")
        for peer in ("p1", "p2", "p3"):
            cluster.crash(peer)
        await cluster.pass_time(5.0)
        assert not log.leader_id and not cluster.peers["p4"].machine.cluster_id()
        for peer in ("p1", "p2", "p3"):
            await cluster.start(peer)
        await cluster.settle(await cluster.change(add=["p4"]))
        assert log.waits_for == ""

    simulate(work)


# ---------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("seed", seeds(range(4), fast=range(1)))
def test_a_change_proposed_by_a_minority_leader_fails_and_the_old_peers_go_on(seed: int) -> None:
    async def work(cluster: EpochCluster) -> None:
        leader = await cluster.elect()
        cluster.place("p4")
        await cluster.start("p4")
        await cluster.pass_time(0.5)
        changing = asyncio.create_task(cluster.change(add=["p4"], timeout_s=1.0))
        sealing = leader.epochs.rehearse

        async def rehearse_and_cut(peer_id: str, address: str) -> str:
            found = await sealing(peer_id, address)
            for other in ("p1", "p2", "p3"):
                if other != leader.peer_id:
                    cluster.network.cut_link(leader.peer_id, other)
                    cluster.network.cut_link(other, leader.peer_id)
            return found

        leader.epochs.rehearse = rehearse_and_cut  # type: ignore[method-assign]
        with pytest.raises(RaftsmanError):
            await changing
        await cluster.wait(lambda: (found := cluster.leader()) is not None and found is not leader)
        await cluster.pass_time(1.0)
        assert {peer.epochs.epoch for peer in cluster.running()} == {1}
        cluster.network.heal()
        await cluster.pass_time(2.0)
        # The proposal may have survived (another leader took it up) or not: nobody may be in between.
        epochs = {cluster.peers[peer].epochs.epoch for peer in ("p1", "p2", "p3")}
        assert len(epochs) == 1

    simulate(work, seed=seed)


@pytest.mark.parametrize("seed", seeds(range(6), fast=range(1)))
def test_a_leader_cut_off_right_behind_the_seal_is_found_again(seed: int) -> None:
    """The sealing leader alone knows that the seal is committed; the others commit it under a leader of their own."""

    async def work(cluster: EpochCluster) -> None:
        leader = await cluster.elect()
        cluster.place("p4")
        await cluster.start("p4")
        done = asyncio.create_task(cluster.change(add=["p4"]))
        await cluster.wait(
            lambda: (leader.epochs.engine is not None and leader.epochs.engine.seal is not None) or done.done()
        )
        cluster.network.isolate(leader.peer_id)
        rest = [peer for peer in ("p1", "p2", "p3", "p4") if peer != leader.peer_id]
        await cluster.wait(
            lambda: sum(cluster.peers[peer].epochs.epoch == 2 for peer in rest) >= 2, what="the others seal as well"
        )
        cluster.network.heal()
        await asyncio.gather(done, return_exceptions=True)
        await cluster.settle(2)

    simulate(work, seed=seed)


@pytest.mark.parametrize("seed", seeds(range(6), fast=range(1)))
def test_void_entries_behind_the_seal_are_never_applied(seed: int) -> None:
    """A follower with entries of the old epoch that were never committed misses two epochs, then comes back."""

    async def work(cluster: EpochCluster) -> None:
        leader = await cluster.elect()
        lost = leader
        cluster.network.isolate(lost.peer_id)
        tail = [asyncio.create_task(lost.epochs.propose(b"void-%d" % n, timeout_s=0.3)) for n in range(5)]
        await asyncio.gather(*tail, return_exceptions=True)
        await cluster.wait(lambda: (found := cluster.leader()) is not None and found is not lost)
        others = [peer for peer in cluster.peers if peer != lost.peer_id]
        epoch = await add(cluster, "p4")
        await cluster.wait(lambda: (found := cluster.leader()) is not None and found.epochs.epoch == epoch)
        await cluster.write(b"in-the-second-epoch")
        epoch = await add(cluster, "p5")
        await cluster.wait(lambda: (found := cluster.leader()) is not None and found.epochs.epoch == epoch)
        await cluster.write(b"in-the-third-epoch")
        if seed % 2:
            cluster.crash(lost.peer_id)
            await cluster.start(lost.peer_id)
        cluster.network.heal()
        await cluster.settle(epoch)
        await cluster.converge()
        for peer in [*others, lost.peer_id]:
            assert not [row for row in cluster.peers[peer].machine.applied if row.startswith(b"void")]

    simulate(work, seed=seed)


@pytest.mark.parametrize("seed", seeds(range(3), fast=range(1)))
def test_a_peer_that_missed_its_removal_ends_when_it_hears_of_it(seed: int) -> None:
    async def work(cluster: EpochCluster) -> None:
        leader = await cluster.elect()
        late = next(peer for peer in cluster.peers if peer != leader.peer_id)
        cluster.network.isolate(late)
        await cluster.pass_time(0.5)
        await cluster.change(remove=[late])
        await cluster.pass_time(1.0)
        cluster.network.heal()
        await cluster.wait(lambda: cluster.peers[late].retired == 2, what="it ends")

    simulate(work, seed=seed)


def test_a_removed_peer_that_restarts_before_its_end_still_serves_and_ends() -> None:
    async def work(cluster: EpochCluster) -> None:
        cluster.place("p2")
        await cluster.start("p2")
        await cluster.change(add=["p2"], remove=["p1"])
        old = cluster.peers["p1"]
        cluster.network.cut_link("p1", "p2")
        cluster.network.cut_link("p2", "p1")
        await cluster.wait(lambda: old.epochs.retired, what="p1 is removed")
        assert cluster.peers["p2"].epochs.epoch == 1
        cluster.crash("p1")
        await cluster.start("p1")
        assert old.epochs.retired
        cluster.network.heal()
        await cluster.settle(2)
        await cluster.wait(lambda: old.retired == 2, what="p1 ends")

    simulate(work, peers=1)


# ---------------------------------------------------------------------------- crashes at every step


async def _crash_at(step: int, victim: str, seed: int) -> bool:
    """Power is lost in the victim's ``step``-th disk call from the change on; whether it came to that."""
    async with EpochCluster(seed=seed, peers=3, config=TINY) as cluster:
        leader = await cluster.elect()
        for n in range(20):
            await cluster.write(b"before-%d" % n)
        cluster.place("p4")
        await cluster.start("p4")
        follower = next(peer for peer in ("p1", "p2", "p3") if peer != leader.peer_id)
        removed = next(peer for peer in ("p1", "p2", "p3") if peer not in (leader.peer_id, follower))
        names = {"leader": leader.peer_id, "follower": follower, "newcomer": "p4", "removed": removed}
        peer = cluster.peers[names[victim]]
        peer.disk.crash_at = peer.disk.calls + step
        crashes = peer.crashes
        change = asyncio.create_task(cluster.change(add=["p4"], remove=[removed]))
        await cluster.pass_time(1.5)
        happened = peer.crashes > crashes and not peer.retired
        peer.disk.crash_at = 0
        for one in cluster.peers.values():
            if one.log is None and not one.retired:
                await cluster.start(one.peer_id)
        await asyncio.gather(change, return_exceptions=True)
        await cluster.write(b"after")
        leader = await cluster.elect()
        if leader.epochs.epoch == 1:  # it was not committed: the old peers serve, and it can be done again
            await cluster.change(add=["p4"], remove=[removed])
        await cluster.settle(2)
        await cluster.write(b"at last")
        await cluster.converge()
        await cluster.wait(lambda: cluster.peers[removed].retired == 2, what="the removed one ends")
        leader = await cluster.elect()
        wanted = {b"before-%d" % n for n in range(20)} | {b"after", b"at last"}
        assert wanted <= set(leader.machine.applied)
        assert not any(one.exits for one in cluster.peers.values())
        return happened


@pytest.mark.parametrize("victim", seeds(["leader", "follower", "newcomer", "removed"], fast=["removed"]))
def test_power_cut_at_every_disk_call_of_the_switch(victim: str) -> None:
    reached = 0
    for step in range(1, 200):
        if not run_virtual(lambda step=step: _crash_at(step, victim, seed=step)):  # type: ignore[misc]
            break
        reached += 1
    assert reached >= 8, f"only {reached} calls: the switch was not reached"


# ---------------------------------------------------------------------------- anything, at random


def _healthy(cluster: EpochCluster) -> bool:
    """Every member runs, hears the leader and has the disk that was admitted; nothing is cut."""
    leader = cluster.leader()
    if leader is None or cluster.network.cut:
        return False
    log = leader.epochs
    states = [cluster.peers[peer].log for peer in log.peers]
    return all(state is not None and state.epoch == log.epoch for state in states) and all(
        row.voter and (row.connected or row.peer_id == leader.peer_id) for row in log.status().peers
    )


async def _give_up_a_disk(cluster: EpochCluster, rng: random.Random) -> bool:
    members = sorted(cluster.members())
    if len(members) < 3:
        return False
    name = rng.choice(members)
    configured = {**cluster.members(), name: f"{name}:7400"}
    cluster.place(name, configured=configured)
    await cluster.start(name)
    return True


async def _schedule(seed: int) -> tuple[int, int, int]:
    """Faults, changes of the peers and lost disks in any order: ``(acknowledged writes, changes, disks lost)``."""
    rng = random.Random(seed)
    async with EpochCluster(seed=seed, peers=3, config=TINY) as cluster:
        await cluster.elect()
        writers = Writers(cluster)
        loop = asyncio.get_running_loop()
        until = loop.time() + 10.0
        newest, changes, wiped = 3, 0, 0
        new: list[str]
        pending: set[asyncio.Task[int]] = set()
        while loop.time() < until:
            await cluster.pass_time(rng.uniform(0.05, 0.6))
            members = sorted(cluster.members())
            alive = [peer for peer in cluster.peers.values() if not peer.retired]
            name = rng.choice(alive).peer_id
            other = rng.choice([peer.peer_id for peer in cluster.peers.values() if peer.peer_id != name])
            kind = rng.random()
            if kind < 0.15:
                cluster.crash(name, power=rng.random() < 0.7)
            elif kind < 0.45:
                for peer in alive:
                    if peer.log is None and not peer.retired and rng.random() < 0.7:
                        await cluster.start(peer.peer_id)
            elif kind < 0.53:
                cluster.network.isolate(name)
            elif kind < 0.6:
                cluster.network.cut_link(name, other)
            elif kind < 0.66:
                cluster.network.break_stream(name, other)
            elif kind < 0.7:
                cluster.network.slow[name, other] = rng.uniform(0.01, 0.4)
            elif kind < 0.78:
                cluster.network.heal()
            elif kind < 0.82:
                # One disk of a healthy cluster at a time, as an operator may: its peer comes back with an empty one.
                if not pending and _healthy(cluster) and (await _give_up_a_disk(cluster, rng)):
                    wiped += 1
            elif members and cluster.leader() is not None and len(pending) < 2:
                gone = [peer for peer in members if rng.random() < 0.3]
                new = []
                while len(members) - len(gone) + len(new) < 1 or (rng.random() < 0.5 and len(new) < 2):
                    newest += 1
                    new.append(f"p{newest}")
                if len(members) - len(gone) + len(new) > 5:
                    continue
                for peer_id in new:
                    cluster.place(peer_id)
                    await cluster.start(peer_id)
                pending.add(asyncio.create_task(cluster.change(add=new, remove=gone, timeout_s=2.0)))
            for task in [task for task in pending if task.done()]:
                pending.discard(task)
                if task.exception() is None:
                    changes += 1
                elif not isinstance(task.exception(), RaftsmanError | AssertionError):
                    task.result()
        cluster.network.heal()
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for peer in cluster.peers.values():
            if peer.log is None and not peer.retired:
                await cluster.start(peer.peer_id)
        await cluster.elect()
        await cluster.pass_time(2.0)
        await writers.stop()
        leader = await cluster.elect()
        await cluster.settle(leader.epochs.epoch)
        await cluster.converge()
        writers.audit()
        assert not any(peer.exits for peer in cluster.peers.values()), "a peer stopped itself"
        return len(writers.acknowledged), changes, wiped


@pytest.mark.parametrize("seed", seeds(range(12), fast=range(1)))
def test_random_faults_and_changes_lose_nothing(seed: int) -> None:
    acknowledged, _, _ = run_virtual(lambda: _schedule(seed))
    assert acknowledged > 20, f"seed {seed} tested nothing"
