"""What is measured when somebody asks: counters into rates, control groups of every kind, devices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.driver import Instance
from agent.drivers import process_usage
from agent.drivers.fake import FakeDriver
from agent.inventory import cgroups
from agent.metrics import Metrics
from agent.runspec import NodeFacts
from agent.store import Store
from agent.supervisor import Supervisor
from agent.usage import BASE_S, Counters, Usage, measured_device
from orchestrator.contract.v1.usage_pb2 import DeviceUsage
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


class Nvml:
    """As much of the binding as is asked."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception): ...

    def __init__(self, *, slice_: bool = False) -> None:
        self._slice = slice_

    def nvmlDeviceGetHandleByUUID(self, id_: str) -> Any:  # noqa: N802
        if id_ != "GPU-1":
            raise self.NVMLError
        return id_

    def nvmlDeviceGetUtilizationRates(self, _handle: Any) -> Any:  # noqa: N802
        if self._slice:
            raise self.NVMLError
        return type("Rates", (), {"gpu": 42})

    def nvmlDeviceGetMemoryInfo(self, _handle: Any) -> Any:  # noqa: N802
        return type("Memory", (), {"used": 10, "total": 100})

    def nvmlDeviceGetTemperature(self, _handle: Any, _kind: int) -> int:  # noqa: N802
        return 61


@pytest.mark.parametrize(("slice_", "percent"), [(False, 42), (True, -1)])
def test_devices_say_what_they_know(slice_: bool, percent: int) -> None:
    unknown = {"percent": -1, "memory_bytes": -1, "memory_total_bytes": -1, "celsius": -1, "milliwatts": -1}
    found = measured_device(Nvml(slice_=slice_), DeviceUsage(device_id="GPU-1", **unknown))
    known = (found.percent, found.memory_bytes, found.memory_total_bytes, found.celsius, found.milliwatts)
    assert known == (percent, 10, 100, 61, -1)
    gone = measured_device(Nvml(), DeviceUsage(device_id="GPU-2", **unknown))
    assert (gone.percent, gone.memory_bytes) == (-1, -1)
