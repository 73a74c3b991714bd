"""How a job stands: a failure that will be tried again is pending, one that lasts is failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.answers import JobStatus
from orchestrator.contract.model import AllocState, JobType, RestartMode, RestartPolicy
from orchestrator.state.commands import StopJob
from orchestrator.state.status import has_ended, job_status
from tests.unit.state.kit import Kit, group, job, node


def stand(kit: Kit) -> JobStatus:
    found = kit.state.find_job("default", "a")
    assert found is not None
    return job_status(kit.state, found)


def ready(kind: JobType, policy: RestartPolicy, count: int = 1) -> Kit:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a", replace(group(count=count), restart=policy), kind=kind))
    return kit


def fail_start(kit: Kit, name: str = "a/api/0") -> None:
    kit.place(name, "n1")
    kit.observe(name, AllocState.FAILED, start_failed=True, reason="no such command")


@pytest.mark.parametrize("kind", [JobType.SERVICE, JobType.BATCH])
def test_a_job_is_pending_while_a_retry_is_due_and_failed_after_the_last(kind: JobType) -> None:
    kit = ready(kind, RestartPolicy(attempts=2))
    for _ in range(2):
        fail_start(kit)
        status = stand(kit)
        assert (status.state, status.groups[0].pending, status.groups[0].failed) == ("pending", 1, 0)
        found = kit.state.find_job("default", "a")
        assert found is not None and not has_ended(kit.state, found)
    fail_start(kit)
    status = stand(kit)
    assert (status.state, status.groups[0].pending, status.groups[0].failed) == ("failed", 0, 1)


def test_without_limit_it_is_never_failed() -> None:
    kit = ready(JobType.SERVICE, RestartPolicy(attempts=0, mode=RestartMode.DELAY))
    for _ in range(5):
        fail_start(kit)
    assert stand(kit).state == "pending"


def test_what_failed_after_it_ran_is_failed_at_once() -> None:
    kit = ready(JobType.BATCH, RestartPolicy(attempts=2))
    kit.place("a/api/0", "n1")
    kit.observe("a/api/0", AllocState.FAILED, exit_code=3)
    assert stand(kit).state == "failed"


def test_a_system_instance_that_will_be_tried_again_counts_as_wanted() -> None:
    kit = ready(JobType.SYSTEM, RestartPolicy(attempts=1))
    fail_start(kit)
    groups = stand(kit).groups
    assert (groups[0].count, groups[0].pending, groups[0].failed) == (1, 1, 0)
    fail_start(kit)
    groups = stand(kit).groups
    assert (groups[0].count, groups[0].pending, groups[0].failed) == (1, 0, 1)


def test_a_stopped_job_waits_for_nothing() -> None:
    kit = ready(JobType.SERVICE, RestartPolicy(attempts=2))
    fail_start(kit)
    kit.ok(StopJob(namespace="default", name="a"))
    status = stand(kit)
    assert (status.state, status.groups[0].pending) == ("stopped", 0)
