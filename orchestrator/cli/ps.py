"""``ps``, ``status`` and ``why``: what runs, how it stands, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.output import age, cores, mebibytes, show, table
from orchestrator.cli.session import Session, common
from orchestrator.cli.views import (
    allocations_table,
    disruption_text,
    gpus_text,
    is_live,
    jobs_table,
    leaving,
    runs_text,
    schedule_text,
)
from orchestrator.cli.views import shown as visible
from orchestrator.contract import priorities
from orchestrator.contract.place import split_place
from orchestrator.contract.rollouts import RolloutStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.client.sync import Client
    from orchestrator.contract.answers import Explanation, JobStatus
    from orchestrator.contract.model import Allocation

WATCH_S = 1.0
LEAVING_SHOWN = 3
_ENDED_WELL = ("COMPLETE", "STOPPED")


@click.command()
@common
@click.option("-a", "--all", "everything", is_flag=True, help="Finished jobs and allocations too.")
@click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Show again every second until Ctrl-C.")
@click.option("--stale", is_flag=True, help="Whatever the first peer knows, at once.")
def ps(session: Session, everything: bool, all_namespaces: bool, watch: bool, stale: bool) -> None:
    """Jobs and their allocations."""
    namespace = "*" if all_namespaces else session.place
    with session.client() as client:
        if not watch:
            _ps(session, client, namespace, everything, stale)
            return
        from orchestrator.cli.watching import repeat

        repeat(session, lambda: _ps(session, client, namespace, everything, stale), every_s=WATCH_S)


def _ps(session: Session, client: Client, namespace: str, everything: bool, stale: bool) -> None:
    listed = client.list_jobs(namespace=namespace, stale=stale)
    # A second wait for a leader that is not there would break the promise of an answer within two seconds.
    placed = client.list_allocations(namespace=namespace, stale=stale or listed.read.stale)
    if not stale:
        session.warn_if_stale(listed.read)
    jobs = [job for job in listed.jobs if everything or job.state not in ("stopped", "complete")]
    shown = {(job.spec.namespace, job.spec.name) for job in jobs}
    allocations = [
        allocation
        for allocation in (placed.allocations if everything else visible(placed.allocations))
        if (allocation.id.namespace, allocation.id.job) in shown
        and (everything or is_live(allocation) or allocation.state.name in ("FAILED", "SKIPPED", "LOST"))
    ]

    def text(wide: bool) -> str:
        if not jobs:
            hidden = len(listed.jobs) - len(jobs)
            return f"No jobs run here ({hidden} finished: --all shows them)." if hidden else "No jobs yet."
        parts = [jobs_table(jobs, wide=wide, namespaces=namespace == "*")]
        if allocations:
            parts.append(allocations_table(allocations, wide=wide))
        return "\n\n".join(parts)

    show(
        session.output,
        value=lambda: {"jobs": jobs, "allocations": allocations, "read": listed.read},
        names=lambda: [job.spec.name for job in jobs],
        table=text,
    )


@click.command()
@common
@click.argument("job")
@click.option("--stale", is_flag=True, help="Whatever the first peer knows, at once.")
def status(session: Session, job: str, stale: bool) -> None:
    """One JOB in detail: groups, allocations with their history, and what is in the way."""
    name = split_place(job)[0]
    with session.client() as client:
        found = client.get_job(name, stale=stale)
        placed = client.list_allocations(job=name, stale=stale or found.read.stale)
        if not stale:
            session.warn_if_stale(found.read)
        allocations = [one for one in placed.allocations if job in (name, str(one.id), f"{name}/{one.id.group}")]
        pending = any(group.pending for group in found.job.groups)
        why_not = client.explain_job(name) if pending and not found.read.stale and "/" not in job else None
    show(
        session.output,
        value=lambda: {"job": found.job, "allocations": allocations, "why": why_not, "read": found.read},
        names=lambda: [str(one.id) for one in allocations],
        table=lambda wide: _status(found.job, allocations, why_not, wide),
    )


def rollout_text(job: JobStatus, allocations: Iterable[Allocation] = ()) -> str:
    """How the job's rollout stands, "" where it never had one; ``allocations``: who may keep it from its end."""
    rollout = job.rollout
    if rollout is None:
        return ""
    left = sum(group.outdated for group in job.groups)
    what = f"back from version {rollout.reverts}" if rollout.reverts else f"to version {rollout.version}"
    if rollout.status is RolloutStatus.SUCCEEDED:
        return f"{what}: done"
    said = f"{what}: {rollout.status.name.lower()}, {left} still to be replaced"
    if not rollout.promoted:
        said += "; canaries wait for 'raftsman promote'"
        if rollout.base_version:
            said += f", all else is held at version {rollout.base_version}"
    going = leaving(allocations)
    if going:
        said += f"; {', '.join(going[:LEAVING_SHOWN])} {'was' if len(going) == 1 else 'were'} told to stop and still "
        said += "runs" if len(going) == 1 else "run"
        said += f" (and {len(going) - LEAVING_SHOWN} more)" if len(going) > LEAVING_SHOWN else ""
    return said + (f"; {rollout.reason}" if rollout.reason else "")


