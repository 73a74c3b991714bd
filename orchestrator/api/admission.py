"""How much a peer takes on at once: calls that are being served, and the bytes of their requests.

Owns: counting them by lane, saying how many more of clients' may be begun (``room``), and saying no before a request is
read. Leaves to others: the queue in front of the log (``replication.proposals``), and refusing what waits outside for
room, which gRPC does by itself (``accepting``, ``SERVER_OPTIONS``) at a fraction of the price. The rule: agents and the
control plane have lanes of their own, so that clients cannot hold up heartbeats; and what is refused was not begun.

How many of clients' calls there is room for: as many as the lane holds, as long as calls take ``TARGET_S`` at most;
where they take longer, as many as would take ``TARGET_S`` at the rate at which calls lately ended (Little's law), but
``FLOOR`` at least. More of them at once would only all wait longer, until every answer comes after its caller gave up
(Maurer, "Fail at Scale", ACM Queue 13(8), 2015; Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 10(5),
2012).
"""

from __future__ import annotations

import enum
import random
import time
from collections import deque
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
TARGET_S = 0.3
WEIGHT = 0.05
"""Of the newest call in the average of how long calls take."""
OVER = 1.5
"""So many times what there is room for is served where it came nevertheless, since its price was half paid then."""
ON_ITS_WAY_S = 0.1
"""A call that was begun so long ago has got to ``hold``, or never will."""
RATE_S = 0.1
RATE_WEIGHT = 0.2
"""The rate at which calls end is taken every ``RATE_S``; this much counts the newest in the average."""
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
        self._begun: deque[float] = deque()  # when; those that are on their way to ``hold``
        self._shut_until = 0.0
        self._rate = 0.0
        self._ended = 0  # since ``_counts_since``
        self._counts_since = self._clock()
        for lane in Lane:
            IN_PROGRESS.labels(lane.value).set_function(lambda lane=lane: self._calls[lane])  # type: ignore[misc]

    @contextmanager
    def hold(self, lane: Lane, size: int) -> Iterator[None]:
        """While the body runs, the call counts; raises ``OverloadedError`` where it is one too many."""
        if lane in _HURRIED and self._begun:
            self._begun.popleft()
        self._check(lane, size)
        calls = self._calls
        calls[lane] += 1
        self._bytes += size
        began = self._clock()
        try:
            yield
            if lane in _HURRIED:
                self._count(began)
        finally:
            calls[lane] -= 1
            self._bytes -= size

    def room(self) -> int:
        """So many more calls of clients may be begun, beside those that were and have not got to ``hold`` yet."""
        now = self._clock()
        if now < self._shut_until:
            return 0
        while self._begun and self._begun[0] < now - ON_ITS_WAY_S:
            self._begun.popleft()
        return max(0, self._most() - self._hurried() - len(self._begun))

    def came(self) -> None:
        """A call of a client was begun, and will get to ``hold``."""
        self._begun.append(self._clock())

    def shut(self, seconds: float) -> None:
        """There is no room for so long: what they wait for is elsewhere, and full."""
        self._shut_until = self._clock() + seconds

    def _hurried(self) -> int:
        return self._calls[Lane.CLIENT] + self._calls[Lane.FORWARDED]

    def _most(self) -> int:
        """Calls of clients at once."""
        most = CALLS[Lane.CLIENT]
        return most if self._took_s <= TARGET_S else max(FLOOR, min(most, int(self._rate * TARGET_S)))

    def _count(self, began: float) -> None:
        now = self._clock()
        self._took_s += WEIGHT * (now - began - self._took_s)
        self._ended += 1
        if (passed := now - self._counts_since) >= RATE_S:
            self._rate += RATE_WEIGHT * (self._ended / passed - self._rate)
            self._ended, self._counts_since = 0, now

    def _check(self, lane: Lane, size: int) -> None:
        calls = self._calls[lane]
        if lane in _HURRIED:
            both = self._hurried()
            full = (self._bytes + size > BYTES and both > 0) or (
                self._took_s > TARGET_S and both >= OVER * self._most()
            )
        else:
            full = False
        if not full and calls < CALLS[lane]:
            return
        REFUSED.labels(lane.value).inc()
        raise self.refusal(f"this peer is serving {calls} such calls, and they take long: try again a little later")

    def refusal(self, message: str) -> OverloadedError:
        """With a time to come again that differs from caller to caller."""
        return OverloadedError(message, retry_after_ms=self._rng.randint(*RETRY_MS))
