"""Rules on batch jobs: the order of groups, schedules, what a dispatch brings, timeouts.

Owns: these rules, for ``check``. The rule: as there, it never raises, whatever the spec.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.contract import cron
from orchestrator.contract.batch import MAX_META, META_KEY, is_run_suffix
from orchestrator.contract.model import GroupSpec, JobSpec, JobType, TaskSpec

Path = tuple[str | int, ...]
Found = Iterator[tuple[Path, str]]
MAX_EXPRESSIONS = 16
MAX_TIMEOUT_MS = 366 * 24 * 3600 * 1000


def job_rules(spec: JobSpec) -> Found:
    if spec.origin is not None:
        yield ("origin",), "is set by the control plane alone"
    for key, value in (("periodic", spec.periodic), ("parameterized", spec.parameterized)):
        if value is not None and spec.type is not JobType.BATCH:
            yield (key,), f"only a batch job can be {key}: say 'type: batch'"
    if spec.periodic is not None and spec.parameterized is not None:
        yield ("parameterized",), "a job is periodic or parameterized, not both"
    yield from _periodic(spec)
    yield from _parameterized(spec)
    yield from _order(spec)


def _periodic(spec: JobSpec) -> Found:
    if spec.periodic is None:
        return
    expressions = spec.periodic.cron
    if not expressions or len(expressions) > MAX_EXPRESSIONS:
        yield ("periodic", "cron"), f"expected 1 to {MAX_EXPRESSIONS} expressions, got {len(expressions)}"
    for number, expression in enumerate(expressions[:MAX_EXPRESSIONS]):
        at: Path = ("periodic", "cron", number) if len(expressions) > 1 else ("periodic", "cron")
        try:
            cron.parse(expression)
        except cron.CronError as error:
            yield at, str(error)
    try:
        cron.zone(spec.periodic.time_zone)
    except cron.CronError as error:
        yield ("periodic", "time_zone"), str(error)


def _parameterized(spec: JobSpec) -> Found:
    rule = spec.parameterized
    if rule is None:
        return
    seen: set[str] = set()
    for key in ("meta_required", "meta_optional"):
        for number, name in enumerate(getattr(rule, key)):
            if not META_KEY.fullmatch(name):
                yield ("parameterized", key, number), f"expected a key such as input_url, got {name[:60]!r}"
            # ``a-b`` and ``a_b`` would be one name in the environment.
            if (known := name.upper().replace("-", "_")) in seen:
                yield ("parameterized", key, number), f"{name[:60]!r} is there twice"
            seen.add(known)
    if len(seen) > MAX_META:
        yield ("parameterized",), f"at most {MAX_META} keys, not {len(seen)}"


def _order(spec: JobSpec) -> Found:
    names = [group.name for group in spec.groups]
    there = set(names)
    waits = {group.name: {one.group for one in group.after} & there for group in spec.groups}
    for number, group in enumerate(spec.groups):
        at: Path = ("groups", number, "after")
        if group.after and spec.type is not JobType.BATCH:
            yield (
                at,
                f"the groups of a {spec.type.name.lower()} job do not end: only those of a batch job have an order",
            )
            continue
        before = [one.group for one in group.after]
        for place, name in enumerate(before):
            if name not in there:
                known = ", ".join(one for one in names if one != group.name) or "there is no other"
                yield (*at, place), f"no such group {name[:60]!r} (others: {known[:300]})"
            if name in before[:place]:
                yield (*at, place), f"group {name[:60]!r} is there twice"
        circle = _circle(group.name, waits)
        if circle and min(circle) == group.name:
            yield at, f"the groups wait for each other in a circle: {' after '.join([*circle, circle[0]])}"


def _circle(start: str, waits: dict[str, set[str]]) -> list[str]:
    """The groups from ``start`` back to it, each after the next one; [] if there is no way back."""
    ways: list[list[str]] = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for name in sorted(waits[way[-1]]):
            if name == start:
                return way
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []


def group_rules(at: Path, group: GroupSpec) -> Found:
    if is_run_suffix(group.name):
        yield (*at, "name"), "names such as periodic-1700000000 are those of runs: choose another"


def task_rules(at: Path, task: TaskSpec) -> Found:
    if not 0 <= task.timeout_ms <= MAX_TIMEOUT_MS:
        yield (*at, "timeout_ms"), f"must be up to 366 days, not {task.timeout_ms} ms"
    elif 0 < task.timeout_ms < 100:
        yield (*at, "timeout_ms"), f"must be at least 100 ms, not {task.timeout_ms} ms"
