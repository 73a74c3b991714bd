"""Who talks to whom: TLS files, gRPC channel options, and the identity that a certificate proves.

Owns: the convention for certificates (subject CN ``kind:name``, O the cluster's name) and one way to dial and one to
listen. Leaves to others: making certificates (``ops.certs``), deciding what an identity may do (``api``). Tokens, users
and policy will enter here, as further kinds of ``Identity``. The rule: no plaintext except when a caller passes
``None`` on purpose (tests on loopback).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# gRPC's fork handlers stall processes that spawn children; we never fork (DESIGN.md, Dependencies).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import grpc.aio

Kind = Literal["peer", "agent", "client", "gateway"]
KINDS: tuple[Kind, ...] = ("peer", "agent", "client", "gateway")

PEER_SERVER_NAME = "peer.raftsman"
"""DNS name in every peer's certificate: callers verify that they reached *a* peer, whatever address they dialled."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

FORWARDED_IDENTITY = "raftsman-forwarded-identity"
"""Metadata key with the caller's identity on forwarded calls; trusted only when a peer's certificate sent it."""

WHICH_PEERS = "raftsman-peers"
"""Metadata key: a call that carries it is answered with the addresses of the cluster's peers, separated by commas, in
the trailing metadata, once they are others than those that everybody was set up with."""

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A killed peer must be redialled quickly: the default backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Not a pause: the least time that one attempt to connect is given (a TLS handshake on a busy machine).
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
    # One process may hold several identities (tests, drills): never share connections between channels.
    ("grpc.use_local_subchannel_pool", 1),
)

SERVER_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Of each method, what the loop has not got to yet or has no room for: from the first number on a growing part is
    # refused, above the second all of it. That costs gRPC's own threads a fraction of what it costs Python, and the
    # numbers keep a call from waiting until its deadline.
    ("grpc.server.max_pending_requests", 128),
    ("grpc.server.max_pending_requests_hard_limit", 256),
    # Two processes on one port would split the calls between them: refuse instead.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; by convention ``ca.pem``, ``cert.pem`` and ``key.pem`` in one directory."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def in_directory(cls, directory: Path | str) -> TlsFiles:
        base = Path(directory)
        return cls(base / "ca.pem", base / "cert.pem", base / "key.pem")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate says its holder is; written ``kind:name``."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        kind, colon, name = text.partition(":")
        if not colon or not name or kind not in KINDS:
            return None
        return cls(kind, name)


INSECURE = Identity("client", "insecure")
"""What every caller is when a server runs without TLS (tests on loopback only)."""


def dial(address: str, tls: TlsFiles | None, *, options: Iterable[tuple[str, int | str]] = ()) -> grpc.aio.Channel:
    """An asyncio channel to a peer at ``host:port``. Raises OSError when the PEM files cannot be read."""
    every = [*CHANNEL_OPTIONS, *options]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=every)
    every.append(("grpc.ssl_target_name_override", PEER_SERVER_NAME))
    return grpc.aio.secure_channel(address, channel_credentials(tls), options=every)


def channel_credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=tls.ca.read_bytes(),
        private_key=tls.key.read_bytes(),
        certificate_chain=tls.cert.read_bytes(),
    )


def server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Mutual TLS: a caller without a certificate of our authority does not get through the handshake."""
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.cert.read_bytes())],
        root_certificates=tls.ca.read_bytes(),
        require_client_auth=True,
    )


def identity_of(auth_context: Mapping[str, Iterable[bytes]]) -> Identity | None:
    """The identity in a call's ``context.auth_context()``; None where the certificate names none."""
    names = list(auth_context.get("x509_common_name", ()))
    if len(names) != 1:
        return None
    return Identity.parse(names[0].decode("utf-8", "replace"))
