"""Asking before doing, on real processes: the answers hold when it is done, and the past outlives a leader."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

from orchestrator.contract.errors import OutOfRangeError
from orchestrator.contract.foresight import Change
from orchestrator.contract.model import AllocState, GroupSpec, JobSpec, Resources, TaskSpec
from orchestrator.ops.dev import LocalCluster

pytestmark = pytest.mark.cluster


def sleeper(name: str, count: int, cpu_millis: int = 100, placement: str = "") -> JobSpec:
    resources = Resources(cpu_millis=cpu_millis, memory_mib=16)
    task = TaskSpec(name="main", command=("sleep", "600"), resources=resources)
    return JobSpec(name=name, groups=(GroupSpec(name="main", count=count, tasks=(task,)),), placement=placement)


async def places(cluster: LocalCluster, job: str) -> dict[str, str]:
    found = (await cluster.client.list_allocations(job=job, live_only=True)).allocations
    return {str(one.id): one.node_name for one in found if one.state is AllocState.RUNNING}


async def all_run(cluster: LocalCluster, job: str, count: int, *, off: str = "") -> dict[str, str]:
    """Wait until so many run, and none on the node ``off``."""
    async with asyncio.timeout(90):
        while True:
            found = await places(cluster, job)
            if len(found) == count and off not in found.values():
                return found
            await asyncio.sleep(0.1)


async def cli(cluster: LocalCluster, *arguments: str) -> tuple[int, str, str]:
    env = {
        **os.environ,
        "RAFTSMAN_CONFIG_DIR": str(cluster.data / "config"),
        "RAFTSMAN_ENDPOINTS": ",".join(cluster.endpoints),
        "RAFTSMAN_TLS_DIR": str(cluster.tls_directory),
    }
    command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.local_cluster(peers=3, agents=3, driver="process")
async def test_answers_hold_and_the_past_outlives_its_leader(local_cluster: LocalCluster) -> None:
    cluster, client = local_cluster, local_cluster.client
    planned = await client.plan_job(sleeper("web", 3, placement="spread"))
    assert (planned.change, len(planned.what_if.outcomes)) == ("create", 3)
    assert not (await client.list_jobs()).jobs, "a plan writes nothing"
    await client.submit(sleeper("web", 3, placement="spread"))
    assert await all_run(cluster, "web", 3) == {str(one.id): one.to_node for one in planned.what_if.outcomes}

    answer = await client.what_if(Change(drain="n1"))
    foretold = {str(one.id): one.to_node for one in answer.outcomes}
    assert len(foretold) == 1
    await client.drain_node("n1")
    after = await all_run(cluster, "web", 3, off="n1")
    assert {key: after[key] for key in foretold} == foretold

    huge = await client.submit(sleeper("huge", 1, cpu_millis=9_000_000))
    said = await client.explain_job("huge")
    await client.stop_job("huge")
    dead = await cluster.kill_leader()
    then = await client.explain_past("huge", huge.index)
    assert then.index == huge.index
    assert [one.text for one in then.groups[0].rejections] == [one.text for one in said.groups[0].rejections]
    assert then.read.peer_id != dead
    await cluster.restart(dead)
    await cluster.wait_ready()
    with pytest.raises(OutOfRangeError, match="knows from index"):
        await client.explain_past("huge", 10**9)


@pytest.mark.local_cluster(peers=1, agents=3, driver="process")
async def test_rebalance_moves_what_it_showed_and_then_finds_nothing(local_cluster: LocalCluster) -> None:
    cluster, client = local_cluster, local_cluster.client
    # Two nodes in use: the second instance could only go elsewhere while the first one's node was closed.
    await client.submit(sleeper("a", 1))
    first = (await all_run(cluster, "a", 1))["a/main/0"]
    await client.cordon_node(first)
    await client.submit(sleeper("b", 1))
    await all_run(cluster, "b", 1)
    await client.uncordon_node(first)

    code, out, err = await cli(cluster, "rebalance", "--dry-run", "-o", "json")
    assert code == 0, err
    shown = json.loads(out)
    assert (len(shown["moves"]), shown["before"]["nodes_used"], shown["after"]["nodes_used"]) == (1, 2, 1)
    code, out, err = await cli(cluster, "rebalance", "-y", "-o", "json")
    assert code == 0, err
    done = json.loads(out)
    assert done["moves"][0]["to_node"] == shown["moves"][0]["to_node"]
    assert done["after"]["nodes_used"] == 1
    assert len({*(await places(cluster, "a")).values(), *(await places(cluster, "b")).values()}) == 1
    code, out, err = await cli(cluster, "rebalance", "-y")
    assert (code, "No move would make it better." in out) == (0, True), err
