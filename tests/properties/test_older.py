"""Peers of an older version and of this one hold the same state while a cluster is upgraded.

The present planner and generators of commands write logs as a leader would that has not raised the feature level; both
versions apply them, and after every entry states and outcomes must be equal. What ``apply`` judges otherwise than
before waits for a level, or this fails.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from orchestrator.contract.model import Device
from orchestrator.replication.codec import decode_entry, encode_entry
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state.commands import Command, Entry, RegisterNode, SetFeatureLevel
from orchestrator.state.features import HIGHEST
from tests import replay
from tests.effort import examples
from tests.older import LEVEL, environment, older_tree
from tests.properties import prompt, rich, test_apply
from tests.unit.state.kit import node

Log = list[bytes]


def applied(log: Log) -> list[str]:
    """What this version says of every entry, as ``tests.replay`` does."""
    machine, told = ClusterMachine(), []
    for payload in log:
        outcome = machine.apply(payload)
        told.append(f"{machine.state_hash()} {type(outcome).__name__} {getattr(outcome, 'reason', '')}")
    return told


def applied_by(tree: Path, logs: list[Log]) -> list[list[str]]:
    """What the version in ``tree`` says of them."""
    afresh = replay.LENGTH.pack(replay.AFRESH)
    data = b"".join(afresh + b"".join(replay.LENGTH.pack(len(payload)) + payload for payload in log) for log in logs)
    program = Path(replay.__file__)
    done = subprocess.run(
        [sys.executable, str(program)], input=data, env=environment(tree), cwd=tree, capture_output=True, timeout=250
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    lines = iter(done.stdout.decode().split("\n"))
    return [[next(lines) for _ in log] for log in logs]


def entry(command: Command, time_ms: int) -> bytes:
    return encode_entry(Entry(identity="test", request_id="", digest=b"", time_ms=time_ms, command=command))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Every command that a ``prompt.Real`` applies, below the level of the older version."""
    log: Log = []
    do = prompt.Real.do

    def recorded(self: prompt.Real, command: Command) -> object:
        if isinstance(command, SetFeatureLevel):
            command = SetFeatureLevel(level=LEVEL)
        log.append(entry(command, self.now_ms))
        return do(self, command)

    monkeypatch.setattr(prompt.Real, "do", recorded)
    return log


def any_commands(seed: int) -> Log:
    dice, machine, clock = Random(seed), ClusterMachine(), 1_000
    log = [entry(SetFeatureLevel(level=LEVEL), clock), *test_apply._prologue(dice)]
    for payload in log:
        machine.apply(payload)
    for _ in range(test_apply.STEPS):
        clock += dice.choice((0, 1, 1, 5, 60))
        payload = test_apply._payload(dice, machine.state, clock)
        if not isinstance(decode_entry(payload).command, SetFeatureLevel):
            machine.apply(payload)
            log.append(payload)
    return log


def test_an_older_version_judges_every_entry_alike_below_its_level(tmp_path: Path, written: Log) -> None:
    older = older_tree(tmp_path / "older")
    logs: list[Log] = []
    for seed in range(examples(20)):
        for kind in ("plain", "rolling", "rich"):
            written.clear()
            real = rich.rich_cluster(seed) if kind == "rich" else prompt.some_cluster(seed, rolling=kind == "rolling")
            real.run()
            logs.append(list(written))
        logs.append(any_commands(seed))
    for number, (log, before) in enumerate(zip(logs, applied_by(older, logs), strict=True)):
        for place, (was, now) in enumerate(zip(before, applied(log), strict=True)):
            if was.endswith("Rejected INTERNAL"):
                break  # a mistake of that version, which stopped short of what it was about; mended since
            command = decode_entry(log[place]).command
            assert was == now, f"seed {number // 4}, kind {number % 4}, entry {place}: {command!r}"


@pytest.mark.soak
def test_the_comparison_sees_a_rule_that_waits_for_no_level(tmp_path: Path) -> None:
    """Above its level the older version takes two nodes with one GPU, as it always did, and this one does not."""
    older = older_tree(tmp_path / "older")
    twins = [replace(node(name), devices=(Device(id="GPU-1", memory_mib=1),)) for name in ("n1", "n2")]
    commands: list[Command] = [RegisterNode(node=twin, identity=f"agent:{twin.id}") for twin in twins]
    logs = [[entry(one, 5) for one in [SetFeatureLevel(level=level), *commands]] for level in (LEVEL, HIGHEST)]
    alike, otherwise = applied_by(older, logs)
    assert alike == applied(logs[0])
    assert otherwise[:2] == applied(logs[1])[:2]
    assert otherwise[2] != applied(logs[1])[2]
