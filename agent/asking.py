"""What an agent asks and tells beside its observations: the digest that was settled for an image, progress of starts.

Owns: waiting for a peer to ask, asking again elsewhere, and how often progress is told. Leaves to others: which peer
that is (``session``). The rule: an older peer knows nothing of either; then every node runs what it finds, as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import structlog

from agent.driver import StartError
from orchestrator.contract import codec
from orchestrator.contract.errors import InvalidError, NotFoundError
from orchestrator.contract.model import AssignmentKey
from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import agent_pb2

CALL_S = 5.0
AGAIN_S = 0.2
PROGRESS_S = 3.0
MAX_TEXT = 500

log = structlog.get_logger("agent.asking")


class Asking:
    """``node_id`` gives this node's id; ``every_s``: progress is told at most so often."""

    def __init__(self, node_id: Callable[[], str], *, every_s: float = PROGRESS_S) -> None:
        self._node_id = node_id
        self._every_s = every_s
        self._stub: Any = None
        self._connected = asyncio.Event()
        self._texts: dict[AssignmentKey, str] = {}
        self._news = asyncio.Event()

    def connect(self, stub: Any) -> None:
        """There is a session with a peer."""
        self._stub = stub
        self._connected.set()

    def disconnect(self) -> None:
        self._stub = None
        self._connected.clear()

    async def settle(self, key: AssignmentKey, version: int, image: str, digest: str) -> str:
        """The digest that all instances of this version run. Waits for a control plane. Raises ``StartError``."""
        request = agent_pb2.PinImageRequest(node_id=self._node_id(), job_version=version, image=image, digest=digest)
        codec.encode(key, request.key)
        while True:
            stub = self._stub
            if stub is None:
                self.tell(key, f"waits for the control plane to settle which {image} its version runs")
                await self._connected.wait()
                continue
            try:
                response = await stub.PinImage(request, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                cause = from_rpc_error(error)
                if cause.reason == "UNIMPLEMENTED":
                    log.info("digest_not_settled", image=image, digest=digest)
                    return digest
                if isinstance(cause, NotFoundError | InvalidError):
                    raise StartError(f"image {image}: {cause.message}") from error
                log.info("settle_again", image=image, error=cause.message)
                await asyncio.sleep(AGAIN_S)
            except asyncio.CancelledError:
                # A session that ends closes its channel, and that cancels the call; it does not mean this task.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                log.info("settle_again", image=image, error="the session ended")
                await asyncio.sleep(AGAIN_S)
            else:
                return str(response.digest)

    def tell(self, key: AssignmentKey, text: str) -> None:
        """How far the start of an allocation has come; the newest text counts."""
        self._texts[key] = text[:MAX_TEXT]
        self._news.set()

    async def keep_telling(self, stub: Any) -> None:
        """One loop of a session: passes texts on, not too often."""
        while True:
            await self._news.wait()
            self._news.clear()
            texts, self._texts = self._texts, {}
            request = agent_pb2.ReportProgressRequest(node_id=self._node_id())
            for key, text in texts.items():
                codec.encode(key, request.progress.add(text=text).key)
            try:
                await stub.ReportProgress(request, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                cause = from_rpc_error(error)
                if cause.reason == "UNIMPLEMENTED":
                    await asyncio.Event().wait()  # an older peer: nobody listens
                log.debug("progress_not_told", error=cause.message)  # the next text makes up for it
            await asyncio.sleep(self._every_s)
