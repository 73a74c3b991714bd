"""NoExecute taints: who leaves, when by the cluster's clock, and when the leader has to look again."""

from __future__ import annotations

import pytest

from orchestrator.contract.model import JobType, NodeTaint, Taint, TaintEffect, Toleration
from orchestrator.reconcile.rounds import reconcile
from orchestrator.reconcile.work import Work
from orchestrator.state.commands import Action
from tests.unit.scheduling.cluster import Cluster, group_spec

SINCE_MS = 1_000_000
BROKEN = NodeTaint(taint=Taint(key="broken", effect=TaintEffect.NO_EXECUTE), since_ms=SINCE_MS)


def stopped(work: Work) -> list[tuple[int, str]]:
    """Position and reason of what is told to stop."""
    actions = work.actions
    return [
        (position, actions.texts[reason])
        for position, kind, reason in zip(
            actions.positions.tolist(), actions.actions.tolist(), actions.reasons.tolist(), strict=True
        )
        if kind == Action.STOP
    ]


def on_a_broken_node(*tolerations: Toleration, kind: JobType = JobType.SERVICE) -> Cluster:
    cluster = Cluster()
    cluster.node("a", taints=(BROKEN,))
    cluster.node("b")
    job = cluster.job("web", group_spec(tolerations=tolerations), type=kind)
    cluster.alloc(job, cluster.nodes[0])
    if kind is JobType.SYSTEM:
        cluster.alloc(job, cluster.nodes[1], ordinal=1)
    cluster.time_ms = SINCE_MS
    return cluster


@pytest.mark.parametrize("kind", [JobType.SERVICE, JobType.BATCH, JobType.SYSTEM])
def test_what_does_not_tolerate_it_leaves_at_once(kind: JobType) -> None:
    work = reconcile(on_a_broken_node(kind=kind).view(), SINCE_MS)
    assert stopped(work) == [(0, "its node has the taint broken:NoExecute")]
    assert work.asks == ()


def test_what_tolerates_it_for_ever_stays() -> None:
    work = reconcile(on_a_broken_node(Toleration(key="broken")).view(), SINCE_MS + 10**9)
    assert (stopped(work), work.wake_at_ms) == ([], None)


def test_a_delay_counts_from_the_taint_by_the_clusters_clock_and_wakes_the_leader_then() -> None:
    cluster = on_a_broken_node(Toleration(key="broken", delay_ms=60_000))
    early = reconcile(cluster.view(), SINCE_MS + 59_999)
    assert (stopped(early), early.wake_at_ms) == ([], SINCE_MS + 60_000)
    assert len(stopped(reconcile(cluster.view(), SINCE_MS + 60_000))) == 1
    # A proposer whose clock is behind does not keep it longer than the cluster's time says.
    cluster.time_ms = SINCE_MS + 60_000
    assert len(stopped(reconcile(cluster.view(), 0))) == 1


def test_the_most_patient_toleration_counts() -> None:
    cluster = on_a_broken_node(Toleration(key="broken", delay_ms=10_000), Toleration(delay_ms=60_000))
    assert reconcile(cluster.view(), SINCE_MS).wake_at_ms == SINCE_MS + 60_000


def test_taints_that_only_keep_off_drive_nobody_away() -> None:
    for effect in (TaintEffect.NO_SCHEDULE, TaintEffect.PREFER_NO_SCHEDULE):
        for kind in (JobType.SERVICE, JobType.SYSTEM):
            cluster = on_a_broken_node(kind=kind)
            cluster.change(cluster.nodes[0], taints=(NodeTaint(taint=Taint(key="x", effect=effect)),))
            assert stopped(reconcile(cluster.view(), SINCE_MS)) == []


def test_a_system_job_gets_no_instance_on_a_node_whose_taint_it_does_not_tolerate() -> None:
    for tolerations, expected in (((), [1]), ((Toleration(),), [0, 1])):
        cluster = Cluster()
        cluster.node("a", taints=(BROKEN,))
        cluster.node("b")
        cluster.job("logs", group_spec(tolerations=tolerations), type=JobType.SYSTEM)
        (ask,) = reconcile(cluster.view(), SINCE_MS).asks
        assert ask.ordinals.tolist() == expected


def test_who_was_driven_away_is_asked_for_once_it_has_ended() -> None:
    from orchestrator.contract.model import AllocState, Desired

    cluster = on_a_broken_node()
    cluster.rows[0].update(desired=Desired.STOP, state=AllocState.STOPPED)
    (ask,) = reconcile(cluster.view(), SINCE_MS).asks
    assert ask.ordinals.tolist() == [0]
