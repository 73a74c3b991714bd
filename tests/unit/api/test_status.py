from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.api.metrics import Counted, PeerCollector
from orchestrator.api.status import StatusServer
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.state.status import job_status
from tests.unit.api.harness import Api, call

RUNNING, COMPLETE, FAILED = 30, 60, 70


class Served:
    def __init__(self, api: Api, server: StatusServer) -> None:
        self.api = api
        self._server = server

    async def ask(self, text: bytes) -> tuple[str, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        writer.write(text)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.decode().split("\r\n", 1)[0], body

    async def get(self, path: str) -> tuple[str, bytes]:
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def metrics(self) -> dict[str, float]:
        _, body = await self.get("/metrics")
        rows = (line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    api = Api()
    registry = CollectorRegistry()
    registry.register(PeerCollector(api.log.status, api.state_now, clock=lambda: 0.0))
    server = StatusServer(status=api.log.status, registry=registry)
    await server.start("127.0.0.1", 0)
    yield Served(api, server)
    await server.stop()


async def test_a_peer_with_a_leader_is_healthy_and_one_without_says_why(served: Served) -> None:
    line, body = await served.get("/healthz")
    assert line == "HTTP/1.1 200 OK"
    assert json.loads(body)["leader"] == "p1"
    served.api.log.lead(False)
    line, body = await served.get("/healthz")
    assert line == "HTTP/1.1 503 Service Unavailable"
    assert "majority" in json.loads(body)["reason"]


def test_when_certificates_end_is_shown_of_this_peer_and_of_those_that_are_known() -> None:
    """An alert needs it weeks before: afterwards nobody can connect any more."""
    api = Api()
    status = api.log.status()
    (me,) = status.peers
    others = (replace(me, peer_id="p2", cert_expires_ms=8_000), replace(me, peer_id="p3", cert_expires_ms=0))
    registry = CollectorRegistry()
    registry.register(PeerCollector(lambda: replace(status, peers=(me, *others)), api.state_now, cert_expires_ms=7_500))
    ends = {
        peer: registry.get_sample_value("raftsman_certificate_end_seconds", {"peer": peer})
        for peer in ("p1", "p2", "p3")
    }
    assert ends == {"p1": 7, "p2": 8, "p3": None}


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /nope HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"HEAD /healthz HTTP/1.1\r\n\r\n", "200 OK"),
        (b"GET /healthz?x=1 HTTP/1.1\r\n\r\n", "200 OK"),
    ],
)
async def test_other_requests_get_their_status(served: Served, request_text: bytes, status: str) -> None:
    line, body = await served.ask(request_text)
    assert line == f"HTTP/1.1 {status}"
    assert bool(body) == (not request_text.startswith(b"HEAD"))


@pytest.mark.parametrize("text", [b"", b"\x00\xff", b"GET", b"x" * 20_000])
async def test_nonsense_is_not_answered_and_does_no_harm(served: Served, text: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # cut off while it was still talking
        assert (await served.ask(text))[1] == b""
    assert (await served.get("/healthz"))[0] == "HTTP/1.1 200 OK"


async def test_gauges_follow_the_state(served: Served) -> None:
    api = served.api
    before = await served.metrics()
    assert before["raftsman_leader"] == 1
    await api.register("a")
    await api.submit("web", count=2)
    await api.submit("job", type=2)
    await api.submit("stopped")
    await api.place()
    await api.writes.stop_job(pb.StopJobRequest(job={"name": "stopped"}), call())
    listed = await api.reads.list_allocations(pb.ListAllocationsRequest(), call())
    for one, state in zip(listed.allocations, (COMPLETE, 80, RUNNING, FAILED), strict=True):
        await api.report("a", {"id": one.id, "job_uid": one.job_uid, "attempt": one.attempt}, state)
    after = await served.metrics()
    assert after["raftsman_index"] == api.state.index > before["raftsman_index"]
    assert after['raftsman_nodes{status="ready"}'] == 1
    for name in ("running", "failed", "complete", "stopped"):
        assert after[f'raftsman_allocations{{state="{name}"}}'] == 1, name
    words = [job_status(api.state, job).state for job in api.state.jobs.values()]
    assert sorted(words) == ["complete", "running", "stopped"]
    for name in ("pending", "running", "complete", "failed", "stopping", "stopped"):
        assert after[f'raftsman_jobs{{state="{name}"}}'] == words.count(name), name
    api.log.lead(False)
    assert (await served.metrics())["raftsman_leader"] == 0


def test_counting_that_takes_long_is_done_a_twentieth_of_the_time() -> None:
    now, counted, cost = [100.0], [0], [0.05]

    def count() -> dict[str, int]:
        counted[0] += 1
        now[0] += cost[0]
        return {"running": counted[0]}

    counts = Counted(count, lambda: now[0])
    assert counts() == {"running": 1}
    now[0] = 100.9  # of twenty times 50 ms
    assert counts() == {"running": 1}
    now[0] = 101.1
    cost[0] = 0.001
    assert counts() == {"running": 2}
    assert counts() == {"running": 3}  # what costs little is always fresh
