"""Services: listed, watched by clients, and told to the agents whose tasks ask for them.

Owns: looking at the state while somebody watches, at most every ``PAUSE_S``, and waking who waits. Leaves to others:
what a service is (``state.services``), who may ask (``identity``, ``agents``). The rules: a message has all instances
of the services that it names, so a missed one costs nothing; an agent costs nothing for services that nobody on it asks
for; and few are woken in one turn of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from google.protobuf.message import Message

from orchestrator.api.feed import AT_ONCE
from orchestrator.api.forward import Call, read_patience_s
from orchestrator.api.hello import first_of
from orchestrator.api.requests import namespace_of
from orchestrator.contract import codec
from orchestrator.contract.errors import InvalidError, NoLeaderError, OutOfRangeError
from orchestrator.contract.v1 import agent_pb2, types_pb2
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.log import ReplicatedLog
from orchestrator.state.services import AT_ONCE as AT_ONCE_ROWS
from orchestrator.state.services import Key, ServiceIndex
from orchestrator.state.state import State

PAUSE_S = 0.1
PAUSE_TIMES = 20
"""A pause is at least so many times as long as a part of a look."""
LOOK_S = 5.0
"""A watcher of a quiet cluster looks this often whether its peer is still in touch with a majority."""
OUT_OF_TOUCH_MS = 10_000
BARRIER_S = 1.0
INSTANCES_AT_ONCE = 5_000
"""In one message, about: it must stay well below the size that a channel takes."""
NAMES_MAX = 2_000
"""Of services that one agent asks for."""
CACHED = 10_000
ALL = "*"


class Services:
    """``info`` is the read barrier of ``Reads``; ``check`` refuses a caller that is not that node's agent."""

    def __init__(
        self,
        log: ReplicatedLog,
        state: Callable[[], State],
        *,
        info: Callable[[Any, Call], Awaitable[pb.ReadInfo]],
        check: Callable[[Call, str], Awaitable[None]],
    ) -> None:
        self._log = log
        self._state = state
        self._info = info
        self._check = check
        self._index = ServiceIndex()
        self._messages: dict[Key, types_pb2.Service] = {}
        self._watchers: set[asyncio.Event] = set()  # of everything
        self._by_key: dict[Key, set[_Agent]] = {}
        self._readers = 0
        self._unsubscribe: Callable[[], None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._look_s = 0.0  # what the last part of a look took

    # ------------------------------------------------------------------------ calls

    async def list_services(self, request: pb.ListServicesRequest, call: Call) -> pb.ListServicesResponse:
        namespace = ALL if request.namespace == ALL else namespace_of(request.namespace)
        response = pb.ListServicesResponse(read=await self._info(request.read, call))
        await self._look()
        for key in self._index.matching(namespace, request.name):
            response.services.append(self._message(key))
        return response

    async def watch_services(self, request: pb.WatchServicesRequest, call: Call) -> AsyncIterator[Message]:
        namespace = ALL if request.namespace == ALL else namespace_of(request.namespace)
        after = request.after_index
        if after < 0:
            raise InvalidError(f"after_index: {after}; expected the index of an update, or 0")
        known = await self._log.read_barrier(timeout_s=call.timeout_s(read_patience_s(self._log)))
        if after > known:
            raise OutOfRangeError(
                f"index {after} is of another life of this cluster, which is at {known}: watch from the beginning",
                first_index=str(known),
            )
        woken = asyncio.Event()
        self._watchers.add(woken)
        self._join()
        try:
            while True:
                woken.clear()
                await self._look()
                at = self._index.at
                changed = self._index.changed_after(after) if after else None
                full = changed is None
                keys = self._index.matching(namespace, request.name) if changed is None else changed
                if changed is not None:
                    keys = [key for key in keys if namespace in (ALL, key[0]) and request.name in ("", key[1])]
                if full or keys:
                    async for update in self._updates(keys, at, full):
                        yield update
                after = max(at, 1)
                try:
                    async with asyncio.timeout(LOOK_S):
                        await woken.wait()
                except TimeoutError:
                    self._still_in_touch()
        finally:
            self._watchers.discard(woken)
            self._leave()

    async def services(self, ups: AsyncIterator[Any], call: Call) -> AsyncIterator[Message]:
        """``Agents.Services``: the agent names what it wants to hear of; each name is answered once, then on change."""
        first = await first_of(ups)
        if first is None or not first.node_id:
            raise InvalidError("expected a first message with node_id")
        await self._check(call, first.node_id)
        agent = _Agent()
        reader = asyncio.get_running_loop().create_task(self._read(agent, first, ups))
        self._join()
        try:
            while True:
                await agent.woken.wait()
                agent.woken.clear()
                if agent.fresh:
                    agent.fresh = False
                    with contextlib.suppress(NoLeaderError):  # then what this peer knows has to do
                        await self._log.read_barrier(timeout_s=BARRIER_S)
                    await self._look()
                due, agent.due = sorted(agent.due), set()
                for some in self._portions(due):
                    yield agent_pb2.ServicesDown(index=self._index.at, services=[self._message(key) for key in some])
                if reader.done():
                    reader.result()
                    return
        finally:
            self._leave()
            self._drop(agent, tuple(agent.names))
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, agent: _Agent, first: Any, ups: AsyncIterator[Any]) -> None:
        try:
            self._hear(agent, first)
            async for up in ups:
                self._hear(agent, up)
        finally:
            agent.woken.set()

    def _hear(self, agent: _Agent, up: Any) -> None:
        self._drop(agent, [(one.namespace, one.name) for one in up.drop])
        for one in up.add:
            key = (one.namespace, one.name)
            agent.names.add(key)
            agent.due.add(key)
            agent.fresh = True
            self._by_key.setdefault(key, set()).add(agent)
        if len(agent.names) > NAMES_MAX:
            raise InvalidError(f"an agent asks for at most {NAMES_MAX} services, not {len(agent.names)}")
        agent.woken.set()

    def _drop(self, agent: _Agent, keys: Iterable[Key]) -> None:
        for key in keys:
            agent.names.discard(key)
            agent.due.discard(key)
            asking = self._by_key.get(key)
            if asking is not None:
                asking.discard(agent)
                if not asking:
                    del self._by_key[key]

    # ------------------------------------------------------------------------ messages

    def _message(self, key: Key) -> types_pb2.Service:
        """Made once for all who hear of it."""
        message = self._messages.get(key)
        if message is None:
            if len(self._messages) >= CACHED:
                self._messages.clear()
            message = self._messages[key] = codec.encode(self._index.service(key), types_pb2.Service())
        return message

    def _portions(self, keys: list[Key]) -> list[list[Key]]:
        portions: list[list[Key]] = []
        room = 0
        for key in keys:
            size = 1 + len(self._index.service(key).instances)
            if not portions or room < size:
                portions.append([])
                room = INSTANCES_AT_ONCE
            portions[-1].append(key)
            room -= size
        return portions

    async def _updates(self, keys: list[Key], at: int, full: bool) -> AsyncIterator[pb.ServicesUpdate]:
        """Several where one would be too large: only the last one has the index, so that none of them is skipped."""
        portions = self._portions(keys) or [[]]
        for number, some in enumerate(portions):
            yield pb.ServicesUpdate(
                index=at if number == len(portions) - 1 else 0,
                full=full and number == 0,
                services=[self._message(key) for key in some],
            )
            await asyncio.sleep(0)

    # ------------------------------------------------------------------------ looking

    def _join(self) -> None:
        self._readers += 1
        if self._readers == 1:
            self._unsubscribe = self._log.subscribe(self._soon)

    def _leave(self) -> None:
        self._readers -= 1
        if self._readers == 0:
            if self._unsubscribe is not None:
                self._unsubscribe()
                self._unsubscribe = None
            if self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def _soon(self) -> None:
        if self._looking is None and (self._watchers or self._by_key):
            self._looking = asyncio.get_running_loop().create_task(self._look_soon())

    async def _look_soon(self) -> None:
        """After a pause, for what comes together is told together, and looking is not to be all that a peer does."""
        await asyncio.sleep(max(PAUSE_S, PAUSE_TIMES * self._look_s))
        self._looking = None
        await self._look()

    async def _look(self) -> None:
        """Bring the index up to date, in parts: there may be a hundred thousand instances."""
        while True:
            began = time.perf_counter()
            changed = self._index.look(self._state(), most=AT_ONCE_ROWS)
            self._look_s = time.perf_counter() - began
            if changed is not None:
                break
            await asyncio.sleep(0)
        if not changed:
            return
        waiting: dict[asyncio.Event, None] = dict.fromkeys(self._watchers)
        for key in changed:
            self._messages.pop(key, None)
            for agent in self._by_key.get(key, ()):
                agent.due.add(key)
                waiting[agent.woken] = None
        self._wake(list(waiting))

    def _wake(self, waiting: list[asyncio.Event]) -> None:
        for event in waiting[:AT_ONCE]:
            event.set()
        if len(waiting) > AT_ONCE:
            asyncio.get_running_loop().call_soon(self._wake, waiting[AT_ONCE:])

    def _still_in_touch(self) -> None:
        silent_ms = self._log.status().last_quorum_ms
        if silent_ms < 0 or silent_ms > OUT_OF_TOUCH_MS:
            raise NoLeaderError("this peer has lost touch with the majority: watch at another one")


class _Agent:
    """One agent's stream: what it asks for, and what it has still to hear."""

    __slots__ = ("due", "fresh", "names", "woken")

    def __init__(self) -> None:
        self.names: set[Key] = set()
        self.due: set[Key] = set()
        self.woken = asyncio.Event()
        self.fresh = False
