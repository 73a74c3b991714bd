"""Is this peer's certificate fit to serve with? Asked once, before anything is opened.

Owns: the checks at start-up (files readable, key and certificate belong together, signed by our authority, valid now,
named for this peer and cluster). Leaves to others: making certificates (``ops.certs``), what callers' certificates
prove (``identity``). The rule: every refusal names the file and the way on.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from orchestrator.contract.channel import PEER_SERVER_NAME, TlsFiles
from orchestrator.contract.errors import StartupError

T = TypeVar("T")

WAY_ON = "`raftsman certs` makes certificates"


def check_certificate(files: TlsFiles, *, peer_id: str, cluster: str) -> int:
    """When the certificate ends, in unix milliseconds; raises ``StartupError`` if a peer must not serve with it."""
    authority = _load(files.ca, x509.load_pem_x509_certificate)
    certificate = _load(files.cert, x509.load_pem_x509_certificate)
    key = _load(files.key, lambda data: serialization.load_pem_private_key(data, password=None))
    if _spki(key.public_key()) != _spki(certificate.public_key()):
        raise StartupError(f"{files.key} is not the key of {files.cert}: they were mixed up; {WAY_ON}")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise StartupError(
            f"{files.cert} was not signed by the authority in {files.ca}: it belongs to another cluster; {WAY_ON}"
        ) from None
    wanted, found = f"peer:{peer_id}", _name(certificate, NameOID.COMMON_NAME)
    if found != wanted:
        raise StartupError(
            f"{files.cert} is the certificate of {found or 'nobody'}, but this process is to be {wanted}: "
            f"start it with that --id, or name the right --tls directory; {WAY_ON}"
        )
    organization = _name(certificate, NameOID.ORGANIZATION_NAME)
    if organization and organization != cluster:
        raise StartupError(
            f"{files.cert} is of cluster {organization!r}, but --cluster says {cluster!r}: correct one; {WAY_ON}"
        )
    now = datetime.datetime.now(datetime.UTC)
    if now > certificate.not_valid_after_utc:
        raise StartupError(f"{files.cert} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; {WAY_ON}")
    if now < certificate.not_valid_before_utc:
        raise StartupError(
            f"{files.cert} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: check the clock"
        )
    if PEER_SERVER_NAME not in _dns_names(certificate):
        raise StartupError(f"{files.cert} lacks the DNS name {PEER_SERVER_NAME}, so nobody could verify it; {WAY_ON}")
    return int(certificate.not_valid_after_utc.timestamp() * 1000)


def _load(path: Path, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise StartupError(
            f"{path}: {error.strerror}; --tls names a directory with ca.pem, cert.pem, key.pem"
        ) from None
    except (ValueError, TypeError) as error:
        raise StartupError(f"{path} is not what it should be: {error}; {WAY_ON}") from None


def _spki(key: Any) -> bytes:
    data: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data


def _name(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    names = certificate.subject.get_attributes_for_oid(oid)
    return str(names[0].value) if names else ""


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.DNSName))


def expires_ms_of(context: Any) -> int:
    """When the certificate of a call's caller ends, in unix milliseconds; 0 without one."""
    for pem in context.auth_context().get("x509_pem_cert", ()):
        try:
            return int(x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp() * 1000)
        except ValueError:
            return 0
    return 0
