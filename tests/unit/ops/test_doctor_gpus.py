"""What doctor says of GPUs: none is fine, and what would fail later is said now."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.ops import doctor_gpus
from orchestrator.ops.engine import EngineError

IDS = ("GPU-1", "GPU-2")


class NvmlError(Exception):
    pass


def nvml(count: int = 2, *, dead: bool = False) -> Any:
    def init() -> None:
        if dead:
            raise NvmlError("Driver/library version mismatch")

    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=init,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda place: place,
        nvmlDeviceGetName=lambda _place: "H100",
        nvmlDeviceGetUUID=lambda place: IDS[place],
    )


class NoEngine:
    async def __aenter__(self) -> NoEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def info(self) -> dict[str, Any]:
        raise EngineError("no engine")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """With the driver, and this binding of it (None: none is installed)."""

    def have(binding: Any) -> None:
        def load(_name: str) -> Any:
            if binding is None:
                raise ImportError
            return binding

        monkeypatch.setattr(ctypes, "CDLL", lambda _name: None)
        monkeypatch.setattr(importlib, "import_module", load)
        monkeypatch.setattr(doctor_gpus, "Engine", NoEngine)

    return have


async def test_no_driver_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", missing)
    found = await doctor_gpus.look()
    assert (found.level, found.text) == ("ok", "none: NVIDIA's driver is not installed")


async def test_gpus_are_counted_by_model_and_are_for_processes_without_an_engine(
    machine: Callable[[Any], None],
) -> None:
    machine(nvml())
    found = await doctor_gpus.look()
    assert (found.level, found.text) == ("ok", "2 x H100 (driver 580.1), for processes")


@pytest.mark.parametrize(
    ("binding", "text", "advice"),
    [
        (None, "agents cannot ask it", "pip install nvidia-ml-py"),
        (nvml(dead=True), "does not answer: Driver/library version mismatch", "nvidia-smi"),
        (nvml(0), "driver 580.1 finds no GPU", "dmesg"),
    ],
)
async def test_a_driver_that_is_of_no_use_is_a_warning(
    machine: Callable[[Any], None], binding: Any, text: str, advice: str
) -> None:
    machine(binding)
    found = await doctor_gpus.look()
    assert found.level == "warn"
    assert text in found.text
    assert advice in found.advice


def cdi(*ids: str) -> dict[str, Any]:
    found = [{"Source": "cdi", "ID": f"nvidia.com/gpu={id_}"} for id_ in ids]
    return {"DiscoveredDevices": found, "CDISpecDirs": ["/etc/cdi"]}


@pytest.mark.parametrize(
    ("info", "has_hook", "level", "text"),
    [
        (cdi(*IDS), False, "ok", "by CDI"),
        (cdi("GPU-1"), False, "warn", "cannot give them to containers; of 2 CDI knows 1 by their UUIDs"),
        (cdi("0", "1", "all"), False, "warn", "of 2 CDI knows 0 by their UUIDs"),
        (cdi("GPU-1"), True, "ok", "container toolkit"),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, False, "ok", "container toolkit"),
        ({"Runtimes": {"runc": {}}, "DiscoveredDevices": None}, False, "warn", "cannot give them to containers"),
        ({"CDISpecDirs": ["/etc/cdi"]}, False, "ok", "does not tell"),
    ],
)
def test_whether_containers_can_get_them(info: dict[str, Any], has_hook: bool, level: str, text: str) -> None:
    found = doctor_gpus.judge(IDS, "2 x H100", info, has_hook=has_hook)
    assert found.level == level
    assert text in found.text
    assert ("nvidia-ctk" in found.advice) == (level == "warn")
