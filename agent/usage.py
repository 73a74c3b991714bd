"""What this node, its tasks and its devices use now, measured when somebody asks.

Owns: turning counters into rates, and how old a measurement may be. Leaves to others: counters of runs (the drivers, by
``Measures``), control groups (``inventory.cgroups``), capacity (``inventory.machine``). The rules: nothing is measured
while nobody asks; cpu is what was used between two measurements, so the first question after a while takes a quarter of
a second and every further one none (but for an engine on another machine: see ``drivers.docker_usage``); what cannot
be known is -1, and a run without figures says why. What a task uses of a GPU is what its processes use.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import psutil
import structlog

from agent.driver import Driver, DriverUnavailableError, Instance
from agent.inventory import gpu_use
from agent.steady import wall_ms
from agent.supervisor import Supervisor
from orchestrator.contract.devices import is_real
from orchestrator.contract.v1.types_pb2 import AllocationId
from orchestrator.contract.v1.usage_pb2 import NodeUsage, TaskDeviceUsage, TaskUsage

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


@runtime_checkable
class KnowsProcesses(Protocol):
    """A driver that can tell which of its runs a process of this machine belongs to."""

    def whose(self, pids: Sequence[int], instances: Sequence[Instance]) -> Mapping[int, str]:
        """Names by process id; strangers are left out. Blocks for some reads of ``/proc`` for each."""


@dataclass(slots=True)
class _Sample:
    at_s: float
    busy_s: float
    tasks: dict[str, tuple[Instance, Counters]] = field(default_factory=dict)
    by_driver: Sequence[tuple[Driver, Sequence[Instance]]] = ()


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
            await asyncio.to_thread(self._measure_devices, usage, sample)
            self._before = sample
            self._last = (sample.at_s, usage)
            return usage

    async def _sample(self) -> _Sample:
        tasks: dict[str, tuple[Instance, Counters]] = {}
        by_driver = self._supervisor.running_by_driver()
        for driver, instances in by_driver:
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
        return _Sample(self._clock_s(), _busy_s(), tasks, by_driver)

    def _between(self, before: _Sample, now: _Sample) -> NodeUsage:
        seconds = max(now.at_s - before.at_s, 0.001)
        cores = os.cpu_count() or 1
        memory, disk = psutil.virtual_memory(), shutil.disk_usage(self._data)
        usage = NodeUsage(
            node_id=self._supervisor.node_id,
            time_ms=wall_ms(),
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

    def _measure_devices(self, usage: NodeUsage, sample: _Sample) -> None:
        nvml = self._nvml
        if nvml is not None and any(is_real(one) for one in self._devices):
            try:
                nvml.nvmlInit()  # counted by the library, and cheap once it was done
            except nvml.NVMLError as error:
                log.debug("nvml_unavailable", error=str(error))
            else:
                usage.devices.extend(gpu_use.measured_device(nvml, one) for one in self._devices)
                self._divide(usage, sample)
                return
        usage.devices.extend(gpu_use.unknown(one) for one in self._devices)

    def _divide(self, usage: NodeUsage, sample: _Sample) -> None:
        """What each task uses of its devices. A device whose processes cannot be told apart is told only of a task
        that has it alone."""
        holders: dict[str, list[tuple[str, TaskUsage]]] = {}
        for name, task in zip(sorted(sample.tasks), usage.tasks, strict=True):
            for device_id in task.device_ids:
                holders.setdefault(device_id, []).append((name, task))
        held = [one for one in usage.devices if one.device_id in holders]
        seen = {one.device_id: gpu_use.by_process(self._nvml, one) for one in held}
        pids = sorted({pid for processes in seen.values() for pid in processes or ()})
        owners: dict[int, str] = {}
        for driver, instances in sample.by_driver if pids else ():
            if isinstance(driver, KnowsProcesses):
                owners.update(driver.whose(pids, instances))
        for one in held:
            tasks, processes = holders[one.device_id], seen[one.device_id]
            if processes is None and len(tasks) > 1:
                continue
            for name, task in tasks:
                memory, percent = one.memory_bytes, one.percent
                if processes is not None:
                    own = [used for pid, used in processes.items() if owners.get(pid) == name]
                    memory = _sum(used.memory_bytes for used in own)
                    percent = min(100, _sum(used.percent for used in own))
                task.devices.append(TaskDeviceUsage(device_id=one.device_id, memory_bytes=memory, percent=percent))


def _sum(amounts: Iterable[int]) -> int:
    """-1 where one of them is unknown."""
    total = 0
    for one in amounts:
        if one < 0:
            return UNKNOWN
        total += one
    return total


def _busy_s() -> float:
    """Of all cores, since the machine began."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests' time is counted in user time already.
    return float(sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))
