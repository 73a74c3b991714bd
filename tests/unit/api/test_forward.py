"""Forwarding over real channels between servers in this process; who leads is told to each by its fake log."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.api import admission, forward
from orchestrator.api.admission import Admission
from orchestrator.api.control import ROUTES
from orchestrator.api.forward import Forwarder, Route, Service
from orchestrator.contract.channel import FORWARDED_IDENTITY, dial
from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    NotLeaderError,
    OverloadedError,
    RaftsmanError,
    TimeoutError_,
    UnknownOutcomeError,
)
from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import control_pb2_grpc as rpc

CONTROL = pb.DESCRIPTOR.services_by_name["Control"]


class FakeLog:
    """Who leads, as this peer believes."""

    waits_for = ""

    def __init__(self, me: str) -> None:
        self.me = me
        self.leader_id = ""
        self.last_quorum_ms = 0
        self.waits_for = ""
        self._listeners: list[Callable[[], None]] = []

    def is_leader(self) -> bool:
        return self.leader_id == self.me

    def status(self) -> FakeLog:
        return self

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def follow(self, leader: str) -> None:
        self.leader_id = leader
        for listener in list(self._listeners):
            listener()


class Servicer:
    """Answers variables and events, and remembers who asked what. ``fail`` and ``hold`` make it behave badly."""

    def __init__(self, me: str) -> None:
        self.me = me
        self.asked: list[tuple[Any, forward.Call]] = []
        self.fail: list[Exception] = []
        self.hold: asyncio.Event | None = None

    async def put_variable(self, request: pb.PutVariableRequest, call: forward.Call) -> pb.VariableResponse:
        self.asked.append((request, call))
        if self.hold is not None:
            await self.hold.wait()
        if self.fail:
            raise self.fail.pop(0)
        return pb.VariableResponse(variable={"name": request.name, "value": self.me})

    get_variable = put_variable

    async def list_nodes(self, request: pb.ListNodesRequest, call: forward.Call) -> pb.ListNodesResponse:
        self.asked.append((request, call))
        return pb.ListNodesResponse(read={"peer_id": self.me})

    async def watch_events(self, request: pb.WatchEventsRequest, call: forward.Call) -> AsyncIterator[pb.Event]:
        self.asked.append((request, call))
        yield pb.Event(message=self.me)
        if self.fail:
            raise self.fail.pop(0)
        if self.hold is not None:
            await self.hold.wait()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.put_variable


class Peers:
    def __init__(self) -> None:
        self.logs: dict[str, FakeLog] = {}
        self.servicers: dict[str, Servicer] = {}
        self.stubs: dict[str, rpc.ControlStub] = {}
        self.servers: dict[str, grpc.aio.Server] = {}
        self.addresses: dict[str, str] = {}
        self.forwarders: dict[str, Forwarder] = {}
        self.admissions: dict[str, Admission] = {}

    def lead(self, leader: str) -> None:
        for log in self.logs.values():
            log.follow(leader)


@contextlib.asynccontextmanager
async def peers_with(routes: dict[str, Route]) -> AsyncIterator[Peers]:
    peers = Peers()
    names = ("p1", "p2", "p3")
    addresses = peers.addresses
    forwarders = peers.forwarders
    channels: list[grpc.aio.Channel] = []
    for name in names:
        peers.servers[name] = server = grpc.aio.server()
        addresses[name] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    for name in names:
        log: Any = FakeLog(name)
        peers.logs[name] = log
        forwarder = Forwarder(log, peer_id=name, peers=lambda: addresses, tls=None)
        forwarders[name] = forwarder
        peers.servicers[name] = Servicer(name)
        peers.admissions[name] = door = Admission()
        service = Service(
            CONTROL, [peers.servicers[name]], routes, log=log, forwarder=forwarder, admission=door, secure=False
        )
        service.add_to_server(peers.servers[name])
        await peers.servers[name].start()
        forwarder.start()
        channels.append(grpc.aio.insecure_channel(addresses[name]))
        peers.stubs[name] = rpc.ControlStub(channels[-1])
    try:
        yield peers
    finally:
        for forwarder in forwarders.values():
            await forwarder.stop()
        for channel in channels:
            await channel.close(None)
        for server in peers.servers.values():
            await server.stop(None)


@pytest.fixture
async def peers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Peers]:
    # Nobody gives up on a machine that is slow; see ``impatient``.
    monkeypatch.setattr(forward, "WRITE_PATIENCE_S", 20.0)
    monkeypatch.setattr(forward, "READ_PATIENCE_S", 20.0)
    async with peers_with({**ROUTES, "WatchEvents": Route.LEADER}) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, peers: Peers) -> None:
    """For tests in which everybody gives up in the end."""
    monkeypatch.setattr(forward, "WRITE_PATIENCE_S", 0.6)
    monkeypatch.setattr(forward, "READ_PATIENCE_S", 0.3)
    monkeypatch.setattr(forward, "ALONE_PATIENCE_S", 0.01)


async def put(peers: Peers, at: str, **fields: Any) -> pb.VariableResponse:
    answer: pb.VariableResponse = await peers.stubs[at].PutVariable(
        pb.PutVariableRequest(name="a", **fields), timeout=10
    )
    return answer


async def error_of(call: Any) -> RaftsmanError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_a_follower_forwards_to_the_leader_and_the_leader_serves(peers: Peers) -> None:
    peers.lead("p2")
    for at in ("p1", "p2", "p3"):
        assert (await put(peers, at)).variable.value == "p2"
    assert [call.caller.forwarded for _, call in peers.servicers["p2"].asked] == [True, False, True]
    assert not peers.servicers["p1"].asked


async def test_a_write_without_a_request_id_gets_one_before_it_is_forwarded(peers: Peers) -> None:
    peers.lead("p2")
    await put(peers, "p1")
    await put(peers, "p1", request_id="mine")
    minted, given = (request.request_id for request, _ in peers.servicers["p2"].asked)
    assert minted.startswith("minted-")
    assert given == "mine"


@pytest.mark.parametrize("seconds", [10, 300])
async def test_the_deadline_travels_with_the_call(peers: Peers, seconds: float) -> None:
    """Through a follower it was cut to the thirty seconds of a call without a deadline: a submit of 20,000 jobs, which
    takes longer on a slow machine, ended there whatever its caller had said."""
    peers.lead("p2")
    await peers.stubs["p1"].PutVariable(pb.PutVariableRequest(name="a"), timeout=seconds)
    ((_, call),) = peers.servicers["p2"].asked
    # gRPC rounds it up a little on the wire.
    assert seconds / 2 < call.timeout_s() < seconds * 1.5
    assert call.timeout_s(5.0) == 5.0


async def test_a_call_without_a_deadline_gets_one(peers: Peers) -> None:
    peers.lead("p2")
    await peers.stubs["p1"].PutVariable(pb.PutVariableRequest(name="a"))
    ((_, call),) = peers.servicers["p2"].asked
    assert 0 < call.timeout_s() <= forward.DEFAULT_TIMEOUT_S * 1.5


async def test_a_stream_through_a_follower_lasts_as_long_as_its_caller_said(peers: Peers) -> None:
    peers.lead("p2")
    stream = peers.stubs["p1"].WatchEvents(pb.WatchEventsRequest(), timeout=300)
    await stream.read()
    ((_, call),) = peers.servicers["p2"].asked
    assert call.timeout_s() > 100
    stream.cancel()


async def test_reads_are_served_where_they_arrive(peers: Peers) -> None:
    peers.lead("p2")
    answer = await peers.stubs["p1"].GetVariable(pb.GetVariableRequest(name="a"), timeout=10)
    assert answer.variable.value == "p1"


async def test_a_read_that_needs_the_leader_goes_there_unless_it_may_be_stale(peers: Peers) -> None:
    peers.lead("p2")
    answer = await peers.stubs["p1"].ListNodes(pb.ListNodesRequest(), timeout=10)
    assert answer.read.peer_id == "p2"
    answer = await peers.stubs["p1"].ListNodes(pb.ListNodesRequest(read={"stale": True}), timeout=10)
    assert answer.read.peer_id == "p1"


async def test_a_forwarded_call_is_never_forwarded_again(peers: Peers) -> None:
    peers.logs["p1"].follow("p2")
    peers.logs["p2"].follow("p3")
    metadata = ((FORWARDED_IDENTITY, "client:x"),)
    call = peers.stubs["p2"].PutVariable(pb.PutVariableRequest(name="a"), timeout=10, metadata=metadata)
    error = await error_of(call)
    assert isinstance(error, NotLeaderError)
    assert error.leader_id == "p3"
    assert not peers.servicers["p3"].asked


async def test_a_call_waits_for_the_election_to_end(peers: Peers) -> None:
    waiting = asyncio.ensure_future(put(peers, "p1"))
    await asyncio.sleep(0.05)
    peers.lead("p3")
    assert (await waiting).variable.value == "p3"


async def test_a_refusal_that_nothing_was_done_is_tried_again_at_the_next_leader(peers: Peers) -> None:
    peers.lead("p2")
    peers.servicers["p2"].fail = [NotLeaderError("stepped down")]
    assert (await put(peers, "p1")).variable.value == "p2"


@pytest.mark.usefixtures("impatient")
async def test_without_a_leader_the_caller_hears_no_leader(peers: Peers) -> None:
    assert isinstance(await error_of(put(peers, "p1")), NoLeaderError)


async def test_a_short_deadline_still_gets_the_reason(peers: Peers) -> None:
    call = peers.stubs["p1"].PutVariable(pb.PutVariableRequest(name="a"), timeout=0.3)
    assert isinstance(await error_of(call), NoLeaderError)


@pytest.mark.usefixtures("impatient")
async def test_a_read_at_a_peer_that_is_long_alone_gives_up_at_once(peers: Peers) -> None:
    peers.logs["p1"].last_quorum_ms = 60_000
    stub = peers.stubs["p1"]
    reading = asyncio.ensure_future(stub.ListNodes(pb.ListNodesRequest(), timeout=10))
    writing = asyncio.ensure_future(put(peers, "p1"))
    assert isinstance(await error_of(reading), NoLeaderError)
    assert not writing.done()  # a write waits for an election all the same
    assert isinstance(await error_of(writing), NoLeaderError)


@pytest.mark.usefixtures("impatient")
async def test_a_dead_leader_makes_the_outcome_unknown_and_a_read_unanswered(peers: Peers) -> None:
    peers.lead("p2")
    await peers.servers["p2"].stop(None)
    assert isinstance(await error_of(put(peers, "p1")), UnknownOutcomeError)
    call = peers.stubs["p1"].ListNodes(pb.ListNodesRequest(), timeout=10)
    assert isinstance(await error_of(call), NoLeaderError)


async def test_an_unknown_outcome_is_repeated_with_the_same_request_id(peers: Peers) -> None:
    peers.lead("p2")
    peers.servicers["p2"].fail = [UnknownOutcomeError("stepped down in flight")]
    assert (await put(peers, "p1", request_id="r1")).variable.value == "p2"
    assert [request.request_id for request, _ in peers.servicers["p2"].asked] == ["r1", "r1"]


async def test_a_frozen_leader_does_not_hold_a_call_once_another_leads(peers: Peers) -> None:
    peers.lead("p2")
    peers.servicers["p2"].hold = asyncio.Event()
    waiting = asyncio.ensure_future(put(peers, "p1", request_id="r1"))
    while not peers.servicers["p2"].asked:
        await asyncio.sleep(0.01)
    peers.lead("p3")
    assert (await waiting).variable.value == "p3"


@pytest.mark.parametrize("failure", [InvalidError("no good"), OverloadedError("full", retry_after_ms=70)])
async def test_an_error_of_the_leader_arrives_as_it_was(peers: Peers, failure: RaftsmanError) -> None:
    peers.lead("p2")
    for at in ("p1", "p2"):
        peers.servicers["p2"].fail = [failure]
        error = await error_of(put(peers, at))
        assert (type(error), error.reason, error.message) == (type(failure), failure.reason, failure.message)


@pytest.mark.parametrize("failure", [InvalidError("no"), UnknownOutcomeError("perhaps")])
async def test_a_refused_call_is_held_by_nothing_once_it_is_answered(
    peers: Peers, impatient: None, failure: RaftsmanError
) -> None:
    """Nothing waits for a look at all objects: in a burst of refusals that would be a lot, for long."""
    peers.lead("p1")
    peers.servicers["p1"].fail = [failure] * 1_000
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await put(peers, "p2", request_id="r")
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        held = Counter(type(one).__name__ for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not held & Counter(dict.fromkeys(("RPCState", "UnaryUnaryCall", type(failure).__name__), 100)), held


async def test_a_programming_error_is_internal_and_tells_nothing_more(peers: Peers) -> None:
    peers.lead("p1")
    peers.servicers["p1"].fail = [ZeroDivisionError("secret")]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put(peers, "p1")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (caught.value.details() or "")


async def test_an_answer_that_is_too_large_says_so(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    peers.lead("p1")
    monkeypatch.setattr(forward, "MAX_MESSAGE_BYTES", 3)
    error = await error_of(put(peers, "p1"))
    assert isinstance(error, InvalidError)
    assert "ask for less" in error.message


async def test_a_body_that_is_no_message_is_invalid(peers: Peers) -> None:
    peers.lead("p1")
    channel = dial(peers.addresses["p1"], None)
    call = channel.unary_unary("/orchestrator.contract.v1.Control/PutVariable", None, None)(b"\xff\xff\xff", timeout=5)
    assert isinstance(await error_of(call), InvalidError)
    await channel.close(None)


async def test_a_stream_is_forwarded_and_ends_when_another_peer_leads(peers: Peers) -> None:
    peers.lead("p2")
    peers.servicers["p2"].hold = asyncio.Event()
    stream = peers.stubs["p1"].WatchEvents(pb.WatchEventsRequest(), timeout=10)
    assert (await stream.read()).message == "p2"
    reading = asyncio.ensure_future(stream.read())
    peers.lead("p3")
    error = await error_of(reading)
    assert isinstance(error, NotLeaderError)


async def test_an_error_in_a_forwarded_stream_arrives_as_it_was(peers: Peers) -> None:
    peers.lead("p2")
    for at in ("p1", "p2"):
        peers.servicers["p2"].fail = [InvalidError("no good")]
        stream = peers.stubs[at].WatchEvents(pb.WatchEventsRequest(), timeout=10)
        assert (await stream.read()).message == "p2"
        assert isinstance(await error_of(stream.read()), InvalidError)


async def test_a_peer_that_leaves_sends_new_calls_away_and_finishes_those_on_their_way(peers: Peers) -> None:
    peers.lead("p2")
    hold = peers.servicers["p2"].hold = asyncio.Event()
    on_its_way = asyncio.ensure_future(put(peers, "p1"))
    while not peers.servicers["p2"].asked:
        await asyncio.sleep(0)
    for leaving in ("p1", "p2"):
        peers.forwarders[leaving].leave()
        error = await error_of(put(peers, leaving))
        assert isinstance(error, NoLeaderError), "nothing was done"
        assert "is stopping" in error.message
        stream = peers.stubs[leaving].WatchEvents(pb.WatchEventsRequest(), timeout=10)
        assert isinstance(await error_of(stream.read()), NoLeaderError)
    hold.set()
    assert (await on_its_way).variable.value == "p2"


async def test_a_forwarded_call_whose_channel_is_closed_has_an_unknown_outcome(peers: Peers) -> None:
    peers.lead("p2")
    peers.servicers["p2"].hold = asyncio.Event()
    on_its_way = asyncio.ensure_future(error_of(put(peers, "p1")))
    while not peers.servicers["p2"].asked:
        await asyncio.sleep(0)
    peers.forwarders["p1"].leave()
    await peers.forwarders["p1"].stop()
    error = await on_its_way
    assert isinstance(error, UnknownOutcomeError)
    assert error.retryable


def test_a_route_for_a_method_that_does_not_exist_is_a_mistake() -> None:
    log: Any = FakeLog("p1")
    forwarder = Forwarder(log, peer_id="p1", peers=dict, tls=None)
    with pytest.raises(ValueError, match="Nope"):
        Service(
            CONTROL,
            [Servicer("p1")],
            {"Nope": Route.HERE},
            log=log,
            forwarder=forwarder,
            admission=Admission(),
            secure=False,
        )


async def test_a_leader_that_has_too_much_to_do_is_spared_for_a_moment(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "LEADER_FULL_S", 60.0)
    peers.lead("p1")
    peers.servicers["p1"].fail = [OverloadedError("full", retry_after_ms=70)]
    for _ in range(3):
        error = await error_of(put(peers, "p2"))
        assert isinstance(error, OverloadedError)
        assert error.retry_after_ms > 0
    assert len(peers.servicers["p1"].asked) == 1
    # Another follower knows nothing of it.
    await put(peers, "p3")
    assert len(peers.servicers["p1"].asked) == 2


async def test_a_leader_whose_grpc_refuses_calls_by_itself_is_spared_too(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says CANCELLED, which is said of calls that were begun as well: not done for certain, and not asked again."""
    monkeypatch.setattr(forward, "LEADER_FULL_S", 60.0)
    refused = 0

    async def refuse(_request: bytes, context: Any) -> bytes:
        nonlocal refused
        refused += 1
        context.set_code(grpc.StatusCode.CANCELLED)
        return b""

    methods = {"PutVariable": grpc.unary_unary_rpc_method_handler(refuse)}
    full = grpc.aio.server(handlers=[grpc.method_handlers_generic_handler(CONTROL.full_name, methods)])
    peers.addresses["p1"] = f"127.0.0.1:{full.add_insecure_port('127.0.0.1:0')}"
    await full.start()
    peers.lead("p1")
    assert isinstance(await error_of(put(peers, "p2")), UnknownOutcomeError)
    assert peers.admissions["p2"].room() == 0 and peers.admissions["p3"].room() > 0
    assert isinstance(await error_of(put(peers, "p2")), OverloadedError)
    read = peers.stubs["p2"].ListNodes(pb.ListNodesRequest(), timeout=10)
    assert isinstance(await error_of(read), OverloadedError)
    assert refused == 1
    peers.lead("p3")  # of which nothing is known
    assert (await put(peers, "p2")).variable.value == "p3"
    await full.stop(None)


