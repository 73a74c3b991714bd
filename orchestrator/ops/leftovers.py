"""What a local cluster's agents have started and would leave behind: containers and supervised processes.

Owns: finding and ending them without asking the cluster. The rule: only what carries this cluster's id, or was started
out of this cluster's data directory, is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from orchestrator.ops.engine import Container, Engine, EngineError
from orchestrator.ops.processes import ProcessId, end, gone, send

CLUSTER_LABEL = "raftsman.cluster"
NODE_LABEL = "raftsman.node"
GRACE_S = 3.0


async def remove(data: Path, cluster_id: str) -> int:
    """End every task of the cluster, remove its containers; returns how many there were."""
    supervisors = [supervisor for supervisor, _ in tasks(data)]
    await end(supervisors, GRACE_S)
    count = len(supervisors)
    if cluster_id:
        with contextlib.suppress(EngineError):  # no engine, no containers
            async with Engine() as engine:
                containers = await engine.containers({CLUSTER_LABEL: cluster_id})
                count += len(containers)
                await asyncio.gather(*(engine.remove(container.id) for container in containers))
    return count


async def kill(data: Path, agent: str, cluster_id: str, node_id: str) -> int:
    """SIGKILL everything that one agent has started, as a power cut would; returns how many there were."""
    processes = [process for pair in tasks(data, agent) for process in pair]
    killed = [process for process in processes if send(process, signal.SIGKILL)]
    for process in killed:
        await gone(process)
    count = len(killed)
    if cluster_id and node_id:
        with contextlib.suppress(EngineError):
            async with Engine() as engine:
                found = running(await engine.containers({CLUSTER_LABEL: cluster_id, NODE_LABEL: node_id}))
                count += len(found)
                await asyncio.gather(*(engine.kill(container.id) for container in found))
    return count


def running(containers: Iterable[Container]) -> list[Container]:
    return [container for container in containers if container.running]


def tasks(data: Path, agent: str = "*") -> list[tuple[ProcessId, ProcessId]]:
    """(supervisor, task) of every run that the process driver has recorded under ``data``, alive or not."""
    found = []
    for path in sorted((data / "agents").glob(f"{agent}/process/*/run")):
        with contextlib.suppress(OSError, ValueError):
            supervisor, supervisor_ticks, task, task_ticks = (int(word) for word in path.read_text().split())
            found.append((_process(supervisor, supervisor_ticks), _process(task, task_ticks)))
    return found


def _process(pid: int, ticks: int) -> ProcessId:
    """The process with that pid that started ``ticks`` clock ticks after boot."""
    return ProcessId(pid, ticks / os.sysconf("SC_CLK_TCK"))
