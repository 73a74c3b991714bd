"""Hands on tasks of a real cluster: exec, cp, port-forward, top and drains, while processes die in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest
import pytest_asyncio

from orchestrator.client.sessions import Session
from orchestrator.client.sync import Client as SyncClient
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import InvalidError, PreconditionError, RaftsmanError
from orchestrator.contract.model import (
    AllocationId,
    AllocState,
    Disruption,
    GroupSpec,
    JobSpec,
    PortSpec,
    Resources,
    RestartPolicy,
    TaskSpec,
)
from orchestrator.contract.rollouts import UpdateSpec
from orchestrator.ops.dev import LocalCluster
from orchestrator.state.features import SURGING_DRAINS
from tests.integration.test_driver_contract import IMAGE, test_image

__all__ = ["test_image"]

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

HTTPD = (
    "mkdir -p /tmp/www-$P; echo page-$RAFTSMAN_ORDINAL > /tmp/www-$P/page; "
    "exec busybox httpd -f -p 127.0.0.1:$P -h /tmp/www-$P"
)


def web(name: str, image: str = "") -> JobSpec:
    """Two instances that serve a page on loopback: their own, or the host's."""
    task = TaskSpec(
        name="main",
        image=image,
        command=("sh", "-c", "echo up; P=$RAFTSMAN_PORT_HTTP; " + HTTPD),
        resources=Resources(cpu_millis=10, memory_mib=16),
    )
    ports = (PortSpec(label="http", to=8000),)
    restart = RestartPolicy(delay_ms=100)
    group = GroupSpec(name="main", count=2, tasks=(task,), ports=ports, restart=restart)
    return JobSpec(name=name, groups=(group,))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def cluster(test_image: str) -> AsyncIterator[LocalCluster]:
    async with LocalCluster(peers=3, agents=2) as made:
        await made.client.submit_many([web("box", IMAGE), web("proc")])
        for job in ("box", "proc"):
            await running(made, job, 2)
        yield made


async def running(cluster: LocalCluster, job: str, count: int) -> None:
    async with asyncio.timeout(120):
        while True:
            found = (await cluster.client.list_allocations(job=job, live_only=True)).allocations
            if sum(one.state is AllocState.RUNNING for one in found) == count:
                return
            await asyncio.sleep(0.1)


async def raftsman(cluster: LocalCluster, *arguments: str, given: bytes = b"") -> tuple[int, bytes, str]:
    """(exit code, output, errors) of the command line."""
    env = {
        **os.environ,
        "RAFTSMAN_CONFIG_DIR": str(cluster.data / "config"),
        "RAFTSMAN_ENDPOINTS": ",".join(cluster.endpoints),
        "RAFTSMAN_TLS_DIR": str(cluster.tls_directory),
    }
    command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, input=given, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr.decode()


async def line(session: Session) -> bytes:
    async with asyncio.timeout(60):
        said = b""
        while not said.endswith(b"\n"):
            piece = await session.read()
            assert piece is not None, said
            said += piece[1]
        return said


def written_by(pid: int) -> int:
    """Bytes, of a process of this machine."""
    for text in Path(f"/proc/{pid}/io").read_text().splitlines():
        if text.startswith("wchar: "):
            return int(text.removeprefix("wchar: "))
    return 0


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def over(session: Session) -> RaftsmanError:
    """How a session ends, that does not end as it should."""
    with pytest.raises(RaftsmanError) as caught:
        async with asyncio.timeout(60):
            while await session.read() is not None:
                pass
    return caught.value


@pytest.mark.parametrize("job", ["box", "proc"])
async def test_a_command_goes_in_with_its_input_and_comes_back_with_its_exit_code(
    cluster: LocalCluster, job: str
) -> None:
    data = os.urandom(1 << 20)
    code, out, err = await raftsman(
        cluster, "exec", "-i", job, "--", "sh", "-c", "cat; echo end >&2; exit 7", given=data
    )
    assert (code, err) == (7, "end\n")
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
    found = await cluster.client.run_in(f"{job}/1", ["sh", "-c", "echo $RAFTSMAN_ALLOC_ID"])
    assert (found.exit_code, found.stdout) == (0, f"{job}/main/1\n".encode())


