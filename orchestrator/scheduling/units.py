"""Which allocations form one unit: they are placed and evicted together or not at all.

The rule: this is the only place that knows. Until groups can be gangs, every allocation is a unit of its own.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduling.wish import Int64Array
from orchestrator.state.model import Job
from orchestrator.state.views import ClusterView


def is_whole(job: Job, group: int) -> bool:
    """Whether instances of a group are of use only together."""
    return False


def units_of(view: ClusterView) -> Int64Array:
    """int64 per position in the view's allocations: equal numbers belong to one unit."""
    return np.arange(len(view.allocations), dtype=np.int64)
