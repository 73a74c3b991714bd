"""What would happen, asked of one peer: checked like the real thing, bounded, and nothing is written."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.api import foresight
from orchestrator.api.control import Policy
from orchestrator.contract.errors import (
    ConflictError,
    ExistsError,
    InvalidError,
    NotFoundError,
    OverloadedError,
    PreconditionError,
)
from orchestrator.contract.foresight import WhatIf
from orchestrator.contract.model import AllocState, Device
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.foresight.settle import settle
from orchestrator.state import views
from orchestrator.state.commands import DrainNode, RegisterNode, SetFeatureLevel
from orchestrator.state.features import HIGHEST
from orchestrator.state.packed import Room
from orchestrator.state.state import State
from tests import listed
from tests.unit.api.harness import Api, call, job, node


@pytest.fixture
def api() -> Api:
    return Api()


async def two_nodes(api: Api, count: int = 2) -> None:
    """Two nodes, and a service that runs on them."""
    for name in ("n1", "n2"):
        await api.register(name, identity=f"agent:{name}")
    await api.submit("web", count=count)
    await run(api)


async def run(api: Api) -> None:
    """The leader and the agents, until nothing is left to do."""
    while True:
        placed = await api.place()
        moved = False
        for one in listed.allocations(api.state, live_only=True):
            stops = one.desired.name == "STOP"
            if not stops and one.state is AllocState.RUNNING:
                continue
            key = {"id": {"namespace": one.id.namespace, "job": one.id.job, "group": one.id.group,
                          "ordinal": one.id.ordinal}, "job_uid": one.job_uid, "attempt": one.attempt}  # fmt: skip
            state = AllocState.STOPPED if stops else AllocState.RUNNING
            await api.report(one.node_id, key, int(state), identity=f"agent:{one.node_id}")
            moved = True
        if not placed and not moved:
            return


def where(api: Api) -> dict[str, str]:
    return {str(one.id): one.node_name for one in listed.allocations(api.state, live_only=True)}


async def test_a_drain_is_foretold_as_it_then_happens(api: Api) -> None:
    await two_nodes(api)
    index = api.state.index
    request = pb.WhatIfRequest(changes=[pb.Change(drain="name-n1")])
    answer = await api.foresight.what_if(request, call())
    assert api.state.index == index
    assert answer.read.index == index
    assert answer.settled
    assert {one.kind for one in answer.outcomes} == {"moved"}
    foretold = where(api) | {f"{one.id.job}/{one.id.group}/{one.id.ordinal}": one.to_node for one in answer.outcomes}
    await api.writes.drain_node(pb.DrainNodeRequest(node="n1"), call())
    await run(api)
    assert where(api) == foretold


async def test_a_submit_is_checked_as_the_real_one_is(api: Api) -> None:
    await two_nodes(api)
    with pytest.raises(InvalidError, match="placement"):
        bad = pb.Change(submit=job("x", placement="bogus"))
        await api.foresight.what_if(pb.WhatIfRequest(changes=[bad]), call())
    with pytest.raises(PreconditionError, match="--allow-privileged"):
        await api.foresight.plan_job(pb.PlanJobRequest(job=job("x", task={"privileged": True, "image": "i"})), call())
    removing = await api.writes.remove_job(pb.RemoveJobRequest(job={"name": "web"}), call())
    assert removing.changed
    with pytest.raises(PreconditionError, match="is being removed"):
        await api.foresight.plan_job(pb.PlanJobRequest(job=job("web", priority=9)), call())


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ([], InvalidError, "expected 1 to"),
        ([pb.Change()], InvalidError, "says nothing"),
        ([pb.Change(drain="n1", lose="n2")], InvalidError, "drain, lose"),
        ([pb.Change(drain="nowhere")], NotFoundError, "no node 'nowhere'"),
        ([pb.Change(like="n1", count=-1)], InvalidError, "count: -1"),
        ([pb.Change(add_node=node("n9", name="name-n1"))], ExistsError, "is called"),
        (
            [pb.Change(drain="n1"), pb.Change(add_node=node("n9", taints=[{"key": "k", "effect": 77}]))],
            InvalidError,
            r"^changes\[1\]\.add_node\.taints\[0\]\.effect: expected NO_SCHEDULE \(1\)",
        ),
        ([pb.Change(submit=job("x", type=77))], InvalidError, r"^changes\[0\]\.submit: type: expected SERVICE \(1\)"),
    ],
    ids=["none", "empty", "two", "unknown", "negative", "a name that is taken", "an effect of tomorrow", "a type"],
)
async def test_what_cannot_be_asked_is_refused_with_the_place(
    api: Api, changes: list[Any], error: type[Exception], words: str
) -> None:
    await two_nodes(api)
    request = pb.WhatIfRequest(changes=changes)
    with pytest.raises(error, match=words):
        await api.foresight.what_if(request, call())


async def test_several_changes_are_made_one_after_the_other(api: Api) -> None:
    await two_nodes(api)
    changes = [pb.Change(like="n1"), pb.Change(drain="n1"), pb.Change(drain="n2")]
    answer = await api.foresight.what_if(pb.WhatIfRequest(changes=changes), call())
    assert {one.to_node for one in answer.outcomes} == {"new-1"}
    assert (answer.pending_before, answer.pending_after) == (0, 0)


async def test_a_node_like_one_with_real_gpus_has_others(api: Api) -> None:
    """A GPU is one node's only, and what makes one of them sick is not the other's trouble."""
    await two_nodes(api)
    spec = replace(
        next(one.spec for one in api.state.nodes.values()),
        id="n7",
        name="name-n7",
        devices=(Device(id="GPU-1", memory_mib=1),),
        sick_devices=(("GPU-1", "XID 79"),),
    )
    for command in (SetFeatureLevel(level=HIGHEST), RegisterNode(node=spec, identity="agent:n7")):
        await api.proposer.propose(command)
    wants = {"resources": {"cpu_millis": 1, "memory_mib": 1, "gpus": {"count": 1}}}
    changes = [pb.Change(submit=job("gpu", task=wants)), pb.Change(like="n7")]
    answer = await api.foresight.what_if(pb.WhatIfRequest(changes=changes), call())
    assert [one.to_node for one in answer.outcomes if one.id.job == "gpu"] == ["new-1"]


async def test_what_stays_without_a_node_is_told_with_its_reason(api: Api) -> None:
    await two_nodes(api)
    huge = pb.Change(submit=job("huge", task={"resources": {"cpu_millis": 99_000, "memory_mib": 1}}))
    answer = await api.foresight.what_if(pb.WhatIfRequest(changes=[huge]), call())
    (waiting,) = answer.pending
    assert (waiting.job, waiting.before, waiting.after) == ("huge", 0, 1)
    assert waiting.why.rejections[0].constraint == "cpu"
    assert waiting.why.remedy[0].kind == "request"


async def test_a_plan_says_what_differs_and_an_equal_job_changes_nothing(api: Api) -> None:
    await two_nodes(api)
    same = await api.foresight.plan_job(pb.PlanJobRequest(job=job("web", count=2)), call())
    assert (same.change, same.version, same.next_version, len(same.fields)) == ("none", 1, 1, 0)
    assert not same.what_if.outcomes
    request = pb.PlanJobRequest(job=job("web", count=3, task={"env": {"A": "1"}}))
    other = await api.foresight.plan_job(request, call())
    assert (other.change, other.version, other.next_version) == ("update", 1, 2)
    assert {one.path: (one.kind, one.before, one.after) for one in other.fields} == {
        "groups.main.count": ("changed", "2", "3"),
        "groups.main.tasks.main.env.A": ("added", "", "1"),
    }
    assert sorted(one.kind for one in other.what_if.outcomes) == ["placed", "replaced", "replaced"]
    assert {one.reason for one in other.what_if.outcomes} == {"", "replaced by a newer version of the job"}
    new = await api.foresight.plan_job(pb.PlanJobRequest(job=job("new")), call())
    assert (new.change, new.version, new.next_version) == ("create", 0, 1)
    assert "name" in {one.path for one in new.fields}
    await api.writes.stop_job(pb.StopJobRequest(job={"name": "web"}), call())
    again = await api.foresight.plan_job(pb.PlanJobRequest(job=job("web", count=2)), call())
    assert (again.change, again.next_version) == ("restart", 2)


async def test_one_at_a_time_and_one_that_was_given_up_makes_room(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await two_nodes(api)
    began, finish = threading.Event(), threading.Event()
    seen: list[bool] = []

    def slow(image: Any, changes: Any, now_ms: int, *, go_on: Any) -> Any:
        began.set()
        finish.wait(10)
        seen.append(go_on())
        return WhatIf()

    monkeypatch.setattr(foresight, "what_if", slow)
    request = pb.WhatIfRequest(changes=[pb.Change(drain="n1")])
    first = asyncio.create_task(api.foresight.what_if(request, call()))
    await asyncio.to_thread(began.wait, 10)
    with pytest.raises(OverloadedError):
        await api.foresight.what_if(request, call())
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    with pytest.raises(OverloadedError):  # its thread is still at work
        await api.foresight.what_if(request, call())
    finish.set()
    while not seen:
        await asyncio.sleep(0)
    assert seen == [False], "a caller that is gone must not be worked for"
    monkeypatch.undo()
    for _ in range(1000):
        try:
            assert (await api.foresight.what_if(request, call())).settled
            return
        except OverloadedError:
            await asyncio.sleep(0.001)
    raise AssertionError("it never became free")


async def test_time_bounds_an_answer_which_then_says_so(api: Api) -> None:
    await two_nodes(api, count=4)
    impatient = foresight.Foresight(
        api.log,
        api.state_now,
        Policy(allow_privileged=False, allow_host_paths=False, allow_host_network=False, placements=("binpack",)),
        clock_ms=lambda: api.now_ms,
        clock=iter(range(10**6)).__next__,  # every look at the clock takes a second
    )
    answer = await impatient.what_if(pb.WhatIfRequest(changes=[pb.Change(drain="n1")]), call(timeout_s=3))
    assert not answer.settled
    assert 0 <= answer.rounds <= 3


async def test_a_move_goes_through_the_log_and_is_done_once(api: Api) -> None:
    await two_nodes(api)
    before = where(api)
    target = {"job": "web", "group": "main", "ordinal": 0}
    request = pb.MoveAllocationRequest(request_id="r1", id=target, attempt=1)
    assert (await api.writes.move_allocation(request, call())).changed
    assert (await api.writes.move_allocation(request, call())).changed  # the first answer, again
    with pytest.raises(PreconditionError, match="one at a time"):
        other = pb.MoveAllocationRequest(id={**target, "ordinal": 1}, attempt=1)
        await api.writes.move_allocation(other, call())
    await run(api)
    after = where(api)
    assert after["web/main/0"] != before["web/main/0"]
    assert after["web/main/1"] == before["web/main/1"]
    with pytest.raises(ConflictError, match="attempt 2, not 1"):
        await api.writes.move_allocation(pb.MoveAllocationRequest(id=target, attempt=1), call())
    with pytest.raises(InvalidError):
        await api.writes.move_allocation(pb.MoveAllocationRequest(id=target), call())


async def test_rebalance_answers_with_moves_and_measures(api: Api) -> None:
    await two_nodes(api)
    request = pb.MoveAllocationRequest(id={"job": "web", "group": "main", "ordinal": 0}, attempt=1)
    await api.writes.move_allocation(request, call())
    await run(api)
    assert len(set(where(api).values())) == 2
    answer = await api.foresight.rebalance(pb.RebalanceRequest(), call())
    assert (answer.goal, len(answer.moves), answer.before.nodes_used, answer.after.nodes_used) == ("pack", 1, 2, 1)
    for bad in (pb.RebalanceRequest(goal="tidy"), pb.RebalanceRequest(moves_max=-1)):
        with pytest.raises(InvalidError):
            await api.foresight.rebalance(bad, call())


async def test_a_drain_is_played_job_by_job_and_not_with_everything_in_view(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_nodes(api, count=12)
    busy = listed.allocations(api.state, live_only=True)[0].node_id
    await api.proposer.propose(DrainNode(node_id=busy))
    looks: list[int] = []
    whole = views.cluster_view

    def counted(state: State, room: Room | None = None) -> views.ClusterView:
        looks.append(state.index)
        return whole(state, room)

    monkeypatch.setattr(views, "cluster_view", counted)
    ran = settle(api.state, api.now_ms)
    assert ran.settled
    assert ran.rounds >= 12
    assert len(looks) == 1
    assert busy not in {one.node_id for one in listed.allocations(api.state, live_only=True)}
