"""A real agent process with the process driver, against a pretended control plane: run, report, adopt, stop."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from agent.drivers import confinement
from agent.inventory import cgroups
from orchestrator.contract.model import AllocState, Assignment, Desired, JobType, RestartPolicy
from tests.integration.agent_fakes import FakePeer, assignment_of, key_of, task_of, until
from tests.integration.agent_process import AgentProcess

pytestmark = pytest.mark.cluster


@pytest.fixture
async def peer() -> AsyncIterator[FakePeer]:
    fake = FakePeer()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def agent(peer: FakePeer, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    one = AgentProcess(peer, tmp_path / "n1", "--driver", "process")
    await one.start()
    yield one
    if one.process is not None:
        await one.end(signal.SIGKILL)
    for path in (tmp_path / "n1" / "process").glob("*/run"):
        for pid in (int(word) for word in path.read_text().split()[::2]):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


async def test_a_task_survives_its_agents_death_and_is_adopted_with_its_exit_code(
    peer: FakePeer, agent: AgentProcess, tmp_path: Path
) -> None:
    key = key_of()
    gate = tmp_path / "gate"
    script = f"echo started; while [ ! -e {gate} ]; do sleep 0.05; done; exit 3"
    peer.assign(assignment_of(key, task_of("sh", "-c", script)))
    running = await peer.wait_state(key, AllocState.RUNNING)
    pid = int(running.tasks[0].runtime_id)
    assert psutil.pid_exists(pid)

    await agent.end(signal.SIGKILL)
    assert psutil.pid_exists(pid)
    gate.touch()
    await until(lambda: not psutil.pid_exists(pid), "the task to end while nobody looks")
    await agent.start()

    failed = await peer.wait_state(key, AllocState.FAILED)
    assert (failed.exit_code, failed.reason, failed.restarts) == (3, "exit code 3", 0)
    assert b"".join(chunk.data for chunk in await peer.read_logs(key)) == b"started\n"


async def test_a_restarted_agent_goes_on_with_the_same_process(peer: FakePeer, agent: AgentProcess) -> None:
    key = key_of()
    peer.assign(assignment_of(key, task_of("sleep", "1000")))
    pid = (await peer.wait_state(key, AllocState.RUNNING)).tasks[0].runtime_id
    assert await agent.end(signal.SIGTERM) == 0
    assert psutil.pid_exists(int(pid))
    peer.observations.clear()
    await agent.start()
    assert (await peer.wait_state(key, AllocState.RUNNING)).tasks[0].runtime_id == pid
    peer.assign(assignment_of(key, task_of("sleep", "1000"), desired=Desired.STOP, modify_index=2))
    await peer.wait_state(key, AllocState.STOPPED)
    assert not psutil.pid_exists(int(pid))


async def test_a_task_goes_on_with_another_size_where_the_machine_lets_it(peer: FakePeer, agent: AgentProcess) -> None:
    groups = confinement.find()
    await until(lambda: peer.nodes, "the node")
    (node,) = peer.nodes.values()
    assert node.resizes_processes is groups.resizes
    key = key_of()

    def sized(version: int, mib: int) -> Assignment:
        made = assignment_of(key, task_of("sleep", "1000", memory_mib=mib), modify_index=version)
        return replace(made, job_version=version)

    peer.assign(sized(1, 64))
    pid = int((await peer.wait_state(key, AllocState.RUNNING)).tasks[0].runtime_id)
    peer.assign(sized(2, 128))
    if not groups.resizes:  # it begins anew, on the spot
        await until(lambda: not psutil.pid_exists(pid), "the end of the first")
        return
    memory = cgroups.of_process(pid)
    await until(lambda: (used := cgroups.read(memory)) is not None and used.limit_bytes == 128 << 20, "the new limit")
    assert psutil.pid_exists(pid)
    assert [restarts for restarts, _ in peer.states(key)] == [0] * len(peer.states(key))


async def test_an_agent_restarts_what_fails_while_no_peer_answers(
    peer: FakePeer, agent: AgentProcess, tmp_path: Path
) -> None:
    key = key_of()
    count = tmp_path / "count"
    script = f"echo x >> {count}; while [ ! -e {tmp_path}/gate$(wc -l < {count}) ]; do sleep 0.05; done; exit 1"
    spec = task_of("sh", "-c", script)
    peer.assign(assignment_of(key, spec, restart=RestartPolicy(attempts=3, delay_ms=50)))
    await peer.wait_state(key, AllocState.RUNNING)
    port = int(peer.address.rpartition(":")[2])
    await peer.stop()
    (tmp_path / "gate1").touch()
    await until(
        lambda: count.exists() and count.read_text().count("x") == 2, "the second run, without a control plane"
    )  # that it runs is known before it has written
    await peer.start(port)
    observed = await until(
        lambda: next((o for o in peer.observations if o.restarts == 1), None), "the restart's report"
    )
    assert observed.key == key


async def test_a_batch_job_reports_complete_and_serves_its_output(peer: FakePeer, agent: AgentProcess) -> None:
    key = key_of("sum")
    spec = task_of("sh", "-c", "echo $RAFTSMAN_ALLOC_ID on $RAFTSMAN_NODE; echo oops >&2")
    peer.assign(assignment_of(key, spec, job_type=JobType.BATCH))
    await peer.wait_state(key, AllocState.COMPLETE)
    chunks = await peer.read_logs(key)
    assert {(bytes(c.data), c.stderr) for c in chunks if c.data} == {(b"sum/main/0 on n1\n", False), (b"oops\n", True)}


async def test_a_second_agent_on_the_same_directory_is_refused_and_told_the_pid(
    peer: FakePeer, agent: AgentProcess, tmp_path: Path
) -> None:
    await until(lambda: peer.nodes, "the registration")
    second: Any = AgentProcess(peer, tmp_path / "n1", "--driver", "process")
    await second.start()
    assert await second.process.wait() == 1
    assert agent.process is not None
    assert f"in use by the agent with pid {agent.process.pid}" in second.log


async def test_a_data_directory_of_another_cluster_is_refused(
    peer: FakePeer, agent: AgentProcess, tmp_path: Path
) -> None:
    await until(lambda: peer.nodes, "the registration")
    await agent.end(signal.SIGTERM)
    peer.cluster_id = "another-cluster"
    await agent.start()
    assert agent.process is not None
    assert await agent.process.wait() == 1
    assert "belongs to cluster cluster-under-test, but the peers are of cluster another-cluster" in agent.log


async def test_without_an_engine_auto_means_processes_and_says_why(
    peer: FakePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    one = AgentProcess(peer, tmp_path / "n2", "--http", "127.0.0.1:0")
    await one.start()
    try:
        (node,) = await until(lambda: list(peer.nodes.values()), "the registration")
        assert node.drivers == ("process",)
        assert "the Docker engine does not answer" in one.log
        http = json.loads((tmp_path / "n2" / "agent.json").read_text())["http"]
        async with httpx.AsyncClient(base_url=f"http://{http}") as client:
            health = (await client.get("/healthz")).json()
            assert (health["name"], health["node_id"], health["drivers"]) == ("n2", node.id, {"process": True})
            assert "raftsman_agent_heartbeats_total" in (await client.get("/metrics")).text
    finally:
        assert await one.end(signal.SIGTERM) == 0


async def test_an_address_that_is_taken_is_refused_and_named(peer: FakePeer, tmp_path: Path) -> None:
    taken = peer.address
    one = AgentProcess(peer, tmp_path / "n2", "--driver", "process", "--http", taken)
    await one.start()
    assert one.process is not None
    assert await one.process.wait() == 1
    assert f"cannot listen on --http {taken}" in one.log
