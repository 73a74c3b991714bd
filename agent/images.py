"""The images of this node as the control plane is told them: seldom, because every change is an entry of the log.

Owns: what was told last and when the next telling is due. Leaves to others: listing them (``drivers``), registering
(``session``). The rule: the first list is told at once, later ones at most every ``TELL_EVERY_S`` and only when they
differ; images are a hint for placing, and an old hint costs a pull.

The cost: a registration with 64 images is below 5 KiB in the log, so 5,000 nodes that all change all the time write at
most 17 entries and 85 KiB a second; a cluster that is at rest writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

TELL_EVERY_S = 300.0
LOOK_EVERY_S = 60.0


class ToldImages:
    """``told``: what a registration says now."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.told: tuple[str, ...] = ()
        self._clock = clock
        self._by_driver: dict[str, tuple[str, ...]] = {}
        self._next = float("-inf")
        self._looked: dict[str, float] = {}

    def due(self, driver: str) -> bool:
        """Whether it is time to ask this driver again; it costs the engine a listing."""
        now = self._clock()
        if now - self._looked.get(driver, float("-inf")) < LOOK_EVERY_S:
            return False
        self._looked[driver] = now
        return True

    def found(self, driver: str, images: Iterable[str]) -> bool:
        """A driver's images as of now; whether the control plane is to be told."""
        self._by_driver[driver] = tuple(images)
        now = tuple(sorted({image for listed in self._by_driver.values() for image in listed}))
        if now == self.told or self._clock() < self._next:
            return False
        self.told = now
        self._next = self._clock() + TELL_EVERY_S
        return True
