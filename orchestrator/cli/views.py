"""The tables of jobs, allocations and nodes, shared by several commands."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.cli.output import age, cores, mebibytes, span, table
from orchestrator.contract.model import AllocState, Desired, JobType
from orchestrator.contract.transitions import TERMINAL

if TYPE_CHECKING:
    from orchestrator.contract.answers import JobStatus
    from orchestrator.contract.model import Allocation, DeviceRequest, Disruption


def newest(allocations: Iterable[Allocation]) -> list[Allocation]:
    """Of every allocation the attempt that counts, in order: the newest live one, or else the newest."""
    found: dict[object, Allocation] = {}
    for allocation in allocations:
        before = found.get(allocation.id)
        if before is None or (is_live(allocation), allocation.attempt) > (is_live(before), before.attempt):
            found[allocation.id] = allocation
    return sorted(found.values(), key=lambda allocation: allocation.id)


def shown(allocations: Iterable[Allocation]) -> list[Allocation]:
    """The same, and in a rollout the older ones that still run beside their successors."""
    listed = list(allocations)
    counting = newest(listed)
    keys = {(one.id, one.attempt) for one in counting}
    also = [one for one in listed if is_live(one) and (one.id, one.attempt) not in keys]
    return sorted([*counting, *also], key=lambda one: (one.id, one.attempt))


def leaving(allocations: Iterable[Allocation]) -> list[str]:
    """Who was told to stop, has a successor, and has not ended: ``web/main/0 (attempt 1) on n2``."""
    listed = list(allocations)
    counting = {(one.id, one.attempt) for one in newest(listed)}
    return [
        f"{one.id} (attempt {one.attempt}) on {one.node_name or 'a forgotten node'}"
        for one in shown(listed)
        if (one.id, one.attempt) not in counting and one.desired is Desired.STOP
    ]


def is_live(allocation: Allocation) -> bool:
    return allocation.state not in TERMINAL


def jobs_table(jobs: Iterable[JobStatus], *, wide: bool, namespaces: bool) -> str:
    headings = ["JOB", "TYPE", "STATE", "RUNNING", "VERSION", "AGE"]
    if namespaces:
        headings.insert(0, "NAMESPACE")
    if wide:
        headings += ["PENDING", "STARTING", "COMPLETE", "FAILED", "LOST", "PLACEMENT", "PRIORITY", "UID"]
    listed = list(jobs)
    templates = any(job.template is not None for job in listed)
    if templates:
        headings.append("NEXT RUN")
    rows = []
    for job in listed:
        row: list[object] = [
            job.spec.name,
            job.spec.type.name.lower(),
            "removing" if job.removing else job.state,
            _progress(job),
            job.version,
            age(job.create_time_ms),
        ]
        if namespaces:
            row.insert(0, job.spec.namespace)
        if wide:
            for name in ("pending", "starting", "complete", "failed", "lost"):
                row.append(sum(getattr(group, name) for group in job.groups) or "")
            row += [job.spec.placement or "default", job.spec.priority, job.uid]
        if templates:
            row.append(next_text(job))
        rows.append(row)
    return table(headings, rows)


def _progress(job: JobStatus) -> str:
    """``2/3`` instances; of a batch job also how many are done."""
    if job.template is not None:
        return f"{job.template.live} {'run' if job.template.live == 1 else 'runs'}"
    running = sum(group.running for group in job.groups)
    total = sum(group.count for group in job.groups)
    ready = sum(group.ready for group in job.groups)
    if job.spec.type is JobType.SERVICE and ready < running:
        return f"{running}/{total} ({ready} ready)"
    if job.spec.type is JobType.BATCH:
        complete = sum(group.complete for group in job.groups)
        return f"{running} ({complete}/{total} done)"
    return f"{running}/{total}"


def next_text(job: JobStatus) -> str:
    """When a periodic job runs next: ``in 5m``."""
    template = job.template
    if template is None or job.spec.periodic is None:
        return ""
    if not template.next_ms:
        return "paused" if job.spec.periodic.paused else "never" if template.problem else ""
    left_ms = template.next_ms - time.time_ns() // 1_000_000
    return f"in {span(left_ms)}" if left_ms > 0 else "due"


def schedule_text(job: JobStatus) -> str:
    """``0 3 * * *, Europe/Berlin; next at 2026-01-31 03:00:00 UTC``, or what a dispatch must bring."""
    if job.spec.parameterized is not None:
        rule = job.spec.parameterized
        keys = ", ".join((*rule.meta_required, *(f"[{name}]" for name in rule.meta_optional))) or "none"
        return f"by 'raftsman job dispatch'; payload {rule.payload.name.lower()}; meta: {keys}"
    periodic, template = job.spec.periodic, job.template
    if periodic is None:
        return ""
    parts = [f"{', '.join(periodic.cron)} ({periodic.time_zone}), overlap {periodic.overlap.name.lower()}"]
    if template is not None and template.next_ms:
        at = datetime.datetime.fromtimestamp(template.next_ms / 1000, datetime.UTC)
        parts.append(f"next at {at:%Y-%m-%d %H:%M:%S} UTC, {next_text(job)}")
    elif template is not None and template.problem:
        parts.append(template.problem)
    return "; ".join(parts)


def runs_text(job: JobStatus) -> str:
    """How many runs there were, and how those that are known stand."""
    template = job.template
    if template is None:
        return ""
    parts = [f"{template.runs} in all"]
    parts += [
        f"{number} {word}"
        for number, word in (
            (template.live, "under way"), (template.complete, "complete"), (template.failed, "failed"),
            (template.skipped, "skipped"),
        )
        if number
    ]  # fmt: skip
    text = ", ".join(parts)
    if template.last_skipped:
        text += f" (the last one: {template.last_skipped})"
    return text + (f"; newest: {template.last_job}" if template.last_job else "")


def ports_text(allocation: Allocation) -> str:
    """``http=127.0.0.1:20001``; what a browser needs."""
    host = allocation.node_address or allocation.node_name
    return " ".join(f"{port.label}={host}:{port.host_port}" for port in allocation.ports)


def allocations_table(allocations: Iterable[Allocation], *, wide: bool) -> str:
    headings = ["ALLOCATION", "STATE", "NODE", "PORTS", "GPUS", "ATTEMPT", "RESTARTS", "AGE", "REASON"]
    if wide:
        headings += ["VERSION", "CPU", "MEMORY", "NODE ID", "EXIT"]
    rows = []
    for allocation in allocations:
        devices = ",".join(allocation.device_ids)
        if devices and 0 < allocation.gpu_millis < 1000:
            devices += f" ({allocation.gpu_millis / 1000:g})"
        row: list[object] = [
            allocation.id,
            state_text(allocation),
            allocation.node_name or allocation.node_id,
            ports_text(allocation),
            devices,
            allocation.attempt,
            allocation.restarts or "",
            age(allocation.create_time_ms),
            _cut(allocation.reason, wide),
        ]
        if wide:
            row += [
                allocation.job_version,
                cores(allocation.resources.cpu_millis),
                mebibytes(allocation.resources.memory_mib),
                allocation.node_id,
                allocation.exit_code if allocation.state in TERMINAL else "",
            ]
        rows.append(row)
    return table(headings, rows)


def state_text(allocation: Allocation) -> str:
    """``running``, or ``running, not ready`` while its checks are bad."""
    word = allocation.state.name.lower()
    waits = allocation.state is AllocState.RUNNING and allocation.desired is Desired.RUN and not allocation.ready
    return f"{word}, not ready" if waits else word


def gpus_text(gpus: DeviceRequest | None) -> str:
    if gpus is None:
        return ""
    text = str(gpus.count) if gpus.gpu_millis == 1000 else f"{gpus.gpu_millis / 1000:g}"
    return f"{text} ({', '.join(gpus.models)})" if gpus.models else text


def disruption_text(disruption: Disruption | None) -> str:
    if disruption is None:
        return ""
    return f"at most {disruption.max_unavailable}{'%' if disruption.percent else ''} of a group down at once"


def _cut(text: str, wide: bool) -> str:
    line = " ".join(text.split())
    return line if wide or len(line) <= 80 else f"{line[:77]}..."
