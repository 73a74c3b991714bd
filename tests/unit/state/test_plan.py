"""Plans: malformed ones, large ones, and rows that only together do not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.contract.model import AllocState
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    Action,
    ActionColumns,
    Applied,
    ApplyPlan,
    Collect,
    Entry,
    MarkNodes,
    NodeMark,
    PlanAnswer,
    Rejected,
)
from orchestrator.state.model import MAX_COMMAND_ROWS
from tests.unit.state.kit import NO_INTS, Kit, Placement, group, job, node


def ready(count: int = 4, **need: Any) -> Kit:
    kit = Kit()
    kit.register(node("n1", gpus=2))
    kit.register(node("n2", gpus=2))
    kit.submit(job("a", group(count=count, **need)))
    return kit


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"job": np.array([9], dtype=np.int32)}, id="a job outside of the list"),
        pytest.param({"node": np.array([-1], dtype=np.int32)}, id="a node outside of the list"),
        pytest.param({"attempt": NO_INTS}, id="a short column"),
        pytest.param({"attempt": np.ones((1, 1), dtype=np.int32)}, id="a column of two dimensions"),
        pytest.param({"ordinal": np.zeros(1, dtype=np.float64)}, id="a column of floats"),
        pytest.param({"device_mask": np.zeros(1, dtype=np.int32)}, id="a mask that is no mask"),
        pytest.param({"port_offsets": np.array([0], dtype=np.int32)}, id="too few offsets"),
        pytest.param({"port_offsets": np.array([0, 5], dtype=np.int32)}, id="offsets beyond the ports"),
        pytest.param({"port_offsets": np.array([1, 0], dtype=np.int32)}, id="falling offsets"),
    ],
)
def test_a_malformed_plan_is_refused_as_a_whole(change: dict[str, Any]) -> None:
    kit = ready()
    plan = kit.make_plan(Placement("a/api/0", "n1"))
    broken = replace(plan, placements=replace(plan.placements, **change))
    # Past the codec, which would refuse some of these: apply must be total by itself.
    outcome = _apply(kit, broken)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "INVALID"
    assert not len(kit.state.table.used())


def test_a_plan_of_too_many_rows_is_refused() -> None:
    kit = ready()
    rows = np.zeros(MAX_COMMAND_ROWS + 1, dtype=np.int32)
    plan = kit.make_plan(actions=[(Action.STOP, "a/api/0", "x")])
    columns = ActionColumns(job=rows, group=rows, ordinal=rows, attempt=rows, action=rows, reason=rows)
    outcome = _apply(kit, replace(plan, actions=columns))
    assert isinstance(outcome, Rejected)
    assert "chunks" in outcome.message


def test_twenty_thousand_rows_go_in_with_one_command() -> None:
    kit = Kit()
    kit.checked = False
    for number in range(20):
        kit.register(node(f"n{number}", cpu=200_000, memory=200_000))
    kit.submit(job("a", group(count=20_000, cpu=1, memory=1)))
    placements = [Placement("a/api/0", f"n{number}") for number in range(20)]
    plan = kit.make_plan(*placements)
    ordinals = np.arange(20_000, dtype=np.int32)
    ones, zeros = np.ones(20_000, dtype=np.int32), np.zeros(20_000, dtype=np.int32)
    columns = replace(
        plan.placements,
        job=zeros,
        group=zeros,
        ordinal=ordinals,
        attempt=ones,
        version=ones,
        node=ordinals % 20,
        device_mask=np.zeros(20_000, dtype=np.uint64),
        gpu_millis=zeros,
        port_offsets=np.zeros(20_001, dtype=np.int32),
    )
    outcome = kit.ok(replace(plan, placements=columns))
    assert outcome.answer == PlanAnswer(placed=20_000, acted=0)
    assert kit.state.ledger.cpu_millis[:20].tolist() == [1_000] * 20


def test_rows_that_do_not_fit_together_go_in_in_their_order() -> None:
    kit = ready(cpu=400)
    answer = kit.plan(*(Placement(f"a/api/{ordinal}", "n1") for ordinal in range(4)))
    assert answer.placed == 2
    assert [reason.split(":")[0] for reason in answer.rejected] == ["a/api/2", "a/api/3"]
    assert "cpu" in answer.rejected[0]


def test_what_an_action_frees_is_free_for_the_placements_of_the_same_plan() -> None:
    kit = ready(count=1, gpus=2)
    kit.place("a/api/0", "n1")
    index = kit.state.nodes["n1"].register_index
    kit.ok(MarkNodes(lost=(NodeMark(node_id="n1", register_index=index),)))
    answer = kit.plan(Placement("a/api/0", "n2", attempt=2), actions=[(Action.LOSE, "a/api/0", "lost")])
    assert (answer.placed, answer.acted) == (1, 1)


def test_an_action_finds_its_row_although_groups_changed_places() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a", group("x"), group("y")))
    kit.place("a/x/0", "n1")
    kit.submit(job("a", group("y"), group("x")))
    kit.place("a/y/0", "n1")
    # Both stand at place 0 of their version, with the same ordinal and attempt.
    assert kit.stop("a/y/0").acted == 1
    assert kit.alloc("a/x/0").desired.name == "RUN"
    assert kit.alloc("a/y/0").desired.name == "STOP"
    plan = kit.make_plan(actions=[(Action.STOP, "a/x/0", "x")])
    # Without a version the oldest one that fits is meant.
    unversioned = replace(plan, actions=replace(plan.actions, version=None))
    kit.ok(unversioned)
    assert kit.alloc("a/x/0").desired.name == "STOP"


def test_failed_starts_are_counted_until_one_succeeds_or_the_job_changes() -> None:
    kit = ready(count=1)
    for expected in (1, 2):
        kit.place("a/api/0", "n1")
        kit.observe("a/api/0", AllocState.FAILED, start_failed=True)
        assert _failures(kit) == expected
    kit.place("a/api/0", "n1")
    assert _failures(kit) == 2
    kit.observe("a/api/0", AllocState.RUNNING)
    kit.observe("a/api/0", AllocState.FAILED, exit_code=1)
    kit.place("a/api/0", "n1")
    assert _failures(kit) == 0  # the one before it had started
    kit.observe("a/api/0", AllocState.FAILED, start_failed=True)
    assert _failures(kit) == 1
    kit.submit(job("a", group(image="fixed")))
    kit.place("a/api/0", "n1")
    assert _failures(kit) == 0


def test_attempts_never_repeat_not_even_after_a_scale_down_and_collection() -> None:
    kit = ready(count=2)
    kit.place("a/api/1", "n1")
    kit.observe("a/api/1", AllocState.FAILED)
    kit.submit(job("a", group(count=1)))
    kit.now_ms += 2 * kit.state.limits.allocation_age_ms
    kit.ok(Collect())
    assert not len(kit.state.table.used())
    kit.submit(job("a", group(count=2)))
    assert kit.plan(Placement("a/api/1", "n1", attempt=1)).placed == 0
    assert kit.plan(Placement("a/api/1", "n1", attempt=2)).placed == 1


def _failures(kit: Kit) -> int:
    return int(kit.state.table.failures[kit.row("a/api/0")])


def _apply(kit: Kit, plan: ApplyPlan) -> Applied | Rejected:
    return apply(kit.state, Entry(identity="", request_id="", digest=b"", time_ms=kit.now_ms, command=plan))
