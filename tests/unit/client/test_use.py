"""Clients as programs use, and misuse, them: wrong arguments, closing, several event loops, several threads."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator.client import aio, sync
from orchestrator.client.endpoints import CLOSED, nobody
from orchestrator.contract.errors import InvalidError, NoLeaderError, PreconditionError, UnknownOutcomeError
from orchestrator.contract.model import Event
from orchestrator.contract.status import UNCONNECTED
from tests.unit.client.fake import FakePeer, job_spec


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    made = FakePeer()
    yield made
    made.kill()


@pytest.fixture
def client(peer: FakePeer) -> Iterator[sync.Client]:
    with sync.Client(peer.address, timeout_s=20) as made:
        yield made


# ---------------------------------------------------------------------------- wrong arguments

Use = Callable[[Any], Any]
WRONG: dict[str, tuple[Use, str]] = {
    "a number as text": (lambda it: it.scale_job("web", "3"), "count: expected a whole number"),
    "a broken number": (lambda it: it.scale_job("web", 1.5), "count: expected a whole number"),
    "too large a number": (lambda it: it.scale_job("web", 2**70), "count: expected a whole number of at most 64 bits"),
    "nothing where a number belongs": (lambda it: it.scale_job("web", None), "count: expected a whole number"),
    "nothing where a name belongs": (lambda it: it.get_job(None), "name: expected text, got None"),
    "text that is no UTF-8": (lambda it: it.get_job("\ud800"), "name: expected text"),
    "a job with text that is no UTF-8": (lambda it: it.submit(job_spec("\ud800")), "surrogates not allowed"),
    "a number as a value": (lambda it: it.put_variable("a", 5), "value: expected text, got 5"),
    "a file instead of a job": (lambda it: it.submit("web.yaml"), "expected a Job or a JobSpec, got str"),
    "a document instead of a job": (
        lambda it: it.submit_many([{"name": "web"}]),
        "expected a Job or a JobSpec, got dict",
    ),
    "no time": (lambda it: it.drain_node("n1", deadline_s=math.nan), "deadline_s: "),
    "time without end": (lambda it: it.drain_node("n1", deadline_s=math.inf), "deadline_s: "),
    "a digit that is no number": (lambda it: it.get_allocation("web/²"), "expected an allocation such as"),
    "too much for one message": (lambda it: it.put_variable("a", "x" * (17 << 20)), "too large"),
    "a bound of nothing": (lambda it: it.at_most(0), "timeout_s: expected seconds, more than 0"),
    "a bound that is no number": (lambda it: it.at_most(math.nan), "timeout_s: "),
    "a bound that never comes": (lambda it: it.at_most(math.inf), "timeout_s: "),
    "no bound": (lambda it: it.at_most(None), "timeout_s: "),
}


@pytest.mark.parametrize(("use", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_argument_is_named_and_nothing_is_done(
    client: sync.Client, peer: FakePeer, use: Use, said: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        use(client)
    assert said in caught.value.message
    assert peer.world.writes == 0


@pytest.mark.parametrize(
    "endpoint", ["localhost", "http://127.0.0.1:7400", "", ":7400", "127.0.0.1:0", "127.0.0.1:99999", "a b:1", 7400]
)
def test_an_endpoint_that_is_none_is_refused_before_anybody_waits(endpoint: Any) -> None:
    with pytest.raises(InvalidError, match="endpoint: expected HOST:PORT"):
        aio.Client([endpoint])


@pytest.mark.parametrize("endpoint", ["[::1]:7400", "p1:7400", "peer.example.org:65535"])
def test_an_endpoint_may_be_a_name_or_any_address(endpoint: str) -> None:
    assert aio.Client(endpoint).endpoints == (endpoint,)


def test_the_port_of_something_else_is_called_so() -> None:
    """As that of the gateway, or of a peer's metrics."""
    import http.server

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        serving = threading.Thread(target=other.serve_forever, daemon=True)
        serving.start()
        try:
            it = sync.Client(f"127.0.0.1:{other.server_port}", timeout_s=1)
            with it, pytest.raises(NoLeaderError, match="no gRPC is spoken there"):
                it.list_jobs()
        finally:
            other.shutdown()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("ipv4:127.0.0.1:7400: Socket closed", "wants a certificate"),
        ("SSL_ERROR_SSL: WRONG_VERSION_NUMBER: Invalid certificate verification context", "no TLS is spoken there"),
        ("errors resolving p9:7400: hostname lookup error", "no such host"),
        (
            "SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED: self signed certificate",
            "its certificate is of another authority",
        ),
    ],
)
def test_why_a_peer_cannot_be_reached_is_said_in_words(said: str, words: str) -> None:
    error = nobody({"p1:7400": UnknownOutcomeError(f"no answer: {said}", reason=UNCONNECTED)}, 2.0)
    assert words in error.message


