"""What a request for devices means: which device it may have, which of them may go together.

Owns: version conditions (``>= 8.0``), matching one device, the link requirement. Leaves to others: what is free, which
set is best (``scheduling.devices``). The rule: what a device does not say does not satisfy a condition on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from orchestrator.contract.model import Device, DeviceRequest, Link

_CONDITION = re.compile(r"(>=|<=|==|=|!=|>|<)?\s*([0-9]{1,9}(?:\.[0-9]{1,9}){0,3})")
MIG_PROFILE = re.compile(r"[1-9][0-9]?g\.[1-9][0-9]{0,3}gb(\+[a-z0-9.]{1,16})?")

UNKNOWN_NUMA = -1


@lru_cache(maxsize=1024)
def conditions(text: str) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
    """``>= 8.0, < 9`` as ((">=", (8,)), ("<", (9,))); a bare version means that or newer; None: it is no condition.

    Trailing zeros say nothing: 8.0 is 8.
    """
    found = []
    for part in text.split(","):
        match = _CONDITION.fullmatch(part.strip())
        if match is None:
            return None
        operator = "=" if match[1] == "==" else match[1] or ">="
        found.append((operator, _numbers(match[2])))
    return tuple(found)


def canonical(text: str) -> str:
    """A condition as it is stored: one blank after each operator. What is no condition stays as it is."""
    if conditions(text) is None:
        return text
    parts = []
    for part in text.split(","):
        match = _CONDITION.fullmatch(part.strip())
        assert match is not None, "conditions() has matched it"
        parts.append(f"{'=' if match[1] == '==' else match[1] or '>='} {match[2]}")
    return ", ".join(parts)


@lru_cache(maxsize=4096)
def version_satisfies(text: str, version: str) -> bool:
    """Whether a version (``8.0``, ``535.104.05``; "" = unknown) satisfies every condition; "" is no condition."""
    if not text:
        return True
    wanted = conditions(text)
    if wanted is None or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}){0,7}", version):
        return False
    have = _numbers(version)
    verdicts = {
        ">=": lambda bound: have >= bound,
        "<=": lambda bound: have <= bound,
        ">": lambda bound: have > bound,
        "<": lambda bound: have < bound,
        "=": lambda bound: have == bound,
        "!=": lambda bound: have != bound,
    }
    return all(verdicts[operator](bound) for operator, bound in wanted)


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


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
