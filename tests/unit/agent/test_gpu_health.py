"""Which GPUs an agent calls sick, with what NVML says in the course of time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agent.inventory import gpu_health
from agent.inventory.gpu_health import GpuHealth
from orchestrator.contract.model import Device

GPUS = (Device(id="GPU-0"), Device(id="GPU-1"))
SLICED = (Device(id="MIG-0a", parent="GPU-0"), Device(id="MIG-0b", parent="GPU-0"), Device(id="GPU-1"))


class NvmlError(Exception):
    pass


class SickNvml:
    """Two GPUs, and what a test says of them."""

    NVMLError = NvmlError
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC, NVML_FEATURE_ENABLED = 1, 0, 1
    nvmlEventTypeXidCriticalError = 8  # noqa: N815

    def __init__(self) -> None:
        self.driver = True
        self.lost: set[str] = set()
        self.xids: list[tuple[str, int]] = []
        self.ecc: dict[str, int] = {}
        self.rows = {"GPU-0": (0, 0, 0, 0), "GPU-1": (0, 0, 0, 0)}
        self.retiring: set[str] = set()
        self.sessions = 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise NvmlError("Driver Not Loaded")
        self.sessions += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.sessions -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if not self.driver:
            raise NvmlError("Driver Not Loaded")
        return 2

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid in self.lost:
            raise NvmlError("GPU is lost")
        return uuid

    def nvmlDeviceGetUUID(self, handle: str) -> bytes:  # noqa: N802
        return handle.encode()

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(total=1)

    def nvmlEventSetCreate(self) -> list[str]:  # noqa: N802
        return []

    def nvmlDeviceRegisterEvents(self, handle: str, kinds: int, events: list[str]) -> None:  # noqa: N802
        assert kinds == self.nvmlEventTypeXidCriticalError
        events.append(handle)

    def nvmlEventSetWait_v2(self, events: list[str], timeout_ms: int) -> Any:  # noqa: N802
        heard = next((one for one in self.xids if one[0] in events), None)
        if heard is None:
            raise NvmlError("Timeout")
        self.xids.remove(heard)
        return SimpleNamespace(device=heard[0], eventData=heard[1])

    def nvmlEventSetFree(self, events: list[str]) -> None:  # noqa: N802
        events.clear()

    def nvmlDeviceGetTotalEccErrors(self, handle: str, kind: int, counter: int) -> int:  # noqa: N802
        if handle not in self.ecc:
            raise NvmlError("Not Supported")
        return self.ecc[handle]

    def nvmlDeviceGetRemappedRows(self, handle: str) -> tuple[int, int, int, int]:  # noqa: N802
        return self.rows[handle]

    def nvmlDeviceGetRetiredPagesPendingStatus(self, handle: str) -> int:  # noqa: N802
        return int(handle in self.retiring)


def looked(health: GpuHealth) -> dict[str, str]:
    health.look()
    return dict(health.sick)


def test_an_xid_of_the_hardware_lasts_and_one_of_a_program_does_not_count() -> None:
    nvml = SickNvml()
    health = GpuHealth(nvml, GPUS)
    assert looked(health) == {}
    nvml.xids = [("GPU-0", 13), ("GPU-1", 31)]
    assert looked(health) == {}
    nvml.xids = [("GPU-0", 79), ("GPU-0", 74), ("GPU-1", 200)]
    expected = {"GPU-0": "XID 79 (it has fallen off the bus)", "GPU-1": "XID 200"}
    assert looked(health) == expected
    assert looked(health) == expected, "nothing says that it is mended"


def test_ecc_errors_count_from_when_the_agent_started() -> None:
    nvml = SickNvml()
    nvml.ecc = {"GPU-0": 7}
    health = GpuHealth(nvml, GPUS)
    assert looked(health) == {}, "some were there before, and the device was reset or not since: nobody knows"
    nvml.ecc["GPU-0"] = 9
    assert looked(health) == {"GPU-0": "2 uncorrectable ECC errors"}


@pytest.mark.parametrize(
    ("rows", "retiring", "why"),
    [
        ((1, 0, 0, 0), False, ""),
        ((1, 1, 1, 0), False, "rows of its memory wait to be remapped: reset it"),
        ((1, 1, 1, 1), False, "rows of its memory could not be remapped"),
        ((0, 0, 0, 0), True, "pages of its memory wait to be retired: reset it"),
    ],
)
def test_memory_that_cannot_be_used_as_it_is_makes_it_sick(
    rows: tuple[int, int, int, int], retiring: bool, why: str
) -> None:
    nvml = SickNvml()
    nvml.rows["GPU-1"] = rows
    nvml.retiring = {"GPU-1"} if retiring else set()
    assert looked(GpuHealth(nvml, GPUS)) == ({"GPU-1": why} if why else {})


def test_what_cannot_be_reached_is_well_again_once_it_can() -> None:
    nvml = SickNvml()
    health = GpuHealth(nvml, GPUS)
    nvml.lost = {"GPU-1"}
    assert looked(health) == {"GPU-1": "NVML cannot reach it: GPU is lost"}
    nvml.lost = set()
    assert looked(health) == {}


def test_losing_the_driver_is_noticed_and_so_is_its_return_with_events() -> None:
    nvml = SickNvml()
    health = GpuHealth(nvml, GPUS)
    assert looked(health) == {}
    nvml.driver = False
    why = "NVML cannot reach it: Driver Not Loaded"
    assert looked(health) == {"GPU-0": why, "GPU-1": why}
    nvml.driver = True
    assert looked(health) == {}
    nvml.xids = [("GPU-0", 48)]
    assert looked(health) == {"GPU-0": "XID 48 (double bit ECC error)"}


def test_a_slice_of_a_sick_gpu_is_sick() -> None:
    nvml = SickNvml()
    health = GpuHealth(nvml, SLICED)
    nvml.lost = {"GPU-0"}
    assert set(looked(health)) == {"MIG-0a", "MIG-0b"}


def test_an_old_driver_that_knows_little_is_no_trouble() -> None:
    class Old(SickNvml):
        nvmlEventSetCreate = nvmlDeviceGetTotalEccErrors = property()  # noqa: N815
        nvmlDeviceGetRemappedRows = nvmlDeviceGetRetiredPagesPendingStatus = property()  # noqa: N815

    assert looked(GpuHealth(Old(), GPUS)) == {}


async def test_it_looks_until_it_is_cancelled_and_leaves_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_health, "LOOK_EVERY_S", 0.0)
    nvml = SickNvml()
    health = GpuHealth(nvml, GPUS)
    task = asyncio.get_running_loop().create_task(health.run())
    nvml.lost = {"GPU-0"}
    async with asyncio.timeout(10):
        while not health.sick:
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nvml.sessions == 0
