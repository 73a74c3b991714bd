"""What a gateway counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class GatewayMetrics:
    """A registry of its own, so that several gateways fit into one process (tests)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "path")
        self._requests = Counter(
            "raftsman_http_requests", "Requests answered", (*labels, "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "raftsman_http_request_duration_seconds", "Until the response began", labels, registry=self.registry
        )
        self._watchers = Gauge("raftsman_status_pages", "Open status pages", registry=self.registry)

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.labels(method, path).observe(seconds)

    def render(self, *, watchers: int) -> tuple[bytes, str]:
        """The exposition text and its content type."""
        self._watchers.set(watchers)
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
