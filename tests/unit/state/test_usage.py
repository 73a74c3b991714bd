"""What jobs and namespaces ask for, in figures. That the index follows every command is an invariant (``Kit.do``)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.batch import After, AfterCondition, ParameterizedSpec, PeriodicSpec
from orchestrator.contract.model import (
    AllocState,
    DeviceRequest,
    GroupSpec,
    JobSpec,
    JobType,
    Resources,
    RestartPolicy,
    Usage,
)
from orchestrator.state.commands import RemoveJob, StopJob
from orchestrator.state.features import HIGHEST
from orchestrator.state.model import Job
from orchestrator.state.usage import NOTHING, UsageIndex, of_instance, of_job, of_new
from tests.unit.state.kit import Kit, Placement, group, job, node

BATCH, SYSTEM = JobType.BATCH, JobType.SYSTEM


def sized(name: str, cpu: int, memory: int, disk: int, gpus: DeviceRequest | None = None) -> GroupSpec:
    one = group(name)
    need = Resources(cpu_millis=cpu, memory_mib=memory, disk_mib=disk, gpus=gpus)
    return replace(one, tasks=(replace(one.tasks[0], resources=need),))


PLAIN = sized("plain", 1, 10, 100)
SHARED = sized("shared", 2, 20, 200, DeviceRequest(count=3, gpu_millis=250))


def world(*specs: JobSpec) -> Kit:
    kit = Kit()
    kit.state.feature_level = HIGHEST
    kit.register(node("n1", cpu=100_000, memory=100_000, gpus=4))
    kit.submit(*specs)
    return kit


def the(kit: Kit, name: str = "web") -> Job:
    found = kit.state.find_job("default", name)
    assert found is not None
    return found


def asked(kit: Kit, name: str = "web") -> Usage:
    return of_job(kit.state, the(kit, name))


def left(kit: Kit) -> int:
    return asked(kit).allocations


# ---------------------------------------------------------------------------- one instance, one job


def test_an_instance_asks_for_what_its_tasks_ask_for_together() -> None:
    assert of_instance(PLAIN) == Usage(cpu_millis=1, memory_mib=10, disk_mib=100, allocations=1)
    assert of_instance(SHARED) == Usage(cpu_millis=2, memory_mib=20, disk_mib=200, gpu_millis=750, allocations=1)
    both = replace(PLAIN, tasks=(PLAIN.tasks[0], replace(SHARED.tasks[0], name="b")))
    assert of_instance(both) == Usage(cpu_millis=3, memory_mib=30, disk_mib=300, gpu_millis=750, allocations=1)


def test_a_job_asks_for_its_counts_before_anything_is_placed() -> None:
    spec = job("web", replace(PLAIN, count=3), replace(SHARED, count=2), replace(sized("none", 9, 9, 9), count=0))
    expected = Usage(cpu_millis=7, memory_mib=70, disk_mib=700, gpu_millis=1_500, jobs=1, allocations=5)
    for kind in (JobType.SERVICE, BATCH):
        assert of_new(replace(spec, type=kind)) == expected
        assert asked(world(replace(spec, type=kind))) == expected


def test_a_system_job_asks_for_what_it_holds() -> None:
    spec = job("web", SHARED, replace(PLAIN, count=5), kind=SYSTEM)
    assert of_new(spec) == Usage(jobs=1)
    kit = world(spec)
    assert asked(kit) == Usage(jobs=1)
    kit.plan(Placement("web/shared/0", "n1"), Placement("web/plain/0", "n1"))
    assert asked(kit) == kit.state.usage.of("default")
    assert asked(kit) == Usage(cpu_millis=3, memory_mib=30, disk_mib=300, gpu_millis=750, jobs=1, allocations=2)
    kit.stop("web/shared/0")
    kit.observe("web/shared/0", AllocState.STOPPED)
    assert asked(kit) == kit.state.usage.of("default")
    assert asked(kit) == Usage(cpu_millis=1, memory_mib=10, disk_mib=100, jobs=1, allocations=1)


@pytest.mark.parametrize("said", [{"periodic": PeriodicSpec(cron=("@daily",))}, {"parameterized": ParameterizedSpec()}])
def test_a_template_asks_for_nothing(said: dict[str, object]) -> None:
    spec = replace(job(kind=BATCH), **said)  # type: ignore[arg-type]
    assert of_new(spec) == NOTHING
    kit = world(spec, job("other"))
    assert asked(kit) == NOTHING
    assert kit.state.usage.of("default") == of_new(job("other"))


def test_what_is_stopped_or_goes_asks_for_nothing_though_it_still_runs() -> None:
    for end in (StopJob(namespace="default", name="web"), RemoveJob(namespace="default", name="web")):
        kit = world(job(), job("other"))
        kit.place("web/api/0", "n1")
        kit.ok(end)
        assert asked(kit) == NOTHING
        assert kit.state.usage.of("default") == of_new(job("other"))


# ---------------------------------------------------------------------------- what is done


def fail(kit: Kit, alloc: str) -> None:
    """It ran, and failed."""
    kit.observe(alloc, AllocState.RUNNING)
    kit.observe(alloc, AllocState.FAILED, exit_code=1)


def test_of_a_batch_job_what_is_complete_or_has_failed_for_good_asks_for_nothing() -> None:
    kit = world(job("web", group(count=5), kind=BATCH))
    kit.plan(*(Placement(f"web/api/{ordinal}", "n1") for ordinal in range(4)))
    assert left(kit) == 5
    kit.observe("web/api/0", AllocState.COMPLETE)
    assert left(kit) == 4
    fail(kit, "web/api/1")
    assert left(kit) == 3
    kit.observe("web/api/2", AllocState.FAILED, start_failed=True)
    assert left(kit) == 3, "it is tried again"
    kit.stop("web/api/3")
    kit.observe("web/api/3", AllocState.STOPPED)
    assert left(kit) == 3
    assert kit.state.usage.of("default").allocations == 3


def test_a_start_that_is_tried_no_more_asks_for_nothing() -> None:
    kit = world(job("web", replace(group(count=2), restart=RestartPolicy(attempts=0)), kind=BATCH))
    kit.place("web/api/0", "n1")
    kit.observe("web/api/0", AllocState.FAILED, start_failed=True)
    assert left(kit) == 1


def test_a_new_attempt_of_what_had_ended_counts_again() -> None:
    kit = world(job("web", group(count=2), kind=BATCH), job("other", group(count=1), kind=BATCH))
    kit.place("web/api/0", "n1")
    fail(kit, "web/api/0")
    assert left(kit) == 1
    kit.place("web/api/0", "n1")
    assert left(kit) == 2
    assert kit.state.usage.of("default").allocations == 3


def test_what_was_done_at_an_older_version_is_to_be_done_again() -> None:
    kit = world(job("web", group(count=3), kind=BATCH))
    kit.plan(*(Placement(f"web/api/{ordinal}", "n1") for ordinal in range(2)))
    kit.observe("web/api/0", AllocState.COMPLETE)
    fail(kit, "web/api/1")
    assert left(kit) == 1
    kit.submit(job("web", group(count=3, image="two"), kind=BATCH))
    assert left(kit) == 3


def test_once_all_is_done_the_job_does_not_count_either() -> None:
    kit = world(job("web", group("a"), group("b"), group("c", count=0), kind=BATCH))
    kit.plan(Placement("web/a/0", "n1"), Placement("web/b/0", "n1"))
    kit.observe("web/a/0", AllocState.COMPLETE)
    assert (asked(kit).jobs, left(kit)) == (1, 1)
    fail(kit, "web/b/0")
    assert asked(kit) == kit.state.usage.of("default") == NOTHING
    assert kit.state.usage.jobs_in == {"default": 1}


def test_a_batch_job_of_none_is_a_job() -> None:
    assert asked(world(job("web", group(count=0), kind=BATCH))) == Usage(jobs=1)


def test_what_is_skipped_asks_for_nothing() -> None:
    after = After(group="a", condition=AfterCondition.SUCCESS)
    kit = world(job("web", group("a", 2), replace(group("b", 7), after=(after,)), kind=BATCH))
    kit.plan(Placement("web/a/0", "n1"), Placement("web/a/1", "n1"))
    assert left(kit) == 9
    kit.observe("web/a/0", AllocState.COMPLETE)
    assert left(kit) == 8
    fail(kit, "web/a/1")
    assert asked(kit) == NOTHING


def test_a_version_that_is_considered_is_counted_with_the_groups_that_nobody_knows_yet() -> None:
    kit = world(job("web", group("a", 2), kind=BATCH))
    kit.place("web/a/0", "n1")
    kit.observe("web/a/0", AllocState.COMPLETE)
    found = the(kit)
    more = replace(found, spec=job("web", group("a", 2), group("new", 5), kind=BATCH), group_versions=(1, 2))
    assert of_job(kit.state, more).allocations == 6


# ---------------------------------------------------------------------------- the index


def test_a_namespace_asks_for_the_sum_of_its_jobs_and_is_forgotten_with_the_last() -> None:
    kit = world(job("web", PLAIN), job("other", SHARED))
    index = UsageIndex()
    for name in ("web", "other"):
        index.put(kit.state, the(kit, name))
    assert (
        index.of("default")
        == kit.state.usage.of("default")
        == replace(of_instance(PLAIN), cpu_millis=3, memory_mib=30, disk_mib=300, gpu_millis=750, jobs=2, allocations=2)
    )
    assert index.of("nobody") == NOTHING
    shown = index.copy()
    index.drop(the(kit, "web"))
    assert index.of("default") == of_new(job("other", SHARED))
    assert (index.jobs_in, list(index.by_job)) == ({"default": 1}, [the(kit, "other").slot])
    index.drop(the(kit, "other"))
    assert (index.jobs_in, index.by_job, index.by_namespace) == ({}, {}, {})
    assert shown["default"].jobs == 2, "a copy"


def test_an_index_that_is_made_anew_knows_only_what_is_there() -> None:
    kit = world(job("web", PLAIN))
    index, gone = UsageIndex(), the(world(job("first"), job("gone", SHARED)), "gone")
    index.put(kit.state, gone)
    index.put(kit.state, replace(gone, slot=7, spec=replace(gone.spec, namespace="elsewhere")))
    index.rebuild(kit.state)
    mine = kit.state.usage
    assert (index.by_job, index.by_namespace, index.jobs_in) == (mine.by_job, mine.by_namespace, mine.jobs_in)
