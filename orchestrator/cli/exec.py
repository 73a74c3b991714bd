"""``exec``: run a command in a running task, with a terminal if wanted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.session import STALE_AFTER_S, Session, common

if TYPE_CHECKING:
    from orchestrator.client.sessions import Session as Running

INTERRUPTED = 130


class _Command(click.Command):
    """A dash in the command itself is a common slip: say where it goes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.format_message()} Put '--' before the command: raftsman exec web -- ls -l", ctx
            ) from None


@click.command(cls=_Command)
@common
@click.argument("where", metavar="ALLOC|JOB")
@click.argument("words", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED)
@click.option("-i", "--stdin", is_flag=True, help="Pass on what comes on standard input.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal: for shells and editors, with -i.")
@click.option("--task", default="", help="In this task (where a group has several); default: the first.")
def exec_(session: Session, where: str, words: tuple[str, ...], stdin: bool, tty: bool, task: str) -> None:
    """Run COMMAND in a task that runs now, and exit with its exit code.

    \b
    raftsman exec web -- ls -l /             in the first instance of web that runs
    raftsman exec -it web/api/1 -- sh        a shell in one instance
    raftsman exec -i db -- psql < dump.sql   with standard input

    It ends with this command, and when the task ends. Ctrl-C goes to it; without a terminal, a second one ends it.
    """
    if not words:
        raise click.UsageError(f"which command? Such as: raftsman exec -it {where} -- sh")
    if tty and stdin and not sys.stdin.isatty():
        raise click.UsageError("-t needs a terminal, and standard input is none: leave it out")
    context = session.resolve()

    async def run() -> int:
        from orchestrator.cli import terminal
        from orchestrator.client.aio import Client

        rows, columns = terminal.size() if tty else (0, 0)
        async with (
            Client(
                context.endpoints,
                tls=context.tls,
                namespace=session.place,
                timeout_s=session.timeout_s or 30.0,
                stale_after_s=STALE_AFTER_S,
            ) as client,
            await client.exec(
                where,
                words,
                task=task,
                tty=tty,
                stdin=stdin,
                rows=rows,
                columns=columns,
                term=os.environ.get("TERM", "xterm") if tty else "",
            ) as running,
        ):
            with terminal.raw() if tty and sys.stdin.isatty() else contextlib.nullcontext():
                return await _carry(running, stdin=stdin, tty=tty)

    from orchestrator.contract.errors import RaftsmanError

    try:
        code = asyncio.run(run())
    except RaftsmanError as error:
        if error.metadata.get("exit_code"):
            click.echo(f"raftsman: {error.message}", err=True)
            code = int(error.metadata["exit_code"])
        else:
            raise
    sys.stdout.flush()
    # Not by an ordinary exit: a thread may still wait for the keyboard.
    os._exit(code)


async def _carry(running: Running, *, stdin: bool, tty: bool) -> int:
    """Until the command has ended; its exit code."""
    from orchestrator.cli import terminal

    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    given_up = asyncio.Event()
    interrupted = 0

    def begin(work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def resized() -> None:
        begin(running.resize(*terminal.size()))

    def signalled(number: signal.Signals) -> None:
        nonlocal interrupted
        interrupted += 1
        if interrupted > 1:
            given_up.set()
        begin(running.signal(number.name))

    async def feed() -> None:
        async for data in terminal.standard_input():
            await running.send(data)
        await running.end_input()

    async def show() -> int:
        while (piece := await running.read()) is not None:
            await asyncio.to_thread(terminal.write, piece[1], error=piece[0])
        return running.exit_code or 0

    if tty:
        loop.add_signal_handler(signal.SIGWINCH, resized)
        resized()  # what changed since it was opened
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled, number)
    if stdin:
        begin(feed())
    showing = asyncio.ensure_future(show())
    giving_up = asyncio.ensure_future(given_up.wait())
    try:
        await asyncio.wait({showing, giving_up}, return_when=asyncio.FIRST_COMPLETED)
        return showing.result() if showing.done() else INTERRUPTED
    finally:
        for task in [*tasks, showing, giving_up]:
            task.cancel()
        await asyncio.gather(*tasks, showing, giving_up, return_exceptions=True)
