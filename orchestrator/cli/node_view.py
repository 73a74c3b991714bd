"""One node in words: what ``node show`` prints, and cells that ``nodes`` shares with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.cli.output import age, cores, mebibytes, span
from orchestrator.contract import taints

if TYPE_CHECKING:
    from orchestrator.contract.answers import DeviceUse, NodeInfo

SHOWN = 10
"""Images and datasets that are listed; ``-o wide`` shows all."""


def find(listed: Iterable[NodeInfo], name: str) -> NodeInfo:
    """By name, id or the beginning of an id; raises ``NotFoundError``."""
    from orchestrator.contract.errors import NotFoundError

    nodes = list(listed)
    exact = [one for one in nodes if name in (one.spec.name, one.spec.id)]
    found = exact or [one for one in nodes if name and one.spec.id.startswith(name)]
    if len(found) != 1:
        raise NotFoundError(f"no node '{name}'" if not found else f"'{name}' is the beginning of {len(found)} ids")
    return found[0]


def taints_text(node: NodeInfo) -> str:
    return ",".join(taints.describe(one.taint) for one in node.taints)


def custom_text(node: NodeInfo) -> str:
    """``licenses 2/5``, used of what there is."""
    used = dict(node.used.custom)
    there = dict(node.spec.capacity.custom)
    return ", ".join(f"{name} {used.get(name, 0)}/{there.get(name, 0)}" for name in sorted(there | used))


def where_text(node: NodeInfo) -> str:
    """``eu/eu-1/z1/r7``: region, data centre, zone and rack, as far as declared."""
    spec = node.spec
    return "/".join(part for part in (spec.region, spec.datacenter, spec.zone, spec.rack) if part)


def system_text(node: NodeInfo) -> str:
    return " ".join(part for part in (node.spec.os, node.spec.arch, node.spec.kernel) if part)


def device_text(use: DeviceUse) -> str:
    """``GPU-1 (A100 80Gi 8.0, island 0, 0.5 used, cordoned)``."""
    one = use.device
    kind = " ".join(
        text for text in (one.model or "?", f"MIG {one.mig}" if one.mig else "", one.compute_capability) if text
    )
    parts = [kind, f"{mebibytes(one.memory_mib)}" if one.memory_mib else "", f"island {one.island}"]
    parts.append(f"switch {one.pcie}" if one.pcie else "")
    parts += [f"numa {one.numa}" if one.numa >= 0 else "", f"{use.used_millis / 1000:g} used"]
    parts += ["cordoned" if use.cordoned else "", f"sick: {use.sick}" if use.sick else ""]
    return f"{one.id} ({', '.join(part for part in parts if part)})"


def details(node: NodeInfo, state: str, *, wide: bool) -> str:
    spec, used, capacity = node.spec, node.used, node.spec.capacity
    lines: list[tuple[str, str]] = [
        ("node", spec.name),
        ("id", spec.id),
        ("state", state + (f" ({node.status_reason})" if node.status_reason else "")),
        ("heartbeat", f"{span(node.heartbeat_age_ms)} ago" if node.heartbeat_age_ms >= 0 else ""),
        ("address", spec.address),
        ("region", spec.region),
        ("datacenter", spec.datacenter),
        ("zone", spec.zone),
        ("rack", spec.rack),
        ("system", system_text(node)),
        ("drivers", ", ".join(spec.drivers)),
        ("allocations", str(node.allocations)),
        ("cpu", f"{cores(used.cpu_millis)} of {cores(capacity.cpu_millis)}"),
        ("memory", f"{mebibytes(used.memory_mib)} of {mebibytes(capacity.memory_mib)}"),
        ("disk", f"{mebibytes(used.disk_mib)} of {mebibytes(capacity.disk_mib)}" if capacity.disk_mib else ""),
        ("resources", custom_text(node)),
    ]
    lines += [("device", device_text(one)) for one in node.devices]
    lines += [
        ("taint", f"{taints.describe(one.taint)} ({'declared by its agent' if one.declared else age(one.since_ms)})")
        for one in node.taints
    ]
    lines += [("label", f"{key}={value}") for key, value in spec.labels]
    lines += _listed("image", spec.images, wide) + _listed("dataset", spec.datasets, wide)
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines if text)


def _listed(name: str, values: tuple[str, ...], wide: bool) -> list[tuple[str, str]]:
    shown = values if wide else values[:SHOWN]
    more = [(name, f"and {len(values) - len(shown)} more (-o wide)")] if len(values) > len(shown) else []
    return [(name, value) for value in shown] + more
