#!/usr/bin/env python3
"""Rolling updates of a job of real processes in a cluster of its own, sampled every 50 ms: were the bounds kept?

    scripts/rolling_updates.py [--rounds 20] [--count 3] [--max-surge 1] [--max-unavailable 0] [--kill-leader] [--json]

``below`` and ``above`` count samples outside of the bounds; exit code 1 if there are any. With ``--kill-leader`` the
leader is killed every ten seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from orchestrator.client.sync import Client
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.rollout_sampler import Sampled, sample_rollouts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--max-surge", type=int, default=1)
    parser.add_argument("--max-unavailable", type=int, default=0)
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--kill-leader", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = asyncio.run(_measure(given))
    load = os.getloadavg()[0]
    told = dataclasses.asdict(found) | {"load": round(load, 1)}
    if given.json:
        print(json.dumps(told))
    else:
        print(f"{found.rounds} updates, {found.samples} samples: never fewer than {found.ready_min} ready,")
        print(f"never more than {found.live_max} live; {found.below} below and {found.above} above the bounds;")
        print(f"longest gap between samples {found.gap_ms_max} ms; {found.errors} errors; load {load:.1f}")
    return 1 if found.below or found.above else 0


async def _measure(given: argparse.Namespace) -> Sampled:
    async with LocalCluster(peers=given.peers, agents=2, driver="process", gateway=False) as cluster:
        killer = asyncio.create_task(_kill(cluster)) if given.kill_leader else None
        client = Client(cluster.endpoints, tls=cluster.tls)
        try:
            return await asyncio.to_thread(
                sample_rollouts,
                client,
                count=given.count,
                surge=given.max_surge,
                unavailable=given.max_unavailable,
                rounds=given.rounds,
            )
        finally:
            if killer is not None:
                killer.cancel()
                await asyncio.gather(killer, return_exceptions=True)
            await asyncio.to_thread(client.close)


async def _kill(cluster: LocalCluster) -> None:
    """The leader, every ten seconds; it is started again."""
    while True:
        await asyncio.sleep(10.0)
        await cluster.restart(await cluster.kill_leader())


if __name__ == "__main__":
    sys.exit(main())
