"""The parts of a peer that answer calls, on an in-memory log: no sockets, no processes, and a clock that is told."""

from __future__ import annotations

import time
from typing import Any

from orchestrator import plan
from orchestrator.api.agents import Agents
from orchestrator.api.control import Policy, Writes
from orchestrator.api.drains import Drains
from orchestrator.api.explain import Explain
from orchestrator.api.feed import Feed
from orchestrator.api.foresight import Foresight
from orchestrator.api.forward import Call, Forwarder
from orchestrator.api.identity import Caller
from orchestrator.api.logs import LogHub, Logs
from orchestrator.api.namespaces import Namespaces
from orchestrator.api.past import Past
from orchestrator.api.reads import Facts, Others, Reads, resolve_device, resolve_node
from orchestrator.api.services import Services
from orchestrator.api.sessions import Sessions
from orchestrator.api.usage import Usages
from orchestrator.api.watch import HashingMachine, StateHashes, Watch
from orchestrator.contract.channel import Identity
from orchestrator.contract.v1 import agent_pb2, types_pb2
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.leader.liveness import Liveness
from orchestrator.replication.machine import ClusterMachine
from orchestrator.replication.memory import MemoryLog
from orchestrator.replication.propose import Proposer
from orchestrator.state.resize import may_resize
from orchestrator.state.state import State
from orchestrator.state.views import cluster_view

START_MS = 1_700_000_000_000


def call(identity: str = "client:admin", *, timeout_s: float = 5.0, forwarded: bool = False) -> Call:
    parsed = Identity.parse(identity)
    assert parsed is not None
    return Call(caller=Caller(identity=parsed, forwarded=forwarded), deadline=time.monotonic() + timeout_s)


class Api:
    """One peer that leads (``lead(False)`` takes it away)."""

    def __init__(
        self,
        *,
        allow_privileged: bool = False,
        allow_host_paths: bool = False,
        allow_host_network: bool = False,
        allow_caps: frozenset[str] = frozenset(),
    ) -> None:
        self.machine = ClusterMachine()
        self.past = Past(self.machine, self.state_now)
        self.hashing = HashingMachine(self.past)
        self.log = MemoryLog(self.hashing, peer_id="p1")
        self.log.lead(True)
        self.now_ms = START_MS
        self.proposer = Proposer(self.log, clock_ms=lambda: self.now_ms)
        self.liveness = Liveness()
        self.liveness.begin()
        policy = Policy(
            allow_privileged=allow_privileged,
            allow_host_paths=allow_host_paths,
            allow_host_network=allow_host_network,
            placements=("binpack", "spread"),
            allow_caps=allow_caps,
        )
        self.writes = Writes(
            self.log,
            self.proposer,
            policy,
            resolve_node=lambda text: resolve_node(self.machine.state, text),
            resolve_device=lambda node_id, text: resolve_device(self.machine.state, node_id, text),
            in_place=lambda spec: may_resize(self.machine.state, spec),
            feature_level=lambda: self.machine.state.feature_level,
        )
        facts = Facts(cluster_name="test", version="1.2.3", dev=True, cert_expires_ms=7)
        self.forwarder = Forwarder(self.log, peer_id="p1", peers=lambda: {"p1": "127.0.0.1:1"}, tls=None)
        self.reads = Reads(
            self.log,
            self.state_now,
            facts,
            heartbeat_age_ms=self.liveness.age_ms,
            others=Others(self.forwarder),
        )
        self.explain = Explain(self.log, self.state_now, self.past, clock_ms=lambda: self.now_ms)
        self.foresight = Foresight(self.log, self.state_now, policy, clock_ms=lambda: self.now_ms)
        self.namespaces = Namespaces(self.proposer, self.state_now, self.reads.info)
        self.feed = Feed(self.log, self.state_now, most_events=20)
        self.watch = Watch(self.log, self.state_now, self.feed)
        self.agents = Agents(self.log, self.proposer, self.state_now, self.liveness, peers=lambda: {"p1": "host:7400"})
        self.agents.start()
        self.hashes = StateHashes(self.log, self.hashing, self.forwarder, peer_id="p1")
        self.hub = LogHub(check=self.agents.check_speaker)
        self.services = Services(self.log, self.state_now, info=self.reads.info, check=self.agents.check_speaker)
        self.logs = Logs(self.hub, self.forwarder, find=self.reads.log_target)
        self.sessions = Sessions(
            self.hub, self.forwarder, find=self.reads.log_target, check=self.agents.check_speaker, most=3
        )
        self.drains = Drains(
            self.state_now,
            self.reads.info,
            resolve_node=lambda text: resolve_node(self.machine.state, text),
            clock_ms=lambda: self.now_ms,
        )
        self.usages = Usages(self.hub, self.state_now, resolve_node=lambda text: resolve_node(self.machine.state, text))

    @property
    def state(self) -> State:
        return self.machine.state

    def state_now(self) -> State:
        return self.machine.state

    async def submit(self, name: str, *, count: int = 1, request_id: str = "", **fields: Any) -> pb.SubmitJobResponse:
        request = pb.SubmitJobRequest(request_id=request_id, job=job(name, count=count, **fields))
        return await self.writes.submit_job(request, call())

    async def register(self, node_id: str, *, identity: str = "agent:n1", **fields: Any) -> None:
        request = agent_pb2.RegisterRequest(node=node(node_id, **fields))
        await self.agents.register(request, call(identity))

    async def place(self) -> int:
        """One round of the leader; how many placements went in."""
        decision = plan.decide(cluster_view(self.state), self.now_ms)
        before = self.state.table.count
        for one in decision.plans:
            await self.proposer.propose(one)
        return self.state.table.count - before

    async def report(
        self, node_id: str, key: Any, state: int, *, identity: str = "agent:n1", restarts: int = 0
    ) -> None:
        observation = agent_pb2.Observation(key=key, state=state, restarts=restarts)  # type: ignore[arg-type]
        request = agent_pb2.ReportStatusesRequest(node_id=node_id, observations=[observation])
        await self.agents.report_statuses(request, call(identity))


def job(name: str, *, count: int = 1, **fields: Any) -> types_pb2.JobSpec:
    task = {
        "name": "main",
        "command": ["sleep", "1"],
        "resources": {"cpu_millis": 100, "memory_mib": 10},
        **fields.pop("task", {}),
    }
    group = {"name": "main", "count": count, "tasks": [task], **fields.pop("group", {})}
    return types_pb2.JobSpec(**{"name": name, "groups": [group], **fields})


def node(node_id: str, **fields: Any) -> types_pb2.NodeSpec:
    given = {
        "id": node_id,
        "name": f"name-{node_id}",
        "drivers": ["process"],
        "port_min": 20000,
        "port_max": 20100,
        "capacity": {"cpu_millis": 4000, "memory_mib": 4000, "disk_mib": 4000},
        **fields,
    }
    return types_pb2.NodeSpec(**given)
