"""A whole state as bytes: in small parts, the same on every peer, and refused when anything is wrong with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.codec import CodecError
from orchestrator.contract.errors import CorruptError
from orchestrator.contract.model import AllocState, Limits, Taint, TaintEffect
from orchestrator.replication import snapshot_codec
from orchestrator.replication.machine import ClusterMachine
from orchestrator.replication.snapshot_codec import FORMAT, MAGIC, PART_BYTES, decode_snapshot, encode_snapshot
from orchestrator.replication.v1 import log_pb2
from orchestrator.state import commands as cmd
from orchestrator.state.allocations import STORED
from orchestrator.state.answers import Answers, Key, Remembered, read
from orchestrator.state.events import EventLog
from orchestrator.state.events import read as read_event
from orchestrator.state.packed import Room
from orchestrator.state.snapshot import Image, capture, image_hash
from tests.effort import examples, places
from tests.unit.replication.test_codec import SPEC
from tests.unit.state.kit import Kit, Placement, group, job, node


def busy() -> Kit:
    kit = Kit()
    kit.register(node("n1", gpus=2))
    kit.register(node("n2"))
    kit.do(cmd.SubmitJobs(jobs=(cmd.JobSubmission(spec=SPEC, uid="u"),)), request_id="r0")
    kit.do(cmd.SubmitJobs(jobs=(cmd.JobSubmission(spec=job("a", group(ports=(0,))), uid="v"),)), request_id="r1")
    kit.place("a/api/0", "n1", ports=(80,))
    kit.observe("a/api/0", AllocState.FAILED, reason="exit 1", exit_code=1)
    kit.do(
        kit.make_plan(Placement("a/api/0", "n2", ports=(81,)), Placement("a/api/0", "n2", ports=(81,))), request_id="r2"
    )
    kit.do(cmd.WriteVariable(namespace="default", name="v", value="x"), request_id="r3")
    kit.do(cmd.WriteVariable(namespace="default", name="w", value=None), request_id="r4")
    kit.do(cmd.StopJob(namespace="default", name="nobody"), request_id="r5")
    kit.do(cmd.CordonNode(node_id="n2", cordoned=True), request_id="r6")
    kit.ok(cmd.TaintNode(node_id="n2", put=(Taint(key="gpu", effect=TaintEffect.NO_EXECUTE),)))
    kit.ok(cmd.AdmitPeers(cluster_id="c", incarnations=(("a", "1"), ("b", "2"))))
    kit.ok(cmd.ChangePeers(expected_epoch=1, addresses=(("a", "h:1"),), incarnations=(("a", "1"),)))
    kit.ok(cmd.MarkNodes(lost=(cmd.NodeMark(node_id="n1", register_index=1),)))
    kit.ok(cmd.ForgetNode(node_id="n1"))
    return kit


def read_all(image: Image) -> list[tuple[Key, Remembered]]:
    return [(key, read(kept)) for key, kept in image.answers]


def encoded(image: Image) -> bytes:
    return b"".join(encode_snapshot(image))


def whole(data: bytes) -> log_pb2.Snapshot:
    """All parts merged by hand, as format 1 had it."""
    merged = log_pb2.Snapshot()
    columns: dict[str, bytes] = {}
    for part in log_pb2.SnapshotParts.FromString(data).parts:
        for name, column in part.table.columns.items():
            columns[name] = columns.get(name, b"") + column
        part.table.ClearField("columns")
        merged.MergeFrom(part)
    for name, column in columns.items():
        merged.table.columns[name] = column
    merged.magic, merged.format = MAGIC, 1
    return merged


def test_a_snapshot_comes_out_as_it_went_in_and_equal_states_have_equal_bytes() -> None:
    image = capture(busy().state)
    data = encoded(image)
    again = decode_snapshot(data)
    assert image_hash(again) == image_hash(image)
    assert encoded(again) == data
    assert encoded(capture(busy().state)) == data
    assert read_all(again) == read_all(image)
    assert again.forgotten


def test_answers_of_a_snapshot_weigh_and_answer_as_those_that_were_given() -> None:
    """They are made when somebody asks; what is forgotten, and when, must not depend on who was restarted."""
    kit = busy()
    kit.do(cmd.WriteVariable(namespace="default", name="v", value=None), request_id="q1")
    kit.do(cmd.WriteVariable(namespace="default", name="v", value=None), request_id="q2")
    image = capture(kit.state)
    again = decode_snapshot(encoded(image))
    kinds = {type(getattr(one.outcome, "answer", one.outcome)) for _, one in read_all(image)}
    assert kinds >= {cmd.WriteAnswer, cmd.JobsAnswer, cmd.VariableAnswer, cmd.PlanAnswer, cmd.Rejected}
    made, unread = Answers(read_all(image)), Answers(again.answers, counted=again.answer_bytes)
    assert not any(isinstance(kept, Remembered) for _, kept in again.answers)
    assert made.bytes == unread.bytes == Answers(again.answers).bytes
    for key, remembered in read_all(image):
        assert unread.get(key) == remembered
    sizes = []
    for answers in (made, unread):
        left: list[int] = []
        for limit in range(10_000, 0, -10):
            answers.expire(0, Limits(answer_bytes=limit))
            left.append(len(answers))
        sizes.append(left)
    assert sizes[0] == sizes[1]
    assert len(set(sizes[0])) > 3


def test_events_of_a_snapshot_are_told_and_dropped_as_those_that_happened_here() -> None:
    """They are made when somebody asks, and that may be after some of them were dropped."""
    kit = busy()
    image = capture(kit.state)
    again = decode_snapshot(encoded(image))
    assert len(again.events) > 5
    assert not any(isinstance(kept, tuple) for kept in again.events)
    here, there = (EventLog(5, events, image.events_dropped_index) for events in (image.events, again.events))
    for number in range(1, 8):
        for log in (here, there):
            log.begin(image.index + number, image.time_ms)
            log.emit("limits.changed", message=str(number))
            log.trim()
        assert here.dropped_index == there.dropped_index > image.events_dropped_index
        assert here.last_index == there.last_index
        assert here.after(here.dropped_index) == there.after(here.dropped_index) != []
    assert here.records() == there.records()


def test_answers_of_a_snapshot_expire_by_their_time() -> None:
    kit = busy()
    kit.now_ms += 5_000
    kit.do(cmd.WriteVariable(namespace="default", name="late", value="x"), request_id="late")
    image = capture(kit.state)
    limits = Limits()
    again = Answers(decode_snapshot(encoded(image)).answers)
    late_ms = read_all(image)[-1][1].time_ms
    assert again.expire(late_ms + limits.answer_age_ms, limits) == len(image.answers) - 1
    assert again.get(("client:a", "late")) is not None


def test_an_answer_without_an_outcome_is_refused_at_once() -> None:
    head = log_pb2.Snapshot(index=1)
    head.table.rows = 0
    head.table.SetInParent()
    head.answers.add(identity="i", request_id="r")
    head.magic, head.format = MAGIC, 1
    with pytest.raises(CodecError, match="one has no outcome"):
        decode_snapshot(head.SerializeToString())


def test_a_snapshot_of_format_1_is_still_read() -> None:
    image = capture(busy().state)
    old = whole(encoded(image)).SerializeToString(deterministic=True)
    assert image_hash(decode_snapshot(old)) == image_hash(image)


def test_no_part_is_much_larger_than_it_should_be_and_order_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes or reads a part keeps every other thread waiting."""
    monkeypatch.setattr(snapshot_codec, "PART_BYTES", 300)
    kit = busy()
    for number in range(50):
        kit.do(cmd.WriteVariable(namespace="default", name=f"n{number}", value="x" * 50), request_id=f"q{number}")
    kit.register(node("n3"))
    kit.submit(job("many", group(name="g", count=200, cpu=1, memory=1)))
    kit.ok(kit.make_plan(*(Placement(f"many/g/{ordinal}", "n3") for ordinal in range(100))))
    image = capture(kit.state)
    assert len(image.columns["job"]) * 8 > 300
    parts = log_pb2.SnapshotParts.FromString(encoded(image)).parts
    assert len(parts) > 60
    assert max(part.ByteSize() for part in parts) < 2_000
    again = decode_snapshot(encoded(image))
    assert read_all(again) == read_all(image)
    assert list(map(read_event, again.events)) == image.events
    assert image_hash(again) == image_hash(image)


