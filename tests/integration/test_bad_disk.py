"""What the disk can do to a peer of a real cluster: a torn end is recovered, damage before it is refused, and a peer
whose data directory is gone comes back without a vote, catches up and is admitted again.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from orchestrator.contract.answers import PeerInfo
from orchestrator.contract.errors import ConflictError
from orchestrator.ops.cluster_file import Member
from orchestrator.ops.dev import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.local_cluster(peers=3, agents=0)]

WAIT_S = 60.0


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not await holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {WAIT_S:g} s")
        await asyncio.sleep(0.1)


async def killed_follower(cluster: LocalCluster) -> Member:
    """A follower that held what was written, and is dead."""
    for number in range(20):
        await cluster.client.put_variable(f"before-{number}", "x" * 1_000)
    leader = await cluster.leader()
    victim = next(peer for peer in cluster.peers if peer.name != leader)

    async def caught_up() -> bool:
        return (await peer(cluster, victim.name)).lag == 0

    await until(caught_up, "the follower catches up")
    await cluster.kill_peer(victim.name)
    await cluster.client.put_variable("meanwhile", "yes")
    return victim


async def peer(cluster: LocalCluster, name: str) -> PeerInfo:
    found = await cluster.client.cluster_status()
    return next(one for one in found.peers if one.id == name)


async def is_back(cluster: LocalCluster, name: str) -> None:
    """Until it is a voter that has everything, and every peer holds the same state."""

    async def whole() -> bool:
        one = await peer(cluster, name)
        return one.connected and one.voter and one.lag == 0

    await until(whole, f"{name} is a voter again")
    await cluster.client.put_variable("after", "yes")

    async def equal() -> bool:
        index = (await cluster.client.state_hash()).index
        try:
            asked = [cluster.client.state_hash(at_index=index, peer_id=one) for one in cluster.peer_names()]
            return len({answer.hash for answer in await asyncio.gather(*asked)}) == 1
        except ConflictError:  # something was written meanwhile, and a peer is past that index
            return False

    await until(equal, "every peer has the same state")


def directory(cluster: LocalCluster, member: Member) -> Path:
    return cluster.data / "peers" / member.name


def newest_segment(cluster: LocalCluster, member: Member) -> Path:
    return max((directory(cluster, member) / "journal").glob("*.journal"))


def written(segment: Path) -> int:
    """Bytes that hold something: the file is longer, and ends in zeros."""
    return len(segment.read_bytes().rstrip(b"\0"))


def events(member: Member) -> list[str]:
    lines = Path(member.log).read_text().splitlines()
    return [json.loads(line)["event"] for line in lines if line.startswith("{")]


async def test_a_truncated_last_frame_is_cut_off_logged_and_caught_up(local_cluster: LocalCluster) -> None:
    victim = await killed_follower(local_cluster)
    segment = newest_segment(local_cluster, victim)
    data = segment.read_bytes()[: written(segment) - 7]
    segment.write_bytes(data)
    await local_cluster.restart(victim.name)
    await is_back(local_cluster, victim.name)
    assert "journal.torn_tail_cut" in events(victim)


async def test_damage_before_the_last_frame_is_refused_and_the_way_back_works(local_cluster: LocalCluster) -> None:
    victim = await killed_follower(local_cluster)
    segment = newest_segment(local_cluster, victim)
    data = bytearray(segment.read_bytes())
    data[written(segment) // 2] ^= 0xFF
    segment.write_bytes(bytes(data))
    done = await asyncio.to_thread(subprocess.run, victim.argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    said = next(line for line in done.stderr.splitlines() if line.startswith("raftsman peer: "))
    assert str(segment) in said
    assert "raftsman peers reset --data DIR" in said
    # The way back, as it is told.
    home = directory(local_cluster, victim)
    home.rename(home.with_name("damaged"))
    await local_cluster.restart(victim.name)
    await is_back(local_cluster, victim.name)
    assert "serving" in events(victim)
    answer = await local_cluster.client.get_variable("meanwhile")
    assert answer.variable is not None


async def test_a_wiped_peer_catches_up_is_admitted_with_its_new_disk_and_votes_again(
    local_cluster: LocalCluster,
) -> None:
    victim = await killed_follower(local_cluster)
    home = directory(local_cluster, victim)
    home.rename(home.with_name("away"))
    identity = json.loads((home.with_name("away") / "identity.json").read_text())
    await local_cluster.restart(victim.name)
    await is_back(local_cluster, victim.name)
    fresh = json.loads((home / "identity.json").read_text())
    assert fresh["incarnation"] != identity["incarnation"]
    assert fresh["cluster_id"] == identity["cluster_id"]
    leader = await local_cluster.kill_leader()
    assert await local_cluster.leader() != leader, "it votes again"
