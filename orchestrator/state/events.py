"""What happened, in order: a ring of the newest events, resumable by index.

Owns: the kinds, the ring and its bound. Leaves to others: who may see what (``api``). The rule: an event says that
something changed; it is never read to decide anything.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable

from orchestrator.contract.errors import OutOfRangeError
from orchestrator.contract.model import AllocState, Event

KINDS: dict[str, str] = {
    "job.submitted": "created, or started again after a stop",
    "job.updated": "a new version with other content",
    "job.scaled": "another count; nothing restarts",
    "job.resized": "a new version in cpu and memory alone; the message counts the instances that go on with it",
    "image.settled": "the digest that all instances of a version run; the message says of which image",
    "job.restarted": "a new version with the same content; every instance is replaced, one at a time",
    "job.rolled-back": "a new version with the content of an older one; the message says which, and why if by itself",
    "job.dispatched": "a parameterized job was called; the message names the run, a job of its own",
    "periodic.launched": "a run was due; the message names it, a job of its own",
    "periodic.skipped": "a run was due and is left out; the message says why",
    "job.stopped": "every allocation was told to stop",
    "job.removed": "forgotten",
    "rollout.succeeded": "all of the version is ready",
    "rollout.failed": "the message says why",
    "rollout.not-reverted": "it was to go back by itself; the message says why it could not",
    "rollout.paused": "by somebody; nothing more is replaced",
    "rollout.resumed": "it goes on",
    "rollout.promoted": "the canaries are good: the others follow",
    "alloc.placed": "a new attempt on the node",
    "alloc.stop": "told to stop by a plan; the message says why",
    "alloc.moving": "told to stop, so that it runs on another node",
    "alloc.preempted": "told to stop to make room for a job of higher priority; the message says for whom",
    "alloc.progress": "how far its start has come: an image that is being pulled",
    "alloc.starting": "observed by its agent, as those that follow",
    "alloc.running": "every task runs",
    "alloc.ready": "its checks are good: it should get work",
    "alloc.unready": "a check failed: no work for it; the message says which",
    "alloc.backoff": "ended or did not start; its agent will try again",
    "alloc.stopping": "being stopped",
    "alloc.complete": "every task exited with 0",
    "alloc.failed": "gave up; the message says why",
    "alloc.stopped": "stopped because it was asked to",
    "alloc.lost": "its node was lost or forgotten: written by the control plane",
    "node.registered": "a new node, or an old one that says something else of itself",
    "node.lost": "silent for too long",
    "node.back": "a lost node is heard of again",
    "node.rebooted": "its machine was started anew: what ran there had ended",
    "node.braked": "too many fell silent together: nobody is marked lost for now; the message says what to do",
    "node.cordoned": "gets nothing new",
    "node.uncordoned": "may get work again",
    "device.cordoned": "gets nothing new",
    "device.uncordoned": "may get work again",
    "node.draining": "its allocations move away; the message says by when, where that was said",
    "node.undrained": "its drain was cancelled: what is still there stays",
    "device.sick": "its agent found it sick, and it gets nothing new; the message names it and says why",
    "device.well": "its agent calls it sick no more; the message names it",
    "node.forgotten": "removed from the cluster",
    "node.tainted": "an operator put a taint on it, or its agent declares one; the message is the taint",
    "node.untainted": "a taint was taken off it; the message is the taint",
    "variable.changed": "the message is the variable's name, never its value",
    "variable.deleted": "the message is the variable's name",
    "namespace.created": "the message is its quota",
    "namespace.changed": "the message is its quota from now on",
    "namespace.deleted": "and its quota with it",
    "settings.changed": "how the cluster behaves; the message names what changed",
    "peers.admitted": "disk incarnations that may vote",
    "peers.changed": "a new configuration epoch; the message says who the peers are",
    "limits.changed": "what is kept, for how long; the message names what changed",
    "cluster.restored": "from a backup or by `raftsman recover`; the message says which, later writes are gone",
    "feature.raised": "every peer understands a newer feature level",
    "plan.rejected": "part of a plan was stale; the message counts the rows and gives the first reason",
}
"""Every kind, and what it means."""

HEALTH = ("alloc.unready", "alloc.ready")
"""By the last bit of a word of ``contract.health``."""
OBSERVED: dict[AllocState, str] = {state: f"alloc.{state.name.lower()}" for state in AllocState}

Record = tuple[int, int, int, str, str, str, str, str, str, int]
"""The fields of ``Event`` in order. Tuples, because a plan of 20,000 rows makes 20,000 of them on every peer."""

Unread = Callable[[], Record]
"""What makes one that came with a snapshot, for as long as nobody asks for it: to make 100,000 at a start would take a
third of its time. Making one never fails."""
Kept = Record | Unread

MAX_MESSAGE = 1_000
DROPPED_PART = 16
"""One part in so many of what is held has been dropped, at most: it takes as much memory as what counts."""


def read(kept: Kept) -> Record:
    return kept if isinstance(kept, tuple) else kept()


class EventLog:
    """The newest ``limit`` events. ``dropped_index``: the index of the last one that was dropped (0: none)."""

    __slots__ = ("_index", "_records", "_sequence", "_start", "_time_ms", "dropped_index", "limit")

    def __init__(self, limit: int, records: Iterable[Kept] = (), dropped_index: int = 0) -> None:
        self.limit = limit
        self._records: list[Kept] = list(records)
        self._start = 0
        self.dropped_index = dropped_index
        self._index = 0
        self._sequence = 0
        self._time_ms = 0

    def __len__(self) -> int:
        return len(self._records) - self._start

    def begin(self, index: int, time_ms: int) -> None:
        """The following events belong to this command."""
        self._index = index
        self._time_ms = time_ms
        self._sequence = 0

    def emit(
        self,
        kind: str,
        *,
        namespace: str = "",
        job: str = "",
        allocation: str = "",
        node_id: str = "",
        message: str = "",
        attempt: int = 0,
    ) -> None:
        self._records.append(
            (
                self._index,
                self._sequence,
                self._time_ms,
                kind,
                namespace,
                job,
                allocation,
                node_id,
                message[:MAX_MESSAGE],
                attempt,
            )
        )
        self._sequence += 1

    def emit_rows(self, kind: str, rows: Iterable[tuple[str, str, str, str, str, int]]) -> None:
        """Many of one kind: (namespace, job, allocation, node_id, message, attempt) each."""
        index, time_ms, start = self._index, self._time_ms, self._sequence
        records = [
            (index, start + place, time_ms, kind, namespace, job, allocation, node_id, message[:MAX_MESSAGE], attempt)
            for place, (namespace, job, allocation, node_id, message, attempt) in enumerate(rows)
        ]
        self._records += records
        self._sequence = start + len(records)

    def emit_each(self, rows: Iterable[tuple[str, str, str, str, str, str, int]]) -> None:
        """Many: (kind, namespace, job, allocation, node_id, message of at most ``MAX_MESSAGE``, attempt) each."""
        index, time_ms, start = self._index, self._time_ms, self._sequence
        records = [(index, start + place, time_ms, *row) for place, row in enumerate(rows)]
        self._records += records
        self._sequence = start + len(records)

    def trim(self) -> None:
        """Drop what is over the limit; called once a command."""
        over = len(self._records) - self._start - self.limit
        if over > 0:
            self._start += over
            self.dropped_index = _index(self._records[self._start - 1])
            if self._start > len(self._records) // DROPPED_PART:
                # Moving the list at every command would cost more than the commands.
                del self._records[: self._start]
                self._start = 0

    @property
    def last_index(self) -> int:
        """Index of the newest event; of the last dropped one if none is kept."""
        return _index(self._records[-1]) if len(self) else self.dropped_index

    def records(self) -> list[Kept]:
        """A copy, oldest first."""
        return self._records[self._start :]

    def after(self, index: int, *, limit: int = 1_000) -> list[Event]:
        """``records_after`` as events."""
        return [to_event(record) for record in self.records_after(index, limit=limit)]

    def records_after(self, index: int, *, limit: int) -> list[Record]:
        """Those of greater indexes, oldest first: at least ``limit`` where there are as many, and whole indexes, so
        that the last one's index is where to go on. Raises ``OutOfRangeError`` if one of them was dropped; 0 means from
        the oldest kept and never raises.
        """
        if 0 < index < self.dropped_index:
            raise OutOfRangeError(
                f"events up to index {self.dropped_index} are collected: list again and watch from there",
                first_index=str(self.dropped_index + 1),
            )
        start = bisect.bisect_right(self._records, index, lo=self._start, key=_index)
        end = min(start + limit, len(self._records))
        while 0 < end < len(self._records) and _index(self._records[end]) == _index(self._records[end - 1]):
            end += 1
        return [read(kept) for kept in self._records[start:end]]


def _index(kept: Kept) -> int:
    return read(kept)[0]


def to_event(record: Record) -> Event:
    index, sequence, time_ms, kind, namespace, job, allocation, node_id, message, attempt = record
    return Event(
        index=index,
        sequence=sequence,
        time_ms=time_ms,
        kind=kind,
        namespace=namespace,
        job=job,
        allocation=allocation,
        node_id=node_id,
        message=message,
        attempt=attempt,
    )
