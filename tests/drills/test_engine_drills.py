"""Drills on a Docker engine of their own: dead, hung, and with containers taken away behind the agents' backs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orchestrator.contract.model import AllocState
from orchestrator.ops.drill_engines import differences
from tests.drills.test_drills import KEYS, ZEROS
from tests.drills.test_faults import Outcomes

ENGINE_KEYS = ["converged_ms", "forgotten", "restarts_needed"]
NEEDED = {"engine-kill": 0, "engine-pause": 0, "container-removed": 1}


@pytest.fixture(scope="module")
def outcomes() -> Iterator[Outcomes]:
    argv = [sys.executable, "-m", "tests.drills.one_cluster", *NEEDED]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Outcomes(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)  # it stops its cluster, and should not be cut short in that
        finally:
            process.terminate()


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("kind", NEEDED)
def test_whatever_happens_to_the_engine_no_container_is_doubled_forgotten_or_restarted_without_need(
    outcomes: Outcomes, kind: str
) -> None:
    outcome = outcomes.of(kind)
    assert "failed" not in outcome, outcome
    verdict = outcome["verdict"]
    assert list(verdict) == KEYS + ENGINE_KEYS
    zeros = [key for key in ZEROS if key != "requests_failed"]  # what publishes ports dies with dockerd
    assert {key: verdict[key] for key in (*zeros, "forgotten")} == dict.fromkeys((*zeros, "forgotten"), 0), outcome
    assert verdict["restarts_needed"] == NEEDED[kind], outcome
    assert verdict["state_hash_equal"] is True
    assert verdict["converged_ms"]["max"] > 0


def test_what_the_engine_runs_and_what_is_believed_differ_in_every_way_that_there_is() -> None:
    believed = {"a": AllocState.RUNNING, "b": AllocState.RUNNING, "c": AllocState.BACKOFF, "d": AllocState.RUNNING}
    assert differences(believed, ["a", "d", "d", "e"]) == [
        "a container of e runs, and nobody wants it",
        "b is said to run, and no container does",
        "c is BACKOFF",
        "d runs in 2 containers",
    ]
    assert differences({"a": AllocState.RUNNING}, ["a"]) == []
