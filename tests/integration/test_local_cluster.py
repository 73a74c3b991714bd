"""``LocalCluster`` and ``raftsman dev``: real processes that can be used, hurt, picked up and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.contract.errors import NotFoundError, PreconditionError, RaftsmanError, TimeoutError_
from orchestrator.contract.model import AllocState, GroupSpec, JobSpec, Resources, TaskSpec
from orchestrator.ops import leftovers
from orchestrator.ops.cluster_file import ClusterFile
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.http import answered
from orchestrator.ops.processes import is_alive

pytestmark = pytest.mark.cluster

SLEEPER = JobSpec(
    name="sleeper",
    groups=(
        GroupSpec(
            name="main",
            count=2,
            tasks=(TaskSpec(name="main", command=("sleep", "600"), resources=Resources(cpu_millis=10, memory_mib=16)),),
        ),
    ),
)


async def running(cluster: LocalCluster, job: str, count: int) -> None:
    """Wait until ``count`` allocations of ``job`` run."""
    async with asyncio.timeout(60):
        while True:
            found = (await cluster.client.list_allocations(job=job)).allocations
            if sum(one.state is AllocState.RUNNING for one in found) == count:
                return
            await asyncio.sleep(0.05)


@pytest.mark.local_cluster(peers=3, agents=2, driver="process")
async def test_a_cluster_survives_everything_that_its_methods_do_to_it(local_cluster: LocalCluster) -> None:
    cluster = local_cluster
    await cluster.client.put_variable("greeting", "hello")
    await cluster.client.submit(SLEEPER)
    await running(cluster, "sleeper", 2)
    tasks = [task for _, task in leftovers.tasks(cluster.data)]

    killed = await cluster.kill_leader()
    assert await cluster.leader() != killed
    assert (await cluster.client.get_variable("greeting")).variable is not None
    await cluster.restart(killed)
    await cluster.wait_ready()

    paused = await cluster.leader()
    await cluster.pause_peer(paused)
    await cluster.client.put_variable("greeting", "still here")
    await cluster.resume_peer(paused)
    await cluster.wait_ready()

    await cluster.kill_agent("n1")
    with pytest.raises(PreconditionError, match="n1 does not run"):
        await cluster.kill_agent("n1")
    await cluster.restart_agent("n1")
    await cluster.wait_ready()
    await running(cluster, "sleeper", 2)
    assert all(is_alive(task) for task in tasks), "an agent's death must not touch what it runs"

    with pytest.raises(NotFoundError, match="there are p1, p2, p3"):
        await cluster.kill_peer("p9")


async def test_the_end_of_a_temporary_cluster_leaves_nothing() -> None:
    async with LocalCluster(peers=1, agents=1, driver="process", gateway=True) as cluster:
        await cluster.client.submit(SLEEPER)
        await running(cluster, "sleeper", 2)
        await answered(cluster.gateway_url.removeprefix("http://"), 10)
        processes = [member.process for member in cluster.record.members]
        tasks = [process for pair in leftovers.tasks(cluster.data) for process in pair]
        assert len(processes) == 3
        assert len(tasks) == 4
        assert all(is_alive(process) for process in processes + tasks)
    assert not any(is_alive(process) for process in processes + tasks)
    assert not cluster.data.exists()


async def test_a_cluster_is_picked_up_with_what_runs_and_what_it_knew(tmp_path: Path) -> None:
    first = LocalCluster(peers=3, agents=1, driver="process", data=tmp_path)
    await first.start()
    try:
        await first.wait_ready()
        await first.client.put_variable("kept", "yes")
        await first.kill_peer("p2")
        await first.close()  # as if `dev` had died here

        second = LocalCluster(driver="process", data=tmp_path)
        assert await second.start() == ("p2",)
        await second.wait_ready()
        await second.stop()

        third = LocalCluster(data=tmp_path)
        assert len(await third.start()) == 4
        await third.wait_ready()
        kept = (await third.client.get_variable("kept")).variable
        assert kept is not None
        assert kept.value == "yes"

        with pytest.raises(PreconditionError, match="holds a cluster of 3 peers, not 5"):
            await LocalCluster(peers=5, data=tmp_path).start()
    finally:
        await LocalCluster.attach(tmp_path).stop()


async def test_a_process_that_dies_at_the_start_is_named_with_its_last_words() -> None:
    cluster = LocalCluster(peers=1, agents=0, driver="process")
    await cluster.start()
    try:
        await cluster.kill_peer("p1")
        with pytest.raises(RaftsmanError, match=r"p1 ended while the cluster started; the end of .*p1\.log"):
            await cluster.wait_ready(30)
    finally:
        await cluster.stop()


async def test_a_cluster_without_a_majority_is_not_ready_and_has_no_leader() -> None:
    async with LocalCluster(peers=3, agents=0) as cluster:
        await cluster.kill_peer("p1")
        await cluster.kill_peer("p2")
        with pytest.raises(TimeoutError_, match="no leader within"):
            await cluster.leader(timeout_s=3)


# ---------------------------------------------------------------------------- the command


class Dev:
    """``raftsman dev`` with directories of its own."""

    def __init__(self, base: Path) -> None:
        self.data = base / "dev"
        self.env = {**os.environ, "RAFTSMAN_CONFIG_DIR": str(base / "config"), "RAFTSMAN_DEV_DATA": str(self.data)}

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator.cli.main", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.argv(*arguments), env=self.env, capture_output=True, text=True, timeout=120)

    def alive(self) -> list[str]:
        record = ClusterFile(self.data).load()
        return [member.name for member in record.members if member.alive] if record else []


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    made = Dev(tmp_path)
    yield made
    made.run("dev", "stop")
    assert made.alive() == []


def test_a_detached_cluster_is_found_hurt_and_stopped_by_other_commands(dev: Dev) -> None:
    started = dev.run("dev", "--driver", "process", "--detach")
    assert started.returncode == 0, started.stderr
    assert "is ready" in started.stderr
    status = dev.run("dev", "status", "-o", "json")
    assert status.returncode == 0
    assert [row["name"] for row in json.loads(status.stdout)["members"]] == ["p1", "p2", "p3", "n1", "n2", "gateway"]
    assert {row["state"] for row in json.loads(status.stdout)["members"]} == {"running"}
    assert dev.run("nodes", "-q").returncode == 0, "the context dev is selected"

    killed = json.loads(dev.run("dev", "kill-leader", "-o", "json").stdout)["killed"]
    deadline = time.monotonic() + 60
    while killed not in dev.alive():
        assert time.monotonic() < deadline, f"{killed} was not started again"
        time.sleep(0.1)

    again = dev.run("dev", "--detach")
    assert again.returncode == 0, again.stderr
    assert "already running" in again.stderr

    other = dev.run("dev", "--detach", "--driver", "docker")
    assert other.returncode == 1
    assert "runs with another driver" in other.stderr
    assert len(dev.alive()) == 6, "a refusal stops nothing"

    stopped = dev.run("dev", "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert dev.alive() == []
    assert dev.run("dev", "status").returncode == 1


def test_the_interrupt_key_stops_a_cluster_in_the_foreground(dev: Dev) -> None:
    argv = dev.argv("dev", "--driver", "process", "--peers", "1", "--agents", "1", "--no-gateway")
    process = subprocess.Popen(argv, env=dev.env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            if "Ctrl-C stops it" in line:
                break
        assert dev.alive() == ["p1", "n1"]
        second = dev.run("dev")
        assert second.returncode == 1
        assert "another `raftsman dev` runs the cluster" in second.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert dev.alive() == []


def test_commands_for_a_cluster_that_never_was_say_how_to_start_one(dev: Dev) -> None:
    for words in (("dev", "status"), ("dev", "stop"), ("dev", "kill-leader")):
        result = dev.run(*words)
        assert result.returncode == 1
        assert "raftsman dev --data" in result.stderr


def test_doctor_is_content_with_a_fresh_cluster(dev: Dev) -> None:
    assert dev.run("dev", "--driver", "process", "--peers", "1", "--agents", "1", "--detach").returncode == 0
    result = dev.run("doctor", "--data", str(dev.data), "-o", "json")
    found = {one["check"]: one for one in json.loads(result.stdout)}
    assert {"engine", "ports", "clocks", "permissions", "certificates", "cluster"} <= found.keys()
    assert [one for one in found.values() if one["level"] == "fail"] == []
    assert result.returncode == 0
    for pid in [member.pid for member in LocalCluster.attach(dev.data).peers]:
        psutil.Process(pid).kill()
    result = dev.run("doctor", "--data", str(dev.data))
    assert result.returncode == 1
    assert "raftsman dev" in result.stdout
