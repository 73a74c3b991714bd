"""``SimNetwork``: links between simulated peers, with delays, cuts in one direction, and broken sessions.

Owns: which frames arrive, when, and what a session is. It keeps the rule of ``replication.link``: in one direction
frames arrive in order and at most once, and what is lost is lost with its session. Frames travel as bytes, so
nothing is shared.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.contract.errors import NoLeaderError
from orchestrator.replication.link import Host, Receiver
from orchestrator.replication.v1 import peer_pb2 as pb

Tap = Callable[[str, str, pb.Frame], pb.Frame | None]
"""``(sender, receiver, frame)``: may change, drop (None) or just see a frame as it is delivered."""


@dataclass(slots=True)
class _Stream:
    """One direction between two running peers."""

    source: str
    target: str
    open: bool = True
    busy_until: float = 0.0
    undelivered: int = field(default=0)


class SimNetwork:
    """The wires of one cluster. ``endpoint`` gives each engine its ``Network``."""

    def __init__(self, rng: random.Random, *, delay_s: tuple[float, float] = (0.0002, 0.002)) -> None:
        self._rng = rng
        self.delay_s = delay_s
        self._endpoints: dict[str, Endpoint] = {}
        self._hosts: dict[str, Host] = {}  # of running processes
        self._streams: dict[tuple[str, str], _Stream] = {}
        self.cut: set[tuple[str, str]] = set()  # directions in which nothing passes
        self.slow: dict[tuple[str, str], float] = {}  # extra delay of a direction
        self.tap: Tap | None = None
        self.delivered = 0

    def endpoint(self, peer_id: str) -> Endpoint:
        return Endpoint(self, peer_id)

    # ------------------------------------------------------------------ faults

    def isolate(self, peer_id: str) -> None:
        for other in self._endpoints.keys() | self._hosts.keys():
            if other != peer_id:
                self.cut_link(peer_id, other)
                self.cut_link(other, peer_id)

    def cut_link(self, source: str, target: str) -> None:
        """Nothing passes in this direction any more; the session breaks."""
        self.cut.add((source, target))
        self.break_stream(source, target)

    def heal(self) -> None:
        self.cut.clear()
        self.slow.clear()

    def break_stream(self, source: str, target: str) -> None:
        """The connection is lost with everything on its way; it is dialled again."""
        stream = self._streams.pop((source, target), None)
        if stream is None:
            return
        stream.open = False
        for peer, call in ((source, "peer_down"), (target, "session_ended")):
            endpoint = self._endpoints.get(peer)
            if endpoint is not None:
                getattr(endpoint.receiver, call)(target if peer == source else source)

    # ------------------------------------------------------------------ life

    def join(self, endpoint: Endpoint) -> None:
        self._endpoints[endpoint.peer_id] = endpoint

    def leave(self, endpoint: Endpoint) -> None:
        """The process is gone: its connections break on the other side."""
        if self._endpoints.get(endpoint.peer_id) is endpoint:
            del self._endpoints[endpoint.peer_id]
            for source, target in [key for key in self._streams if endpoint.peer_id in key]:
                self.break_stream(source, target)

    # ------------------------------------------------------------------ calls without a session

    def host(self, peer_id: str, host: Host | None) -> None:
        """Whose process answers calls; None: it is gone."""
        if host is None:
            self._hosts.pop(peer_id, None)
        else:
            self._hosts[peer_id] = host

    async def reach(self, source: str, address: str) -> Host:
        """The host at ``address`` (its peer's id, a colon, anything), after a delay; raises ``NoLeaderError``."""
        target = address.partition(":")[0]
        await asyncio.sleep(self._rng.uniform(*self.delay_s) + self.slow.get((source, target), 0.0))
        host = self._hosts.get(target)
        if host is None or {(source, target), (target, source)} & self.cut:
            raise NoLeaderError(f"{target} cannot be reached")
        return host

    def dial(self, source: str, target: str) -> None:
        """Open a stream if both ends live and the direction is not cut."""
        here, there = self._endpoints.get(source), self._endpoints.get(target)
        if here is None or there is None or (source, target) in self.cut or (source, target) in self._streams:
            return
        here.sessions += 1
        hello = here.receiver.hello()
        hello.session = here.sessions
        welcome = there.receiver.hello()
        reason = there.receiver.judge(hello)
        if reason:
            there.receiver.refused(source, reason, hello)
            here.receiver.refused(target, reason, welcome)
            return
        self._streams[source, target] = _Stream(source, target)
        there.receiver.session_began(source, hello, cert_expires_ms=0)
        here.receiver.peer_up(target, welcome)

    def carry(self, source: str, target: str, frames: Sequence[pb.Frame]) -> None:
        stream = self._streams.get((source, target))
        if stream is None:
            return
        loop = asyncio.get_running_loop()
        delay = self._rng.uniform(*self.delay_s) + self.slow.get((source, target), 0.0)
        arrives = stream.busy_until = max(stream.busy_until, loop.time() + delay)
        stream.undelivered += 1
        data = [frame.SerializeToString() for frame in frames]
        loop.call_at(arrives, self._deliver, stream, data)

    def _deliver(self, stream: _Stream, data: list[bytes]) -> None:
        endpoint = self._endpoints.get(stream.target)
        if not stream.open or endpoint is None:
            return
        stream.undelivered -= 1
        for row in data:
            frame: pb.Frame | None = pb.Frame.FromString(row)
            if self.tap is not None and frame is not None:
                frame = self.tap(stream.source, stream.target, frame)
            if frame is not None and stream.open:
                self.delivered += 1
                endpoint.receiver.received(stream.source, frame)


class Endpoint:
    """One process's ``Network``."""

    def __init__(self, network: SimNetwork, peer_id: str) -> None:
        self._network = network
        self.peer_id = peer_id
        self.receiver: Receiver
        self.sessions = 0
        self._dialling: asyncio.Task[None] | None = None

    async def start(self, peer_id: str, peers: dict[str, str], receiver: Receiver) -> None:
        self.receiver = receiver
        self._network.join(self)
        self._dialling = asyncio.create_task(self._dial(sorted(peers)))

    async def _dial(self, peers: list[str]) -> None:
        while True:
            for peer in peers:
                self._network.dial(self.peer_id, peer)
            await asyncio.sleep(0.05)

    def send(self, peer_id: str, frames: Sequence[pb.Frame]) -> None:
        self._network.carry(self.peer_id, peer_id, frames)

    def serve(self, host: Host) -> None:
        self._network.host(self.peer_id, host)

    async def fetch(self, address: str, request: pb.FetchRequest) -> tuple[pb.SnapshotHeader, bytes]:
        host = await self._network.reach(self.peer_id, address)
        header, data = await host.newest_snapshot(request.hello)
        await self._network.reach(self.peer_id, address)  # still
        host.snapshot_taken(request.hello)
        return header, data

    async def invite(self, address: str, invitation: pb.Invitation) -> pb.InvitationReply:
        host = await self._network.reach(self.peer_id, address)
        return await host.invited(invitation)

    async def stop(self) -> None:
        self._hang_up()

    def kill(self) -> None:
        self._network.host(self.peer_id, None)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        self._network.leave(self)
