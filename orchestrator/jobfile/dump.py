"""A JobSpec as the job file that a person would have written: short forms, no defaults.

The rule: ``load(dump(spec)) == spec`` for every valid spec.
"""

from __future__ import annotations

from typing import Any

import yaml

from orchestrator.contract.constraints import SYMBOLS
from orchestrator.contract.model import (
    Constraint,
    DeviceRequest,
    GangFailure,
    GangSpec,
    GroupSpec,
    JobSpec,
    Link,
    PortSpec,
    Resources,
    RestartPolicy,
    StopPolicy,
    TaskRole,
    TaskSpec,
)
from orchestrator.jobfile import batch_keys, containers, limits, placement, rollout_keys, units


def dump(spec: JobSpec) -> str:
    """YAML that ``load`` reads back as an equal job."""
    return yaml.safe_dump(document(spec), sort_keys=False, allow_unicode=True, width=100)


def document(spec: JobSpec) -> dict[str, Any]:
    """The job file as plain values."""
    made: dict[str, Any] = {"name": spec.name}
    unsaid = JobSpec(name=spec.name)
    if spec.namespace != unsaid.namespace:
        made["namespace"] = spec.namespace
    if spec.type != unsaid.type:
        made["type"] = spec.type.name.lower()
    if spec.priority != unsaid.priority:
        made["priority"] = spec.priority
    if spec.unpreemptible:
        made["preemptible"] = False
    if spec.disruption is not None:
        most = spec.disruption.max_unavailable
        made["disruption"] = {"max_unavailable": f"{most}%" if spec.disruption.percent else most}
    if spec.placement:
        made["placement"] = spec.placement
    if spec.on_disconnect != unsaid.on_disconnect:
        made["on_disconnect"] = spec.on_disconnect.name.lower()
    if spec.periodic is not None:
        made["periodic"] = batch_keys.written_periodic(spec.periodic)
    if spec.parameterized is not None:
        made["parameterized"] = batch_keys.written_parameterized(spec.parameterized)
    if spec.metadata:
        made["metadata"] = dict(spec.metadata)
    flat = len(spec.groups) == 1 and spec.groups[0].name == limits.DEFAULT_GROUP and not spec.constraints
    flat = flat and not (spec.affinity or spec.spread or spec.tolerations)
    if flat:
        return made | _group(spec.groups[0])
    if spec.constraints:
        made["constraints"] = [_constraint(constraint) for constraint in spec.constraints]
    made |= placement.written(spec, _constraint)
    made["groups"] = {group.name: _group(group) for group in spec.groups}
    return made


def _group(group: GroupSpec) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if group.count != 1:
        made["count"] = group.count
    flat = len(group.tasks) == 1 and group.tasks[0].name == limits.DEFAULT_TASK
    if flat:
        made |= _task(group.tasks[0])
    if group.ports:
        made["ports"] = {port.label: _port(port) for port in group.ports}
    if group.restart != RestartPolicy():
        made["restart"] = {
            "attempts": group.restart.attempts,
            "delay": units.format_duration(group.restart.delay_ms),
            "mode": group.restart.mode.name.lower(),
        }
    if group.update is not None:
        made["update"] = rollout_keys.written_update(group.update)
    if group.after:
        made["after"] = batch_keys.written_after(group.after)
    if group.constraints:
        made["constraints"] = [_constraint(constraint) for constraint in group.constraints]
    if group.gang is not None:
        made["gang"] = _gang(group.gang)
    made |= placement.written(group, _constraint)
    if group.services:
        made["services"] = [{"name": one.name, "port": one.port} for one in group.services]
    if group.needs:
        made["needs"] = list(group.needs)
    if group.network_mode:
        made["network_mode"] = group.network_mode
    if not flat:
        made["tasks"] = {task.name: _task(task) for task in group.tasks}
    return made


def _task(task: TaskSpec) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key in ("driver", "image"):
        if getattr(task, key):
            made[key] = getattr(task, key)
    for key in ("command", "args"):
        if getattr(task, key):
            made[key] = list(getattr(task, key))
    for key in ("env", "variables"):
        if getattr(task, key):
            made[key] = dict(getattr(task, key))
    resources = _resources(task.resources)
    if task.container is not None:
        resources |= containers.written_limits(task.container)
    if resources:
        made["resources"] = resources
    if task.stop != StopPolicy():
        made["stop"] = {"signal": task.stop.signal, "timeout": units.format_duration(task.stop.timeout_ms)}
    if task.timeout_ms:
        made["timeout"] = units.format_duration(task.timeout_ms)
    for key in ("work_dir", "user"):
        if getattr(task, key):
            made[key] = getattr(task, key)
    if task.health is not None:
        made["health"] = rollout_keys.written_health(task.health)
    if task.privileged:
        made["privileged"] = True
    if task.workload is not None:
        made["workload"] = {}
        if task.workload.ready:
            made["workload"]["ready"] = True
        if task.workload.heartbeat_ms:
            made["workload"]["heartbeat"] = units.format_duration(task.workload.heartbeat_ms)
    if task.mounts:
        made["volumes"] = [containers.written_mount(mount) for mount in task.mounts]
    if task.container is not None:
        made |= containers.written(task.container)
    if task.role is not TaskRole.MAIN:
        made["role"] = task.role.name.lower()
    return made


def _resources(resources: Resources) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if resources.cpu_millis != limits.DEFAULT_CPU_MILLIS:
        made["cpu"] = units.format_cpu(resources.cpu_millis)
    if resources.memory_mib != limits.DEFAULT_MEMORY_MIB:
        made["memory"] = units.format_memory(resources.memory_mib)
    if resources.disk_mib:
        made["disk"] = units.format_memory(resources.disk_mib)
    if resources.gpus is not None:
        made["gpus"] = _gpus(resources.gpus)
    if resources.custom:
        made["custom"] = dict(resources.custom)
    return made


def _gpus(gpus: DeviceRequest) -> Any:
    if gpus == DeviceRequest(count=gpus.count):
        return gpus.count
    made: dict[str, Any] = {"count": gpus.count}
    if gpus.models:
        made["models"] = list(gpus.models)
    if gpus.memory_mib:
        made["memory"] = units.format_memory(gpus.memory_mib)
    if gpus.gpu_millis != 1000:
        made["share"] = units.format_cpu(gpus.gpu_millis)
    for key in ("compute_capability", "driver_version", "mig"):
        if getattr(gpus, key):
            made[key] = getattr(gpus, key)
    if gpus.link is not Link.ANY:
        made["link"] = gpus.link.name.lower()
    return made


def _gang(gang: GangSpec) -> Any:
    if gang == GangSpec():
        return True
    made = {"domain": gang.domain.name.lower()}
    if gang.on_failure is not GangFailure.RESTART:
        made["on_failure"] = gang.on_failure.name.lower()
    return made


def _port(port: PortSpec) -> Any:
    if port == PortSpec(label=port.label, to=port.to):
        return port.to
    made: dict[str, Any] = {}
    if port.to:
        made["to"] = port.to
    if port.static:
        made["static"] = port.static
    if port.protocol.name != "TCP":
        made["protocol"] = port.protocol.name.lower()
    return made


def _constraint(constraint: Constraint) -> Any:
    return {
        "attribute": constraint.attribute,
        "operator": SYMBOLS[constraint.operator],
        "values": list(constraint.values),
    }
