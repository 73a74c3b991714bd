"""A pretended control plane for agent tests, and the small values that they need.

``FakePeer`` is an in-process ``Agents`` service: tests say what is assigned, and read what was observed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from orchestrator.contract import codec
from orchestrator.contract.errors import NoLeaderError, OverloadedError, PermissionError_, RaftsmanError
from orchestrator.contract.model import (
    AllocationId,
    AllocState,
    Assignment,
    AssignmentKey,
    Desired,
    GroupSpec,
    JobType,
    NodeSpec,
    Observation,
    OnDisconnect,
    PortBinding,
    Resources,
    RestartPolicy,
    Service,
    ServiceInstance,
    StopPolicy,
    TaskSpec,
    str_map,
)
from orchestrator.contract.status import BROKE, to_status
from orchestrator.contract.v1 import agent_pb2, agent_pb2_grpc

CLUSTER = "cluster-under-test"
DEADLINE_S = 30.0


def key_of(job: str = "web", *, ordinal: int = 0, attempt: int = 1, uid: str = "uid-1") -> AssignmentKey:
    return AssignmentKey(
        id=AllocationId(namespace="default", job=job, group="main", ordinal=ordinal), job_uid=uid, attempt=attempt
    )


def task_of(
    *command: str,
    name: str = "main",
    image: str = "",
    driver: str = "",
    env: dict[str, str] | None = None,
    memory_mib: int = 64,
    stop: StopPolicy | None = None,
) -> TaskSpec:
    return TaskSpec(
        name=name,
        driver=driver,
        image=image,
        command=command,
        env=str_map(env or {}),
        resources=Resources(cpu_millis=100, memory_mib=memory_mib),
        stop=stop or StopPolicy(timeout_ms=2000),
    )


def assignment_of(
    key: AssignmentKey,
    *tasks: TaskSpec,
    desired: Desired = Desired.RUN,
    job_type: JobType = JobType.SERVICE,
    restart: RestartPolicy | None = None,
    on_disconnect: OnDisconnect = OnDisconnect.REPLACE,
    ports: tuple[PortBinding, ...] = (),
    modify_index: int = 0,
) -> Assignment:
    return Assignment(
        key=key,
        desired=desired,
        group=GroupSpec(name=key.id.group, tasks=tasks, restart=restart or RestartPolicy(attempts=0)),
        on_disconnect=on_disconnect,
        job_type=job_type,
        ports=ports,
        modify_index=modify_index,
    )


async def until(condition: Callable[[], Any], what: str = "", *, deadline_s: float = DEADLINE_S) -> Any:
    """The condition's first true value; fails loudly when it does not come."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"waited {deadline_s} s for {what or condition}"
        await asyncio.sleep(0.01)


