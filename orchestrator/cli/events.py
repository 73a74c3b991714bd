"""``events``: what happened, and what happens."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import TYPE_CHECKING

import click

from orchestrator.cli.following import follow as run_followed
from orchestrator.cli.output import writes_anything
from orchestrator.cli.session import STALE_AFTER_S, Session, common
from orchestrator.contract.plain import plain

if TYPE_CHECKING:
    from orchestrator.client.aio import Client
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
    if tail == 0 and not follow:
        return
    if tail == 0:
        after_index = -1

    async def read() -> None:
        from orchestrator.client.aio import Client

        async with Client(
            context.endpoints,
            tls=context.tls,
            timeout_s=session.timeout_s or 30.0,
            stale_after_s=None if follow else STALE_AFTER_S,
        ) as client:
            # Following fails here, with its reason, where nobody leads; what one peer knows can be listed all the same.
            status = await client.cluster_status()
            session.warn_if_stale(status.read)
            until = status.read.index  # the end of what is stored
            source = client.watch_events(after_index or 0, namespace, kinds, job)
            if after_index == -1:
                source = client.watch_events(until, namespace, kinds, job)
            names = _Names(client, session.output in ("table", "wide"))
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
                            _print(session, one, await names.of(one.node_id))
                        if not follow:
                            return
                    if event is None:
                        continue
                    if stored:
                        kept.append(event)
                    else:
                        _print(session, event, await names.of(event.node_id))
            finally:
                if waiting is not None:
                    waiting.cancel()

    run_followed(read())


class _Names:
    """Names of nodes by id, asked for when the first unknown id turns up."""

    def __init__(self, client: Client, wanted: bool) -> None:
        self._client = client
        self._wanted = wanted
        self._known: dict[str, str] = {}

    async def of(self, node_id: str) -> str:
        """The id itself for a node that is no more."""
        if self._wanted and node_id and node_id not in self._known:
            listed = await self._client.list_nodes(stale=True)
            self._known |= {node_id: node_id} | {node.spec.id: node.spec.name for node in listed.nodes}
        return self._known.get(node_id, node_id)


def _print(session: Session, event: Event, node: str) -> None:
    if session.output == "json":
        click.echo(json.dumps(plain(event), ensure_ascii=not writes_anything()))
    elif session.output == "yaml":
        import yaml

        click.echo(yaml.safe_dump([plain(event)], sort_keys=False, allow_unicode=writes_anything()), nl=False)
    elif session.output == "name":
        click.echo(f"{event.index}.{event.sequence}")
    else:
        when = datetime.fromtimestamp(event.time_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
        about = event.allocation or event.job or node
        message = event.message if event.message != about else ""
        if event.allocation and node and not message:
            message = f"on {node}"
        wide = f"  node {event.node_id}  attempt {event.attempt}" if session.output == "wide" else ""
        click.echo(f"{event.index:>7}  {when}  {event.kind:<20}  {about:<24}  {message}{wide}".rstrip())
