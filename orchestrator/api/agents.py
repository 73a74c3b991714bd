"""``Agents``: what nodes say to the leader, and what each of them is told to run.

Owns: registration, heartbeats, status batches, the streams of assignments, and that an agent speaks only for its own
node. Leaves to others: judging silence (``leader.liveness``), logs (``logs``), meaning (``state.apply``). The rule: a
full set goes out only after a majority confirmed that this peer leads, because agents remove what it does not name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from google.protobuf.message import Message
from prometheus_client import Counter

from orchestrator.api.assigned import AssignmentWriter
from orchestrator.api.attendance import Attendance, News, Woken
from orchestrator.api.confirming import Confirming
from orchestrator.api.forward import STALLED_S, Call, Route
from orchestrator.api.hello import first_of
from orchestrator.api.observed import recorded
from orchestrator.api.requests import body_digest, rejection, write
from orchestrator.contract import codec
from orchestrator.contract.errors import (
    InvalidError,
    NotFoundError,
    NotLeaderError,
    PermissionError_,
    RaftsmanError,
)
from orchestrator.contract.model import AssignmentKey, NodeSpec
from orchestrator.contract.v1 import agent_pb2 as pb
from orchestrator.reconcile.liveness import HEARTBEAT_MS
from orchestrator.replication.log import ReplicatedLog
from orchestrator.replication.propose import Proposer
from orchestrator.state import commands as cmd
from orchestrator.state.images import pinned
from orchestrator.state.model import Node
from orchestrator.state.state import State

HEARTBEATS = Counter("raftsman_heartbeats", "Heartbeats of agents that this peer answered as the leader")

A = TypeVar("A", bound=cmd.Answer)
MAX_TEXT = 500
APPLY_WAIT_S = 5.0
CONFIRM_S = 5.0
CHUNK = 1_000
"""Observations in one command: applying it must not keep a peer from its heartbeats."""
AT_ONCE = 50
"""Streams that are woken in one turn of the loop: an election ends all of them, and a large plan concerns most."""

ROUTES: dict[str, Route] = {
    "ServeLogs": Route.HERE,
    "JoinSession": Route.HERE,
    "Services": Route.HERE,
    "Attend": Route.HERE,
    "Heartbeats": Route.HERE,
}
"""Everything else is the leader's."""


class Listener(Protocol):
    """The leader's memory of heartbeats (``leader.liveness``)."""

    @property
    def bound_ms(self) -> int: ...

    def beat(self, node_id: str) -> None: ...


