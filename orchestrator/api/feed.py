"""What watchers read: the newest events, written as bytes once and shared by all of them.

Owns: that shared tail with its bounds, waking watchers, and cutting those that fall out of it. Leaves to others: the
events that are kept (``state.events``), filters and the stream (``watch``). The rules: nothing is queued per watcher,
who has a place in the tail and no more; and few are woken in one turn of the loop, for a loop that serves thousands at
once would send no heartbeat meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge

from orchestrator.contract.errors import OverloadedError
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.log import ReplicatedLog
from orchestrator.state.events import DROPPED_PART, Record
from orchestrator.state.state import State

WATCHERS = Gauge("raftsman_watchers", "Streams of events that this peer serves")
CUT = Counter("raftsman_watchers_cut", "Streams of events that were ended because their reader was too slow")

MOST_EVENTS = 10_000
MOST_BYTES = 16 * 1024 * 1024
"""Of the tail; an event counts with its strings and ``RECORD_BYTES``."""
RECORD_BYTES = 300
AT_ONCE = 50
"""Watchers that are woken in one turn of the loop."""
RETRY_MS = 500


class Shared:
    """One event; its bytes are made when the first watcher sends it."""

    __slots__ = ("_raw", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self._raw = b""

    @property
    def raw(self) -> bytes:
        if not self._raw:
            self._raw = encoded(self.record)
        return self._raw

    @property
    def size(self) -> int:
        return RECORD_BYTES + len(self.record[8])


def encoded(record: Record) -> bytes:
    """The bytes of a message ``Event``."""
    index, sequence, time_ms, kind, namespace, job, allocation, node_id, message, attempt = record
    return pb.Event(
        index=index, sequence=sequence, time_ms=time_ms, kind=kind, namespace=namespace, job=job, allocation=allocation,
        node_id=node_id, message=message, attempt=attempt,
    ).SerializeToString()  # fmt: skip


class Feed:
    """One per process, on the loop. It follows the state's events while somebody watches."""

    def __init__(
        self,
        log: ReplicatedLog,
        state: Callable[[], State],
        *,
        most_events: int = MOST_EVENTS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._log = log
        self._state = state
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._tail: list[Shared] = []
        self._start = 0  # place in ``_tail`` of the oldest that is kept
        self._first = 0  # how many came before ``_tail[0]``, ever
        self._bytes = 0
        self._after = 0  # events of greater indexes are in the tail, as far as they are kept
        self._index = 0  # of the newest event in it
        self._readers = 0
        self._waiting: dict[asyncio.Future[None], int] = {}  # for what comes at that place; the least comes first
        self._waker: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def readers(self) -> int:
        return self._readers

    @property
    def bytes(self) -> int:
        """Of the events in the tail, about."""
        return self._bytes

    def join(self) -> None:
        """A watcher comes; the first one begins the tail with the events that come from now on."""
        self._readers += 1
        WATCHERS.inc()
        if self._readers == 1:
            self._clear(self._state().events.last_index)
            self._unsubscribe = self._log.subscribe(self._look)

    def leave(self) -> None:
        self._readers -= 1
        WATCHERS.dec()
        if self._readers == 0:
            self._clear(0)
            if self._unsubscribe is not None:
                self._unsubscribe()
                self._unsubscribe = None

    def place_after(self, index: int) -> int | None:
        """Where the events of greater indexes begin in the tail; None: some of them are not (or no longer) in it."""
        if index < self._after:
            return None
        low, high = self._start, len(self._tail)
        while low < high:
            middle = (low + high) // 2
            if self._tail[middle].record[0] <= index:
                low = middle + 1
            else:
                high = middle
        return self._first + low

    def read(self, place: int, most: int) -> Sequence[Shared]:
        """Events from there on, at least ``most`` where there are so many, and whole indexes.

        Raises ``OverloadedError`` with reason ``SLOW_WATCHER`` where the first of them is no longer there.
        """
        at = place - self._first
        if at < self._start:
            raise too_slow()
        tail, end = self._tail, min(at + most, len(self._tail))
        while at < end < len(tail) and tail[end].record[0] == tail[end - 1].record[0]:
            end += 1
        return tail[at:end]

    async def more(self, place: int, timeout_s: float) -> bool:
        """Wait until there is something at ``place``; False if nothing came in time."""
        if place < self._first + len(self._tail):
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = place
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.pop(future, None)
        return True

    # ------------------------------------------------------------------ inside

    def _look(self) -> None:
        events = self._state().events
        if events.last_index == self._index:
            return
        if self._index < events.dropped_index:
            # A snapshot took the state's place, or one command made more events than are kept: there is a gap.
            self._clear(events.dropped_index)
            self._index = events.dropped_index
        for record in events.records_after(self._index, limit=len(events)):
            shared = Shared(record)
            self._tail.append(shared)
            self._bytes += shared.size
        self._index = max(self._index, events.last_index)
        self._trim()
        if self._waiting and self._waker is None:
            self._waker = asyncio.get_running_loop().create_task(self._wake())

    def _trim(self) -> None:
        while len(self._tail) - self._start > self._most_events or self._bytes > self._most_bytes:
            oldest = self._tail[self._start]
            self._bytes -= oldest.size
            self._after = oldest.record[0]
            self._start += 1
        if self._start > len(self._tail) // DROPPED_PART:
            del self._tail[: self._start]
            self._first += self._start
            self._start = 0

    def _clear(self, index: int) -> None:
        """Nothing is in the tail; what comes after this index will be."""
        self._first += len(self._tail) + 1  # so that no watcher's place is a place in the new tail
        self._tail = []
        self._start = self._bytes = 0
        self._after = self._index = index

    async def _wake(self) -> None:
        try:
            while self._waiting:
                end = self._first + len(self._tail)
                for future, place in list(itertools.islice(self._waiting.items(), AT_ONCE)):
                    if place >= end:
                        return  # it came to wait meanwhile, and has seen all there is, as those behind it have
                    del self._waiting[future]
                    if not future.done():
                        future.set_result(None)
                await asyncio.sleep(0)
        finally:
            self._waker = None


def too_slow() -> OverloadedError:
    CUT.inc()
    return OverloadedError(
        "this watcher reads too slowly for what happens: resume after the last index that it saw",
        retry_after_ms=RETRY_MS,
        reason="SLOW_WATCHER",
    )
