"""Bounds that ``apply`` itself insists on, so that no command, however made, can break the state.

Owns: what a stored spec must satisfy for apply, the planner and the snapshot to be total: sizes, ranges, uniqueness.
Leaves to others: what is sensible, and saying so with the place in a file (``jobfile``, which is stricter). The rule:
each function returns the first problem as a sentence, or "" when there is none; it never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.contract import images, taints
from orchestrator.contract.batch import MAX_META, is_run_suffix
from orchestrator.contract.health import HealthSpec
from orchestrator.contract.model import (
    MAX_DEVICES,
    WHOLE_DEVICE,
    Affinity,
    Constraint,
    Disruption,
    GroupSpec,
    IntMap,
    JobSpec,
    JobType,
    NodeSpec,
    Resources,
    Spread,
    Taint,
    TaskSpec,
    Toleration,
)
from orchestrator.contract.rollouts import UpdateSpec
from orchestrator.state.dependencies import order_problem
from orchestrator.state.model import MAX_COUNT, MAX_GANG

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VARIABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,255}")
_ID = re.compile(r"[!-~]{1,256}")

MAX_GROUPS = 100
MAX_TASKS = 32
MAX_PORTS = 64
MAX_PRIORITY = 100
MAX_AMOUNT = 2**40
"""Of anything that is summed over allocations: far above any machine, and 20,000 of them still fit in 64 bits."""
MAX_INT32 = 2**31 - 1
MAX_WEIGHT = 100
MAX_CUSTOM = 64
"""Custom resources of one task or node."""


def name_problem(what: str, name: str) -> str:
    if _NAME.fullmatch(name):
        return ""
    return f"{what} {name[:64]!r} must be 1 to 128 letters, digits, '.', '_', '-', beginning with a letter or digit"


def id_problem(what: str, value: str) -> str:
    return "" if _ID.fullmatch(value) else f"{what} {value[:64]!r} must be 1 to 256 printable characters without spaces"


def variable_problem(name: str) -> str:
    return (
        "" if _VARIABLE.fullmatch(name) else f"variable name {name[:64]!r} must be 1 to 256 of letters, digits, '_./-'"
    )


def range_problem(what: str, value: int, low: int, high: int) -> str:
    return "" if low <= value <= high else f"{what} must be from {low} to {high}, not {value}"


def job_problem(spec: JobSpec) -> str:
    return (
        name_problem("namespace", spec.namespace)
        or _job_name_problem(spec)
        or range_problem("priority", spec.priority, 0, MAX_PRIORITY)
        or range_problem("number of groups", len(spec.groups), 1, MAX_GROUPS)
        or _duplicate("group", (group.name for group in spec.groups))
        or _constraints_problem(spec.constraints)
        or _disruption_problem(spec.disruption)
        or _wishes_problem(spec.affinity, spec.spread, spec.tolerations)
        or next((problem for group in spec.groups if (problem := _group_problem(group))), "")
        or next((problem for group in spec.groups if (problem := gang_problem(group, spec.type))), "")
        or batch_problem(spec)
    )


def _job_name_problem(spec: JobSpec) -> str:
    if spec.origin is None:
        return name_problem("job name", spec.name)
    template, _, suffix = spec.name.partition("/")
    return name_problem("job name", template) or (
        "" if is_run_suffix(suffix) else f"{spec.name[:64]!r} is no name of a run"
    )


def batch_problem(spec: JobSpec) -> str:
    """Whether the groups have an order, and a template is one that runs can be made from."""
    if any(group.after for group in spec.groups) or spec.is_template or spec.origin is not None:
        if spec.type is not JobType.BATCH:
            return "only a batch job has groups after others, a schedule, or runs"
        if order_problem(spec.groups):
            return "groups come after others in a circle, or after one that is not there"
    periodic, parameterized = spec.periodic, spec.parameterized
    if periodic is not None and parameterized is not None:
        return "a job is periodic or parameterized, not both"
    if spec.is_template and spec.origin is not None:
        return "a run is no template"
    if periodic is not None:
        return range_problem("number of cron expressions", len(periodic.cron), 1, 32) or next(
            (f"cron {text[:64]!r} is too long" for text in (*periodic.cron, periodic.time_zone) if len(text) > 256), ""
        )
    if parameterized is not None:
        return range_problem(
            "number of meta keys", len(parameterized.meta_required) + len(parameterized.meta_optional), 0, MAX_META
        )
    return ""


def _disruption_problem(disruption: Disruption | None) -> str:
    if disruption is None:
        return ""
    return range_problem("max_unavailable", disruption.max_unavailable, 0, 100 if disruption.percent else MAX_COUNT)


def gang_problem(group: GroupSpec, job_type: JobType) -> str:
    """Whether one entry of the log can hold a group that goes in whole or not at all."""
    if group.gang is None:
        return ""
    if job_type is JobType.SYSTEM:
        return f"group {group.name[:64]!r}: a system job cannot be a gang"
    if group.count > MAX_GANG:
        return f"group {group.name[:64]!r}: a gang has at most {MAX_GANG} instances, not {group.count}"
    return ""


def _group_problem(group: GroupSpec) -> str:
    problem = (
        name_problem("group name", group.name)
        or range_problem("count", group.count, 0, MAX_COUNT)
        or range_problem("number of tasks", len(group.tasks), 1, MAX_TASKS)
        or _duplicate("task", (task.name for task in group.tasks))
        or range_problem("number of ports", len(group.ports), 0, MAX_PORTS)
        or _duplicate("port", (port.label for port in group.ports))
        or range_problem("restart attempts", group.restart.attempts, 0, MAX_INT32)
        or range_problem("restart delay in ms", group.restart.delay_ms, 0, MAX_INT32)
        or _constraints_problem(group.constraints)
        or _wishes_problem(group.affinity, group.spread, group.tolerations)
        or range_problem("number of datasets", len(group.datasets), 0, 1_000)
        or range_problem("locality", group.locality, 0, MAX_WEIGHT)
        or range_problem("length of the network mode", len(group.network_mode), 0, 128)
        or _update_problem(group.update)
        or next((problem for task in group.tasks if (problem := _task_problem(task))), "")
    )
    if not problem:
        for port in group.ports:
            problem = (
                problem
                or range_problem(f"port {port.label}", port.to, 0, 65_535)
                or range_problem(f"static port {port.label}", port.static, 0, 65_535)
            )
        fixed = [(port.static, port.protocol) for port in group.ports if port.static]
        if len(set(fixed)) != len(fixed):
            problem = problem or "two ports of a group ask for the same host port"
        if sum(1 for task in group.tasks if task.resources.gpus is not None) > 1:
            problem = problem or "at most one task of a group may ask for devices"
    return f"group {group.name[:64]!r}: {problem}" if problem else ""


def _task_problem(task: TaskSpec) -> str:
    return (
        name_problem("task name", task.name)
        or _resources_problem(task.resources)
        or range_problem("timeout in ms", task.timeout_ms, 0, MAX_AMOUNT)
        or range_problem("stop timeout in ms", task.stop.timeout_ms, 0, MAX_INT32)
        or _health_problem(task.health)
    )


def _update_problem(update: UpdateSpec | None) -> str:
    if update is None:
        return ""
    return (
        range_problem("max_surge", update.max_surge, 0, MAX_COUNT)
        or range_problem("update's max_unavailable", update.max_unavailable, 0, MAX_COUNT)
        or range_problem("canaries", update.canaries, 0, MAX_COUNT)
        or range_problem("min_ready in ms", update.min_ready_ms, 0, MAX_INT32)
        or range_problem("progress deadline in ms", update.progress_deadline_ms, 0, MAX_INT32)
    )


def _health_problem(health: HealthSpec | None) -> str:
    checks = () if health is None else (health.startup, health.liveness, health.readiness)
    return next(
        (
            problem
            for check in checks
            if check is not None
            and (
                problem := range_problem("check's interval in ms", check.interval_ms, 0, MAX_INT32)
                or range_problem("check's timeout in ms", check.timeout_ms, 0, MAX_INT32)
                or range_problem("check's grace in ms", check.grace_ms, 0, MAX_INT32)
                or range_problem("check's successes", check.successes, 0, MAX_INT32)
                or range_problem("check's failures", check.failures, 0, MAX_INT32)
            )
        ),
        "",
    )


def _resources_problem(resources: Resources) -> str:
    problem = (
        range_problem("cpu_millis", resources.cpu_millis, 0, MAX_AMOUNT)
        or range_problem("memory_mib", resources.memory_mib, 0, MAX_AMOUNT)
        or range_problem("disk_mib", resources.disk_mib, 0, MAX_AMOUNT)
        or _custom_problem(resources.custom)
    )
    gpus = resources.gpus
    if gpus is not None and not problem:
        problem = (
            range_problem("gpu count", gpus.count, 0, MAX_DEVICES)
            or range_problem("gpu_millis", gpus.gpu_millis, 1, WHOLE_DEVICE)
            or range_problem("gpu memory_mib", gpus.memory_mib, 0, MAX_AMOUNT)
            or range_problem("length of a gpu condition", len(gpus.compute_capability + gpus.driver_version), 0, 256)
            or range_problem("length of the mig profile", len(gpus.mig), 0, 64)
        )
    return problem


def _constraints_problem(constraints: tuple[Constraint, ...]) -> str:
    return range_problem("number of constraints", len(constraints), 0, 1_000)


def _custom_problem(custom: IntMap) -> str:
    return range_problem("number of custom resources", len(custom), 0, MAX_CUSTOM) or next(
        (
            problem
            for name, amount in custom
            if (problem := name_problem("resource", name) or range_problem(f"resource {name}", amount, 0, MAX_AMOUNT))
        ),
        "",
    )


def _wishes_problem(
    affinity: tuple[Affinity, ...], spread: tuple[Spread, ...], tolerations: tuple[Toleration, ...]
) -> str:
    return (
        range_problem("number of affinities", len(affinity), 0, 1_000)
        or range_problem("number of spreads", len(spread), 0, 1_000)
        or range_problem("number of tolerations", len(tolerations), 0, 1_000)
        or next((p for one in affinity if (p := range_problem("weight", one.weight, -MAX_WEIGHT, MAX_WEIGHT))), "")
        or next((p for one in spread if (p := range_problem("weight", one.weight, 0, MAX_WEIGHT))), "")
        or next((p for one in spread if (p := range_problem("max_skew", one.max_skew, 1, MAX_INT32))), "")
        or next((p for one in tolerations if (p := range_problem("delay_ms", one.delay_ms or 0, 0, MAX_AMOUNT))), "")
    )


def _declared_problem(spec: NodeSpec) -> str:
    """What an agent says of itself beside its amounts."""
    facts = (spec.arch, spec.os, spec.kernel, spec.datacenter, spec.region, spec.zone, spec.rack)
    return (
        next(
            (p for fact in facts if (p := range_problem("length of arch, os, zone and the like", len(fact), 0, 256))),
            "",
        )
        or range_problem("number of taints", len(spec.taints), 0, taints.TAINTS_MAX)
        or next((problem for taint in spec.taints if (problem := taints.problem(taint))), "")
        or _taken_twice(spec.taints)
        or range_problem("number of images", len(spec.images), 0, images.IMAGES_MAX)
        or range_problem("number of datasets", len(spec.datasets), 0, 1_000)
        or next((p for one in spec.images if (p := range_problem("length of an image", len(one), 1, 512))), "")
        or next((p for one in spec.datasets if (p := range_problem("length of a dataset", len(one), 1, 256))), "")
    )


def _taken_twice(listed: tuple[Taint, ...]) -> str:
    return _duplicate("taint", (f"{taint.key}:{taint.effect.name}" for taint in listed))


def node_problem(spec: NodeSpec) -> str:
    capacity = spec.capacity
    return (
        id_problem("node id", spec.id)
        or id_problem("node name", spec.name)
        or range_problem("length of the address", len(spec.address), 0, 256)
        or range_problem("length of the engine id", len(spec.engine_id), 0, 256)
        or range_problem("length of the version", len(spec.version), 0, 256)
        or range_problem("length of the boot id", len(spec.boot_id), 0, 256)
        or range_problem("number of drivers", len(spec.drivers), 0, 64)
        or range_problem("number of labels", len(spec.labels), 0, 1_000)
        or range_problem("number of devices", len(spec.devices), 0, MAX_DEVICES)
        or _duplicate("device", (device.id for device in spec.devices))
        or range_problem("number of sick devices", len(spec.sick_devices), 0, MAX_DEVICES)
        or _duplicate("sick device", (device for device, _ in spec.sick_devices))
        or next(
            (
                problem
                for device, why in spec.sick_devices
                if (
                    problem := id_problem("sick device", device)
                    or range_problem("length of why a device is sick", len(why), 1, 256)
                )
            ),
            "",
        )
        or range_problem("cpu_millis", capacity.cpu_millis, 0, MAX_AMOUNT)
        or range_problem("memory_mib", capacity.memory_mib, 0, MAX_AMOUNT)
        or range_problem("disk_mib", capacity.disk_mib, 0, MAX_AMOUNT)
        or _custom_problem(capacity.custom)
        or _declared_problem(spec)
        or range_problem("lowest port", spec.port_min, 1, 65_535)
        or range_problem("highest port", spec.port_max, spec.port_min, 65_535)
        or next(
            (
                problem
                for device in spec.devices
                if (
                    problem := id_problem("device id", device.id)
                    or range_problem("device memory_mib", device.memory_mib, 0, MAX_AMOUNT)
                    or range_problem("device island", device.island, 0, MAX_INT32)
                    or range_problem("device numa", device.numa, -1, MAX_INT32)
                    or range_problem("device pcie", device.pcie, 0, MAX_INT32)
                    or range_problem("length of the device's compute capability", len(device.compute_capability), 0, 64)
                    or range_problem("length of the device's driver version", len(device.driver_version), 0, 64)
                    or range_problem("length of the device's mig profile", len(device.mig), 0, 64)
                    or range_problem("length of the device's parent", len(device.parent), 0, 256)
                )
            ),
            "",
        )
    )


def _duplicate(what: str, names: Iterable[str]) -> str:
    seen = set()
    for name in names:
        if name in seen:
            return f"two {what}s are called {name[:64]!r}"
        seen.add(name)
    return ""