class FakePeer(agent_pb2_grpc.AgentsServicer):
    """Answers as a leading peer would; knobs make it answer as a worse one."""

    def __init__(self, *, cluster_id: str = CLUSTER) -> None:
        self.cluster_id = cluster_id
        self.address = ""
        self.leader_address = ""
        self.present_peers: list[str] = []  # what it says of the peers; nothing: they are those of the beginning
        self.index = 10
        self.nodes: dict[str, NodeSpec] = {}
        self.register_requests: list[agent_pb2.RegisterRequest] = []
        self.heartbeats = 0
        self.heartbeat_ms = 100
        self.attended = 0
        """Streams for both; the others are of assignments alone."""
        self.knows_attending = True
        self.piece_bytes = 100
        self.arrived: list[int] = []
        """Marks that came back."""
        self.silent = False
        self.refuse = False
        self.busy = 0
        """So many of the next registrations and heartbeats are refused for want of time."""
        self.unexplained = 0
        """So many of the next streams end with what gRPC says where it has lost the reason."""
        self.refuse_node = ""
        self.refusals: list[str] = []
        self.refuse_as: type[RaftsmanError] = PermissionError_
        self.assignments: dict[AssignmentKey, Assignment] = {}
        self.removed: list[AssignmentKey] = []
        self.superseded: list[AssignmentKey] = []
        self.reports: list[agent_pb2.ReportStatusesRequest] = []
        self.observations: list[Observation] = []
        self.fail_reports = 0
        self.settled: dict[tuple[str, str, int, str], str] = {}  # job uid, group, version, image -> digest
        self.progress: list[tuple[AssignmentKey, str]] = []
        self.knows_images = True
        self.streams = 0
        self._deltas: set[asyncio.Queue[agent_pb2.AssignmentsUpdate | None]] = set()
        self._logs: dict[str, asyncio.Queue[agent_pb2.LogsData]] = {}
        self._down: asyncio.Queue[agent_pb2.LogsDown] | None = None
        self._server: grpc.aio.Server | None = None
        self._stream_numbers = 0
        self.services: dict[tuple[str, str], Service] = {}
        self._hearing: set[asyncio.Queue[tuple[str, str]]] = set()

    async def start(self, port: int = 0) -> str:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        agent_pb2_grpc.add_AgentsServicer_to_server(self, self._server)
        bound = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        self.address = f"127.0.0.1:{bound}"
        return self.address

    async def stop(self) -> None:
        """As a killed process: no goodbye."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    # ---- images

    async def PinImage(  # noqa: N802
        self, request: agent_pb2.PinImageRequest, context: Any
    ) -> agent_pb2.PinImageResponse:
        if not self.knows_images:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        if self.leader_address not in ("", self.address):  # the agent may ask before its first heartbeat tells it
            await context.abort_with_status(to_status(NoLeaderError("it does not lead")))
        key = codec.decode(AssignmentKey, request.key)
        place = (key.job_uid, key.id.group, request.job_version, request.image)
        return agent_pb2.PinImageResponse(digest=self.settled.setdefault(place, request.digest))

    async def ReportProgress(  # noqa: N802
        self, request: agent_pb2.ReportProgressRequest, context: Any
    ) -> agent_pb2.ReportProgressResponse:
        self.progress += [(codec.decode(AssignmentKey, one.key), one.text) for one in request.progress]
        return agent_pb2.ReportProgressResponse()

    # ---- what tests do

    def assign(self, *assignments: Assignment, superseded: tuple[AssignmentKey, ...] = ()) -> None:
        """Assign, as a delta to whoever listens and in later full sets."""
        self.index += 1
        for one in assignments:
            self.assignments[one.key] = one
        self._send(assignments=assignments, superseded=superseded)

    def remove(self, *keys: AssignmentKey) -> None:
        self.index += 1
        for key in keys:
            self.assignments.pop(key, None)
        self._send(removed=keys)

    def end_streams(self) -> None:
        for queue in self._deltas:
            queue.put_nowait(None)

    def states(self, key: AssignmentKey) -> list[tuple[int, AllocState]]:
        return [(one.restarts, one.state) for one in self.observations if one.key == key]

    def last(self, key: AssignmentKey) -> Observation | None:
        return next((one for one in reversed(self.observations) if one.key == key), None)

    async def wait_state(self, key: AssignmentKey, state: AllocState, *, deadline_s: float = DEADLINE_S) -> Observation:
        def reached() -> Observation | None:
            return next((one for one in reversed(self.observations) if one.key == key and one.state is state), None)

        found = await until(reached, f"{key.id} {state.name}; seen {self.states(key)}", deadline_s=deadline_s)
        assert isinstance(found, Observation)
        return found

    async def open_logs(
        self,
        key: AssignmentKey,
        *,
        task: str = "main",
        follow: bool = False,
        tail_lines: int = 0,
        offset: int = 0,
        previous: bool = False,
        workload: bool = False,
    ) -> tuple[str, asyncio.Queue[agent_pb2.LogsData]]:
        await until(lambda: self._down is not None, "the agent's log stream")
        self._stream_numbers += 1
        stream_id = f"stream-{self._stream_numbers}"
        queue = self._logs[stream_id] = asyncio.Queue()
        wanted = agent_pb2.LogsOpen(
            stream_id=stream_id,
            task=task,
            follow=follow,
            tail_lines=tail_lines,
            offset=offset,
            previous=previous,
            workload=workload,
        )
        codec.encode(key, wanted.key)
        assert self._down is not None
        self._down.put_nowait(agent_pb2.LogsDown(open=wanted))
        return stream_id, queue

    async def read_logs(self, key: AssignmentKey, **options: Any) -> list[agent_pb2.LogsData]:
        """Everything up to the end, the end included."""
        _, queue = await self.open_logs(key, **options)
        chunks = []
        async with asyncio.timeout(DEADLINE_S):
            while True:
                chunks.append(await queue.get())
                if chunks[-1].end:
                    return chunks

    def _send(
        self,
        *,
        assignments: tuple[Assignment, ...] = (),
        removed: tuple[AssignmentKey, ...] = (),
        superseded: tuple[AssignmentKey, ...] = (),
    ) -> None:
        for queue in self._deltas:
            queue.put_nowait(self._update(False, assignments, removed, superseded))

    def _update(
        self,
        full: bool,
        assignments: tuple[Assignment, ...],
        removed: tuple[AssignmentKey, ...],
        superseded: tuple[AssignmentKey, ...],
    ) -> agent_pb2.AssignmentsUpdate:
        update = agent_pb2.AssignmentsUpdate(index=self.index, full=full)
        for one in assignments:
            codec.encode(one, update.assignments.add())
        for key in removed:
            codec.encode(key, update.removed.add())
        for key in superseded:
            codec.encode(key, update.superseded.add())
        return update

    # ---- the service

    async def _check(self, context: Any) -> None:
        if self.silent:
            await asyncio.sleep(3600)
        if self.refuse:
            await context.abort_with_status(to_status(NoLeaderError("no leader now")))

    def _hint(self) -> agent_pb2.LeaderHint:
        return agent_pb2.LeaderHint(peer_id="p1", address=self.leader_address or self.address, term=1)

    async def Register(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._check(context)
        await self._check_time(context)
        if self.refuse_node:
            self.refusals.append(self.refuse_node)
            await context.abort_with_status(to_status(self.refuse_as(self.refuse_node)))
        self.register_requests.append(request)
        node = codec.decode(NodeSpec, request.node)
        self.nodes[node.id] = node
        return agent_pb2.RegisterResponse(
            index=self.index,
            cluster_id=self.cluster_id,
            leader=self._hint(),
            heartbeat_ms=self.heartbeat_ms,
            lost_after_ms=15_000,
            peers=self.present_peers,
        )

    async def Heartbeat(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._check(context)
        return await self._beat(request, context)

    async def Attend(self, requests: Any, context: Any) -> None:  # noqa: N802
        await self._check(context)
        if not self.knows_attending:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        self.attended += 1
        if self.unexplained:
            self.unexplained -= 1
            await context.abort(grpc.StatusCode.INTERNAL, BROKE)
        writing = asyncio.Lock()

        async def tell() -> None:
            sent = 0
            async for update in self._updates():
                raw = update.SerializeToString()
                for start in range(0, len(raw), self.piece_bytes):
                    data = raw[start : start + self.piece_bytes]
                    last = start + self.piece_bytes >= len(raw)
                    sent += len(data)
                    piece = agent_pb2.AssignmentsPiece(data=data, last=last, mark=sent)
                    async with writing:
                        await context.write(agent_pb2.AttendDown(piece=piece))

        async def hear() -> None:
            async for up in requests:
                await self._check(context)
                if up.HasField("arrived"):
                    self.arrived.append(up.arrived)
                    continue
                async with writing:  # for a refusal, too
                    answer = await self._beat(up.heartbeat, context)
                    await context.write(agent_pb2.AttendDown(acknowledged=answer))

        tasks = [asyncio.ensure_future(hear()), asyncio.ensure_future(tell())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _check_time(self, context: Any) -> None:
        if self.busy:
            self.busy -= 1
            await context.abort_with_status(to_status(OverloadedError("too much to do", retry_after_ms=1)))

    async def _beat(self, request: Any, context: Any) -> Any:
        await self._check_time(context)
        self.heartbeats += 1
        known = request.node_id in self.nodes
        return agent_pb2.HeartbeatResponse(
            sequence=request.sequence, leader=self._hint(), register_again=not known, peers=self.present_peers
        )

    async def Assignments(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await self._check(context)
        async for update in self._updates():
            yield update

    async def _updates(self) -> AsyncIterator[agent_pb2.AssignmentsUpdate]:
        queue: asyncio.Queue[agent_pb2.AssignmentsUpdate | None] = asyncio.Queue()
        self._deltas.add(queue)
        self.streams += 1
        try:
            yield self._update(True, tuple(self.assignments.values()), (), tuple(self.superseded))
            while (update := await queue.get()) is not None:
                yield update
        finally:
            self._deltas.discard(queue)

    async def ReportStatuses(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._check(context)
        if self.fail_reports:
            self.fail_reports -= 1
            await context.abort_with_status(to_status(NoLeaderError("no leader now")))
        if all(request.request_id != known.request_id for known in self.reports):
            self.observations += [codec.decode(Observation, one) for one in request.observations]
        self.reports.append(request)
        return agent_pb2.ReportStatusesResponse(index=self.index)

    async def Services(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Every service that is asked for, and again when ``offer`` says something new of it."""
        asked: set[tuple[str, str]] = set()
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._hearing.add(queue)

        async def read() -> None:
            async for up in requests:
                for one in up.add:
                    asked.add((one.namespace, one.name))
                    queue.put_nowait((one.namespace, one.name))

        reader = asyncio.get_running_loop().create_task(read())
        try:
            while True:
                key = await queue.get()
                if key in asked:
                    service = self.services.get(key) or Service(namespace=key[0], name=key[1])
                    down = agent_pb2.ServicesDown(index=self.index)
                    codec.encode(service, down.services.add())
                    yield down
        finally:
            self._hearing.discard(queue)
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.RpcError):
                await reader

    def offer(self, name: str, *addresses: tuple[str, int]) -> None:
        """A service of namespace ``default``, with these ready instances."""
        instances = tuple(
            ServiceInstance(
                allocation=AllocationId(namespace="default", job=name, group="main", ordinal=number),
                attempt=1,
                address=address,
                port=port,
            )
            for number, (address, port) in enumerate(addresses)
        )
        self.services["default", name] = Service(namespace="default", name=name, instances=instances, declared=True)
        for queue in self._hearing:
            queue.put_nowait(("default", name))

    async def ask_workload(self, key: AssignmentKey) -> agent_pb2.WorkloadReport:
        """What the agent says that its tasks say."""
        (chunk,) = await self.read_logs(key, workload=True)
        assert not chunk.error, chunk.error
        return agent_pb2.WorkloadReport.FromString(chunk.data)

    async def ServeLogs(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        first = await anext(requests)
        assert first.HasField("hello")
        down: asyncio.Queue[agent_pb2.LogsDown] = asyncio.Queue()
        self._down = down

        async def read() -> None:
            async for up in requests:
                queue = self._logs.get(up.data.stream_id)
                if queue is not None:
                    queue.put_nowait(up.data)

        reader = asyncio.get_running_loop().create_task(read())
        try:
            while True:
                yield await down.get()
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.RpcError):
                await reader
            if self._down is down:
                self._down = None
