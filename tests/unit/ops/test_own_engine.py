"""An engine of one's own is ended whatever it does meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ops import own_engine
from orchestrator.ops.own_engine import OwnEngine


def test_a_control_group_that_goes_meanwhile_saves_no_other_ones_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dockerd that still runs removes the groups of containers that have ended while its own are looked for."""
    monkeypatch.setattr(own_engine, "CGROUPS", tmp_path / "cgroup")
    engine = OwnEngine(tmp_path / "engine", name="mine")
    root = tmp_path / "cgroup" / "pids" / "mine"
    for name in ("containers/a-gone", "containers/b", "engine"):
        (root / name).mkdir(parents=True)
    real: Callable[..., Any] = os.scandir

    def scandir(path: Any = ".") -> Any:
        if "gone" in str(path):
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            (root / "containers/b/cgroup.procs").write_text(f"{process.pid}\n")
            (root / "containers/b/freezer.state").write_text("FROZEN")
            engine._kill_all()
            assert process.wait(10) == -signal.SIGKILL
            assert (root / "containers/b/freezer.state").read_text() == "THAWED"
        finally:
            process.kill()
