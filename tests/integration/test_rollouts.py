"""Health and rollouts with real processes: what users see while versions follow one another."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.client.sync import Client
from orchestrator.contract.model import Allocation, AllocState
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.rollout_sampler import sample_rollouts
from tests.integration.running import running

pytestmark = pytest.mark.cluster

WEB = """
name: {name}
count: 2
command: [/bin/sh, -c, "{script}"]
resources: {{cpu: 10m}}
stop: {{signal: SIGKILL}}
restart: {{attempts: 1, delay: 100ms}}
update: {{max_surge: 1, auto_revert: true, progress_deadline: {deadline}{more}}}
health:
  readiness: {{exec: [test, -e, ready], interval: 200ms, failures: 1}}
  liveness: {{exec: [test, "!", -e, dead], interval: 200ms, failures: 1}}
"""
GOOD = "echo version {version}; touch ready; exec sleep 100000"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with running(LocalCluster(peers=1, agents=1, driver="process", gateway=False)) as made:
        yield made


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.endpoints, tls=cluster.tls) as made:
        yield made


class Shell:
    def __init__(self, cluster: LocalCluster, directory: Path) -> None:
        self.directory = directory
        self.env = {
            **os.environ,
            "RAFTSMAN_CONFIG_DIR": str(directory / "config"),
            "RAFTSMAN_ENDPOINTS": ",".join(cluster.endpoints),
            "RAFTSMAN_TLS_DIR": str(cluster.tls_directory),
        }

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "orchestrator.cli.main", *words]
        return subprocess.run(argv, env=self.env, cwd=self.directory, capture_output=True, text=True, timeout=120)

    def run(self, name: str, script: str, *, deadline: str = "60s", more: str = "") -> subprocess.CompletedProcess[str]:
        text = WEB.format(name=name, script=script, deadline=deadline, more=more)
        (self.directory / "job.yaml").write_text(text)
        return self("run", "job.yaml")


@pytest.fixture
def shell(cluster: LocalCluster, tmp_path: Path) -> Shell:
    return Shell(cluster, tmp_path)


@pytest.fixture
def name() -> str:
    return f"web-{secrets.token_hex(2)}"


def until(condition: Callable[[], object], what: str, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s:g} s for {what}"
        time.sleep(0.05)


def live(client: Client, name: str) -> list[Allocation]:
    return list(client.list_allocations(job=name, live_only=True).allocations)


def work_of(cluster: LocalCluster, one: Allocation) -> Path:
    """The directory in which the first run of an attempt runs."""
    run = f"raftsman-*-{one.id.job}-{one.id.group}-{one.id.ordinal}-{one.attempt}-main-*"
    (found,) = [path for path in cluster.data.glob(f"**/{run}/work") if "-main-r" not in str(path)]
    return found


def test_ready_instances_never_fall_below_the_bound_while_versions_roll(client: Client) -> None:
    found = sample_rollouts(client, count=2, surge=1, unavailable=0, rounds=2)
    assert found.rounds == 2 and found.samples > 10
    assert (found.below, found.above) == (0, 0), found
    assert found.ready_min == 2 and found.live_max == 3, "it never surged"
    client.remove_job("rolling")


def test_a_version_that_does_not_come_up_is_rolled_back_and_run_exits_with_four_and_its_last_words(
    client: Client, shell: Shell, name: str
) -> None:
    first = shell.run(name, GOOD.format(version=1))
    assert first.returncode == 0, first.stderr
    before = {(one.id.ordinal, one.attempt) for one in live(client, name)}
    bad = shell.run(name, "echo last words; exec sleep 100000", deadline="3s")
    assert bad.returncode == 4, bad.stderr
    assert "rolled back, as version 3" in bad.stderr and "nothing became ready for 3 s" in bad.stderr
    assert "| last words" in bad.stderr
    assert {(one.id.ordinal, one.attempt) for one in live(client, name)} == before, "what was good was touched"
    versions = shell("versions", name)
    assert [line.split()[0] for line in versions.stdout.splitlines()[1:]] == ["3", "2", "1"]
    assert "last words" in shell("diff", name, "1", "2").stdout
    client.remove_job(name)


def test_readiness_takes_out_and_brings_back_and_liveness_restarts(
    cluster: LocalCluster, client: Client, shell: Shell, name: str
) -> None:
    assert shell.run(name, GOOD.format(version=1)).returncode == 0
    one = live(client, name)[0]
    assert one.ready
    (work_of(cluster, one) / "ready").unlink()
    until(lambda: not live(client, name)[0].ready, "the instance to be taken out")
    seen = live(client, name)[0]
    assert seen.state is AllocState.RUNNING and "readiness check" in seen.reason
    assert "running, not ready" in shell("ps").stdout
    (work_of(cluster, one) / "ready").touch()
    until(lambda: live(client, name)[0].ready, "the instance to be back")
    assert (live(client, name)[0].attempt, live(client, name)[0].restarts) == (1, 0)
    (work_of(cluster, one) / "dead").touch()
    until(lambda: live(client, name)[0].restarts == 1 and live(client, name)[0].ready, "its restart")
    told = shell("events")
    assert "alloc.unready" in told.stdout and "alloc.ready" in told.stdout
    client.remove_job(name)


def test_canaries_are_promoted_a_rollout_is_paused_and_a_rollback_goes_back(
    client: Client, shell: Shell, name: str
) -> None:
    assert shell.run(name, GOOD.format(version=1)).returncode == 0
    canary = shell.run(name, GOOD.format(version=2), more=", canaries: 1")
    assert canary.returncode == 0 and "raftsman promote" in canary.stderr
    assert sorted(one.job_version for one in live(client, name)) == [1, 1, 2], "the canary runs beside the old ones"
    assert "canaries are ready" in shell("why", name).stdout
    assert shell("pause", name).returncode == 0
    assert "paused" in shell("status", name).stdout
    assert shell("resume", name).returncode == 0
    assert shell("promote", name).returncode == 0
    assert [one.job_version for one in live(client, name)] == [2, 2]
    back = shell("rollback", name)
    assert back.returncode == 0, back.stderr
    assert [one.job_version for one in live(client, name)] == [3, 3]
    assert "version 1" in shell("logs", name).stdout
    wrong = shell("rollback", name, "9")
    assert wrong.returncode == 1 and "there are: 1, 2" in wrong.stderr
    assert shell("promote", name).returncode == 1
    client.remove_job(name)
