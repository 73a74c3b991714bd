"""A power cut of peers that believe in flushes which never happen: what a drill must find out."""

from __future__ import annotations

import asyncio

from orchestrator.ops.drill_kind import Strike, faulty
from orchestrator.ops.drill_needs import Need
from orchestrator.ops.drill_storage import PowerCutAll
from orchestrator.ops.drill_strace import CALLS, Tracer
from orchestrator.ops.drill_target import Target

WRITES = 60


class LyingDisk(PowerCutAll):
    """Every flush of every peer says that it worked and does nothing; then the power of all goes."""

    needs = PowerCutAll.needs | {Need.STRACE}

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        cluster = faulty(target)
        tracers = [Tracer(cluster.data / "logs" / f"{peer.name}.strace") for peer in cluster.peers]
        pids = [peer.pid for peer in cluster.peers]
        await asyncio.gather(*(t.attach(pid, f"{CALLS}:retval=0") for t, pid in zip(tracers, pids, strict=True)))
        try:
            async with cluster.new_client() as client:
                for write in range(WRITES):
                    await client.put_variable("never-flushed", str(write))
            return await super().strike(target, agent, number)
        finally:
            await asyncio.gather(*(tracer.detach() for tracer in tracers))
