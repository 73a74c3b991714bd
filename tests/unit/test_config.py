from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import load, parse_peers
from orchestrator.contract.errors import StartupError

GOOD: dict[str, Any] = {"id": "p1", "peers": "p1=a:1,p2=[::1]:2", "data": Path("/d"), "insecure": True}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ID", "PEERS", "DATA", "LISTEN", "DEV"):
        monkeypatch.delenv(f"RAFTSMAN_PEER_{name}", raising=False)


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "peer.yaml"
    file.write_text("id: p1\npeers: p1=f:1\ndata: /file\ncluster: file\nfast-failover: true\ninsecure: true\n")
    monkeypatch.setenv("RAFTSMAN_PEER_DATA", "/environment")
    monkeypatch.setenv("RAFTSMAN_PEER_CLUSTER", "environment")
    settings = load({"cluster": "flag", "listen": None}, file=file)
    assert (settings.cluster, settings.data, settings.peers) == ("flag", Path("/environment"), {"p1": "f:1"})
    assert settings.fast_failover
    assert settings.listen == "0.0.0.0:7400"


def test_capabilities_are_allowed_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "peer.yaml"
    file.write_text("allow-cap: [net_admin, SYS_PTRACE]\n")
    assert load(GOOD, file=file).allow_cap == {"NET_ADMIN", "SYS_PTRACE"}
    monkeypatch.setenv("RAFTSMAN_PEER_ALLOW_CAP", "ALL")
    assert load(GOOD).allow_cap == {"ALL"}
    with pytest.raises(StartupError, match="--allow-cap: 'SYS_AMDIN' is no capability"):
        load({**GOOD, "allow_cap": "SYS_AMDIN"})


def test_the_file_can_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "peer.yaml"
    file.write_text("cluster: named\n")
    monkeypatch.setenv("RAFTSMAN_PEER_CONFIG", str(file))
    assert load(GOOD).cluster == "named"


def test_what_is_wrong_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "peer.yaml"
    file.write_text("cluster: 7\ndata: ''\n")
    with pytest.raises(StartupError) as caught:
        load({**GOOD, "data": None}, file=file)
    assert f"--cluster (of {file}): 7; expected text" in caught.value.message
    assert f"--data (of {file}): ''; expected a directory" in caught.value.message
    monkeypatch.setenv("RAFTSMAN_PEER_LISTEN", "x" * 5000)
    with pytest.raises(
        StartupError, match=r"^--listen \(of RAFTSMAN_PEER_LISTEN\): 'x+\.\.\.; expected host:port"
    ) as long:
        load(GOOD)
    assert len(long.value.message) < 300


def test_a_file_may_give_the_peers_as_a_mapping(tmp_path: Path) -> None:
    file = tmp_path / "peer.yaml"
    file.write_text("id: p1\npeers: {p1: 'a:1', p2: 'b:2'}\ndata: /d\ninsecure: true\n")
    assert load({}, file=file).peers == {"p1": "a:1", "p2": "b:2"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"peers": ""}, "--peers: is empty"),
        ({"peers": "p1"}, "'p1'; expected id=host:port"),
        ({"peers": "p1=a:1,p1=b:1"}, "p1 is there twice"),
        ({"peers": "p1=a:1,p2=a:1"}, "a:1 is the address of two peers"),
        ({"peers": "p1=nowhere"}, "expected host:port"),
        ({"peers": "p1=a:70000"}, "expected host:port"),
        ({"peers": "P 1=a:1"}, "is no peer id"),
        ({"peers": ",".join(f"p{n}=a{n}:1" for n in range(10))}, "at most 9"),
        ({"id": "p3"}, "--id p3 is not among --peers (p1, p2)"),
        ({"id": None}, "--id is missing"),
        ({"data": None}, "RAFTSMAN_PEER_DATA"),
        ({"listen": "7400"}, "--listen: '7400'; expected host:port"),
        ({"cluster": "My Cluster"}, "--cluster"),
        ({"insecure": None}, "--tls DIR is missing"),
        ({"tls": Path("/t")}, "exclude each other"),
        ({"log_level": "loud"}, "--log-level"),
        ({"past": "0Mi"}, "--past: '0Mi'; expected 1Mi to 64Gi, for example 16Mi"),
        ({"past": "65Gi"}, "--past: '65Gi'; expected 1Mi"),
        ({"past": "16"}, "--past: '16'; expected 1Mi"),
        ({"past": 16}, "--past: 16; expected 1Mi"),
    ],
)
def test_what_is_wrong_is_named_as_the_flag(change: dict[str, Any], text: str) -> None:
    with pytest.raises(StartupError) as caught:
        load({**GOOD, **change})
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("nope: 1\n", "unknown key 'nope'"),
        ("- 1\n", "expected a mapping"),
        ("a: [\n", "not YAML"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: str | None, text: str) -> None:
    file = tmp_path / "peer.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(StartupError, match=r"peer\.yaml") as caught:
        load(GOOD, file=file)
    assert text in caught.value.message


def test_addresses_may_be_ipv6() -> None:
    assert parse_peers("p1=[::1]:7400") == {"p1": "[::1]:7400"}
