"""Jobs: what the scenario files do not tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.answers import GroupStatus
from orchestrator.contract.model import (
    AllocState,
    Constraint,
    ConstraintOperator,
    DeviceRequest,
    GroupSpec,
    JobSpec,
    JobType,
    OnDisconnect,
    PortSpec,
    Resources,
    RestartPolicy,
    TaskSpec,
)
from orchestrator.state import views
from orchestrator.state.commands import (
    Applied,
    JobsAnswer,
    JobSubmission,
    Rejected,
    RestartJob,
    ScaleJob,
    StopJob,
    SubmitJobs,
)
from orchestrator.state.status import job_status
from tests.unit.state.kit import Kit, group, job, node, with_count


def test_many_jobs_go_in_all_or_none() -> None:
    kit = Kit()
    outcome = kit.submit(job("a"), job("b"), job("bad/name"))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "INVALID"
    assert "bad/name" in outcome.message
    assert not kit.state.jobs
    assert isinstance(kit.submit(job("a"), job("b")), Applied)
    assert sorted(known.spec.name for known in kit.state.jobs.values()) == ["a", "b"]


def test_one_name_twice_in_a_request_is_refused() -> None:
    outcome = Kit().submit(job("a"), job("a"))
    assert isinstance(outcome, Rejected)
    assert "twice" in outcome.message


def test_a_submission_is_told_as_what_it_was_and_one_of_the_same_is_none() -> None:
    kit = Kit()
    seen = []
    for spec in (job("a"), job("a"), job("a", group(count=2))):
        before = kit.state.index
        outcome = kit.submit(spec)
        assert isinstance(outcome, Applied) and isinstance(outcome.answer, JobsAnswer)
        seen.append((outcome.answer.jobs[0].version, outcome.answer.jobs[0].changed, kit.kinds(before)))
    assert seen == [(1, True, ["job.submitted"]), (1, False, []), (2, True, ["job.updated"])]


@pytest.mark.parametrize(("expect", "words"), [(0, "expected not to exist"), (7, "expected at version 7")])
def test_what_was_expected_of_a_job_that_is_another_is_said(expect: int, words: str) -> None:
    kit = Kit()
    kit.submit(job("a"))
    outcome = kit.submit(job("a", group(count=2)), expect=expect)
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, "is at version 1, but was " + words in outcome.message) == ("CONFLICT", True)


def test_a_uid_of_another_job_is_refused() -> None:
    kit = Kit()
    kit.ok(SubmitJobs(jobs=(JobSubmission(spec=job("a"), uid="u"),)))
    assert kit.refused(SubmitJobs(jobs=(JobSubmission(spec=job("b"), uid="u"),))).reason == "ALREADY_EXISTS"


def test_the_uid_stays_through_versions_and_is_new_after_removal() -> None:
    kit = Kit()
    kit.submit(job("a"))
    first = kit.state.find_job("default", "a")
    kit.submit(job("a", group(image="other")))
    second = kit.state.find_job("default", "a")
    assert first is not None
    assert second is not None
    assert (second.uid, second.version) == (first.uid, 2)
    assert second.submit_index > first.submit_index


HUGE = 2**50


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(job("a" * 129), id="name too long"),
        pytest.param(job("../x"), id="name with a path"),
        pytest.param(replace(job("a"), namespace=""), id="no namespace"),
        pytest.param(JobSpec(name="a"), id="no group"),
        pytest.param(job("a", group("x"), group("x")), id="two groups of one name"),
        pytest.param(job("a", GroupSpec(name="x")), id="no task"),
        pytest.param(job("a", replace(group(), tasks=group().tasks * 2)), id="two tasks of one name"),
        pytest.param(job("a", group(count=-1)), id="negative count"),
        pytest.param(job("a", group(count=100_001)), id="absurd count"),
        pytest.param(replace(job("a"), priority=101), id="priority above 100"),
        pytest.param(replace(job("a"), priority=-1), id="negative priority"),
        pytest.param(job("a", group(cpu=-1)), id="negative cpu"),
        pytest.param(job("a", group(memory=HUGE)), id="absurd memory"),
        pytest.param(job("a", group(gpus=65)), id="more devices than a mask has"),
        pytest.param(job("a", group(gpus=1, share=1001)), id="more than a whole device"),
        pytest.param(job("a", group(ports=(70_000,))), id="port out of range"),
        pytest.param(job("a", group(ports=(80, 80))), id="one host port twice"),
        pytest.param(
            job("a", replace(group(), ports=(PortSpec(label="p"), PortSpec(label="p")))), id="one port label twice"
        ),
        pytest.param(job("a", replace(group(), restart=RestartPolicy(attempts=-1))), id="negative attempts"),
        pytest.param(
            job(
                "a",
                replace(
                    group(),
                    tasks=tuple(
                        TaskSpec(name=name, resources=Resources(gpus=DeviceRequest(count=1))) for name in ("t", "u")
                    ),
                ),
            ),
            id="devices for two tasks",
        ),
    ],
)
def test_absurd_jobs_are_refused_whoever_proposes_them(spec: JobSpec) -> None:
    kit = Kit()
    outcome = kit.submit(spec)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "INVALID"
    assert not kit.state.jobs


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"type": JobType.BATCH}, id="type"),
        pytest.param(
            {"constraints": (Constraint(attribute="zone", operator=ConstraintOperator.EXISTS),)}, id="constraints"
        ),
    ],
)
def test_what_concerns_the_whole_job_makes_every_group_outdated(change: dict[str, object]) -> None:
    kit = Kit()
    spec = job("a", group("x"), group("y"))
    kit.submit(spec)
    kit.submit(replace(spec, **change))  # type: ignore[arg-type]
    known = kit.state.find_job("default", "a")
    assert known is not None
    assert known.group_versions == (2, 2)


@pytest.mark.parametrize("change", [{"priority": 70}, {"placement": "spread"}, {"metadata": (("team", "x"),)}])
def test_what_concerns_only_the_leader_restarts_nothing(change: dict[str, object]) -> None:
    kit = Kit()
    spec = job("a", group("x"), group("y"))
    kit.submit(spec)
    kit.submit(replace(spec, **change))  # type: ignore[arg-type]
    known = kit.state.find_job("default", "a")
    assert known is not None
    assert (known.version, known.group_versions) == (2, (1, 1))


def test_changed_groups_alone_are_outdated_and_places_may_change() -> None:
    kit = Kit()
    kit.submit(job("a", group("x"), group("y")))
    kit.submit(job("a", group("z"), group("y", image="new"), group("x", 5)))
    known = kit.state.find_job("default", "a")
    assert known is not None
    assert known.group_versions == (2, 2, 1)


def test_agents_hear_at_once_of_another_on_disconnect() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a"))
    kit.place("a/api/0", "n1")
    before = kit.state.index
    kit.submit(replace(job("a"), on_disconnect=OnDisconnect.STOP))
    update = views.assignments_for(kit.state, "n1", before)
    assert [sub.on_disconnect for sub in update.assignments] == [OnDisconnect.STOP]


def test_older_specs_are_kept_while_rows_name_them() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a", group(image="one")))
    kit.place("a/api/0", "n1")
    for image in ("two", "three"):
        kit.submit(job("a", group(image=image)))
    known = kit.state.find_job("default", "a")
    assert known is not None
    assert [version for version, _ in known.specs] == [1, 3]
    (assignment,) = views.assignments_for(kit.state, "n1").assignments
    assert assignment.group.tasks[0].image == "one"


def test_restart_makes_every_instance_outdated_and_scale_makes_none() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a", group(count=2)))
    kit.place("a/api/0", "n1")
    kit.ok(ScaleJob(namespace="default", name="a", group="", count=1))
    assert _status(kit).outdated == 0
    kit.ok(RestartJob(namespace="default", name="a"))
    assert _status(kit).outdated == 1


def test_a_system_job_is_not_scaled() -> None:
    kit = Kit()
    kit.submit(job("a", kind=JobType.SYSTEM))
    assert kit.refused(ScaleJob(namespace="default", name="a", group="", count=2)).reason == "FAILED_PRECONDITION"


def test_a_system_job_may_have_any_number_of_instances() -> None:
    kit = Kit()
    for name in ("n1", "n2"):
        kit.register(node(name))
    kit.submit(job("a", kind=JobType.SYSTEM))
    assert kit.place("a/api/0", "n1").placed == 1
    assert kit.place("a/api/7", "n2").placed == 1
    assert _status(kit).count == 2


def test_a_stopped_job_is_neither_scaled_nor_restarted() -> None:
    kit = Kit()
    kit.submit(job("a"))
    kit.ok(StopJob(namespace="default", name="a"))
    assert kit.refused(ScaleJob(namespace="default", name="a", group="", count=2)).reason == "FAILED_PRECONDITION"
    assert kit.refused(RestartJob(namespace="default", name="a")).reason == "FAILED_PRECONDITION"


def test_a_completed_batch_job_is_complete_and_a_restart_runs_it_again() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a", group(count=2), kind=JobType.BATCH))
    for alloc in ("a/api/0", "a/api/1"):
        kit.place(alloc, "n1")
        kit.observe(alloc, AllocState.COMPLETE)
    known = kit.state.find_job("default", "a")
    assert known is not None
    assert job_status(kit.state, known).state == "complete"
    kit.ok(RestartJob(namespace="default", name="a"))
    status = job_status(kit.state, kit.state.jobs[known.uid])
    assert (status.state, status.groups[0].pending) == ("pending", 2)


def test_submitting_a_changed_count_is_a_new_version_that_restarts_nothing() -> None:
    kit = Kit()
    kit.submit(job("a"))
    outcome = kit.submit(with_count(job("a"), 3))
    assert isinstance(outcome, Applied)
    assert isinstance(outcome.answer, JobsAnswer)
    assert outcome.answer.jobs[0].version == 2
    known = kit.state.find_job("default", "a")
    assert known is not None
    assert known.group_versions == (1,)


def _status(kit: Kit) -> GroupStatus:
    known = kit.state.find_job("default", "a")
    assert known is not None
    return job_status(kit.state, known).groups[0]
