"""The workload kit and DNS against a real agent; containers: ``test_agent_docker``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent.workload.place import remove, socket_directory
from orchestrator.client import workload as kit
from orchestrator.contract import health
from orchestrator.contract.model import (
    AllocState,
    AssignmentKey,
    Desired,
    Observation,
    RestartPolicy,
    StopPolicy,
    TaskSpec,
    WorkloadSpec,
)
from orchestrator.contract.v1 import types_pb2
from tests.integration.agent_fakes import FakePeer, assignment_of, key_of, task_of, until
from tests.integration.agent_process import AgentProcess
from tests.unit.agent.test_dns import Reply, query_bytes

pytestmark = pytest.mark.cluster

KIT = Path(kit.__file__)
LOCATION = f"import sys, os, time; sys.path.insert(0, {str(KIT.parent)!r}); import workload\n"


@pytest.fixture
async def peer() -> AsyncIterator[FakePeer]:
    fake = FakePeer()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def agent(peer: FakePeer, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    one = AgentProcess(peer, tmp_path / "n1", "--driver", "process", "--http", "127.0.0.1:0", "--dns", "127.0.0.1:0")
    await one.start()
    yield one
    print(one.log)  # shown if the test failed
    if one.process is not None:
        await one.end(signal.SIGKILL)
    _clean(tmp_path / "n1")


def _clean(data: Path) -> None:
    for path in (data / "process").glob("*/run"):
        for pid in (int(word) for word in path.read_text().split()[::2]):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    remove(socket_directory(data))


def python(script: str, spec: WorkloadSpec, *, grace_ms: int = 20_000) -> TaskSpec:
    task = task_of(sys.executable, "-S", "-c", LOCATION + script, stop=StopPolicy(timeout_ms=grace_ms))
    return replace(task, workload=spec)


def facts_of(data: Path) -> dict[str, str]:
    """Empty before the agent has written them."""
    path = data / "agent.json"
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _age(data: Path) -> None:
    """As if the agent had heard of its services a minute earlier."""
    (data / "agent.json").unlink()
    saved = json.loads((data / "services.json").read_text())
    saved["confirmed_ms"] -= 60_000
    (data / "services.json").write_text(json.dumps(saved))


async def ready(peer: FakePeer, key: AssignmentKey, wanted: bool, *, restarts: int = 0) -> Observation:
    def reached() -> Observation | None:
        return next(
            (
                one
                for one in reversed(peer.observations)
                if one.key == key and one.state is AllocState.RUNNING and one.restarts == restarts
                if one.health and health.is_ready(one.health) is wanted
            ),
            None,
        )

    try:
        found = await until(reached, f"{key.id} ready={wanted}")
    except AssertionError as error:
        raise AssertionError(f"{error}: the agent reported {peer.observations}") from None
    assert isinstance(found, Observation)
    return found


async def _task_told(peer: FakePeer, key: AssignmentKey) -> types_pb2.TaskReport:
    """What its only task has said once that includes metrics and a port."""
    async with asyncio.timeout(30):
        while True:
            (told,) = (await peer.ask_workload(key)).tasks
            if told.metrics and told.ports:
                return told
            await asyncio.sleep(0.02)


async def output(peer: FakePeer, key: AssignmentKey) -> str:
    return b"".join(chunk.data for chunk in await peer.read_logs(key)).decode()


async def test_a_task_is_ready_when_it_says_so_and_ends_when_it_is_done(
    peer: FakePeer, agent: AgentProcess, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"""
def until(path):
    while not os.path.exists(path): time.sleep(0.02)
