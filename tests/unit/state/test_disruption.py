"""How much of a group may be down: the arithmetic of budgets, and what counts as up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import AllocState, Desired, Disruption, JobType, NodeStatus
from orchestrator.state import views
from orchestrator.state.allocations import LAST_LIVE, well
from orchestrator.state.commands import MarkNodes, NodeMark, ScaleJob
from orchestrator.state.disruption import (
    BOUNDLESS,
    PREEMPTED,
    Budgets,
    drain_refusal_of,
    is_up,
    may_go_down,
    most_down,
    refusal_of,
)
from orchestrator.state.model import Job
from tests import listed
from tests.effort import examples
from tests.unit.scheduling.cluster import Cluster, group_spec
from tests.unit.state.kit import Kit, Placement, group, job, node


@pytest.mark.parametrize(
    ("budget", "wanted", "most"),
    [
        (Disruption(max_unavailable=0), 10, 0),
        (Disruption(max_unavailable=3), 10, 3),
        (Disruption(max_unavailable=25, percent=True), 10, 2),
        (Disruption(max_unavailable=25, percent=True), 3, 1),
        (Disruption(max_unavailable=0, percent=True), 10, 0),
        (Disruption(max_unavailable=1, percent=True), 10, 1),
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
    there = cluster.node("n")
    web = cluster.job("web", group_spec(count=4), disruption=Disruption(max_unavailable=3))
    free = cluster.job("free", group_spec(count=1))
    for ordinal in range(4):
        cluster.alloc(web, there, ordinal)
    cluster.alloc(free, there)
    key = (web.slot, "main")
    budgets = Budgets(cluster.view(), np.array([1], dtype=np.int64))
    assert budgets.left(key) == 2
    assert budgets.said(key) == "3 of 4 may be down, 1 is"
    budgets.take(key, 1)
    assert budgets.left(key) == 1
    assert budgets.left((free.slot, "main")) == BOUNDLESS


def test_of_a_system_job_what_was_preempted_and_is_not_back_is_down() -> None:
    cluster = Cluster()
    nodes = [cluster.node(name) for name in ("a", "b", "c")]
    logs = cluster.job("logs", type=JobType.SYSTEM, disruption=Disruption(max_unavailable=1))
    for there in nodes:
        cluster.alloc(logs, there, there.slot)
    key = (logs.slot, "main")
    none = np.zeros(0, dtype=np.int64)
    assert Budgets(cluster.view(), none).left(key) == 1
    cluster.rows[0] |= {"state": AllocState.STOPPED, "desired": Desired.STOP}
    assert Budgets(cluster.view(), none).left(key) == 1
    cluster.rows[0]["reason"] = "preempted by web/api/0 (priority 80)"
    assert Budgets(cluster.view(), none).left(key) == 0


def left(cluster: Cluster, job: Job, name: str = "main") -> int:
    return Budgets(cluster.view(), np.zeros(0, dtype=np.int64)).left((job.slot, name))


def test_surplus_instances_stand_in_for_nobody_and_of_two_attempts_the_newer_counts() -> None:
    cluster = Cluster()
    there = cluster.node("n")
    web = cluster.job("web", group_spec(count=2), disruption=Disruption(max_unavailable=1))
    for ordinal in range(3):
        cluster.alloc(web, there, ordinal)
    assert left(cluster, web) == 1
    cluster.rows[0] |= {"state": AllocState.FAILED}
    assert left(cluster, web) == 0
    cluster.alloc(web, there, 0, attempt=2)
    assert left(cluster, web) == 1


def test_a_system_instance_that_stops_by_itself_is_still_wanted() -> None:
    cluster = Cluster()
    logs = cluster.job("logs", type=JobType.SYSTEM, disruption=Disruption(max_unavailable=1))
    for name in ("a", "b"):
        there = cluster.node(name)
        cluster.alloc(logs, there, there.slot)
    cluster.rows[0] |= {"state": AllocState.STOPPING}
    assert left(cluster, logs) == 0


def test_what_a_batch_group_has_done_is_not_wanted_unless_an_older_version_did_it() -> None:
    cluster = Cluster()
    there = cluster.node("n")
    work = cluster.job(
        "work", group_spec(count=3), type=JobType.BATCH, disruption=Disruption(), version=2, group_versions=(2,)
    )
    for ordinal in range(3):
        cluster.alloc(work, there, ordinal)
    cluster.rows[0] |= {"state": AllocState.COMPLETE}
    assert left(cluster, work) == 1
    cluster.rows[0] |= {"version": 1}
    assert left(cluster, work) == 0


def test_a_group_has_its_name_whatever_its_place_was_and_one_that_is_gone_lacks_nobody() -> None:
    cluster = Cluster()
    there = cluster.node("n")
    a, b = group_spec("a"), group_spec("b")
    web = cluster.job("web", a, b, disruption=Disruption())
    cluster.alloc(web, there, group=0)
    cluster.alloc(web, there, group=1)
    web = cluster.new_version(web, replace(web.spec, groups=(b, a)))
    cluster.alloc(web, there, 1, group=0)
    budgets = Budgets(cluster.view(), np.zeros(0, dtype=np.int64))
    names = [("b" if row["version"] == 2 else "ab"[row["group"]]) for row in cluster.rows]
    by_row = {int(row): budgets.group_of(at) for at, row in enumerate(cluster.view().allocations.row.tolist())}
    assert [by_row[row["row"]] for row in cluster.rows] == [(web.slot, name) for name in names]
    cluster.rows[0] |= {"state": AllocState.FAILED}
    assert (left(cluster, web, "a"), left(cluster, web, "b")) == (0, 1)
    assert left(cluster, web, "gone") == 1, "nothing of it is wanted, so nothing is down"


def test_what_a_round_took_is_given_back_when_it_takes_it_back() -> None:
    cluster = Cluster()
    there = cluster.node("n")
    web = cluster.job("web", group_spec(count=2), disruption=Disruption(max_unavailable=2))
    free = cluster.job("free")
    for ordinal in range(2):
        cluster.alloc(web, there, ordinal)
    budgets, key = Budgets(cluster.view(), np.zeros(0, dtype=np.int64)), (web.slot, "main")
    assert (budgets.said(key), budgets.said((free.slot, "main"))) == ("2 of 2 may be down, 0 are", "")
    mark = budgets.mark()
    budgets.take(key, 2)
    assert (budgets.left(key), budgets.said(key)) == (0, "2 of 2 may be down, 0 are")
    budgets.undo(mark)
    assert budgets.left(key) == 2
    budgets.take((free.slot, "main"), 1)
    assert budgets.left((free.slot, "main")) == BOUNDLESS


def test_a_drain_may_end_who_is_down_anyway_and_others_only_within_the_budget() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(replace(job("web", group(count=2)), disruption=Disruption(max_unavailable=1)))
    kit.plan(Placement("web/api/0", "n1"), Placement("web/api/1", "n1"))
    kit.observe("web/api/0", AllocState.RUNNING)
    assert drain_refusal_of(kit.state, kit.row("web/api/1")) == ""
    assert drain_refusal_of(kit.state, kit.row("web/api/0")) == (
        "cannot leave its node: the disruption budget of web/api: 1 of 2 may be down, 1 is"
    )
    kit.observe("web/api/1", AllocState.RUNNING)
    assert drain_refusal_of(kit.state, kit.row("web/api/0")) == ""


# ---------------------------------------------------------------------------- against a count by hand

D = "default"
GROUPS = ("api", "db")


def by_hand(kit: Kit, name: str) -> tuple[int, int] | None:
    """(wanted, up) of a group; None: the job has no such group any more."""
    known = kit.state.find_job(D, "web")
    assert known is not None
    place = next((place for place, one in enumerate(known.spec.groups) if one.name == name), -1)
    if place < 0:
        return None
    newest = {one.id.ordinal: one for one in listed.allocations(kit.state) if one.id.group == name}  # by attempt
    lost = {node.spec.id for node in kit.state.nodes.values() if node.status is NodeStatus.LOST}
    wanted, up = known.spec.groups[place].count, 0
    if known.spec.type is JobType.SYSTEM:
        back = [one for one in newest.values() if one.state <= LAST_LIVE or one.reason.startswith(PREEMPTED)]
        wanted = len(back)
    for ordinal, one in newest.items():
        if known.spec.type is not JobType.SYSTEM and ordinal >= known.spec.groups[place].count:
            continue
        if known.spec.type is JobType.BATCH and one.state is AllocState.COMPLETE:
            wanted -= one.job_version >= known.group_versions[place]
        up += one.state is AllocState.RUNNING and one.desired is Desired.RUN and one.node_id not in lost
    return wanted, up


def change(kit: Kit, kind: JobType, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """One thing that happens to the job."""
    known = kit.state.find_job(D, "web")
    assert known is not None
    present = [one.name for one in known.spec.groups]
    name = draw(st.sampled_from(present))
    alloc = f"web/{name}/{draw(st.integers(0, 3))}"
    match draw(st.sampled_from(["place", "place", "place", "observe", "observe", "submit", "scale", "end", "lose"])):
        case "place":
            kit.place(alloc, draw(st.sampled_from(["n1", "n2"])))
            kit.observe(alloc, AllocState.RUNNING) if kit.row(alloc) >= 0 else None
        case "observe" if kit.row(alloc) >= 0:
            kit.observe(alloc, draw(st.sampled_from([AllocState.COMPLETE, AllocState.FAILED, AllocState.STOPPED])))
        case "submit":
            left = draw(st.sampled_from([GROUPS, GROUPS, GROUPS[1:], GROUPS[::-1]]))
            image = draw(st.sampled_from(["one", "two"]))
            groups = [group(one, count=3, image=image if one == "db" else "same") for one in left]
            kit.submit(replace(job("web", *groups, kind=kind), disruption=known.spec.disruption))
        case "scale":
            kit.do(ScaleJob(namespace=D, name="web", group=name, count=draw(st.integers(0, 3))))
        case "end" if kit.row(alloc) >= 0:
            kit.stop(alloc, draw(st.sampled_from(["surplus", "preempted by other/api/0 (priority 80)"])))
        case "lose":
            mark = NodeMark(node_id="n2", register_index=kit.state.nodes["n2"].register_index, reason="silent")
            kit.do(MarkNodes(lost=(mark,)))


@settings(max_examples=examples(25))
@given(
    st.data(), st.sampled_from(JobType), st.sampled_from([Disruption(max_unavailable=n) for n in (0, 1, 2)]),
)  # fmt: skip
def test_planners_and_peers_leave_what_a_count_by_hand_leaves(
    data: st.DataObject, kind: JobType, budget: Disruption
) -> None:
    kit = Kit()
    kit.checked = False  # its invariants are others' business
    for name in ("n1", "n2"):
        kit.register(node(name, cpu=100_000, memory=100_000))
    kit.submit(replace(job("web", *(group(name, count=3) for name in GROUPS), kind=kind), disruption=budget))
    for _ in range(data.draw(st.integers(4, 16))):
        change(kit, kind, data.draw)
        view = views.cluster_view(kit.state)
        budgets = Budgets(view, np.zeros(0, dtype=np.int64))
        counted = {name: by_hand(kit, name) for name in GROUPS}
        for position, row in enumerate(view.allocations.row.tolist()):
            name = kit.state.ordinals.names[int(kit.state.table.gid[row])][1]
            assert budgets.group_of(position) == (0, name)
            if not kit.state.table.is_live(row):
                continue
            found = counted[name]
            if found is None:
                assert refusal_of(kit.state, row) == ""
                continue
            left = max(0, budget.max_unavailable - max(0, found[0] - found[1]))
            assert budgets.left((0, name)) == left
            assert bool(refusal_of(kit.state, row)) is (left == 0)
            said = f"{budget.max_unavailable} of {found[0]} may be down"
            assert budgets.said((0, name)).startswith(said)
            up = kit.alloc(f"web/{name}/{int(kit.state.table.ordinal[row])}")
            if up.attempt == int(kit.state.table.attempt[row]):
                there = up.state is AllocState.RUNNING and up.desired is Desired.RUN
                assert bool(drain_refusal_of(kit.state, row)) is (left == 0 and there)
