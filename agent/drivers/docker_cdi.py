"""Which devices the engine can put into containers by CDI, and how it is asked for them.

Owns: the choice between CDI (the Container Device Interface, https://github.com/cncf-tags/container-device-interface,
which Docker knows from version 25 on) and the older request that NVIDIA's container toolkit answers; the names of CDI
devices. Leaves to others: which devices a task was granted. The rule: CDI when the engine can find every device of the
task by its id, else the toolkit; nothing is remembered, for specifications come and go with drivers. Everything here
blocks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker.types

KIND = "nvidia.com/gpu"
"""What `nvidia-ctk cdi generate` calls its devices; their names are indexes, UUIDs, or both."""
_ENDINGS = (".json", ".yaml", ".yml")
_MOST_BYTES = 4 << 20


def request(ids: Sequence[str], info: Mapping[str, Any]) -> docker.types.DeviceRequest:
    """For ``HostConfig``. ``ids``: UUIDs of GPUs or MIG slices; ``info``: what the engine says of itself."""
    names = [f"{KIND}={id_}" for id_ in ids]
    if set(names) <= _injectable(info):
        return docker.types.DeviceRequest(driver="cdi", device_ids=names)
    return docker.types.DeviceRequest(device_ids=list(ids), capabilities=[["gpu"]])


def _injectable(info: Mapping[str, Any]) -> set[str]:
    """Full names. Engines before 28.2 tell just where they look; then it is read there, if this agent can."""
    directories = info.get("CDISpecDirs") or ()  # empty where CDI is switched off
    if not directories:
        return set()
    discovered = info.get("DiscoveredDevices")
    if discovered is not None:
        return {str(one.get("ID")) for one in discovered if one.get("Source") == "cdi"}
    return {name for directory in directories for name in _specified(Path(directory))}


def _specified(directory: Path) -> Iterator[str]:
    """The engine passes over a file that it cannot read, and so does this."""
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix in _ENDINGS)
    except OSError:
        return
    for path in files:
        spec = _load(path)
        if not isinstance(spec, dict) or spec.get("kind") != KIND:
            continue
        devices = spec.get("devices")
        for device in devices if isinstance(devices, list) else ():
            if isinstance(device, dict):
                yield f"{KIND}={device.get('name')}"


def _load(path: Path) -> Any:
    """None: nothing that could be read."""
    import yaml  # only nodes with GPUs need it

    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)
        return json.loads(data) if path.suffix == ".json" else yaml.safe_load(data)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
