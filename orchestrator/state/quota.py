"""Quotas of namespaces: whether what is asked for fits, and what to say when it does not.

Owns: the comparison and its words. Leaves to others: what is in use (``usage``), who asks (``apply_jobs`` at commit,
``apply_plan`` for system jobs, which grow by being placed). The rule: only growth is refused, resource by resource, so
that a quota below what is in use stops nothing and never stands in the way of asking for less.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.contract.model import Quota, Usage
from orchestrator.jobfile import units
from orchestrator.state.commands import Rejected
from orchestrator.state.model import Job
from orchestrator.state.state import State
from orchestrator.state.usage import NOTHING, RESOURCES, add

SPELLED = {
    "cpu_millis": "cpu", "memory_mib": "memory", "disk_mib": "disk", "gpu_millis": "gpus", "jobs": "jobs",
    "allocations": "allocations",
}  # fmt: skip
"""What users call each of ``RESOURCES``."""


def amount(resource: str, value: int) -> str:
    """An amount as users write it."""
    if resource == "cpu_millis":
        return units.format_cpu(value)
    if resource in ("memory_mib", "disk_mib"):
        return units.format_memory(value) if value else "0"
    return f"{value / 1000:g}" if resource == "gpu_millis" else str(value)


def exceeded(quota: Quota, used: Usage, growth: Usage) -> str:
    """The first of ``RESOURCES`` that would grow beyond the quota, or ""."""
    for name in RESOURCES:
        limit, more = getattr(quota, name), getattr(growth, name)
        if limit is not None and more > 0 and getattr(used, name) + more > limit:
            return name
    return ""


def quota_of(state: State, namespace: str) -> Quota | None:
    known = state.namespaces.get(namespace)
    return known.quota if known is not None else None


def growth_refusal(state: State, changes: Sequence[tuple[Job | None, str, Usage]]) -> Rejected | None:
    """``changes``: (job as it is or None, namespace, what it will ask for), judged together: they go in together."""
    growth: dict[str, Usage] = {}
    for job, namespace, after in changes:
        if quota_of(state, namespace) is not None:
            before = NOTHING if job is None else state.usage.by_job[job.slot]
            growth[namespace] = add(growth.get(namespace, NOTHING), add(after, before, -1))
    for namespace in sorted(growth):
        refusal = _refusal(state, namespace, growth[namespace])
        if refusal is not None:
            return refusal
    return None


def _refusal(state: State, namespace: str, growth: Usage) -> Rejected | None:
    quota, used = quota_of(state, namespace), state.usage.of(namespace)
    name = "" if quota is None else exceeded(quota, used, growth)
    if not name:
        return None
    limit, have, more = getattr(quota, name), getattr(used, name), getattr(growth, name)
    what = SPELLED[name]
    return state.reject(
        "QUOTA_EXCEEDED",
        f"quota of namespace {namespace!r}: {what} {amount(name, have)} of {amount(name, limit)} in use, "
        f"{amount(name, more)} more asked for: ask for less, stop or scale down a job there, or have the quota raised "
        f"(raftsman namespace set {namespace} --quota {what}={amount(name, have + more)})",
        namespace=namespace,
        resource=what,
        used=amount(name, have),
        asked=amount(name, more),
        limit=amount(name, limit),
    )


def times_that_fit(quota: Quota, used: Usage, one: Usage, wanted: int) -> tuple[int, str]:
    """How many of ``wanted`` instances the quota has room for, and the resource that stops the next one ("")."""
    most, by = wanted, ""
    for name in RESOURCES:
        limit, each = getattr(quota, name), getattr(one, name)
        if limit is not None and each:
            fits = max(0, limit - getattr(used, name)) // each
            if fits < most:
                most, by = fits, name
    return most, by


def in_use(quota: Quota, used: Usage, resource: str, namespace: str) -> str:
    """``quota of namespace team-a: cpu 8 of 8 in use``."""
    limit, have = getattr(quota, resource), getattr(used, resource)
    return (
        f"quota of namespace {namespace}: {SPELLED[resource]} {amount(resource, have)} of {amount(resource, limit)} "
        "in use"
    )
