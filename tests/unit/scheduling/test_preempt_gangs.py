"""In which domain room is made for a gang: where all of it fits, with the least harm; and what it leaves as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.contract.model import Affinity, DeviceRequest, Disruption, GangDomain, GangFailure, GangSpec, JobType
from tests.unit.scheduling.cluster import gpus, group_spec
from tests.unit.scheduling.test_preempt import Stage
from tests.unit.scheduling.test_preempt_rules import gang, names, stage_of

RACK = GangSpec(domain=GangDomain.RACK)
ISLAND = GangSpec(domain=GangDomain.ISLAND)


def racks(**nodes: str) -> Stage:
    """Nodes of 1000 millicores, by name the rack of each."""
    stage = Stage()
    for name, rack in nodes.items():
        stage.cluster.node(name, cpu=1000, labels={"rack": rack})
    return stage


def ring(stage: Stage, count: int = 2, *, cpu: int = 1000, domain: GangSpec = RACK, **more: Any) -> None:
    """A gang of priority 80 waits for room."""
    stage.cluster.job("ring", group_spec(count=count, cpu=cpu, gang=domain, **more), priority=80)


@pytest.mark.parametrize(("first", "second", "evicted"), [(30, 10, "b/0"), (10, 30, "a/0"), (10, 10, "a/0")])
def test_room_is_made_where_the_least_is_lost_and_of_equal_domains_in_the_first(
    first: int, second: int, evicted: str
) -> None:
    stage = racks(a="r1", x="r1", b="r2", y="r2")
    stage.running("a", "a", priority=first, cpu=1000)
    stage.running("b", "b", priority=second, cpu=1000)
    ring(stage)
    assert names(stage) == [evicted]


@pytest.mark.parametrize("many", ["a", "b"])
def test_of_equal_priorities_the_fewest_are_evicted(many: str) -> None:
    stage = racks(a="r1", x="r1", b="r2", y="r2")
    for name in ("a", "b"):
        two = name == many
        stage.running(name, name, priority=20, cpu=500 if two else 1000, count=2 if two else 1)
    ring(stage)
    assert names(stage) == ["b/0" if many == "a" else "a/0"]


def test_what_is_free_in_two_domains_is_no_room_for_one_gang() -> None:
    stage = racks(a="r1", x="r1", b="r2", y="r2")
    for name in ("x", "y"):
        stage.running(name, name, priority=20, cpu=1000)
    ring(stage)
    assert names(stage) == ["x/0"]


def test_of_many_domains_those_with_the_most_room_are_tried() -> None:
    """The last of them would lose least: because one of its nodes is free, or because it has more of them."""
    for more in ("free", "larger"):
        stage = Stage()
        for number in range(1, 7):
            last = number == 6
            for part in "ab" if more == "free" or not last else "abc":
                name = f"{part}{number}"
                stage.cluster.node(name, cpu=1000, labels={"rack": f"r{number}"})
                if not (last and more == "free" and part == "a"):
                    stage.running(name, name, priority=10 if last else 30, cpu=1000)
        ring(stage)
        assert [name[1] for name in names(stage)] == (["6"] if more == "free" else ["6", "6"])


@pytest.mark.parametrize("home", ["r1", "r2"])
def test_room_for_a_missing_member_is_made_in_the_rack_of_the_others_whatever_that_costs(home: str) -> None:
    stage = racks(a="r1", x="r1", b="r2", y="r2")
    own, other = ("a", "b") if home == "r1" else ("b", "a")
    stage.running("dear", own, priority=60, cpu=1000)
    stage.running("cheap", other, priority=10, cpu=1000)
    spec = group_spec(count=2, cpu=1000, gang=replace(RACK, on_failure=GangFailure.REPLACE))
    job = stage.cluster.job("ring", spec, priority=80)
    where = next(node for node in stage.cluster.nodes if node.spec.name == ("x" if home == "r1" else "y"))
    stage.cluster.alloc(job, where, 0, create_index=50)
    assert names(stage) == ["dear/0"]


def test_members_that_must_be_apart_have_room_made_on_a_node_each() -> None:
    apart = (Affinity(weight=-100, required=True),)
    stage = Stage()
    for name in ("a", "b"):
        stage.cluster.node(name, cpu=2000)
        stage.running(name, name, priority=20 if name == "a" else 30, cpu=2000)
    ring(stage, domain=GangSpec(), affinity=apart)
    assert sorted(names(stage)) == ["a/0", "b/0"]


def test_members_that_must_be_together_have_room_made_in_one_place() -> None:
    together = (Affinity(weight=100, required=True, topology="rack"),)
    stage = racks(a="r1", x="r1", b="r2", y="r2", c="r3")
    for name, priority in (("a", 10), ("x", 60), ("b", 30), ("y", 30), ("c", 5)):
        stage.running(name, name, priority=priority, cpu=1000)
    ring(stage, domain=GangSpec(), affinity=together)
    assert sorted(names(stage)) == ["b/0", "y/0"]


# ---------------------------------------------------------------------------- islands


def islands(*priorities: int) -> Stage:
    """Node ``a`` with two devices on each island, held by jobs of these priorities: ``i0/0`` and so on."""
    stage = Stage()
    numbers = [at // 2 for at in range(2 * len(priorities))]
    stage.cluster.node("a", cpu=100_000, memory=100_000, devices=gpus(len(numbers), islands=numbers))
    for island, priority in enumerate(priorities):
        for part in range(2):
            stage.running(
                f"i{island}{part}", "a", priority=priority, cpu=100, gpu=DeviceRequest(count=1),
                device_mask=1 << (2 * island + part), gpu_millis=1000,
            )  # fmt: skip
    return stage


@pytest.mark.parametrize(("priorities", "evicted"), [((20, 10), "i1"), ((10, 20), "i0"), ((30, 20, 10), "i2")])
def test_room_is_made_in_the_island_where_least_is_lost(priorities: tuple[int, ...], evicted: str) -> None:
    stage = islands(*priorities)
    ring(stage, cpu=100, gpu=DeviceRequest(count=1), domain=ISLAND)
    assert sorted(names(stage)) == [f"{evicted}0/0", f"{evicted}1/0"]


def test_the_other_islands_are_as_before_for_the_next() -> None:
    stage = islands(20, 10)
    ring(stage, cpu=100, gpu=DeviceRequest(count=1), domain=ISLAND)
    stage.wanted("next", priority=70, cpu=100, gpu=DeviceRequest(count=1))
    assert [name[:2] for name in names(stage)] == ["i1", "i1", "i0"]


def test_an_island_in_vain_closes_nothing() -> None:
    """A budget holds one of each island, so a gang of two finds room in neither, and a single one finds it."""
    stage = Stage()
    stage.cluster.node("a", cpu=100_000, memory=100_000, devices=gpus(4, islands=(0, 0, 1, 1)))
    for at in range(4):
        stage.running(
            f"i{at}", "a", priority=20, cpu=100, gpu=DeviceRequest(count=1), device_mask=1 << at, gpu_millis=1000,
            disruption=Disruption(max_unavailable=at % 2),
        )  # fmt: skip
    ring(stage, cpu=100, gpu=DeviceRequest(count=1), domain=ISLAND)
    stage.wanted("next", priority=70, cpu=100, gpu=DeviceRequest(count=2))
    assert sorted(names(stage)) == ["i1/0", "i3/0"]


# ---------------------------------------------------------------------------- in vain


@pytest.mark.parametrize("low", [10, 90])
def test_nodes_are_kept_for_a_gang_until_room_is_made_for_it(low: int) -> None:
    """Batch work that it may not evict ends some day: until then nobody lower takes the free node."""
    stage = stage_of("a", "b")
    stage.running("batch", "a", priority=low, cpu=1000, type=JobType.BATCH)
    ring(stage, domain=GangSpec())
    stage.wanted("next", priority=70, cpu=1000)
    assert (names(stage), stage.placed()) == ((["batch/0"], []) if low == 10 else ([], []))


def test_one_in_vain_for_equal_gangs_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is not tried, nor counted among the asks of the round."""
    from orchestrator.scheduling import serve

    monkeypatch.setattr(serve, "ASKS_MAX", 2)
    stage = stage_of("a", "b")
    stage.running("high", "a", priority=90, cpu=1000)
    stage.running("low", "b", priority=10, cpu=500)
    for name in ("one", "two", "three"):
        stage.cluster.job(name, group_spec(count=2, cpu=1000, gang=GangSpec()), priority=80)
    stage.wanted("next", priority=70, cpu=1000)
    assert names(stage) == ["low/0"]


def test_gang_of_the_rules_is_a_gang() -> None:
    stage = racks(a="r1", b="r1")
    gang(stage, "lower", "a", "b", priority=20, cpu=1000)
    ring(stage)
    assert sorted(names(stage)) == ["lower/0", "lower/1"]
