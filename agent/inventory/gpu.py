"""The GPUs of this machine: measured through NVML where its library loads, or declared.

Owns: ids, models, memory, capability, driver version, MIG slices, and where they stand: islands (devices joined by
NVLink), PCIe switches and NUMA nodes. The rule: a machine without a
driver has no GPUs and no error; one broken device does not hide the others. Declared GPUs have ids that no NVIDIA tool
knows (``fake-<node>-0``), so nothing can take them for real ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.contract.model import MAX_DEVICES, Device

MIB = 1024 * 1024
MAX_LINKS = 18
MAX_NUMBER = 1_000_000_000
"""What users number is below this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredGpus:
    """``count`` alike devices, all on one ``island`` (None: each declaration is an island of its own; ``each_alone``:
    each device is). ``mig``: they are slices of one GPU with this profile."""

    count: int
    model: str = "fake"
    memory_mib: int = 16 * 1024
    island: int | None = None
    each_alone: bool = False
    pcie: int = 0
    numa: int = 0
    compute_capability: str = ""
    driver_version: str = ""
    mig: str = ""


def declared(groups: tuple[DeclaredGpus, ...], node_name: str) -> tuple[Device, ...]:
    devices: list[Device] = []
    named = {group.island for group in groups if group.island is not None}
    for place, group in enumerate(groups):
        for _ in range(group.count):
            island = place if group.island is None else group.island
            if group.each_alone:
                # Numbers that no declaration uses: those of the others are below 10^9.
                island = MAX_NUMBER + len(devices)
            elif group.island is None and place in named:
                island = MAX_NUMBER - 1 - place
            devices.append(
                Device(
                    id=f"fake-{node_name}-{len(devices)}",
                    model=group.model,
                    memory_mib=group.memory_mib,
                    island=island,
                    numa=group.numa,
                    pcie=group.pcie,
                    compute_capability=group.compute_capability,
                    driver_version=group.driver_version,
                    mig=group.mig,
                    parent=f"fake-{node_name}-parent-{place}" if group.mig else "",
                )
            )
    return tuple(devices)


def has_driver() -> bool:
    """Whether this machine has NVIDIA's driver: tasks could use its GPUs, reported or not."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def load_nvml() -> Any | None:
    """The NVML binding, None where it or the driver's library is not installed: it would be 2 MiB for nothing."""
    if not has_driver():
        return None
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def measured(nvml: Any | None, pci_root: Path = Path("/sys/bus/pci/devices")) -> tuple[Device, ...]:
    """What NVML reports, in its order; empty without a binding or a driver. A GPU in MIG mode is its slices."""
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
        switches = [number + 1 for number in _joined(nvml, handles, "NVML_TOPOLOGY_MULTIPLE")]
        sockets = _joined(nvml, handles, "NVML_TOPOLOGY_NODE")
        driver = _driver_version(nvml)
        devices: list[Device] = []
        for place, handle in enumerate(handles):
            with contextlib.suppress(nvml.NVMLError):
                whole = Device(
                    id=text(nvml.nvmlDeviceGetUUID(handle)),
                    model=text(nvml.nvmlDeviceGetName(handle)),
                    memory_mib=int(nvml.nvmlDeviceGetMemoryInfo(handle).total) // MIB,
                    island=islands[place],
                    numa=_numa(nvml, handle, pci_root, sockets[place]),
                    pcie=switches[place],
                    compute_capability=_capability(nvml, handle),
                    driver_version=driver,
                )
                devices.extend(_slices(nvml, handle, whole) if _is_sliced(nvml, handle) else [whole])
        return tuple(devices[:MAX_DEVICES])
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _is_sliced(nvml: Any, handle: Any) -> bool:
    """Whether the GPU is in MIG mode now: then only its slices can be used."""
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except (nvml.NVMLError, AttributeError):
        return False
    return bool(current)


def _slices(nvml: Any, handle: Any, whole: Device) -> list[Device]:
    """The MIG slices of a GPU; they stand where it stands, and all of one GPU count as one island."""
    slices = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(nvml.NVMLError):
            mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            profile = text(nvml.nvmlDeviceGetName(mig)).lower().rpartition("mig ")[2].strip()
            slices.append(
                replace(
                    whole,
                    id=text(nvml.nvmlDeviceGetUUID(mig)),
                    memory_mib=int(nvml.nvmlDeviceGetMemoryInfo(mig).total) // MIB,
                    mig=profile,
                    parent=whole.id,
                )
            )
    return slices


def _capability(nvml: Any, handle: Any) -> str:
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except (nvml.NVMLError, AttributeError):
        return ""
    return f"{major}.{minor}"


def _driver_version(nvml: Any) -> str:
    try:
        return text(nvml.nvmlSystemGetDriverVersion())
    except (nvml.NVMLError, AttributeError):
        return ""


def _joined(nvml: Any, handles: list[Any], level: str) -> list[int]:
    """The number of each device's group: those whose nearest common ancestor is no farther than ``level``."""
    groups: list[int] = []
    for place, handle in enumerate(handles):
        number = len(set(groups))
        for other in range(place):
            with contextlib.suppress(nvml.NVMLError):
                if nvml.nvmlDeviceGetTopologyCommonAncestor(handles[other], handle) <= getattr(nvml, level):
                    number = groups[other]
                    break
        groups.append(number)
    return groups


def _islands(nvml: Any, handles: list[Any]) -> list[int]:
    """The number of each device's island: joined by NVLink, directly or through a switch."""
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
            places[text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower()] = place
    switched = -1
    for place, handle in enumerate(handles):
        for link in range(MAX_LINKS):
            try:
                if not nvml.nvmlDeviceGetNvLinkState(handle, link):
                    continue
                remote = text(nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId).lower()
            except nvml.NVMLError:
                continue
            if remote in places:
                join(place, places[remote])
            elif switched >= 0:
                join(place, switched)  # the far end is no GPU: a switch, which joins all that hang on it
            else:
                switched = place
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(place), len(numbers)) for place in range(len(handles))]


def _numa(nvml: Any, handle: Any, pci_root: Path, socket: int) -> int:
    """The NUMA node: as the kernel says, else as the driver does, else the group of those on one node by topology."""
    with contextlib.suppress(nvml.NVMLError, OSError, ValueError):
        domain, _, rest = text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower().partition(":")
        number = int((pci_root / f"{domain[-4:]}:{rest}" / "numa_node").read_text())
        if number >= 0:
            return number
    try:
        return max(0, int(nvml.nvmlDeviceGetNumaNodeId(handle)))
    except (nvml.NVMLError, AttributeError):
        return socket


def text(value: str | bytes) -> str:
    """What NVML says, which old bindings give as bytes."""
    return value.decode() if isinstance(value, bytes) else value
