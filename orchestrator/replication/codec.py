"""Commands as bytes: what the log stores.

Owns: the envelope (magic number, format) and the packed columns (``log.proto``). Leaves to others: snapshots
(``snapshot_codec``), meaning (``state``), checksums of files (``journal``). The rule: decoding checks everything and
raises nothing but ``CodecError``, and ``FutureFormatError`` for a well-formed envelope of a newer format.

Equal values give equal bytes: maps are serialized in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError, Message

from orchestrator.contract.codec import CodecError, decode, encode, register
from orchestrator.contract.model import JobSpec, TaskRole
from orchestrator.replication.log import FutureFormatError
from orchestrator.replication.v1 import log_pb2
from orchestrator.state import commands
from orchestrator.state.batch import has_batch
from orchestrator.state.commands import Entry

ENTRY_MAGIC = 0x454D5352  # "RSME" in the file, little-endian
FORMAT = 4
"""Raised when a peer of today could misread what is written; additions alone do not raise it. What an older one reads
rightly is still written with the older number. 2: configuration epochs (``ChangePeers``). 3: cordoned devices,
evictions, namespaces, observations as columns (``RecordObserved``), moves (``MoveAllocation``), taints. 4: rollouts
that are remembered, health, sick devices, settled digests, drains with deadlines or cancelled, progress of starts,
jobs with settings of containers or changed in place, services that jobs name and need, templates of runs,
groups after others, timeouts."""

M = TypeVar("M", bound=Message)


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
register(cast(type, commands.Int64Array), *_column("<i8"))

# ---------------------------------------------------------------------------- entries

_COMMANDS: dict[str, type] = {
    "submit_jobs": commands.SubmitJobs,
    "stop_job": commands.StopJob,
    "scale_job": commands.ScaleJob,
    "restart_job": commands.RestartJob,
    "steer_rollout": commands.SteerRollout,
    "rollback_job": commands.RollbackJob,
    "end_rollouts": commands.EndRollouts,
    "launch_runs": commands.LaunchRuns,
    "dispatch_job": commands.DispatchJob,
    "force_run": commands.ForceRun,
    "remove_job": commands.RemoveJob,
    "move_allocation": commands.MoveAllocation,
    "pin_image": commands.PinImage,
    "record_progress": commands.RecordProgress,
    "register_node": commands.RegisterNode,
    "cordon_node": commands.CordonNode,
    "cordon_device": commands.CordonDevice,
    "drain_node": commands.DrainNode,
    "forget_node": commands.ForgetNode,
    "taint_node": commands.TaintNode,
    "mark_nodes": commands.MarkNodes,
    "apply_plan": commands.ApplyPlan,
    "record_statuses": commands.RecordStatuses,
    "record_observed": commands.RecordObserved,
    "write_variable": commands.WriteVariable,
    "write_variables": commands.WriteVariables,
    "collect": commands.Collect,
    "admit_peers": commands.AdmitPeers,
    "change_peers": commands.ChangePeers,
    "set_feature_level": commands.SetFeatureLevel,
    "set_limits": commands.SetLimits,
    "write_namespace": commands.WriteNamespace,
    "set_settings": commands.SetSettings,
}
_FIELDS = {kind: name for name, kind in _COMMANDS.items()}
_OF_FORMAT_2 = (commands.ChangePeers, commands.SetLimits, commands.WriteVariables)
"""Commands that a peer of format 1 would take for garbage, and go on without: it must stop before them."""


_OF_FORMAT_3 = (
    commands.CordonDevice,
    commands.MoveAllocation,
    commands.RecordObserved,
    commands.WriteNamespace,
    commands.SetSettings,
    commands.TaintNode,
)
"""Likewise, of format 2."""


_OF_FORMAT_4 = (
    commands.SteerRollout,
    commands.RollbackJob,
    commands.EndRollouts,
    commands.LaunchRuns,
    commands.DispatchJob,
    commands.ForceRun,
    commands.PinImage,
    commands.RecordProgress,
)
"""Likewise, of format 3."""


def of_format_4(spec: JobSpec) -> bool:
    """Whether an older peer would lose part of a job, or refuse it."""
    return any(
        group.network_mode
        or len({port.static for port in group.ports if port.static}) < sum(port.static > 0 for port in group.ports)
        or any(
            task.container is not None or task.role is not TaskRole.MAIN or any(mount.sub_path for mount in task.mounts)
            for task in group.tasks
        )
        for group in spec.groups
    )


def _format(command: commands.Command) -> int:
    if isinstance(command, _OF_FORMAT_4) or _has_news_of_4(command):
        return 4
    if isinstance(command, _OF_FORMAT_3):
        return 3
    if isinstance(command, commands.ApplyPlan) and (command.actions.action == commands.Action.EVICT).any():
        return 3  # an older peer would reject the evictions, and no longer have the same state
    return 2 if isinstance(command, _OF_FORMAT_2) else 1


def _offers_or_needs(spec: JobSpec) -> bool:
    """A peer of format 3 would drop it, and have another state."""
    return any(
        group.services or group.needs or any(task.workload is not None for task in group.tasks) for group in spec.groups
    )


def _has_news_of_4(command: commands.Command) -> bool:
    """Whether a peer of format 3 would read it and do something else."""
    match command:
        case commands.SubmitJobs():
            return any(
                job.remember
                or job.in_place
                or of_format_4(job.spec)
                or has_batch(job.spec)
                or _offers_or_needs(job.spec)
                for job in command.jobs
            )
        case commands.ApplyPlan():
            return bool((command.actions.action == commands.Action.REPLACE).any())
        case commands.RecordObserved():
            return command.rows.health is not None
        case commands.RecordStatuses():
            return any(one.health for one in command.observations)
        case commands.RegisterNode():
            return bool(command.node.sick_devices) or command.node.resizes_processes
        case commands.DrainNode():
            return command.cancel or command.deadline_after_ms != 0
        case _:
            return False


def encode_entry(entry: Entry) -> bytes:
    """The bytes of one command, to be proposed. Raises ``CodecError`` if a value does not fit its field."""
    message = log_pb2.LogEntry(magic=ENTRY_MAGIC, format=_format(entry.command))
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
