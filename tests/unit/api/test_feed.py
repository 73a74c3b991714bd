"""Thousands watch one peer: bytes are shared, nobody is given a gap, and who is too slow is told where to go on."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.api import feed, forward
from orchestrator.api.admission import Admission
from orchestrator.api.control import ROUTES
from orchestrator.api.feed import Feed
from orchestrator.api.forward import Service
from orchestrator.contract.channel import SERVER_OPTIONS, dial
from orchestrator.contract.errors import OutOfRangeError, OverloadedError
from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import control_pb2_grpc as rpc
from orchestrator.state.events import EventLog
from tests.unit.api.harness import Api, call


@pytest.fixture
def api() -> Api:
    """Its feed keeps 20 events."""
    return Api()


def watch(api: Api, after: int = 0) -> AsyncIterator[bytes]:
    return api.watch.watch_events(pb.WatchEventsRequest(after_index=after, namespace="*"), call())


async def take(stream: AsyncIterator[bytes], count: int) -> list[bytes]:
    async with asyncio.timeout(10):
        return [await anext(stream) for _ in range(count)]


def indexes(raws: list[bytes]) -> list[int]:
    return [pb.Event.FromString(raw).index for raw in raws]


async def started(api: Api) -> tuple[AsyncIterator[bytes], asyncio.Task[list[bytes]]]:
    """A watcher that has seen all there is, and waits for the next event."""
    stream = watch(api, api.state.index)
    waiting = asyncio.ensure_future(take(stream, 1))
    for _ in range(3):
        await asyncio.sleep(0)
    return stream, waiting


async def test_watchers_share_the_bytes_of_an_event(api: Api) -> None:
    waiting = [(await started(api))[1] for _ in range(3)]
    await api.submit("web")
    first, second, third = [(await one)[0] for one in waiting]
    assert first is second is third
    assert pb.Event.FromString(first).job == "web"


async def test_a_watcher_whose_event_does_not_come_is_woken_once_for_each_other_one(api: Api) -> None:
    request = pb.WatchEventsRequest(after_index=api.state.index, namespace="*", job="awaited")
    waiting = asyncio.ensure_future(take(api.watch.watch_events(request, call()), 1))
    await asyncio.sleep(0)
    real, waits = api.feed.more, 0

    async def more(place: int, timeout_s: float) -> bool:
        nonlocal waits
        waits += 1
        return await real(place, timeout_s)

    api.feed.more = more  # type: ignore[method-assign]
    for number in range(3):
        await api.submit(f"other-{number}")
        for _ in range(50):
            await asyncio.sleep(0)
    assert waits <= 4  # once before the first, and once after each
    await api.submit("awaited")
    ((raw,),) = await asyncio.gather(waiting)
    assert pb.Event.FromString(raw).job == "awaited"


async def test_the_past_comes_from_the_ring_and_the_newest_from_the_tail_without_gap_or_repeat(api: Api) -> None:
    for number in range(50):
        await api.submit(f"old-{number}")
    _, other = await started(api)  # so that there is a tail
    stream = watch(api, 10)
    seen = await take(stream, 25)
    for number in range(15):
        await api.submit(f"new-{number}")
    seen += await take(stream, 30)
    assert indexes(seen) == list(range(11, 66))
    await other


async def test_a_watcher_that_falls_out_of_the_tail_is_told_where_to_go_on(api: Api) -> None:
    stream, waiting = await started(api)
    await api.submit("seen")
    assert indexes(await waiting) == [1]
    for number in range(30):  # ten more than the tail holds
        await api.submit(f"j{number}")
    with pytest.raises(OverloadedError) as caught:
        await take(stream, 1)
    assert caught.value.reason == "SLOW_WATCHER"
    assert caught.value.retry_after_ms > 0
    resumed = watch(api, int(caught.value.metadata["resume_after"]))
    assert indexes(await take(resumed, 30)) == list(range(2, 32))


async def test_the_tail_is_bounded_by_bytes_too(api: Api) -> None:
    small = Feed(api.log, api.state_now, most_events=1_000, most_bytes=5 * feed.RECORD_BYTES)
    small.join()
    for number in range(100):
        await api.submit(f"j{number}")
        assert small.bytes <= 5 * feed.RECORD_BYTES
    place = small.place_after(api.state.index - 3)
    assert place is not None
    assert len(small.read(place, 100)) == 3
    assert small.place_after(10) is None
    small.leave()
    assert small.bytes == 0


async def test_nothing_is_kept_while_nobody_watches(api: Api) -> None:
    stream, waiting = await started(api)
    await api.submit("a")
    await waiting
    assert api.feed.readers == 1
    assert api.feed.bytes > 0
    await stream.aclose()  # type: ignore[attr-defined]
    await api.submit("b")
    assert (api.feed.readers, api.feed.bytes) == (0, 0)
    assert indexes(await take(watch(api, 1), 1)) == [2]


async def test_one_index_is_never_cut_in_two(api: Api) -> None:
    """A command may make many events, and a watcher resumes by index."""
    _, waiting = await started(api)
    await api.submit("web", count=30)
    await api.register("n1", capacity={"cpu_millis": 10_000, "memory_mib": 10_000})
    assert len(await waiting) == 1
    place = api.feed.place_after(2)
    await api.place()
    assert place is not None
    with pytest.raises(OverloadedError):  # 30 at once, and the tail keeps 20
        api.feed.read(place, 1)
    assert api.feed.place_after(2) is None
    assert len(await take(watch(api, 2), 30)) == 30


async def test_a_watcher_over_a_snapshot_goes_on_where_it_was(api: Api) -> None:
    """The state is replaced by one that is further, as after a snapshot of the leader was installed."""
    ahead = Api()
    for number in range(3):
        await api.submit(f"j{number}")
        await ahead.submit(f"j{number}")
    stream, waiting = await started(api)
    for number in range(3, 9):
        await ahead.submit(f"j{number}")
    api.machine.restore(b"".join(ahead.machine.capture()()))
    await api.submit("after")
    assert indexes(await waiting + await take(stream, 6)) == list(range(4, 11))


async def test_a_watcher_over_a_snapshot_that_forgot_what_it_missed_is_not_given_a_gap(api: Api) -> None:
    ahead = Api()
    await api.submit("j0")
    _, waiting = await started(api)
    ahead.state.events = EventLog(3)
    for number in range(30):
        await ahead.submit(f"j{number}")
    api.machine.restore(b"".join(ahead.machine.capture()()))
    api.state.events = EventLog(3, ahead.state.events.records(), ahead.state.events.dropped_index)
    await api.submit("after")
    with pytest.raises(OverloadedError) as caught:
        await waiting
    with pytest.raises(OutOfRangeError):
        await take(watch(api, int(caught.value.metadata["resume_after"])), 1)


# ---------------------------------------------------------------------------- over gRPC


@contextlib.asynccontextmanager
async def served(api: Api) -> AsyncIterator[str]:
    """The address of a real server in this process."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    service = Service(
        pb.DESCRIPTOR.services_by_name["Control"], [api.writes, api.reads, api.watch, api.hashes, api.logs, _Rest()],
        ROUTES, log=api.log, forwarder=api.forwarder, admission=Admission(), secure=False,
    )  # fmt: skip
    service.add_to_server(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


class _Rest:
    """Every other method: nobody calls it here."""

    def __getattr__(self, name: str) -> Any:
        return None


@pytest.mark.slow
async def test_two_thousand_watchers_see_everything_in_order_and_hold_little() -> None:
    api, watchers, rounds, each = Api(), 2_000, 5, 4
    api.feed = Feed(api.log, api.state_now)
    api.watch._feed = api.feed
    for number in range(3):
        await api.submit(f"before-{number}")
    async with served(api) as address:
        channels = [dial(address, None) for _ in range(20)]
        streams = []
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(watchers):
            stub = rpc.ControlStub(channels[number % len(channels)])
            streams.append(stub.WatchEvents(pb.WatchEventsRequest(after_index=0, namespace="*")))
            if number % 50 == 49:  # one by one, as people come: all at once would be refused
                async with asyncio.timeout(60):
                    for stream in streams[-50:]:
                        assert [(await stream.read()).index for _ in range(3)] == [1, 2, 3]
        assert api.feed.readers == watchers

        async def follow(stream: Any) -> list[int]:
            return [(await stream.read()).index for _ in range(rounds * each)]

        following = [asyncio.ensure_future(follow(stream)) for stream in streams]
        for round_ in range(rounds):
            for number in range(each):
                await api.submit(f"job-{round_}-{number}")
            await asyncio.sleep(0)
        async with asyncio.timeout(200):
            seen = await asyncio.gather(*following)
        expected = list(range(4, 4 + rounds * each))
        assert all(one == expected for one in seen)
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
        print(f"{grown_kib / watchers:.0f} KiB a watcher, both ends of it")
        assert grown_kib / watchers < 200
        for stream in streams:
            stream.cancel()
        for channel in channels:
            await channel.close(None)


@pytest.mark.soak
async def test_a_watcher_that_takes_nothing_is_ended_and_goes_on_without_a_gap(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "STALLED_S", 0.2)
    api.feed = Feed(api.log, api.state_now)
    api.watch._feed = api.feed
    cut = feed.CUT._value.get()
    async with served(api) as address:
        # A small window, so that a reader who does not read is noticed at once.
        channel = dial(address, None, options=(("grpc.http2.bdp_probe", 0),))
        stub = rpc.ControlStub(channel)
        stream = stub.WatchEvents(pb.WatchEventsRequest(after_index=0, namespace="*"))
        for number in range(3_000):  # more than flow control lets a server send to whom nobody reads
            await api.submit(f"job-{number:0100}"[-63:])
        async with asyncio.timeout(30):
            while feed.CUT._value.get() == cut:
                await asyncio.sleep(0.01)
        last = 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                event: Any = await stream.read()
                assert event.index == last + 1
                last = event.index
        error = from_rpc_error(caught.value)
        assert isinstance(error, OverloadedError)
        assert error.reason == "SLOW_WATCHER"
        assert 0 < last < 3_000
        again = stub.WatchEvents(pb.WatchEventsRequest(after_index=last, namespace="*"))
        for index in range(last + 1, last + 50):
            event = await again.read()
            assert event.index == index
        again.cancel()
        await channel.close(None)


async def test_a_watch_goes_on_while_leaders_change(api: Api) -> None:
    stream, waiting = await started(api)
    seen = []
    for number in range(5):
        await api.submit(f"j{number}")
        seen += await waiting
        api.log.lead(False)
        waiting = asyncio.ensure_future(take(stream, 1))
        await asyncio.sleep(0)
        api.log.lead(True)
    await api.submit("last")
    assert indexes(seen + await waiting) == list(range(1, 7))
