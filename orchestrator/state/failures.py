"""What becomes of an instance whose newest attempt has ended: done, placed again, after a while, or failed for good.

Owns: the rescheduling rules and their constants; they stand here and not in ``reconcile`` because a job's status must
tell a failure that will be tried again from one that lasts. Leaves to others: local restarts (the agent's restart
policy), where the next attempt goes (``scheduling``). The rules, for an attempt of the current version that nobody
asked to stop:

- LOST and STOPPED are placed again at once.
- COMPLETE is done for a batch job, forever.
- An instance that never started (unknown image, no such command) is tried again, on other nodes if there are any, 2^n s
  after the n-th failure in a row, as often as its group's restart policy says (``restart.attempts``; without limit when
  the policy's mode is DELAY); then it stays failed. Batch jobs likewise: nothing of them has run.
- A batch instance that failed after it had run stays failed: its restart policy has tried already.
- A service or system instance that ended after it had run is placed again at once if it had lasted ``STEADY_MS``, else
  it stays failed: whatever ends it that soon, with local restarts used up, would end it again.

An attempt that was told to stop, or an outdated one, is placed again whatever its end was. What stays failed gets out
of it by a new version: a changed job, or ``raftsman restart``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.contract.model import AllocState, Desired, JobType, RestartMode, RestartPolicy

WITHOUT_LIMIT = 2**31 - 1
"""``retries`` of a restart policy with mode DELAY."""
BACKOFF_EXPONENT_MAX = 8
"""2^8 = 256 s is the longest backoff."""
STEADY_MS = 600_000
"""An instance that lasted so long had worked: its failure is news, not a property of the job."""

Int64Array = npt.NDArray[np.int64]


class Fate(enum.IntEnum):
    AGAIN = 0  # place it now
    WAIT = 1  # place it at the deadline
    DONE = 2
    FAILED = 3  # for good


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ended:
    """Newest attempts that are terminal and of their group's current version; arrays of one length.

    job_type, desired, state: numbers of the enumerations; start_failed: bool; failures: failed starts in a row, this
    one included; retries: how many more tries such a start gets (``retries_of``); create_ms, modify_ms: when it was
    placed, when it ended.
    """

    job_type: npt.NDArray[np.int8]
    desired: npt.NDArray[np.int8]
    state: npt.NDArray[np.int8]
    start_failed: npt.NDArray[np.bool_]
    failures: npt.NDArray[np.int32]
    retries: npt.NDArray[np.int32]
    create_ms: Int64Array
    modify_ms: Int64Array


def retries_of(policy: RestartPolicy) -> int:
    """How often a start that failed is tried again."""
    return WITHOUT_LIMIT if policy.mode is RestartMode.DELAY else max(0, min(policy.attempts, WITHOUT_LIMIT))


def fates(ended: Ended, now_ms: int) -> tuple[npt.NDArray[np.int8], Int64Array]:
    """int8, numbers of ``Fate``; int64, the deadline of those that WAIT (0 elsewhere)."""
    batch = ended.job_type == JobType.BATCH
    asked = ended.desired == Desired.STOP
    bad_start = (ended.state == AllocState.FAILED) & ended.start_failed
    ran = (ended.state == AllocState.FAILED) | (ended.state == AllocState.COMPLETE)
    steady = ended.modify_ms - ended.create_ms >= STEADY_MS
    exponents = np.clip(ended.failures, 0, BACKOFF_EXPONENT_MAX).astype(np.int64)
    due = ended.modify_ms + (np.int64(1000) << exponents)

    fate = np.full(len(ended.state), Fate.AGAIN, dtype=np.int8)
    fate[ran & (batch | ~steady)] = Fate.FAILED
    fate[batch & (ended.state == AllocState.COMPLETE)] = Fate.DONE
    fate[bad_start] = Fate.FAILED
    retry = bad_start & (ended.failures <= ended.retries)
    fate[retry] = np.where(due[retry] > now_ms, Fate.WAIT, Fate.AGAIN)
    fate[asked] = Fate.AGAIN
    return fate, np.where(fate == Fate.WAIT, due, 0)


def stays_failed(ended: Ended) -> npt.NDArray[np.bool_]:
    """Which of these have failed for good, whatever the time: for those who report on jobs."""
    fate, _ = fates(ended, 0)
    return np.asarray(fate == Fate.FAILED)
