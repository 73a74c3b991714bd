"""The operators' tools, rehearsed on real processes: reset, backup, restore, recover, rolling restart."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.ops.cluster_file import Member
from orchestrator.ops.dev import LocalCluster
from tests.integration.test_bad_disk import directory, is_back, killed_follower, newest_segment, written

pytestmark = pytest.mark.cluster


async def raftsman(cluster: LocalCluster, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line as the cluster's administrator; it must exit with ``code``."""
    environment = {
        **os.environ,
        "RAFTSMAN_ENDPOINTS": ",".join(cluster.endpoints),
        "RAFTSMAN_TLS_DIR": str(cluster.tls_directory),
        "RAFTSMAN_CONFIG_DIR": str(cluster.data / "config"),
    }
    argv = [sys.executable, "-m", "orchestrator.cli.main", *(str(argument) for argument in arguments)]
    done = await asyncio.to_thread(subprocess.run, argv, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done


def damage(cluster: LocalCluster, victim: Member) -> None:
    """Flip a byte in the middle of the journal, which no restart may pass over."""
    segment = newest_segment(cluster, victim)
    data = bytearray(segment.read_bytes())
    data[written(segment) // 2] ^= 0xFF
    segment.write_bytes(bytes(data))


@pytest.mark.local_cluster(peers=3, agents=0)
async def test_a_damaged_peer_is_reset_catches_up_and_votes_again(local_cluster: LocalCluster) -> None:
    cluster = local_cluster
    victim = await killed_follower(cluster)
    home = directory(cluster, victim)
    damage(cluster, victim)
    running = next(peer for peer in cluster.peers if peer.alive)
    refused = await raftsman(cluster, "peers", "reset", "--data", directory(cluster, running), "-y", code=1)
    assert f"in use by process {running.pid}" in refused.stderr
    done = await raftsman(cluster, "peers", "reset", "--data", home, "-y")
    aside = Path(done.stdout.strip())
    assert "is damaged at byte" in done.stderr
    assert (aside / "identity.json").exists()
    await cluster.restart(victim.name)
    await is_back(cluster, victim.name)
    listed = await raftsman(cluster, "peers", "-o", "name")
    assert listed.stdout.split() == list(cluster.peer_names())
