"""``GpuHealth``: which GPUs of this machine are sick, and why.

Owns: looking (NVML's events and counters), what counts as sick, when a device is well again. Leaves to others: telling
the control plane (a registration that says it), keeping work off such a device (``state``, ``scheduling``). The rules:

- A device is sick after an XID that speaks of its hardware or driver (those that a program causes are not counted: the
  list is that of NVIDIA's own device plugin for Kubernetes), when uncorrectable ECC errors were counted while we
  looked, when rows cannot be remapped or wait for a reset, and while NVML cannot reach it.
- What NVML could not reach is well again as soon as it can. All else lasts until the agent is started again, since
  only a reset or another driver mends it, and the counters forget.
- What runs goes on: a task may still finish on such a device, and ends by itself if it cannot.
- A slice of a sick GPU is sick.

Sources: NVML API reference (events, ECC, row remapping, page retirement); NVIDIA "XID Errors".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import structlog

from agent.inventory.gpu import text
from orchestrator.contract.model import Device, StrMap, str_map

LOOK_EVERY_S = 5.0
OF_PROGRAMS = frozenset({13, 31, 43, 45, 68, 109})
"""XIDs that a program causes: an exception in its kernel, its page fault, its end, its video decoder, its time-out."""
KNOWN = {
    48: "double bit ECC error", 62: "internal micro-controller halt", 63: "memory rows or pages remapped",
    64: "memory rows or pages could not be remapped", 74: "NVLink error", 79: "it has fallen off the bus",
    92: "high rate of single bit ECC errors", 94: "contained ECC error", 95: "uncontained ECC error",
    119: "GSP did not answer", 120: "GSP error",
}  # fmt: skip
UNREACHABLE = "NVML cannot reach it: "

log = structlog.get_logger("agent.gpu")


class GpuHealth:
    """Of ``devices``, as they were measured. ``sick``: reason by device id, sorted, as of the last look."""

    def __init__(self, nvml: Any, devices: Iterable[Device]) -> None:
        self._nvml = nvml
        self._slices: dict[str, list[str]] = {}
        for device in devices:
            self._slices.setdefault(device.parent or device.id, []).append(device.id)
        self._lasting: dict[str, str] = {}  # by GPU
        self._passing: dict[str, str] = {}
        self._errors: dict[str, int] = {}  # uncorrectable ones when we first looked
        self._events: Any = None
        self._ready = False
        self.sick: StrMap = ()

    async def run(self) -> None:
        """Look again and again, in a thread, until cancelled."""
        try:
            while True:
                await asyncio.to_thread(self.look)
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self.close()

    def look(self) -> None:
        nvml = self._nvml
        self._passing = {}
        try:
            self._begin()
        except nvml.NVMLError as error:
            self._ready = False
            self._passing = dict.fromkeys(self._slices, f"{UNREACHABLE}{error}")
        else:
            self._listen()
            for gpu in self._slices:
                self._judge(gpu)
        found = self._lasting | self._passing
        now = str_map({device: why for gpu, why in found.items() for device in self._slices[gpu]})
        for device, why in sorted(set(now) - set(self.sick)):
            log.error("gpu_sick", device=device, reason=why)
        for device in sorted({device for device, _ in self.sick} - {device for device, _ in now}):
            log.info("gpu_well", device=device)
        self.sick = now

    def close(self) -> None:
        if self._ready:
            self._ready = False
            with contextlib.suppress(self._nvml.NVMLError):
                if self._events is not None:
                    self._nvml.nvmlEventSetFree(self._events)
                self._nvml.nvmlShutdown()

    def _begin(self) -> None:
        """Connect to the driver, once, and again after it was lost; ask for XIDs."""
        nvml = self._nvml
        if self._ready:
            nvml.nvmlDeviceGetCount()  # raises where the driver is gone
            return
        nvml.nvmlInit()
        self._ready = True
        self._events = None
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            self._events = nvml.nvmlEventSetCreate()
            for gpu in self._slices:
                with contextlib.suppress(nvml.NVMLError):
                    handle = nvml.nvmlDeviceGetHandleByUUID(gpu)
                    nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)

    def _listen(self) -> None:
        """The XIDs since the last look."""
        nvml = self._nvml
        while self._events is not None:
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
                gpu = text(nvml.nvmlDeviceGetUUID(event.device))
            except nvml.NVMLError:
                return  # none is left (time-out)
            xid = int(event.eventData)
            log.warning("gpu_xid", device=gpu, xid=xid, meaning=KNOWN.get(xid, ""))
            if xid not in OF_PROGRAMS and gpu in self._slices:
                meaning = f" ({KNOWN[xid]})" if xid in KNOWN else ""
                self._lasting.setdefault(gpu, f"XID {xid}{meaning}")

    def _judge(self, gpu: str) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(gpu)
            nvml.nvmlDeviceGetMemoryInfo(handle)
        except nvml.NVMLError as error:
            self._passing[gpu] = f"{UNREACHABLE}{error}"
            return
        why = self._ecc(gpu, handle) or self._memory(handle)
        if why:
            self._lasting.setdefault(gpu, why)

    def _ecc(self, gpu: str, handle: Any) -> str:
        nvml = self._nvml
        try:
            count = int(
                nvml.nvmlDeviceGetTotalEccErrors(
                    handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
                )
            )
        except (nvml.NVMLError, AttributeError):
            return ""  # it has no ECC, or it is off
        more = count - self._errors.setdefault(gpu, count)
        return f"{more} uncorrectable ECC errors" if more > 0 else ""

    def _memory(self, handle: Any) -> str:
        nvml = self._nvml
        with contextlib.suppress(nvml.NVMLError, AttributeError, ValueError):
            _, _, pending, failed = nvml.nvmlDeviceGetRemappedRows(handle)
            if failed:
                return "rows of its memory could not be remapped"
            if pending:
                return "rows of its memory wait to be remapped: reset it"
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            if nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle) == nvml.NVML_FEATURE_ENABLED:
                return "pages of its memory wait to be retired: reset it"
        return ""
