"""``Clearing``: runs on this engine whose allocation was replaced elsewhere, whoever started them, are ended first.

Owns: ending them, again and again where the engine fails, and what waits for that. Leaves to others: which those are
(``across``), starting. The rule: a successor never starts beside the run that it replaces, however long that takes;
everything else waits for a while only, so that a run that cannot be ended keeps no agent from its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from agent import across
from agent.driver import Driver, DriverUnavailableError, Instance
from agent.lookout import RETRY_S, Lookout
from agent.records import Record
from orchestrator.contract.model import AllocationId, AssignmentKey

SUPERSEDED_GRACE_MS = 5_000
STOPS = 16
"""At once."""
CLEAR_S = 15.0
"""So long whatever starts waits for replaced runs of others: its ports and devices may be theirs."""

log = structlog.get_logger("agent.supervisor")


class Clearing:
    """Of one agent. ``records``: what it should run, as of now."""

    def __init__(
        self,
        drivers: Mapping[str, Driver],
        lookout: Lookout,
        cluster_id: Callable[[], str],
        records: dict[AssignmentKey, Record],
    ) -> None:
        self._drivers = drivers
        self._lookout = lookout
        self._cluster_id = cluster_id
        self._records = records
        self._replaced: set[AssignmentKey] = set()  # their runs are being ended
        self._less_replaced = asyncio.Event()  # set, and another one begun, when there are less of them
        self._clear_until_s = 0.0
        self._turns = asyncio.Semaphore(STOPS)

    def begin(self, keys: Sequence[AssignmentKey]) -> None:
        """From now on what starts waits for them; ``clear`` follows."""
        if not self._replaced.issuperset(keys):
            self._clear_until_s = time.monotonic() + CLEAR_S
        self._replaced.update(keys)

    async def until_clear(self, id_: AllocationId) -> None:
        """Until replaced runs on this engine have ended: those of this allocation, however long that takes, and those
        of others for ``CLEAR_S``: one that cannot be ended must not keep everything else from starting."""
        while self._replaced:
            left_s = None if any(key.id == id_ for key in self._replaced) else self._clear_until_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._less_replaced.wait()

    async def clear(self, keys: Sequence[AssignmentKey]) -> None:
        """End the runs that ``begin`` was told of."""
        try:
            await self._clear(keys)
        except Exception:
            log.exception("clearing_failed")  # a bug here must keep nothing from starting
            self._is_clear(keys)

    def _is_clear(self, keys: Iterable[AssignmentKey]) -> None:
        self._replaced.difference_update(keys)
        self._less_replaced.set()
        self._less_replaced = asyncio.Event()

    async def _clear(self, keys: Sequence[AssignmentKey]) -> None:
        """End replaced runs on this engine, whoever started them."""
        by_id: dict[AllocationId, set[AssignmentKey]] = {}
        for key in keys:
            by_id.setdefault(key.id, set()).add(key)
        while by_id:
            running = await self._running_of({key for same in by_id.values() for key in same})
            if running is not None:
                gone = [by_id.pop(id_) for id_ in by_id.keys() - running.keys()]
                self._is_clear(key for same in gone for key in same)
                ends = (self._end_replaced(running[id_], by_id[id_]) for id_ in list(by_id))
                for id_, ended in zip(list(by_id), await asyncio.gather(*ends), strict=True):
                    if ended:
                        del by_id[id_]
            if by_id:
                await asyncio.sleep(RETRY_S)

    async def _running_of(self, keys: set[AssignmentKey]) -> dict[AllocationId, list[Instance]] | None:
        """What of them runs on this engine, by allocation; None while a driver does not say."""
        running: dict[AllocationId, list[Instance]] = {}
        for name, driver in self._drivers.items():
            try:
                found = await driver.list(self._cluster_id())
            except DriverUnavailableError as error:
                self._lookout.look_at(name)
                log.warning("driver_unavailable", driver=name, error=str(error))
                if not self._lookout.has_answered(name):
                    continue  # it never answered, so nothing can be started through it either
                return None
            for one in across.superseded(keys, found, self._records):
                if one.running:
                    running.setdefault(one.run.key.id, []).append(one)
        return running

    async def _end_replaced(self, running: Iterable[Instance], keys: set[AssignmentKey]) -> bool:
        try:
            for one in running:
                async with self._turns:
                    log.info("superseded", name=one.name, node=one.node_id)
                    await self._drivers[one.driver].stop(one.name, signal="SIGTERM", timeout_ms=SUPERSEDED_GRACE_MS)
        except DriverUnavailableError as error:
            self._lookout.look_at(one.driver)
            log.warning("replaced_run_not_ended", name=one.name, error=str(error))
            return False
        self._is_clear(keys)
        return True
