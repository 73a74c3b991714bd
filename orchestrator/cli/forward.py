"""``port-forward``: a port of a task as a port of this machine's loopback."""

from __future__ import annotations

import asyncio

import click

from orchestrator.cli.session import STALE_AFTER_S, Session, common


@click.command("port-forward")
@common
@click.argument("where", metavar="ALLOC|JOB")
@click.argument("ports", metavar="[LOCAL:]REMOTE...", nargs=-1, required=True)
@click.option("--task", default="", help="Of this task (where a group has several); default: the first.")
def port_forward(session: Session, where: str, ports: tuple[str, ...], task: str) -> None:
    """Reach ports of a task at 127.0.0.1 until Ctrl-C; REMOTE is a number as the task sees it, or a port's label.

    \b
    raftsman port-forward web 8080:80   127.0.0.1:8080 -> port 80 of web
    raftsman port-forward web/1 http    any free port here -> the port that the job calls http

    JOB: each connection goes to an instance that runs then, wherever it is. A name, label or task that is wrong ends
    it at the start.
    """
    wanted = [_port(text) for text in ports]
    context = session.resolve()

    async def run() -> None:
        from contextlib import AsyncExitStack

        from orchestrator.client.aio import Client

        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                Client(
                    context.endpoints,
                    tls=context.tls,
                    namespace=session.place,
                    timeout_s=session.timeout_s or 30.0,
                    stale_after_s=STALE_AFTER_S,
                )
            )
            for local, remote in wanted:
                forward = await stack.enter_async_context(
                    client.port_forward(where, remote, local, task=task, told=lambda error: session.warn(error.message))
                )
                click.echo(f"{forward.address} -> {where} {remote}")
            session.note("Ctrl-C ends it")
            await asyncio.Event().wait()

    asyncio.run(run())


def _port(text: str) -> tuple[int, int | str]:
    """``8080:80``, ``80`` (the same here), ``http`` (any free one here) as (local, remote)."""
    local, colon, remote = text.rpartition(":")
    if not remote or (colon and not local.isdecimal()) or (max(len(local), len(remote)) > 64):
        raise click.UsageError(f"{text[:80]!r}: expected [LOCAL:]REMOTE, such as 8080:80 or 8080:http")
    target: int | str = int(remote) if remote.isdecimal() else remote
    here = int(local) if colon else target if isinstance(target, int) else 0
    if not 0 <= here < 65_536 or (isinstance(target, int) and not 0 < target < 65_536):
        raise click.UsageError(f"{text!r}: a port is from 1 to 65535 (0 here: any free one)")
    return here, target
