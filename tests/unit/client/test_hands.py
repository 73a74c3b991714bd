"""Hands on tasks from Python: both clients have the same calls, and the blocking one's sessions and forwards work."""

from __future__ import annotations

import contextlib
import inspect
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from orchestrator.client import aio, sync
from orchestrator.contract import model
from orchestrator.contract.errors import InvalidError, NotFoundError, PreconditionError, RaftsmanError
from orchestrator.contract.model import AllocState
from orchestrator.contract.v1.session_pb2 import SessionOpen
from tests.unit.client.fake import FakePeer, World

PORTS = (model.PortBinding(label="http", host_port=20_000, to=80),)


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    id_ = model.AllocationId(namespace="default", job="web", group="main", ordinal=0)
    running = model.Allocation(id=id_, job_uid="u1", attempt=3, state=model.AllocState.RUNNING, ports=PORTS)
    made = FakePeer(World(allocations=[running]))
    yield made
    made.kill()


@pytest.fixture
def client(peer: FakePeer) -> Iterator[sync.Client]:
    with sync.Client(peer.address, timeout_s=20) as made:
        yield made


def opened(peer: FakePeer) -> list[object]:
    return [request for method, request in peer.calls if method == "Session"]


def test_both_clients_have_the_same_calls_with_the_same_parameters() -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        return {
            name: [*inspect.signature(getattr(kind, name)).parameters][1:]
            for name in dir(kind)
            if not name.startswith("_") and callable(getattr(kind, name))
        }

    assert calls(sync.Client) == calls(aio.Client)


def test_a_command_is_talked_to(client: sync.Client, peer: FakePeer) -> None:
    with client.exec("web/0", ["cat"], stdin=True, tty=True, rows=24, columns=80, task="main") as session:
        assert (session.started.node, session.started.attempt, session.exit_code) == ("one", 3, None)
        session.send(b"hello")
        assert session.read() == (False, b"hello")
        session.resize(50, 100)
        assert session.read() == (True, b"50 x 100")
        session.end_input()
        assert session.read() == (False, b"")
        assert session.read() is None
        assert session.exit_code == 7
    (asked,) = opened(peer)
    assert isinstance(asked, SessionOpen)
    assert (list(asked.exec.command), asked.exec.tty, asked.exec.stdin, asked.task) == (["cat"], True, True, "main")
    assert (asked.exec.size.rows, asked.exec.size.columns) == (24, 80)


@pytest.mark.parametrize(
    ("successor", "meant"), [(AllocState.STARTING, 3), (AllocState.FAILED, 3), (AllocState.RUNNING, 4)]
)
def test_while_a_successor_starts_or_has_failed_the_one_that_runs_is_meant(
    client: sync.Client, peer: FakePeer, successor: AllocState, meant: int
) -> None:
    """Nothing ran, it said, in every rollout that brings successors first."""
    (running,) = peer.world.allocations
    peer.world.allocations = [running, replace(running, attempt=4, state=successor)]
    assert client.find_running("web/0")[1] == meant
    assert client.find_running("web", running=False)[1] == meant


def test_one_thread_reads_while_another_one_sends(client: sync.Client) -> None:
    heard = bytearray()
    with client.exec("web", ["cat"], stdin=True) as session:

        def hear() -> None:
            while (piece := session.read()) is not None:
                heard.extend(piece[1])

        reading = threading.Thread(target=hear)
        reading.start()
        for _ in range(40):
            session.send(b"x" * 50_000)
        session.end_input()
        reading.join(30)
        assert not reading.is_alive()
    assert len(heard) == 2_000_000


def test_a_signal_ends_it_and_a_closed_session_is_closed_twice(client: sync.Client) -> None:
    with client.exec("web", ["sleep", "600"]) as session:
        session.signal("SIGINT")
        assert session.read() is None
        assert session.exit_code == 130
    session.close()


def test_what_cannot_begin_says_why(client: sync.Client) -> None:
    with pytest.raises(NotFoundError, match="there is no nosuch"):
        client.exec("web", ["nosuch"])
    with pytest.raises(NotFoundError, match="no job 'other'"):
        client.exec("other", ["ls"])


def test_a_session_may_outlive_its_client(peer: FakePeer) -> None:
    client = sync.Client(peer.address, timeout_s=20)
    session = client.exec("web", ["cat"], stdin=True)
    forward = client.port_forward("web", 80)
    forward.start()
    client.close()
    session.close()
    forward.close()


def test_a_port_is_forwarded_until_the_end(client: sync.Client, peer: FakePeer) -> None:
    with client.port_forward("web", "http") as forward:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", forward.port), timeout=20) as connection:
                connection.sendall(b"to and fro")
                connection.shutdown(socket.SHUT_WR)
                said = b""
                while piece := connection.recv(4096):
                    said += piece
                assert said == b"to and fro"
        assert forward.address == f"127.0.0.1:{forward.port}"
    forward.close()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", forward.port), timeout=20)
    assert [asked.connect.label for asked in opened(peer) if isinstance(asked, SessionOpen)] == ["http", "http"]


def test_a_connection_that_reaches_nothing_is_told(client: sync.Client, peer: FakePeer) -> None:
    told: list[RaftsmanError] = []
    heard = threading.Event()

    def tell(error: RaftsmanError) -> None:
        told.append(error)
        heard.set()

    with client.port_forward("web", 81, told=tell) as forward:
        peer.fail("Session", PreconditionError("nobody listens", reason="NO_LISTENER"))
        with (
            socket.create_connection(("127.0.0.1", forward.port), timeout=20) as connection,
            contextlib.suppress(ConnectionError),
        ):
            assert connection.recv(1) == b"", "it ends without a byte, or with a reset"
        assert heard.wait(20)
    assert [error.reason for error in told] == ["NO_LISTENER"]


@pytest.mark.parametrize(
    ("remote", "more", "said"),
    [
        ("nonsense", {}, "web/main/0 has no port 'nonsense' .its ports: http."),
        (0, {}, "0 is no port"),
        (80, {"local": 70_000}, "local: 70000 is no port"),
        (80, {"host": "0.0.0.0"}, "loopback only"),
    ],
)
def test_what_cannot_be_forwarded_does_not_start(
    client: sync.Client, remote: int | str, more: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidError, match=said), client.port_forward("web", remote, **more):  # type: ignore[arg-type]
        pass
