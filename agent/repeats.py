"""``Repeats``: what happens again and again is told once, and then now and then with how often.

Owns: when to tell. Leaves to others: telling. The rule: something new is told at once.
"""

from __future__ import annotations

EVERY_S = 60.0
KEYS_MAX = 1000
"""Different things that are remembered; more are forgotten, and so told again."""


class Repeats:
    """Times are seconds of any clock that does not fall."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._told: dict[object, tuple[float, int]] = {}  # thing -> when it was told last, how often it came since

    def due(self, thing: object, now_s: float) -> int:
        """How often the thing came since it was told last, this time included; 0: it need not be told now."""
        known = self._told.get(thing)
        if known is not None and now_s - known[0] < self._every_s:
            self._told[thing] = (known[0], known[1] + 1)
            return 0
        if len(self._told) >= KEYS_MAX:
            self._told.clear()
        self._told[thing] = (now_s, 0)
        return known[1] + 1 if known is not None else 1

    def over(self) -> None:
        """It went well: whatever happens next is new."""
        self._told.clear()
