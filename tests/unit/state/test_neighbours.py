"""Required affinity and spreading when a plan comes late: what others did meanwhile counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import Affinity, AllocState, Constraint, ConstraintOperator, JobSpec, Spread
from orchestrator.plan import decide
from orchestrator.state import views
from orchestrator.state.commands import CordonNode, PlanAnswer, RegisterNode, RemoveJob
from tests.unit.state.kit import Kit, Placement, group, job, node

APART = Affinity(weight=-100, required=True)
BESIDE_DB = Affinity(job="db", weight=100, required=True)
ZONES = Spread(attribute="node.zone")


def kit_with(*specs: JobSpec, zones: str = "aabb") -> Kit:
    kit = Kit()
    for at, zone in enumerate(zones):
        kit.ok(RegisterNode(node=replace(node(f"n{at}"), zone=zone), identity=f"agent:n{at}"))
    kit.submit(*specs)
    return kit


def answer_to(kit: Kit, plan: object) -> PlanAnswer:
    answer = kit.ok(plan).answer  # type: ignore[arg-type]
    assert isinstance(answer, PlanAnswer)
    return answer


def test_a_late_plan_puts_nothing_beside_what_must_be_alone() -> None:
    kit = kit_with(job("web", replace(group("api", 3), affinity=(APART,))))
    late = kit.make_plan(Placement("web/api/1", "n0"), Placement("web/api/2", "n1"))
    kit.place("web/api/0", "n0")
    said = "it must not share node.id with api, which is on that of node n0 by now"
    assert answer_to(kit, late) == PlanAnswer(placed=1, acted=0, rejected=(f"web/api/1: {said}",))


def test_rows_of_one_plan_count_for_each_other() -> None:
    kit = kit_with(job("web", replace(group("api", 2), affinity=(APART,))))
    answer = kit.plan(Placement("web/api/0", "n0"), Placement("web/api/1", "n0"))
    assert (answer.placed, len(answer.rejected)) == (1, 1)


def test_a_job_that_asks_for_nothing_in_the_same_plan_changes_nothing_for_the_others() -> None:
    kit = kit_with(job("a"), job("web", replace(group("api", 2), affinity=(APART,))), job("z"))
    answer = kit.plan(*(Placement(alloc, "n0") for alloc in ("a/api/0", "web/api/0", "web/api/1", "z/api/0")))
    assert (answer.placed, [text.split(":")[0] for text in answer.rejected]) == (3, ["web/api/1"])


@pytest.mark.parametrize("number", [-1, 0, 1])
def test_rows_that_mean_nothing_any_more_are_refused_as_such_beside_rows_that_ask_for_neighbours(number: int) -> None:
    """Number 0: the group is there, and its job is removed."""
    kit = kit_with(job("a"), job("web", replace(group("api", 4), affinity=(APART,))))
    rows = [Placement("a/api/0", "n0"), Placement("web/api/0", "n0"), Placement("web/api/1", "n0", attempt=7)]
    plan = kit.make_plan(*rows, Placement("web/api/2", "gone"), Placement("web/api/3", "n0"))
    groups = plan.placements.group.copy()
    groups[0] = number
    if not number:
        kit.ok(RemoveJob(namespace="default", name="a"))
    answer = answer_to(kit, replace(plan, placements=replace(plan.placements, group=groups)))
    reasons = ["the job has no such group by now" if number else "the job is gone", "it is not the next attempt"]
    reasons += ["node gone is gone", "it must not share node.id with api, which is on that of node n0 by now"]
    assert [text.split(": ")[1] for text in answer.rejected] == reasons
    assert answer.placed == 1


def test_what_must_be_beside_another_job_is_refused_once_that_is_gone() -> None:
    kit = kit_with(job("db"), job("web", replace(group("api", 2), affinity=(BESIDE_DB,))))
    kit.place("db/api/0", "n0")
    late = kit.make_plan(Placement("web/api/0", "n0"))
    kit.observe("db/api/0", AllocState.FAILED)
    said = "it must share node.id with db, which is not on that of node n0 by now"
    assert answer_to(kit, late).rejected == (f"web/api/0: {said}",)
    both = kit.plan(Placement("db/api/0", "n1"), Placement("web/api/0", "n1"))
    assert (both.placed, both.rejected) == (2, ())


def test_a_late_plan_keeps_within_the_skew() -> None:
    kit = kit_with(job("web", replace(group("api", 3), spread=(ZONES,))))
    late = kit.make_plan(Placement("web/api/1", "n1"), Placement("web/api/2", "n2"))
    kit.place("web/api/0", "n0")
    said = "it is spread over node.zone with max_skew 1, and one more on node n1 would make the skew 2 by now"
    assert answer_to(kit, late) == PlanAnswer(placed=1, acted=0, rejected=(f"web/api/1: {said}",))


def test_a_node_that_lost_its_value_meanwhile_takes_nothing_that_is_spread() -> None:
    kit = kit_with(job("web", replace(group("api", 1), spread=(ZONES,))))
    late = kit.make_plan(Placement("web/api/0", "n0"))
    kit.ok(RegisterNode(node=node("n0"), identity="agent:n0"))
    (said,) = answer_to(kit, late).rejected
    assert said.endswith("one more on node n0 has no value of it by now")


def test_a_refused_row_makes_the_plan_stale_for_the_rest_of_its_group() -> None:
    kit = kit_with(job("web", replace(group("api", 3), spread=(ZONES,))))
    answer = kit.plan(
        Placement("web/api/0", "n0"), Placement("web/api/1", "n2", attempt=7), Placement("web/api/2", "n1")
    )
    assert answer.placed == 1
    assert [text.split(":")[0] for text in answer.rejected] == ["web/api/1", "web/api/2"]


def test_a_plan_that_is_not_late_is_believed_about_values_that_can_take_nobody() -> None:
    """Such as nodes kept for a gang, of which the state says nothing: or the same plan would be refused for ever."""
    kit = kit_with(job("web", replace(group("api", 2), spread=(ZONES,))))
    kit.place("web/api/0", "n0")
    assert kit.plan(Placement("web/api/1", "n1")).placed == 1


def test_what_the_planner_decides_goes_in_whole() -> None:
    kit = kit_with(
        job("db", group("api", 2)),
        job("web", replace(group("api", 4), spread=(ZONES,), affinity=(APART,))),
        job("cache", replace(group("api", 3), affinity=(BESIDE_DB,))),
    )
    answers = []
    for _ in range(2):  # who wants to be beside the database comes before it by name, so one round later
        decision = decide(views.cluster_view(kit.state), kit.now_ms)
        answers += [answer_to(kit, plan) for plan in decision.plans]
    assert [answer.placed for answer in answers] == [6, 3]
    assert not any(answer.rejected for answer in answers)


# ---------------------------------------------------------------------------- who is meant


@pytest.mark.parametrize("whom", [{}, {"job": "web"}, {"group": "api"}, {"job": "web", "group": "api"}])
def test_who_must_be_with_its_own_begins_anywhere_with_a_value_and_the_others_follow(whom: dict[str, str]) -> None:
    together = Affinity(weight=100, required=True, topology="node.zone", **whom)  # type: ignore[arg-type]
    kit = kit_with(job("web", replace(group("api", 3), affinity=(together,))))
    kit.ok(RegisterNode(node=node("bare"), identity="agent:bare"))
    (nowhere,) = kit.place("web/api/0", "bare").rejected
    assert "which is not on that of node bare by now" in nowhere
    answer = kit.plan(Placement("web/api/0", "n2"), Placement("web/api/1", "n0"), Placement("web/api/2", "n3"))
    assert (answer.placed, [text.split(":")[0] for text in answer.rejected]) == (2, ["web/api/1"])


@pytest.mark.parametrize("weight", [0, 100])
def test_who_must_be_with_another_group_waits_for_that_one(weight: int) -> None:
    beside = Affinity(group="db", weight=weight, required=True)
    kit = kit_with(job("web", replace(group("api", 2), affinity=(beside,)), group("db")))
    said = "it must share node.id with db, which is not on that of node n0 by now"
    assert kit.place("web/api/0", "n0").rejected == (f"web/api/0: {said}",)
    kit.place("web/db/0", "n1")
    assert kit.place("web/api/0", "n1").placed == 1
    assert kit.place("web/api/1", "n0").rejected == (f"web/api/1: {said}",)
    kit.observe("web/db/0", AllocState.FAILED)
    assert kit.place("web/api/1", "n1").placed == 0  # its own group is there, but it is not meant


def test_who_must_be_with_a_job_that_is_not_there_goes_nowhere_and_a_group_of_it_is_named_with_it() -> None:
    kit = kit_with(
        job("web", replace(group("api"), affinity=(replace(BESIDE_DB, group="main"),))),
        job("all", replace(group("api"), affinity=(BESIDE_DB,))),
    )
    said = "it must share node.id with {}, which is not on that of node n0 by now"
    assert kit.place("web/api/0", "n0").rejected == (f"web/api/0: {said.format('db/main')}",)
    assert kit.place("all/api/0", "n0").rejected == (f"all/api/0: {said.format('db')}",)
    kit.submit(job("db", group("other"), group("main")))
    kit.place("db/other/0", "n0")
    assert kit.place("web/api/0", "n0").placed == 0
    assert kit.place("all/api/0", "n0").placed == 1
    kit.place("db/main/0", "n0")
    assert kit.place("web/api/0", "n0").placed == 1


def test_who_is_still_stopping_is_still_there() -> None:
    kit = kit_with(job("web", replace(group("api", 2), affinity=(APART,))))
    kit.place("web/api/0", "n0")
    kit.observe("web/api/0", AllocState.RUNNING)
    kit.observe("web/api/0", AllocState.STOPPING)
    assert kit.place("web/api/1", "n0").placed == 0
    kit.observe("web/api/0", AllocState.STOPPED)
    assert kit.place("web/api/1", "n0").placed == 1


def test_nodes_without_the_value_share_nothing() -> None:
    kit = kit_with(job("db"), job("web", replace(group("api"), affinity=(replace(BESIDE_DB, topology="node.zone"),))))
    for name in ("bare", "other"):
        kit.ok(RegisterNode(node=node(name), identity=f"agent:{name}"))
    kit.place("db/api/0", "bare")
    assert kit.place("web/api/0", "other").placed == 0


def test_wishes_and_conditions_on_nodes_are_no_business_of_apply() -> None:
    """A required one beside them is, wherever it stands."""
    wish = replace(BESIDE_DB, required=False)
    labelled = Affinity(
        constraint=Constraint(attribute="node.id", operator=ConstraintOperator.EXISTS), weight=100, required=True
    )
    for affinity in ((wish, APART), (APART, wish), (labelled, APART)):
        kit = kit_with(job("db"), job("web", replace(group("api", 3), affinity=affinity)))
        kit.place("db/api/0", "n3")
        answer = kit.plan(Placement("web/api/0", "n0"), Placement("web/api/1", "n1"), Placement("web/api/2", "n1"))
        assert (answer.placed, len(answer.rejected)) == (2, 1)
    kit = kit_with(job("web", replace(group("api", 2), spread=(replace(ZONES, required=False),), affinity=(APART,))))
    late = kit.make_plan(Placement("web/api/1", "n1"))
    kit.place("web/api/0", "n0")
    assert answer_to(kit, late).placed == 1


# ---------------------------------------------------------------------------- how many are where


def spread_over(max_skew: int = 1, *more: Spread, count: int = 4) -> Kit:
    return kit_with(job("web", replace(group("api", count), spread=(*more, replace(ZONES, max_skew=max_skew)))))


def test_a_wish_for_spreading_beside_a_demand_leaves_the_demand() -> None:
    kit = spread_over(1, Spread(attribute="node.id", required=False))
    late = kit.make_plan(Placement("web/api/1", "n1"))
    kit.place("web/api/0", "n0")
    assert answer_to(kit, late).placed == 0


def test_rows_of_a_late_plan_count_once_for_those_after_them() -> None:
    kit = spread_over()
    late = kit.make_plan(Placement("web/api/1", "n2"), Placement("web/api/2", "n3"), Placement("web/api/3", "n3"))
    kit.place("web/api/0", "n0")
    answer = answer_to(kit, late)
    assert (answer.placed, [text.split(":")[0] for text in answer.rejected]) == (2, ["web/api/3"])


def test_rows_that_went_in_before_a_refused_one_count_once_for_those_after_it() -> None:
    kit = spread_over()
    answer = kit.plan(
        Placement("web/api/0", "n0"),
        Placement("web/api/1", "n2", attempt=7),
        Placement("web/api/2", "n2"),
        Placement("web/api/3", "n1"),
    )
    assert (answer.placed, [text.split(":")[0] for text in answer.rejected]) == (3, ["web/api/1"])


@pytest.mark.parametrize(("max_skew", "placed"), [(1, 0), (2, 1), (3, 2)])
def test_the_skew_is_to_the_value_that_has_least(max_skew: int, placed: int) -> None:
    kit = spread_over(max_skew)
    late = kit.make_plan(Placement("web/api/1", "n1"), Placement("web/api/2", "n1"))
    kit.place("web/api/0", "n0")
    assert answer_to(kit, late).placed == placed


def test_values_whose_nodes_may_take_nobody_hold_up_nobody() -> None:
    kit = spread_over()
    for name in ("n2", "n3"):
        kit.ok(CordonNode(node_id=name, cordoned=True))
    late = kit.make_plan(Placement("web/api/1", "n1"))
    kit.place("web/api/0", "n0")
    assert answer_to(kit, late).placed == 1


def test_a_value_of_which_one_node_may_take_somebody_counts() -> None:
    kit = spread_over()
    kit.ok(CordonNode(node_id="n2", cordoned=True))
    late = kit.make_plan(Placement("web/api/1", "n1"))
    kit.place("web/api/0", "n0")
    assert answer_to(kit, late).placed == 0


def test_one_change_of_the_group_among_many_makes_a_plan_late_and_one_of_before_does_not() -> None:
    kit = spread_over()
    kit.place("web/api/0", "n0")
    kit.ok(CordonNode(node_id="n1", cordoned=True))
    kit.ok(CordonNode(node_id="n1", cordoned=False))
    plan = kit.make_plan(Placement("web/api/1", "n1"))  # from a state of which the node is the newest part
    assert answer_to(kit, plan).placed == 1
    late = kit.make_plan(Placement("web/api/2", "n1"))
    kit.place("web/api/3", "n0")
    assert answer_to(kit, late).placed == 0


def test_where_no_node_suits_by_now_a_value_still_gets_no_more_than_the_skew() -> None:
    kit = spread_over()
    kit.place("web/api/0", "n0")
    late = kit.make_plan(Placement("web/api/1", "n1"), Placement("web/api/2", "n2"))
    for at, zone in enumerate("aabb"):
        changed = replace(node(f"n{at}"), zone=zone, drivers=("process",))
        kit.ok(RegisterNode(node=changed, identity=f"agent:n{at}"))
    answer = answer_to(kit, late)
    assert [text.split(":")[0] for text in answer.rejected] == ["web/api/1"]
