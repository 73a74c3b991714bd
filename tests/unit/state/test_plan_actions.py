"""Which attempt an action of a plan means, where two of an instance live, and drains that budgets bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.contract.model import AllocState, Desired, Disruption, JobSpec
from orchestrator.contract.rollouts import UpdateSpec
from orchestrator.state.commands import (
    Action,
    JobSubmission,
    MarkNodes,
    NodeMark,
    PlanAnswer,
    RemoveJob,
    SetFeatureLevel,
    SubmitJobs,
)
from orchestrator.state.disruption import DRAINED
from orchestrator.state.features import BUDGETED_DRAINS
from tests.unit.state.kit import Kit, group, job, node


def submit(kit: Kit, spec: JobSpec) -> None:
    kit.ok(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"uid-{spec.name}", remember=True),)))


def kit_with(*specs: JobSpec, level: int = BUDGETED_DRAINS) -> Kit:
    kit = Kit()
    kit.ok(SetFeatureLevel(level=level))
    kit.register(node("n1", cpu=100_000, memory=100_000))
    for spec in specs:
        submit(kit, spec)
    return kit


def surging(image: str) -> JobSpec:
    return job("web", replace(group(image=image), update=UpdateSpec(max_surge=1, max_unavailable=0)))


def stop(kit: Kit, alloc: str, attempt: int, version: int, action: Action = Action.STOP) -> PlanAnswer:
    plan = kit.make_plan(actions=[(action, f"{alloc}#{attempt}", "told to")])
    answer = kit.ok(replace(plan, actions=replace(plan.actions, version=np.array([version], dtype=np.int32)))).answer
    assert isinstance(answer, PlanAnswer)
    return answer


def desired(kit: Kit, alloc: str) -> dict[int, Desired]:
    """By attempt, newest first."""
    return {attempt: kit.alloc(alloc, attempt).desired for attempt in kit.attempts(alloc)}


@pytest.mark.parametrize("first", ["old", "new", "other"])
@pytest.mark.parametrize("attempt", [1, 2])
def test_of_two_live_attempts_the_one_that_was_named_stops(attempt: int, first: str) -> None:
    """``first``: whose row is the first of the table."""
    kit = kit_with(job("before"), surging("one"))
    if first != "old":
        kit.place("before/api/0", "n1")
    kit.place("web/api/0", "n1")
    kit.observe("web/api/0", AllocState.RUNNING)
    if first == "new":
        kit.ok(RemoveJob(namespace="default", name="before"))
        kit.observe("before/api/0", AllocState.STOPPED)
    submit(kit, surging("two"))
    kit.place("web/api/0", "n1")
    assert int(kit.state.table.attempt[0]) == (2 if first == "new" else 1)
    assert stop(kit, "web/api/0", attempt, version=attempt).acted == 1
    other = 3 - attempt
    assert desired(kit, "web/api/0") == {attempt: Desired.STOP, other: Desired.RUN}


def test_of_an_attempt_that_lives_and_one_before_it_only_the_live_one_is_stopped() -> None:
    kit = kit_with(job("web"))
    kit.place("web/api/0", "n1")
    kit.observe("web/api/0", AllocState.FAILED)
    kit.place("web/api/0", "n1")
    assert stop(kit, "web/api/0", 1, version=1).rejected == ("web/api/0: attempt 1 is not live any more",)
    assert stop(kit, "web/api/0", 2, version=1).acted == 1
    assert kit.alloc("web/api/0").desired is Desired.STOP


def test_an_action_on_an_instance_that_was_never_placed_touches_nobody() -> None:
    kit = kit_with(job("other", group(count=2)), job("web", group(count=2)))
    for alloc in ("other/api/0", "other/api/1", "web/api/1"):
        kit.place(alloc, "n1")
    assert stop(kit, "web/api/0", 1, version=1).acted == 0
    for alloc in ("other/api/0", "other/api/1", "web/api/1"):
        assert kit.alloc(alloc).desired is Desired.RUN


def test_a_plan_that_names_no_versions_means_the_group_that_stood_there_first() -> None:
    kit = kit_with(job("web", group("first")))
    kit.place("web/first/0", "n1")
    submit(kit, job("web", group("second")))
    kit.place("web/second/0", "n1")
    plan = kit.make_plan(actions=[(Action.STOP, "web/second/0#1", "told to")])
    kit.ok(replace(plan, actions=replace(plan.actions, version=None)))
    assert kit.alloc("web/first/0").desired is Desired.STOP
    assert kit.alloc("web/second/0").desired is Desired.RUN


# ---------------------------------------------------------------------------- drains


def running(budget: Disruption | None, level: int = BUDGETED_DRAINS) -> Kit:
    kit = kit_with(replace(job("web", group(count=2)), disruption=budget), level=level)
    for ordinal in (0, 1):
        kit.place(f"web/api/{ordinal}", "n1")
        kit.observe(f"web/api/{ordinal}", AllocState.RUNNING)
    return kit


def test_a_drain_stops_at_once_who_has_no_budget_and_others_as_far_as_it_goes() -> None:
    actions = [(Action.STOP, f"web/api/{ordinal}", DRAINED) for ordinal in (0, 1)]
    kit = running(None)
    assert kit.plan(actions=actions).acted == 2
    assert [kit.alloc(f"web/api/{at}").reason for at in (0, 1)] == [DRAINED, DRAINED]
    assert kit.kinds().count("alloc.stop") == 2
    kit = running(Disruption(max_unavailable=1))
    answer = kit.plan(actions=actions)
    assert (answer.acted, [text.split(" ")[0] for text in answer.rejected]) == (1, ["web/api/1"])
    kit = running(Disruption(max_unavailable=1), BUDGETED_DRAINS - 1)  # a peer of before would stop both
    assert kit.plan(actions=actions).acted == 2


def test_only_what_a_drain_stops_is_held_against_the_budget() -> None:
    kit = running(Disruption(max_unavailable=0))
    assert kit.stop("web/api/0", "surplus").acted == 1
    mark = NodeMark(node_id="n1", register_index=kit.state.nodes["n1"].register_index)
    kit.ok(MarkNodes(lost=(mark,)))
    assert kit.lose("web/api/1", DRAINED).acted == 1
    assert kit.alloc("web/api/1").state is AllocState.LOST
