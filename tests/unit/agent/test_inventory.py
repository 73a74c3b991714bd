"""What a machine has to give: cgroup limits, declared GPUs, and a recorded NVML."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from agent.config import parse_gpu
from agent.inventory import gpu, machine
from agent.inventory.gpu import DeclaredGpus
from orchestrator.contract.devices import is_real
from orchestrator.contract.model import Device


class NvmlError(Exception):
    pass


class RecordedNvml:
    """Four GPUs as a driver reports them: 0 and 1 joined by NVLink, 2 and 3 by ``links`` or by their PCIe switch."""

    NVMLError = NvmlError
    NVML_TOPOLOGY_MULTIPLE = 20
    NVML_TOPOLOGY_NODE = 40

    def __init__(
        self,
        *,
        links: dict[int, list[str]] | None = None,
        switches: tuple[set[int], ...] = (),
        broken: int = -1,
        no_driver: bool = False,
        sliced: tuple[int, ...] = (),
    ) -> None:
        self.links = links or {}
        self.switches = switches
        self.broken = broken
        self.no_driver = no_driver
        self.shut_down = False
        self.sliced = sliced

    def nvmlInit(self) -> None:  # noqa: N802
        if self.no_driver:
            raise NvmlError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.shut_down = True

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 4

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index == self.broken:
            raise NvmlError("GPU is lost")
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}" if handle < 100 else f"MIG-{handle}"

    def nvmlDeviceGetName(self, handle: int) -> bytes:  # noqa: N802
        return b"NVIDIA H100 80GB HBM3" if handle < 100 else b"NVIDIA H100 80GB HBM3 MIG 1g.10gb"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(total=85_520_809_984 if handle < 100 else 10_468_982_784)

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "535.104.05"

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        if handle == 3:
            raise NvmlError("Not Supported")
        return 9, 0

    def nvmlDeviceGetMigMode(self, handle: int) -> tuple[int, int]:  # noqa: N802
        return int(handle in self.sliced), 1  # pending everywhere, in force on some

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: int) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, index: int) -> int:  # noqa: N802
        if index not in (0, 2):
            raise NvmlError("Not Found")
        return 100 + 10 * handle + index

    def nvmlDeviceGetNumaNodeId(self, handle: int) -> int:  # noqa: N802
        return handle // 2

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(busId=f"0000:0{handle}:00.0")

    def nvmlDeviceGetNvLinkState(self, handle: int, link: int) -> int:  # noqa: N802
        if link >= len(self.links.get(handle, [])):
            raise NvmlError("Not Supported")
        return 1

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: int, link: int) -> Any:  # noqa: N802
        return SimpleNamespace(busId=self.links[handle][link])

    def nvmlDeviceGetTopologyCommonAncestor(self, one: int, other: int) -> int:  # noqa: N802
        return 10 if any({one, other} <= group for group in self.switches) else 40


def islands(nvml: RecordedNvml) -> list[int]:
    return [device.island for device in gpu.measured(nvml)]


def test_nvml_gives_uuid_model_memory_and_numa() -> None:
    nvml = RecordedNvml()
    first, *_, last = gpu.measured(nvml)
    assert (first.id, first.model, first.memory_mib, first.numa) == ("GPU-0", "NVIDIA H100 80GB HBM3", 81_559, 0)
    assert last.numa == 1
    assert nvml.shut_down


def test_devices_joined_by_nvlink_are_one_island() -> None:
    links = {0: ["0000:01:00.0"], 1: ["0000:00:00.0"]}
    assert islands(RecordedNvml(links=links)) == [0, 0, 1, 2]


def test_devices_on_one_nvswitch_are_one_island() -> None:
    assert islands(RecordedNvml(links={n: ["0000:99:00.0"] * 2 for n in range(4)})) == [0, 0, 0, 0]


def test_a_pcie_switch_is_a_circle_of_its_own_and_no_island() -> None:
    nvml = RecordedNvml(switches=({0, 1}, {2, 3}))
    assert islands(nvml) == [0, 1, 2, 3]
    assert [device.pcie for device in gpu.measured(nvml)] == [1, 1, 2, 2]
    assert [device.pcie for device in gpu.measured(RecordedNvml())] == [1, 2, 3, 4]


def test_capability_and_driver_are_reported_where_they_are_known() -> None:
    first, *_, last = gpu.measured(RecordedNvml())
    assert (first.compute_capability, first.driver_version) == ("9.0", "535.104.05")
    assert (last.compute_capability, last.driver_version) == ("", "535.104.05")


def test_a_gpu_in_mig_mode_is_its_slices() -> None:
    devices = gpu.measured(RecordedNvml(sliced=(1,)))
    assert [device.id for device in devices] == ["GPU-0", "MIG-110", "MIG-112", "GPU-2", "GPU-3"]
    one = devices[1]
    assert (one.mig, one.parent, one.memory_mib, one.island, one.numa) == ("1g.10gb", "GPU-1", 9984, 1, 0)
    assert all(is_real(device.id) for device in devices)


def test_the_kernel_knows_the_numa_node_better(tmp_path: Path) -> None:
    for handle, node in ((0, "1"), (1, "-1")):
        place = tmp_path / f"0000:0{handle}:00.0"
        place.mkdir()
        (place / "numa_node").write_text(f"{node}\n")
    assert [device.numa for device in gpu.measured(RecordedNvml(), tmp_path)] == [1, 0, 1, 1]


def test_one_lost_device_does_not_hide_the_others() -> None:
    assert [device.id for device in gpu.measured(RecordedNvml(broken=1))] == ["GPU-0", "GPU-2", "GPU-3"]


def test_no_driver_and_no_binding_mean_no_devices() -> None:
    assert gpu.measured(RecordedNvml(no_driver=True)) == ()
    assert gpu.measured(None) == ()


def test_declared_devices_have_ids_that_no_engine_is_asked_for() -> None:
    groups = (DeclaredGpus(count=2, model="A100", memory_mib=40_960), DeclaredGpus(count=1, model="T4"))
    devices = gpu.declared(groups, "n1")
    assert [device.id for device in devices] == ["fake-n1-0", "fake-n1-1", "fake-n1-2"]
    assert [device.island for device in devices] == [0, 0, 1]
    assert not any(is_real(device.id) for device in devices)
    assert is_real("GPU-0") and is_real("MIG-0")


def test_declared_devices_can_say_all_that_measured_ones_do() -> None:
    settings = parse_gpu("count=2,model=A100,memory=40Gi,island=each,pcie=3,numa=1,capability=8.0,driver=535.1")
    slices = parse_gpu("count=2,mig=1g.5gb,memory=5Gi")
    devices = gpu.declared((settings, slices), "n")
    assert devices[0] == Device(
        id="fake-n-0",
        model="A100",
        memory_mib=40_960,
        island=1_000_000_000,
        numa=1,
        pcie=3,
        compute_capability="8.0",
        driver_version="535.1",
    )
    assert devices[1].island != devices[0].island
    assert {(device.mig, device.parent, device.island) for device in devices[2:]} == {("1g.5gb", "fake-n-parent-1", 1)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("count=0", "1 to 64"),
        ("colour=red", "expected one of count=, model="),
        ("pcie=x", "pcie='x'; expected a number"),
        ("capability=new", "a version such as 8.0"),
        ("mig=big", "a MIG profile such as 1g.10gb"),
    ],
)
def test_a_mistaken_declaration_names_key_and_example(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        parse_gpu(text)


# ---------------------------------------------------------------------------- cpu, memory, disk


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "cpu", "memory"),
    [
        ("0::/pod/task\n", {"pod/cpu.max": "50000 100000", "pod/task/memory.max": "536870912"}, 450, 461),
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "268435456"}, None, 231),
        (
            "4:memory:/box\n3:cpu,cpuacct:/box\n0::/\n",
            {
                "memory/box/memory.limit_in_bytes": "1073741824",
                "cpu,cpuacct/box/cpu.cfs_quota_us": "25000",
                "cpu,cpuacct/box/cpu.cfs_period_us": "100000",
            },
            225,
            922,
        ),
        (
            "4:memory:/\n3:cpu:/\n",
            {"memory/memory.limit_in_bytes": "9223372036854771712", "cpu/cpu.cfs_quota_us": "-1"},
            None,
            None,
        ),
    ],
    ids=["v2 in a parent", "v2 at the root", "v1", "v1 unlimited"],
)
def test_the_lower_of_machine_and_cgroup_counts_less_a_tenth(
    tmp_path: Path, cgroup: str, files: dict[str, str], cpu: int | None, memory: int | None
) -> None:
    root = lay_out(tmp_path / "cgroup", files)
    mine = tmp_path / "self"
    mine.write_text(cgroup)
    total = psutil.virtual_memory().total // (1 << 20)
    whole_memory = total - total // 10
    assert machine.memory_mib(root, mine) == (memory if memory is not None else whole_memory)
    whole_cpu = machine.cpu_millis(tmp_path / "none", tmp_path / "none")
    assert machine.cpu_millis(root, mine) == (cpu if cpu is not None else whole_cpu)


def test_a_tenth_of_the_disk_stays_free(tmp_path: Path) -> None:
    free = psutil.disk_usage(str(tmp_path)).free // (1 << 20)
    assert 0 < machine.disk_mib(tmp_path) <= free
