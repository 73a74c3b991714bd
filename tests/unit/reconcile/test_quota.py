"""Who of several system jobs may use what a quota has left."""

from __future__ import annotations

import pytest

from orchestrator import plan
from orchestrator.contract.model import JobSpec, JobType, Quota
from orchestrator.state import views
from orchestrator.state.commands import JobSubmission, NamespaceWrite, RegisterNode, SubmitJobs, WriteNamespace
from tests.properties.prompt import Real
from tests.unit.scheduling.cluster import group_spec, node_spec


def team(quota: int, *jobs: tuple[str, int, int]) -> Real:
    """Two nodes of one core, a quota of so many allocations, system jobs by name, priority and cpu; come to rest."""
    real = Real(0)
    real.do(WriteNamespace(name="team", kind=NamespaceWrite.CREATE, quota=Quota(allocations=quota)))
    for name in ("a", "b"):
        real.do(RegisterNode(node=node_spec(name, cpu=1000), identity=name))
    for name, priority, cpu in jobs:
        group = group_spec(cpu=cpu)
        spec = JobSpec(name=name, namespace="team", type=JobType.SYSTEM, priority=priority, groups=(group,))
        real.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=name),)))
    real.run()
    return real


def why(real: Real, name: str) -> str:
    return plan.explain(views.cluster_view(real.state), name, real.now_ms)[0].summary


def test_a_system_job_that_finds_no_room_keeps_no_quota_from_others() -> None:
    real = team(2, ("large", 80, 5000), ("small", 50, 100))
    assert sorted(real.where()) == ["team:small/main/0", "team:small/main/1"]
    assert why(real, "small") == "nothing is missing"
    assert "quota of namespace team: allocations 2 of 2 in use" in why(real, "large")


@pytest.mark.parametrize(("quota", "first", "second"), [(2, 2, 0), (3, 2, 1), (4, 2, 2)])
def test_where_both_find_room_the_one_that_comes_first_has_the_quota(quota: int, first: int, second: int) -> None:
    real = team(quota, ("first", 80, 100), ("second", 50, 100))
    for name, count in (("first", first), ("second", second)):
        assert sum(key.startswith(f"team:{name}/") for key in real.where()) == count


def test_who_waits_for_room_that_is_being_made_for_it_keeps_its_quota() -> None:
    """The lower one would take it in the round in which the victim is told to stop."""
    real = team(2, ("filler", 20, 900))
    assert len(real.where()) == 2
    real.do(WriteNamespace(name="team", kind=NamespaceWrite.SET, quota=Quota(allocations=4)))
    for name, priority, cpu in (("urgent", 90, 900), ("small", 50, 50)):
        group = group_spec(cpu=cpu)
        spec = JobSpec(name=name, namespace="team", type=JobType.SYSTEM, priority=priority, groups=(group,))
        real.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=name),)))
    real.run()
    assert sum(key.startswith("team:urgent/") for key in real.where()) == 2
