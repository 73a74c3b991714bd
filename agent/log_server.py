"""Serving logs over a stream that the agent opened: requests come down, data goes up.

Owns: the readers of one stream and the one bounded queue in front of it; calls to sessions and questions about usage
come over it as well. Leaves to others: finding and reading output (``supervisor``, drivers), sessions (``sessions``),
measuring (``usage``). The rule: a slow reader waits, and only that reader; memory is bounded by the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from agent.driver import DriverUnavailableError, LogsGoneError
from agent.sessions import SessionServer
from agent.supervisor import Supervisor
from orchestrator.contract import codec
from orchestrator.contract.model import AssignmentKey
from orchestrator.contract.v1 import agent_pb2
from orchestrator.contract.v1.usage_pb2 import NodeUsage

Measuring = Callable[[], Awaitable[NodeUsage]]

QUEUE = 64
CHUNK = 128 * 1024


async def serve_logs(
    stub: Any, node_id: str, supervisor: Supervisor, sessions: SessionServer, usage: Measuring
) -> None:
    """Until the peer ends the stream, or the call fails (``AioRpcError``)."""
    call = stub.ServeLogs()
    up: asyncio.Queue[agent_pb2.LogsUp] = asyncio.Queue(QUEUE)
    readers: dict[str, asyncio.Task[None]] = {}
    loop = asyncio.get_running_loop()

    async def send() -> None:
        while True:
            await call.write(await up.get())

    def begin(name: str, work: Coroutine[Any, Any, None]) -> None:
        if name in readers:
            work.close()
            return
        readers[name] = task = loop.create_task(work)
        task.add_done_callback(functools.partial(_drop, readers, name))

    hello = agent_pb2.LogsHello(node_id=node_id, sessions=True, workload=supervisor.workload is not None)
    await call.write(agent_pb2.LogsUp(hello=hello))
    sender = loop.create_task(send())
    try:
        async for down in call:
            if down.HasField("open"):
                begin(down.open.stream_id, _read(down.open, supervisor, up))
            elif down.HasField("session"):
                begin(down.session.session_id, sessions.join(stub, down.session))
            elif down.HasField("usage"):
                begin(down.usage.request_id, _measure(down.usage.request_id, usage, up))
            elif down.HasField("close"):
                reader = readers.pop(down.close.stream_id, None)
                if reader is not None:
                    reader.cancel()
    finally:
        left = [sender, *readers.values()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        with contextlib.suppress(asyncio.InvalidStateError):
            call.cancel()


def _drop(readers: dict[str, asyncio.Task[None]], stream: str, _task: asyncio.Task[None]) -> None:
    readers.pop(stream, None)


async def _read(wanted: agent_pb2.LogsOpen, supervisor: Supervisor, up: asyncio.Queue[agent_pb2.LogsUp]) -> None:
    end = agent_pb2.LogsData(stream_id=wanted.stream_id, task=wanted.task, end=True)
    try:
        key = codec.decode(AssignmentKey, wanted.key)
        if wanted.workload:
            end.data = supervisor.workload_report(key)
            await up.put(agent_pb2.LogsUp(data=end))
            return
        chunks = supervisor.logs(
            key,
            wanted.task,
            previous=wanted.previous,
            follow=wanted.follow,
            tail_lines=wanted.tail_lines,
            offset=wanted.offset,
            since_ms=wanted.since_ms,
        )
        async for chunk in chunks:
            for at in range(0, len(chunk.data), CHUNK):
                data = agent_pb2.LogsData(
                    stream_id=wanted.stream_id,
                    data=chunk.data[at : at + CHUNK],
                    offset=chunk.offset + at,
                    task=wanted.task,
                    stderr=chunk.stderr,
                    time_ms=chunk.time_ms,
                )
                await up.put(agent_pb2.LogsUp(data=data))
    except LogsGoneError as error:
        end.error, end.error_reason = str(error), "NOT_FOUND"
    except DriverUnavailableError as error:
        end.error, end.error_reason = f"node {supervisor.node_name}: {error}", "FAILED_PRECONDITION"
    except codec.CodecError as error:
        end.error, end.error_reason = str(error), "INVALID"
    await up.put(agent_pb2.LogsUp(data=end))


async def _measure(request_id: str, usage: Measuring, up: asyncio.Queue[agent_pb2.LogsUp]) -> None:
    answer = agent_pb2.LogsUp(usage=agent_pb2.UsageData(request_id=request_id, usage=await usage()))
    await up.put(answer)
