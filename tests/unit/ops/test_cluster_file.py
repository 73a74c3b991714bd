"""The record of a local cluster, its processes and ports."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from agent.drivers.process_shim import start_time
from orchestrator.contract.errors import CorruptError, StartupError
from orchestrator.ops import dev_command, leftovers
from orchestrator.ops.cluster_file import ClusterFile, ClusterRecord, Member
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.ports import SEARCH, PortBlock, Ports, is_free
from orchestrator.ops.processes import ProcessId, end, gone, is_alive, last_lines, send, spawn, started_s

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; print('up', flush=True); time.sleep(600)"]


def member(name: str = "p1", pid: int = 0) -> Member:
    return Member(
        kind="peer", name=name, address="127.0.0.1:1", http="127.0.0.1:2", argv=("x", "y"), log="/tmp/x.log", pid=pid
    )


def test_the_record_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    file = ClusterFile(tmp_path)
    assert file.load() is None
    record = ClusterRecord(name="dev", driver="auto", fast_failover=False, cluster_id="c", members=(member(pid=7),))
    with file.lock():
        file.save(record)
    assert file.load() == record


@pytest.mark.parametrize(("flags", "text"), [(["--agents", "0"], "1 agent, not 0"), (["--no-gateway"], "a gateway")])
def test_dev_refuses_to_be_told_of_less_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], text: str
) -> None:
    monkeypatch.setattr(dev_command, "LocalCluster", lambda *_, **__: pytest.fail("a cluster was started"))
    members = (dataclasses.replace(member("n1"), kind="agent"), dataclasses.replace(member("gateway"), kind="gateway"))
    file = ClusterFile(tmp_path)
    with file.lock():
        file.save(ClusterRecord(name="dev", driver="auto", fast_failover=False, cluster_id="c", members=members))
    result = CliRunner().invoke(dev_command.command, ["--data", str(tmp_path), *flags])
    assert f"holds a cluster with {text}" in str(result.exception)


def test_replacing_a_member_keeps_the_others_and_their_order() -> None:
    record = ClusterRecord(name="dev", driver="auto", fast_failover=False, members=(member("p1"), member("p2")))
    changed = record.replacing(member("p1", pid=5)).replacing(member("p3"))
    assert [(one.name, one.pid) for one in changed.members] == [("p1", 5), ("p2", 0), ("p3", 0)]


@pytest.mark.parametrize("text", ["{", "{}", '{"format": 1, "members": [{}]}', json.dumps({"format": 99})])
def test_an_unreadable_record_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(CorruptError, match=r"remove it|another --data"):
        ClusterFile(tmp_path).load()


async def test_a_process_outlives_the_loop_that_started_it_and_ends_when_told(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    process = await asyncio.to_thread(lambda: asyncio.run(_spawn(log)))
    assert is_alive(process)
    async with asyncio.timeout(10):
        while last_lines(log) != "up":
            await asyncio.sleep(0.01)
    await end([process])
    assert not is_alive(process)


async def _spawn(log: Path) -> ProcessId:
    return spawn(SLEEP, log)


async def test_a_pid_that_somebody_else_has_now_is_not_ours(tmp_path: Path) -> None:
    process = spawn(SLEEP, tmp_path / "x.log")
    other = dataclasses.replace(process, started=process.started - 60)
    assert not is_alive(other)
    assert not send(other, signal.SIGKILL)
    assert is_alive(process)
    await end([process])


async def test_setting_the_machines_clock_makes_no_process_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What time of day a process began is worked out anew by the kernel whenever the clock is set."""
    process = spawn(SLEEP, tmp_path / "x.log")
    began = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began(self) + 3600)
    assert is_alive(process)
    assert is_alive(ProcessId(process.pid, started_s(process.pid)))
    await end([process])
    assert started_s(process.pid) == 0


async def test_a_process_is_known_by_what_an_older_version_noted_too(tmp_path: Path) -> None:
    process = spawn(SLEEP, tmp_path / "x.log")
    noted = psutil.Process(process.pid).create_time()
    assert is_alive(ProcessId(process.pid, noted))
    assert not is_alive(ProcessId(process.pid, noted + 1))
    await end([ProcessId(process.pid, noted)])
    assert not is_alive(process)


