"""Measurements of clusters of plain processes: when one is killed, its servers and its directory go, too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.ops.processes import ProcessId, is_alive
from scripts.lib.keeper import NOTES, kept, note

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0


def until(check: Callable[[], bool], what: Callable[[], str]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def servers(folder: Path) -> list[ProcessId]:
    found = []
    for file in folder.glob(f"*/*/{NOTES}"):
        if text := file.read_text():
            found.append(ProcessId(**json.loads(text)))
    return found


@pytest.mark.parametrize(
    "script",
    [
        ["bench_restart.py", "--alone"],
        ["bench_log.py", "--alone"],
        ["bench_failover.py", "--alone"],
        ["bench_scale.py", "--quiet", "--nodes", "2"],
    ],
    ids=lambda script: str(script[0]),
)
def test_no_server_outlives_a_measurement_that_is_killed(script: list[str], tmp_path: Path) -> None:
    argv = [sys.executable, str(ROOT / "scripts" / script[0]), *script[1:]]
    with subprocess.Popen(argv, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: process.poll() is not None or len(servers(tmp_path)) == 3, lambda: "no three servers")
            members = servers(tmp_path)
            assert len(members) == 3 and all(map(is_alive, members))
        finally:
            process.send_signal(signal.SIGKILL)
    until(
        lambda: not any(map(is_alive, members)) and not list(tmp_path.iterdir()),
        lambda: f"left behind: {members} {list(tmp_path.rglob('*'))}",
    )


def test_a_directory_of_the_users_own_is_kept_and_what_runs_for_it_is_ended(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as server:
        with pytest.raises(ZeroDivisionError), kept("unused-", tmp_path) as folder:
            note("p1", server.pid, folder)
            (folder / "data").write_text("mine")
            raise ZeroDivisionError
        assert server.wait(0) == -signal.SIGTERM
    assert (tmp_path / "data").read_text() == "mine"
