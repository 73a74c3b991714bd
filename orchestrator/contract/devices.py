"""What a request for devices means: which device it may have, which of them may go together.

Owns: version conditions of devices (``>= 8.0``), matching one device, the link requirement. Leaves to others:
comparing versions (``versions``), what is free, which set is best (``scheduling.devices``). The rule: what a device
does not say does not satisfy a condition on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from orchestrator.contract import versions
from orchestrator.contract.model import Device, DeviceRequest, Link

_CONDITION = re.compile(r"(>=|<=|==|=|!=|>|<)?\s*([0-9]{1,9}(?:\.[0-9]{1,9}){0,3})")
MIG_PROFILE = re.compile(r"[1-9][0-9]?g\.[1-9][0-9]{0,3}gb(\+[a-z0-9.]{1,16})?")

UNKNOWN_NUMA = -1
_REAL = ("GPU-", "MIG-")


def is_real(device_id: str) -> bool:
    """Whether the id is NVIDIA's, by which the device is the only one in the world, rather than a declared one's."""
    return device_id.startswith(_REAL)


def is_condition(text: str) -> bool:
    """Whether it is one, such as ``>= 8.0, < 9``; a bare version means that or newer."""
    return all(_CONDITION.fullmatch(part.strip()) for part in text.split(","))


def canonical(text: str) -> str:
    """A condition as it is stored: one blank after each operator. What is no condition stays as it is."""
    if not is_condition(text):
        return text
    parts = []
    for part in text.split(","):
        match = _CONDITION.fullmatch(part.strip())
        assert match is not None, "is_condition() has matched it"
        parts.append(f"{'=' if match[1] == '==' else match[1] or '>='} {match[2]}")
    return ", ".join(parts)


@lru_cache(maxsize=4096)
def version_satisfies(text: str, version: str) -> bool:
    """Whether a version (``8.0``, ``535.104.05``; "" = unknown) satisfies every condition; "" is no condition."""
    if not text:
        return True
    return is_condition(text) and all(versions.holds(part, version) for part in canonical(text).split(","))


def mismatch(device: Device, request: DeviceRequest) -> str:
    """The first thing that keeps a device from ever serving a request: ``mig``, ``model``, ``memory``, ``capability``
    or ``driver``; "" = it may."""
    if device.mig != request.mig:
        return "mig"
    if request.models:
        model = device.model.lower()
        if not any(wanted.lower() in model for wanted in request.models):
            return "model"
    if device.memory_mib < request.memory_mib:
        return "memory"
    if request.compute_capability and not version_satisfies(request.compute_capability, device.compute_capability):
        return "capability"
    if request.driver_version and not version_satisfies(request.driver_version, device.driver_version):
        return "driver"
    return ""


def circle_of(device: Device, link: Link) -> int | None:
    """The number of the circle that a link requirement speaks of; None: the device says of none."""
    if link is Link.ISLAND:
        return device.island
    if link is Link.NUMA:
        return None if device.numa == UNKNOWN_NUMA else device.numa
    return 0


def linked(devices: Sequence[Device], link: Link) -> bool:
    """Whether a set keeps the requirement. One device alone always does."""
    if len(devices) < 2 or link is Link.ANY:
        return True
    first = circle_of(devices[0], link)
    return first is not None and all(circle_of(device, link) == first for device in devices[1:])


def set_problem(devices: Sequence[Device], request: DeviceRequest) -> str:
    """Why a set must not serve a request, as a short phrase, or "": for those who recheck a choice."""
    for device in devices:
        what = mismatch(device, request)
        if what:
            return f"its device {device.id} does not match the group's {what}"
    if not linked(devices, request.link):
        return f"its devices are not in one {request.link.name.lower()}"
    return ""
