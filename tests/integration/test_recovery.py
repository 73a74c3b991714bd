"""The operators' tools, rehearsed on real processes: reset, backup, restore, recover, rolling restart."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.contract.errors import OutOfRangeError
from orchestrator.contract.model import AllocState
from orchestrator.ops import backup_file, leftovers
from orchestrator.ops.cluster_file import Member
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.processes import is_alive, last_lines
from orchestrator.ops.restore import load
from orchestrator.state.renewal import ATTEMPT_STEP
from tests.integration.client_load import Load
from tests.integration.test_bad_disk import directory, is_back, killed_follower, newest_segment, until, written
from tests.integration.test_local_cluster import SLEEPER, running

pytestmark = pytest.mark.cluster


async def raftsman(
    cluster: LocalCluster, *arguments: str | Path, code: int = 0, endpoints: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the command line as the cluster's administrator (without a context if not ``endpoints``); it must exit with
    ``code``."""
    environment = {
        **os.environ,
        "RAFTSMAN_ENDPOINTS": ",".join(cluster.endpoints),
        "RAFTSMAN_TLS_DIR": str(cluster.tls_directory),
        "RAFTSMAN_CONFIG_DIR": str(cluster.data / "config"),
    }
    if not endpoints:
        del environment["RAFTSMAN_ENDPOINTS"], environment["RAFTSMAN_TLS_DIR"]
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
async def test_a_reset_is_refused_while_the_others_form_no_majority_and_done_once_they_do(
    local_cluster: LocalCluster,
) -> None:
    cluster = local_cluster
    victim = await killed_follower(cluster)
    home = directory(cluster, victim)
    damage(cluster, victim)
    other = next(peer for peer in cluster.peers if peer.alive)
    await cluster.kill_peer(other.name)
    refused = await raftsman(cluster, "peers", "reset", "--data", home, "-y", "--timeout", "1s", code=1)
    left = next(peer for peer in cluster.peers if peer.alive)
    assert f"2 without {victim.name} must run and count each other; {left.name} does" in refused.stderr
    assert f"\n  {other.address}: " in refused.stderr, "and who did not answer is told"
    assert (home / "identity.json").exists()
    await cluster.restart(other.name)
    # Without a context: the peer's own certificates will do, and one peer that knows the others.
    alone = ("--ask", left.address, "--tls", cluster.data / "tls" / "peers" / victim.name)
    done = await raftsman(
        cluster, "peers", "reset", "--data", home, "-y", "--timeout", "60s", *alone, endpoints=False
    )  # fmt: skip
    assert f"{other.name}: epoch 1, hears and counts " in done.stderr
    await cluster.restart(victim.name)
    await is_back(cluster, victim.name)


@pytest.mark.local_cluster(peers=2, agents=0)
async def test_one_of_two_peers_is_not_reset(local_cluster: LocalCluster) -> None:
    cluster = local_cluster
    await cluster.client.put_variable("kept", "yes")
    await cluster.kill_peer("p2")
    refused = await raftsman(
        cluster, "peers", "reset", "--data", cluster.peer_directory("p2"), "-y", "--force", code=1
    )  # fmt: skip
    assert "p2 is one of two peers, and each of them is needed" in refused.stderr
    await cluster.restart("p2")
    found = (await cluster.client.get_variable("kept")).variable
    assert found is not None and found.value == "yes"


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
    alone = await raftsman(cluster, "backup", file, "-f", "--timeout", "600s", code=6)
    assert "raftsman backup --stale" in alone.stderr
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


async def ended(cluster: LocalCluster, name: str) -> None:
    """Wait until the process has ended by itself."""

    async def gone() -> bool:
        return not next(peer for peer in cluster.peers if peer.name == name).alive

    await until(gone, f"{name} ends")


async def listening(peer: Member) -> None:
    """Until somebody answers at the peer's address."""

    async def answers() -> bool:
        host, _, port = peer.address.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        writer.close()
        return True

    await until(answers, f"{peer.name} listens")


async def three_again(cluster: LocalCluster, alone: str) -> None:
    """Take the other two in with empty disks; all three hold the same then."""
    others = [peer for peer in cluster.peers if peer.name != alone]
    for peer in others:
        await cluster.restart(peer.name)
        await listening(peer)
    added = await raftsman(cluster, "peers", "add", *(f"{peer.name}={peer.address}" for peer in others), "-y")
    assert added.returncode == 0
    await raftsman(cluster, "peers", "wait", "--timeout", "90s")
    for peer in others:
        await is_back(cluster, peer.name)


