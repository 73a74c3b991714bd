"""What is missing and what is asked for it: attempts, nodes to avoid, what ended for good or waits, groups in order.

States are put together by hand. Versions that wait for their promotion: also ``test_seats.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.contract.batch import After, Origin
from orchestrator.contract.model import AllocState, Desired, GangFailure, GangSpec, GroupSpec, JobType, RestartPolicy
from orchestrator.contract.rollouts import Rollout, RolloutStatus, UpdateSpec
from orchestrator.reconcile.rounds import reconcile
from orchestrator.reconcile.work import NO_NODE, Ask, GroupWork, Work
from orchestrator.state.model import Job
from tests.unit.scheduling.cluster import Cluster, group_spec

NOW = 1_000_000
AGAIN = RestartPolicy(attempts=3)
UNSTARTED: dict[str, Any] = {"state": AllocState.FAILED, "start_failed": True, "failures": 1}
CRASHED: dict[str, Any] = {"state": AllocState.FAILED}
STOPPED: dict[str, Any] = {"state": AllocState.STOPPED, "desired": Desired.STOP}


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(time_ms=NOW)
    for name in ("a", "b", "c"):
        cluster.node(name)
    return cluster


def round_of(cluster: Cluster) -> Work:
    return reconcile(cluster.view(), NOW)


def asked(work: Work) -> list[tuple[str, int, int, int]]:
    """(job, version, ordinal, attempt) of every instance asked for."""
    assert all(len(ask) for ask in work.asks), "nobody asks for nothing"
    found = [
        (ask.job.spec.name, ask.job.version, ordinal, attempt)
        for ask in work.asks
        for ordinal, attempt in zip(ask.ordinals.tolist(), ask.attempts.tolist(), strict=True)
    ]
    return sorted(found)


def avoided(work: Work) -> dict[int, int]:
    """By ordinal, the node that is to be used last only."""
    return {ordinal: ask.avoid for ask in work.asks for ordinal in ask.ordinals.tolist()}


def held(cluster: Cluster, before: GroupSpec, now: GroupSpec) -> Job:
    """Version 2 of ``web``, which waits for its promotion; nothing runs of it."""
    first = cluster.job("web", before)
    job = cluster.new_version(first, replace(first.spec, groups=(now,)))
    rollout = Rollout(
        version=2, began_version=2, status=RolloutStatus.RUNNING, promoted=False, base_version=1, progress_ms=NOW
    )
    cluster.change(job, rollout=rollout)
    return job


# ---------------------------------------------------------------------------- one group


def test_of_a_group_that_never_ran_all_is_asked_for_and_nothing_is_known(cluster: Cluster) -> None:
    cluster.job("web", group_spec(count=2))
    work = round_of(cluster)
    (ask,) = work.asks
    assert asked(work) == [("web", 1, 0, 1), ("web", 1, 1, 1)]
    assert (ask.peers.tolist(), ask.avoid, ask.last_node, ask.pinned, ask.at) == ([], NO_NODE, NO_NODE, False, -1)
    assert work.groups == {(0, 0): GroupWork(missing=2)}
    assert work.wake_at_ms is None


def test_each_group_is_compared_with_its_own_instances(cluster: Cluster) -> None:
    first, second = (cluster.job(name, group_spec(count=3)) for name in ("one", "two"))
    for ordinal in (0, 1, 2):
        cluster.alloc(first, cluster.nodes[0], ordinal)
    cluster.alloc(second, cluster.nodes[1], 1)
    work = round_of(cluster)
    assert asked(work) == [("two", 1, 0, 1), ("two", 1, 2, 1)]
    (ask,) = work.asks
    assert (ask.peers.tolist(), ask.last_node) == ([1], 1)


def test_what_is_surplus_makes_up_for_nobody(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=1))
    cluster.alloc(job, cluster.nodes[0], 1)
    assert asked(round_of(cluster)) == [("web", 1, 0, 1)]


def test_the_node_where_a_start_failed_or_that_was_left_by_a_move_comes_last(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=5, restart=AGAIN))
    cluster.alloc(job, cluster.nodes[0], 1, **UNSTARTED)
    cluster.alloc(job, cluster.nodes[1], 3, **STOPPED, moved=True)
    cluster.alloc(job, cluster.nodes[2], 4, **STOPPED)
    work = round_of(cluster)
    assert avoided(work) == {0: NO_NODE, 1: 0, 2: NO_NODE, 3: 1, 4: NO_NODE}
    assert asked(work) == [("web", 1, ordinal, attempt) for ordinal, attempt in enumerate((1, 2, 1, 2, 2))]


def test_what_failed_of_an_older_version_is_no_reason_to_avoid_its_node(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=1, restart=AGAIN))
    cluster.alloc(job, cluster.nodes[0], 0, **UNSTARTED)
    cluster.new_version(job, replace(job.spec, groups=(group_spec(count=1, cpu=600),)))
    assert avoided(round_of(cluster)) == {0: NO_NODE}


def test_attempts_are_numbered_on_from_the_highest_that_is_known(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=3))
    cluster.last_attempts[(job.slot, "main")] = [7]
    view = replace(cluster.view(), attempt_floor=5)
    (ask,) = reconcile(view, NOW).asks
    assert ask.attempts.tolist() == [8, 6, 6]
    cluster.last_attempts[(job.slot, "main")] = [2]
    (ask,) = reconcile(replace(cluster.view(), attempt_floor=5), NOW).asks
    assert ask.attempts.tolist() == [6, 6, 6]
    cluster.last_attempts[(job.slot, "main")] = []
    (ask,) = round_of(cluster).asks
    assert ask.attempts.tolist() == [1, 1, 1]


# ---------------------------------------------------------------------------- what has ended


@pytest.mark.parametrize("first", [0, 1, 2])
def test_of_several_that_wait_the_first_deadline_is_told(cluster: Cluster, first: int) -> None:
    job = cluster.job("web", group_spec(count=3, restart=AGAIN))
    for ordinal in range(3):
        ended_ms = NOW - (500 if ordinal == first else 100 - ordinal)
        cluster.alloc(job, cluster.nodes[0], ordinal, **UNSTARTED, modify_time_ms=ended_ms)
    work = round_of(cluster)
    due_ms = NOW + 1500  # two seconds after the first failure
    assert work.groups == {(0, 0): GroupWork(waiting=3, wake_at_ms=due_ms, waiting_at=first)}
    assert (asked(work), work.wake_at_ms) == ([], due_ms)


def test_of_two_that_wait_as_long_the_lower_one_is_told(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=2, restart=AGAIN))
    for ordinal in range(2):
        cluster.alloc(job, cluster.nodes[0], ordinal, **UNSTARTED, modify_time_ms=NOW)
    assert round_of(cluster).groups[(0, 0)].waiting_at == 0


def test_what_failed_for_good_is_counted_where_it_is_wanted(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=3))
    cluster.alloc(job, cluster.nodes[0], 0)
    for ordinal in (1, 2, 3):
        cluster.alloc(job, cluster.nodes[0], ordinal, **CRASHED)
    work = round_of(cluster)
    assert work.groups == {(0, 0): GroupWork(failed=2, failed_at=2)}
    assert asked(work) == [] and work.wake_at_ms is None


def test_what_is_done_has_not_failed(cluster: Cluster) -> None:
    job = cluster.job("web", group_spec(count=2), type=JobType.BATCH)
    cluster.alloc(job, cluster.nodes[0], 0, state=AllocState.COMPLETE)
    cluster.alloc(job, cluster.nodes[0], 1)
    assert round_of(cluster).groups == {}


# ---------------------------------------------------------------------------- system jobs


def test_a_system_job_is_wanted_once_on_each_node_and_nowhere_else(cluster: Cluster) -> None:
    cluster.job("before", group_spec(count=1))
    system = cluster.job("agent", group_spec(), type=JobType.SYSTEM)
    cluster.alloc(cluster.jobs[0], cluster.nodes[0])
    cluster.alloc(system, cluster.nodes[1], 1, **CRASHED)
    cluster.alloc(system, cluster.nodes[2], 2)
    cluster.alloc(system, cluster.nodes[2], 3, **CRASHED)  # of a node that is no more
    work = round_of(cluster)
    assert asked(work) == [("agent", 1, 0, 1)]
    assert all(ask.pinned for ask in work.asks)
    assert work.groups == {(1, 0): GroupWork(missing=1, failed=1, failed_at=1)}


def test_a_system_job_that_is_stopped_is_wanted_nowhere(cluster: Cluster) -> None:
    system = cluster.job("agent", group_spec(), type=JobType.SYSTEM, stopped=True)
    cluster.alloc(system, cluster.nodes[0], 0, **CRASHED)
    assert round_of(cluster).groups == {}


# ---------------------------------------------------------------------------- gangs, order, and runs that replace


def ring(failure: GangFailure = GangFailure.RESTART, count: int = 3) -> GroupSpec:
    return group_spec("ring", count=count, gang=GangSpec(on_failure=failure), restart=AGAIN)


def test_a_gang_has_one_ask_which_avoids_one_node_for_all(cluster: Cluster) -> None:
    job = cluster.job("train", ring())
    cluster.alloc(job, cluster.nodes[2], 1, **UNSTARTED)
    cluster.alloc(job, cluster.nodes[1], 2, **STOPPED)
    work = round_of(cluster)
    assert avoided(work) == {0: 2, 1: 2, 2: 2}
    assert len(work.asks) == 1


def test_a_gang_that_has_to_wait_says_so_and_asks_for_nobody(cluster: Cluster) -> None:
    job = cluster.job("train", ring())
    cluster.alloc(job, cluster.nodes[0], 0, **UNSTARTED, modify_time_ms=NOW)
    work = round_of(cluster)
    assert asked(work) == []
    note = work.groups[(0, 0)]
    assert (note.missing, note.waiting) == (2, 1)
    assert note.gang.startswith("1 of its gang wait")


def test_a_group_that_comes_after_another_waits_for_it(cluster: Cluster) -> None:
    second = group_spec("second", after=(After(group="first"),))
    job = cluster.job("web", group_spec("first"), second, type=JobType.BATCH)
    work = round_of(cluster)
    assert asked(work) == [("web", 1, 0, 1)] and [ask.group for ask in work.asks] == [0]
    assert work.groups[(0, 0)] == GroupWork(missing=1)
    assert "first" in work.groups[(0, 1)].after and not work.groups[(0, 1)].skipped
    cluster.alloc(job, cluster.nodes[0], state=AllocState.COMPLETE)
    assert [ask.group for ask in round_of(cluster).asks] == [1]
    cluster.rows[0]["state"] = AllocState.FAILED
    work = round_of(cluster)
    assert asked(work) == [] and work.groups[(0, 1)].skipped


def test_a_run_waits_until_the_one_that_it_replaces_has_stopped(cluster: Cluster) -> None:
    earlier = cluster.job("nightly-1", group_spec(), type=JobType.BATCH, stopped=True)
    origin = Origin(job="nightly", uid="uid", version=1, replaces=(earlier.uid,))
    cluster.job("nightly-2", group_spec(variables={"A": "missing"}), type=JobType.BATCH, origin=origin)
    cluster.variables.add(("default", "missing"))
    row = cluster.alloc(earlier, cluster.nodes[0], desired=Desired.STOP)
    work = round_of(cluster)
    assert asked(work) == [] and "nightly-1" in work.groups[(1, 0)].blocked
    row["state"] = AllocState.STOPPED
    assert asked(round_of(cluster)) == [("nightly-2", 1, 0, 1)]


@pytest.mark.parametrize(
    ("names", "text"),
    [(("A",), "variable A missing"), (("B", "A", "HAVE"), "variables A, B missing"), (("HAVE",), "")],
)
def test_which_variables_are_missing_is_said(cluster: Cluster, names: tuple[str, ...], text: str) -> None:
    cluster.variables = {("default", "HAVE"), ("other", "A")}
    cluster.job("web", group_spec(variables={f"VAR_{name}": name for name in names}))
    work = round_of(cluster)
    assert work.groups[(0, 0)].blocked == text
    assert bool(work.asks) is not bool(text)


# ---------------------------------------------------------------------------- versions that wait for their promotion


def main(count: int, cpu: int, canaries: int = 1, **more: Any) -> GroupSpec:
    return group_spec(count=count, cpu=cpu, update=UpdateSpec(canaries=canaries), **more)


def places(ask: Ask) -> tuple[int, list[int], int]:
    return ask.job.version, ask.ordinals.tolist(), ask.at


def test_canaries_are_asked_for_at_the_newest_version_and_the_others_at_the_one_before(cluster: Cluster) -> None:
    held(cluster, main(3, 500), main(3, 600))
    work = round_of(cluster)
    assert sorted(map(places, work.asks)) == [(1, [1, 2], 0), (2, [0], -1)]
    assert work.groups[(0, 0)] == GroupWork(missing=3, seated=1)


def test_of_a_group_that_the_version_before_has_not_all_but_the_canaries_wait(cluster: Cluster) -> None:
    held(cluster, group_spec("other"), main(3, 600))
    work = round_of(cluster)
    assert [places(ask) for ask in work.asks if ask.group == 0 and ask.job.version == 2] == [(2, [0], -1)]
    note = work.groups[(0, 0)]
    assert (note.missing, note.unpromoted, note.seated, note.blocked) == (1, 2, 1, "")


def test_what_keeps_the_version_before_from_being_placed_holds_up_the_others_alone(cluster: Cluster) -> None:
    held(cluster, main(2, 500, variables={"A": "missing"}), main(2, 600))
    work = round_of(cluster)
    assert list(map(places, work.asks)) == [(2, [0], -1)]
    assert "missing" in work.groups[(0, 0)].blocked


def test_where_all_may_be_canaries_the_version_before_is_asked_for_nothing(cluster: Cluster) -> None:
    held(cluster, main(2, 500, variables={"A": "missing"}), main(2, 600, canaries=2))
    work = round_of(cluster)
    assert list(map(places, work.asks)) == [(2, [0, 1], -1)]
    assert work.groups[(0, 0)].blocked == ""
