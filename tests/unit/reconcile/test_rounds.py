"""Reconciling: what one round asks for, stops and gives up, from states put together by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.contract.model import (
    AllocState,
    Constraint,
    ConstraintOperator,
    Desired,
    Disruption,
    JobType,
    NodeStatus,
    OnDisconnect,
    RestartMode,
    RestartPolicy,
)
from orchestrator.reconcile.rounds import reconcile
from orchestrator.reconcile.work import Work
from orchestrator.state.commands import Action
from orchestrator.state.failures import STEADY_MS
from orchestrator.state.model import Job
from tests.unit.scheduling.cluster import Cluster, group_spec

NOW = 1_000_000


def asked(work: Work) -> list[tuple[str, int, int]]:
    """(job, ordinal, attempt) of every instance asked for, in the order of service."""
    return [
        (ask.job.spec.name, ordinal, attempt)
        for ask in work.asks
        for ordinal, attempt in zip(ask.ordinals.tolist(), ask.attempts.tolist(), strict=True)
    ]


def acted(work: Work, cluster: Cluster) -> list[tuple[str, int, Action]]:
    """(job, ordinal, action) of every action, in order."""
    columns = cluster.view().allocations
    return [
        (cluster.jobs[int(columns.job[at])].spec.name, int(columns.ordinal[at]), Action(action))
        for at, action in zip(work.actions.positions.tolist(), work.actions.actions.tolist(), strict=True)
    ]


def reasons(work: Work) -> list[str]:
    return [work.actions.texts[reason] for reason in work.actions.reasons.tolist()]


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(time_ms=NOW)
    for name in ("a", "b", "c"):
        cluster.node(name)
    return cluster


def running(cluster: Cluster, count: int = 3, **more: Any) -> Job:
    job = cluster.job("web", group_spec(count=count), **more)
    for ordinal in range(count):
        cluster.alloc(job, cluster.nodes[ordinal % len(cluster.nodes)], ordinal)
    return job


def round_of(cluster: Cluster) -> Work:
    return reconcile(cluster.view(), NOW)


# ---------------------------------------------------------------------------- missing and surplus


def test_an_empty_cluster_has_nothing_to_do() -> None:
    work = reconcile(Cluster().view(), NOW)
    assert len(work.actions) == 0
    assert work.asks == ()
    assert work.wake_at_ms is None


def test_a_new_job_asks_for_every_ordinal_as_attempt_one(cluster: Cluster) -> None:
    cluster.job("web", group_spec(count=3))
    assert asked(round_of(cluster)) == [("web", 0, 1), ("web", 1, 1), ("web", 2, 1)]


def test_a_job_that_runs_asks_for_nothing(cluster: Cluster) -> None:
    running(cluster)
    work = round_of(cluster)
    assert work.asks == ()
    assert len(work.actions) == 0


def test_an_attempt_number_is_never_used_again_after_its_row_was_collected(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=2))
    cluster.last_attempts[(job.slot, "main")] = [0, 7]
    assert asked(round_of(cluster)) == [("web", 0, 1), ("web", 1, 8)]


def test_scaling_down_stops_the_highest_ordinals(cluster: Cluster) -> None:
    job = running(cluster)

    cluster.change(job, spec=replace(job.spec, groups=(group_spec(count=1),)))
    work = round_of(cluster)
    assert acted(work, cluster) == [("web", 2, Action.STOP), ("web", 1, Action.STOP)]
    assert set(reasons(work)) == {"scaled down"}
    assert work.asks == ()


def test_a_surplus_that_is_already_being_stopped_is_left_alone(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=0))
    cluster.alloc(job, cluster.nodes[0], 0, desired=Desired.STOP)
    assert len(round_of(cluster).actions) == 0


def test_an_instance_that_is_being_stopped_is_replaced_only_after_it_ended(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=1))
    row = cluster.alloc(job, cluster.nodes[0], 0, desired=Desired.STOP)
    assert round_of(cluster).asks == ()
    row["state"] = AllocState.STOPPED
    assert asked(round_of(cluster)) == [("web", 0, 2)]


@pytest.mark.parametrize("flag", ["stopped", "removing"])
def test_a_stopped_or_removed_job_stops_everything_and_asks_for_nothing(cluster: Cluster, flag: str) -> None:
    job = running(cluster)
    cluster.change(job, **{flag: True})
    work = round_of(cluster)
    assert len(work.actions) == 3
    assert set(reasons(work)) == {"the job was stopped"}
    assert work.asks == ()


def test_a_group_that_was_taken_out_of_the_job_is_stopped(cluster: Cluster) -> None:

    job = cluster.job("web", group_spec("api"), group_spec("old"))
    cluster.alloc(job, cluster.nodes[0], group=0)
    cluster.alloc(job, cluster.nodes[1], group=1)
    kept = replace(job.spec, groups=(group_spec("api"),))
    cluster.change(job, spec=kept, version=2, group_versions=(1,), specs=(*job.specs, (2, kept)))
    work = round_of(cluster)
    assert reasons(work) == ["the group was removed from the job"]
    assert cluster.view().allocations.group[work.actions.positions[0]] == 1
    assert work.asks == ()


def test_groups_that_changed_places_keep_their_allocations(cluster: Cluster) -> None:

    job = cluster.job("web", group_spec("api", count=2), group_spec("db"))
    for ordinal in range(2):
        cluster.alloc(job, cluster.nodes[ordinal], ordinal, group=0)
    cluster.alloc(job, cluster.nodes[2], group=1)
    turned = replace(job.spec, groups=(group_spec("db"), group_spec("api", count=2)))
    cluster.change(job, spec=turned, version=2, group_versions=(1, 1), specs=(*job.specs, (2, turned)))
    work = round_of(cluster)
    assert work.asks == ()
    assert len(work.actions) == 0


# ---------------------------------------------------------------------------- order


def test_priority_comes_first_then_who_came_first(cluster: Cluster) -> None:
    cluster.job("late")
    cluster.job("urgent", priority=90)
    cluster.job("early")
    cluster.change(cluster.jobs[0], submit_index=99)
    assert [name for name, _, _ in asked(round_of(cluster))] == ["urgent", "early", "late"]


# ---------------------------------------------------------------------------- failures


def failed(cluster: Cluster, **more: Any) -> Job:
    group = group_spec(restart=more.pop("restart", RestartPolicy()))
    job = cluster.job("web", group, type=more.pop("type", JobType.SERVICE))
    cluster.alloc(job, cluster.nodes[0], state=AllocState.FAILED, **more)
    return job


def test_a_failed_start_waits_for_its_backoff_and_wakes_the_leader(cluster: Cluster) -> None:
    failed(cluster, start_failed=True, failures=1, modify_time_ms=NOW - 500)
    work = round_of(cluster)
    assert work.asks == ()
    assert work.wake_at_ms == NOW - 500 + 2_000


@pytest.mark.parametrize("kind", [JobType.SERVICE, JobType.BATCH])
def test_a_failed_start_is_tried_again_after_its_backoff_and_avoids_the_node(cluster: Cluster, kind: JobType) -> None:
    failed(cluster, type=kind, start_failed=True, failures=3, modify_time_ms=NOW - 8_000)
    work = round_of(cluster)
    assert asked(work) == [("web", 0, 2)]
    assert work.asks[0].avoid == cluster.nodes[0].slot
    assert work.wake_at_ms is None


@pytest.mark.parametrize("kind", [JobType.SERVICE, JobType.BATCH])
@pytest.mark.parametrize("attempts", [0, 3])
def test_the_restart_policy_says_how_often_a_failed_start_is_tried_again(
    cluster: Cluster, kind: JobType, attempts: int
) -> None:
    policy = RestartPolicy(attempts=attempts)
    job = failed(cluster, type=kind, start_failed=True, failures=attempts + 1, restart=policy)
    work = round_of(cluster)
    assert work.asks == ()
    assert work.wake_at_ms is None
    assert work.groups[(job.slot, 0)].failed == 1


def test_restart_mode_delay_tries_a_failed_start_again_without_limit(cluster: Cluster) -> None:
    policy = RestartPolicy(attempts=1, mode=RestartMode.DELAY)
    failed(cluster, start_failed=True, failures=1_000, restart=policy, modify_time_ms=NOW)
    assert round_of(cluster).wake_at_ms == NOW + 256_000


def test_a_system_instance_that_could_not_start_is_tried_again_on_its_node(cluster: Cluster) -> None:
    for node in cluster.nodes[1:]:
        cluster.change(node, cordoned=True)
    failed(cluster, type=JobType.SYSTEM, start_failed=True, failures=1, modify_time_ms=NOW - 2_000)
    work = round_of(cluster)
    assert asked(work) == [("web", 0, 2)]
    assert work.asks[0].pinned


@pytest.mark.parametrize(
    ("failures", "pause_ms"),
    [(1, 2_000), (2, 4_000), (3, 8_000), (7, 128_000), (8, 256_000), (9, 256_000), (1000, 256_000)],
)
def test_backoff_doubles_and_ends_at_256_seconds(cluster: Cluster, failures: int, pause_ms: int) -> None:
    policy = RestartPolicy(mode=RestartMode.DELAY)
    failed(cluster, restart=policy, start_failed=True, failures=failures, modify_time_ms=NOW - 500)
    work = round_of(cluster)
    assert work.asks == ()
    assert work.wake_at_ms == NOW - 500 + pause_ms


def test_a_service_that_ran_and_soon_failed_stays_failed(cluster: Cluster) -> None:
    failed(cluster, create_time_ms=NOW - 60_000, modify_time_ms=NOW)
    assert round_of(cluster).asks == ()


def test_a_service_that_failed_after_a_steady_time_is_placed_again_at_once(cluster: Cluster) -> None:
    failed(cluster, create_time_ms=NOW - STEADY_MS, modify_time_ms=NOW)
    assert asked(round_of(cluster)) == [("web", 0, 2)]


def test_a_batch_instance_that_failed_after_it_ran_stays_failed(cluster: Cluster) -> None:
    failed(cluster, type=JobType.BATCH, create_time_ms=NOW - 2 * STEADY_MS, modify_time_ms=NOW)
    assert round_of(cluster).asks == ()


def test_a_completed_batch_instance_is_never_placed_again(cluster: Cluster) -> None:
    job = cluster.job("sum", group_spec(count=2), type=JobType.BATCH)
    cluster.alloc(job, cluster.nodes[0], 0, state=AllocState.COMPLETE)
    assert asked(round_of(cluster)) == [("sum", 1, 1)]


def test_a_batch_instance_told_to_stop_that_ended_well_is_run_again(cluster: Cluster) -> None:
    """Exit code 0 after SIGTERM from a drain is no result."""
    job = cluster.job("sum", type=JobType.BATCH)
    cluster.alloc(job, cluster.nodes[0], 0, state=AllocState.COMPLETE, desired=Desired.STOP)
    assert asked(round_of(cluster)) == [("sum", 0, 2)]


@pytest.mark.parametrize("kind", [JobType.SERVICE, JobType.BATCH])
def test_what_failed_at_an_older_version_is_placed_at_the_new_one(cluster: Cluster, kind: JobType) -> None:
    job = failed(cluster, type=kind, start_failed=True, failures=4)
    cluster.new_version(job, job.spec)
    work = round_of(cluster)
    assert asked(work) == [("web", 0, 2)]
    assert work.asks[0].avoid == -1


# ---------------------------------------------------------------------------- lost nodes


def test_a_lost_nodes_allocations_are_given_up_and_replaced_in_one_round(cluster: Cluster) -> None:
    running(cluster)
    cluster.change(cluster.nodes[1], status=NodeStatus.LOST)
    work = round_of(cluster)
    assert acted(work, cluster) == [("web", 1, Action.LOSE)]
    assert asked(work) == [("web", 1, 2)]


def test_keep_holds_on_to_a_lost_nodes_allocations(cluster: Cluster) -> None:
    running(cluster, on_disconnect=OnDisconnect.KEEP)
    cluster.change(cluster.nodes[1], status=NodeStatus.LOST)
    work = round_of(cluster)
    assert len(work.actions) == 0
    assert work.asks == ()


def test_a_kept_allocation_whose_node_was_forgotten_is_replaced(cluster: Cluster) -> None:
    job = cluster.job("web", on_disconnect=OnDisconnect.KEEP)
    cluster.alloc(job, cluster.nodes[0], state=AllocState.LOST)
    assert asked(round_of(cluster)) == [("web", 0, 2)]


def test_what_is_being_stopped_on_a_lost_node_is_given_up_too(cluster: Cluster) -> None:
    job = cluster.job("web", stopped=True)
    cluster.alloc(job, cluster.nodes[0], desired=Desired.STOP)
    cluster.change(cluster.nodes[0], status=NodeStatus.LOST)
    work = round_of(cluster)
    assert acted(work, cluster) == [("web", 0, Action.LOSE)]
    assert work.asks == ()


# ---------------------------------------------------------------------------- drains


def test_a_drain_moves_one_service_instance_of_a_group_at_a_time(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=3))
    rows = [cluster.alloc(job, cluster.nodes[0], ordinal) for ordinal in range(3)]
    cluster.change(cluster.nodes[0], cordoned=True, draining=True)
    work = round_of(cluster)
    assert acted(work, cluster) == [("web", 0, Action.STOP)]
    assert reasons(work) == ["its node is being drained"]

    rows[0]["desired"] = Desired.STOP
    assert len(round_of(cluster).actions) == 0, "it is still stopping"
    rows[0]["state"] = AllocState.STOPPED
    work = round_of(cluster)
    assert asked(work) == [("web", 0, 2)]
    assert len(work.actions) == 0, "its replacement has no node yet"
    replacement = cluster.alloc(job, cluster.nodes[1], 0, attempt=2, state=AllocState.STARTING)
    assert len(round_of(cluster).actions) == 0, "its replacement starts up"
    replacement["state"] = AllocState.RUNNING
    assert acted(round_of(cluster), cluster) == [("web", 1, Action.STOP)]


def test_a_drain_takes_several_groups_along_at_once(cluster: Cluster) -> None:
    for name in ("one", "two"):
        cluster.alloc(cluster.job(name), cluster.nodes[0])
    cluster.change(cluster.nodes[0], draining=True)
    assert len(round_of(cluster).actions) == 2


def test_a_drain_stops_all_of_a_batch_job_at_once(cluster: Cluster) -> None:
    job = cluster.job("sum", group_spec(count=3), type=JobType.BATCH)
    for ordinal in range(3):
        cluster.alloc(job, cluster.nodes[0], ordinal)
    cluster.change(cluster.nodes[0], draining=True)
    assert len(round_of(cluster).actions) == 3


def test_a_drain_is_not_held_up_by_what_crashes_elsewhere(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=2))
    cluster.alloc(job, cluster.nodes[0], 0)
    cluster.alloc(job, cluster.nodes[1], 1, state=AllocState.BACKOFF)
    cluster.change(cluster.nodes[0], draining=True)
    assert acted(round_of(cluster), cluster) == [("web", 0, Action.STOP)]


def drained(cluster: Cluster, budget: Disruption, count: int = 4, **more: Any) -> Job:
    """A job whose instances run on node a, which is being drained; the last one runs on b."""
    job = cluster.job("web", group_spec(count=count), disruption=budget, **more)
    for ordinal in range(count):
        cluster.alloc(job, cluster.nodes[1 if ordinal == count - 1 else 0], ordinal)
    cluster.change(cluster.nodes[0], cordoned=True, draining=True)
    return job


@pytest.mark.parametrize(
    ("budget", "leave"),
    [
        (Disruption(max_unavailable=2), 2),
        (Disruption(max_unavailable=9), 3),
        (Disruption(max_unavailable=0), 0),
        (Disruption(max_unavailable=50, percent=True), 2),
        (Disruption(max_unavailable=10, percent=True), 1),
        (Disruption(max_unavailable=0, percent=True), 0),
    ],
)
@pytest.mark.parametrize("kind", [JobType.SERVICE, JobType.BATCH])
def test_a_drain_takes_as_many_as_the_budget_allows(
    cluster: Cluster, budget: Disruption, leave: int, kind: JobType
) -> None:
    drained(cluster, budget, type=kind)
    work = round_of(cluster)
    assert acted(work, cluster) == [("web", ordinal, Action.STOP) for ordinal in reversed(range(leave))]
    held = work.groups[(0, 0)].held
    assert held == "" if leave == 3 else f"keeps {3 - leave} on draining nodes" in held


def test_a_drain_counts_what_is_down_already_and_moves_what_is_down_itself(cluster: Cluster) -> None:
    drained(cluster, Disruption(max_unavailable=2))
    cluster.rows[3]["state"] = AllocState.BACKOFF  # elsewhere
    assert acted(round_of(cluster), cluster) == [("web", 0, Action.STOP)]
    cluster.rows[1]["state"] = AllocState.STARTING  # on the draining node: it costs nobody anything
    assert acted(round_of(cluster), cluster) == [("web", 1, Action.STOP)]
    cluster.rows[1]["desired"] = Desired.STOP
    assert acted(round_of(cluster), cluster) == []


def test_a_drains_deadline_stops_what_is_left_whatever_holds_it_up(cluster: Cluster) -> None:
    drained(cluster, Disruption(max_unavailable=0))
    cluster.change(cluster.nodes[0], drain_deadline_ms=cluster.time_ms + 5_000)
    work = round_of(cluster)
    assert acted(work, cluster) == []
    assert work.wake_at_ms == cluster.time_ms + 5_000
    cluster.time_ms += 5_000
    work = round_of(cluster)
    assert acted(work, cluster) == [("web", ordinal, Action.STOP) for ordinal in (2, 1, 0)]
    assert reasons(work) == ["the deadline of its node's drain has passed"] * 3
    assert work.wake_at_ms is None
    assert work.groups.get((0, 0)) is None or work.groups[(0, 0)].held == ""


def test_a_deadline_means_nothing_on_a_node_that_is_not_drained(cluster: Cluster) -> None:
    drained(cluster, Disruption(max_unavailable=0))
    cluster.change(cluster.nodes[0], draining=False, drain_deadline_ms=1)
    work = round_of(cluster)
    assert (acted(work, cluster), work.wake_at_ms) == ([], None)


def test_what_is_complete_is_not_down(cluster: Cluster) -> None:
    drained(cluster, Disruption(max_unavailable=1), type=JobType.BATCH)
    cluster.rows[3]["state"] = AllocState.COMPLETE
    assert acted(round_of(cluster), cluster) == [("web", 0, Action.STOP)]


def test_a_rollout_waits_while_a_budget_paces_a_drain(cluster: Cluster) -> None:
    job = drained(cluster, Disruption(max_unavailable=1))
    cluster.new_version(job, job.spec)
    work = round_of(cluster)
    assert acted(work, cluster) == [("web", 0, Action.STOP)]
    assert reasons(work) == ["its node is being drained"]


# ---------------------------------------------------------------------------- rollouts


def test_a_rollout_replaces_one_instance_at_a_time_and_waits_until_it_runs(cluster: Cluster) -> None:
    job = running(cluster)
    cluster.new_version(job, job.spec)
    work = round_of(cluster)
    assert acted(work, cluster) == [("web", 0, Action.STOP)]
    assert reasons(work) == ["replaced by a newer version of the job"]

    cluster.rows[0].update(desired=Desired.STOP, state=AllocState.STOPPED)
    work = round_of(cluster)
    assert asked(work) == [("web", 0, 2)]
    assert len(work.actions) == 0
    replacement = cluster.alloc(job, cluster.nodes[0], 0, attempt=2, version=2, state=AllocState.STARTING)
    assert len(round_of(cluster).actions) == 0
    replacement["state"] = AllocState.RUNNING
    assert acted(round_of(cluster), cluster) == [("web", 1, Action.STOP)]


@pytest.mark.parametrize(
    "broken",
    [
        {"state": AllocState.FAILED, "start_failed": True, "failures": 4},
        {"state": AllocState.FAILED, "start_failed": True, "failures": 1, "modify_time_ms": NOW},
        {"state": AllocState.BACKOFF},
        {"state": AllocState.FAILED},
    ],
    ids=["failed for good", "waits to start", "crashes", "ran and failed"],
)
def test_a_replacement_that_does_not_run_halts_the_rollout(cluster: Cluster, broken: dict[str, Any]) -> None:
    job = running(cluster)
    cluster.new_version(job, job.spec)
    cluster.rows[0].update(attempt=2, version=2, **broken)
    work = round_of(cluster)
    assert len(work.actions) == 0
    assert work.groups[(job.slot, 0)].halted
    assert work.groups[(job.slot, 0)].outdated == 2


def test_a_rollout_begins_with_what_does_not_run_anyway(cluster: Cluster) -> None:
    job = running(cluster)
    cluster.new_version(job, job.spec)
    cluster.rows[2]["state"] = AllocState.BACKOFF
    assert acted(round_of(cluster), cluster) == [("web", 2, Action.STOP)]


def test_changing_only_a_count_restarts_nothing(cluster: Cluster) -> None:

    job = running(cluster)
    spec = replace(job.spec, groups=(group_spec(count=5),))
    cluster.change(job, spec=spec, version=2, group_versions=(1,), specs=(*job.specs, (2, spec)))
    work = round_of(cluster)
    assert len(work.actions) == 0
    assert asked(work) == [("web", 3, 1), ("web", 4, 1)]


def test_an_instance_kept_on_a_lost_node_does_not_hold_up_a_rollout(cluster: Cluster) -> None:
    job = running(cluster, on_disconnect=OnDisconnect.KEEP)
    cluster.change(cluster.nodes[0], status=NodeStatus.LOST)
    cluster.new_version(job, job.spec)
    assert acted(round_of(cluster), cluster) == [("web", 1, Action.STOP)]


# ---------------------------------------------------------------------------- variables, system jobs


def test_a_group_whose_variable_is_missing_is_not_asked_for_and_says_so(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(variables={"TOKEN": "api-token"}))
    work = round_of(cluster)
    assert work.asks == ()
    assert work.groups[(job.slot, 0)].blocked == "variable api-token missing"
    cluster.variables.add(("default", "api-token"))
    assert asked(round_of(cluster)) == [("web", 0, 1)]


def test_several_missing_variables_are_all_named(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(variables={"A": "zeta", "B": "there", "C": "alpha"}))
    cluster.variables.add(("default", "there"))
    work = round_of(cluster)
    assert (work.asks, work.groups[(job.slot, 0)].blocked) == ((), "variables alpha, zeta missing")


def test_a_system_job_runs_once_on_every_node_that_matches(cluster: Cluster) -> None:
    cluster.change(cluster.nodes[1], cordoned=True)
    job = cluster.job("log", type=JobType.SYSTEM)
    work = round_of(cluster)
    assert asked(work) == [("log", 0, 1), ("log", 2, 1)]
    assert all(ask.pinned for ask in work.asks)
    cluster.alloc(job, cluster.nodes[0], 0)
    assert asked(round_of(cluster)) == [("log", 2, 1)]


def test_a_system_job_leaves_nodes_that_it_no_longer_matches(cluster: Cluster) -> None:
    only_b = Constraint(attribute="node.name", operator=ConstraintOperator.EQUAL, values=("b",))
    job = cluster.job("log", type=JobType.SYSTEM, constraints=(only_b,))
    for node in cluster.nodes:
        cluster.alloc(job, node, node.slot)
    work = round_of(cluster)
    assert acted(work, cluster) == [("log", 2, Action.STOP), ("log", 0, Action.STOP)]
    assert set(reasons(work)) == {"its node no longer matches the job"}


def test_a_system_job_stays_on_a_cordoned_node_and_leaves_a_draining_one(cluster: Cluster) -> None:
    job = cluster.job("log", type=JobType.SYSTEM)
    for node in cluster.nodes:
        cluster.alloc(job, node, node.slot)
    cluster.change(cluster.nodes[0], cordoned=True)
    cluster.change(cluster.nodes[1], cordoned=True, draining=True)
    assert acted(round_of(cluster), cluster) == [("log", 1, Action.STOP)]


def test_a_system_jobs_rollout_is_not_held_up_by_a_node_that_never_had_room(cluster: Cluster) -> None:
    job = cluster.job("log", type=JobType.SYSTEM)
    for node in cluster.nodes[:2]:
        cluster.alloc(job, node, node.slot)
    cluster.new_version(job, job.spec)
    work = round_of(cluster)
    assert asked(work) == [("log", 2, 1)]
    assert acted(work, cluster) == [("log", 0, Action.STOP)]


def test_asks_know_the_groups_nodes_and_where_the_latest_went(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=4))
    for ordinal, index in enumerate((5, 9, 7)):
        cluster.alloc(job, cluster.nodes[ordinal], ordinal, create_index=index)
    (ask,) = round_of(cluster).asks
    np.testing.assert_array_equal(np.sort(ask.peers), [0, 1, 2])
    assert ask.last_node == 1
