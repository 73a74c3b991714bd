"""Which certificate this agent uses: its own directory, or one claimed from a pool that several agents share.

Owns: the claim. Leaves to others: issuing (``raftsman certs``). The rule: a claim is a lock on the certificate's
directory, held for the life of the process, so a dead agent's certificate is free again and nothing is ever moved.
"""

from __future__ import annotations

import datetime
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from orchestrator.contract.channel import Identity, TlsFiles
from orchestrator.contract.errors import StartupError


@dataclass(slots=True)
class Claim:
    name: str
    files: TlsFiles
    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


def claim(pool: Path, preferred: str) -> Claim:
    """Lock a free certificate of ``pool``, the ``preferred`` one if it is free. Raises ``StartupError``."""
    try:
        names = sorted(path.name for path in pool.iterdir() if (path / "key.pem").is_file())
    except OSError as error:
        raise StartupError(f"cannot read the certificates in {pool}: {error.strerror}") from error
    names = [name for name in names if not name.startswith(".")]
    names.sort(key=lambda name: (name != preferred, _number(name), name))
    for name in names:
        descriptor = os.open(pool / name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        return Claim(name, TlsFiles.in_directory(pool / name), descriptor)
    raise StartupError(
        f"all {len(names)} certificates in {pool} are in use; issue more with `raftsman certs init --agents N`"
    )


def check(files: TlsFiles, now: datetime.datetime) -> datetime.datetime:
    """When the certificate ends; raises ``StartupError`` where no peer could accept it."""
    read = []
    for path in (files.ca, files.cert, files.key):
        try:
            read.append(path.read_bytes())
        except OSError as error:
            raise StartupError(
                f"cannot read {path}: {error.strerror}; --tls expects ca.pem, cert.pem and key.pem (raftsman certs)"
            ) from error
    try:
        authority, own = (x509.load_pem_x509_certificate(data) for data in read[:2])
    except ValueError as error:
        raise StartupError(f"{files.ca} or {files.cert} is no PEM certificate: {error}") from error
    names = [str(name.value) for name in own.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    identity = Identity.parse(names[0]) if len(names) == 1 else None
    if identity is None or identity.kind != "agent":
        raise StartupError(
            f"{files.cert} belongs to {names[0] if names else 'nobody'}; an agent needs one of agent:NAME"
        )
    try:
        own.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise StartupError(
            f"{files.cert} was not issued by the authority in {files.ca}; issue one with raftsman certs"
        ) from error
    if own.not_valid_after_utc <= now:
        raise StartupError(f"{files.cert} ended on {own.not_valid_after_utc:%Y-%m-%d}; issue a new one: raftsman certs")
    return own.not_valid_after_utc


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
