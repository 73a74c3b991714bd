"""Claiming one of several certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.certificates import claim
from orchestrator.contract.errors import StartupError


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for name in ("agent-1", "agent-2", "agent-10", ".claimed-agent-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key.pem").write_text("key")
    (tmp_path / "agent-0").mkdir()  # without a key
    return tmp_path


def test_each_agent_claims_its_own_in_order(pool: Path) -> None:
    claims = [claim(pool, "") for _ in range(3)]
    assert [one.name for one in claims] == ["agent-1", "agent-2", "agent-10"]
    assert claims[0].files.key == pool / "agent-1" / "key.pem"
    with pytest.raises(StartupError, match=r"all 3 certificates .* are in use; issue more with"):
        claim(pool, "")


def test_a_released_one_is_free_again_and_the_preferred_one_comes_first(pool: Path) -> None:
    claim(pool, "").release()
    assert claim(pool, "agent-10").name == "agent-10"
    assert claim(pool, "agent-10").name == "agent-1"


def test_a_pool_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot read the certificates in .*nowhere"):
        claim(tmp_path / "nowhere", "")
