"""Rules of preemption one by one, where ``test_preempt.py`` tells stories: units, devices, budgets, undoing, order.

A node ``c`` whose only victim is held by a budget often stands beside: amounts would do there, so the search begins.
"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.model import (
    Affinity,
    AllocState,
    Desired,
    DeviceRequest,
    Disruption,
    GangDomain,
    GangSpec,
    Settings,
)
from orchestrator.plan import decide, explain
from orchestrator.scheduling import preempt as module
from orchestrator.scheduling import serve
from orchestrator.state.model import Job
from tests.unit.scheduling.cluster import gpus, group_spec
from tests.unit.scheduling.test_preempt import Stage

APART = Affinity(weight=-100, required=True)
HELD = Disruption(max_unavailable=0)


def stage_of(*nodes: str, cpu: int = 1000, **more: Any) -> Stage:
    stage = Stage()
    for name in nodes:
        stage.cluster.node(name, cpu=cpu, **more)
    return stage


def names(stage: Stage) -> list[str]:
    """Who is evicted, in order: ``job/ordinal``."""
    return [text.partition(":")[0] for text in stage.evicted()]


def with_held_node(stage: Stage, **more: Any) -> None:
    """Node ``c``, where a budget forbids what amounts would allow."""
    stage.cluster.node("c", **({"cpu": 1000} | more.pop("node", {})))
    stage.running("held", "c", **({"priority": 10, "cpu": 1000} | more), disruption=HELD)


def gang(stage: Stage, name: str, *nodes: str, priority: int = 20, cpu: int = 500, **more: Any) -> Job:
    """A gang of which one member runs on each of these nodes."""
    masks = more.pop("masks", (0,) * len(nodes))
    spec = group_spec(count=len(nodes), cpu=cpu, gang=GangSpec(), **{k: more.pop(k) for k in ("gpu",) if k in more})
    job = stage.cluster.job(name, spec, priority=priority, **more)
    for ordinal, where in enumerate(nodes):
        place = next(node for node in stage.cluster.nodes if node.spec.name == where)
        stage.cluster.alloc(
            job, place, ordinal, create_index=len(stage.cluster.rows) + 1, device_mask=masks[ordinal],
            gpu_millis=1000 if masks[ordinal] else 0,
        )  # fmt: skip
    return job


def leaves(stage: Stage, name: str) -> None:
    """It was told to stop, and has not yet."""
    slot = next(job.slot for job in stage.cluster.jobs if job.spec.name == name)
    for row in stage.cluster.rows:
        if row["job"] == slot:
            row["desired"] = Desired.STOP


# ---------------------------------------------------------------------------- who may be evicted


def test_what_has_ended_is_no_victim_and_holds_nothing() -> None:
    stage = stage_of("n")
    stage.running("low", "n", priority=10, cpu=500)
    stage.running("high", "n", priority=90, cpu=500)
    stage.running("over", "n", priority=20, cpu=900)
    stage.cluster.rows[-1]["state"] = AllocState.FAILED
    stage.wanted("web", priority=80, cpu=500)
    assert names(stage) == ["low/0"]
    stage.cluster.rows[0]["state"] = AllocState.STOPPED
    assert names(stage) == []


def test_an_equal_priority_is_spared_also_where_lower_ones_run_elsewhere() -> None:
    stage = stage_of("b")
    stage.running("equal", "b", priority=80)
    stage.running("more", "b", priority=80)
    with_held_node(stage)
    stage.wanted("web", priority=80)
    assert names(stage) == []


def test_one_evicts_nothing() -> None:
    """Priorities begin at 0."""
    stage = stage_of("n")
    stage.running("least", "n", priority=0, cpu=1000)
    stage.wanted("web", priority=1, cpu=1000)
    assert names(stage) == ["least/0"]


def test_rows_of_nodes_that_are_no_more_do_not_disturb() -> None:
    stage = stage_of("a", "b", "gone")
    stage.running("low", "b", priority=20, cpu=1000)
    stage.running("high", "a", priority=90, cpu=1000)
    for where in ("gone", "gone"):
        stage.running(f"over-{len(stage.cluster.rows)}", where, cpu=100)
        stage.cluster.rows[-1]["state"] = AllocState.STOPPED
    stage.cluster.nodes.pop()
    stage.wanted("web", priority=80, cpu=1000)
    assert names(stage) == ["low/0"]
    stage.cluster.nodes.clear()
    stage.cluster.rows = [row for row in stage.cluster.rows if row["state"] == AllocState.STOPPED]
    assert names(stage) == []


# ---------------------------------------------------------------------------- units


def test_a_gang_among_others_goes_whole() -> None:
    stage = stage_of("a", "b")
    stage.cluster.job("first", group_spec(cpu=100), priority=95)
    stage.cluster.alloc(stage.cluster.jobs[0], stage.cluster.nodes[0])
    gang(stage, "ring", "a", "b", cpu=900)
    stage.running("last", "b", priority=95, cpu=100)
    stage.wanted("web", priority=80, cpu=800)
    assert names(stage) == ["ring/0", "ring/1"]


def test_of_a_gang_only_what_it_has_on_the_node_makes_room_there() -> None:
    """Both are needed on a: the gang's other member frees its room elsewhere."""
    stage = stage_of("a", "b")
    gang(stage, "ring", "a", "b")
    stage.running("low", "a", priority=20)
    stage.running("high", "b", priority=90)
    stage.wanted("web", priority=80, cpu=1000)
    assert names(stage) == ["low/0", "ring/0", "ring/1"]


