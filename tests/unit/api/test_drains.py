"""What is left on a node that is being drained, and why; the same story as what the leader then does."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.errors import InvalidError, NotFoundError
from orchestrator.contract.model import AllocState
from orchestrator.contract.v1 import control_pb2 as pb
from tests import listed
from tests.unit.api.harness import Api, call
from tests.unit.api.test_foresight import run, two_nodes, where


async def status(api: Api, node: str = "n1") -> list[tuple[str, str, str]]:
    answer = await api.drains.drain_status(pb.DrainStatusRequest(node=node), call())
    return [(f"{one.id.job}/{one.id.ordinal}", one.kind, one.why) for one in answer.left]


async def all_on_the_first(api: Api, count: int, **more: Any) -> None:
    await api.register("n1", identity="agent:n1")
    await api.submit("web", count=count, **more)
    await run(api)
    await api.register("n2", identity="agent:n2")


async def test_a_node_that_is_not_drained_keeps_what_it_has() -> None:
    api = Api()
    await all_on_the_first(api, 1)
    assert await status(api) == [("web/0", "stays", "")]
    assert await status(api, "n2") == []
    answer = await api.drains.drain_status(pb.DrainStatusRequest(node="n1"), call())
    assert (answer.node, answer.draining, answer.deadline_ms) == ("name-n1", False, 0)


async def test_each_step_of_a_drain_is_told_before_it_is_done() -> None:
    api = Api()
    await all_on_the_first(api, 2)
    await api.writes.drain_node(pb.DrainNodeRequest(node="n1", deadline_ms=60_000), call())
    answer = await api.drains.drain_status(pb.DrainStatusRequest(node="n1"), call())
    assert (answer.draining, answer.deadline_ms) == (True, api.state.time_ms + 60_000)
    told = await status(api)
    assert told[0] == ("web/0", "next", "it is told to stop now")
    assert told[1][:2] == ("web/1", "waits")
    await api.place()
    assert await status(api) == [
        ("web/0", "stopping", "its node is being drained"),
        ("web/1", "waits", "main/0 stops on name-n1"),
    ]
    await run(api)
    assert await status(api) == []
    assert set(where(api).values()) == {"name-n2"}


async def test_what_finds_no_room_elsewhere_is_what_holds_up_a_drain() -> None:
    api = Api()
    await all_on_the_first(api, 2)
    await api.writes.cordon_node(pb.NodeRequest(node="n2"), call())
    await api.writes.drain_node(pb.DrainNodeRequest(node="n1"), call())
    await run(api)
    ((who, kind, why),) = await status(api)
    assert (who, kind) == ("web/1", "waits")
    assert "1 of its group first: 1 without a node" in why
    assert "cordoned" in why


async def test_a_budget_that_holds_up_a_drain_is_named_until_the_deadline() -> None:
    api = Api()
    await all_on_the_first(api, 2, disruption={"max_unavailable": 0})
    await api.writes.drain_node(pb.DrainNodeRequest(node="n1", deadline_ms=5_000), call())
    await run(api)
    for who, kind, why in await status(api):
        assert kind == "budget", who
        assert "its disruption budget keeps 2 on draining nodes: 0 of 2 may be down" in why
    api.now_ms += 5_001
    assert [kind for _, kind, _ in await status(api)] == ["next", "next"]
    await run(api)
    assert await status(api) == []
    assert set(where(api).values()) == {"name-n2"}
    assert all(one.state is AllocState.RUNNING for one in listed.allocations(api.state, live_only=True))


async def test_a_cancelled_drain_leaves_what_is_there() -> None:
    api = Api()
    await two_nodes(api)
    await api.writes.drain_node(pb.DrainNodeRequest(node="n1"), call())
    assert (await api.writes.drain_node(pb.DrainNodeRequest(node="n1", cancel=True), call())).changed
    before = where(api)
    await run(api)
    assert where(api) == before
    assert not (await api.writes.drain_node(pb.DrainNodeRequest(node="n1", cancel=True), call())).changed


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (pb.DrainNodeRequest(node="n1", deadline_ms=-1), "expected a time from now"),
        (pb.DrainNodeRequest(node="n1", deadline_ms=1, cancel=True), "has no deadline"),
        (pb.DrainNodeRequest(node="n1", keep_cordoned=True), "say it with cancel"),
    ],
)
async def test_what_does_not_go_together_is_refused(request_: pb.DrainNodeRequest, said: str) -> None:
    api = Api()
    await two_nodes(api)
    with pytest.raises(InvalidError, match=said):
        await api.writes.drain_node(request_, call())


async def test_an_unknown_node_has_no_status() -> None:
    api = Api()
    with pytest.raises(NotFoundError, match="no node 'n9'"):
        await status(api, "n9")
    with pytest.raises(InvalidError, match="node: is empty"):
        await status(api, "")