@pytest.mark.local_cluster(peers=3, agents=1, driver="process")
async def test_after_the_loss_of_every_disk_a_backup_brings_the_cluster_back(local_cluster: LocalCluster) -> None:
    cluster, client = local_cluster, local_cluster.client
    await client.put_variable("kept", "yes")
    await client.submit(SLEEPER)
    await running(cluster, "sleeper", 2)
    before = (await client.list_allocations(job="sleeper")).allocations
    tasks = [task for _, task in leftovers.tasks(cluster.data)]
    await raftsman(cluster, "backup", cluster.data / "backup")
    # What comes after the backup is lost: a write, and an attempt of an ordinal that the backup does not know.
    written = await client.put_variable("lost", "yes")
    await client.scale_job("sleeper", 3)
    await running(cluster, "sleeper", 3)
    for peer in cluster.peers:
        await cluster.kill_peer(peer.name)
        directory(cluster, peer).rename(directory(cluster, peer).with_name(f"lost-{peer.name}"))
    first = cluster.peers[0]
    arguments = ("--data", directory(cluster, first), "--id", "p1", "--address", first.address, "-y")
    await raftsman(cluster, "restore", cluster.data / "backup", *arguments)
    await cluster.restart("p1")
    assert await cluster.leader() == "p1"
    assert (await client.get_variable("lost")).variable is None
    found = (await client.get_variable("kept")).variable
    assert found is not None and found.value == "yes"
    await client.put_variable("after", "yes")
    with pytest.raises(OutOfRangeError):
        async for _ in client.watch_events(after_index=written.index):
            raise AssertionError("a watcher must be told, not left in silence")

    # What runs as the backup says goes on untouched; what it does not know ends.
    async def taken_up() -> bool:
        listed = (await client.list_allocations(job="sleeper")).allocations
        alive = [task for _, task in leftovers.tasks(cluster.data) if is_alive(task)]
        return len(alive) == 2 and {one.state for one in listed} == {AllocState.RUNNING}

    await until(taken_up, "the agent takes up what the backup knows and ends the rest")
    listed = (await client.list_allocations(job="sleeper")).allocations
    facts = [(one.id, one.attempt, one.restarts, one.node_id) for one in listed]
    assert facts == [(one.id, one.attempt, one.restarts, one.node_id) for one in before]
    assert all(is_alive(task) for task in tasks)
    await client.scale_job("sleeper", 3)
    await running(cluster, "sleeper", 3)
    third = (await client.get_allocation("sleeper/main/2")).allocation
    assert third.attempt == ATTEMPT_STEP + 1, "a fencing token never comes up again"
    await three_again(cluster, "p1")
    await running(cluster, "sleeper", 3)


@pytest.mark.local_cluster(peers=3, agents=0)
async def test_after_the_loss_of_two_disks_of_three_everything_on_the_third_goes_on(
    local_cluster: LocalCluster,
) -> None:
    cluster, client = local_cluster, local_cluster.client
    leader = await cluster.leader()
    survivor, other = (peer for peer in cluster.peers if peer.name != leader)
    await cluster.kill_peer(other.name)  # so that the survivor has a part in every write from now on
    for number in range(30):
        await client.put_variable(f"acknowledged-{number}", str(number))
    for name in (leader, survivor.name):
        await cluster.kill_peer(name)
    home, last = directory(cluster, survivor), next(peer for peer in cluster.peers if peer.name == leader)
    compared = await raftsman(
        cluster, "recover", "--compare", *(directory(cluster, peer) for peer in (survivor, other)), "-o", "name"
    )
    assert compared.stdout.strip() == str(home)
    for peer in (other, last):
        directory(cluster, peer).rename(directory(cluster, peer).with_name(f"old-{peer.name}"))
    dry = await raftsman(cluster, "recover", "--data", home, "--dry-run")
    assert "MAY BE MISSING" in dry.stderr
    await raftsman(cluster, "recover", "--data", home, "--address", survivor.address, "-y")
    await cluster.restart(survivor.name)
    assert await cluster.leader() == survivor.name
    names = {one.name for one in (await client.list_variables("acknowledged-")).variables}
    assert names == {f"acknowledged-{number}" for number in range(30)}
    # The old leader's disk comes back after all: it finds itself removed, stops, and disturbs nobody.
    directory(cluster, last).with_name(f"old-{leader}").rename(directory(cluster, last))
    await cluster.restart(leader)
    await ended(cluster, leader)
    assert "was removed from the cluster" in last_lines(Path(last.log))
    await client.put_variable("after", "yes")
    directory(cluster, last).rename(directory(cluster, last).with_name(f"old-{leader}"))
    await three_again(cluster, survivor.name)
    await cluster.kill_peer(survivor.name)
    assert (await client.get_variable("acknowledged-29")).variable is not None