def test_nor_do_its_devices_elsewhere_count() -> None:
    stage = stage_of("a", "b", devices=gpus(2), cpu=9000)
    gang(stage, "ring", "a", "b", masks=(0b01, 0b10), gpu=DeviceRequest(count=1))
    stage.running("high", "a", priority=90, gpu=DeviceRequest(count=1), device_mask=0b10, gpu_millis=1000)
    stage.running("other", "b", priority=90, gpu=DeviceRequest(count=1), device_mask=0b01, gpu_millis=1000)
    with_held_node(
        stage, node={"devices": gpus(2), "cpu": 9000}, gpu=DeviceRequest(count=2), device_mask=0b11, gpu_millis=1000
    )
    stage.wanted("web", priority=80, gpu=DeviceRequest(count=2))
    assert names(stage) == []


@pytest.mark.parametrize(("most", "evicted"), [(1, []), (2, ["ring/0", "ring/1"])])
def test_a_budget_counts_all_members_of_a_gang(most: int, evicted: list[str]) -> None:
    stage = stage_of("a", "b")
    gang(stage, "ring", "a", "b", cpu=1000, disruption=Disruption(max_unavailable=most))
    stage.wanted("web", priority=80, cpu=1000)
    assert names(stage) == evicted


def test_of_equal_gangs_the_one_that_started_last_goes() -> None:
    for order in (("one", "two"), ("two", "one")):
        stage = stage_of("a")
        for name in order:
            gang(stage, name, "a", "a", cpu=250)
        stage.wanted("web", priority=80)
        assert {text.partition("/")[0] for text in names(stage)} == {order[1]}


def test_a_gang_that_goes_for_one_is_not_evicted_again_for_the_next() -> None:
    """On d its member alone does not make enough room for the second, so somebody else goes there, too."""
    stage = stage_of("a", "d")
    gang(stage, "ring", "a", "d", cpu=500)
    stage.running("small", "a", priority=10, cpu=500)
    stage.running("other", "d", priority=30, cpu=500)
    stage.wanted("web", priority=80, cpu=1000, count=2)
    assert sorted(names(stage)) == ["other/0", "ring/0", "ring/1", "small/0"]


# ---------------------------------------------------------------------------- budgets


