"""The asyncio client: one method per call of the cluster, each surviving the death of any peer.

Owns: the methods that users call. Leaves to others: requests and answers (``client.calls``), endpoints and retries
(``client.endpoints``). The rule: every write carries one request id over all its retries, so it happens at most once.

``namespace=None`` means the client's own. Every method raises ``RaftsmanError`` (``contract.errors``) and nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

from orchestrator.client import calls, contexts
from orchestrator.client.calls import Call, new_request_id
from orchestrator.client.endpoints import UNREACHABLE, Endpoints
from orchestrator.client.hands import Hands
from orchestrator.contract import answers, foresight, model
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    OverloadedError,
    TimeoutError_,
    UnknownOutcomeError,
)
from orchestrator.contract.rollouts import RolloutAction

T = TypeVar("T")

STALE_TIMEOUT_S = 0.8
MAX_BOUND_S = 1e9
"""gRPC hangs with a deadline that no clock reaches."""
BACKUP_LEADERLESS_S = 5.0
"""Time enough for an election."""


class _Spec(Protocol):
    def spec(self) -> model.JobSpec: ...


Job = model.JobSpec | _Spec
"""What can be submitted: a JobSpec, or something that makes one (``client.job.Job``)."""


class Client(Hands):
    """``async with Client(["127.0.0.1:7400"], tls=TlsFiles.in_directory(...)) as client``.

    ``timeout_s`` bounds every call, retries included; streams wait as long without a sign of life. ``stale_after_s``: a
    read that gets no linearizable answer within it is repeated as a stale one (its ``read.stale`` says so).
    """

    def __init__(
        self,
        endpoints: Sequence[str] | str,
        *,
        tls: TlsFiles | None = None,
        namespace: str = model.DEFAULT_NAMESPACE,
        timeout_s: float = 30.0,
        stale_after_s: float | None = None,
    ) -> None:
        _check_bound("timeout_s", timeout_s)
        if stale_after_s is not None:
            _check_bound("stale_after_s", stale_after_s)
        self._endpoints = Endpoints([endpoints] if isinstance(endpoints, str) else endpoints, tls)
        self.namespace = namespace
        self.timeout_s = timeout_s
        self.stale_after_s = stale_after_s

    @classmethod
    def from_context(
        cls, name: str | None = None, *, namespace: str = model.DEFAULT_NAMESPACE, timeout_s: float = 30.0
    ) -> Client:
        """The client of a saved context (default: the current one, or the environment's; see ``client.contexts``)."""
        context = contexts.resolve(name)
        return cls(context.endpoints, tls=context.tls, namespace=namespace, timeout_s=timeout_s)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._endpoints.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._endpoints.addresses

    def at_most(self, timeout_s: float) -> Client:
        """The same client, over the same connections, with another bound on each call."""
        _check_bound("timeout_s", timeout_s)
        other = copy.copy(self)
        other.timeout_s = timeout_s
        return other

    async def _call(self, call: Call[T]) -> T:
        if call.is_write or call.is_stale or not call.may_be_stale or self.stale_after_s is None:
            return await self._endpoints.call(call, self.timeout_s)
        if call.is_thought:  # a slow answer is no sign of a lost majority
            try:
                return await self._endpoints.call(call, self.timeout_s, self.stale_after_s)
            except NoLeaderError as error:
                # Who could not be reached in all that time need not be waited for as long once more.
                again_s = min(self.timeout_s, STALE_TIMEOUT_S) if error.reason == UNREACHABLE else self.timeout_s
                return await self._endpoints.call(call.stale(), again_s)
        try:
            return await self._endpoints.call(call, min(self.timeout_s, self.stale_after_s))
        except (NoLeaderError, OverloadedError, TimeoutError_, UnknownOutcomeError):
            return await self._endpoints.call(call.stale(), STALE_TIMEOUT_S)

    def _namespace(self, namespace: str | None) -> str:
        return self.namespace if namespace is None else namespace

    def _allocation_id(self, id: model.AllocationId | str, namespace: str | None) -> model.AllocationId:
        if isinstance(id, model.AllocationId):
            return id
        try:
            return calls.parse_allocation(id, self._namespace(namespace))
        except ValueError as error:
            raise InvalidError(str(error)) from None

    # ------------------------------------------------------------------ jobs

    async def submit(
        self, job: Job, expect_version: int | None = None, request_id: str | None = None
    ) -> answers.SubmitResult:
        """Create or change a job. An equal one changes nothing; ``expect_version`` 0: it must not exist yet."""
        return await self._call(calls.submit(_spec(job), expect_version, request_id or new_request_id()))

    async def submit_many(self, jobs: Iterable[Job], request_id: str | None = None) -> answers.SubmitManyResult:
        """Create or change all of them, or none."""
        return await self._call(calls.submit_many([_spec(job) for job in jobs], request_id or new_request_id()))

    async def get_job(self, name: str, namespace: str | None = None, stale: bool = False) -> answers.JobAnswer:
        """One job and how it stands; raises NotFoundError."""
        return await self._call(calls.get_job(self._namespace(namespace), name, stale))

    async def list_jobs(self, namespace: str | None = None, stale: bool = False) -> answers.JobList:
        """Jobs of a namespace, or of all (``"*"``)."""
        return await self._call(calls.list_jobs(self._namespace(namespace), stale))

    async def stop_job(
        self, name: str, namespace: str | None = None, request_id: str | None = None
    ) -> answers.WriteResult:
        """Stop all instances; the job stays known for a while. Idempotent."""
        return await self._call(calls.stop_job(self._namespace(namespace), name, request_id or new_request_id()))

    async def scale_job(
        self,
        name: str,
        count: int,
        group: str = "",
        namespace: str | None = None,
        request_id: str | None = None,
    ) -> answers.WriteResult:
        """Change a group's count; nothing that runs is restarted. ``group`` may be left out where there is one."""
        return await self._call(
            calls.scale_job(self._namespace(namespace), name, group, count, request_id or new_request_id())
        )

    async def restart_job(
        self, name: str, namespace: str | None = None, request_id: str | None = None
    ) -> answers.WriteResult:
        """Replace every instance, one at a time."""
        return await self._call(calls.restart_job(self._namespace(namespace), name, request_id or new_request_id()))

    async def steer_rollout(
        self, name: str, action: RolloutAction, namespace: str | None = None, request_id: str | None = None
    ) -> answers.WriteResult:
        """Pause a job's rollout, let it go on, or promote its canaries; raises PreconditionError where that is not
        so."""
        return await self._call(
            calls.steer_rollout(self._namespace(namespace), name, action, request_id or new_request_id())
        )

    async def rollback_job(
        self, name: str, version: int = 0, namespace: str | None = None, request_id: str | None = None
    ) -> answers.SubmitResult:
        """Go back to the content of an older version (0: the last that was good, or else the one before)."""
        return await self._call(
            calls.rollback_job(self._namespace(namespace), name, version, request_id or new_request_id())
        )

    async def dispatch_job(
        self,
        name: str,
        meta: Mapping[str, str] | None = None,
        payload: bytes = b"",
        namespace: str | None = None,
        request_id: str | None = None,
    ) -> answers.DispatchResult:
        """A run of a parameterized job, as a job of its own; raises InvalidError where meta or payload do not suit."""
        return await self._call(
            calls.dispatch_job(self._namespace(namespace), name, meta or {}, payload, request_id or new_request_id())
        )

    async def force_run(
        self, name: str, namespace: str | None = None, request_id: str | None = None
    ) -> answers.DispatchResult:
        """A run of a periodic job now, whatever its schedule and overlap policy say."""
        return await self._call(calls.force_run(self._namespace(namespace), name, request_id or new_request_id()))

    async def list_job_versions(
        self, name: str, namespace: str | None = None, stale: bool = False
    ) -> answers.JobVersions:
        """What the job is and was, the newest version first."""
        return await self._call(calls.list_job_versions(self._namespace(namespace), name, stale))

    async def remove_job(
        self, name: str, namespace: str | None = None, request_id: str | None = None
    ) -> answers.WriteResult:
        """Stop it and forget it once nothing of it runs."""
        return await self._call(calls.remove_job(self._namespace(namespace), name, request_id or new_request_id()))

    async def explain_job(self, name: str, namespace: str | None = None, stale: bool = False) -> answers.Explanation:
        """Why instances are pending, worked out afresh by the peer that is asked."""
        return await self._call(calls.explain_job(self._namespace(namespace), name, stale))

    async def explain_past(
        self, name: str, index: int = 0, time_ms: int = 0, namespace: str | None = None
    ) -> foresight.PastExplanation:
        """What ``explain_job`` would have said after command ``index``, or at ``time_ms`` (unix milliseconds).

        Raises ``OutOfRangeError`` when no peer knows that any more; the message says what is known.
        """
        return await self._call(calls.explain_past(self._namespace(namespace), name, index, time_ms))

    async def plan_job(self, job: Job, stale: bool = False) -> foresight.JobPlan:
        """What submitting the job would change and where everything would go. Nothing is written."""
        return await self._call(calls.plan_job(_spec(job), stale))

    # ------------------------------------------------------------------ what has not happened

    async def what_if(
        self, changes: Iterable[foresight.Change] | foresight.Change, stale: bool = False
    ) -> foresight.WhatIf:
        """What the leader would do after these changes, made one after the other. Nothing is written."""
        listed = [changes] if isinstance(changes, foresight.Change) else changes
        return await self._call(calls.what_if(listed, stale))

    async def rebalance(
        self, goal: foresight.Goal = "pack", moves_max: int = 20, stale: bool = False
    ) -> foresight.Rebalance:
        """Moves that would leave fewer nodes in use (pack) or none far busier than others (spread), in their order.

        Nothing is moved: ``move_allocation`` does one. Make them one by one and wait for each to run again.
        """
        return await self._call(calls.rebalance(goal, moves_max, stale))

    async def move_allocation(
        self, id: model.AllocationId | str, attempt: int, namespace: str | None = None, request_id: str | None = None
    ) -> answers.WriteResult:
        """Stop one running instance of a service so that its next attempt goes to another node, if any has room.

        Raises ``PreconditionError`` while another of its group does not run, ``ConflictError`` for an old ``attempt``.
        """
        where = self._allocation_id(id, namespace)
        return await self._call(calls.move_allocation(where, attempt, request_id or new_request_id()))

    # ------------------------------------------------------------------ allocations

    async def get_allocation(
        self, id: model.AllocationId | str, attempt: int = 0, namespace: str | None = None, stale: bool = False
    ) -> answers.AllocationAnswer:
        """One allocation (``"web/api/0"``); ``attempt`` 0: the newest."""
        return await self._call(calls.get_allocation(self._allocation_id(id, namespace), attempt, stale))

    async def list_allocations(
        self,
        job: str = "",
        namespace: str | None = None,
        node_id: str = "",
        live_only: bool = False,
        stale: bool = False,
    ) -> answers.AllocationList:
        """Allocations of a job, of a node, or of a namespace (``"*"``: all)."""
        return await self._call(
            calls.list_allocations(self._namespace(namespace), job, node_id, live_only, stale),
        )

    async def logs(
        self,
        id: model.AllocationId | str,
        task: str = "",
        attempt: int = 0,
        previous: bool = False,
        follow: bool = False,
        tail_lines: int = -1,
        namespace: str | None = None,
        since_ms: int = 0,
    ) -> AsyncIterator[answers.LogsChunk]:
        """The log of one task; resumes by offset when a peer dies, without gap or repeat.

        ``follow``: as it comes, until this run has ended; a run that was placed and has yet to begin is waited for.
        ``since_ms``: only what was written from then on (unix; what has no known time always comes).
        """
        where = self._allocation_id(id, namespace)
        offset = -1

        def resume() -> calls.Stream[answers.LogsChunk]:
            return calls.logs(
                where,
                task=task,
                attempt=attempt,
                previous=previous,
                follow=follow,
                tail_lines=tail_lines,
                offset=offset,
                since_ms=since_ms,
            )

        async for chunk in self._endpoints.stream(resume, self.timeout_s):
            end = chunk.offset + len(chunk.data)
            fresh = chunk
            if 0 <= chunk.offset < offset:
                skip = offset - chunk.offset
                if skip >= len(chunk.data):
                    continue
                fresh = answers.LogsChunk(
                    data=chunk.data[skip:],
                    offset=offset,
                    task=chunk.task,
                    attempt=chunk.attempt,
                    stderr=chunk.stderr,
                    time_ms=chunk.time_ms,
                )
            task, offset = chunk.task or task, end
            if not previous:
                # Resume the run that was being read, not a newer one that may exist by then.
                attempt = chunk.attempt or attempt
            yield fresh

    async def get_workload(
        self, id: model.AllocationId | str, attempt: int = 0, namespace: str | None = None
    ) -> answers.WorkloadAnswer:
        """What its tasks said of themselves through the workload kit: readiness, metrics, heartbeats, leased ports."""
        return await self._call(calls.get_workload(self._allocation_id(id, namespace), attempt))

    # ------------------------------------------------------------------ services

    async def list_services(
        self, name: str = "", namespace: str | None = None, stale: bool = False
    ) -> answers.ServiceList:
        """Services of a namespace, or of all (``"*"``), each with its ready instances; ``name`` "": all of them."""
        return await self._call(calls.list_services(self._namespace(namespace), name, stale))

    async def watch_services(
        self, name: str = "", namespace: str | None = None, after_index: int = 0
    ) -> AsyncIterator[answers.ServicesUpdate]:
        """First all services that match (``full``), then those that change, each with all of its instances, for ever.

        ``after_index``: that of an update which was seen, to go on from there. Survives the death of peers; where a
        peer does not know what changed since, it sends everything again (``full``).
        """
        where = self._namespace(namespace)
        seen = after_index

        def resume() -> calls.Stream[answers.ServicesUpdate]:
            return calls.watch_services(where, name, seen)

        while True:
            parts: list[answers.ServicesUpdate] = []
            async for update in self._endpoints.stream(resume, self.timeout_s):
                if update.full:
                    parts = []  # another peer begins anew
                parts.append(update)
                if update.index == 0:
                    continue  # the rest follows
                services = tuple(service for part in parts for service in part.services)
                whole = answers.ServicesUpdate(index=update.index, full=parts[0].full, services=services)
                parts, seen = [], update.index
                yield whole

    # ------------------------------------------------------------------ nodes

    async def list_nodes(self, stale: bool = False) -> answers.NodeList:
        return await self._call(calls.list_nodes(stale))

    async def cordon_node(self, node: str, request_id: str | None = None) -> answers.WriteResult:
        """Nothing new is placed on it. ``node``: id, unique prefix of an id, or unique name."""
        return await self._call(calls.change_node("CordonNode", node, request_id or new_request_id()))

    async def uncordon_node(self, node: str, request_id: str | None = None) -> answers.WriteResult:
        """Undo ``cordon_node`` and ``drain_node``."""
        return await self._call(calls.change_node("UncordonNode", node, request_id or new_request_id()))

    async def drain_node(
        self, node: str, request_id: str | None = None, *, deadline_s: float = 0.0
    ) -> answers.WriteResult:
        """Move everything elsewhere, and place nothing new on it. After ``deadline_s`` what is left is stopped
        at once, whatever disruption budgets say (0: never, or as an earlier call said)."""
        if not 0 <= deadline_s < MAX_BOUND_S:
            raise InvalidError(f"deadline_s: expected seconds from now, or 0, got {deadline_s!r}")
        call = calls.drain_node(node, request_id or new_request_id(), deadline_ms=round(deadline_s * 1000))
        return await self._call(call)

    async def cancel_drain(
        self, node: str, request_id: str | None = None, *, keep_cordoned: bool = False
    ) -> answers.WriteResult:
        """End a drain; what has left stays where it is. ``keep_cordoned``: the node still gets nothing new."""
        call = calls.drain_node(node, request_id or new_request_id(), cancel=True, keep_cordoned=keep_cordoned)
        return await self._call(call)

    async def forget_node(self, node: str, request_id: str | None = None) -> answers.WriteResult:
        """A lost node will not come back: what was kept for it is replaced."""
        return await self._call(calls.change_node("ForgetNode", node, request_id or new_request_id()))

    async def cordon_device(self, node: str, device: str, request_id: str | None = None) -> answers.WriteResult:
        """The device gets nothing new. ``device``: id, unique prefix of one, or place in the node's list, from 0."""
        return await self._call(calls.change_device("CordonDevice", node, device, request_id or new_request_id()))

    async def uncordon_device(self, node: str, device: str, request_id: str | None = None) -> answers.WriteResult:
        """Undo ``cordon_device``."""
        return await self._call(calls.change_device("UncordonDevice", node, device, request_id or new_request_id()))

    async def taint_node(
        self,
        node: str,
        *,
        put: Iterable[model.Taint] = (),
        drop: Iterable[model.TaintKey] = (),
        request_id: str | None = None,
    ) -> answers.WriteResult:
        """Take taints off a node, then put others on. Those that its agent declares are refused."""
        return await self._call(calls.taint_node(node, put, drop, request_id or new_request_id()))

    # ------------------------------------------------------------------ cluster

    async def cluster_status(self, stale: bool = False) -> answers.ClusterStatus:
        return await self._call(calls.cluster_status(stale))

    async def change_peers(
        self,
        add: Mapping[str, str] | None = None,
        remove: Iterable[str] = (),
        expect_epoch: int = 0,
        request_id: str | None = None,
    ) -> answers.PeersChanged:
        """Begin the next configuration epoch: with the peers of ``add`` (id -> host:port), without those of ``remove``.

        Newcomers must run, with empty data directories. This client knows the new peers from then on. Raises
        PreconditionError with what is missing; then nothing has changed.
        """
        call = calls.change_peers(add or {}, remove, expect_epoch, request_id or new_request_id())
        changed = await self._call(call)
        self._endpoints.learn([address for _, address in changed.peers])
        return changed

    async def state_hash(self, at_index: int = 0, peer_id: str = "") -> answers.StateHash:
        """The hash of a peer's state at exactly ``at_index`` (0: where the leader is now; the answer says which)."""
        return await self._call(calls.state_hash(at_index, peer_id))

    async def watch_events(
        self,
        after_index: int = -1,
        namespace: str | None = None,
        kinds: Iterable[str] = (),
        job: str = "",
    ) -> AsyncIterator[model.Event]:
        """Events with a greater index than ``after_index`` (0: from the oldest kept; -1: from now on), for ever.

        Survives the death of peers without gap or repeat; raises OutOfRangeError when the index is collected.
        """
        wanted, where = list(kinds), self._namespace(namespace)
        if after_index < 0:
            # "From now on" must be a number, or what happens before the first reconnect could be missed.
            after_index = (await self.cluster_status()).read.index
        seen: tuple[int, int] = (after_index, 1 << 62)

        def resume() -> calls.Stream[model.Event]:
            # Several events share an index: ask for the last one's index again, and skip what was seen of it.
            again = after_index if seen[0] == after_index else seen[0] - 1
            return calls.watch_events(again, where, wanted, job)

        while True:
            async for event in self._endpoints.stream(resume, self.timeout_s):
                if (event.index, event.sequence) > seen:
                    seen = (event.index, event.sequence)
                    yield event

    # ------------------------------------------------------------------ limits

    async def get_limits(self, stale: bool = False) -> answers.LimitsAnswer:
        """What the cluster keeps, for how long."""
        return await self._call(calls.get_limits(stale))

    async def set_limits(self, change: model.LimitsChange, request_id: str | None = None) -> answers.WriteResult:
        """Change some limits; what is over them is forgotten."""
        return await self._call(calls.set_limits(change, request_id or new_request_id()))

    async def get_settings(self, stale: bool = False) -> answers.SettingsAnswer:
        """How the cluster behaves."""
        return await self._call(calls.get_settings(stale))

    async def set_settings(self, change: model.SettingsChange, request_id: str | None = None) -> answers.WriteResult:
        """Change some settings."""
        return await self._call(calls.set_settings(change, request_id or new_request_id()))

    # ------------------------------------------------------------------ namespaces

    async def list_namespaces(self, stale: bool = False) -> answers.NamespaceList:
        """Every namespace that was created or holds something, with its quota and what its jobs ask for."""
        return await self._call(calls.list_namespaces(stale))

    async def create_namespace(
        self, name: str, quota: model.Quota | None = None, request_id: str | None = None
    ) -> answers.WriteResult:
        """Create it; ``ExistsError`` if it was created with another quota."""
        call = calls.write_namespace("CreateNamespace", name, quota or model.Quota(), request_id or new_request_id())
        return await self._call(call)

    async def set_namespace(self, name: str, change: model.Quota, request_id: str | None = None) -> answers.WriteResult:
        """Change its quota: None leaves a limit as it is, -1 lifts it."""
        return await self._call(calls.write_namespace("SetNamespace", name, change, request_id or new_request_id()))

    async def delete_namespace(self, name: str, request_id: str | None = None) -> answers.WriteResult:
        """``PreconditionError`` while it holds jobs or variables."""
        call = calls.write_namespace("DeleteNamespace", name, model.Quota(), request_id or new_request_id())
        return await self._call(call)

    # ------------------------------------------------------------------ backup

    def backup(self, stale: bool = False) -> AsyncIterator[answers.BackupPart]:
        """The whole state at one index, secrets and all: a head, the state's bytes, their SHA-256.

        When a peer dies in between, another one begins anew with a head of its own: drop what came before. ``stale``:
        the first peer that answers gives what it knows, as is possible without a majority; else it is given up once no
        peer has known a leader for ``BACKUP_LEADERLESS_S``.
        """
        return self._endpoints.stream(lambda: calls.backup(stale), self.timeout_s, BACKUP_LEADERLESS_S)

    # ------------------------------------------------------------------ variables

    async def put_variable(
        self, name: str, value: str, namespace: str | None = None, request_id: str | None = None
    ) -> answers.VariableResult:
        """Set it, whether or not it exists."""
        return await self._call(
            calls.put_variable(self._namespace(namespace), name, value, request_id or new_request_id())
        )

    async def create_variable(
        self, name: str, value: str, namespace: str | None = None, request_id: str | None = None
    ) -> answers.VariableResult:
        """Set it only if it does not exist."""
        return await self._call(
            calls.create_variable(self._namespace(namespace), name, value, request_id or new_request_id())
        )

    async def get_variable(
        self, name: str, namespace: str | None = None, stale: bool = False
    ) -> answers.VariableResult:
        """``hit`` says whether it exists."""
        return await self._call(calls.get_variable(self._namespace(namespace), name, stale))

    async def compare_and_set_variable(
        self,
        name: str,
        expect: str | None,
        value: str,
        namespace: str | None = None,
        request_id: str | None = None,
    ) -> answers.VariableResult:
        """Set it only if its value is ``expect`` (None: if it does not exist); ``hit`` says whether it was."""
        return await self._call(
            calls.compare_and_set_variable(
                self._namespace(namespace), name, expect, value, request_id or new_request_id()
            )
        )

    async def delete_variable(
        self,
        name: str,
        expect: str | None = None,
        namespace: str | None = None,
        request_id: str | None = None,
    ) -> answers.VariableResult:
        """Delete it (only if its value is ``expect``, where that is given)."""
        return await self._call(
            calls.delete_variable(self._namespace(namespace), name, expect, request_id or new_request_id())
        )

    async def put_variables(
        self, writes: Iterable[model.VariableWrite], namespace: str | None = None, request_id: str | None = None
    ) -> tuple[answers.VariableResult, ...]:
        """Many small writes (at most 256 with 1 MiB) at the price of about one call; their answers in order.

        Not a transaction: each is done by itself, in this order, and others may come between them.
        """
        return await self._call(calls.put_variables(self._namespace(namespace), writes, request_id or new_request_id()))

    async def list_variables(
        self, prefix: str = "", namespace: str | None = None, stale: bool = False
    ) -> answers.VariableList:
        return await self._call(calls.list_variables(self._namespace(namespace), prefix, stale))


def _spec(job: Job) -> model.JobSpec:
    if isinstance(job, model.JobSpec):
        return job
    make = getattr(job, "spec", None)
    made = make() if callable(make) else None
    if not isinstance(made, model.JobSpec):
        raise InvalidError(f"expected a Job or a JobSpec, got {type(job).__name__}")
    return made


def _check_bound(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or not 0 < value < MAX_BOUND_S:
        raise InvalidError(f"{name}: expected seconds, more than 0 and less than {MAX_BOUND_S:g}, got {value!r}")
