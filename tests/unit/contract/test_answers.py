"""Every answer mirrors its message of ``control.proto``, field by field."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.contract import answers, codec, foresight, model
from orchestrator.contract.v1 import control_pb2

PAIRS: dict[type, type] = {
    answers.ReadInfo: control_pb2.ReadInfo,
    answers.WriteResult: control_pb2.WriteResponse,
    answers.SubmitResult: control_pb2.SubmitJobResponse,
    answers.SubmitManyResult: control_pb2.SubmitJobsResponse,
    answers.GroupStatus: control_pb2.GroupStatus,
    answers.JobStatus: control_pb2.JobStatus,
    answers.JobAnswer: control_pb2.GetJobResponse,
    answers.JobList: control_pb2.ListJobsResponse,
    answers.Rejection: control_pb2.Rejection,
    answers.GroupExplanation: control_pb2.GroupExplanation,
    answers.Explanation: control_pb2.ExplainJobResponse,
    answers.AllocationAnswer: control_pb2.GetAllocationResponse,
    answers.AllocationList: control_pb2.ListAllocationsResponse,
    answers.LogsChunk: control_pb2.LogsChunk,
    answers.DeviceUse: control_pb2.DeviceUse,
    answers.NodeInfo: control_pb2.NodeInfo,
    answers.NodeList: control_pb2.ListNodesResponse,
    answers.PeerInfo: control_pb2.PeerInfo,
    answers.ClusterStatus: control_pb2.ClusterStatusResponse,
    answers.StateHash: control_pb2.StateHashResponse,
    answers.VariableResult: control_pb2.VariableResponse,
    answers.VariableList: control_pb2.ListVariablesResponse,
    answers.RemedyStep: control_pb2.RemedyStep,
    foresight.Change: control_pb2.Change,
    foresight.Outcome: control_pb2.Outcome,
    foresight.PendingGroup: control_pb2.PendingGroup,
    foresight.WhatIf: control_pb2.WhatIfResponse,
    foresight.FieldChange: control_pb2.FieldChange,
    foresight.JobPlan: control_pb2.PlanJobResponse,
    foresight.Balance: control_pb2.Balance,
    foresight.Move: control_pb2.Move,
    foresight.Rebalance: control_pb2.RebalanceResponse,
    foresight.KnownSpan: control_pb2.KnownSpan,
    foresight.PastExplanation: control_pb2.ExplainPastResponse,
}


@pytest.mark.parametrize(("kind", "message"), PAIRS.items(), ids=lambda item: item.__name__)
def test_fields_equal_those_of_the_message(kind: type, message: type) -> None:
    ours = {field.name for field in dataclasses.fields(kind)}
    assert ours == {field.name for field in message.DESCRIPTOR.fields}  # type: ignore[attr-defined]


def test_a_node_survives_the_round_trip() -> None:
    node = answers.NodeInfo(
        spec=model.NodeSpec(id="n1", name="one", labels=(("zone", "eu"),)),
        status=model.NodeStatus.LOST,
        devices=(answers.DeviceUse(device=model.Device(id="fake-0"), used_millis=500),),
        used=model.Resources(cpu_millis=5),
        status_reason="silent for 15 s",
    )
    assert codec.decode(answers.NodeInfo, codec.encode(node, control_pb2.NodeInfo())) == node
