"""Which jobs can be decided about without a look at all the others.

Owns: ``alone``. The rule: a job is decided about by itself, from its own rows and from what is free on the nodes, only
as long as it asks for nothing but what is known here to need no more. Whoever adds a field to the model need not think
of this list: a job that uses the field is then decided about with everything in view, which is right and slower.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from orchestrator.contract.model import DeviceRequest, GroupSpec, JobSpec, Resources, TaskSpec
from orchestrator.state.holding import base_spec
from orchestrator.state.model import Job

_KNOWN: dict[type, frozenset[str]] = {
    JobSpec: frozenset(
        ("namespace", "name", "type", "priority", "groups", "placement", "on_disconnect", "constraints", "metadata")
    ),
    GroupSpec: frozenset(("name", "count", "tasks", "ports", "restart", "constraints", "update")),
    TaskSpec: frozenset(
        (
            *("name", "driver", "image", "command", "args", "env", "resources", "stop", "variables"),
            *("work_dir", "user", "privileged", "mounts", "health"),
        )
    ),
    Resources: frozenset(("cpu_millis", "memory_mib", "disk_mib", "gpus")),
    DeviceRequest: frozenset(("count", "gpu_millis", "memory_mib", "models")),
}


def _others(kind: type) -> tuple[tuple[str, Any], ...]:
    """Fields that are not known here, with their defaults."""
    return tuple((field.name, field.default) for field in dataclasses.fields(kind) if field.name not in _KNOWN[kind])


_OTHERS: dict[type, tuple[tuple[str, Any], ...]] = {kind: _others(kind) for kind in _KNOWN}


def decided_alone(job: Job) -> bool:
    """Whether this job's placements depend on no other job, at no version at which anything of it may be placed."""
    before = base_spec(job)
    return alone(job.spec) and (before is None or alone(before))


def alone(spec: JobSpec) -> bool:
    """Whether the placements of such a job depend on no other job, but for the room that is taken."""
    return _plain(spec) and all(
        _plain(group)
        and all(
            _plain(task) and _plain(task.resources) and (task.resources.gpus is None or _plain(task.resources.gpus))
            for task in group.tasks
        )
        for group in spec.groups
    )


def _plain(value: Any) -> bool:
    return all(getattr(value, name) == default for name, default in _OTHERS[type(value)])
