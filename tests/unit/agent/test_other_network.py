"""Checks and connections in a network that is not the agent's own, for real where this user may make one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent import other_network
from agent.checks import ask
from agent.config import AgentSettings
from agent.daemon import Agent
from agent.drivers import docker_hands
from agent.hands import HandsError
from agent.other_network import MACHINE, bound_at, connect_in, datagrams_to, step_into_machine
from agent.store import Store
from orchestrator.contract.errors import StartupError
from orchestrator.contract.health import CheckKind, CheckSpec
from tests.integration.agent_fakes import assignment_of, key_of, task_of

SERVERS = """
import asyncio, fcntl, socket, struct
import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc

with socket.socket() as any_:
    fcntl.ioctl(any_, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS: up

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 204 Fine\\r\\n\\r\\n")
    writer.close()

async def main():
    web = await asyncio.start_server(answer, "127.0.0.1", 0)
    rpc = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), rpc)
    port = rpc.add_insecure_port("127.0.0.1:0")
    await rpc.start()
    print(web.sockets[0].getsockname()[1], port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Elsewhere:
    """A process in a network of its own, with an HTTP and a gRPC server."""

    def __init__(self, pid: int, http: int, grpc: int) -> None:
        self.pid, self.http, self.grpc = pid, http, grpc


@pytest_asyncio.fixture
async def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Elsewhere]:
    made = await asyncio.create_subprocess_exec(
        "unshare", "--net", sys.executable, "-c", SERVERS, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert made.stdout is not None
        said = await made.stdout.readline()
        if not said:
            pytest.skip("this user may make no network of its own")
        for pid, where in ((1, made.pid), (made.pid, made.pid)):
            (tmp_path / f"{pid}").mkdir()
            (tmp_path / f"{pid}" / "ns").symlink_to(f"/proc/{where}/ns")
        monkeypatch.setattr(other_network, "PROC", tmp_path)
        http, grpc = said.split()
        yield Elsewhere(made.pid, int(http), int(grpc))
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


async def said(kind: CheckKind, port: int, host: str = MACHINE) -> str:
    check = CheckSpec(kind=kind, port=str(port), timeout_ms=10_000)
    return await ask(check, assignment_of(key_of(), task_of("x")), host, None, "")


async def test_checks_reach_what_the_machine_publishes_from_a_network_of_their_own(elsewhere: Elsewhere) -> None:
    assert step_into_machine() == ""
    for kind, port in (
        (CheckKind.HTTP, elsewhere.http),
        (CheckKind.TCP, elsewhere.http),
        (CheckKind.GRPC, elsewhere.grpc),
    ):
        assert await said(kind, port) == "", kind
        assert await said(kind, port, "127.0.0.1") != "", "it is there and nowhere else"
    assert "refused" in await said(CheckKind.HTTP, 1)
    assert (await said(CheckKind.GRPC, 1)).startswith("UNAVAILABLE")


async def test_where_nobody_may_look_at_process_1_the_kernels_own_network_is_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_network, "PROC", tmp_path)
    (tmp_path / "2").mkdir()

    def refuse(_path: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "readlink", refuse)
    (tmp_path / "2" / "comm").write_text("sh\n")
    assert step_into_machine() == "Permission denied"
    (tmp_path / "2" / "comm").write_text("kthreadd\n")
    assert step_into_machine() == "No such file or directory", "it is process 2's that was looked for"


async def test_a_socket_that_nobody_waits_for_any_more_is_closed(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    really = other_network._socket_in

    def remembered(*arguments: Any) -> Any:
        made.append(really(*arguments))
        return made[0]

    monkeypatch.setattr(other_network, "_socket_in", remembered)
    connecting = asyncio.ensure_future(connect_in(elsewhere.pid, elsewhere.http))
    await asyncio.sleep(0)  # it has begun
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    async with asyncio.timeout(10):
        while not made or made[0].fileno() != -1:
            await asyncio.sleep(0.01)


async def test_listening_in_the_machines_network_and_asking_there(elsewhere: Elsewhere) -> None:
    tcp, udp = await bound_at("127.0.0.9", 5353, machine=True)
    asking = await datagrams_to("127.0.0.9", 5353, machine=True)
    here = await datagrams_to("127.0.0.9", 5353, machine=False)
    loop = asyncio.get_running_loop()
    try:
        with pytest.raises(OSError, match="in use"):
            await bound_at("127.0.0.9", 5353, machine=True)
        with pytest.raises(OSError, match="refused"):  # it is there and nowhere else
            here.send(b"x")
            here.setblocking(True)
            here.recv(1)
        asking.send(b"question")
        async with asyncio.timeout(10):
            assert await loop.sock_recv(udp, 100) == b"question"
            with await connect_in(1, elsewhere.http):  # somebody in the same network
                pass
        assert tcp.getsockname() == ("127.0.0.9", 5353)
    finally:
        for one in (tcp, udp, asking, here):
            one.close()


def published(port: int) -> dict[str, Any]:
    return {
        "Id": "x", "State": {"Pid": 0}, "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {
            "Networks": {"bridge": {"IPAddress": "127.0.0.2"}},
            "Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]},
        },
    }  # fmt: skip


async def test_a_published_port_is_forwarded_by_the_way_that_checks_go(elsewhere: Elsewhere) -> None:
    facts = published(elsewhere.http)
    connection = await docker_hands.connect(facts, 80, MACHINE)
    await connection.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await connection.read()).startswith(b"HTTP/1.1 204")
    await connection.close()
    with pytest.raises(HandsError, match=rf"port 80 of the task \({MACHINE}:1: Connection refused\)"):
        await docker_hands.connect(
            published(1), 80, MACHINE
        )  # and no container's address is tried: it is another's here
    with pytest.raises(HandsError, match="does not publish it"):
        await docker_hands.connect(facts, 81, MACHINE)


async def test_an_agent_that_cannot_step_into_its_machine_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_network, "PROC", tmp_path)  # where nobody is
    settings = AgentSettings(peers="127.0.0.1:1", data=tmp_path, insecure=True, driver="fake", reach=MACHINE)  # type: ignore[arg-type]
    with pytest.raises(StartupError, match=r"machine's network: No such file.*pid: host.*CAP_SYS_ADMIN"):
        await Agent(settings)._drivers(Store(tmp_path))


@pytest.mark.parametrize(
    ("given", "kept"), [("", ""), ("machine", "machine"), ("engine-1", "engine-1"), ("[::1]", "::1")]
)
def test_where_published_ports_are_reached_is_an_address_without_port(tmp_path: Path, given: str, kept: str) -> None:
    settings = AgentSettings(peers="127.0.0.1:1", data=tmp_path, insecure=True, reach=given)  # type: ignore[arg-type]
    assert settings.reach == kept
    with pytest.raises(ValueError, match="without port"):
        AgentSettings(peers="127.0.0.1:1", data=tmp_path, insecure=True, reach="10.0.0.1:80")  # type: ignore[arg-type]
