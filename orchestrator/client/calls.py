"""Every call of ``control.proto`` as a value: the method's name, its request, and how the answer becomes a dataclass.

Owns: building requests and decoding answers, once for all clients. Leaves to others: sending and retrying
(``client.aio``), blocking (``client.sync``). The rule: nothing here waits or fails on the network.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeVar, cast, get_type_hints

from google.protobuf.message import Message

from orchestrator.contract import answers, codec, foresight, model
from orchestrator.contract.errors import InvalidError
from orchestrator.contract.place import split_place
from orchestrator.contract.rollouts import RolloutAction
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import types_pb2

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K")

SERVICE = "/orchestrator.contract.v1.Control/"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One unary call. ``request_id`` is set for writes: it stays the same over all retries. ``is_thought``: its answer
    is worked out, which may take long though everybody is well."""

    method: str
    request: Message
    answer: type[Message]
    decode: Callable[[Message], T]
    request_id: str = ""
    is_thought: bool = False

    @property
    def is_write(self) -> bool:
        return bool(self.request_id)

    @property
    def is_stale(self) -> bool:
        return bool(getattr(getattr(self.request, "read", None), "stale", False))

    @property
    def may_be_stale(self) -> bool:
        """Whether any peer could answer it from its own state."""
        return "read" in self.request.DESCRIPTOR.fields_by_name

    def stale(self) -> Call[T]:
        """The same read, answered by any peer from its own state."""
        request = type(self.request)()
        request.CopyFrom(self.request)
        request.read.stale = True  # type: ignore[attr-defined]
        return Call(self.method, request, self.answer, self.decode, is_thought=self.is_thought)


@dataclass(frozen=True, slots=True)
class Stream(Generic[T]):
    """One call that streams answers."""

    method: str
    request: Message
    answer: type[Message]
    decode: Callable[[Message], T] = field(repr=False)


def new_request_id() -> str:
    return os.urandom(16).hex()  # as a random UUID, without the price of importing uuid


def _built(make: Callable[P, T]) -> Callable[P, T]:
    """What no request can hold is a mistake like any other: ``InvalidError`` says which argument it is.

    ``None`` would be taken for what is not said: a count of nothing, and the job is gone.
    """

    @functools.wraps(make)
    def build(*args: P.args, **kwargs: P.kwargs) -> T:
        if any(value is None for value in args):
            _look_through(make, args, kwargs)
        try:
            return make(*args, **kwargs)
        except (TypeError, ValueError) as error:
            _look_through(make, args, kwargs)
            raise InvalidError(f"{make.__name__}: {error}") from None

    return build


