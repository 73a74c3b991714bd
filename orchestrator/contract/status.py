"""Errors on the wire: a ``RaftsmanError`` becomes a gRPC status with ``google.rpc`` details, and comes back as itself.

Owns: the layout of the details (``ErrorInfo`` with domain ``raftsman``, ``RetryInfo`` for an overloaded queue). Leaves
to others: which error is raised (``contract.errors``), retrying (``client``). The rule: whatever a peer sends, the
caller gets some ``RaftsmanError``; a status without our details (a dead connection, a proxy) maps by its gRPC code, and
never claims that a write did not happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from orchestrator.contract.errors import InvalidError, OverloadedError, RaftsmanError, UnknownOutcomeError, from_reason

DOMAIN = "raftsman"
DETAILS_KEY = "grpc-status-details-bin"
MAX_MESSAGE_BYTES = 3_600
"""Of a message in the details. Headers over 8 KiB are dropped by gRPC, and base64 takes a third more."""
MAX_PLAIN_BYTES = 600
"""Of the message that plain clients see beside them, in a header that percent-encodes (three bytes for one)."""
MAX_METADATA_BYTES = 200

UNCONNECTED = "UNCONNECTED"
"""Reason of a status that gRPC made by itself: no answer came, so a write may or may not have happened."""

BROKEN = (grpc.aio.BaseError, grpc.aio.AioRpcError, asyncio.InvalidStateError)
"""What reading from or writing to a stream raises that is over: ``AioRpcError`` is no ``BaseError``."""

_CODE_BY_NAME: dict[str, grpc.StatusCode] = {code.name: code for code in grpc.StatusCode}


class _Rpc(Protocol):
    """What a failed call offers, blocking or asyncio alike."""

    def code(self) -> Any: ...
    def details(self) -> Any: ...
    def trailing_metadata(self) -> Any: ...


class Status(grpc.Status):
    """What ``context.abort_with_status`` takes; grpc compares only these three attributes."""

    def __init__(
        self, code: grpc.StatusCode, details: str, trailing_metadata: Sequence[tuple[str, str | bytes]]
    ) -> None:
        self.code = code
        self.details = details
        self.trailing_metadata = tuple(trailing_metadata)


def to_status(error: RaftsmanError) -> Status:
    """The status to end a call with: one by one on its context, or by ``context.abort_with_status``."""
    from google.protobuf import duration_pb2
    from google.rpc import error_details_pb2, status_pb2

    code = _CODE_BY_NAME[error.grpc_code]
    rich = status_pb2.Status(code=cast(int, code.value[0]), message=_cut(error.message, MAX_MESSAGE_BYTES))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in list(error.metadata.items())[:5]:
        info.metadata[key] = _cut(str(value), MAX_METADATA_BYTES)
    rich.details.add().Pack(info)
    if isinstance(error, OverloadedError):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        rich.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return Status(code, _cut(error.message, MAX_PLAIN_BYTES), [(DETAILS_KEY, rich.SerializeToString())])


def _cut(text: str, limit_bytes: int) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return data.decode()
    return data[: limit_bytes - 3].decode("utf-8", "ignore") + "…"


BROKE = "Internal error from Core"
"""What gRPC's asyncio layer says of a stream on which it was just writing when its connection broke."""


def from_rpc_error(error: Any) -> RaftsmanError:
    """What went wrong, from a caught ``grpc.RpcError`` (blocking or asyncio).

    Without our details: UNAVAILABLE and CANCELLED become ``UnknownOutcomeError`` with reason ``UNCONNECTED`` (the
    caller knows whether it wrote), anything else the class with the same gRPC code.
    """
    rpc = cast(_Rpc, error)
    code = rpc.code()
    name = code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"
    message = str(rpc.details() or name)
    info, full_message, retry_ms = _details(rpc)
    if info is not None:
        message = full_message or message
        metadata = dict(info.metadata)
        if retry_ms is not None:
            metadata["retry_after_ms"] = str(retry_ms)
        try:
            return from_reason(info.reason, message, metadata, grpc_code=name)
        except (TypeError, ValueError):  # metadata of a stranger that does not fit the class
            return from_reason(info.reason, message, {}, grpc_code=name)
    if name in ("UNAVAILABLE", "CANCELLED") or (name == "INTERNAL" and message == BROKE):
        # Whoever cancels a call of its own hears no status; the other side does so to calls that it must leave.
        return UnknownOutcomeError(f"no answer: {message}", reason=UNCONNECTED)
    if name == "RESOURCE_EXHAUSTED" and "pending requests" in message:
        # gRPC refused it before the peer's loop saw it (``channel.SERVER_OPTIONS``).
        return OverloadedError(f"the peer has more calls than it can take: {message}", retry_after_ms=200)
    if name == "RESOURCE_EXHAUSTED" and "larger than max" in message:
        # gRPC itself says this of a message over the size limit; trying again would not help.
        return InvalidError(f"the message is too large, send less in one call: {message}")
    if name == "UNIMPLEMENTED":
        return RaftsmanError(f"the peer does not know this call: {message}", reason="UNIMPLEMENTED")
    if name in ("UNKNOWN", "INTERNAL", "DATA_LOSS"):
        return RaftsmanError(f"{name.lower()}: {message}", reason=name)
    found = from_reason("", message, {}, grpc_code=name)
    found.reason = type(found).reason
    return found


def _details(rpc: _Rpc) -> tuple[Any | None, str, int | None]:
    """Our ``ErrorInfo``, the whole message, the retry delay in milliseconds; None or empty when absent or malformed."""
    info: Any | None = None
    message = ""
    retry_ms: int | None = None
    from google.rpc import error_details_pb2, status_pb2  # a call that goes well does not need them

    for key, value in rpc.trailing_metadata() or ():
        if key != DETAILS_KEY:
            continue
        rich = status_pb2.Status()
        try:
            rich.ParseFromString(value)
            message = rich.message
            for detail in rich.details:
                if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                    found = error_details_pb2.ErrorInfo()
                    detail.Unpack(found)
                    if found.domain == DOMAIN:
                        info = found
                elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                    found_retry = error_details_pb2.RetryInfo()
                    detail.Unpack(found_retry)
                    retry_ms = found_retry.retry_delay.ToMilliseconds()
        except DecodeError:
            return None, "", None
    return info, message, retry_ms
