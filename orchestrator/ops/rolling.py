"""A rolling restart: every peer of a local cluster, one after the other, while clients go on.

Owns: the order and what must be true before the next one. Leaves to others: stopping and starting (``dev``), who is
ready (``client.health``). The rule: nobody is stopped before all are back, hold everything and vote; the leader goes
last, so that the cluster elects once and not up to three times.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.client.aio import Client
from orchestrator.client.health import unready
from orchestrator.contract.errors import PreconditionError, RaftsmanError, TimeoutError_

if TYPE_CHECKING:
    from orchestrator.ops.dev import LocalCluster

LOOK_S = 2.0
PAUSE_S = 0.05


async def restart_all(
    cluster: LocalCluster, *, timeout_s: float = 60.0, told: Callable[[str], None] = lambda peer: None
) -> tuple[str, ...]:
    """Restart every peer; returns their ids in that order, and tells each as soon as it is back.

    Raises ``PreconditionError`` before anything is done if a peer is not well, ``TimeoutError_`` when one does not come
    back: those after it were not touched.
    """
    try:
        problem = unready(await cluster.client.at_most(LOOK_S * 2).cluster_status())
    except RaftsmanError as error:
        problem = error.message
    if problem:
        raise PreconditionError(f"nothing was restarted, for not every peer is well: {problem}")
    done: list[str] = []
    while len(done) < len(cluster.peers):
        leader = await cluster.leader()
        left = sorted(
            (name for name in cluster.peer_names() if name not in done), key=lambda name: (name == leader, name)
        )
        await cluster.restart(left[0])
        await is_back(cluster, left[0], timeout_s)
        done.append(left[0])
        told(left[0])
    return tuple(done)


async def is_back(cluster: LocalCluster, name: str, timeout_s: float) -> None:
    """Until a fresh read through that very peer says that all are ready. Raises ``TimeoutError_``."""
    deadline = time.monotonic() + timeout_s
    problem = ""
    address = next(peer.address for peer in cluster.peers if peer.name == name)
    async with Client([address], tls=cluster.tls, timeout_s=LOOK_S) as itself:
        while True:
            try:
                problem = unready(await itself.cluster_status())
                if not problem:
                    return
            except RaftsmanError as error:
                problem = error.message
            if time.monotonic() > deadline:
                raise TimeoutError_(f"{name} is not back after {timeout_s:g} s: {problem}; logs in {cluster.data}/logs")
            await asyncio.sleep(PAUSE_S)
