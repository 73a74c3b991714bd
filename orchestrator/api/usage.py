"""``GetUsage``: what nodes, tasks and devices use now, asked of the agents when somebody wants to know.

Owns: asking many agents at once, each for a bounded time, and saying of whom nothing is known and why. Leaves to
others: measuring (the agents), the streams (``logs.LogHub``). The rule: nothing is measured or kept while nobody asks,
so it costs neither the log nor the heartbeats anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator.api.forward import Call
from orchestrator.api.logs import AGENT_WAIT_S, LogHub
from orchestrator.contract.errors import NotFoundError, PreconditionError
from orchestrator.contract.model import NodeStatus
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.state.model import Node
from orchestrator.state.state import State

ASK_S = 2.0
AT_ONCE = 64


class Usages:
    """``resolve_node``: an id, unique prefix of one or unique name -> a node id, or None."""

    def __init__(self, hub: LogHub, state: Callable[[], State], *, resolve_node: Callable[[str], str | None]) -> None:
        self._hub = hub
        self._state = state
        self._resolve_node = resolve_node
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def get_usage(self, request: pb.GetUsageRequest, call: Call) -> pb.GetUsageResponse:
        nodes = list(self._state().nodes.values())
        if request.node:
            found = self._resolve_node(request.node)
            nodes = [node for node in nodes if node.spec.id == found]
            if not nodes:
                raise NotFoundError(f"there is no node {request.node[:128]!r}; raftsman nodes lists them")
        nodes.sort(key=lambda node: (node.spec.name, node.spec.id))
        patience_s = min(ASK_S, call.timeout_s(ASK_S))
        asked = await asyncio.gather(*(self._ask(node, patience_s) for node in nodes))
        response = pb.GetUsageResponse()
        for answer in asked:
            if isinstance(answer, pb.UnknownUsage):
                response.unknown.append(answer)
            else:
                response.nodes.extend(answer.nodes)
        return response

    async def _ask(self, node: Node, patience_s: float) -> pb.GetUsageResponse | pb.UnknownUsage:
        spec = node.spec
        why = "it is lost"
        if node.status is not NodeStatus.LOST:
            try:
                async with self._turns, asyncio.timeout(patience_s):
                    if not await self._hub.wait_for(spec.id, min(patience_s, AGENT_WAIT_S) / 2):
                        why = "its agent has no stream to this peer (yet): ask again"
                    else:
                        return pb.GetUsageResponse(nodes=[await self._hub.usage(spec.id)])
            except TimeoutError:
                why = f"its agent did not answer within {patience_s:.1f} s"
            except PreconditionError as error:
                why = error.message
        return pb.UnknownUsage(node_id=spec.id, node=spec.name, why=why)
