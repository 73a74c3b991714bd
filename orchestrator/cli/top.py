"""``top``: what nodes, tasks and devices use now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.output import cores, mebibytes, show, table
from orchestrator.cli.session import Session, common
from orchestrator.contract.errors import NotFoundError

if TYPE_CHECKING:
    from orchestrator.client.sync import Client
    from orchestrator.contract.answers import NodeInfo, NodeUsage, TaskUsage, UsageAnswer

MIB = 1024 * 1024
SORTS = ("cpu", "memory", "name")
KINDS = ("all", "nodes", "tasks", "devices")


@click.command()
@common
@click.argument("what", type=click.Choice(KINDS), default="all")
@click.option("--node", default="", metavar="NODE", help="Only this one.")
@click.option("--job", default="", metavar="JOB", help="Only tasks of this job.")
@click.option("--sort", type=click.Choice(SORTS), help="Tasks by: cpu (default), memory, name.")
@click.option("-w", "--watch", is_flag=True, help="Show again every second until Ctrl-C.")
def top(session: Session, what: str, node: str, job: str, sort: str | None, watch: bool) -> None:
    """What nodes, tasks and GPUs use now, next to what they were given.

    CPU is in cores, over the time since somebody last asked (a quarter of a second at first). Tasks of your namespace,
    or of all with '-n "*"'; '-o wide' adds limits, processes and where the figures come from.
    """
    if what in ("nodes", "devices") and (job or sort):
        raise click.UsageError(f"--{'job' if job else 'sort'} is about tasks: it does not go with '{what}'")
    with session.client() as client:
        if job:
            _exists(client, session.place, job)

        def once() -> None:
            usage = client.get_usage(node)
            listed = client.list_nodes(stale=True).nodes
            for one in usage.unknown:
                session.warn(f"{one.node}: unknown: {one.why}")
            for said in _untold(usage, listed):
                session.warn(said)
            show(
                session.output,
                value=lambda: usage,
                names=lambda: [_name_of(one.node_id, listed) for one in usage.nodes],
                table=lambda wide: _tables(usage, listed, what, session.place, job, sort or "cpu", wide),
            )

        if not watch:
            once()
            return
        from orchestrator.cli.watching import repeat

        repeat(session, once, every_s=1.0)


def _exists(client: Client, namespace: str, job: str) -> None:
    """Raises where there is no such job; where it is in any namespace, one of them is enough."""
    if namespace != "*":
        client.get_job(job)
    elif not any(one.spec.name == job for one in client.list_jobs("*").jobs):
        raise NotFoundError(f"there is no job {job!r} in any namespace")


def _untold(usage: UsageAnswer, listed: tuple[NodeInfo, ...]) -> list[str]:
    """Of the nodes that answered: whose tasks' figures are missing, and why."""
    said = []
    for one in usage.nodes:
        reasons: dict[str, int] = {}
        for task in one.tasks:
            if task.why:
                reasons[task.why] = reasons.get(task.why, 0) + 1
        name = _name_of(one.node_id, listed)
        said += [f"{name}: {count} of {len(one.tasks)} tasks unknown: {why}" for why, count in reasons.items()]
    return said


def _tables(
    usage: UsageAnswer, listed: tuple[NodeInfo, ...], what: str, namespace: str, job: str, sort: str, wide: bool
) -> str:
    parts = []
    if what in ("all", "nodes"):
        parts.append(_nodes(usage.nodes, listed, wide))
    if what in ("all", "tasks"):
        parts.append(_tasks(usage.nodes, listed, namespace, job, sort, wide))
    if what in ("all", "devices") and (what == "devices" or any(one.devices for one in usage.nodes)):
        parts.append(_devices(usage.nodes, listed))
    return "\n\n".join(parts)


def _name_of(node_id: str, listed: tuple[NodeInfo, ...]) -> str:
    return next((node.spec.name for node in listed if node.spec.id == node_id), node_id)


