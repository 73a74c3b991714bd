"""The reads of ``Control``: answered by whichever peer is asked, from its own state.

Owns: the read barrier (or the age of a stale answer), the listings, the cluster's status. Leaves to others: how a row
looks (``state.views``), watching (``watch``), why something waits (``explain``). The rule: linearizable unless told
stale; a large listing gives the loop air between its parts, from records that were taken together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator.api.forward import Call, Forwarder, read_patience_s
from orchestrator.api.identity import CONTROL
from orchestrator.api.logs import LogTarget
from orchestrator.api.requests import group_name, job_key, namespace_of
from orchestrator.contract import codec
from orchestrator.contract.errors import InvalidError, NoLeaderError, NotFoundError, RaftsmanError
from orchestrator.contract.model import AllocationId, AssignmentKey, NodeStatus, Revision
from orchestrator.contract.place import nowhere
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.log import LogStatus, PeerProgress, ReplicatedLog
from orchestrator.state import views
from orchestrator.state.allocations import LAST_LIVE
from orchestrator.state.distinct import distinct
from orchestrator.state.holding import is_held_back
from orchestrator.state.state import Rows, State
from orchestrator.state.status import job_status

SLICE = 200
"""Rows or jobs of a listing that are written before the loop gets air."""
MAX_ROWS = 50_000
ALL = "*"
TELL_S = 0.3
TELL_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a peer says of itself in ``ClusterStatus``; ``placements``: name and summary of those that it offers."""

    cluster_name: str
    version: str
    dev: bool
    cert_expires_ms: int = 0
    placements: tuple[tuple[str, str], ...] = ()


async def read_info(log: ReplicatedLog, state: Callable[[], State], read: Any, call: Call) -> pb.ReadInfo:
    """Wait until this state may answer; raises ``NoLeaderError`` where a fresh answer cannot be had."""
    status = log.status()
    if read.stale:
        return pb.ReadInfo(index=state().index, stale=True, age_ms=status.state_age_ms, peer_id=status.peer_id)
    index = await log.read_barrier(timeout_s=call.timeout_s(read_patience_s(log)))
    return pb.ReadInfo(index=index, peer_id=status.peer_id)


