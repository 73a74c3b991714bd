"""Nodes: what the scenario files do not tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import Desired, Device, JobType, NodeSpec, NodeStatus, Resources, Taint, TaintEffect
from orchestrator.state import views
from orchestrator.state.commands import (
    CordonDevice,
    CordonNode,
    DrainNode,
    ForgetNode,
    MarkNodes,
    NodeMark,
    RegisterNode,
    Rejected,
    SetFeatureLevel,
    WriteAnswer,
)
from orchestrator.state.features import OWNED_DEVICES, TOLD_REBOOTS
from orchestrator.state.model import MAX_CORDONED_DEVICES
from tests.unit.state.kit import Kit, Placement, group, job, node


def mark(kit: Kit, node_id: str) -> NodeMark:
    return NodeMark(node_id=node_id, register_index=kit.state.nodes[node_id].register_index, reason="silent")


def test_a_name_belongs_to_one_node_unless_the_other_is_lost() -> None:
    kit = Kit()
    kit.register(node("n1"))
    twin = replace(node("n2"), name="n1")
    assert kit.refused(RegisterNode(node=twin, identity="agent:n2")).reason == "ALREADY_EXISTS"
    kit.ok(MarkNodes(lost=(mark(kit, "n1"),)))
    kit.ok(RegisterNode(node=twin, identity="agent:n2"))
    # Heard of again: the name is another's by now, so it stays lost, and registering says why.
    kit.ok(MarkNodes(back=(mark(kit, "n1"),)))
    assert kit.state.nodes["n1"].status is NodeStatus.LOST
    assert kit.refused(RegisterNode(node=node("n1"), identity="agent:n1")).reason == "ALREADY_EXISTS"


def test_of_two_lost_nodes_of_one_name_the_first_that_is_heard_of_again_is_back() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.ok(MarkNodes(lost=(mark(kit, "n1"),)))
    kit.ok(RegisterNode(node=replace(node("n2"), name="n1"), identity="agent:n2"))
    kit.ok(MarkNodes(lost=(mark(kit, "n2"),)))
    kit.ok(MarkNodes(back=(mark(kit, "n1"), mark(kit, "n2"))))
    assert kit.state.nodes["n1"].status is NodeStatus.READY
    assert kit.state.nodes["n2"].status is NodeStatus.LOST


def with_gpus(name: str, *ids: str) -> NodeSpec:
    return replace(node(name), devices=tuple(Device(id=id_, memory_mib=1) for id_ in ids))


def test_a_gpu_belongs_to_one_node_unless_the_other_is_lost() -> None:
    """Two agents on one machine would both give it out."""
    kit = Kit()
    kit.ok(SetFeatureLevel(level=OWNED_DEVICES))
    kit.register(with_gpus("n1", "GPU-1", "GPU-2"))
    kit.register(with_gpus("n1", "GPU-1", "GPU-2"))  # again
    twin = with_gpus("n2", "GPU-9", "GPU-2")
    refused = kit.refused(RegisterNode(node=twin, identity="agent:n2"))
    assert refused.reason == "ALREADY_EXISTS"
    assert "GPU GPU-2 is node n1's already" in refused.message
    assert "--gpu none" in refused.message
    kit.register(with_gpus("n2", "GPU-9"))
    kit.register(with_gpus("n3", "fake-n-0"))
    kit.register(with_gpus("n4", "fake-n-0"))  # only real ones are known to be one
    kit.ok(MarkNodes(lost=(mark(kit, "n1"),)))
    kit.register(twin)
    # Heard of again: what it had is another's by now.
    kit.ok(MarkNodes(back=(mark(kit, "n1"),)))
    assert kit.state.nodes["n1"].status is NodeStatus.LOST
    assert kit.refused(RegisterNode(node=with_gpus("n1", "GPU-2"), identity="agent:n1")).reason == "ALREADY_EXISTS"
    kit.register(with_gpus("n1", "GPU-1"))
    assert kit.state.device_nodes == {"GPU-1": [0], "GPU-9": [1], "GPU-2": [1]}
    kit.ok(MarkNodes(lost=(mark(kit, "n1"),)))
    kit.ok(ForgetNode(node_id="n1"))
    kit.register(with_gpus("n2", "GPU-1"))


def test_below_the_feature_level_a_gpu_may_be_of_two_nodes() -> None:
    kit = Kit()
    kit.register(with_gpus("n1", "GPU-1"))
    kit.register(with_gpus("n2", "GPU-1"))
    assert kit.state.device_nodes == {"GPU-1": [0, 1]}


def test_a_verdict_about_an_older_registration_is_void() -> None:
    kit = Kit()
    kit.register(node("n1"))
    stale = mark(kit, "n1")
    kit.register(node("n1"))
    kit.ok(MarkNodes(lost=(stale,)))
    assert kit.state.nodes["n1"].status is NodeStatus.READY


def test_verdicts_that_say_nothing_new_change_nothing() -> None:
    kit = Kit()
    kit.register(node("n1"))
    verdict = (mark(kit, "n1"),)
    seen = []
    for command in (
        MarkNodes(back=verdict), MarkNodes(lost=verdict), MarkNodes(lost=verdict), MarkNodes(back=verdict),
        MarkNodes(back=verdict), MarkNodes(brake="too many at once"),
    ):  # fmt: skip
        before = kit.state.index
        answer = kit.ok(command).answer
        assert isinstance(answer, WriteAnswer)
        seen.append((answer.changed, kit.kinds(before)))
    nothing: tuple[bool, list[str]] = (False, [])
    assert seen == [
        nothing, (True, ["node.lost"]), nothing, (True, ["node.back"]), nothing, (True, ["node.braked"])
    ]  # fmt: skip


def test_less_capacity_than_is_in_use_takes_nothing_more_and_breaks_nothing() -> None:
    kit = Kit()
    kit.register(node("n1", cpu=1000))
    kit.submit(job("a", group(count=3, cpu=400)))
    kit.plan(Placement("a/api/0", "n1"), Placement("a/api/1", "n1"))
    kit.register(node("n1", cpu=500))
    assert kit.plan(Placement("a/api/2", "n1")).placed == 0
    assert views.node_info(kit.state, kit.state.nodes["n1"]).used.cpu_millis == 800


def test_devices_stay_with_their_allocations_when_the_list_changes() -> None:
    kit = Kit()
    kit.register(node("n1", gpus=2))
    kit.submit(job("a", group(count=2, gpus=1)))
    kit.plan(Placement("a/api/0", "n1", devices=(0,)), Placement("a/api/1", "n1", devices=(1,)))
    devices = node("n1", gpus=2).devices
    new = replace(node("n1"), devices=(Device(id="fresh"), devices[1]))
    kit.register(new)
    assert kit.alloc("a/api/0").device_ids == ()  # its device is gone
    assert kit.alloc("a/api/1").device_ids == (devices[1].id,)
    info = views.node_info(kit.state, kit.state.nodes["n1"])
    assert [use.used_millis for use in info.devices] == [0, 1000]


def test_nothing_new_goes_on_a_sick_device_and_what_runs_there_goes_on() -> None:
    kit = Kit()
    spec = node("n1", gpus=2)
    first, second = (device.id for device in spec.devices)
    kit.register(spec)
    kit.submit(job("a", group(count=3, gpus=1)))
    kit.plan(Placement("a/api/0", "n1", devices=(0,)))
    kit.register(replace(spec, sick_devices=((first, "XID 79"), (second, "NVML cannot reach it: lost"))))
    answer = kit.plan(Placement("a/api/1", "n1", devices=(1,)))
    assert (answer.placed, answer.rejected) == (0, (f"a/api/1: device {second} of node n1 is sick",))
    assert kit.alloc("a/api/0").desired is Desired.RUN
    kit.register(replace(spec, sick_devices=((first, "XID 48"),)))
    assert [use.sick for use in views.node_info(kit.state, kit.state.nodes["n1"]).devices] == ["XID 48", ""]
    assert kit.plan(Placement("a/api/1", "n1", devices=(1,))).placed == 1
    told = [(one.kind, one.message) for one in kit.state.events.after(0) if one.kind.startswith("device.")]
    assert told == [
        ("device.sick", f"{first}: XID 79"),
        ("device.sick", f"{second}: NVML cannot reach it: lost"),
        ("device.sick", f"{first}: XID 48"),
        ("device.well", second),
    ]


def test_a_node_that_moves_to_another_engine_takes_its_ports_along() -> None:
    kit = Kit()
    kit.register(node("n1", engine="e1"))
    kit.register(node("n2", engine="e2"))
    kit.submit(job("a", group(count=3, ports=(0,))))
    kit.plan(
        Placement("a/api/0", "n1", ports=(80,)),
        Placement("a/api/1", "n1", ports=(81,)),
        Placement("a/api/2", "n2", ports=(80,)),
    )
    kit.register(node("n1", engine="e2"))
    # Port 80 of e2 is n2's: what had it on the other engine cannot be running there.
    assert kit.alloc("a/api/0").state.name == "LOST"
    assert kit.alloc("a/api/1").state.name == "PENDING"
    assert sorted(kit.state.ledger.ports["engine:e2"]) == [80, 81]


def test_a_forgotten_node_is_still_named_by_its_rows_and_its_slot_is_free_when_they_are_gone() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a"))
    kit.place("a/api/0", "n1")
    kit.ok(MarkNodes(lost=(mark(kit, "n1"),)))
    kit.ok(ForgetNode(node_id="n1"))
    assert kit.alloc("a/api/0").node_name == "n1"
    kit.register(node("n1"))
    assert kit.state.nodes["n1"].slot == 1
    kit.state.remove_job(next(iter(kit.state.jobs.values())))
    assert not kit.state.forgotten
    kit.register(node("n2"))
    assert kit.state.nodes["n2"].slot == 0


def test_an_idle_ready_node_may_be_forgotten() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.ok(ForgetNode(node_id="n1"))
    assert not kit.state.nodes
    assert kit.refused(ForgetNode(node_id="n1")).reason == "NOT_FOUND"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(replace(node("n1"), id=""), id="no id"),
        pytest.param(replace(node("n1"), name="a b"), id="name with a space"),
        pytest.param(replace(node("n1"), capacity=Resources(cpu_millis=-1)), id="negative capacity"),
        pytest.param(replace(node("n1"), capacity=Resources(memory_mib=2**50)), id="absurd capacity"),
        pytest.param(replace(node("n1"), devices=(Device(id="g"), Device(id="g"))), id="one device twice"),
        pytest.param(node("n1", gpus=65), id="more devices than a mask has"),
        pytest.param(replace(node("n1"), sick_devices=(("g", ""),)), id="sick without a reason"),
        pytest.param(replace(node("n1"), sick_devices=(("g", "x" * 300),)), id="sick with a long story"),
        pytest.param(replace(node("n1"), port_min=300, port_max=200), id="port range upside down"),
        pytest.param(replace(node("n1"), engine_id="e" * 300), id="engine id too long"),
    ],
)
def test_absurd_nodes_are_refused(spec: NodeSpec) -> None:
    kit = Kit()
    outcome = kit.do(RegisterNode(node=spec, identity="agent:n1"))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "INVALID"
    assert not kit.state.nodes


def test_a_system_job_whose_device_is_gone_uses_less_of_its_quota() -> None:
    kit = Kit()
    kit.register(node("n1", gpus=2))
    kit.submit(job("a", group(gpus=2), kind=JobType.SYSTEM))
    assert kit.plan(Placement("a/api/0", "n1", devices=(0, 1))).placed == 1
    assert kit.state.usage.of("default").gpu_millis == 2000
    kit.register(replace(node("n1"), devices=node("n1", gpus=2).devices[1:]))
    assert kit.state.usage.of("default").gpu_millis == 1000


def test_devices_are_cordoned_one_by_one_and_only_so_many_of_which_the_node_has() -> None:
    kit = Kit()
    kit.checked = False  # so many commands

    def cordon(device: str, cordoned: bool = True, node_id: str = "n1") -> str:
        outcome = kit.do(CordonDevice(node_id=node_id, device_id=device, cordoned=cordoned))
        if isinstance(outcome, Rejected):
            return outcome.reason
        assert isinstance(outcome.answer, WriteAnswer)
        return "changed" if outcome.answer.changed else "as it was"

    names = [f"GPU-{place:03}" for place in range(MAX_CORDONED_DEVICES)]
    for first in range(0, MAX_CORDONED_DEVICES, 64):
        kit.register(with_gpus("n1", *names[first : first + 64]))  # an agent says at most so many at once
        assert {cordon(name) for name in reversed(names[first : first + 64])} == {"changed"}
    assert kit.state.nodes["n1"].cordoned_devices == tuple(names)
    assert (cordon("GPU-000", node_id="nowhere"), cordon("GPU-new")) == ("NOT_FOUND", "NOT_FOUND")
    before = kit.state.index
    kit.register(with_gpus("n1", "GPU-new"))
    assert (cordon("GPU-new"), cordon("GPU-005")) == ("FAILED_PRECONDITION", "as it was"), (
        "they stay closed, gone or not"
    )
    assert (cordon("GPU-new", False), cordon("GPU-005", False)) == ("as it was", "changed")
    assert (cordon("GPU-new"), cordon("GPU-new", False)) == ("changed", "changed")
    assert len(kit.state.nodes["n1"].cordoned_devices) == MAX_CORDONED_DEVICES - 1
    assert [(event.kind, event.message) for event in kit.state.events.after(before)][1:] == [
        ("device.uncordoned", "GPU-005"), ("device.cordoned", "GPU-new"), ("device.uncordoned", "GPU-new"),
    ]  # fmt: skip


def test_what_a_node_says_of_itself_is_told_at_its_first_registration_and_then_only_what_changed() -> None:
    kit = Kit()
    taint = Taint(key="gpu", effect=TaintEffect.NO_SCHEDULE)
    spec = replace(node("n1", gpus=1), sick_devices=(("n1-gpu-0", "XID 79"),), taints=(taint,))
    told = []
    for said in (spec, spec, replace(spec, version="2"), replace(spec, taints=(), sick_devices=())):
        before = kit.state.index
        kit.register(said)
        told.append(kit.kinds(before))
    assert told == [
        ["node.registered", "device.sick", "node.tainted"],
        [],
        ["node.registered"],
        ["node.registered", "device.well", "node.untainted"],
    ]


@pytest.mark.parametrize("level", [TOLD_REBOOTS - 1, TOLD_REBOOTS])
def test_a_machine_that_was_started_anew_is_told(level: int) -> None:
    kit = Kit()
    kit.ok(SetFeatureLevel(level=level))
    told = []
    for boot_id in ("", "one", "one", "", "two", "three"):  # "": of an agent that could not read it
        before = kit.state.index
        kit.register(replace(node("n1"), boot_id=boot_id))
        told.append(kit.kinds(before))
    rebooted = ["node.rebooted"] if level == TOLD_REBOOTS else []
    assert told == [
        ["node.registered"], ["node.registered"], [], ["node.registered"], ["node.registered"],
        ["node.registered", *rebooted],
    ]  # fmt: skip


def test_another_spec_in_the_same_life_of_a_machine_is_no_new_start() -> None:
    kit = Kit()
    kit.ok(SetFeatureLevel(level=TOLD_REBOOTS))
    kit.register(replace(node("n1"), boot_id="one"))
    before = kit.state.index
    kit.register(replace(node("n1", cpu=2000), boot_id="one"))
    assert kit.kinds(before) == ["node.registered"]


def test_a_drain_is_told_with_its_deadline_and_so_is_its_end() -> None:
    kit = Kit()
    kit.register(node("n1"))
    before = kit.state.index
    kit.ok(DrainNode(node_id="n1"))
    kit.ok(DrainNode(node_id="n1", deadline_after_ms=5_500))
    kit.ok(DrainNode(node_id="n1", cancel=True))
    assert kit.ok(DrainNode(node_id="n1", cancel=True)).answer == WriteAnswer(changed=False)
    assert [(event.kind, event.message) for event in kit.state.events.after(before)] == [
        ("node.draining", ""), ("node.draining", "within 5.5 s"), ("node.undrained", ""),
    ]  # fmt: skip


def test_a_drain_has_one_deadline_and_it_is_cluster_time() -> None:
    kit = Kit()
    kit.register(node("n1"))
    assert kit.ok(DrainNode(node_id="n1", deadline_after_ms=5_000)).answer == WriteAnswer(changed=True)
    first = kit.state.nodes["n1"].drain_deadline_ms
    assert first == kit.state.time_ms + 5_000
    assert kit.ok(DrainNode(node_id="n1")).answer == WriteAnswer(changed=False), (
        "a drain without one leaves it as it is"
    )
    assert kit.state.nodes["n1"].drain_deadline_ms == first
    kit.ok(DrainNode(node_id="n1", deadline_after_ms=60_000))
    assert kit.state.nodes["n1"].drain_deadline_ms == kit.state.time_ms + 60_000
    kit.ok(CordonNode(node_id="n1", cordoned=False))
    assert kit.state.nodes["n1"].drain_deadline_ms == 0
    kit.ok(DrainNode(node_id="n1"))
    assert kit.state.nodes["n1"].drain_deadline_ms == 0, "of the last drain nothing is left"
    assert kit.refused(DrainNode(node_id="n1", deadline_after_ms=-1)).reason == "INVALID"
    year_ms = 365 * 86_400_000
    assert kit.refused(DrainNode(node_id="n1", deadline_after_ms=year_ms + 1)).reason == "INVALID"
    kit.ok(DrainNode(node_id="n1", deadline_after_ms=year_ms))


@pytest.mark.parametrize("keep", [False, True])
def test_a_cancelled_drain_opens_the_node_unless_it_is_to_stay_cordoned(keep: bool) -> None:
    kit = Kit()
    kit.register(node("n1"))
    assert kit.ok(DrainNode(node_id="n1", cancel=True, keep_cordoned=keep)).answer == WriteAnswer(changed=False)
    kit.ok(CordonNode(node_id="n1", cordoned=True))
    assert kit.ok(DrainNode(node_id="n1", cancel=True)).answer == WriteAnswer(changed=False)
    assert kit.state.nodes["n1"].cordoned, "it was cordoned, not drained: that is not undone"
    kit.ok(DrainNode(node_id="n1", deadline_after_ms=1))
    assert kit.ok(DrainNode(node_id="n1", cancel=True, keep_cordoned=keep)).answer == WriteAnswer(changed=True)
    after = kit.state.nodes["n1"]
    assert (after.draining, after.cordoned, after.drain_deadline_ms) == (False, keep, 0)
