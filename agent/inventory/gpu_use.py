"""What GPUs and the processes on them use now, by NVML.

Owns: asking NVML, and telling "nothing" from "cannot be seen". Leaves to others: whose process it is (the drivers),
when to ask (``agent.usage``). The rules: -1 = unknown, and one question that NVML does not answer costs only its own
figure; memory that the driver keeps for itself is nobody's, as in ``nvidia-smi``; an agent in a container that cannot
see the machine's processes says that it does not know, not that nothing is used.

Source: NVML API reference (memory info version 2, compute running processes, process utilisation).
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from orchestrator.contract.v1.usage_pb2 import DeviceUsage

UNKNOWN = -1
SEEN_US = 2_000_000
"""NVML samples each process about twice a second."""
UNSEEN_BYTES = 64 << 20
"""More than this is used, and no process is to be seen: they are hidden from us. A context alone takes more."""


class OnDevice(NamedTuple):
    """What one process uses of one device. ``percent``: of the multiprocessors' time, in NVML's last sample."""

    memory_bytes: int
    percent: int


def unknown(device_id: str) -> DeviceUsage:
    return DeviceUsage(
        device_id=device_id, percent=UNKNOWN, memory_bytes=UNKNOWN, memory_total_bytes=UNKNOWN, celsius=UNKNOWN,
        milliwatts=UNKNOWN,
    )  # fmt: skip


def measured_device(nvml: Any, device_id: str) -> DeviceUsage:
    """What NVML tells of a device; a slice, for one, does not know how busy it is."""
    usage = unknown(device_id)
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(device_id)
    except nvml.NVMLError:
        return usage
    for ask in (_percent, _memory, _celsius, _milliwatts):
        try:
            ask(nvml, handle, usage)
        except (nvml.NVMLError, AttributeError):
            continue
    return usage


def by_process(nvml: Any, usage: DeviceUsage) -> dict[int, OnDevice] | None:
    """By process id as this process sees it; None: NVML does not tell, or hides them. ``usage``: of that device."""
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(usage.device_id)
        held = {
            int(one.pid): UNKNOWN if one.usedGpuMemory is None else int(one.usedGpuMemory)
            for one in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        }
    except (nvml.NVMLError, AttributeError):
        return None
    if not held and usage.memory_bytes > UNSEEN_BYTES:
        return None
    busy = _busy(nvml, handle) if held else {}
    return {
        pid: OnDevice(memory, UNKNOWN if busy is None else busy.get(pid, 0)) for pid, memory in sorted(held.items())
    }


def _busy(nvml: Any, handle: Any) -> dict[int, int] | None:
    """Percent by process; those that did nothing are left out. None: not to be had, as of slices."""
    since_us = time.time_ns() // 1000 - SEEN_US
    try:
        samples = nvml.nvmlDeviceGetProcessUtilization(handle, since_us)
    except nvml.NVMLError as error:
        none_at_all = getattr(error, "value", None) == getattr(nvml, "NVML_ERROR_NOT_FOUND", 6)
        return {} if none_at_all else None
    except AttributeError:
        return None
    found: dict[int, tuple[int, int]] = {}
    for one in samples:
        found[int(one.pid)] = max(found.get(int(one.pid), (0, 0)), (int(one.timeStamp), int(one.smUtil)))
    return {pid: percent for pid, (_, percent) in found.items()}


def _percent(nvml: Any, handle: Any, usage: DeviceUsage) -> None:
    usage.percent = int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)


def _memory(nvml: Any, handle: Any, usage: DeviceUsage) -> None:
    try:
        found = nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)  # without what the driver keeps
    except (nvml.NVMLError, AttributeError):
        found = nvml.nvmlDeviceGetMemoryInfo(handle)
    usage.memory_bytes, usage.memory_total_bytes = int(found.used), int(found.total)


def _celsius(nvml: Any, handle: Any, usage: DeviceUsage) -> None:
    usage.celsius = int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))


def _milliwatts(nvml: Any, handle: Any, usage: DeviceUsage) -> None:
    usage.milliwatts = int(nvml.nvmlDeviceGetPowerUsage(handle))
