"""What keeps a node from ever taking an instance; that it is what the scheduler finds is a property."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.model import (
    Constraint,
    ConstraintOperator,
    DeviceRequest,
    Link,
    NodeTaint,
    Taint,
    TaintEffect,
)
from orchestrator.state.matching import lacks
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec

SICK = ((gpus(4)[2].id, "XID 79"),)
FEW, CLOSED, LINKED = (
    "too few GPUs that match",
    "too few GPUs that are neither cordoned nor sick",
    "too few linked GPUs that are neither cordoned nor sick",
)


def said(asked: dict[str, Any], **node: Any) -> str:
    """Of a node with 4 cores, 8 GiB and four GPUs in two islands."""
    cluster = Cluster()
    record = cluster.node("a", **({"devices": gpus(4, islands=(0, 0, 1, 1))} | node))
    return lacks(record, cluster.job("web", group_spec(**asked)).spec, cluster.jobs[0].spec.groups[0])


def ids(*numbers: int) -> tuple[str, ...]:
    return tuple(gpus(4)[number].id for number in numbers)


ZONE = Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=("eu",))
TAINT = NodeTaint(taint=Taint(key="old", effect=TaintEffect.NO_SCHEDULE))


@pytest.mark.parametrize(
    ("asked", "node", "expected"),
    [
        ({}, {}, ""),
        ({}, {"cordoned": True}, "not open for work"),
        ({"constraints": (ZONE,)}, {}, "other drivers or labels"),
        ({}, {"taints": (TAINT,)}, "taints"),
        ({"cpu": 4000, "memory": 8192}, {}, ""),
        ({"cpu": 4001}, {}, "too little cpu"),
        ({"memory": 8193}, {}, "too little memory"),
        ({"disk": 1 << 40}, {}, "too little disk"),
        ({"custom": {"licenses": 2}}, {"custom": {"licenses": 2}}, ""),
        ({"custom": {"licenses": 2}}, {"custom": {"licenses": 1}}, "too little licenses"),
        ({"custom": {"licenses": 2}}, {}, "too little licenses"),
        ({"gpu": DeviceRequest(count=4)}, {}, ""),
        ({"gpu": DeviceRequest(count=5)}, {}, FEW),
        ({"gpu": DeviceRequest(count=1)}, {"devices": ()}, FEW),
        ({"gpu": DeviceRequest(count=2)}, {"cordoned_devices": ids(0, 1)}, ""),
        ({"gpu": DeviceRequest(count=2)}, {"cordoned_devices": ids(0, 1), "sick_devices": SICK}, CLOSED),
        ({"gpu": DeviceRequest(count=2, link=Link.ISLAND)}, {"cordoned_devices": ids(0)}, ""),
        ({"gpu": DeviceRequest(count=2, link=Link.ISLAND)}, {"cordoned_devices": ids(0, 2)}, LINKED),
        ({"gpu": DeviceRequest(count=2)}, {"cordoned_devices": ids(0, 2)}, ""),
        ({"gpu": DeviceRequest(count=1, link=Link.ISLAND)}, {"cordoned_devices": ids(0, 1, 2)}, ""),
    ],
)  # fmt: skip
def test_the_first_thing_that_it_lacks_is_said(asked: dict[str, Any], node: dict[str, Any], expected: str) -> None:
    assert said(dict(asked), **node) == expected
