"""Which connections the calls of a Docker client use, told by an engine that only counts them."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import docker
import pytest

from agent.drivers.docker_client import IDLE_MAX, connect


class _Connection(socketserver.StreamRequestHandler):
    seen: ClassVar[list[list[str]]] = []  # by connection: what it was asked
    gate: ClassVar[threading.Barrier | None] = None

    def handle(self) -> None:
        asked: list[str] = []
        self.seen.append(asked)
        while line := self.rfile.readline():
            while self.rfile.readline() != b"\r\n":
                pass
            asked.append(line.split()[1].decode())
            if self.gate is not None:
                self.gate.wait(30)
            if asked[-1].endswith("/start"):  # an exec: from now on the connection is the command's
                self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nsaid")
                continue
            body = json.dumps({"ApiVersion": "1.41"}).encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Connection]]:
    class Handler(_Connection):
        seen: ClassVar[list[list[str]]] = []
        gate: ClassVar[threading.Barrier | None] = None

    with _Server(str(tmp_path / "s"), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        yield Handler
        server.shutdown()


def inspect_all(api: docker.APIClient, count: int) -> None:
    threads = [threading.Thread(target=api.inspect_container, args=(f"c{number}",)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_calls_about_different_containers_use_one_connection(engine: type[_Connection]) -> None:
    api = connect(30.0)
    before = len(engine.seen)  # the version was asked by the SDK
    for name in "abc":
        api.inspect_container(name)
    assert engine.seen[before:] == [[f"/v1.41/containers/{name}/json" for name in "abc"]]
    api.close()


def test_a_connection_that_became_a_commands_is_used_for_nothing_else(engine: type[_Connection]) -> None:
    api = connect(30.0)
    before = len(engine.seen)
    command: Any = api.exec_start("x", socket=True)
    api.inspect_container("a")
    command._response.close()
    command.close()
    api.inspect_container("b")
    assert engine.seen[before] == ["/v1.41/exec/x/start"]
    assert [path for asked in engine.seen[before + 1 :] for path in asked] == [
        "/v1.41/containers/a/json",
        "/v1.41/containers/b/json",
    ]
    api.close()


def test_more_calls_at_once_than_connections_are_kept_are_no_trouble(
    engine: type[_Connection], caplog: pytest.LogCaptureFixture
) -> None:
    api = connect(30.0)
    before, many = len(engine.seen), IDLE_MAX + 8
    engine.gate = threading.Barrier(many)
    inspect_all(api, many)
    engine.gate = None
    assert len(engine.seen) - before == many
    assert not caplog.records  # urllib3 would warn of each that it closes
    inspect_all(api, IDLE_MAX)
    assert len(engine.seen) - before == many
    api.close()
