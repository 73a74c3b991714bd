from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.api import agents, attendance
from orchestrator.contract import codec
from orchestrator.contract.errors import InvalidError, NoLeaderError, NotFoundError, NotLeaderError, PermissionError_
from orchestrator.contract.model import Assignment
from orchestrator.contract.v1 import agent_pb2 as pb
from orchestrator.contract.v1 import control_pb2, types_pb2
from orchestrator.state import views
from orchestrator.state.commands import MarkNodes, NodeMark
from tests.unit.api.harness import Api, call

RUNNING, COMPLETE = 30, 60


@pytest.fixture
def api() -> Api:
    return Api()


class Stream:
    """An open assignments stream."""

    def __init__(self, api: Api, node_id: str, identity: str = "agent:n1") -> None:
        self._messages: AsyncIterator[Any] = api.agents.assignments(
            pb.AssignmentsRequest(node_id=node_id), call(identity)
        )

    async def next(self) -> pb.AssignmentsUpdate:
        async with asyncio.timeout(5):
            update: pb.AssignmentsUpdate = await anext(self._messages)
        return update

    async def quiet(self) -> bool:
        """Whether nothing comes although everything that could come was computed; ends the stream."""
        waiting = asyncio.ensure_future(anext(self._messages))
        for _ in range(20):
            await asyncio.sleep(0)
        silent = not waiting.done()
        waiting.cancel()
        return silent


async def test_registering_tells_the_leader_and_the_bounds(api: Api) -> None:
    answer = await api.agents.register(
        pb.RegisterRequest(node={"id": "a", "name": "a", "port_min": 1, "port_max": 2}), call("agent:n1")
    )
    assert (answer.leader.peer_id, answer.leader.address) == ("p1", "host:7400")
    assert (answer.heartbeat_ms, answer.lost_after_ms) == (3_000, 15_000)
    assert answer.cluster_id
    assert api.state.nodes["a"].identity == "agent:n1"
    assert api.liveness.age_ms("a") >= 0


async def test_a_node_belongs_to_whoever_registered_it_first(api: Api) -> None:
    await api.register("a", identity="agent:n1")
    with pytest.raises(PermissionError_, match="agent:n1"):
        await api.register("a", identity="agent:n2")
    other = call("agent:n2")
    with pytest.raises(PermissionError_):
        await api.agents.heartbeat(pb.HeartbeatRequest(node_id="a"), other)
    with pytest.raises(PermissionError_):
        await api.agents.report_statuses(pb.ReportStatusesRequest(node_id="a"), other)
    with pytest.raises(PermissionError_):
        await Stream(api, "a", "agent:n2").next()
    with pytest.raises(PermissionError_):
        await api.agents.check_speaker(other, "a")


async def test_a_heartbeat_of_an_unknown_node_asks_it_to_register(api: Api) -> None:
    answer = await api.agents.heartbeat(pb.HeartbeatRequest(node_id="a", sequence=4), call("agent:n1"))
    assert (answer.register_again, answer.sequence) == (True, 4)
    assert "a" not in api.liveness._heard
    await api.register("a")
    answer = await api.agents.heartbeat(pb.HeartbeatRequest(node_id="a"), call("agent:n1"))
    assert not answer.register_again


async def sent(*requests: pb.HeartbeatRequest) -> AsyncIterator[pb.HeartbeatRequest]:
    for request in requests:
        yield request


async def test_heartbeats_on_a_stream_are_answered_one_by_one_as_single_ones_are(api: Api) -> None:
    await api.register("a")
    requests = sent(pb.HeartbeatRequest(node_id="a", sequence=1), pb.HeartbeatRequest(node_id="gone", sequence=2))
    answers: list[Any] = [answer async for answer in api.agents.heartbeats(requests, call("agent:n1"))]
    assert answers == [
        await api.agents.heartbeat(pb.HeartbeatRequest(node_id="a", sequence=1), call("agent:n1")),
        pb.HeartbeatResponse(sequence=2, leader=answers[0].leader, register_again=True),
    ]


async def test_a_stream_of_heartbeats_speaks_for_its_own_node_and_to_the_leader_alone(api: Api) -> None:
    await api.register("a")
    with pytest.raises(PermissionError_):
        await anext(aiter(api.agents.heartbeats(sent(pb.HeartbeatRequest(node_id="a")), call("agent:n2"))))
    api.log.lead(False)
    with pytest.raises((NotLeaderError, NoLeaderError)):
        await anext(aiter(api.agents.heartbeats(sent(pb.HeartbeatRequest(node_id="a")), call("agent:n1"))))


