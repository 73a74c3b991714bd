"""The gateway's HTTP surface over a fake client: codes, errors, streams, and who may call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib import resources
from typing import Any, cast

import httpx
import pytest

from orchestrator.client.aio import Client
from orchestrator.contract.answers import (
    AllocationList,
    ClusterStatus,
    DispatchResult,
    JobAnswer,
    JobList,
    JobStatus,
    NodeInfo,
    NodeList,
    ReadInfo,
    ServiceList,
    SubmitResult,
    WorkloadAnswer,
    WriteResult,
)
from orchestrator.contract.batch import Origin
from orchestrator.contract.errors import (
    InvalidError,
    NoLeaderError,
    NotFoundError,
    OutOfRangeError,
    PreconditionError,
)
from orchestrator.contract.model import Event, JobSpec, NodeSpec, Resources, Service, TaskMetric, TaskReport
from orchestrator.contract.rollouts import RolloutAction
from orchestrator.gateway.app import build_app
from orchestrator.gateway.metrics import GatewayMetrics
from orchestrator.gateway.overview import Overview


class FakeClient:
    """Keeps jobs in a dictionary and plays a fixed list of events."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobSpec] = {}
        self.events: list[Event] = []
        self.collected_below = 0
        self.leader = True
        self.did: list[tuple[str, str]] = []

    def at_most(self, timeout_s: float) -> FakeClient:
        return self

    async def submit(self, spec: JobSpec, **_: Any) -> SubmitResult:
        self._check()
        self.jobs[spec.name] = spec
        return SubmitResult(index=1, uid="u-" + spec.name, version=1, changed=True)

    async def get_job(self, name: str, **_: Any) -> JobAnswer:
        self._check()
        if name not in self.jobs:
            raise NotFoundError(f"no job {name}")
        return JobAnswer(job=JobStatus(spec=self.jobs[name], uid="u-" + name))

    async def list_jobs(self, **_: Any) -> JobList:
        self._check()
        return JobList(jobs=tuple(JobStatus(spec=spec, uid="u-" + name) for name, spec in self.jobs.items()))

    async def list_allocations(self, **_: Any) -> AllocationList:
        return AllocationList()

    async def list_services(self, name: str = "", **_: Any) -> ServiceList:
        found = [Service(namespace="default", name=one, declared=True) for one in self.jobs if name in ("", one)]
        return ServiceList(services=tuple(found))

    async def get_workload(self, id: str, **_: Any) -> WorkloadAnswer:
        return WorkloadAnswer(tasks=(TaskReport(task=id, ready=True, metrics=(TaskMetric(name="q", value=1.5),)),))

    async def remove_job(self, name: str, **_: Any) -> None:
        del self.jobs[name]

    async def dispatch_job(self, name: str, meta: dict[str, str], payload: bytes, **_: Any) -> DispatchResult:
        run = f"{name}/dispatch-1700000000-0a1b2c3d"
        origin = Origin(job=name, uid="u", version=1, meta=tuple(sorted(meta.items())), payload=payload)
        self.jobs[run] = replace(self.jobs[name], name=run, origin=origin)
        return DispatchResult(index=1, uid="r", name=run)

    async def steer_rollout(self, name: str, action: RolloutAction, **more: Any) -> WriteResult:
        await self.get_job(name)
        if action is RolloutAction.PROMOTE:
            raise PreconditionError(f"job {name!r} has no canaries that wait")
        return self._did(action.name, more["namespace"])

    async def restart_job(self, name: str, **more: Any) -> WriteResult:
        await self.get_job(name)
        return self._did("RESTART", more["namespace"])

    async def rollback_job(self, name: str, version: int = 0, **more: Any) -> SubmitResult:
        await self.get_job(name)
        self._did(f"ROLLBACK {version}", more["namespace"])
        return SubmitResult(index=9, uid="u-" + name, version=5, changed=True)

    def _did(self, what: str, namespace: str) -> WriteResult:
        self.did.append((what, namespace))
        return WriteResult(index=9, changed=True)

    async def list_nodes(self, **_: Any) -> NodeList:
        spec = NodeSpec(id="n1", name="one", capacity=Resources(cpu_millis=4000, memory_mib=8192), labels=(("a", "b"),))
        return NodeList(nodes=(NodeInfo(spec=spec, used=Resources(cpu_millis=500, memory_mib=256)),))

    async def cluster_status(self, *, stale: bool = False, **_: Any) -> ClusterStatus:
        if not stale:
            self._check()
        read = ReadInfo(stale=stale)
        return ClusterStatus(cluster_name="test", leader_id="p1" if self.leader else "", read=read)

    async def watch_events(self, *, after_index: int, namespace: str) -> AsyncIterator[Event]:
        if not namespace.islower() and namespace != "*":
            raise InvalidError(f"namespace: {namespace!r}")
        if 0 < after_index < self.collected_below:
            raise OutOfRangeError("collected")
        for event in self.events:
            if event.index > after_index:
                yield event
        await asyncio.Event().wait()

    def _check(self) -> None:
        if not self.leader:
            raise NoLeaderError("no leader")


