"""The allocation table: a structure of numpy arrays, one row per allocation attempt.

Owns: the columns, the free-list and the indexes (per job, per node, per (job, group, ordinal)). The rule: arrays change
in place on the loop that owns the state; nobody else reads them, everybody else gets ``Columns`` copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """A copy of rows; every array has the same length n. Row order: by (job, group, ordinal, attempt).

    row: int32, the table's row number; job: int32, ``Job.slot``; group: int32, place in ``spec.groups`` of the row's
    version; ordinal, attempt, version, restarts: int32; node: int32, ``Node.slot``; desired, state: int8, numbers of
    ``Desired`` and ``AllocState``; cpu_millis, memory_mib, disk_mib: int64, what it takes; device_mask: uint64 over the
    node's devices; gpu_millis: int32 of each device in the mask; exit_code: int32; start_failed: bool, it ended before
    it ever ran; failures: int32, failed starts in a row of this ordinal, this one included; create_index, modify_index,
    create_time_ms, modify_time_ms: int64. ``ports`` and ``reasons`` are keyed by ``row`` and hold only what is not empty.
    """

    row: npt.NDArray[np.int32]
    job: npt.NDArray[np.int32]
    group: npt.NDArray[np.int32]
    ordinal: npt.NDArray[np.int32]
    attempt: npt.NDArray[np.int32]
    version: npt.NDArray[np.int32]
    restarts: npt.NDArray[np.int32]
    node: npt.NDArray[np.int32]
    desired: npt.NDArray[np.int8]
    state: npt.NDArray[np.int8]
    cpu_millis: npt.NDArray[np.int64]
    memory_mib: npt.NDArray[np.int64]
    disk_mib: npt.NDArray[np.int64]
    device_mask: npt.NDArray[np.uint64]
    gpu_millis: npt.NDArray[np.int32]
    exit_code: npt.NDArray[np.int32]
    start_failed: npt.NDArray[np.bool_]
    failures: npt.NDArray[np.int32]
    create_index: npt.NDArray[np.int64]
    modify_index: npt.NDArray[np.int64]
    create_time_ms: npt.NDArray[np.int64]
    modify_time_ms: npt.NDArray[np.int64]
    ports: Mapping[int, tuple[int, ...]]
    reasons: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.row)
