"""The operators' tools, rehearsed on real processes: reset, backup, restore, recover, rolling restart."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.ops import backup_file
from orchestrator.ops.cluster_file import Member
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.restore import load
from tests.integration.client_load import Load
from tests.integration.test_bad_disk import directory, is_back, killed_follower, newest_segment, written
from tests.integration.test_local_cluster import SLEEPER, running

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


@pytest.mark.local_cluster(peers=3, agents=0)
async def test_a_backup_is_taken_while_clients_write_and_without_a_majority_only_when_stale(
    local_cluster: LocalCluster,
) -> None:
    cluster, file = local_cluster, local_cluster.data / "backup"
    writing = asyncio.create_task(_write_on(cluster))
    await cluster.client.put_variable("secret", "x" * 60_000)
    await cluster.client.put_variable("before", "yes")
    done = json.loads((await raftsman(cluster, "backup", file, "--json")).stdout)
    writing.cancel()
    assert file.stat().st_mode & 0o777 == 0o600
    checked = json.loads((await raftsman(cluster, "backup", "--check", file, "-o", "json")).stdout)
    assert checked == done
    head, state = backup_file.read(file)
    variables = load(file, state).variables
    assert variables[("default", "before")].value == "yes"
    assert (len(variables), head.stale) == (done["variables"], False)
    refused = await raftsman(cluster, "backup", file, code=1)
    assert "replace it with -f" in refused.stderr
    for name in ("p1", "p2"):
        await cluster.kill_peer(name)
    await raftsman(cluster, "backup", file, "-f", "--timeout", "4s", code=6)
    assert backup_file.read(file)[0] == head
    stale = await raftsman(cluster, "backup", file, "-f", "--stale", "-o", "json")
    assert json.loads(stale.stdout)["stale"] is True


async def _write_on(cluster: LocalCluster) -> None:
    """Write until cancelled."""
    number = 0
    while True:
        await cluster.client.put_variable(f"more-{number % 50}", str(number))
        number += 1


@pytest.mark.local_cluster(peers=3, agents=1, driver="process")
async def test_a_rolling_restart_fails_no_call_and_loses_no_write(local_cluster: LocalCluster) -> None:
    cluster = local_cluster
    before = {peer.name: peer.pid for peer in cluster.peers}
    await cluster.client.submit(SLEEPER)
    await running(cluster, "sleeper", 2)
    load = Load(cluster)
    await load.started()
    order = await cluster.rolling_restart()
    await load.more()
    done = await raftsman(cluster, "peers", "restart", "p2", "--data", cluster.data)
    assert done.stderr == "p2: back, votes, caught up\n"
    await raftsman(cluster, "peers", "wait")
    await load.more()
    await load.stop()
    assert set(order) == set(before)
    assert not {peer.pid for peer in cluster.peers} & set(before.values())
    assert load.failures == []
    found = {one.name: one.value for one in (await cluster.client.list_variables("roll-")).variables}
    assert {name: found.get(name) for name in load.written} == load.written
    assert set(load.written) <= set(load.watched), "the watch resumed without a gap"
    assert len(load.watched) == len(set(load.watched)), "and without a repeat"
    tasks = (await cluster.client.list_allocations(job="sleeper")).allocations
    assert {(one.attempt, one.restarts, one.state.name) for one in tasks} == {(1, 0, "RUNNING")}
