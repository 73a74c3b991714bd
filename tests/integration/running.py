"""A cluster of real processes for tests that block."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.ops.dev import LocalCluster


@contextmanager
def running(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """Started and ready; stopped at the end, whatever happened."""

    async def start() -> None:
        await cluster.start()
        await cluster.wait_ready()
        await cluster.close()  # its client: the loop ends here, the processes go on

    try:
        asyncio.run(start())
        yield cluster
    finally:
        asyncio.run(cluster.stop())
