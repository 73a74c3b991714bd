"""The liveness verdict: the bound, the election grace, the brake."""

from __future__ import annotations

import pytest

from orchestrator.contract.model import NodeStatus
from orchestrator.reconcile.liveness import NodeLiveness, Verdict, bound_for, judge, may_still_come

READY, LOST = NodeStatus.READY, NodeStatus.LOST


def node(name: str, silent_ms: int | None, status: NodeStatus = READY) -> NodeLiveness:
    return NodeLiveness(node_id=name, register_index=7, status=status, silent_ms=silent_ms)


def lost(verdict: Verdict) -> list[str]:
    return [mark.node_id for mark in verdict.mark.lost] if verdict.mark else []


def back(verdict: Verdict) -> list[str]:
    return [mark.node_id for mark in verdict.mark.back] if verdict.mark else []


def test_a_node_silent_for_the_bound_is_lost_and_carries_the_registration_judged() -> None:
    verdict = judge([node("a", 0), node("b", 15_000)], since_election_ms=60_000)
    assert lost(verdict) == ["b"]
    assert verdict.mark is not None
    assert verdict.mark.lost[0].register_index == 7
    assert verdict.mark.lost[0].reason == "silent for 15.0 s"


def test_a_node_just_below_the_bound_is_not_lost() -> None:
    assert judge([node("a", 0), node("b", 14_999)], since_election_ms=60_000).mark is None


def test_no_node_is_lost_before_the_new_leader_waited_one_bound() -> None:
    nodes = [node("a", 0), node("b", None)]
    assert judge(nodes, since_election_ms=14_999).mark is None
    assert lost(judge(nodes, since_election_ms=15_000)) == ["b"]


def test_a_clock_that_says_long_silence_right_after_an_election_is_not_believed() -> None:
    assert judge([node("a", 99_000), node("b", 0)], since_election_ms=1_000).mark is None


def test_a_lost_node_that_is_heard_is_back() -> None:
    assert back(judge([node("a", 100, LOST)], since_election_ms=1)) == ["a"]


def test_a_lost_node_that_this_leader_never_heard_stays_lost() -> None:
    assert judge([node("a", None, LOST), node("b", 0)], since_election_ms=1_000).mark is None


@pytest.mark.parametrize("ready", [1, 2])
def test_one_or_two_nodes_are_lost_without_a_brake(ready: int) -> None:
    verdict = judge([node(f"n{i}", 20_000) for i in range(ready)], since_election_ms=60_000)
    assert len(lost(verdict)) == ready
    assert not verdict.braked


def test_exactly_half_is_not_mass_loss() -> None:
    verdict = judge([node("a", 0), node("b", 0), node("c", 20_000), node("d", 20_000)], since_election_ms=60_000)
    assert lost(verdict) == ["c", "d"]


def test_more_than_half_silent_together_is_braked_and_says_the_way_out() -> None:
    verdict = judge([node("a", 0), node("b", 20_000), node("c", 20_000)], since_election_ms=60_000)
    assert verdict.mark is None
    assert verdict.braked
    assert "2 of 3" in verdict.message
    assert "node forget" in verdict.message


def test_the_first_to_reach_the_bound_is_not_evicted_while_its_rack_follows() -> None:
    """Heartbeats are 3 s apart: the others behind the dead switch have missed theirs, but not the whole bound yet."""
    verdict = judge([node("a", 0), node("b", 15_000), node("c", 12_100)], since_election_ms=60_000)
    assert verdict.braked
    assert verdict.mark is None


def test_the_brake_ends_when_enough_nodes_are_heard_and_then_the_rest_is_lost() -> None:
    verdict = judge([node("a", 0), node("b", 100), node("c", 40_000)], since_election_ms=60_000)
    assert not verdict.braked
    assert lost(verdict) == ["c"]


def test_nodes_that_were_lost_before_do_not_count_for_the_brake() -> None:
    nodes = [node("a", 0), node("b", 20_000), node("c", None, LOST), node("d", None, LOST)]
    assert lost(judge(nodes, since_election_ms=60_000)) == ["b"]


def test_a_node_can_come_back_while_the_brake_holds() -> None:
    nodes = [node("a", 0), node("b", 20_000), node("c", 20_000), node("d", 500, LOST)]
    verdict = judge(nodes, since_election_ms=60_000)
    assert verdict.braked
    assert back(verdict) == ["d"]
    assert lost(verdict) == []


def test_those_that_may_still_come_after_an_election_are_not_lost() -> None:
    nodes = [node("a", 0), node("b", None), node("c", 15_000), node("d", 0), node("e", 0)]
    assert lost(judge(nodes, since_election_ms=20_000, coming=True)) == ["c"]
    assert lost(judge(nodes, since_election_ms=20_000)) == ["b", "c"]


def test_they_hold_no_brake_off() -> None:
    nodes = [node("a", 0), node("b", None), node("c", None)]
    assert judge(nodes, since_election_ms=15_000, coming=True).braked


@pytest.mark.parametrize(
    ("since_election_ms", "since_first_ms", "may"),
    [(16_000, 4_999, True), (16_000, 5_000, False), (44_999, 0, True), (45_000, 0, False)],
)
def test_nodes_may_come_while_others_do_and_for_three_bounds(
    since_election_ms: int, since_first_ms: int, may: bool
) -> None:
    assert may_still_come(since_election_ms=since_election_ms, since_first_ms=since_first_ms) is may


@pytest.mark.parametrize(
    ("typical_ms", "bound_ms"), [(0, 15_000), (3_000, 15_000), (4_000, 20_000), (6_000, 30_000), (60_000, 30_000)]
)
def test_the_bound_is_as_many_heartbeats_as_ever_but_twice_its_length_at_most(typical_ms: int, bound_ms: int) -> None:
    assert bound_for(typical_ms) == bound_ms
