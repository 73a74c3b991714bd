"""What every request has in common: names with their defaults, and the one way from a request to a proposal.

Owns: request ids (length, derived ones), the digest that tells a repetition from a different request, and turning a
``Rejected`` into the error that its reason names. Leaves to others: which command a request becomes.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

from google.protobuf.message import Message

from orchestrator.api.forward import Call
from orchestrator.contract.batch import is_run_suffix
from orchestrator.contract.errors import InvalidError, RaftsmanError, from_reason
from orchestrator.contract.model import DEFAULT_NAMESPACE
from orchestrator.jobfile import limits
from orchestrator.replication.propose import Proposer
from orchestrator.state import commands as cmd

A = TypeVar("A", bound=cmd.Answer)

MAX_REQUEST_ID = 128

_OTHER_REASONS = {"REQUEST_ID_REUSED": "INVALID_ARGUMENT"}
"""Reasons that only the state gives, and the gRPC code that they mean."""


async def write(
    proposer: Proposer,
    request: Any,
    call: Call,
    command: cmd.Command,
    kind: type[A],
    *,
    suffix: str = "",
    digest: bytes = b"",
    urgent: bool = False,
) -> tuple[cmd.Applied, A]:
    """Propose ``command`` on behalf of the caller; the outcome, or the error that the state answered.

    ``suffix`` tells the commands of one request apart; ``digest`` spares hashing a large request once per command;
    ``urgent``: clients' writes must not hold it up.
    """
    if len(request.request_id) > MAX_REQUEST_ID:
        raise InvalidError(f"request_id: {len(request.request_id)} characters; at most {MAX_REQUEST_ID}")
    outcome = await proposer.propose(
        command,
        identity=str(call.caller.identity),
        request_id=request.request_id + suffix,
        digest=digest or body_digest(request),
        timeout_s=call.timeout_s(),
        urgent=urgent,
    )
    if isinstance(outcome, cmd.Rejected):
        raise rejection(outcome)
    if not isinstance(outcome.answer, kind):
        raise RaftsmanError(f"{type(command).__name__} was answered with {type(outcome.answer).__name__}")
    return outcome, outcome.answer


def rejection(outcome: cmd.Rejected) -> RaftsmanError:
    """The error that the state's refusal is to a caller."""
    code = _OTHER_REASONS.get(outcome.reason, "INTERNAL")
    return from_reason(outcome.reason, outcome.message, dict(outcome.metadata), grpc_code=code)


def body_digest(request: Message) -> bytes:
    """SHA-256 of the request without its id: equal for a repetition, whatever order a client wrote maps in."""
    body: Any = type(request)()
    body.CopyFrom(request)
    body.ClearField("request_id")
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\0" + body.SerializeToString(deterministic=True)).digest()


def namespace_of(text: str) -> str:
    """The namespace of a write or of one object; raises ``InvalidError``."""
    if not text:
        return DEFAULT_NAMESPACE
    if not limits.NAME.fullmatch(text):
        raise InvalidError(f"namespace: {text[:80]!r}; expected {limits.NAME_RULE}", field="namespace")
    return text


def job_key(key: Any, field: str = "job.name") -> tuple[str, str]:
    """Namespace and name of a ``JobKey``; raises ``InvalidError`` where no job can have that name."""
    name, slash, suffix = key.name.partition("/")
    if not limits.NAME.fullmatch(name) or (slash and not is_run_suffix(suffix)):
        raise InvalidError(f"{field}: {key.name[:80]!r}; expected {limits.NAME_RULE}", field=field)
    return namespace_of(key.namespace), key.name


def group_name(text: str, field: str) -> str:
    """The name of a group; raises ``InvalidError`` where none can have it."""
    if not limits.NAME.fullmatch(text):
        raise InvalidError(f"{field}: {text[:80]!r}; expected {limits.NAME_RULE}", field=field)
    return text