class Reads:
    """``state`` gives the current state (a snapshot may replace it); ``heartbeat_age_ms`` is the leader's memory.
    ``reached``: id -> host:port at which this peer reaches the peers, as far as it knows."""

    def __init__(
        self,
        log: ReplicatedLog,
        state: Callable[[], State],
        facts: Facts,
        *,
        heartbeat_age_ms: Callable[[str], int],
        others: Others,
        reached: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._reached = reached
        self._log = log
        self._state = state
        self._facts = facts
        self._heartbeat_age_ms = heartbeat_age_ms
        self._others = others

    async def info(self, read: Any, call: Call) -> pb.ReadInfo:
        """``read_info`` of this peer."""
        return await read_info(self._log, self._state, read, call)

    # ------------------------------------------------------------------ jobs and allocations

    async def get_job(self, request: pb.GetJobRequest, call: Call) -> pb.GetJobResponse:
        namespace, name = job_key(request.job)
        info = await self.info(request.read, call)
        state = self._state()
        job = state.find_job(namespace, name)
        if job is None:
            raise no_job(state, namespace, name)
        return pb.GetJobResponse(job=codec.encode(job_status(state, job), pb.JobStatus()), read=info)

    async def list_jobs(self, request: pb.ListJobsRequest, call: Call) -> pb.ListJobsResponse:
        namespace = _filter(request.namespace)
        response = pb.ListJobsResponse(read=await self.info(request.read, call))
        state = self._state()
        jobs = [job for job in state.jobs.values() if namespace in (ALL, job.spec.namespace)]
        jobs.sort(key=lambda job: (job.spec.namespace, job.spec.name))
        for place, job in enumerate(jobs):
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)
                state = self._state()
            if job.uid in state.jobs:
                codec.encode(job_status(state, state.jobs[job.uid]), response.jobs.add())
        return response

    async def list_job_versions(self, request: pb.ListJobVersionsRequest, call: Call) -> pb.ListJobVersionsResponse:
        namespace, name = job_key(request.job)
        response = pb.ListJobVersionsResponse(read=await self.info(request.read, call))
        job = self._state().find_job(namespace, name)
        if job is None:
            raise NotFoundError(f"there is no job {name!r} in namespace {namespace!r}")
        stable = job.stable_version == job.version
        now = Revision(version=job.version, spec=job.spec, time_ms=job.modify_time_ms, stable=stable)
        for revision in (now, *reversed(job.history)):
            codec.encode(revision, response.versions.add())
        if is_held_back(job) and job.rollout is not None:
            response.held_version, response.base_version = job.version, job.rollout.base_version
        return response

    async def get_allocation(self, request: pb.GetAllocationRequest, call: Call) -> pb.GetAllocationResponse:
        wanted = allocation_id(request.id)
        info = await self.info(request.read, call)
        state = self._state()
        row = _row(state, wanted, request.attempt)
        response = pb.GetAllocationResponse(read=info)
        codec.encode(views.allocation(state, row), response.allocation)
        return response

    async def list_allocations(self, request: pb.ListAllocationsRequest, call: Call) -> pb.ListAllocationsResponse:
        namespace = _filter(request.namespace)
        info = await self.info(request.read, call)
        state = self._state()
        node_id = request.node_id
        if node_id:
            node_id = resolve_node(state, node_id) or ""
            if not node_id:
                raise NotFoundError(f"no node {request.node_id!r}: expected an id, the beginning of one, or a name")
        rows = _rows(state, namespace=namespace, job=request.job, node_id=node_id, live_only=request.live_only)
        if len(rows) > MAX_ROWS:
            raise InvalidError(
                f"{len(rows)} allocations; one answer holds at most {MAX_ROWS}: ask for one job or node, or live_only"
            )
        response = pb.ListAllocationsResponse(read=info)
        created = state.table.create_index[rows].tolist()
        for place, row in enumerate(rows.tolist()):
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)
                state = self._state()
            # While others had the loop a row may have been collected, and perhaps given to another allocation.
            if row < state.table.high and int(state.table.create_index[row]) == created[place]:
                codec.encode(views.allocation(state, row), response.allocations.add())
        return response

    async def log_target(self, request: pb.LogsRequest, call: Call) -> LogTarget:
        """Which run a ``Logs`` call means. Without a majority: as far as this peer knows."""
        wanted = allocation_id(request.id)
        with contextlib.suppress(NoLeaderError):
            await self._log.read_barrier(timeout_s=call.timeout_s(read_patience_s(self._log)))
        state = self._state()
        row = _row(state, wanted, request.attempt)
        previous = request.previous
        if previous and int(state.table.restarts[row]) == 0:
            row, previous = _row_before(state, wanted, row, named=request.attempt > 0), False
        node = state.node_at[int(state.table.node[row])]
        return LogTarget(
            node_id=node.spec.id,
            node_name=node.spec.name,
            lost=node.status is NodeStatus.LOST or node.spec.id not in state.nodes,
            key=AssignmentKey(
                id=wanted,
                job_uid=state.job_at[int(state.table.job[row])].uid,
                attempt=int(state.table.attempt[row]),
            ),
            previous=previous,
        )

    # ------------------------------------------------------------------ nodes, variables, cluster

    async def list_nodes(self, request: pb.ListNodesRequest, call: Call) -> pb.ListNodesResponse:
        response = pb.ListNodesResponse(read=await self.info(request.read, call))
        state = self._state()
        for place, node in enumerate(sorted(state.nodes.values(), key=lambda node: (node.spec.name, node.spec.id))):
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            known = replace(views.node_info(state, node), heartbeat_age_ms=self._heartbeat_age_ms(node.spec.id))
            codec.encode(known, response.nodes.add())
        return response

    async def get_variable(self, request: pb.GetVariableRequest, call: Call) -> pb.VariableResponse:
        namespace = namespace_of(request.namespace)
        info = await self.info(request.read, call)
        found = self._state().variables.get((namespace, request.name))
        response = pb.VariableResponse(index=info.index, hit=found is not None, read=info)
        if found is not None:
            codec.encode(found, response.variable)
        return response

    async def list_variables(self, request: pb.ListVariablesRequest, call: Call) -> pb.ListVariablesResponse:
        namespace = _filter(request.namespace)
        response = pb.ListVariablesResponse(read=await self.info(request.read, call))
        chosen = [
            variable
            for (space, name), variable in sorted(self._state().variables.items())
            if namespace in (ALL, space) and name.startswith(request.prefix)
        ]
        for place, variable in enumerate(chosen):
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            codec.encode(variable, response.variables.add())
        return response

    async def get_limits(self, request: pb.GetLimitsRequest, call: Call) -> pb.GetLimitsResponse:
        response = pb.GetLimitsResponse(read=await self.info(request.read, call))
        codec.encode(self._state().limits, response.limits)
        for name, summary in self._facts.placements:
            response.placements.add(name=name, summary=summary)
        return response

    async def cluster_status(self, request: pb.ClusterStatusRequest, call: Call) -> pb.ClusterStatusResponse:
        info = await self.info(request.read, call)
        status, state = self._log.status(), self._state()
        response = pb.ClusterStatusResponse(
            cluster_id=status.cluster_id,
            cluster_name=self._facts.cluster_name,
            leader_id=status.leader_id,
            term=status.term,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            jobs=len(state.jobs),
            nodes=len(state.nodes),
            allocations=views.live_count(state),
            dev=self._facts.dev,
            read=info,
            elections=status.elections,
            feature_level=state.feature_level,
            epoch=status.epoch,
            waits_for=status.waits_for,
        )
        told = {} if request.read.stale else await self._others.ask(status, call)
        for peer in status.peers:
            response.peers.append(self._peer(peer, status, told.get(peer.peer_id)))
        return response

    def _peer(self, peer: PeerProgress, status: LogStatus, told: pb.PeerInfo | None) -> pb.PeerInfo:
        """A row of the status; ``told`` is what that peer lately said of itself."""
        mine = peer.peer_id == status.peer_id
        lag = -1
        if mine:
            lag = max(0, status.commit_index - status.applied_index)
        elif status.leader_id == status.peer_id and peer.connected:
            lag = max(0, status.commit_index - peer.match_index)
        expires_ms = self._facts.cert_expires_ms if mine else peer.cert_expires_ms
        at = self._reached().get(peer.peer_id, peer.address)
        return pb.PeerInfo(
            found_at=at if at != peer.address else "",
            id=peer.peer_id,
            address=peer.address,
            role=str(status.role) if mine else _role(peer, status.leader_id),
            connected=mine or peer.connected,
            voter=peer.voter,
            match_index=peer.match_index,
            lag=lag,
            last_contact_ms=0 if mine else peer.last_contact_ms,
            cert_expires_ms=expires_ms or (told.cert_expires_ms if told is not None else 0),
            version=self._facts.version if mine else (told.version if told is not None else ""),
        )


