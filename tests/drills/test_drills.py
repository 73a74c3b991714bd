"""The drills, end to end: what they print, what they refuse, and that a planted fault makes each of them fail."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client.aio import Client
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.drill import Drill, Options
from orchestrator.ops.drill_facts import Verdict
from orchestrator.ops.drill_kinds import KINDS
from orchestrator.ops.engine import Container, Engine, EngineError

pytestmark = pytest.mark.cluster

KEYS = [
    "rounds", "unavailable_ms", "placement_ms", "writes_acked", "writes_lost", "writes_duplicated",
    "containers_restarted", "containers_doubled", "requests", "requests_failed", "state_hash_equal",
    "operations", "unknown", "violations", "ready_ms",
]  # fmt: skip
ZEROS = (
    "writes_lost", "writes_duplicated", "containers_restarted", "containers_doubled", "requests_failed", "violations",
)  # fmt: skip


def docker_answers() -> bool:
    async def ask() -> bool:
        async with Engine() as engine:
            try:
                await engine.version()
            except EngineError:
                return False
            return True

    return asyncio.run(ask())


needs_docker = pytest.mark.skipif(not docker_answers(), reason="no Docker engine answers")


def raftsman(config: Path, *arguments: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
    env = {**os.environ, "RAFTSMAN_CONFIG_DIR": str(config)}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout_s)


def test_kill_leader_on_a_throwaway_cluster_costs_nothing_and_says_so(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    result = raftsman(
        tmp_path, "drill", "kill-leader", "--rounds", "2", "--driver", "process", "--history", str(history), "--json"
    )
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    verdict = json.loads(line)
    assert list(verdict) == KEYS
    assert {key: verdict[key] for key in ZEROS} == dict.fromkeys(ZEROS, 0)
    assert verdict["rounds"] == 2
    assert verdict["writes_acked"] >= 100
    assert verdict["state_hash_equal"] is True
    assert 0 < verdict["unavailable_ms"]["p50"] <= verdict["unavailable_ms"]["p99"] <= verdict["unavailable_ms"]["max"]
    operations = [json.loads(line) for line in history.read_text().splitlines()]
    assert len(operations) == verdict["operations"] > verdict["writes_acked"]
    assert sum(one["ok"] is None for one in operations) == verdict["unknown"]
    assert {one["op"] for one in operations} == {"put", "get", "cas", "delete"}
    assert all(one["call_ns"] <= one["return_ns"] for one in operations)
    created = {one["key"] for one in operations if one["op"] == "cas" and one["hit"] and "hot" not in one["key"]}
    assert len(created) == verdict["writes_acked"], "every acknowledged create is in the history"
    per_process: dict[int, int] = {}
    for one in sorted(operations, key=lambda one: int(one["call_ns"])):
        assert per_process.get(one["process"], 0) <= one["call_ns"], "a process calls one operation at a time"
        per_process[one["process"]] = one["return_ns"]
    judged = raftsman(tmp_path, "check-history", str(history))
    assert judged.returncode == 0, judged.stdout


@pytest.mark.slow
async def test_every_drill_passes_on_one_cluster_after_the_other() -> None:
    verdicts: dict[str, Verdict] = {}
    async with LocalCluster(peers=3, agents=2, driver="process") as cluster:
        for kind in ("kill-all", "pause-leader", "kill-agent", "lose-node", "kill-host"):
            said: list[str] = []
            verdicts[kind] = await Drill(cluster, Options(kind=KINDS[kind], rounds=1), said.append).run()
            assert verdicts[kind].passed, (kind, said)
        assert (await cluster.client.list_variables(prefix="drill-")).variables == (), "nothing of a drill stays"
    assert verdicts["lose-node"].replaced_ms.max > 0
    assert verdicts["kill-host"].replaced_ms.max > 0
    assert verdicts["kill-agent"].requests_failed == 0


@pytest.mark.slow
async def test_the_operators_tools_keep_what_they_state_under_load() -> None:
    async with LocalCluster(peers=3, agents=2, driver="process") as cluster:
        for kind in ("backup-restore", "recover"):
            said: list[str] = []
            drill = Drill(cluster, Options(kind=KINDS[kind], rounds=1), said.append)
            verdict = await drill.run()
            assert verdict.passed, (kind, said)
            assert (verdict.requests_failed, verdict.violations, verdict.writes_lost) == (0, 0, 0), (kind, said)
            assert verdict.writes_acked >= 100
            assert verdict.ready_ms.max > 0
            (life,) = drill.facts.lives
            before = [ack for ack in drill.facts.acks if ack.index <= life.index]
            after = [ack for ack in drill.facts.acks if ack.index >= life.next_index]
            assert before and after, "writes on both sides of what was stated"
            assert any(line.startswith("given up, as stated: ") for line in said)
            if kind == "backup-restore":
                assert len(drill.facts.acks) > len(before) + len(after), "and some that the backup has not"
        assert list(cluster.data.glob("*.backup")) == []
        assert (await cluster.client.cluster_status()).epoch == 2001, "two further lives, peers added in each"


def test_a_context_that_is_not_ours_is_refused_unless_its_name_is_repeated(tmp_path: Path) -> None:
    contexts = {"current": "prod", "contexts": {"prod": {"endpoints": ["127.0.0.1:1"], "kind": "remote"}}}
    (tmp_path / "contexts.json").write_text(json.dumps(contexts))
    for really in ((), ("--really", "other")):
        refused = raftsman(tmp_path, "drill", "kill-leader", *really)
        assert refused.returncode == 1
        assert "--really prod" in refused.stderr
    allowed = raftsman(tmp_path, "drill", "kill-leader", "--really", "prod")
    assert allowed.returncode == 1
    assert "names no processes on this machine" in allowed.stderr


# ---------------------------------------------------------------------------- planted faults


@pytest.fixture(scope="module")
def dev_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A dev cluster on Docker: its configuration and data directories."""
    base = tmp_path_factory.mktemp("planted")
    started = raftsman(base, "dev", "--detach", "--no-gateway", "--data", str(base / "dev"))
    assert started.returncode == 0, started.stderr
    yield base, base / "dev"
    assert raftsman(base, "dev", "stop", "--data", str(base / "dev")).returncode == 0


