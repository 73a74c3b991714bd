"""Who of several system jobs may use what a quota has left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator import plan
from orchestrator.contract.model import DeviceRequest, JobSpec, JobType, Namespace, Quota, Usage
from orchestrator.reconcile.quota import within_quota
from orchestrator.reconcile.work import Ask
from orchestrator.state import views
from orchestrator.state.commands import JobSubmission, NamespaceWrite, RegisterNode, SubmitJobs, WriteNamespace
from orchestrator.state.quota import SPELLED, amount, exceeded, in_use
from orchestrator.state.usage import RESOURCES, add, of_instance
from tests.properties.prompt import Real
from tests.unit.scheduling.cluster import Cluster, group_spec, node_spec


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


SMALL = (100, 64, 0)


def few(of: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(0, 12).map(of.__mul__)


QUOTAS = st.builds(
    Quota, cpu_millis=few(100), memory_mib=few(64), gpu_millis=few(500), allocations=few(1)
)  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["team", "free"]), st.booleans(), st.integers(1, 4), st.integers(0, 2),
            st.sampled_from([(100, 64, 0), (0, 128, 0), (200, 64, 500), (100, 0, 1000)]),
        ),
        max_size=4,
    ),
    QUOTAS,
    st.sampled_from([Usage(), Usage(cpu_millis=300, memory_mib=64, gpu_millis=500, jobs=1, allocations=2)]),
)  # fmt: skip
@example([("team", True, 3, 0, SMALL)] * 2, Quota(cpu_millis=700), Usage(cpu_millis=300))
@example([("team", True, 3, 0, SMALL)] * 3, Quota(cpu_millis=800, allocations=7), Usage(cpu_millis=300, allocations=2))
@example(
    [("free", True, 2, 0, SMALL), ("team", False, 4, 0, SMALL), *([("team", True, 4, 2, SMALL)] * 2)],
    Quota(allocations=5), Usage(allocations=2),
)  # fmt: skip
def test_asks_of_system_jobs_get_as_much_as_one_instance_after_the_other_would(
    wanted: list[tuple[str, bool, int, int, tuple[int, int, int]]], limits: Quota, used: Usage
) -> None:
    """Who is not of a system job, or of a namespace without a quota, gets all that it asks for."""
    cluster, asks, no_room = Cluster(), [], {}
    for at, (namespace, system, count, without_room, (cpu, memory, gpu)) in enumerate(wanted):
        gpus = DeviceRequest(count=1, gpu_millis=gpu) if gpu else None
        job = cluster.job(f"j{at}", group_spec(cpu=cpu, memory=memory, gpu=gpus), namespace=namespace)
        ordinals = np.arange(count, dtype=np.int32)
        asks.append(Ask(job=job, group=0, ordinals=ordinals, attempts=ordinals, peers=ordinals[:0], pinned=system))
        if without_room:
            no_room[job.slot, 0] = min(without_room, count)
    namespaces = {"team": Namespace(name="team", quota=limits)}
    view = replace(cluster.view(), namespaces=namespaces, usage={"team": used})

    kept, most, waiting = [], {}, {}
    for ask in asks:
        if not ask.pinned or ask.job.spec.namespace == "free":
            kept.append(ask)
            continue
        one, fits, grown, by = of_instance(ask.job.spec.groups[0]), 0, used, ""
        while fits < len(ask) and not (by := exceeded(limits, grown, one)):
            fits, grown = fits + 1, add(grown, one)
        if fits < len(ask):
            waiting[ask.job.slot, 0] = (len(ask) - fits, SPELLED[by])
            if fits:
                most[len(kept)] = fits
        if fits:
            kept.append(ask)
        for _ in range(min(fits, len(ask) - no_room.get((ask.job.slot, 0), 0))):
            used = add(used, one)
    found = within_quota(view, asks, no_room)
    assert (list(found.asks), dict(found.most)) == (kept, most)
    assert {key: count for key, (count, _) in found.said.items()} == {key: count for key, (count, _) in waiting.items()}
    for key, (_, text) in found.said.items():
        assert f"quota of namespace team: {waiting[key][1]} " in text


@pytest.mark.parametrize(
    ("resource", "value", "text"),
    [
        ("cpu_millis", 1500, "1500m"), ("cpu_millis", 2000, "2"), ("memory_mib", 1024, "1Gi"), ("memory_mib", 0, "0"),
        ("disk_mib", 512, "512Mi"), ("disk_mib", 0, "0"), ("gpu_millis", 1500, "1.5"), ("jobs", 3, "3"),
        ("allocations", 0, "0"),
    ],
)  # fmt: skip
def test_amounts_are_said_as_users_write_them(resource: str, value: int, text: str) -> None:
    assert amount(resource, value) == text


def test_resources_are_called_as_users_call_them() -> None:
    names = [in_use(Quota(**{name: 0}), Usage(), name, "team").split()[4] for name in RESOURCES]
    assert names == ["cpu", "memory", "disk", "gpus", "jobs", "allocations"]
