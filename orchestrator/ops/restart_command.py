"""``raftsman peers restart``: peers of a dev cluster, one after the other. Thin; the work is in ``ops.rolling``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from orchestrator.cli.session import Session, common
from orchestrator.ops.dev_command import attached, data_option
from orchestrator.ops.rolling import is_back, restart_all

TIMEOUT_S = 60.0


@click.command("restart")
@common
@click.argument("peer", required=False)
@click.option("--rolling", is_flag=True, help="Every peer, the leader last, each only when all are back.")
@data_option
def command(session: Session, peer: str | None, rolling: bool, data: Path | None) -> None:
    """Restart PEER, or with --rolling every peer, of a dev cluster, and wait until it takes its full part again.

    No call of a client fails meanwhile. Elsewhere: restart one peer's service, then 'raftsman peers wait'; the leader
    last.
    """
    if (peer is None) != rolling:
        raise click.UsageError("name a PEER, or say --rolling for all of them")
    cluster = attached(data)
    timeout_s = TIMEOUT_S if session.timeout_s is None else session.timeout_s

    async def work() -> None:
        try:
            if peer is None:
                await restart_all(
                    cluster, timeout_s=timeout_s, told=lambda name: session.note(f"{name}: back, votes, caught up")
                )
            else:
                await cluster.restart_peer(peer)
                await is_back(cluster, peer, timeout_s)
                session.note(f"{peer}: back, votes, caught up")
        finally:
            await cluster.close()

    asyncio.run(work())
