"""``scripts/demo``: it runs from the checkout, cleans up, and its last line is the account."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_the_demo_kills_a_leader_and_loses_nothing() -> None:
    result = subprocess.run(
        [ROOT / "scripts" / "demo", "--json", "--rounds", "1"], capture_output=True, text=True, timeout=180
    )
    assert result.returncode == 0, result.stderr
    account = json.loads(result.stdout.splitlines()[-1])
    assert account["writes_acked"] >= 50
    assert account["writes_lost"] == account["writes_duplicated"] == account["containers_doubled"] == 0
    assert account["unavailable_ms"]["max"] > 0
    assert account["batch_total"] == sum(range(5_000))
    assert "What happened" in result.stderr
    assert f"Tasks run {'in Docker' if account['driver'] == 'docker' else 'as plain processes'}" in result.stderr


def test_an_image_that_cannot_be_had_is_an_error_before_anything_starts() -> None:
    result = subprocess.run(
        [ROOT / "scripts" / "demo", "--image", "registry.invalid/no:such"], capture_output=True, text=True, timeout=180
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("demo: image registry.invalid/no:such is not here and cannot be pulled")


def test_without_an_engine_the_demo_runs_processes_and_says_why(tmp_path: Path) -> None:
    result = subprocess.run(
        [ROOT / "scripts" / "demo", "--json", "--rounds", "1"],
        env={**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/none.sock"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert result.returncode == 0, result.stderr
    account = json.loads(result.stdout.splitlines()[-1])
    assert account["driver"] == "process"
    assert account["containers_doubled"] == account["writes_lost"] == 0
    assert "plain processes: no Docker engine answers" in result.stderr
