"""Every setting of a peer has an effect: a whole peer is built with each, and its parts get what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

from orchestrator import daemon
from orchestrator.api import control
from orchestrator.api.status import StatusServer
from orchestrator.config import PeerSettings, load
from orchestrator.replication.settings import EngineConfig
from tests.integration.peer_processes import free_ports

ELSEWHERE = {
    "tls": "tests/integration/test_peer_identity.py",
    "insecure": "tests/unit/test_config.py",
    "log_level": "below",
}
"""What one peer that is given everything cannot be given at once, and where it is shown."""


def said(directory: Path) -> dict[str, Any]:
    listen, http = free_ports(2)
    return {
        "id": "p7",
        "peers": f"p7=127.0.0.1:{listen}",
        "listen": f"127.0.0.1:{listen}",
        "http": f"127.0.0.1:{http}",
        "data": str(directory / "data"),
        "cluster": "blue",
        "insecure": True,
        "fast_failover": True,
        "dev": True,
        "allow_privileged": True,
        "allow_host_paths": True,
        "allow_host_network": True,
        "allow_cap": "NET_ADMIN",
        "past": "3Mi",
    }


def test_the_table_has_every_setting(tmp_path: Path) -> None:
    assert said(tmp_path).keys() | ELSEWHERE.keys() == set(PeerSettings.model_fields)


class Parts:
    """What the parts of a peer were built with, in place of each its class."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: dict[str, dict[str, Any]] = {}
        for module, name in ((daemon, "EpochLog"), (daemon, "Facts"), (daemon, "Past"), (control, "Policy")):
            monkeypatch.setattr(module, name, self._recording(name, getattr(module, name)))

    def _recording(self, name: str, kind: Any) -> Any:
        def build(*parts: Any, **given: Any) -> Any:
            self.given[name] = given
            return kind(*parts, **given)

        return build


async def test_a_whole_peer_does_what_each_setting_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(monkeypatch)
    bound: list[str] = []
    bind = daemon.Peer._bind

    def listen(peer: daemon.Peer, where: str) -> None:
        bound.append(where)
        bind(peer, where)

    monkeypatch.setattr(daemon.Peer, "_bind", listen)
    served: list[tuple[str, int]] = []
    start = StatusServer.start

    async def record(server: Any, host: str, port: int) -> Any:
        served.append((host, port))
        return await start(server, host, port)

    monkeypatch.setattr(StatusServer, "start", record)
    flags = said(tmp_path)
    peer = daemon.Peer(load(flags))
    try:
        await peer.start()
    finally:
        await peer.stop()
    log, facts, policy = parts.given["EpochLog"], parts.given["Facts"], parts.given["Policy"]
    assert (log["peer_id"], log["peers"]) == ("p7", {"p7": flags["listen"]})
    assert log["config"].election_max_s == EngineConfig.fast_failover().election_max_s != EngineConfig().election_max_s
    assert (facts["cluster_name"], facts["dev"]) == ("blue", True)
    assert parts.given["Past"]["memory_bytes"] == 3 * 2**20
    assert policy["allow_privileged"]
    assert policy["allow_host_paths"]
    assert policy["allow_host_network"]
    assert policy["allow_caps"] == {"NET_ADMIN"}
    assert bound == [flags["listen"]]
    assert [f"{host}:{port}" for host, port in served] == [flags["http"]]
    assert (tmp_path / "data" / "identity.json").is_file()


@pytest.mark.parametrize(("level", "shown"), [("debug", True), ("info", False)])
def test_the_level_decides_what_is_logged(level: str, shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    settings = load({"id": "p1", "peers": "p1=a:1", "data": "/d", "insecure": True, "log_level": level})
    try:
        daemon._configure_logging(settings, [])
        structlog.get_logger().debug("fine_print")
        structlog.get_logger().warning("told")
    finally:
        structlog.configure(**before)
    err = capsys.readouterr().err
    assert ("fine_print" in err) is shown
    assert "told" in err
