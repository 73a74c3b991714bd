"""How much of a group may be down: the arithmetic of budgets, and what counts as up."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.contract.model import AllocState, Desired, Disruption, JobType
from orchestrator.state.allocations import well
from orchestrator.state.disruption import BOUNDLESS, Budgets, is_up, may_go_down, most_down
from tests.unit.scheduling.cluster import Cluster, group_spec


@pytest.mark.parametrize(
    ("budget", "wanted", "most"),
    [
        (Disruption(max_unavailable=0), 10, 0),
        (Disruption(max_unavailable=3), 10, 3),
        (Disruption(max_unavailable=25, percent=True), 10, 2),
        (Disruption(max_unavailable=25, percent=True), 3, 1),
        (Disruption(max_unavailable=0, percent=True), 10, 0),
        (Disruption(max_unavailable=100, percent=True), 10, 10),
    ],
)
def test_a_share_is_rounded_down_but_never_to_nothing(budget: Disruption, wanted: int, most: int) -> None:
    assert most_down(budget, wanted) == most


def test_what_is_down_already_is_taken_off_and_without_a_budget_nothing_bounds() -> None:
    budget = Disruption(max_unavailable=2)
    assert [may_go_down(budget, wanted=4, up=up) for up in (4, 3, 2, 0, 9)] == [2, 1, 0, 0, 2]
    assert may_go_down(None, wanted=4, up=0) == BOUNDLESS


def test_up_is_what_runs_and_should_on_a_node_that_is_there() -> None:
    state = np.array([AllocState.RUNNING] * 4 + [AllocState.STARTING, AllocState.BACKOFF], dtype=np.int8)
    desired = np.array([Desired.RUN, Desired.STOP, Desired.RUN, Desired.RUN, Desired.RUN, Desired.RUN], dtype=np.int8)
    lost = np.array([False, False, True, False, False, False])
    health = np.array([0, 0, 0, 2 * 7, 0, 0], dtype=np.int64)  # the fourth's checks are bad
    assert is_up(well(state, health), desired, lost).tolist() == [True, False, False, False, False, False]


def test_a_round_takes_from_what_is_left_and_counts_what_it_stops_itself() -> None:
    cluster = Cluster()
    node = cluster.node("n")
    job = cluster.job("web", group_spec(count=4), disruption=Disruption(max_unavailable=3))
    free = cluster.job("free", group_spec(count=1))
    for ordinal in range(4):
        cluster.alloc(job, node, ordinal)
    cluster.alloc(free, node)
    key = (job.slot, "main")
    budgets = Budgets(cluster.view(), np.array([1], dtype=np.int64))
    assert budgets.left(key) == 2
    assert budgets.said(key) == "3 of 4 may be down, 1 is"
    budgets.take(key, 1)
    assert budgets.left(key) == 1
    assert budgets.left((free.slot, "main")) == BOUNDLESS


def test_of_a_system_job_what_was_preempted_and_is_not_back_is_down() -> None:
    cluster = Cluster()
    nodes = [cluster.node(name) for name in ("a", "b", "c")]
    job = cluster.job("logs", type=JobType.SYSTEM, disruption=Disruption(max_unavailable=1))
    for node in nodes:
        cluster.alloc(job, node, node.slot)
    key = (job.slot, "main")
    none = np.zeros(0, dtype=np.int64)
    assert Budgets(cluster.view(), none).left(key) == 1
    cluster.rows[0] |= {"state": AllocState.STOPPED, "desired": Desired.STOP}
    assert Budgets(cluster.view(), none).left(key) == 1
    cluster.rows[0]["reason"] = "preempted by web/api/0 (priority 80)"
    assert Budgets(cluster.view(), none).left(key) == 0
