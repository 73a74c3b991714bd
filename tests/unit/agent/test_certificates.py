"""Claiming one of several certificates, and refusing one that no peer would accept."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest

from agent.certificates import check, claim
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import StartupError
from orchestrator.ops import certs


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for name in ("agent-1", "agent-2", "agent-10", ".claimed-agent-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key.pem").write_text("key")
    (tmp_path / "agent-0").mkdir()  # without a key
    return tmp_path


def test_each_agent_claims_its_own_in_order(pool: Path) -> None:
    claims = [claim(pool, f"node-{n}", "") for n in range(3)]
    assert [one.name for one in claims] == ["agent-1", "agent-2", "agent-10"]
    assert claims[0].files.key == pool / "agent-1" / "key.pem"
    with pytest.raises(StartupError, match=r"all 3 certificates .* are in use; issue more with"):
        claim(pool, "node-4", "")


def test_a_node_comes_back_to_its_own_certificate_and_to_no_other(pool: Path) -> None:
    claim(pool, "node-a", "").release()
    assert claim(pool, "node-a", "agent-1").name == "agent-1"
    with pytest.raises(StartupError, match="of this node is in use by another agent"):
        claim(pool, "node-a", "agent-1")


def test_a_new_node_leaves_a_resting_nodes_certificate_alone_while_there_are_others(pool: Path) -> None:
    claim(pool, "resting", "").release()
    assert [claim(pool, f"new-{n}", "").name for n in range(3)] == ["agent-2", "agent-10", "agent-1"]


def test_a_pool_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot read the certificates in .*nowhere"):
        claim(tmp_path / "nowhere", "node-a", "")


NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("authority")
    certs.create_authority(directory, "one")
    return directory


def test_a_good_certificate_says_when_it_ends(authority: Path) -> None:
    files = TlsFiles.in_directory(certs.issue(authority, "agent", "n1"))
    assert datetime.timedelta(days=360) < check(files, NOW) - NOW < datetime.timedelta(days=366)


def test_somebody_elses_certificate_is_refused(authority: Path) -> None:
    files = TlsFiles.in_directory(certs.issue(authority, "client", "admin"))
    with pytest.raises(StartupError, match="belongs to client:admin; an agent needs one of agent:NAME"):
        check(files, NOW)


def test_a_certificate_of_another_authority_is_refused(authority: Path, tmp_path: Path) -> None:
    certs.create_authority(tmp_path, "two")
    foreign = certs.issue(tmp_path, "agent", "n1")
    shutil.copy(certs.issue(authority, "agent", "n1") / "ca.pem", foreign / "ca.pem")
    with pytest.raises(StartupError, match=r"was not issued by the authority in .*ca.pem"):
        check(TlsFiles.in_directory(foreign), NOW)


def test_an_ended_certificate_is_refused(authority: Path) -> None:
    files = TlsFiles.in_directory(certs.issue(authority, "agent", "n1"))
    with pytest.raises(StartupError, match="ended on"):
        check(files, NOW + datetime.timedelta(days=400))


def test_a_directory_without_certificates_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot read .*ca.pem: .*--tls expects"):
        check(TlsFiles.in_directory(tmp_path), NOW)
