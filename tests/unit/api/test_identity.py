from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.identity import AGENTS, ALLOWED, CONTROL, PEERS, Caller, authorize, caller_of, peer_of
from orchestrator.contract.channel import FORWARDED_IDENTITY, INSECURE, KINDS, Identity
from orchestrator.contract.errors import PermissionError_, UnauthenticatedError


class Context:
    def __init__(self, name: str | None, forwarded: str | None = None) -> None:
        self._name = name
        self._forwarded = forwarded

    def auth_context(self) -> dict[str, Any]:
        return {} if self._name is None else {"x509_common_name": [self._name.encode()]}

    def invocation_metadata(self) -> Any:
        return None if self._forwarded is None else ((FORWARDED_IDENTITY, self._forwarded),)


def test_the_caller_is_who_the_certificate_names() -> None:
    caller = caller_of(Context("agent:n1"), secure=True)
    assert (caller.identity, caller.forwarded, caller.secure) == (Identity("agent", "n1"), False, True)


@pytest.mark.parametrize("name", [None, "", "n1", "agent:", "root:n1"])
def test_a_certificate_that_names_nobody_is_refused(name: str | None) -> None:
    with pytest.raises(UnauthenticatedError, match="kind:name"):
        caller_of(Context(name), secure=True)


def test_a_peer_may_say_for_whom_it_calls() -> None:
    caller = caller_of(Context("peer:p1", forwarded="agent:n1"), secure=True)
    assert (caller.identity, caller.forwarded) == (Identity("agent", "n1"), True)
    with pytest.raises(UnauthenticatedError, match="nonsense"):
        caller_of(Context("peer:p1", forwarded="nonsense"), secure=True)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "peer"])
def test_nobody_else_may(kind: str) -> None:
    with pytest.raises(PermissionError_, match="may not forward"):
        caller_of(Context(f"{kind}:x", forwarded="client:admin"), secure=True)


def test_a_server_without_tls_believes_no_name_and_refuses_nobody() -> None:
    caller = caller_of(Context(None, forwarded="agent:n1"), secure=False)
    assert (caller.identity, caller.secure, caller.forwarded) == (INSECURE, False, True)
    for service in (CONTROL, AGENTS, PEERS):
        authorize(caller, service, "Anything")


def test_a_certificate_cannot_claim_to_be_insecure() -> None:
    caller = caller_of(Context(str(INSECURE)), secure=True)
    with pytest.raises(PermissionError_):
        authorize(caller, AGENTS, "Register")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("service", [CONTROL, AGENTS, PEERS, "some.Other"])
def test_the_table_decides(kind: Any, service: str) -> None:
    caller = Caller(identity=Identity(kind, "x"))
    if kind in ALLOWED.get(service, ()):
        authorize(caller, service, "Method")
    else:
        with pytest.raises(PermissionError_, match=f"{kind}:x may not call Method"):
            authorize(caller, service, "Method")


def test_a_peers_id_is_proven_only_by_a_peers_certificate() -> None:
    assert peer_of(Context("peer:p1"), secure=True) == "p1"
    assert peer_of(Context("agent:p1"), secure=True) is None
    assert peer_of(Context(None), secure=True) is None
    assert peer_of(Context("peer:p1"), secure=False) is None
