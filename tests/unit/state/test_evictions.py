"""Evictions are judged again when they are applied, and victims know for whom they made room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.contract.model import AllocState, Desired, Disruption, JobSpec, SettingsChange
from orchestrator.state import views
from orchestrator.state.commands import (
    Action,
    Applied,
    ApplyPlan,
    JobSubmission,
    PlanAnswer,
    RegisterNode,
    SetSettings,
    StopJob,
    SubmitJobs,
)
from tests.unit.state.kit import Kit, Placement, group, job, node

WHY = "preempted by web/api/0 (priority 80)"


def stage(low: JobSpec | None = None) -> Kit:
    kit = Kit()
    kit.ok(RegisterNode(node=node("n1"), identity="agent:n1"))
    specs = (low or replace(job("low", group(count=2)), priority=20), replace(job("web"), priority=80))
    kit.ok(SubmitJobs(jobs=tuple(JobSubmission(spec=spec, uid=f"uid-{spec.name}") for spec in specs)))
    kit.plan(Placement("low/api/0", "n1"), Placement("low/api/1", "n1"))
    for ordinal in (0, 1):
        kit.observe(f"low/api/{ordinal}", AllocState.RUNNING)
    return kit


def eviction(kit: Kit, *allocs: str, by: str = "uid-web") -> ApplyPlan:
    plan = kit.make_plan(actions=[(Action.EVICT, alloc, WHY) for alloc in allocs])
    columns = replace(plan.actions, job=plan.actions.job + np.int32(1), by=np.zeros(len(allocs), dtype=np.int32))
    return replace(plan, jobs=(by, *plan.jobs), actions=columns)


def evict(kit: Kit, *allocs: str, by: str = "uid-web") -> PlanAnswer:
    outcome = kit.do(eviction(kit, *allocs, by=by))
    assert isinstance(outcome, Applied)
    assert isinstance(outcome.answer, PlanAnswer)
    return outcome.answer


def test_a_victim_is_told_to_stop_and_why_and_keeps_the_reason_when_it_has_stopped() -> None:
    kit = stage()
    assert evict(kit, "low/api/0").rejected == ()
    assert (kit.alloc("low/api/0").desired, kit.alloc("low/api/0").reason) == (Desired.STOP, WHY)
    assert kit.kinds()[-1] == "alloc.preempted"
    assert kit.alloc("low/api/0").modify_index == kit.state.index
    heard = views.assignments_for(kit.state, "n1", kit.state.index - 1).assignments
    assert [(one.key.id.ordinal, one.desired) for one in heard] == [(0, Desired.STOP)]
    kit.observe("low/api/0", AllocState.STOPPING, reason="told to stop")
    kit.observe("low/api/0", AllocState.STOPPED, reason="stopped as told")
    assert (kit.alloc("low/api/0").state, kit.alloc("low/api/0").reason) == (AllocState.STOPPED, WHY)


def test_a_victim_that_fails_while_it_stops_says_both() -> None:
    kit = stage()
    evict(kit, "low/api/0")
    kit.observe("low/api/0", AllocState.FAILED, reason="exit code 3")
    assert kit.alloc("low/api/0").reason == f"{WHY}; exit code 3"


@pytest.mark.parametrize(
    ("low", "said"),
    [
        (replace(job("low", group(count=2)), priority=80), "its priority 80 (high) is not below 80 (high) of web"),
        (replace(job("low", group(count=2)), priority=20, unpreemptible=True), "low is not preemptible"),
        (
            replace(job("low", group(count=2)), priority=20, disruption=Disruption(max_unavailable=0)),
            "the disruption budget of low/api: 0 of 2 may be down, 0 are",
        ),
    ],
    ids=["priority", "unpreemptible", "budget"],
)
def test_an_eviction_that_may_not_be_is_rejected_alone(low: JobSpec, said: str) -> None:
    kit = stage(low)
    answer = evict(kit, "low/api/0")
    assert answer.acted == 0
    assert said in answer.rejected[0]
    assert kit.alloc("low/api/0").desired is Desired.RUN


def test_the_budget_is_judged_after_the_evictions_before_in_the_same_plan() -> None:
    kit = stage(
        replace(job("low", group(count=2)), priority=20, disruption=Disruption(max_unavailable=50, percent=True))
    )
    answer = evict(kit, "low/api/0", "low/api/1")
    assert (answer.acted, len(answer.rejected)) == (1, 1)
    assert "1 of 2 may be down, 1 is" in answer.rejected[0]


def test_who_was_told_to_stop_makes_room_for_nobody_else() -> None:
    kit = stage()
    kit.stop("low/api/0", "surplus")
    answer = evict(kit, "low/api/0")
    assert (answer.acted, answer.rejected) == (0, ("low/api/0 was already told to stop",))
    assert kit.alloc("low/api/0").reason == "surplus"


def test_nobody_makes_room_for_a_job_that_wants_none_or_while_preemption_is_off() -> None:
    kit = stage()
    kit.ok(StopJob(namespace="default", name="web"))
    assert "stopped or gone" in evict(kit, "low/api/0").rejected[0]
    assert "stopped or gone" in evict(kit, "low/api/0", by="nobody").rejected[0]
    kit.ok(SetSettings(change=SettingsChange(preemption=False)))
    assert "preemption is off" in evict(kit, "low/api/0").rejected[0]
    assert kit.alloc("low/api/0").desired is Desired.RUN


def test_an_eviction_that_does_not_say_for_whom_makes_room_for_nobody() -> None:
    kit = stage()
    plan = eviction(kit, "low/api/0")
    answer = kit.ok(replace(plan, actions=replace(plan.actions, by=None))).answer
    assert isinstance(answer, PlanAnswer)
    why = "low/api/0 need not make room: the job that was to get it is stopped or gone"
    assert (answer.acted, answer.rejected) == (0, (why,))
    assert kit.alloc("low/api/0").desired is Desired.RUN


def test_an_eviction_for_a_job_outside_of_the_plan_is_malformed() -> None:
    kit = stage()
    plan = eviction(kit, "low/api/0")
    both = eviction(kit, "low/api/0", "low/api/1")
    for by in (-2, 2):
        strange = replace(plan, actions=replace(plan.actions, by=np.array([by], dtype=np.int32)))
        assert kit.refused(strange).reason == "INVALID"
        strange = replace(both, actions=replace(both.actions, by=np.array([by, 0], dtype=np.int32)))
        assert kit.refused(strange).reason == "INVALID"
    kit.ok(replace(plan, actions=replace(plan.actions, by=np.array([-1], dtype=np.int32))))  # for nobody
    empty = kit.make_plan()
    kit.ok(replace(empty, actions=replace(empty.actions, by=np.zeros(0, dtype=np.int32))))
