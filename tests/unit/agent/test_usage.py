"""What is measured when somebody asks: counters into rates, control groups of every kind, devices."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.driver import Instance
from agent.drivers import docker_processes, process_usage
from agent.drivers.fake import FakeDriver
from agent.inventory import cgroups, gpu_use
from agent.metrics import Metrics
from agent.runspec import NodeFacts
from agent.store import Store
from agent.supervisor import Supervisor
from agent.usage import BASE_S, Counters, Usage
from orchestrator.contract.model import DeviceRequest, Resources
from tests.integration.agent_fakes import assignment_of, key_of, task_of, until


class Measured(FakeDriver):
    """A driver that can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.cpu_ns = 1_000_000_000

    async def measure(self, instances: Sequence[Instance]) -> Mapping[str, Counters]:
        self.asked += 1
        return {
            one.name: Counters(cpu_ns=self.cpu_ns, memory_bytes=5, limit_bytes=9, processes=2, source="cgroup")
            for one in instances
        }


class Clock:
    s = 100.0

    def __call__(self) -> float:
        return self.s


async def running(driver: FakeDriver, directory: Path) -> Supervisor:
    store = Store(directory)
    node = NodeFacts(node_id=store.node_id, name="n1", address="127.0.0.1", api="")
    supervisor = Supervisor(
        store=store, drivers={"fake": driver}, node=node, metrics=Metrics(), report=lambda _observation: None
    )
    await supervisor.start()
    assignment = assignment_of(key_of("web"), task_of("run", driver="fake"))
    await supervisor.apply(index=1, full=True, assignments=[assignment])
    await until(lambda: len(driver.starts) == 1)
    return supervisor


async def test_rates_are_what_was_used_since_somebody_last_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, clock = Measured(), Clock()
    supervisor = await running(driver, tmp_path)
    usage = Usage(supervisor, data=tmp_path, clock_s=clock)

    async def pass_(seconds: float) -> None:
        clock.s += seconds
        driver.cpu_ns += round(seconds * 0.5e9)  # half a core

    monkeypatch.setattr("agent.usage.asyncio.sleep", pass_)
    first = await usage()
    assert (driver.asked, first.interval_ms) == (2, 250)
    (task,) = first.tasks
    assert (task.id.job, task.cpu_millis, task.memory_bytes, task.memory_limit_bytes, task.processes, task.source) == (
        "web",
        500,
        5,
        9,
        2,
        "cgroup",
    )
    assert await usage() is first, "whoever asks at once hears the same"
    assert driver.asked == 2
    clock.s += 2
    driver.cpu_ns += 4_000_000_000
    second = await usage()
    assert (driver.asked, second.interval_ms, second.tasks[0].cpu_millis) == (3, 2000, 2000)
    clock.s += BASE_S + 1
    await usage()
    assert driver.asked == 5, "long ago says little about now"
    assert first.cpu_total_millis >= 1000
    assert 0 < first.memory_bytes <= first.memory_total_bytes
    await supervisor.close()


async def test_a_driver_that_cannot_tell_is_said_not_to(tmp_path: Path) -> None:
    supervisor = await running(FakeDriver(), tmp_path)
    (task,) = (await Usage(supervisor, data=tmp_path, devices=["fake-n1-0"])()).tasks
    assert (task.cpu_millis, task.memory_bytes, task.source, task.why) == (-1, -1, "none", "driver fake does not tell")
    await supervisor.close()


# ---------------------------------------------------------------------------- control groups


