"""Tasks as mosesachizz/distributed-orchestrator spoke of them: one-task batch jobs behind ``/api/v1/tasks``.

Owns: the mapping between that JSON and jobs. Leaves to others: submitting and reading jobs (``client``). The rule:
its documented calls work unchanged (fields, defaults of 1000 m and 512 MiB, state names); the task's id is 32 hex
digits and the job that carries it is called ``task-<id>``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from orchestrator.contract.answers import JobStatus
from orchestrator.contract.errors import InvalidError
from orchestrator.contract.model import (
    Allocation,
    AllocState,
    DeviceRequest,
    GroupSpec,
    JobSpec,
    JobType,
    Resources,
    RestartPolicy,
    TaskSpec,
    str_map,
)

PREFIX = "task-"
NAME_KEY = "raftsman.task.name"
DEFAULT_CPU_MILLIS = 1000
DEFAULT_MEMORY_MIB = 512
RESTARTS = RestartPolicy(attempts=3, delay_ms=2_000)
"""max_retries 3 and retry_delay 2 s of the predecessor's configuration."""
DEFAULT_TIMEOUT_S = 3_600
"""What runs for longer has failed there; here it is killed, too."""

_ID = re.compile(r"[0-9a-f]{32}")
_KNOWN = {"name", "image", "command", "env", "resources", "timeout"}
_IGNORED = {"id", "state", "node_id", "creation_time", "start_time", "end_time", "exit_code"}


def new_id() -> str:
    return uuid.uuid4().hex


def job_name(task_id: str) -> str | None:
    """The job that carries a task; None for what cannot be a task's id."""
    return PREFIX + task_id if _ID.fullmatch(task_id) else None


def job_from_task(body: object, task_id: str) -> JobSpec:
    """The batch job that runs the posted task. Raises ``InvalidError`` naming the field."""
    if not isinstance(body, Mapping):
        raise InvalidError("Invalid task data: expected a JSON object")
    unknown = sorted(set(body) - _KNOWN - _IGNORED)
    if unknown:
        raise InvalidError(f"Invalid task data: unknown field {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}")
    image = _text(body, "image")
    if not image:
        raise InvalidError("Image is required")
    name = _text(body, "name") or PREFIX + task_id[:8]
    task = TaskSpec(
        name="task",
        image=image,
        # As Docker's Cmd there: it does not replace the image's entrypoint.
        args=_texts(body, "command"),
        env=_env(body),
        resources=_resources(body),
        timeout_ms=_timeout_s(body) * 1000,
    )
    group = GroupSpec(name="main", tasks=(task,), restart=RESTARTS)
    return JobSpec(
        name=PREFIX + task_id,
        type=JobType.BATCH,
        groups=(group,),
        metadata=((NAME_KEY, name),),
    )


def is_task(job: JobStatus) -> bool:
    return job.spec.name.startswith(PREFIX) and any(key == NAME_KEY for key, _ in job.spec.metadata)


def task_from_job(job: JobStatus, allocation: Allocation | None) -> dict[str, Any]:
    """The task's JSON; times in unix seconds, 0 where it has not come to that."""
    task = job.spec.groups[0].tasks[0]
    ended = allocation is not None and allocation.state >= AllocState.COMPLETE
    started = allocation is not None and (allocation.state >= AllocState.RUNNING)
    gpus = task.resources.gpus
    return {
        "id": job.spec.name.removeprefix(PREFIX),
        "name": dict(job.spec.metadata)[NAME_KEY],
        "image": task.image,
        "command": list(task.args),
        "env": dict(task.env),
        "resources": {
            "cpu": task.resources.cpu_millis,
            "memory": task.resources.memory_mib,
            **({"gpus": gpus.count} if gpus else {}),
        },
        "timeout": task.timeout_ms // 1000,
        "state": _state(job, allocation),
        "node_id": allocation.node_id if allocation else "",
        "creation_time": job.create_time_ms // 1000,
        "start_time": allocation.create_time_ms // 1000 if allocation and started else 0,
        "end_time": allocation.modify_time_ms // 1000 if allocation and ended else 0,
        "exit_code": allocation.exit_code if allocation else 0,
        "reason": allocation.reason if allocation else "",
    }


def _state(job: JobStatus, allocation: Allocation | None) -> str:
    if job.state == "complete":
        return "COMPLETED"
    if job.state == "failed":
        return "FAILED"
    if allocation is None or allocation.state == AllocState.LOST:
        return "PENDING"
    match allocation.state:
        case AllocState.RUNNING | AllocState.STOPPING:
            return "RUNNING"
        case AllocState.COMPLETE:
            return "COMPLETED"
        case AllocState.FAILED | AllocState.STOPPED:
            return "FAILED"
        case _:
            return "ASSIGNED"


def _text(body: Mapping[str, object], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise InvalidError(f"Invalid task data: {key}: expected a string")
    return value


def _texts(body: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = body.get(key) or []
    if isinstance(value, str):
        return ("/bin/sh", "-c", value)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidError(f"Invalid task data: {key}: expected a list of strings")
    return tuple(value)


def _timeout_s(body: Mapping[str, object]) -> int:
    value = body.get("timeout", DEFAULT_TIMEOUT_S)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 366 * 86_400:
        raise InvalidError("Invalid task data: timeout: expected whole seconds, at most 366 days; 0: none")
    return value


def _env(body: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    value = body.get("env") or {}
    if isinstance(value, list) and all(isinstance(item, str) and "=" in item for item in value):
        return str_map(dict(item.split("=", 1) for item in value))
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
        raise InvalidError("Invalid task data: env: expected an object of strings")
    return str_map(dict(value))


def _resources(body: Mapping[str, object]) -> Resources:
    value = body.get("resources") or {}
    if not isinstance(value, Mapping):
        raise InvalidError("Invalid task data: resources: expected an object")
    unknown = sorted(set(value) - {"cpu", "memory", "gpus"})
    if unknown:
        raise InvalidError(f"Invalid task data: resources: unknown field {unknown[0]!r}; known are cpu, gpus, memory")
    gpus = _amount(value, "gpus", 0)
    return Resources(
        cpu_millis=_amount(value, "cpu", DEFAULT_CPU_MILLIS),
        memory_mib=_amount(value, "memory", DEFAULT_MEMORY_MIB),
        gpus=DeviceRequest(count=gpus) if gpus else None,
    )


def _amount(value: Mapping[str, object], key: str, default: int) -> int:
    amount = value.get(key, 0)
    if isinstance(amount, bool) or not isinstance(amount, int) or amount < 0:
        raise InvalidError(f"Invalid task data: resources.{key}: expected a whole number, 0 or more")
    # 0 meant "not given" there.
    return amount or default
