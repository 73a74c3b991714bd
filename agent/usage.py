"""What this node, its tasks and its devices use now, measured when somebody asks.

Owns: turning counters into rates, and how old a measurement may be. Leaves to others: counters of runs (the drivers, by
``Measures``), control groups (``inventory.cgroups``), capacity (``inventory.machine``). The rules: nothing is measured
while nobody asks; cpu is what was used between two measurements, so the first question after a while takes a quarter of
a second and every further one none (but for an engine on another machine: see ``drivers.docker_usage``); what cannot
be known is -1, and a run without figures says why.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import psutil
import structlog

from agent.driver import DriverUnavailableError, Instance
from agent.inventory import gpu
from agent.supervisor import Supervisor
from orchestrator.contract.v1.types_pb2 import AllocationId
from orchestrator.contract.v1.usage_pb2 import DeviceUsage, NodeUsage, TaskUsage

FRESH_S = 0.3
"""A measurement so young is the answer as it is, whoever asks."""
BASE_S = 10.0
"""One so old says little about now: measure twice."""
BETWEEN_S = 0.25
UNKNOWN = -1

log = structlog.get_logger("agent.usage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Of one run. ``cpu_ns`` only ever grows; -1 = unknown. ``source``: cgroup, processes, engine or none (``why``)."""

    cpu_ns: int = UNKNOWN
    memory_bytes: int = UNKNOWN
    limit_bytes: int = 0
    processes: int = UNKNOWN
    source: str = "none"
    why: str = ""


@runtime_checkable
class Measures(Protocol):
    """A driver that can tell what its runs use."""

    async def measure(self, instances: Sequence[Instance]) -> Mapping[str, Counters]:
        """By name. Raises ``DriverUnavailableError``."""


@dataclass(slots=True)
class _Sample:
    at_s: float
    busy_s: float
    tasks: dict[str, tuple[Instance, Counters]] = field(default_factory=dict)


class Usage:
    """One per agent; call it. ``devices``: ids, in the node's order; ``nvml``: its binding, or None."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        data: Path,
        devices: Sequence[str] = (),
        nvml: Any | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._supervisor = supervisor
        self._data = data
        self._devices = devices
        self._nvml = nvml
        self._clock_s = clock_s
        self._turn = asyncio.Lock()
        self._before: _Sample | None = None
        self._last: tuple[float, NodeUsage] | None = None

    async def __call__(self) -> NodeUsage:
        async with self._turn:
            now = self._clock_s()
            if self._last is not None and now - self._last[0] < FRESH_S:
                return self._last[1]
            if self._before is None or now - self._before.at_s > BASE_S:
                bare = _Sample(self._clock_s(), _busy_s())
                sample = await self._sample()
                if sample.at_s - bare.at_s > BETWEEN_S:
                    # Twice would be too long for whoever asks; so the tasks' cpu has to wait for the next question.
                    self._before = bare
                else:
                    self._before = sample
                    await asyncio.sleep(BETWEEN_S)
                    sample = await self._sample()
            else:
                sample = await self._sample()
            usage = self._between(self._before, sample)
            usage.devices.extend(await asyncio.to_thread(self._measure_devices))
            self._before = sample
            self._last = (sample.at_s, usage)
            return usage

    async def _sample(self) -> _Sample:
        tasks: dict[str, tuple[Instance, Counters]] = {}
        for driver, instances in self._supervisor.running_by_driver():
            counters: Mapping[str, Counters] = {}
            why = f"driver {driver.name} does not tell"
            if isinstance(driver, Measures):
                try:
                    counters = await driver.measure(instances)
                    why = "it is gone"
                except DriverUnavailableError as error:
                    why = str(error)
            for one in instances:
                tasks[one.name] = (one, counters.get(one.name) or Counters(why=why))
        return _Sample(self._clock_s(), _busy_s(), tasks)

    def _between(self, before: _Sample, now: _Sample) -> NodeUsage:
        seconds = max(now.at_s - before.at_s, 0.001)
        cores = os.cpu_count() or 1
        memory, disk = psutil.virtual_memory(), shutil.disk_usage(self._data)
        usage = NodeUsage(
            node_id=self._supervisor.node_id,
            time_ms=time.time_ns() // 1_000_000,
            interval_ms=round(seconds * 1000),
            cpu_millis=min(cores * 1000, max(0, round((now.busy_s - before.busy_s) / seconds * 1000))),
            cpu_total_millis=cores * 1000,
            memory_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
            disk_bytes=disk.used,
            disk_total_bytes=disk.total,
            load_millis=round(os.getloadavg()[0] * 1000),
        )
        for name in sorted(now.tasks):
            one, counters = now.tasks[name]
            key = one.run.key
            earlier = before.tasks.get(name)
            cpu = UNKNOWN
            if earlier is not None and counters.cpu_ns >= 0 and earlier[1].cpu_ns >= 0:
                cpu = max(0, round((counters.cpu_ns - earlier[1].cpu_ns) / seconds / 1e6))
            usage.tasks.append(
                TaskUsage(
                    id=AllocationId(
                        namespace=key.id.namespace, job=key.id.job, group=key.id.group, ordinal=key.id.ordinal
                    ),
                    attempt=key.attempt,
                    task=one.run.task,
                    cpu_millis=cpu,
                    memory_bytes=counters.memory_bytes,
                    memory_limit_bytes=counters.limit_bytes,
                    processes=counters.processes,
                    source=counters.source,
                    why=counters.why,
                    device_ids=self._supervisor.devices_of(key, one.run.task),
                )
            )
        return usage

    def _measure_devices(self) -> list[DeviceUsage]:
        unknown = [
            DeviceUsage(device_id=one, percent=-1, memory_bytes=-1, memory_total_bytes=-1, celsius=-1, milliwatts=-1)
            for one in self._devices
        ]
        nvml = self._nvml
        if nvml is None or not any(gpu.is_real(one) for one in self._devices):
            return unknown
        try:
            nvml.nvmlInit()  # counted by the library, and cheap once it was done
        except nvml.NVMLError as error:
            log.debug("nvml_unavailable", error=str(error))
            return unknown
        return [measured_device(nvml, one) for one in unknown]


def _busy_s() -> float:
    """Of all cores, since the machine began."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests' time is counted in user time already.
    return float(sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))


def measured_device(nvml: Any, usage: DeviceUsage) -> DeviceUsage:
    """Filled with what NVML tells; a slice, for one, does not know how busy it is."""
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(usage.device_id)
    except nvml.NVMLError:
        return usage
    for ask in (_percent, _memory, _celsius, _milliwatts):
        try:
            ask(nvml, handle, usage)
        except (nvml.NVMLError, AttributeError):
            continue
    return usage


def _percent(nvml: Any, handle: Any, usage: DeviceUsage) -> None:
    usage.percent = int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)


def _memory(nvml: Any, handle: Any, usage: DeviceUsage) -> None:
    found = nvml.nvmlDeviceGetMemoryInfo(handle)
    usage.memory_bytes, usage.memory_total_bytes = int(found.used), int(found.total)


def _celsius(nvml: Any, handle: Any, usage: DeviceUsage) -> None:
    usage.celsius = int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))


def _milliwatts(nvml: Any, handle: Any, usage: DeviceUsage) -> None:
    usage.milliwatts = int(nvml.nvmlDeviceGetPowerUsage(handle))