async def test_what_agents_left_running_is_known_by_what_they_noted(tmp_path: Path) -> None:
    process = spawn(SLEEP, tmp_path / "x.log")
    run = tmp_path / "agents" / "n1" / "process" / "r" / "run"
    run.parent.mkdir(parents=True)
    ticks = start_time(process.pid)  # as the process driver notes it
    run.write_text(f"{process.pid} {ticks} {process.pid} {ticks}")
    ((supervisor, task),) = leftovers.tasks(tmp_path)
    assert supervisor == task == process
    assert is_alive(supervisor)
    await end([process])


LATE = """
import socket, sys
print('up', flush=True)
sys.stdin = open(sys.argv[1])
sys.stdin.read()  # a pipe that is opened by the test
server = socket.socket(fileno=3)  # bound by the test, so that nobody else gets the port
server.listen()
open(sys.argv[1]).read()
"""


async def test_a_restarted_process_is_waited_for_until_it_serves(tmp_path: Path) -> None:
    pipe, log = tmp_path / "pipe", tmp_path / "x.log"
    os.mkfifo(pipe)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        process = spawn([sys.executable, "-I", "-S", "-c", LATE, str(pipe)], log, inherit=bound.fileno())
    one = dataclasses.replace(
        member("gateway"), address=f"127.0.0.1:{port}", log=str(log), pid=process.pid, started=process.started
    )
    file = ClusterFile(tmp_path)
    file.save(ClusterRecord(name="dev", driver="auto", fast_failover=False, members=(one,)))
    cluster = LocalCluster.attach(tmp_path)
    waiting = asyncio.ensure_future(cluster.wait_serving("gateway"))
    async with asyncio.timeout(10):
        while last_lines(log) != "up":
            await asyncio.sleep(0.01)
    assert not waiting.done()
    await asyncio.to_thread(lambda: pipe.open("w").close())
    async with asyncio.timeout(10):
        await waiting
    await end([process])
    with pytest.raises(StartupError, match=r"gateway ended; the end of .*x\.log"):
        await cluster.wait_serving("gateway")


async def test_who_else_serves_at_its_address_is_not_taken_for_a_restarted_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        process = spawn([sys.executable, "-I", "-S", "-c", "raise SystemExit('in use')"], tmp_path / "x.log")
        one = dataclasses.replace(
            member("gateway"),
            address=f"127.0.0.1:{other.getsockname()[1]}",
            log=str(tmp_path / "x.log"),
            pid=process.pid,
            started=process.started,
        )
        file = ClusterFile(tmp_path)
        file.save(ClusterRecord(name="dev", driver="auto", fast_failover=False, members=(one,)))
        with pytest.raises(StartupError, match=r"gateway ended; the end of .*x\.log:\nin use"):
            await LocalCluster.attach(tmp_path).wait_serving("gateway")


async def test_a_paused_process_ends_within_the_grace(tmp_path: Path) -> None:
    process = spawn(SLEEP, tmp_path / "x.log")
    send(process, signal.SIGSTOP)
    before = time.monotonic()
    await end([process], grace_s=60)
    assert not is_alive(process)
    assert time.monotonic() - before < 60


async def test_a_killed_child_is_gone_and_not_a_zombie(tmp_path: Path) -> None:
    process = spawn(SLEEP, tmp_path / "x.log")
    send(process, signal.SIGKILL)
    await gone(process)
    assert not send(process, signal.SIGTERM)


def test_ports_prefer_what_was_asked_and_avoid_what_listens() -> None:
    ports = Ports()
    wanted = ports.pick()
    with socket.create_server(("127.0.0.1", wanted)):
        assert not is_free(wanted)
        assert Ports().pick(wanted) > wanted
    assert Ports().pick(wanted) != wanted, "another cluster is about to listen there"
    ports.release()
    again = Ports()
    assert again.pick(wanted) == wanted
    again.release()
    again.avoid([wanted])
    assert again.pick(wanted) != wanted
    again.release()


def test_free_ports_are_never_ephemeral_ones() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = Ports()
    picked = {ports.pick() for _ in range(20)}
    assert len(picked) == 20
    assert all(port in SEARCH and port < low for port in picked)


def test_a_block_of_task_ports_has_one_holder_at_a_time() -> None:
    first = PortBlock.take()
    second = PortBlock.take(first.first)
    try:
        assert second.first != first.first
    finally:
        second.release()
    held = first.first
    first.release()
    again = PortBlock.take(held)
    assert again.first == held
    again.release()


def test_no_block_left_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.ops.ports.TASK_PORTS", range(20_000, 20_000))
    with pytest.raises(StartupError, match="stop one of them"):
        PortBlock.take()
