"""What ``raftsman doctor`` says of this machine's GPUs: which there are, and whether containers can get them.

The rule: a machine without NVIDIA's driver is fine; one with it whose agents would find no GPU, or whose engine could
not hand one out, is told so before a job fails there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.ops.engine import Engine, EngineError
from orchestrator.ops.finding import Finding

CHECK = "gpus"
TIMEOUT_S = 3.0
KIND = "nvidia.com/gpu"
HOOK = "nvidia-container-runtime-hook"
"""Where it is installed, the engine answers ``--gpus`` without a runtime of its own."""


async def look() -> Finding:
    try:
        found = await asyncio.to_thread(_gpus)
    except _Unusable as error:
        return Finding(check=CHECK, level="warn", text=error.text, advice=error.advice)
    if not found:
        return Finding(check=CHECK, level="ok", text="none: NVIDIA's driver is not installed")
    ids, text = found
    async with Engine() as docker:
        try:
            info = await asyncio.wait_for(docker.info(), TIMEOUT_S)
        except (EngineError, TimeoutError):
            return Finding(check=CHECK, level="ok", text=f"{text}, for processes")
    return judge(ids, text, info, has_hook=shutil.which(HOOK) is not None)


def judge(ids: Sequence[str], text: str, info: Mapping[str, Any], *, has_hook: bool) -> Finding:
    """``info``: what the engine says of itself."""
    discovered = info.get("DiscoveredDevices")  # engines before 28.2 do not tell
    names = {str(one.get("ID")) for one in discovered or () if one.get("Source") == "cdi"}
    missing = [id_ for id_ in ids if f"{KIND}={id_}" not in names]
    if not missing:
        return Finding(check=CHECK, level="ok", text=f"{text}, for containers by CDI")
    if has_hook or "nvidia" in (info.get("Runtimes") or {}):
        return Finding(check=CHECK, level="ok", text=f"{text}, for containers by NVIDIA's container toolkit")
    if discovered is None and info.get("CDISpecDirs"):
        return Finding(check=CHECK, level="ok", text=f"{text}; the engine does not tell which of them CDI knows")
    some = f"; of {len(ids)} CDI knows {len(ids) - len(missing)} by their UUIDs" if names else ""
    return Finding(
        check=CHECK,
        level="warn",
        text=f"{text}, but the engine cannot give them to containers{some}",
        advice="install NVIDIA's container toolkit, then: nvidia-ctk cdi generate --device-name-strategy=uuid "
        "--output=/etc/cdi/nvidia.yaml (Docker 25 and newer), or: nvidia-ctk runtime configure, and restart Docker",
    )


class _Unusable(Exception):
    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.text, self.advice = text, advice


def _gpus() -> tuple[tuple[str, ...], str] | None:
    """UUIDs, and all of them in words; None without a driver. Raises ``_Unusable``."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        raise _Unusable(
            "NVIDIA's driver is here, but agents cannot ask it", "pip install nvidia-ml-py (part of raftsman[agent])"
        ) from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise _Unusable(f"NVIDIA's driver does not answer: {error}", "see what nvidia-smi says") from error
    try:
        driver, models, ids = nvml.nvmlSystemGetDriverVersion(), Counter[str](), []
        for place in range(nvml.nvmlDeviceGetCount()):
            with contextlib.suppress(nvml.NVMLError):
                handle = nvml.nvmlDeviceGetHandleByIndex(place)
                models[nvml.nvmlDeviceGetName(handle)] += 1
                ids.append(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError as error:
        raise _Unusable(f"NVIDIA's driver does not tell: {error}", "see what nvidia-smi says") from error
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
    if not ids:
        raise _Unusable(f"NVIDIA's driver {driver} finds no GPU", "see what nvidia-smi and dmesg say")
    return tuple(ids), f"{', '.join(f'{count} x {model}' for model, count in models.items())} (driver {driver})"
