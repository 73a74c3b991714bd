"""What the settings of a task mean for containers, for everybody who decides about them: pure, as ``contract.model``.

Owns: which tasks share a network, which variables a task needs, which settings only a container can have, and which
changes of a group need no restart. Leaves to others: rules on values (``jobfile.container_rules``), doing it
(``agent.drivers``).
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.contract.model import ContainerSpec, GroupSpec, TaskRole, TaskSpec

CONTAINERS = "docker"
"""The driver that runs containers."""
BRIDGE, HOST, NONE = "bridge", "host", "none"
KEPT_LOGS = "json-file"
"""The log driver whose output can be read back."""
PROCESSES = "process"
RESIZING_DRIVERS = frozenset({CONTAINERS, "fake"})
"""Drivers that change the cpu and memory of what runs, on every node; that of processes where its node says so."""


def network_of(group: GroupSpec) -> str:
    """``bridge``, ``host``, ``none``, or the name of a network."""
    return group.network_mode or BRIDGE


def shares_network(group: GroupSpec) -> bool:
    """Whether the group's containers have one network of their own, which then belongs to none of them."""
    containers = sum(task.driver_name == CONTAINERS for task in group.tasks)
    return containers > 1 and network_of(group) != HOST


def variables_of(task: TaskSpec) -> tuple[str, ...]:
    """The variables of the cluster without which the task cannot start, sorted."""
    names = [variable for _, variable in task.variables]
    container = task.container
    if container is not None:
        names += container.env_files
        names += [file.variable for file in container.files if file.variable]
        if container.auth is not None:
            names += [container.auth.username_variable, container.auth.password_variable]
    return tuple(sorted({name for name in names if name}))


_PLAIN = ContainerSpec()


def container_settings(task: TaskSpec) -> tuple[str, ...]:
    """The keys, as a job file has them, of what was asked for that only a container has."""
    found = ["privileged"] if task.privileged else []
    found += ["volumes"] if task.mounts else []
    if task.container is not None:
        found += [key for name, key in _KEYS.items() if getattr(task.container, name) != getattr(_PLAIN, name)]
    return tuple(found)


_KEYS = {
    "pull_policy": "pull_policy", "auth": "auth", "env_files": "env_file", "hostname": "hostname", "labels": "labels",
    "no_init": "init", "pids_limit": "pids_limit", "ulimits": "ulimits", "shm_size_mib": "shm_size",
    "read_only": "read_only", "tmpfs": "tmpfs", "logging": "logging", "files": "files",
    "cpu_max_millis": "resources.cpu_max", "memory_max_mib": "resources.memory_max",
    "cap_add": "cap_add", "cap_drop": "cap_drop",
}  # fmt: skip
"""Field of ``ContainerSpec`` -> key of a job file."""


def in_place(before: GroupSpec, after: GroupSpec) -> bool:
    """Whether what runs of ``before`` becomes ``after`` without a restart: only cpu and memory differ (and the count),
    and the drivers can change these (of processes only where the node can: ``has_processes``)."""
    if any(task.driver_name not in RESIZING_DRIVERS | {PROCESSES} for task in before.tasks) or before.gang is not None:
        return False
    return _sizeless(before) == _sizeless(replace(after, count=before.count, update=before.update))


def has_processes(group: GroupSpec) -> bool:
    return any(task.driver_name == PROCESSES for task in group.tasks)


def _sizeless(group: GroupSpec) -> GroupSpec:
    return replace(group, tasks=tuple(_sizeless_task(task) for task in group.tasks))


def _sizeless_task(task: TaskSpec) -> TaskSpec:
    container = task.container
    if container is not None:
        container = replace(container, cpu_max_millis=0, memory_max_mib=0)
        container = None if container == _PLAIN else container
    return replace(task, resources=replace(task.resources, cpu_millis=0, memory_mib=0), container=container)


def stage_of(task: TaskSpec) -> int:
    """What starts first has the lower number: init tasks, sidecars, main tasks."""
    return (TaskRole.INIT, TaskRole.SIDECAR, TaskRole.MAIN).index(task.role)