def _look_through(make: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise ``InvalidError`` for the first argument that is not what the builder takes."""
    kinds = get_type_hints(make)
    for name, value in inspect.signature(make).bind(*args, **kwargs).arguments.items():
        kind = kinds[name]
        if kind is int and not (isinstance(value, int) and -(2**63) <= value < 2**63):
            raise InvalidError(f"{name}: expected a whole number of at most 64 bits, got {value!r}", field=name)
        if kind is bytes and not isinstance(value, bytes):
            raise InvalidError(f"{name}: expected bytes, got {value!r}", field=name)
        if kind is str and not (isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)):
            raise InvalidError(f"{name}: expected text, got {value!r}", field=name)


def _as(kind: type[K]) -> Callable[[Message], K]:
    return lambda message: codec.decode(kind, message)


def _read(stale: bool) -> pb.ReadOptions:
    return pb.ReadOptions(stale=stale)


def _key(namespace: str, name: str) -> pb.JobKey:
    return pb.JobKey(namespace=namespace, name=name)


def parse_allocation(text: str, namespace: str) -> model.AllocationId:
    """``web/api/0`` (or ``web/0`` for group ``main``) within ``namespace``; raises ValueError."""
    parts = split_place(text)
    if len(parts) == 2 and parts[1].isdecimal():
        parts.insert(1, "main")
    if len(parts) != 3 or not all(parts) or not parts[2].isdecimal() or len(parts[2]) > 9:
        raise ValueError(f"expected an allocation such as 'web/api/0' (job/group/ordinal), got {text[:200]!r}")
    return model.AllocationId(namespace=namespace, job=parts[0], group=parts[1], ordinal=int(parts[2]))


def _allocation(id: model.AllocationId) -> types_pb2.AllocationId:
    return codec.encode(id, types_pb2.AllocationId())


# ---------------------------------------------------------------------------- jobs


@_built
def submit(spec: model.JobSpec, expect_version: int | None, request_id: str) -> Call[answers.SubmitResult]:
    request = pb.SubmitJobRequest(request_id=request_id, job=codec.encode(spec, types_pb2.JobSpec()))
    if expect_version is not None:
        request.expect_version = expect_version
    return Call("SubmitJob", request, pb.SubmitJobResponse, _as(answers.SubmitResult), request_id)


@_built
def submit_many(specs: Iterable[model.JobSpec], request_id: str) -> Call[answers.SubmitManyResult]:
    request = pb.SubmitJobsRequest(request_id=request_id)
    for spec in specs:
        codec.encode(spec, request.jobs.add())
    return Call("SubmitJobs", request, pb.SubmitJobsResponse, _as(answers.SubmitManyResult), request_id)


@_built
def get_job(namespace: str, name: str, stale: bool) -> Call[answers.JobAnswer]:
    request = pb.GetJobRequest(job=_key(namespace, name), read=_read(stale))
    return Call("GetJob", request, pb.GetJobResponse, _as(answers.JobAnswer))


@_built
def list_jobs(namespace: str, stale: bool) -> Call[answers.JobList]:
    request = pb.ListJobsRequest(namespace=namespace, read=_read(stale))
    return Call("ListJobs", request, pb.ListJobsResponse, _as(answers.JobList))


@_built
def stop_job(namespace: str, name: str, request_id: str) -> Call[answers.WriteResult]:
    request = pb.StopJobRequest(request_id=request_id, job=_key(namespace, name))
    return Call("StopJob", request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def scale_job(namespace: str, name: str, group: str, count: int, request_id: str) -> Call[answers.WriteResult]:
    request = pb.ScaleJobRequest(request_id=request_id, job=_key(namespace, name), group=group, count=count)
    return Call("ScaleJob", request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def restart_job(namespace: str, name: str, request_id: str) -> Call[answers.WriteResult]:
    request = pb.RestartJobRequest(request_id=request_id, job=_key(namespace, name))
    return Call("RestartJob", request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def steer_rollout(namespace: str, name: str, action: RolloutAction, request_id: str) -> Call[answers.WriteResult]:
    request = pb.SteerRolloutRequest(request_id=request_id, job=_key(namespace, name), action=cast(Any, int(action)))
    return Call("SteerRollout", request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def rollback_job(namespace: str, name: str, version: int, request_id: str) -> Call[answers.SubmitResult]:
    request = pb.RollbackJobRequest(request_id=request_id, job=_key(namespace, name), version=version)
    return Call("RollbackJob", request, pb.SubmitJobResponse, _as(answers.SubmitResult), request_id)


@_built
def dispatch_job(
    namespace: str, name: str, meta: Mapping[str, str], payload: bytes, request_id: str
) -> Call[answers.DispatchResult]:
    request = pb.DispatchJobRequest(request_id=request_id, job=_key(namespace, name), meta=meta, payload=payload)
    return Call("DispatchJob", request, pb.DispatchJobResponse, _as(answers.DispatchResult), request_id)


@_built
def force_run(namespace: str, name: str, request_id: str) -> Call[answers.DispatchResult]:
    request = pb.ForceRunRequest(request_id=request_id, job=_key(namespace, name))
    return Call("ForceRun", request, pb.DispatchJobResponse, _as(answers.DispatchResult), request_id)


@_built
def list_job_versions(namespace: str, name: str, stale: bool) -> Call[answers.JobVersions]:
    request = pb.ListJobVersionsRequest(job=_key(namespace, name), read=_read(stale))
    return Call("ListJobVersions", request, pb.ListJobVersionsResponse, _as(answers.JobVersions))


@_built
def remove_job(namespace: str, name: str, request_id: str) -> Call[answers.WriteResult]:
    request = pb.RemoveJobRequest(request_id=request_id, job=_key(namespace, name))
    return Call("RemoveJob", request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def explain_job(namespace: str, name: str, stale: bool) -> Call[answers.Explanation]:
    request = pb.ExplainJobRequest(job=_key(namespace, name), read=_read(stale))
    return Call("ExplainJob", request, pb.ExplainJobResponse, _as(answers.Explanation), is_thought=True)


@_built
def explain_past(namespace: str, name: str, at_index: int, at_time_ms: int) -> Call[foresight.PastExplanation]:
    request = pb.ExplainPastRequest(job=_key(namespace, name), at_index=at_index, at_time_ms=at_time_ms)
    return Call("ExplainPast", request, pb.ExplainPastResponse, _as(foresight.PastExplanation))


@_built
def plan_job(spec: model.JobSpec, stale: bool) -> Call[foresight.JobPlan]:
    request = pb.PlanJobRequest(job=codec.encode(spec, types_pb2.JobSpec()), read=_read(stale))
    return Call("PlanJob", request, pb.PlanJobResponse, _as(foresight.JobPlan), is_thought=True)


# ---------------------------------------------------------------------------- what has not happened


@_built
def what_if(changes: Iterable[foresight.Change], stale: bool) -> Call[foresight.WhatIf]:
    request = pb.WhatIfRequest(read=_read(stale))
    for change in changes:
        codec.encode(change, request.changes.add())
    return Call("WhatIf", request, pb.WhatIfResponse, _as(foresight.WhatIf), is_thought=True)


@_built
def rebalance(goal: str, moves_max: int, stale: bool) -> Call[foresight.Rebalance]:
    request = pb.RebalanceRequest(goal=goal, moves_max=moves_max, read=_read(stale))
    return Call("Rebalance", request, pb.RebalanceResponse, _as(foresight.Rebalance), is_thought=True)


@_built
def move_allocation(id: model.AllocationId, attempt: int, request_id: str) -> Call[answers.WriteResult]:
    request = pb.MoveAllocationRequest(request_id=request_id, id=_allocation(id), attempt=attempt)
    return Call("MoveAllocation", request, pb.WriteResponse, _as(answers.WriteResult), request_id)


# ---------------------------------------------------------------------------- allocations


@_built
def get_allocation(id: model.AllocationId, attempt: int, stale: bool) -> Call[answers.AllocationAnswer]:
    request = pb.GetAllocationRequest(id=_allocation(id), attempt=attempt, read=_read(stale))
    return Call("GetAllocation", request, pb.GetAllocationResponse, _as(answers.AllocationAnswer))


@_built
def list_allocations(
    namespace: str, job: str, node_id: str, live_only: bool, stale: bool
) -> Call[answers.AllocationList]:
    request = pb.ListAllocationsRequest(
        namespace=namespace, job=job, node_id=node_id, live_only=live_only, read=_read(stale)
    )
    return Call("ListAllocations", request, pb.ListAllocationsResponse, _as(answers.AllocationList))


@_built
def logs(
    id: model.AllocationId,
    *,
    task: str,
    attempt: int,
    previous: bool,
    follow: bool,
    tail_lines: int,
    offset: int = -1,
    since_ms: int = 0,
) -> Stream[answers.LogsChunk]:
    request = pb.LogsRequest(
        id=_allocation(id),
        task=task,
        attempt=attempt,
        previous=previous,
        follow=follow,
        tail_lines=tail_lines,
        offset=offset,
        since_ms=since_ms,
    )
    return Stream("Logs", request, pb.LogsChunk, _as(answers.LogsChunk))


@_built
def get_workload(id: model.AllocationId, attempt: int) -> Call[answers.WorkloadAnswer]:
    request = pb.GetWorkloadRequest(id=_allocation(id), attempt=attempt)
    return Call("GetWorkload", request, pb.GetWorkloadResponse, _as(answers.WorkloadAnswer))


# ---------------------------------------------------------------------------- services


@_built
def list_services(namespace: str, name: str, stale: bool) -> Call[answers.ServiceList]:
    request = pb.ListServicesRequest(namespace=namespace, name=name, read=_read(stale))
    return Call("ListServices", request, pb.ListServicesResponse, _as(answers.ServiceList))


@_built
def watch_services(namespace: str, name: str, after_index: int) -> Stream[answers.ServicesUpdate]:
    request = pb.WatchServicesRequest(namespace=namespace, name=name, after_index=after_index)
    return Stream("WatchServices", request, pb.ServicesUpdate, _as(answers.ServicesUpdate))


# ---------------------------------------------------------------------------- nodes


@_built
def list_nodes(stale: bool) -> Call[answers.NodeList]:
    return Call("ListNodes", pb.ListNodesRequest(read=_read(stale)), pb.ListNodesResponse, _as(answers.NodeList))


@_built
def get_usage(node: str) -> Call[answers.UsageAnswer]:
    return Call("GetUsage", pb.GetUsageRequest(node=node), pb.GetUsageResponse, _as(answers.UsageAnswer))


@_built
def drain_node(
    node: str, request_id: str, *, deadline_ms: int = 0, cancel: bool = False, keep_cordoned: bool = False
) -> Call[answers.WriteResult]:
    request = pb.DrainNodeRequest(
        request_id=request_id, node=node, deadline_ms=deadline_ms, cancel=cancel, keep_cordoned=keep_cordoned
    )
    return Call("DrainNode", request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def drain_status(node: str, stale: bool) -> Call[answers.DrainStatus]:
    request = pb.DrainStatusRequest(node=node, read=_read(stale))
    return Call("DrainStatus", request, pb.DrainStatusResponse, _as(answers.DrainStatus))


@_built
def change_node(method: str, node: str, request_id: str) -> Call[answers.WriteResult]:
    request = pb.NodeRequest(request_id=request_id, node=node)
    return Call(method, request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def change_device(method: str, node: str, device: str, request_id: str) -> Call[answers.WriteResult]:
    request = pb.NodeDeviceRequest(request_id=request_id, node=node, device=device)
    return Call(method, request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def taint_node(
    node: str, put: Iterable[model.Taint], drop: Iterable[model.TaintKey], request_id: str
) -> Call[answers.WriteResult]:
    request = pb.TaintNodeRequest(request_id=request_id, node=node)
    for taint in put:
        codec.encode(taint, request.put.add())
    for key in drop:
        codec.encode(key, request.drop.add())
    return Call("TaintNode", request, pb.WriteResponse, _as(answers.WriteResult), request_id)


# ---------------------------------------------------------------------------- cluster


@_built
def cluster_status(stale: bool) -> Call[answers.ClusterStatus]:
    request = pb.ClusterStatusRequest(read=_read(stale))
    return Call("ClusterStatus", request, pb.ClusterStatusResponse, _as(answers.ClusterStatus))


@_built
def change_peers(
    add: Mapping[str, str], remove: Iterable[str], expect_epoch: int, request_id: str
) -> Call[answers.PeersChanged]:
    request = pb.ChangePeersRequest(
        request_id=request_id, add=dict(add), remove=sorted(remove), expect_epoch=expect_epoch
    )
    return Call("ChangePeers", request, pb.ChangePeersResponse, _as(answers.PeersChanged), request_id)


@_built
def state_hash(at_index: int, peer_id: str) -> Call[answers.StateHash]:
    request = pb.StateHashRequest(at_index=at_index, peer_id=peer_id)
    return Call("StateHash", request, pb.StateHashResponse, _as(answers.StateHash))


@_built
def watch_events(after_index: int, namespace: str, kinds: Iterable[str], job: str) -> Stream[model.Event]:
    request = pb.WatchEventsRequest(after_index=after_index, namespace=namespace, kinds=list(kinds), job=job)
    return Stream("WatchEvents", request, pb.Event, _as(model.Event))


@_built
def backup(stale: bool) -> Stream[answers.BackupPart]:
    return Stream("Backup", pb.BackupRequest(read=_read(stale)), pb.BackupPart, _as(answers.BackupPart))


# ---------------------------------------------------------------------------- variables


@_built
def get_limits(stale: bool) -> Call[answers.LimitsAnswer]:
    return Call("GetLimits", pb.GetLimitsRequest(read=_read(stale)), pb.GetLimitsResponse, _as(answers.LimitsAnswer))


@_built
def set_limits(change: model.LimitsChange, request_id: str) -> Call[answers.WriteResult]:
    request = pb.SetLimitsRequest(request_id=request_id, change=codec.encode(change, types_pb2.LimitsChange()))
    return Call("SetLimits", request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def get_settings(stale: bool) -> Call[answers.SettingsAnswer]:
    request = pb.GetSettingsRequest(read=_read(stale))
    return Call("GetSettings", request, pb.GetSettingsResponse, _as(answers.SettingsAnswer))


@_built
def set_settings(change: model.SettingsChange, request_id: str) -> Call[answers.WriteResult]:
    request = pb.SetSettingsRequest(request_id=request_id, change=codec.encode(change, types_pb2.SettingsChange()))
    return Call("SetSettings", request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def list_namespaces(stale: bool) -> Call[answers.NamespaceList]:
    request = pb.ListNamespacesRequest(read=_read(stale))
    return Call("ListNamespaces", request, pb.ListNamespacesResponse, _as(answers.NamespaceList))


@_built
def write_namespace(method: str, name: str, quota: model.Quota, request_id: str) -> Call[answers.WriteResult]:
    request = pb.NamespaceRequest(request_id=request_id, name=name, quota=codec.encode(quota, types_pb2.Quota()))
    return Call(method, request, pb.WriteResponse, _as(answers.WriteResult), request_id)


@_built
def put_variable(namespace: str, name: str, value: str, request_id: str) -> Call[answers.VariableResult]:
    request = pb.PutVariableRequest(request_id=request_id, namespace=namespace, name=name, value=value)
    return Call("PutVariable", request, pb.VariableResponse, _as(answers.VariableResult), request_id)


@_built
def create_variable(namespace: str, name: str, value: str, request_id: str) -> Call[answers.VariableResult]:
    request = pb.PutVariableRequest(request_id=request_id, namespace=namespace, name=name, value=value)
    return Call("CreateVariable", request, pb.VariableResponse, _as(answers.VariableResult), request_id)


@_built
def get_variable(namespace: str, name: str, stale: bool) -> Call[answers.VariableResult]:
    request = pb.GetVariableRequest(namespace=namespace, name=name, read=_read(stale))
    return Call("GetVariable", request, pb.VariableResponse, _as(answers.VariableResult))


@_built
def compare_and_set_variable(
    namespace: str, name: str, expect: str | None, value: str, request_id: str
) -> Call[answers.VariableResult]:
    request = pb.CompareAndSetVariableRequest(request_id=request_id, namespace=namespace, name=name, value=value)
    if expect is not None:
        request.expect = expect
    return Call("CompareAndSetVariable", request, pb.VariableResponse, _as(answers.VariableResult), request_id)


@_built
def delete_variable(namespace: str, name: str, expect: str | None, request_id: str) -> Call[answers.VariableResult]:
    request = pb.DeleteVariableRequest(request_id=request_id, namespace=namespace, name=name)
    if expect is not None:
        request.expect = expect
    return Call("DeleteVariable", request, pb.VariableResponse, _as(answers.VariableResult), request_id)


@_built
def put_variables(
    namespace: str, writes: Iterable[model.VariableWrite], request_id: str
) -> Call[tuple[answers.VariableResult, ...]]:
    request = pb.PutVariablesRequest(request_id=request_id, namespace=namespace)
    for write in writes:
        codec.encode(write, request.writes.add())
    return Call("PutVariables", request, pb.PutVariablesResponse, _variable_results, request_id)


def _variable_results(message: Any) -> tuple[answers.VariableResult, ...]:
    return tuple(codec.decode(answers.VariableResult, one) for one in message.answers)


@_built
def list_variables(namespace: str, prefix: str, stale: bool) -> Call[answers.VariableList]:
    request = pb.ListVariablesRequest(namespace=namespace, prefix=prefix, read=_read(stale))
    return Call("ListVariables", request, pb.ListVariablesResponse, _as(answers.VariableList))
