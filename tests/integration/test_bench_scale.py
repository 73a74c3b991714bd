"""The benchmark of the whole road at scale, small: it must go through, and count what it says it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]


def bench(*flags: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/bench_scale.py"), "--json", "--quiet", "--most-s", "120", *flags],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_five_thousand_tasks_are_committed_delivered_and_reported_on_fifty_nodes() -> None:
    found = bench("--nodes", "50", "--tasks", "5000")
    keys = {
        "placements_per_s",
        "seconds_committed",
        "seconds_reported",
        "peer_rss_mib",
        "plan_ms",
        "apply_ms",
        "elections",
    }
    assert keys <= found.keys()
    assert found["state_hash_equal"] is True
    assert found["seconds_committed"] > 0  # and it may be seen after the last report was
    assert found["seconds_reported"] > 0
    assert found["plan_ms"]["p99"] >= found["plan_ms"]["p50"] > 0
    assert found["apply_ms"]["p99"] >= found["apply_ms"]["p50"] > 0


def test_jobs_that_come_one_by_one_are_all_delivered() -> None:
    found = bench("--steady", "--nodes", "20", "--live", "500", "--rate", "20", "--seconds", "3", "--settle-s", "0.5")
    assert found["state_hash_equal"] is True
    assert found["jobs"] == 60
    assert found["submit_to_delivered_ms"]["p99"] >= found["submit_to_delivered_ms"]["p50"] > 0
    assert (
        found["submit_to_delivered_ms"]["max"] >= found["submit_to_answered_ms"]["p50"] > found["begun_late_ms"]["p50"]
    )
    assert found["client_cpu_pct"] > 0


@pytest.mark.parametrize("per_call", ["1", "25"])
def test_small_jobs_of_many_callers_are_all_placed(per_call: str) -> None:
    found = bench("--single", "--nodes", "20", "--jobs", "500", "--callers", "8", "--per-call", per_call)
    assert found["state_hash_equal"] is True
    assert found["placements_per_s"] > 0
    assert found["call"] == ("SubmitJob" if per_call == "1" else "SubmitJobs with 25 jobs")
