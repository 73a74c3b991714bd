"""``scripts/demo``: one story in half a minute. A cluster, a service, a batch job, leaders that die, the account.

Owns: the story and its summary. Leaves to others: the cluster (``dev``), the killing and counting (``drill``). The
rule: it uses what users use, leaves nothing behind, and says nothing that it has not measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import click

from orchestrator.client.aio import Client
from orchestrator.contract.errors import NotFoundError, RaftsmanError, TimeoutError_
from orchestrator.contract.model import AllocState, GroupSpec, JobSpec, JobType, Resources, TaskSpec
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.drill import Drill, Options
from orchestrator.ops.drill_facts import Verdict
from orchestrator.ops.drill_jobs import Workload
from orchestrator.ops.drill_kinds import KINDS
from orchestrator.ops.engine import Engine, EngineError
from orchestrator.ops.images import find_or_make
from orchestrator.ops.interrupt import run

PARTS, PER_PART = 5, 1_000
SERVICES = 3
BATCH_TIMEOUT_S = 60.0
SUM_SCRIPT = f"""
from=$((RAFTSMAN_ORDINAL * {PER_PART})); to=$((from + {PER_PART})); sum=0
while [ $from -lt $to ]; do sum=$((sum + from)); from=$((from + 1)); done
sleep 5
echo $sum
"""
"""Long enough to be running when the leader dies."""


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, last.")
@click.option("--image", default="", help="Image to run; default: a local one, else pulled, else made from busybox.")
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True, help="How many leaders to kill.")
def main(as_json: bool, image: str, rounds: int) -> None:
    """Start a cluster, run a service and a batch job, kill leaders, and account for everything."""
    try:
        facts, verdict = run(_story(image, rounds))
    except RaftsmanError as error:
        click.echo(f"demo: {error.message}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("demo: interrupted; the cluster is stopped", err=True)
        sys.exit(130)
    click.echo(_summary(facts, verdict), err=as_json)
    if as_json:
        click.echo(json.dumps(verdict.as_json(replaces=False) | facts))
    sys.exit(0 if verdict.passed and facts["batch_correct"] else 1)


async def _story(image: str, rounds: int) -> tuple[dict[str, Any], Verdict]:
    began = time.monotonic()
    workload = await _workload(image)
    _say("Starting three peers and two agents ...")
    cluster = LocalCluster(peers=3, agents=2, driver=workload.driver)
    cluster.keep_after_failure = True
    try:
        async with cluster:
            ready_s = time.monotonic() - began
            _say(f"ready after {ready_s:.1f} s; {await cluster.leader()} leads")
            client = cluster.client
            _say(f"Submitting a batch job of {PARTS} tasks, and a service of {SERVICES} instances under HTTP load.")
            await client.submit(_batch(workload))
            _say(f"Killing {rounds} leader{'s' * (rounds != 1)} (SIGKILL) while four clients write without pause:")
            options = Options(kind=KINDS["kill-leader"], rounds=rounds, service_count=SERVICES, keep_no_trace=False)
            verdict = await Drill(cluster, options, lambda line: _say(f"  {line}"), workload).run()
            total = await _collect(client)
            expected = sum(range(PARTS * PER_PART))
            cluster.keep_data = not verdict.passed
    finally:
        if cluster.keep_data:
            _say(f"Logs and data of the cluster are kept in {cluster.data}")
    facts = {
        "driver": workload.driver,
        "image": workload.image,
        "batch_total": total,
        "batch_correct": total == expected,
        "seconds": round(time.monotonic() - began, 1),
    }
    return facts, verdict


async def _workload(image: str) -> Workload:
    """Docker where it answers and an image can be had, else processes. Raises ``RaftsmanError`` for a given image."""
    try:
        async with Engine() as engine:
            await engine.version()
            found = await find_or_make(engine, image)
    except (EngineError, NotFoundError) as error:
        if image:
            raise
        _say(f"Tasks run as plain processes: {error.message}")
        return Workload(driver="process", records=Path(tempfile.gettempdir()) / f"raftsman-{secrets.token_hex(6)}")
    _say(f"Tasks run in Docker: {found.how}")
    return Workload(driver="docker", image=found.name)


def _batch(workload: Workload) -> JobSpec:
    """Every task sums its part of the numbers 0 to 4,999."""
    task = TaskSpec(
        name="sum",
        driver=workload.driver,
        image=workload.image,
        command=("sh", "-c", SUM_SCRIPT),
        resources=Resources(cpu_millis=20, memory_mib=32),
    )
    group = GroupSpec(name="main", count=PARTS, tasks=(task,))
    return JobSpec(name="sums", type=JobType.BATCH, groups=(group,))


async def _collect(client: Client) -> int:
    """The sum of what the tasks of the batch job printed. Raises ``TimeoutError_``."""
    deadline = time.monotonic() + BATCH_TIMEOUT_S
    while True:
        allocations = (await client.list_allocations(job="sums")).allocations
        if len(allocations) == PARTS and all(one.state is AllocState.COMPLETE for one in allocations):
            break
        if time.monotonic() > deadline:
            states = ", ".join(f"{one.id} {one.state.name.lower()} {one.reason}".rstrip() for one in allocations)
            raise TimeoutError_(f"the batch job did not complete within {BATCH_TIMEOUT_S:g} s: {states}")
        await asyncio.sleep(0.1)
    total = 0
    for one in allocations:
        output = b"".join([chunk.data async for chunk in client.logs(one.id) if not chunk.stderr])
        total += int(output or 0)
    return total


def _summary(facts: dict[str, Any], verdict: Verdict) -> str:
    where = f"containers of {facts['image']}" if facts["image"] else "processes"
    killed = "1 leader was" if verdict.rounds == 1 else f"{verdict.rounds} leaders were"
    right = "right" if facts["batch_correct"] else "WRONG"
    return f"""
What happened in {facts["seconds"]:g} s:
  {killed} killed. The next write was acknowledged after {verdict.unavailable_ms.p50:.0f} ms \
(at most {verdict.unavailable_ms.max:.0f} ms),
  a new job ran {verdict.placement_ms.p50:.0f} ms after the kill (at most {verdict.placement_ms.max:.0f} ms).
  {verdict.writes_acked} writes were acknowledged: {verdict.writes_lost} lost, {verdict.writes_duplicated} duplicated.
  {SERVICES} services ran as {where}: {verdict.containers_restarted} restarted, {verdict.containers_doubled} doubled,
  {verdict.requests} HTTP requests to them, {verdict.requests_failed} failed.
  The batch job's {PARTS} parts add up to {facts["batch_total"]}, which is {right}.
  Every peer holds {"the same state" if verdict.state_hash_equal else "A DIFFERENT STATE"}.
Next: .venv/bin/raftsman dev, then `raftsman run -- echo hello` and http://127.0.0.1:8080/"""


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main(prog_name="demo")
