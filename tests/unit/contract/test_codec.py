"""Dataclasses to messages and back: the one codec that every edge uses."""

from __future__ import annotations

import dataclasses
import enum
import typing

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract import codec, model
from orchestrator.contract.codec import CodecError
from orchestrator.contract.v1 import agent_pb2, control_pb2, types_pb2
from tests.effort import examples

PAIRS: list[tuple[type, type[Message]]] = [
    (model.JobSpec, types_pb2.JobSpec),
    (model.NodeSpec, types_pb2.NodeSpec),
    (model.Allocation, types_pb2.Allocation),
    (model.Assignment, agent_pb2.Assignment),
    (model.AssignmentKey, agent_pb2.AssignmentKey),
    (model.Observation, agent_pb2.Observation),
    (model.Variable, control_pb2.Variable),
    (model.Event, control_pb2.Event),
]
_INTS = st.integers(-(2**63), 2**63 - 1)
_TEXT = st.text(max_size=5)


def values(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Any value of a field's type."""
    if hint == model.StrMap:
        return st.dictionaries(_TEXT, _TEXT, max_size=3).map(model.str_map)
    if hint == model.IntMap:
        return st.dictionaries(_TEXT, _INTS, max_size=3).map(lambda pairs: tuple(sorted(pairs.items())))
    origin = typing.get_origin(hint)
    if origin is tuple:
        return st.lists(values(typing.get_args(hint)[0]), max_size=2).map(tuple)
    if origin is not None:
        return st.none() | values(next(arg for arg in typing.get_args(hint) if arg is not type(None)))
    if dataclasses.is_dataclass(hint):
        return instances(typing.cast(type, hint))
    if isinstance(hint, type) and issubclass(hint, enum.IntEnum):
        return st.sampled_from(list(hint))
    return {int: _INTS, str: _TEXT, bool: st.booleans(), bytes: st.binary(max_size=5)}[hint]


def instances(kind: type) -> st.SearchStrategy[typing.Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: values(hints[field.name]) for field in dataclasses.fields(kind)})


@pytest.mark.parametrize(("kind", "message"), PAIRS, ids=[kind.__name__ for kind, _ in PAIRS])
@given(data=st.data())
@settings(max_examples=examples(25), deadline=None)
def test_what_goes_in_comes_out(kind: type, message: type[Message], data: st.DataObject) -> None:
    value = data.draw(instances(kind))
    encoded = codec.encode(value, message())
    assert codec.decode(kind, message.FromString(encoded.SerializeToString())) == value


@pytest.mark.parametrize(("kind", "message"), PAIRS, ids=[kind.__name__ for kind, _ in PAIRS])
def test_dataclass_and_message_have_the_same_fields(kind: type, message: type[Message]) -> None:
    assert {field.name for field in dataclasses.fields(kind)} == set(message.DESCRIPTOR.fields_by_name)


def test_an_unset_enumeration_gets_the_dataclasss_default() -> None:
    assert codec.decode(model.JobSpec, types_pb2.JobSpec(name="a")).type is model.JobType.SERVICE


def test_an_unset_enumeration_without_a_default_is_refused_by_name() -> None:
    message = types_pb2.JobSpec(constraints=[types_pb2.Constraint(attribute="zone")])
    with pytest.raises(CodecError, match=r"^constraints\[0\]\.operator"):
        codec.decode(model.JobSpec, message)


def test_an_unknown_number_is_refused_by_the_fields_path_with_those_that_are_known() -> None:
    ports = [types_pb2.PortSpec(), types_pb2.PortSpec(protocol=9)]  # type: ignore[arg-type]
    message = types_pb2.JobSpec(groups=[types_pb2.GroupSpec(), types_pb2.GroupSpec(ports=ports)])
    with pytest.raises(CodecError, match=r"^groups\[1\]\.ports\[1\]\.protocol: expected TCP \(1\), UDP \(2\); got 9$"):
        codec.decode(model.JobSpec, message)


def test_a_missing_part_without_a_default_is_refused_by_name() -> None:
    with pytest.raises(CodecError, match=r"^id: is missing$"):
        codec.decode(model.AssignmentKey, agent_pb2.AssignmentKey(job_uid="u"))
    report = agent_pb2.ReportStatusesRequest(observations=[agent_pb2.Observation()])
    with pytest.raises(CodecError, match=r"^key: is missing$"):
        codec.decode(model.Observation, report.observations[0])


def test_an_absent_optional_part_is_none_and_a_present_empty_one_is_not() -> None:
    assert codec.decode(model.Resources, types_pb2.Resources()).gpus is None
    message = types_pb2.Resources()
    message.gpus.SetInParent()
    assert codec.decode(model.Resources, message).gpus == model.DeviceRequest(count=0, gpu_millis=0)


def test_maps_come_out_sorted() -> None:
    message = types_pb2.NodeSpec(labels={"b": "2", "a": "1"})
    assert codec.decode(model.NodeSpec, message).labels == (("a", "1"), ("b", "2"))


def test_a_type_that_no_message_can_carry_is_refused() -> None:
    @dataclasses.dataclass
    class Strange:
        name: set[str]

    with pytest.raises(CodecError, match="no converter"):
        codec.decode(Strange, types_pb2.JobSpec())
