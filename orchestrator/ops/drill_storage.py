"""Drills that hurt what peers have stored: power cuts, full and failing and slow disks, rot, loss.

Owns: the kinds, and what each must see the struck peer do. Leaves to others: the disk (``drill_disks``), failing system
calls (``drill_strace``), which bit (``drill_damage``). The rule: a peer whose disk failed ends at once, says why, and
never runs on; so each kind waits for that end and looks at how it came.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

from orchestrator.contract.errors import TimeoutError_
from orchestrator.ops.cluster_file import Member
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.drill_damage import flip_in_journal, flip_in_snapshot
from orchestrator.ops.drill_kind import HOLD_S, BrokenPromiseError, Kind, Strike, faulty, local
from orchestrator.ops.drill_needs import Need
from orchestrator.ops.drill_rescue import operate, wipe
from orchestrator.ops.drill_strace import Tracer, failing, slow
from orchestrator.ops.drill_target import Target
from orchestrator.ops.other_peers import Known, asking, required
from orchestrator.ops.processes import gone
from orchestrator.replication.journal import ROOM_BYTES, WAY_BACK
from orchestrator.replication.turns import EXIT_STORAGE

END_S = 20.0
"""A peer that must stop has so long."""
STEP_S = 30.0
"""So long the other peers may take to be well again before a disk is given up."""
NUDGE_BYTES = 32 * 1024
SLOW_MS = 150
"""How much longer each flush of a slow disk takes: more than a heartbeat."""


# ---------------------------------------------------------------------------- power


class PowerCutOne(Kind):
    """The leader's machine loses power; what was not flushed is gone. It boots once another one leads."""

    gradual = True
    needs = frozenset({Need.FILES, Need.DISKS, Need.LINKS})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        leader = await target.leader()
        return await self._cut(target, (leader,))

    async def _cut(self, target: Target, peers: tuple[str, ...]) -> Strike:
        at_ns = time.monotonic_ns()
        await faulty(target).cut_power(peers)
        return Strike(at_ns=at_ns, peers=peers)

    async def mend(self, target: Target, strike: Strike) -> None:
        await faulty(target).boot(strike.peers)


class PowerCutAll(PowerCutOne):
    """Every machine loses power at one moment; all boot."""

    mends_first = True

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        return await self._cut(target, target.peer_names())


# ---------------------------------------------------------------------------- disks that fail


