"""``WatchEvents`` and ``StateHash``: answers that wait for an index.

Owns: streaming events, filtered: those of the past from the state's ring, the newest from the shared tail; hashing the
state at exactly one index. Leaves to others: what an event is (``state.events``), the tail (``feed``). The rule: a
watcher that cannot keep up is ended with the index to resume after, and one whose index is collected is told so with
OUT_OF_RANGE; none is given a gap.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from orchestrator.api.around import Around
from orchestrator.api.feed import Feed, encoded
from orchestrator.api.forward import Call, Forwarder, read_patience_s
from orchestrator.api.identity import CONTROL
from orchestrator.api.metrics import APPLY_SECONDS
from orchestrator.api.requests import namespace_of
from orchestrator.contract.errors import (
    ConflictError,
    InvalidError,
    NoLeaderError,
    NotFoundError,
    OutOfRangeError,
    OverloadedError,
    TimeoutError_,
)
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.jobfile.check import near_miss
from orchestrator.replication.log import ReplicatedLog, StateMachine
from orchestrator.state.events import KINDS, Record
from orchestrator.state.state import State

BATCH = 200
"""Events that are sent before it is looked whether there are more."""
LOOK_S = 5.0
"""A watcher of a quiet cluster looks this often whether its peer is still in touch with a majority."""
OUT_OF_TOUCH_MS = 10_000
HASH_WAIT_S = 10.0


class Watch:
    def __init__(self, log: ReplicatedLog, state: Callable[[], State], feed: Feed) -> None:
        self._log = log
        self._state = state
        self._feed = feed

    async def watch_events(self, request: pb.WatchEventsRequest, call: Call) -> AsyncIterator[bytes]:
        """Events in order. Resume after index n: those of index n itself are not sent again."""
        namespace = "*" if request.namespace == "*" else namespace_of(request.namespace)
        kinds = frozenset(request.kinds)
        for kind in sorted(kinds - KINDS.keys()):
            raise InvalidError(f"kinds: there is no kind of event {kind!r}{near_miss(kind, KINDS)}")
        after = request.after_index
        if after < -1:
            raise InvalidError(f"after_index: {after}; expected an index, 0 (oldest kept) or -1 (only new ones)")
        if after == -1:
            after = await self._log.read_barrier(timeout_s=call.timeout_s(read_patience_s(self._log)))
        elif after > self._state().index:
            # From a peer that is ahead of this one, or from a life that this cluster does not go on from.
            known = await self._log.read_barrier(timeout_s=call.timeout_s(read_patience_s(self._log)))
            if after > known:
                raise OutOfRangeError(
                    f"index {after} is of another life of this cluster, which is at {known}: list again and watch from "
                    "there",
                    first_index=str(known),
                )
        self._feed.join()
        try:
            while (place := self._feed.place_after(after)) is None:
                records = self._state().events.records_after(after, limit=BATCH)
                for record in records:
                    if _wanted(record, namespace, request.job, kinds):
                        yield encoded(record)
                if records:
                    after = records[-1][0]
            while True:
                try:
                    shared = self._feed.read(place, BATCH)
                except OverloadedError as error:
                    error.metadata["resume_after"] = str(after)
                    raise
                for one in shared:
                    if _wanted(one.record, namespace, request.job, kinds):
                        yield one.raw
                if shared:
                    after = shared[-1].record[0]
                    place += len(shared)
                elif not await self._feed.more(place, LOOK_S):
                    self._still_in_touch()
        finally:
            self._feed.leave()

    def _still_in_touch(self) -> None:
        silent_ms = self._log.status().last_quorum_ms
        if silent_ms < 0 or silent_ms > OUT_OF_TOUCH_MS:
            raise NoLeaderError("this peer has lost touch with the majority: watch at another one")


def _wanted(record: Record, namespace: str, job: str, kinds: frozenset[str]) -> bool:
    """Events without a namespace are the cluster's own and always come, unless a job is asked for."""
    _, _, _, kind, of_namespace, of_job, *_ = record
    if kinds and kind not in kinds:
        return False
    if job and of_job != job:
        return False
    return namespace == "*" or not of_namespace or of_namespace == namespace


class HashedMachine(StateMachine, Protocol):
    """A state machine whose hash can be computed from a copy."""

    def capture_hash(self) -> Callable[[], str]:
        """Copy the state as it is now, and return what computes its hash, which may run in a thread."""


