"""Calls every method of every service on one peer, with nothing of Raftsman but stubs generated from ``proto/``.

Run as a program in a directory of its own: ``contract_caller.py ADDRESS CERTS-OR-DASH PEER LOGS-ADDRESS``. Prints one
JSON object, method -> status code name. It plays a client and an agent (node ``node-PEER``) at once; the agent's log
stream goes to LOGS-ADDRESS, another peer. With ``-`` for the certificates it speaks plain text.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from orchestrator.contract.v1 import agent_pb2 as agent
from orchestrator.contract.v1 import agent_pb2_grpc as agent_rpc
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.contract.v1 import control_pb2_grpc as rpc
from orchestrator.contract.v1 import types_pb2 as types
from orchestrator.contract.v1.session_pb2 import AgentFrame, ClientFrame
from orchestrator.replication.v1 import peer_pb2 as peer
from orchestrator.replication.v1 import peer_pb2_grpc as peer_rpc

END: Any = vars(grpc.aio)["EOF"]  # the type stubs do not know it
CODES: dict[str, str] = {}
ANSWERS: dict[str, Any] = {}


def channel(address: str, certs: Path | None, who: str) -> grpc.aio.Channel:
    if certs is None:
        return grpc.aio.insecure_channel(address)
    base = certs / who
    credentials = grpc.ssl_channel_credentials(
        (base / "ca.pem").read_bytes(), (base / "key.pem").read_bytes(), (base / "cert.pem").read_bytes()
    )
    return grpc.aio.secure_channel(address, credentials, [("grpc.ssl_target_name_override", "peer.raftsman")])


async def call(stub: Any, name: str, request: Any) -> Any:
    """One unary call; notes its status."""
    try:
        ANSWERS[name] = await getattr(stub, name)(request, timeout=15)
        CODES[name] = "OK"
    except grpc.aio.AioRpcError as error:
        CODES[name] = f"{error.code().name}: {error.details()}"
        return None
    return ANSWERS[name]


async def first(name: str, stream: Any) -> Any:
    """The first message of a stream; notes its status."""
    try:
        async with asyncio.timeout(15):
            message = await stream.read()
        CODES[name] = "OK" if message is not END else f"ended: {(await stream.code()).name}"
    except TimeoutError:
        CODES[name] = "nothing came"
        return None
    except grpc.aio.AioRpcError as error:
        CODES[name] = f"{error.code().name}: {error.details()}"
        return None
    return message


async def play_agent(stub: Any, logs_stub: Any, node: str) -> tuple[Any, Any]:
    registered = await call(
        stub,
        "Register",
        agent.RegisterRequest(
            request_id=uuid.uuid4().hex,
            node={
                "id": node, "name": node, "drivers": ["fake"], "port_min": 20000, "port_max": 20010,
                "capacity": {"cpu_millis": 1000, "memory_mib": 1000, "disk_mib": 1000},
            },
        ),
    )  # fmt: skip
    assert registered is not None, CODES
    await call(stub, "Heartbeat", agent.HeartbeatRequest(node_id=node, sequence=1))
    beat = agent.HeartbeatRequest(node_id=node, sequence=2)
    for name, up in (("Heartbeats", beat), ("Attend", agent.AttendUp(heartbeat=beat))):
        beats = getattr(stub, name)()
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # a follower may refuse too early
            await beats.write(up)
        await first(name, beats)
        beats.cancel()
    stream = stub.Assignments(agent.AssignmentsRequest(node_id=node))
    full = await first("Assignments", stream)
    assert full is not None and full.full, CODES
    logs = logs_stub.ServeLogs()
    await logs.write(agent.LogsUp(hello={"node_id": node, "sessions": True, "workload": True}))
    return stream, logs


async def serve_one_log(logs: Any, report: agent.WorkloadReport | None = None) -> None:
    """Answer the next request for logs, or for what tasks say of themselves."""
    down = await first("ServeLogs", logs)
    while down.WhichOneof("message") != "open":  # the end of the last one
        down = await first("ServeLogs", logs)
    assert down.open.workload == (report is not None)
    data = b"hello\n" if report is None else report.SerializeToString()
    await logs.write(agent.LogsUp(data={"stream_id": down.open.stream_id, "data": data, "task": "main", "end": True}))


async def one_session(control: Any, agents: Any, logs: Any, which: dict[str, Any]) -> None:
    """A session by way of one peer with an agent whose stream is at another."""
    session = control.Session()
    await session.write(ClientFrame(open={"id": which, "exec": {"command": ["x"]}}))
    async with asyncio.timeout(15):
        down = await logs.read()
    joined = agents.JoinSession()
    await joined.write(AgentFrame(join=down.session.session_id))
    await joined.write(AgentFrame(started={"node": "n"}))
    assert (await first("Session", session)).started.node == "n", CODES
    await session.write(ClientFrame(data=b"in"))
    assert (await first("JoinSession", joined)).data == b"in", CODES
    await joined.write(AgentFrame(end={"exit_code": 3}))
    async with asyncio.timeout(15):
        assert (await session.read()).end.exit_code == 3
        assert await joined.read() is END
        assert (await logs.read()).close.stream_id == down.session.session_id


async def main(address: str, certs: Path | None, me: str, logs_address: str) -> None:
    control = rpc.ControlStub(channel(address, certs, "clients/admin"))
    agents = agent_rpc.AgentsStub(channel(address, certs, f"agents/{me}"))
    elsewhere = agent_rpc.AgentsStub(channel(logs_address, certs, f"agents/{me}"))
    node = f"node-{me}"
    assignments, logs = await play_agent(agents, elsewhere, node)

    space = f"space-{me}"
    task = {
        "name": "main",
        "driver": "fake",
        "image": "x:1",
        "command": ["x"],
        "resources": {"cpu_millis": 100, "memory_mib": 10},
    }
    constraint = {"attribute": "node.id", "operator": 1, "values": [node]}
    spec = {
        "namespace": space, "name": "web", "constraints": [constraint],
        "groups": [{"name": "main", "count": 1, "tasks": [task], "ports": [{"label": "http"}]}],
    }  # fmt: skip
    key = {"namespace": space, "name": "web"}
    await call(control, "SubmitJob", pb.SubmitJobRequest(request_id=uuid.uuid4().hex, job=spec))
    async with asyncio.timeout(15):
        update = await assignments.read()
    assigned = update.assignments[0]
    observation = agent.Observation(key=assigned.key, state=types.ALLOC_STATE_RUNNING)
    await call(agents, "ReportStatuses", agent.ReportStatusesRequest(node_id=node, observations=[observation]))
    pin = agent.PinImageRequest(node_id=node, key=assigned.key, job_version=1, image="x:1", digest="sha256:" + "0" * 64)
    await call(agents, "PinImage", pin)
    told = agent.ReportProgressRequest(node_id=node, progress=[{"key": assigned.key, "text": "half"}])
    await call(agents, "ReportProgress", told)
    which = {"namespace": space, "job": "web", "group": "main", "ordinal": 0}
    answering = asyncio.ensure_future(serve_one_log(logs))
    chunk = await first("Logs", control.Logs(pb.LogsRequest(id=which, tail_lines=-1, offset=-1)))
    assert chunk is not None and chunk.data == b"hello\n", CODES
    await answering
    await one_session(control, elsewhere, logs, which)
    await call(control, "GetUsage", pb.GetUsageRequest(node=node))
    await call(control, "DrainStatus", pb.DrainStatusRequest(node=node))
    assert len(ANSWERS["DrainStatus"].left) == 1, ANSWERS["DrainStatus"]
    await call(control, "GetJob", pb.GetJobRequest(job=key))
    assert ANSWERS["GetJob"].job.groups[0].running == 1, ANSWERS["GetJob"]
    await call(control, "ListJobs", pb.ListJobsRequest(namespace="*"))
    await call(control, "GetAllocation", pb.GetAllocationRequest(id=which))
    await call(control, "ListAllocations", pb.ListAllocationsRequest(namespace=space))
    asked = asyncio.ensure_future(serve_one_log(logs, agent.WorkloadReport(tasks=[{"task": "main", "ready": True}])))
    await call(control, "GetWorkload", pb.GetWorkloadRequest(id=which))
    assert ANSWERS["GetWorkload"].tasks[0].ready, ANSWERS["GetWorkload"]
    await asked
    await call(control, "ListServices", pb.ListServicesRequest(namespace=space))
    assert [one.name for one in ANSWERS["ListServices"].services] == ["web"]
    await first("WatchServices", control.WatchServices(pb.WatchServicesRequest(namespace=space)))
    services = agents.Services()
    await services.write(agent.ServicesUp(node_id=node, add=[{"namespace": space, "name": "web"}]))
    async with asyncio.timeout(15):
        heard = await services.read()
    assert len(heard.services[0].instances) == 1, heard
    CODES["Services"] = "OK"
    services.cancel()
    await call(control, "ExplainJob", pb.ExplainJobRequest(job=key))
    await call(control, "ExplainPast", pb.ExplainPastRequest(job=key, at_index=ANSWERS["GetJob"].read.index))
    await call(control, "PlanJob", pb.PlanJobRequest(job={**spec, "priority": 7}))
    assert ANSWERS["PlanJob"].change == "update", ANSWERS["PlanJob"]
    await call(control, "WhatIf", pb.WhatIfRequest(changes=[{"lose": node}]))
    await call(control, "Rebalance", pb.RebalanceRequest(goal="spread"))
    await call(control, "MoveAllocation", pb.MoveAllocationRequest(id=which, attempt=1))
    await call(control, "ScaleJob", pb.ScaleJobRequest(job=key, count=2))
    changed = {**spec, "priority": 7}
    await call(control, "SubmitJob", pb.SubmitJobRequest(request_id=uuid.uuid4().hex, job=changed))
    await call(control, "RestartJob", pb.RestartJobRequest(job=key))
    await call(control, "SteerRollout", pb.SteerRolloutRequest(job=key, action=types.ROLLOUT_ACTION_PAUSE))
    await call(control, "ListJobVersions", pb.ListJobVersionsRequest(job=key))
    assert len(ANSWERS["ListJobVersions"].versions) >= 3, ANSWERS["ListJobVersions"]
    await call(control, "RollbackJob", pb.RollbackJobRequest(job=key, version=1))
    for name, rule in (("work", {"parameterized": {"payload": 1}}), ("tick", {"periodic": {"cron": ["@yearly"]}})):
        template = {"namespace": space, "name": name, "type": 2, "groups": spec["groups"], **rule}
        await call(control, "SubmitJob", pb.SubmitJobRequest(request_id=uuid.uuid4().hex, job=template))
    await call(control, "DispatchJob", pb.DispatchJobRequest(job={"namespace": space, "name": "work"}, payload=b"x"))
    await call(control, "ForceRun", pb.ForceRunRequest(job={"namespace": space, "name": "tick"}))
    await call(control, "StopJob", pb.StopJobRequest(job=key))
    await call(control, "RemoveJob", pb.RemoveJobRequest(job=key))
    batch = [{"namespace": space, "name": f"b{n}", "groups": spec["groups"]} for n in range(3)]
    await call(control, "SubmitJobs", pb.SubmitJobsRequest(jobs=batch))
    await call(control, "ListNodes", pb.ListNodesRequest())
    await call(control, "CordonNode", pb.NodeRequest(node=node))
    await call(control, "UncordonNode", pb.NodeRequest(node=node))
    await call(control, "DrainNode", pb.NodeRequest(node=node))
    taint = types.Taint(key="contract", effect=types.TAINT_EFFECT_PREFER_NO_SCHEDULE)
    await call(control, "TaintNode", pb.TaintNodeRequest(node=node, put=[taint]))
    await call(control, "TaintNode", pb.TaintNodeRequest(node=node, drop=[pb.TaintKey(key="contract")]))
    spare = {"id": f"spare-{me}", "name": f"spare-{me}", "port_min": 20000, "port_max": 20010, "devices": [{"id": "g"}]}
    await agents.Register(agent.RegisterRequest(node=spare), timeout=15)
    await call(control, "CordonDevice", pb.NodeDeviceRequest(node=f"spare-{me}", device="0"))
    await call(control, "UncordonDevice", pb.NodeDeviceRequest(node=f"spare-{me}", device="0"))
    await call(control, "ForgetNode", pb.NodeRequest(node=f"spare-{me}"))
    await call(control, "ClusterStatus", pb.ClusterStatusRequest())
    await first("Backup", control.Backup(pb.BackupRequest()))
    await call(control, "ChangePeers", pb.ChangePeersRequest())  # no change: answered, and refused
    await call(control, "SetLimits", pb.SetLimitsRequest(change={"events": 50_000}))
    await call(control, "GetLimits", pb.GetLimitsRequest())
    assert ANSWERS["GetLimits"].limits.events == 50_000
    await call(control, "SetSettings", pb.SetSettingsRequest(change={"preemption": True}))
    await call(control, "GetSettings", pb.GetSettingsRequest())
    assert ANSWERS["GetSettings"].settings.preemption
    await call(control, "CreateNamespace", pb.NamespaceRequest(name=f"ns-{me}", quota={"jobs": 3}))
    await call(control, "SetNamespace", pb.NamespaceRequest(name=f"ns-{me}", quota={"cpu_millis": 8_000}))
    await call(control, "ListNamespaces", pb.ListNamespacesRequest())
    quotas = {one.namespace.name: one.namespace.quota for one in ANSWERS["ListNamespaces"].namespaces}
    assert (quotas[f"ns-{me}"].jobs, quotas[f"ns-{me}"].cpu_millis) == (3, 8_000)
    await call(control, "DeleteNamespace", pb.NamespaceRequest(name=f"ns-{me}"))
    await call(control, "StateHash", pb.StateHashRequest(peer_id=me))
    await first("WatchEvents", control.WatchEvents(pb.WatchEventsRequest(namespace="*")))
    await call(control, "PutVariable", pb.PutVariableRequest(namespace=space, name="a", value="1"))
    await call(control, "CreateVariable", pb.PutVariableRequest(namespace=space, name="b", value="1"))
    await call(control, "GetVariable", pb.GetVariableRequest(namespace=space, name="a"))
    await call(
        control,
        "CompareAndSetVariable",
        pb.CompareAndSetVariableRequest(namespace=space, name="a", expect="1", value="2"),
    )
    assert ANSWERS["CompareAndSetVariable"].hit
    await call(control, "ListVariables", pb.ListVariablesRequest(namespace=space))
    assert [(v.name, v.value) for v in ANSWERS["ListVariables"].variables] == [("a", "2"), ("b", "1")]
    writes: list[dict[str, object]] = [
        {"name": "many", "value": "1", "absent": True},
        {"name": "many", "value": "2", "expect": "1"},
        {"name": "many"},
    ]
    await call(control, "PutVariables", pb.PutVariablesRequest(namespace=space, writes=writes))
    assert [answer.hit for answer in ANSWERS["PutVariables"].answers] == [True, True, True]
    await call(control, "DeleteVariable", pb.DeleteVariableRequest(namespace=space, name="a"))
    await raft_session(channel(address, certs, "clients/admin"))
    print(json.dumps(CODES))


async def raft_session(to: grpc.aio.Channel) -> None:
    """Every method of ``Peers``, called by a client."""
    stub = peer_rpc.PeersStub(to)
    for method in peer.DESCRIPTOR.services_by_name["Peers"].methods:
        request = GetMessageClass(method.input_type)()
        if not method.client_streaming and not method.server_streaming:
            await call(stub, method.name, request)
            continue
        stream = getattr(stub, method.name)(*(() if method.client_streaming else (request,)))
        try:
            if method.client_streaming:
                await stream.done_writing()
            async with asyncio.timeout(15):
                message = await stream.read()
            CODES[method.name] = "OK" if message is not END else (await stream.code()).name
        except grpc.aio.AioRpcError as error:
            CODES[method.name] = f"{error.code().name}: {error.details()}"
        except TimeoutError:
            CODES[method.name] = "nothing came"
        stream.cancel()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(main(arguments[0], None if arguments[1] == "-" else Path(arguments[1]), arguments[2], arguments[3]))