def _nodes(nodes: tuple[NodeUsage, ...], listed: tuple[NodeInfo, ...], wide: bool) -> str:
    headings = ["NODE", "CPU", "CPU%", "GIVEN", "MEMORY", "MEM%", "GIVEN", "TASKS"]
    if wide:
        headings += ["LOAD", "DISK", "DISK%", "MEASURED OVER"]
    rows: list[list[object]] = []
    for one in nodes:
        info = next((node for node in listed if node.spec.id == one.node_id), None)
        row: list[object] = [
            _name_of(one.node_id, listed),
            f"{_cpu(one.cpu_millis)}/{cores(one.cpu_total_millis)}",
            _share(one.cpu_millis, one.cpu_total_millis),
            cores(info.used.cpu_millis) if info is not None else "",
            f"{_memory(one.memory_bytes)}/{_memory(one.memory_total_bytes)}",
            _share(one.memory_bytes, one.memory_total_bytes),
            mebibytes(info.used.memory_mib) if info is not None else "",
            len(one.tasks),
        ]
        if wide:
            row += [
                f"{one.load_millis / 1000:.2f}",
                f"{_memory(one.disk_bytes)}/{_memory(one.disk_total_bytes)}",
                _share(one.disk_bytes, one.disk_total_bytes),
                f"{one.interval_ms / 1000:.1f}s",
            ]
        rows.append(row)
    return table(headings, rows)


def _tasks(
    nodes: tuple[NodeUsage, ...], listed: tuple[NodeInfo, ...], namespace: str, job: str, sort: str, wide: bool
) -> str:
    found = [
        (one.node_id, task)
        for one in nodes
        for task in one.tasks
        if namespace in ("*", task.id.namespace) and job in ("", task.id.job)
    ]

    def order(pair: tuple[str, TaskUsage]) -> tuple[object, ...]:
        task = pair[1]
        amount = {"cpu": -task.cpu_millis, "memory": -task.memory_bytes, "name": 0}[sort]
        return amount, task.id, task.task

    with_gpus = any(task.device_ids for _, task in found)
    headings = ["ALLOCATION", "TASK", "CPU", "MEMORY", "GPUS", "NODE"]
    if with_gpus:
        headings[4:4] = ["GPU%", "GPU MEMORY"]
    if namespace == "*":
        headings.insert(0, "NAMESPACE")
    if wide:
        headings += ["LIMIT", "MEM%", "PROCESSES", "FROM", "ATTEMPT"]
    rows = []
    for node_id, task in sorted(found, key=order):
        row: list[object] = [
            task.id,
            task.task,
            _cpu(task.cpu_millis),
            _memory(task.memory_bytes),
            ",".join(task.device_ids),
            _name_of(node_id, listed),
        ]
        if with_gpus:
            row[4:4] = _on_devices(task)
        if namespace == "*":
            row.insert(0, task.id.namespace)
        if wide:
            row += [
                _memory(task.memory_limit_bytes) if task.memory_limit_bytes else "",
                _share(task.memory_bytes, task.memory_limit_bytes),
                task.processes if task.processes >= 0 else "?",
                f"{task.source}: {task.why}" if task.why else task.source,
                task.attempt,
            ]
        rows.append(row)
    return table(headings, rows) if rows else "Nothing runs there."


def _on_devices(task: TaskUsage) -> tuple[str, str]:
    """How busy it keeps its devices, all of them = 100 %, and its memory on them."""
    if not task.device_ids:
        return "", ""
    if len(task.devices) < len(task.device_ids):
        return "?", "?"
    percent, memory = [one.percent for one in task.devices], [one.memory_bytes for one in task.devices]
    return (
        f"{sum(percent) / len(percent):.0f}%" if min(percent) >= 0 else "?",
        _memory(sum(memory) if min(memory) >= 0 else -1),
    )


def _devices(nodes: tuple[NodeUsage, ...], listed: tuple[NodeInfo, ...]) -> str:
    users: dict[str, list[str]] = {}
    for one in nodes:
        for task in one.tasks:
            for device in task.device_ids:
                users.setdefault(device, []).append(str(task.id))
    rows = [
        [
            device.device_id,
            _name_of(one.node_id, listed),
            f"{device.percent}%" if device.percent >= 0 else "?",
            f"{_memory(device.memory_bytes)}/{_memory(device.memory_total_bytes)}" if device.memory_bytes >= 0 else "?",
            f"{device.celsius}C" if device.celsius >= 0 else "",
            f"{device.milliwatts / 1000:.0f}W" if device.milliwatts >= 0 else "",
            " ".join(users.get(device.device_id, ())),
        ]
        for one in nodes
        for device in one.devices
    ]
    return table(["DEVICE", "NODE", "BUSY", "MEMORY", "TEMP", "POWER", "USED BY"], rows) if rows else "No devices."


def _cpu(millis: int) -> str:
    return f"{millis / 1000:.2f}" if millis >= 0 else "?"


def _memory(amount: int) -> str:
    return mebibytes(round(amount / MIB)) if amount >= 0 else "?"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%" if whole > 0 and part >= 0 else ""
