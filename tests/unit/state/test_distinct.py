"""Each number once, and no module that is loaded while a plan is applied."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.state.distinct import FEW, distinct

APPLIED = """
import sys
from orchestrator.contract.model import GroupSpec, JobSpec, NodeSpec, Resources, TaskSpec
from orchestrator.leader.cluster import StateCluster
from orchestrator.plan import Planner
from orchestrator.state.apply import apply
from orchestrator.state.commands import Applied, Entry, JobSubmission, RegisterNode, SubmitJobs
from orchestrator.state.state import new_state

state = new_state()

def do(command):
    outcome = apply(state, Entry(identity="i", request_id="", digest=b"", time_ms=1, command=command))
    assert isinstance(outcome, Applied), outcome

task = TaskSpec(name="t", driver="fake", command=("x",), resources=Resources(cpu_millis=1, memory_mib=1))
spec = JobSpec(name="j", groups=(GroupSpec(name="g", count=3, tasks=(task,)),))
capacity = Resources(cpu_millis=9, memory_mib=9, disk_mib=9)
for number in range(2):
    node = NodeSpec(id=f"n{number}", name=f"n{number}", drivers=("fake",), capacity=capacity)
    do(RegisterNode(node=node, identity="a"))
do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="u", in_place=False, remember=True),)))
plans = Planner().decide(StateCluster(lambda: state).view(), 1).plans
before = set(sys.modules)
for plan in plans:
    do(plan)
assert state.table.count == 3
print(sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("count", [0, 1, 2, 50, FEW - 1, FEW, 20_000])
def test_each_number_is_there_once_and_in_order(count: int) -> None:
    values = np.random.default_rng(count).integers(-40, 40_000, count).astype(np.int32)
    assert distinct(values) == np.unique(values).tolist()


def test_numbers_that_are_all_equal_are_one() -> None:
    assert distinct(np.full(3 * FEW, 7, dtype=np.int64)) == [7]


def test_applying_a_first_plan_loads_nothing() -> None:
    """``numpy.unique`` loaded ``numpy.ma`` there, on the loop of every peer."""
    root = Path(__file__).resolve().parents[3]
    said = subprocess.run([sys.executable, "-c", APPLIED], capture_output=True, text=True, timeout=60, cwd=root)
    assert said.stdout.strip() == "[]", said.stdout + said.stderr
