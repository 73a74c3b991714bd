"""A peer that must not run says why and how to proceed, in one line, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
import resource
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from orchestrator.client.aio import Client
from orchestrator.contract.channel import TlsFiles, server_credentials
from orchestrator.contract.errors import NoLeaderError
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.ops import certs
from orchestrator.replication.turns import EXIT_STORAGE
from tests.integration.peer_processes import PeerCluster, eventually, peer_cluster

pytestmark = pytest.mark.cluster

GRPC_LOG = re.compile(r"[IWE]\d{4} ")
"""gRPC's own log lines, as of failed handshakes."""


async def refusal(cluster: PeerCluster, *arguments: str, peer: str = "p1") -> str:
    """What the process says when it refuses to start: exactly one line that is no log line."""
    argv = cluster.argv(peer)
    for flag, value in zip(arguments[::2], arguments[1::2], strict=True):
        if flag in argv:
            argv[argv.index(flag) + 1] = value
        else:
            argv += [flag, value]
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(30):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError("it did not refuse") from None
    said = [line for line in err.decode().splitlines() if not line.startswith("{") and not GRPC_LOG.match(line)]
    assert process.returncode == 1, err.decode()
    assert not out
    assert len(said) == 1, err.decode()
    assert said[0].startswith("raftsman peer: ")
    return said[0]


@contextlib.contextmanager
def listening(address: str) -> Iterator[None]:
    host, port = address.split(":")
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, int(port)))
        held.listen()
        yield


@pytest.mark.parametrize("flag", ["--listen", "--http"])
async def test_a_taken_port_is_named(tmp_path: Path, flag: str) -> None:
    cluster = PeerCluster(tmp_path, count=1)
    address = (cluster.addresses if flag == "--listen" else cluster.http)["p1"]
    with listening(address):
        said = await refusal(cluster)
    assert f"{flag} {address}" in said
    assert "in use" in said


async def test_a_data_directory_of_another_peer_or_cluster_is_refused(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, count=1):
        pass
    cluster = PeerCluster(tmp_path, count=1)
    said = await refusal(cluster, "--cluster", "other")
    assert "belongs to peer 'p1' of cluster 'raftsman'" in said
    everybody = f"p9={cluster.addresses['p1']}"
    said = await refusal(cluster, "--id", "p9", "--peers", everybody)
    assert "belongs to peer 'p1'" in said


async def test_a_data_directory_in_use_is_refused(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, count=1) as running:
        other = PeerCluster(tmp_path, count=1)
        said = await refusal(other)
        assert f"in use by process {running.processes['p1'].pid}" in said


async def test_a_peer_that_is_not_in_its_own_list_is_refused(tmp_path: Path) -> None:
    said = await refusal(PeerCluster(tmp_path), "--id", "p7")
    assert "--id p7 is not among --peers (p1, p2, p3)" in said


async def test_a_bad_peer_list_is_refused_with_the_bad_part(tmp_path: Path) -> None:
    said = await refusal(PeerCluster(tmp_path), "--peers", "p1=127.0.0.1:7400,p2")
    assert "--peers: 'p2'; expected id=host:port" in said


async def test_a_peer_with_another_list_refuses_to_run_and_the_others_stay(tmp_path: Path) -> None:
    cluster = PeerCluster(tmp_path)
    try:
        for peer in ("p1", "p2"):
            await cluster.start(peer)
        full = cluster.addresses
        cluster.addresses = {**full, "p4": "127.0.0.1:1"}
        said = await refusal(cluster, peer="p3")
        assert "this peer cannot take part" in said
        assert "p1, p2, p3, p4" in said
        assert "start every peer with the same list" in said
        cluster.addresses = full
        await cluster.start("p3")
        await cluster.leader()
    finally:
        await cluster.stop()


async def test_a_peer_of_another_authority_refuses_to_run_and_the_others_stay(tmp_path: Path) -> None:
    cluster = PeerCluster(tmp_path, secure=True)
    try:
        for peer in ("p1", "p2"):
            await cluster.start(peer)
        certs.create_authority(tmp_path / "foreign", "raftsman")
        foreign = certs.issue(tmp_path / "foreign", "peer", "p3")
        said = await refusal(cluster, "--tls", str(foreign), peer="p3")
        assert "this peer cannot take part" in said
        assert "its certificate is not of the authority in this peer's ca.pem" in said
        await cluster.start("p3")
        await cluster.leader()
    finally:
        await cluster.stop()


async def test_a_peer_list_other_than_the_clusters_members_is_refused(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path) as cluster:
        pass
    alone = f"p1={cluster.addresses['p1']}"
    said = await refusal(cluster, "--peers", alone)
    assert "--peers lists p1, but the cluster in" in said
    assert "has the members p1, p2, p3" in said


async def test_unfit_certificates_are_refused(tmp_path: Path) -> None:
    cluster = PeerCluster(tmp_path, secure=True)
    directory = tmp_path / "certs"
    said = await refusal(cluster, "--tls", str(directory / "peers" / "p2"))
    assert "is the certificate of peer:p2, but this process is to be peer:p1" in said
    said = await refusal(cluster, "--cluster", "other")
    assert "is of cluster 'raftsman', but --cluster says 'other'" in said
    said = await refusal(cluster, "--tls", str(tmp_path / "nowhere"))
    assert "No such file" in said and "ca.pem" in said
    certs.create_authority(tmp_path / "foreign", "raftsman")
    foreign = certs.issue(tmp_path / "foreign", "peer", "p1")
    mine = directory / "peers" / "p1"
    ours = (mine / "ca.pem").read_bytes()
    (mine / "ca.pem").write_bytes((foreign / "ca.pem").read_bytes())
    assert "was not signed by the authority" in await refusal(cluster)
    (mine / "ca.pem").write_bytes(ours)
    key = (mine / "key.pem").read_bytes()
    (mine / "key.pem").chmod(0o600)
    (mine / "key.pem").write_bytes((foreign / "key.pem").read_bytes())
    assert "is not the key of" in await refusal(cluster)
    (mine / "key.pem").write_bytes(key)
    expire(directory, mine)
    assert "expired on" in await refusal(cluster)


