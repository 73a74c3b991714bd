"""Taints and custom resources in the replicated state: what commands do, and what apply refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import AllocState, NodeTaint, Resources, Taint, TaintEffect, TaintKey, Toleration
from orchestrator.state import views
from orchestrator.state.commands import Applied, PlanAnswer, RegisterNode, Rejected, TaintNode
from orchestrator.state.snapshot import capture, image_hash, restore
from tests.unit.state.kit import Kit, Placement, group, job, node

GPU = Taint(key="gpu", value="only", effect=TaintEffect.NO_SCHEDULE)
BROKEN = Taint(key="broken", effect=TaintEffect.NO_EXECUTE)


def kit_with_node(**more: object) -> Kit:
    kit = Kit()
    kit.ok(RegisterNode(node=replace(node("n1"), **more), identity="agent:n1"))  # type: ignore[arg-type]
    return kit


def texts(kit: Kit, kind: str) -> list[str]:
    return [event.message for event in kit.state.events.after(0) if event.kind == kind]


def test_an_operator_puts_taints_on_and_takes_them_off_and_events_say_so() -> None:
    kit = kit_with_node()
    kit.ok(TaintNode(node_id="n1", put=(GPU, BROKEN)))
    since_ms = kit.state.time_ms
    assert kit.state.nodes["n1"].taints == (
        NodeTaint(taint=BROKEN, since_ms=since_ms),
        NodeTaint(taint=GPU, since_ms=since_ms),
    )
    assert views.node_info(kit.state, kit.state.nodes["n1"]).taints == kit.state.nodes["n1"].taints
    kit.ok(TaintNode(node_id="n1", drop=(TaintKey(key="gpu"),)))
    assert [one.taint for one in kit.state.nodes["n1"].taints] == [BROKEN]
    assert texts(kit, "node.tainted") == ["broken:NoExecute", "gpu=only:NoSchedule"]
    assert texts(kit, "node.untainted") == ["gpu=only:NoSchedule"]


def test_the_same_taint_again_changes_nothing_and_keeps_its_time() -> None:
    kit = kit_with_node()
    kit.ok(TaintNode(node_id="n1", put=(BROKEN,)))
    (first,) = kit.state.nodes["n1"].taints
    kit.now_ms += 60_000
    answer = kit.do(TaintNode(node_id="n1", put=(BROKEN,)))
    assert isinstance(answer, Applied)
    assert answer.answer.changed is False  # type: ignore[union-attr]
    assert kit.state.nodes["n1"].taints == (first,)
    kit.ok(TaintNode(node_id="n1", put=(replace(BROKEN, value="disk"),)))
    assert kit.state.nodes["n1"].taints[0].since_ms > first.since_ms


def test_only_the_effect_that_was_named_is_taken_away() -> None:
    kit = kit_with_node()
    kit.ok(TaintNode(node_id="n1", put=(GPU, replace(GPU, effect=TaintEffect.NO_EXECUTE))))
    kit.ok(TaintNode(node_id="n1", drop=(TaintKey(key="gpu", effect=TaintEffect.NO_SCHEDULE),)))
    assert [one.taint.effect for one in kit.state.nodes["n1"].taints] == [TaintEffect.NO_EXECUTE]


def test_what_an_agent_declares_is_its_own_and_survives_its_registrations() -> None:
    kit = kit_with_node(taints=(GPU,))
    kit.ok(TaintNode(node_id="n1", put=(BROKEN,)))
    declared, mine = list(kit.state.nodes["n1"].taints)
    assert (declared.taint, declared.declared, mine.declared) == (GPU, True, False)
    for command in (TaintNode(node_id="n1", drop=(TaintKey(key="gpu"),)), TaintNode(node_id="n1", put=(GPU,))):
        answer = kit.do(command)
        assert isinstance(answer, Rejected)
        assert answer.reason == "FAILED_PRECONDITION"
    kit.ok(RegisterNode(node=replace(node("n1"), taints=(GPU,), version="2"), identity="agent:n1"))
    assert list(kit.state.nodes["n1"].taints) == [declared, mine]
    kit.ok(RegisterNode(node=node("n1"), identity="agent:n1"))
    assert list(kit.state.nodes["n1"].taints) == [mine]


def test_what_an_agent_declares_keeps_nobody_from_taking_other_taints_away() -> None:
    kit = kit_with_node(taints=(GPU,))
    mine = (replace(GPU, effect=TaintEffect.NO_EXECUTE), replace(GPU, key="other"))
    kit.ok(TaintNode(node_id="n1", put=mine))
    kit.ok(TaintNode(node_id="n1", drop=(TaintKey(key="gpu", effect=TaintEffect.NO_EXECUTE),)))
    kit.ok(TaintNode(node_id="n1", drop=(TaintKey(key="other", effect=TaintEffect.NO_SCHEDULE),)))
    assert [one.taint for one in kit.state.nodes["n1"].taints] == [GPU]


def test_a_declared_taint_counts_from_when_it_was_declared_as_it_is() -> None:
    kit = kit_with_node()
    kit.ok(TaintNode(node_id="n1", put=(GPU,)))
    since_ms = []
    for value in ("only", "other", "other"):
        taint = replace(GPU, value=value)
        kit.ok(RegisterNode(node=replace(node("n1"), taints=(taint,)), identity="agent:n1"))
        (found,) = kit.state.nodes["n1"].taints  # an operator's of the same key and effect goes
        assert (found.taint, found.declared) == (taint, True)
        since_ms.append((found.since_ms, kit.state.time_ms))
    assert [since == now for since, now in since_ms] == [True, True, False]
    assert since_ms[2][0] == since_ms[1][0]


def many(count: int, name: str = "k") -> tuple[Taint, ...]:
    return tuple(replace(GPU, key=f"{name}{at:02}") for at in range(count))


def test_a_node_has_at_most_64_taints_and_those_of_its_agent_come_first() -> None:
    kit = kit_with_node(taints=(GPU,))
    kit.ok(TaintNode(node_id="n1", put=many(63)))
    assert kit.refused(TaintNode(node_id="n1", put=(BROKEN,))).reason == "INVALID"
    kit.ok(RegisterNode(node=replace(node("n1"), taints=(GPU, *many(61, "d"))), identity="agent:n1"))
    assert [one.taint.key for one in kit.state.nodes["n1"].taints if not one.declared] == ["k00", "k01"]
    kit.ok(RegisterNode(node=replace(node("n1"), taints=many(64, "d")), identity="agent:n1"))
    assert all(one.declared for one in kit.state.nodes["n1"].taints)
    assert len(kit.state.nodes["n1"].taints) == 64
    kit = kit_with_node()
    kit.ok(TaintNode(node_id="n1", put=many(64)))
    kit.ok(TaintNode(node_id="n1", drop=tuple(TaintKey(key=one.key) for one in many(64))))
    assert kit.state.nodes["n1"].taints == ()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (TaintNode(node_id="nowhere", put=(GPU,)), "NOT_FOUND"),
        (TaintNode(node_id="n1"), "INVALID"),
        (TaintNode(node_id="n1", put=(Taint(key="a b", effect=TaintEffect.NO_EXECUTE),)), "INVALID"),
        (TaintNode(node_id="n1", put=(replace(GPU, value="a:b"),)), "INVALID"),
        (TaintNode(node_id="n1", drop=tuple(TaintKey(key=f"k{n}") for n in range(65))), "INVALID"),
    ],
)
def test_bad_commands_are_refused(command: TaintNode, reason: str) -> None:
    answer = kit_with_node().do(command)
    assert isinstance(answer, Rejected)
    assert answer.reason == reason


def test_a_plan_made_before_the_taint_is_stale_for_what_does_not_tolerate_it() -> None:
    kit = kit_with_node()
    tolerant = replace(group("api"), tolerations=(Toleration(key="gpu"),))
    kit.submit(job("web", group("api")), job("gpu", tolerant))
    kit.ok(TaintNode(node_id="n1", put=(GPU,)))
    answer = kit.plan(Placement("web/api/0", "n1"), Placement("gpu/api/0", "n1"))
    assert answer.placed == 1
    assert answer.rejected == ("web/api/0: node n1 has a taint that it does not tolerate: gpu=only:NoSchedule",)


def test_a_taint_keeps_rows_off_its_own_node_alone_and_takes_no_other_reason_away() -> None:
    kit = kit_with_node()
    kit.register(node("n2"))
    kit.submit(job("web", group("api", 3)))
    kit.ok(TaintNode(node_id="n1", put=(GPU,)))
    answer = kit.plan(
        Placement("web/api/0", "n1"), Placement("web/api/1", "n2"), Placement("web/api/2", "n1", attempt=7)
    )
    assert answer.placed == 1
    assert answer.rejected == (
        "web/api/0: node n1 has a taint that it does not tolerate: gpu=only:NoSchedule",
        "web/api/2: it is not the next attempt",
    )


def licensed(count: int, amount: int) -> object:
    spec = group("api", count)
    (task,) = spec.tasks
    return replace(
        spec, tasks=(replace(task, resources=replace(task.resources, cpu_millis=1, custom=(("licenses", amount),))),)
    )


def test_apply_refuses_to_give_away_more_of_a_custom_resource_than_there_is() -> None:
    kit = kit_with_node(capacity=Resources(cpu_millis=1000, memory_mib=1024, custom=(("licenses", 5),)))
    kit.submit(job("sim", licensed(4, 2)))  # type: ignore[arg-type]
    answer = kit.plan(*(Placement(f"sim/api/{n}", "n1") for n in range(4)))
    assert isinstance(answer, PlanAnswer)
    assert (answer.placed, answer.rejected[0]) == (2, "sim/api/2: node n1 has not enough licenses left")
    assert views.node_info(kit.state, kit.state.nodes["n1"]).used.custom == (("licenses", 4),)
    assert kit.plan(Placement("sim/api/2", "n1")).placed == 0
    kit.observe("sim/api/0", AllocState.COMPLETE)
    assert kit.plan(Placement("sim/api/2", "n1")).placed == 1


def test_a_restored_state_knows_what_is_in_use_of_custom_resources() -> None:
    kit = kit_with_node(capacity=Resources(cpu_millis=1000, memory_mib=1024, custom=(("licenses", 5),)))
    kit.submit(job("sim", licensed(2, 2)))  # type: ignore[arg-type]
    kit.plan(Placement("sim/api/0", "n1"), Placement("sim/api/1", "n1"))
    again = restore(capture(kit.state))
    assert again.ledger.custom == kit.state.ledger.custom
    assert again.table.custom == kit.state.table.custom != {}
    assert image_hash(capture(again)) == image_hash(capture(kit.state))


def test_an_agent_that_lowers_its_amounts_breaks_nothing_and_gets_nothing_more() -> None:
    kit = kit_with_node(capacity=Resources(cpu_millis=1000, memory_mib=1024, custom=(("licenses", 5),)))
    kit.submit(job("sim", licensed(3, 2)))  # type: ignore[arg-type]
    kit.plan(Placement("sim/api/0", "n1"), Placement("sim/api/1", "n1"))
    smaller = Resources(cpu_millis=1000, memory_mib=1024, custom=(("licenses", 1),))
    kit.ok(RegisterNode(node=replace(node("n1"), capacity=smaller), identity="agent:n1"))
    assert kit.plan(Placement("sim/api/2", "n1")).placed == 0
