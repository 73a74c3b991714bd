"""What a group would like, as a value: the part of a wish that ``preferences`` judges.

Owns: ``Preferences`` and how a group becomes one. The rule: names whose it is only where that decides something, so
that equal groups of different jobs stay one class.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.contract.model import Affinity, GroupSpec, JobSpec, Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """Part of a ``Wish``. ``namespace``, ``job`` and ``group`` say whose it is where that matters, else ""."""

    affinity: tuple[Affinity, ...] = ()
    spread: tuple[Spread, ...] = ()
    images: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    locality: int = 0
    namespace: str = ""
    job: str = ""
    group: str = ""

    @property
    def changing(self) -> bool:
        """Whether a placement, of the group or of another, may change what is preferred or allowed."""
        return bool(self.spread) or any(one.constraint is None for one in self.affinity)

    @property
    def binding(self) -> bool:
        """Whether where others are rules nodes out."""
        return any(one.required for one in self.spread) or any(
            one.required and one.constraint is None for one in self.affinity
        )

    @property
    def apart(self) -> Affinity | None:
        """The affinity that keeps the group's instances on nodes of their own, if nothing else of this changes."""
        changing = [one for one in self.affinity if one.constraint is None]
        if self.spread or len(changing) != 1:
            return None
        (one,) = changing
        alone = one.required and one.weight < 0 and one.topology == "node.id"
        return one if alone and one.job in ("", self.job) and one.group in ("", self.group) else None


def preferences_of(job: JobSpec, group: GroupSpec) -> Preferences | None:
    """None where there are none, which is the common case and costs nothing."""
    if not (job.affinity or group.affinity or job.spread or group.spread or group.locality):
        return None
    affinity, spread = job.affinity + group.affinity, job.spread + group.spread
    changing = bool(spread) or any(one.constraint is None for one in affinity)
    return Preferences(
        affinity=affinity,
        spread=spread,
        images=tuple(sorted({task.image for task in group.tasks if task.image})) if group.locality else (),
        datasets=tuple(sorted(set(group.datasets))) if group.locality else (),
        locality=group.locality,
        namespace=job.namespace if changing else "",
        job=job.name if changing else "",
        group=group.name if changing else "",
    )