async def test_a_peer_that_is_full_refuses_before_it_reads_the_request(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "CALLS", dict.fromkeys(admission.Lane, 0))
    peers.lead("p1")
    async with grpc.aio.insecure_channel(peers.addresses["p1"]) as channel:
        garbage = channel.unary_unary(f"/{CONTROL.full_name}/PutVariable", None, None)
        assert isinstance(await error_of(garbage(b"\xff\xff")), OverloadedError)
    assert isinstance(await error_of(peers.stubs["p1"].WatchEvents(pb.WatchEventsRequest()).read()), OverloadedError)
    assert peers.servicers["p1"].asked == []


class _Late:
    """The context of a call whose deadline has passed while it waited for the loop."""

    def invocation_metadata(self) -> Any:
        return ()

    def time_remaining(self) -> float:
        return -0.1


def test_a_call_whose_caller_has_given_up_is_not_begun() -> None:
    log: Any = FakeLog("p1")
    forwarder = Forwarder(log, peer_id="p1", peers=dict, tls=None)
    servicer = Servicer("p1")
    service = Service(CONTROL, [servicer], {}, log=log, forwarder=forwarder, admission=Admission(), secure=False)
    method = next(method for method in service._methods if method.name == "PutVariable")
    with pytest.raises(TimeoutError_, match="nothing was done"):
        service._begin(method, _Late())
    assert servicer.asked == []


