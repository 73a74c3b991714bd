"""How much a peer takes on at once: calls that are being served, and the bytes of their requests.

Owns: counting them by lane, and saying no before a request is read. Leaves to others: the queue in front of the log
(``replication.proposals``), and what even the loop cannot take on, which gRPC refuses by itself (``SERVER_OPTIONS``).
The rule: agents and the control plane have lanes of their own, so that clients cannot hold up heartbeats; and what is
refused was not begun.

A call is refused where its lane is full, and also, above ``FLOOR`` calls, where calls lately took longer than
``TARGET_S``: by Little's law, more of them at once would only all wait longer, until every answer comes after its
caller gave up (Maurer, "Fail at Scale", ACM Queue 13(8), 2015; Nichols and Jacobson, "Controlling Queue Delay", ACM
Queue 10(5), 2012).
"""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import Counter, Gauge

from orchestrator.contract.errors import OverloadedError

IN_PROGRESS = Gauge("raftsman_calls_in_progress", "Calls that this peer is serving", ["lane"])
REFUSED = Counter("raftsman_calls_refused", "Calls that this peer refused because it has enough to do", ["lane"])


class Lane(enum.Enum):
    CLIENT = "client"  # calls of clients and gateways that came here first
    FORWARDED = "forwarded"  # those that another peer passed on
    AGENT = "agent"
    STREAM = "stream"  # watchers and readers of logs: they hold little


CALLS: Mapping[Lane, int] = {Lane.CLIENT: 512, Lane.FORWARDED: 1_024, Lane.AGENT: 2_048, Lane.STREAM: 8_192}
"""At once at most."""
BYTES = 64 * 1024 * 1024
"""Of the requests in the lanes of clients together; an agent's are bounded by their number and size."""
FLOOR = 64
"""So many are taken on however long they take: a slow disk is no overload."""
TARGET_S = 0.15
WEIGHT = 0.05
"""Of the newest call in the average of how long calls take."""
RETRY_MS = (100, 300)
_HURRIED = frozenset({Lane.CLIENT, Lane.FORWARDED})


class Admission:
    """One per process, on the loop. ``clock`` gives seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng if rng is not None else random.Random()
        self._calls = dict.fromkeys(Lane, 0)
        self._bytes = 0
        self._took_s = 0.0
        for lane in Lane:
            IN_PROGRESS.labels(lane.value).set_function(lambda lane=lane: self._calls[lane])  # type: ignore[misc]

    @contextmanager
    def hold(self, lane: Lane, size: int) -> Iterator[None]:
        """While the body runs, the call counts; raises ``OverloadedError`` where it is one too many."""
        self._check(lane, size)
        calls = self._calls
        calls[lane] += 1
        self._bytes += size
        began = self._clock()
        try:
            yield
            if lane in _HURRIED:
                self._took_s += WEIGHT * (self._clock() - began - self._took_s)
        finally:
            calls[lane] -= 1
            self._bytes -= size

    def _check(self, lane: Lane, size: int) -> None:
        calls = self._calls[lane]
        if lane in _HURRIED:
            both = self._calls[Lane.CLIENT] + self._calls[Lane.FORWARDED]
            full = (self._bytes + size > BYTES and both > 0) or (both >= FLOOR and self._took_s > TARGET_S)
        else:
            full = False
        if not full and calls < CALLS[lane]:
            return
        REFUSED.labels(lane.value).inc()
        raise self.refusal(f"this peer is serving {calls} such calls, and they take long: try again a little later")

    def refusal(self, message: str) -> OverloadedError:
        """With a time to come again that differs from caller to caller."""
        return OverloadedError(message, retry_after_ms=self._rng.randint(*RETRY_MS))