def test_each_eviction_takes_one_of_what_a_budget_leaves() -> None:
    stage = stage_of("a", "b", "c")
    low = stage.cluster.job("low", group_spec(count=3, cpu=1000), priority=20, disruption=Disruption(max_unavailable=2))
    for ordinal, node in enumerate(stage.cluster.nodes):
        stage.cluster.alloc(low, node, ordinal, create_index=1)
    stage.wanted("web", priority=80, cpu=1000, count=3)
    assert len(names(stage)) == 2


def test_a_gang_that_a_budget_keeps_from_its_room_says_so() -> None:
    stage = stage_of("a", "b")
    for name in ("a", "b"):
        stage.running(f"low-{name}", name, priority=20, cpu=1000, disruption=HELD)
    waiting = stage.cluster.job("ring", group_spec(count=2, cpu=1000, gang=GangSpec()), priority=80)
    assert names(stage) == []
    (said,) = explain(stage.view(), waiting.uid, 0)
    assert "disruption budgets forbid to preempt low-a/main" in said.summary


# ---------------------------------------------------------------------------- devices


@pytest.mark.parametrize("stops", [False, True])
def test_a_device_that_its_node_has_no_more_is_no_room(*, stops: bool) -> None:
    """What runs there was given the third of three; the node has two, of which another one holds both."""
    stage = Stage()
    stage.cluster.node("a", cpu=9000, devices=gpus(2))
    stage.cluster.node("wide", cpu=9000, devices=gpus(3))
    two, one = DeviceRequest(count=2), DeviceRequest(count=1)
    stage.running("high", "a", priority=90, gpu=two, device_mask=0b011, gpu_millis=1000)
    stage.running("rest", "wide", priority=90, gpu=DeviceRequest(count=3), device_mask=0b111, gpu_millis=1000)
    stage.running("stray", "a", priority=20, gpu=one, device_mask=0b100, gpu_millis=1000)
    if stops:
        leaves(stage, "stray")
    web = stage.wanted("web", priority=80, gpu=one)
    assert names(stage) == []
    (said,) = explain(stage.view(), web.uid, 0)
    assert "waiting for" not in said.summary and "preempting" not in said.summary


def test_one_victim_may_have_all_the_devices_that_are_needed() -> None:
    stage = stage_of("n", devices=gpus(3), cpu=9000)
    stage.running("low", "n", priority=20, gpu=DeviceRequest(count=2), device_mask=0b011, gpu_millis=1000)
    stage.running("high", "n", priority=90, gpu=DeviceRequest(count=1), device_mask=0b100, gpu_millis=1000)
    stage.wanted("web", priority=80, gpu=DeviceRequest(count=2))
    assert names(stage) == ["low/0"]


def test_a_free_device_that_is_waited_with_is_given_to_nobody_lower() -> None:
    stage = stage_of("n", devices=gpus(2), cpu=9000)
    stage.running("low", "n", priority=20, gpu=DeviceRequest(count=1), device_mask=0b01, gpu_millis=1000)
    stage.wanted("web", priority=80, gpu=DeviceRequest(count=2))
    assert names(stage) == ["low/0"]
    stage.tell()
    stage.wanted("late", priority=50, gpu=DeviceRequest(count=1))
    assert stage.placed() == []


def test_a_gang_waits_for_a_device_that_is_being_freed_beside_a_free_one() -> None:
    stage = stage_of("n", devices=gpus(2), cpu=9000)
    one = DeviceRequest(count=1)
    stage.running("ends", "n", priority=90, gpu=one, device_mask=0b01, gpu_millis=1000)
    leaves(stage, "ends")
    spec = group_spec(count=2, gang=GangSpec(domain=GangDomain.NODE), gpu=one)
    waiting = stage.cluster.job("ring", spec, priority=80)
    stage.cluster.node("other", cpu=9000, devices=gpus(2))
    stage.running("low", "other", priority=20, gpu=DeviceRequest(count=2), device_mask=0b11, gpu_millis=1000)
    assert names(stage) == []
    (said,) = explain(stage.view(), waiting.uid, 0)
    assert "waiting for 1 allocation to stop on n" in said.summary


# ---------------------------------------------------------------------------- neighbours and ports