def test_each_method_is_taken_in_by_itself() -> None:
    """gRPC takes in one call at a time of all methods that were not registered by name."""

    class Server:
        def __init__(self) -> None:
            self.generic: list[Any] = []
            self.registered: dict[str, set[str]] = {}

        def add_generic_rpc_handlers(self, handlers: Any) -> None:
            self.generic += handlers

        def add_registered_method_handlers(self, name: str, handlers: dict[str, Any]) -> None:
            self.registered[name] = set(handlers)

    log: Any = FakeLog("p1")
    server: Any = Server()
    forwarder = Forwarder(log, peer_id="p1", peers=dict, tls=None)
    servicer = Servicer("p1")
    Service(CONTROL, [servicer], {}, log=log, forwarder=forwarder, admission=Admission(), secure=False).add_to_server(
        server
    )
    assert server.registered == {CONTROL.full_name: {method.name for method in CONTROL.methods}}
    assert len(server.generic) == 1


async def test_a_caller_who_is_gone_when_something_is_written_is_no_failure_of_the_call() -> None:
    """gRPC raises its own error then, and takes it back where the call was left."""
    log: Any = FakeLog("p1")
    log.follow("p1")
    servicer, forwarder = Servicer("p1"), Forwarder(log, peer_id="p1", peers=dict, tls=None)
    service = Service(CONTROL, [servicer], {}, log=log, forwarder=forwarder, admission=Admission(), secure=False)

    class Gone:
        ended: object = None

        def invocation_metadata(self) -> tuple[()]:
            return ()

        def auth_context(self) -> dict[str, object]:
            return {}

        def time_remaining(self) -> float:
            return 5.0

        async def write(self, _answer: bytes) -> None:
            raise grpc.aio.InternalError("execute_batch")

        def set_code(self, code: grpc.StatusCode) -> None:
            self.ended = code

    context = Gone()
    handler: Any = service.handlers()["WatchEvents"]
    with pytest.raises(grpc.aio.InternalError):
        await handler.unary_stream(pb.WatchEventsRequest().SerializeToString(), context)
    assert context.ended is None