async def test_a_heartbeat_on_a_stream_is_not_answered_without_a_majority(api: Api) -> None:
    await api.register("a")

    async def deposed() -> AsyncIterator[pb.HeartbeatRequest]:
        yield pb.HeartbeatRequest(node_id="a", sequence=1)
        api.log.lead(False)
        yield pb.HeartbeatRequest(node_id="a", sequence=2)

    answers = aiter(api.agents.heartbeats(deposed(), call("agent:n1")))
    assert (await anext(answers)).sequence == 1  # type: ignore[attr-defined]
    with pytest.raises((NotLeaderError, NoLeaderError)):
        await anext(answers)


async def test_a_heartbeat_is_not_answered_without_a_majority(api: Api) -> None:
    await api.register("a")
    api.log.lead(False)
    with pytest.raises(NoLeaderError):
        await api.agents.heartbeat(pb.HeartbeatRequest(node_id="a"), call("agent:n1"))


async def test_assignments_begin_with_a_full_set_and_go_on_with_what_changed(api: Api) -> None:
    await api.register("a")
    await api.submit("web")
    await api.place()
    stream = Stream(api, "a")
    full = await stream.next()
    assert full.full
    (first,) = full.assignments
    assert (first.key.id.job, first.desired, first.group.tasks[0].name) == ("web", 1, "main")
    await api.submit("db")
    await api.place()
    delta = await stream.next()
    assert not delta.full
    assert [one.key.id.job for one in delta.assignments] == ["db"]
    await api.writes.stop_job(control_pb2.StopJobRequest(job={"name": "web"}), call())
    stopped = await stream.next()
    assert [(one.key.id.job, one.desired) for one in stopped.assignments] == [("web", 2)]


async def test_what_an_agent_reports_is_not_sent_back_to_it(api: Api) -> None:
    await api.register("a")
    await api.submit("web")
    await api.place()
    stream = Stream(api, "a")
    (assigned,) = (await stream.next()).assignments
    await api.report("a", assigned.key, RUNNING)
    await api.report("a", assigned.key, COMPLETE)
    assert await stream.quiet()


async def test_a_stream_hears_nothing_of_other_nodes(api: Api) -> None:
    await api.register("a")
    await api.register("b", identity="agent:n2")
    stream = Stream(api, "b", "agent:n2")
    assert not (await stream.next()).assignments
    constraint = {"attribute": "node.id", "operator": 1, "values": ["a"]}
    await api.submit("web", constraints=[constraint])
    assert await api.place() == 1
    assert await stream.quiet()


async def test_an_agent_on_the_same_engine_is_told_what_a_lost_node_must_not_run(api: Api) -> None:
    await api.register("a", engine_id="e")
    await api.submit("web")
    assert await api.place() == 1
    await api.register("b", identity="agent:n2", engine_id="e")
    stream = Stream(api, "b", "agent:n2")
    assert not (await stream.next()).assignments
    index = api.state.nodes["a"].register_index
    await api.proposer.propose(MarkNodes(lost=(NodeMark(node_id="a", register_index=index, reason="silent"),)))
    await api.place()
    told: list[Any] = []
    assigned: list[Any] = []
    while not assigned:
        update = await stream.next()
        told += update.superseded
        assigned += update.assignments
    assert [(key.id.job, key.attempt) for key in told] == [("web", 1)]
    assert [(one.key.id.job, one.key.attempt) for one in assigned] == [("web", 2)]


async def test_an_agent_that_was_given_up_by_mistake_is_told_to_stop(api: Api) -> None:
    await api.register("a")
    await api.submit("web")
    await api.place()
    stream = Stream(api, "a")
    await stream.next()
    index = api.state.nodes["a"].register_index
    await api.proposer.propose(MarkNodes(lost=(NodeMark(node_id="a", register_index=index, reason="silent"),)))
    await api.place()
    update = await stream.next()
    assert [key.id.job for key in update.removed] == ["web"]


async def test_a_stream_ends_when_leadership_is_lost(api: Api) -> None:
    await api.register("a")
    stream = Stream(api, "a")
    await stream.next()
    waiting = asyncio.ensure_future(stream.next())
    await asyncio.sleep(0)
    api.log.lead(False)
    with pytest.raises(NotLeaderError):
        await waiting


