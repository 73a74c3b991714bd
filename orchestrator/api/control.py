"""The writes of ``Control``: checked here, minted here, decided by ``state.apply`` on every peer.

Owns: validation at the server (whoever the client is), the operator's policy on privileges, request ids and digests,
uids, cutting a large submit into commands. Leaves to others: reads (``reads``), meaning (``state.apply``), where a
call is served (``forward``). The rule: nothing is believed because a client checked it, and every write is one
proposal with the caller's identity and request id, so that repeating it does nothing twice.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from orchestrator.api.forward import Call, Route
from orchestrator.api.requests import body_digest, group_name, job_key, namespace_of, rejection, write
from orchestrator.contract import capabilities, codec
from orchestrator.contract.batch import MAX_PAYLOAD_BYTES
from orchestrator.contract.containers import HOST
from orchestrator.contract.errors import InvalidError, PreconditionError, RaftsmanError
from orchestrator.contract.model import JobSpec, LimitsChange, Taint, TaintKey
from orchestrator.contract.rollouts import RolloutAction
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.jobfile import check, limits
from orchestrator.replication.log import ReplicatedLog
from orchestrator.replication.propose import Proposer
from orchestrator.state import commands as cmd
from orchestrator.state.features import too_new

A = TypeVar("A", bound=cmd.Answer)
T = TypeVar("T")

MAX_JOBS = 20_000
MAX_WRITES = 256
MAX_WRITES_BYTES = 1024 * 1024
CHUNK_JOBS = 100
CHUNK_BYTES = 1024 * 1024
"""A larger submit becomes several commands, so that no peer spends an election timeout on applying one."""
SLICE = 25
"""Jobs that are checked before the loop gets air."""

ROUTES: dict[str, Route] = {
    "GetJob": Route.HERE,
    "ListJobs": Route.HERE,
    "ListJobVersions": Route.HERE,
    "GetAllocation": Route.HERE,
    "ListAllocations": Route.HERE,
    "Logs": Route.HERE,
    "Session": Route.HERE,
    "GetUsage": Route.HERE,
    "DrainStatus": Route.FRESH,
    "GetWorkload": Route.HERE,
    "ListServices": Route.HERE,
    "WatchServices": Route.HERE,
    "ListNodes": Route.FRESH,
    "ClusterStatus": Route.FRESH,
    "StateHash": Route.HERE,
    "WatchEvents": Route.HERE,
    "Backup": Route.HERE,
    "GetVariable": Route.HERE,
    "ListVariables": Route.HERE,
    "GetLimits": Route.HERE,
    "ExplainJob": Route.FRESH,
    "ExplainPast": Route.HERE,
    "PlanJob": Route.HERE,
    "WhatIf": Route.HERE,
    "Rebalance": Route.HERE,
    "GetSettings": Route.HERE,
    "ListNamespaces": Route.HERE,
}
"""Everything else changes something, or needs what only the leader knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator lets jobs ask for, and the placements that exist."""

    allow_privileged: bool
    allow_host_paths: bool
    allow_host_network: bool
    placements: Collection[str]
    allow_caps: Collection[str] = ()  # beyond those that everybody may have


class Writes:
    """``resolve_node`` turns an id, unique prefix or unique name into a node id, ``resolve_device`` likewise what is
    said of a node's device (``reads``); ``in_place``: whether a job as it would be changes what runs in its size alone,
    as far as this peer knows (``state.resize`` looks again); ``feature_level``: the cluster's."""

    def __init__(
        self,
        log: ReplicatedLog,
        proposer: Proposer,
        policy: Policy,
        *,
        resolve_node: Callable[[str], str | None],
        resolve_device: Callable[[str, str], str],
        in_place: Callable[[JobSpec], bool],
        feature_level: Callable[[], int],
    ) -> None:
        self._log = log
        self._proposer = proposer
        self._policy = policy
        self._resolve_node = resolve_node
        self._resolve_device = resolve_device
        self._in_place = in_place
        self._feature_level = feature_level

    # ------------------------------------------------------------------ jobs

    async def submit_job(self, request: pb.SubmitJobRequest, call: Call) -> pb.SubmitJobResponse:
        (spec,) = await self._checked([request.job])
        expect = request.expect_version if request.HasField("expect_version") else None
        if expect is not None and expect < 0:
            raise InvalidError(f"expect_version: {expect}; expected 0 (must not exist) or a version", field="expect")
        job = cmd.JobSubmission(
            spec=spec,
            uid=uuid.uuid4().hex,
            expect_version=expect,
            in_place=self._in_place(spec),
            remember=True,
        )
        done, answer = await self._write(request, call, cmd.SubmitJobs(jobs=(job,)), cmd.JobsAnswer)
        one = answer.jobs[0]
        return pb.SubmitJobResponse(index=done.index, uid=one.uid, version=one.version, changed=one.changed)

    async def submit_jobs(self, request: pb.SubmitJobsRequest, call: Call) -> pb.SubmitJobsResponse:
        """All or none up to ``CHUNK_JOBS`` jobs and ``CHUNK_BYTES``, which are one command.

        A larger submit is several commands, each all or none, with request ids derived from the caller's. Every job is
        checked before the first is proposed, so that only two things can come between them: the leader dies, or a job
        of that name is just being removed. Then the jobs of the earlier commands are in and the caller gets an error;
        repeating the call, with the same request id or another, completes it and does nothing twice.
        """
        if not request.jobs:
            raise InvalidError("jobs: is empty; expected at least one", field="jobs")
        if len(request.jobs) > MAX_JOBS:
            raise InvalidError(f"jobs: {len(request.jobs)}; at most {MAX_JOBS} in one call", field="jobs")
        specs = await self._checked(request.jobs)
        seen: dict[tuple[str, str], int] = {}
        for place, spec in enumerate(specs):
            key = (spec.namespace, spec.name)
            if key in seen:
                raise InvalidError(
                    f"jobs[{place}].name: {spec.name!r} is also the name of jobs[{seen[key]}]", field=f"jobs[{place}]"
                )
            seen[key] = place
        sizes = [job.ByteSize() for job in request.jobs]
        chunks = list(_chunks(specs, sizes))
        digest = body_digest(request)
        answers: list[cmd.JobAnswer] = []
        index = 0
        for number, chunk in enumerate(chunks):
            jobs = (
                cmd.JobSubmission(spec=spec, uid=uuid.uuid4().hex, in_place=self._in_place(spec), remember=True)
                for spec in chunk
            )
            command = cmd.SubmitJobs(jobs=tuple(jobs))
            suffix = "" if len(chunks) == 1 else f"/{number}"
            done, answer = await self._write(request, call, command, cmd.JobsAnswer, suffix=suffix, digest=digest)
            index = index or done.index
            answers.extend(answer.jobs)
        return pb.SubmitJobsResponse(
            index=index,
            jobs=[pb.SubmitJobResponse(index=index, uid=a.uid, version=a.version, changed=a.changed) for a in answers],
        )

    async def stop_job(self, request: pb.StopJobRequest, call: Call) -> pb.WriteResponse:
        namespace, name = job_key(request.job)
        return await self._change(request, call, cmd.StopJob(namespace=namespace, name=name))

    async def scale_job(self, request: pb.ScaleJobRequest, call: Call) -> pb.WriteResponse:
        namespace, name = job_key(request.job)
        if not 0 <= request.count <= limits.MAX_COUNT:
            raise InvalidError(f"count: {request.count}; expected 0 to {limits.MAX_COUNT}", field="count")
        group = group_name(request.group, "group") if request.group else ""
        command = cmd.ScaleJob(namespace=namespace, name=name, group=group, count=request.count)
        return await self._change(request, call, command)

    async def restart_job(self, request: pb.RestartJobRequest, call: Call) -> pb.WriteResponse:
        namespace, name = job_key(request.job)
        return await self._change(request, call, cmd.RestartJob(namespace=namespace, name=name))

    async def steer_rollout(self, request: pb.SteerRolloutRequest, call: Call) -> pb.WriteResponse:
        namespace, name = job_key(request.job)
        try:
            action = RolloutAction(request.action)
        except ValueError:
            raise InvalidError("action: expected pause, resume or promote", field="action") from None
        return await self._change(request, call, cmd.SteerRollout(namespace=namespace, name=name, action=action))

    async def rollback_job(self, request: pb.RollbackJobRequest, call: Call) -> pb.SubmitJobResponse:
        namespace, name = job_key(request.job)
        if request.version < 0:
            raise InvalidError(f"version: {request.version}; expected a version, or 0", field="version")
        command = cmd.RollbackJob(namespace=namespace, name=name, version=request.version)
        done, answer = await self._write(request, call, command, cmd.JobsAnswer)
        one = answer.jobs[0]
        return pb.SubmitJobResponse(index=done.index, uid=one.uid, version=one.version, changed=one.changed)

    async def dispatch_job(self, request: pb.DispatchJobRequest, call: Call) -> pb.DispatchJobResponse:
        namespace, name = job_key(request.job)
        if len(request.payload) > MAX_PAYLOAD_BYTES:
            raise InvalidError(
                f"payload: {len(request.payload)} bytes; at most {MAX_PAYLOAD_BYTES}; more belongs elsewhere",
                field="payload",
            )
        command = cmd.DispatchJob(
            namespace=namespace,
            name=name,
            uid=uuid.uuid4().hex,
            meta=tuple(sorted(request.meta.items())),
            payload=request.payload,
        )
        return await self._made(request, call, command)

    async def force_run(self, request: pb.ForceRunRequest, call: Call) -> pb.DispatchJobResponse:
        namespace, name = job_key(request.job)
        return await self._made(request, call, cmd.ForceRun(namespace=namespace, name=name, uid=uuid.uuid4().hex))

    async def _made(self, request: Any, call: Call, command: cmd.DispatchJob | cmd.ForceRun) -> pb.DispatchJobResponse:
        done, answer = await self._write(request, call, command, cmd.JobsAnswer)
        one = answer.jobs[0]
        return pb.DispatchJobResponse(index=done.index, uid=one.uid, name=one.name)

    async def remove_job(self, request: pb.RemoveJobRequest, call: Call) -> pb.WriteResponse:
        namespace, name = job_key(request.job)
        return await self._change(request, call, cmd.RemoveJob(namespace=namespace, name=name))

    async def move_allocation(self, request: pb.MoveAllocationRequest, call: Call) -> pb.WriteResponse:
        if not request.id.job or not request.id.group or request.attempt < 1:
            raise InvalidError(
                "id, attempt: expected job, group, ordinal and the attempt that was looked at", field="id"
            )
        command = cmd.MoveAllocation(
            namespace=namespace_of(request.id.namespace),
            name=request.id.job,
            group=group_name(request.id.group, "id.group"),
            ordinal=request.id.ordinal,
            attempt=request.attempt,
        )
        return await self._change(request, call, command)

    # ------------------------------------------------------------------ nodes

    async def cordon_node(self, request: pb.NodeRequest, call: Call) -> pb.WriteResponse:
        return await self._change(request, call, cmd.CordonNode(node_id=await self._node(request), cordoned=True))

    async def uncordon_node(self, request: pb.NodeRequest, call: Call) -> pb.WriteResponse:
        return await self._change(request, call, cmd.CordonNode(node_id=await self._node(request), cordoned=False))

    async def drain_node(self, request: pb.DrainNodeRequest, call: Call) -> pb.WriteResponse:
        if request.deadline_ms < 0:
            raise InvalidError(
                f"deadline_ms: {request.deadline_ms}; expected a time from now, or 0", field="deadline_ms"
            )
        if request.cancel and request.deadline_ms:
            raise InvalidError("cancel: a drain that is cancelled has no deadline", field="cancel")
        if request.keep_cordoned and not request.cancel:
            raise InvalidError("keep_cordoned: a node that is drained is cordoned; say it with cancel", field="cancel")
        command = cmd.DrainNode(
            node_id=await self._node(request),
            deadline_after_ms=request.deadline_ms,
            cancel=request.cancel,
            keep_cordoned=request.keep_cordoned,
        )
        return await self._change(request, call, command)

    async def forget_node(self, request: pb.NodeRequest, call: Call) -> pb.WriteResponse:
        return await self._change(request, call, cmd.ForgetNode(node_id=await self._node(request)))

    async def taint_node(self, request: pb.TaintNodeRequest, call: Call) -> pb.WriteResponse:
        put, drop = _each(Taint, request.put, "put"), _each(TaintKey, request.drop, "drop")
        command = cmd.TaintNode(node_id=await self._node(request), put=put, drop=drop)
        return await self._change(request, call, command)

    async def cordon_device(self, request: pb.NodeDeviceRequest, call: Call) -> pb.WriteResponse:
        return await self._change(request, call, await self._device(request, cordoned=True))

    async def uncordon_device(self, request: pb.NodeDeviceRequest, call: Call) -> pb.WriteResponse:
        return await self._change(request, call, await self._device(request, cordoned=False))

    async def _device(self, request: pb.NodeDeviceRequest, *, cordoned: bool) -> cmd.CordonDevice:
        if not request.device:
            raise InvalidError(
                "device: is empty; expected an id, the beginning of one, or its place in the node's list, from 0",
                field="device",
            )
        node_id = await self._node(request)
        return cmd.CordonDevice(
            node_id=node_id, device_id=self._resolve_device(node_id, request.device), cordoned=cordoned
        )

    async def _node(
        self, request: pb.NodeRequest | pb.NodeDeviceRequest | pb.TaintNodeRequest | pb.DrainNodeRequest
    ) -> str:
        if not request.node:
            raise InvalidError("node: is empty; expected an id, the beginning of one, or a name", field="node")
        found = self._resolve_node(request.node)
        if found is None:
            # Registered a moment ago by way of another leader, perhaps: look again in a state that surely has it.
            await self._log.read_barrier()
            found = self._resolve_node(request.node)
        # Unknown: let the state refuse it, for a repeated forget has its first answer there.
        return found if found is not None else request.node

    # ------------------------------------------------------------------ limits

    async def set_limits(self, request: pb.SetLimitsRequest, call: Call) -> pb.WriteResponse:
        change = codec.decode(LimitsChange, request.change)
        if change == LimitsChange():
            raise InvalidError("change: names no limit", field="change")
        name = change.default_placement
        if name and name not in self._policy.placements:
            known = ", ".join(sorted(self._policy.placements))
            text = f"default_placement: no such placement {name[:64]!r} (there are: {known})"
            raise InvalidError(text, field="change")
        return await self._change(request, call, cmd.SetLimits(change=change))

    # ------------------------------------------------------------------ variables

    async def put_variable(self, request: pb.PutVariableRequest, call: Call) -> pb.VariableResponse:
        return await self._variable(request, call, value=request.value)

    async def create_variable(self, request: pb.PutVariableRequest, call: Call) -> pb.VariableResponse:
        return await self._variable(request, call, value=request.value, expectation=cmd.Expectation.ABSENT)

    async def compare_and_set_variable(
        self, request: pb.CompareAndSetVariableRequest, call: Call
    ) -> pb.VariableResponse:
        expectation = cmd.Expectation.VALUE if request.HasField("expect") else cmd.Expectation.ABSENT
        return await self._variable(
            request, call, value=request.value, expectation=expectation, expected=request.expect
        )

    async def delete_variable(self, request: pb.DeleteVariableRequest, call: Call) -> pb.VariableResponse:
        expectation = cmd.Expectation.VALUE if request.HasField("expect") else cmd.Expectation.NONE
        return await self._variable(request, call, value=None, expectation=expectation, expected=request.expect)

    async def put_variables(self, request: pb.PutVariablesRequest, call: Call) -> pb.PutVariablesResponse:
        """One entry of the log, in which each write is a command of its own (``cmd.WriteVariables``).

        All are checked before they are proposed. What only the state can refuse (a value that is too large) is told
        with its place; the others are done then, and repeating the call does nothing twice.
        """
        if not request.writes:
            raise InvalidError("writes: is empty; expected at least one", field="writes")
        if len(request.writes) > MAX_WRITES or request.ByteSize() > MAX_WRITES_BYTES:
            raise InvalidError(
                f"writes: {len(request.writes)} with {request.ByteSize()} bytes; at most {MAX_WRITES} with "
                f"{MAX_WRITES_BYTES} in one call",
                field="writes",
            )
        namespace = namespace_of(request.namespace)
        writes = tuple(_variable_write(namespace, place, one) for place, one in enumerate(request.writes))
        _, answer = await self._write(request, call, cmd.WriteVariables(writes=writes), cmd.VariablesAnswer)
        response = pb.PutVariablesResponse()
        for place, outcome in enumerate(answer.outcomes):
            if isinstance(outcome, cmd.Rejected):
                raise at(f"writes[{place}]", rejection(outcome))
            assert isinstance(outcome.answer, cmd.VariableAnswer)
            _put_answer(outcome.index, outcome.answer, response.answers.add())
        return response

    async def _variable(
        self,
        request: Any,
        call: Call,
        *,
        value: str | None,
        expectation: cmd.Expectation = cmd.Expectation.NONE,
        expected: str = "",
    ) -> pb.VariableResponse:
        namespace = namespace_of(request.namespace)
        _check_variable_name(request.name, "name")
        command = cmd.WriteVariable(
            namespace=namespace, name=request.name, value=value, expectation=expectation, expected=expected
        )
        done, answer = await self._write(request, call, command, cmd.VariableAnswer)
        response = pb.VariableResponse()
        _put_answer(done.index, answer, response)
        return response

    # ------------------------------------------------------------------ all of them

    async def _checked(self, jobs: Sequence[Any]) -> list[JobSpec]:
        """The specs with defaults filled in; raises ``InvalidError`` or ``PreconditionError`` for the first bad one."""
        many = len(jobs) > 1
        specs: list[JobSpec] = []
        for place, message in enumerate(jobs):
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            try:
                spec = checked_spec(message, self._policy)
                if news := too_new(spec, self._feature_level()):
                    raise PreconditionError(
                        f"job {spec.name!r}, {news}: not every peer of this cluster runs a version that knows it; "
                        "upgrade the others, or leave it out until then"
                    )
                specs.append(spec)
            except RaftsmanError as error:
                raise (at(f"jobs[{place}]", error) if many else error) from None
        return specs

    async def _change(self, request: Any, call: Call, command: cmd.Command) -> pb.WriteResponse:
        done, answer = await self._write(request, call, command, cmd.WriteAnswer)
        return pb.WriteResponse(index=done.index, changed=answer.changed)

    async def _write(
        self, request: Any, call: Call, command: cmd.Command, kind: type[A], *, suffix: str = "", digest: bytes = b""
    ) -> tuple[cmd.Applied, A]:
        return await write(self._proposer, request, call, command, kind, suffix=suffix, digest=digest)


