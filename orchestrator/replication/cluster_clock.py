"""``ClusterClock``: the time at which this peer proposes and decides, unix milliseconds.

Owns: what becomes of cluster time while this machine's clock is behind it. Leaves to others: that cluster time never
falls (``state.apply``). The rule: it never stands. Cluster time is the latest that any leader proposed, so a leader
whose clock was fast and is set back, or one that follows such a leader, finds it hours ahead of its own clock. Were its
entries stamped by that clock, nothing that waits for a time (backoff, rollouts, drains, periodic jobs, collection)
would go on until the clock has caught up. So cluster time goes on at half speed there: what waits takes twice as long
for a while, and after twice the difference cluster time and clock agree again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

CATCHING_UP = 0.5
"""Speed of cluster time while it is ahead of the clock. At full speed it would be ahead for ever."""
TELL_MS = 10_000
"""Elections and slow proposers make smaller differences, and nobody could do anything about them."""

logger = structlog.get_logger()


def unix_ms() -> int:
    return time.time_ns() // 1_000_000


class ClusterClock:
    """Called on the loop that owns the state. ``reached_ms`` gives cluster time as applied here, ``wall_ms`` this
    machine's clock (both unix ms), ``monotonic`` seconds that never go back. Never goes back either."""

    def __init__(
        self,
        reached_ms: Callable[[], int],
        *,
        wall_ms: Callable[[], int] = unix_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reached_ms = reached_ms
        self._wall_ms = wall_ms
        self._monotonic = monotonic
        self._at_ms = 0.0
        self._at_s = monotonic()
        self._behind = False

    def __call__(self) -> int:
        now_s, wall_ms, reached_ms = self._monotonic(), self._wall_ms(), self._reached_ms()
        passed_ms = self._at_ms + max(0.0, now_s - self._at_s) * 1000 * CATCHING_UP
        self._at_ms, self._at_s = max(float(wall_ms), float(reached_ms), passed_ms), now_s
        self._tell(self._at_ms - wall_ms)
        return int(self._at_ms)

    def _tell(self, ahead_ms: float) -> None:
        if not self._behind and ahead_ms > TELL_MS:
            self._behind = True
            logger.warning(
                "clock_behind_cluster_time",
                seconds=round(ahead_ms / 1000),
                message="cluster time is ahead of this machine's clock and goes on at half speed until they agree: "
                "a leader's clock was fast, or this one is slow; synchronise them (chrony, systemd-timesyncd)",
            )
        elif self._behind and ahead_ms <= 0:
            self._behind = False
            logger.info("clock_agrees_with_cluster_time")
