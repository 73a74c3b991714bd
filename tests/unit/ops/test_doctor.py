"""What doctor says when something is wrong: always what it is and what to do."""

from __future__ import annotations

import datetime
import json
import os
import socket
import stat
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from orchestrator.cli.session import Session
from orchestrator.client.contexts import Context
from orchestrator.ops import certs, doctor
from orchestrator.ops.cluster_file import ClusterFile, ClusterRecord
from orchestrator.ops.finding import Finding


@pytest.fixture
def context(tmp_path: Path) -> Context:
    certs.create_authority(tmp_path / "tls", "test")
    tls = certs.issue(tmp_path / "tls", "client", "admin")
    certs.issue(tmp_path / "tls", "peer", "p1")
    return Context(
        name="dev",
        endpoints=("127.0.0.1:1",),
        ca=str(tls / "ca.pem"),
        cert=str(tls / "cert.pem"),
        key=str(tls / "key.pem"),
        kind="dev",
        data=str(tmp_path),
    )


def test_good_certificates_are_one_line(context: Context) -> None:
    (found,) = doctor.certificates(context)
    assert (found.level, found.text) == ("ok", "2 valid for more than 30 days")


@pytest.mark.parametrize(
    ("valid_s", "level", "word"), [(20 * 86_400, "warn", "ends on"), (-300, "fail", "ended on")], ids=["soon", "past"]
)
def test_a_certificate_that_ends_is_named(
    context: Context, monkeypatch: pytest.MonkeyPatch, valid_s: int, level: str, word: str
) -> None:
    monkeypatch.setattr(certs, "VALID", datetime.timedelta(seconds=valid_s))
    directory = certs.issue(Path(context.data) / "tls", "agent", "n1")
    (found,) = doctor.certificates(context)
    assert found.level == level
    assert "agent:n1" in found.text
    assert word in found.text
    assert str(directory) in found.advice


def test_a_key_that_others_can_read_is_a_warning(context: Context) -> None:
    key = Path(context.key)
    key.chmod(0o644)
    (found,) = doctor.certificates(context)
    assert (found.level, found.advice) == ("warn", f"chmod 600 {key}")
    assert stat.S_IMODE(key.stat().st_mode) == 0o644, "doctor repairs nothing"


def test_a_missing_certificate_fails(context: Context) -> None:
    (Path(context.data) / "tls" / "peers" / "p1" / "cert.pem").write_text("broken")
    levels = {found.level for found in doctor.certificates(context)}
    assert levels == {"fail"}


def test_taken_ports_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(doctor, "GATEWAY_PORT", port)
        (found,) = doctor.ports(tmp_path)
        assert found.level == "warn"
        assert str(port) in found.text


def test_a_broken_cluster_file_fails(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")
    (found,) = doctor.ports(tmp_path)
    assert found.level == "fail"


def test_a_cluster_that_has_ended_leaves_its_ports_to_the_check(tmp_path: Path) -> None:
    ClusterFile(tmp_path).save(ClusterRecord(name="dev", driver="auto", fast_failover=False, members=()))
    (found,) = doctor.ports(tmp_path)
    assert "the cluster in" not in found.text


def test_a_directory_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    found = doctor.permissions(tmp_path / "data")
    assert found.level == "fail"
    assert str(tmp_path) in found.advice


def test_a_full_disk_fails_before_the_peer_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISK_FAIL_MIB", 1 << 40)
    assert doctor.disk(tmp_path / "not" / "yet").level == "fail"


async def test_no_engine_is_a_warning_since_processes_need_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    (found,) = [one async for one in doctor.engine()]
    assert found.level == "warn"
    assert "processes" in found.advice


async def test_an_engine_that_hangs_is_given_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CALL_TIMEOUT_S", 0.2)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "docker.sock"))
        server.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
        (found,) = [one async for one in doctor.engine()]
    assert found.level == "warn"
    assert "no answer" in found.text


async def test_a_cluster_that_nobody_answers_for_fails_with_the_way_back(context: Context) -> None:
    (found,) = [one async for one in doctor.cluster(context)]
    assert found.level == "fail"
    assert "raftsman dev" in found.advice


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_what_it_finds_can_be_read_by_programs(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(_session: Session, _data: Path) -> list[Finding]:
        return [Finding(check="disk", level="fail", text="full: /", advice="make room")]

    monkeypatch.setattr(doctor, "_collect", found)
    done = CliRunner().invoke(doctor.command, ["-o", form])
    read = json.loads(done.stdout) if form == "json" else yaml.safe_load(done.stdout)
    assert read == [{"check": "disk", "level": "fail", "text": "full: /", "advice": "make room"}]
    assert done.exit_code == 1
