"""``Health``: whether a drilled cluster is whole, as a client sees it, and where its service answers.

Owns: what "whole" means, and aiming the HTTP load at what runs. Leaves to others: breaking (``drill_kind``), rounds
(``drill``). The rule: it waits for conditions and says which one did not come true in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from orchestrator.client.aio import Client
from orchestrator.contract.errors import PreconditionError, RaftsmanError, TimeoutError_
from orchestrator.contract.model import Allocation, NodeStatus
from orchestrator.ops.drill_jobs import Workload, address_of, running
from orchestrator.ops.drill_target import Target
from orchestrator.ops.drill_watch import HttpLoad
from orchestrator.ops.http import answered

STEP_TIMEOUT_S = 60.0
POLL_S = 0.05
HASH_TRIES = 6


class Health:
    """Of ``target``, which runs ``count`` instances of the job ``service`` under ``load``."""

    def __init__(
        self, client: Client, target: Target, workload: Workload, load: HttpLoad, *, service: str, count: int
    ) -> None:
        self._client, self._target, self._workload, self._load = client, target, workload, load
        self._service, self._count = service, count
        self.service_runs: list[Allocation] = []
        """The instances that ran when the cluster was whole last."""

    async def whole(self) -> None:
        """Every peer follows, every node is ready, every instance of the service runs and answers; aims the load.

        Raises ``TimeoutError_`` with what is missing, as the others here do.
        """
        await self._until_none(self._missing)

    async def peers_back(self) -> None:
        """Every peer leads or follows, with a vote."""
        await self._until_none(self._missing_peers)

    async def same_state(self) -> Mapping[str, str]:
        """Each peer's state hash at one index that none has reached yet: each answers when it is exactly there."""
        for attempt in range(HASH_TRIES):
            index = (await self._client.cluster_status()).read.index + 20 * 2**attempt
            names = self._target.peer_names()
            calls = [self._client.state_hash(at_index=index, peer_id=name) for name in names]
            try:
                hashes = await asyncio.gather(*calls)
            except RaftsmanError as error:
                problem = error.message  # a peer was quicker: aim further ahead
                continue
            return {answer.peer_id: answer.hash for answer in hashes}
        raise TimeoutError_(f"the peers' state hashes cannot be compared: {problem}")

    def aim(self, without: str = "") -> None:
        """The load at what ran when the cluster was whole last, but nothing on the node named ``without``."""
        if self._workload.answers_http:
            self._load.aim(address_of(run) for run in self.service_runs if run.node_name != without)

    def victim(self) -> str:
        """The agent that runs most of the service."""
        names = [run.node_name for run in self.service_runs]
        known = [name for name in self._target.agent_names() if name in names]
        if not known:
            raise PreconditionError("no agent that this drill can reach runs an instance of its service")
        return max(known, key=names.count)

    async def _until_none(self, missing_now: Callable[[], Coroutine[Any, Any, str]]) -> None:
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while True:
            try:
                missing = await missing_now()
            except RaftsmanError as error:
                missing = error.message
            if not missing:
                return
            if time.monotonic() > deadline:
                raise TimeoutError_(f"the cluster is not whole again {STEP_TIMEOUT_S:g} s after the strike: {missing}")
            await asyncio.sleep(POLL_S)

    async def _missing_peers(self) -> str:
        status = await self._client.at_most(5.0).cluster_status()
        for peer in status.peers:
            if peer.role not in ("leader", "follower") or not peer.connected or not peer.voter:
                words = self._target.last_words(peer.id)
                said = f" and has ended: {words}" if words else ""
                return f"peer {peer.id} is {peer.role}{'' if peer.voter else ' without a vote'}{said}"
        return ""

    async def _missing(self) -> str:
        if missing := await self._missing_peers():
            return missing
        client = self._client.at_most(5.0)
        nodes = {node.spec.name: node for node in (await client.list_nodes()).nodes}
        for name in self._target.agent_names():
            node = nodes.get(name)
            if node is None or node.status is not NodeStatus.READY:
                return f"node {name} is {node.status.name.lower() if node else 'unknown'}"
        runs = running((await client.list_allocations(job=self._service)).allocations)
        if len(runs) != self._count:
            return f"{len(runs)} of {self._count} instances of the service run"
        if self._workload.answers_http:
            for run in runs:
                if address_of(run) not in self._load.targets:
                    await answered(address_of(run), 10.0)
        self.service_runs = runs
        self.aim()
        return ""
