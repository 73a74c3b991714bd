"""From an assignment to what a driver is asked to run: environment, ports, devices of each task.

Owns: the variables that every task sees (``RAFTSMAN_*``, ``NVIDIA_VISIBLE_DEVICES``) and which task publishes ports.
The rule: values only; a task's own environment wins over ours nowhere, so the names can be relied on.
"""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass

from agent.driver import RunId, RunSpec, StartError
from agent.reconcile import Record
from orchestrator.contract.batch import Origin
from orchestrator.contract.model import JobType, PortBinding, TaskSpec, str_map


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What tasks are told about where they run.

    ``api``: addresses of peers, separated by commas; ``api_follows_peers``: they are those of the peers as they are
    now, and not some that the operator named.
    """

    node_id: str
    name: str
    address: str
    api: str
    api_follows_peers: bool = False


def run_spec(record: Record, task: TaskSpec, cluster_id: str, node: NodeFacts) -> RunSpec:
    """Raises ``StartError`` where a variable that the task names does not exist."""
    assignment = record.assignment
    key = assignment.key
    in_container = task.driver_name == "docker"
    publishes = task.name == _publisher(record)
    env = dict(task.env)
    values = dict(assignment.variables)
    for name, variable in task.variables:
        if variable not in values:
            raise StartError(
                f"variable {variable!r} does not exist in namespace {key.id.namespace}; "
                f"create it with: raftsman var put {variable} VALUE"
            )
        env[name] = values[variable]
    env |= {
        "RAFTSMAN_API": node.api,
        "RAFTSMAN_ALLOC_ID": str(key.id),
        "RAFTSMAN_NAMESPACE": key.id.namespace,
        "RAFTSMAN_JOB": key.id.job,
        "RAFTSMAN_GROUP": key.id.group,
        "RAFTSMAN_ORDINAL": str(key.id.ordinal),
        "RAFTSMAN_COUNT": str(assignment.group.count),
        "RAFTSMAN_ATTEMPT": str(key.attempt),
        "RAFTSMAN_RESTARTS": str(record.restarts),
        "RAFTSMAN_TASK_NAME": task.name,
        "RAFTSMAN_NODE": node.name,
        "RAFTSMAN_NODE_ADDRESS": node.address,
    }
    if assignment.job_type is JobType.BATCH:
        env["RAFTSMAN_ARRAY_INDEX"] = str(key.id.ordinal)
        env["RAFTSMAN_ARRAY_SIZE"] = str(assignment.group.count)
    if assignment.origin is not None:
        env |= _of_run(assignment.origin)
    for port in assignment.ports:
        env[f"RAFTSMAN_PORT_{_env_name(port.label)}"] = str(_inside(port) if in_container else port.host_port)
    devices = assignment.device_ids if task.resources.gpus is not None else ()
    if devices:
        env["NVIDIA_VISIBLE_DEVICES"] = ",".join(devices)
        if assignment.gpu_millis:
            env["RAFTSMAN_GPU_MILLIS"] = str(assignment.gpu_millis)
    return RunSpec(
        cluster_id=cluster_id,
        node_id=node.node_id,
        run=RunId(key=key, restarts=record.restarts, task=task.name),
        task=task,
        env=str_map(env),
        ports=assignment.ports if in_container and publishes else (),
        device_ids=devices,
    )


def _of_run(origin: Origin) -> dict[str, str]:
    """What a run of a template is told: whose it is, when it was due, what the dispatch brought."""
    env = {"RAFTSMAN_PARENT_JOB": origin.job}
    if origin.due_ms:
        env["RAFTSMAN_DUE_TIME"] = str(origin.due_ms // 1000)
    for name, value in origin.meta:
        env[f"RAFTSMAN_META_{_env_name(name)}"] = value
    if origin.payload:
        env["RAFTSMAN_PAYLOAD_BASE64"] = base64.b64encode(origin.payload).decode("ascii")
        with contextlib.suppress(UnicodeDecodeError):
            text = origin.payload.decode()
            if "\0" not in text:
                env["RAFTSMAN_PAYLOAD"] = text
    return env


def _publisher(record: Record) -> str:
    """A host port can be published once: by the group's first container."""
    return next((task.name for task in record.assignment.group.tasks if task.driver_name == "docker"), "")


def _inside(port: PortBinding) -> int:
    return port.to or port.host_port


def _env_name(label: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in label.upper())
