"""The workload kit outside of a cluster: it works within the process, and needs the standard library alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.workload import board
from orchestrator.client import workload as kit
from orchestrator.client.workload import Address, PortError, Workload, WorkloadError


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAFTSMAN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(kit, "_own", None)


def test_importing_it_loads_the_standard_library_alone() -> None:
    script = (
        "import sys; before = set(sys.modules); from raftsman import workload; workload.ready()\n"
        "known = set(sys.stdlib_module_names) | {'raftsman', 'orchestrator'}\n"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - known))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_one_file_is_enough(tmp_path: Path) -> None:
    copied = tmp_path / "workload.py"
    copied.write_text(Path(kit.__file__).read_text())
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import workload; print(workload.ready(), workload.allocate_port() > 0)"
    )
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]


def test_saying_something_to_nobody_is_remembered_and_not_heard() -> None:
    assert not kit.ready()
    assert kit.current().is_ready
    assert not kit.heartbeat()
    assert not kit.report_metrics({"queue": 2}, load=0.5)
    assert kit.current().metrics == {"queue": 2, "load": 0.5}
    assert not kit.graceful_shutdown()
    assert not kit.current().is_ready


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"a b": 1}, "metric 'a b': expected 1 to 64 letters"),
        ({"1a": 1}, "metric '1a': expected"),
        ({"a" * 65: 1}, "expected 1 to 64 letters"),
        ({"a": "1"}, "metric a: expected a finite number, got '1'"),
        ({"a": float("nan")}, "metric a: expected a finite number, got nan"),
        ({"a": 10**400}, "metric a: expected a number below 1.8e308"),
        ({"a": True}, "metric a: expected a finite number, got True"),
        ({f"m{number}": 1 for number in range(65)}, "at most 64 metrics"),
    ],
)
def test_what_is_no_metric_is_refused_outside_of_a_cluster_too(metrics: dict[str, Any], said: str) -> None:
    """It was found out by the first agent that heard it."""
    with pytest.raises(WorkloadError, match=said):
        kit.report_metrics(metrics)
    assert kit.current().metrics == {}


def test_the_kit_judges_metrics_as_agents_do() -> None:
    assert (kit._METRIC.pattern, kit.METRICS_MAX) == (board.METRIC.pattern, board.METRICS_MAX)
    assert kit.report_metrics({f"m{number}": number for number in range(64)}) is False
    assert kit.report_metrics(m0=5, m1=0.5) is False


def test_ports_are_this_processes_alone_and_tried_before_they_are_given() -> None:
    first = kit.allocate_port((17_000, 17_050))
    with pytest.raises(PortError, match=f"Port {first} already allocated"):
        kit.allocate_specific_port(first)
    udp = kit.allocate_udp_port(range(first, first + 1))  # another protocol
    assert udp == first
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=f"Port {port} unavailable"):
            kit.allocate_port(port)
        with pytest.raises(PortError, match="unavailable"):
            kit.allocate_game_port(port)
    assert kit.release_port(first)
    assert not kit.release_port(first)
    assert kit.allocate_port((first, first + 1)) == first
    with pytest.raises(PortError, match="expected a range"):
        kit.allocate_port((10, 10))
    held = {kit.allocate_game_port((18_000, 18_003)) for _ in range(3)}
    assert held == {18_000, 18_001, 18_002}
    with pytest.raises(PortError, match="No available ports in range 18000-18003"):
        kit.allocate_port((18_000, 18_003))


def test_facts_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kit.allocation() == kit.Facts()
    given = {
        "RAFTSMAN_ALLOC_ID": "web/api/2", "RAFTSMAN_NAMESPACE": "prod", "RAFTSMAN_ORDINAL": "2",
        "RAFTSMAN_PORT_HTTP": "8080", "RAFTSMAN_SERVICE_MY_DB": "10.0.0.1:5432,[fd00::1]:5432",
        "NVIDIA_VISIBLE_DEVICES": "GPU-1,GPU-2", "RAFTSMAN_ATTEMPT": "nonsense",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    facts = kit.facts()
    assert (facts.alloc_id, facts.ordinal, facts.ports, facts.attempt) == ("web/api/2", 2, {"http": 8080}, 0)
    assert facts.devices == ("GPU-1", "GPU-2")
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "void")  # NVIDIA's word for none
    assert kit.facts().devices == ()
    assert kit.service("my-db") == [Address("10.0.0.1", 5432), Address("fd00::1", 5432)]
    assert str(kit.service("my-db")[1]) == "[fd00::1]:5432"
    with pytest.raises(WorkloadError, match="no agent to ask"):
        kit.service("other")


def test_a_port_is_waited_for_while_the_agent_restarts(tmp_path: Path) -> None:
    """It is gone, then cuts the call off, then answers."""
    path = tmp_path / "agent.sock"
    body = json.dumps({"port": 17_000}).encode()
    asked = threading.Event()

    def agent() -> None:
        asked.wait(10)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.accept()[0].close()
            link, _ = listener.accept()
            link.recv(65_536)
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            link.close()

    serving = threading.Thread(target=agent)
    serving.start()
    task = Workload(str(path), "token")
    assert task.ready() is False  # nobody is there
    asked.set()
    assert task.allocate_port((17_000, 17_100)) == 17_000
    serving.join()


def test_an_agent_that_is_gone_is_not_heard_and_never_an_error_to_speak_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit, "TIMEOUT_S", 0.3)
    gone = Workload(str(tmp_path / "no.sock"), "t")
    assert not gone.ready() and not gone.heartbeat() and not gone.graceful_shutdown()
    with pytest.raises(PortError, match="the agent does not answer"):
        gone.allocate_port()
    with pytest.raises(WorkloadError, match="the agent does not answer"):
        gone.service("db")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n[]", b"garbage", b"HTTP/1.1 x\r\n\r\n{}"])
def test_what_is_no_agent_is_said_to_be_none(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(65_536)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(WorkloadError, match="is no agent"):
            Workload(str(path), "t").service("db")
        thread.join()


def test_a_signal_is_the_wish_to_end_and_the_handler_before_is_called_too() -> None:
    called = []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append("before"))
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        shutdown = kit.shutdown_signal()
        assert shutdown is kit.shutdown_signal()
        assert not shutdown.is_set() and not shutdown.wait(0) and shutdown.grace_s is None

        async def waits() -> None:
            waiting = asyncio.ensure_future(shutdown._awaited())
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(10):
                await waiting
                await shutdown

        asyncio.run(waits())
        assert shutdown.is_set() and shutdown.wait() and called == ["before"]
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)


def test_a_forked_process_hears_of_the_end_itself(tmp_path: Path) -> None:
    """As the workers of a server that forks: the thread that listens stayed with the parent, so that a worker was told
    by the signal alone, if it got one."""
    path = tmp_path / "agent.sock"
    script = """