class Others:
    """What the other peers say of themselves (version, certificate), asked for at most once a minute each."""

    def __init__(self, forwarder: Forwarder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._forwarder = forwarder
        self._clock = clock
        self._known: dict[str, tuple[float, pb.PeerInfo]] = {}

    async def ask(self, status: LogStatus, call: Call) -> dict[str, pb.PeerInfo]:
        """By peer id; those that cannot say it quickly are left out."""
        now = self._clock()
        due = [
            peer.peer_id
            for peer in status.peers
            if peer.connected and peer.peer_id != status.peer_id and now - self._asked(peer.peer_id) > TELL_AGAIN_S
        ]
        if due:
            await asyncio.gather(*(self._one(peer_id, call, now) for peer_id in due))
        return {peer_id: info for peer_id, (_, info) in self._known.items()}

    def _asked(self, peer_id: str) -> float:
        return self._known[peer_id][0] if peer_id in self._known else float("-inf")

    async def _one(self, peer_id: str, call: Call, now: float) -> None:
        request = pb.ClusterStatusRequest(read={"stale": True})
        try:
            raw = await self._forwarder.call(
                peer_id,
                f"/{CONTROL}/ClusterStatus",
                request.SerializeToString(),
                call,
                timeout_s=call.timeout_s(TELL_S),
                follow=False,
            )
        except RaftsmanError:
            return
        answer = pb.ClusterStatusResponse.FromString(raw)
        for peer in answer.peers:
            if peer.id == peer_id:
                self._known[peer_id] = (now, peer)


def _role(peer: PeerProgress, leader: str) -> str:
    if not peer.connected:
        return "unreachable"
    if not peer.voter:
        return "joining"
    return "leader" if peer.peer_id == leader else "follower"


def resolve_node(state: State, text: str) -> str | None:
    """The id that ``text`` means: an id, a name that one node has, or the beginning of one id. None: none.

    Raises ``InvalidError`` when it may mean several.
    """
    if text in state.nodes:
        return text
    for kind, found in (
        ("name", [node.spec.id for node in state.nodes.values() if node.spec.name == text]),
        ("beginning of an id", [node_id for node_id in state.nodes if node_id.startswith(text)]),
    ):
        if len(found) > 1:
            raise InvalidError(f"node: {text!r} is the {kind} of {len(found)} nodes: give more of the id", field="node")
        if found:
            return found[0]
    return None


def resolve_device(state: State, node_id: str, text: str) -> str:
    """The id that ``text`` means on a node: an id, its place in the node's list, or the beginning of one id; what is
    none of these comes back as it is. Raises ``InvalidError`` when it may mean several."""
    node = state.nodes.get(node_id)
    if node is None:
        return text
    ids = [device.id for device in node.spec.devices]
    known = list(dict.fromkeys([*ids, *node.cordoned_devices]))
    if text in known:
        return text
    if text.isascii() and text.isdigit() and len(text) <= 9 and int(text) < len(ids):
        return ids[int(text)]
    found = [device_id for device_id in known if device_id.startswith(text)]
    if len(found) > 1:
        raise InvalidError(
            f"device: {text!r} is the beginning of {len(found)} ids of node {node.spec.name!r}: give more of it",
            field="device",
        )
    return found[0] if found else text


def no_job(state: State, namespace: str, name: str) -> NotFoundError:
    elsewhere = sorted(space for space, other in state.job_names if other == name and space != namespace)
    hint = f"; there is one in namespace {elsewhere[0]!r}" if elsewhere else ""
    template, _, run = name.partition("/")
    if not hint and run and (namespace, template) in state.job_names:
        kept = state.limits.children_per_job
        hint = (
            f"; of the runs of {template!r} the last {kept} that have ended are kept, and no longer than the limit "
            f"child_age_ms says (raftsman job runs {template}, raftsman limits get)"
        )
    return NotFoundError(f"no job {name!r} in namespace {namespace!r}{hint}")


def allocation_id(message: Any) -> AllocationId:
    """The id in a request, its namespace filled in; raises ``InvalidError``."""
    if not message.job or not message.group:
        raise InvalidError("id: expected job and group, as in web/api/0", field="id")
    namespace, job = job_key(pb.JobKey(namespace=message.namespace, name=message.job), "id.job")
    group = group_name(message.group, "id.group")
    return AllocationId(namespace=namespace, job=job, group=group, ordinal=message.ordinal)


def _row(state: State, wanted: AllocationId, attempt: int) -> int:
    """The table's row of an attempt (0: the newest); raises ``NotFoundError``."""
    job = state.find_job(wanted.namespace, wanted.job)
    if job is None:
        raise no_job(state, wanted.namespace, wanted.job)
    gid = state.ordinals.gids.get((job.slot, wanted.group))
    if gid is None:
        names = ", ".join(state.ordinals.names[gid][1] for gid in state.ordinals.by_job.get(job.slot, ()))
        raise NotFoundError(f"job {wanted.job!r} has no group {wanted.group!r}; it has {names}")
    row = state.ordinals.find(gid, wanted.ordinal)
    while attempt and row >= 0 and int(state.table.attempt[row]) != attempt:
        row = int(state.table.prev[row])
    if row >= 0:
        return row
    if attempt:
        raise NotFoundError(f"{wanted} has no attempt {attempt} (any more): the last 10 are kept for a day")
    if gone := nowhere(job.spec, (wanted.group, str(wanted.ordinal))):
        raise NotFoundError(gone)
    raise NotFoundError(f"{wanted} was never placed: `raftsman why {wanted.job}` says what it waits for")


def _row_before(state: State, wanted: AllocationId, row: int, *, named: bool) -> int:
    """Of the attempt before that of ``row``. ``named``: an attempt was asked for; otherwise of what came before the one
    that counts: also a successor that has failed, or was taken back, while the older one runs on."""
    attempt = int(state.table.attempt[row])
    behind = -1 if named else int(state.table.prev[row])
    if behind >= 0:
        return behind
    if attempt <= 1:
        raise NotFoundError(f"{wanted} has no previous run: it was neither restarted nor placed again")
    return _row(state, wanted, attempt - 1)


def _rows(state: State, *, namespace: str, job: str, node_id: str, live_only: bool) -> Rows:
    """int32: rows for a listing, by namespace, job, group, ordinal and attempt."""
    table = state.table
    keys = sorted(
        (space, name)
        for space, name in ([(namespace, job)] if job and namespace != ALL else state.job_names)
        if namespace in (ALL, space) and job in ("", name) and (space, name) in state.job_names
    )
    parts = []
    for key in keys:
        rows = state.job_rows(state.jobs[state.job_names[key]].slot)
        names = {gid: state.ordinals.names[gid][1] for gid in distinct(table.gid[rows])}
        rank = {gid: place for place, gid in enumerate(sorted(names, key=names.__getitem__))}
        group = np.array([rank[gid] for gid in table.gid[rows].tolist()], dtype=np.int64)
        parts.append(rows[np.lexsort((table.attempt[rows], table.ordinal[rows], group))])
    chosen: Rows = np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
    if node_id:
        chosen = chosen[table.node[chosen] == state.nodes[node_id].slot]
    if live_only:
        chosen = chosen[table.state[chosen] <= LAST_LIVE]
    return chosen


def _filter(namespace: str) -> str:
    return ALL if namespace == ALL else namespace_of(namespace)
