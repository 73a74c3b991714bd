"""Which allocations form one unit: they are placed and evicted together or not at all.

The rule: this is the only place of preemption that knows. The members of a gang are one unit; every other allocation is
a unit of its own.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.wish import Int64Array
from orchestrator.state.views import ClusterView


def units_of(view: ClusterView) -> Int64Array:
    """int64 per position in the view's allocations: equal numbers belong to one unit, that of its first member."""
    columns = view.allocations
    units = np.arange(len(columns), dtype=np.int64)
    for slot, job in view.jobs_by_slot.items():
        gangs = {group.name for _, spec in job.specs for group in spec.groups if group.gang is not None}
        if not gangs:
            continue
        # Rows are in the order of job slots; a group is the same whatever its place in a version.
        begin, end = np.searchsorted(columns.job, [slot, slot + 1]).tolist()
        specs = dict(job.specs)
        first: dict[str, int] = {}
        for position in range(begin, end):
            spec = specs.get(int(columns.version[position]), job.spec)
            place = int(columns.group[position])
            name = spec.groups[place].name if place < len(spec.groups) else ""
            if name in gangs:
                units[position] = first.setdefault(name, position)
    return units
