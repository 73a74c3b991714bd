"""A cluster of an older version, under load and full of work of every kind, becomes one of this version.

Process by process: every peer and agent first runs the sources of ``tests.older.COMMIT``; then one agent, every peer
and at last the other agent are of this version, so that both kinds of agents meet both kinds of peers. No call may
fail, nothing may be lost or start again, peers of both versions hold the same state, and what only this version knows
waits until all of them do. Then the way back: a peer of the older version is refused, with a reason.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.client.aio import Client
from orchestrator.contract.errors import RaftsmanError
from orchestrator.contract.model import Allocation, AllocState, Quota
from orchestrator.contract.rollouts import RolloutAction, RolloutStatus
from orchestrator.jobfile.file import load
from orchestrator.ops import leftovers
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.processes import ProcessId, end, is_alive
from orchestrator.ops.rolling import is_back
from orchestrator.state.features import HIGHEST
from tests.integration.client_load import Load
from tests.integration.test_local_cluster import running
from tests.older import LEVEL, environment, older_tree

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SLEEP = "command: [sleep, '100000'], resources: {cpu: 10m, memory: 16Mi}"
JOBS = (
    f"{{name: web, count: 3, {SLEEP}}}",
    f"{{name: everywhere, type: system, {SLEEP}}}",
    f"{{name: crowd, type: batch, count: 2, gang: true, {SLEEP}}}",
    f"{{name: nightly, type: batch, periodic: '0 0 1 1 *', {SLEEP}}}",
    f"{{name: template, type: batch, parameterized: true, {SLEEP}}}",
    f"{{name: bird, count: 2, update: {{canaries: 1}}, {SLEEP}}}",
    f"{{name: bound, namespace: team, count: 3, {SLEEP}}}",
)
RUNNING = 13
"""With a run each of the templates, and three instances that a quota bounds."""
RUNS = {"web": 3, "everywhere": 1, "crowd": 2, "bird": 2}


async def bird(client: Client, *, through: bool) -> None:
    """Until the canary of ``bird`` waits, or all of its rollout is ``through``."""
    async with asyncio.timeout(60):
        while True:
            status = (await client.get_job("bird")).job
            rollout, updated = status.rollout, sum(group.updated for group in status.groups)
            done = rollout is not None and rollout.status is RolloutStatus.SUCCEEDED
            if (done and updated == 2) if through else (not done and updated == 1):
                return
            await asyncio.sleep(0.05)


async def fill(cluster: LocalCluster) -> None:
    client = cluster.client
    await client.create_namespace("team", Quota(cpu_millis=40))
    nodes = {one.spec.name: one.spec.id for one in (await client.list_nodes()).nodes}
    await client.drain_node(nodes["n2"])
    for text in JOBS:
        await client.submit(load(text))
    for job, count in RUNS.items():
        await running(cluster, job, count)
    await client.submit(load(JOBS[5].replace("100000", "100001")))
    await bird(client, through=False)
    await client.dispatch_job("template")
    await client.force_run("nightly")
    await client.put_variable("secret", "kept")
    async with asyncio.timeout(60):
        while sum(one[3] is AllocState.RUNNING for one in await seen(cluster)) != RUNNING:
            await asyncio.sleep(0.05)


async def equal_states(cluster: LocalCluster) -> bool:
    """Whether all peers have one hash, at an index that none has reached yet."""
    for attempt in range(8):
        index = (await cluster.client.cluster_status()).read.index + 50 * 2**attempt
        calls = [cluster.client.state_hash(at_index=index, peer_id=name) for name in cluster.peer_names()]
        try:
            return len({answer.hash for answer in await asyncio.gather(*calls)}) == 1
        except RaftsmanError:
            continue  # one was quicker
    raise AssertionError("the peers' states cannot be compared")


async def seen(cluster: LocalCluster) -> set[tuple[str, int, int, AllocState]]:
    """What runs, and how often it was started."""
    found: list[Allocation] = []
    for namespace in ("default", "team"):
        found += (await cluster.client.list_allocations(namespace=namespace)).allocations
    return {(str(one.id), one.attempt, one.restarts, one.state) for one in found}


async def upgrade(cluster: LocalCluster, name: str) -> None:
    """End that process; the one in its place is of this version."""
    member = cluster.record.find(name)
    assert member is not None
    await end([member.process])
    assert await cluster.start() == (name,)


def tasks(cluster: LocalCluster) -> list[ProcessId]:
    return [task for _, task in leftovers.tasks(cluster.data) if is_alive(task)]


async def test_a_cluster_is_upgraded_process_by_process_and_nobody_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAFTSMAN_CONFIG_DIR", str(tmp_path / "config"))
    older = older_tree(tmp_path / "older")
    data = tmp_path / "data"
    begin = [sys.executable, "-m", "orchestrator.cli.main", "dev", "--detach", "--data", str(data)]
    begin += ["--driver", "process", "--agents", "2", "--no-gateway"]
    started = await asyncio.to_thread(
        subprocess.run, begin, env=environment(older), cwd=older, capture_output=True, text=True, timeout=90
    )
    assert started.returncode == 0, started.stderr
    cluster = LocalCluster(data=data)
    try:
        await fill(cluster)
        assert (await cluster.client.cluster_status()).feature_level == LEVEL, "the older version runs"
        before, alive = await seen(cluster), tasks(cluster)
        assert len(alive) == RUNNING
        load = Load(cluster)
        await load.started()
        # Not the order of the manual: an agent of this version with peers that do not know its one stream.
        await upgrade(cluster, cluster.agent_names()[0])
        await cluster.wait_ready()
        await load.more()
        names = set(cluster.peer_names())
        while names:
            leader = await cluster.leader()
            name = min(names, key=lambda one: (one == leader, one))
            await upgrade(cluster, name)
            await is_back(cluster, name, 60)
            await load.more()
            names.remove(name)
            if names:
                assert (await cluster.client.cluster_status()).feature_level == LEVEL
                assert await equal_states(cluster)
        async with asyncio.timeout(30):
            while (await cluster.client.cluster_status()).feature_level < HIGHEST:
                await asyncio.sleep(0.05)
        for name in cluster.agent_names():
            await upgrade(cluster, name)
            await cluster.wait_ready()
        await load.more()
        assert await equal_states(cluster)
        await load.stop()
        assert load.failures == []
        found = {one.name: one.value for one in (await cluster.client.list_variables()).variables}
        assert load.written.items() <= found.items()
        assert found["secret"] == "kept"
        assert {one.spec.name: one.draining for one in (await cluster.client.list_nodes()).nodes} == {
            "n1": False,
            "n2": True,
        }
        namespaces = {
            one.namespace.name: one.namespace.quota for one in (await cluster.client.list_namespaces()).namespaces
        }
        assert namespaces["team"] == Quota(cpu_millis=40)
        assert len(load.watched) == len(set(load.watched)), "the watch repeated nothing"
        assert await seen(cluster) == before
        assert all(is_alive(task) for task in alive), "the new agents took up what the old ones had started"
        assert len(tasks(cluster)) == len(alive), "and started nothing beside it"
        await cluster.client.steer_rollout("bird", RolloutAction.PROMOTE)
        await bird(cluster.client, through=True)
        await refused(cluster, older)
    finally:
        await cluster.stop()


async def refused(cluster: LocalCluster, older: Path) -> None:
    """A follower starts with the older version again."""
    leader = await cluster.leader()
    peer = next(one for one in cluster.peers if one.name != leader)
    await end([peer.process])
    back = await asyncio.create_subprocess_exec(
        *peer.argv, env=environment(older), cwd=older, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(60):
            said, _ = await back.communicate()
    finally:
        if back.returncode is None:
            back.kill()
            await back.wait()
    assert back.returncode not in (None, 0)
    assert f"knows feature levels up to {LEVEL}, and the cluster's is {HIGHEST}" in said.decode()
    await upgrade(cluster, peer.name)
    await is_back(cluster, peer.name, 60)
