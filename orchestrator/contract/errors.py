"""The errors that cross a process border, split by what the caller should do about them.

Owns: the one family of exceptions with a stable ``reason`` code, and the tables that turn a reason into a gRPC
status, an HTTP status and an exit code. The rule: callers branch on ``reason`` or on the class, never on the prose.
Expected outcomes inside the control plane (``Rejected``, an unplaced task) are return values, not exceptions.
"""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What ``raftsman`` exits with (DESIGN.md, Interfaces)."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNPLACED = 3
    ROLLOUT_FAILED = 4
    TIMEOUT = 5
    NO_LEADER = 6


class RaftsmanError(Exception):
    """Base of everything that Raftsman raises on purpose.

    ``message`` says what happened and, where there is one, what would change it. ``reason`` is a stable upper-case code
    that travels in the gRPC error details (``google.rpc.ErrorInfo.reason``). ``metadata`` are fields for programs.
    """

    reason = "INTERNAL"
    grpc_code = "INTERNAL"
    http_status = 500
    exit_code = ExitCode.ERROR
    retryable = False

    def __init__(self, message: str, *, reason: str | None = None, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.metadata: dict[str, str] = metadata


# ---------------------------------------------------------------------------- fix the request


class InvalidError(RaftsmanError):
    """The request is wrong and will be wrong again; the message names the place and what was expected."""

    reason = "INVALID"
    grpc_code = "INVALID_ARGUMENT"
    http_status = 400
    exit_code = ExitCode.USAGE


class NotFoundError(RaftsmanError):
    reason = "NOT_FOUND"
    grpc_code = "NOT_FOUND"
    http_status = 404


class ExistsError(RaftsmanError):
    reason = "ALREADY_EXISTS"
    grpc_code = "ALREADY_EXISTS"
    http_status = 409


class ConflictError(RaftsmanError):
    """A stated expectation (version, value, based-on index) did not hold; read again, then retry with new facts."""

    reason = "CONFLICT"
    grpc_code = "ABORTED"
    http_status = 409


class PreconditionError(RaftsmanError):
    """The system is not in a state in which this can be done (a policy refuses it, a node is lost)."""

    reason = "FAILED_PRECONDITION"
    grpc_code = "FAILED_PRECONDITION"
    http_status = 409


class QuotaError(PreconditionError):
    """The namespace's quota does not allow it. ``metadata``: namespace, resource, used, asked, limit."""

    reason = "QUOTA_EXCEEDED"


class PermissionError_(RaftsmanError):
    """The caller's certificate does not allow this call."""

    reason = "PERMISSION_DENIED"
    grpc_code = "PERMISSION_DENIED"
    http_status = 403


class UnauthenticatedError(RaftsmanError):
    reason = "UNAUTHENTICATED"
    grpc_code = "UNAUTHENTICATED"
    http_status = 401


class OutOfRangeError(RaftsmanError):
    """A watch asked for an index that is already collected; list again and watch from there."""

    reason = "COMPACTED"
    grpc_code = "OUT_OF_RANGE"
    http_status = 410


# ---------------------------------------------------------------------------- try again


class NotLeaderError(RaftsmanError):
    """This peer does not lead. Nothing was done. ``leader_id`` is a hint and may be empty."""

    reason = "NOT_LEADER"
    grpc_code = "UNAVAILABLE"
    http_status = 503
    exit_code = ExitCode.NO_LEADER
    retryable = True

    def __init__(self, message: str, *, leader_id: str = "", **metadata: str) -> None:
        super().__init__(message, leader_id=leader_id, **metadata)
        self.leader_id = leader_id


class NoLeaderError(RaftsmanError):
    """No majority can be reached. Nothing was done, or (reads) nothing fresh can be said."""

    reason = "NO_LEADER"
    grpc_code = "UNAVAILABLE"
    http_status = 503
    exit_code = ExitCode.NO_LEADER
    retryable = True


class OverloadedError(RaftsmanError):
    """A bounded queue is full. Nothing was done; try again after ``retry_after_ms`` (plus jitter)."""

    reason = "OVERLOADED"
    grpc_code = "RESOURCE_EXHAUSTED"
    http_status = 429
    retryable = True

    def __init__(self, message: str, *, retry_after_ms: int, **metadata: str) -> None:
        super().__init__(message, retry_after_ms=str(retry_after_ms), **metadata)
        self.retry_after_ms = retry_after_ms


class TimeoutError_(RaftsmanError):
    reason = "TIMEOUT"
    grpc_code = "DEADLINE_EXCEEDED"
    http_status = 504
    exit_code = ExitCode.TIMEOUT


class UnknownOutcomeError(RaftsmanError):
    """The write may or may not happen. Repeat it with the same request id: it is done at most once."""

    reason = "UNKNOWN_OUTCOME"
    grpc_code = "UNAVAILABLE"
    http_status = 503
    exit_code = ExitCode.NO_LEADER
    retryable = True


# ---------------------------------------------------------------------------- give up


class StartupError(RaftsmanError):
    """The process must not run as configured; the message says why and how to proceed."""

    reason = "STARTUP_REFUSED"
    grpc_code = "FAILED_PRECONDITION"


class CorruptError(StartupError):
    """Stored bytes are damaged; the message names the file and the way back."""

    reason = "CORRUPT"
    grpc_code = "DATA_LOSS"


ERRORS: tuple[type[RaftsmanError], ...] = (
    InvalidError, NotFoundError, ExistsError, ConflictError, PreconditionError, QuotaError, PermissionError_,
    UnauthenticatedError, OutOfRangeError, NotLeaderError, NoLeaderError, OverloadedError, TimeoutError_,
    UnknownOutcomeError, StartupError, CorruptError, RaftsmanError,
)  # fmt: skip


def from_reason(reason: str, message: str, metadata: dict[str, str], *, grpc_code: str = "INTERNAL") -> RaftsmanError:
    """The error that a remote side described.

    An unknown reason (a newer server) falls back to the first class with the same gRPC code, so callers that branch on
    the class still do the right thing.
    """
    facts = dict(metadata)
    by_reason = next((cls for cls in ERRORS if cls.reason == reason), None)
    cls = by_reason or next((cls for cls in ERRORS if cls.grpc_code == grpc_code), RaftsmanError)
    error: RaftsmanError
    if cls is NotLeaderError:
        error = NotLeaderError(message, leader_id=facts.pop("leader_id", ""), **facts)
    elif cls is OverloadedError:
        error = OverloadedError(message, retry_after_ms=int(facts.pop("retry_after_ms", "1000")), **facts)
    else:
        error = cls(message, **facts)
    error.reason = reason
    return error
