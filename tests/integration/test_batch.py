"""Batch jobs with real processes: order, timeouts that kill, dispatch, periodic runs over a change of the leader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from orchestrator.client.sync import Client
from orchestrator.contract.answers import JobStatus
from orchestrator.contract.model import AllocState
from orchestrator.jobfile.file import load
from orchestrator.ops.dev import LocalCluster
from tests.integration.running import running

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with running(LocalCluster(peers=1, agents=1, driver="process", gateway=False)) as made:
        yield made


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.endpoints, tls=cluster.tls) as made:
        yield made


def until(client: Client, name: str, good: Callable[[JobStatus], bool]) -> JobStatus:
    deadline = time.monotonic() + 60
    while True:
        job = client.get_job(name).job
        if good(job):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


def output(client: Client, name: str) -> str:
    (one,) = client.list_allocations(job=name).allocations
    return b"".join(chunk.data for chunk in client.logs(one.id)).decode()


def test_groups_run_in_order_and_what_comes_after_a_failure_is_skipped(client: Client) -> None:
    client.submit(
        load(
            """
name: order
type: batch
groups:
  first: {command: [sh, -c, "test $RAFTSMAN_ARRAY_INDEX -lt $RAFTSMAN_ARRAY_SIZE"], count: 2}
  second: {command: [sh, -c, "exit 3"], after: first, restart: {attempts: 0}}
  never: {command: ["true"], after: second}
  last: {command: ["true"], after: {second: any, never: any}}
"""
        )
    )
    job = until(client, "order", lambda job: job.state in ("complete", "failed"))
    ends = {group.group: (group.complete, group.failed, group.skipped) for group in job.groups}
    assert ends == {"first": (2, 0, 0), "second": (0, 1, 0), "never": (0, 0, 1), "last": (1, 0, 0)}
    (failed,) = [one for one in client.list_allocations(job="order").allocations if one.id.group == "second"]
    assert failed.exit_code == 3
    (never,) = [group for group in client.explain_job("order").groups if group.group == "never"]
    assert "group second, which it comes after, failed for good" in never.summary


def lives(pid: int) -> bool:
    """Not one that is dead, and which only its parent has yet to hear of."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_run_that_takes_too_long_is_killed_with_everything_that_it_started(client: Client, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 100000 & echo $! $$ > {pids}; while :; do sleep 1; done"
    client.submit(
        load(
            f"""
name: slow
type: batch
timeout: 1s
stop: {{timeout: 100ms}}
restart: {{attempts: 0}}
command: [sh, -c, "{script}"]
"""
        )
    )
    until(client, "slow", lambda job: job.state == "failed")
    (one,) = client.list_allocations(job="slow").allocations
    assert one.reason == "timed out after 1 s" and one.exit_code == 137
    assert not any(lives(int(pid)) for pid in pids.read_text().split())


def test_a_dispatch_brings_meta_and_payload_and_waits_for_the_end(
    cluster: LocalCluster, client: Client, tmp_path: Path
) -> None:
    client.submit(
        load(
            """
name: work
type: batch
parameterized: {meta_required: [who]}
command: [sh, -c, "echo $RAFTSMAN_META_WHO: $RAFTSMAN_PAYLOAD; cat $RAFTSMAN_PAYLOAD_FILE"]
"""
        )
    )
    payload = tmp_path / "payload"
    payload.write_text("said hello")
    done = client.dispatch_job("work", meta={"who": "ann"}, payload=payload.read_bytes())
    assert done.name.startswith("work/dispatch-")
    until(client, done.name, lambda job: job.state == "complete")
    assert output(client, done.name) == "ann: said hello\nsaid hello"
    template = client.get_job("work").job
    assert template.state == "dispatchable" and template.template is not None and template.template.complete == 1
    client.remove_job(done.name)


def test_due_times_come_to_runs_and_each_to_one(client: Client) -> None:
    client.submit(
        load(
            """
name: tick
type: batch
periodic: "@every 1s"
command: [sh, -c, "echo $RAFTSMAN_DUE_TIME"]
"""
        )
    )
    until(client, "tick", lambda job: job.template is not None and job.template.complete >= 3)
    forced = client.force_run("tick")
    until(client, forced.name, lambda job: job.state == "complete")
    client.stop_job("tick")
    runs = [job for job in client.list_jobs().jobs if job.spec.origin is not None and job.spec.origin.job == "tick"]
    due = [job.spec.origin.due_ms for job in runs if job.spec.origin is not None and job.spec.name != forced.name]
    assert len(set(due)) == len(due) >= 3 and all(time_ms % 1000 == 0 for time_ms in due)
    assert {job.spec.name for job in runs if job.spec.name != forced.name} == {
        f"tick/periodic-{d // 1000}" for d in due
    }


@pytest.fixture(scope="module")
def pair() -> Iterator[Client]:
    """Of a cluster with two nodes."""
    with (
        running(LocalCluster(peers=1, agents=2, driver="process", gateway=False)) as made,
        Client(made.endpoints, tls=made.tls) as client,
    ):
        yield client


def tries(client: Client, name: str) -> list[tuple[int, str, AllocState]]:
    """(attempt, node, state), oldest first."""
    found = client.list_allocations(job=name).allocations
    return sorted((one.attempt, one.node_name, one.state) for one in found)


def test_a_try_that_could_not_start_is_followed_by_one_on_another_node(pair: Client, tmp_path: Path) -> None:
    program = tmp_path / "program"
    pair.submit(load(f"name: moves\ntype: batch\nrestart: {{attempts: 3, delay: 100ms}}\ncommand: [{program}]\n"))
    until(pair, "moves", lambda _: any(one[2] is AllocState.FAILED for one in tries(pair, "moves")))
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    until(pair, "moves", lambda job: job.state == "complete")
    made = tries(pair, "moves")
    assert [one[2] for one in made] == [AllocState.FAILED] * (len(made) - 1) + [AllocState.COMPLETE]
    nodes = [one[1] for one in made]
    assert len(made) >= 2
    assert all(before != after for before, after in pairwise(nodes)), "never the node where it has just failed"


def test_tries_on_other_nodes_are_as_many_as_the_policy_says(pair: Client, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    pair.submit(load(f"name: gives-up\ntype: batch\nrestart: {{attempts: 1}}\ncommand: [{missing}]\n"))
    until(pair, "gives-up", lambda job: job.state == "failed")
    made = tries(pair, "gives-up")
    assert [(attempt, state) for attempt, _, state in made] == [(1, AllocState.FAILED), (2, AllocState.FAILED)]
    assert made[0][1] != made[1][1]


def test_what_has_run_is_tried_again_where_it_is_and_then_stays_failed(pair: Client) -> None:
    pair.submit(load("name: stays\ntype: batch\nrestart: {attempts: 2, delay: 10ms}\ncommand: [sh, -c, 'exit 3']\n"))
    until(pair, "stays", lambda job: job.state == "failed")
    (one,) = pair.list_allocations(job="stays").allocations
    assert (one.attempt, one.restarts, one.exit_code) == (1, 2, 3)