def test_instances_that_must_be_apart_have_room_made_on_a_node_each() -> None:
    stage = stage_of("a", "b", cpu=2000)
    for name in ("a", "b"):
        stage.running(f"on-{name}", name, priority=20, cpu=2000)
    stage.cluster.job("web", group_spec(count=2, cpu=1000, affinity=(APART,)), priority=80)
    assert names(stage) == ["on-a/0", "on-b/0"]


def test_a_free_port_that_is_waited_with_is_given_to_nobody_lower() -> None:
    stage = stage_of("n")
    stage.running("low", "n", priority=20, cpu=800)
    stage.wanted("web", priority=80, cpu=900, ports=(8080,))
    stage.tell()
    stage.wanted("late", priority=50, cpu=50, ports=(8080,))
    assert stage.placed() == []
    stage.wanted("other", priority=50, cpu=50, ports=(9090,))
    assert stage.placed() == [("other", "n")]


# ---------------------------------------------------------------------------- where


@pytest.mark.parametrize(
    ("room", "chosen"), [({"a": 900, "b": 600}, "b"), ({"a": 600, "b": 900}, "a"), ({"a": 700, "b": 700}, "a")]
)
def test_of_several_places_that_are_being_freed_the_tightest_is_waited_for(room: dict[str, int], chosen: str) -> None:
    """What is free there already counts."""
    stage = stage_of("a", "b", cpu=2000)
    for name, size in room.items():
        stage.running(f"high-{name}", name, priority=95, cpu=1900 - size)
        stage.running(f"ends-{name}", name, priority=90, cpu=size)
        leaves(stage, f"ends-{name}")
    web = stage.wanted("web", priority=80, cpu=550)
    (said,) = explain(stage.view(), web.uid, 0)
    assert f"waiting for 1 allocation to stop on {chosen}" in said.summary


@pytest.mark.parametrize("gaps", [(0, 0), (0, 1)])
def test_by_share_of_the_node_not_by_amounts(gaps: tuple[int, int]) -> None:
    """800 of a large node left over are less than 400 of a small one."""
    stage = Stage()
    for name, cpu in (("small", 1000), ("large", 8000)):
        stage.cluster.node(name, cpu=cpu, memory=1000)
    stage.running("ends-small", "small", priority=90, cpu=900, memory=100)
    stage.running("high", "large", priority=95, cpu=6700, memory=100)
    stage.running("ends-large", "large", priority=90, cpu=1300, memory=100)
    for name in ("ends-small", "ends-large"):
        leaves(stage, name)
    web = stage.wanted("web", priority=80, cpu=500, memory=100 + gaps[1])
    (said,) = explain(stage.view(), web.uid, 0)
    assert "to stop on large" in said.summary


def test_of_many_nodes_those_that_need_fewest_victims_and_lack_least_are_looked_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One at a time here, and the first that will do is taken."""
    monkeypatch.setattr(module, "NODES_MAX", 1)
    for lacks, chosen in (
        ({"a": (300, 2, 200), "b": (600, 1, 200), "c": (700, 1, 200)}, "b"),
        ({"a": (300, 2, 200), "b": (600, 1, 300), "c": (600, 1, 200)}, "c"),
        ({"a": (600, 1, 200), "b": (600, 1, 300), "c": (300, 2, 200)}, "a"),
        ({"a": (600, 1, 200), "b": (600, 1, 200)}, "a"),
    ):
        stage = Stage()
        for name, (takes, count, memory) in lacks.items():
            stage.cluster.node(name, cpu=1000, memory=1000)
            stage.running(f"low-{name}", name, priority=20, cpu=takes // count, count=count, memory=memory // count)
            stage.running(f"high-{name}", name, priority=90, cpu=1000 - takes - 100, memory=700)
        stage.wanted("web", priority=80, cpu=300, memory=150)
        assert {text.partition("/")[0] for text in names(stage)} == {f"low-{chosen}"}, lacks


@pytest.mark.parametrize("what", ["gpu", "custom", "ports"])
def test_nodes_without_what_is_asked_for_do_not_use_up_the_search(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Of many only so many are looked at, those in vain not counted: there amounts would do, and nothing else."""
    monkeypatch.setattr(module, "NODES_MAX", 1)
    monkeypatch.setattr(module, "NODES_TRIED_MAX", 1)
    licence: dict[str, Any] = {"custom": {"licenses": 1}}
    asks: Any = {
        "gpu": {"gpu": DeviceRequest(count=1)}, "custom": licence, "ports": {"ports": (80,)}
    }[what]  # fmt: skip
    has: Any = {"gpu": {"devices": gpus(1)}, "custom": licence, "ports": {}}[what]
    holds = {"device_mask": 1, "gpu_millis": 1000} if what == "gpu" else {}
    stage = Stage()
    for at in range(4):
        stage.cluster.node(f"n{at}", **(has if at == 3 or what != "ports" else {}))
        stage.running(f"low-{at}", f"n{at}", priority=20, cpu=100)
        stage.running(f"holder-{at}", f"n{at}", priority=20 if at == 3 else 90, cpu=100, **asks, **holds)
    stage.wanted("urgent", priority=80, cpu=100, **asks)
    assert names(stage) == ["holder-3/0"]
    stage.wanted("plain", priority=70, cpu=4000)
    assert "holder-3/0" in names(stage)