async def a_drill_variable(client: Client) -> str:
    """One that was acknowledged a while ago."""
    async with asyncio.timeout(60):
        while True:
            found = (await client.list_variables(prefix="drill-")).variables
            if len(found) >= 20:
                return found[0].name
            await asyncio.sleep(0.05)


async def lose_a_write(client: Client, engine: Engine, container: Container) -> None:
    await client.delete_variable(await a_drill_variable(client))


async def write_twice(client: Client, engine: Engine, container: Container) -> None:
    name = await a_drill_variable(client)
    found = (await client.get_variable(name)).variable
    assert found is not None
    await client.put_variable(name, found.value)


async def restart_a_container(client: Client, engine: Engine, container: Container) -> None:
    await engine.restart(container.id)


async def double_a_container(client: Client, engine: Engine, container: Container) -> None:
    labels = [word for key, value in container.labels.items() for word in ("--label", f"{key}={value}")]
    process = await asyncio.create_subprocess_exec(
        *("docker", "run", "--detach", "--rm", *labels, "raftsman-test:busybox", "sleep", "3"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0


@needs_docker
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "key"),
    [
        (lose_a_write, "writes_lost"),
        (write_twice, "writes_duplicated"),
        (restart_a_container, "containers_restarted"),
        (double_a_container, "containers_doubled"),
    ],
)
async def test_a_fault_behind_the_drills_back_makes_it_exit_1(
    dev_cluster: tuple[Path, Path], plant: Callable[[Client, Engine, Container], Any], key: str
) -> None:
    config, data = dev_cluster
    drill = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator.cli.main", "drill", "kill-leader", "--rounds", "2", "--json"),
        env={**os.environ, "RAFTSMAN_CONFIG_DIR": str(config)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert drill.stdout is not None
    assert drill.stderr is not None
    said: list[str] = []
    cluster = LocalCluster.attach(data)
    try:
        async with asyncio.timeout(240):
            async for line in _lines(drill.stderr):
                said.append(line)
                if line.startswith("round 1/2"):
                    async with Engine() as engine, cluster.new_client() as client:
                        labels = {"raftsman.cluster": cluster.record.cluster_id}
                        services = [c for c in await engine.containers(labels) if "-web" in c.labels["raftsman.job"]]
                        await plant(client, engine, services[0])
            out = (await drill.stdout.read()).decode()
            assert await drill.wait() == 1, said
    finally:
        if drill.returncode is None:  # whatever went wrong: it cleans up behind itself
            drill.terminate()
            await drill.communicate()
    verdict = json.loads(out.splitlines()[-1])
    assert verdict[key] >= 1, said


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    async for line in stream:
        yield line.decode().rstrip()


def test_an_interrupted_drill_takes_its_cluster_with_it(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "orchestrator.cli.main",
        "drill",
        "kill-leader",
        "--rounds",
        "50",
        "--driver",
        "process",
    ]
    env = {**os.environ, "RAFTSMAN_CONFIG_DIR": str(tmp_path)}
    process = subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr as lines:
        data = Path(next(lines).rpartition(" ")[2].strip())
        for line in lines:
            if line.startswith("round 1/"):
                break
        members = LocalCluster.attach(data).record.members
        process.terminate()
        assert process.wait(60) == 130
    assert not any(member.alive for member in members)
    assert not data.exists()
