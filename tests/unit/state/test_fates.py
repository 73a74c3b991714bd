"""What follows from the end of an attempt: it comes again, now or later, it is done, or it has failed for good."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.contract.model import AllocState, Desired, JobType, RestartMode, RestartPolicy
from orchestrator.state.failures import STEADY_MS, WITHOUT_LIMIT, Ended, Fate, fates, retries_of, stays_failed

ENDED_MS = 5_000_000
SERVICE, BATCH, SYSTEM = JobType.SERVICE, JobType.BATCH, JobType.SYSTEM
COMPLETE, FAILED, STOPPED, LOST = AllocState.COMPLETE, AllocState.FAILED, AllocState.STOPPED, AllocState.LOST


def ended(
    kind: JobType = SERVICE, state: AllocState = FAILED, *, desired: Desired = Desired.RUN, start_failed: bool = False,
    failures: int = 0, retries: int = 2, lasted_ms: int = 1000,
) -> Ended:  # fmt: skip
    return Ended(
        job_type=np.array([kind], dtype=np.int8),
        desired=np.array([desired], dtype=np.int8),
        state=np.array([state], dtype=np.int8),
        start_failed=np.array([start_failed]),
        failures=np.array([failures], dtype=np.int32),
        retries=np.array([retries], dtype=np.int32),
        create_ms=np.array([ENDED_MS - lasted_ms], dtype=np.int64),
        modify_ms=np.array([ENDED_MS], dtype=np.int64),
    )


def fate_of(one: Ended, after_ms: int = 0) -> tuple[Fate, int]:
    """(what follows, how long after the end)."""
    (fate,), (due,) = fates(one, ENDED_MS + after_ms)
    return Fate(int(fate)), int(due) - ENDED_MS if due else 0


@pytest.mark.parametrize(
    ("kind", "state", "lasted_ms", "fate"),
    [
        (BATCH, COMPLETE, 0, Fate.DONE),
        (BATCH, COMPLETE, STEADY_MS, Fate.DONE),
        (BATCH, FAILED, 0, Fate.FAILED),
        (BATCH, FAILED, STEADY_MS, Fate.FAILED),
        (SERVICE, FAILED, STEADY_MS - 1, Fate.FAILED),
        (SERVICE, FAILED, STEADY_MS, Fate.AGAIN),
        (SERVICE, COMPLETE, STEADY_MS - 1, Fate.FAILED),
        (SERVICE, COMPLETE, STEADY_MS, Fate.AGAIN),
        (SYSTEM, FAILED, 0, Fate.FAILED),
        (SYSTEM, COMPLETE, STEADY_MS, Fate.AGAIN),
        *((kind, state, 0, Fate.AGAIN) for kind in JobType for state in (STOPPED, LOST)),
    ],
)
def test_what_ran_has_failed_unless_it_is_a_result_or_had_lasted(
    kind: JobType, state: AllocState, lasted_ms: int, fate: Fate
) -> None:
    one = ended(kind, state, lasted_ms=lasted_ms)
    assert fate_of(one) == (fate, 0)
    assert stays_failed(one).tolist() == [fate is Fate.FAILED]


@pytest.mark.parametrize("kind", list(JobType))
@pytest.mark.parametrize("state", [COMPLETE, FAILED, STOPPED, LOST])
@pytest.mark.parametrize("start_failed", [False, True])
def test_what_was_told_to_stop_says_nothing_of_the_job(kind: JobType, state: AllocState, *, start_failed: bool) -> None:
    one = ended(kind, state, desired=Desired.STOP, start_failed=start_failed, failures=9)
    assert fate_of(one) == (Fate.AGAIN, 0)
    assert stays_failed(one).tolist() == [False]


@pytest.mark.parametrize(
    ("failures", "pause_s"), [(0, 1), (1, 2), (2, 4), (7, 128), (8, 256), (9, 256), (1000, 256), (-1, 1)]
)
@pytest.mark.parametrize("kind", list(JobType))
def test_a_start_that_failed_is_tried_again_after_a_pause_that_doubles(
    kind: JobType, failures: int, pause_s: int
) -> None:
    one = ended(kind, start_failed=True, failures=failures, retries=WITHOUT_LIMIT)
    pause_ms = 1000 * pause_s
    assert fate_of(one) == fate_of(one, pause_ms - 1) == (Fate.WAIT, pause_ms)
    assert fate_of(one, pause_ms) == (Fate.AGAIN, 0)
    assert stays_failed(one).tolist() == [False]


@pytest.mark.parametrize(("failures", "retries", "again"), [(1, 1, True), (2, 1, False), (1, 0, False), (3, 3, True)])
@pytest.mark.parametrize("lasted_ms", [0, STEADY_MS])
def test_it_is_tried_again_as_often_as_its_policy_says(
    failures: int, retries: int, lasted_ms: int, *, again: bool
) -> None:
    one = ended(start_failed=True, failures=failures, retries=retries, lasted_ms=lasted_ms)
    assert fate_of(one)[0] is (Fate.WAIT if again else Fate.FAILED)
    assert fate_of(one, 10**9)[0] is (Fate.AGAIN if again else Fate.FAILED)
    assert stays_failed(one).tolist() == [not again]


@pytest.mark.parametrize("state", [STOPPED, LOST])
def test_only_what_failed_is_a_start_that_failed(state: AllocState) -> None:
    assert fate_of(ended(state=state, start_failed=True, failures=9)) == (Fate.AGAIN, 0)


@pytest.mark.parametrize(
    ("policy", "retries"),
    [
        (RestartPolicy(attempts=0), 0),
        (RestartPolicy(attempts=3), 3),
        (RestartPolicy(attempts=-1), 0),
        (RestartPolicy(attempts=2**40), 2**31 - 1),
        (RestartPolicy(attempts=3, mode=RestartMode.DELAY), 2**31 - 1),
    ],
)
def test_how_often_a_policy_lets_it_be_tried_again(policy: RestartPolicy, retries: int) -> None:
    assert retries_of(policy) == retries