class DiskFull(Kind):
    """Not one block is free on the leader's disk: it ends at its next append; with room again it is started again."""

    gradual = True
    needs = frozenset({Need.FILES, Need.DISKS})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        cluster = faulty(target)
        leader = await cluster.leader()
        before = _written(cluster, leader)
        at_ns = time.monotonic_ns()
        await asyncio.to_thread(cluster.disk(leader).fill)
        # The journal has allocated some room ahead; use it up.
        async with cluster.new_client() as client:
            for part in range(2 * ROOM_BYTES // NUDGE_BYTES):
                if not _member(cluster, leader).alive:
                    break
                await client.put_variable("drill-nudge", f"{part:0{NUDGE_BYTES}d}")
            await _ended(cluster, leader)
            await client.delete_variable("drill-nudge")
        error = _last_words(cluster, leader, before)
        if "No space left" not in error:
            raise BrokenPromiseError(f"{leader} ended on a full disk and did not say so, but: {error}")
        return Strike(at_ns=at_ns, peers=(leader,), how=f"said: {error}")

    async def mend(self, target: Target, strike: Strike) -> None:
        for peer in strike.peers:
            faulty(target).disk(peer).make_room()
        await super().mend(target, strike)


class FsyncError(Kind):
    """The leader's flushes fail (EIO, injected): it ends at the first one, and is started again on a mended disk."""

    gradual = True
    needs = frozenset({Need.FILES, Need.STRACE})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        cluster = local(target)
        leader = await cluster.leader()
        before = _written(cluster, leader)
        tracer = Tracer(cluster.data / "logs" / f"{leader}.strace")
        at_ns = time.monotonic_ns()
        await tracer.attach(_member(cluster, leader).pid, failing("EIO"))
        try:
            status = await tracer.exit_status(END_S)
        except TimeoutError_:
            raise BrokenPromiseError(f"{leader} still runs {END_S:g} s after its flushes began to fail") from None
        finally:
            await tracer.detach()
        if status != EXIT_STORAGE:
            raise BrokenPromiseError(f"{leader} ended with status {status} after a failed flush, not {EXIT_STORAGE}")
        error = _last_words(cluster, leader, before)
        return Strike(at_ns=at_ns, peers=(leader,), how=f"exit status {status}, said: {error}")


class SlowDisk(Kind):
    """Each flush of the leader takes longer than a heartbeat, for a while; then the disk is quick again."""

    gradual = True
    hold_s = HOLD_S
    needs = frozenset({Need.FILES, Need.STRACE})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        cluster = local(target)
        leader = await cluster.leader()
        tracer = Tracer(cluster.data / "logs" / f"{leader}.strace")
        at_ns = time.monotonic_ns()
        await tracer.attach(_member(cluster, leader).pid, slow(SLOW_MS))
        return Strike(at_ns=at_ns, peers=(leader,), how=f"{SLOW_MS} ms more per flush", tracer=tracer)

    async def mend(self, target: Target, strike: Strike) -> None:
        assert strike.tracer is not None
        await strike.tracer.detach()


# ---------------------------------------------------------------------------- what is stored goes bad


class FlipBit(Kind):
    """One bit of a follower's journal (every second round: of its snapshot, if there is one) turns while it is down: it
    must refuse to start and say the way back, which is then gone: `raftsman peers reset`."""

    gradual = True
    needs = frozenset({Need.FILES})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        cluster = local(target)
        leader = await cluster.leader()
        peer = next(name for name in cluster.peer_names() if name != leader)
        directory = cluster.peer_directory(peer)
        at_ns = time.monotonic_ns()
        await cluster.kill_peer(peer)
        where = flip_in_snapshot(directory) if number % 2 == 0 else ""
        where = where or flip_in_journal(directory)
        before = _written(cluster, peer)
        await cluster.restart(peer)
        await _ended(cluster, peer)
        said = _log(cluster, peer, before)
        if WAY_BACK not in said:
            raise BrokenPromiseError(f"{peer} ended over a flipped bit in {where} without the way back: {said[-500:]}")
        return Strike(at_ns=at_ns, peers=(peer,), how=f"refused a flipped bit in {where}")

    async def mend(self, target: Target, strike: Strike) -> None:
        cluster = local(target)
        for peer in strike.peers:
            aside = await _reset(cluster, peer)
            await cluster.restart(peer)
            await asyncio.to_thread(shutil.rmtree, aside)


class WipePeer(Kind):
    """The leader dies and its data directory with it; it comes back empty, catches up, and only then votes again.

    As an operator may, and no more: only where the others say that they form a majority without it.
    """

    gradual = True
    needs = frozenset({Need.FILES})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        cluster = local(target)
        leader = await cluster.leader()
        await required(Known(peer_id=leader), cluster.endpoints, asking(cluster.tls), within_s=STEP_S)
        at_ns = time.monotonic_ns()
        await cluster.kill_peer(leader)
        await asyncio.to_thread(wipe, cluster.peer_directory(leader).resolve())
        return Strike(at_ns=at_ns, peers=(leader,), how="its data is gone")


# ---------------------------------------------------------------------------- a peer's files and words


def _member(cluster: LocalCluster, peer: str) -> Member:
    member = cluster.record.find(peer)
    assert member is not None
    return member


async def _ended(cluster: LocalCluster, peer: str) -> None:
    try:
        await gone(_member(cluster, peer).process, END_S)
    except TimeoutError_:
        raise BrokenPromiseError(f"{peer} still runs after {END_S:g} s; it should have stopped") from None


def _written(cluster: LocalCluster, peer: str) -> int:
    """Bytes in its log file."""
    return Path(_member(cluster, peer).log).stat().st_size


def _log(cluster: LocalCluster, peer: str, start: int) -> str:
    return Path(_member(cluster, peer).log).read_bytes()[start:].decode("utf-8", "replace")


def _last_words(cluster: LocalCluster, peer: str, start: int) -> str:
    """The error with which it said it stopped. Raises ``BrokenPromiseError`` if it said nothing."""
    for line in reversed(_log(cluster, peer, start).splitlines()):
        if line.startswith("{"):
            said = json.loads(line)
            if said.get("exit_status") == EXIT_STORAGE:
                return str(said["error"])
    raise BrokenPromiseError(f"{peer} ended without a word about its disk")


async def _reset(cluster: LocalCluster, peer: str) -> Path:
    """`raftsman peers reset`, as its message says; returns where the damaged data is now."""
    home = cluster.peer_directory(peer).resolve()  # where there is a disk for it, a link leads there
    made, _ = await operate(cluster, "peers", "reset", "--data", home, "--timeout", f"{STEP_S:.0f}s")
    return Path(made["moved_to"])
