"""Who is calling, and what they may call.

Owns: reading the caller from a call's certificate (or, on a forwarded call, from the metadata that a peer vouches for)
and the table of which kind may use which service. Leaves to others: what an identity may do *within* a method
(``agents`` checks that an agent speaks for its own node). Tokens, users and policy enter here: a further way to fill
``Caller`` and a finer table. The rule: forwarded identity is believed only when the calling certificate is a peer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from orchestrator.contract import channel
from orchestrator.contract.channel import FORWARDED_IDENTITY, INSECURE, Identity, Kind
from orchestrator.contract.errors import PermissionError_, UnauthenticatedError

CONTROL = "orchestrator.contract.v1.Control"
AGENTS = "orchestrator.contract.v1.Agents"
PEERS = "orchestrator.replication.v1.Peers"

ALLOWED: Mapping[str, frozenset[Kind]] = {
    CONTROL: frozenset({"client", "gateway", "peer"}),
    AGENTS: frozenset({"agent"}),
    PEERS: frozenset({"peer"}),
}
"""Service to the kinds that may call its methods. Health and reflection answer whoever passed the handshake."""

NARROWER: Mapping[tuple[str, str], frozenset[Kind]] = {
    (CONTROL, "Backup"): frozenset({"client"}),  # every variable of every namespace; a gateway has no login
    (CONTROL, "Session"): frozenset({"client"}),  # whoever may, is in every container
}
"""Methods that fewer kinds may call than their service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. ``secure`` False: the server runs without TLS (tests on loopback) and nobody is refused.

    ``forwarded``: another peer took the call; it must be answered here or refused, never forwarded again.
    """

    identity: Identity
    secure: bool = True
    forwarded: bool = False


def caller_of(context: Any, *, secure: bool) -> Caller:
    """The caller of a gRPC call, from its servicer context; raises ``UnauthenticatedError``."""
    forwarded = ""
    for key, value in context.invocation_metadata() or ():
        if key == FORWARDED_IDENTITY:
            forwarded = value if isinstance(value, str) else value.decode("utf-8", "replace")
    if not secure:
        return Caller(identity=INSECURE, secure=False, forwarded=bool(forwarded))
    identity = channel.identity_of(cast(Mapping[str, Any], context.auth_context()))
    if identity is None:
        raise UnauthenticatedError(
            "the certificate names no caller: its CN must be kind:name (raftsman certs makes such certificates)"
        )
    if not forwarded:
        return Caller(identity=identity)
    if identity.kind != "peer":
        raise PermissionError_(f"{identity} may not forward calls of others: only peers may")
    original = Identity.parse(forwarded)
    if original is None:
        raise UnauthenticatedError(f"{identity} forwarded a call of {forwarded!r}, which is not kind:name")
    return Caller(identity=original, forwarded=True)


def authorize(caller: Caller, service: str, method: str) -> None:
    """Raises ``PermissionError_`` unless the table lets the caller use ``method`` of ``service``."""
    if not caller.secure:
        return
    allowed = NARROWER.get((service, method), ALLOWED.get(service, frozenset()))
    if caller.identity.kind not in allowed:
        kinds = " or ".join(sorted(allowed)) or "nobody"
        raise PermissionError_(
            f"{caller.identity} may not call {method}: that takes a certificate of a {kinds} (raftsman certs)"
        )


def peer_of(context: Any, *, secure: bool) -> str | None:
    """The calling peer's id by its certificate; None when the caller is no peer or the server runs without TLS."""
    if not secure:
        return None
    identity = channel.identity_of(cast(Mapping[str, Any], context.auth_context()))
    return identity.name if identity is not None and identity.kind == "peer" else None
