"""The agent's side of the conversation with the control plane: find the leader, register, beat, listen, report.

Owns: which peer is dialled, the loops of one session, the clock of ``on_disconnect: stop``. Leaves to others: what is
run (``supervisor``), what is still to be said (``outbox``). The rule: losing a peer costs nothing but the time to dial
the next one. Leaders are killed all the time; every loop may fail at any moment and the whole session begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
import structlog

from agent.asking import Asking
from agent.attending import Attending, TooLargeError, UnexplainedError
from agent.discovery import Directory
from agent.log_server import Measuring, serve_logs
from agent.metrics import Metrics
from agent.outbox import Outbox
from agent.repeats import Repeats
from agent.sessions import SessionServer
from agent.store import Store, boot_clock_ms
from agent.supervisor import Supervisor
from orchestrator.contract import codec
from orchestrator.contract.channel import TlsFiles, dial
from orchestrator.contract.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    OverloadedError,
    PermissionError_,
    StartupError,
    UnauthenticatedError,
)
from orchestrator.contract.model import Assignment, AssignmentKey, NodeSpec
from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import agent_pb2, agent_pb2_grpc

CONTACT_MS = 8_000
"""``on_disconnect: stop``: so long after sending the last acknowledged heartbeat (a node is lost after 15 s)."""

HEARTBEAT_MS = 3_000
FIRST_CALL_S = 1.5
WRITE_S = 10.0
NEXT_PEER_S = 0.02
ROUND_S = 0.2
LONG_ROUND_S = 1.0
ROUNDS = 25
"""Turns around all peers before the pauses between them become ``LONG_ROUND_S``: an outage, and no election."""
REFUSED_S = 5.0
"""Before a registration that was refused is tried again: each try is an entry of the log."""
SHORT_S = 1.0
GUARD_S = 0.5
BAD_HINT_MS = 30_000
MANY_STARTS = 8
"""With so many under way one that has gone well is no news that others could not wait for."""
LOGS_AGAIN_S = 0.5
END_AGAIN_S = 0.2
UNEXPLAINED = 3
"""So often a stream that ended for no reason that gRPC tells is tried again: most likely the peer had too much to do,
as the next try is told."""
DECODE_SLICE = 50


class _Ended(Exception):
    """The session is over; ``hint`` is where to go next, "" for the next peer of the list."""

    def __init__(self, why: str, *, hint: str = "", register: bool = False, refused: bool = False) -> None:
        super().__init__(why)
        self.hint = hint
        self.register = register
        self.refused = refused  # as every other peer would, until somebody changes something


class Session:
    """Runs until cancelled. Raises ``StartupError`` where this agent must not serve these peers."""

    def __init__(
        self,
        *,
        peers: tuple[str, ...],
        tls: TlsFiles | None,
        store: Store,
        supervisor: Supervisor,
        outbox: Outbox,
        asking: Asking,
        node: Callable[[], NodeSpec],
        sessions: SessionServer,
        usage: Measuring,
        metrics: Metrics,
        boot_id: str,
        services: Directory | None = None,
        clock_ms: Callable[[], int] = boot_clock_ms,
    ) -> None:
        self._configured = peers
        # Those that a restarted agent knew last come first: what it was started with may all have been replaced since.
        self._peers = tuple(dict.fromkeys([*filter(None, store.noted("peers").split(",")), *peers]))
        self._log_tasks: dict[str, asyncio.Task[None]] = {}  # by address
        self._tls = tls
        self._store = store
        self._supervisor = supervisor
        self._outbox = outbox
        self._asking = asking
        self._node = node
        self._sessions = sessions
        self._usage = usage
        self._metrics = metrics
        self._boot_id = boot_id
        self._services = services
        self._clock_ms = clock_ms
        self._log = structlog.get_logger("agent.session")
        self._registered: NodeSpec | None = None
        self._known = asyncio.Event()  # the control plane has heard of this node, once
        self._registering: tuple[str, NodeSpec] | None = None
        self._heartbeat_ms = HEARTBEAT_MS
        self._sequence = 0
        self._next = random.randrange(len(self._peers))
        self._bad_hints: dict[str, int] = {}
        self._everything = True
        self._at_leader = False  # as the last answered heartbeat said
        self._handshakes = 0
        self._repeats = Repeats()
        self._refusable = True  # until the first registration; later a refusal must not end what runs
        contact = store.load_contact(boot_id)
        self._contact_ms = contact if contact is not None else clock_ms() - CONTACT_MS
        self.connected_to = ""

    @property
    def contact_lost(self) -> bool:
        return self._clock_ms() - self._contact_ms >= CONTACT_MS

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        guard = loop.create_task(self._guard_contact())
        self._follow_logs()
        short = 0  # sessions in a row that ended soon after they began
        hint = ""
        try:
            while True:
                address = hint or self._peers[self._next % len(self._peers)]
                began = time.monotonic()
                try:
                    await self._serve(address)
                except _Ended as end:
                    served = bool(self.connected_to)
                    self.connected_to = ""
                    self._metrics.connected.set(0)
                    if end.register:
                        self._registered = None
                    if address == hint and not served and not end.hint:
                        self._bad_hints[hint] = self._clock_ms() + BAD_HINT_MS
                    short = short + 1 if time.monotonic() - began < SHORT_S else 0
                    hint = end.hint
                    if not short:
                        self._repeats.over()
                    self._tell_ended(address, end)
                    if not hint:
                        self._turn_from(address)
                    if end.refused:
                        await asyncio.sleep(REFUSED_S * random.uniform(0.8, 1.2))
                    elif short and short % (len(self._peers) + 1) == 0:
                        # One quick turn around all peers, then a breath before the next one.
                        pause_s = ROUND_S if short < ROUNDS * (len(self._peers) + 1) else LONG_ROUND_S
                        await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
                    elif not hint:
                        await asyncio.sleep(NEXT_PEER_S)
        finally:
            guard.cancel()
            logs, self._log_tasks = list(self._log_tasks.values()), {}
            for task in logs:
                task.cancel()
            await asyncio.gather(*logs, return_exceptions=True)

    def _tell_ended(self, address: str, end: _Ended) -> None:
        """A refusal is the same at every peer; what else ends sessions may not be."""
        why = str(end)
        if times := self._repeats.due(why if end.refused else (address, why), time.monotonic()):
            say = self._log.warning if end.refused else self._log.info
            say("session_ended", peer=address, why=why, next=end.hint, times=times)

    def _learn(self, peers: Sequence[str], address: str) -> None:
        """The cluster's peers changed, says the one at ``address``. What this agent was started with stays in the list
        until it is sure that it reaches them by the names that they have for each other."""
        known = tuple(dict.fromkeys(peers if address in peers else [*peers, *self._configured]))
        if not peers or known == self._peers:
            return
        self._peers = known
        self._store.note("peers", ",".join(peers))
        self._supervisor.learn_peers(peers)
        self._log.info("peers_changed", peers=known)
        self._follow_logs()

    def _follow_logs(self) -> None:
        """One stream for logs to every peer, and to nobody else."""
        for address in [address for address in self._log_tasks if address not in self._peers]:
            self._log_tasks.pop(address).cancel()
        for address in self._peers:
            if address not in self._log_tasks:
                self._log_tasks[address] = asyncio.create_task(self._logs(address))

    def _turn_from(self, address: str) -> None:
        """The next peer of the list is another one than ``address``, where there is another."""
        for _ in self._peers:
            self._next += 1
            if self._peers[self._next % len(self._peers)] != address:
                return

    async def _serve(self, address: str) -> None:
        try:
            channel = dial(address, self._tls)
        except OSError as error:
            raise StartupError(f"cannot read the certificate {error.filename}: {error.strerror}") from error
        tasks: list[asyncio.Task[None]] = []
        try:
            stub = agent_pb2_grpc.AgentsStub(channel)
            self._at_leader = False
            await self._first_contact(stub, address)
            self.connected_to = address
            self._metrics.connected.set(1)
            self._metrics.reconnects.inc()
            self._log.info("session_started", peer=address)
            self._outbox.resend(self._supervisor.observations(everything=self._everything))
            self._everything = False
            self._asking.connect(stub)
            loop = asyncio.get_running_loop()
            tasks = [
                loop.create_task(work)
                for work in (
                    self._listen(stub, address),
                    self._reports(stub),
                    self._register_changes(stub),
                    *([self._services.follow(stub, self._store.node_id)] if self._services is not None else []),
                    self._asking.keep_telling(stub),
                )
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises why it ended
            raise _Ended("a loop of the session ended")
        except grpc.aio.AioRpcError as error:
            raise self._ended(error) from error
        finally:
            self._asking.disconnect()
            # The channel first: calls that wait end with it, and a session that waits for one would never begin again.
            with contextlib.suppress(asyncio.CancelledError):
                await channel.close(None)
            await _end(tasks)

    def _ended(self, error: grpc.aio.AioRpcError) -> _Ended:
        cause = from_rpc_error(error)
        text = f"{cause.reason}: {cause.message}"
        if self._registered is None and _is_handshake(cause.message):
            # A certificate of another authority fails at every peer, every time; a restarting peer does not.
            self._handshakes += 1
            if self._handshakes >= 2 * len(self._peers):
                raise StartupError(
                    f"the peers' certificates are not of the authority in ca.pem ({cause.message}); --peers must name "
                    "this cluster's peers, and --tls a certificate of its authority: see raftsman certs"
                ) from error
        else:
            self._handshakes = 0
        return _Ended(text, register=isinstance(cause, NotFoundError))

    # ------------------------------------------------------------------------ the loops of one session

    async def _first_contact(self, stub: Any, address: str) -> None:
        while True:
            try:
                if self._registered is None:
                    await self._register(stub, address)
                else:
                    await self._beat(stub, address, timeout_s=FIRST_CALL_S)
            except grpc.aio.AioRpcError as error:
                await _spare(error)
            else:
                return

    async def _register(self, stub: Any, address: str) -> None:
        spec = self._node()
        if self._registering is None or self._registering[1] != spec:
            self._registering = (str(uuid.uuid4()), spec)
        request = agent_pb2.RegisterRequest(request_id=self._registering[0])
        codec.encode(spec, request.node)
        try:
            response = await stub.Register(request, timeout=WRITE_S if self._registered else FIRST_CALL_S * 2)
        except grpc.aio.AioRpcError as error:
            cause = from_rpc_error(error)
            if self._refusable and isinstance(cause, PermissionError_ | UnauthenticatedError | InvalidError):
                raise StartupError(f"the control plane refuses this node: {cause.message}") from error
            if cause.retryable:
                raise
            end = self._ended(error)
            end.refused = not end.register and not _is_handshake(cause.message)
            raise end from error
        self._refusable = False
        self._store.join(response.cluster_id)
        self._heartbeat_ms = response.heartbeat_ms or HEARTBEAT_MS
        self._registered = spec
        self._known.set()
        self._registering = None
        self._at_leader = response.leader.address == address  # the first heartbeat need not find that out
        self._learn(response.peers, address)
        self._log.info("registered", node=spec.id, name=spec.name, cluster=response.cluster_id, index=response.index)

    async def _register_changes(self, stub: Any) -> None:
        """Drivers come and go: the control plane must know before it places there."""
        while True:
            await self._supervisor.lookout.changed.wait()
            self._supervisor.lookout.changed.clear()
            if self._node() != self._registered:
                await self._register(stub, self.connected_to)

    async def _beat(self, stub: Any, address: str, *, timeout_s: float) -> None:
        request, sent_ms = self._heartbeat()
        try:
            response = await stub.Heartbeat(request, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            self._metrics.heartbeats.labels("failed").inc()
            raise
        self._acknowledged(response, address, sent_ms)

    def _heartbeat(self) -> tuple[agent_pb2.HeartbeatRequest, int]:
        self._sequence += 1
        request = agent_pb2.HeartbeatRequest(
            node_id=self._store.node_id, sequence=self._sequence, running=self._supervisor.running_count()
        )
        return request, self._clock_ms()

    def _acknowledged(self, response: agent_pb2.HeartbeatResponse, address: str, sent_ms: int) -> None:
        self._metrics.heartbeats.labels("acknowledged").inc()
        if response.register_again:
            raise _Ended("the control plane does not know this node", hint=address, register=True)
        self._contact_ms = max(self._contact_ms, sent_ms)
        self._store.save_contact(self._boot_id, self._contact_ms)
        if self._services is not None:
            self._services.confirmed()
        self._learn(response.peers, address)
        leader = response.leader.address
        if leader and leader != address and self._bad_hints.get(leader, 0) <= sent_ms:
            raise _Ended(f"{response.leader.peer_id} leads", hint=leader)
        self._at_leader = leader == address

    async def _listen(self, stub: Any, address: str) -> None:
        """Heartbeats and assignments: on one stream with the leader, which costs both a third; through another peer,
        or with one that does not know that stream, by two calls. Raises why that ended."""
        attends = True  # as far as is known
        unexplained = 0  # ends of the stream in a row
        while True:
            try:
                if self._at_leader and attends:
                    await self._attend(Attending(stub.Attend()), address)
                else:
                    await self._by_two_calls(stub, address, for_good=not attends)
                unexplained = 0
            except UnexplainedError as error:
                unexplained += 1
                if unexplained > UNEXPLAINED:
                    raise _Ended(str(error)) from None
                await asyncio.sleep(END_AGAIN_S * random.uniform(0.8, 1.2))
            except grpc.aio.AioRpcError as error:
                unexplained = 0
                if from_rpc_error(error).reason == "UNIMPLEMENTED" and attends:
                    attends = False
                else:
                    await _spare(error)

    def _answer_s(self) -> float:
        return max(1.0, self._heartbeat_ms / 2000)

    def _until_next_beat_s(self, began_ms: int) -> float:
        return max(0, self._heartbeat_ms - (self._clock_ms() - began_ms)) / 1000

    async def _attend(self, stream: Attending, address: str) -> None:
        """Until the leader is found to be another peer."""
        loop = asyncio.get_running_loop()
        beating = loop.create_task(self._beat_on(stream, address))
        tasks = [beating, loop.create_task(stream.read()), loop.create_task(self._take(stream.updates()))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if beating not in done:
                raise _Ended("the peer ended the stream: it leads no more")
        except TooLargeError as error:
            raise _Ended(str(error)) from None
        finally:
            stream.cancel()
            await _end(tasks)

    async def _beat_on(self, stream: Attending, address: str) -> None:
        while self._at_leader:
            request, sent_ms = self._heartbeat()
            try:
                async with asyncio.timeout(self._answer_s()):
                    response = await stream.beat(request)
            except TimeoutError:
                self._metrics.heartbeats.labels("failed").inc()
                raise _Ended("a heartbeat was not answered") from None
            self._acknowledged(response, address, sent_ms)
            await asyncio.sleep(self._until_next_beat_s(sent_ms))

    async def _by_two_calls(self, stub: Any, address: str, *, for_good: bool) -> None:
        """Until it is found that this peer leads, unless ``for_good``."""
        taking = asyncio.get_running_loop().create_task(
            self._take(stub.Assignments(agent_pb2.AssignmentsRequest(node_id=self._store.node_id)))
        )
        try:
            while for_good or not self._at_leader:
                began_ms = self._clock_ms()
                try:
                    await self._beat(stub, address, timeout_s=self._answer_s())
                except grpc.aio.AioRpcError as error:
                    await _spare(error)
                    continue
                done, _ = await asyncio.wait([taking], timeout=self._until_next_beat_s(began_ms))
                if done:
                    taking.result()
                    raise _Ended("the peer ended the assignments: it leads no more")
        finally:
            await _end([taking])

    async def _take(self, updates: AsyncIterator[agent_pb2.AssignmentsUpdate]) -> None:
        first = True
        async for update in updates:
            if first and not update.full:
                raise _Ended("the assignments did not begin with a full set")
            first = False
            try:
                taken = await self._supervisor.apply(
                    index=update.index,
                    full=update.full,
                    assignments=await _decoded(update),
                    removed=[codec.decode(AssignmentKey, one) for one in update.removed],
                    superseded=[codec.decode(AssignmentKey, one) for one in update.superseded],
                )
            except codec.CodecError as error:
                # A newer control plane, perhaps: keep what runs, and do not pretend to have understood.
                self._log.error("assignments_unreadable", error=str(error))
                await asyncio.sleep(1.0)
                raise _Ended(f"assignments that this agent cannot read: {error}") from error
            if not taken and update.full:
                raise _Ended(
                    f"a full set as of {update.index} is older than what is known ({self._supervisor.index}); if the "
                    "cluster was restored from an older backup, restart this agent"
                )

    async def _reports(self, stub: Any) -> None:
        while True:
            await self._outbox.wait()
            await self._outbox.gather(
                lambda: self._supervisor.starts_under_way() >= MANY_STARTS, self._supervisor.all_started
            )
            batch = self._outbox.batch()
            if batch is None:
                continue
            request = agent_pb2.ReportStatusesRequest(request_id=batch.request_id, node_id=self._store.node_id)
            for observation in batch.observations:
                codec.encode(observation, request.observations.add())
            try:
                await stub.ReportStatuses(request, timeout=WRITE_S)
            except grpc.aio.AioRpcError as error:
                cause = from_rpc_error(error)
                if isinstance(cause, OverloadedError):
                    await asyncio.sleep(cause.retry_after_ms / 1000 * random.uniform(1.0, 1.5))
                    continue
                if isinstance(cause, InvalidError | ConflictError):
                    self._log.error("report_refused", error=cause.message, observations=len(batch.observations))
                    self._outbox.done(batch)
                    continue
                raise
            self._metrics.observations.inc(len(batch.observations))
            self._outbox.done(batch)

    # ------------------------------------------------------------------------ logs

    async def _logs(self, address: str) -> None:
        """A stream for logs to every peer, whoever leads: output can be read at once after a failover, and also while
        nobody leads."""
        await self._known.wait()
        try:
            channel = dial(address, self._tls)
        except OSError:
            return  # the session says what is wrong with the certificate
        try:
            stub = agent_pb2_grpc.AgentsStub(channel)
            while True:
                try:
                    await serve_logs(stub, self._store.node_id, self._supervisor, self._sessions, self._usage)
                except grpc.aio.AioRpcError as error:
                    self._log.debug("logs_stream_ended", peer=address, why=from_rpc_error(error).message)
                await asyncio.sleep(LOGS_AGAIN_S * random.uniform(0.8, 1.2))
        finally:
            await channel.close(None)

    # ------------------------------------------------------------------------ on_disconnect: stop

    async def _guard_contact(self) -> None:
        """Stop what must not run twice, in time; the clock counts a suspended machine's sleep, too."""
        while True:
            left_ms = self._contact_ms + CONTACT_MS - self._clock_ms()
            if left_ms <= 0:
                self._supervisor.contact_lost()
            await asyncio.sleep(min(1.0, left_ms / 1000) if left_ms > 0 else GUARD_S)


