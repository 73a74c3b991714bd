"""A job that becomes one of another type while something of it is missing and the cluster is full: it gets there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import plan
from orchestrator.contract.model import AllocState, JobSpec, JobType, NodeSpec, Resources
from orchestrator.contract.rollouts import RolloutStatus, UpdateSpec
from orchestrator.state import views
from orchestrator.state.commands import JobSubmission, RegisterNode, SetFeatureLevel, SubmitJobs
from orchestrator.state.features import HIGHEST
from orchestrator.state.invariants import check
from tests.properties.rich import rich_cluster
from tests.properties.test_rollouts import World

SERVICE, BATCH, SYSTEM = JobType.SERVICE, JobType.BATCH, JobType.SYSTEM


class Full(World):
    """Four nodes with room for two instances of the first size, or one of the second."""

    def __init__(self) -> None:
        super().__init__(1, None, 8)
        self.bounded = False
        self.do(SetFeatureLevel(level=HIGHEST))
        for name in ("n1", "n2", "n3", "n4"):
            capacity = Resources(cpu_millis=100, memory_mib=10_000, disk_mib=1_000)
            spec = NodeSpec(id=name, name=name, drivers=("docker",), capacity=capacity)
            self.do(RegisterNode(node=spec, identity=f"agent:{name}"))

    def job_of(self, kind: JobType, cpu: int, count: int) -> JobSpec:
        (group,) = self.spec().groups
        resources = Resources(cpu_millis=cpu, memory_mib=10)
        count = 1 if kind is SYSTEM else count
        return JobSpec(
            name="web",
            type=kind,
            groups=(replace(group, count=count, tasks=(replace(group.tasks[0], resources=resources),)),),
        )

    def put(self, spec: JobSpec) -> None:
        self.done(self.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="u", remember=True),))))

    def go_on(self) -> None:
        still = 0
        while still < 12:  # it waits for 10 s before it gives way
            self.now_ms += 1_000
            before = self.state.index
            self.lead()
            assert check(self.state) == []
            for row in self.rows():
                self.obey(row)
            still = still + 1 if self.state.index == before else 0


@pytest.mark.parametrize(
    ("before", "after"),
    [(SERVICE, SYSTEM), (SERVICE, BATCH), (SYSTEM, BATCH), (BATCH, SYSTEM)],
    ids=lambda kind: kind.name.lower(),
)
@pytest.mark.parametrize("ended", ["failed", "more"])
def test_what_ran_before_gives_way_though_something_new_finds_no_room(
    before: JobType, after: JobType, ended: str
) -> None:
    """The missing one waited for room, and those who had it waited for the missing one."""
    world = Full()
    world.put(world.job_of(before, 50, 8))
    world.go_on()
    assert len(world.rows()) == (4 if before is SYSTEM else 8)
    if ended == "failed":
        world.observe(world.rows()[1], AllocState.FAILED)
        if after is SYSTEM:  # of an ordinal that is a node's number, too
            world.observe(next(row for row in world.rows() if world.state.table.ordinal[row] == 3), AllocState.FAILED)
    world.put(world.job_of(after, 100, 9 if ended == "more" else 4))
    world.go_on()
    table = world.state.table
    assert {int(table.version[row]) for row in world.rows()} == {2}
    assert len(world.rows()) == 4
    (said,) = plan.explain(views.cluster_view(world.state), world.job.uid, world.now_ms)
    assert "version before" not in said.summary


@pytest.mark.parametrize("before", [BATCH, SYSTEM], ids=lambda kind: kind.name.lower())
def test_what_becomes_a_service_keeps_to_its_bounds(before: JobType) -> None:
    world = Full()
    world.put(world.job_of(before, 50, 4))
    world.go_on()
    world.observe(world.rows()[1], AllocState.FAILED)
    spec = world.job_of(SERVICE, 100, 4)
    world.put(replace(spec, groups=(replace(spec.groups[0], update=UpdateSpec(max_unavailable=4)),)))
    world.go_on()
    rollout = world.job.rollout
    assert rollout is not None and rollout.status is RolloutStatus.SUCCEEDED
    assert {int(world.state.table.version[row]) for row in world.rows()} == {2}


def test_a_cluster_in_which_a_service_became_a_system_job_comes_to_its_end() -> None:
    """Found by ``test_rich``'s clusters: an ordinal of a service that had failed was taken for a node's instance."""
    real = rich_cluster(1101)
    real.run(600_000)
    (job,) = [one for one in real.state.jobs.values() if one.spec.name == "j2"]
    assert job.spec.type is SYSTEM and job.version == 2
    live = real.state.live_rows(job.slot)
    assert len(live) and set(real.state.table.version[live].tolist()) == {2}
