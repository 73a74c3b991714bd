"""The agent's own HTTP: two paths, nothing else."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from agent.metrics import Metrics, MetricsServer


def healthy() -> dict[str, object]:
    return {"healthy": True}


async def test_metrics_and_health_are_served_and_nothing_else() -> None:
    metrics = Metrics()
    metrics.starts.labels("process").inc()
    server = MetricsServer(metrics, lambda: {"healthy": True, "name": "n1"})
    address = await server.start("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            text = (await client.get("/metrics")).text
            assert 'raftsman_agent_container_starts_total{driver="process"} 1.0' in text
            assert (await client.get("/healthz")).json() == {"healthy": True, "name": "n1"}
            assert (await client.get("/secrets")).status_code == 404
            assert (await client.post("/metrics")).status_code == 405
    finally:
        await server.close()


async def test_an_agent_that_cannot_work_answers_503_and_says_why() -> None:
    server = MetricsServer(Metrics(), lambda: {"healthy": False, "reason": "no session with a peer"})
    address = await server.start("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://{address}/healthz")
        assert answer.status_code == 503
        assert answer.json()["reason"] == "no session with a peer"
    finally:
        await server.close()


async def test_nonsense_does_not_disturb_the_server() -> None:
    server = MetricsServer(Metrics(), healthy)
    address = await server.start("127.0.0.1", 0)
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x00\xff nonsense\r\n\r\n")
        assert b"405" in await reader.readline()
        writer.close()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://{address}/healthz")).status_code == 200
    finally:
        await server.close()


async def test_a_taken_port_is_an_error() -> None:
    first, second = (MetricsServer(Metrics(), healthy) for _ in range(2))
    address = await first.start("127.0.0.1", 0)
    try:
        with pytest.raises(OSError, match="in use"):
            await second.start("127.0.0.1", int(address.rpartition(":")[2]))
    finally:
        await first.close()
