"""A measurement that is ended early, or killed, leaves nothing behind of its cluster and of its engine."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.ops.cluster_file import ClusterFile
from orchestrator.ops.drill_needs import EXIT_SKIPPED
from orchestrator.ops.processes import is_alive

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_measurement_that_ends_early(number: signal.Signals) -> None:
    argv = [sys.executable, str(ROOT / "scripts/bench_start.py"), "--json", "--instances", "1,100", "--rounds", "1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("instances 1 "):
                break  # its row is finished, and a hundred are being started
        else:
            if process.wait(DEADLINE_S) == EXIT_SKIPPED:
                pytest.skip(said[-1])
        found = re.search(r"^cluster and engine in (\S+), control group /(\S+)$", "".join(said), re.MULTILINE)
        assert found, said
        data, group = Path(found[1]), found[2]
        record = ClusterFile(data).load()
        assert record is not None
        members = [member.process for member in record.members]
        assert len(members) == 2
        assert all(map(is_alive, members))
        assert groups(group)
        process.send_signal(number)
        process.send_signal(number)  # as `timeout` does
        out, error = process.communicate(timeout=DEADLINE_S)
    if number is not signal.SIGKILL:
        assert process.returncode == 130, error
        assert not groups(group)  # at once: it says so
        told = json.loads(out.splitlines()[-1])
        assert told["complete"] is False
        (row,) = told["rows"]
        assert (row["instances"], row["rounds"]) == (1, 1)
        assert min(row["ours_ms"], row["docker_run_ms"], row["swarm_ms"]) > 0
    end = time.monotonic() + DEADLINE_S
    while groups(group) or data.exists() or any(map(is_alive, members)):
        assert time.monotonic() < end, f"left behind: {groups(group)} {data} {members}"
        time.sleep(0.05)


def groups(name: str) -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [*root.glob(name), *root.glob(f"*/{name}")]
