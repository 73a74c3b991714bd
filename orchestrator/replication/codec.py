"""Commands and snapshots as bytes: what the log stores and what peers hand to each other.

Owns: the envelope (magic number, format), the packed columns, and the snapshot's layout (``log.proto``). Leaves to
others: meaning (``state``), checksums of files (``journal``, ``snapshots``). The rule: decoding checks everything and
raises nothing but ``CodecError``, and ``FutureFormatError`` for a well-formed envelope of a newer format.

Equal values give equal bytes: maps are serialized in order, tables are written by slot, row or name.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError, Message

from orchestrator.contract.codec import CodecError, decode, encode, register
from orchestrator.contract.model import Event, JobSpec, Variable
from orchestrator.contract.v1 import control_pb2
from orchestrator.replication.log import FutureFormatError
from orchestrator.replication.v1 import log_pb2
from orchestrator.state import commands
from orchestrator.state.allocations import STORED
from orchestrator.state.answers import Key, Remembered
from orchestrator.state.commands import Answer, Applied, Entry, Rejected
from orchestrator.state.events import Record
from orchestrator.state.model import Job, Limits, Node
from orchestrator.state.snapshot import GroupImage, Image

ENTRY_MAGIC = 0x454D5352  # "RSME" in the file, little-endian
SNAPSHOT_MAGIC = 0x534D5352  # "RSMS"
FORMAT = 2
"""Raised when a peer of today could misread what is written; additions alone do not raise it. What an older one reads
rightly is still written with the older number. 2: configuration epochs (``ChangePeers``, and snapshots after one)."""

M = TypeVar("M", bound=Message)
T = TypeVar("T")


def _column(dtype: str) -> tuple[Callable[[Any], bytes], Callable[[bytes], npt.NDArray[Any]]]:
    """Arrays as packed little-endian bytes; a length that is no multiple of the width is a ``ValueError``."""
    width = np.dtype(dtype).itemsize

    def put(array: npt.NDArray[Any]) -> bytes:
        return np.ascontiguousarray(array, dtype=dtype).tobytes()

    def take(data: bytes) -> npt.NDArray[Any]:
        if len(data) % width:
            raise ValueError(f"{len(data)} bytes are no column of {dtype}")
        return np.frombuffer(data, dtype=dtype)

    return put, take


register(cast(type, commands.Int32Array), *_column("<i4"))
register(cast(type, commands.UInt64Array), *_column("<u8"))

# ---------------------------------------------------------------------------- entries

_COMMANDS: dict[str, type] = {
    "submit_jobs": commands.SubmitJobs,
    "stop_job": commands.StopJob,
    "scale_job": commands.ScaleJob,
    "restart_job": commands.RestartJob,
    "remove_job": commands.RemoveJob,
    "register_node": commands.RegisterNode,
    "cordon_node": commands.CordonNode,
    "drain_node": commands.DrainNode,
    "forget_node": commands.ForgetNode,
    "mark_nodes": commands.MarkNodes,
    "apply_plan": commands.ApplyPlan,
    "record_statuses": commands.RecordStatuses,
    "write_variable": commands.WriteVariable,
    "collect": commands.Collect,
    "admit_peers": commands.AdmitPeers,
    "change_peers": commands.ChangePeers,
    "set_feature_level": commands.SetFeatureLevel,
}
_FIELDS = {kind: name for name, kind in _COMMANDS.items()}


def encode_entry(entry: Entry) -> bytes:
    """The bytes of one command, to be proposed. Raises ``CodecError`` if a value does not fit its field."""
    message = log_pb2.LogEntry(magic=ENTRY_MAGIC, format=2 if isinstance(entry.command, commands.ChangePeers) else 1)
    try:
        message.identity = entry.identity
        message.request_id = entry.request_id
        message.digest = entry.digest
        message.time_ms = entry.time_ms
        sub = getattr(message, _FIELDS[type(entry.command)])
        sub.SetInParent()
        encode(entry.command, sub)
        return message.SerializeToString(deterministic=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError(f"{type(entry.command).__name__}: {error}") from error


def decode_entry(payload: bytes) -> Entry:
    """The command in ``payload``; raises ``CodecError``, or ``FutureFormatError`` if it is of a newer format."""
    message = _parse(log_pb2.LogEntry(), payload, ENTRY_MAGIC, "a command")
    name = message.WhichOneof("command")
    if name is None:
        raise CodecError("the entry holds no command that this format knows")
    return Entry(
        identity=message.identity,
        request_id=message.request_id,
        digest=message.digest,
        time_ms=message.time_ms,
        command=decode(_COMMANDS[name], getattr(message, name)),
    )


def _parse(message: M, data: bytes, magic: int, what: str) -> M:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise CodecError(f"not {what}: {error}") from None
    envelope = cast(Any, message)
    if envelope.magic != magic or envelope.format < 1:
        raise CodecError(f"not {what}: it does not begin like one")
    if envelope.format > FORMAT:
        raise FutureFormatError(
            f"{what} of format {envelope.format}, this version reads up to {FORMAT}: start a newer version of this peer"
        )
    return message


# ---------------------------------------------------------------------------- snapshots


def encode_snapshot(image: Image, *, consume: bool = False) -> bytes:
    """The bytes of a whole state; equal states give equal bytes. May run in a thread.

    ``consume`` lets go of each of the image's columns as soon as it is written, which leaves it useless and saves a
    hundred megabytes with a million allocations.
    """
    message = log_pb2.Snapshot(
        magic=SNAPSHOT_MAGIC,
        format=1 if image.epoch <= 1 else 2,
        index=image.index,
        time_ms=image.time_ms,
        cluster_id=image.cluster_id,
        feature_level=image.feature_level,
        epoch=image.epoch,
        attempt_floor=image.attempt_floor,
        events_dropped_index=image.events_dropped_index,
    )
    message.admitted.update(image.admitted)
    message.addresses.update(image.addresses)
    encode(image.limits, message.limits)
    for slot in sorted(image.jobs):
        _put_job(image.jobs[slot], message.jobs.add())
    for slot in sorted(image.nodes):
        encode(image.nodes[slot], message.nodes.add())
    for slot in sorted(image.forgotten):
        encode(image.forgotten[slot], message.forgotten.add())
    for key in sorted(image.variables):
        encode(image.variables[key], message.variables.add())
    for remembered in image.answers:
        _put_remembered(remembered, message.answers.add())
    # Up to 100,000 of them: without the general converter, which would take longer than all the rest.
    message.events.extend(map(_put_record, image.events))
    for gid, slot, name, attempts in image.groups:
        message.groups.add(gid=gid, job_slot=slot, name=name, last_attempt=attempts.astype("<i4").tobytes())
    table = message.table
    table.rows = len(image.columns["job"])
    for row in sorted(image.ports):
        table.ports.add(row=row, ports=image.ports[row])
    for row in sorted(image.reasons):
        table.reasons.add(row=row, reason=image.reasons[row])
    # A message's parts may be written one after the other: so only one column at a time is in memory three times.
    parts = [message.SerializeToString(deterministic=True)]
    columns = cast(dict[str, npt.NDArray[Any]], image.columns)
    for name, dtype in STORED:
        column = columns.pop(name) if consume else columns[name]
        part = log_pb2.Snapshot()
        part.table.columns[name] = np.ascontiguousarray(column, dtype=dtype).tobytes()
        del column
        parts.append(part.SerializeToString(deterministic=True))
    return b"".join(parts)


def decode_snapshot(data: bytes) -> Image:
    """The image in ``data``; raises ``CodecError``, or ``FutureFormatError`` if it is of a newer format."""
    message = _parse(log_pb2.Snapshot(), data, SNAPSHOT_MAGIC, "a snapshot")
    columns = _take_columns(message.table)
    return Image(
        index=message.index,
        time_ms=message.time_ms,
        cluster_id=message.cluster_id,
        feature_level=message.feature_level,
        epoch=message.epoch,
        admitted=dict(message.admitted),
        addresses=dict(message.addresses),
        attempt_floor=message.attempt_floor,
        limits=decode(Limits, message.limits),
        jobs=_by_slot(_take_job(job) for job in message.jobs),
        nodes=_by_slot(decode(Node, node) for node in message.nodes),
        forgotten=_by_slot(decode(Node, node) for node in message.forgotten),
        variables={(sub.namespace, sub.name): decode(Variable, sub) for sub in message.variables},
        answers=[_take_remembered(sub) for sub in message.answers],
        events=[_take_record(sub) for sub in message.events],
        events_dropped_index=message.events_dropped_index,
        groups=[_take_group(sub) for sub in message.groups],
        columns=columns,
        ports={_row(sub.row, columns): tuple(sub.ports) for sub in message.table.ports},
        reasons={_row(sub.row, columns): sub.reason for sub in message.table.reasons},
    )


def _take_columns(table: log_pb2.Table) -> dict[str, npt.NDArray[Any]]:
    columns = {}
    for name, dtype in STORED:
        if name not in table.columns:
            raise CodecError(f"table.columns: there is no {name}")
        data = table.columns[name]
        if len(data) != table.rows * np.dtype(dtype).itemsize:
            raise CodecError(f"table.columns[{name}]: {len(data)} bytes for {table.rows} rows")
        columns[name] = np.frombuffer(data, dtype=dtype)
    return columns


def _row(row: int, columns: Mapping[str, npt.NDArray[Any]]) -> int:
    job = columns["job"]
    if not 0 <= row < len(job) or job[row] < 0:
        raise CodecError(f"table: row {row} is not in use")
    return row


def _take_group(message: log_pb2.Group) -> GroupImage:
    data = message.last_attempt
    if message.gid < 0 or message.gid > 2**30 or len(data) % 4:
        raise CodecError(f"groups: group {message.gid} is malformed")
    return message.gid, message.job_slot, message.name, np.frombuffer(data, dtype="<i4")


def _by_slot(records: Iterable[T]) -> dict[int, T]:
    found: dict[int, T] = {}
    for record in records:
        slot = cast(Any, record).slot
        if slot in found or not 0 <= slot < 2**30:
            raise CodecError(f"slot {slot} is malformed or there twice")
        found[slot] = record
    return found


def _put_job(job: Job, message: log_pb2.Job) -> None:
    for name in _JOB_FIELDS:
        setattr(message, name, getattr(job, name))
    message.group_versions.extend(job.group_versions)
    for version, spec in job.specs:
        sub = message.specs.add(version=version)
        encode(spec, sub.spec)


_JOB_FIELDS = (
    "slot", "uid", "version", "stopped", "removing", "submit_index", "create_index", "modify_index", "create_time_ms",
    "modify_time_ms",
)  # fmt: skip


def _take_job(message: log_pb2.Job) -> Job:
    specs = tuple((sub.version, decode(JobSpec, sub.spec)) for sub in message.specs)
    if not specs or specs[-1][0] != message.version:
        raise CodecError(f"jobs: job {message.uid} lacks the spec of its version {message.version}")
    spec = specs[-1][1]
    if len(message.group_versions) != len(spec.groups):
        raise CodecError(f"jobs: job {message.uid} has {len(message.group_versions)} group versions")
    return Job(
        spec=spec,
        specs=specs,
        group_versions=tuple(message.group_versions),
        **{name: getattr(message, name) for name in _JOB_FIELDS},
    )


_ANSWERS: dict[str, type] = {
    "write": commands.WriteAnswer,
    "jobs": commands.JobsAnswer,
    "variable": commands.VariableAnswer,
    "plan": commands.PlanAnswer,
    "rejected": commands.Rejected,
}
_ANSWER_FIELDS = {kind: name for name, kind in _ANSWERS.items()}


def _put_remembered(item: tuple[Key, Remembered], message: log_pb2.Remembered) -> None:
    (message.identity, message.request_id), remembered = item
    message.digest = remembered.digest
    message.time_ms = remembered.time_ms
    outcome = remembered.outcome
    message.index = outcome.index
    value: Answer | Rejected = outcome.answer if isinstance(outcome, Applied) else outcome
    sub = getattr(message, _ANSWER_FIELDS[type(value)])
    sub.SetInParent()
    encode(value, sub)


def _take_remembered(message: log_pb2.Remembered) -> tuple[Key, Remembered]:
    name = message.WhichOneof("outcome")
    if name is None:
        raise CodecError("answers: one has no outcome")
    value: Any = decode(_ANSWERS[name], getattr(message, name))
    outcome = value if isinstance(value, Rejected) else Applied(index=message.index, answer=value)
    key = (message.identity, message.request_id)
    return key, Remembered(digest=message.digest, time_ms=message.time_ms, outcome=outcome)


_EVENT_FIELDS = tuple(field.name for field in dataclasses.fields(Event))


def _put_record(record: Record) -> control_pb2.Event:
    fields: dict[str, Any] = dict(zip(_EVENT_FIELDS, record, strict=True))
    return control_pb2.Event(**fields)


_take_record: Callable[[control_pb2.Event], Record] = operator.attrgetter(*_EVENT_FIELDS)  # a record is in this order
