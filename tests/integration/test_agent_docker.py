"""A real agent process on a real engine: adoption, foreign containers, memory, images, limits, neighbours."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import httpx
import psutil
import pytest

from agent.workload.place import remove, socket_directory
from orchestrator.client import workload as kit
from orchestrator.contract.model import (
    AllocState,
    Assignment,
    AssignmentKey,
    ContainerSpec,
    Desired,
    JobType,
    MountSpec,
    PortBinding,
    RestartPolicy,
    StopPolicy,
    TaskSpec,
    WorkloadSpec,
)
from tests.integration.agent_fakes import FakePeer, assignment_of, key_of, task_of, until
from tests.integration.agent_process import AgentProcess

ROOT = Path(__file__).parents[2]
IMAGE = "raftsman-test:busybox"

pytestmark = [pytest.mark.docker, pytest.mark.cluster]


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    made = subprocess.run([ROOT / "scripts/lib/test_image.sh"], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no Docker engine, or no image: {made.stderr.strip()}")
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
async def peer(engine: docker.DockerClient) -> AsyncIterator[FakePeer]:
    fake = FakePeer(cluster_id=f"{uuid.uuid4().hex[:8]}-agent-test")
    await fake.start()
    yield fake
    await fake.stop()
    for one in mine(engine, fake):
        one.remove(force=True)


@pytest.fixture
async def agent(peer: FakePeer, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    one = AgentProcess(peer, tmp_path / "n1", "--driver", "docker")
    await one.start()
    yield one
    await one.end(signal.SIGKILL)


def mine(engine: docker.DockerClient, peer: FakePeer) -> list[Any]:
    label = f"raftsman.cluster={peer.cluster_id}"
    return list(engine.containers.list(all=True, filters={"label": label}, ignore_removed=True))


def sleeper(**options: Any) -> TaskSpec:
    return task_of("sleep", "1000", image=IMAGE, **options)


async def running(peer: FakePeer, assignment: Assignment) -> str:
    peer.assign(assignment)
    return (await peer.wait_state(assignment.key, AllocState.RUNNING)).tasks[0].runtime_id


async def test_a_container_is_adopted_by_the_next_agent_and_not_restarted(
    peer: FakePeer, agent: AgentProcess, engine: docker.DockerClient
) -> None:
    key = key_of()
    id_ = await running(peer, assignment_of(key, sleeper(), restart=RestartPolicy(attempts=3, delay_ms=10)))
    started = engine.containers.get(id_).attrs["State"]["StartedAt"]
    await agent.end(signal.SIGKILL)
    peer.observations.clear()
    await agent.start()
    assert (await peer.wait_state(key, AllocState.RUNNING)).tasks[0].runtime_id == id_
    assert engine.containers.get(id_).attrs["State"]["StartedAt"] == started
    assert len(mine(engine, peer)) == 1


async def test_containers_of_nobody_are_removed_after_a_full_set_and_other_peoples_are_not(
    peer: FakePeer, agent: AgentProcess, engine: docker.DockerClient
) -> None:
    keep, drop = key_of("keep"), key_of("drop")
    await running(peer, assignment_of(keep, sleeper()))
    dropped = await running(peer, assignment_of(drop, sleeper()))
    users = engine.containers.run(IMAGE, ["sleep", "1000"], detach=True)
    try:
        peer.assignments.pop(drop)
        peer.end_streams()
        await until(lambda: dropped not in [one.id for one in mine(engine, peer)], "the surplus one's removal")
        assert [one.labels["raftsman.job"] for one in mine(engine, peer)] == ["keep"]
        users.reload()
        assert users.status == "running"
    finally:
        users.remove(force=True)


async def test_running_out_of_memory_is_the_reason(peer: FakePeer, agent: AgentProcess) -> None:
    key = key_of()
    hog = "x=a; while true; do x=$x$x$x$x; done"
    peer.assign(assignment_of(key, task_of("sh", "-c", hog, image=IMAGE, memory_mib=16)))
    failed = await peer.wait_state(key, AllocState.FAILED)
    assert failed.reason == "out of memory (limit 16 MiB)"
    assert failed.tasks[0].oom_killed


async def test_an_unknown_image_is_the_reason_and_nothing_ran(peer: FakePeer, agent: AgentProcess) -> None:
    key = key_of()
    peer.assign(assignment_of(key, task_of(image="registry.invalid/no-such-image:1")))
    failed = await peer.wait_state(key, AllocState.FAILED)
    assert failed.reason.startswith("image registry.invalid/no-such-image:1 not found")
    assert failed.start_failed


async def test_an_unknown_command_is_the_reason_and_nothing_ran(peer: FakePeer, agent: AgentProcess) -> None:
    key = key_of()
    peer.assign(assignment_of(key, task_of("no-such-command", image=IMAGE)))
    failed = await peer.wait_state(key, AllocState.FAILED)
    assert "no-such-command" in failed.reason
    assert failed.start_failed


async def test_exit_codes_come_back_and_output_is_followed(peer: FakePeer, agent: AgentProcess) -> None:
    key = key_of()
    script = "echo one; sleep 1; echo two >&2; exit 3"
    peer.assign(assignment_of(key, task_of("sh", "-c", script, image=IMAGE), job_type=JobType.BATCH))
    await peer.wait_state(key, AllocState.RUNNING)
    chunks = await peer.read_logs(key, follow=True)
    assert [(bytes(one.data), one.stderr) for one in chunks if one.data] == [(b"one\n", False), (b"two\n", True)]
    assert (await peer.wait_state(key, AllocState.FAILED)).reason == "exit code 3"


async def test_containers_are_confined_by_default(
    peer: FakePeer, agent: AgentProcess, engine: docker.DockerClient
) -> None:
    id_ = await running(peer, assignment_of(key_of(), sleeper(memory_mib=32)))
    attrs = engine.containers.get(id_).attrs
    host = attrs["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["Privileged"], host["PidsLimit"], host["Init"]) == (False, 1024, True)
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (32 << 20, 32 << 20, 0)
    assert host["CpuShares"] == 102
    assert host["RestartPolicy"]["Name"] in ("", "no")
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert attrs["Config"]["Labels"]["raftsman.allocation"] == "web/main/0"


@pytest.mark.parametrize(
    ("spec", "flag"),
    [
        (TaskSpec(name="main", image=IMAGE, privileged=True), "--allow-privileged"),
        (TaskSpec(name="main", image=IMAGE, mounts=(MountSpec(source="/", target="/host"),)), "--allow-host-paths"),
        (
            TaskSpec(name="main", image=IMAGE, container=ContainerSpec(cap_add=("SYS_ADMIN",))),
            "--allow-cap SYS_ADMIN",
        ),
    ],
    ids=["privileged", "host-path", "capability"],
)
async def test_what_the_operator_did_not_allow_is_refused_with_the_flag_that_would(
    peer: FakePeer, agent: AgentProcess, engine: docker.DockerClient, spec: TaskSpec, flag: str
) -> None:
    key = key_of()
    peer.assign(assignment_of(key, spec, restart=RestartPolicy(attempts=3)))
    failed = await peer.wait_state(key, AllocState.FAILED)
    assert flag in failed.reason
    assert mine(engine, peer) == []


async def test_an_operator_who_allows_host_paths_gets_them(
    peer: FakePeer, tmp_path: Path, engine: docker.DockerClient
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("from the host\n")
    agent = AgentProcess(peer, tmp_path / "n1", "--driver", "docker", "--allow-host-paths")
    await agent.start()
    try:
        key = key_of()
        mount = MountSpec(source=str(tmp_path / "shared"), target="/shared")
        spec = TaskSpec(name="main", image=IMAGE, command=("cat", "/shared/file"), mounts=(mount,))
        peer.assign(assignment_of(key, spec, job_type=JobType.BATCH))
        await peer.wait_state(key, AllocState.COMPLETE)
        assert [bytes(one.data) for one in await peer.read_logs(key)] == [b"from the host\n", b""]
    finally:
        await agent.end(signal.SIGKILL)


async def test_a_published_port_answers_on_the_nodes_address_and_a_taken_one_is_the_reason(
    peer: FakePeer, agent: AgentProcess, engine: docker.DockerClient, unused_tcp_port: int
) -> None:
    first, second = key_of("first"), key_of("second")
    ports = (PortBinding(label="http", host_port=unused_tcp_port, to=8080),)
    script = "mkdir /tmp/www; echo $RAFTSMAN_NODE > /tmp/www/index.html; httpd -f -p $RAFTSMAN_PORT_HTTP -h /tmp/www"
    spec = task_of("sh", "-c", script, image=IMAGE)
    await running(peer, assignment_of(first, spec, ports=ports))

    async def answer() -> str:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"http://127.0.0.1:{unused_tcp_port}/")).text
            except httpx.HTTPError:
                return ""

    assert await until(answer, "the service") == "n1\n"
    peer.assign(assignment_of(second, spec, ports=ports))
    failed = await peer.wait_state(second, AllocState.FAILED)
    assert f"host port {unused_tcp_port} is taken on this node" in failed.reason
    assert failed.start_failed, "for it may have another port elsewhere"
    assert [one.labels["raftsman.job"] for one in mine(engine, peer)] == ["first"]


async def test_agents_on_one_engine_leave_each_other_alone_until_one_is_superseded(
    peer: FakePeer, agent: AgentProcess, tmp_path: Path, engine: docker.DockerClient
) -> None:
    """The neighbour dies for good; what it ran is stopped by the other agent before the replacement starts."""
    lost: AssignmentKey = key_of("lost", attempt=1)
    id_ = await running(peer, assignment_of(lost, sleeper()))
    await agent.end(signal.SIGKILL)
    peer.assignments.clear()
    neighbour = AgentProcess(peer, tmp_path / "n2", "--driver", "docker")
    await neighbour.start()
    try:
        own = await running(peer, assignment_of(key_of("own"), sleeper()))
        left = engine.containers.get(id_)
        assert left.status == "running"  # a full set without it came to the neighbour: not its business
        new = key_of("lost", attempt=2)
        peer.assign(assignment_of(new, sleeper()), superseded=(lost,))
        replacement = (await peer.wait_state(new, AllocState.RUNNING)).tasks[0].runtime_id
        left.reload()
        assert left.status == "exited"
        assert left.attrs["State"]["FinishedAt"] <= engine.containers.get(replacement).attrs["State"]["StartedAt"]
        assert engine.containers.get(own).status == "running"
        assert len({node.engine_id for node in peer.nodes.values()}) == 1
    finally:
        await neighbour.end(signal.SIGKILL)


async def test_stop_leaves_no_running_container(
    peer: FakePeer, agent: AgentProcess, engine: docker.DockerClient
) -> None:
    key = key_of()
    await running(peer, assignment_of(key, sleeper()))
    peer.assign(assignment_of(key, sleeper(), desired=Desired.STOP, modify_index=1))
    stopped = await peer.wait_state(key, AllocState.STOPPED)
    assert stopped.exit_code == 143
    assert [one.status for one in mine(engine, peer)] == ["exited"]
    peer.remove(key)
    await until(lambda: not mine(engine, peer), "the forgotten container's removal")


async def test_a_container_speaks_over_the_mounted_socket_whatever_its_user(peer: FakePeer, tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(kit.__file__).parent)!r}); import workload\n"
        "print(workload.ready(), workload.heartbeat(), flush=True)\n"
        "workload.shutdown_signal(hold=False, signals=False).wait()"
    )
    # The test image holds no Python: this machine's is lent to it.
    lent = (Path(sys.base_prefix), Path("/lib"), Path("/lib64"), Path("/usr/lib"), Path(kit.__file__).parent)
    mounts = tuple(MountSpec(source=str(path), target=str(path)) for path in lent)
    python = str(Path(sys.base_prefix) / "bin" / "python3")
    task = task_of(python, "-S", "-B", "-c", script, image=IMAGE, stop=StopPolicy(timeout_ms=20_000))
    task = replace(task, workload=WorkloadSpec(ready=True), user="65534:65534", mounts=mounts)
    key = key_of("boxed")
    one = AgentProcess(peer, tmp_path / "n1", "--driver", "docker", "--allow-host-paths", "--dns", "off")
    await one.start()
    try:
        peer.assign(assignment_of(key, task))
        await until(lambda: any(seen.health & 1 for seen in peer.observations), "the container to say that it is ready")

        async def said() -> bool:  # it says so after it was heard
            return b"".join(chunk.data for chunk in await peer.read_logs(key)) == b"True True\n"

        await until(said, "both answers")
        peer.assign(assignment_of(key, task, desired=Desired.STOP, modify_index=2))
        stopped = await peer.wait_state(key, AllocState.STOPPED)
        assert stopped.exit_code == 0  # it left by itself: the notice came before any signal
    finally:
        await one.end(signal.SIGTERM)
        remove(socket_directory(tmp_path / "n1"))


async def test_a_container_on_a_bridge_asks_its_agent_for_names(peer: FakePeer, tmp_path: Path) -> None:
    here = [one.address for one in psutil.net_if_addrs().get("docker0", ()) if one.family == socket.AF_INET]
    if not here:
        pytest.skip("the engine's bridge is not on this machine")
    (gateway,) = here
    one = AgentProcess(
        peer, tmp_path / "n1", "--driver", "docker", "--dns", f"{gateway}:53", "--dns-upstream", "127.0.0.1:9"
    )
    peer.offer("db", ("10.1.2.3", 5432))
    await one.start()
    key = key_of("asks")
    try:
        script = "nslookup db.service.raftsman; nslookup db; cat /etc/resolv.conf"
        peer.assign(assignment_of(key, task_of("sh", "-c", script, image=IMAGE), job_type=JobType.BATCH))
        await until(lambda: ended(peer, key), "its answer")
        words = b"".join(chunk.data for chunk in await peer.read_logs(key)).decode()
        assert f"nameserver {gateway}" in words and "search default.service.raftsman" in words
        assert words.count("10.1.2.3") == 2
    finally:
        await one.end(signal.SIGTERM)
        remove(socket_directory(tmp_path / "n1"))


def ended(peer: FakePeer, key: AssignmentKey) -> bool:
    last = peer.last(key)
    return last is not None and last.state in (AllocState.COMPLETE, AllocState.FAILED)
