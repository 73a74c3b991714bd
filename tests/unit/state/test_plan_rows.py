"""Every row of a plan is judged against the state that it meets: the exact edge of each rule, and what goes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.contract.model import (
    Allocation,
    AllocationId,
    AllocState,
    Desired,
    DeviceRequest,
    GroupSpec,
    JobType,
    PortBinding,
    Resources,
)
from orchestrator.state import views
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    Action,
    Applied,
    ApplyPlan,
    CordonNode,
    DrainNode,
    Entry,
    MarkNodes,
    NodeMark,
    Outcome,
    PlanAnswer,
    Rejected,
    RemoveJob,
    RestartJob,
    StopJob,
)
from orchestrator.state.invariants import check
from orchestrator.state.model import MAX_COMMAND_ROWS
from tests.unit.state.kit import NO_INTS, Kit, Placement, group, job, node


def with_disk(spec: GroupSpec, disk_mib: int) -> GroupSpec:
    task = spec.tasks[0]
    return replace(spec, tasks=(replace(task, resources=replace(task.resources, disk_mib=disk_mib)),))


def ready(*groups: GroupSpec, kind: JobType = JobType.SERVICE, gpus: int = 2, engine: str = "") -> Kit:
    """n1 and n2 (1000 cpu, 1024 MiB, 1000 MiB of disk each), and job ``a``."""
    kit = Kit()
    kit.register(node("n1", gpus=gpus, engine=engine))
    kit.register(node("n2", gpus=gpus, engine=engine))
    kit.submit(job("a", *groups, kind=kind))
    return kit


def lose_node(kit: Kit, name: str) -> None:
    kit.ok(MarkNodes(lost=(NodeMark(node_id=name, register_index=kit.state.nodes[name].register_index),)))


def rejected(kit: Kit, *placements: Placement, actions: Any = ()) -> list[str]:
    """The rows that were rejected: their allocation and reason."""
    return list(kit.plan(*placements, actions=actions).rejected)


def do(kit: Kit, plan: ApplyPlan) -> Outcome:
    """Past the codec: ``apply`` is total by itself."""
    entry = Entry(identity="", request_id="", digest=b"", time_ms=kit.now_ms, command=plan)
    outcome = apply(kit.state, entry)
    assert check(kit.state) == []
    return outcome


# ---------------------------------------------------------------------------- what goes in


def test_placed_row_holds_exactly_what_the_plan_and_the_job_say() -> None:
    kit = ready(with_disk(group("x", 3, cpu=70, memory=80, gpus=1, share=400, ports=(0, 443)), 90))
    kit.ok(RestartJob(namespace="default", name="a"))
    known = kit.state.find_job("default", "a")
    assert known is not None
    kit.place("a/x/2", "n2", devices=(1,), ports=(8080, 443))
    assert kit.alloc("a/x/2") == Allocation(
        id=AllocationId(namespace="default", job="a", group="x", ordinal=2),
        job_uid=known.uid,
        attempt=1,
        restarts=0,
        job_version=2,
        node_id="n2",
        node_name="n2",
        desired=Desired.RUN,
        state=AllocState.PENDING,
        ports=(
            PortBinding(label="p0", host_port=8080),
            PortBinding(label="p1", host_port=443),
        ),
        device_ids=("n2-gpu-1",),
        gpu_millis=400,
        create_index=kit.state.index,
        modify_index=kit.state.index,
        create_time_ms=kit.state.time_ms,
        modify_time_ms=kit.state.time_ms,
        resources=Resources(cpu_millis=70, memory_mib=80, disk_mib=90, gpus=DeviceRequest(count=1, gpu_millis=400)),
    )
    info = views.node_info(kit.state, kit.state.nodes["n2"])
    assert (info.used.cpu_millis, info.used.memory_mib, info.used.disk_mib) == (70, 80, 90)
    assert [use.used_millis for use in info.devices] == [0, 400]
    (event,) = [event for event in kit.state.events.after(0) if event.kind == "alloc.placed"]
    told = (event.namespace, event.job, event.allocation, event.node_id, event.message, event.attempt)
    assert told == ("default", "a", "a/x/2", "n2", "", 1)
    assert views.assignments_index(kit.state, "n2") == kit.state.index
    assert views.assignments_index(kit.state, "n1") < kit.state.index


def test_rows_of_several_jobs_and_groups_in_one_plan_keep_apart() -> None:
    kit = ready(group("x", 2, cpu=10), group("y", 2, cpu=20, ports=(0,)))
    kit.submit(job("b", group("x", 1, cpu=40)))
    answer = kit.plan(
        Placement("b/x/0", "n1"),
        Placement("a/y/1", "n2", ports=(81,)),
        Placement("a/x/0", "n1"),
        Placement("a/y/0", "n1", ports=(80,)),
        Placement("a/x/1", "n2"),
    )
    assert answer == PlanAnswer(placed=5, acted=0)
    found = {
        name: (row.node_id, row.resources.cpu_millis, tuple(port.host_port for port in row.ports))
        for name in ("a/x/0", "a/x/1", "a/y/0", "a/y/1", "b/x/0")
        for row in [kit.alloc(name)]
    }
    assert found == {
        "a/x/0": ("n1", 10, ()),
        "a/x/1": ("n2", 10, ()),
        "a/y/0": ("n1", 20, (80,)),
        "a/y/1": ("n2", 20, (81,)),
        "b/x/0": ("n1", 40, ()),
    }
    events = [(event.allocation, event.node_id) for event in kit.state.events.after(0) if event.kind == "alloc.placed"]
    assert sorted(events) == sorted((name, where[0]) for name, where in found.items())


def test_one_stale_row_keeps_no_other_out_and_the_event_counts_them() -> None:
    kit = ready(group(count=4))
    kit.place("a/api/1", "n1")
    answer = kit.plan(*(Placement(f"a/api/{ordinal}", "n2", attempt=1) for ordinal in range(4)))
    assert (answer.placed, len(answer.rejected)) == (3, 1)
    assert answer.rejected[0].startswith("a/api/1: ")
    assert kit.kinds().count("plan.rejected") == 1
    assert kit.plan().rejected == ()
    assert kit.kinds().count("plan.rejected") == 1


# ---------------------------------------------------------------------------- nodes


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        pytest.param(lambda kit: lose_node(kit, "n1"), "node n1 is lost", id="lost"),
        pytest.param(lambda kit: kit.ok(CordonNode(node_id="n1", cordoned=True)), "node n1 is cordoned", id="cordoned"),
        pytest.param(lambda kit: kit.ok(DrainNode(node_id="n1")), "node n1 is draining", id="draining"),
    ],
)
def test_node_that_takes_nothing_gets_nothing(happens: Callable[[Kit], object], reason: str) -> None:
    kit = ready(group(count=3))
    happens(kit)
    answer = kit.plan(Placement("a/api/0", "n2"), Placement("a/api/1", "n1"), Placement("a/api/2", "nowhere"))
    assert answer.placed == 1
    assert answer.rejected == (f"a/api/1: {reason}", "a/api/2: node nowhere is gone")


# ---------------------------------------------------------------------------- jobs and ordinals


moved_on = pytest.mark.parametrize(
    ("happens", "reason"),
    [
        pytest.param(lambda kit: kit.ok(StopJob(namespace="default", name="a")), "the job is stopped", id="stopped"),
        pytest.param(lambda kit: kit.submit(job("a", group("y"))), "another version", id="changed"),
        pytest.param(lambda kit: kit.ok(RemoveJob(namespace="default", name="a")), "the job is gone", id="removed"),
    ],
)


@moved_on
def test_job_that_moved_on_gets_nothing_and_the_others_theirs(happens: Callable[[Kit], object], reason: str) -> None:
    kit = ready(group("x"))
    kit.submit(job("b", group("x", 2)))
    plan = kit.make_plan(Placement("b/x/0", "n1"), Placement("a/x/0", "n1"), Placement("b/x/1", "n2"))
    happens(kit)
    outcome = do(kit, plan)
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert (outcome.answer.placed, len(outcome.answer.rejected)) == (2, 1)
    assert reason in outcome.answer.rejected[0]


def test_ordinals_are_filled_one_by_one_whatever_other_groups_hold() -> None:
    kit = Kit()
    kit.checked = False
    kit.register(node("n1", cpu=100_000, memory=100_000))
    for name in ("a", "b", "c"):
        kit.submit(job(name, group(count=70, cpu=1, memory=1)))
    for ordinal in range(70):
        for name in ("a", "b", "c"):
            assert kit.place(f"{name}/api/{ordinal}", "n1").placed == 1
    assert check(kit.state) == []


@moved_on
def test_job_that_moved_on_gets_nothing(happens: Callable[[Kit], object], reason: str) -> None:
    kit = ready(group("x"))
    plan = kit.make_plan(Placement("a/x/0", "n1"))
    happens(kit)
    outcome = do(kit, plan)
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert (outcome.answer.placed, len(outcome.answer.rejected)) == (0, 1)
    assert reason in outcome.answer.rejected[0]


def test_row_of_a_job_that_is_gone_is_named_by_its_uid() -> None:
    kit = ready(group("x", 2))
    plan = kit.make_plan(Placement("a/x/1", "n1"))
    kit.ok(RemoveJob(namespace="default", name="a"))
    outcome = do(kit, plan)
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert outcome.answer.rejected == (f"{plan.jobs[0]}/0/1: the job is gone",)


@pytest.mark.parametrize("number", [-1, 1, 2])
def test_group_that_the_job_does_not_have_gets_nothing(number: int) -> None:
    kit = ready(group("x"))
    plan = kit.make_plan(Placement("a/x/0", "n1"))
    columns = replace(plan.placements, group=np.array([number], dtype=np.int32))
    outcome = do(kit, replace(plan, placements=columns))
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert outcome.answer.rejected == (f"a/{number}/0: the job has no such group by now",)


@pytest.mark.parametrize(("ordinal", "placed"), [(-1, 0), (0, 1), (2, 1), (3, 0)])
def test_ordinal_is_from_0_to_below_the_count(ordinal: int, placed: int) -> None:
    kit = ready(group(count=3))
    plan = kit.make_plan(Placement("a/api/0", "n1"))
    columns = replace(plan.placements, ordinal=np.array([ordinal], dtype=np.int32))
    outcome = do(kit, replace(plan, placements=columns))
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert outcome.answer.placed == placed


def test_system_job_has_any_ordinal_below_the_bound_of_all_counts() -> None:
    kit = ready(group(), kind=JobType.SYSTEM)
    plan = kit.make_plan(Placement("a/api/0", "n1"))
    for ordinal, placed in ((99_999, 1), (100_000, 0)):
        columns = replace(plan.placements, ordinal=np.array([ordinal], dtype=np.int32))
        outcome = do(kit, replace(plan, placements=columns))
        assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
        assert outcome.answer.placed == placed


def test_attempt_is_exactly_the_next_one_of_its_own_ordinal() -> None:
    kit = ready(group(count=3))
    kit.place("a/api/1", "n1")
    kit.observe("a/api/1", AllocState.FAILED)
    for attempt, placed in ((1, 0), (3, 0), (0, 0), (2, 1)):
        assert kit.plan(Placement("a/api/1", "n1", attempt=attempt)).placed == placed, attempt
    assert kit.plan(Placement("a/api/0", "n1", attempt=2)).placed == 0
    assert kit.plan(Placement("a/api/2", "n1", attempt=1)).placed == 1


def test_nothing_is_placed_while_an_attempt_lives_and_all_terminal_states_make_room() -> None:
    kit = ready(group())
    kit.place("a/api/0", "n1")
    for state in (AllocState.STARTING, AllocState.RUNNING, AllocState.STOPPING):
        kit.observe("a/api/0", state)
        assert "live" in rejected(kit, Placement("a/api/0", "n2"))[0]
    kit.observe("a/api/0", AllocState.COMPLETE)
    for state in (AllocState.FAILED, AllocState.STOPPED):
        assert kit.place("a/api/0", "n2").placed == 1
        kit.observe("a/api/0", state)
    assert kit.place("a/api/0", "n1").placed == 1


def test_second_row_of_an_ordinal_in_one_plan_is_rejected_and_the_first_goes_in() -> None:
    kit = ready(group(count=2))
    answer = kit.plan(
        Placement("a/api/1", "n1", attempt=1), Placement("a/api/0", "n1"), Placement("a/api/1", "n2", attempt=1)
    )
    assert (answer.placed, answer.rejected) == (2, ("a/api/1: it is in the plan twice",))
    assert kit.alloc("a/api/1").node_id == "n1"


# ---------------------------------------------------------------------------- what fits


@pytest.mark.parametrize(
    ("need", "what"),
    [
        pytest.param(group(count=3, cpu=500, memory=1), "cpu", id="cpu"),
        pytest.param(group(count=3, cpu=1, memory=512), "memory", id="memory"),
        pytest.param(with_disk(group(count=3, cpu=1, memory=1), 500), "disk", id="disk"),
    ],
)
def test_node_is_filled_to_its_last_unit_and_not_beyond(need: GroupSpec, what: str) -> None:
    for together in (True, False):
        kit = ready(need)
        rows = [Placement(f"a/api/{ordinal}", "n1") for ordinal in range(3)]
        answers = [kit.plan(*rows)] if together else [kit.plan(row) for row in rows]
        assert sum(answer.placed for answer in answers) == 2
        assert answers[-1].rejected == (f"a/api/2: node n1 has not enough {what} left",)


def test_row_that_does_not_fit_leaves_its_room_to_the_rows_behind_it() -> None:
    kit = ready(group("big", cpu=900), group("huge", cpu=1001), group("small", 2, cpu=50))
    answer = kit.plan(
        Placement("a/big/0", "n1"), Placement("a/huge/0", "n1"), Placement("a/small/0", "n1"),
        Placement("a/small/1", "n1"),
    )  # fmt: skip
    assert (answer.placed, answer.rejected) == (3, ("a/huge/0: node n1 has not enough cpu left",))


def test_full_node_keeps_nothing_off_the_other_nodes_of_the_plan() -> None:
    kit = ready(group(count=6, cpu=400))
    rows = [Placement(f"a/api/{ordinal}", "n1" if ordinal % 2 else "n2") for ordinal in range(6)]
    answer = kit.plan(*rows)
    assert answer.placed == 4
    assert [reason.partition(":")[0] for reason in answer.rejected] == ["a/api/4", "a/api/5"]


def test_a_resource_of_the_operators_own_is_kept_to_whoever_else_is_in_the_plan() -> None:
    kit = Kit()
    kit.register(node("n1", licenses=3))
    kit.register(node("n2", licenses=1))
    kit.submit(job("a", group("x", 4, licenses=2), group("y", 2, licenses=1), group("z", 1)))
    rows = [Placement("a/x/0", "n1"), Placement("a/x/1", "n1"), Placement("a/y/0", "n1"), Placement("a/x/2", "n2")]
    assert rejected(kit, *rows, Placement("a/y/1", "n2"), Placement("a/z/0", "n2")) == [
        "a/x/1: node n1 has not enough licenses left",
        "a/x/2: node n2 has not enough licenses left",
    ]
    assert rejected(kit, Placement("a/x/3", "n1")) == ["a/x/3: node n1 has not enough licenses left"]
    held = [kit.alloc(name).resources.custom for name in ("a/x/0", "a/y/1", "a/z/0")]
    assert held == [(("licenses", 2),), (("licenses", 1),), ()]


@pytest.mark.parametrize(("share", "fit"), [(1000, 1), (500, 2), (501, 1), (334, 2), (333, 3)])
def test_device_is_shared_up_to_the_whole_and_not_beyond(share: int, fit: int) -> None:
    for together in (True, False):
        kit = ready(group(count=4, cpu=1, memory=1, gpus=1, share=share))
        rows = [Placement(f"a/api/{ordinal}", "n1", devices=(1,)) for ordinal in range(4)]
        answers = [kit.plan(*rows)] if together else [kit.plan(row) for row in rows]
        assert sum(answer.placed for answer in answers) == fit
        assert answers[-1].rejected[-1] == "a/api/3: a device of node n1 is taken"
        assert kit.plan(Placement("a/api/3", "n1", devices=(0,))).placed == 1  # the other one is free


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(Placement("a/api/0", "n1", devices=()), "another number of devices", id="too few"),
        pytest.param(Placement("a/api/0", "n1", devices=(0, 1)), "another number of devices", id="too many"),
        pytest.param(Placement("a/api/0", "n1", devices=(0,), millis=401), "another share", id="another share"),
        pytest.param(Placement("a/api/0", "n1", devices=(0,), millis=399), "another share", id="a smaller share"),
        pytest.param(Placement("a/api/0", "n1", devices=(2,)), "no such device", id="a device beyond the node's"),
        pytest.param(Placement("a/api/0", "n1", devices=(63,)), "no such device", id="the last place of a mask"),
    ],
)
def test_devices_are_those_that_the_group_asks_for(row: Placement, reason: str) -> None:
    kit = ready(group(gpus=1, share=400))
    (said,) = rejected(kit, row)
    assert reason in said
    assert kit.place("a/api/0", "n1", devices=(1,)).placed == 1


def test_devices_of_one_row_say_nothing_of_another_rows_node() -> None:
    kit = Kit()
    kit.register(node("n1", gpus=1))
    kit.register(node("n2", gpus=3))
    kit.submit(job("a", group(count=3, gpus=1)))
    answer = kit.plan(
        Placement("a/api/0", "n2", devices=(2,)), Placement("a/api/1", "n1", devices=(1,)),
        Placement("a/api/2", "n1", devices=(0,)),
    )  # fmt: skip
    assert (answer.placed, answer.rejected) == (2, ("a/api/1: the node has no such device",))


def test_device_takes_not_one_thousandth_more_than_the_whole() -> None:
    for together in (True, False):
        kit = ready(group("x", gpus=1, share=500), group("y", gpus=1, share=501), group("z", gpus=1, share=500))
        rows = [Placement(f"a/{name}/0", "n1", devices=(0,)) for name in ("x", "y", "z")]
        answers = [kit.plan(*rows)] if together else [kit.plan(row) for row in rows]
        assert [reason for answer in answers for reason in answer.rejected] == ["a/y/0: a device of node n1 is taken"]


@pytest.mark.parametrize("millis", [(500, 500), (500, 501), (501, 500)], ids=str)
def test_two_shares_of_one_device_fit_up_to_the_whole(millis: tuple[int, int]) -> None:
    kit = ready(group("x", gpus=1, share=millis[0]), group("y", gpus=1, share=millis[1]))
    answer = kit.plan(Placement("a/x/0", "n1", devices=(0,)), Placement("a/y/0", "n1", devices=(0,)))
    assert answer.placed == (2 if sum(millis) == 1000 else 1)


def test_node_that_is_full_in_every_resource_and_device_takes_nothing_more() -> None:
    kit = ready(with_disk(group(count=2, cpu=600, memory=600), 600))
    answer = kit.plan(Placement("a/api/0", "n1"), Placement("a/api/1", "n1"))
    assert (answer.placed, answer.rejected) == (1, ("a/api/1: node n1 has not enough cpu left",))
    kit = ready(group(count=2, cpu=1, memory=1, gpus=64), gpus=64)
    answer = kit.plan(Placement("a/api/0", "n1"), Placement("a/api/1", "n1"))
    assert (answer.placed, answer.rejected) == (1, ("a/api/1: a device of node n1 is taken",))


def test_node_without_devices_gives_none() -> None:
    kit = ready(group(gpus=1), gpus=0)
    assert rejected(kit, Placement("a/api/0", "n1", devices=(0,))) == ["a/api/0: the node has no such device"]


def test_rows_without_devices_beside_them_give_no_device_away() -> None:
    kit = ready(group("plain", 2), group("gpu", 2, gpus=1))
    answer = kit.plan(
        Placement("a/plain/0", "n1"), Placement("a/gpu/0", "n1", devices=(0,)), Placement("a/plain/1", "n1"),
        Placement("a/gpu/1", "n1", devices=(0,)),
    )  # fmt: skip
    assert (answer.placed, answer.rejected) == (3, ("a/gpu/1: a device of node n1 is taken",))


# ---------------------------------------------------------------------------- ports


@pytest.mark.parametrize(
    ("ports", "reason"),
    [
        pytest.param((), "another number of ports", id="none"),
        pytest.param((80,), "another number of ports", id="too few"),
        pytest.param((80, 81, 82), "another number of ports", id="too many"),
        pytest.param((80, 80), "the same host port twice", id="one twice"),
        pytest.param((0, 80), "not from 1 to 65535", id="0"),
        pytest.param((80, 65_536), "not from 1 to 65535", id="65536"),
        pytest.param((1, 65_535), "", id="1 and 65535"),
    ],
)
def test_ports_are_as_many_as_asked_for_and_possible(ports: tuple[int, ...], reason: str) -> None:
    kit = ready(group(ports=(0, 0)))
    answer = kit.place("a/api/0", "n1", ports=ports)
    assert answer.placed == (not reason)
    assert all(reason in said for said in answer.rejected)


def test_static_port_is_given_in_its_place() -> None:
    kit = ready(group(count=3, ports=(0, 443)))
    assert "static" in rejected(kit, Placement("a/api/0", "n1", ports=(443, 80)))[0]
    assert kit.place("a/api/0", "n1", ports=(80, 443)).placed == 1
    assert rejected(kit, Placement("a/api/1", "n1", ports=(81, 443))) == ["a/api/1: host port 443 is taken"]
    assert kit.place("a/api/1", "n2", ports=(80, 443)).placed == 1


@pytest.mark.parametrize("engine", ["", "shared"])
def test_port_is_unique_for_each_engine_in_the_state_and_in_the_plan(engine: str) -> None:
    kit = ready(group(count=4, ports=(0,)), engine=engine)
    kit.place("a/api/0", "n1", ports=(80,))
    answer = kit.plan(
        Placement("a/api/1", "n2", ports=(80,)), Placement("a/api/2", "n1", ports=(81,)),
        Placement("a/api/3", "n2", ports=(81,)),
    )  # fmt: skip
    taken = ("a/api/1: host port 80 is taken", "a/api/3: host port 81 is taken")
    assert answer.rejected == (taken if engine else ())
    kit.observe("a/api/0", AllocState.FAILED)
    assert kit.plan(Placement("a/api/0", "n2" if engine else "n1", ports=(80,))).placed == 1


def test_port_of_a_rejected_row_stays_free_for_the_rows_behind_it() -> None:
    kit = ready(group(count=2, ports=(0, 0)))
    answer = kit.plan(Placement("a/api/0", "n1", ports=(80, 80)), Placement("a/api/1", "n1", ports=(80, 81)))
    assert answer.placed == 1


# ---------------------------------------------------------------------------- actions


def test_stop_tells_the_agent_and_leaves_the_row_live() -> None:
    kit = ready(group(count=2))
    kit.plan(Placement("a/api/0", "n1"), Placement("a/api/1", "n2"))
    kit.now_ms += 1000
    assert kit.stop("a/api/0", "too many") == PlanAnswer(placed=0, acted=1)
    row = kit.alloc("a/api/0")
    assert (row.desired, row.state, row.reason) == (Desired.STOP, AllocState.PENDING, "too many")
    assert (row.modify_index, row.modify_time_ms) == (kit.state.index, kit.state.time_ms)
    assert views.assignments_index(kit.state, "n1") == kit.state.index
    assert views.assignments_index(kit.state, "n2") < kit.state.index
    (event,) = [event for event in kit.state.events.after(0) if event.kind == "alloc.stop"]
    assert (event.allocation, event.node_id, event.message, event.attempt) == ("a/api/0", "n1", "too many", 1)
    assert kit.alloc("a/api/1").desired is Desired.RUN
    assert kit.stop("a/api/0").rejected == ("a/api/0 was already told to stop",)


def test_lose_needs_a_lost_node_and_frees_everything() -> None:
    kit = ready(group(count=2, ports=(0,)))
    kit.plan(Placement("a/api/0", "n1", ports=(80,)), Placement("a/api/1", "n2", ports=(80,)))
    assert kit.lose("a/api/0") == PlanAnswer(placed=0, acted=0, rejected=("a/api/0 cannot be lost: node n1 is ready",))
    lose_node(kit, "n1")
    kit.now_ms += 1000
    assert kit.lose("a/api/0", "silent") == PlanAnswer(placed=0, acted=1)
    row = kit.alloc("a/api/0")
    assert (row.state, row.reason, row.modify_index) == (AllocState.LOST, "silent", kit.state.index)
    assert views.node_info(kit.state, kit.state.nodes["n1"]).allocations == 0
    (event,) = [event for event in kit.state.events.after(0) if event.kind == "alloc.lost"]
    assert (event.allocation, event.node_id, event.message, event.attempt) == ("a/api/0", "n1", "silent", 1)
    assert kit.alloc("a/api/1").state is AllocState.PENDING


def test_actions_with_several_reasons_keep_them_apart() -> None:
    kit = ready(group(count=4, cpu=10))
    kit.plan(*(Placement(f"a/api/{ordinal}", "n1") for ordinal in range(4)))
    answer = kit.plan(
        actions=[
            (Action.STOP, "a/api/0", "one"), (Action.STOP, "a/api/1", "two"), (Action.STOP, "a/api/2", "one"),
            (Action.STOP, "a/api/2", "three"),
        ]
    )  # fmt: skip
    assert (answer.acted, answer.rejected) == (3, ("a/api/2 is in the plan twice",))
    assert [kit.alloc(f"a/api/{ordinal}").reason for ordinal in range(4)] == ["one", "two", "one", ""]


def test_action_of_an_unknown_kind_is_rejected_alone() -> None:
    kit = ready(group(count=2))
    kit.plan(Placement("a/api/0", "n1"), Placement("a/api/1", "n1"))
    plan = kit.make_plan(actions=[(Action.STOP, "a/api/0", "x"), (Action.STOP, "a/api/1", "x")])
    strange = replace(plan.actions, action=np.array([9, 1], dtype=np.int32))
    outcome = do(kit, replace(plan, actions=strange))
    assert isinstance(outcome, Applied)
    assert outcome.answer == PlanAnswer(placed=0, acted=1, rejected=("a/api/0 gets an unknown action 9",))
    assert kit.alloc("a/api/0").desired is Desired.RUN


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"attempt": 2}, id="a later attempt"),
        pytest.param({"attempt": 0}, id="an earlier attempt"),
        pytest.param({"ordinal": 1}, id="an ordinal never placed"),
        pytest.param({"ordinal": 9}, id="an ordinal beyond all"),
        pytest.param({"ordinal": -1}, id="a negative ordinal"),
        pytest.param({"group": 1}, id="another group"),
        pytest.param({"group": -1}, id="a negative group"),
        pytest.param({"group": 2}, id="a group behind the last"),
        pytest.param({"group": 7}, id="a group beyond all"),
        pytest.param({"version": 2}, id="another version"),
    ],
)
def test_action_means_exactly_one_live_row_or_none(change: dict[str, int]) -> None:
    kit = ready(group("x", 2), group("y", 2))
    kit.plan(Placement("a/x/0", "n1"))
    plan = kit.make_plan(actions=[(Action.STOP, "a/x/0", "x")])
    columns = {name: np.array([value], dtype=np.int32) for name, value in change.items()}
    outcome = do(kit, replace(plan, actions=replace(plan.actions, **columns)))
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert (outcome.answer.acted, len(outcome.answer.rejected)) == (0, 1)
    assert "not live any more" in outcome.answer.rejected[0]
    assert kit.alloc("a/x/0").desired is Desired.RUN


def test_action_on_a_row_that_ended_or_a_job_that_is_gone_is_rejected() -> None:
    kit = ready(group(count=2))
    kit.plan(Placement("a/api/0", "n1"), Placement("a/api/1", "n1"))
    plan = kit.make_plan(actions=[(Action.STOP, "a/api/0", "x"), (Action.STOP, "a/api/1", "x")])
    kit.observe("a/api/0", AllocState.COMPLETE)
    outcome = do(kit, plan)
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert outcome.answer == PlanAnswer(placed=0, acted=1, rejected=("a/api/0: attempt 1 is not live any more",))
    kit.ok(RemoveJob(namespace="default", name="a"))
    kit.observe("a/api/1", AllocState.STOPPED)
    outcome = do(kit, plan)
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert (outcome.answer.acted, len(outcome.answer.rejected)) == (0, 2)
    assert all(reason.endswith("is gone") for reason in outcome.answer.rejected)


def test_actions_on_rows_of_many_jobs_in_any_order_find_theirs() -> None:
    kit = Kit()
    kit.register(node("n1", cpu=10_000, memory=10_000))
    for name in ("a", "b", "c"):
        kit.submit(job(name, group("x", 2), group("y", 2)))
    names = [f"{name}/{part}/{ordinal}" for ordinal in (1, 0) for part in ("y", "x") for name in ("c", "a", "b")]
    kit.plan(*(Placement(name, "n1") for name in names))
    chosen = names[:9]
    answer = kit.plan(actions=[(Action.STOP, name, name) for name in chosen])
    assert (answer.acted, answer.rejected) == (9, ())
    for name in names:
        row = kit.alloc(name)
        assert (row.desired, row.reason) == ((Desired.STOP, name) if name in chosen else (Desired.RUN, ""))


def test_action_reaches_a_row_until_it_has_ended() -> None:
    kit = ready(group(count=2))
    kit.plan(Placement("a/api/0", "n1"), Placement("a/api/1", "n1"))
    for ordinal in (0, 1):
        kit.observe(f"a/api/{ordinal}", AllocState.STOPPING)
    assert kit.stop("a/api/0").acted == 1
    lose_node(kit, "n1")
    assert kit.lose("a/api/1").acted == 1


def test_actions_on_the_second_group_of_one_job_and_on_another_job_find_both() -> None:
    kit = ready(group("x"), group("y"))
    kit.submit(job("b", group("x")))
    kit.plan(Placement("a/y/0", "n1"), Placement("b/x/0", "n1"))
    answer = kit.plan(actions=[(Action.STOP, "a/y/0", "one"), (Action.STOP, "b/x/0", "two")])
    assert (answer.acted, answer.rejected) == (2, ())


def test_ordinal_that_a_group_does_not_have_never_means_another_groups_row() -> None:
    kit = Kit()
    kit.register(node("n1", cpu=10_000, memory=10_000))
    for name in ("a", "b", "c"):
        kit.submit(job(name, group(count=2)))
        kit.plan(Placement(f"{name}/api/0", "n1"), Placement(f"{name}/api/1", "n1"))
    plan = kit.make_plan(actions=[(Action.STOP, "b/api/0", "x")])
    before = [kit.alloc(f"{name}/api/{ordinal}") for name in "abc" for ordinal in (0, 1)]
    for ordinal in (*range(-20, 0), *range(2, 40)):
        columns = replace(plan.actions, ordinal=np.array([ordinal], dtype=np.int32))
        outcome = do(kit, replace(plan, actions=columns))
        assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
        assert outcome.answer.acted == 0, ordinal
    assert [kit.alloc(f"{name}/api/{ordinal}") for name in "abc" for ordinal in (0, 1)] == before


# ---------------------------------------------------------------------------- the shape of a plan


def _plan(kit: Kit) -> ApplyPlan:
    return kit.make_plan(Placement("a/api/1", "n1", ports=(80,)), actions=[(Action.STOP, "a/api/0", "x")])


@pytest.mark.parametrize("column", ["job", "group", "ordinal", "attempt", "action", "reason", "version"])
@pytest.mark.parametrize(
    "values", [np.zeros(2, dtype=np.int32), NO_INTS, np.zeros((1, 1), dtype=np.int32), np.zeros(1, dtype=np.int64)],
    ids=["long", "short", "two dimensions", "another type"],
)  # fmt: skip
def test_action_column_of_another_shape_refuses_the_plan(column: str, values: Any) -> None:
    kit = ready(group(count=2, ports=(0,)))
    kit.place("a/api/0", "n1", ports=(81,))
    plan = _plan(kit)
    outcome = do(kit, replace(plan, actions=replace(plan.actions, **{column: values})))
    assert isinstance(outcome, Rejected) and outcome.reason == "INVALID"
    assert kit.alloc("a/api/0").desired is Desired.RUN


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"ports": np.zeros((1, 1), dtype=np.int32)}, id="ports of two dimensions"),
        pytest.param({"ports": np.array([80], dtype=np.int64)}, id="ports of another type"),
        pytest.param({"port_offsets": np.array([0, 1], dtype=np.int64)}, id="offsets of another type"),
        pytest.param({"port_offsets": np.array([[0, 1]], dtype=np.int32)}, id="offsets of two dimensions"),
        pytest.param({"port_offsets": np.array([0, 0], dtype=np.int32)}, id="a port of no row"),
        pytest.param({"port_offsets": np.array([0, 2], dtype=np.int32)}, id="a row beyond the ports"),
        pytest.param({"port_offsets": np.array([1, 1], dtype=np.int32)}, id="offsets that do not begin at 0"),
        pytest.param({"port_offsets": np.array([0, 1, 1], dtype=np.int32)}, id="too many offsets"),
        pytest.param({"device_mask": np.zeros(1, dtype=np.int64)}, id="a mask of another type"),
        pytest.param({"gpu_millis": np.zeros(1, dtype=np.uint64)}, id="a share of another type"),
    ],
)
def test_placement_columns_of_another_shape_refuse_the_plan(change: dict[str, Any]) -> None:
    kit = ready(group(count=2, ports=(0,)))
    kit.place("a/api/0", "n1", ports=(81,))
    plan = _plan(kit)
    outcome = do(kit, replace(plan, placements=replace(plan.placements, **change)))
    assert isinstance(outcome, Rejected) and outcome.reason == "INVALID"


def test_offsets_that_fall_in_between_refuse_the_plan() -> None:
    kit = ready(group(count=3, ports=(0,)))
    plan = kit.make_plan(*(Placement(f"a/api/{ordinal}", "n1", ports=(80 + ordinal,)) for ordinal in range(3)))
    falling = replace(plan.placements, port_offsets=np.array([0, 2, 1, 3], dtype=np.int32))
    assert isinstance(do(kit, replace(plan, placements=falling)), Rejected)
    level = replace(plan.placements, port_offsets=np.array([0, 1, 1, 3], dtype=np.int32))
    outcome = do(kit, replace(plan, placements=level))
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert outcome.answer.placed == 1  # the others have another number of ports than their group


@pytest.mark.parametrize("value", [-1, 1, 2**31 - 1])
@pytest.mark.parametrize("where", ["actions.job", "actions.reason", "placements.job", "placements.node"])
def test_place_outside_of_the_plans_lists_refuses_the_plan(where: str, value: int) -> None:
    kit = ready(group(count=2, ports=(0,)))
    kit.place("a/api/0", "n1", ports=(81,))
    plan = _plan(kit)
    assert (len(plan.jobs), len(plan.nodes), len(plan.reasons)) == (1, 1, 1)
    part, _, column = where.partition(".")
    columns = replace(getattr(plan, part), **{column: np.array([value], dtype=np.int32)})
    outcome = do(kit, replace(plan, **{part: columns}))
    assert isinstance(outcome, Rejected) and outcome.reason == "INVALID"


@pytest.mark.parametrize("values", [(-1, 0), (0, -1), (1, 0), (0, 1)], ids=str)
def test_one_row_outside_of_the_plans_lists_refuses_all_of_it(values: tuple[int, int]) -> None:
    kit = ready(group(count=2))
    plan = kit.make_plan(Placement("a/api/0", "n1"), Placement("a/api/1", "n1"))
    for column in ("job", "node"):
        columns: Any = {column: np.array(values, dtype=np.int32)}
        outcome = do(kit, replace(plan, placements=replace(plan.placements, **columns)))
        assert isinstance(outcome, Rejected) and outcome.reason == "INVALID"


def test_only_a_row_of_a_plan_needs_a_list() -> None:
    kit = ready(group(count=2, ports=(0,)))
    kit.place("a/api/0", "n1", ports=(81,))
    plan = _plan(kit)
    alone = replace(plan, nodes=(), placements=kit.make_plan().placements)
    outcome = do(kit, alone)
    assert isinstance(outcome, Applied) and outcome.answer == PlanAnswer(placed=0, acted=1)
    outcome = do(kit, replace(plan, reasons=(), actions=kit.make_plan().actions))
    assert isinstance(outcome, Applied) and outcome.answer == PlanAnswer(placed=1, acted=0)


@pytest.mark.parametrize("over", [0, 1], ids=["as many as allowed", "one more"])
@pytest.mark.parametrize("what", ["rows", "jobs", "nodes", "reasons"])
def test_plan_is_bounded_in_rows_jobs_nodes_and_reasons(what: str, over: int) -> None:
    kit = ready(group(count=2, ports=(0,)))
    kit.place("a/api/0", "n1", ports=(81,))
    plan = _plan(kit)
    many = MAX_COMMAND_ROWS + over
    if what == "rows":
        zeros = np.zeros(many - 1, dtype=np.int32)
        columns: Any = dict.fromkeys(("job", "group", "ordinal", "attempt", "action", "reason", "version"), zeros)
        plan = replace(plan, actions=replace(plan.actions, **columns))
    else:
        have: tuple[str, ...] = getattr(plan, what)
        longer: Any = {what: have + ("more",) * (many - len(have))}
        plan = replace(plan, **longer)
    outcome = do(kit, plan)
    assert isinstance(outcome, Rejected if over else Applied)