# ---------------------------------------------------------------------------- closing


async def test_a_closed_client_says_so(peer: FakePeer) -> None:
    it = aio.Client(peer.address)
    await it.list_jobs()
    await it.close()
    await it.close()
    for call in (it.list_jobs(), anext(it.watch_events(after_index=0)), it.run_in("web", ["x"])):
        with pytest.raises(PreconditionError) as caught:
            await call
        assert caught.value.reason == CLOSED


@pytest.mark.filterwarnings("error")
def test_a_closed_blocking_client_says_so(peer: FakePeer) -> None:
    it = sync.Client(peer.address)
    it.list_jobs()
    it.close()
    it.close()
    for use in (
        it.list_jobs,
        lambda: next(it.watch_events()),
        lambda: next(it.logs("web/0")),
        lambda: it.exec("web", ["x"]),
        lambda: it.port_forward("web", 80).start(),
    ):
        with pytest.raises(PreconditionError) as caught:
            use()
        assert caught.value.reason == CLOSED


def heard_by(peer: FakePeer) -> asyncio.Event:
    """Set once it was called; it never answers."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()

    def tell(_method: str) -> None:
        loop.call_soon_threadsafe(arrived.set)

    peer.silent, peer.on_call = True, tell
    return arrived


async def test_a_write_that_is_under_way_when_the_client_is_closed_has_an_unknown_outcome(peer: FakePeer) -> None:
    arrived = heard_by(peer)
    it = aio.Client(peer.address, timeout_s=60)
    writing = asyncio.create_task(it.submit(job_spec(), request_id="mine"))
    await arrived.wait()
    await it.close()
    with pytest.raises(UnknownOutcomeError) as caught:
        await writing
    assert caught.value.metadata["request_id"] == "mine"


async def test_a_watch_ends_with_its_client(peer: FakePeer) -> None:
    arrived = heard_by(peer)
    it = aio.Client(peer.address, timeout_s=60)
    watching = asyncio.ensure_future(anext(it.watch_events(after_index=0)))
    await arrived.wait()
    await it.close()
    with pytest.raises(PreconditionError) as caught:
        await watching
    assert caught.value.reason == CLOSED


def test_threads_that_wait_when_the_client_is_closed_are_told(peer: FakePeer) -> None:
    peer.silent, arrived = True, threading.Semaphore(0)

    def tell(_method: str) -> None:
        arrived.release()

    peer.on_call = tell
    it = sync.Client(peer.address, timeout_s=60)
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(it.submit, job_spec(f"j{number}")) for number in range(3)]
        for _ in waiting:
            assert arrived.acquire(timeout=30)
        closing = threads.submit(it.close)
        for one in waiting:
            with pytest.raises(UnknownOutcomeError):
                one.result(timeout=30)
        closing.result(timeout=30)
    it.close()


def test_a_program_that_closes_nothing_ends(peer: FakePeer) -> None:
    """It waited for ever: the iterator was closed when its thread had stopped for good."""
    code = f"""
from raftsman import SyncClient
client = SyncClient({peer.address!r})
watching = client.watch_events(after_index=0)
print(next(watching).index)
"""
    peer.world.events.append(Event(index=7, sequence=0, time_ms=1, kind="job.submitted"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


# ---------------------------------------------------------------------------- forks


def _ran(script: str, peer: FakePeer) -> tuple[int, str, str]:
    head = f"""
