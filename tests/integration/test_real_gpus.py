"""On a machine with NVIDIA's driver: what is reported, given out, seen inside, measured, and taken for sick.

The machines of CI have no GPU, so all of this is skipped there; what NVML says of other machines is played back in
``tests/unit/agent/test_topologies.py``. Run it with ``pytest tests/integration/test_real_gpus.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
import pytest_asyncio

from agent.driver import Instance
from agent.drivers.docker import DockerDriver
from agent.inventory import gpu, gpu_use
from agent.inventory.gpu_health import GpuHealth
from orchestrator.contract.answers import TaskUsage
from orchestrator.contract.model import (
    AllocState,
    Device,
    DeviceRequest,
    GroupSpec,
    JobSpec,
    JobType,
    MountSpec,
    Resources,
    RestartPolicy,
    TaskSpec,
)
from orchestrator.contract.transitions import TERMINAL
from orchestrator.ops.dev import LocalCluster
from tests.integration.agent_fakes import task_of, until
from tests.integration.test_driver_contract import IMAGE, Kit, test_image

__all__ = ["test_image"]

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

PROGRAM = str(Path(__file__).with_name("gpu_program.py"))
PYTHON = str(Path(sys.executable).resolve())
MIB = 1024 * 1024
LIBRARIES = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


@pytest.fixture(scope="module")
def nvml() -> Iterator[Any]:
    found = gpu.load_nvml()
    if found is None or not gpu.measured(found):
        pytest.skip("no NVIDIA GPU here: NVML finds none")
    found.nvmlInit()
    yield found
    found.nvmlShutdown()


@pytest.fixture(scope="module")
def devices(nvml: Any) -> tuple[Device, ...]:
    return gpu.measured(nvml)


def smi(*fields: str) -> list[list[str]]:
    """What NVIDIA's own tool says of each GPU."""
    asked = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return [[word.strip() for word in row.split(",")] for row in said.splitlines()]


async def test_what_is_reported_is_what_nvidia_smi_says(devices: tuple[Device, ...]) -> None:
    whole = [one for one in devices if not one.mig]
    said = smi("uuid", "name", "memory.total", "compute_cap", "driver_version", "mig.mode.current")
    assert [[one.id, one.model, str(one.memory_mib), one.compute_capability, one.driver_version] for one in whole] == [
        row[:5] for row in said if row[5] != "Enabled"
    ]
    assert len({one.id for one in devices}) == len(devices)
    for one in devices:
        assert (one.numa >= 0, one.pcie >= 1, one.island >= 0) == (True, True, True)


async def test_memory_in_use_is_what_nvidia_smi_says(nvml: Any, devices: tuple[Device, ...]) -> None:
    """Not counting what the driver keeps for itself, some 500 MiB of an H100."""
    for (id_, used), one in zip(smi("uuid", "memory.used"), [one for one in devices if not one.mig], strict=True):
        found = gpu_use.measured_device(nvml, one.id)
        assert id_ == one.id
        assert abs(found.memory_bytes / MIB - int(used)) < 256, "others may take and give back some meanwhile"
        assert found.celsius > 0


def job(name: str, *words: str, **asked: Any) -> JobSpec:
    """One process that runs the program; ``asked``: of GPUs."""
    task = TaskSpec(
        name="main",
        command=(sys.executable, PROGRAM, *words),
        env=tuple(sorted(LIBRARIES.items())),
        resources=Resources(cpu_millis=100, memory_mib=2048, gpus=DeviceRequest(**asked) if asked else None),
    )
    group = GroupSpec(name="main", count=1, tasks=(task,), restart=RestartPolicy(attempts=0))
    return JobSpec(name=name, type=JobType.SERVICE if words[0] == "hold" else JobType.BATCH, groups=(group,))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def cluster(nvml: Any) -> AsyncIterator[LocalCluster]:
    async with LocalCluster(peers=1, agents=2, driver="process") as made:
        yield made