def _is_handshake(message: str) -> bool:
    """Whether this side refused the peer's certificate for good; a dying peer breaks handshakes in other words, and one
    whose certificate has expired gets another."""
    if "certificate has expired" in message or "certificate is not yet valid" in message:
        return False
    return "CERTIFICATE_VERIFY_FAILED" in message or "SSL_ERROR_SSL" in message


async def _spare(error: grpc.aio.AioRpcError) -> None:
    """Returns when to ask again a leader that is there and has too much to do: another session would only add to it.
    Raises any other error."""
    cause = from_rpc_error(error)
    if not isinstance(cause, OverloadedError):
        raise error
    await asyncio.sleep(cause.retry_after_ms / 1000 * random.uniform(1.0, 1.5))


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel them until all have ended: a call that gRPC is just failing can swallow a task's cancellation."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=END_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # retrieved: the first one's is what counts


async def _decoded(update: agent_pb2.AssignmentsUpdate) -> list[Assignment]:
    """In pieces: a full set may have thousands, and heartbeats go on meanwhile."""
    assignments = []
    for start in range(0, len(update.assignments), DECODE_SLICE):
        assignments += [codec.decode(Assignment, one) for one in update.assignments[start : start + DECODE_SLICE]]
        await asyncio.sleep(0)
    return assignments
