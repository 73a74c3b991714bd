"""Runs of templates over HTTP: dispatch, force, and the runs themselves, whose names have a slash.

Owns: these calls. Leaves to others: reading bodies within bounds, errors (``app``).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from orchestrator.client.aio import Client
from orchestrator.contract.batch import is_run_suffix
from orchestrator.contract.errors import InvalidError, NotFoundError
from orchestrator.contract.plain import plain


def add_runs(app: FastAPI, client: Client, read: Callable[[Request], Awaitable[bytes]]) -> None:
    @app.post("/api/v1/jobs/{name}/dispatch", status_code=201)
    async def dispatch(name: str, request: Request, namespace: str = "default") -> dict[str, Any]:
        """Body: ``{"meta": {..}, "payload": "text", "payload_base64": "..."}``, all of it optional."""
        meta, payload = brought(await read(request))
        made: dict[str, Any] = plain(await client.dispatch_job(name, meta=meta, payload=payload, namespace=namespace))
        return made

    @app.post("/api/v1/jobs/{name}/periodic/force", status_code=201)
    async def force(name: str, namespace: str = "default") -> dict[str, Any]:
        made: dict[str, Any] = plain(await client.force_run(name, namespace=namespace))
        return made

    @app.get("/api/v1/jobs/{name}/{run}")
    async def get_run(name: str, run: str, namespace: str = "default") -> dict[str, Any]:
        job = run_name(name, run)
        found, allocations = await asyncio.gather(
            client.get_job(job, namespace=namespace), client.list_allocations(namespace=namespace, job=job)
        )
        return {**plain(found.job), "allocations": plain(allocations.allocations)}

    @app.get("/api/v1/jobs/{name}/{run}/why")
    async def explain_run(name: str, run: str, namespace: str = "default") -> dict[str, Any]:
        explained: dict[str, Any] = plain(await client.explain_job(run_name(name, run), namespace=namespace))
        return explained

    @app.delete("/api/v1/jobs/{name}/{run}", status_code=204)
    async def remove_run(name: str, run: str, namespace: str = "default") -> Response:
        await client.remove_job(run_name(name, run), namespace=namespace)
        return Response(status_code=204)


def run_name(name: str, run: str) -> str:
    """Raises ``NotFoundError`` where that is no name of a run."""
    if not is_run_suffix(run):
        raise NotFoundError(f"no such page: {run[:60]!r} is no run of {name[:60]!r}")
    return f"{name}/{run}"


def brought(data: bytes) -> tuple[dict[str, str], bytes]:
    """Meta and payload of a dispatch; raises ``InvalidError``."""
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict) or not set(body) <= {"meta", "payload", "payload_base64"}:
        raise InvalidError("expected an object with meta, and payload or payload_base64")
    meta = body.get("meta", {})
    if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
        raise InvalidError("meta: expected an object of texts", field="meta")
    text, encoded = body.get("payload", ""), body.get("payload_base64", "")
    if not isinstance(text, str) or not isinstance(encoded, str) or (text and encoded):
        raise InvalidError("payload: expected a text, or payload_base64 instead", field="payload")
    try:
        return meta, text.encode() or base64.b64decode(encoded, validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise InvalidError("payload: expected text, or payload_base64 in base64", field="payload") from None
