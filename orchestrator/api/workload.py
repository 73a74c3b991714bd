"""``GetWorkload``: what an allocation's tasks said of themselves, from the agent that they said it to.

Owns: asking over the stream that agents opened for logs, wherever it ends. Leaves to others: finding that stream
(``logs``), remembering (the agent's ``workload``). The rule: it is never in the log; it is as of now, or not there.
"""

from __future__ import annotations

from orchestrator.api.forward import Call
from orchestrator.api.logs import Logs
from orchestrator.contract.errors import PreconditionError
from orchestrator.contract.v1 import agent_pb2
from orchestrator.contract.v1 import control_pb2 as pb


class Workloads:
    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    async def get_workload(self, request: pb.GetWorkloadRequest, call: Call) -> pb.GetWorkloadResponse:
        """Raises ``NotFoundError`` for what is not known, ``PreconditionError`` while its agent cannot be reached."""
        asked = pb.LogsRequest(id=request.id, attempt=request.attempt, offset=-1, workload=True)
        async for chunk in self._logs.logs(asked, call):
            assert isinstance(chunk, pb.LogsChunk)
            report = agent_pb2.WorkloadReport.FromString(chunk.data)
            return pb.GetWorkloadResponse(tasks=report.tasks, attempt=chunk.attempt)
        raise PreconditionError("its agent answered nothing: it may have stopped just now")
