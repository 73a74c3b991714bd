from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.api import services
from orchestrator.contract.errors import InvalidError, OutOfRangeError, PermissionError_
from orchestrator.contract.model import AllocState
from orchestrator.contract.v1 import agent_pb2
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.state.services import REMEMBERED, ServiceIndex
from tests.unit.api.harness import Api, call

WEB = {"ports": [{"label": "http"}]}


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(services, "PAUSE_S", 0.0)
    made = Api()
    await made.register("n1", address="10.0.0.1")
    return made


async def run(api: Api, name: str, *, count: int = 1, **group: Any) -> None:
    """All of its instances are placed and run."""
    await api.submit(name, count=count, group={**WEB, **group})
    await api.place()
    for ordinal in range(count):
        await observe(api, name, ordinal, AllocState.RUNNING)


async def observe(api: Api, name: str, ordinal: int, state: AllocState, *, health: int = 0) -> None:
    uid = next(job.uid for job in api.state.jobs.values() if job.spec.name == name)
    which = {"namespace": "default", "job": name, "group": "main", "ordinal": ordinal}
    key = agent_pb2.AssignmentKey(id=which, job_uid=uid, attempt=1)
    seen = agent_pb2.Observation(key=key, state=int(state), health=health)  # type: ignore[arg-type]
    request = agent_pb2.ReportStatusesRequest(node_id="n1", observations=[seen])
    await api.agents.report_statuses(request, call("agent:n1"))


async def listed(api: Api, **fields: Any) -> dict[str, int]:
    response = await api.services.list_services(pb.ListServicesRequest(**fields), call())
    return {one.name: len(one.instances) for one in response.services}


class Watching:
    def __init__(self, api: Api, **fields: Any) -> None:
        self._stream = api.services.watch_services(pb.WatchServicesRequest(**fields), call())

    async def next(self) -> Any:
        async with asyncio.timeout(5):
            return await anext(self._stream)

    async def close(self) -> None:
        await self._stream.aclose()  # type: ignore[attr-defined]


async def test_a_group_with_ports_is_found_under_its_jobs_name_once_it_is_ready(api: Api) -> None:
    await api.submit("web", count=2, group=WEB)
    await api.submit("silent")  # has no ports
    await api.place()
    assert await listed(api) == {"web": 0}
    await observe(api, "web", 0, AllocState.RUNNING)
    assert await listed(api) == {"web": 1}
    response = await api.services.list_services(pb.ListServicesRequest(name="web"), call())
    (one,) = response.services[0].instances
    assert (one.address, one.label, one.node_name, one.allocation.ordinal) == ("10.0.0.1", "http", "name-n1", 0)
    assert 20_000 <= one.port <= 20_100


async def test_readiness_takes_an_instance_out_and_brings_it_back(api: Api) -> None:
    await run(api, "web", count=2)
    watching = Watching(api)
    assert [len(one.instances) for one in (await watching.next()).services] == [2]
    await observe(api, "web", 0, AllocState.RUNNING, health=2)
    assert [len(one.instances) for one in (await watching.next()).services] == [1]
    await observe(api, "web", 0, AllocState.RUNNING, health=5)
    assert [len(one.instances) for one in (await watching.next()).services] == [2]
    await watching.close()


async def test_a_declared_name_is_used_and_a_name_of_two_jobs_has_the_instances_of_both(api: Api) -> None:
    named: dict[str, Any] = {"services": [{"name": "shop", "port": "http"}]}
    await run(api, "blue", **named)
    await run(api, "green", **named)
    assert await listed(api) == {"shop": 2}


async def test_a_watch_goes_on_after_an_index_and_sends_everything_where_it_forgot(api: Api) -> None:
    await run(api, "a")
    watching = Watching(api)
    first = await watching.next()
    assert first.full and [one.name for one in first.services] == ["a"]
    await run(api, "b")
    second = await watching.next()
    assert not second.full and [one.name for one in second.services] == ["b"]
    await watching.close()
    again = Watching(api, after_index=first.index)
    resumed = await again.next()
    assert not resumed.full and [one.name for one in resumed.services] == ["b"]
    await again.close()
    api.services._index.since = api.state.index
    forgot = await Watching(api, after_index=first.index).next()
    assert forgot.full and [one.name for one in forgot.services] == ["a", "b"]


