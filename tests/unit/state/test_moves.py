"""One instance moves: it is told to stop and remembered, one of a group at a time, and none that is not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.contract.model import AllocState, Desired, GangSpec, JobSpec, JobType
from orchestrator.contract.rollouts import UpdateSpec
from orchestrator.state import views
from orchestrator.state.allocations import FREE
from orchestrator.state.commands import JobSubmission, MoveAllocation, ScaleJob, SetFeatureLevel, SubmitJobs
from orchestrator.state.features import COUNTED_MOVES
from tests.unit.state.kit import Kit, Placement, group, job, node


def running(*specs: JobSpec) -> Kit:
    """All instances of the jobs run on n1."""
    kit = Kit()
    kit.register(node("n1", cpu=100_000, memory=100_000))
    kit.submit(*specs)
    for spec in specs:
        for one in spec.groups:
            for ordinal in range(one.count):
                kit.place(f"{spec.name}/{one.name}/{ordinal}", "n1")
                kit.observe(f"{spec.name}/{one.name}/{ordinal}", AllocState.RUNNING)
    return kit


def move(alloc: str, attempt: int = 1) -> MoveAllocation:
    name, group_name, ordinal = alloc.split("/")
    return MoveAllocation(namespace="default", name=name, group=group_name, ordinal=int(ordinal), attempt=attempt)


def test_who_moves_is_told_to_stop_and_its_node_hears_it_once() -> None:
    kit = running(job("web", group(count=2)))
    kit.ok(move("web/api/0"))
    seen = kit.alloc("web/api/0")
    assert (seen.desired, seen.reason, seen.modify_index) == (
        Desired.STOP,
        "moved to another node by rebalance",
        kit.state.index,
    )
    heard = views.assignments_for(kit.state, "n1", kit.state.index - 1).assignments
    assert [(one.key.id.ordinal, one.desired) for one in heard] == [(0, Desired.STOP)]
    assert kit.ok(move("web/api/0")).answer.changed is False  # type: ignore[union-attr]
    assert kit.kinds().count("alloc.moving") == 1


@pytest.mark.parametrize("alloc", ["nobody/api/0", "web/gone/0", "web/api/16"])
def test_what_is_not_there_cannot_move(alloc: str) -> None:
    kit = running(job("web", group(count=16)))
    assert not np.any(kit.state.table.job == FREE)  # of no row could be said that it is the last and free
    assert kit.refused(move(alloc)).reason == "NOT_FOUND"
    assert "alloc.moving" not in kit.kinds()


def test_who_is_being_stopped_or_belongs_to_nothing_any_more_stays() -> None:
    kit = running(job("web", group(count=2)))
    kit.stop("web/api/0")
    assert kit.refused(move("web/api/0")).message == "web/api/0 cannot move: it is being stopped"
    kit.ok(ScaleJob(namespace="default", name="web", group="api", count=0))
    refused = kit.refused(move("web/api/1"))
    assert refused.message == "web/api/1 cannot move: its group has no instances any more"
    kit = running(job("web", group("api"), group("other")))
    kit.submit(job("web", group("other")))
    assert kit.refused(move("web/api/0")).message == "web/api/0 cannot move: its group was removed from the job"


def test_only_its_own_group_matters() -> None:
    kit = running(job("web", group("other"), group("api")))
    kit.observe("web/other/0", AllocState.FAILED)
    assert "no live allocation" in kit.refused(move("web/other/0")).message
    kit.ok(move("web/api/0"))


def test_members_of_a_gang_stay_together() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("mpi", group(count=2, gang=GangSpec())))
    kit.plan(Placement("mpi/api/0", "n1"), Placement("mpi/api/1", "n1"))
    for ordinal in (0, 1):
        kit.observe(f"mpi/api/{ordinal}", AllocState.RUNNING)
    assert "it belongs to a gang" in kit.refused(move("mpi/api/0")).message


@pytest.mark.parametrize(
    ("kind", "why"),
    [(JobType.BATCH, "a batch job, which would begin anew"), (JobType.SYSTEM, "its node")],
)
def test_only_services_move(kind: JobType, why: str) -> None:
    kit = running(replace(job("sum", kind=kind)))
    assert kit.refused(move("sum/api/0")).message == f"sum/api/0 cannot move: it belongs to {why}"


def at_level(level: int, *specs: JobSpec) -> Kit:
    kit = running(*specs)
    kit.ok(SetFeatureLevel(level=level))
    return kit


@pytest.mark.parametrize("level", [COUNTED_MOVES - 1, COUNTED_MOVES])
def test_what_is_above_the_count_does_not_stand_in_for_who_is_missing(level: int) -> None:
    """Peers of before count it, so the rule waits until there is none."""
    kit = at_level(level, job("web", group(count=3)))
    kit.ok(ScaleJob(namespace="default", name="web", group="api", count=2))
    kit.observe("web/api/0", AllocState.FAILED)
    if level < COUNTED_MOVES:
        kit.ok(move("web/api/1"))
        return
    why = "1 of 2 of its group do not run: one at a time"
    assert kit.refused(move("web/api/1")).message == f"web/api/1 cannot move: {why}"
    assert kit.refused(move("web/api/2")).message == "web/api/2 cannot move: its group has 2 instances by now"
    kit.place("web/api/0", "n1")
    kit.observe("web/api/0", AllocState.RUNNING)
    kit.ok(move("web/api/1"))


@pytest.mark.parametrize("level", [COUNTED_MOVES - 1, COUNTED_MOVES])
def test_two_attempts_of_one_instance_do_not_stand_in_for_another(level: int) -> None:
    surging = replace(group(count=3), update=UpdateSpec(max_surge=1, max_unavailable=0))
    kit = at_level(level, job("web", surging))
    spec = job("web", replace(surging, tasks=group(image="two").tasks))
    kit.ok(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="again", remember=True),)))
    kit.place("web/api/0", "n1")
    kit.observe("web/api/0", AllocState.RUNNING)
    assert len(kit.state.table.live_rows()) == 4
    kit.observe("web/api/1", AllocState.FAILED)
    if level < COUNTED_MOVES:
        kit.ok(move("web/api/2"))
        return
    assert "1 of 3 of its group do not run" in kit.refused(move("web/api/2")).message
