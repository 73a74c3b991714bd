"""``Lookout``: whether each driver is there, and what it runs, looked at again and again.

Owns: probing and listing, the notices of drivers, when to look at once, since when a driver was away, its images.
Leaves to others: what follows from what was seen (``Hears``: the supervisor), how a driver finds out. The rules: it is
level-triggered, so a lost notice costs a refresh; a driver that does not answer says nothing about what it runs; nobody
is told that a driver is there before all that it runs was seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from agent.driver import Driver, DriverInfo, DriverUnavailableError, Instance, ListsImages
from agent.images import ToldImages
from agent.metrics import Metrics

REFRESH_S = 10.0
RETRY_S = 1.0

log = structlog.get_logger("agent.supervisor")


class Hears(Protocol):
    """Who is told what was seen."""

    def see(self, one: Instance) -> None: ...

    def unsee(self, name: str) -> None:
        """It is there no more."""

    def concerns(self, name: str) -> bool:
        """Whether a run of that name may be one of this agent's; others' are on the same engine."""

    def names_of(self, driver: str) -> set[str]:
        """What is known to run through it."""

    def judged(self, one: Instance, gone_ms: int | None, info: DriverInfo) -> Instance:
        """As it counts, where its driver was away since ``gone_ms`` (unix; None: it was not)."""

    def seen_all(self, listed: Sequence[Instance]) -> None:
        """That is all that a driver runs."""

    def driver_back(self) -> None: ...


class Lookout:
    """Of one agent. ``available``: by driver; ``changed``: set when that or the images changed."""

    def __init__(
        self,
        drivers: Mapping[str, Driver],
        hears: Hears,
        *,
        cluster_id: Callable[[], str],
        metrics: Metrics,
        now_ms: Callable[[], int],
        refresh_s: float = REFRESH_S,
    ) -> None:
        self.available: dict[str, bool] = dict.fromkeys(drivers, False)
        self.infos: dict[str, DriverInfo] = {}
        self.changed = asyncio.Event()
        self.images = ToldImages(time.monotonic)
        self._drivers = drivers
        self._hears = hears
        self._cluster_id = cluster_id
        self._metrics = metrics
        self._now_ms = now_ms
        self._refresh_s = refresh_s
        self._listed: set[str] = set()
        self._look = {name: asyncio.Event() for name in drivers}
        self._gone_ms: dict[str, int] = {}  # by driver: when its notices broke off, until everything was seen again

    def look_at(self, name: str) -> None:
        """There is doubt: at once."""
        self._look[name].set()

    def has_answered(self, name: str) -> bool:
        """Ever, with all that it runs."""
        return name in self._listed

    def is_known(self, name: str) -> bool:
        """Whether it is known what runs through it now."""
        return name in self._listed and self.available[name]

    async def watch(self, name: str) -> None:
        """Take its notices, for ever."""
        driver = self._drivers[name]
        while True:
            try:
                async for changed in driver.changes():
                    if not changed:
                        self._look[name].set()
                        continue
                    if not self._hears.concerns(changed):
                        continue
                    one = await driver.inspect(changed)
                    if one is not None:
                        self._hears.see(one)
                    else:
                        self._hears.unsee(changed)
            except DriverUnavailableError as error:
                if name not in self._gone_ms:
                    self._gone_ms[name] = self._now_ms()
                    log.warning("driver_gone", driver=name, error=str(error))
                self._set_available(name, False)
                await asyncio.sleep(RETRY_S)

    async def keep_refreshing(self, name: str) -> None:
        """Now and then, at once when there is doubt, and every ``RETRY_S`` while the driver does not answer."""
        while True:
            look = self._look[name]
            if self.available[name]:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._refresh_s):
                        await look.wait()
            else:
                await asyncio.sleep(RETRY_S)
            look.clear()
            try:
                await self.refresh(name)
            except Exception:
                # A bug in looking must not end the looking.
                log.exception("refresh_failed", driver=name)
                await asyncio.sleep(RETRY_S)

    async def refresh(self, name: str) -> None:
        """See everything, whatever notices were lost. Missing names are asked for one by one."""
        driver = self._drivers[name]
        gone_ms = self._gone_ms.get(name)
        info = self.infos[name] = await driver.probe()
        if not info.available:
            self._set_available(name, False, info.reason)
            return
        before = self._hears.names_of(name)
        try:
            listed = await driver.list(self._cluster_id())
            for one in listed:
                self._hears.see(self._hears.judged(one, gone_ms, info))
                before.discard(one.name)
            for missing in before:
                found = await driver.inspect(missing)
                if found is None:
                    self._hears.unsee(missing)
        except DriverUnavailableError as error:
            self._set_available(name, False, str(error))
            return
        await self._look_for_images(name, driver)
        self._listed.add(name)
        if gone_ms is not None and self._gone_ms.get(name) == gone_ms:
            del self._gone_ms[name]
        self._set_available(name, True)
        self._hears.seen_all(listed)

    async def _look_for_images(self, name: str, driver: Driver) -> None:
        if not isinstance(driver, ListsImages) or not self.images.due(name):
            return
        try:
            if self.images.found(name, await driver.images()):
                self.changed.set()
        except DriverUnavailableError as error:
            log.debug("images_unknown", driver=name, error=str(error))  # a hint that is old does no harm

    def _set_available(self, name: str, available: bool, reason: str = "") -> None:
        self._metrics.driver_available.labels(name).set(int(available))
        if self.available[name] is available:
            return
        self.available[name] = available
        self.changed.set()
        if not available:
            log.warning("driver_down", driver=name, reason=reason)
        else:
            log.info("driver_available", driver=name)
            self._hears.driver_back()
