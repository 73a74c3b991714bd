"""``events``: what happened, and what happens."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import TYPE_CHECKING

import click

from orchestrator.cli.session import Session, common
from orchestrator.contract.plain import plain

if TYPE_CHECKING:
    from orchestrator.contract.model import Event

QUIET_S = 0.7
"""Without --follow: the stored events have all come when nothing more comes for so long."""


@click.command()
@common
@click.option("-f", "--follow", is_flag=True, help="Go on as things happen.")
@click.option(
    "--after", "after_index", type=click.IntRange(0), help="Only events after this index; resumes without a gap."
)
@click.option("--tail", type=click.IntRange(0), help="Only the last ones (default 50, unless --after is given).")
@click.option("--kind", "kinds", multiple=True, help="Only this kind, such as node.lost; may be repeated.")
@click.option("--job", default="", help="Only of this job.")
@click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces.")
def events(
    session: Session,
    follow: bool,
    after_index: int | None,
    tail: int | None,
    kinds: tuple[str, ...],
    job: str,
    all_namespaces: bool,
) -> None:
    """What happened in the cluster; -o json prints one object per line."""
    context = session.resolve()
    namespace = "*" if all_namespaces else session.place
    if tail is None and after_index is None:
        tail = 0 if follow else 50
    if tail == 0 and after_index is None and follow:
        after_index = -1

    async def read() -> None:
        from orchestrator.client.aio import Client

        async with Client(context.endpoints, tls=context.tls, timeout_s=session.timeout_s or 30.0) as client:
            # Fails at once, with its reason, where nobody leads; and the end of what is stored.
            until = (await client.cluster_status()).read.index
            source = client.watch_events(after_index or 0, namespace, kinds, job)
            if after_index == -1:
                source = client.watch_events(until, namespace, kinds, job)
            kept: list[Event] = []
            stored = after_index != -1
            waiting: asyncio.Task[Event] | None = None
            try:
                while True:
                    waiting = waiting or asyncio.ensure_future(anext(source))
                    done, _ = await asyncio.wait([waiting], timeout=QUIET_S if stored else None)
                    event = waiting.result() if done else None
                    if done:
                        waiting = None
                    if stored and (event is None or event.index > until):
                        stored = False
                        for one in kept[-tail:] if tail else kept:
                            _print(session, one)
                        if not follow:
                            return
                    if event is None:
                        continue
                    if stored:
                        kept.append(event)
                    else:
                        _print(session, event)
            finally:
                if waiting is not None:
                    waiting.cancel()

    asyncio.run(read())


def _print(session: Session, event: Event) -> None:
    if session.output == "json":
        click.echo(json.dumps(plain(event), ensure_ascii=False))
    elif session.output == "yaml":
        import yaml

        click.echo(yaml.safe_dump([plain(event)], sort_keys=False, allow_unicode=True), nl=False)
    elif session.output == "name":
        click.echo(f"{event.index}.{event.sequence}")
    else:
        when = datetime.fromtimestamp(event.time_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
        about = event.allocation or event.job or event.node_id
        wide = f"  node {event.node_id}  attempt {event.attempt}" if session.output == "wide" else ""
        click.echo(f"{event.index:>7}  {when}  {event.kind:<20}  {about:<24}  {event.message}{wide}".rstrip())