import os, sys, threading
from raftsman import workload
stop = workload.shutdown_signal(signals=False)
workload.current()._lock.acquire()  # as a thread may hold it at the fork
child = os.fork()
if child == 0:
    assert not stop.is_set()
    assert workload.shutdown_signal(signals=False) is stop
    told = stop.wait(60)
    os._exit(0 if told and stop.grace_s > 0 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        environ = {**os.environ, "RAFTSMAN_WORKLOAD_SOCKET": str(path), "RAFTSMAN_WORKLOAD_TOKEN": "t"}
        with subprocess.Popen([sys.executable, "-c", script], env=environ, stdout=subprocess.PIPE, text=True) as task:
            parent, _ = server.accept()  # is never told
            server.settimeout(60)
            child, _ = server.accept()
            child.recv(65_536)
            child.sendall(b'HTTP/1.1 200 OK\r\n\r\n{"stopping": true, "grace_s": 30}')
            child.close()
            out, _ = task.communicate(timeout=60)
            parent.close()
    assert out == "0\n"


def test_coroutines_have_every_word() -> None:
    words = {name for name in vars(Workload) if name in vars(kit) and not name.startswith("_")}
    assert {"ready", "allocate_specific_port", "notify_shutdown", "shutdown_signal"} <= words
    assert words <= set(dir(kit.aio))


async def test_the_same_words_as_coroutines() -> None:
    assert await kit.aio.allocate_specific_port(17_149) == 17_149
    with pytest.raises(PortError, match="Port 17149 already allocated"):
        await kit.aio.allocate_specific_port(17_149)
    shutdown = await kit.aio.shutdown_signal(signals=False)
    assert shutdown is kit.shutdown_signal() and not shutdown.is_set()
    assert await kit.aio.ready() is False
    port = await kit.aio.allocate_port((17_100, 17_150))
    assert await kit.aio.release_port(port)
    assert await kit.aio.graceful_shutdown() is False
