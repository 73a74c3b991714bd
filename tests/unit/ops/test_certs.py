"""Certificates: what they say, who can read their keys, and that they work for mutual TLS."""

from __future__ import annotations

import datetime
import json
import ssl
import stat
from pathlib import Path

import grpc
import grpc.aio
import pytest
from click.testing import CliRunner
from cryptography import x509

from orchestrator.cli import main
from orchestrator.contract.channel import Identity, Kind, TlsFiles, dial, identity_of, server_credentials
from orchestrator.contract.errors import CorruptError, InvalidError, NotFoundError
from orchestrator.ops import certs
from orchestrator.ops.certs_command import command


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    certs.create_authority(tmp_path, "test")
    return tmp_path


def test_a_certificate_names_kind_name_cluster_and_hosts(authority: Path) -> None:
    directory = certs.issue(authority, "peer", "p1", ["127.0.0.1", "peer-1"])
    info = certs.read(directory / "cert.pem")
    assert (info.subject, info.cluster) == ("peer:p1", "test")
    assert info.hosts == ("peer.raftsman", "peer-1", "127.0.0.1")


def test_certificates_live_a_year_and_began_in_the_past(authority: Path) -> None:
    directory = certs.issue(authority, "agent", "n1")
    now = datetime.datetime.now(datetime.UTC)
    certificate = x509.load_pem_x509_certificate((directory / "cert.pem").read_bytes())
    assert certificate.not_valid_before_utc < now - datetime.timedelta(minutes=5)
    assert 363 <= certs.read(directory / "cert.pem").days_left(now) <= 365
    assert certs.read(directory / "cert.pem").expires == certificate.not_valid_after_utc


@pytest.mark.parametrize(("kind", "serves"), [("peer", True), ("agent", False), ("client", False), ("gateway", False)])
def test_only_a_peer_may_serve(authority: Path, kind: Kind, serves: bool) -> None:
    directory = certs.issue(authority, kind, "x")
    certificate = x509.load_pem_x509_certificate((directory / "cert.pem").read_bytes())
    usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert (x509.oid.ExtendedKeyUsageOID.SERVER_AUTH in usages) is serves
    assert x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH in usages


def test_keys_are_readable_by_their_owner_alone(authority: Path) -> None:
    directory = certs.issue(authority, "client", "admin")
    for key in (directory / "key.pem", authority / "authority" / "ca-key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_issuing_twice_keeps_the_first(authority: Path) -> None:
    first = (certs.issue(authority, "agent", "n1") / "cert.pem").read_bytes()
    assert (certs.issue(authority, "agent", "n1") / "cert.pem").read_bytes() == first
    ca = (authority / "authority" / "ca.pem").read_bytes()
    certs.create_authority(authority, "test")
    assert (authority / "authority" / "ca.pem").read_bytes() == ca


def test_renewing_replaces_the_certificate_and_keeps_its_hosts(authority: Path) -> None:
    target = certs.issue(authority, "peer", "p1", ["10.0.0.1", "a.example"])
    before, key = certs.read(target / "cert.pem"), (target / "key.pem").read_bytes()
    serial = x509.load_pem_x509_certificate((target / "cert.pem").read_bytes()).serial_number
    done = CliRunner().invoke(command, ["issue", "--dir", str(authority), "peer", "p1", "--renew"])
    assert done.output.strip() == str(target)
    assert x509.load_pem_x509_certificate((target / "cert.pem").read_bytes()).serial_number != serial
    assert (target / "key.pem").read_bytes() != key
    assert set(certs.read(target / "cert.pem").hosts) == set(before.hosts)


def test_a_certificate_that_is_kept_without_the_hosts_says_so(authority: Path) -> None:
    certs.issue(authority, "peer", "p1", ["a.example"])
    asked = ["issue", "--dir", str(authority), "peer", "p1", "--host", "a.example", "--host", "b.example"]
    done = CliRunner().invoke(command, asked)
    assert "peer:p1 was kept as it is, without b.example; --renew makes a new one" in done.output
    assert "was kept" not in CliRunner().invoke(command, [*asked, "--renew"]).output


def test_certificates_are_shown_as_asked_before_the_command_and_behind_it(
    authority: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certs.issue(authority, "agent", "n1")
    words = ["certs", "show", "--dir", str(authority)]

    def said(*arguments: str) -> str:
        assert main.run(list(arguments)) == 0
        return capsys.readouterr().out

    assert said(*words, "-o", "name") == "authority\nagent:n1\n"
    assert json.loads(said("-o", "json", *words)) == json.loads(said(*words, "-o", "json"))
    assert said(*words, "-q") == said(*words)


@pytest.mark.parametrize("host", ["", "\u00fc.example", "a b", "a" * 300, "http://a"])
def test_a_host_that_is_none_is_refused_and_the_certificate_that_was_there_stays(authority: Path, host: str) -> None:
    target = certs.issue(authority, "peer", "p1", ["a.example"])
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(InvalidError, match="expected a DNS name in ASCII, or an address"):
        certs.issue(authority, "peer", "p1", [host], renew=True)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--owner", "-5:0"], "expected UID:GID"),
        (["--owner", "9" * 30 + ":0"], "expected UID:GID"),
        (["--endpoints", "10.0.0.1:7400,nowhere"], "expected HOST:PORT"),
    ],
)
def test_init_refuses_what_will_not_do_before_it_makes_anything(tmp_path: Path, flags: list[str], text: str) -> None:
    done = CliRunner().invoke(command, ["init", "--dir", str(tmp_path / "certs"), *flags])
    assert done.exit_code == 2
    assert text in done.output
    assert not (tmp_path / "certs").exists()


