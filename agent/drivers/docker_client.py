"""The SDK's client, without what it costs on every call.

Owns: making one. Leaves to others: calling it (``docker_calls``). The rule: who reads an answer to its end leaves the
connection to the next call; a connection that became a stream is closed with it.

Over a unix socket the SDK keeps a pool of connections for each URL. Nearly every call has one of its own (it names its
container), so it dials and fills a queue each time; and before each call ``requests`` looks through the environment
for proxies that no unix socket has. Together more than half of a call's processor time (``scripts/bench_start.py``).
"""

from __future__ import annotations

import contextlib
import queue
from typing import Any

import docker
import docker.utils
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnectionPool

IDLE_MAX = 32
"""Connections that are kept for the next calls."""
_UNIX = "http+docker://localhost"


def connect(timeout_s: float) -> docker.APIClient:
    """A client of the engine that the environment names. Raises ``DockerException``, ``OSError``."""
    parameters: dict[str, Any] = {**docker.utils.kwargs_from_env()}
    parameters |= {"version": "auto", "timeout": timeout_s, "max_pool_size": 1}
    api = docker.APIClient(**parameters)
    first = api.get_adapter(api.base_url)
    if isinstance(first, UnixHTTPAdapter):
        api.mount(_UNIX, _Adapter(first.socket_path, timeout_s))
        first.close()
        api.trust_env = False
    return api


class _Adapter(UnixHTTPAdapter):
    def __init__(self, socket_path: str, timeout_s: float) -> None:
        super().__init__(socket_path, timeout_s)  # type: ignore[arg-type]
        self._pool = _Pool(_UNIX, socket_path, timeout_s, maxsize=IDLE_MAX)  # type: ignore[arg-type]

    def get_connection(self, url: bytes | str, proxies: Any = None) -> UnixHTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        super().close()
        self._pool.close()


class _Pool(UnixHTTPConnectionPool):
    def _put_conn(self, conn: Any) -> None:
        # More at once is usual (a hundred that stop) and no reason for urllib3's warning.
        with contextlib.suppress(queue.Full):
            if self.pool is not None:
                self.pool.put(conn, block=False)
                return
        if conn is not None:
            conn.close()