def files(root: Path, **content: str) -> None:
    for name, text in content.items():
        place = root / name.replace("__", "/").replace("_dot_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def test_version_2_is_read(tmp_path: Path) -> None:
    files(
        tmp_path / "docker" / "abc",
        cpu_dot_stat="usage_usec 2500\nuser_usec 1\n",
        memory_dot_current="9000\n",
        memory_dot_stat="anon 1\ninactive_file 4000\n",
        memory_dot_max="max\n",
        pids_dot_current="3\n",
    )
    assert cgroups.read(cgroups.of_container("abc", tmp_path)) == (2_500_000, 5000, 0, 3)
    (tmp_path / "proc" / "7").mkdir(parents=True)
    (tmp_path / "proc" / "7" / "cgroup").write_text("0::/docker/abc\n")
    assert cgroups.of_process(7, tmp_path, tmp_path / "proc") == {"": tmp_path / "docker" / "abc"}


def test_version_1_is_read(tmp_path: Path) -> None:
    here = "system.slice/docker-abc.scope"
    files(tmp_path / "cpuacct" / here, cpuacct_dot_usage="77\n")
    files(
        tmp_path / "memory" / here,
        memory_dot_usage_in_bytes="9000\n",
        memory_dot_limit_in_bytes="16000\n",
        memory_dot_stat="total_inactive_file 1000\n",
    )
    assert cgroups.read(cgroups.of_container("abc", tmp_path)) == (77, 8000, 16000, -1)
    (tmp_path / "proc" / "7").mkdir(parents=True)
    lines = f"5:cpu,cpuacct:/{here}\n4:memory:/{here}\n1:name=systemd:/x\n0::/\n"
    (tmp_path / "proc" / "7" / "cgroup").write_text(lines)
    assert set(cgroups.of_process(7, tmp_path, tmp_path / "proc")) == {"cpuacct", "memory"}


def test_what_is_gone_is_unknown(tmp_path: Path) -> None:
    assert cgroups.of_container("abc", tmp_path) == {}
    assert cgroups.read({}) is None
    assert cgroups.read({"": tmp_path / "gone"}) is None
    assert cgroups.of_process(1 << 22) == {}


async def test_a_process_tree_is_counted_with_its_children() -> None:
    child = await asyncio.create_subprocess_exec("sh", "-c", "sleep 60 & sleep 60 & wait", start_new_session=True)
    try:
        await until(lambda: process_usage._by_processes({"x": child.pid})["x"].processes == 3)
        found = process_usage.measure({"x": child.pid, "gone": 1 << 22})
        assert set(found) == {"x"}
        assert found["x"].memory_bytes > 0
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


# ---------------------------------------------------------------------------- devices


class Sample:
    """Of a process, as NVML answers."""

    def __init__(self, pid: int, *, memory: int | None = 0, percent: int = 0, at: int = 0) -> None:
        self.pid, self.usedGpuMemory, self.smUtil, self.timeStamp = pid, memory, percent, at


class Nvml:
    """As much of the binding as is asked. ``running``: by device; ``samples``: None = a slice, which has none."""

    NVML_TEMPERATURE_GPU = 0
    NVML_ERROR_NOT_FOUND = 6
    nvmlMemory_v2 = 2  # noqa: N815

    class NVMLError(Exception):
        def __init__(self, value: int = 3) -> None:
            self.value = value

    def __init__(
        self,
        *,
        old: bool = False,
        running: Mapping[str, Sequence[Sample]] | None = None,
        samples: Sequence[Sample] | None = None,
        used: int = 10,
    ) -> None:
        self._old, self._running, self._samples, self._used = old, running, samples, used

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, id_: str) -> Any:  # noqa: N802
        if id_ not in ("GPU-1", "GPU-2"):
            raise self.NVMLError
        return id_

    def nvmlDeviceGetUtilizationRates(self, _handle: Any) -> Any:  # noqa: N802
        if self._samples is None:
            raise self.NVMLError
        return type("Rates", (), {"gpu": 42})

    def nvmlDeviceGetMemoryInfo(self, _handle: Any, version: int = 1) -> Any:  # noqa: N802
        if version == 1:
            return type("Memory", (), {"used": self._used + 500, "total": 1000})  # with what the driver keeps
        if self._old:
            raise self.NVMLError
        return type("Memory", (), {"used": self._used, "total": 1000})

    def nvmlDeviceGetTemperature(self, _handle: Any, _kind: int) -> int:  # noqa: N802
        return 61

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Sequence[Sample]:  # noqa: N802
        if self._running is None:
            raise self.NVMLError
        return self._running.get(handle, ())

    def nvmlDeviceGetProcessUtilization(self, _handle: Any, since_us: int) -> Sequence[Sample]:  # noqa: N802
        if self._samples is None:
            raise self.NVMLError
        found = [one for one in self._samples if one.timeStamp > since_us]
        if not found:
            raise self.NVMLError(self.NVML_ERROR_NOT_FOUND)
        return found


@pytest.mark.parametrize(
    ("nvml", "percent", "used"), [(Nvml(samples=()), 42, 10), (Nvml(), -1, 10), (Nvml(samples=(), old=True), 42, 510)]
)
def test_devices_say_what_they_know(nvml: Nvml, percent: int, used: int) -> None:
    found = gpu_use.measured_device(nvml, "GPU-1")
    known = (found.percent, found.memory_bytes, found.memory_total_bytes, found.celsius, found.milliwatts)
    assert known == (percent, used, 1000, 61, -1)
    gone = gpu_use.measured_device(nvml, "GPU-3")
    assert (gone.percent, gone.memory_bytes) == (-1, -1)


