"""``peers``: the control plane, and what can be done with its peers.

Owns: the list of peers and the group that every ``raftsman peers ...`` command hangs in. Commands that need more than a
client has (the disk of this machine) come from higher layers by entry point ``raftsman.peers``. The rule: without a
subcommand it lists, and loads nothing else.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from orchestrator.cli.lazy import Lazy
from orchestrator.cli.output import show, span, table
from orchestrator.cli.session import Session, common

if TYPE_CHECKING:
    from orchestrator.contract.answers import ClusterStatus, PeerInfo

WARN_CERTIFICATE_DAYS = 30
DAY_MS = 24 * 3600 * 1000

_OWN: dict[str, tuple[str, str, str]] = {
    "wait": ("orchestrator.cli.peers_wait", "wait", "Return when every peer votes and has caught up."),
    "add": ("orchestrator.cli.peer_changes", "add", "Take new peers in."),
    "remove": ("orchestrator.cli.peer_changes", "remove", "Remove peers, dead or alive."),
    "replace": ("orchestrator.cli.peer_changes", "replace", "Put a new peer in the place of another."),
}
"""Subcommands that a client can do: name -> module, attribute, help."""
_BY_ENTRY_POINT: dict[str, str] = {
    "reset": "Put a damaged data directory aside, so that its peer catches up from the others.",
    "restart": "Restart peers of a dev cluster, one after the other, without a failed call.",
}


class _Peers(Lazy):
    own = _OWN
    points = "raftsman.peers"

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            known = {**{name: text for name, (_, _, text) in _OWN.items()}, **_BY_ENTRY_POINT}
            formatter.write_dl([(name, known.get(name, "")) for name in self.list_commands(ctx)])


@click.group(cls=_Peers, invoke_without_command=True)
@common
@click.option("-w", "--watch", is_flag=True, help="Show again every second until Ctrl-C.")
@click.option("--stale", is_flag=True, help="Whatever the first peer knows, at once.")
@click.pass_context
def peers(context: click.Context, session: Session, watch: bool, stale: bool) -> None:
    """The control plane: who leads, who lags, whose certificate ends soon."""
    if context.invoked_subcommand is not None:
        return
    with session.client() as client:

        def once() -> None:
            status = client.cluster_status(stale=stale)
            if not stale:
                session.warn_if_stale(status.read)
            show_status(session, status)

        if not watch:
            once()
            return
        from orchestrator.cli.watching import repeat

        repeat(session, once, every_s=1.0)


def show_status(session: Session, status: ClusterStatus) -> None:
    for peer in status.peers:
        _warn_of_certificate(session, peer)
    if moved := [peer.id for peer in status.peers if peer.found_at]:
        session.warn(
            f"{', '.join(moved)} answer elsewhere than the cluster remembers: keep the --peers that they were started "
            "with; 'raftsman peers replace ID ID=HOST:PORT' with an empty disk, one after the other, changes what it "
            "remembers"
        )
    if status.waits_for:
        session.warn(status.waits_for)
    show(
        session.output,
        value=lambda: status,
        names=lambda: [peer.id for peer in status.peers],
        table=lambda wide: _peers_text(status, wide),
    )


def _warn_of_certificate(session: Session, peer: PeerInfo) -> None:
    if not peer.cert_expires_ms:
        return
    left_days = (peer.cert_expires_ms - int(time.time() * 1000)) / DAY_MS
    if left_days < WARN_CERTIFICATE_DAYS:
        when = f"expires in {left_days:.0f} days" if left_days > 0 else "has expired"
        session.warn(f"the certificate of peer {peer.id} {when}; make new ones with 'raftsman certs'")


def _peers_text(status: ClusterStatus, wide: bool) -> str:
    leader = status.leader_id or "none"
    name = f"{status.cluster_name or status.cluster_id}{' (development)' if status.dev else ''}"
    head = (
        f"cluster {name}: leader {click.style(leader, bold=True)}, "
        f"term {status.term}, index {status.applied_index}, epoch {status.epoch}, elections seen {status.elections}; "
        f"{status.jobs} jobs, {status.nodes} nodes, {status.allocations} allocations"
    )
    headings = ["PEER", "ROLE", "LAG", "CONTACT", "ADDRESS", "CERTIFICATE", "VERSION"]
    if wide:
        headings += ["VOTER", "MATCH"]
    rows: list[list[object]] = []
    for peer in status.peers:
        left_ms = peer.cert_expires_ms - int(time.time() * 1000)
        row: list[object] = [
            peer.id,
            peer.role,
            peer.lag if peer.lag >= 0 else "?",
            f"{span(peer.last_contact_ms)} ago" if peer.last_contact_ms >= 0 else "never",
            f"{peer.address} (out of date: {peer.found_at})" if peer.found_at else peer.address,
            f"{left_ms // DAY_MS} days" if peer.cert_expires_ms else "",
            peer.version,
        ]
        if wide:
            row += ["yes" if peer.voter else "no", peer.match_index]
        rows.append(row)
    return f"{head}\n\n{table(headings, rows)}"