@pytest.fixture
def fake() -> FakeClient:
    return FakeClient()


@pytest.fixture
async def http(fake: FakeClient) -> AsyncIterator[httpx.AsyncClient]:
    client = cast(Client, fake)
    app = build_app(client, Overview(client), GatewayMetrics())
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as session:
        yield session


TASK = {"name": "test-task", "image": "alpine", "command": ["echo", "hi"], "resources": {"cpu": 500, "memory": 256}}


async def test_a_task_can_be_made_listed_read_and_deleted(http: httpx.AsyncClient) -> None:
    made = await http.post("/api/v1/tasks", json=TASK)
    assert made.status_code == 201
    task = made.json()
    assert task["state"] == "PENDING"
    assert [row["id"] for row in (await http.get("/api/v1/tasks")).json()] == [task["id"]]
    assert (await http.get(f"/api/v1/tasks/{task['id']}")).json()["name"] == "test-task"
    deleted = await http.delete(f"/api/v1/tasks/{task['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await http.get(f"/api/v1/tasks/{task['id']}")).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'{"name": "x"}', b"\xff\xfe", b"[" * 100_000])
async def test_a_malformed_task_is_a_400_with_a_reason(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/api/v1/tasks", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("call", ["dispatch", "rollback"])
async def test_a_body_without_end_is_a_400(http: httpx.AsyncClient, call: str) -> None:
    refused = await http.post(f"/api/v1/jobs/web/{call}", content=b"[" * 100_000)
    assert refused.status_code == 400
    assert "not JSON" in refused.json()["error"]


async def test_an_oversized_body_is_refused(http: httpx.AsyncClient, fake: FakeClient) -> None:
    answer = await http.post("/api/v1/tasks", content=b" " * (1024 * 1024 + 1))
    assert answer.status_code == 400
    assert fake.jobs == {}


@pytest.mark.parametrize("task_id", ["nope", "0" * 32, "..%2Fjobs"])
async def test_an_unknown_task_is_a_404(http: httpx.AsyncClient, task_id: str) -> None:
    assert (await http.get(f"/api/v1/tasks/{task_id}")).status_code == 404
    assert (await http.delete(f"/api/v1/tasks/{task_id}")).status_code == 404


async def test_a_job_can_be_dispatched_and_its_run_read_and_removed(http: httpx.AsyncClient, fake: FakeClient) -> None:
    await http.post("/api/v1/jobs", content="name: work\ntype: batch\ncommand: [x]\nparameterized: true\n")
    made = await http.post("/api/v1/jobs/work/dispatch", json={"meta": {"k": "v"}, "payload_base64": "/w=="})
    assert made.status_code == 201
    name = made.json()["name"]
    read = (await http.get(f"/api/v1/jobs/{name}")).json()
    assert (read["spec"]["origin"]["meta"], read["spec"]["origin"]["payload"]) == ({"k": "v"}, "/w==")
    assert (await http.delete(f"/api/v1/jobs/{name}")).status_code == 204
    assert name not in fake.jobs
    wrong: list[object] = [[], {"meta": 1}, {"meta": {"k": 1}}, {"payload_base64": "?"}, {"payload": 1}, {"more": 1}]
    for bad in wrong:
        assert (await http.post("/api/v1/jobs/work/dispatch", json=bad)).status_code == 400
    assert (await http.get("/api/v1/jobs/work/nothing")).status_code == 404


async def test_a_job_file_can_be_posted_as_yaml(http: httpx.AsyncClient, fake: FakeClient) -> None:
    answer = await http.post("/api/v1/jobs", content="name: web\nimage: nginx\ncount: 2\n")
    assert answer.status_code == 201
    assert fake.jobs["web"].groups[0].count == 2


async def test_services_and_what_tasks_say_are_shown(http: httpx.AsyncClient, fake: FakeClient) -> None:
    await http.post("/api/v1/jobs", content="name: web\nimage: nginx\n")
    assert [one["name"] for one in (await http.get("/api/v1/services")).json()] == ["web"]
    assert (await http.get("/api/v1/services/web")).json()["declared"] is True
    assert (await http.get("/api/v1/services/none")).status_code == 404
    said = (await http.get("/api/v1/allocations/web/main/0/workload")).json()
    assert said["tasks"][0] | {"ports": []} == said["tasks"][0]
    assert (said["tasks"][0]["task"], said["tasks"][0]["metrics"]) == ("web/main/0", [{"name": "q", "value": 1.5}])


async def test_a_bad_job_file_names_the_place(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/v1/jobs", content="name: web\nimge: nginx\n")
    assert answer.status_code == 400
    assert "2:1" in answer.json()["error"]
    assert "did you mean 'image'" in answer.json()["error"]


async def test_nodes_carry_the_predecessors_fields(http: httpx.AsyncClient) -> None:
    (node,) = (await http.get("/api/v1/nodes")).json()
    assert node["state"] == "READY"
    assert node["capacity"] == {"cpu": 4000, "memory": 8192}
    assert node["allocated"] == {"cpu": 500, "memory": 256}
    assert (await http.get("/api/v1/nodes/one")).json()["id"] == "n1"
    assert (await http.get("/api/v1/nodes/two")).status_code == 404


async def test_without_a_leader_a_write_is_a_503_that_says_try_again(http: httpx.AsyncClient, fake: FakeClient) -> None:
    fake.leader = False
    answer = await http.post("/api/v1/tasks", json=TASK)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert (await http.get("/readyz")).status_code == 503
    assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:9999"},
        {"origin": "null"},
    ],
)
async def test_other_sites_may_not_call(http: httpx.AsyncClient, fake: FakeClient, headers: dict[str, str]) -> None:
    answer = await http.post("/api/v1/tasks", json=TASK, headers=headers)
    assert answer.status_code == 403
    assert fake.jobs == {}


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST"])
async def test_this_machine_may_call_by_any_loopback_name(http: httpx.AsyncClient, host: str) -> None:
    assert (await http.get("/healthz", headers={"host": host})).status_code == 200


async def test_the_gateways_own_page_may_call(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/nodes", headers={"origin": "http://localhost:8080"})
    assert answer.status_code == 200


async def test_killing_the_leader_is_offered_on_dev_clusters_only(http: httpx.AsyncClient) -> None:
    assert (await http.post("/api/v1/dev/kill-leader")).status_code == 404


async def test_a_mistake_of_the_gateway_is_an_error_like_any_other(fake: FakeClient) -> None:
    async def fails() -> dict[str, Any]:
        raise ZeroDivisionError

    overview = Overview(cast(Any, fake), kill_leader=fails)
    app = build_app(cast(Any, fake), overview, GatewayMetrics())
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as http:
        answer = await http.post("/api/v1/dev/kill-leader")
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")


async def test_requests_are_counted_by_route_not_by_path(http: httpx.AsyncClient) -> None:
    await http.get("/api/v1/tasks/" + "0" * 32)
    text = (await http.get("/metrics")).text
    assert 'raftsman_http_requests_total{method="GET",path="/api/v1/tasks/{task_id}",status="404"} 1.0' in text
    assert "0" * 32 not in text


async def test_a_collected_position_is_gone(http: httpx.AsyncClient, fake: FakeClient) -> None:
    fake.collected_below = 100
    assert (await http.get("/api/v1/events?after=5")).status_code == 410


async def test_a_wrong_question_is_a_400_and_no_stream(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/events?after=0&namespace=NOPE")
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID")


async def test_the_cluster_is_as_its_leader_knows_it_and_without_one_as_somebody_does(
    http: httpx.AsyncClient, fake: FakeClient
) -> None:
    """What a follower knows of another follower is nothing: it looked as if that had been silent since the start."""
    assert not (await http.get("/api/v1/cluster")).json()["read"]["stale"]
    fake.leader = False
    assert (await http.get("/api/v1/cluster")).json()["read"]["stale"]


async def read_stream(
    fake: FakeClient, headers: dict[str, str], query: str, count: int
) -> list[tuple[str, dict[str, Any]]]:
    """The first ``count`` events of the SSE endpoint, by driving the ASGI application (httpx waits for the end)."""
    client = cast(Client, fake)
    app = build_app(client, Overview(client), GatewayMetrics())
    body = bytearray()
    enough = asyncio.Event()

    async def send(message: Any) -> None:
        body.extend(message.get("body", b""))
        if body.count(b"data:") >= count:
            enough.set()

    async def receive() -> Any:
        await enough.wait()
        return {"type": "http.disconnect"}

    raw = [(b"host", b"localhost"), *((key.encode(), value.encode()) for key, value in headers.items())]
    scope = {
        "type": "http", "method": "GET", "path": "/api/v1/events", "raw_path": b"/api/v1/events", "headers": raw,
        "query_string": query.encode(), "http_version": "1.1", "scheme": "http", "server": ("localhost", 80),
        "client": ("127.0.0.1", 1), "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    async with asyncio.timeout(20):
        await app(scope, receive, send)
    found: list[tuple[str, dict[str, Any]]] = []
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in lines and "id" in lines:
            found.append((lines["id"], json.loads(lines["data"])))
    return found[:count]


@pytest.mark.parametrize("call", ["pause", "resume", "restart"])
async def test_a_rollout_is_steered(http: httpx.AsyncClient, fake: FakeClient, call: str) -> None:
    assert (await http.post(f"/api/v1/jobs/web/{call}")).status_code == 404
    fake.jobs["web"] = JobSpec(name="web")
    answer = await http.post(f"/api/v1/jobs/web/{call}?namespace=team")
    assert (answer.status_code, answer.json()) == (200, {"index": 9, "changed": True})
    assert fake.did == [(call.upper(), "team")]
    assert (await http.get(f"/api/v1/jobs/web/{call}")).status_code == 404
    fake.leader = False
    assert (await http.post(f"/api/v1/jobs/web/{call}")).status_code == 503


async def test_a_promotion_without_canaries_is_a_conflict_with_its_reason(
    http: httpx.AsyncClient, fake: FakeClient
) -> None:
    fake.jobs["web"] = JobSpec(name="web")
    answer = await http.post("/api/v1/jobs/web/promote")
    assert answer.status_code == 409
    assert answer.json() == {"error": "job 'web' has no canaries that wait", "code": "FAILED_PRECONDITION"}


async def test_a_version_is_rolled_back_to(http: httpx.AsyncClient, fake: FakeClient) -> None:
    fake.jobs["web"] = JobSpec(name="web")
    answer = await http.post("/api/v1/jobs/web/rollback")
    assert answer.status_code == 200
    assert answer.json()["version"] == 5
    assert (await http.post("/api/v1/jobs/web/rollback", json={"version": 2})).status_code == 200
    assert fake.did == [("ROLLBACK 0", "default"), ("ROLLBACK 2", "default")]
    for bad in (b"{", b"[]", b'{"to": 2}', b'{"version": 0}', b'{"version": "2"}', b'{"version": true}'):
        refused = await http.post("/api/v1/jobs/web/rollback", content=bad)
        assert (refused.status_code, refused.json()["code"]) == (400, "INVALID"), bad
    assert len(fake.did) == 2


async def test_events_resume_in_the_middle_of_an_index(fake: FakeClient) -> None:
    fake.events = [
        Event(index=7, sequence=0, time_ms=1, kind="a"),
        Event(index=7, sequence=1, time_ms=1, kind="b"),
        Event(index=9, sequence=0, time_ms=1, kind="c"),
    ]
    assert [name for name, _ in await read_stream(fake, {}, "after=0", 3)] == ["7.0", "7.1", "9.0"]
    resumed = await read_stream(fake, {"last-event-id": "7.0"}, "", 2)
    assert [(name, event["kind"]) for name, event in resumed] == [("7.1", "b"), ("9.0", "c")]
    assert [name for name, _ in await read_stream(fake, {}, "after=7", 1)] == ["9.0"]


def test_a_picture_has_no_markup() -> None:
    """The page sets text only; were it ever to use innerHTML, a job's reason could run script."""
    page = resources.files("orchestrator.gateway").joinpath("page", "index.html").read_text("utf-8")
    assert "innerHTML" not in page
    assert "insertAdjacentHTML" not in page
