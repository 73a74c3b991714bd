"""Who is evicted for whom: the least harm, never more than needed, and room that stays where it was made."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import (
    Affinity,
    AllocState,
    Desired,
    DeviceRequest,
    Disruption,
    GangDomain,
    GangFailure,
    GangSpec,
    JobType,
    NodeStatus,
    OnDisconnect,
    Settings,
)
from orchestrator.plan import decide, explain
from orchestrator.scheduling import preempt as module
from orchestrator.scheduling.serve import ASKS_MAX
from orchestrator.state.commands import Action, ApplyPlan
from orchestrator.state.disruption import PREEMPTED
from orchestrator.state.model import Job
from tests.effort import examples
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec


class Stage:
    """A cluster, its rounds, and agents that stop what they are told to, when they are told to."""

    def __init__(self, **settings_: bool) -> None:
        self.cluster = Cluster()
        self.settings = Settings(**settings_)

    def view(self) -> Any:
        from dataclasses import replace

        return replace(self.cluster.view(), settings=self.settings)

    def running(self, name: str, node: str, *, priority: int = 50, cpu: int = 500, count: int = 1, **more: Any) -> Job:
        """A job whose instances all run on one node."""
        group = {key: more.pop(key) for key in ("memory", "gpu", "ports", "custom") if key in more}
        row = {key: more.pop(key) for key in ("device_mask", "gpu_millis") if key in more}
        job = self.cluster.job(name, group_spec(count=count, cpu=cpu, **group), priority=priority, **more)
        place = next(known for known in self.cluster.nodes if known.spec.name == node)
        for ordinal in range(count):
            at = len(self.cluster.rows)
            self.cluster.alloc(job, place, ordinal, create_index=at + 1, ports=group.get("ports", ()), **row)
        return job

    def wanted(self, name: str, *, priority: int, cpu: int = 500, count: int = 1, **more: Any) -> Job:
        group = {key: more.pop(key) for key in ("memory", "gpu", "ports", "custom") if key in more}
        return self.cluster.job(name, group_spec(count=count, cpu=cpu, **group), priority=priority, **more)

    def evicted(self) -> list[str]:
        """Of the next round, "victim/ordinal: reason", in order."""
        return [text for plan in decide(self.view(), 0).plans for text in evictions(plan, self.cluster)]

    def placed(self) -> list[tuple[str, str]]:
        return [
            (plan.jobs[job].removeprefix("uid-"), plan.nodes[node])
            for plan in decide(self.view(), 0).plans
            for job, node in zip(plan.placements.job.tolist(), plan.placements.node.tolist(), strict=True)
        ]

    def tell(self) -> None:
        """What the next round evicts is told to stop."""
        for plan in decide(self.view(), 0).plans:
            actions = plan.actions
            for place in np.flatnonzero(actions.action == Action.EVICT).tolist():
                uid, ordinal = plan.jobs[int(actions.job[place])], int(actions.ordinal[place])
                slot = next(job.slot for job in self.cluster.jobs if job.uid == uid)
                for row in self.cluster.rows:
                    if (row["job"], row["ordinal"]) == (slot, ordinal):
                        row["desired"] = Desired.STOP
                        row["reason"] = plan.reasons[int(actions.reason[place])]

    def stopped(self, job: Job, ordinal: int = 0) -> None:
        for row in self.cluster.rows:
            if (row["job"], row["ordinal"]) == (job.slot, ordinal):
                row["state"] = AllocState.STOPPED


def evictions(plan: ApplyPlan, cluster: Cluster) -> list[str]:
    actions = plan.actions
    return [
        f"{plan.jobs[int(actions.job[place])].removeprefix('uid-')}/{actions.ordinal[place]}: "
        f"{plan.reasons[int(actions.reason[place])]}"
        for place in np.flatnonzero(actions.action == Action.EVICT).tolist()
    ]


def one_node(cpu: int = 1000, **more: bool) -> Stage:
    stage = Stage(**more)
    stage.cluster.node("n", cpu=cpu)
    return stage


def test_a_lower_priority_makes_room_and_is_told_for_whom() -> None:
    stage = one_node()
    stage.running("low", "n", priority=20, cpu=1000)
    stage.wanted("web", priority=80, cpu=1000)
    assert stage.evicted() == [f"low/0: {PREEMPTED}web/main/0 (priority 80)"]
    assert stage.placed() == []


@pytest.mark.parametrize("priority", [50, 80])
def test_an_equal_or_higher_priority_never_makes_room(priority: int) -> None:
    stage = one_node()
    stage.running("old", "n", priority=priority, cpu=1000)
    stage.wanted("web", priority=50, cpu=1000)
    assert stage.evicted() == []


def test_what_is_not_preemptible_stays_and_so_does_everything_when_the_cluster_says_so() -> None:
    stage = one_node()
    stage.running("low", "n", priority=20, cpu=1000, unpreemptible=True)
    stage.wanted("web", priority=80, cpu=1000)
    assert stage.evicted() == []
    stage = one_node(preemption=False)
    stage.running("low", "n", priority=20, cpu=1000)
    stage.wanted("web", priority=80, cpu=1000)
    assert stage.evicted() == []


def test_nobody_is_evicted_where_the_preemptor_would_still_not_fit() -> None:
    stage = one_node()
    stage.running("low", "n", priority=20, cpu=500)
    stage.running("high", "n", priority=95, cpu=500)
    stage.wanted("web", priority=80, cpu=1000)
    assert stage.evicted() == []


def test_the_lowest_priority_goes_first_then_the_fewest_then_the_least_waste_then_the_youngest() -> None:
    stage = one_node(2000)
    stage.running("mid", "n", priority=50, cpu=500, count=2)
    stage.running("low", "n", priority=20, cpu=500, count=2)
    stage.wanted("web", priority=80, cpu=500)
    assert [text.partition(":")[0] for text in stage.evicted()] == ["low/1"]
    stage = one_node(2000)
    stage.running("small", "n", priority=20, cpu=300, count=2)
    stage.running("big", "n", priority=20, cpu=600)
    stage.running("huge", "n", priority=20, cpu=800)
    stage.wanted("web", priority=80, cpu=600)
    assert [text.partition(":")[0] for text in stage.evicted()] == ["big/0"]


def test_of_several_nodes_the_one_with_the_least_harm_is_taken() -> None:
    stage = Stage()
    for name in ("a", "b", "c"):
        stage.cluster.node(name, cpu=1000)
    stage.running("x", "a", priority=50, cpu=1000)
    stage.running("y", "b", priority=20, cpu=500, count=2)
    stage.running("z", "c", priority=20, cpu=1000)
    stage.wanted("web", priority=80, cpu=1000)
    assert [text.partition(":")[0] for text in stage.evicted()] == ["z/0"]


def test_while_a_victim_stops_nobody_else_is_evicted_and_nobody_lower_gets_the_room() -> None:
    stage = one_node()
    low = stage.running("low", "n", priority=20, cpu=400, count=2)
    stage.wanted("web", priority=80, cpu=800)
    assert len(stage.evicted()) == 2
    stage.tell()
    late = stage.wanted("late", priority=50, cpu=200)  # it would fit into what is free now
    assert stage.evicted() == []
    assert stage.placed() == [("late", "n")]  # 200 of 1000 are not needed by web
    stage.stopped(low, 0)
    stage.cluster.change(late, stopped=True)
    stage.wanted("snatch", priority=50, cpu=400)
    assert stage.evicted() == []
    assert stage.placed() == []  # half of the room is free, and it is web's
    stage.stopped(low, 1)
    assert ("web", "n") in stage.placed()


def test_whoever_room_was_made_for_waits_there_and_leaves_others_theirs() -> None:
    stage = Stage()
    stage.cluster.node("small", cpu=900)
    stage.cluster.node("large", cpu=4000)
    stage.running("a", "small", priority=20, cpu=300)
    stage.running("b", "large", priority=30, cpu=1000)
    stage.running("high", "large", priority=99, cpu=3000)
    first = stage.wanted("first", priority=90, cpu=750)
    second = stage.wanted("second", priority=80, cpu=1000)  # it fits on the large node alone
    assert [text.partition(":")[0] for text in stage.evicted()] == ["a/0", "b/0"]
    stage.tell()
    for job, node in ((first, "small"), (second, "large")):
        (group,) = explain(stage.view(), job.uid, 0)
        assert f"waiting for 1 allocation to stop on {node}" in group.summary


def test_room_that_an_ordinary_stop_frees_spares_a_victim() -> None:
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=1000)
    stage.running("low", "a", priority=20, cpu=1000)
    done = stage.running("done", "b", priority=90, cpu=1000)
    stage.cluster.change(done, stopped=True)  # this very round tells it to stop
    stage.wanted("web", priority=80, cpu=1000)
    assert stage.evicted() == []
    for row in stage.cluster.rows:
        if row["job"] == done.slot:
            row["desired"] = Desired.STOP  # an earlier round did
    assert stage.evicted() == []


def test_what_stops_on_a_closed_node_frees_room_for_nobody() -> None:
    stage = Stage()
    stage.cluster.node("a", cpu=1000)
    stage.cluster.node("b", cpu=1000, cordoned=True)
    stage.running("low", "a", priority=20, cpu=1000)
    done = stage.running("done", "b", priority=90, cpu=1000)
    stage.cluster.change(done, stopped=True)
    stage.wanted("web", priority=80, cpu=1000)
    assert len(stage.evicted()) == 1


def test_each_waiting_instance_gets_room_of_its_own() -> None:
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=1000)
        stage.running(f"low-{name}", name, priority=20, cpu=500, count=2)
    stage.wanted("web", priority=80, cpu=500, count=3)
    assert len(stage.evicted()) == 3
    stage.tell()
    assert stage.evicted() == []


def test_of_many_waiting_as_many_are_helped_as_can_be() -> None:
    stage = one_node()
    stage.running("low", "n", priority=20, cpu=1000)
    stage.wanted("web", priority=80, cpu=1000, count=3)
    assert stage.evicted() == [f"low/0: {PREEMPTED}web/main/0 (priority 80)"]


def test_only_what_is_missing_beside_what_is_being_freed_is_evicted() -> None:
    stage = one_node()
    ends = stage.running("ends", "n", priority=90, cpu=300)
    stage.running("large", "n", priority=20, cpu=400)
    stage.running("small", "n", priority=20, cpu=300)
    stage.cluster.change(ends, stopped=True)
    for row in stage.cluster.rows:
        row["desired"] = Desired.STOP if row["job"] == ends.slot else Desired.RUN
    stage.wanted("web", priority=80, cpu=700)
    assert stage.evicted() == [f"large/0: {PREEMPTED}web/main/0 (priority 80)"]


def test_a_device_that_is_being_freed_is_waited_for_by_one_alone() -> None:
    stage = Stage()
    stage.cluster.node("a", cpu=64_000, devices=gpus(1))
    stage.cluster.node("b", cpu=64_000, devices=gpus(1))
    ends = stage.running("ends", "a", priority=90, gpu=DeviceRequest(count=1), device_mask=1, gpu_millis=1000)
    stage.cluster.change(ends, stopped=True)
    stage.cluster.rows[0]["desired"] = Desired.STOP
    stage.running("low", "b", priority=20, gpu=DeviceRequest(count=1), device_mask=1, gpu_millis=1000)
    web = stage.wanted("web", priority=80, gpu=DeviceRequest(count=1))
    assert stage.evicted() == [], "there will be one"
    stage.cluster.change(web, spec=replace(web.spec, groups=(replace(web.spec.groups[0], count=2),)))
    assert stage.evicted() == [f"low/0: {PREEMPTED}web/main/1 (priority 80)"]


def test_devices_are_freed_of_whoever_has_the_ones_that_help() -> None:
    """Two of four belong to what must stay; each of the victims has one of the others."""
    stage = Stage()
    stage.cluster.node("n", cpu=64_000, devices=gpus(4))
    one = DeviceRequest(count=1)
    stage.running("high", "n", priority=90, gpu=DeviceRequest(count=2), device_mask=0b0011, gpu_millis=1000)
    for name, mask in (("third", 0b0100), ("fourth", 0b1000)):
        stage.running(name, "n", priority=20, gpu=one, device_mask=mask, gpu_millis=1000)
    stage.wanted("web", priority=80, gpu=DeviceRequest(count=3))
    assert stage.evicted() == []
    stage.wanted("two", priority=80, gpu=DeviceRequest(count=2))
    assert sorted(text.partition(":")[0] for text in stage.evicted()) == ["fourth/0", "third/0"]


def test_a_port_that_is_being_freed_and_one_of_a_victim_do_together() -> None:
    stage = one_node(2000)
    ends = stage.running("ends", "n", priority=90, cpu=500, ports=(8080,))
    stage.cluster.change(ends, stopped=True)
    stage.cluster.rows[0]["desired"] = Desired.STOP
    stage.running("low", "n", priority=20, cpu=500, ports=(9090,))
    stage.running("other", "n", priority=20, cpu=500, ports=(7070,))
    stage.wanted("web", priority=80, cpu=100, ports=(8080, 9090))
    stage.wanted("next", priority=70, cpu=100, ports=(8080,))
    assert stage.evicted() == [f"low/0: {PREEMPTED}web/main/0 (priority 80)"]
    assert stage.placed() == []


def test_a_budget_bounds_what_is_evicted_and_the_explanation_says_so() -> None:
    stage = one_node(2000)
    stage.running("low", "n", priority=20, cpu=500, count=4, disruption=Disruption(max_unavailable=1))
    web = stage.wanted("web", priority=80, cpu=500, count=3)
    assert len(stage.evicted()) == 1
    big = stage.wanted("big", priority=90, cpu=1500)
    stage.cluster.change(web, stopped=True)
    assert stage.evicted() == []
    (group,) = explain(stage.view(), big.uid, 0)
    assert "disruption budgets forbid to preempt low/main" not in group.summary  # one alone would not do either
    stage.cluster.change(stage.cluster.jobs[0], spec=replace_budget(stage.cluster.jobs[0], 0))
    small = stage.wanted("small", priority=90, cpu=500)
    (group,) = explain(stage.view(), small.uid, 0)
    said = "disruption budgets forbid to preempt low/main (0 of 4 may be down, 0 are)"
    assert said in group.summary
    assert group.remarks == (said,)


def replace_budget(job: Job, most: int) -> Any:
    from dataclasses import replace

    return replace(job.spec, disruption=Disruption(max_unavailable=most))


def test_budgets_count_what_is_down_already() -> None:
    stage = one_node(2000)
    job = stage.running("low", "n", priority=20, cpu=500, count=4, disruption=Disruption(max_unavailable=1))
    stage.cluster.rows[0]["state"] = AllocState.BACKOFF
    stage.wanted("web", priority=80, cpu=500)
    assert stage.evicted() == []
    stage.cluster.change(job, spec=replace_budget(job, 2))
    assert len(stage.evicted()) == 1


def test_devices_and_ports_are_counted_as_room() -> None:
    stage = Stage()
    stage.cluster.node("n", cpu=4000, devices=gpus(2))
    stage.running("a", "n", priority=20, cpu=100, gpu=DeviceRequest(count=1), device_mask=1, gpu_millis=1000)
    stage.running("b", "n", priority=30, cpu=100, gpu=DeviceRequest(count=1), device_mask=2, gpu_millis=1000)
    stage.running("c", "n", priority=10, cpu=100, ports=(8080,))
    stage.wanted("train", priority=80, cpu=100, gpu=DeviceRequest(count=1))
    assert [text.partition(":")[0] for text in stage.evicted()] == ["a/0"]
    stage.wanted("web", priority=80, cpu=100, ports=(8080,))
    assert [text.partition(":")[0] for text in stage.evicted()] == ["a/0", "c/0"]
    stage.tell()
    assert stage.evicted() == []


@pytest.mark.parametrize("what", ["gpu", "custom", "ports"])
def test_the_one_node_is_found_that_has_what_is_asked_for_among_many_with_victims(what: str) -> None:
    """All nodes have lower ones to evict and room enough; the last alone has the device, the licence or the port."""
    stage = Stage()
    licence: dict[str, Any] = {"custom": {"licenses": 1}}
    has: dict[str, dict[str, Any]] = {"gpu": {"devices": gpus(1)}, "custom": licence, "ports": {}}
    wants: dict[str, dict[str, Any]] = {
        "gpu": {"gpu": DeviceRequest(count=1)},
        "custom": licence,
        "ports": {"ports": (80,)},
    }
    only, asks = has[what], wants[what]
    holds = {"device_mask": 1, "gpu_millis": 1000} if what == "gpu" else {}
    for at in range(module.NODES_MAX + 8):
        last = at == module.NODES_MAX + 7
        stage.cluster.node(f"n{at}", **(only if last else {}))
        stage.running(f"low-{at}", f"n{at}", priority=20, cpu=100)
        if what == "ports":
            stage.running(f"port-{at}", f"n{at}", priority=20 if last else 90, cpu=100, ports=(80,))
    if what != "ports":
        stage.running("holder", f"n{module.NODES_MAX + 7}", priority=20, cpu=100, **asks, **holds)
    stage.wanted("urgent", priority=80, cpu=100, **asks)
    victim = "holder" if what != "ports" else f"port-{module.NODES_MAX + 7}"
    assert [text.partition(":")[0] for text in stage.evicted()] == [f"{victim}/0"]


def test_budgets_on_many_nodes_do_not_hide_the_node_without_one() -> None:
    stage = Stage()
    for at in range(module.NODES_MAX + 8):
        stage.cluster.node(f"n{at}", cpu=1000)
        none = Disruption(max_unavailable=0)
        stage.running(f"low-{at}", f"n{at}", priority=20, cpu=900, disruption=None if at > module.NODES_MAX else none)
    stage.wanted("urgent", priority=80)
    assert [text.partition(":")[0] for text in stage.evicted()] == [f"low-{module.NODES_MAX + 1}/0"]


@pytest.mark.parametrize("gang", [None, GangSpec()])
def test_whoever_cannot_be_helped_does_not_use_up_what_a_round_does_for_others(gang: GangSpec | None) -> None:
    stage = Stage()
    stage.cluster.node("n", cpu=1000)
    stage.running("low", "n", priority=20, cpu=900)
    for at in range(ASKS_MAX + 6):
        stage.cluster.job(f"never-{at}", group_spec(cpu=2000 + at, gang=gang), priority=80)
    stage.wanted("urgent", priority=80)
    assert [text.partition(":")[0] for text in stage.evicted()] == ["low/0"]


def test_a_system_job_preempts_on_its_own_node_alone() -> None:
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=1000)
    stage.running("low", "a", priority=20, cpu=1000)
    stage.running("high", "b", priority=95, cpu=1000)
    stage.wanted("logs", priority=80, cpu=100, type=JobType.SYSTEM)
    assert stage.evicted() == [f"low/0: {PREEMPTED}logs/main/0 (priority 80)"]


def test_a_system_job_that_cannot_be_helped_on_one_node_is_on_the_next() -> None:
    stage = Stage()
    for name, priority in (("a", 95), ("b", 20)):
        stage.cluster.node(name, cpu=1000)
        stage.running(f"on-{name}", name, priority=priority, cpu=1000)
    stage.wanted("logs", priority=80, cpu=100, type=JobType.SYSTEM)
    assert stage.evicted() == [f"on-b/0: {PREEMPTED}logs/main/1 (priority 80)"]


def test_what_stops_in_this_round_frees_its_room_once() -> None:
    """It was no victim besides: what it has does not do, and nobody lower is left."""
    stage = one_node(1000)
    done = stage.running("done", "n", priority=20, cpu=500)
    stage.running("high", "n", priority=95, cpu=500)
    stage.cluster.change(done, stopped=True)
    stage.wanted("web", priority=80, cpu=1000)
    assert stage.evicted() == []


def test_what_a_budget_left_for_one_instance_is_gone_for_the_next_on_another_node() -> None:
    stage = Stage()
    low = stage.cluster.job("low", group_spec(count=2, cpu=1000), priority=20, disruption=Disruption(max_unavailable=1))
    for ordinal, name in enumerate(("a", "b")):
        stage.cluster.alloc(low, stage.cluster.node(name, cpu=1000), ordinal, create_index=1)
    stage.wanted("web", priority=80, cpu=1000, count=2)
    assert len(stage.evicted()) == 1


def test_a_port_that_is_waited_for_is_waited_for_by_one_alone() -> None:
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=4000)
        stage.running(f"on-{name}", name, priority=20, cpu=500, ports=(8080,))
    stage.wanted("one", priority=80, cpu=100, ports=(8080,))
    stage.wanted("two", priority=70, cpu=100, ports=(8080,))
    assert sorted(text.partition(" (")[0] for text in stage.evicted()) == [
        f"on-a/0: {PREEMPTED}one/main/0",
        f"on-b/0: {PREEMPTED}two/main/0",
    ]


def test_a_gang_is_evicted_whole() -> None:
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=1000)
    gang = stage.cluster.job("gang", group_spec(count=2, cpu=1000, gang=GangSpec()), priority=20)
    for ordinal, node in enumerate(stage.cluster.nodes):
        stage.cluster.alloc(gang, node, ordinal, create_index=1)
    stage.wanted("web", priority=80, cpu=1000)
    assert [text.partition(":")[0] for text in stage.evicted()] == ["gang/0", "gang/1"]


def test_units_go_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """``units`` is where gangs will be: here, the instances of one job are one."""
    monkeypatch.setattr(module, "units_of", lambda view: view.allocations.job.astype(np.int64))
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=1000)
    gang = stage.cluster.job("gang", group_spec(count=2, cpu=1000), priority=20)
    for ordinal, node in enumerate(stage.cluster.nodes):
        stage.cluster.alloc(gang, node, ordinal, create_index=1)
    stage.wanted("web", priority=80, cpu=1000)
    assert [text.partition(":")[0] for text in stage.evicted()] == ["gang/0", "gang/1"]
    stage.tell()
    assert stage.evicted() == []
    stage.cluster.change(gang, spec=replace_budget(gang, 1))
    for row in stage.cluster.rows:
        row["desired"] = Desired.RUN
        row.pop("reason", None)
    assert stage.evicted() == []


APART = Affinity(weight=-100, required=True)


def gang(stage: Stage, name: str, *, count: int, domain: GangDomain = GangDomain.CLUSTER, **more: Any) -> Job:
    group = {key: more.pop(key) for key in ("cpu", "gpu", "custom", "ports", "affinity") if key in more}
    return stage.cluster.job(name, group_spec(count=count, gang=GangSpec(domain=domain), **group), **more)


def test_a_gang_that_cannot_get_all_its_room_evicts_nobody() -> None:
    stage = one_node(2000)
    stage.running("low", "n", priority=20, cpu=1000)
    stage.running("high", "n", priority=95, cpu=1000)
    gang(stage, "gang", count=2, cpu=1000, priority=80)
    assert stage.evicted() == []
    stage.wanted("web", priority=70, cpu=1000)
    assert stage.evicted() == [f"low/0: {PREEMPTED}web/main/0 (priority 70)"], "and keeps nothing from others"


def test_a_gang_is_made_room_for_in_the_domain_with_the_least_harm() -> None:
    """Rack r1 would cost a higher priority, r2 three victims, r3 two: of those only what is needed goes."""
    stage = Stage()
    for rack, name in (("r1", "a"), ("r1", "b"), ("r2", "c"), ("r2", "d"), ("r3", "e"), ("r3", "f")):
        stage.cluster.node(name, cpu=1000, labels={"rack": rack})
    for name, node, priority, cpu in (
        ("a", "a", 40, 1000), ("b", "b", 20, 1000),
        ("c1", "c", 20, 500), ("c2", "c", 20, 500), ("d", "d", 20, 1000),
        ("e", "e", 20, 1000), ("f1", "f", 20, 200), ("f2", "f", 20, 700),
    ):  # fmt: skip
        stage.running(name, node, priority=priority, cpu=cpu)
    gang(stage, "gang", count=2, cpu=800, priority=80, domain=GangDomain.RACK)
    assert [text.partition("/")[0] for text in stage.evicted()] == ["f2", "e"]
    assert stage.placed() == []
    stage.tell()
    assert stage.evicted() == [], "its room is being freed"
    for name in ("e", "f2"):
        stage.stopped(next(job for job in stage.cluster.jobs if job.spec.name == name))
        assert stage.evicted() == []
    assert sorted(stage.placed()) == [("gang", "e"), ("gang", "f")]


def test_what_was_tried_in_one_domain_holds_no_port_when_the_room_is_made_in_another() -> None:
    stage = Stage()
    for rack, name in (("r1", "a"), ("r1", "b"), ("r2", "c"), ("r2", "d")):
        stage.cluster.node(name, cpu=1000, labels={"rack": rack})
    for name, priority in (("a", 40), ("b", 40), ("c", 20), ("d", 20)):
        stage.running(name, name, priority=priority, cpu=1000)
    gang(stage, "gang", count=2, cpu=800, ports=(8080,), priority=80, domain=GangDomain.RACK)
    assert sorted(text.partition("/")[0] for text in stage.evicted()) == ["c", "d"]
    stage.cluster.rows.clear()
    for name, priority in (("a", 20), ("b", 30), ("c", 20), ("d", 20)):
        job = next(one for one in stage.cluster.jobs if one.spec.name == name)
        stage.cluster.change(job, spec=replace(job.spec, priority=priority))
        at = next(node for node in stage.cluster.nodes if node.spec.name == name)
        stage.cluster.alloc(job, at, create_index=1)
    assert sorted(text.partition("/")[0] for text in stage.evicted()) == ["c", "d"]


def test_room_that_is_there_counts_and_what_is_freed_for_a_gang_goes_to_nobody_lower() -> None:
    stage = Stage()
    for name in ("a", "b", "c"):
        stage.cluster.node(name, cpu=1000)
    stage.running("low", "b", priority=20, cpu=600)
    stage.running("high", "c", priority=90, cpu=600)
    job = gang(stage, "gang", count=3, cpu=500, priority=80)
    assert [text.partition("/")[0] for text in stage.evicted()] == ["low"], "two on a, and one where low is"
    stage.tell()
    stage.wanted("small", priority=70, cpu=600)
    assert stage.placed() == []
    (said,) = explain(stage.view(), job.uid, 0)
    assert "waiting for 1 allocation to stop on b" in said.summary
    stage.stopped(next(one for one in stage.cluster.jobs if one.spec.name == "low"))
    assert sorted(stage.placed()) == [("gang", "a"), ("gang", "a"), ("gang", "b")]


def test_a_gang_of_which_a_member_is_out_of_reach_is_not_evicted() -> None:
    """That one goes on running on its lost node, where nobody can stop it."""
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=1000)
    gang(stage, "gang", count=2, cpu=1000, priority=20, on_disconnect=OnDisconnect.KEEP)
    for ordinal, node in enumerate(stage.cluster.nodes):
        stage.cluster.alloc(stage.cluster.jobs[0], node, ordinal, create_index=1)
    stage.wanted("web", priority=80, cpu=1000)
    assert len(stage.evicted()) == 2
    stage.cluster.change(stage.cluster.nodes[1], status=NodeStatus.LOST)
    assert stage.evicted() == []


def test_what_a_gang_tried_in_vain_is_undone_for_whoever_comes_after_it() -> None:
    """Amounts would do on both nodes, and a budget forbids it on one of them."""
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=1000)
        stage.running(name, name, priority=20, cpu=1000, disruption=Disruption(max_unavailable=int(name == "a")))
    gang(stage, "gang", count=2, cpu=1000, priority=80)
    stage.wanted("web", priority=70, cpu=1000)
    assert stage.evicted() == [f"a/0: {PREEMPTED}web/main/0 (priority 70)"]


@pytest.mark.parametrize(("homes", "victims"), [((0,), ["near"]), ((0, 2), [])])
def test_room_for_a_missing_member_is_made_where_the_others_are_whatever_it_costs(
    homes: tuple[int, ...], victims: list[str]
) -> None:
    stage = Stage()
    for rack, name in (("r1", "a"), ("r1", "b"), ("r2", "c"), ("r2", "d")):
        stage.cluster.node(name, cpu=1000, labels={"rack": rack})
    spec = GangSpec(domain=GangDomain.RACK, on_failure=GangFailure.REPLACE)
    mine = stage.cluster.job("gang", group_spec(count=len(homes) + 1, cpu=1000, gang=spec), priority=80)
    for ordinal, home in enumerate(homes):
        stage.cluster.alloc(mine, stage.cluster.nodes[home], ordinal)
    stage.running("near", "b", priority=60, cpu=1000)
    if 2 not in homes:
        stage.running("other", "c", priority=10, cpu=1000)
    stage.running("far", "d", priority=10, cpu=1000)
    assert [text.partition("/")[0] for text in stage.evicted()] == victims


def test_an_island_is_emptied_for_a_gang_that_must_share_one() -> None:
    stage = Stage()
    stage.cluster.node("n", cpu=64_000, devices=gpus(4, islands=(0, 0, 1, 1)))
    stage.running("one", "n", priority=20, device_mask=0b0001, gpu_millis=1000)
    stage.running("two", "n", priority=20, device_mask=0b0100, gpu_millis=1000)
    stage.running("three", "n", priority=20, device_mask=0b1000, gpu_millis=1000)
    job = gang(stage, "gang", count=2, cpu=10, gpu=DeviceRequest(count=1), priority=80, domain=GangDomain.ISLAND)
    assert [text.partition("/")[0] for text in stage.evicted()] == ["one"]
    stage.tell()
    stage.stopped(next(one for one in stage.cluster.jobs if one.spec.name == "one"))
    (plan,) = decide(stage.view(), 0).plans
    rows = [plan.jobs[at] == job.uid for at in plan.placements.job.tolist()]
    assert plan.placements.device_mask[rows].tolist() == [0b01, 0b10]


def test_a_gang_whose_members_must_be_apart_is_made_room_for_on_a_node_each() -> None:
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=2000)
        stage.running(f"on-{name}", name, priority=20, cpu=2000)
    gang(stage, "gang", count=2, cpu=1000, affinity=(APART,), priority=80)
    assert [text.partition("/")[0] for text in stage.evicted()] == ["on-a", "on-b"]
    stage.tell()
    assert stage.evicted() == []
    for name in ("a", "b"):
        stage.stopped(next(one for one in stage.cluster.jobs if one.spec.name == f"on-{name}"))
    assert sorted(stage.placed()) == [("gang", "a"), ("gang", "b")]


def test_nobody_is_evicted_where_the_one_in_need_must_not_be() -> None:
    """One of it runs there, and they must be apart; or another is there that it must not be beside."""
    stage = one_node(2000)
    web = stage.cluster.job("web", group_spec(count=2, cpu=1000, affinity=(APART,)), priority=80)
    stage.cluster.alloc(web, stage.cluster.nodes[0])
    stage.running("low", "n", priority=20, cpu=1000)
    assert stage.evicted() == []
    stage.cluster.node("m", cpu=1000)
    stage.running("other", "m", priority=20, cpu=1000)
    assert [text.partition("/")[0] for text in stage.evicted()] == ["other"]


def test_custom_resources_are_freed_and_held_like_others() -> None:
    stage = Stage()
    stage.cluster.node("n", cpu=10_000, custom={"licence": 2})
    stage.running("low", "n", priority=20, cpu=10, custom={"licence": 1})
    stage.running("idle", "n", priority=20, cpu=10)
    stage.running("lower", "n", priority=10, cpu=10, custom={"licence": 1})
    stage.wanted("first", priority=80, cpu=10, custom={"licence": 1})
    stage.wanted("second", priority=70, cpu=10, custom={"licence": 1})
    assert [text.partition(" (")[0] for text in stage.evicted()] == [
        f"lower/0: {PREEMPTED}first/main/0",
        f"low/0: {PREEMPTED}second/main/0",
    ]
    stage.tell()
    stage.wanted("third", priority=60, cpu=10, custom={"licence": 1})
    assert stage.evicted() == []
    stage.stopped(next(one for one in stage.cluster.jobs if one.spec.name == "lower"))
    assert stage.placed() == [("first", "n")]


def test_the_explanation_names_victims_and_then_what_is_waited_for() -> None:
    stage = one_node()
    low = stage.running("low", "n", priority=20, cpu=500, count=2)
    web = stage.wanted("web", priority=80, cpu=1000)
    (group,) = explain(stage.view(), web.uid, 0)
    assert "waiting for 2 allocations to stop on n; preempting low/main/1, low/main/0" in group.summary
    stage.tell()
    (group,) = explain(stage.view(), web.uid, 0)
    assert "waiting for 2 allocations to stop on n" in group.summary
    assert "preempting" not in group.summary
    stage.stopped(low, 1)
    (group,) = explain(stage.view(), low.uid, 0)
    assert f"2 {PREEMPTED}web/main/0 (priority 80)" in group.summary


def test_a_lost_node_is_no_place_to_evict_on() -> None:
    stage = Stage()
    stage.cluster.node("a", cpu=1000, status=NodeStatus.LOST)
    stage.running("low", "a", priority=20, cpu=1000)
    stage.wanted("web", priority=80, cpu=1000)
    assert stage.evicted() == []


# ---------------------------------------------------------------------------- against brute force


@st.composite
def small_cases(draw: st.DrawFn) -> tuple[list[list[tuple[int, int, int]]], tuple[int, int], dict[int, int]]:
    """Per node, (priority, cpu, memory) of what runs; what is wanted at priority 80; budgets by victim job."""
    victim = st.tuples(
        st.sampled_from([10, 20, 50, 80, 90]), st.sampled_from([100, 200, 300, 500]), st.sampled_from([100, 200, 400])
    )
    nodes = draw(st.lists(st.lists(victim, max_size=5), min_size=1, max_size=3))
    wanted = draw(st.sampled_from([200, 400, 600, 900])), draw(st.sampled_from([100, 300, 700]))
    frozen = draw(st.dictionaries(st.integers(0, 14), st.just(0), max_size=2))
    return nodes, wanted, frozen


@given(small_cases())
@settings(max_examples=examples(150), deadline=None)
def test_the_harm_is_the_least_that_brute_force_finds(
    case: tuple[list[list[tuple[int, int, int]]], tuple[int, int], dict[int, int]],
) -> None:
    nodes, (cpu, memory), frozen = case
    stage = Stage()
    number = 0
    running: list[list[tuple[str, int, int, int, bool]]] = []
    for at, victims in enumerate(nodes):
        stage.cluster.node(f"n{at}", cpu=1000, memory=1000)
        here: list[tuple[str, int, int, int, bool]] = []
        for priority, takes, keeps in victims:
            if sum(one[2] for one in here) + takes > 1000 or sum(one[3] for one in here) + keeps > 1000:
                continue
            budget = Disruption(max_unavailable=0) if number in frozen else None
            name = f"v{number:02}"
            stage.running(name, f"n{at}", priority=priority, cpu=takes, memory=keeps, disruption=budget)
            here.append((name, priority, takes, keeps, number in frozen))
            number += 1
        running.append(here)
    stage.wanted("web", priority=80, cpu=cpu, memory=memory)
    chosen = {text.partition("/")[0] for text in stage.evicted()}

    costs = []
    for here in running:
        free = [1000 - sum(one[2] for one in here), 1000 - sum(one[3] for one in here)]
        lack = [max(0, cpu - free[0]), max(0, memory - free[1])]
        usable = [one for one in here if one[1] < 80 and not one[4]]
        for size in range(len(usable) + 1):
            for some in combinations(usable, size):
                frees = [sum(one[2] for one in some), sum(one[3] for one in some)]
                if all(freed >= want for freed, want in zip(frees, lack, strict=True)):
                    waste = sum(freed - want for freed, want in zip(frees, lack, strict=True))
                    costs.append((max((one[1] for one in some), default=0), size, waste, {one[0] for one in some}))
    if not costs or min(cost[1] for cost in costs) == 0:
        assert chosen == set()
        return
    best = min(cost[:3] for cost in costs)
    assert any(names == chosen for *cost, names in costs if tuple(cost) == best)
