"""``WatchEvents`` and ``StateHash``: answers that wait for an index.

Owns: streaming events from the state's ring, filtered; hashing the state at exactly one index. Leaves to others: what
an event is (``state.events``). The rule: nothing is queued per watcher: each reads the ring at its own pace; one that
falls behind what is kept is told so with OUT_OF_RANGE.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Protocol

from google.protobuf.message import Message

from orchestrator.api.forward import Call, Forwarder, read_patience_s
from orchestrator.api.identity import CONTROL
from orchestrator.api.metrics import APPLY_SECONDS
from orchestrator.api.requests import namespace_of
from orchestrator.contract import codec
from orchestrator.contract.errors import (
    ConflictError,
    InvalidError,
    NoLeaderError,
    NotFoundError,
    OutOfRangeError,
    TimeoutError_,
)
from orchestrator.contract.model import Event
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.jobfile.check import near_miss
from orchestrator.replication.log import ReplicatedLog, StateMachine
from orchestrator.state.events import KINDS
from orchestrator.state.state import State

BATCH = 1_000
LOOK_S = 5.0
"""A watcher of a quiet cluster looks this often whether its peer is still in touch with a majority."""
OUT_OF_TOUCH_MS = 10_000
HASH_WAIT_S = 10.0


class Watch:
    def __init__(self, log: ReplicatedLog, state: Callable[[], State]) -> None:
        self._log = log
        self._state = state

    async def watch_events(self, request: pb.WatchEventsRequest, call: Call) -> AsyncIterator[Message]:
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
        while True:
            events = self._state().events.after(after, limit=BATCH)
            for event in events:
                if _wanted(event, namespace, request.job, kinds):
                    yield codec.encode(event, pb.Event())
            if events:
                after = events[-1].index
                continue
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._log.changed(after=max(after, self._state().index))
            except TimeoutError:
                self._still_in_touch()

    def _still_in_touch(self) -> None:
        silent_ms = self._log.status().last_quorum_ms
        if silent_ms < 0 or silent_ms > OUT_OF_TOUCH_MS:
            raise NoLeaderError("this peer has lost touch with the majority: watch at another one")


def _wanted(event: Event, namespace: str, job: str, kinds: frozenset[str]) -> bool:
    """Events without a namespace are the cluster's own and always come, unless a job is asked for."""
    if kinds and event.kind not in kinds:
        return False
    if job and event.job != job:
        return False
    return namespace == "*" or not event.namespace or event.namespace == namespace


class HashedMachine(StateMachine, Protocol):
    """A state machine whose hash can be computed from a copy."""

    def capture_hash(self) -> Callable[[], str]:
        """Copy the state as it is now, and return what computes its hash, which may run in a thread."""


class HashingMachine:
    """A ``StateMachine`` that also hashes its state when an index is reached, before the next command changes it.

    It times ``apply`` as well: every command of every peer comes through here.
    """

    def __init__(self, machine: HashedMachine) -> None:
        self._machine = machine
        self._waiting: dict[int, list[asyncio.Future[Callable[[], str]]]] = {}

    @property
    def index(self) -> int:
        return self._machine.index

    def apply(self, payload: bytes) -> object:
        began = time.perf_counter()
        outcome = self._machine.apply(payload)
        APPLY_SECONDS.observe(time.perf_counter() - began)
        if self._waiting:
            self._answer()
        return outcome

    def make_room(self) -> Callable[[], None]:
        return self._machine.make_room()

    def capture(self) -> Callable[[], Iterable[bytes]]:
        return self._machine.capture()

    def prepare(self, data: bytes) -> Callable[[], None]:
        put = self._machine.prepare(data)

        def put_and_answer() -> None:
            put()
            self._answer()

        return put_and_answer

    def state_hash(self) -> str:
        return self._machine.state_hash()

    def admitted(self) -> dict[str, str]:
        return self._machine.admitted()

    def cluster_id(self) -> str:
        return self._machine.cluster_id()

    def epoch(self) -> int:
        return self._machine.epoch()

    def addresses(self) -> dict[str, str]:
        return self._machine.addresses()

    async def hash_at(self, index: int, *, timeout_s: float) -> str:
        """The hash at exactly ``index``; raises ``ConflictError`` if that is past, ``TimeoutError_`` if it is far."""
        if index == self.index:
            return await asyncio.to_thread(self._machine.capture_hash())
        if index < self.index:
            raise _past(index, self.index)
        future: asyncio.Future[Callable[[], str]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(index, []).append(future)
        try:
            async with asyncio.timeout(timeout_s):
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
            index = self._machine.index
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
