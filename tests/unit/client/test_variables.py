"""Many writes in one call: what goes out and what comes back."""

from __future__ import annotations

from orchestrator.client import calls
from orchestrator.contract.model import VariableWrite
from orchestrator.contract.v1 import control_pb2 as pb


def test_each_write_says_what_it_expects() -> None:
    writes = [
        VariableWrite(name="put", value="1"),
        VariableWrite(name="create", value="2", absent=True),
        VariableWrite(name="cas", value="3", expect=""),
        VariableWrite(name="delete"),
    ]
    call = calls.put_variables("space", writes, "r1")
    assert isinstance(call.request, pb.PutVariablesRequest)
    assert (call.method, call.request_id, call.request.namespace) == ("PutVariables", "r1", "space")
    put, create, cas, delete = call.request.writes
    assert (put.value, put.absent, put.HasField("expect")) == ("1", False, False)
    assert create.absent
    assert (cas.HasField("expect"), cas.expect) == (True, "")
    assert not delete.HasField("value")


def test_the_answers_come_in_order() -> None:
    call = calls.put_variables("space", [VariableWrite(name="a", value="1"), VariableWrite(name="a")], "r1")
    answer = pb.PutVariablesResponse(
        answers=[{"index": 7, "hit": True, "variable": {"name": "a", "value": "1"}}, {"index": 8}]
    )
    first, second = call.decode(answer)
    assert first.variable is not None
    assert (first.index, first.hit, first.variable.value) == (7, True, "1")
    assert (second.index, second.hit, second.variable) == (8, False, None)
