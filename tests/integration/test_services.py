"""Services in a real cluster come and go with readiness, through the death of a leader, for everybody who asks."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.client import workload as kit
from orchestrator.contract.answers import ServicesUpdate
from orchestrator.contract.model import Service
from orchestrator.jobfile.file import load
from orchestrator.ops.dev import LocalCluster
from tests.unit.agent.test_dns import Reply, query_bytes

pytestmark = pytest.mark.cluster

TASK = """
import os, sys, time
sys.path.insert(0, {kit!r})
import workload
workload.report_metrics(answer=42)
while True:
    workload.ready(os.path.exists({gate!r}))
    time.sleep(0.05)
"""


class Watcher:
    """Follows all services, and remembers how they are now."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.now: dict[str, Service] = {}
        self.indexes: list[int] = []
        self._source = cluster.client.watch_services(namespace="*")

    async def until(self, name: str, ready: int, *, declared: bool = True) -> Service:
        async with asyncio.timeout(60):
            while True:
                found = self.now.get(name) or Service(namespace="default", name=name)
                if self.indexes and (len(found.instances), found.declared) == (ready, declared):
                    return found
                self.take(await anext(self._source))

    def take(self, update: ServicesUpdate) -> None:
        self.indexes.append(update.index)
        if update.full:
            self.now = {}
        for one in update.services:
            self.now[one.name] = one


def shell(cluster: LocalCluster, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "RAFTSMAN_CONFIG_DIR": str(directory / "config"),
        "RAFTSMAN_ENDPOINTS": ",".join(cluster.endpoints),
        "RAFTSMAN_TLS_DIR": str(cluster.tls_directory),
    }
    argv = [sys.executable, "-m", "orchestrator.cli.main", *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])


@pytest.mark.local_cluster(peers=3, agents=1, driver="process", gateway=False)
async def test_services_come_and_go_with_readiness_for_watchers_dns_and_the_command_line(
    local_cluster: LocalCluster, tmp_path: Path
) -> None:
    cluster = local_cluster
    gate = tmp_path / "gate"
    script = TASK.format(kit=str(Path(kit.__file__).parent), gate=str(gate))
    job = {
        "name": "web",
        "command": [sys.executable, "-S", "-c", script],
        "ports": {"http": 0},
        "workload": "ready",
        "stop": {"signal": "SIGKILL"},
        "resources": {"cpu": "10m"},
    }
    watcher = Watcher(cluster)
    await cluster.client.submit(load(json.dumps(job)))
    await watcher.until("web", 0)
    gate.touch()
    (instance,) = (await watcher.until("web", 1)).instances
    (allocation,) = (await cluster.client.list_allocations(job="web")).allocations
    assert allocation.ready and instance.port == allocation.ports[0].host_port

    facts = json.loads((cluster.data / "agents" / "n1" / "agent.json").read_text())
    reader, writer = await asyncio.open_connection("127.0.0.1", int(facts["dns"].rpartition(":")[2]))

    async def addresses() -> set[str]:
        data = query_bytes("web.service.raftsman")
        writer.write(len(data).to_bytes(2, "big") + data)
        return Reply(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))).addresses

    assert await addresses() == {instance.address}
    listed = await asyncio.to_thread(shell, cluster, tmp_path, "services", "web", "-o", "name")
    assert listed.stdout.split() == [f"{instance.address}:{instance.port}"]
    absent = await asyncio.to_thread(shell, cluster, tmp_path, "services", "nobody")
    assert (absent.returncode, "no service 'nobody' in namespace 'default'" in absent.stderr) == (1, True)
    said = await asyncio.to_thread(shell, cluster, tmp_path, "workload", "web/0", "-o", "json")
    (task,) = json.loads(said.stdout)["tasks"]
    assert (task["ready"], task["metrics"]) == (True, [{"name": "answer", "value": 42.0}])

    await cluster.kill_leader()
    gate.unlink()
    await watcher.until("web", 0)
    async with asyncio.timeout(30):
        while await addresses():
            await asyncio.sleep(0.05)
    gate.touch()
    await watcher.until("web", 1)
    await cluster.client.stop_job("web")
    await watcher.until("web", 0, declared=False)
    assert watcher.indexes == sorted(watcher.indexes)
    writer.close()
