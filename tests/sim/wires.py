"""``Wires``: the network between simulated peers, with everything that TCP and gRPC allow to go wrong.

Owns: sessions, when frames arrive, and which do not. It keeps the rule of ``replication.link``: in one direction frames
arrive in order and at most once, what is lost is lost with its session, and a new session drops the old one's tail.
Within that rule it delays, breaks sessions in the middle of what is on its way, lets the two ends notice at different
times, and holds back what a cut direction cannot carry until the cut heals or the session is given up.

Everything that reaches a process is scheduled in that process's context, so a paused one reads it when it goes on.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.contract.errors import NoLeaderError
from orchestrator.replication.link import Host, Receiver
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.process import ProcessLoop, SimProcess

T = TypeVar("T")

Tap = Callable[[str, str, pb.Frame], Sequence[pb.Frame]]
"""``(sender, receiver, frame)`` -> what is delivered in its place; called as the frame is delivered."""

REDIAL_S = 0.05
HANDSHAKE_S = 0.4
"""A handshake that takes longer is given up and tried again."""
CALL_S = 3.0
"""A call without a session is answered within this time, or not at all."""
NOTICE_S = (0.0, 0.06)
"""Within this time each end notices that a session broke."""
SILENCE_S = (0.1, 2.5)
"""Within this time an end gives up a session over which nothing passes."""


@dataclass(slots=True, eq=False)
class _Session:
    """One direction between two lives of two peers."""

    source: Wire
    target: Wire
    welcomed: bool = False  # the source knows that it is open
    begun: bool = False  # the target knows
    broken: bool = False
    arrives: float = 0.0  # when the last frame on its way arrives
    ends: float = float("inf")  # what would arrive later is lost
    held: list[list[bytes]] = field(default_factory=list)  # by a cut


class Wires:
    def __init__(self, loop: ProcessLoop, rng: random.Random, *, delay_s: tuple[float, float]) -> None:
        self._loop = loop
        self._rng = rng
        self.delay_s = delay_s
        self.loss = 0.0  # of what is sent: the session breaks there
        self.cut: set[tuple[str, str]] = set()
        self.slow: dict[tuple[str, str], float] = {}
        self.tap: Tap | None = None
        self.delivered = 0
        self.digest = 0  # of everything that was delivered, in order
        self.broken_sessions = 0
        self._wires: dict[str, Wire] = {}
        self._hosts: dict[str, tuple[Host, SimProcess]] = {}  # who answers calls without a session
        self._sessions: dict[tuple[str, str], _Session] = {}  # as the source sees them
        self._numbers: dict[str, int] = {}

    # ------------------------------------------------------------------ faults

    def cut_direction(self, source: str, target: str) -> None:
        """Nothing passes any more. Who waits long enough gives the session up, in both directions: acks are missing."""
        if (source, target) in self.cut:
            return
        self.cut.add((source, target))
        for pair in ((source, target), (target, source)):
            session = self._sessions.get(pair)
            if session is not None:
                self._loop.call_later(self._rng.uniform(*SILENCE_S), self._give_up, session, (source, target))

    def _give_up(self, session: _Session, direction: tuple[str, str]) -> None:
        if direction in self.cut:
            self.break_session(session)

    def isolate(self, peer_id: str, others: Sequence[str]) -> None:
        for other in others:
            if other != peer_id:
                self.cut_direction(peer_id, other)
                self.cut_direction(other, peer_id)

    def heal(self) -> None:
        """What was held back arrives now, in order."""
        self.cut.clear()
        self.slow.clear()
        for pair in sorted(self._sessions):
            session = self._sessions[pair]
            if session.held and not session.broken:
                self._loop.call_at(self._loop.time(), self._deliver_held, session, context=session.target.context)

    def _deliver_held(self, session: _Session) -> None:
        """Taken only now: what waits for a paused target arrived later than what was held."""
        held, session.held = session.held, []
        for number, data in enumerate(held):
            if self._blocked(session):  # cut again
                session.held = held[number:] + session.held
                return
            self._hand_over(session, data)

    def break_between(self, source: str, target: str) -> None:
        session = self._sessions.get((source, target))
        if session is not None:
            self.break_session(session)

    def break_session(self, session: _Session, *, silent: bool = False) -> None:
        """The connection is lost, with some of what is on its way. ``silent``: no reset comes, it is noticed late."""
        if session.broken:
            return
        session.broken = True
        self.broken_sessions += 1
        now = self._loop.time()
        session.ends = now + self._rng.uniform(0, 2 * self.delay_s[1])
        bounds = SILENCE_S if silent else NOTICE_S
        self._loop.call_later(self._rng.uniform(*bounds), self._source_notices, session, context=session.source.context)
        when = max(session.ends, now + self._rng.uniform(*bounds)) + 1e-6
        self._loop.call_at(when, self._target_notices, session, context=session.target.context)

    def _source_notices(self, session: _Session) -> None:
        pair = (session.source.peer_id, session.target.peer_id)
        if self._sessions.get(pair) is session:
            del self._sessions[pair]
            if session.welcomed and session.source.alive:
                session.source.receiver.peer_down(session.target.peer_id)

    def _target_notices(self, session: _Session) -> None:
        target, source_id = session.target, session.source.peer_id
        if target.incoming.get(source_id) is session:
            del target.incoming[source_id]
            if target.alive:
                target.receiver.session_ended(source_id)

    # ------------------------------------------------------------------ life

    def join(self, wire: Wire) -> None:
        self._wires[wire.peer_id] = wire

    def leave(self, wire: Wire, *, silent: bool) -> None:
        """It hangs up, or its process is gone; ``silent``: its machine too, so nobody resets its connections."""
        if self._wires.get(wire.peer_id) is wire:
            del self._wires[wire.peer_id]
        wire.incoming.clear()
        for pair in sorted(self._sessions):
            session = self._sessions[pair]
            if session.source is wire or session.target is wire:
                if session.source is wire:
                    del self._sessions[pair]
                self.break_session(session, silent=silent)

    # ------------------------------------------------------------------ sessions

    def dial(self, source: Wire, target_id: str) -> None:
        pair = (source.peer_id, target_id)
        target = self._wires.get(target_id)
        if target is None or pair in self._sessions or pair in self.cut or not source.alive:
            return
        session = self._sessions[pair] = _Session(source, target)
        hello = source.receiver.hello()
        number = self._numbers[source.peer_id] = self._numbers.get(source.peer_id, 0) + 1
        hello.session = number
        self._loop.call_at(self._when(session), self._hello, session, hello.SerializeToString(), context=target.context)
        self._loop.call_later(HANDSHAKE_S, self._handshake_late, session)

    def _handshake_late(self, session: _Session) -> None:
        if not session.welcomed:
            self.break_session(session)

    def _hello(self, session: _Session, data: bytes) -> None:
        """At the target: a session begins, whatever was before."""
        source, target = session.source, session.target
        if session.broken or not target.alive or self._blocked(session):
            return
        hello = pb.Hello.FromString(data)
        welcome = target.receiver.hello()
        reason = target.receiver.judge(hello)
        if reason:
            target.receiver.refused(source.peer_id, reason, hello)
        else:
            session.begun = True
            target.incoming[source.peer_id] = session
            target.receiver.session_began(source.peer_id, hello, cert_expires_ms=0)
        back = self._loop.time() + self._rng.uniform(*self.delay_s) + self.slow.get((target.peer_id, source.peer_id), 0)
        self._loop.call_at(back, self._welcome, session, welcome.SerializeToString(), reason, context=source.context)

    def _welcome(self, session: _Session, data: bytes, reason: str) -> None:
        """At the source."""
        source, target = session.source, session.target
        if session.broken or not source.alive or (target.peer_id, source.peer_id) in self.cut:
            return
        if reason:
            source.receiver.refused(target.peer_id, reason, pb.Hello.FromString(data))
            self.break_session(session)
            return
        session.welcomed = True
        source.receiver.peer_up(target.peer_id, pb.Hello.FromString(data))

    # ------------------------------------------------------------------ calls without a session

    def host(self, peer_id: str, process: SimProcess, host: Host) -> None:
        self._hosts[peer_id] = (host, process)

    async def call(self, source_id: str, address: str, handler: Callable[[Host], Coroutine[Any, Any, T]]) -> T:
        """Ask the host at an address (its peer's id, a colon, anything), there and back."""
        target_id = address.partition(":")[0]
        await self._way(source_id, target_id)
        host, process = self._hosts[target_id]
        answer = await process.ask(handler(host), timeout_s=CALL_S)
        await self._way(target_id, source_id)
        return answer

    async def _way(self, source_id: str, target_id: str) -> None:
        await asyncio.sleep(self._rng.uniform(*self.delay_s) + self.slow.get((source_id, target_id), 0.0))
        known = self._hosts.get(target_id)
        if known is None or not known[1].alive or (source_id, target_id) in self.cut:
            raise NoLeaderError(f"{target_id} cannot be reached")

    # ------------------------------------------------------------------ frames

    def _blocked(self, session: _Session) -> bool:
        return (session.source.peer_id, session.target.peer_id) in self.cut

    def _when(self, session: _Session) -> float:
        pair = (session.source.peer_id, session.target.peer_id)
        leaves = max(self._loop.time(), session.source.process.busy_until)
        delay = self._rng.uniform(*self.delay_s) + self.slow.get(pair, 0.0)
        session.arrives = max(session.arrives + 1e-7, leaves + delay)  # two at one time could change places
        return session.arrives

    def carry(self, source: Wire, target_id: str, frames: Sequence[pb.Frame]) -> None:
        session = self._sessions.get((source.peer_id, target_id))
        if session is None or session.source is not source or not session.welcomed or session.broken:
            return
        rows = [frame.SerializeToString(deterministic=True) for frame in frames]
        # What was sent together is read together, or piece by piece, with a turn (or the end) in between.
        together = len(rows) == 1 or self._rng.random() < 0.5
        for data in (rows,) if together else ([row] for row in rows):
            if self.loss and self._rng.random() < self.loss:
                self.break_session(session)
                return
            self._loop.call_at(self._when(session), self._deliver, session, data, context=session.target.context)

    def _deliver(self, session: _Session, data: list[bytes]) -> None:
        if self._loop.time() > session.ends:
            return
        if self._blocked(session) or session.held:
            session.held.append(data)
        else:
            self._hand_over(session, data)

    def _hand_over(self, session: _Session, data: list[bytes]) -> None:
        source_id, target = session.source.peer_id, session.target
        for row in data:
            if not target.alive or target.incoming.get(source_id) is not session:
                return
            self.digest = zlib.crc32(row, self.digest)
            frame = pb.Frame.FromString(row)
            for one in (frame,) if self.tap is None else self.tap(source_id, target.peer_id, frame):
                self.delivered += 1
                target.receiver.received(source_id, one)


class Wire:
    """One process's ``Network``."""

    def __init__(self, wires: Wires, peer_id: str, process: SimProcess) -> None:
        self._wires = wires
        self.peer_id = peer_id
        self.process = process
        self.context = process.context
        self.receiver: Receiver
        self.incoming: dict[str, _Session] = {}
        self._dialling: asyncio.Task[None] | None = None
        self._joined = False

    @property
    def alive(self) -> bool:
        return self.process.alive and self._joined

    async def start(self, peer_id: str, peers: dict[str, str], receiver: Receiver) -> None:
        self.receiver = receiver
        self._joined = True
        self._wires.join(self)
        self._dialling = self.process.spawn(self._dial(sorted(peers)))

    async def _dial(self, peers: list[str]) -> None:
        while True:
            for peer in peers:
                self._wires.dial(self, peer)
            await asyncio.sleep(REDIAL_S)

    def send(self, peer_id: str, frames: Sequence[pb.Frame]) -> None:
        self._wires.carry(self, peer_id, frames)

    async def stop(self) -> None:
        self.drop(silent=False)

    def drop(self, *, silent: bool) -> None:
        if self._joined:
            self._joined = False
            if self._dialling is not None:
                self._dialling.cancel()
            self._wires.leave(self, silent=silent)

    def serve(self, host: Host) -> None:
        self._wires.host(self.peer_id, self.process, host)

    async def fetch(self, address: str, request: pb.FetchRequest) -> tuple[pb.SnapshotHeader, bytes]:
        found = await self._wires.call(self.peer_id, address, lambda host: host.newest_snapshot(request.hello))

        async def taken(host: Host) -> None:
            host.snapshot_taken(request.hello)

        await self._wires.call(self.peer_id, address, taken)
        return found

    async def invite(self, address: str, invitation: pb.Invitation) -> pb.InvitationReply:
        return await self._wires.call(self.peer_id, address, lambda host: host.invited(invitation))