import asyncio, os, sys
from raftsman import Client, SyncClient, errors
AT = {peer.address!r}
def fork(then):
    sys.stdout.flush()
    if child := os.fork():
        print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    else:
        then()
        sys.stdout.flush()
        sys.exit(0)  # not os._exit: what is called at the end must not hang, or say anything
def told(use):
    try:
        print("answered", type(use()).__name__)
    except errors.RaftsmanError as error:
        print(type(error).__name__, error.reason)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", head + script],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_child_of_a_fork_ends_quietly_and_the_parent_goes_on(peer: FakePeer) -> None:
    script = """
with SyncClient(AT, timeout_s=20) as client:
    told(client.list_jobs)
    for _ in range(5):
        fork(lambda: asyncio.run(asyncio.to_thread(int)))
    told(client.list_jobs)
"""
    assert _ran(script, peer) == (0, "answered JobList\n" + "child 0\n" * 5 + "answered JobList\n", "")


@pytest.mark.parametrize(
    "use", ["client.list_jobs()", "SyncClient(AT).list_jobs()", "asyncio.run(Client(AT).list_jobs())"]
)
def test_a_child_of_a_fork_is_told_that_no_client_works_there(peer: FakePeer, use: str) -> None:
    """The client of the parent waited for ever there, a new one until its time was up."""
    script = f"""
client = SyncClient(AT, timeout_s=20)
client.list_jobs()
fork(lambda: told(lambda: {use}))
"""
    assert _ran(script, peer) == (0, "PreconditionError FORKED\nchild 0\n", "")


def test_a_child_of_a_fork_is_told_so_too_where_the_parents_client_was_closed(peer: FakePeer) -> None:
    """gRPC's threads may still be ending: one child in three waited until its time was up."""
    script = """
with SyncClient(AT, timeout_s=20) as client:
    told(client.list_jobs)
fork(lambda: told(SyncClient(AT, timeout_s=20).list_jobs))
"""
    assert _ran(script, peer) == (0, "answered JobList\nPreconditionError FORKED\nchild 0\n", "")


def test_a_child_of_a_fork_uses_its_own_client_where_the_parent_has_used_none(peer: FakePeer) -> None:
    script = """
client = SyncClient(AT, timeout_s=20)
fork(lambda: told(SyncClient(AT, timeout_s=20).list_jobs))
told(client.list_jobs)
"""
    assert _ran(script, peer) == (0, "answered JobList\nchild 0\nanswered JobList\n", "")


# ---------------------------------------------------------------------------- loops and threads


async def test_a_blocking_client_may_be_closed_where_an_event_loop_runs(peer: FakePeer) -> None:
    """As in a notebook."""
    with sync.Client(peer.address, timeout_s=20) as it:
        it.list_jobs()
    with pytest.raises(PreconditionError) as caught:
        it.list_jobs()
    assert caught.value.reason == CLOSED


def test_an_asyncio_client_goes_on_in_the_next_event_loop(peer: FakePeer) -> None:
    it = aio.Client(peer.address)
    for _ in range(3):
        asyncio.run(it.list_jobs())
    assert len(peer.calls) == 3
    asyncio.run(it.close())


async def test_an_asyncio_client_is_for_one_running_loop_and_says_so(peer: FakePeer) -> None:
    it = aio.Client(peer.address)
    await it.list_jobs()
    with pytest.raises(PreconditionError, match="make one for each"):
        await asyncio.to_thread(asyncio.run, it.list_jobs())
    await it.list_jobs()
    await it.close()


def test_many_threads_share_one_blocking_client_and_several_live_side_by_side(peer: FakePeer) -> None:
    clients = [sync.Client(peer.address, timeout_s=20) for _ in range(3)]
    with ThreadPoolExecutor(12) as threads:
        done = [threads.submit(clients[at % 3].submit, job_spec(f"j{at}")) for at in range(60)]
        assert all(one.result(timeout=60).changed for one in done)
    assert peer.world.writes == 60
    for one in clients:
        one.close()
