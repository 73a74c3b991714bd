"""What the cluster is typically asked for: how many instances of which shape were submitted, the old ones fading.

Owns: the counts, their decay and their bound. Leaves to others: when something was submitted (``apply_jobs``), what to
make of it (``scheduling.typical``). The rules: whole numbers only, and every step follows from the content alone, so
that all peers hold the same; counts fade with what is submitted later and not with time, because what a quiet cluster
will be asked for next is what it was asked for last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from orchestrator.contract.model import GroupSpec, JobSpec, JobType

CLASSES_MAX = 256
"""Shapes that are kept; the rarest falls out, of equal ones the greatest by its fields."""
TOTAL_MAX = 20_000
"""When more instances than this are counted, every count is halved: what was submitted last outweighs the rest."""
STEP_MAX = 2_000
"""One submission counts at most so many instances of a group, lest a single job blot out everything before it."""


class Shape(NamedTuple):
    """What one instance asks for, as far as it decides how devices are left over. models: as the request names them;
    gpu_memory_mib: per device. Without devices the last four are 0 and empty."""

    cpu_millis: int
    devices: int
    gpu_millis: int
    gpu_memory_mib: int
    models: tuple[str, ...]


def shape_of(group: GroupSpec) -> Shape:
    need = group.resources
    gpus = need.gpus
    if gpus is None or gpus.count <= 0:
        return Shape(need.cpu_millis, 0, 0, 0, ())
    return Shape(need.cpu_millis, gpus.count, gpus.gpu_millis, gpus.memory_mib, gpus.models)


class Typical:
    """``counts``: instances by shape, each at least 1, in no order that means anything."""

    __slots__ = ("_shown", "_total", "counts")

    def __init__(self, counts: Mapping[Shape, int] | None = None) -> None:
        self.counts: dict[Shape, int] = dict(counts or {})
        self._total = sum(self.counts.values())
        self._shown: tuple[tuple[Shape, int], ...] | None = None

    def add(self, shape: Shape, instances: int) -> None:
        """Count what was just submitted."""
        if instances <= 0:
            return
        amount = min(instances, STEP_MAX)
        self.counts[shape] = self.counts.get(shape, 0) + amount
        self._total += amount
        self._shown = None
        if self._total > TOTAL_MAX:
            self.counts = {known: count // 2 for known, count in self.counts.items() if count > 1}
            self._total = sum(self.counts.values())
        if len(self.counts) > CLASSES_MAX:
            # The newcomer stays: it is the one thing known to be asked for now, and its count has yet to grow.
            rarest = min(
                (known for known in self.counts if known != shape), key=lambda known: (self.counts[known], _back(known))
            )
            self._total -= self.counts.pop(rarest)

    def shown(self) -> tuple[tuple[Shape, int], ...]:
        """All of it, most frequent first, equal ones by their fields; one value as long as nothing is added."""
        if self._shown is None:
            self._shown = tuple(sorted(self.counts.items(), key=lambda item: (-item[1], item[0])))
        return self._shown


def count_submitted(typical: Typical, spec: JobSpec, before: JobSpec | None) -> None:
    """Count the instances that ``spec`` adds to what ``before`` asked for: all of a group that is new or has another
    shape, of others those by which they grew. A system job says nothing: its nodes are given, not chosen."""
    if spec.type is JobType.SYSTEM:
        return
    known = {group.name: group for group in before.groups} if before is not None else {}
    for group in spec.groups:
        gpus = group.resources.gpus
        if gpus is not None and gpus.mig:
            continue  # a slice is given whole: it leaves no fragments, and says nothing of whole GPUs
        shape = shape_of(group)
        old = known.get(group.name)
        had = old.count if old is not None and shape_of(old) == shape else 0
        typical.add(shape, group.count - had)


def _back(shape: Shape) -> tuple[int, int, int, int, tuple[tuple[int, ...], ...]]:
    """Sorts the greatest shape first."""
    models = tuple(tuple(-ord(letter) for letter in model) for model in shape.models)
    return -shape.cpu_millis, -shape.devices, -shape.gpu_millis, -shape.gpu_memory_mib, models


def problem(items: Iterable[tuple[Shape, int]]) -> str:
    """What is wrong with stored counts, or ""."""
    seen: set[Shape] = set()
    total = 0
    for shape, count in items:
        if shape in seen:
            return "a typical shape is there twice"
        if count < 1 or min(shape.cpu_millis, shape.devices, shape.gpu_millis, shape.gpu_memory_mib) < 0:
            return "a typical shape has an impossible number"
        seen.add(shape)
        total += count
    return "there are more typical shapes than are kept" if len(seen) > CLASSES_MAX or total > TOTAL_MAX else ""
