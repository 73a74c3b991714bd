"""The contract, as somebody else would use it: every method on every peer, with stubs made from ``proto/`` alone."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from orchestrator.cli.context import grpcurl_line
from orchestrator.client.contexts import Context
from orchestrator.contract.v1 import agent_pb2, control_pb2
from orchestrator.ops import certs
from orchestrator.replication.v1 import peer_pb2
from tests.integration.peer_processes import peer_cluster

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parent.parent.parent
CALLER = Path(__file__).with_name("contract_caller.py")
METHODS = {
    method.name
    for descriptor, service in (
        (control_pb2.DESCRIPTOR, "Control"),
        (agent_pb2.DESCRIPTOR, "Agents"),
        (peer_pb2.DESCRIPTOR, "Peers"),
    )
    for method in descriptor.services_by_name[service].methods
}
PEER_METHODS = {method.name for method in peer_pb2.DESCRIPTOR.services_by_name["Peers"].methods}


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with generated code and nothing else."""
    from grpc_tools import protoc

    out = tmp_path_factory.mktemp("stubs")
    sources = [str(path) for path in sorted((ROOT / "proto").rglob("*.proto"))]
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}", *sources])
    assert code == 0
    for folder in {path.parent for path in out.rglob("*.py")}:
        while folder != out:
            (folder / "__init__.py").touch()  # so that this package wins over the installed one
            folder = folder.parent
    return out


@pytest.mark.parametrize("secure", [False, True], ids=["insecure", "tls"])
async def test_every_method_answers_on_every_peer(tmp_path: Path, stubs: Path, secure: bool) -> None:
    async with peer_cluster(tmp_path, secure=secure) as cluster:
        others = dict(zip(cluster.ids, [*cluster.ids[1:], cluster.ids[0]], strict=True))
        leaders = 0
        for peer in cluster.ids:
            directory = "-"
            if secure:
                directory = str(tmp_path / "certs")
                certs.issue(directory, "agent", peer)
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(CALLER), cluster.addresses[peer], directory, peer, cluster.addresses[others[peer]],
                cwd=stubs, env={**os.environ, "PYTHONPATH": str(stubs)},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await process.communicate()
            assert process.returncode == 0, f"{peer}:\n{err.decode()}\n{cluster.log(peer)[-2000:]}"
            codes = json.loads(out)
            assert codes.keys() == METHODS
            refused = {name: code for name, code in codes.items() if code != "OK"}
            if "Heartbeats" in refused:  # the leader alone takes them on a stream, and says so
                for name in ("Heartbeats", "Attend"):
                    said = refused.pop(name)
                    # The latter is grpc.aio's own word at a client that was refused before its first message had gone.
                    assert "lead" in said or said == "INTERNAL: Internal error from Core", said
            else:
                leaders += 1
            assert refused.pop("ChangePeers").startswith("INVALID_ARGUMENT")
            if secure:
                # A client is no peer, and the Raft methods say so.
                assert refused.keys() == PEER_METHODS
            else:
                assert refused.keys() <= PEER_METHODS
        assert leaders == 1


def as_grpcurl(line: str) -> dict[str, Any]:
    """What ``grpcurl`` does with that line: no proto files, the server's reflection instead; the answer as JSON."""
    program, *words = shlex.split(line)
    assert program == "grpcurl"
    flags = dict(zip(words[:-2:2], words[1:-2:2], strict=True))
    address, method = words[-2:]
    assert flags.keys() == {"-cacert", "-cert", "-key", "-authority", "-d"}
    ca, key, cert = (Path(flags[name]).read_bytes() for name in ("-cacert", "-key", "-cert"))
    options = [("grpc.ssl_target_name_override", flags["-authority"])]  # also the name that TLS verifies
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), options) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service, _, name = method.partition("/")
        found = pool.FindServiceByName(service).methods_by_name[name]
        request, answer = GetMessageClass(found.input_type), GetMessageClass(found.output_type)
        body = json_format.Parse(flags["-d"], request())
        unary = channel.unary_unary(f"/{method}", request.SerializeToString, answer.FromString)
        said: dict[str, Any] = json_format.MessageToDict(unary(body, timeout=15))
        return said


async def test_the_line_for_grpcurl_works_as_it_is_printed(tmp_path: Path) -> None:
    async with peer_cluster(tmp_path, secure=True) as cluster:
        folder = tmp_path / "certs" / "clients" / "admin"
        context = Context(
            name="it", endpoints=tuple(cluster.addresses.values()),
            ca=str(folder / "ca.pem"), cert=str(folder / "cert.pem"), key=str(folder / "key.pem"),
        )  # fmt: skip
        answer = await asyncio.to_thread(as_grpcurl, grpcurl_line(context))
        assert "jobs" not in answer  # there are none
        assert answer["read"]["peerId"] in cluster.ids
