"""``nodes`` and ``node``: the machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.drain import drain
from orchestrator.cli.node_view import custom_text, device_text, system_text, taints_text, where_text
from orchestrator.cli.output import cores, mebibytes, show, span, table
from orchestrator.cli.session import Session, common

if TYPE_CHECKING:
    from orchestrator.contract.answers import NodeInfo


def _state(node: NodeInfo) -> str:
    if node.status.name != "READY":
        return node.status.name.lower()
    if node.draining:
        return "draining"
    return "cordoned" if node.cordoned else "ready"


def _gpus(node: NodeInfo) -> str:
    if not node.devices:
        return ""
    used = sum(device.used_millis for device in node.devices) / 1000
    counts = {
        "cordoned": sum(device.cordoned for device in node.devices),
        "sick": sum(bool(device.sick) for device in node.devices),
    }
    closed = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{used:g}/{len(node.devices)}" + (f" ({closed})" if closed else "")


@click.command()
@common
@click.option("-w", "--watch", is_flag=True, help="Show again every second until Ctrl-C.")
@click.option("--stale", is_flag=True, help="Whatever the first peer knows, at once.")
def nodes(session: Session, watch: bool, stale: bool) -> None:
    """Machines: their state and what is used of them (-o wide: devices and labels)."""
    with session.client() as client:

        def once() -> None:
            listed = client.list_nodes(stale=stale)
            if not stale:
                session.warn_if_stale(listed.read)
            show(
                session.output,
                value=lambda: {"nodes": listed.nodes, "read": listed.read},
                names=lambda: [node.spec.name for node in listed.nodes],
                table=lambda wide: (
                    nodes_table(listed.nodes, wide=wide) if listed.nodes else "No nodes yet: start an agent."
                ),
            )

        if not watch:
            once()
            return
        from orchestrator.cli.watching import repeat

        repeat(session, once, every_s=1.0)


def nodes_table(listed: tuple[NodeInfo, ...], *, wide: bool) -> str:
    headings = ["NODE", "STATE", "CPU", "MEMORY", "GPUS", "RUNNING", "HEARTBEAT", "ID", "REASON"]
    if any(node.taints for node in listed):
        headings.append("TAINTS")
    if any(node.spec.capacity.custom for node in listed):
        headings.append("RESOURCES")
    if wide:
        headings += ["DISK", "ADDRESS", "DRIVERS", "DEVICES", "LABELS", "VERSION", "WHERE", "SYSTEM"]
    rows: list[list[object]] = []
    for node in listed:
        spec, capacity = node.spec, node.spec.capacity
        row: list[object] = [
            spec.name,
            _state(node),
            f"{cores(node.used.cpu_millis)}/{cores(capacity.cpu_millis)}",
            f"{mebibytes(node.used.memory_mib)}/{mebibytes(capacity.memory_mib)}",
            _gpus(node),
            node.allocations,
            f"{span(node.heartbeat_age_ms)} ago" if node.heartbeat_age_ms >= 0 else "",
            spec.id,
            node.status_reason,
        ]
        if "TAINTS" in headings:
            row.append(taints_text(node))
        if "RESOURCES" in headings:
            row.append(custom_text(node))
        if wide:
            devices = ", ".join(device_text(one) for one in node.devices)
            row += [
                f"{mebibytes(node.used.disk_mib)}/{mebibytes(capacity.disk_mib)}" if capacity.disk_mib else "",
                spec.address,
                ",".join(spec.drivers),
                devices,
                ",".join(f"{key}={value}" for key, value in spec.labels),
                spec.version,
                where_text(node),
                system_text(node),
            ]
        rows.append(row)
    return table(headings, rows)


@click.group()
def node() -> None:
    """Show, cordon, drain, taint or forget a machine; cordon one GPU (NODE: name, id, or the beginning of an id)."""


@node.command(name="show")
@common
@click.argument("name", metavar="NODE")
@click.option("--stale", is_flag=True, help="Whatever the first peer knows, at once.")
def show_node(session: Session, name: str, stale: bool) -> None:
    """All that is known of NODE: where it is, what it has, what is used of it, its taints."""
    from orchestrator.cli.node_view import details, find

    with session.client() as client:
        listed = client.list_nodes(stale=stale)
    if not stale:
        session.warn_if_stale(listed.read)
    found = find(listed.nodes, name)
    show(
        session.output,
        value=lambda: {"node": found, "read": listed.read},
        names=lambda: [found.spec.name],
        table=lambda wide: details(found, _state(found), wide=wide),
    )


@node.command()
@common
@click.argument("name", metavar="NODE")
@click.argument("changes", metavar="key=value:Effect|key-...", nargs=-1, required=True)
def taint(session: Session, name: str, changes: tuple[str, ...]) -> None:
    """Keep work off NODE unless it tolerates the taint, or take taints away.

    \b
    raftsman node taint n1 gpu=only:NoSchedule    nothing new without a toleration
    raftsman node taint n1 old:PreferNoSchedule   only where there is no other room
    raftsman node taint n1 broken:NoExecute       what is there leaves, too
    raftsman node taint n1 gpu- broken:NoExecute- away with them
    """
    from orchestrator.contract import taints

    put, drop = [], []
    for text in changes:
        try:
            if text.endswith("-"):
                drop.append(taints.parse_key(text.removesuffix("-")))
            else:
                put.append(taints.parse(text))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    with session.client() as client:
        changed = client.taint_node(name, put=put, drop=drop).changed
    said = [*(f"{text[:-1]} taken off" for text in changes if text.endswith("-")), *map(taints.describe, put)]
    session.note(f"{name}: {', '.join(said)}" if changed else f"{name}: was so already")


@node.command()
@common
@click.argument("name", metavar="NODE")
def cordon(session: Session, name: str) -> None:
    """Place nothing new on NODE; what runs there stays."""
    with session.client() as client:
        changed = client.cordon_node(name).changed
    session.note(f"{name}: cordoned" if changed else f"{name}: was cordoned already")


@node.command()
@common
@click.argument("name", metavar="NODE")
def uncordon(session: Session, name: str) -> None:
    """Use NODE again, after 'cordon' or 'drain'."""
    with session.client() as client:
        changed = client.uncordon_node(name).changed
    session.note(f"{name}: in use again" if changed else f"{name}: was in use already")


@node.group()
def device() -> None:
    """Cordon or uncordon one GPU (DEVICE: id, the beginning of an id, or its place in the node's list, from 0)."""


@device.command(name="cordon")
@common
@click.argument("name", metavar="NODE")
@click.argument("which", metavar="DEVICE")
def cordon_device(session: Session, name: str, which: str) -> None:
    """Give DEVICE of NODE to nothing new; what runs on it stays."""
    with session.client() as client:
        changed = client.cordon_device(name, which).changed
    session.note(f"{name} {which}: cordoned" if changed else f"{name} {which}: was cordoned already")


@device.command(name="uncordon")
@common
@click.argument("name", metavar="NODE")
@click.argument("which", metavar="DEVICE")
def uncordon_device(session: Session, name: str, which: str) -> None:
    """Use DEVICE of NODE again."""
    with session.client() as client:
        changed = client.uncordon_device(name, which).changed
    session.note(f"{name} {which}: in use again" if changed else f"{name} {which}: was in use already")


node.add_command(drain)


@node.command()
@common
@click.argument("name", metavar="NODE")
def forget(session: Session, name: str) -> None:
    """NODE will not come back: what was kept for it is placed elsewhere."""
    session.confirm(f"If {name} still runs somewhere, its instances run twice. Forget it?")
    with session.client() as client:
        changed = client.forget_node(name).changed
    session.note(f"{name}: forgotten" if changed else f"{name}: nothing to forget")
