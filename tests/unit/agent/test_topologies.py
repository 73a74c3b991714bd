"""Whole machines as NVML reports them, from its answers to the devices that a job gets there.

Written down by hand after what ``nvidia-smi topo -m`` shows of such machines: a DGX (eight on NVSwitches), a server
without NVLink, and one with a bridged pair, a sliced GPU and one that stands alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from agent.inventory import gpu
from orchestrator.contract.devices import mismatch
from orchestrator.contract.model import WHOLE_DEVICE, Device, DeviceRequest, Link
from orchestrator.scheduling.device_sets import best_set

SWITCHES = tuple(f"0000:{number:02x}:00.0" for number in range(0xC0, 0xC6))
"""NVSwitches, which are no GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A GPU in its slot. ``nvlinks``: what is at the far end of each; ``slices``: (name, MiB) in MIG mode."""

    model: str
    mib: int
    capability: tuple[int, int]
    pcie: int
    socket: int
    nvlinks: tuple[str, ...] = ()
    slices: tuple[tuple[str, int], ...] = ()


class NvmlError(Exception):
    pass


class Nvml:
    """NVML of a machine: GPUs are their places, slices (place, number)."""

    NVMLError = NvmlError
    NVML_TOPOLOGY_SINGLE, NVML_TOPOLOGY_MULTIPLE, NVML_TOPOLOGY_NODE, NVML_TOPOLOGY_SYSTEM = 10, 20, 40, 50

    def __init__(self, boards: tuple[Board, ...]) -> None:
        self._boards = boards

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "550.54.15"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle: Any) -> str:  # noqa: N802
        return f"GPU-{handle}" if isinstance(handle, int) else f"MIG-{handle[0]}-{handle[1]}"

    def nvmlDeviceGetName(self, handle: Any) -> str:  # noqa: N802
        return self._boards[handle].model if isinstance(handle, int) else self._slice(handle)[0]

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        mib = self._boards[handle].mib if isinstance(handle, int) else self._slice(handle)[1]
        return SimpleNamespace(total=mib * 1024 * 1024)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        return self._boards[handle].capability

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(busId=f"00000000:{0x10 + handle:02X}:00.0")

    def nvmlDeviceGetMigMode(self, handle: int) -> tuple[int, int]:  # noqa: N802
        return (int(bool(self._boards[handle].slices)),) * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: int) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, index: int) -> tuple[int, int]:  # noqa: N802
        if index >= len(self._boards[handle].slices):
            raise NvmlError("Not Found")
        return handle, index

    def nvmlDeviceGetNumaNodeId(self, handle: int) -> int:  # noqa: N802
        raise NvmlError("Not Supported")  # by most drivers; the topology says it

    def nvmlDeviceGetNvLinkState(self, handle: int, link: int) -> int:  # noqa: N802
        if link >= len(self._boards[handle].nvlinks):
            raise NvmlError("Not Supported")
        return 1

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: int, link: int) -> Any:  # noqa: N802
        return SimpleNamespace(busId=self._boards[handle].nvlinks[link])

    def nvmlDeviceGetTopologyCommonAncestor(self, one: int, other: int) -> int:  # noqa: N802
        left, right = self._boards[one], self._boards[other]
        if left.pcie == right.pcie:
            return self.NVML_TOPOLOGY_SINGLE
        return self.NVML_TOPOLOGY_NODE if left.socket == right.socket else self.NVML_TOPOLOGY_SYSTEM

    def _slice(self, handle: tuple[int, int]) -> tuple[str, int]:
        return self._boards[handle[0]].slices[handle[1]]


def dgx() -> Nvml:
    """Eight H100 on NVSwitches, pairs below PCIe switches, four below each CPU."""
    links = tuple(SWITCHES[number % 6] for number in range(18))
    return Nvml(
        tuple(
            Board(
                model="NVIDIA H100 80GB HBM3",
                mib=81_559,
                capability=(9, 0),
                pcie=at // 2,
                socket=at // 4,
                nvlinks=links,
            )
            for at in range(8)
        )
    )


def pcie_only() -> Nvml:
    """Eight L4 without NVLink: four below each CPU, pairs below a switch, numbered as their slots are: not in a row."""
    return Nvml(
        tuple(Board(model="NVIDIA L4", mib=23_034, capability=(8, 9), pcie=at % 4, socket=at % 2) for at in range(8))
    )


def mixed() -> Nvml:
    """Two A100 with a bridge between the CPUs, a third in slices, and an L4."""
    a100 = {"model": "NVIDIA A100 80GB PCIe", "mib": 81_920, "capability": (8, 0)}
    slices = (("NVIDIA A100 80GB PCIe MIG 3g.40gb", 40_192), ("NVIDIA A100 80GB PCIe MIG 1g.10gb", 9_728))
    return Nvml(
        (
            Board(**a100, pcie=0, socket=0, nvlinks=("00000000:12:00.0",) * 12),  # type: ignore[arg-type]
            Board(**a100, pcie=0, socket=0, slices=slices),  # type: ignore[arg-type]
            Board(**a100, pcie=1, socket=1, nvlinks=("00000000:10:00.0",) * 12),  # type: ignore[arg-type]
            Board(model="NVIDIA L4", mib=23_034, capability=(8, 9), pcie=1, socket=1),
        )
    )


def circles(devices: tuple[Device, ...]) -> list[tuple[int, int, int]]:
    return [(one.island, one.pcie, one.numa) for one in devices]


def chosen(devices: tuple[Device, ...], count: int, *, busy: tuple[int, ...] = (), **more: Any) -> list[str] | None:
    """The ids of the devices that a job of ``count`` gets where all but ``busy`` are free."""
    wanted = DeviceRequest(count=count, **more)
    free = [0 if at in busy else WHOLE_DEVICE for at in range(len(devices))]
    usable = [at for at, one in enumerate(devices) if free[at] and not mismatch(one, wanted)]
    found = best_set(devices, free, usable, wanted)
    return None if found is None else [devices[number].id for number in found.numbers]


@pytest.fixture
def nowhere(tmp_path: Any) -> Any:
    """No kernel that knows better."""
    return tmp_path


def test_a_dgx_is_one_island_of_eight(nowhere: Any) -> None:
    devices = gpu.measured(dgx(), nowhere)
    assert circles(devices) == [(0, at // 2 + 1, at // 4) for at in range(8)]
    assert {(one.model, one.memory_mib, one.compute_capability) for one in devices} == {
        ("NVIDIA H100 80GB HBM3", 81_559, "9.0")
    }
    assert chosen(devices, 8, link=Link.ISLAND) == [f"GPU-{at}" for at in range(8)]
    assert chosen(devices, 2, busy=(0, 2)) == ["GPU-3", "GPU-4"]  # all are as near: neighbours by number


def test_without_nvlink_every_gpu_is_an_island_and_the_switches_count(nowhere: Any) -> None:
    devices = gpu.measured(pcie_only(), nowhere)
    assert circles(devices) == [(at, at % 4 + 1, at % 2) for at in range(8)]
    assert chosen(devices, 2) == ["GPU-0", "GPU-4"]  # below one switch, and not the first two
    assert chosen(devices, 4) == ["GPU-0", "GPU-2", "GPU-4", "GPU-6"]  # below one CPU
    assert chosen(devices, 2, link=Link.ISLAND) is None
    assert chosen(devices, 5, link=Link.NUMA) is None


def test_a_bridge_joins_two_of_a_mixed_machine_and_slices_are_for_whom_asks_for_them(nowhere: Any) -> None:
    devices = gpu.measured(mixed(), nowhere)
    assert [one.id for one in devices] == ["GPU-0", "MIG-1-0", "MIG-1-1", "GPU-2", "GPU-3"]
    assert circles(devices) == [(0, 1, 0), (1, 1, 0), (1, 1, 0), (0, 2, 1), (2, 2, 1)]
    assert [(one.mig, one.parent) for one in devices[1:3]] == [("3g.40gb", "GPU-1"), ("1g.10gb", "GPU-1")]
    assert chosen(devices, 2) == ["GPU-0", "GPU-2"]  # the bridge, and not the two below one CPU
    assert chosen(devices, 2, link=Link.ISLAND, busy=(0,)) is None
    assert chosen(devices, 1, mig="1g.10gb") == ["MIG-1-1"]
