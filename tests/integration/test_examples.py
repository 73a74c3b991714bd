"""The examples, on the real engine: what their files promise, checked against direct computations."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.drill_jobs import address_of, running
from orchestrator.ops.drill_watch import HttpLoad
from orchestrator.ops.engine import Engine, EngineError
from orchestrator.ops.http import answered

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
OPENB = ROOT.parent / "shared" / "data" / "openb"


def docker_answers() -> bool:
    async def ask() -> bool:
        async with Engine() as engine:
            try:
                await engine.version()
            except EngineError:
                return False
            return True

    return asyncio.run(ask())


pytestmark = [
    pytest.mark.cluster,
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(not docker_answers(), reason="no Docker engine answers"),
]


class Shell:
    """Commands as a user would type them, on a dev cluster of their own."""

    def __init__(self, base: Path) -> None:
        self.data = base / "dev"
        self._env = {**os.environ, "RAFTSMAN_CONFIG_DIR": str(base / "config"), "RAFTSMAN_DEV_DATA": str(self.data)}

    def python(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, *map(str, arguments)]
        return subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=200, cwd=ROOT)

    def raftsman(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "orchestrator.cli.main", *arguments)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    made = Shell(tmp_path_factory.mktemp("examples"))
    started = made.raftsman("dev", "--detach", "--no-gateway", "--gpu", "count=2,model=A100,memory=40Gi")
    assert started.returncode == 0, started.stderr
    prepared = made.python(EXAMPLES / "prepare.py")
    assert prepared.returncode == 0, prepared.stderr
    yield made
    assert made.raftsman("dev", "stop").returncode == 0


async def test_the_http_service_answers_while_leaders_die(shell: Shell) -> None:
    started = await asyncio.to_thread(shell.raftsman, "run", EXAMPLES / "http.yaml")
    assert started.returncode == 0, started.stderr
    cluster = LocalCluster.attach(shell.data)
    load = HttpLoad()
    try:
        found = running((await cluster.client.list_allocations(job="http")).allocations)
        addresses = [address_of(one) for one in found]
        assert len(addresses) == 3
        assert {one.node_name for one in found} == {"n1", "n2"}
        for address in addresses:
            await answered(address, 10)
        load.aim(addresses)
        for _ in range(2):
            killed = await cluster.kill_leader()
            await cluster.leader()
            await cluster.restart(killed)
            await cluster.wait_ready()
        async with asyncio.timeout(60):
            while load.requests < 100:
                await asyncio.sleep(0.05)
    finally:
        await load.stop()
        await cluster.close()
    assert load.failed == 0, load.failures


def directly(files: list[Path]) -> dict[str, dict[str, dict[str, float]]]:
    """The same statistics, computed here."""
    made: dict[str, dict[str, dict[str, float]]] = {}
    for path in files:
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        for row in rows[1:]:
            for name, text in zip(rows[0], row, strict=True):
                if re.fullmatch(r"-?\d+(\.\d+)?", text):
                    value = float(text)
                    have = made.setdefault(path.name, {}).setdefault(
                        name, {"count": 0, "sum": 0.0, "min": value, "max": value}
                    )
                    have["count"] += 1
                    have["sum"] += value
                    have["min"] = min(have["min"], value)
                    have["max"] = max(have["max"], value)
    return made


def test_the_batch_job_computes_what_a_direct_computation_does(shell: Shell, tmp_path: Path) -> None:
    files = sorted(OPENB.glob("*.csv"))
    if not files:  # any file will do where the shared data is absent
        files = [tmp_path / "numbers.csv"]
        files[0].write_text("a,b,c\n" + "".join(f"{n},x{n},{n / 4}\n" for n in range(1_000)))
    result = shell.python(EXAMPLES / "stats.py", *files)
    assert result.returncode == 0, result.stderr
    found, expected = json.loads(result.stdout), directly(files)
    assert found.keys() == expected.keys()
    for name, columns in expected.items():
        assert found[name].keys() == columns.keys()
        for column, values in columns.items():
            assert found[name][column] == pytest.approx(values, rel=1e-9), (name, column)


def test_the_gpu_job_shows_which_devices_each_instance_got(shell: Shell) -> None:
    result = shell.raftsman("run", EXAMPLES / "gpu.yaml")
    assert result.returncode == 0, result.stderr
    lines = shell.raftsman("logs", "gpu").stdout.splitlines()
    devices = [device for line in lines for device in line.rpartition("got ")[2].split(",")]
    assert len(lines) == 2
    assert len(devices) == len(set(devices)) == 4, "no device twice"


def test_the_pod_starts_again_beside_what_its_first_start_left_in_the_volume(shell: Shell) -> None:
    started = shell.raftsman("run", EXAMPLES / "pod.yaml")
    assert started.returncode == 0, started.stderr
    again = shell.raftsman("restart", "pod")
    assert again.returncode == 0, again.stdout + again.stderr
    settled = shell.raftsman("run", EXAMPLES / "pod.yaml")
    assert settled.returncode == 0, settled.stderr
    assert shell.raftsman("logs", "pod/0", "--task", "make").stdout == ""


def test_the_job_that_cannot_fit_is_explained(shell: Shell) -> None:
    result = shell.raftsman("run", EXAMPLES / "wontfit.yaml", "--timeout", "3s")
    assert result.returncode == 3, result.stderr
    why = shell.raftsman("why", "wontfit")
    assert why.returncode == 0
    assert "2 nodes: memory: short by" in why.stdout
    assert "less memory" in why.stdout
