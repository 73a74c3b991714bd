"""Every setting of an agent has an effect: a whole agent is told each, registers, serves and hands on what it says."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent import daemon
from agent.config import AgentSettings, load
from agent.daemon import Agent
from agent.dns.listen import serve_dns
from agent.driver import Instance, RunSpec
from agent.drivers.fake import FakeDriver
from agent.registry import DriverSettings
from agent.runspec import NodeFacts
from orchestrator.contract.log_lines import json_lines
from orchestrator.contract.model import NodeSpec
from orchestrator.contract.taints import describe
from orchestrator.ops import certs
from tests.integration.agent_fakes import FakePeer, assignment_of, key_of, task_of, until
from tests.integration.peer_processes import free_ports

ELSEWHERE = {
    "tls": "tests/integration/test_peer_agents.py",
    "insecure": "tests/unit/agent/test_config.py",
    "tls_pool": "below",
    "log_level": "below",
}
"""What a whole agent that is given everything cannot be given at once, and where it is shown."""


def said(address: str, directory: Path) -> dict[str, Any]:
    http, dns = free_ports(2)
    return {
        "name": "node-7",
        "peers": address,
        "api": "10.0.0.1:7400,10.0.0.2:7400",
        "data": str(directory / "data"),
        "insecure": True,
        "driver": ("fake",),
        "cpu": "1500m",
        "memory": "3Gi",
        "disk": "5Gi",
        "gpu": ("count=2,model=A100,memory=40Gi",),
        "label": ("tier=gold",),
        "resource": ("licenses=5",),
        "taint": ("gpu=only:NoSchedule",),
        "dataset": ("imagenet",),
        "datacenter": "dc7",
        "region": "eu",
        "zone": "z7",
        "rack": "r7",
        "address": "127.0.0.7",
        "publish_address": "127.0.0.8",
        "reach": "127.0.0.6",
        "http": f"127.0.0.1:{http}",
        "ports": "30000-30100",
        "dns": f"127.0.0.1:{dns}",
        "dns_upstream": "127.0.0.9:53",
        "workload_dir": str(directory / "sockets"),
        "allow_privileged": True,
        "allow_host_paths": True,
        "allow_host_network": True,
        "allow_cap": "NET_ADMIN",
        "pull_stall": "7m",
    }


def test_the_table_has_every_setting(tmp_path: Path) -> None:
    assert said("127.0.0.1:1", tmp_path).keys() | ELSEWHERE.keys() == set(AgentSettings.model_fields)


class Recorder(FakeDriver):
    """Remembers what it was told to start."""

    def __init__(self) -> None:
        super().__init__()
        self.specs: list[RunSpec] = []

    async def start(self, spec: RunSpec) -> Instance:
        self.specs.append(spec)
        return await super().start(spec)


async def test_a_whole_agent_does_what_each_setting_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, driver = FakePeer(), Recorder()
    options: list[DriverSettings] = []
    upstreams: list[str] = []

    async def listen(stack: Any, where: str, upstream: str, ask: Any, bridge: Any) -> Any:
        upstreams.append(upstream)
        return await serve_dns(stack, where, upstream, ask, bridge)

    def build(told: DriverSettings) -> Recorder:
        options.append(told)
        return driver

    monkeypatch.setattr(daemon, "serve_dns", listen)
    monkeypatch.setattr(daemon, "DRIVERS", {"fake": build})
    flags = said(await peer.start(), tmp_path)
    agent = Agent(load(flags))
    running = asyncio.get_running_loop().create_task(agent.run())
    try:
        node: NodeSpec = (await until(lambda: list(peer.nodes.values()), "the agent to register"))[0]
        key = key_of()
        peer.assign(assignment_of(key, replace(task_of("true"), driver="fake")))
        spec = (await until(lambda: driver.specs, "the task to start"))[0]

        assert node.name == "node-7"
        assert node.drivers == ("fake",)
        assert (node.capacity.cpu_millis, node.capacity.memory_mib, node.capacity.disk_mib) == (1500, 3072, 5120)
        assert node.capacity.custom == (("licenses", 5),)
        assert [(device.model, device.memory_mib) for device in node.devices] == [("A100", 40 * 1024)] * 2
        assert node.labels == (("tier", "gold"),)
        assert [describe(taint) for taint in node.taints] == ["gpu=only:NoSchedule"]
        assert node.datasets == ("imagenet",)
        assert (node.datacenter, node.region, node.zone, node.rack) == ("dc7", "eu", "z7", "r7")
        assert node.address == "127.0.0.7"
        assert (node.port_min, node.port_max) == (30_000, 30_100)

        (told,) = options
        assert told.data == tmp_path / "data"
        assert told.publish == ("127.0.0.8",)
        assert told.reach == "127.0.0.6"
        assert told.allow_privileged
        assert told.allow_host_paths
        assert told.allow_host_network
        assert told.allow_caps == {"NET_ADMIN"}
        assert told.pull_stall_s == 420

        env = dict(spec.env)
        assert env["RAFTSMAN_API"] == flags["api"]
        assert env["RAFTSMAN_DNS"] == flags["dns"]
        assert env["RAFTSMAN_WORKLOAD_SOCKET"].startswith(flags["workload_dir"])
        assert upstreams == ["127.0.0.9:53"]
        written = json.loads((tmp_path / "data" / "agent.json").read_text())
        assert (written["http"], written["dns"]) == (flags["http"], flags["dns"])
        host, port = flags["http"].rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"200"
        writer.close()
    finally:
        agent.stop.set()
        await running
        await peer.stop()


async def test_a_certificate_of_a_pool_names_the_node_and_is_what_it_calls_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certs.create_authority(tmp_path / "certs", "c")
    issued = certs.issue(tmp_path / "certs", "agent", "agent-3")
    dialled: list[Any] = []

    class Stopped(Exception):
        pass

    def session(**given: Any) -> None:
        dialled.append(given["tls"])
        raise Stopped

    monkeypatch.setattr(daemon, "Session", session)
    flags = {
        "peers": "127.0.0.1:1",
        "data": str(tmp_path / "data"),
        "tls_pool": str(issued.parent),
        "driver": ("fake",),
    }
    names: list[str] = []

    def facts(**given: Any) -> NodeFacts:
        names.append(given["name"])
        return NodeFacts(**given)

    monkeypatch.setattr(daemon, "NodeFacts", facts)
    with pytest.raises(Stopped):
        await Agent(load({**flags, "dns": "off"})).run()
    assert names == ["agent-3"]
    assert [files.cert for files in dialled] == [issued / "cert.pem"]


@pytest.mark.parametrize(("level", "shown"), [("debug", True), ("info", False)])
def test_the_level_decides_what_is_logged(level: str, shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        json_lines(load({"peers": "a:1", "data": "/d", "insecure": True, "log_level": level}).log_level)
        structlog.get_logger().debug("fine_print")
        structlog.get_logger().warning("told")
    finally:
        structlog.configure(**before)
    err = capsys.readouterr().err
    assert ("fine_print" in err) is shown
    assert "told" in err
