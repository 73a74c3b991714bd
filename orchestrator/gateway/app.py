"""The gateway's routes: REST/JSON, event streams and the status page, as an ASGI application.

Owns: HTTP shapes and status codes. Leaves to others: everything else; it is a client like any other, holds no state and
may run in any number. The rule: a failing leader is the client's business (it retries on the other peers), so a request
fails only when the cluster cannot answer within its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable
from importlib import resources
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.client.aio import Client
from orchestrator.contract.answers import JobStatus
from orchestrator.contract.errors import InvalidError, NotFoundError, OutOfRangeError, RaftsmanError
from orchestrator.contract.model import Allocation, Event
from orchestrator.contract.plain import plain
from orchestrator.gateway import tasks
from orchestrator.gateway.metrics import GatewayMetrics
from orchestrator.gateway.overview import Overview
from orchestrator.gateway.rollouts import add_rollouts
from orchestrator.gateway.runs import add_runs
from orchestrator.gateway.security import LOOPBACK, HostCheck
from orchestrator.jobfile import file

JOB_BYTES = 1024 * 1024
SSE_PING_S = 15
FIRST_EVENT_S = 0.3
FRESH_S = 1.0
"""So long the leader is waited for where any peer can say something."""
"""How long a new event stream may be found to be collected (410) before its headers go out."""


def build_app(
    client: Client, overview: Overview, metrics: GatewayMetrics, *, hosts: Iterable[str] = LOOPBACK
) -> ASGIApp:
    """The application; the caller owns ``client`` and closes it."""
    app = FastAPI(title="Raftsman", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    _add_errors(app)
    _add_tasks(app, client)
    _add_jobs(app, client)
    add_runs(app, client, _body)
    add_rollouts(app, client, _body)
    _add_cluster(app, client)
    _add_pages(app, client, overview, metrics)
    return HostCheck(Measured(app, metrics), hosts=hosts)


class Measured:
    """ASGI middleware: counts and times requests by route pattern (never by raw path: ids would be labels)."""

    def __init__(self, app: FastAPI, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                route = scope.get("route")
                path = getattr(route, "path", "unknown")
                self._metrics.observe(scope["method"], path, status, time.perf_counter() - start)
            await send(message)

        await self._app(scope, receive, observe)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RaftsmanError)
    async def on_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RaftsmanError)
        headers = {"retry-after": "1"} if error.retryable else {}
        body = {"error": error.message, "code": error.reason, **({"details": error.metadata} if error.metadata else {})}
        return JSONResponse(body, status_code=error.http_status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{place}: {first['msg']}", "code": "INVALID"}, status_code=400)

    @app.exception_handler(StarletteHTTPException)
    async def on_http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "INVALID")
        return JSONResponse({"error": str(error.detail), "code": code}, status_code=error.status_code)

    @app.exception_handler(Exception)
    async def on_mistake(_request: Request, _error: Exception) -> Response:  # which is raised again, and logged
        body = {"error": "a mistake of the gateway; its log says more", "code": "INTERNAL"}
        return JSONResponse(body, status_code=500)


async def _json_body(request: Request) -> Any:
    body = await _body(request)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"Invalid task data: not JSON: {error}") from None


async def _body(request: Request) -> bytes:
    """At most ``JOB_BYTES``: more is refused before it is read whole."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > JOB_BYTES:
            raise InvalidError(f"the body is larger than {JOB_BYTES} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _add_tasks(app: FastAPI, client: Client) -> None:
    @app.post("/api/v1/tasks", status_code=201)
    async def create_task(request: Request) -> dict[str, Any]:
        task_id = tasks.new_id()
        spec = tasks.job_from_task(await _json_body(request), task_id)
        await client.submit(spec)
        return tasks.task_from_job(await _job(client, spec.name), None)

    @app.get("/api/v1/tasks")
    async def list_tasks() -> list[dict[str, Any]]:
        jobs, allocations = await asyncio.gather(client.list_jobs(), client.list_allocations())
        newest = _newest(allocations.allocations)
        return [tasks.task_from_job(job, newest.get(job.uid)) for job in jobs.jobs if tasks.is_task(job)]

    @app.get("/api/v1/tasks/{task_id}")
    async def get_task(task_id: str) -> dict[str, Any]:
        job = await _task_job(client, task_id)
        allocations = await client.list_allocations(job=job.spec.name)
        return tasks.task_from_job(job, _newest(allocations.allocations).get(job.uid))

    @app.delete("/api/v1/tasks/{task_id}", status_code=204)
    async def delete_task(task_id: str) -> Response:
        job = await _task_job(client, task_id)
        await client.remove_job(job.spec.name)
        return Response(status_code=204)


async def _job(client: Client, name: str, namespace: str | None = None) -> JobStatus:
    return (await client.get_job(name, namespace=namespace)).job


async def _task_job(client: Client, task_id: str) -> JobStatus:
    name = tasks.job_name(task_id)
    if name is None:
        raise NotFoundError(f"Task not found: {task_id}")
    try:
        job = await _job(client, name)
    except NotFoundError:
        raise NotFoundError(f"Task not found: {task_id}") from None
    if job.removing or not tasks.is_task(job):
        raise NotFoundError(f"Task not found: {task_id}")
    return job


def _newest(allocations: Iterable[Allocation]) -> dict[str, Allocation]:
    newest: dict[str, Allocation] = {}
    for allocation in allocations:
        known = newest.get(allocation.job_uid)
        if known is None or allocation.attempt > known.attempt:
            newest[allocation.job_uid] = allocation
    return newest


def _add_jobs(app: FastAPI, client: Client) -> None:
    @app.post("/api/v1/jobs", status_code=201)
    async def submit_job(request: Request, response: Response) -> dict[str, Any]:
        """A job file as YAML or JSON (JSON is YAML): the same keys, the same errors."""
        text = (await _body(request)).decode("utf-8", "strict")
        spec = file.load(text, "body")
        result = await client.submit(spec)
        if not result.changed or result.version > 1:
            response.status_code = 200
        return {"namespace": spec.namespace, "name": spec.name, **plain(result)}

    @app.get("/api/v1/jobs")
    async def list_jobs(namespace: str = "default") -> list[dict[str, Any]]:
        return [plain(job) for job in (await client.list_jobs(namespace=namespace)).jobs]

    @app.get("/api/v1/jobs/{name}")
    async def get_job(name: str, namespace: str = "default") -> dict[str, Any]:
        job, allocations = await asyncio.gather(
            _job(client, name, namespace), client.list_allocations(namespace=namespace, job=name)
        )
        return {**plain(job), "allocations": plain(allocations.allocations)}

    @app.get("/api/v1/jobs/{name}/why")
    async def explain_job(name: str, namespace: str = "default") -> dict[str, Any]:
        explained: dict[str, Any] = plain(await client.explain_job(name, namespace=namespace))
        return explained

    @app.delete("/api/v1/jobs/{name}", status_code=204)
    async def remove_job(name: str, namespace: str = "default") -> Response:
        await client.remove_job(name, namespace=namespace)
        return Response(status_code=204)


def _add_cluster(app: FastAPI, client: Client) -> None:
    @app.get("/api/v1/services")
    async def list_services(namespace: str = "default") -> list[Any]:
        return [plain(one) for one in (await client.list_services(namespace=namespace)).services]

    @app.get("/api/v1/services/{name}")
    async def get_service(name: str, namespace: str = "default") -> Any:
        found = (await client.list_services(name, namespace=namespace)).services
        if not found:
            raise NotFoundError(f"no service {name!r}")
        return plain(found[0])

    @app.get("/api/v1/allocations/{job}/{group}/{ordinal}/workload")
    async def get_workload(job: str, group: str, ordinal: int, namespace: str = "default") -> Any:
        return plain(await client.get_workload(f"{job}/{group}/{ordinal}", namespace=namespace))

    @app.get("/api/v1/nodes")
    async def list_nodes() -> list[dict[str, Any]]:
        return [_node(plain(node)) for node in (await client.list_nodes()).nodes]

    @app.get("/api/v1/nodes/{node_id}")
    async def get_node(node_id: str) -> dict[str, Any]:
        for node in (await client.list_nodes()).nodes:
            if node_id in (node.spec.id, node.spec.name):
                return _node(plain(node))
        raise NotFoundError(f"Node not found: {node_id}")

    @app.get("/api/v1/cluster")
    async def cluster_status() -> dict[str, Any]:
        try:  # only the leader knows how far behind the others are
            status = await client.at_most(FRESH_S).cluster_status()
        except RaftsmanError:
            status = await client.cluster_status(stale=True)
        shown: dict[str, Any] = plain(status)
        return shown

    @app.get("/api/v1/events")
    async def events(request: Request, after: int | None = None, namespace: str = "*") -> Response:
        position = _position(request.headers.get("last-event-id"), after)
        stream = _events_after(client, position, namespace)
        # A position that is collected already (410), or a wrong question, is an answer and not a broken stream: look
        # before the headers go out.
        first = asyncio.ensure_future(anext(stream))
        try:
            await asyncio.wait({first}, timeout=FIRST_EVENT_S)
        except asyncio.CancelledError:
            first.cancel()
            raise
        if first.done() and isinstance(first.exception(), (OutOfRangeError, InvalidError)):
            error = first.exception()
            assert error is not None
            raise error
        return EventSourceResponse(_sse(first, stream), ping=SSE_PING_S, headers={"cache-control": "no-cache"})


def _node(row: dict[str, Any]) -> dict[str, Any]:
    """``id``, ``state``, ``capacity`` and ``allocated`` at the top as the predecessor had them, beside the rest."""
    spec, used = row["spec"], row["used"]
    state = "DRAINING" if row["draining"] else {"ready": "READY", "lost": "NOT_READY"}[row["status"]]
    return {
        "id": spec["id"],
        "name": spec["name"],
        "state": state,
        "draining": row["draining"],
        "labels": spec["labels"],
        "capacity": {"cpu": spec["capacity"]["cpu_millis"], "memory": spec["capacity"]["memory_mib"]},
        "allocated": {"cpu": used["cpu_millis"], "memory": used["memory_mib"]},
        "current_tasks": row["allocations"],
        "node": row,
    }


def _position(last_event_id: str | None, after: int | None) -> tuple[int, int]:
    """(index, sequence) of the last event that the caller has; (-1, 0): only new ones."""
    if last_event_id:
        index, _, sequence = last_event_id.partition(".")
        try:
            return int(index), int(sequence or 0)
        except ValueError:
            raise InvalidError(f"Last-Event-ID: expected INDEX.SEQUENCE, got {last_event_id!r}") from None
    if after is None:
        return -1, 0
    if after < -1:
        raise InvalidError("after: expected an index, or -1 for only new events")
    return after, 1 << 62  # every event of that index is known


async def _events_after(client: Client, position: tuple[int, int], namespace: str) -> AsyncIterator[Event]:
    index, sequence = position
    # One index may carry several events: ask for that index again and leave out what the caller has.
    ask = index if index < 1 or sequence == 1 << 62 else index - 1
    async for event in client.watch_events(after_index=ask, namespace=namespace):
        if (event.index, event.sequence) > (index, sequence):
            yield event


async def _sse(first: asyncio.Future[Event], stream: AsyncIterator[Event]) -> AsyncIterator[ServerSentEvent]:
    try:
        event = await first
        while True:
            yield ServerSentEvent(data=json.dumps(plain(event)), id=f"{event.index}.{event.sequence}")
            event = await anext(stream)
    except OutOfRangeError as error:
        yield ServerSentEvent(data=json.dumps({"error": error.message, "code": error.reason}), event="gone")
    except RaftsmanError as error:
        yield ServerSentEvent(data=json.dumps({"error": error.message, "code": error.reason}), event="failed")
    except StopAsyncIteration:
        return
    finally:
        first.cancel()
        with contextlib.suppress(Exception):
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()


def _add_pages(app: FastAPI, client: Client, overview: Overview, metrics: GatewayMetrics) -> None:
    page = resources.files("orchestrator.gateway").joinpath("page", "index.html").read_text("utf-8")
    policy = (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"
    )

    @app.get("/", response_class=HTMLResponse)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy, "cache-control": "no-cache"})

    @app.get("/api/v1/overview/stream")
    async def overview_stream() -> Response:
        async def pictures() -> AsyncIterator[ServerSentEvent]:
            async for text in overview.subscribe():
                yield ServerSentEvent(data=text)

        return EventSourceResponse(pictures(), ping=SSE_PING_S)

    @app.post("/api/v1/dev/kill-leader")
    async def kill_leader() -> dict[str, Any]:
        if not overview.can_kill:
            raise HTTPException(404, "only a dev cluster's gateway can kill the leader")
        return await overview.kill_leader()

    @app.get("/healthz")
    @app.get("/health")
    async def health() -> dict[str, str]:
        """The gateway itself lives; whether the cluster does is in /readyz."""
        return {"status": "healthy"}

    @app.get("/readyz")
    async def ready() -> Response:
        try:
            status = await client.at_most(2.0).cluster_status(stale=True)
        except RaftsmanError as error:
            return JSONResponse({"status": "no peer answers", "error": error.message}, status_code=503)
        body = {"status": "ready" if status.leader_id else "no leader", "leader": status.leader_id}
        return JSONResponse(body, status_code=200 if status.leader_id else 503)

    @app.get("/metrics")
    async def prometheus() -> Response:
        body, content_type = metrics.render(watchers=overview.watchers)
        return Response(body, media_type=content_type)
