"""What the agent counts, and the small HTTP server that shows it: ``/metrics`` and ``/healthz``.

Owns: the metrics of one agent in a registry of its own (several agents may share a test process). The rule: the server
runs on the agent's own loop and answers two fixed paths; a health check that answers proves that the loop turns, and
its status tells whether the agent can do its work: 200 or 503, as a peer's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from agent.discovery import Directory
    from agent.workload.side import WorkloadSide

REQUEST_S = 5.0


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"raftsman_agent_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"raftsman_agent_{name}", text, labels, registry=self.registry)

        self.starts = counter("container_starts_total", "Tasks started", "driver")
        self.start_errors = counter("container_start_errors_total", "Tasks that could not be started", "driver")
        self.stops = counter("container_stops_total", "Tasks stopped by the agent", "driver")
        self.adopted = counter("container_adoptions_total", "Running tasks found after an agent restart", "driver")
        self.exits = counter("container_exits_total", "Tasks that ended", "driver")
        self.running = gauge("container_running", "Tasks running now")
        self.allocations = gauge("allocations", "Allocations that the agent knows, by state", "state")
        self.heartbeats = counter("heartbeats_total", "Heartbeats by outcome", "outcome")
        self.reconnects = counter("reconnects_total", "Sessions begun with a peer")
        self.connected = gauge("connected", "1 while a session with a peer is up")
        self.observations = counter("observations_total", "Observations acknowledged by the control plane")
        self.driver_available = gauge("driver_available", "1 while the driver can run tasks", "driver")

    def show(self, workload: WorkloadSide | None, services: Directory) -> None:
        """Also show what tasks report, and how old it is what is known of services."""
        gauge = Gauge("raftsman_agent_services", "Services that tasks here ask for", registry=self.registry)
        gauge.set_function(lambda: services.names)
        age = Gauge(
            "raftsman_agent_services_age_seconds",
            "Since when nobody confirmed what is known of services; 0 while that goes on all the time",
            registry=self.registry,
        )
        age.set_function(lambda: services.age_ms / 1000 if services.names else 0.0)
        if workload is not None:
            self.registry.register(_Reported(workload))


class _Reported(Collector):
    def __init__(self, workload: WorkloadSide) -> None:
        self._workload = workload

    def collect(self) -> Iterable[Metric]:
        return self._workload.collect()


class MetricsServer:
    """Serves ``metrics`` at ``host:port`` (port 0: any free one); ``health`` gives the body of ``/healthz``.

    Its status is 200 where ``healthy`` is true, else 503; the body is the same.
    """

    def __init__(self, metrics: Metrics, health: Callable[[], dict[str, object]]) -> None:
        self._metrics = metrics
        self._health = health
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen; returns the address. Raises OSError where the port is taken."""
        self._server = await asyncio.start_server(self._serve, host, port)
        bound = self._server.sockets[0].getsockname()
        return f"{bound[0]}:{bound[1]}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S):
                request = (await reader.readline()).decode("latin-1").split()
                while (await reader.readline()).strip():
                    pass
                status, kind, body = self._answer(request)
                head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, request: list[str]) -> tuple[str, str, bytes]:
        if len(request) < 2 or request[0] != "GET":
            return "405 Method Not Allowed", "text/plain", b"only GET\n"
        path = request[1].partition("?")[0]
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry)
        if path == "/healthz":
            body = self._health()
            status = "200 OK" if body["healthy"] else "503 Service Unavailable"
            return status, "application/json", json.dumps(body).encode() + b"\n"
        return "404 Not Found", "text/plain", b"there is /metrics and /healthz\n"
