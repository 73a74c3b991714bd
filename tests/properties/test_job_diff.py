"""The difference of two job specs: nothing where they are equal, something where they are not, by the users' names."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings

from orchestrator.contract.model import GroupSpec, JobSpec, TaskSpec
from orchestrator.foresight.job_diff import job_diff
from tests.effort import examples
from tests.unit.contract.test_codec import instances

QUIET = settings(max_examples=examples(80), deadline=None, suppress_health_check=list(HealthCheck))


@given(instances(JobSpec), instances(JobSpec))
@QUIET
def test_equal_specs_have_no_difference_and_others_have_one(one: JobSpec, other: JobSpec) -> None:
    assert job_diff(one, replace(one)) == ()
    assert bool(job_diff(one, other)) is (one != other)
    assert job_diff(None, one)


@given(instances(JobSpec), instances(JobSpec))
@QUIET
def test_there_and_back_are_mirrored(one: JobSpec, other: JobSpec) -> None:
    there, back = job_diff(one, other), job_diff(other, one)
    turn = {"added": "removed", "removed": "added", "changed": "changed"}
    mirrored = [(turn[change.kind], change.after, change.before) for change in there]
    assert sorted(mirrored) == sorted((change.kind, change.before, change.after) for change in back)


def test_groups_and_tasks_are_paired_by_name_whatever_their_order() -> None:
    def group(name: str, image: str) -> GroupSpec:
        return GroupSpec(name=name, tasks=(TaskSpec(name="main", image=image),))

    before = JobSpec(name="web", groups=(group("a", "a:1"), group("b", "b:1")))
    after = JobSpec(name="web", groups=(group("b", "b:2"), group("c", "c:1")))
    said = {(one.kind, one.path): (one.before, one.after) for one in job_diff(before, after)}
    assert said[("changed", "groups.b.tasks.main.image")] == ("b:1", "b:2")
    assert ("removed", "groups.a") in said
    assert ("added", "groups.c") in said
    swapped = job_diff(before, replace(before, groups=before.groups[::-1]))
    assert [one.path for one in swapped] == ["groups (order)"]
