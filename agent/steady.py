"""``SteadyClock``: unix milliseconds that no setting of the machine's clock moves, for what is measured on this node.

Owns: the difference between the clock on the wall and the time since boot, as it was when it was first looked at in
this boot; it is on disk, so that the next agent of the boot measures on. Leaves to others: what is compared with
moments that others noted (an engine, the shim of a process), which is the wall's. The rule: a timeout, a backoff and an
age are lengths. A clock that is set ahead by an hour must end no task that has run for a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.store import boot_clock_ms


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class SteadyClock:
    """``save`` keeps a plain value, ``saved`` is what it kept last (None: nothing). ``boot_ms``: since boot, sleep
    included."""

    def __init__(
        self,
        boot_id: str,
        *,
        saved: Mapping[str, Any] | None,
        save: Callable[[dict[str, Any]], None],
        wall_ms: Callable[[], int] = wall_ms,
        boot_ms: Callable[[], int] = boot_clock_ms,
    ) -> None:
        self._boot_ms = boot_ms
        kept = (saved or {}).get("booted_ms")
        if saved is not None and saved.get("boot_id") == boot_id and isinstance(kept, int):
            self._booted_ms = kept
            return
        self._booted_ms = wall_ms() - boot_ms()
        save({"boot_id": boot_id, "booted_ms": self._booted_ms})

    def __call__(self) -> int:
        return self._booted_ms + self._boot_ms()
