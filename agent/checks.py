"""Asks one health check once: http, tcp, grpc or a command in the task.

Owns: the protocols, as little of them as a check needs. Leaves to others: what answers come to (``agent.health``), when
to ask (``agent.prober``). The rule: every question has a deadline, and a bad answer says in one line what was seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import grpc
import grpc.aio

from agent.driver import DriverUnavailableError, RunsInside
from agent.other_network import MACHINE, address_of, open_to
from orchestrator.contract.health import CheckKind, CheckSpec
from orchestrator.contract.model import Assignment

SERVING = 1
"""``grpc.health.v1.HealthCheckResponse.ServingStatus``"""
STATUSES = {0: "it says UNKNOWN", 2: "it says NOT_SERVING", 3: "it says SERVICE_UNKNOWN"}
SAID_MAX = 200


class NoAnswerError(Exception):
    """Nobody could be asked (the engine is down): that says nothing about the task."""


async def ask(check: CheckSpec, assignment: Assignment, host: str, driver: object, run: str) -> str:
    """ "" for a good answer, else what was wrong with it. ``host``: where the node's ports answer, ``MACHINE`` too;
    ``run``: the driver's name of the task's run. Raises ``NoAnswerError``."""
    try:
        async with asyncio.timeout(max(1, check.timeout_ms) / 1000):
            if check.kind is CheckKind.EXEC:
                return await _run(check, driver, run)
            port = port_of(check.port, assignment)
            if port is None:
                return f"the group has no port {check.port!r}"
            if check.kind is CheckKind.TCP:
                return await _connect(host, port)
            if check.kind is CheckKind.HTTP:
                return await _get(check, host, port)
            return await _serving(check, host, port)
    except TimeoutError:
        return f"no answer within {check.timeout_ms} ms"
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__


def port_of(wanted: str, assignment: Assignment) -> int | None:
    """The host port of a label, or of a number (the port in the task); a number that is no port of the group is itself,
    for tasks that share the host's network."""
    for port in assignment.ports:
        if port.label == wanted:
            return port.host_port
    if not wanted.isdigit():
        return None
    number = int(wanted)
    for port in assignment.ports:
        if number in (port.to, port.host_port):
            return port.host_port
    return number


async def _connect(host: str, port: int) -> str:
    _, writer = await open_to(host, port)
    writer.close()
    return ""


async def _get(check: CheckSpec, host: str, port: int) -> str:
    secure = _anybody() if check.tls else None
    reader, writer = await open_to(host, port, secure)
    try:
        named = "127.0.0.1" if host == MACHINE else host
        headers = {"host": f"{named}:{port}", "user-agent": "raftsman-check", "accept": "*/*", "connection": "close"}
        headers |= {name.lower(): value for name, value in check.headers}
        lines = [f"GET {check.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))
        await writer.drain()
        first = await reader.readline()
    except ValueError:
        return "no HTTP: its first line has no end"
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
    words = first.decode("latin-1").split(None, 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        return "no HTTP" if first else "closed without an answer"
    return "" if 200 <= int(words[1]) < 400 else f"status {words[1]}"


def _anybody() -> ssl.SSLContext:
    """A task's own certificate is for its clients: a check is about life, not identity."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _serving(check: CheckSpec, host: str, port: int) -> str:
    """By hand: the request has one string and the answer one number."""
    service = check.service.encode()
    request = (b"\x0a" + bytes([len(service)]) + service) if service else b""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with address_of(host, port) as address, grpc.aio.insecure_channel(address, options=options) as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check", lambda data: data, lambda data: data)
        try:
            answer: bytes = await call(request)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details() or ''}"[:SAID_MAX].rstrip(": ")
    status = answer[1] if len(answer) >= 2 and answer[0] == 0x08 else 0
    return "" if status == SERVING else STATUSES.get(status, f"serving status {status}")


async def _run(check: CheckSpec, driver: object, run: str) -> str:
    if not isinstance(driver, RunsInside):
        return "this node's driver runs no commands in tasks"
    try:
        ran = await driver.run_in(run, check.command, timeout_ms=check.timeout_ms)
    except DriverUnavailableError as error:
        raise NoAnswerError(str(error)) from error
    if ran.code == 0:
        return ""
    said = " ".join(ran.output.split())[:SAID_MAX]
    if ran.code < 0 and said:  # it never ran
        return said
    return f"exit code {ran.code}" + (f": {said}" if said else "")
