"""Which run of a task somebody means, and which of its ports: looked up in the agent's records.

Owns: these two answers and their refusals, as texts. The rule: pure look-ups; nothing is asked of a driver here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.driver import Driver, RunId, run_name
from agent.records import Record
from agent.runspec import inside
from orchestrator.contract.containers import CONTAINERS, HOST, network_of
from orchestrator.contract.model import AssignmentKey, TaskRole


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """The newest run of a task; ``standing``: how its allocation stands, in words."""

    driver: Driver
    name: str
    task: str
    standing: str


def find_run(
    record: Record | None, drivers: Mapping[str, Driver], key: AssignmentKey, task: str, *, cluster_id: str, node: str
) -> TaskRun | str:
    """The run of ``task`` ("": the first that is neither init nor sidecar), or why there is none."""
    if record is None:
        return f"{key.id} attempt {key.attempt} is unknown on node {node}"
    tasks = record.assignment.group.tasks
    names = [spec.name for spec in tasks]
    wanted = task or next((spec.name for spec in tasks if spec.role is TaskRole.MAIN), names[0])
    if wanted not in names:
        return f"{key.id} has no task {wanted!r}; it has {', '.join(names)}"
    spec = next(one for one in tasks if one.name == wanted)
    driver = drivers.get(spec.driver_name)
    if driver is None:
        return f"node {node} has no driver {spec.driver_name!r} for {key.id} task {wanted}"
    standing = record.state.name.lower() + (f": {record.reason}" if record.reason else "")
    name = run_name(cluster_id, RunId(key=key, restarts=record.restarts, task=wanted))
    return TaskRun(driver=driver, name=name, task=wanted, standing=standing)


def find_port(record: Record | None, run: TaskRun, label: str, port: int) -> int | str:
    """The port as the task sees it, by label or number, or why there is none.

    A process has no network of its own: where its job says that a port is 80 inside, it listens on the host's port.
    """
    ports = record.assignment.ports if record is not None else ()
    in_container = record is not None and run.driver.name == CONTAINERS and network_of(record.assignment.group) != HOST
    if label:
        named = next((one for one in ports if one.label == label), None)
        if named is None:
            known = ", ".join(one.label for one in ports) or "none"
            return f"there is no port {label!r} (its group's ports: {known})"
        return inside(named) if in_container else named.host_port
    if not 0 < port < 65_536:
        return f"{port} is no port: expected 1 to 65535"
    if not in_container:
        return next((one.host_port for one in ports if one.to == port), port)
    return port
