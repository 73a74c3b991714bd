"""Which certificate this agent uses: its own directory, or one claimed from a pool that several agents share.

Owns: the claim. Leaves to others: issuing (``raftsman certs``). The rule: a claim is a lock on the certificate's
directory, held for the life of the process, so a dead agent's certificate is free again and nothing is ever moved.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.contract.channel import Identity, TlsFiles
from orchestrator.contract.errors import StartupError

_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python does not name
USED_BY = "used-by"
"""File beside a claimed certificate: the id of the node that used it last."""


@dataclass(slots=True)
class Claim:
    name: str
    files: TlsFiles
    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


def claim(pool: Path, node_id: str, preferred: str) -> Claim:
    """Lock a certificate of ``pool``: the ``preferred`` one, which this node used before, else one that no other node
    has used yet, else any free one. Raises ``StartupError``.

    The cluster knows a node by the certificate that registered it, so a node whose own one is taken must not start.
    """
    try:
        names = [path.name for path in pool.iterdir() if (path / "key.pem").is_file()]
    except OSError as error:
        raise StartupError(f"cannot read the certificates in {pool}: {error.strerror}") from error
    names = [name for name in names if not name.startswith(".")]
    if preferred in names:
        found = _lock(pool / preferred)
        if found is None:
            raise StartupError(
                f"the certificate {pool / preferred} of this node is in use by another agent; stop that one, or start "
                "this one as a new node with a fresh --data directory"
            )
        return found
    names.sort(key=lambda name: (_user(pool / name) not in ("", node_id), _number(name), name))
    for name in names:
        found = _lock(pool / name)
        if found is not None:
            # Read-only pools work too; then two agents that start anew at once may swap their certificates.
            with contextlib.suppress(OSError):
                (pool / name / USED_BY).write_text(node_id)
            return found
    raise StartupError(
        f"all {len(names)} certificates in {pool} are in use; issue more with `raftsman certs init --agents N`"
    )


def _lock(directory: Path) -> Claim | None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return Claim(directory.name, TlsFiles.in_directory(directory), descriptor)


def _user(directory: Path) -> str:
    try:
        return (directory / USED_BY).read_text()
    except OSError:
        return ""


def check(files: TlsFiles, now: datetime.datetime) -> datetime.datetime:
    """When the certificate ends; raises ``StartupError`` where no peer could accept it."""
    for path in (files.ca, files.cert, files.key):
        try:
            path.read_bytes()
        except OSError as error:
            raise StartupError(
                f"cannot read {path}: {error.strerror}; --tls expects ca.pem, cert.pem and key.pem (raftsman certs)"
            ) from error
    own = _verified(files)
    names = [value for part in own["subject"] for kind, value in part if kind == "commonName"]
    identity = Identity.parse(names[0]) if len(names) == 1 else None
    if identity is None or identity.kind != "agent":
        raise StartupError(
            f"{files.cert} belongs to {names[0] if names else 'nobody'}; an agent needs one of agent:NAME"
        )
    ends = datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(own["notAfter"]), datetime.UTC)
    if ends <= now:
        raise StartupError(f"{files.cert} ended on {ends:%Y-%m-%d}; issue a new one: raftsman certs")
    return ends


def _verified(files: TlsFiles) -> dict[str, Any]:
    """The certificate as a peer that trusts the authority gets it in a handshake, dates aside; see ``getpeercert``.

    A handshake in memory, since Python's own library does not verify a certificate otherwise, and the library that does
    costs every agent 8 MiB for as long as it lives. Raises ``StartupError``.
    """
    peer, own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        peer.load_verify_locations(files.ca)
    except ssl.SSLError as error:
        raise StartupError(f"{files.ca} is no PEM certificate: {error}") from error
    try:
        for side in (peer, own):
            side.load_cert_chain(files.cert, files.key)
    except ssl.SSLError as error:
        raise StartupError(
            f"{files.cert} and {files.key} are no PEM certificate with its private key: {error}"
        ) from error
    peer.verify_mode = ssl.CERT_REQUIRED
    peer.verify_flags |= _NO_CHECK_TIME
    own.check_hostname, own.verify_mode = False, ssl.CERT_NONE
    to_peer, to_own = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [own.wrap_bio(to_own, to_peer), peer.wrap_bio(to_peer, to_own, server_side=True)]
    shaking = list(sides)
    try:
        while shaking:
            for side_ in list(shaking):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side_.do_handshake()
                    shaking.remove(side_)
    except ssl.SSLError as error:
        raise StartupError(
            f"{files.cert} was not issued by the authority in {files.ca}; issue one with raftsman certs ({error})"
        ) from error
    return sides[1].getpeercert() or {}


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
