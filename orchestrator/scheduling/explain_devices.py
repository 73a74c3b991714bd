"""What a node's devices lack for a request: model, memory, capability, link, cordoned or simply taken, with counts.

Owns: these words, for one node. Leaves to others: joining them with the other reasons (``explain``). The rule: the
checks are those of ``devices``, and each names what was wanted and how many there are instead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from orchestrator.contract.devices import circle_of, mismatch
from orchestrator.contract.model import WHOLE_DEVICE, DeviceRequest, Link
from orchestrator.scheduling.problem import Problem

KIND, CORDONED, FREE, LINK = "kind", "cordoned", "free", "link"

_WORDS = {
    "mig": "of another MIG profile",
    "model": "of another model",
    "memory": "with less memory",
    "capability": "with another compute capability",
    "driver": "with another driver version",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceShortage:
    """``key``: which check failed first. ``missing``: as a share of what was asked, above 1 where no waiting helps."""

    key: str
    text: str
    missing: float


def _closed(problem: Problem, node: int, places: Collection[int]) -> str:
    """``, 2 cordoned, 1 sick`` of the devices at these places; "" of none."""
    record = problem.nodes[node]
    sick = sum(1 for at in places if record.spec.devices[at].id not in record.cordoned_devices)
    counts = (("cordoned", len(places) - sick), ("sick", sick))
    return "".join(f", {count} {word}" for word, count in counts if count)


def device_shortage(problem: Problem, request: DeviceRequest, node: int) -> DeviceShortage | None:
    """The first thing that keeps the node's devices from serving one more instance, or None."""
    devices = problem.devices
    inventory = problem.nodes[node].spec.devices
    free, closed = devices.free[node].tolist(), devices.closed[node].tolist()
    wrong: dict[str, int] = {}
    matching = []
    for at, device in enumerate(inventory):
        what = mismatch(device, request)
        if what:
            wrong[what] = wrong.get(what, 0) + 1
        else:
            matching.append(at)
    if len(matching) < request.count:
        others = ", ".join(f"{count} {_WORDS[what]}" for what, count in wrong.items())
        text = f"has {len(matching)} of {request.count} {device_kind(request)}" + (f" ({others})" if others else "")
        return DeviceShortage(key=KIND, text=text, missing=1 + _lack(len(matching), request))
    allowed = [at for at in matching if not closed[at]]
    if len(allowed) < request.count:
        text = f"{len(allowed)} of {request.count} usable{_closed(problem, node, set(matching) - set(allowed))}"
        return DeviceShortage(key=CORDONED, text=text, missing=1 + _lack(len(allowed), request))
    usable = [at for at in allowed if free[at] >= request.gpu_millis]
    if len(usable) < request.count:
        share = "" if request.gpu_millis == WHOLE_DEVICE else f" with {request.gpu_millis / WHOLE_DEVICE:g} of it"
        text = f"{len(usable)} of {request.count} free{share}{_closed(problem, node, set(matching) - set(allowed))}"
        return DeviceShortage(key=FREE, text=text, missing=_lack(len(usable), request))
    if request.count > 1 and request.link is not Link.ANY:
        together, best = (
            _largest_circle(problem, node, allowed, request),
            _largest_circle(problem, node, usable, request),
        )
        if best < request.count:
            place = "one island" if request.link is Link.ISLAND else "one NUMA node"
            text = f"{best} of {request.count} free in {place}" + (
                "" if together >= request.count else ", as it is built"
            )
            beyond = 0 if together >= request.count else 1
            return DeviceShortage(key=LINK, text=text, missing=beyond + _lack(best, request))
    return None


def device_kind(request: DeviceRequest) -> str:
    """``GPUs of model A100 with 40.0 GiB memory``."""
    kind = f"MIG slices {request.mig}" if request.mig else "GPUs"
    if request.models:
        kind += f" of model {' or '.join(request.models)}"
    if request.memory_mib:
        size = request.memory_mib
        kind += f" with {f'{size} MiB' if size < 1024 else f'{size / 1024:.1f} GiB'} memory"
    if request.compute_capability:
        kind += f" with compute capability {request.compute_capability}"
    if request.driver_version:
        kind += f" with driver {request.driver_version}"
    return kind


def _lack(there: int, request: DeviceRequest) -> float:
    return (request.count - there) / request.count


def _largest_circle(problem: Problem, node: int, numbers: list[int], request: DeviceRequest) -> int:
    inventory = problem.nodes[node].spec.devices
    members: dict[int, int] = {}
    for at in numbers:
        circle = circle_of(inventory[at], request.link)
        if circle is not None:
            members[circle] = members.get(circle, 0) + 1
    return max(members.values(), default=0)