class HashingMachine(Around[HashedMachine]):
    """A ``StateMachine`` that also hashes its state when an index is reached, before the next command changes it.

    It times ``apply`` as well: every command of every peer comes through here.
    """

    def __init__(self, machine: HashedMachine) -> None:
        super().__init__(machine)
        self._waiting: dict[int, list[asyncio.Future[Callable[[], str]]]] = {}

    def apply(self, payload: bytes) -> object:
        began = time.perf_counter()
        outcome = self._machine.apply(payload)
        APPLY_SECONDS.observe(time.perf_counter() - began)
        if self._waiting:
            self._answer()
        return outcome

    def prepare(self, data: bytes) -> Callable[[], None]:
        put = self._machine.prepare(data)

        def put_and_answer() -> None:
            put()
            self._answer()

        return put_and_answer

    async def hash_now(self) -> tuple[int, str]:
        """An index from now on, and the hash there."""
        await asyncio.to_thread(self._machine.make_room())
        index, captured = self.index, self._machine.capture_hash()
        return index, await asyncio.to_thread(captured)

    async def hash_at(self, index: int, *, timeout_s: float) -> str:
        """The hash at exactly ``index``; raises ``ConflictError`` if that is past, ``TimeoutError_`` if it is far."""
        if index == self.index:  # no time to make room: it would be past then
            return await asyncio.to_thread(self._machine.capture_hash())
        if index < self.index:
            raise _past(index, self.index)
        future: asyncio.Future[Callable[[], str]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(index, []).append(future)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.to_thread(self._machine.make_room())
                captured = await future
            return await asyncio.to_thread(captured)
        except TimeoutError:
            raise TimeoutError_(f"this peer is at index {self.index} and did not reach {index}") from None
        finally:
            waiters = self._waiting.get(index, [])
            if future in waiters:
                waiters.remove(future)
                if not waiters:
                    del self._waiting[index]

    def _answer(self) -> None:
        index = self.index
        for wanted in sorted(self._waiting):
            if wanted > index:
                return
            waiters = self._waiting.pop(wanted)
            found = self._machine.capture_hash() if wanted == index else None
            for future in waiters:
                if future.done():
                    continue
                if found is not None:
                    future.set_result(found)
                else:
                    future.set_exception(_past(wanted, index))


class StateHashes:
    """``Control.StateHash``, of this peer or of another."""

    def __init__(self, log: ReplicatedLog, machine: HashingMachine, forwarder: Forwarder, *, peer_id: str) -> None:
        self._log = log
        self._machine = machine
        self._forwarder = forwarder
        self._peer_id = peer_id

    async def state_hash(self, request: pb.StateHashRequest, call: Call) -> pb.StateHashResponse:
        peer_id = request.peer_id or self._peer_id
        if peer_id != self._peer_id:
            return await self._elsewhere(peer_id, request, call)
        if request.at_index < 0:
            raise InvalidError(f"at_index: {request.at_index}; expected 0 (now) or an index")
        index = request.at_index
        if index == 0:
            await self._log.read_barrier(timeout_s=call.timeout_s(read_patience_s(self._log)))
            index, found = await self._machine.hash_now()
        else:
            found = await self._machine.hash_at(index, timeout_s=call.timeout_s(HASH_WAIT_S))
        return pb.StateHashResponse(hash=found, index=index, peer_id=self._peer_id)

    async def _elsewhere(self, peer_id: str, request: pb.StateHashRequest, call: Call) -> pb.StateHashResponse:
        if peer_id not in self._forwarder.addresses:
            known = ", ".join(sorted(self._forwarder.addresses))
            raise NotFoundError(f"no peer {peer_id!r}; the peers are {known}")
        if call.caller.forwarded:
            raise InvalidError(f"peer_id: {peer_id!r} was forwarded to {self._peer_id}")
        raw = await self._forwarder.call(
            peer_id,
            f"/{CONTROL}/StateHash",
            request.SerializeToString(),
            call,
            timeout_s=call.timeout_s(),
            follow=False,
        )
        return pb.StateHashResponse.FromString(raw)


def _past(index: int, now: int) -> ConflictError:
    metadata: dict[str, Any] = {"index": str(now)}
    return ConflictError(f"this peer is already at index {now}, past {index}: ask for a later one", **metadata)