def test_the_columns_of_a_large_table_are_cut_into_parts() -> None:
    rows = PART_BYTES // 4 + 1
    columns = {name: np.arange(rows).astype(dtype) for name, dtype in STORED}
    image = replace(capture(Kit().state), columns=columns)
    data = encoded(image)
    assert max(part.ByteSize() for part in log_pb2.SnapshotParts.FromString(data).parts) < PART_BYTES + 200
    again = decode_snapshot(data)
    for name, _ in STORED:
        assert np.array_equal(again.columns[name], columns[name])


def test_a_copy_into_prepared_memory_is_the_same_copy() -> None:
    state = busy().state
    plain = {name: getattr(state.table, name)[: state.table.high].copy() for name, _ in STORED}
    wanted = image_hash(replace(capture(state), columns=plain))
    for room in (None, Room(), Room(100), Room(100_000)):
        assert image_hash(capture(state, room)) == wanted


@pytest.mark.parametrize("field", ["jobs", "nodes", "groups", "table"])
def test_a_snapshot_that_lacks_something_is_refused_and_the_state_stays(field: str) -> None:
    kit = busy()
    message = whole(encoded(capture(kit.state)))
    message.ClearField(field)
    machine = ClusterMachine()
    machine.state = kit.state
    with pytest.raises(CorruptError, match=r"holds no state .*raftsman peers reset"):
        machine.restore(message.SerializeToString(deterministic=True))
    assert machine.state is kit.state


