"""``DrainStatus``: what is still on a node, and what it waits for, by the peer that leads.

Owns: taking the view, and asking ``foresight.drains`` off the loop. Leaves to others: draining itself (``control``,
``reconcile``). The rule: nothing is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from orchestrator.api.forward import Call
from orchestrator.contract import codec
from orchestrator.contract.errors import InvalidError, NotFoundError
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.foresight import drains
from orchestrator.replication.propose import unix_ms
from orchestrator.state.state import State
from orchestrator.state.views import cluster_view


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
            for step in await asyncio.to_thread(drains.left_on, cluster_view(state), node.slot, now_ms):
                codec.encode(step, response.left.add())
        return response
