"""What people call what runs, and what they are told where there is nothing of that name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import GroupSpec, JobSpec, JobType, TaskSpec
from orchestrator.contract.place import nowhere


def spec(counts: dict[str, int], kind: JobType = JobType.SERVICE) -> JobSpec:
    task = TaskSpec(name="main", command=("x",))
    groups = tuple(GroupSpec(name=name, count=count, tasks=(task,)) for name, count in counts.items())
    return replace(JobSpec(name="web", groups=groups), type=kind)


@pytest.mark.parametrize(
    ("counts", "place", "said"),
    [
        ({"main": 3}, "2", ""),
        ({"main": 3}, "main/2", ""),
        ({"main": 3}, "main", ""),
        ({"main": 3}, "", ""),
        ({"main": 3}, "3", "job 'web' has no instance 3; it has those from 0 to 2"),
        ({"main": 1}, "main/1", "group 'main' of job 'web' has no instance 1; it has only 0"),
        ({"main": 0}, "main/0", "group 'main' of job 'web' has no instance 0; it has none: its count is 0"),
        ({"api": 2, "db": 1}, "1", ""),
        ({"api": 2, "db": 1}, "db/1", "group 'db' of job 'web' has no instance 1; it has only 0"),
        ({"api": 2, "db": 1}, "cache", "job 'web' has no group 'cache'; it has api, db"),
        ({"api": 2, "db": 1}, "cache/0", "job 'web' has no group 'cache'; it has api, db"),
        ({"0": 1, "1": 5}, "1", ""),
        ({"main": 1}, "9" * 30, "job 'web' has no instance 99999999999999999999; it has only 0"),
    ],
)
def test_what_there_is_not_is_said_with_what_there_is(counts: dict[str, int], place: str, said: str) -> None:
    assert nowhere(spec(counts), place.split("/") if place else []) == said


def test_a_system_job_has_as_many_as_there_are_nodes() -> None:
    assert nowhere(spec({"main": 1}, JobType.SYSTEM), ["main", "40"]) == ""
