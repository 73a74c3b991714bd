"""``events``: what happened, and what happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from orchestrator.cli.following import follow as run_followed
from orchestrator.cli.output import writes_anything
from orchestrator.cli.session import STALE_AFTER_S, Session, common
from orchestrator.contract.errors import OutOfRangeError
from orchestrator.contract.plain import plain

if TYPE_CHECKING:
    from orchestrator.client.aio import Client
    from orchestrator.contract.model import Event

QUIET_S = 0.7
"""Without --follow: the stored events have all come when nothing more comes for so long."""
NEAR = 100
"""The last events are looked for in so many commands first: there may be 100,000 in all, which take a while."""


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
            names = _Names(client, session.output in ("table", "wide"))

            def watch(after: int) -> _Reader:
                return _Reader(client.watch_events(after, namespace, kinds, job))

            later: Event | None = None
            near = until - NEAR if tail and after_index is None and not (kinds or job) else 0
            reader = watch(near if near > 0 else until if after_index == -1 else after_index or 0)
            try:
                if after_index != -1:
                    kept, later = await reader.stored(until, or_none=near > 0)
                    if near > 0 and len(kept) < (tail or 0):  # they lie further back
                        await reader.close()
                        reader = watch(0)
                        kept, later = await reader.stored(until)
                    for one in kept[-tail:] if tail else kept:
                        _print(session, one, await names.of(one.node_id))
                while follow:
                    event = later or await reader.next()
                    later = None
                    if event is not None:
                        _print(session, event, await names.of(event.node_id))
            finally:
                await reader.close()

    run_followed(read())


class _Reader:
    """A stream of events of which one can ask for the next without losing it by not waiting for it."""

    def __init__(self, source: AsyncIterator[Event]) -> None:
        self._source = source
        self._waiting: asyncio.Future[Event] | None = None

    async def next(self, timeout_s: float | None = None) -> Event | None:
        """None: nothing came for so long."""
        self._waiting = self._waiting or asyncio.ensure_future(anext(self._source))
        done, _ = await asyncio.wait([self._waiting], timeout=timeout_s)
        if not done:
            return None
        waiting, self._waiting = self._waiting, None
        return waiting.result()

    async def stored(self, until: int, *, or_none: bool = False) -> tuple[list[Event], Event | None]:
        """All up to this index, and the first one behind it if that has come already.

        ``or_none``: nothing where the index to begin at was collected, instead of ``OutOfRangeError``.
        """
        found: list[Event] = []
        try:
            while (event := await self.next(QUIET_S)) is not None and event.index <= until:
                found.append(event)
        except OutOfRangeError:
            if not or_none:
                raise
            return [], None
        return found, event

    async def close(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.wait([self._waiting])


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
