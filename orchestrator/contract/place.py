"""``JOB[/GROUP[/ORDINAL]]``, as people name what runs: its parts, and why there is nothing of that name."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.contract.batch import is_run_suffix
from orchestrator.contract.model import JobSpec, JobType


def split_place(text: str) -> list[str]:
    """``JOB[/GROUP[/ORDINAL]]`` in its parts; the name of a run keeps its slash."""
    parts = text.split("/")
    return [f"{parts[0]}/{parts[1]}", *parts[2:]] if len(parts) > 1 and is_run_suffix(parts[1]) else parts


def nowhere(spec: JobSpec, place: Sequence[str]) -> str:
    """Why the job has no ``GROUP``, ``ORDINAL`` or ``GROUP/ORDINAL`` (the parts after its name); "" if it may have."""
    counts = {group.name: group.count for group in spec.groups}
    is_group = len(place) > 1 or (len(place) == 1 and (place[0] in counts or not place[0].isdecimal()))
    group, ordinal = (place[0], "".join(place[1:])) if is_group else ("", "".join(place))
    if group and group not in counts:
        return f"job {spec.name!r} has no group {group[:64]!r}; it has {', '.join(counts)}"
    count = counts[group] if group else max(counts.values())
    if not ordinal or spec.type is JobType.SYSTEM or (len(ordinal) <= 9 and int(ordinal) < count):
        return ""
    there = f"those from 0 to {count - 1}" if count > 1 else "only 0" if count else "none: its count is 0"
    where = f"group {group!r} of job {spec.name!r}" if group else f"job {spec.name!r}"
    return f"{where} has no instance {ordinal[:20]}; it has {there}"
