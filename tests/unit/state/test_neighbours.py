"""Required affinity and spreading when a plan comes late: what others did meanwhile counts."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.contract.model import Affinity, AllocState, JobSpec, Spread
from orchestrator.plan import decide
from orchestrator.state import views
from orchestrator.state.commands import PlanAnswer, RegisterNode
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
