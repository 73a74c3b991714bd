"""Certificates: one authority per cluster, one certificate per peer, agent, client and gateway.

Owns: making and reading PEM files in the layout below. Leaves to others: what an identity may do (``api``), dialling
and listening (``contract.channel``), claiming one of a pool (``agent.certificates``). The rule: the authority's key
stays in ``authority/`` and is never copied; every key file is readable by its owner alone.

    DIR/authority/ca.pem ca-key.pem         DIR/peers/p1/ca.pem cert.pem key.pem
    DIR/agents/n1/...                       DIR/clients/admin/...        DIR/gateways/gateway/...
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.contract.channel import KINDS, PEER_SERVER_NAME, Kind
from orchestrator.contract.errors import CorruptError, InvalidError, NotFoundError

VALID = datetime.timedelta(days=365)
WARN_BEFORE = datetime.timedelta(days=30)
AUTHORITY_VALID = datetime.timedelta(days=3650)
CLOCK_SKEW = datetime.timedelta(minutes=10)
"""Certificates are valid from a little before they were made: the machines' clocks differ."""

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9._-]{0,250}[A-Za-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateInfo:
    """One certificate on disk."""

    path: Path
    subject: str  # "peer:p1", or "authority"
    cluster: str
    expires: datetime.datetime  # aware, UTC
    hosts: tuple[str, ...]

    def days_left(self, now: datetime.datetime) -> int:
        return (self.expires - now).days


def create_authority(directory: Path | str, cluster: str) -> Path:
    """Make the cluster's authority unless it is there; returns the path of its certificate.

    Raises ``InvalidError`` when ``directory`` already holds the authority of another cluster.
    """
    if not _NAME.fullmatch(cluster):
        raise InvalidError(f"cluster name {cluster!r}: expected a-z, 0-9, '.', '_' or '-', at most 63")
    base = Path(directory) / "authority"
    if (base / "ca.pem").exists():
        found = read(base / "ca.pem")
        if found.cluster != cluster:
            raise InvalidError(
                f"{base} is the authority of cluster {found.cluster!r}, not {cluster!r}; choose another directory"
            )
        return base / "ca.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("authority", cluster)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    with _new_directory(base) as fresh:
        _write(fresh / "ca-key.pem", _key_pem(key), private=True)
        _write(fresh / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return base / "ca.pem"


def issue(directory: Path | str, kind: Kind, name: str, hosts: Sequence[str] = (), *, renew: bool = False) -> Path:
    """The directory with ``ca.pem``, ``cert.pem`` and ``key.pem`` of ``kind:name``; made unless it is there.

    A certificate that is there is kept even if ``hosts`` differ: callers verify ``PEER_SERVER_NAME``, hosts are for
    other people's tools. One of an authority that is no more (compose's volumes were removed, the operator's folder
    stayed) is replaced: nobody would accept it. ``renew`` replaces it in any case, with the old one's hosts unless some
    are given; who uses it takes up the new one when it is started again. Raises ``InvalidError`` (name, kind) and
    ``NotFoundError`` (no authority here).
    """
    if kind not in KINDS:
        raise InvalidError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    if not _NAME.fullmatch(name):
        raise InvalidError(f"{kind} name {name!r}: expected a-z, 0-9, '.', '_' or '-', at most 63")
    base = Path(directory)
    target = base / f"{kind}s" / name
    if (target / "cert.pem").exists() and _same_authority(base / "authority", target):
        if not renew:
            return target
        hosts = hosts or [host for host in read(target / "cert.pem").hosts if host != PEER_SERVER_NAME]
    names: list[x509.GeneralName] = [_general_name(host) for host in hosts]  # refused before anything is taken away
    authority, authority_key = _load_authority(base / "authority")
    for name_of_old in ("cert.pem", "key.pem", "ca.pem"):
        (target / name_of_old).unlink(missing_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if kind == "peer":
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        names.insert(0, x509.DNSName(PEER_SERVER_NAME))
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(f"{kind}:{name}", _organization(authority)))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(authority_key, hashes.SHA256())
    with _new_directory(target) as fresh:
        _write(fresh / "key.pem", _key_pem(key), private=True)
        _write(fresh / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM))
        _write(fresh / "ca.pem", authority.public_bytes(serialization.Encoding.PEM))
    return target


def _same_authority(authority: Path, target: Path) -> bool:
    """Whether the certificate in ``target`` is this authority's; also where the authority itself is elsewhere."""
    if not (authority / "ca.pem").exists() or not (target / "ca.pem").exists():
        return not (authority / "ca.pem").exists()
    return (authority / "ca.pem").read_bytes() == (target / "ca.pem").read_bytes()


def write_context(target: Path, cluster: str, endpoints: Sequence[str]) -> None:
    """Put ``context.json`` beside a client's certificate: what ``raftsman --context NAME`` finds in ``.raftsman/NAME``.

    Paths in it are relative to the file, so the folder may be mounted elsewhere.
    """
    context = {
        "kind": "compose",
        "cluster": cluster,
        "endpoints": list(endpoints),
        "ca": "ca.pem",
        "cert": "cert.pem",
        "key": "key.pem",
    }
    path = target / "context.json"
    fresh = target / ".context.json.new"
    fresh.write_text(json.dumps(context, indent=2) + "\n")
    fresh.replace(path)


def give_to(target: Path, uid: int, gid: int) -> None:
    """Make ``uid``:``gid`` the owner of a certificate's directory and files; only root can do this for others."""
    for path in (target, *sorted(target.iterdir())):
        facts = path.stat()
        if (facts.st_uid, facts.st_gid) != (uid, gid):
            os.chown(path, uid, gid)


def read(path: Path | str) -> CertificateInfo:
    """What the PEM file says. Raises ``NotFoundError`` and ``CorruptError``."""
    certificate = _certificate(Path(path))
    hosts: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts += names.get_values_for_type(x509.DNSName)
        hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return CertificateInfo(
        path=Path(path),
        subject=str(common[0].value) if common else "",
        cluster=_organization(certificate),
        expires=certificate.not_valid_after_utc,
        hosts=tuple(hosts),
    )


def list_certificates(directory: Path | str) -> list[CertificateInfo]:
    """Every certificate in the layout, the authority's first, then by kind and name."""
    base = Path(directory)
    paths = [base / "authority" / "ca.pem"]
    paths += [path for kind in KINDS for path in sorted((base / f"{kind}s").glob("[!.]*/cert.pem"))]
    return [read(path) for path in paths if path.exists()]


def _subject(common_name: str, organization: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _organization(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(names[0].value) if names else ""


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise InvalidError(f"host {host[:80]!r}: expected a DNS name in ASCII, or an address") from None
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_authority(base: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _certificate(base / "ca.pem")
    try:
        key = serialization.load_pem_private_key((base / "ca-key.pem").read_bytes(), password=None)
    except FileNotFoundError:
        raise NotFoundError(f"{base / 'ca-key.pem'} is not here: issue where the authority lives") from None
    except ValueError as error:
        raise CorruptError(f"{base / 'ca-key.pem'} is not a private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CorruptError(f"{base / 'ca-key.pem'} is not the key of {base / 'ca.pem'}")
    return certificate, key


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist; `raftsman certs init` makes an authority") from None
    except ValueError as error:
        raise CorruptError(f"{path} is not a certificate: {error}") from None


@contextlib.contextmanager
def _new_directory(target: Path) -> Iterator[Path]:
    """A directory that appears whole or not at all; when another process was quicker, its files win."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        yield fresh
        fresh.chmod(0o755)
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # An empty directory (a mounted volume) cannot always be replaced: fill it instead.
            for path in sorted(fresh.iterdir(), key=lambda path: path.name == "cert.pem"):
                if not (target / path.name).exists():
                    shutil.copy2(path, target / path.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _write(path: Path, data: bytes, *, private: bool = False) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