@pytest.mark.parametrize("job", ["box", "proc"])
async def test_files_go_both_ways(cluster: LocalCluster, job: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "data").write_bytes(os.urandom(700_000))
    (source / "run").write_text("#!/bin/sh\necho ran\n")
    (source / "run").chmod(0o750)
    there = "/tmp" if job == "box" else "."
    assert (await raftsman(cluster, "cp", str(source), f"{job}/0:{there}/copy"))[0] == 0
    code, out, err = await raftsman(cluster, "exec", f"{job}/0", "--", f"{there}/copy/run")
    assert (code, out) == (0, b"ran\n"), err
    code, _, err = await raftsman(cluster, "cp", f"{job}/0:{there}/copy/.", str(tmp_path / "back"))
    assert code == 0, err
    assert "2 files, 7000" in err
    assert (tmp_path / "back" / "deep" / "data").read_bytes() == (source / "deep" / "data").read_bytes()
    assert (tmp_path / "back" / "run").stat().st_mode & 0o777 == 0o750
    code, _, err = await raftsman(cluster, "cp", f"{job}/0:/nowhere", str(tmp_path))
    assert (code, "there is no /nowhere" in err) == (1, True)
    os.mkfifo(source / "pipe")
    code, _, err = await raftsman(cluster, "cp", str(source / "pipe"), f"{job}/0:{there}/pipe")
    assert (code, "nothing was copied" in err) == (1, True), "what was named is left out"
    assert (await raftsman(cluster, "cp", str(source), f"{job}/0:{there}/again"))[0] == 0, "other files are there"


