"""What an agent knows of services: those that its tasks ask for, and no others.

Owns: which services are asked for, what is known of each and since when nobody confirmed it, the stream from the peer
that the session talks to, and a copy on disk, so that a restarted agent has answers before a peer does. Leaves to
others: who asks (``dns``, ``workload``), which peer (``session``). The rules: an agent on which nobody asks holds no
stream and costs nothing; what was known stays the answer through an outage of the control plane, with its age.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc.aio
import structlog
from google.protobuf import json_format

from agent.dns.zone import Known
from agent.steady import wall_ms
from orchestrator.contract import codec
from orchestrator.contract.model import Service, ServiceName
from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import agent_pb2, types_pb2

FIRST_S = 1.5
"""How long the first question for a service may wait for an answer."""
KEPT_S = 600.0
"""A service that nobody asked for so long is no longer listened for."""
NAMES_MAX = 1_000
AGAIN_S = 1.0
UNKNOWN_AGAIN_S = 60.0
SAVE_S = 1.0
CONFIRMED_MS = 4_000
"""While the stream is there, what is known is confirmed with every heartbeat; younger than this counts as now."""

log = structlog.get_logger("agent.discovery")


class Directory:
    """``save`` keeps a plain value, ``saved`` is what it kept last. ``now_ms``: the wall clock; ages outlive a boot."""

    def __init__(
        self,
        *,
        saved: Mapping[str, Any] | None = None,
        save: Callable[[dict[str, Any]], None] = lambda _value: None,
        now_ms: Callable[[], int] = wall_ms,
        first_s: float = FIRST_S,
    ) -> None:
        self._save = save
        self._now_ms = now_ms
        self._first_s = first_s
        self._asked: dict[ServiceName, float] = {}  # when last, monotonic; the longest ago comes first
        self._known: dict[ServiceName, Service] = {}
        self._answered: set[ServiceName] = set()  # in the present stream
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()  # something to tell the peer
        self._live = False
        self._confirmed_ms = 0
        self._unsaved = False
        if saved:
            self._load(saved)

    # ------------------------------------------------------------------------ asking

    @property
    def age_ms(self) -> int:
        """Since when nobody confirmed what is known; 0: it is confirmed all the time."""
        age = max(0, self._now_ms() - self._confirmed_ms)
        return 0 if self._live and age <= CONFIRMED_MS else age

    @property
    def names(self) -> int:
        """How many services are listened for."""
        return len(self._asked)

    async def ask(self, name: ServiceName) -> Known | None:
        """What is known of it; the first time, what a peer says within a moment. None: nobody could say."""
        self._note(name)
        known = self._now(name)
        if known is not None and (known.service.declared or self._live):
            return known
        deadline = asyncio.get_running_loop().time() + self._first_s
        while name not in self._answered:
            changed = self._changed
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                break
        return self._now(name)

    def known(self, name: ServiceName) -> Service | None:
        """Without asking anybody."""
        return self._known.get(name)

    async def watch(self, name: ServiceName) -> AsyncIterator[Service]:
        """What is known of it, and again whenever that changes."""
        before: Service | None = None
        while True:
            self._note(name)
            changed = self._changed
            known = self._known.get(name)
            if known is not None and known != before:
                before = known
                yield known
            await changed.wait()

    def _now(self, name: ServiceName) -> Known | None:
        service = self._known.get(name)
        return None if service is None else Known(service=service, age_ms=self.age_ms)

    def _note(self, name: ServiceName) -> None:
        fresh = name not in self._asked
        self._asked.pop(name, None)
        self._asked[name] = time.monotonic()
        if fresh:
            if len(self._asked) > NAMES_MAX:
                self._forget(next(iter(self._asked)))
            self._wanted.set()
            self._news.set()

    def _forget(self, name: ServiceName) -> None:
        del self._asked[name]
        self._known.pop(name, None)
        self._answered.discard(name)
        self._news.set()

    # ------------------------------------------------------------------------ hearing

    def confirmed(self) -> None:
        """The peer that the stream comes from was just heard to be in touch with a majority."""
        if self._live:
            self._confirmed_ms = self._now_ms()

    async def follow(self, stub: Any, node_id: str) -> None:
        """Hold a stream while somebody asks; for ever. Its failures are its own: the session goes on."""
        while True:
            await self._wanted.wait()
            pause_s = AGAIN_S
            try:
                await self._stream(stub, node_id)
            except grpc.aio.AioRpcError as error:
                cause = from_rpc_error(error)
                log.debug("services_stream_ended", why=cause.message)
                if cause.reason == "UNIMPLEMENTED":
                    pause_s = UNKNOWN_AGAIN_S  # a peer of an older version
            await asyncio.sleep(pause_s)

    async def _stream(self, stub: Any, node_id: str) -> None:
        call = stub.Services()
        writer: asyncio.Task[None] | None = None
        try:
            await call.write(agent_pb2.ServicesUp(node_id=node_id))
            writer = asyncio.get_running_loop().create_task(self._tell(call))
            async for down in call:
                for one in down.services:
                    self._hear(codec.decode(Service, one))
                self._live = True
                self._confirmed_ms = self._now_ms()
                self._wake()
        finally:
            self._live = False
            self._answered.clear()
            call.cancel()
            if writer is not None:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
            self._keep()

    async def _tell(self, call: Any) -> None:
        """Which services are asked for, whenever that changes; ends the stream when there are none any more."""
        told: set[ServiceName] = set()
        self._news.set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAVE_S if self._unsaved else KEPT_S / 4):
                    await self._news.wait()
            self._news.clear()
            self._keep()
            long_ago = time.monotonic() - KEPT_S
            for name in [name for name, asked in self._asked.items() if asked < long_ago]:
                self._forget(name)
            if not self._asked:
                self._wanted.clear()
                await call.done_writing()
                return
            now = set(self._asked)
            up = agent_pb2.ServicesUp()
            for name in sorted(now - told, key=_order):
                codec.encode(name, up.add.add())
            for name in sorted(told - now, key=_order):
                codec.encode(name, up.drop.add())
            told = now
            if up.add or up.drop:
                await call.write(up)

    def _hear(self, service: Service) -> None:
        name = ServiceName(namespace=service.namespace, name=service.name)
        if name not in self._asked:
            return
        self._answered.add(name)
        if self._known.get(name) != service:
            self._known[name] = service
            self._unsaved = True
            self._news.set()  # so that it is saved soon

    def _wake(self) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    # ------------------------------------------------------------------------ on disk

    def _keep(self) -> None:
        if not self._unsaved:
            return
        self._unsaved = False
        services = [
            json_format.MessageToDict(codec.encode(service, types_pb2.Service()), preserving_proto_field_name=True)
            for service in self._known.values()
            if service.declared
        ]
        try:
            self._save({"confirmed_ms": self._confirmed_ms, "services": services})
        except OSError as error:
            log.warning("services_not_saved", error=str(error))

    def _load(self, saved: Mapping[str, Any]) -> None:
        """What cannot be read is left out: a peer will say it again."""
        with contextlib.suppress(KeyError, TypeError, ValueError, json_format.ParseError):
            self._confirmed_ms = int(saved["confirmed_ms"])
            for one in saved["services"]:
                service = codec.decode(Service, json_format.ParseDict(one, types_pb2.Service()))
                name = ServiceName(namespace=service.namespace, name=service.name)
                self._known[name] = service
                self._asked[name] = time.monotonic()
        if self._asked:
            self._wanted.set()


def _order(name: ServiceName) -> tuple[str, str]:
    return name.namespace, name.name
