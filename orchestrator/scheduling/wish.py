"""What one instance asks of a node, as a value: equal wishes are one class and share all cached work.

Owns: ``Ask`` (what the planner hands in), ``Wish`` and how a group becomes one. The rule: a wish holds everything that
decides where an instance fits, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import (
    Constraint,
    DeviceRequest,
    GangSpec,
    GroupSpec,
    IntMap,
    JobSpec,
    JobType,
    Toleration,
)
from orchestrator.scheduling.wanted import Preferences, preferences_of
from orchestrator.state.commands import Int32Array
from orchestrator.state.model import Job

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

DIMENSIONS = ("cpu", "memory", "disk")
CPU, MEMORY, DISK = range(3)


class Ask(Protocol):
    """Instances of one job group that need nodes, in ``reconcile``'s words (``reconcile.work.Ask`` says more)."""

    @property
    def job(self) -> Job: ...
    @property
    def group(self) -> int: ...
    @property
    def ordinals(self) -> Int32Array: ...
    @property
    def attempts(self) -> Int32Array: ...
    @property
    def avoid(self) -> int: ...
    @property
    def peers(self) -> Int32Array: ...
    @property
    def last_node(self) -> int: ...
    @property
    def pinned(self) -> bool: ...


class Wish(NamedTuple):
    """``request``: cpu millis, memory MiB, disk MiB; ``policy``: the name of a registered one; ``drivers``: sorted;
    ``ports``: static host ports in the group's order, 0 where one is to be picked; ``gang``: all instances or none;
    ``everywhere``: of a system job, which room kept for a gang does not keep out.

    A tuple, since a round makes and looks up one for every ask. ``ground`` and ``rest`` go by the order of the fields.
    """

    request: tuple[int, int, int]
    policy: str
    drivers: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    tolerations: tuple[Toleration, ...] = ()
    gpus: DeviceRequest | None = None
    ports: tuple[int, ...] = ()
    gang: GangSpec | None = None
    everywhere: bool = False
    custom: IntMap = ()
    preferences: Preferences | None = None

    @property
    def ground(self) -> tuple[object, ...]:
        """All but ``request`` and ``policy``: equal ones suit the same nodes."""
        return self[2:]

    @property
    def rest(self) -> tuple[object, ...]:
        """All but what a batch can tell apart, which is up to the tolerations."""
        return self[5:]

    @property
    def plain(self) -> bool:
        """Whether the three dimensions alone decide how often it fits on a suitable node."""
        return self.gpus is None and not self.ports and not self.custom

    @property
    def devices(self) -> int:
        return self.gpus.count if self.gpus is not None else 0


def wish_of(job: JobSpec, group: GroupSpec, *, policy: Callable[[str, bool], str]) -> Wish:
    """``policy``: the name of the policy, given what the job says and whether the group asks for devices."""
    resources = group.resources
    gpus = resources.gpus if resources.gpus is not None and resources.gpus.count > 0 else None
    return Wish(
        request=(resources.cpu_millis, resources.memory_mib, resources.disk_mib),
        gpus=gpus,
        ports=tuple([port.static for port in group.ports]) if group.ports else (),
        drivers=_drivers(group),
        constraints=job.constraints + group.constraints,
        policy=policy(job.placement, gpus is not None),
        gang=group.gang,
        everywhere=job.type is JobType.SYSTEM,
        custom=resources.custom,
        tolerations=job.tolerations + group.tolerations,
        preferences=preferences_of(job, group),
    )


def _drivers(group: GroupSpec) -> tuple[str, ...]:
    if len(group.tasks) == 1:
        return (group.tasks[0].driver_name,)
    return tuple(sorted({task.driver_name for task in group.tasks}))
