"""``ExplainJob``: why instances of a job have no node, computed afresh by the leader.

Owns: taking the view, and asking ``plan.explain`` off the loop. Leaves to others: the reasons (``plan``). The rule: it
looks at the same view that a round of the leader would, so it never tells another story than the next plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator import plan
from orchestrator.api.forward import Call, read_patience_s
from orchestrator.api.reads import no_job
from orchestrator.api.requests import job_key
from orchestrator.contract import codec
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.log import ReplicatedLog
from orchestrator.replication.propose import unix_ms
from orchestrator.state.state import State
from orchestrator.state.views import cluster_view


class Explain:
    def __init__(
        self, log: ReplicatedLog, state: Callable[[], State], *, clock_ms: Callable[[], int] = unix_ms
    ) -> None:
        self._log = log
        self._state = state
        self._clock_ms = clock_ms

    async def explain_job(self, request: pb.ExplainJobRequest, call: Call) -> pb.ExplainJobResponse:
        namespace, name = job_key(request.job)
        index = await self._log.read_barrier(timeout_s=call.timeout_s(read_patience_s(self._log)))
        state = self._state()
        job = state.find_job(namespace, name)
        if job is None:
            raise no_job(state, namespace, name)
        groups = await asyncio.to_thread(plan.explain, cluster_view(state), job.uid, self._clock_ms())
        response = pb.ExplainJobResponse(read=pb.ReadInfo(index=index, peer_id=self._log.status().peer_id))
        for group in groups:
            codec.encode(group, response.groups.add())
        told = [f"{group.group}: {group.summary}" for group in groups if group.summary != "nothing is missing"]
        response.summary = "; ".join(told) or "nothing of this job waits for a node"
        return response
