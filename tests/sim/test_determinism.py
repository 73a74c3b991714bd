"""A run is a function of its seed: without that, a failure could not be replayed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.sim.run import run_seed


def _told(seed: int, peers: int, hash_seed: str) -> list[str]:
    """Everything that a fresh interpreter says of a run, without the last line, which has the time that it took."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim.soak", "--seed", str(seed), "--peers", str(peers), "-v"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[:-1]


@pytest.mark.soak
@pytest.mark.parametrize(("seed", "peers"), [(7, 3), (11, 5)])
def test_equal_seeds_give_equal_logs_in_fresh_interpreters(seed: int, peers: int) -> None:
    first, second = _told(seed, peers, "1"), _told(seed, peers, "2")
    assert len(first) > 50
    assert first == second


@pytest.mark.soak
def test_a_run_leaves_nothing_behind_that_changes_the_next() -> None:
    before = run_seed(5, 3)
    run_seed(6, 5)
    assert run_seed(5, 3).trace == before.trace


@pytest.mark.soak
def test_other_seeds_give_other_runs() -> None:
    assert len({run_seed(seed, 3).trace for seed in (1, 2, 3)}) == 3
