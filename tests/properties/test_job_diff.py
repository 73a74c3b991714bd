"""The difference of two job specs: nothing where they are equal, something where they are not, by the users' names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from orchestrator.contract import model
from orchestrator.contract.model import GroupSpec, JobSpec, TaskSpec
from orchestrator.foresight.job_diff import job_diff
from orchestrator.jobfile.file import load
from tests.effort import examples
from tests.unit.contract.test_codec import instances

EXAMPLES = Path(__file__).parents[2] / "examples"
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


PLACED = """
name: trainer
command: [sleep, "1"]
affinity: [{node: "disk = ssd", weight: 80}, {own: true, weight: -50}]
spread: [{over: node.zone, max_skew: 2}]
tolerations: ["gpu=only:NoSchedule", "*"]
resources: {custom: {licenses: 2}}
"""


def test_what_has_no_name_is_told_in_words_and_what_a_map_gains_with_its_value() -> None:
    said = {one.path: one.after for one in job_diff(None, load(PLACED))}
    assert said["groups.main.affinity"] == "[{constraint: disk = ssd, weight: 80}, {weight: -50}]"
    assert said["groups.main.spread"] == "[{attribute: node.zone, max_skew: 2}]"
    assert said["groups.main.tolerations"] == "[{key: gpu, value: only, effect: no_schedule}, {}]"
    assert said["groups.main.tasks.main.resources.custom.licenses"] == "2"


def test_what_is_new_was_nothing_else_before() -> None:
    """Not the default, which nobody had written: a new job's count is no `1 -> 3`."""
    job = load("name: web\ncount: 3\npriority: 10\ncommand: [sleep]\nresources: {cpu: 500m}")
    assert {(one.kind, one.before) for one in job_diff(None, job)} == {("added", "")}
    assert ("groups.main.count", "3") in {(one.path, one.after) for one in job_diff(None, job)}
    more = replace(job, groups=(*job.groups, replace(job.groups[0], name="more")))
    assert {(one.kind, one.before) for one in job_diff(job, more)} == {("added", "")}
    assert {(one.kind, one.after) for one in job_diff(more, job)} == {("removed", "")}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_example_is_told_in_the_words_of_the_program(path: Path) -> None:
    kinds = {kind.__name__ for kind in vars(model).values() if isinstance(kind, type)}
    said = " ".join(one.after for one in job_diff(None, load(path.read_text())))
    assert not [kind for kind in kinds if f"{kind}(" in said or f"<{kind}." in said]
