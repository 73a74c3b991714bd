"""How the command line judges a job that is being rolled out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.cli.ps import rollout_text
from orchestrator.cli.rollout import judge
from orchestrator.cli.views import newest, shown
from orchestrator.contract.answers import GroupStatus, JobStatus
from orchestrator.contract.model import AllocState, Desired, GroupSpec, JobSpec
from orchestrator.contract.rollouts import Rollout, RolloutStatus, UpdateSpec
from tests.unit.cli.test_commands import allocation

WELL = GroupStatus(group="main", count=3, running=3, ready=3, updated=3)
ROLLOUT = Rollout(version=2, began_version=2, status=RolloutStatus.RUNNING)


def job(
    group: GroupStatus = WELL, rollout: Rollout | None = ROLLOUT, *, version: int = 2, canaries: int = 0
) -> JobStatus:
    spec = JobSpec(name="web", groups=(GroupSpec(name="main", count=3, update=UpdateSpec(canaries=canaries)),))
    return JobStatus(spec=spec, version=version, state="running", groups=(group,), rollout=rollout)


@pytest.mark.parametrize(
    ("status", "verdict", "says"),
    [
        (job(), "done", "3 running"),
        (job(rollout=None), "done", "3 running"),
        (job(replace(WELL, ready=2)), "", "1 not ready"),
        (job(replace(WELL, outdated=2, updated=1)), "", "1 updated, 2 to be replaced"),
        (job(replace(WELL, running=2, starting=1, surplus=1, outdated=3, updated=0)),
         "", "2 running, 1 starting, 1 beside their successors, 3 to be replaced"),
        (job(rollout=replace(ROLLOUT, status=RolloutStatus.FAILED, reason="web/main/0 failed: exit code 1")),
         "failed", "web/main/0 failed: exit code 1"),
        (job(rollout=replace(ROLLOUT, status=RolloutStatus.PAUSED)), "held", "paused (raftsman resume web)"),
        (job(replace(WELL, outdated=2, updated=1), replace(ROLLOUT, promoted=False), canaries=1),
         "held", "canaries wait (raftsman promote web)"),
        (job(replace(WELL, outdated=2, updated=0), replace(ROLLOUT, promoted=False), canaries=1),
         "", "2 to be replaced"),
        (job(replace(WELL, running=0, ready=0, updated=0, pending=1), replace(ROLLOUT, promoted=False), canaries=1),
         "", "1 pending"),
        (job(rollout=replace(ROLLOUT, version=3, reverts=2, reason="too slow"), version=3),
         "", "being rolled back, as version 3: too slow"),
        (job(rollout=replace(ROLLOUT, version=3, reverts=2, reason="too slow", status=RolloutStatus.SUCCEEDED),
             version=3),
         "failed", "rolled back, as version 3: too slow"),
    ],
)  # fmt: skip
def test_a_rollout_is_done_failed_held_or_goes_on(status: JobStatus, verdict: str, says: str) -> None:
    found = judge(status, 2)
    assert {name for name in ("done", "failed", "held") if getattr(found, name)} == ({verdict} if verdict else set())
    assert says in found.text


def test_a_version_that_was_taken_back_before_is_no_matter_of_the_next_one() -> None:
    assert judge(job(rollout=replace(ROLLOUT, version=3, reverts=2, status=RolloutStatus.SUCCEEDED), version=4), 4).done


def test_both_attempts_of_an_instance_are_shown_and_the_live_one_counts() -> None:
    old = allocation(0)
    successor = replace(old, attempt=2, state=AllocState.STARTING)
    assert newest([successor, old]) == [successor] and shown([successor, old]) == [old, successor]
    fallen = replace(successor, state=AllocState.FAILED)
    assert newest([old, fallen]) == [old] and shown([old, fallen]) == [old]


def test_the_status_says_where_a_rollout_stands() -> None:
    waits = job(replace(WELL, outdated=2), replace(ROLLOUT, promoted=False))
    assert rollout_text(waits) == "to version 2: running, 2 still to be replaced; canaries wait for 'raftsman promote'"
    held = job(replace(WELL, outdated=2), replace(ROLLOUT, promoted=False, base_version=1))
    assert rollout_text(held).endswith("canaries wait for 'raftsman promote', all else is held at version 1")
    assert rollout_text(job(rollout=replace(ROLLOUT, status=RolloutStatus.SUCCEEDED))) == "to version 2: done"
    assert rollout_text(job(rollout=None)) == ""


def test_the_status_says_whose_end_a_rollout_waits_for() -> None:
    """All was ready, and an old instance that would not stop was named by nothing."""
    old = replace(allocation(0), desired=Desired.STOP, state=AllocState.STOPPING, reason="told to stop")
    both = [old, replace(allocation(0), attempt=2)]
    said = rollout_text(job(replace(WELL, outdated=1)), both)
    assert said.endswith("1 still to be replaced; web/main/0 (attempt 1) on one was told to stop and still runs")
    many = [one for ordinal in range(5) for one in (replace(allocation(ordinal), desired=Desired.STOP),
                                                    replace(allocation(ordinal), attempt=2))]  # fmt: skip
    assert "web/main/2 (attempt 1) on one were told to stop and still run (and 2 more)" in rollout_text(job(), many)
    assert "told" not in rollout_text(job(), [replace(allocation(0), desired=Desired.STOP)])