def _status(job: JobStatus, allocations: list[Allocation], why_not: Explanation | None, wide: bool) -> str:
    spec = job.spec
    facts = [
        ("Job", spec.name),
        ("Namespace", spec.namespace),
        ("Type", spec.type.name.lower()),
        ("State", "removing" if job.removing else job.state),
        ("Version", str(job.version)),
        ("Rollout", rollout_text(job, allocations)),
        ("Parent", spec.origin.job if spec.origin else ""),
        ("Schedule", schedule_text(job)),
        ("Runs", runs_text(job)),
        ("Created", f"{age(job.create_time_ms)} ago" if job.create_time_ms else ""),
        ("Placement", spec.placement or "the cluster's default"),
        ("Lost nodes", spec.on_disconnect.name.lower()),
        ("Priority", priorities.describe(spec.priority) + (", not preemptible" if spec.unpreemptible else "")),
        ("Disruption", disruption_text(spec.disruption)),
        ("Uid", job.uid),
    ]
    parts = ["\n".join(f"{click.style(f'{name}:'.ljust(12), bold=True)}{text}" for name, text in facts if text)]
    by_name = {group.name: group for group in spec.groups}
    rows: list[list[Any]] = []
    for group in job.groups:
        said = by_name.get(group.group)
        needs = said.resources if said is not None else None
        rows.append(
            [
                group.group, group.count, group.running, group.ready, group.starting or "", group.pending or "",
                group.complete or "", group.failed or "", group.skipped or "", group.lost or "", group.outdated or "",
                cores(needs.cpu_millis) if needs else "", mebibytes(needs.memory_mib) if needs else "",
                gpus_text(needs.gpus) if needs else "",
            ]
        )  # fmt: skip
    headings = [
        "GROUP", "COUNT", "RUNNING", "READY", "STARTING", "PENDING", "COMPLETE", "FAILED", "SKIPPED", "LOST",
        "OUTDATED", "CPU", "MEMORY", "GPUS",
    ]  # fmt: skip
    parts.append(table(headings, rows))
    if allocations:
        order = sorted(allocations, key=lambda one: (one.id, -one.attempt))
        parts.append(allocations_table(order, wide=wide))
    if why_not is not None:
        parts.append(explanation_text(why_not))
    return "\n\n".join(parts)


@click.command()
@common
@click.argument("job")
@click.option("--at", metavar="TIME|INDEX", help="Then: 12:03, 2026-01-31T12:03:10, 5m (ago), or a command index.")
def why(session: Session, job: str, at: str | None) -> None:
    """Why JOB (or some of it) is not running, and what would change it."""
    name = split_place(job)[0]
    if at is not None:
        from orchestrator.cli.past import why_then

        why_then(session, name, at)
        return
    with session.client() as client:
        explanation = client.explain_job(name)
        session.warn_if_stale(explanation.read)
        allocations = visible(client.list_allocations(job=name, stale=explanation.read.stale).allocations)
    troubled = [one for one in allocations if one.reason and not one.ready and one.state.name not in _ENDED_WELL]

    def text(wide: bool) -> str:
        parts = [explanation_text(explanation)]
        if troubled:
            parts.append(allocations_table(troubled, wide=True))
        return "\n\n".join(part for part in parts if part) or "Nothing is in the way."

    show(
        session.output,
        value=lambda: {"explanation": explanation, "allocations": troubled},
        names=lambda: [group.group for group in explanation.groups if group.pending],
        table=text,
    )


def explanation_text(explanation: Explanation) -> str:
    """Why instances are pending, for reading."""
    waiting = [group for group in explanation.groups if group.pending or group.blocked_by == "skipped"]
    lines = [explanation.summary] if explanation.summary and not waiting else []
    for group in waiting:
        place = f", place {group.queue_position} in the queue" if group.queue_position else ""
        head = f"{click.style(group.group, bold=True)}: {group.pending} pending{place}"
        if group.blocked_by == "skipped":
            head = f"{click.style(group.group, bold=True)}: will not run"
        lines.append(head if group.rejections or not group.summary else f"{head}: {group.summary}")
        lines += [f"  {one.nodes} {'node' if one.nodes == 1 else 'nodes'}: {one.text}" for one in group.rejections]
        if group.nearest:
            lines.append(f"  nearest: {group.nearest}")
        lines += [f"  {remark}" for remark in group.remarks]
        if group.blocked_text and group.blocked_by not in ("order", "skipped"):
            lines.append(f"  held back by {group.blocked_by or 'something'}: {group.blocked_text}")
        if group.remedy:
            steps = " and ".join(step.text for step in group.remedy)
            lines.append(f"  smallest change: {steps}; then it fits on {group.remedy_node}")
        if group.hint:
            lines.append(f"  to change it: {group.hint}")
    return "\n".join(lines)