stop = workload.shutdown_signal(signals=False)
until({str(gate)!r})
print(workload.ready(), workload.report_metrics(queue=7), workload.allocate_port((16000, 16100)), flush=True)
stop.wait()
print("told", stop.grace_s > 5, workload.facts().alloc_id, flush=True)
until({str(gate)!r} + "2")
print("done", workload.graceful_shutdown(), flush=True)
time.sleep(1000)
"""
    key = key_of()
    spec = python(script, WorkloadSpec(ready=True), grace_ms=60_000)
    peer.assign(assignment_of(key, spec))
    waits = await ready(peer, key, False)
    assert waits.reason == "main has not said that it is ready"
    gate.touch()
    await ready(peer, key, True)
    told = await _task_told(peer, key)  # its next words come after it
    assert (told.ready, told.metrics[0].name, told.metrics[0].value) == (True, "queue", 7.0)
    (leased,) = told.ports
    assert 16_000 <= leased.port < 16_100
    async with httpx.AsyncClient(base_url=f"http://{facts_of(tmp_path / 'n1')['http']}") as client:
        metrics = (await client.get("/metrics")).text
    assert (
        'raftsman_workload_queue{attempt="1",group="main",job="web",namespace="default",ordinal="0",task="main"} 7.0'
        in metrics
    )

    async with asyncio.timeout(30):  # the task has its answers: one that is cut off would end it
        while f"True True {leased.port}" not in await output(peer, key):
            await asyncio.sleep(0.02)

    # A new agent knows what was said to the old one.
    await agent.end(signal.SIGKILL)
    peer.observations.clear()
    await agent.start()
    await ready(peer, key, True)
    (again,) = (await peer.ask_workload(key)).tasks
    assert again.ready and [port.port for port in again.ports] == [leased.port]
    peer.assign(assignment_of(key, spec, desired=Desired.STOP, modify_index=2))
    await peer.wait_state(key, AllocState.STOPPING)
    (gate.parent / "gate2").touch()
    await peer.wait_state(key, AllocState.STOPPED)
    words = await output(peer, key)
    assert f"True True {leased.port}" in words
    assert "told True web/main/0" in words and "done True" in words


async def test_a_task_that_stops_beating_is_restarted(peer: FakePeer, agent: AgentProcess, tmp_path: Path) -> None:
    script = """
first = workload.facts().restarts == 0
print(workload.heartbeat(), flush=True)
while True:
    time.sleep(0.2)
    if not first: workload.heartbeat()
"""
    key = key_of()
    spec = python(script, WorkloadSpec(heartbeat_ms=1_000), grace_ms=1_000)
    peer.assign(assignment_of(key, spec, restart=RestartPolicy(attempts=1, delay_ms=0)))
    ended = await peer.wait_state(key, AllocState.BACKOFF)
    assert ended.reason == "main sent no heartbeat for 1 s"
    await until(lambda: (1, AllocState.RUNNING) in peer.states(key), "its next run")


async def test_dns_answers_through_an_outage_and_says_how_old_it_is(
    peer: FakePeer, agent: AgentProcess, tmp_path: Path
) -> None:
    peer.offer("db", ("10.0.0.9", 5432))
    await until(lambda: peer.nodes and facts_of(tmp_path / "n1"), "the agent")
    dns = facts_of(tmp_path / "n1")["dns"]

    async def ask(name: str) -> Reply:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(dns.rpartition(":")[2]))
        data = query_bytes(name, edns=1232)
        writer.write(len(data).to_bytes(2, "big") + data)
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        writer.close()
        return Reply(answer)

    async def addresses(name: str, wanted: set[str]) -> None:
        async with asyncio.timeout(30):
            while (await ask(name)).addresses != wanted:
                await asyncio.sleep(0.05)

    assert not peer._hearing  # nobody has asked: no stream
    await addresses("db.service.raftsman", {"10.0.0.9"})
    assert (await ask("absent.service.raftsman")).code == 3
    peer.offer("db", ("10.0.0.9", 5432), ("10.0.0.8", 5432))
    await addresses("db.default.service.raftsman", {"10.0.0.9", "10.0.0.8"})

    # A task is started with what it needs, as of now.
    key = key_of("web")
    asking = assignment_of(key, task_of("sh", "-c", "echo $RAFTSMAN_SERVICE_DB $DB_SERVICE_HOST; sleep 1000"))
    peer.assign(replace(asking, group=replace(asking.group, needs=("db",))))
    await peer.wait_state(key, AllocState.RUNNING)
    assert await output(peer, key) == "10.0.0.9:5432,10.0.0.8:5432 10.0.0.9\n"

    # One that has to wait says for what.
    early = key_of("early")
    asking = assignment_of(early, task_of("sleep", "1000"))
    peer.assign(replace(asking, group=replace(asking.group, needs=("db", "cache"))))
    told = (early, "waits for service 'cache', of which no instance is ready")
    await until(lambda: told in peer.progress, "what it waits for")
    peer.offer("cache", ("10.0.0.7", 6379))
    await peer.wait_state(early, AllocState.RUNNING)

    await peer.stop()
    await agent.end(signal.SIGTERM)
    _age(tmp_path / "n1")
    await agent.start()
    await until(lambda: facts_of(tmp_path / "n1"), "the new agent")
    dns = facts_of(tmp_path / "n1")["dns"]
    old = await ask("db.service.raftsman")
    assert old.addresses == {"10.0.0.9", "10.0.0.8"}
    assert b"last confirmed" in old.sections[2][0][3]
    assert (await ask("unknown.service.raftsman")).code == 2  # nobody can say: not a no
