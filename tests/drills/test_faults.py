"""Drills that hurt links and disks: each runs once, on one cluster; and what they hurt is never the machine's own."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ops import drill
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.drill import Drill, Options
from orchestrator.ops.drill_kinds import KINDS
from orchestrator.ops.history import History, Operation
from tests.drills.test_drills import KEYS, ZEROS, raftsman

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SHARED = (
    "partition-leader", "partition-one-way", "partition-deaf", "power-cut-one", "power-cut-all", "disk-full",
    "fsync-error", "slow-disk", "flip-bit", "wipe-peer",
)  # fmt: skip
LYING = "lying-disk"


class Outcomes:
    """What ``one_cluster`` has told so far, by kind; asking for one waits until it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._told: dict[str, dict[str, Any]] = {}

    def of(self, kind: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        while kind not in self._told:
            line = self._process.stdout.readline()
            assert line, f"the process ended with status {self._process.wait()} before it told of {kind}"
            outcome = json.loads(line)
            self._told[outcome["kind"]] = outcome
        if "skipped" in self._told[kind]:
            pytest.skip(self._told[kind]["skipped"])
        return self._told[kind]


@pytest.fixture(scope="module")
def outcomes() -> Iterator[Outcomes]:
    argv = [sys.executable, "-m", "tests.drills.one_cluster", *SHARED, LYING]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Outcomes(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)  # it stops its cluster, and should not be cut short in that
        finally:
            process.terminate()


@pytest.mark.parametrize("kind", SHARED)
def test_a_fault_under_load_costs_no_write_no_answer_and_no_container(outcomes: Outcomes, kind: str) -> None:
    outcome = outcomes.of(kind)
    assert "failed" not in outcome, outcome
    verdict = outcome["verdict"]
    assert list(verdict) == KEYS
    assert {key: verdict[key] for key in ZEROS} == dict.fromkeys(ZEROS, 0), outcome
    assert verdict["state_hash_equal"] is True
    assert verdict["writes_acked"] >= 50
    assert verdict["operations"] > verdict["writes_acked"]
    assert verdict["ready_ms"]["max"] > 0


def test_a_power_cut_of_disks_that_never_flushed_is_found_out(outcomes: Outcomes) -> None:
    """Else no power cut would show anything: this one loses what every peer had acknowledged."""
    outcome = outcomes.of(LYING)
    if failed := outcome.get("failed"):
        # What a peer finds on such a disk may be no log at all: then it says so and does not run on.
        assert re.search(r"peer p\d is unreachable and has ended: .*Way back", failed, re.DOTALL), outcome
        return
    assert outcome["verdict"]["writes_lost"] > 0, outcome
    assert outcome["verdict"]["violations"] > 0, outcome


def test_half_of_five_peers_with_the_leader_are_cut_off_and_nothing_of_it_stays(tmp_path: Path) -> None:
    rules = machine_rules()
    result = raftsman(tmp_path, "drill", "partition-half", "--rounds", "1", "--json")
    if result.returncode == 77:
        pytest.skip(json.loads(result.stdout)["skipped"])
    assert result.returncode == 0, result.stderr
    verdict = json.loads(result.stdout)
    assert list(verdict) == KEYS
    assert {key: verdict[key] for key in ZEROS} == dict.fromkeys(ZEROS, 0), result.stderr
    assert "(12 ways cut)" in result.stderr
    assert machine_rules() == rules


def test_an_interrupted_power_cut_leaves_no_process_mount_loop_device_or_directory(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "orchestrator.cli.main", "drill", "power-cut-one", "--throwaway", "--rounds", "50"]
    argv += ["--driver", "process"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        if first.startswith("skipped: "):
            pytest.skip(first)
        data = Path(first.rpartition(" ")[2].strip())
        for line in process.stderr:
            if line.startswith("tasks run"):
                break
        members = LocalCluster.attach(data).record.members
        assert str(data) not in Path("/proc/mounts").read_text(), "only the drill itself sees its disks"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert not any(member.alive for member in members)
    assert not data.exists()
    assert str(data) not in run_and_read("losetup", "--all")


def machine_rules() -> list[str]:
    """All but the engine's, which change with every network that another test makes."""
    rules = run_and_read("iptables", "-w", "-S").splitlines()
    return [rule for rule in rules if not re.search(r"docker| br-", rule, re.IGNORECASE)]


def run_and_read(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


# ---------------------------------------------------------------------------- planted in the history


class Planted(History):
    """On one key a read tells what was there long before; another key has an acknowledged write that nobody made."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path)
        self.keys: dict[str, str] = {}  # what is planted -> where

    def add(self, operation: Operation) -> None:
        earlier = [one.value for one in self.operations if one.key == operation.key and one.op == "put"]
        free = operation.op == "get" and len(earlier) > 5 and operation.key not in self.keys.values()
        if free and "stale read" not in self.keys:
            self.keys["stale read"] = operation.key
            operation = replace(operation, value=earlier[0])
        elif free and "lost write" not in self.keys:
            self.keys["lost write"] = operation.key
            lost = replace(operation, process=10_000, op="put", value="planted", hit=True)
            super().add(replace(lost, call_ns=operation.call_ns - 2, return_ns=operation.call_ns - 1))
        super().add(operation)


async def test_a_stale_read_and_a_lost_write_in_the_history_fail_the_drill(monkeypatch: pytest.MonkeyPatch) -> None:
    histories: list[Planted] = []

    def plant(path: Path | None) -> Planted:
        histories.append(Planted(path))
        return histories[0]

    monkeypatch.setattr(drill, "History", plant)
    said: list[str] = []
    async with LocalCluster(peers=3, agents=1, driver="process") as cluster:
        verdict = await Drill(cluster, Options(kind=KINDS["kill-agent"], rounds=1), said.append).run()
    assert not verdict.passed
    assert verdict.writes_lost == 0, "the audit alone would not have found it"
    blamed = [line for line in said if line.startswith("not linearizable: ")]
    assert len(blamed) == verdict.violations
    for what, key in histories[0].keys.items():
        assert any(f"key {key}\n" in line for line in blamed), (what, key, blamed)
    assert len(histories[0].keys) == 2