@pytest.mark.parametrize("what", ["gpu", "custom", "ports"])
def test_what_is_being_freed_there_counts_besides(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Of two that are needed one is being freed, the other one is a victim's."""
    monkeypatch.setattr(module, "NODES_MAX", 1)
    licence: dict[str, Any] = {"custom": {"licenses": 1}}
    has: Any = {"gpu": {"devices": gpus(2)}, "custom": {"custom": {"licenses": 2}}, "ports": {}}[what]
    stage = Stage()
    for at in range(3):
        stage.cluster.node(f"n{at}", **has)
        for number, (name, priority) in enumerate((("ends", 90), ("low", 20 if at == 1 else 95))):
            one: Any = {
                "gpu": {"gpu": DeviceRequest(count=1), "device_mask": 1 << number, "gpu_millis": 1000},
                "custom": licence,
                "ports": {"ports": (80 + number,)},
            }[what]
            stage.running(f"{name}-{at}", f"n{at}", priority=priority, cpu=100, **one)
        stage.running(f"other-{at}", f"n{at}", priority=20, cpu=100)
        leaves(stage, f"ends-{at}")
    both: Any = {
        "gpu": {"gpu": DeviceRequest(count=2)}, "custom": {"custom": {"licenses": 2}}, "ports": {"ports": (80, 81)}
    }[what]  # fmt: skip
    stage.wanted("urgent", priority=80, cpu=100, **both)
    assert names(stage) == ["low-1/0"]


# ---------------------------------------------------------------------------- how much a round does


def test_a_round_looks_at_so_many_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    for looks, helped in ((1, 0), (2, 1), (4, 2), (99, 3)):  # each is looked at before its turn, and at it
        monkeypatch.setattr(module, "LOOKS_MAX", looks)
        stage = stage_of("a", "b", "c")
        for name in ("a", "b", "c"):
            stage.running(f"low-{name}", name, priority=20, cpu=1000)
        for at in range(3):
            stage.wanted(f"web-{at}", priority=80 - at, cpu=900 - at)
        assert len(names(stage)) == helped, looks


def many_full(count: int) -> Stage:
    """So many nodes, each full of something lower."""
    stage = stage_of(*(f"n{at}" for at in range(count)))
    for at in range(count):
        stage.running(f"low-{at}", f"n{at}", priority=20, cpu=1000)
    return stage


@pytest.mark.parametrize("ring", [None, GangSpec()])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_round_makes_room_for_so_many_asks(monkeypatch: pytest.MonkeyPatch, ring: GangSpec | None, most: int) -> None:
    monkeypatch.setattr(serve, "ASKS_MAX", most)
    stage = many_full(4)
    for at in range(4):
        stage.cluster.job(f"web-{at}", group_spec(cpu=900 - at, gang=ring), priority=80 - at)
    assert len(names(stage)) == most


@pytest.mark.parametrize(
    ("ring", "most", "helped"),
    [(None, 1, 1), (None, 2, 2), (None, 3, 4), (None, 4, 4), (None, 5, 5),
     (GangSpec(), 1, 2), (GangSpec(), 4, 2), (GangSpec(), 5, 4), (GangSpec(), 9, 5)],
)  # fmt: skip
def test_and_for_so_many_instances(
    monkeypatch: pytest.MonkeyPatch, ring: GangSpec | None, most: int, helped: int
) -> None:
    """What was begun goes on: a gang is never parted, and each try of it counts: it is tried, and then done."""
    monkeypatch.setattr(serve, "INSTANCES_MAX", most)
    stage = many_full(5)
    for at, count in enumerate((2, 2, 1)):
        stage.cluster.job(f"web-{at}", group_spec(count=count, cpu=900 - at, gang=ring), priority=80 - at)
    assert len(names(stage)) == helped


def test_where_preemption_is_off_only_what_stops_makes_room() -> None:
    stage = stage_of("n")
    stage.settings = Settings(preemption=False)
    stage.running("low", "n", priority=20, cpu=400)
    stage.running("ends", "n", priority=20, cpu=600)
    leaves(stage, "ends")
    stage.wanted("web", priority=80, cpu=600)
    stage.wanted("more", priority=80, cpu=300)
    assert names(stage) == [] and stage.placed() == []


# ---------------------------------------------------------------------------- what was tried in vain


@pytest.mark.parametrize("what", ["cpu", "custom", "ports", "any port", "gpu"])
def test_what_a_gang_tried_in_vain_leaves_nothing_behind(what: str) -> None:
    """On node a it would have room with a victim gone, on b a budget forbids it; the next one finds all as it was."""
    mine: Any = {
        "cpu": {}, "custom": {"custom": {"licence": 1}}, "ports": {"ports": (8080,)}, "any port": {"ports": (0, 8080)},
        "gpu": {"gpu": DeviceRequest(count=1)},
    }[what]  # fmt: skip
    has: Any = {"custom": {"custom": {"licence": 1}}, "gpu": {"devices": gpus(1)}}.get(what, {})
    holds = {"device_mask": 1, "gpu_millis": 1000} if what == "gpu" else {}
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=1000, **has)
        budget = Disruption(max_unavailable=int(name == "a"))
        stage.running(name, name, priority=20, cpu=1000, disruption=budget, **mine, **holds)
    stage.cluster.job("ring", group_spec(count=2, cpu=1000, gang=GangSpec(), **mine), priority=80)
    stage.wanted("web", priority=70, cpu=1000, **mine)
    assert names(stage) == ["a/0"]
    (plan,) = decide(stage.view(), 0).plans
    assert "web/main/0" in plan.reasons[0]


def test_a_member_that_has_room_waits_for_nothing_on_its_node() -> None:
    stage = stage_of("a", "b")
    stage.running("low", "b", priority=20, cpu=1000)
    waiting = stage.cluster.job("ring", group_spec(count=2, cpu=1000, gang=GangSpec()), priority=80)
    assert names(stage) == ["low/0"]
    (said,) = explain(stage.view(), waiting.uid, 0)
    assert "to stop on b" in said.summary and "to stop on a" not in said.summary


def test_where_all_is_being_freed_nobody_is_evicted_in_another_domain_however_low() -> None:
    stage = Stage()
    for rack, name in (("r1", "a"), ("r2", "b")):
        stage.cluster.node(name, cpu=1000, labels={"rack": rack})
    stage.running("least", "a", priority=0, cpu=1000)
    stage.running("ends", "b", priority=90, cpu=1000)
    leaves(stage, "ends")
    spec = group_spec(count=2, cpu=500, gang=GangSpec(domain=GangDomain.RACK))
    stage.cluster.job("ring", spec, priority=80)
    assert names(stage) == []