def expire(directory: Path, peer: Path) -> None:
    """Replace the peer's certificate by an equal one that ended an hour ago."""
    old = x509.load_pem_x509_certificate((peer / "cert.pem").read_bytes())
    key = serialization.load_pem_private_key((directory / "authority" / "ca-key.pem").read_bytes(), password=None)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(hours=1))
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    expired = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    (peer / "cert.pem").write_bytes(expired.public_bytes(serialization.Encoding.PEM))


async def test_others_whose_certificates_have_expired_are_called_so_and_waited_for(tmp_path: Path) -> None:
    """It was called another authority's, and the peer ended: the first one that is renewed after all have expired."""
    cluster = PeerCluster(tmp_path, secure=True)
    held = []
    try:
        for peer in ("p2", "p3"):
            files = cluster.directory / "certs" / "peers" / peer
            expire(cluster.directory / "certs", files)
            server = grpc.aio.server()
            server.add_secure_port(cluster.addresses[peer], server_credentials(TlsFiles.in_directory(files)))
            await server.start()
            held.append(server)
        await cluster.start("p1")

        async def both() -> bool:
            return all(f"certs issue peer {peer} --renew" in cluster.log("p1") for peer in ("p2", "p3"))

        await eventually(both)
        stub = cluster.control("p1")
        request = pb.ClusterStatusRequest(read={"stale": True})
        said = (await stub.ClusterStatus(request, timeout=5, wait_for_ready=True)).waits_for
        assert "p2 (" in said
        assert "its certificate has expired or is not valid yet" in said
        assert cluster.processes["p1"].returncode is None, "it waits for them"
        async with Client([cluster.addresses["p2"]], tls=cluster.tls(), timeout_s=1) as client:
            with pytest.raises(NoLeaderError, match="its certificate has expired"):
                await client.list_nodes()
    finally:
        for server in held:
            await server.stop(None)
        await cluster.stop()


async def test_sigterm_ends_a_peer_with_watchers_and_it_starts_again(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, count=1) as cluster:
        stub = cluster.control("p1")
        await stub.PutVariable(pb.PutVariableRequest(name="a", value="1"), timeout=10)
        watch = stub.WatchEvents(pb.WatchEventsRequest(namespace="*"), timeout=60)
        await watch.read()
        process = cluster.processes.pop("p1")
        process.terminate()
        async with asyncio.timeout(20):
            assert await process.wait() == 0
        assert "Traceback" not in cluster.log("p1"), cluster.log("p1")
        watch.cancel()
        await cluster.start("p1")
        await cluster.leader()
        read = await cluster.control("p1").GetVariable(pb.GetVariableRequest(name="a"), timeout=10)
        assert read.variable.value == "1"


async def test_a_first_start_says_everywhere_whom_it_waits_for(tmp_path: Path) -> None:
    """Two of three are a majority, and yet not enough: nobody said so."""
    cluster = PeerCluster(tmp_path)
    try:
        for peer in ("p1", "p2"):
            await cluster.start(peer)
        stub = cluster.control("p1")

        async def waits() -> str:
            with contextlib.suppress(grpc.aio.AioRpcError):
                request = pb.ClusterStatusRequest(read={"stale": True})
                return str((await stub.ClusterStatus(request, timeout=2, wait_for_ready=True)).waits_for)
            return ""

        async def only_p3() -> bool:
            said = await waits()
            return (
                f"it has not heard from p3 ({cluster.addresses['p3']}): the first start of a cluster needs every"
                in said
            )

        await eventually(only_p3)
        with pytest.raises(grpc.aio.AioRpcError, match="has not heard from p3"):
            await stub.PutVariable(pb.PutVariableRequest(name="a", value="1", request_id="r"), timeout=2)

        async def told() -> bool:
            return "has not heard from p3" in cluster.log("p1")

        await eventually(told)
        await cluster.start("p3")
        await cluster.leader()
        assert await waits() == ""
    finally:
        await cluster.stop()


async def test_a_terminal_that_closes_ends_a_peer_in_order(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it, and so would the peer
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0] - 1, limits[1]))
    async with peer_cluster(tmp_path, count=1) as cluster:
        await cluster.leader()
        raised = resource.prlimit(cluster.processes["p1"].pid, resource.RLIMIT_NOFILE)
        assert raised == (limits[1], limits[1]), "each agent and each watcher is a connection"
        cluster.processes["p1"].send_signal(signal.SIGHUP)
        assert await cluster.ended("p1") == 0
        assert '"event": "stopping"' in cluster.log("p1")
        cluster.dismiss("p1")


async def test_a_peer_whose_directory_is_deleted_under_it_does_not_go_on(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, count=1) as cluster:
        await cluster.leader()
        shutil.rmtree(tmp_path / "p1")
        assert await cluster.ended("p1") == EXIT_STORAGE
        assert f"{tmp_path / 'p1'} (or the lock in it) was deleted or moved while this peer ran" in cluster.log("p1")
        cluster.dismiss("p1")