class OnDevices(Measured):
    """Each of its runs has the process whose number is its allocation's ordinal."""

    def whose(self, pids: Sequence[int], instances: Sequence[Instance]) -> Mapping[int, str]:
        return {one.run.key.id.ordinal: one.name for one in instances if one.run.key.id.ordinal in pids}


async def uses(nvml: Nvml, directory: Path, given: Sequence[Sequence[str]]) -> list[list[tuple[str, int, int]]]:
    """(device, bytes, percent) of each task, in order; ``given``: the devices of each."""
    driver = OnDevices()
    store = Store(directory)
    node = NodeFacts(node_id=store.node_id, name="n1", address="127.0.0.1", api="")
    supervisor = Supervisor(
        store=store, drivers={"fake": driver}, node=node, metrics=Metrics(), report=lambda _observation: None
    )
    await supervisor.start()
    task = replace(task_of("run", driver="fake"), resources=Resources(gpus=DeviceRequest(count=1)))
    assignments = [
        replace(assignment_of(key_of("web", ordinal=ordinal), task), device_ids=tuple(ids))
        for ordinal, ids in enumerate(given)
    ]
    await supervisor.apply(index=1, full=True, assignments=assignments)
    await until(lambda: len(driver.starts) == len(given))
    usage = await Usage(supervisor, data=directory, devices=["GPU-1", "GPU-2"], nvml=nvml)()
    await supervisor.close()
    return [[(one.device_id, one.memory_bytes, one.percent) for one in task.devices] for task in usage.tasks]


async def test_shares_of_one_device_are_told_apart_by_their_processes(tmp_path: Path) -> None:
    now = time.time_ns() // 1000
    running = {"GPU-1": [Sample(0, memory=7), Sample(1, memory=20), Sample(99, memory=1000)]}
    samples = [Sample(0, percent=10, at=now - 5), Sample(0, percent=30, at=now), Sample(1, percent=9, at=now - 10**7)]
    found = await uses(Nvml(running=running, samples=samples), tmp_path, [["GPU-1"], ["GPU-1"], ["GPU-1", "GPU-2"]])
    assert found == [
        [("GPU-1", 7, 30)],
        [("GPU-1", 20, 0)],  # what it did is long ago
        [("GPU-1", 0, 0), ("GPU-2", 0, 0)],
    ]


async def test_processes_that_are_hidden_are_not_taken_for_none(tmp_path: Path) -> None:
    used = 10**9
    found = await uses(Nvml(running={}, samples=(), used=used), tmp_path, [["GPU-1"], ["GPU-2"], ["GPU-1"]])
    assert found == [[], [("GPU-2", used, 42)], []], "who has a device alone uses what is used of it"


async def test_what_slices_do_not_tell_is_unknown(tmp_path: Path) -> None:
    found = await uses(Nvml(running={"GPU-1": [Sample(0, memory=None)]}), tmp_path, [["GPU-1"], ["GPU-1"]])
    assert found == [[("GPU-1", -1, -1)], [("GPU-1", 0, 0)]]
    assert await uses(Nvml(), tmp_path / "other", [["GPU-1"], ["GPU-1"]]) == [[], []]


async def test_processes_are_found_by_descent_and_by_session() -> None:
    """One below a shell, and one whose parent has gone."""
    script = "sleep 60 & echo $!; (sleep 60 & echo $!); wait"
    child = await asyncio.create_subprocess_exec(
        "sh", "-c", script, start_new_session=True, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        below, left = [int(await child.stdout.readline()) for _ in range(2)]
        whose = process_usage.whose([child.pid, below, left, os.getpid(), 1 << 22], {"x": child.pid, "y": 1 << 22})
        assert whose == {child.pid: "x", below: "x", left: "x"}
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


def test_processes_of_containers_are_known_by_their_control_groups(tmp_path: Path) -> None:
    one, other = "a" * 64, "b" * 64
    lines = {5: f"0::/system.slice/docker-{one}.scope\n", 6: f"4:memory:/docker/{other}\n0::/\n", 7: "0::/user\n"}
    for pid, text in lines.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(text)
    assert docker_processes.containers_of([5, 6, 7, 8], tmp_path) == {5: one, 6: other}
