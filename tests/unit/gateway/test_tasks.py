"""The predecessor's task JSON, both ways."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.answers import JobStatus
from orchestrator.contract.errors import InvalidError
from orchestrator.contract.model import Allocation, AllocationId, AllocState, JobType
from orchestrator.gateway import tasks

ID = "0123456789abcdef0123456789abcdef"
README_CALL = {
    "name": "test-task",
    "image": "alpine",
    "command": ["echo", "hello world"],
    "resources": {"cpu": 500, "memory": 256},
}


def allocation(state: AllocState, *, exit_code: int = 0) -> Allocation:
    return Allocation(
        id=AllocationId(namespace="default", job=f"task-{ID}", group="main", ordinal=0),
        job_uid="u",
        attempt=1,
        node_id="n1",
        state=state,
        exit_code=exit_code,
        create_time_ms=5_000,
        modify_time_ms=9_000,
    )


def test_the_documented_call_becomes_a_batch_job_of_one_task() -> None:
    job = tasks.job_from_task(README_CALL, ID)
    (group,) = job.groups
    (task,) = group.tasks
    assert job.type is JobType.BATCH
    assert job.name == f"task-{ID}"
    assert (task.image, task.args, task.command) == ("alpine", ("echo", "hello world"), ())
    assert (task.resources.cpu_millis, task.resources.memory_mib) == (500, 256)


def test_what_is_not_given_gets_the_predecessors_defaults() -> None:
    job = tasks.job_from_task({"image": "alpine", "resources": {"cpu": 0}}, ID)
    task = job.groups[0].tasks[0]
    resources = task.resources
    assert task.timeout_ms == 3_600_000
    assert tasks.job_from_task({"image": "alpine", "timeout": 0}, ID).groups[0].tasks[0].timeout_ms == 0
    assert (resources.cpu_millis, resources.memory_mib) == (1000, 512)


def test_two_tasks_of_one_name_are_two_jobs() -> None:
    first = tasks.job_from_task(README_CALL, tasks.new_id())
    second = tasks.job_from_task(README_CALL, tasks.new_id())
    assert first.name != second.name
    assert first.metadata == second.metadata


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "x"}, "Image is required"),
        ([1], "expected a JSON object"),
        ({"image": "a", "imge": "b"}, "unknown field 'imge'"),
        ({"image": 3}, "image: expected a string"),
        ({"image": "a", "command": [1]}, "command: expected a list of strings"),
        ({"image": "a", "timeout": -1}, "timeout: expected whole seconds"),
        ({"image": "a", "timeout": "1h"}, "timeout: expected whole seconds"),
        ({"image": "a", "timeout": True}, "timeout: expected whole seconds"),
        ({"image": "a", "resources": {"cpu": -1}}, "resources.cpu"),
        ({"image": "a", "resources": {"cpu": "500m"}}, "resources.cpu"),
        ({"image": "a", "resources": {"cpu": True}}, "resources.cpu"),
        ({"image": "a", "resources": {"disk": 1}}, "unknown field 'disk'"),
        ({"image": "a", "env": {"A": 1}}, "env: expected an object of strings"),
    ],
)
def test_a_bad_task_is_refused_with_the_field(body: object, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        tasks.job_from_task(body, ID)


@pytest.mark.parametrize(
    ("job_state", "found", "expected"),
    [
        ("pending", None, "PENDING"),
        ("pending", allocation(AllocState.PENDING), "ASSIGNED"),
        ("pending", allocation(AllocState.STARTING), "ASSIGNED"),
        ("running", allocation(AllocState.RUNNING), "RUNNING"),
        ("pending", allocation(AllocState.LOST), "PENDING"),
        ("complete", allocation(AllocState.COMPLETE), "COMPLETED"),
        ("failed", allocation(AllocState.FAILED, exit_code=3), "FAILED"),
    ],
)
def test_states_have_the_predecessors_names(job_state: str, found: Allocation | None, expected: str) -> None:
    status = JobStatus(spec=tasks.job_from_task(README_CALL, ID), uid="u", state=job_state, create_time_ms=1_000)
    task: dict[str, Any] = tasks.task_from_job(status, found)
    assert task["state"] == expected
    assert task["id"] == ID
    assert task["name"] == "test-task"


def test_times_and_exit_code_are_those_of_the_run() -> None:
    status = JobStatus(spec=tasks.job_from_task(README_CALL, ID), uid="u", state="failed", create_time_ms=1_000)
    task = tasks.task_from_job(status, allocation(AllocState.FAILED, exit_code=3))
    assert (task["creation_time"], task["start_time"], task["end_time"], task["exit_code"]) == (1, 5, 9, 3)


def test_only_32_hex_digits_name_a_task() -> None:
    assert tasks.job_name(ID) == f"task-{ID}"
    assert tasks.job_name("../" + ID[3:]) is None
    assert tasks.job_name(ID.upper()) is None
