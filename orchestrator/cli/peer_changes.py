"""``peers add``, ``remove`` and ``replace``: the next configuration epoch of the control plane.

Owns: the words of these commands, waiting until the new peers serve, and that a saved context knows them. Leaves to
others: whether the change can work (the leader). The rule: an error means that nothing has changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from orchestrator.cli.peers import show_status
from orchestrator.cli.session import Session, common
from orchestrator.contract.address import is_address

if TYPE_CHECKING:
    from orchestrator.client.sync import Client
    from orchestrator.contract.answers import ClusterStatus, PeersChanged

CHANGE_TIMEOUT_S = 120.0
"""A newcomer fetches the whole state before the change is made."""
LOOK_S = 0.2


@click.command()
@common
@click.argument("newcomers", nargs=-1, required=True, metavar="ID=HOST:PORT...")
def add(session: Session, newcomers: tuple[str, ...]) -> None:
    """Take new peers in. They must run, with empty data directories and certificates of their ids."""
    _change(session, add=_addresses(newcomers), remove=())


@click.command()
@common
@click.argument("gone", nargs=-1, required=True, metavar="ID...")
def remove(session: Session, gone: tuple[str, ...]) -> None:
    """Remove peers, dead or alive, the leader too. Those that run end by themselves."""
    _change(session, add={}, remove=gone)


@click.command()
@common
@click.argument("old", metavar="ID")
@click.argument("new", metavar="ID=HOST:PORT")
def replace(session: Session, old: str, new: str) -> None:
    """Put a new peer in the place of peer ID; it may have the same id, with an empty disk at another address."""
    _change(session, add=_addresses([new]), remove=[old])


def _addresses(parts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        peer, equals, address = part.partition("=")
        if not equals or not peer or not is_address(address):
            raise click.UsageError(f"{part!r}: expected ID=HOST:PORT, for example p4=10.0.0.4:7400")
        if peer in found:
            raise click.UsageError(f"{peer} is there twice")
        found[peer] = address
    return found


def _change(session: Session, *, add: dict[str, str], remove: Iterable[str]) -> None:
    remove = sorted(set(remove))
    words = [f"add {', '.join(sorted(add))}"] if add else []
    words += [f"remove {', '.join(remove)}"] if remove else []
    session.confirm(f"{' and '.join(words)}?".capitalize())
    with session.client(CHANGE_TIMEOUT_S) as client:
        changed = client.change_peers(add, remove)
        session.note(f"epoch {changed.epoch}: the peers are {', '.join(peer for peer, _ in changed.peers)}")
        status = _settled(client, changed.epoch, CHANGE_TIMEOUT_S if session.timeout_s is None else session.timeout_s)
        if status is None:
            session.warn("the new peers have no leader yet; 'raftsman peers' shows who is missing")
        else:
            show_status(session, status)
    _remember(session, changed)


def _settled(client: Client, epoch: int, timeout_s: float) -> ClusterStatus | None:
    """The status once somebody leads in that epoch or a later one; None if nobody does in time."""
    from orchestrator.contract.errors import NoLeaderError, TimeoutError_, UnknownOutcomeError

    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            status = client.cluster_status()
        except (NoLeaderError, UnknownOutcomeError, TimeoutError_):
            continue
        if status.epoch >= epoch and status.leader_id and not status.read.stale:
            return status
        time.sleep(LOOK_S)
    return None


def _remember(session: Session, changed: PeersChanged) -> None:
    """A saved context goes on working: it gets the new peers' addresses, behind those of them that it has."""
    from dataclasses import replace as changed_to

    from orchestrator.client import contexts

    used = session.resolve()
    saved = contexts.load()
    known = saved.contexts.get(used.name)
    if known is None or known != used:
        return
    addresses = [address for _, address in changed.peers]
    kept = [endpoint for endpoint in known.endpoints if endpoint in addresses]
    endpoints = tuple(dict.fromkeys([*kept, *addresses]))
    if endpoints != known.endpoints:
        new = changed_to(known, endpoints=endpoints)
        contexts.save(changed_to(saved, contexts=saved.contexts | {known.name: new}))
        session.note(f"context {known.name}: {', '.join(endpoints)}")
