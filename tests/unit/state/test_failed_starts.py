"""How many starts of an instance failed in a row: what the next attempt begins with, of which one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import AllocState, JobSpec
from orchestrator.contract.rollouts import UpdateSpec
from orchestrator.state.commands import DrainNode, JobSubmission, RemoveJob, SetFeatureLevel, SubmitJobs
from orchestrator.state.features import SURGING_DRAINS
from tests.unit.state.kit import Kit, group, job, node


def kit_with(*specs: JobSpec) -> Kit:
    kit = Kit()
    kit.ok(SetFeatureLevel(level=SURGING_DRAINS))
    for name in ("n1", "n2"):
        kit.register(node(name, cpu=100_000, memory=100_000))
    for spec in specs:
        submit(kit, spec)
    return kit


def submit(kit: Kit, spec: JobSpec) -> None:
    kit.ok(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"uid-{spec.name}", remember=True),)))


def surging(image: str) -> JobSpec:
    return job("web", replace(group(image=image), update=UpdateSpec(max_surge=1, max_unavailable=0)))


def fail(kit: Kit, alloc: str, attempt: int, *, start_failed: bool = True) -> None:
    kit.observe(alloc, AllocState.FAILED, attempt=attempt, start_failed=start_failed)


def failures(kit: Kit, alloc: str, attempt: int) -> int:
    table = kit.state.table
    row = kit.row(alloc)
    while row >= 0 and int(table.attempt[row]) != attempt:
        row = int(table.prev[row])
    return int(table.failures[row])


@pytest.mark.parametrize("row", [0, 1])
def test_successors_of_one_that_lives_go_on_counting_among_themselves(row: int) -> None:
    kit = kit_with(job("before"), surging("one"))
    if row == 0:  # the successor comes into the first row of the table
        kit.place("before/api/0", "n1")
    kit.place("web/api/0", "n1")
    kit.observe("web/api/0", AllocState.RUNNING)
    kit.ok(RemoveJob(namespace="default", name="before"))
    if row == 0:
        kit.observe("before/api/0", AllocState.STOPPED)
    submit(kit, surging("two"))
    kit.place("web/api/0", "n1")
    assert kit.state.table.attempt[row] == 2
    fail(kit, "web/api/0", 2)
    kit.place("web/api/0", "n1")
    assert failures(kit, "web/api/0", 3) == 1
    fail(kit, "web/api/0", 3)
    kit.place("web/api/0", "n1")
    assert failures(kit, "web/api/0", 4) == 2
    fail(kit, "web/api/0", 4, start_failed=False)
    kit.place("web/api/0", "n1")
    assert failures(kit, "web/api/0", 5) == 0


def test_a_successor_of_one_that_runs_begins_with_none_whatever_failed_before_that() -> None:
    kit = kit_with(surging("one"))
    kit.place("web/api/0", "n1")
    fail(kit, "web/api/0", 1)
    kit.place("web/api/0", "n1")
    assert failures(kit, "web/api/0", 2) == 1
    kit.observe("web/api/0", AllocState.RUNNING)
    kit.ok(DrainNode(node_id="n1"))
    kit.place("web/api/0", "n2")
    assert failures(kit, "web/api/0", 3) == 0


def test_failed_starts_of_others_do_not_count() -> None:
    kit = kit_with(job("other"), job("web"))
    for attempt in (1, 2):
        kit.place("other/api/0", "n1")
        fail(kit, "other/api/0", attempt)
    assert failures(kit, "other/api/0", 2) == kit.state.table.failures[1] == 2
    kit.place("web/api/0", "n1")
    fail(kit, "web/api/0", 1, start_failed=False)
    kit.place("web/api/0", "n1")
    assert failures(kit, "web/api/0", 2) == 0
