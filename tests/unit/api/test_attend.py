"""``Agents.Attend``: heartbeats, their answers and assignments on one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.api import agents, attendance
from orchestrator.api.pieces import LEAST
from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    NotFoundError,
    NotLeaderError,
    OverloadedError,
    PermissionError_,
)
from orchestrator.contract.v1 import agent_pb2 as pb
from orchestrator.contract.v1 import control_pb2
from tests.unit.api.harness import Api, call

WIDE = {"env": {"LONG": "x" * 3000}}
"""Of a task: some of these are more than one window."""


@pytest.fixture
def api() -> Api:
    return Api()


class Agent:
    """Node ``a`` on its stream."""

    def __init__(self, api: Api, identity: str = "agent:n1", node_id: str = "a") -> None:
        self._ups: asyncio.Queue[pb.AttendUp | None] = asyncio.Queue()
        self._downs = api.agents.attend(self._said(), call(identity))
        self._node_id = node_id
        self._sequence = 0
        self.unread = b""
        self.marks: list[int] = []
        self.answers: list[pb.HeartbeatResponse] = []
        self.between = 0
        """Bytes of assignments since the last answer."""

    async def _said(self) -> AsyncIterator[pb.AttendUp]:
        while (up := await self._ups.get()) is not None:
            yield up

    def beat(self, node_id: str = "") -> None:
        self._sequence += 1
        beat = pb.HeartbeatRequest(node_id=node_id or self._node_id, sequence=self._sequence)
        self._ups.put_nowait(pb.AttendUp(heartbeat=beat))

    def arrived(self) -> None:
        self._ups.put_nowait(pb.AttendUp(arrived=self.marks.pop(0)))

    def end(self) -> None:
        self._ups.put_nowait(None)

    async def next(self) -> pb.AttendDown:
        async with asyncio.timeout(5):
            down = await anext(self._downs)
        assert isinstance(down, pb.AttendDown)
        if down.HasField("acknowledged"):
            self.answers.append(down.acknowledged)
            self.between = 0
        else:
            self.unread += down.piece.data
            self.between += len(down.piece.data)
            if down.piece.mark:
                self.marks.append(down.piece.mark)
        return down

    async def update(self) -> pb.AssignmentsUpdate:
        """The next one, or the rest of it; every mark is said back at once."""
        while True:
            while self.marks:
                self.arrived()
            down = await self.next()
            if down.piece.last:
                update, self.unread = pb.AssignmentsUpdate.FromString(self.unread), b""
                return update

    async def answer(self) -> pb.HeartbeatResponse:
        while not (await self.next()).HasField("acknowledged"):
            pass
        return self.answers[-1]

    async def quiet(self) -> bool:
        """Whether nothing comes although everything that could come was computed; ends the stream."""
        waiting = asyncio.ensure_future(self.next())
        for _ in range(50):
            await asyncio.sleep(0)
        silent = not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return silent


async def test_it_hears_a_full_set_and_its_answers_and_then_what_changes(api: Api) -> None:
    await api.register("a")
    await api.submit("web")
    await api.place()
    agent = Agent(api)
    agent.beat()
    full = await agent.update()
    assert full.full
    assert [one.key.id.job for one in full.assignments] == ["web"]
    assert await agent.answer() == await api.agents.heartbeat(
        pb.HeartbeatRequest(node_id="a", sequence=1), call("agent:n1")
    )
    await api.submit("db")
    await api.place()
    delta = await agent.update()
    assert not delta.full
    assert [one.key.id.job for one in delta.assignments] == ["db"]
    agent.beat()
    assert (await agent.answer()).sequence == 2
    assert await agent.quiet()


async def test_it_says_the_same_as_a_stream_of_assignments_alone(api: Api) -> None:
    await api.register("a")
    await api.submit("web", count=20, task=WIDE)
    assert await api.place() == 20
    alone = api.agents.assignments(pb.AssignmentsRequest(node_id="a"), call("agent:n1"))
    agent = Agent(api)
    agent.beat()
    assert await agent.update() == await anext(alone)
    await api.writes.stop_job(control_pb2.StopJobRequest(job={"name": "web"}), call())
    assert await agent.update() == await anext(alone)


async def test_an_answer_stands_behind_no_more_than_the_window_however_long_the_set_is(api: Api) -> None:
    await api.register("a")
    await api.submit("web", count=40, task=WIDE)
    assert await api.place() == 40
    agent = Agent(api)
    agent.beat()
    # None of the marks comes back: the line is slow.
    for number in range(1, 4):
        assert (await agent.answer()).sequence == number
        agent.beat()
    assert 0 < len(agent.unread) <= LEAST
    await agent.answer()
    assert len((await agent.update()).assignments) == 40


async def test_who_takes_nothing_is_cut_off_and_who_has_nothing_to_take_is_not(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "STALLED_S", 0.05)
    await api.register("a")
    agent = Agent(api)
    agent.beat()
    assert not (await agent.update()).assignments
    await agent.answer()
    waiting = asyncio.ensure_future(agent.next())
    await asyncio.wait([waiting], timeout=0.2)
    assert not waiting.done()
    await api.submit("web", count=40, task=WIDE)
    await api.place()
    await waiting
    with pytest.raises(OverloadedError):
        while True:
            await agent.next()


async def within_a_set(api: Api) -> Agent:
    """Of 20 wide assignments the agent has had the first part, and not the last."""
    await api.register("a")
    await api.submit("web", count=20, task=WIDE)
    assert await api.place() == 20
    agent = Agent(api)
    agent.beat()
    while len(agent.unread) < LEAST // 2:
        await agent.next()
    return agent


async def test_a_set_of_many_parts_is_whole_though_the_state_moves_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "PART", 3)
    agent = await within_a_set(api)
    await api.writes.stop_job(control_pb2.StopJobRequest(job={"name": "web"}), call())
    full = await agent.update()
    assert [one.key.id.ordinal for one in full.assignments] == list(range(20))
    delta = await agent.update()
    assert delta.index > full.index
    assert [one.desired for one in delta.assignments] == [2] * 20


async def test_an_update_ends_though_the_rows_of_its_last_part_are_gone(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "PART", 10)
    agent = await within_a_set(api)
    api.state.table.create_index[10:20] += 1_000_000  # rows that others have taken
    assert [one.key.id.ordinal for one in (await agent.update()).assignments] == list(range(10))


async def test_it_ends_with_the_leadership_also_within_a_set(api: Api) -> None:
    await api.register("a")
    await api.submit("web", count=40, task=WIDE)
    await api.place()
    for pieces in (0, 1):
        agent = Agent(api)
        agent.beat()
        for _ in range(pieces):
            await agent.next()
        api.log.lead(False)
        with pytest.raises((NotLeaderError, NoLeaderError)):
            while True:
                await agent.next()
        api.log.lead(True)


async def test_an_answer_without_a_majority_ends_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.register("a")
    agent = Agent(api)
    agent.beat()
    await agent.answer()

    async def deposed(**_: float) -> None:
        raise NotLeaderError("deposed")

    monkeypatch.setattr(api.log, "confirm_leadership", deposed)
    agent.beat()
    with pytest.raises(NotLeaderError, match="deposed"):
        while True:
            await agent.next()
    assert [one.sequence for one in agent.answers] == [1]


async def test_it_speaks_for_its_own_node_to_the_leader_alone(api: Api) -> None:
    await api.register("a")
    stranger = Agent(api, "agent:n2")
    stranger.beat()
    with pytest.raises(PermissionError_):
        await stranger.next()
    agent = Agent(api)
    agent.beat()
    await agent.answer()
    agent.beat("b")
    with pytest.raises(InvalidError, match="'b' on the stream of 'a'"):
        while True:
            await agent.next()
    nobody = Agent(api)
    nobody.beat("nowhere")
    with pytest.raises(NotFoundError, match="register first"):
        await nobody.next()
    api.log.lead(False)
    late = Agent(api)
    late.beat()
    with pytest.raises(NotLeaderError):
        await late.next()


async def test_a_heartbeat_counts_when_it_is_heard_and_two_at_a_time_are_refused(api: Api) -> None:
    await api.register("a")
    api.liveness.begin()
    assert "a" not in api.liveness._heard
    agent = Agent(api)
    agent.beat()
    agent.beat()
    with pytest.raises(InvalidError, match="heartbeat 2 before 1 was answered"):
        while True:
            await agent.next()
    assert "a" in api.liveness._heard
    assert [one.sequence for one in agent.answers] == [1]


async def test_it_ends_with_the_nodes_registration_and_with_the_agents_last_word(api: Api) -> None:
    await api.register("a")
    agent = Agent(api)
    agent.beat()
    await agent.answer()
    await api.writes.forget_node(control_pb2.NodeRequest(node="a"), call())
    with pytest.raises(NotFoundError, match="register first"):
        while True:
            await agent.next()
    await api.register("a")
    agent = Agent(api)
    agent.beat()
    agent.end()
    with pytest.raises(StopAsyncIteration):
        while True:
            await agent.next()
    assert [one.sequence for one in agent.answers] == [1]
    silent = Agent(api)
    silent.end()
    with pytest.raises(StopAsyncIteration):
        await silent.next()
    empty = Agent(api)
    empty._ups.put_nowait(pb.AttendUp(arrived=1))
    with pytest.raises(InvalidError, match="heartbeat"):
        await empty.next()
    assert not api.agents._streams._events, "no stream is kept"
