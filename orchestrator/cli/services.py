"""``services`` and ``workload``: who answers under which name, and what tasks say of themselves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from orchestrator.cli.output import show, span, table
from orchestrator.cli.session import Session, common
from orchestrator.contract.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.contract.answers import WorkloadAnswer
    from orchestrator.contract.model import Service, ServiceInstance


@click.command()
@common
@click.argument("name", required=False, default="")
@click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Show again whenever something changes, until Ctrl-C.")
@click.option("--stale", is_flag=True, help="Whatever the first peer knows, at once.")
def services(session: Session, name: str, all_namespaces: bool, watch: bool, stale: bool) -> None:
    """Services and their ready instances; with NAME, the instances of that one.

    The same names are answered in DNS by every agent: NAME.service.raftsman, NAME.NAMESPACE.service.raftsman.
    """
    namespace = "*" if all_namespaces else session.place
    if watch:
        from orchestrator.cli.following import follow

        follow(_watch(session, name, namespace))
        return
    with session.client() as client:
        listed = client.list_services(name, namespace=namespace, stale=stale)
        session.warn_if_stale(listed.read)
        if name and not listed.services:
            where = "any namespace" if all_namespaces else f"namespace {namespace!r}"
            raise NotFoundError(
                f"no service {name!r} in {where}: a job offers one under its name where it has 'ports', or under "
                "the names in 'services'; 'raftsman services -A' lists all"
            )
        _show(session, listed.services, name, namespace)


async def _watch(session: Session, name: str, namespace: str) -> None:
    from orchestrator.client.aio import Client

    context = session.resolve()
    known: dict[tuple[str, str], Service] = {}
    redraw = sys.stdout.isatty() and session.output in ("table", "wide")
    async with Client(context.endpoints, tls=context.tls, timeout_s=session.timeout_s or 30.0) as client:
        async for update in client.watch_services(name, namespace=namespace):
            if update.full:
                known = {}
            for one in update.services:
                known[(one.namespace, one.name)] = one
                if not one.declared and not one.instances:
                    del known[(one.namespace, one.name)]
            if redraw:
                sys.stdout.write("\x1b[H\x1b[2J")
            _show(session, [known[key] for key in sorted(known)], name, namespace)
            sys.stdout.flush()


def _show(session: Session, found: Iterable[Service], name: str, namespace: str) -> None:
    listed = list(found)

    def text(wide: bool) -> str:
        if not listed:
            return "No services here." if not name else f"No service {name} (any more)."
        return _instances(listed, wide, namespace) if name else _services(listed, wide, namespace)

    show(
        session.output,
        value=lambda: listed,
        names=lambda: [_address(one) for service in listed for one in service.instances] if name else _names(listed),
        table=text,
    )


def _names(listed: list[Service]) -> list[str]:
    return [service.name for service in listed]


def _services(listed: list[Service], wide: bool, namespace: str) -> str:
    headings = ["SERVICE", "READY", "ADDRESSES"]
    rows: list[list[object]] = []
    for service in listed:
        addresses = [_address(one) for one in service.instances]
        shown = ", ".join(addresses if wide else addresses[:3]) + ("" if wide or len(addresses) <= 3 else ", ...")
        rows.append([service.name, len(addresses), shown])
    return _with_namespaces(headings, rows, listed, namespace)


def _instances(listed: list[Service], wide: bool, namespace: str) -> str:
    headings = ["ADDRESS", "PORT", "ALLOCATION", "NODE", *(["ATTEMPT", "PROTOCOL"] if wide else [])]
    rows: list[list[object]] = []
    owners: list[Service] = []
    for service in listed:
        for one in service.instances:
            more = [one.attempt, one.protocol.name.lower()] if wide else []
            rows.append([_address(one), one.label, one.allocation, one.node_name, *more])
            owners.append(service)
    if not rows:
        return f"{listed[0].name}: no instance is ready; 'raftsman ps' shows what there is."
    return _with_namespaces(headings, rows, owners, namespace)


def _with_namespaces(headings: list[str], rows: list[list[object]], of: list[Service], namespace: str) -> str:
    if namespace != "*":
        return table(headings, rows)
    return table(["NAMESPACE", *headings], [[service.namespace, *row] for service, row in zip(of, rows, strict=True)])


def _address(one: ServiceInstance) -> str:
    host = f"[{one.address}]" if ":" in one.address else one.address
    return f"{host}:{one.port}"


@click.command()
@common
@click.argument("allocation")
@click.option("--attempt", type=click.IntRange(0), default=0, help="This attempt; default: the newest.")
def workload(session: Session, allocation: str, attempt: int) -> None:
    """What the tasks of ALLOCATION (web/0, web/api/0) say of themselves: ready, heartbeats, metrics, ports."""
    with session.client() as client:
        answer = client.get_workload(allocation, attempt)
    show(
        session.output,
        value=lambda: answer,
        names=lambda: [task.task for task in answer.tasks],
        table=lambda wide: _workload(answer),
    )


def _workload(answer: WorkloadAnswer) -> str:
    rows: list[list[object]] = []
    for task in answer.tasks:
        stopping = "done" if task.done else "draining" if task.draining else "told to stop" if task.stopping else ""
        rows.append(
            [
                task.task,
                "yes" if task.ready else "no",
                f"{span(task.heartbeat_age_ms)} ago" if task.heartbeat_age_ms >= 0 else "",
                stopping,
                ", ".join(f"{port.port}/{port.protocol.name.lower()}" for port in task.ports),
            ]
        )
    parts = [table(["TASK", "SAYS READY", "HEARTBEAT", "STOPPING", "LEASED PORTS"], rows)]
    metrics = [[task.task, one.name, f"{one.value:g}"] for task in answer.tasks for one in task.metrics]
    if metrics:
        parts.append(table(["TASK", "METRIC", "VALUE"], metrics))
    return "\n\n".join(parts)
