"""Which jobs there may be something new to decide about."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.contract.model import AllocState
from orchestrator.state.changes import Changes
from orchestrator.state.commands import (
    CordonNode,
    DrainNode,
    MarkNodes,
    NodeMark,
    RestartJob,
    ScaleJob,
    WriteVariable,
)
from orchestrator.state.snapshot import capture, restore
from tests.unit.state.kit import Kit, group, job, node


def test_single_jobs_are_told_apart_until_something_concerns_all() -> None:
    changes = Changes(5)
    assert changes.since(4) is None
    assert changes.since(5) == []
    changes.touch((900, 3), 6)
    changes.touch((3,), 8)
    assert changes.since(5) == [3, 900]
    assert changes.since(6) == [3]
    assert changes.since(8) == []
    changes.sweep(9)
    assert changes.since(8) is None


def kit_with_a_job() -> tuple[Kit, int]:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("web", group(count=2)))
    kit.place("web/api/0", "n1")
    found = kit.state.find_job("default", "web")
    assert found is not None
    return kit, found.slot


def since_the_last(kit: Kit) -> list[int] | None:
    return kit.state.changes.since(kit.state.index - 1)


def test_an_allocation_that_begins_to_run_is_no_news_and_one_that_ends_is() -> None:
    kit, slot = kit_with_a_job()
    kit.observe("web/api/0", AllocState.RUNNING)
    assert since_the_last(kit) == []
    kit.observe("web/api/0", AllocState.FAILED)
    assert since_the_last(kit) == [slot]


def test_while_a_job_is_changed_or_a_node_drained_what_runs_is_news() -> None:
    kit, slot = kit_with_a_job()
    kit.do(RestartJob(namespace="default", name="web"))
    kit.observe("web/api/0", AllocState.RUNNING)
    assert since_the_last(kit) == [slot]

    kit, slot = kit_with_a_job()
    kit.do(DrainNode(node_id="n1"))
    kit.observe("web/api/0", AllocState.RUNNING)
    assert since_the_last(kit) == [slot]
    kit.do(CordonNode(node_id="n1", cordoned=False))
    assert kit.state.draining == 0


def test_a_job_that_is_scaled_is_news_and_a_node_that_is_cordoned_concerns_all() -> None:
    kit, slot = kit_with_a_job()
    kit.do(ScaleJob(namespace="default", name="web", group="api", count=3))
    assert since_the_last(kit) == [slot]
    kit.do(CordonNode(node_id="n1", cordoned=True))
    assert since_the_last(kit) is None
    kit.do(WriteVariable(namespace="default", name="v", value="1"))
    assert since_the_last(kit) is None
    kit.do(WriteVariable(namespace="default", name="v", value="2"))
    assert since_the_last(kit) == []


def test_what_goes_in_as_planned_is_no_news_and_what_was_stale_is() -> None:
    kit, slot = kit_with_a_job()
    kit.place("web/api/1", "n1")
    assert since_the_last(kit) == []
    kit.place("web/api/1", "n1")  # it is live
    assert since_the_last(kit) == [slot]


def test_an_action_that_was_stale_concerns_all() -> None:
    kit, slot = kit_with_a_job()
    kit.stop("web/api/0")
    assert since_the_last(kit) == [slot]
    kit.stop("web/api/0")
    assert since_the_last(kit) is None


def test_a_restored_state_is_looked_at_as_a_whole() -> None:
    kit, _ = kit_with_a_job()
    restored = restore(capture(kit.state))
    assert restored.changes.since(kit.state.index - 1) is None
    assert restored.changes.since(kit.state.index) == []


def test_a_node_that_joins_or_says_nothing_new_is_news_only_to_who_looks_for_nodes() -> None:
    kit, _ = kit_with_a_job()
    for again in ("n2", "n2", "n1"):
        before = kit.state.index
        kit.register(node(again))
        assert kit.state.changes.since(before) == []
        assert kit.state.changes.nodes > before


def test_a_node_that_changed_or_came_back_may_concern_every_job() -> None:
    kit, _ = kit_with_a_job()
    kit.register(replace(node("n1"), version="0.2.0"))
    assert since_the_last(kit) is None
    mark = NodeMark(node_id="n1", register_index=kit.state.nodes["n1"].register_index, reason="silent")
    kit.do(MarkNodes(lost=(mark,)))
    assert since_the_last(kit) is None
    kit.register(replace(node("n1"), version="0.2.0"))
    assert since_the_last(kit) is None
