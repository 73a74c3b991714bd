from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.api import watch
from orchestrator.contract.errors import ConflictError, InvalidError, NoLeaderError, NotFoundError, OutOfRangeError
from orchestrator.contract.errors import TimeoutError_ as RaftsmanTimeout
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state.events import EventLog
from tests.unit.api.harness import Api, call


@pytest.fixture
def api() -> Api:
    return Api()


class Events:
    def __init__(self, api: Api, **fields: Any) -> None:
        self._stream = api.watch.watch_events(pb.WatchEventsRequest(**fields), call())

    async def next(self) -> pb.Event:
        async with asyncio.timeout(5):
            return pb.Event.FromString(await anext(self._stream))


async def test_a_watch_gives_what_is_kept_and_then_what_happens(api: Api) -> None:
    await api.submit("web")
    events = Events(api)
    first = await events.next()
    assert (first.kind, first.job, first.index) == ("job.submitted", "web", 1)
    waiting = asyncio.ensure_future(events.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    await api.submit("db")
    assert (await waiting).job == "db"


async def test_a_watch_resumes_after_an_index(api: Api) -> None:
    for name in ("a", "b", "c"):
        await api.submit(name)
    assert (await Events(api, after_index=1).next()).job == "b"
    waiting = asyncio.ensure_future(Events(api, after_index=3).next())
    await asyncio.sleep(0)
    await api.submit("d")
    assert (await waiting).job == "d"


async def test_an_index_that_the_cluster_never_reached_is_out_of_range(api: Api) -> None:
    await api.submit("web")
    with pytest.raises(OutOfRangeError, match="of another life"):
        await Events(api, after_index=2).next()


async def test_a_kind_that_does_not_exist_is_refused_with_the_near_miss(api: Api) -> None:
    with pytest.raises(InvalidError, match=r"no kind of event 'node.lots'; did you mean 'node.lost'\?"):
        await Events(api, kinds=["job.submitted", "node.lots"]).next()


async def test_only_new_events_come_after_minus_1(api: Api) -> None:
    await api.submit("old")
    waiting = asyncio.ensure_future(Events(api, after_index=-1).next())
    await asyncio.sleep(0)
    await api.submit("new")
    assert (await waiting).job == "new"
    with pytest.raises(InvalidError, match="after_index"):
        await Events(api, after_index=-2).next()


async def test_events_are_filtered_and_the_clusters_own_always_come(api: Api) -> None:
    await api.submit("web")
    await api.submit("web", namespace="other")
    await api.register("n")
    assert (await Events(api, namespace="other").next()).namespace == "other"
    of_other = Events(api, namespace="other", after_index=1)
    assert [(await of_other.next()).kind for _ in range(2)] == ["job.submitted", "node.registered"]
    assert (await Events(api, kinds=["node.registered"]).next()).node_id == "n"
    await api.submit("db")
    assert (await Events(api, job="db").next()).job == "db"


async def test_a_collected_index_is_out_of_range(api: Api) -> None:
    api.state.events = EventLog(2)
    for number in range(5):
        await api.submit(f"j{number}")
    with pytest.raises(OutOfRangeError):
        await Events(api, after_index=1).next()
    assert (await Events(api, after_index=0).next()).job == "j3"


async def test_a_watch_at_a_peer_without_a_majority_ends(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.01)
    api.log.lead(False)
    with pytest.raises(NoLeaderError, match="lost touch"):
        await Events(api).next()


async def test_the_state_is_hashed_at_exactly_one_index(api: Api) -> None:
    other = ClusterMachine()
    waiting = asyncio.ensure_future(api.hashes.state_hash(pb.StateHashRequest(at_index=2), call()))
    await asyncio.sleep(0)
    hashes = {}
    for name in ("a", "b", "c"):
        await api.submit(name)
        hashes[api.state.index] = api.machine.state_hash()
    answer = await waiting
    assert (answer.index, answer.hash, answer.peer_id) == (2, hashes[2], "p1")
    now = await api.hashes.state_hash(pb.StateHashRequest(), call())
    assert (now.index, now.hash) == (3, hashes[3])
    assert now.hash != other.state_hash()


async def test_a_past_index_cannot_be_hashed_and_a_far_one_times_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.submit("a")
    await api.submit("b")
    with pytest.raises(ConflictError, match="already at index 2"):
        await api.hashes.state_hash(pb.StateHashRequest(at_index=1), call())
    monkeypatch.setattr(watch, "HASH_WAIT_S", 0.01)
    with pytest.raises(RaftsmanTimeout, match="did not reach 9"):
        await api.hashes.state_hash(pb.StateHashRequest(at_index=9), call())
    with pytest.raises(NotFoundError, match="no peer 'p9'"):
        await api.hashes.state_hash(pb.StateHashRequest(peer_id="p9"), call())


async def test_a_snapshot_that_jumps_over_the_index_ends_the_wait(api: Api) -> None:
    waiting = asyncio.ensure_future(api.hashes.state_hash(pb.StateHashRequest(at_index=1), call()))
    await asyncio.sleep(0)
    ahead = Api()
    await ahead.submit("a")
    await ahead.submit("b")
    api.hashing.prepare(b"".join(ahead.machine.capture()()))()
    with pytest.raises(ConflictError, match="already at index 2"):
        await waiting
