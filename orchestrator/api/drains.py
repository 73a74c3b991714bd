"""``DrainStatus``: what is still on a node, and what it waits for, by the peer that leads.

Owns: taking the view, and asking ``foresight.drains`` off the loop. Leaves to others: draining itself (``control``,
``reconcile``). The rules: nothing is written; many who
watch the same drain cost one look per change of the state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from orchestrator.api.forward import Call
from orchestrator.contract import codec
from orchestrator.contract.answers import DrainStep
from orchestrator.contract.errors import InvalidError, NotFoundError
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.foresight import drains
from orchestrator.replication.cluster_clock import unix_ms
from orchestrator.state.state import State
from orchestrator.state.views import cluster_view

FRESH_MS = 1_000
SEEN_MAX = 100


class Drains:
    """``info`` passes the read barrier that a request asks for; ``resolve_node`` as in ``control``."""

    def __init__(
        self,
        state: Callable[[], State],
        info: Callable[[pb.ReadOptions, Call], Awaitable[pb.ReadInfo]],
        *,
        resolve_node: Callable[[str], str | None],
        clock_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self._state = state
        self._info = info
        self._resolve_node = resolve_node
        self._clock_ms = clock_ms
        self._turn = asyncio.Lock()
        self._seen: dict[str, tuple[int, int, tuple[DrainStep, ...]]] = {}  # by node: index, time, what was left

    async def drain_status(self, request: pb.DrainStatusRequest, call: Call) -> pb.DrainStatusResponse:
        if not request.node:
            raise InvalidError("node: is empty; expected an id, the beginning of one, or a name", field="node")
        read = await self._info(request.read, call)
        state = self._state()
        found = self._resolve_node(request.node)
        node = state.nodes.get(found) if found is not None else None
        if node is None:
            raise NotFoundError(f"there is no node {request.node[:128]!r}; raftsman nodes lists them")
        now_ms = max(self._clock_ms(), state.time_ms)
        response = pb.DrainStatusResponse(
            node_id=node.spec.id,
            node=node.spec.name,
            draining=node.draining,
            deadline_ms=node.drain_deadline_ms,
            now_ms=now_ms,
            read=read,
        )
        if len(state.ledger.live[node.slot]):
            for step in await self._left(node.spec.id):
                codec.encode(step, response.left.add())
        return response

    async def _left(self, node_id: str) -> tuple[DrainStep, ...]:
        async with self._turn:
            state = self._state()
            node, now_ms = state.nodes.get(node_id), max(self._clock_ms(), state.time_ms)
            if node is None:
                return ()
            seen = self._seen.get(node_id)
            if seen is not None and seen[0] == state.index and now_ms - seen[1] < FRESH_MS:
                return seen[2]
            steps = await asyncio.to_thread(drains.left_on, cluster_view(state), node.slot, now_ms)
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
            self._seen[node_id] = (state.index, now_ms, steps)
            return steps