async def ended(cluster: LocalCluster, name: str) -> list[str]:
    """The devices that a job's only task saw, once it has ended well or not."""
    async with asyncio.timeout(120):
        while True:
            found = (await cluster.client.list_allocations(job=name)).allocations
            if found and found[0].state in (AllocState.COMPLETE, AllocState.FAILED):
                return json.loads((await said(cluster, name)).splitlines()[0])  # type: ignore[no-any-return]
            await asyncio.sleep(0.05)


async def said(cluster: LocalCluster, name: str) -> str:
    return b"".join([one.data async for one in cluster.client.logs(f"{name}/main/0")]).decode()


async def holding(cluster: LocalCluster, *names: str) -> None:
    async with asyncio.timeout(120):
        for name in names:
            while True:
                found = (await cluster.client.list_allocations(job=name)).allocations
                if found and found[0].state is AllocState.RUNNING and "holds" in await said(cluster, name):
                    break
                assert not found or found[0].state not in TERMINAL, await said(cluster, name)
                await asyncio.sleep(0.05)


async def of_tasks(cluster: LocalCluster) -> dict[str, TaskUsage]:
    usage = await cluster.client.get_usage()
    return {task.id.job: task for node in usage.nodes for task in node.tasks}


async def gone(cluster: LocalCluster, *names: str) -> None:
    for name in names:
        await cluster.client.stop_job(name)
    async with asyncio.timeout(60):
        while (await cluster.client.list_allocations(live_only=True)).allocations:
            await asyncio.sleep(0.05)


async def test_one_of_two_agents_of_a_machine_reports_its_gpus(
    cluster: LocalCluster, devices: tuple[Device, ...]
) -> None:
    nodes = (await cluster.client.list_nodes()).nodes
    reported = sorted((node.spec.devices for node in nodes), key=len)
    assert reported == [(), devices]


async def test_a_process_sees_the_gpus_that_it_was_given_and_no_other(
    cluster: LocalCluster, devices: tuple[Device, ...]
) -> None:
    await cluster.client.submit_many([job("none", "count"), job("one", "count", count=1)])
    assert await ended(cluster, "none") == []
    (seen,) = await ended(cluster, "one")
    assert seen in {one.id for one in devices}


async def test_conditions_are_compared_with_what_the_gpu_is(cluster: LocalCluster, devices: tuple[Device, ...]) -> None:
    one = devices[0]
    major = int(one.compute_capability.split(".")[0])
    fits = {"models": (one.model.rpartition(" ")[0],), "memory_mib": one.memory_mib - 1024}
    await cluster.client.submit_many(
        [
            job("fits", "count", count=1, compute_capability=f">= {major}.0", **fits),
            job("newer", "count", count=1, compute_capability=f">= {major + 1}.0"),
            job("more", "count", count=len(devices) + 1),
        ]
    )
    assert len(await ended(cluster, "fits")) == 1
    for name in ("newer", "more"):
        (group,) = (await cluster.client.explain_job(name)).groups
        assert any("gpu" in one.constraint.lower() or "device" in one.constraint.lower() for one in group.rejections), (
            group
        )
        await cluster.client.stop_job(name)


async def test_shares_of_a_gpu_are_measured_each(cluster: LocalCluster) -> None:
    """Two on one device: whose memory is whose."""
    share = {"count": 1, "gpu_millis": 400}
    await cluster.client.submit_many([job("small", "hold", "300", **share), job("big", "hold", "1500", **share)])
    await holding(cluster, "small", "big")

    async def measured() -> dict[str, TaskUsage]:
        async with asyncio.timeout(60):
            while True:
                found = await of_tasks(cluster)
                used = [one for name in ("small", "big") for one in found[name].devices]
                if len(used) == 2 and all(one.percent > 0 for one in used):
                    return found
                await asyncio.sleep(0.3)

    found = await measured()
    (small,), (big,) = found["small"].devices, found["big"].devices
    assert small.device_id == big.device_id
    # Contexts are alike.
    assert abs((big.memory_bytes - small.memory_bytes) / MIB - 1200) < 64
    assert small.memory_bytes > 300 * MIB
    assert small.percent + big.percent <= 110
    await gone(cluster, "small", "big")