@pytest.mark.parametrize("length", [-4, -1, 1, 4])
def test_a_snapshot_with_a_short_or_long_column_is_refused(length: int) -> None:
    message = whole(encoded(capture(busy().state)))
    column = message.table.columns["attempt"]
    message.table.columns["attempt"] = (column + bytes(4))[: len(column) + length]
    with pytest.raises(CodecError, match="attempt"):
        decode_snapshot(message.SerializeToString(deterministic=True))


def test_more_rows_than_could_be_in_it_are_refused_before_memory_is_taken_for_them() -> None:
    message = whole(encoded(capture(busy().state)))
    message.table.rows = 2**40
    with pytest.raises(CodecError, match="rows in"):
        decode_snapshot(message.SerializeToString(deterministic=True))


@pytest.mark.parametrize("field", ["ports", "reasons"])
def test_what_is_said_of_a_row_that_is_not_in_use_is_refused(field: str) -> None:
    message = whole(encoded(capture(busy().state)))
    getattr(message.table, field)[0].row = 1_000
    with pytest.raises(CodecError, match="row 1000 is not in use"):
        decode_snapshot(message.SerializeToString(deterministic=True))


def test_a_state_with_a_sick_device_is_written_so_that_older_peers_refuse_it() -> None:
    kit = busy()
    spec = kit.state.nodes["n2"].spec
    kit.register(replace(spec, sick_devices=(("GPU-1", "XID 79"),)))
    data = encoded(capture(kit.state))
    assert log_pb2.SnapshotParts.FromString(data).format == 5
    assert decode_snapshot(data).nodes[kit.state.nodes["n2"].slot].spec.sick_devices == (("GPU-1", "XID 79"),)


def test_a_state_with_a_node_that_resizes_processes_is_written_so_that_older_peers_refuse_it() -> None:
    kit = busy()
    kit.register(replace(kit.state.nodes["n2"].spec, resizes_processes=True))
    data = encoded(capture(kit.state))
    assert log_pb2.SnapshotParts.FromString(data).format == 5
    assert decode_snapshot(data).nodes[kit.state.nodes["n2"].slot].spec.resizes_processes


def test_a_snapshot_of_a_newer_format_is_refused() -> None:
    message = log_pb2.SnapshotParts(magic=MAGIC, format=FORMAT + 1)
    with pytest.raises(CorruptError, match="newer version"):
        ClusterMachine().restore(message.SerializeToString())


def test_a_snapshot_cut_anywhere_is_refused() -> None:
    data = encoded(capture(busy().state))
    for size in places(range(len(data))):
        with pytest.raises(CorruptError):
            ClusterMachine().restore(data[:size])


@given(st.binary(max_size=100))
@settings(max_examples=examples(200), deadline=None)
def test_any_bytes_are_no_snapshot(data: bytes) -> None:
    with pytest.raises(CorruptError):
        ClusterMachine().restore(data)


@given(st.binary(max_size=100))
@settings(max_examples=examples(200), deadline=None)
def test_a_true_beginning_makes_no_snapshot_of_any_bytes(data: bytes) -> None:
    with pytest.raises(CorruptError):
        ClusterMachine().restore(log_pb2.SnapshotParts(magic=MAGIC, format=FORMAT).SerializeToString() + data)


def test_a_snapshot_of_before_there_were_moves_is_read_as_without_any() -> None:
    kit = busy()
    older = log_pb2.SnapshotParts.FromString(encoded(capture(kit.state)))
    for part in older.parts:
        part.table.columns.pop("moved", None)
    image = decode_snapshot(older.SerializeToString(deterministic=True))
    assert image_hash(image) == image_hash(capture(kit.state))
    assert len(image.columns["moved"]) == kit.state.table.high
    for part in older.parts:
        part.table.columns.pop("failures", None)
    with pytest.raises(CodecError, match="failures has 0 of"):
        decode_snapshot(older.SerializeToString(deterministic=True))