async def test_what_is_gone_is_told_empty_and_a_filter_holds(api: Api) -> None:
    await run(api, "a")
    await run(api, "b")
    watching = Watching(api, name="b")
    assert [one.name for one in (await watching.next()).services] == ["b"]
    for name in ("a", "b"):
        await api.writes.stop_job(pb.StopJobRequest(job={"name": name}), call())
        await api.place()
    told = await watching.next()
    while told.services[0].instances:
        told = await watching.next()
    assert [(one.name, one.declared, len(one.instances)) for one in told.services] == [("b", False, 0)]
    await watching.close()


async def test_an_index_of_another_life_is_refused(api: Api) -> None:
    with pytest.raises(OutOfRangeError, match="of another life"):
        await Watching(api, after_index=10_000).next()
    with pytest.raises(InvalidError, match="after_index"):
        await Watching(api, after_index=-1).next()


async def test_a_large_answer_comes_in_parts_of_which_only_the_last_can_be_resumed_after(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "INSTANCES_AT_ONCE", 2)
    for name in ("a", "b", "c"):
        await run(api, name)
    watching = Watching(api)
    parts = [await watching.next() for _ in range(3)]
    assert [(part.full, bool(part.index), [one.name for one in part.services]) for part in parts] == [
        (True, False, ["a"]),
        (False, False, ["b"]),
        (False, True, ["c"]),
    ]
    await watching.close()


async def test_only_so_many_changes_are_remembered(api: Api) -> None:
    index = ServiceIndex(remembered=1)
    index.look(api.state)
    before = index.at
    for name in ("a", "b"):
        await run(api, name)
        index.look(api.state)
    assert index.changed_after(before) is None
    assert index.changed_after(index.at) == []
    assert REMEMBERED > 1


# ---------------------------------------------------------------------------- agents


class Agent:
    def __init__(self, api: Api, identity: str = "agent:n1") -> None:
        self._ups: asyncio.Queue[agent_pb2.ServicesUp | None] = asyncio.Queue()
        self._stream = api.services.services(self._said(), call(identity))

    async def _said(self) -> AsyncIterator[Any]:
        while (up := await self._ups.get()) is not None:
            yield up

    def say(self, *add: str, drop: tuple[str, ...] = (), node_id: str = "") -> None:
        def names(texts: tuple[str, ...]) -> list[agent_pb2.ServiceName]:
            return [agent_pb2.ServiceName(namespace="default", name=text) for text in texts]

        self._ups.put_nowait(agent_pb2.ServicesUp(node_id=node_id, add=names(add), drop=names(drop)))

    def end(self) -> None:
        self._ups.put_nowait(None)

    async def next(self) -> dict[str, int]:
        async with asyncio.timeout(5):
            down: Any = await anext(self._stream)
        return {one.name: len(one.instances) for one in down.services}


async def test_an_agent_hears_of_what_it_asked_for_and_of_nothing_else(api: Api) -> None:
    await run(api, "web")
    agent = Agent(api)
    agent.say("web", "later", node_id="n1")
    assert await agent.next() == {"web": 1, "later": 0}
    await run(api, "other")
    await run(api, "later")
    heard = await agent.next()
    while heard == {"later": 0}:  # declared first
        heard = await agent.next()
    assert heard == {"later": 1}
    agent.say("other", drop=("later", "web"))
    assert await agent.next() == {"other": 1}
    await observe(api, "web", 0, AllocState.RUNNING, health=2)
    await observe(api, "other", 0, AllocState.RUNNING, health=2)
    assert await agent.next() == {"other": 0}
    agent.end()
    with pytest.raises(StopAsyncIteration):
        await agent.next()
    assert api.services._by_key == {}


async def test_an_agent_speaks_for_its_own_node_alone_and_asks_within_bounds(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Agent(api, "agent:n2")
    stranger.say("web", node_id="n1")
    with pytest.raises(PermissionError_):
        await stranger.next()
    monkeypatch.setattr(services, "NAMES_MAX", 2)
    greedy = Agent(api)
    greedy.say("a", "b", "c", node_id="n1")
    with pytest.raises(InvalidError, match="at most 2 services"):
        for _ in range(2):
            await greedy.next()
    assert api.services._by_key == {}