def _each(kind: type[T], messages: Iterable[Any], field: str) -> tuple[T, ...]:
    made: list[T] = []
    for place, one in enumerate(messages):
        try:
            made.append(codec.decode(kind, one))
        except codec.CodecError as error:
            raise InvalidError(f"{field}[{place}].{error}", field=field) from None
    return tuple(made)


def _check_variable_name(name: str, field: str) -> None:
    if not limits.VARIABLE_NAME.fullmatch(name):
        raise InvalidError(f"{field}: {name[:80]!r}; expected {limits.VARIABLE_NAME_RULE}", field=field)


def _variable_write(namespace: str, place: int, write: pb.VariableWrite) -> cmd.WriteVariable:
    _check_variable_name(write.name, f"writes[{place}].name")
    expectation = cmd.Expectation.NONE
    if write.HasField("expect"):
        expectation = cmd.Expectation.VALUE
    elif write.absent:
        expectation = cmd.Expectation.ABSENT
    return cmd.WriteVariable(
        namespace=namespace,
        name=write.name,
        value=write.value if write.HasField("value") else None,
        expectation=expectation,
        expected=write.expect,
    )


def _put_answer(index: int, answer: cmd.VariableAnswer, response: pb.VariableResponse) -> None:
    response.index, response.hit = index, answer.hit
    if answer.variable is not None:
        codec.encode(answer.variable, response.variable)


