"""Serving logs over a stream that the agent opened: requests come down, data goes up.

Owns: the readers of one stream and the one bounded queue in front of it. Leaves to others: finding and reading output
(``supervisor``, drivers). The rule: a slow reader waits, and only that reader; memory is bounded by the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any

from agent.driver import DriverUnavailableError, LogsGoneError
from agent.supervisor import Supervisor
from orchestrator.contract import codec
from orchestrator.contract.model import AssignmentKey
from orchestrator.contract.v1 import agent_pb2

QUEUE = 64
CHUNK = 128 * 1024


async def serve_logs(stub: Any, node_id: str, supervisor: Supervisor) -> None:
    """Until the peer ends the stream, or the call fails (``AioRpcError``)."""
    call = stub.ServeLogs()
    up: asyncio.Queue[agent_pb2.LogsData] = asyncio.Queue(QUEUE)
    readers: dict[str, asyncio.Task[None]] = {}
    loop = asyncio.get_running_loop()

    async def send() -> None:
        while True:
            await call.write(agent_pb2.LogsUp(data=await up.get()))

    await call.write(
        agent_pb2.LogsUp(hello=agent_pb2.LogsHello(node_id=node_id, workload=supervisor.workload is not None))
    )
    sender = loop.create_task(send())
    try:
        async for down in call:
            if down.HasField("open"):
                stream = down.open.stream_id
                if stream not in readers:
                    readers[stream] = task = loop.create_task(_read(down.open, supervisor, up))
                    task.add_done_callback(functools.partial(_drop, readers, stream))
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


async def _read(wanted: agent_pb2.LogsOpen, supervisor: Supervisor, up: asyncio.Queue[agent_pb2.LogsData]) -> None:
    end = agent_pb2.LogsData(stream_id=wanted.stream_id, task=wanted.task, end=True)
    try:
        key = codec.decode(AssignmentKey, wanted.key)
        if wanted.workload:
            end.data = supervisor.workload_report(key)
            await up.put(end)
            return
        chunks = supervisor.logs(
            key,
            wanted.task,
            previous=wanted.previous,
            follow=wanted.follow,
            tail_lines=wanted.tail_lines,
            offset=wanted.offset,
        )
        async for chunk in chunks:
            for at in range(0, len(chunk.data), CHUNK):
                await up.put(
                    agent_pb2.LogsData(
                        stream_id=wanted.stream_id,
                        data=chunk.data[at : at + CHUNK],
                        offset=chunk.offset + at,
                        task=wanted.task,
                        stderr=chunk.stderr,
                    )
                )
    except LogsGoneError as error:
        end.error, end.error_reason = str(error), "NOT_FOUND"
    except DriverUnavailableError as error:
        end.error, end.error_reason = str(error), "FAILED_PRECONDITION"
    except codec.CodecError as error:
        end.error, end.error_reason = str(error), "INVALID"
    await up.put(end)
