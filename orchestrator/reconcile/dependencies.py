"""What batch groups wait for beside room: groups that they come after, and runs that their own run replaces.

Owns: reading both off a round's scene. Leaves to others: the rules of order (``state.dependencies``).
"""

from __future__ import annotations

import numpy as np

from orchestrator.contract.model import JobUid
from orchestrator.reconcile.table import BoolArray, Scene
from orchestrator.state.commands import Int32Array
from orchestrator.state.dependencies import NOW, Turn, judge
from orchestrator.state.failures import Fate
from orchestrator.state.model import Job
from orchestrator.state.views import ClusterView


def turn_of(scene: Scene, fate: Int32Array, wanted: BoolArray, number: int) -> Turn:
    """Whether it is this group's turn; ``fate``, ``wanted``: per instance, as ``gaps`` judges."""
    job, place = scene.groups.jobs[number], scene.groups.places[number]
    if not job.spec.groups[place].after:
        return NOW
    first = number - place
    ended = wanted & ~scene.instances.live
    counts = []
    for one in range(first, first + len(job.spec.groups)):
        here = slice(scene.bounds[one], scene.bounds[one + 1])
        ends = fate[here][ended[here]]
        counts.append((int((ends == Fate.DONE).sum()), int((ends == Fate.FAILED).sum())))
    return judge(job.spec.groups, counts)[place]


def earlier_run(view: ClusterView, job: Job) -> str:
    """Which run this one replaces that has not stopped yet, or ""."""
    origin = job.spec.origin
    if origin is None or not origin.replaces:
        return ""
    columns = view.allocations
    for uid in origin.replaces:
        earlier = view.jobs.get(JobUid(uid))
        if earlier is not None and bool(np.any(columns.live & (columns.job == earlier.slot))):
            return f"waits until {earlier.spec.name}, which it replaces, has stopped"
    return ""
