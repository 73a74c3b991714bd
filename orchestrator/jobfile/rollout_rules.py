"""Rules on health checks and on how a group is replaced.

Owns: these rules, for ``check``, and defaults of what a hand-written client leaves out. The rule: as there, it never
raises, whatever the spec.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from orchestrator.contract.health import CheckKind, CheckSpec, HealthSpec
from orchestrator.contract.model import GroupSpec, JobType, TaskRole, TaskSpec
from orchestrator.jobfile import limits

Path = tuple[str | int, ...]
Found = Iterator[tuple[Path, str]]
MIN_INTERVAL_MS = 100
MAX_THRESHOLD = 1_000
MAX_SERVICE = 120
_ROLES = ("startup", "liveness", "readiness")


def normal_health(health: HealthSpec | None) -> HealthSpec | None:
    """With defaults for numbers that are 0 and mean nothing so."""
    if health is None:
        return None
    return HealthSpec(**{role: _normal(check) for role in _ROLES if (check := getattr(health, role)) is not None})


def _normal(check: CheckSpec) -> CheckSpec:
    unsaid = CheckSpec(kind=check.kind)
    return replace(
        check,
        headers=tuple(sorted(check.headers)),
        path=check.path or ("/" if check.kind is CheckKind.HTTP else ""),
        interval_ms=check.interval_ms or unsaid.interval_ms,
        timeout_ms=check.timeout_ms or unsaid.timeout_ms,
        successes=check.successes or 1,
        failures=check.failures or unsaid.failures,
    )


def health_rules(at: Path, task: TaskSpec, group: GroupSpec) -> Found:
    if task.health is None:
        return
    if task.role is TaskRole.INIT:
        yield (*at, "health"), "an init task runs to its end before the others: there is nothing to check"
    for role in _ROLES:
        check: CheckSpec | None = getattr(task.health, role)
        if check is not None:
            yield from _check((*at, "health", role), check, task, group)
    liveness = task.health.liveness
    if liveness is not None and liveness.successes != 1:
        yield (*at, "health", "liveness", "successes"), "of liveness only failures count: leave it out"


def _check(at: Path, check: CheckSpec, task: TaskSpec, group: GroupSpec) -> Found:
    kind = check.kind.name.lower()
    if check.kind is CheckKind.EXEC:
        if not check.command or not check.command[0]:
            yield (*at, "exec"), "expected a command"
        elif any("\0" in word for word in check.command) or len(check.command) > limits.MAX_ARGUMENTS:
            yield (*at, "exec"), f"expected at most {limits.MAX_ARGUMENTS} words without NUL characters"
    else:
        yield from _port((*at, kind, "port"), check.port, task, group)
    if check.kind is CheckKind.HTTP:
        if not check.path.startswith("/") or set(check.path) & set(" \r\n") or len(check.path) > limits.MAX_TEXT:
            yield (*at, "http", "path"), f"expected a path such as /healthz, got {check.path[:60]!r}"
        for name, text in check.headers:
            if not name or set(name) & set(": \r\n") or set(text) & set("\r\n"):
                yield (*at, "http", "headers", name), "a header is one line, and its name has no colon"
    if len(check.service.encode("utf-8", "replace")) > MAX_SERVICE:
        yield (*at, "grpc", "service"), f"at most {MAX_SERVICE} bytes"
    for key, value, low, high in (
        ("interval", check.interval_ms, MIN_INTERVAL_MS, limits.MAX_DELAY_MS),
        ("timeout", check.timeout_ms, 1, limits.MAX_STOP_TIMEOUT_MS),
        ("grace", check.grace_ms, 0, limits.MAX_DELAY_MS),
    ):
        if not low <= value <= high:
            yield (*at, key), f"must be from {low} ms to {high // 1000} s, not {value} ms"
    for key, value in (("successes", check.successes), ("failures", check.failures)):
        if not 1 <= value <= MAX_THRESHOLD:
            yield (*at, key), f"must be from 1 to {MAX_THRESHOLD}, not {value}"


def _port(at: Path, port: str, task: TaskSpec, group: GroupSpec) -> Found:
    labels = [one.label for one in group.ports]
    if port in labels:
        return
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= limits.MAX_PORT):
        known = f"; the group has {', '.join(labels)}" if labels else "; the group has none"
        yield at, f"expected a number, or the label of one of the group's ports, got {port[:60]!r}{known}"
        return
    numbers = {one.to for one in group.ports} | {one.static for one in group.ports}
    if task.driver_name == "docker" and int(port) not in numbers:
        yield at, f"port {port} of the container is not published: add it to 'ports' (or use 'exec')"


def update_rules(at: Path, group: GroupSpec, job_type: JobType) -> Found:
    update = group.update
    if update is None:
        return
    here = (*at, "update")
    if job_type is not JobType.SERVICE:
        yield here, f"only services are rolled out by it, not a {job_type.name.lower()} job"
        return
    if group.gang is not None:
        yield here, "a gang is replaced as a whole: leave it out"
        return
    for key, value, percent in (
        ("max_surge", update.max_surge, update.surge_percent),
        ("max_unavailable", update.max_unavailable, update.unavailable_percent),
    ):
        most = 100 if percent else limits.MAX_COUNT
        if not 0 <= value <= most:
            yield (*here, key), f"must be from 0 to {most}{'%' if percent else ''}, not {value}"
    if not update.max_surge and not update.max_unavailable:
        yield (*here, "max_unavailable"), "with max_surge 0 and max_unavailable 0 nothing could ever be replaced"
    if not 0 <= update.canaries <= limits.MAX_COUNT or (update.canaries > group.count and group.count):
        yield (*here, "canaries"), f"must be from 0 to the count ({group.count}), not {update.canaries}"
    for key, value in (("min_ready", update.min_ready_ms), ("progress_deadline", update.progress_deadline_ms)):
        if not 0 <= value <= limits.MAX_DELAY_MS:
            yield (*here, key), f"must be from 0 to {limits.MAX_DELAY_MS // 1000} s, not {value} ms"
    if update.progress_deadline_ms and update.min_ready_ms >= update.progress_deadline_ms:
        yield (*here, "min_ready"), "must be shorter than progress_deadline, or every rollout would fail"
