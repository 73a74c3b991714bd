"""Rollouts over HTTP: promote, pause, resume, rollback, restart.

Owns: these calls. Leaves to others: what they do (the cluster), reading bodies within bounds, errors (``app``).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request

from orchestrator.client.aio import Client
from orchestrator.contract.errors import InvalidError
from orchestrator.contract.plain import plain
from orchestrator.contract.rollouts import RolloutAction


def add_rollouts(app: FastAPI, client: Client, read: Callable[[Request], Awaitable[bytes]]) -> None:
    async def steer(name: str, namespace: str, action: RolloutAction) -> dict[str, Any]:
        done: dict[str, Any] = plain(await client.steer_rollout(name, action, namespace=namespace))
        return done

    @app.post("/api/v1/jobs/{name}/promote")
    async def promote(name: str, namespace: str = "default") -> dict[str, Any]:
        return await steer(name, namespace, RolloutAction.PROMOTE)

    @app.post("/api/v1/jobs/{name}/pause")
    async def pause(name: str, namespace: str = "default") -> dict[str, Any]:
        return await steer(name, namespace, RolloutAction.PAUSE)

    @app.post("/api/v1/jobs/{name}/resume")
    async def resume(name: str, namespace: str = "default") -> dict[str, Any]:
        return await steer(name, namespace, RolloutAction.RESUME)

    @app.post("/api/v1/jobs/{name}/restart")
    async def restart(name: str, namespace: str = "default") -> dict[str, Any]:
        done: dict[str, Any] = plain(await client.restart_job(name, namespace=namespace))
        return done

    @app.post("/api/v1/jobs/{name}/rollback")
    async def rollback(name: str, request: Request, namespace: str = "default") -> dict[str, Any]:
        """Body: ``{"version": N}``, or nothing: the last version that was good, or else the one before."""
        version = wanted_version(await read(request))
        made: dict[str, Any] = plain(await client.rollback_job(name, version, namespace=namespace))
        return made


def wanted_version(data: bytes) -> int:
    """Of a rollback, 0 where none is named; raises ``InvalidError``."""
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict) or not set(body) <= {"version"}:
        raise InvalidError("expected an object with version, or no body")
    version: Any = body.get("version", 0)
    if "version" in body and (type(version) is not int or not 1 <= version < 2**31):
        raise InvalidError("version: expected the number of a version, from 1", field="version")
    return int(version)
