"""Rules on what a group offers and needs, and on what its tasks promise to say themselves.

Owns: these rules and defaults, for ``check``. The rule: as there, it never raises, whatever the spec.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from orchestrator.contract.model import GroupSpec, ServiceSpec
from orchestrator.contract.services import MAIN, default_name, offered, parse_need
from orchestrator.jobfile import limits

Path = tuple[str | int, ...]
Found = Iterator[tuple[Path, str]]
"""Where, and what is wrong."""


def normal(group: GroupSpec, job: str, *, alone: bool, labels: tuple[str, ...]) -> tuple[ServiceSpec, ...]:
    """The services that were declared, with names and ports filled in. ``labels``: of the group's ports."""
    if all(one.name and one.port for one in group.services):
        return group.services  # the very same, as ``check.normalise`` keeps what is normal already
    name = default_name(job, group.name or (MAIN if alone else ""))
    first = labels[0] if labels else ""
    return tuple(replace(one, name=one.name or name, port=one.port or first) for one in group.services)


def group_rules(at: Path, group: GroupSpec, namespace: str, job: str) -> Found:
    yield from _services((*at, "services"), group)
    yield from _needs((*at, "needs"), group, namespace, job)
    for number, task in enumerate(group.tasks):
        if task.workload is None:
            continue
        beat = task.workload.heartbeat_ms
        here = (*at, "tasks", number, "workload")
        if beat and not limits.MIN_HEARTBEAT_MS <= beat <= limits.MAX_HEARTBEAT_MS:
            yield (*here, "heartbeat_ms"), f"must be from 1s to 24h, not {beat} ms"
        if not beat and not task.workload.ready:
            yield here, "says nothing: give it 'ready: true', 'heartbeat: 30s' or both, or leave it out"


def _services(at: Path, group: GroupSpec) -> Found:
    if len(group.services) > limits.MAX_SERVICES:
        yield at, f"at most {limits.MAX_SERVICES} services, not {len(group.services)}"
    labels = {port.label for port in group.ports}
    seen: set[ServiceSpec] = set()
    for number, one in enumerate(group.services):
        if not limits.NAME.fullmatch(one.name):
            yield (*at, number, "name"), f"expected {limits.NAME_RULE}, got {one.name[:60]!r}"
        if not labels:
            yield (*at, number), "a service answers on a port: give the group 'ports'"
        elif one.port not in labels:
            known = ", ".join(sorted(labels))
            yield (*at, number, "port"), f"no port has the label {one.port[:60]!r} (there are: {known})"
        elif one in seen:
            yield (*at, number), f"service '{one.name}' is there twice with port '{one.port}'"
        seen.add(one)


def _needs(at: Path, group: GroupSpec, namespace: str, job: str) -> Found:
    if len(group.needs) > limits.MAX_NEEDS:
        yield at, f"at most {limits.MAX_NEEDS} services, not {len(group.needs)}"
    own = {(namespace, one.name) for one in offered(job, group)}
    seen: set[tuple[str, str]] = set()
    for number, text in enumerate(group.needs):
        parts = text.split(".")
        if len(parts) > 2 or not all(limits.NAME.fullmatch(part) for part in parts):
            yield (*at, number), f"expected a service such as 'db', or 'db.other-namespace', got {text[:60]!r}"
            continue
        need = parse_need(text, namespace)
        key = (need.namespace, need.name)
        if key in own:
            yield (*at, number), f"the group itself is service '{need.name}': its first instance would wait for ever"
        if key in seen:
            yield (*at, number), f"service '{text}' is there twice"
        seen.add(key)