def test_the_authority_of_another_cluster_is_refused(authority: Path) -> None:
    with pytest.raises(InvalidError, match="cluster 'test', not 'other'"):
        certs.create_authority(authority, "other")


@pytest.mark.parametrize("name", ["../x", "", "A", "a" * 64, "a/b"])
def test_names_that_could_leave_the_directory_are_refused(authority: Path, name: str) -> None:
    with pytest.raises(InvalidError):
        certs.issue(authority, "agent", name)


def test_issuing_without_the_authority_key_says_where_to_do_it(authority: Path) -> None:
    (authority / "authority" / "ca-key.pem").unlink()
    with pytest.raises(NotFoundError, match="where the authority lives"):
        certs.issue(authority, "agent", "n1")


def test_a_damaged_certificate_is_named(authority: Path) -> None:
    path = certs.issue(authority, "agent", "n1") / "cert.pem"
    path.write_text("nonsense")
    with pytest.raises(CorruptError, match=r"cert\.pem is not a certificate"):
        certs.read(path)


async def _who_am_i(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return str(identity_of(context.auth_context())).encode()


async def test_peers_and_clients_prove_who_they_are_over_mutual_tls(authority: Path, tmp_path: Path) -> None:
    server = grpc.aio.server()
    methods = {"WhoAmI": grpc.unary_unary_rpc_method_handler(_who_am_i)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x", methods),))
    peer = certs.issue(authority, "peer", "p1", ["127.0.0.1"])
    port = server.add_secure_port("127.0.0.1:0", server_credentials(TlsFiles.in_directory(peer)))
    await server.start()
    try:
        admin = TlsFiles.in_directory(certs.issue(authority, "client", "admin"))
        async with dial(f"127.0.0.1:{port}", admin) as channel:
            answer = await channel.unary_unary("/x/WhoAmI", bytes, bytes)(b"", timeout=10)
            assert answer == str(Identity("client", "admin")).encode()
        certs.create_authority(tmp_path / "foreign", "test")
        stranger = TlsFiles.in_directory(certs.issue(tmp_path / "foreign", "client", "admin"))
        mixed = TlsFiles(admin.ca, stranger.cert, stranger.key)
        async with dial(f"127.0.0.1:{port}", mixed) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/x/WhoAmI", bytes, bytes)(b"", timeout=10)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop(None)


def test_openssl_accepts_the_chain(authority: Path) -> None:
    directory = certs.issue(authority, "peer", "p1", ["localhost"])
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    assert context.cert_store_stats()["x509_ca"] == 1


def test_the_command_makes_issues_and_shows(tmp_path: Path) -> None:
    run = CliRunner()
    base = ["--dir", str(tmp_path / "c")]
    made = run.invoke(command, ["init", *base, "--cluster", "prod", "--peer", "p1=10.0.0.1,peer-1", "--agents", "2"])
    assert made.exit_code == 0, made.output
    issued = run.invoke(command, ["issue", *base, "gateway", "g1"])
    assert Path(issued.output.strip()) == tmp_path / "c" / "gateways" / "g1"
    shown = run.invoke(command, ["show", *base])
    for subject in ("authority", "peer:p1", "agent:agent-1", "agent:agent-2", "client:admin", "gateway:g1"):
        assert subject in shown.output
    again = run.invoke(command, ["init", *base, "--cluster", "prod", "--agents", "2"])
    assert again.exit_code == 0, again.output


def test_a_certificate_of_an_authority_that_is_no_more_is_replaced(tmp_path: Path) -> None:
    """Compose's volumes go with ``down -v``; the operator's folder stays and must not keep a dead certificate."""
    old, new = tmp_path / "old", tmp_path / "new"
    for base in (old, new):
        certs.create_authority(base, "compose")
    kept = certs.issue(old, "client", "admin")
    (new / "clients").mkdir()
    kept.rename(new / "clients" / "admin")
    target = certs.issue(new, "client", "admin")
    assert (target / "ca.pem").read_bytes() == (new / "authority" / "ca.pem").read_bytes()
    assert certs.issue(new, "client", "admin") == target
    assert certs.read(target / "cert.pem").subject == "client:admin"
