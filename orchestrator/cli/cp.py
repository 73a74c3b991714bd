"""``cp``: copy files between here and a task, both ways."""

from __future__ import annotations

import asyncio

import click

from orchestrator.cli.session import STALE_AFTER_S, Session, common
from orchestrator.contract.errors import PreconditionError


@click.command()
@common
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--task", default="", help="Of this task (where a group has several); default: the first.")
def cp(session: Session, source: str, target: str, task: str) -> None:
    """Copy a file or directory between here and a task; one of SOURCE and TARGET is ALLOC:PATH or JOB:PATH.

    \b
    raftsman cp web/0:/etc/nginx ./nginx     out of an instance
    raftsman cp site/. web:/srv/www          what is in site, into a directory
    raftsman cp ./a:b web:/tmp/              a file with a colon: write ./

    As 'cp -r': into an existing directory under its own name, else as TARGET. Permissions and times are kept, owners
    are not. A relative PATH begins at the task's working directory.
    """
    there, here = _remote(source), _remote(target)
    if (there is None) is (here is None):
        which = "both are" if there is not None else "neither is"
        raise click.UsageError(f"one of SOURCE and TARGET is in a task (ALLOC:PATH), the other one here; {which}")
    context = session.resolve()

    async def run() -> None:
        from orchestrator.client.aio import Client

        async with Client(
            context.endpoints,
            tls=context.tls,
            namespace=session.place,
            timeout_s=session.timeout_s or 30.0,
            stale_after_s=STALE_AFTER_S,
        ) as client:
            if there is not None:
                copied = await client.copy_from(there[0], there[1], target, task=task)
            else:
                assert here is not None
                copied = await client.copy_to(source, here[0], here[1], task=task)
        for text in copied.skipped:
            session.warn(f"left out: {text}")
        files = "1 file" if copied.files == 1 else f"{copied.files} files"
        session.note(f"{source} -> {target}: {files}, {copied.bytes} bytes")
        if copied.skipped and not copied.files:
            raise PreconditionError("nothing was copied but what holds it: see what was left out")

    asyncio.run(run())


def _remote(text: str) -> tuple[str, str] | None:
    """(allocation or job, path), or None for a path of this machine."""
    where, colon, path = text.partition(":")
    if not colon or not where or where.startswith((".", "/", "~")):
        return None
    if not path:
        raise click.UsageError(f"{text!r}: which path? Such as {where}:/etc/hosts")
    return where, path