class Agents:
    """``state`` gives the current state; ``peers`` the present peers' addresses by id, as agents dial them."""

    def __init__(
        self,
        log: ReplicatedLog,
        proposer: Proposer,
        state: Callable[[], State],
        listener: Listener,
        *,
        peers: Callable[[], Mapping[str, str]],
    ) -> None:
        self._log = log
        self._proposer = proposer
        self._state = state
        self._listener = listener
        self._peers = peers
        self._streams = _Streams(log, state)
        self._confirming = Confirming(log)
        self._writing = asyncio.Lock()
        self._writer = AssignmentWriter()

    def start(self) -> None:
        self._streams.start()

    def stop(self) -> None:
        self._streams.stop()

    # ------------------------------------------------------------------ calls

    async def register(self, request: pb.RegisterRequest, call: Call) -> pb.RegisterResponse:
        try:
            spec = codec.decode(NodeSpec, request.node)
        except codec.CodecError as error:
            raise InvalidError(f"node.{error}") from None
        command = cmd.RegisterNode(node=spec, identity=str(call.caller.identity))
        done, _ = await write(self._proposer, request, call, command, cmd.WriteAnswer, urgent=True)
        self._listener.beat(spec.id)
        return pb.RegisterResponse(
            index=done.index,
            cluster_id=self._log.status().cluster_id,
            leader=self._leader(),
            heartbeat_ms=HEARTBEAT_MS,
            lost_after_ms=self._listener.bound_ms,
            peers=self._told(),
        )

    async def heartbeat(self, request: pb.HeartbeatRequest, call: Call) -> pb.HeartbeatResponse:
        """Heard at once, answered only after a majority confirmed: the agent's own bound counts answered ones."""
        self._hear(request, call)
        await self._log.confirm_leadership(timeout_s=call.timeout_s(CONFIRM_S))
        return self._heard(request)

    async def heartbeats(self, requests: AsyncIterator[pb.HeartbeatRequest], call: Call) -> AsyncIterator[Message]:
        """One answer to each; the stream ends when this peer leads no more."""
        self._require_lead()
        async for request in requests:
            self._hear(request, call)
            await self._confirming.confirmed()
            yield self._heard(request)

    def _require_lead(self, term: int | None = None) -> None:
        """Raises ``NotLeaderError`` unless this peer leads, as it did in ``term``."""
        if not self._log.is_leader() or term not in (None, self._log.term):
            raise NotLeaderError("this peer does not lead", leader_id=self._log.leader_id)

    def _hear(self, request: pb.HeartbeatRequest, call: Call) -> None:
        node = self._state().nodes.get(request.node_id)
        if node is not None:
            _own(node, call)
            self._listener.beat(request.node_id)

    def _heard(self, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse:
        HEARTBEATS.inc()
        state = self._state()
        return pb.HeartbeatResponse(
            sequence=request.sequence,
            leader=self._leader(),
            register_again=request.node_id not in state.nodes,
            peers=self._told(),
        )

    async def report_statuses(self, request: pb.ReportStatusesRequest, call: Call) -> pb.ReportStatusesResponse:
        self._node(request.node_id, call)
        digest = body_digest(request)
        index = 0
        for number, start in enumerate(range(0, max(1, len(request.observations)), CHUNK)):
            command = recorded(request.node_id, request.observations[start : start + CHUNK])
            suffix = f"/{number}" if number else ""
            done, _ = await write(
                self._proposer, request, call, command, cmd.WriteAnswer, suffix=suffix, digest=digest, urgent=True
            )
            index = done.index
        return pb.ReportStatusesResponse(index=index)

    async def pin_image(self, request: pb.PinImageRequest, call: Call) -> pb.PinImageResponse:
        """The first digest counts; what is settled already costs no entry of the log."""
        self._node(request.node_id, call)
        try:
            key = codec.decode(AssignmentKey, request.key)
        except codec.CodecError as error:
            raise InvalidError(f"key.{error}") from None
        job = self._state().jobs.get(key.job_uid)
        known = pinned(job, key.id.group, request.job_version, request.image) if job is not None else ""
        if known:
            return pb.PinImageResponse(digest=known)
        command = cmd.PinImage(
            job_uid=key.job_uid,
            group=key.id.group,
            version=request.job_version,
            image=request.image,
            digest=request.digest,
        )
        return pb.PinImageResponse(digest=(await self._propose(command, cmd.PinAnswer, call)).digest)

    async def report_progress(self, request: pb.ReportProgressRequest, call: Call) -> pb.ReportProgressResponse:
        self._node(request.node_id, call)
        if len(request.progress) > CHUNK:
            raise InvalidError(f"progress: {len(request.progress)} texts; at most {CHUNK} in one call")
        said = tuple(
            cmd.StartProgress(
                job_uid=one.key.job_uid,
                group=one.key.id.group,
                ordinal=one.key.id.ordinal,
                attempt=one.key.attempt,
                text=one.text[:MAX_TEXT],
            )
            for one in request.progress
        )
        await self._propose(cmd.RecordProgress(node_id=request.node_id, progress=said), cmd.WriteAnswer, call)
        return pb.ReportProgressResponse()

    async def _propose(self, command: cmd.Command, kind: type[A], call: Call) -> A:
        """For commands that do nothing twice by themselves: without a request id, so nobody remembers their answers."""
        outcome = await self._proposer.propose(
            command, identity=str(call.caller.identity), timeout_s=call.timeout_s(), urgent=True
        )
        if isinstance(outcome, cmd.Rejected):
            raise rejection(outcome)
        if not isinstance(outcome.answer, kind):
            raise RaftsmanError(f"{type(command).__name__} was answered with {type(outcome.answer).__name__}")
        return outcome.answer

    async def attend(self, ups: AsyncIterator[pb.AttendUp], call: Call) -> AsyncIterator[Message]:
        """``heartbeats`` and ``assignments`` on one stream, where an answer stands behind few bytes of assignments."""
        self._require_lead()
        first = await first_of(ups)
        if first is None:
            return
        agent, term = Attendance(first.heartbeat.node_id, self._state, self._writer), self._log.term
        hearing = asyncio.get_running_loop().create_task(self._attended(agent, first, ups, call))
        try:
            await self._log.read_barrier(timeout_s=call.timeout_s(CONFIRM_S))
            with self._streams.open(self._node(agent.node_id, call).slot, agent.woken):
                while not hearing.done() or agent.asked:
                    agent.woken.clear()
                    self._require_lead(term)
                    self._node(agent.node_id, call)
                    if (beat := agent.confirmed()) is not None:
                        yield pb.AttendDown(acknowledged=self._heard(beat))
                    elif (piece := agent.next_piece()) is not None:
                        yield pb.AttendDown(piece=piece)
                    else:
                        await agent.wait(STALLED_S)
            hearing.result()
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _attended(
        self, agent: Attendance, first: pb.AttendUp, ups: AsyncIterator[pb.AttendUp], call: Call
    ) -> None:
        try:
            self._attend(agent, first, call)
            async for up in ups:
                self._attend(agent, up, call)
        finally:
            agent.woken.set()

    def _attend(self, agent: Attendance, up: pb.AttendUp, call: Call) -> None:
        if up.WhichOneof("message") == "heartbeat":
            agent.hear(up.heartbeat)
            self._hear(up.heartbeat, call)
            agent.ask(self._confirming)
        else:
            agent.arrived(up.arrived)

    async def assignments(self, request: pb.AssignmentsRequest, call: Call) -> AsyncIterator[Message]:
        """Each update in one message; while a large one is made, heartbeats pass in between."""
        term = self._log.term
        await self._log.read_barrier(timeout_s=call.timeout_s(CONFIRM_S))
        news, woken = News(request.node_id, self._state, self._writer), Woken()
        with self._streams.open(self._node(request.node_id, call).slot, woken):
            while True:
                self._require_lead(term)
                woken.clear()
                self._node(request.node_id, call)
                update: pb.AssignmentsUpdate | None = None
                async with self._writing:
                    for part, _ in news.parts():
                        if update is None:
                            update = part
                        else:
                            await asyncio.sleep(0)
                            update.MergeFrom(part)
                if update is not None:
                    yield update
                update = None  # thousands of streams wait here for long, and each may have been told of hundreds
                await woken.wait()

    async def check_speaker(self, call: Call, node_id: str) -> None:
        """Refuse a caller that is not this node's agent; waits a while for a registration to arrive at this peer."""
        try:
            async with asyncio.timeout(call.timeout_s(APPLY_WAIT_S)):
                while node_id not in self._state().nodes:
                    await self._log.changed(after=self._state().index)
        except TimeoutError:
            pass
        self._node(node_id, call)

    def _node(self, node_id: str, call: Call) -> Node:
        node = self._state().nodes.get(node_id)
        if node is None:
            raise NotFoundError(f"node {node_id!r} is not registered (any more): register first")
        _own(node, call)
        return node

    def _told(self) -> list[str]:
        """The peers, once they are others than those that agents were started with."""
        return list(self._peers().values()) if self._state().epoch > 1 else []

    def _leader(self) -> pb.LeaderHint:
        leader = self._log.leader_id
        return pb.LeaderHint(peer_id=leader, address=self._peers().get(leader, ""), term=self._log.term)


def _own(node: Node, call: Call) -> None:
    if call.caller.secure and str(call.caller.identity) != node.identity:
        raise PermissionError_(
            f"{call.caller.identity} may not speak for node {node.spec.id}, which {node.identity} registered"
        )


class _Streams:
    """Wakes the streams of the nodes that something changed for, and no others; few in one turn of the loop, for one
    that served thousands in a row would hear no peer meanwhile."""

    def __init__(self, log: ReplicatedLog, state: Callable[[], State]) -> None:
        self._log = log
        self._state = state
        self._events: dict[int, tuple[Woken, ...]] = {}  # by slot; nearly always one
        self._seen: tuple[State | None, int, int, int] = (None, 0, 0, 0)
        self._to_wake: dict[int, None] = {}  # slots, in the order in which they will be
        self._waking: asyncio.Handle | None = None
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        self._unsubscribe = self._log.subscribe(self._look)

    def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None

    def open(self, slot: int, woken: Woken) -> _Subscription:
        return _Subscription(self._events, slot, woken)

    def _look(self) -> None:
        if not self._events:
            return
        state = self._state()
        term = self._log.term if self._log.is_leader() else -1
        old_state, old_index, old_term, old_nodes = self._seen
        self._seen = (state, state.index, term, len(state.nodes))
        if state is not old_state or term != old_term or len(state.nodes) < old_nodes:
            slots = list(self._events)
        else:
            slots = np.flatnonzero(state.ledger.touched > old_index).tolist()
        self._to_wake.update(dict.fromkeys(slots))
        if self._waking is None:
            self._wake()

    def _wake(self) -> None:
        for slot in list(islice(self._to_wake, AT_ONCE)):
            del self._to_wake[slot]
            for event in self._events.get(slot, ()):
                event.set()
        self._waking = asyncio.get_running_loop().call_soon(self._wake) if self._to_wake else None


class _Subscription:
    """An event that is set when a node slot is touched; a context manager."""

    __slots__ = ("_event", "_events", "_slot")

    def __init__(self, events: dict[int, tuple[Woken, ...]], slot: int, event: Woken) -> None:
        self._events = events
        self._slot = slot
        self._event = event

    def __enter__(self) -> None:
        self._events[self._slot] = (*self._events.get(self._slot, ()), self._event)

    def __exit__(self, *_: object) -> None:
        others = tuple(event for event in self._events[self._slot] if event is not self._event)
        if others:
            self._events[self._slot] = others
        else:
            del self._events[self._slot]