@pytest.mark.parametrize("job", ["box", "proc"])
async def test_many_connections_reach_a_port_at_once(cluster: LocalCluster, job: str) -> None:
    async def page(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /page HTTP/1.0\r\n\r\n")
        said = await reader.read(-1)
        writer.close()
        return said.rpartition(b"\n\n" if b"\r\n\r\n" not in said else b"\r\n\r\n")[2]

    told: list[RaftsmanError] = []
    async with asyncio.timeout(60), cluster.client.port_forward(f"{job}/1", "http", told=told.append) as forward:
        pages = await asyncio.gather(*(page(forward.port) for _ in range(12)))
    assert (pages, told) == ([b"page-1\n"] * 12, [])
    async with asyncio.timeout(60), cluster.client.port_forward(f"{job}/1", 9, told=told.append) as forward:
        with contextlib.suppress(ConnectionError):
            assert await page(forward.port) == b""
    assert told[0].reason == "NO_LISTENER"
    with pytest.raises(InvalidError, match="loopback only"):
        cluster.client.port_forward(job, 80, host="0.0.0.0")


async def test_a_label_that_nothing_has_is_refused_at_the_start(cluster: LocalCluster) -> None:
    code, out, err = await raftsman(cluster, "port-forward", "proc", "nonsense")
    assert (code, out) == (2, b"")
    assert "has no port 'nonsense' (its ports: http)" in err


async def test_the_blocking_client_enters_tasks_too(cluster: LocalCluster) -> None:
    def talk() -> tuple[list[bytes], int | None, bytes]:
        with SyncClient(cluster.endpoints, tls=TlsFiles.in_directory(cluster.tls_directory)) as client:
            with client.exec("proc/1", ["cat"], stdin=True) as session:
                session.send(b"to and fro")
                session.end_input()
                said = []
                while (piece := session.read()) is not None:
                    said.append(piece[1])
            with client.port_forward("proc/1", "http") as forward:
                page = urllib.request.urlopen(f"http://{forward.address}/page", timeout=30).read()
        return said, session.exit_code, page

    said, exit_code, page = await asyncio.to_thread(talk)
    assert (b"".join(said), exit_code, page) == (b"to and fro", 0, b"page-1\n")


async def test_a_slow_reader_slows_down_the_writer(cluster: LocalCluster) -> None:
    """Two windows of the transport are all that is on its way."""
    async with await cluster.client.exec(
        "proc/0", ["sh", "-c", "echo $$; exec head -c 2000000000 /dev/zero"]
    ) as session:
        pid = int(await line(session))
        written = 0
        async with asyncio.timeout(60):
            while True:
                before = written
                await asyncio.sleep(0.5)
                written = written_by(pid)
                if before == written > 0:
                    break
        assert written < 64 << 20, "it waits although nobody reads"


async def test_a_command_ends_with_its_container(cluster: LocalCluster) -> None:
    async with await cluster.client.exec("box/0", ["sh", "-c", "echo on; sleep 600"]) as session:
        assert await line(session) == b"on\n"
        engine = docker.from_env()
        try:
            (container,) = engine.containers.list(
                filters={"label": ["raftsman.allocation=box/main/0", f"raftsman.node={session.started.node_id}"]}
            )
            container.kill()
        finally:
            engine.close()
        error = await over(session)
    assert error.reason == "TASK_ENDED"
    assert "killed by signal 9" in error.message
    assert error.metadata["exit_code"] == "137"
    await running(cluster, "box", 2)


async def test_a_session_outlives_the_leader_or_says_why_not(cluster: LocalCluster) -> None:
    sessions = [await cluster.client.exec("proc/0", ["cat"], stdin=True)]
    clients = [cluster.new_client() for _ in range(1)]
    try:
        for peer in cluster.peers:
            from orchestrator.client.aio import Client

            clients.append(Client([peer.address], tls=cluster.tls))
            sessions.append(await clients[-1].exec("proc/0", ["cat"], stdin=True))
        killed = await cluster.kill_leader()
        went_on, lost = 0, []
        for session in sessions:
            await session.send(b"still here\n")
            try:
                assert await line(session) == b"still here\n"
                went_on += 1
            except PreconditionError as error:
                lost.append(error)
        assert went_on >= 2, "those through other peers"
        assert 1 <= len(lost) <= 2, "that through the leader itself"
        assert all(error.reason == "SESSION_LOST" and "broke" in error.message for error in lost)
    finally:
        for session in sessions:
            session.close()
        for client in clients:
            await client.close()
    await cluster.restart(killed)
    await cluster.wait_ready()


async def test_a_command_ends_with_its_agent_and_leaves_nothing_behind(cluster: LocalCluster) -> None:
    where = (await cluster.client.get_allocation("proc/main/1")).allocation
    async with await cluster.client.exec("proc/1", ["sh", "-c", "sleep 86399 & echo $!; sleep 86398"]) as session:
        child = int(await line(session))
        await cluster.kill_agent(where.node_name)
        error = await over(session)
    assert error.reason == "SESSION_LOST"
    assert f"agent of node {where.node_name} went away" in error.message
    async with asyncio.timeout(30):
        while lives(child):
            await asyncio.sleep(0.05)
    await cluster.restart_agent(where.node_name)
    await cluster.wait_ready()
    assert (await cluster.client.get_allocation("proc/main/1")).allocation.attempt == where.attempt
    async with asyncio.timeout(60):
        while True:
            try:
                assert (await cluster.client.run_in("proc/1", ["echo", "back"])).stdout == b"back\n"
                break
            except PreconditionError as error:
                assert error.reason in ("NODE_UNREACHABLE", "NOT_RUNNING"), error
                await asyncio.sleep(0.2)


async def test_a_terminal_is_real(cluster: LocalCluster) -> None:
    """The command line on a terminal of its own: raw keys, a size, Ctrl-C that goes to the command."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
    env = {
        **os.environ,
        "RAFTSMAN_CONFIG_DIR": str(cluster.data / "config"),
        "RAFTSMAN_ENDPOINTS": ",".join(cluster.endpoints),
        "RAFTSMAN_TLS_DIR": str(cluster.tls_directory),
        "TERM": "vt100",
    }
    command = [sys.executable, "-m", "orchestrator.cli.main", "exec", "-it", "box", "--", "sh"]
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    said = b""

    async def hear() -> None:
        nonlocal said
        try:
            said += await asyncio.to_thread(os.read, master, 4096)
        except OSError as error:  # nobody holds the other end
            raise AssertionError(f"the command ended with {await process.wait()} after {said!r}") from error

    async def until_said(what: bytes) -> None:
        async with asyncio.timeout(60):
            while what not in said:
                await hear()

    try:
        os.write(master, b"stty size; echo $TERM\n")
        await until_said(b"31 97\r\n")
        await until_said(b"vt100\r\n")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 120, 0, 0))
        process.send_signal(signal.SIGWINCH)
        while b"44 120\r\n" not in said:
            os.write(master, b"stty size\n")
            await asyncio.sleep(0.1)
            await hear()
        os.write(master, b"sh -c 'echo begin; exec sleep 600'\n")
        await until_said(b"begin\r\n")
        os.write(master, b"\x03")
        await until_said(b"^C")
        os.write(master, b"exit 9\n")
        async with asyncio.timeout(60):
            assert await process.wait() == 9
    finally:
        if process.returncode is None:
            process.kill()
        os.close(master)


async def test_usage_is_known_at_once(cluster: LocalCluster) -> None:
    code, out, err = await raftsman(cluster, "top", "-o", "json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["nodes"]) + len(found["unknown"]) == 2
    tasks = [task for node in found["nodes"] for task in node["tasks"]]
    assert {task["source"] for task in tasks} <= {"cgroup", "processes", "engine"}
    assert {(task["id"]["job"]) for task in tasks} == {"box", "proc"}
    code, out, _ = await raftsman(cluster, "top", "tasks", "--job", "box", "--sort", "memory")
    assert (code, out.count(b"box/main/")) == (0, 2)


async def test_logs_of_all_instances_come_together(cluster: LocalCluster) -> None:
    code, out, err = await raftsman(cluster, "logs", "proc", "--since", "1h", "-t")
    assert code == 0, err
    lines = sorted(text.split(b"Z ", 1)[1] for text in out.splitlines())
    assert set(lines) == {b"proc/main/0 | up", b"proc/main/1 | up"}
    assert (await raftsman(cluster, "logs", "box", "--since", "2100-01-01"))[1] == b""


async def test_a_drain_shows_what_holds_it_up_and_ends_at_its_deadline(cluster: LocalCluster) -> None:
    """It and those after it stop what the others need."""
    client = cluster.client
    spec = JobSpec(
        name="kept",
        groups=web("kept").groups,
        disruption=Disruption(max_unavailable=0),
    )
    await client.submit(spec)
    await running(cluster, "kept", 2)
    node = (
        await client.get_allocation(AllocationId(namespace="default", job="kept", group="main", ordinal=0))
    ).allocation
    code, _, err = await raftsman(cluster, "node", "drain", node.node_name)
    assert code == 0
    assert "kept/main/0: budget: its disruption budget keeps" in err
    code, _, err = await raftsman(cluster, "node", "drain", node.node_name, "--wait", "--timeout", "1s")
    assert code == 5
    assert "still there" in err
    code, _, err = await raftsman(cluster, "node", "drain", node.node_name, "--deadline", "1s", "--wait")
    assert code == 0, err
    assert "nothing runs there any more" in err
    await running(cluster, "kept", 2)
    code, _, err = await raftsman(cluster, "node", "drain", node.node_name, "--cancel")
    assert (code, err) == (0, f"{node.node_name}: the drain is cancelled, in use again\n")


async def test_a_drain_of_a_group_that_may_surge_takes_nobody_away(cluster: LocalCluster) -> None:
    """Sampled all the while: whoever asks finds both of them ready."""
    client = cluster.client
    await client.stop_job("kept")  # its budget would hold this drain up
    (group,) = web("surged").groups
    await client.submit(
        JobSpec(name="surged", groups=(replace(group, update=UpdateSpec(max_surge=1, max_unavailable=0)),))
    )

    async def ready() -> dict[int, str]:
        listed = (await client.list_allocations(job="surged", live_only=True)).allocations
        return {one.id.ordinal: one.node_name for one in listed if one.ready}

    async with asyncio.timeout(60):
        while len(before := await ready()) < 2:
            await asyncio.sleep(0.1)
        while (await client.cluster_status()).feature_level < SURGING_DRAINS:  # both peers have said what they know
            await asyncio.sleep(0.1)
    node = before[0]
    draining = asyncio.ensure_future(raftsman(cluster, "node", "drain", node, "--wait"))
    samples = 0
    while not draining.done():
        assert len(await ready()) == 2
        samples += 1
    code, _, err = await draining
    assert code == 0, err
    assert samples > 5
    assert "surged/main/0 next: its successor gets a node now" in err or "surged/main/0 waits: its successor on " in err
    after = await ready()
    assert node not in after.values()
    assert (await raftsman(cluster, "node", "drain", node, "--cancel"))[0] == 0
