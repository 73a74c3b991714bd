"""A gang that restarts as one: all of it in one command, or nothing, by what the state says of each member."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import AllocState, DeviceRequest, GangFailure, GangSpec, JobSpec, JobType, Resources
from orchestrator.state.commands import CordonDevice, CordonNode, PlanAnswer, RestartJob, ScaleJob
from tests.unit.state.kit import Kit, Placement, group, job, node

TOGETHER = GangSpec()


def gang(count: int, kind: JobType = JobType.BATCH, name: str = "mpi", how: GangSpec = TOGETHER) -> JobSpec:
    return job(name, group("w", count, gang=how), kind=kind)


def kit_with(*specs: JobSpec) -> Kit:
    kit = Kit()
    kit.register(node("n1", cpu=100_000, memory=100_000))
    kit.submit(*specs)
    return kit


def place(kit: Kit, *ordinals: int, name: str = "mpi") -> PlanAnswer:
    return kit.plan(*(Placement(f"{name}/w/{ordinal}", "n1") for ordinal in ordinals))


def end(kit: Kit, after: AllocState, *ordinals: int, name: str = "mpi") -> None:
    for ordinal in ordinals:
        kit.observe(f"{name}/w/{ordinal}", AllocState.RUNNING)
        kit.observe(f"{name}/w/{ordinal}", after)


@pytest.mark.parametrize("state", [AllocState.PENDING, AllocState.RUNNING, AllocState.BACKOFF, AllocState.STOPPING])
@pytest.mark.parametrize("member", [0, 2])
def test_nothing_goes_in_while_a_member_lives_in_any_way(state: AllocState, member: int) -> None:
    kit = kit_with(gang(3))
    place(kit, 0, 1, 2)
    end(kit, AllocState.FAILED, *({0, 1, 2} - {member}))
    if state is not AllocState.PENDING:
        kit.observe(f"mpi/w/{member}", AllocState.RUNNING)
        kit.observe(f"mpi/w/{member}", state)
    answer = place(kit, *sorted({0, 1, 2} - {member}))
    assert answer.placed == 0
    assert answer.rejected[0].endswith("its gang goes in together, and a member of it is live")


def test_that_others_live_keeps_no_gang_from_going_in() -> None:
    kit = kit_with(job("before"), gang(2), job("after"))
    kit.place("before/api/0", "n1")
    place(kit, 0, 1)
    kit.place("after/api/0", "n1")
    end(kit, AllocState.FAILED, 0, 1)
    assert place(kit, 0, 1).placed == 2


def test_members_of_a_batch_job_that_are_complete_are_not_needed_again() -> None:
    kit = kit_with(gang(3))
    place(kit, 0, 1, 2)
    end(kit, AllocState.COMPLETE, 0)
    end(kit, AllocState.FAILED, 1, 2)
    assert "2 of 3 are missing" not in place(kit, 1).rejected[0]
    assert place(kit, 1).rejected[0].endswith("1 of 3 are missing in the plan")
    assert place(kit, 1, 2).placed == 2


def test_a_version_that_begins_anew_needs_all_members_again() -> None:
    kit = kit_with(gang(2))
    place(kit, 0, 1)
    end(kit, AllocState.COMPLETE, 0)
    end(kit, AllocState.FAILED, 1)
    kit.ok(RestartJob(namespace="default", name="mpi"))
    assert place(kit, 1).rejected[0].endswith("1 of 2 are missing in the plan")
    assert place(kit, 0, 1).placed == 2


def test_a_service_needs_all_members_whatever_became_of_them() -> None:
    kit = kit_with(gang(2, JobType.SERVICE))
    place(kit, 0, 1)
    end(kit, AllocState.COMPLETE, 0)
    end(kit, AllocState.FAILED, 1)
    assert place(kit, 1).placed == 0
    assert place(kit, 0, 1).placed == 2


def test_a_gang_that_was_never_placed_has_no_member_that_is_done() -> None:
    kit = kit_with(gang(2, name="before"), gang(3))
    place(kit, 0, 1, name="before")
    end(kit, AllocState.COMPLETE, 0, 1, name="before")
    assert place(kit, 0, 1).rejected[0].endswith("1 of 3 are missing in the plan")
    assert place(kit, 0, 1, 2).placed == 3


def test_a_gang_of_fewer_than_before_is_whole_without_those() -> None:
    kit = kit_with(gang(4))
    place(kit, 0, 1, 2, 3)
    kit.ok(ScaleJob(namespace="default", name="mpi", group="w", count=3))
    end(kit, AllocState.FAILED, 0, 1, 2)
    assert place(kit, 0, 1, 2).placed == 0  # the fourth lives
    end(kit, AllocState.FAILED, 3)
    assert place(kit, 0, 1, 2).placed == 3


def test_members_that_are_replaced_one_by_one_and_groups_that_are_no_gang_go_in_alone() -> None:
    kit = kit_with(gang(2, how=GangSpec(on_failure=GangFailure.REPLACE)), job("web", group("w", 2)))
    assert place(kit, 1).placed == 1
    assert place(kit, 1, name="web").placed == 1


def test_only_devices_that_the_group_asks_for_and_that_are_well_are_given_to_it() -> None:
    kit = Kit()
    spec = node("n1", gpus=4)
    models = ("T4", "H100", "H100", "H100")
    devices = tuple(replace(one, model=model) for one, model in zip(spec.devices, models, strict=True))
    kit.register(replace(spec, devices=devices, sick_devices=(("n1-gpu-2", "fell off the bus"),)))
    kit.ok(CordonDevice(node_id="n1", device_id="n1-gpu-3", cordoned=True))
    asks = Resources(cpu_millis=10, memory_mib=10, gpus=DeviceRequest(count=1, models=("H100",)))
    wants = group("w", 4)
    kit.submit(job("train", replace(wants, tasks=(replace(wants.tasks[0], resources=asks),)), kind=JobType.BATCH))
    answer = kit.plan(*(Placement(f"train/w/{at}", "n1", devices=(at,)) for at in range(4)))
    assert answer.placed == 1
    other, sick, cordoned = answer.rejected
    assert other == "train/w/0: its device n1-gpu-0 does not match the group's model"
    assert sick == "train/w/2: device n1-gpu-2 of node n1 is sick"
    assert cordoned == "train/w/3: device n1-gpu-3 of node n1 is cordoned"


def test_a_gang_goes_in_whole_or_not_at_all_and_says_who_was_in_the_way() -> None:
    """Whatever becomes of others in the same plan: they are of the same place in their job, and of the same version."""
    kit = Kit()
    for name in ("n1", "n2"):
        kit.register(node(name))
    kit.submit(job("gang", group(count=3, gang=TOGETHER)), job("plain", group(count=3)))
    kit.ok(CordonNode(node_id="n2", cordoned=True))
    others = [Placement("plain/api/0", "n1"), Placement("plain/api/1", "n2")]
    whole = [Placement(f"gang/api/{ordinal}", "n1") for ordinal in range(3)]
    answer = kit.plan(others[0], *whole[:1], *(Placement(f"gang/api/{ordinal}", "n2") for ordinal in (1, 2)), others[1])
    cordoned = "node n2 is cordoned"
    of_it = f"its gang goes in whole or not at all, and gang/api/1 does not: {cordoned}"
    assert answer == PlanAnswer(
        placed=1,
        acted=0,
        rejected=(
            f"gang/api/0: {of_it}", f"gang/api/1: {cordoned}", f"gang/api/2: {cordoned}", f"plain/api/1: {cordoned}",
        ),
    )  # fmt: skip
    answer = kit.plan(*whole, others[1], Placement("plain/api/2", "n1"))
    assert (answer.placed, answer.rejected) == (4, (f"plain/api/1: {cordoned}",))