async def test_a_program_that_faults_does_not_make_its_gpu_sick(
    cluster: LocalCluster, nvml: Any, devices: tuple[Device, ...]
) -> None:
    health = GpuHealth(nvml, devices)
    health.look()
    assert health.sick == ()
    await cluster.client.submit(job("bad", "fault", count=1))
    assert len(await ended(cluster, "bad")) == 1
    log = Path(cluster.agents[0].log)
    async with asyncio.timeout(60):
        while "gpu_xid" not in log.read_text():  # noqa: ASYNC240
            await asyncio.sleep(0.1)
    health.look()
    assert health.sick == ()
    health.close()
    nodes = (await cluster.client.list_nodes()).nodes
    assert [node.spec.sick_devices for node in nodes] == [(), ()]
    await cluster.client.submit(job("after", "count", count=1))
    assert len(await ended(cluster, "after")) == 1, "it is given out again"


def of_this_machine() -> tuple[MountSpec, ...]:
    """What Python and the driver's libraries need."""
    places = {"/usr", "/lib", "/lib64", str(Path(PROGRAM).parent)}
    places |= set(LIBRARIES.get("LD_LIBRARY_PATH", "").split(":"))
    return tuple(MountSpec(source=one, target=one) for one in sorted(places) if Path(one).is_dir() and one)


@pytest.mark.docker
async def test_a_container_sees_its_gpu_and_no_other(test_image: str, nvml: Any, devices: tuple[Device, ...]) -> None:
    """With this machine's own Python and libraries mounted; what makes the device usable comes from the engine."""
    runtime = docker.from_env()
    try:
        info = runtime.info()
    finally:
        runtime.close()
    cdi = {one.get("ID") for one in info.get("DiscoveredDevices") or ()}
    if f"nvidia.com/gpu={devices[0].id}" not in cdi and "nvidia" not in info.get("Runtimes", {}):
        pytest.skip("the engine here has neither CDI devices by UUID nor NVIDIA's runtime")
    kit = Kit(DockerDriver(allow_host_paths=True), os.urandom(8).hex())

    def task(*words: str) -> TaskSpec:
        made = task_of(PYTHON, PROGRAM, *words, image=IMAGE, env=LIBRARIES | {"PYTHONHOME": sys.base_prefix})
        return replace(made, mounts=of_this_machine())

    async def first_line(instance: Instance) -> Any:
        async def text() -> bytes:
            found = await kit.text(instance.name)
            state = await kit.driver.inspect(instance.name)
            return found if b"\n" in found or (state is not None and not state.running) else b""

        found = await until(text, "its first line")
        assert isinstance(found, bytes)
        return json.loads(found.splitlines()[0])

    try:
        await kit.driver.probe()
        without = await kit.start(kit.spec(task("count")))
        with_one = await kit.start(replace(kit.spec(task("hold", "700"), restarts=1), device_ids=(devices[0].id,)))
        assert await first_line(with_one) == [devices[0].id]
        await until(lambda: gpu_use.by_process(nvml, gpu_use.measured_device(nvml, devices[0].id)), "its process")
        processes = gpu_use.by_process(nvml, gpu_use.measured_device(nvml, devices[0].id))
        assert processes is not None
        assert isinstance(kit.driver, DockerDriver)
        assert set(kit.driver.whose(list(processes), [with_one]).values()) == {with_one.name}
        try:
            assert await first_line(without) == []
        except json.JSONDecodeError:
            assert b"libcuda" in await kit.text(without.name), "not even the driver's library is there"
    finally:
        for instance in await kit.driver.list(kit.cluster):
            await kit.driver.remove(instance.name)
        await kit.driver.close()
