"""Snapshots as bytes: what a peer stores of its whole state, and what peers hand to each other.

Owns: the layout (``SnapshotParts`` in ``log.proto``) and reading older ones. Leaves to others: commands (``codec``),
meaning (``state``), checksums of files (``snapshots``) and of what is sent (``snapshotting``). The rules: decoding
checks everything and raises nothing but ``CodecError``, and ``FutureFormatError`` for a newer format; and both ways go
by parts of some hundred kilobytes, because one call of protobuf or numpy on hundreds of megabytes would keep the
interpreter, and with it the loop and its heartbeats, from running. Both may run in a thread.

Equal states give equal bytes: maps are serialized in order, tables are written by slot, row or name.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import repeat
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError, Message

from orchestrator.contract.codec import CodecError, decode, encode
from orchestrator.contract.model import Event, JobSpec, Limits, Namespace, Revision, Settings, Variable
from orchestrator.contract.rollouts import Rollout
from orchestrator.replication.codec import of_format_4
from orchestrator.replication.log import FutureFormatError
from orchestrator.replication.v1 import log_pb2
from orchestrator.state import commands
from orchestrator.state.allocations import STORED, StoredColumns
from orchestrator.state.answers import Kept, Key, Remembered, read
from orchestrator.state.batch import has_batch
from orchestrator.state.commands import Answer, Applied, Rejected
from orchestrator.state.events import Kept as KeptEvent
from orchestrator.state.events import Record
from orchestrator.state.events import read as read_event
from orchestrator.state.model import ImagePin, Job, Node, Schedule
from orchestrator.state.ordinals import GroupImage
from orchestrator.state.snapshot import Image
from orchestrator.state.typical import Shape

MAGIC = 0x534D5352  # "RSMS" in the file, little-endian
FORMAT = 5
"""Raised when a peer of today could misread what is written; additions alone do not raise it. What an older one reads
rightly is still written with the older number. 2: in parts. 3: of a configuration epoch after the first. 4:
with namespaces or settings. 5: with checked rows, jobs that remember what they were, sick devices, settled digests,
deadlines of drains, or jobs with settings of containers."""
PART_BYTES = 256 * 1024
"""A part is ended when it has so many; one that begins with a large record (a job of 1 MiB) is larger."""

ADDED = frozenset({"moved"})
"""Columns that an older snapshot lacks: they are 0 then."""

_PART_TAG = b"\x1a"  # field 3, length-delimited
_HEAD_BYTES = 7  # tag and magic, tag and format
_ROW_BYTES = sum(np.dtype(dtype).itemsize for _, dtype in STORED)

T = TypeVar("T")


# ---------------------------------------------------------------------------- writing


def encode_snapshot(image: Image) -> Iterator[bytes]:
    """The bytes of a whole state, piece by piece."""
    yield log_pb2.SnapshotParts(magic=MAGIC, format=_format(image)).SerializeToString()
    for part in _parts(image):
        data = part.SerializeToString(deterministic=True)
        yield _PART_TAG + _varint(len(data))
        yield data


def _format(image: Image) -> int:
    if any(has_batch(job.spec) for job in image.jobs.values()):
        return 5
    if any(job.pins or any(of_format_4(spec) for _, spec in job.specs) for job in image.jobs.values()):
        return 5
    if image.health or any(job.tracked for job in image.jobs.values()):
        return 5
    if any(node.spec.sick_devices or node.drain_deadline_ms for node in image.nodes.values()):
        return 5
    if any(node.spec.resizes_processes for node in image.nodes.values()):
        return 5
    if image.namespaces or image.settings != Settings():
        return 4
    return 2 if image.epoch <= 1 else 3


def _parts(image: Image) -> Iterator[log_pb2.Snapshot]:
    first = log_pb2.Snapshot(
        index=image.index,
        time_ms=image.time_ms,
        cluster_id=image.cluster_id,
        feature_level=image.feature_level,
        epoch=image.epoch,
        attempt_floor=image.attempt_floor,
        events_dropped_index=image.events_dropped_index,
        answer_bytes=image.answer_bytes or 0,
    )
    first.admitted.update(image.admitted)
    first.addresses.update(image.addresses)
    _put_limits(image.limits, first.limits)
    if image.settings != Settings():
        encode(image.settings, first.settings)
        first.settings.SetInParent()
    first.table.SetInParent()
    first.table.rows = len(image.columns["job"])
    yield first
    yield from _packed((image.jobs[slot] for slot in sorted(image.jobs)), _add_job)
    yield from _packed((image.nodes[slot] for slot in sorted(image.nodes)), _add_node)
    yield from _packed((image.forgotten[slot] for slot in sorted(image.forgotten)), _add_forgotten)
    yield from _packed((image.variables[key] for key in sorted(image.variables)), _add_variable)
    yield from _packed((image.namespaces[name] for name in sorted(image.namespaces)), _add_namespace)
    yield from _packed(image.answers, _add_remembered)
    yield from _packed(image.events, _add_record)
    yield from _packed(image.groups, _add_group)
    yield from _packed(image.typical, _add_typical)
    yield from _packed(((row, image.ports[row]) for row in sorted(image.ports)), _add_ports)
    yield from _packed(((row, image.reasons[row]) for row in sorted(image.reasons)), _add_reason)
    yield from _packed(((row, image.health[row]) for row in sorted(image.health)), _add_health)
    for name, dtype in STORED:
        column = image.columns[name]
        rows = PART_BYTES // np.dtype(dtype).itemsize
        for start in range(0, len(column), rows):
            part = log_pb2.Snapshot()
            part.table.columns[name] = np.ascontiguousarray(column[start : start + rows], dtype=dtype).tobytes()
            yield part


def _packed(items: Iterable[T], add: Callable[[log_pb2.Snapshot, T], Message]) -> Iterator[log_pb2.Snapshot]:
    part, size = log_pb2.Snapshot(), 0
    for item in items:
        size += add(part, item).ByteSize() + 8
        if size >= PART_BYTES:
            yield part
            part, size = log_pb2.Snapshot(), 0
    if size:
        yield part


def _add_job(part: log_pb2.Snapshot, job: Job) -> Message:
    message = part.jobs.add()
    for name in _JOB_FIELDS:
        setattr(message, name, getattr(job, name))
    message.group_versions.extend(job.group_versions)
    for version, spec in job.specs:
        encode(spec, message.specs.add(version=version).spec)
    for pin in job.pins:
        encode(pin, message.pins.add())
    if job.tracked:
        message.tracked = True
        message.stable_version = job.stable_version
        for revision in job.history:
            encode(revision, message.history.add())
        if job.rollout is not None:
            encode(job.rollout, message.rollout)
            message.rollout.SetInParent()
        for twins in job.twins:
            message.twins.add(versions=twins)
    if job.schedule is not None:
        encode(job.schedule, message.schedule)
        message.schedule.SetInParent()
    return message


_ADDED_LIMITS = ("children_per_job", "child_age_ms")
"""Written only where they are not the default, so that a state without them has the bytes that it always had."""


def _put_limits(limits: Limits, message: Message) -> None:
    encode(limits, message)
    for name in _ADDED_LIMITS:
        if getattr(limits, name) == getattr(Limits(), name):
            message.ClearField(name)


def _take_limits(message: Message) -> Limits:
    limits = decode(Limits, message)
    unsaid = {name: getattr(Limits(), name) for name in _ADDED_LIMITS if not getattr(limits, name)}
    return dataclasses.replace(limits, **unsaid)


_JOB_FIELDS = (
    "slot", "uid", "version", "stopped", "removing", "submit_index", "create_index", "modify_index", "create_time_ms",
    "modify_time_ms",
)  # fmt: skip


def _add_node(part: log_pb2.Snapshot, node: Node) -> Message:
    return encode(node, part.nodes.add())


def _add_forgotten(part: log_pb2.Snapshot, node: Node) -> Message:
    return encode(node, part.forgotten.add())


def _add_variable(part: log_pb2.Snapshot, variable: Variable) -> Message:
    return encode(variable, part.variables.add())


def _add_namespace(part: log_pb2.Snapshot, namespace: Namespace) -> Message:
    return encode(namespace, part.namespaces.add())


def _add_remembered(part: log_pb2.Snapshot, item: tuple[Key, Kept]) -> Message:
    message = part.answers.add()
    key, remembered = item
    if isinstance(remembered, partial):
        message.CopyFrom(remembered.args[0])
        message.DiscardUnknownFields()
        return message
    remembered = read(remembered)
    message.identity, message.request_id = key
    message.digest = remembered.digest
    message.time_ms = remembered.time_ms
    outcome = remembered.outcome
    message.index = outcome.index
    value: Answer | Rejected = outcome.answer if isinstance(outcome, Applied) else outcome
    sub = getattr(message, _ANSWER_FIELDS[type(value)])
    sub.SetInParent()
    encode(value, sub)
    return message


_ANSWERS: dict[str, type] = {
    "write": commands.WriteAnswer,
    "jobs": commands.JobsAnswer,
    "variable": commands.VariableAnswer,
    "plan": commands.PlanAnswer,
    "pin": commands.PinAnswer,
    "rejected": commands.Rejected,
}
_ANSWER_FIELDS = {kind: name for name, kind in _ANSWERS.items()}


def _add_record(part: log_pb2.Snapshot, kept: KeptEvent) -> Message:
    if isinstance(kept, partial):
        message = part.events.add()
        message.CopyFrom(kept.args[0])
        message.DiscardUnknownFields()
        return message
    # Up to 100,000 of them: without the general converter, which would take longer than all the rest.
    fields: dict[str, Any] = dict(zip(_EVENT_FIELDS, read_event(kept), strict=True))
    return part.events.add(**fields)


_EVENT_FIELDS = tuple(field.name for field in dataclasses.fields(Event))


def _add_group(part: log_pb2.Snapshot, group: GroupImage) -> Message:
    gid, slot, name, attempts = group
    return part.groups.add(gid=gid, job_slot=slot, name=name, last_attempt=attempts.astype("<i4").tobytes())


def _add_typical(part: log_pb2.Snapshot, item: tuple[Shape, int]) -> Message:
    return part.typical.add(**item[0]._asdict(), count=item[1])


def _take_typical(message: log_pb2.TypicalShape) -> tuple[Shape, int]:
    numbers = (message.cpu_millis, message.devices, message.gpu_millis, message.gpu_memory_mib)
    return Shape(*numbers, tuple(message.models)), message.count


def _add_ports(part: log_pb2.Snapshot, item: tuple[int, tuple[int, ...]]) -> Message:
    return part.table.ports.add(row=item[0], ports=item[1])


def _add_reason(part: log_pb2.Snapshot, item: tuple[int, str]) -> Message:
    return part.table.reasons.add(row=item[0], reason=item[1])


def _add_health(part: log_pb2.Snapshot, item: tuple[int, int]) -> Message:
    return part.table.health.add(row=item[0], health=item[1])


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# ---------------------------------------------------------------------------- reading


def decode_snapshot(data: bytes) -> Image:
    """The image in ``data``; raises ``CodecError``, or ``FutureFormatError`` if it is of a newer format."""
    messages = _read_parts(data)
    head = next(messages, None)
    if head is None or not head.HasField("table"):
        raise CodecError("not a snapshot: it does not say how many allocations it holds")
    jobs: dict[int, Job] = {}
    nodes: dict[int, Node] = {}
    forgotten: dict[int, Node] = {}
    variables: dict[tuple[str, str], Variable] = {}
    namespaces: dict[str, Namespace] = {}
    answers: list[tuple[Key, Kept]] = []
    events: list[KeptEvent] = []
    groups: list[GroupImage] = []
    typical: list[tuple[Shape, int]] = []
    table = _Table(head.table.rows, len(data))
    message: log_pb2.Snapshot | None = head
    while message is not None:
        _enter(jobs, map(_take_job, message.jobs))
        _enter(nodes, (decode(Node, node) for node in message.nodes))
        _enter(forgotten, (decode(Node, node) for node in message.forgotten))
        variables.update({(sub.namespace, sub.name): decode(Variable, sub) for sub in message.variables})
        namespaces.update({sub.name: decode(Namespace, sub) for sub in message.namespaces})
        answers.extend(_take_answers(message.answers))
        events.extend(map(partial, repeat(_take_record), message.events))
        groups.extend(map(_take_group, message.groups))
        typical.extend(map(_take_typical, message.typical))
        table.take(message.table)
        message = next(messages, None)
    table.check()
    return Image(
        index=head.index,
        time_ms=head.time_ms,
        cluster_id=head.cluster_id,
        feature_level=head.feature_level,
        epoch=head.epoch,
        admitted=dict(head.admitted),
        addresses=dict(head.addresses),
        attempt_floor=head.attempt_floor,
        limits=_take_limits(head.limits),
        jobs=jobs,
        nodes=nodes,
        forgotten=forgotten,
        variables=variables,
        answers=answers,
        answer_bytes=head.answer_bytes if head.answer_bytes > 0 else None,
        events=events,
        events_dropped_index=head.events_dropped_index,
        groups=groups,
        columns=table.columns,
        ports=table.ports,
        reasons=table.reasons,
        health=table.health,
        namespaces=namespaces,
        settings=decode(Settings, head.settings) if head.HasField("settings") else Settings(),
        typical=tuple(typical),
    )


def _read_parts(data: bytes) -> Iterator[log_pb2.Snapshot]:
    """The parts one by one; of format 1 the one whole."""
    head = log_pb2.SnapshotParts()
    try:
        head.ParseFromString(data[:_HEAD_BYTES])
    except DecodeError as error:
        raise CodecError(f"not a snapshot: {error}") from None
    if head.magic != MAGIC or head.format < 1:
        raise CodecError("not a snapshot: it does not begin like one")
    if head.format > FORMAT:
        raise FutureFormatError(
            f"a snapshot of format {head.format}, this version reads up to {FORMAT}: start a newer version of this peer"
        )
    if head.format == 1:
        yield _parse(data)
        return
    at = _HEAD_BYTES
    while at < len(data):
        if data[at : at + 1] != _PART_TAG:
            raise CodecError(f"not a snapshot: at byte {at} no part begins")
        size, at = _take_varint(data, at + 1)
        if size > len(data) - at:
            raise CodecError(f"not a snapshot: its part at byte {at} is cut short")
        yield _parse(data[at : at + size])
        at += size


def _parse(data: bytes) -> log_pb2.Snapshot:
    try:
        return log_pb2.Snapshot.FromString(data)
    except DecodeError as error:
        raise CodecError(f"not a snapshot: {error}") from None


def _take_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number there, and where it ends."""
    value = 0
    for place, byte in enumerate(data[at : at + 5]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise CodecError(f"not a snapshot: at byte {at} no length stands")


class _Table:
    """The allocation table, filled part by part."""

    def __init__(self, rows: int, data_bytes: int) -> None:
        if not 0 <= rows * _ROW_BYTES <= data_bytes:
            raise CodecError(f"table: {rows} rows in {data_bytes} bytes")
        self._rows = rows
        self._filled = dict.fromkeys((name for name, _ in STORED), 0)
        self.columns: StoredColumns = {name: np.empty(rows, dtype=dtype) for name, dtype in STORED}
        self.ports: dict[int, tuple[int, ...]] = {}
        self.reasons: dict[int, str] = {}
        self.health: dict[int, int] = {}

    def take(self, part: log_pb2.Table) -> None:
        for name, data in part.columns.items():
            column = self.columns.get(name)
            if column is None:
                continue  # of a later version
            start, width = self._filled[name], column.itemsize
            rows, rest = divmod(len(data), width)
            if rest or start + rows > self._rows:
                raise CodecError(f"table.columns[{name}]: {start * width + len(data)} bytes for {self._rows} rows")
            column[start : start + rows] = np.frombuffer(data, dtype=column.dtype)
            self._filled[name] = start + rows
        for one in part.ports:
            self.ports[one.row] = tuple(one.ports)
        for reason in part.reasons:
            self.reasons[reason.row] = reason.reason
        for health in part.health:
            self.health[health.row] = health.health

    def check(self) -> None:
        """Whether all of it came."""
        for name, rows in self._filled.items():
            if not rows and name in ADDED:
                self.columns[name][:] = 0
            elif rows != self._rows:
                raise CodecError(f"table.columns: {name} has {rows} of {self._rows} rows")
        _check_rows(self.ports, self.columns["job"])
        _check_rows(self.reasons, self.columns["job"])
        _check_rows(self.health, self.columns["job"])


def _check_rows(values: Mapping[int, object], job: npt.NDArray[Any]) -> None:
    rows = np.fromiter(values, dtype=np.int64, count=len(values))
    bad = rows[(rows < 0) | (rows >= len(job))]
    if not len(bad):
        bad = rows[job[rows] < 0]
    if len(bad):
        raise CodecError(f"table: row {bad[0]} is not in use")


def _enter(found: dict[int, T], records: Iterable[T]) -> None:
    for record in records:
        slot = cast(Any, record).slot
        if slot in found or not 0 <= slot < 2**30:
            raise CodecError(f"slot {slot} is malformed or there twice")
        found[slot] = record


def _take_group(message: log_pb2.Group) -> GroupImage:
    data = message.last_attempt
    if message.gid < 0 or message.gid > 2**30 or len(data) % 4:
        raise CodecError(f"groups: group {message.gid} is malformed")
    return message.gid, message.job_slot, message.name, np.frombuffer(data, dtype="<i4")


def _take_job(message: log_pb2.Job) -> Job:
    specs = tuple((sub.version, decode(JobSpec, sub.spec)) for sub in message.specs)
    if not specs or specs[-1][0] != message.version:
        raise CodecError(f"jobs: job {message.uid} lacks the spec of its version {message.version}")
    spec = specs[-1][1]
    if len(message.group_versions) != len(spec.groups):
        raise CodecError(f"jobs: job {message.uid} has {len(message.group_versions)} group versions")
    if message.twins and len(message.twins) != len(spec.groups):
        raise CodecError(f"jobs: job {message.uid} has twins of {len(message.twins)} groups")
    return Job(
        tracked=message.tracked,
        history=tuple(decode(Revision, sub) for sub in message.history),
        rollout=decode(Rollout, message.rollout) if message.HasField("rollout") else None,
        stable_version=message.stable_version,
        twins=tuple(tuple(sub.versions) for sub in message.twins),
        schedule=decode(Schedule, message.schedule) if message.HasField("schedule") else None,
        spec=spec,
        specs=specs,
        group_versions=tuple(message.group_versions),
        pins=tuple(decode(ImagePin, pin) for pin in message.pins),
        **{name: getattr(message, name) for name in _JOB_FIELDS},
    )


def _take_answers(messages: Any) -> Iterator[tuple[Key, Kept]]:
    """What they say is read when somebody asks. That cannot fail: an answer has no field that is more than a number or
    a text, and those are checked when bytes become messages. No step here is Python's for each of 100,000."""
    if None in map(_which_outcome, messages):
        raise CodecError("answers: one has no outcome")
    return zip(map(_key_of, messages), map(partial, repeat(_read_remembered), messages), strict=True)


_which_outcome = operator.methodcaller("WhichOneof", "outcome")
_key_of: Callable[[Any], Key] = operator.attrgetter("identity", "request_id")


def _read_remembered(message: log_pb2.Remembered) -> Remembered:
    name = message.WhichOneof("outcome")
    assert name is not None
    value: Any = decode(_ANSWERS[name], getattr(message, name))
    outcome = value if isinstance(value, Rejected) else Applied(index=message.index, answer=value)
    return Remembered(digest=message.digest, time_ms=message.time_ms, outcome=outcome)


_take_record: Callable[[Any], Record] = operator.attrgetter(*_EVENT_FIELDS)  # a record is in this order
