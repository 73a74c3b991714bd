"""A placement of another package that does something wrong costs nobody a round: the default decides instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.contract.model import DeviceRequest
from orchestrator.plan import decide, explain
from orchestrator.scheduling import registry
from orchestrator.scheduling.policies.binpack import BinPack
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec


class Last(BinPack):
    """To the last node that fits; nothing is wrong with it."""

    name = "last"
    fullest_first = False

    def scores(self, problem: Any, wish: Any, nodes: Any) -> Any:
        return nodes

    def devices(self, problem: Any, wish: Any, node: int) -> tuple[int, ...]:
        return (1,)


class RaisingScores(Last):
    def scores(self, problem: Any, wish: Any, nodes: Any) -> Any:
        raise RuntimeError("boom")


class Fractions(Last):
    def scores(self, problem: Any, wish: Any, nodes: Any) -> Any:
        return nodes / 3


class TooFew(Last):
    def scores(self, problem: Any, wish: Any, nodes: Any) -> Any:
        return nodes[:-1]


class Beyond(Last):
    def choose(self, scores: Any, turn: Any) -> int:
        return len(scores)


class Unfitting(Last):
    def choose(self, scores: Any, turn: Any) -> int:
        return int(np.argmin(scores))

    knows_groups = True


class NoNumber(Last):
    def choose(self, scores: Any, turn: Any) -> Any:
        return None


class TooMany(Last):
    def place_many(self, problem: Any, wish: Any, scores: Any, times: Any, wanted: int, turn: Any) -> Any:
        return np.full(wanted + 1, int(np.argmax(scores)))


class Crowd(Last):
    def place_many(self, problem: Any, wish: Any, scores: Any, times: Any, wanted: int, turn: Any) -> Any:
        times += 1_000
        return np.full(wanted, int(np.argmax(scores)))


class Full(Last):
    def place_many(self, problem: Any, wish: Any, scores: Any, times: Any, wanted: int, turn: Any) -> Any:
        return np.zeros(1, dtype=np.int64)


class Nowhere(Last):
    def place_many(self, problem: Any, wish: Any, scores: Any, times: Any, wanted: int, turn: Any) -> Any:
        return np.full(wanted, -1)


class TwiceTheSame(Last):
    def devices(self, problem: Any, wish: Any, node: int) -> tuple[int, ...]:
        return (0, 0)


class NoSuchDevice(Last):
    def devices(self, problem: Any, wish: Any, node: int) -> tuple[int, ...]:
        return (99,)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_POLICIES", dict(registry._POLICIES))


def three_nodes() -> Cluster:
    """The first one is full; on each of the others four of five instances find room."""
    cluster = Cluster()
    cluster.alloc(cluster.job("full", group_spec(cpu=2000)), cluster.node("a", cpu=2000))
    cluster.node("b", cpu=2000, devices=gpus(2))
    cluster.node("c", cpu=2000, devices=gpus(2))
    return cluster


def nodes_of(cluster: Cluster) -> list[str]:
    """The names of the nodes of all that is placed now."""
    names = {node.spec.id: node.spec.name for node in cluster.nodes}
    plans = decide(cluster.view(), 0).plans
    return sorted(names[plan.nodes[place]] for plan in plans for place in plan.placements.node.tolist())


def test_one_that_does_well_is_asked_and_obeyed() -> None:
    registry.add_foreign([Last()])
    cluster = three_nodes()
    cluster.job("web", group_spec(cpu=500, count=5), placement="last")
    assert nodes_of(cluster) == ["b", "c", "c", "c", "c"]
    assert registry.failures() == ()
    assert registry.complaint("last") == ""


@pytest.mark.parametrize(
    ("kind", "count", "said"),
    [
        (RaisingScores, 1, "RuntimeError: boom"),
        (Fractions, 1, "scores: float64 of shape (2,); expected 2 whole numbers"),
        (TooFew, 1, "scores: int64 of shape (1,); expected 2 whole numbers"),
        (Beyond, 1, "choose: node 3, where the instance does not fit"),
        (Unfitting, 1, "choose: node 0, where the instance does not fit"),
        (NoNumber, 1, "TypeError: "),
        (TooMany, 100, "place_many: shape (101,); expected at most 100 nodes"),
        (Crowd, 100, "place_many: more instances on a node than fit there"),
        (Full, 100, "place_many: more instances on a node than fit there"),
        (Nowhere, 100, "place_many: nodes -1 to -1 of 3"),
    ],
)
def test_one_that_fails_is_replaced_and_named_and_everybody_is_placed(kind: type[Last], count: int, said: str) -> None:
    registry.add_foreign([kind()])
    cluster = three_nodes()
    cluster.job("other", group_spec(cpu=100), priority=90)
    cluster.job("web", group_spec(cpu=30, memory=1, count=count), placement="last")
    big = cluster.job("big", group_spec(cpu=9000), placement="last")
    assert len(nodes_of(cluster)) == 1 + count
    ((name, failure),) = registry.failures()
    assert name == "last"
    assert failure.startswith(said)
    (group,) = explain(cluster.view(), big.uid, 0)
    assert f"placement last failed ({failure}) and is not used until the peer starts again: placed by binpack" in (
        group.remarks
    )


@pytest.mark.parametrize(("kind", "device", "failures"), [(Last, 1, 0), (TwiceTheSame, 0, 1), (NoSuchDevice, 0, 1)])
def test_devices_that_cannot_be_are_chosen_anew(kind: type[Last], device: int, failures: int) -> None:
    registry.add_foreign([kind()])
    cluster = three_nodes()
    cluster.job("ml", group_spec(cpu=100, gpu=DeviceRequest(count=1)), placement="last")
    (plan,) = decide(cluster.view(), 0).plans
    assert plan.placements.device_mask.tolist() == [1 << device]
    assert len(registry.failures()) == failures
