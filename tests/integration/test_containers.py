"""What containers are given, asked of a real engine, with images from a registry of the test's own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from agent import pins
from agent.driver import (
    SANDBOX,
    InlineFile,
    InstanceState,
    LogChunk,
    Login,
    LogsGoneError,
    RunId,
    RunSpec,
    StartError,
)
from agent.drivers import docker_images
from agent.drivers.docker import DockerDriver
from agent.reconcile import SANDBOX_TASK
from agent.records import Record
from agent.runspec import NodeFacts, run_spec
from orchestrator.contract.batch import Origin
from orchestrator.contract.model import (
    AllocState,
    AssignmentKey,
    ContainerSpec,
    Desired,
    JobType,
    LogSpec,
    MountSpec,
    PortBinding,
    Protocol,
    PullPolicy,
    Resources,
    TaskRole,
    TaskSpec,
    TmpfsSpec,
    Ulimit,
)
from tests.integration.agent_fakes import FakePeer, assignment_of, key_of, task_of, until
from tests.integration.agent_process import AgentProcess
from tests.integration.registry import Registry

ROOT = Path(__file__).parents[2]
IMAGE = "raftsman-test:busybox"
MIB = 1 << 20

pytestmark = [pytest.mark.docker]


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    made = subprocess.run([ROOT / "scripts/lib/test_image.sh"], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no Docker engine, or no image: {made.stderr.strip()}")
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def _registry(engine: docker.DockerClient) -> Iterator[Registry]:
    made = Registry()
    yield made
    made.close()
    for image in engine.api.images():
        names = [*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())]
        if any(name.startswith(made.address) for name in names):
            engine.api.remove_image(image["Id"], force=True)


@pytest.fixture
def registry(_registry: Registry) -> Iterator[Registry]:
    yield _registry
    _registry.login = None
    _registry.released.set()


class Kit:
    """A driver with a cluster of its own, and what tests ask of it."""

    def __init__(self, engine: docker.DockerClient, **options: Any) -> None:
        self.engine = engine
        self.cluster = f"{uuid.uuid4().hex[:8]}-containers"
        self.driver = DockerDriver(**options)

    def spec(self, task: TaskSpec, *, restarts: int = 0, ordinal: int = 0, **details: Any) -> RunSpec:
        run = RunId(key=key_of(ordinal=ordinal), restarts=restarts, task=task.name)
        return RunSpec(cluster_id=self.cluster, node_id="n1", run=run, task=task, **details)

    async def start(self, spec: RunSpec) -> dict[str, Any]:
        """What the engine says of the container."""
        await self.driver.prepare(spec)
        started = await self.driver.start(spec)
        found: dict[str, Any] = self.engine.api.inspect_container(started.runtime_id)
        return found

    async def says(self, spec: RunSpec) -> str:
        """The output of a task that ends."""
        await self.driver.prepare(spec)
        await self.driver.start(spec)

        async def ended() -> bool:
            found = await self.driver.inspect(spec.name)
            return found is not None and found.state is InstanceState.EXITED

        await until(ended, f"{spec.name} to end")
        chunks: list[LogChunk] = [
            chunk async for chunk in self.driver.logs(spec.name, follow=False, tail_lines=0, offset=0)
        ]
        return b"".join(chunk.data for chunk in chunks).decode()

    async def close(self) -> None:
        for one in await self.driver.list(self.cluster):
            await self.driver.remove(one.name)
        for volume in self.engine.volumes.list(filters={"label": f"raftsman.cluster={self.cluster}"}):
            volume.remove(force=True)
        await self.driver.close()


@pytest.fixture
async def kit(engine: docker.DockerClient) -> AsyncIterator[Kit]:
    made = Kit(engine, pull_silence_s=2)
    yield made
    await made.close()


def shell(script: str, *, name: str = "main", image: str = IMAGE, **container: Any) -> TaskSpec:
    task = task_of("sh", "-c", script, name=name, image=image)
    return replace(task, container=ContainerSpec(**container)) if container else task


# ---------------------------------------------------------------------------- images


async def test_one_pull_serves_all_who_wait_and_says_how_far_it_is(
    kit: Kit, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The engine may have told its last word, of all layers, within a second of its first one.
    monkeypatch.setattr(docker_images, "REPORT_S", 0.0)
    marker = uuid.uuid4().hex  # an engine that has read a manifest once asks for it no more, though its image is gone
    digest = registry.push("app", "one", marker=marker, padding=3 * MIB)
    told: list[str] = []
    spec = kit.spec(shell("echo $MARKER", image=f"{registry.address}/app:one"), progress=told.append)
    assert await kit.driver.resolve(spec) == digest
    registry.manifests.clear()
    registry.released.clear()
    registry.hold_after = 2 * MIB
    waiting = [asyncio.ensure_future(kit.driver.prepare(replace(spec, digest=digest))) for _ in range(3)]
    # The first word may come before the engine has heard of every layer.
    # So may the layer below, where this engine has not pulled it before: it counts as well.
    await until(lambda: any(int(text.split()[-2]) >= 3 for text in told), "progress")
    registry.released.set()
    await asyncio.gather(*waiting)
    assert told[0].startswith(f"pulling {registry.address}/app:one: ")
    assert registry.manifests.count(f"/v2/app/manifests/{digest}") == 1  # each pull begins with it
    assert await kit.says(replace(spec, digest=digest)) == f"{marker}\n"


async def test_a_pull_that_falls_silent_ends_with_its_reason_and_can_be_tried_again(
    kit: Kit, registry: Registry
) -> None:
    registry.push("app", "stalls", marker="stalls", padding=MIB)
    spec = kit.spec(shell("echo $MARKER", image=f"{registry.address}/app:stalls"))
    registry.released.clear()
    registry.hold_after = 1000
    with pytest.raises(StartError, match="app:stalls stalled: nothing came for 2 s") as caught:
        await kit.driver.prepare(spec)
    assert not caught.value.permanent
    registry.released.set()
    await kit.driver.prepare(spec)


async def test_a_pull_that_nobody_waits_for_any_more_ends(kit: Kit, registry: Registry) -> None:
    registry.push("app", "left", marker="left", padding=MIB)
    told: list[str] = []
    spec = kit.spec(shell("true", image=f"{registry.address}/app:left"), progress=told.append)
    registry.released.clear()
    registry.hold_after = 2 * MIB // 3
    waiting = asyncio.ensure_future(kit.driver.prepare(spec))
    await until(lambda: told, "progress")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: not kit.driver._images._pulls, "the pull's end")


async def test_all_instances_of_a_version_run_what_the_first_one_found(kit: Kit, registry: Registry) -> None:
    image = f"{registry.address}/moves:stable"
    first = registry.push("moves", "stable", marker="before")
    settled: dict[tuple[int, str], str] = {}

    async def settle(_key: AssignmentKey, version: int, name: str, digest: str) -> str:
        return settled.setdefault((version, name), digest)

    task = shell("echo $MARKER", image=image, pull_policy=PullPolicy.ALWAYS)
    specs = [kit.spec(task, ordinal=ordinal) for ordinal in range(3)]
    assert (await pins.prepare(kit.driver, specs[0], 1, settle)).digest == first
    second = registry.push("moves", "stable", marker="after")
    ready = await pins.prepare(kit.driver, specs[1], 1, settle)
    assert await kit.says(ready) == "before\n"
    newer = await pins.prepare(kit.driver, specs[2], 2, settle)
    assert (newer.digest, await kit.says(newer)) == (second, "after\n")


async def test_never_means_what_is_here_and_missing_asks_nobody_for_it(kit: Kit, registry: Registry) -> None:
    registry.push("app", "never", marker="never")
    absent = shell("true", image=f"{registry.address}/app:never", pull_policy=PullPolicy.NEVER)
    with pytest.raises(StartError, match="is not on this node, and pull_policy is never") as caught:
        await kit.driver.resolve(kit.spec(absent))
    assert caught.value.permanent
    assert registry.manifests[-1:] != ["/v2/app/manifests/never"]
    assert await kit.driver.resolve(kit.spec(shell("true"))) == ""  # made here: no registry knows it


async def test_a_registry_gets_the_jobs_login_or_the_nodes_and_no_reason_tells_it(
    kit: Kit, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push("secret", "1", marker="secret")
    registry.login = ("bot", "hunter2")
    spec = kit.spec(shell("echo $MARKER", image=f"{registry.address}/secret:1"))
    with pytest.raises(StartError, match=r"may not be pulled: .*give the task 'auth', or log this node in"):
        await kit.driver.resolve(spec)
    wrong = replace(spec, login=Login(username="bot", password="hunter3"))
    with pytest.raises(StartError) as caught:
        await kit.driver.prepare(wrong)
    assert "look at what its 'auth' names" in caught.value.reason
    assert "hunter3" not in f"{caught.value.reason}{wrong!r}"

    helper = tmp_path / "docker-credential-fixed"
    helper.write_text('#!/bin/sh\ncat >/dev/null\necho \'{"Username": "bot", "Secret": "hunter2"}\'\n')
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {registry.address: "fixed"}}))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    digest = await kit.driver.resolve(spec)
    assert digest
    helper.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(StartError, match=r"this node's credentials for .* cannot be had"):
        await kit.driver.prepare(spec)
    right = replace(spec, login=Login(username="bot", password="hunter2"), digest=digest)
    assert await kit.says(right) == "secret\n"
    plain = base64.b64encode(b"bot:hunter2").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": plain}}}))
    registry.push("secret", "2", marker="two")
    await kit.driver.prepare(kit.spec(shell("true", image=f"{registry.address}/secret:2")))


# ---------------------------------------------------------------------------- settings


async def test_a_container_gets_what_its_task_says(kit: Kit) -> None:
    container = ContainerSpec(
        hostname="box",
        labels=(("team", "blue"),),
        no_init=True,
        pids_limit=50,
        ulimits=(Ulimit(name="nofile", soft=100, hard=200),),
        shm_size_mib=8,
        read_only=True,
        tmpfs=(TmpfsSpec(target="/scratch", size_mib=4, mode=0o1770, uid=65534, gid=100), TmpfsSpec(target="/tmp")),
        cpu_max_millis=500,
        memory_max_mib=128,
    )
    task = replace(task_of("sleep", "1000", image=IMAGE, memory_mib=64), container=container, user="nobody")
    ports = (
        PortBinding(label="dns", host_port=0, to=53, protocol=Protocol.UDP),
        PortBinding(label="tcp", host_port=0, to=53),
    )
    found = await kit.start(kit.spec(task, hostname="box", ports=ports))
    host, config = found["HostConfig"], found["Config"]
    assert (config["Hostname"], config["Labels"]["team"], config["User"]) == ("box", "blue", "nobody")
    assert (host["Init"], host["PidsLimit"], host["ShmSize"], host["ReadonlyRootfs"]) == (False, 50, 8 * MIB, True)
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 200, "Soft": 100}]
    assert host["Tmpfs"] == {"/scratch": f"size={4 * MIB},mode=1770,uid=65534,gid=100", "/tmp": ""}
    assert (host["Memory"], host["MemorySwap"], host["MemoryReservation"]) == (128 * MIB, 128 * MIB, 64 * MIB)
    assert (host["CpuShares"], host["NanoCpus"]) == (102, 500_000_000)
    assert set(found["NetworkSettings"]["Ports"]) == {"53/udp", "53/tcp"}


def numbers(line: str) -> set[int]:
    """Of the capabilities in a line such as ``CapEff: 00000000a80425fb``."""
    mask = int(line.split()[1], 16)
    return {number for number in range(64) if mask >> number & 1}


BOUNDING = numbers(next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapBnd" in line))
"""All that a container of this machine could have."""
KNOWN_TO_ALL = set(range(38))
"""Older engines do not know the newest ones."""


@pytest.mark.parametrize(
    ("container", "names"),
    [
        (ContainerSpec(), set()),
        (ContainerSpec(cap_add=("NET_BIND_SERVICE", "CHOWN")), {0, 10}),
        (ContainerSpec(cap_add=("CHOWN",), cap_drop=("ALL",)), {0}),
        (ContainerSpec(cap_add=("NET_ADMIN",)), {12}),
        (ContainerSpec(cap_add=("ALL",), cap_drop=("CHOWN", "SYS_ADMIN", "SYS_RESOURCE")), BOUNDING - {0, 21, 24}),
    ],
    ids=["none", "two", "compose", "allowed", "all-but"],
)
async def test_a_container_has_the_capabilities_that_its_task_names_and_no_other(
    engine: docker.DockerClient, container: ContainerSpec, names: set[int]
) -> None:
    kit = Kit(engine, allow_caps=frozenset({"NET_ADMIN", "ALL"}))
    try:
        task = replace(task_of("grep", "CapEff", "/proc/self/status", image=IMAGE), container=container)
        said = await kit.says(kit.spec(task))
        assert numbers(said) & KNOWN_TO_ALL == names & KNOWN_TO_ALL
    finally:
        await kit.close()


@pytest.mark.parametrize("name", ["SYS_ADMIN", "ALL"])
async def test_a_capability_that_the_operator_did_not_allow_is_refused_with_the_flag_that_would(
    kit: Kit, name: str
) -> None:
    spec = kit.spec(replace(task_of("true", image=IMAGE), container=ContainerSpec(cap_add=("CHOWN", name))))
    with pytest.raises(StartError, match=f"asks for the capability {name}; .* with --allow-cap {name} to") as refused:
        await kit.start(spec)
    assert refused.value.permanent


async def test_cpu_and_memory_change_while_it_runs(kit: Kit) -> None:
    def sized(cpu: int, memory: int, **container: Any) -> RunSpec:
        task = task_of("sleep", "1000", image=IMAGE)
        need = Resources(cpu_millis=cpu, memory_mib=memory)
        return kit.spec(replace(task, resources=need, container=ContainerSpec(**container) if container else None))

    before = await kit.start(sized(100, 32, cpu_max_millis=200, memory_max_mib=64))
    for spec, memory, reserved, nano in (
        (sized(200, 96, cpu_max_millis=300), 96, 96, 300_000_000),
        (sized(100, 16, cpu_max_millis=100, memory_max_mib=32), 32, 16, 100_000_000),
    ):
        await kit.driver.resize(spec)
        after = kit.engine.api.inspect_container(before["Id"])
        host = after["HostConfig"]
        assert (host["Memory"], host["MemorySwap"], host["MemoryReservation"]) == (
            memory * MIB,
            memory * MIB,
            reserved * MIB,
        )
        assert host["NanoCpus"] == nano
        assert after["State"]["StartedAt"] == before["State"]["StartedAt"]
    await kit.driver.resize(sized(100, 16))
    cores = kit.engine.info()["NCPU"]
    assert kit.engine.api.inspect_container(before["Id"])["HostConfig"]["NanoCpus"] == cores * 10**9
    await kit.driver.remove(sized(1, 1).name)
    await kit.driver.resize(sized(100, 32))  # gone: nothing to do


async def test_files_are_there_before_the_command_also_in_volumes_and_read_only_containers(kit: Kit) -> None:
    files = (
        InlineFile(target="/etc/app/a.conf", data="ä\n".encode()),
        InlineFile(target="/data/b.conf", data=b"b\n", mode=0o600),
    )
    mounts = (MountSpec(source="data", target="/data", read_only=False),)
    for restarts, read_only in ((0, False), (1, True)):
        task = shell("cat /etc/app/a.conf /data/b.conf; stat -c %a /data/b.conf", read_only=read_only)
        spec = kit.spec(replace(task, mounts=mounts), restarts=restarts, files=files)
        assert await kit.says(spec) == "ä\nb\n600\n"


async def test_the_payload_of_a_dispatch_is_a_file_also_for_another_user_and_in_a_read_only_container(kit: Kit) -> None:
    payload = bytes(range(256))
    for restarts, read_only in ((0, False), (1, True)):
        task = replace(shell('sha256sum < "$RAFTSMAN_PAYLOAD_FILE"', read_only=read_only), user="nobody")
        origin = Origin(job="work", uid="u", version=1, payload=payload)
        assignment = replace(assignment_of(key_of(), task), origin=origin)
        node = NodeFacts(node_id="n1", name="n1", address="", api="")
        spec = run_spec(Record(assignment=assignment, restarts=restarts), task, kit.cluster, node)
        assert (await kit.says(spec)).split()[0] == hashlib.sha256(payload).hexdigest()


async def test_a_volume_outlives_its_containers_and_is_its_namespaces_own(kit: Kit) -> None:
    mounts = (MountSpec(source="data", target="/data", read_only=False),)
    await kit.says(kit.spec(replace(shell("echo kept > /data/x"), mounts=mounts)))
    reader = replace(shell("cat /data/x; echo no > /data/y"), mounts=(replace(mounts[0], read_only=True),))
    said = await kit.says(kit.spec(reader, restarts=1))
    assert sorted(said.splitlines()) == ["kept", "sh: can't create /data/y: Read-only file system"]
    other = replace(key_of(), id=replace(key_of().id, namespace="other"))
    spec = kit.spec(replace(shell("ls /data"), mounts=mounts))
    assert await kit.says(replace(spec, run=replace(spec.run, key=other))) == ""


async def test_a_directory_of_a_volume_is_mounted_where_that_cannot_lead_out_of_it(
    engine: docker.DockerClient, kit: Kit
) -> None:
    trusting = Kit(engine, allow_host_paths=True)
    trusting.cluster = kit.cluster
    mounts = (MountSpec(source="data", target="/data", read_only=False, sub_path="a/b"),)
    spec = kit.spec(replace(shell("echo deep > /data/x"), mounts=mounts))
    try:
        if tuple(int(part) for part in engine.api.api_version.split(".")) < (1, 45):
            with pytest.raises(StartError, match="a sub_path takes Docker Engine 26") as caught:
                await kit.start(spec)
            assert caught.value.permanent
        await trusting.says(spec)
        whole = replace(mounts[0], sub_path="")
        assert await kit.says(kit.spec(replace(shell("cat /data/a/b/x"), mounts=(whole,)), restarts=1)) == "deep\n"
    finally:
        await trusting.driver.close()


async def test_output_that_another_log_driver_got_is_said_to_be_elsewhere(kit: Kit) -> None:
    spec = kit.spec(shell("echo hi; sleep 1000", logging=LogSpec(driver="none")))
    await kit.start(spec)
    with pytest.raises(LogsGoneError, match="its log driver is none"):
        _ = [chunk async for chunk in kit.driver.logs(spec.name, follow=False, tail_lines=0, offset=0)]
    kept = LogSpec(options=(("max-file", "1"), ("max-size", "1m")))
    found = await kit.start(kit.spec(shell("sleep 1000", logging=kept), restarts=1))
    assert found["HostConfig"]["LogConfig"]["Config"] == {"max-file": "1", "max-size": "1m"}


async def test_networks_none_named_and_the_hosts_where_allowed(kit: Kit, engine: docker.DockerClient) -> None:
    assert "eth0" not in await kit.says(kit.spec(shell("ls /sys/class/net"), network_mode="none"))
    name = f"raftsman-test-{uuid.uuid4().hex[:8]}"
    with pytest.raises(
        StartError, match=f"network {name} does not exist on this node: docker network create"
    ) as caught:
        await kit.start(kit.spec(shell("true"), restarts=1, network_mode=name))
    assert caught.value.permanent
    network = engine.networks.create(name)
    try:
        found = await kit.start(kit.spec(shell("sleep 1000"), restarts=2, network_mode=name))
        assert list(found["NetworkSettings"]["Networks"]) == [name]
    finally:
        await kit.driver.remove(kit.spec(shell(""), restarts=2).name)
        network.remove()
    with pytest.raises(StartError, match="--allow-host-network"):
        await kit.start(kit.spec(shell("true"), restarts=3, network_mode="host"))
    allowed = Kit(engine, allow_host_network=True)
    try:
        found = await allowed.start(allowed.spec(shell("sleep 1000"), network_mode="host"))
        assert found["HostConfig"]["NetworkMode"] == "host"
    finally:
        await allowed.close()


async def test_the_sandbox_holds_the_network_and_ends_at_once(kit: Kit) -> None:
    found = await kit.start(kit.spec(SANDBOX_TASK, hostname="pod"))
    name = kit.spec(SANDBOX_TASK).name
    assert found["State"]["Running"]
    assert (found["HostConfig"]["ReadonlyRootfs"], found["HostConfig"]["CapDrop"]) == (True, ["ALL"])
    talker = kit.spec(shell("hostname", name="talker"), sandbox=name)
    assert await kit.says(talker) == "pod\n"
    await asyncio.wait_for(kit.driver.stop(name, signal="SIGKILL", timeout_ms=0), 10)
    ended = await kit.driver.inspect(name)
    assert ended is not None
    assert ended.state is InstanceState.EXITED


# ---------------------------------------------------------------------------- whole groups, through an agent


@pytest.fixture
async def peer(engine: docker.DockerClient) -> AsyncIterator[FakePeer]:
    fake = FakePeer(cluster_id=f"{uuid.uuid4().hex[:8]}-groups")
    await fake.start()
    yield fake
    await fake.stop()
    for one in mine(engine, fake):
        one.remove(force=True, v=True)


def mine(engine: docker.DockerClient, peer: FakePeer) -> list[Any]:
    label = f"raftsman.cluster={peer.cluster_id}"
    return list(engine.containers.list(all=True, filters={"label": label}, ignore_removed=True))


@pytest.mark.cluster
async def test_a_group_starts_in_order_in_one_network_and_leaves_nothing(
    peer: FakePeer, tmp_path: Path, engine: docker.DockerClient, registry: Registry
) -> None:
    agent = AgentProcess(peer, tmp_path / "n1", "--driver", "docker")
    await agent.start()
    try:
        registry.push("group", "1", marker="pulled", padding=MIB)
        ready = replace(task_of("true", name="prepare", image=IMAGE), role=TaskRole.INIT)
        serve = "mkdir -p /tmp/w; echo $MARKER > /tmp/w/index.html; httpd -f -p 8080 -h /tmp/w"
        side = replace(shell(serve, name="side", image=f"{registry.address}/group:1"), role=TaskRole.SIDECAR)
        ask = "until wget -q -O - http://127.0.0.1:8080/; do sleep 0.1; done"
        tasks = (shell(ask), ready, side)
        key = key_of()
        registry.released.clear()
        registry.hold_after = MIB // 2
        peer.assign(assignment_of(key, *tasks, job_type=JobType.BATCH))
        await until(lambda: [text for one, text in peer.progress if one == key and "MiB" in text], "progress")
        registry.released.set()
        await peer.wait_state(key, AllocState.COMPLETE)
        assert b"pulled\n" in [bytes(one.data) for one in await peer.read_logs(key)]
        assert list(peer.settled) == [("uid-1", "main", 1, f"{registry.address}/group:1")]
        by_task = {one.labels["raftsman.task"]: one for one in mine(engine, peer)}
        assert set(by_task) == {SANDBOX, "prepare", "side", "main"}
        began = {task: one.attrs["State"]["StartedAt"] for task, one in by_task.items()}
        assert sorted(began, key=lambda task: began[task]) == [SANDBOX, "prepare", "side", "main"]
        assert by_task["prepare"].attrs["State"]["FinishedAt"] <= began["side"]
        assert {one.status for one in by_task.values()} == {"exited"}

        broken = key_of("broken")
        missing = task_of("no-such-command", name="later", image=IMAGE)
        peer.assign(assignment_of(broken, task_of("sleep", "1000", image=IMAGE), missing))
        failed = await peer.wait_state(broken, AllocState.FAILED)
        assert failed.reason.startswith("task later: ")
        assert "no-such-command" in failed.reason
        await until(lambda: {one.status for one in mine(engine, peer)} == {"exited"}, "all of it to stop")

        going = key_of("going")
        sleepers = tuple(task_of("sleep", "1000", name=name, image=IMAGE) for name in ("a", "b"))
        peer.assign(assignment_of(going, *sleepers))
        await peer.wait_state(going, AllocState.RUNNING)
        peer.assign(assignment_of(going, *sleepers, desired=Desired.STOP, modify_index=1))
        await peer.wait_state(going, AllocState.STOPPED)
        assert {one.status for one in mine(engine, peer)} == {"exited"}
    finally:
        await agent.end(signal.SIGKILL)


@pytest.mark.cluster
async def test_a_larger_version_reaches_the_container_that_runs(
    peer: FakePeer, tmp_path: Path, engine: docker.DockerClient
) -> None:
    agent = AgentProcess(peer, tmp_path / "n1", "--driver", "docker")
    await agent.start()
    try:
        key = key_of()
        peer.assign(assignment_of(key, task_of("sleep", "1000", image=IMAGE, memory_mib=32)))
        id_ = (await peer.wait_state(key, AllocState.RUNNING)).tasks[0].runtime_id
        larger = assignment_of(key, task_of("sleep", "1000", image=IMAGE, memory_mib=48), modify_index=5)
        peer.assign(replace(larger, job_version=2))

        def memory() -> int:
            return int(engine.api.inspect_container(id_)["HostConfig"]["Memory"])

        await until(lambda: memory() == 48 * MIB, "the new limit")
        assert len(mine(engine, peer)) == 1
    finally:
        await agent.end(signal.SIGKILL)
