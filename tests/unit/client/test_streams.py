"""Streams resume where they were cut, without gap or repeat."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.client import aio, sync
from orchestrator.client.aio import Client
from orchestrator.contract.errors import InvalidError, NoLeaderError, OutOfRangeError, OverloadedError
from orchestrator.contract.model import Event
from tests.unit.client.fake import FakePeer, World, job_spec

LOG = b"".join(b"line %d\n" % number for number in range(20))


@pytest.fixture
def world() -> World:
    events = [
        Event(index=index, sequence=sequence, time_ms=0, kind="alloc.running")
        for index in range(1, 8)
        for sequence in range(3)
    ]
    return World(logs={"web/main/0": LOG}, events=events, index=7)


@pytest.fixture
def peers(world: World) -> Iterator[list[FakePeer]]:
    made = [FakePeer(world, f"p{number}") for number in (1, 2)]
    yield made
    for peer in made:
        peer.kill()


@pytest.fixture
def addresses(peers: list[FakePeer]) -> list[str]:
    return [peer.address for peer in peers]


@pytest.mark.parametrize("name", ["web/main/0", "web/0"])
async def test_a_log_arrives_whole(addresses: list[str], name: str) -> None:
    async with Client(addresses) as client:
        assert b"".join([chunk.data async for chunk in client.logs(name)]) == LOG


async def test_a_log_resumes_by_offset_after_each_death(addresses: list[str], peers: list[FakePeer]) -> None:
    for peer in peers:
        peer.cut_streams_after.extend([3, 1, 0, 5])
    async with Client(addresses) as client:
        chunks = [chunk async for chunk in client.logs("web/main/0", follow=True)]
    assert b"".join(chunk.data for chunk in chunks) == LOG
    offsets = [request.offset for peer in peers for method, request in peer.calls if method == "Logs"]
    assert len(offsets) > 4
    assert sorted(offsets)[0] == -1
    assert all(request.attempt == 1 for peer in peers for _, request in peer.calls if request.offset > 0)


async def test_the_tail_is_asked_for_once(addresses: list[str], peers: list[FakePeer]) -> None:
    peers[0].cut_streams_after.append(1)
    async with Client(addresses) as client:
        data = b"".join([chunk.data async for chunk in client.logs("web/main/0", tail_lines=3)])
    assert data == b"line 17\nline 18\nline 19\n"


async def test_events_resume_within_an_index(addresses: list[str], peers: list[FakePeer], world: World) -> None:
    for peer in peers:
        peer.cut_streams_after.extend([4, 1, 3, 3])
    seen: list[tuple[int, int]] = []
    async with Client(addresses) as client:
        async for event in client.watch_events(after_index=0):
            seen.append((event.index, event.sequence))
            if len(seen) == len(world.events):
                break
    assert seen == [(event.index, event.sequence) for event in world.events]


async def test_events_from_now_on_are_anchored_before_they_begin(addresses: list[str], peers: list[FakePeer]) -> None:
    """What happens between the call and a first reconnect is not lost."""
    peers[0].fail("WatchEvents", NoLeaderError("electing"))
    async with Client(addresses) as client:
        watch = client.watch_events()
        peers[0].world.events.append(Event(index=8, sequence=0, time_ms=0, kind="node.lost"))
        event = await anext(watch)
        assert event.index == 8
    asked = [request.after_index for peer in peers for method, request in peer.calls if method == "WatchEvents"]
    assert set(asked) == {7}


async def test_a_watcher_that_was_too_slow_goes_on_by_itself(
    addresses: list[str], peers: list[FakePeer], world: World
) -> None:
    for peer in peers:
        peer.fail("WatchEvents", OverloadedError("too slow", reason="SLOW_WATCHER", retry_after_ms=1))
        peer.cut_streams_after.extend([4, 5])
    seen: list[tuple[int, int]] = []
    async with Client(addresses) as client:
        async for event in client.watch_events(after_index=0):
            seen.append((event.index, event.sequence))
            if len(seen) == len(world.events):
                break
    assert seen == [(event.index, event.sequence) for event in world.events]


async def test_a_collected_index_is_told(addresses: list[str], peers: list[FakePeer]) -> None:
    peers[0].fail("WatchEvents", OutOfRangeError("index 1 is collected"))
    async with Client(addresses) as client:
        with pytest.raises(OutOfRangeError):
            await anext(client.watch_events(after_index=1))


async def test_a_stream_without_any_peer_gives_up(addresses: list[str], peers: list[FakePeer]) -> None:
    for peer in peers:
        peer.kill()
    async with Client(addresses, timeout_s=0.2) as client:
        with pytest.raises(NoLeaderError):
            await anext(client.logs("web/main/0"))


async def test_a_backup_is_given_up_while_every_peer_says_that_it_knows_no_leader(
    addresses: list[str], peers: list[FakePeer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before there was time for an election; and long before the patience with peers that say nothing."""
    monkeypatch.setattr(aio, "BACKUP_LEADERLESS_S", 0.0)
    async with Client(addresses, timeout_s=10_000.0) as client:
        for peer in peers:
            peer.no_quorum = True
        with pytest.raises(NoLeaderError):
            await anext(client.backup())
        stale = await anext(client.backup(stale=True))
        assert stale.head is not None and stale.head.stale


async def test_a_backup_is_given_up_as_soon_while_no_peer_can_be_reached(
    addresses: list[str], peers: list[FakePeer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio, "BACKUP_LEADERLESS_S", 0.0)
    for peer in peers:
        peer.kill()
    async with Client(addresses, timeout_s=10_000.0) as client:
        with pytest.raises(NoLeaderError, match="no peer could be reached"):
            await anext(client.backup())


async def test_a_broken_allocation_name_is_refused(addresses: list[str]) -> None:
    async with Client(addresses) as client:
        with pytest.raises(InvalidError, match="job/group/ordinal"):
            await anext(client.logs("web"))


def test_the_blocking_client_does_the_same(addresses: list[str], peers: list[FakePeer], world: World) -> None:
    peers[0].cut_streams_after.append(2)
    with sync.Client(addresses) as client:
        assert client.submit(job_spec()).changed
        assert client.get_job("web").job.version == 1
        assert b"".join(chunk.data for chunk in client.logs("web/main/0")) == LOG
        events = client.watch_events(after_index=0)
        assert [next(events).index for _ in range(4)] == [1, 1, 1, 2]
        events.close()  # type: ignore[attr-defined]
        assert client.at_most(1.0).list_jobs().jobs[0].spec.name == "web"
    client.close()


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) <= public(sync.Client) | {"close"}
