"""A peer without a cluster: the Control service over dictionaries, with failures on order.

It speaks real gRPC on loopback, so that clients and the command line are tested through their whole stack.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import grpc

from orchestrator.contract import answers, codec, foresight, model
from orchestrator.contract.channel import WHICH_PEERS
from orchestrator.contract.errors import ConflictError, InvalidError, NoLeaderError, NotFoundError, RaftsmanError
from orchestrator.contract.status import to_status
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import control_pb2_grpc, types_pb2
from orchestrator.contract.v1.session_pb2 import AgentFrame, SessionEnd, SessionStarted


@dataclass
class World:
    """What several fake peers of one cluster share."""

    jobs: dict[tuple[str, str], answers.JobStatus] = field(default_factory=dict)
    allocations: list[model.Allocation] = field(default_factory=list)
    nodes: list[answers.NodeInfo] = field(default_factory=list)
    variables: dict[tuple[str, str], model.Variable] = field(default_factory=dict)
    events: list[model.Event] = field(default_factory=list)
    logs: dict[str, bytes] = field(default_factory=dict)
    previous_logs: dict[str, bytes] = field(default_factory=dict)
    timed_logs: dict[tuple[str, int], list[tuple[int, bytes]]] = field(default_factory=dict)
    """By allocation and attempt: (time, line); before ``logs``."""
    task_logs: dict[tuple[str, int, str], bytes] = field(default_factory=dict)
    """By allocation, attempt and task; before all others. With it a task that is not there is not found."""
    versions: list[model.Revision] = field(default_factory=list)
    held: tuple[int, int] = (0, 0)  # version, and what it is held back for
    drains: list[answers.DrainStatus] = field(default_factory=list)
    """The answers of the next calls; the last one stays."""
    usage: answers.UsageAnswer = field(default_factory=answers.UsageAnswer)
    explanation: answers.Explanation = field(default_factory=answers.Explanation)
    past: foresight.PastExplanation = field(default_factory=foresight.PastExplanation)
    plan: foresight.JobPlan = field(default_factory=foresight.JobPlan)
    what_if: foresight.WhatIf = field(default_factory=foresight.WhatIf)
    rebalances: list[foresight.Rebalance] = field(default_factory=list)
    """The answers of the next calls; the last one stays."""
    on_move: Callable[[model.AllocationId], None] | None = None
    status: answers.ClusterStatus = field(default_factory=answers.ClusterStatus)
    done: dict[str, Any] = field(default_factory=dict)
    limits: model.Limits = field(default_factory=model.Limits)
    settings: model.Settings = field(default_factory=model.Settings)
    namespaces: dict[str, answers.NamespaceStatus] = field(default_factory=dict)
    writes: int = 0
    index: int = 10
    lock: threading.RLock = field(default_factory=threading.RLock)
    on_submit: Callable[[model.JobSpec], None] | None = None


class FakePeer(control_pb2_grpc.ControlServicer):
    """One peer. ``failures[method]``: what the next calls of it meet, in order; None lets one pass."""

    def __init__(self, world: World | None = None, name: str = "p1") -> None:
        self.world = world or World()
        self.name = name
        self.failures: dict[str, deque[RaftsmanError | None]] = {}
        self.after: dict[str, deque[RaftsmanError | None]] = {}
        """Like ``failures``, but the write happens first: the answer is what is lost."""
        self.no_quorum = False
        self.on_call: Callable[[str], None] = lambda method: None
        self.silent = False
        """Takes calls and never answers: a stopped process with living connections."""
        self.calls: list[tuple[str, Any]] = []
        self.present_peers: list[str] = []
        """What it says of the cluster's peers beside an answer; nothing: they are those that everybody knows."""
        self.cut_streams_after: deque[int] = deque()
        """How many messages each next stream sends before the peer "dies"."""
        self._server = grpc.server(ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)])
        control_pb2_grpc.add_ControlServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def kill(self) -> None:
        self._server.stop(None).wait()

    # ------------------------------------------------------------------ plumbing

    def fail(self, method: str, *errors: RaftsmanError | None) -> None:
        self.failures.setdefault(method, deque()).extend(errors)

    def _enter(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        self.on_call(method)
        with self.world.lock:
            self.calls.append((method, request))
            silent, waiting = self.silent, self.failures.get(method)
            error = waiting.popleft() if waiting else None
        if self.present_peers and any(key == WHICH_PEERS for key, _ in context.invocation_metadata()):
            context.set_trailing_metadata(((WHICH_PEERS, ",".join(self.present_peers)),))
        if silent:
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait(30)
        stale = getattr(getattr(request, "read", None), "stale", False)
        if error is None and self.no_quorum and not stale:
            error = NoLeaderError("no majority of peers can be reached")
        if error is not None:
            context.abort_with_status(to_status(error))

    def _read(self, request: Any) -> answers.ReadInfo:
        stale = request.read.stale if hasattr(request, "read") else False
        return answers.ReadInfo(
            index=self.world.index, stale=stale, age_ms=4_200 if self.no_quorum else 0, peer_id=self.name
        )

    def _write(self, method: str, request: Any, context: grpc.ServicerContext, do: Callable[[], Any]) -> Any:
        self._enter(method, request, context)
        with self.world.lock:
            if request.request_id in self.world.done:
                answer = self.world.done[request.request_id]
            else:
                self.world.writes += 1
                self.world.index += 1
                try:
                    answer = do()
                except RaftsmanError as error:
                    context.abort_with_status(to_status(error))
                    raise
                self.world.done[request.request_id] = answer
            waiting = self.after.get(method)
            lost = waiting.popleft() if waiting else None
        if lost is not None:
            context.abort_with_status(to_status(lost))
        return answer

    def _job(self, key: Any) -> answers.JobStatus:
        name = (key.namespace or "default", key.name)
        if name not in self.world.jobs:
            raise NotFoundError(f"no job '{key.name}'")
        return self.world.jobs[name]

    # ------------------------------------------------------------------ jobs

    def SubmitJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        def do() -> Any:
            spec = codec.decode(model.JobSpec, request.job)
            key = (spec.namespace, spec.name)
            before = self.world.jobs.get(key)
            version = before.version if before else 0
            if request.HasField("expect_version") and request.expect_version != version:
                raise ConflictError(f"its version is {version}, not {request.expect_version}")
            changed = before is None or before.spec != spec
            if changed:
                self.world.jobs[key] = answers.JobStatus(
                    spec=spec,
                    uid="u1",
                    version=version + 1,
                    state="pending",
                    groups=tuple(
                        answers.GroupStatus(group=group.name, count=group.count, pending=group.count)
                        for group in spec.groups
                    ),
                )
                if self.world.on_submit is not None:
                    self.world.on_submit(spec)
            return pb.SubmitJobResponse(
                index=self.world.index, uid="u1", version=self.world.jobs[key].version, changed=changed
            )

        return self._write("SubmitJob", request, context, do)

    def GetJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("GetJob", request, context)
        try:
            answer = answers.JobAnswer(job=self._job(request.job), read=self._read(request))
        except RaftsmanError as error:
            context.abort_with_status(to_status(error))
            raise
        return codec.encode(answer, pb.GetJobResponse())

    def ListJobs(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("ListJobs", request, context)
        jobs = tuple(
            job for (namespace, _), job in sorted(self.world.jobs.items()) if request.namespace in ("*", namespace)
        )
        return codec.encode(answers.JobList(jobs=jobs, read=self._read(request)), pb.ListJobsResponse())

    def _change(self, method: str, request: Any, context: Any, change: Callable[[], None]) -> Any:
        def do() -> Any:
            self._job(request.job)
            change()
            return pb.WriteResponse(index=self.world.index, changed=True)

        return self._write(method, request, context, do)

    def StopJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        key = (request.job.namespace, request.job.name)

        def stop() -> None:
            self.world.jobs[key] = replace(self.world.jobs[key], stopped=True, state="stopped")

        return self._change("StopJob", request, context, stop)

    def ScaleJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        key = (request.job.namespace, request.job.name)

        def scale() -> None:
            job = self.world.jobs[key]
            groups = tuple(
                replace(group, count=request.count, running=request.count, ready=request.count, pending=0)
                if request.group in ("", group.group)
                else group
                for group in job.groups
            )
            self.world.jobs[key] = replace(job, groups=groups)

        return self._change("ScaleJob", request, context, scale)

    def RestartJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._change("RestartJob", request, context, lambda: None)

    def RemoveJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        key = (request.job.namespace, request.job.name)

        def remove() -> None:
            del self.world.jobs[key]

        return self._change("RemoveJob", request, context, remove)

    def ExplainJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("ExplainJob", request, context)
        return codec.encode(replace(self.world.explanation, read=self._read(request)), pb.ExplainJobResponse())

    # ------------------------------------------------------------------ what has not happened, and what has

    def ExplainPast(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("ExplainPast", request, context)
        return codec.encode(self.world.past, pb.ExplainPastResponse())

    def PlanJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("PlanJob", request, context)
        seen = replace(self.world.plan.what_if, read=self._read(request))
        return codec.encode(replace(self.world.plan, what_if=seen), pb.PlanJobResponse())

    def WhatIf(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("WhatIf", request, context)
        return codec.encode(replace(self.world.what_if, read=self._read(request)), pb.WhatIfResponse())

    def Rebalance(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("Rebalance", request, context)
        found = self.world.rebalances
        one = found.pop(0) if len(found) > 1 else found[0]
        return codec.encode(replace(one, read=self._read(request)), pb.RebalanceResponse())

    def MoveAllocation(self, request: Any, context: Any) -> Any:  # noqa: N802
        def do() -> Any:
            if self.world.on_move is not None:
                self.world.on_move(codec.decode(model.AllocationId, request.id))
            return pb.WriteResponse(index=self.world.index, changed=True)

        return self._write("MoveAllocation", request, context, do)

    # ------------------------------------------------------------------ allocations

    def ListAllocations(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("ListAllocations", request, context)
        found = tuple(
            allocation
            for allocation in self.world.allocations
            if request.namespace in ("*", allocation.id.namespace) and request.job in ("", allocation.id.job)
        )
        answer = answers.AllocationList(allocations=found, read=self._read(request))
        return codec.encode(answer, pb.ListAllocationsResponse())

    def GetAllocation(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("GetAllocation", request, context)
        wanted = codec.decode(model.AllocationId, request.id)
        for allocation in self.world.allocations:
            if allocation.id == wanted:
                answer = answers.AllocationAnswer(allocation=allocation, read=self._read(request))
                return codec.encode(answer, pb.GetAllocationResponse())
        return context.abort_with_status(to_status(NotFoundError(f"no allocation {wanted}")))

    def ListJobVersions(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("ListJobVersions", request, context)
        held, base = self.world.held
        listed = tuple(self.world.versions)
        answer = answers.JobVersions(versions=listed, read=self._read(request), held_version=held, base_version=base)
        return codec.encode(answer, pb.ListJobVersionsResponse())

    def Logs(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self._enter("Logs", request, context)
        if self.world.task_logs:
            where = f"{request.id.job}/{request.id.group}/{request.id.ordinal}"
            found = self.world.task_logs.get((where, request.attempt, request.task))
            if found is None:
                context.abort_with_status(to_status(NotFoundError(f"{where} has no task {request.task!r}")))
            else:
                yield pb.LogsChunk(data=found, offset=0, task=request.task, attempt=request.attempt)
            return
        timed = self.world.timed_logs.get(
            (f"{request.id.job}/{request.id.group}/{request.id.ordinal}", request.attempt)
        )
        if timed is not None:
            offset = 0
            if request.offset < 0 and request.tail_lines > 0:
                timed = timed[-request.tail_lines :]  # each is a line
            for time_ms, text in timed:
                if time_ms >= request.since_ms:
                    yield pb.LogsChunk(data=text, offset=offset, task="main", attempt=request.attempt, time_ms=time_ms)
                offset += len(text)
            return
        logs = self.world.previous_logs if request.previous else self.world.logs
        data = logs.get(f"{request.id.job}/{request.id.group}/{request.id.ordinal}", b"")
        start = max(request.offset, 0)
        if request.offset < 0 and request.tail_lines > 0:
            start = len(b"".join(data.splitlines(keepends=True)[: -request.tail_lines]))
        limit = self.cut_streams_after.popleft() if self.cut_streams_after else None
        for sent, offset in enumerate(range(start, len(data), 5)):
            if sent == limit:
                context.abort(grpc.StatusCode.UNAVAILABLE, "socket closed")
            yield pb.LogsChunk(data=data[offset : offset + 5], offset=offset, task="main", attempt=1)

    # ------------------------------------------------------------------ nodes and cluster

    def ListNodes(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("ListNodes", request, context)
        answer = answers.NodeList(nodes=tuple(self.world.nodes), read=self._read(request))
        return codec.encode(answer, pb.ListNodesResponse())

    def _node(self, method: str, request: Any, context: Any) -> Any:
        def do() -> Any:
            if request.node not in {node.spec.name for node in self.world.nodes}:
                raise NotFoundError(f"no node '{request.node}'")
            return pb.WriteResponse(index=self.world.index, changed=True)

        return self._write(method, request, context, do)

    def CordonNode(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._node("CordonNode", request, context)

    def UncordonNode(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._node("UncordonNode", request, context)

    def CordonDevice(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._node("CordonDevice", request, context)

    def UncordonDevice(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._node("UncordonDevice", request, context)

    def DrainNode(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._node("DrainNode", request, context)

    def DrainStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("DrainStatus", request, context)
        drains = self.world.drains
        status = drains[0] if drains else answers.DrainStatus(node=request.node, draining=True)
        if len(drains) > 1:
            drains.pop(0)
        return codec.encode(replace(status, read=self._read(request)), pb.DrainStatusResponse())

    def GetUsage(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("GetUsage", request, context)
        return codec.encode(self.world.usage, pb.GetUsageResponse())

    def ForgetNode(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._node("ForgetNode", request, context)

    def TaintNode(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._node("TaintNode", request, context)

    def ClusterStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("ClusterStatus", request, context)
        return codec.encode(replace(self.world.status, read=self._read(request)), pb.ClusterStatusResponse())

    def ChangePeers(self, request: Any, context: Any) -> Any:  # noqa: N802
        def do() -> Any:
            status = self.world.status
            kept = [peer for peer in status.peers if peer.id not in request.remove]
            added = [answers.PeerInfo(id=peer, address=at, role="follower") for peer, at in request.add.items()]
            self.world.status = replace(status, epoch=status.epoch + 1, peers=(*kept, *added))
            present = {peer.id: peer.address for peer in self.world.status.peers}
            return pb.ChangePeersResponse(index=self.world.index, epoch=self.world.status.epoch, peers=present)

        return self._write("ChangePeers", request, context, do)

    def StateHash(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("StateHash", request, context)
        return pb.StateHashResponse(hash="abc", index=request.at_index or self.world.index, peer_id=self.name)

    def Backup(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self._enter("Backup", request, context)
        limit = self.cut_streams_after.popleft() if self.cut_streams_after else None
        state = f"state of {self.name}".encode() * 3
        head = pb.BackupHead(
            format=1, cluster_name="dev", peer_id=self.name, index=self.world.index, size_bytes=len(state),
            stale=request.read.stale, age_ms=2500 if request.read.stale else 0,
        )  # fmt: skip
        digest = hashlib.sha256(state).digest()
        parts = [pb.BackupPart(head=head), *(pb.BackupPart(data=state[n : n + 7]) for n in range(0, len(state), 7))]
        for sent, part in enumerate([*parts, pb.BackupPart(sha256=digest)]):
            if sent == limit:
                context.abort(grpc.StatusCode.UNAVAILABLE, "socket closed")
            yield part

    def WatchEvents(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self._enter("WatchEvents", request, context)
        limit = self.cut_streams_after.popleft() if self.cut_streams_after else None
        wanted = [event for event in self.world.events if event.index > request.after_index]
        for sent, event in enumerate(wanted):
            if sent == limit:
                context.abort(grpc.StatusCode.UNAVAILABLE, "socket closed")
            yield codec.encode(event, pb.Event())
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait(30)

    # ------------------------------------------------------------------ variables

    def _variable(self, method: str, request: Any, context: Any, decide: Callable[[Any], str | None]) -> Any:
        key = (request.namespace, request.name)

        def do() -> Any:
            before = self.world.variables.get(key)
            value = decide(before)
            if value is not None:
                self.world.variables[key] = model.Variable(
                    namespace=request.namespace,
                    name=request.name,
                    value=value,
                    version=before.version + 1 if before else 1,
                    create_index=self.world.index,
                    modify_index=self.world.index,
                )
            answer = pb.VariableResponse(index=self.world.index, hit=value is not None)
            after = self.world.variables.get(key)
            if after is not None:
                codec.encode(after, answer.variable)
            return answer

        return self._write(method, request, context, do)

    def PutVariable(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._variable("PutVariable", request, context, lambda before: request.value)

    def CreateVariable(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._variable(
            "CreateVariable", request, context, lambda before: request.value if before is None else None
        )

    def CompareAndSetVariable(self, request: Any, context: Any) -> Any:  # noqa: N802
        expect = request.expect if request.HasField("expect") else None

        def decide(before: model.Variable | None) -> str | None:
            return request.value if (before.value if before else None) == expect else None

        return self._variable("CompareAndSetVariable", request, context, decide)

    def DeleteVariable(self, request: Any, context: Any) -> Any:  # noqa: N802
        def do() -> Any:
            gone = self.world.variables.pop((request.namespace, request.name), None)
            return pb.VariableResponse(index=self.world.index, hit=gone is not None)

        return self._write("DeleteVariable", request, context, do)

    def GetVariable(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("GetVariable", request, context)
        found = self.world.variables.get((request.namespace, request.name))
        answer = answers.VariableResult(
            variable=found, index=self.world.index, hit=found is not None, read=self._read(request)
        )
        return codec.encode(answer, pb.VariableResponse())

    def GetLimits(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("GetLimits", request, context)
        answer = answers.LimitsAnswer(
            limits=self.world.limits,
            read=self._read(request),
            placements=(
                answers.PlacementInfo(name="binpack", summary="the fullest node"),
                answers.PlacementInfo(name="fragmentation", summary="what keeps GPUs useful"),
                answers.PlacementInfo(name="spread", summary="the emptiest node"),
            ),
        )
        return codec.encode(answer, pb.GetLimitsResponse())

    def SetLimits(self, request: Any, context: Any) -> Any:  # noqa: N802
        def do() -> Any:
            change = codec.decode(model.LimitsChange, request.change)
            given = {name: value for name, value in asdict(change).items() if value is not None}
            if given.get("events") == 0:
                raise InvalidError("events must be from 100 to 10000000, not 0")
            self.world.limits = replace(self.world.limits, **given)
            return pb.WriteResponse(index=self.world.index, changed=True)

        return self._write("SetLimits", request, context, do)

    def GetSettings(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("GetSettings", request, context)
        answer = answers.SettingsAnswer(settings=self.world.settings, read=self._read(request))
        return codec.encode(answer, pb.GetSettingsResponse())

    def SetSettings(self, request: Any, context: Any) -> Any:  # noqa: N802
        def do() -> Any:
            change = codec.decode(model.SettingsChange, request.change)
            given = {name: value for name, value in asdict(change).items() if value is not None}
            before, self.world.settings = self.world.settings, replace(self.world.settings, **given)
            return pb.WriteResponse(index=self.world.index, changed=before != self.world.settings)

        return self._write("SetSettings", request, context, do)

    def ListNamespaces(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("ListNamespaces", request, context)
        found = tuple(self.world.namespaces[name] for name in sorted(self.world.namespaces))
        return codec.encode(
            answers.NamespaceList(namespaces=found, read=self._read(request)), pb.ListNamespacesResponse()
        )

    def CreateNamespace(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._namespace("CreateNamespace", request, context)

    def SetNamespace(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._namespace("SetNamespace", request, context)

    def _namespace(self, method: str, request: Any, context: Any) -> Any:
        def do() -> Any:
            quota = codec.decode(model.Quota, request.quota)
            self.world.namespaces[request.name] = answers.NamespaceStatus(
                namespace=model.Namespace(name=request.name, quota=quota, create_index=self.world.index)
            )
            return pb.WriteResponse(index=self.world.index, changed=True)

        return self._write(method, request, context, do)

    def DeleteNamespace(self, request: Any, context: Any) -> Any:  # noqa: N802
        def do() -> Any:
            if self.world.namespaces.pop(request.name, None) is None:
                raise NotFoundError(f"there is no namespace {request.name!r}")
            return pb.WriteResponse(index=self.world.index, changed=True)

        return self._write("DeleteNamespace", request, context, do)

    def ListVariables(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._enter("ListVariables", request, context)
        found = tuple(
            variable
            for (namespace, name), variable in sorted(self.world.variables.items())
            if request.namespace in ("*", namespace) and name.startswith(request.prefix)
        )
        answer = answers.VariableList(variables=found, read=self._read(request))
        return codec.encode(answer, pb.ListVariablesResponse())

    # ------------------------------------------------------------------ sessions

    def Session(self, frames: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        """A command, or what listens on a port, that says back what it hears; a command ends with 7, or by a signal."""
        opened = next(frames).open
        self._enter("Session", opened, context)
        what = opened.WhichOneof("what")
        if what == "exec" and opened.exec.command[:1] == ["nosuch"]:
            yield AgentFrame(end=SessionEnd(error="there is no nosuch", error_reason="NOT_FOUND"))
            return
        yield AgentFrame(started=SessionStarted(node="one", id=opened.id, attempt=opened.attempt, task="main"))
        for frame in frames:
            kind = frame.WhichOneof("frame")
            if kind == "data":
                yield AgentFrame(data=frame.data)
            elif kind == "size":
                yield AgentFrame(error_data=b"%d x %d" % (frame.size.rows, frame.size.columns))
            elif kind == "signal":
                yield AgentFrame(end=SessionEnd(exit_code=130))
                return
            else:
                yield AgentFrame(end_of_data=True)
                break
        yield AgentFrame(end=SessionEnd(exit_code=7 if what == "exec" else 0))


def job_spec(name: str = "web", **changes: Any) -> model.JobSpec:
    task = model.TaskSpec(name="main", image="nginx", resources=model.Resources(cpu_millis=100, memory_mib=128))
    return replace(
        model.JobSpec(name=name, groups=(model.GroupSpec(name="main", tasks=(task,)),)),
        **changes,
    )


__all__ = ["FakePeer", "World", "job_spec", "types_pb2"]