async def test_thousands_of_streams_are_not_woken_in_one_turn(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "AT_ONCE", 2)
    streams = api.agents._streams
    slots = range(5)
    events = [attendance.Woken() for _ in slots]
    opened = [streams.open(slot, event) for slot, event in zip(slots, events, strict=True)]
    for subscription in opened:
        subscription.__enter__()
    streams._look()  # the first look finds a state that it has not seen
    woken = [sum(event.is_set() for event in events)]
    for _ in range(3):
        await asyncio.sleep(0)
        woken.append(sum(event.is_set() for event in events))
    assert woken == [2, 4, 5, 5]
    for event in events:
        event.clear()
    api.log.lead(False)
    for _ in slots:
        await asyncio.sleep(0)
    assert all(event.is_set() for event in events)
    for subscription in opened:
        subscription.__exit__()


async def test_a_stream_of_a_forgotten_node_ends(api: Api) -> None:
    await api.register("a")
    stream = Stream(api, "a")
    await stream.next()
    waiting = asyncio.ensure_future(stream.next())
    await asyncio.sleep(0)
    await api.writes.forget_node(control_pb2.NodeRequest(node="a"), call())
    with pytest.raises(NotFoundError, match="register first"):
        await waiting


async def test_statuses_that_make_no_sense_are_refused_with_the_place(api: Api) -> None:
    await api.register("a")
    with pytest.raises(InvalidError, match="state"):
        await api.report("a", {"id": {"job": "x", "group": "y"}, "attempt": 1}, 31)
    with pytest.raises(NotFoundError):
        await api.agents.report_statuses(pb.ReportStatusesRequest(node_id="nope"), call("agent:n1"))


async def test_a_speaker_is_awaited_until_its_registration_arrives(api: Api) -> None:
    checking = asyncio.ensure_future(api.agents.check_speaker(call("agent:n1"), "a"))
    await asyncio.sleep(0)
    assert not checking.done()
    await api.register("a")
    await checking


async def test_an_assignment_is_written_whole(api: Api) -> None:
    device = {"id": "g0", "model": "A100", "memory_mib": 1000}
    await api.register("a", devices=[device])
    await api.writes.put_variable(control_pb2.PutVariableRequest(name="db-url", value="there"), call())
    await api.submit(
        "web",
        on_disconnect=2,
        task={"variables": {"DB_URL": "db-url"}, "resources": {"cpu_millis": 1, "gpus": {"count": 1}}},
        group={"ports": [{"label": "http", "to": 80}]},
    )
    assert await api.place() == 1
    (written,) = (await Stream(api, "a").next()).assignments
    known = views.assignments_for(api.state, "a").assignments
    assert (codec.decode(Assignment, written),) == known
    assert written.device_ids == ["g0"]
    assert written.ports[0].to == 80
    assert dict(written.variables) == {"db-url": "there"}


async def test_a_full_set_longer_than_a_slice_is_whole_though_the_state_moves_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "PART", 3)
    await api.register("a")
    await api.submit("web", count=20)
    assert await api.place() == 20
    stream = Stream(api, "a")
    reading = asyncio.ensure_future(stream.next())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not reading.done()
    await api.writes.stop_job(control_pb2.StopJobRequest(job={"name": "web"}), call())
    full = await reading
    assert [one.key.id.ordinal for one in full.assignments] == list(range(20))
    delta = await stream.next()
    assert delta.index > full.index
    assert [one.desired for one in delta.assignments] == [2] * 20


async def test_a_large_batch_of_statuses_is_several_commands(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "CHUNK", 4)
    await api.register("a")
    await api.submit("web", count=10)
    await api.place()
    full = await Stream(api, "a").next()
    request = pb.ReportStatusesRequest(
        request_id="r1",
        node_id="a",
        observations=[pb.Observation(key=one.key, state=types_pb2.ALLOC_STATE_RUNNING) for one in full.assignments],
    )
    before = api.state.index
    first = await api.agents.report_statuses(request, call("agent:n1"))
    assert api.state.index == before + 3 == first.index
    assert [int(state) for state in api.state.table.state[:10]] == [RUNNING] * 10
    assert (await api.agents.report_statuses(request, call("agent:n1"))).index == first.index
