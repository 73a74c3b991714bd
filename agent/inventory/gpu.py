"""The GPUs of this machine: measured through NVML where its library loads, or declared.

Owns: ids, models, memory, islands (devices joined by the fastest link) and NUMA nodes. The rule: a machine without a
driver has no GPUs and no error; one broken device does not hide the others. Declared GPUs have ids that no NVIDIA tool
knows (``fake-<node>-0``), so nothing can take them for real ones.
"""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.model import MAX_DEVICES, Device

MIB = 1024 * 1024
MAX_LINKS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredGpus:
    """``count`` alike devices, all on one ``island`` (None: each declaration is an island of its own)."""

    count: int
    model: str = "fake"
    memory_mib: int = 16 * 1024
    island: int | None = None


def declared(groups: tuple[DeclaredGpus, ...], node_name: str) -> tuple[Device, ...]:
    devices: list[Device] = []
    for place, group in enumerate(groups):
        for _ in range(group.count):
            devices.append(
                Device(
                    id=f"fake-{node_name}-{len(devices)}",
                    model=group.model,
                    memory_mib=group.memory_mib,
                    island=place if group.island is None else group.island,
                )
            )
    return tuple(devices)


def is_real(device_id: str) -> bool:
    """Whether the id is NVIDIA's (a container engine can be asked for it) rather than a declared one's."""
    return device_id.startswith(("GPU-", "MIG-"))


def load_nvml() -> Any | None:
    """The NVML binding, None where it is not installed."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def measured(nvml: Any | None) -> tuple[Device, ...]:
    """What NVML reports, in its order; empty where there is no binding or no driver."""
    if nvml is None:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        handles = []
        for index in range(min(MAX_DEVICES, nvml.nvmlDeviceGetCount())):
            with contextlib.suppress(nvml.NVMLError):
                handles.append(nvml.nvmlDeviceGetHandleByIndex(index))
        islands = _islands(nvml, handles)
        devices = []
        for place, handle in enumerate(handles):
            with contextlib.suppress(nvml.NVMLError):
                devices.append(
                    Device(
                        id=_text(nvml.nvmlDeviceGetUUID(handle)),
                        model=_text(nvml.nvmlDeviceGetName(handle)),
                        memory_mib=int(nvml.nvmlDeviceGetMemoryInfo(handle).total) // MIB,
                        island=islands[place],
                        numa=_numa(nvml, handle),
                    )
                )
        return tuple(devices)
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _islands(nvml: Any, handles: list[Any]) -> list[int]:
    """The number of each device's island: joined by NVLink (directly or through a switch), else by a PCIe switch."""
    parent = list(range(len(handles)))

    def root(place: int) -> int:
        while parent[place] != place:
            place = parent[place]
        return place

    def join(one: int, other: int) -> None:
        first, second = sorted((root(one), root(other)))
        parent[second] = first

    places = {}
    for place, handle in enumerate(handles):
        with contextlib.suppress(nvml.NVMLError):
            places[_text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower()] = place
    switched = -1
    linked = False
    for place, handle in enumerate(handles):
        for link in range(MAX_LINKS):
            try:
                if not nvml.nvmlDeviceGetNvLinkState(handle, link):
                    continue
                linked = True
                remote = _text(nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId).lower()
            except nvml.NVMLError:
                continue
            if remote in places:
                join(place, places[remote])
            elif switched >= 0:
                join(place, switched)  # the far end is no GPU: a switch, which joins all that hang on it
            else:
                switched = place
    if not linked:
        for one in range(len(handles)):
            for other in range(one + 1, len(handles)):
                with contextlib.suppress(nvml.NVMLError):
                    level = nvml.nvmlDeviceGetTopologyCommonAncestor(handles[one], handles[other])
                    if level <= nvml.NVML_TOPOLOGY_MULTIPLE:
                        join(one, other)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(place), len(numbers)) for place in range(len(handles))]


def _numa(nvml: Any, handle: Any) -> int:
    try:
        return max(0, int(nvml.nvmlDeviceGetNumaNodeId(handle)))
    except (nvml.NVMLError, AttributeError):
        return 0


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