def at(place: str, error: RaftsmanError) -> RaftsmanError:
    """The same error, saying which part of the request it is about."""
    error.message = f"{place}: {error.message}"
    error.args = (error.message,)
    return error


def checked_spec(message: Any, policy: Policy) -> JobSpec:
    """A submitted job, whole and allowed; raises ``InvalidError`` (with every problem) or ``PreconditionError``."""
    if message.ByteSize() > limits.MAX_JOB_BYTES:
        raise InvalidError(f"the job has {message.ByteSize()} bytes; at most {limits.MAX_JOB_BYTES} are taken")
    try:
        spec = check.normalise(codec.decode(JobSpec, message))
    except codec.CodecError as error:
        raise InvalidError(str(error)) from None
    problems = check.problems(spec, placements=policy.placements)
    if problems:
        raise InvalidError("; ".join(problems), field=problems[0].partition(":")[0])
    for group in spec.groups:
        if group.network_mode == HOST and not policy.allow_host_network:
            raise PreconditionError(
                f"job {spec.name!r}, group {group.name!r} asks for the host's network, which the policy here refuses: "
                "leave it out, or have the operator start the peers with --allow-host-network",
                policy="allow_host_network",
            )
        for task in group.tasks:
            where = f"job {spec.name!r}, group {group.name!r}, task {task.name!r}"
            if task.privileged and not policy.allow_privileged:
                raise PreconditionError(
                    f"{where} asks to run privileged, which this cluster's policy refuses: leave it out, or have the "
                    "operator start the peers with --allow-privileged",
                    policy="allow_privileged",
                )
            host_path = next((mount.source for mount in task.mounts if mount.of_host), "")
            if host_path and not policy.allow_host_paths:
                raise PreconditionError(
                    f"{where} mounts the host path {host_path!r}, which the policy here refuses: leave "
                    "it out, or have the operator start the peers with --allow-host-paths",
                    policy="allow_host_paths",
                )
            wanted = task.container.cap_add if task.container is not None else ()
            capability = capabilities.refused(wanted, policy.allow_caps)
            if capability:
                raise PreconditionError(
                    f"{where} asks for the capability {capability}, which the policy here refuses: leave it out, or "
                    f"have the operator start the peers with --allow-cap {capability}",
                    policy="allow_cap",
                )
    return spec


def _chunks(specs: Sequence[JobSpec], sizes: Sequence[int]) -> Iterable[Sequence[JobSpec]]:
    """Runs of jobs that are one command each."""
    start = total = 0
    for place, size in enumerate(sizes):
        if place > start and (place - start >= CHUNK_JOBS or total + size > CHUNK_BYTES):
            yield specs[start:place]
            start, total = place, 0
        total += size
    yield specs[start:]
