"""Repacking: never more than fits, never a pod lost, what stays stays; and the figures by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import Device, DeviceRequest, Resources
from orchestrator.ops.pack import AUTOMATIC, Packing, Repacked, names, pack
from orchestrator.ops.pack_cluster import WAITING, PackCluster, PackNode, PackPod
from tests.effort import examples


def node(
    name: str, cpu: int = 8000, memory: int = 8192, gpus: int = 0, *, open: bool = True, model: str = "A"
) -> PackNode:
    devices = tuple(Device(id=str(at), model=model) for at in range(gpus))
    return PackNode(name=name, capacity=Resources(cpu_millis=cpu, memory_mib=memory), devices=devices, open=open)


def pod(name: str, at: int = WAITING, cpu: int = 1000, memory: int = 512, gpus: int = 0, millis: int = 1000) -> PackPod:
    request = DeviceRequest(count=gpus, gpu_millis=millis) if gpus else None
    return PackPod(name=name, request=Resources(cpu_millis=cpu, memory_mib=memory, gpus=request), node=at)


def cluster(nodes: list[PackNode], pods: list[PackPod]) -> PackCluster:
    return PackCluster(format="test", nodes=tuple(nodes), pods=tuple(pods), placed=True)


def only(packing: Packing) -> Repacked:
    (one,) = packing.placements
    return one


# ---------------------------------------------------------------------------- by hand


def test_two_half_used_nodes_become_one() -> None:
    packing = pack(cluster([node("a"), node("b")], [pod("p", 0, cpu=4000), pod("q", 1, cpu=4000)]), ["binpack"])
    assert packing.now is not None
    assert (packing.now.nodes_used, packing.now.cpu_pct, packing.now.dense_cpu_pct) == (2, 50.0, 50.0)
    one = only(packing)
    assert (one.figures.nodes_used, one.nodes_freed, one.moved, one.left_out) == (1, 1, 1, 0)
    assert one.figures.dense_cpu_pct == 100.0


def test_what_waits_starts_once_the_gpus_are_together() -> None:
    pods = [pod("p", 0, gpus=1), pod("q", 1, gpus=1), pod("big", gpus=2)]
    packing = pack(cluster([node("a", gpus=2), node("b", gpus=2)], pods), ["fragmentation"])
    assert packing.now is not None
    assert (packing.now.gpus_free, packing.now.gpus_whole) == (2.0, 2)
    one = only(packing)
    assert (one.started, one.figures.gpu_pct, one.moved) == (1, 100.0, 1)


def test_shares_on_two_gpus_go_to_one_and_free_the_other() -> None:
    pods = [pod("p", 0, gpus=1, millis=500), pod("q", 1, gpus=1, millis=500)]
    one = only(pack(cluster([node("a", gpus=1), node("b", gpus=1)], pods), ["fragmentation"]))
    assert (one.nodes_freed, one.gpus_freed, one.figures.gpus_whole) == (1, 1, 1)


def test_fragmentation_is_the_expected_share_of_free_gpus_that_is_of_no_use() -> None:
    """Two kinds of pods, equally frequent: one GPU with 1 core, two GPUs with 1 core. On the node with one GPU free the
    second does not fit: half of the pods have no use for it. On the empty node both do."""
    pods = [pod("p", 0, gpus=1), pod("q", gpus=2)]
    packing = pack(cluster([node("a", gpus=2), node("b", gpus=2)], pods), ["binpack"])
    assert packing.now is not None
    assert (packing.now.fragmented_gpus, packing.now.gpus_free) == (0.5, 3.0)
    assert packing.now.fragmented_pct == pytest.approx(100 / 6)


def test_gpus_without_cpu_beside_them_are_fragmented() -> None:
    pods = [pod("p", 0, cpu=8000, gpus=1)]
    packing = pack(cluster([node("a", gpus=4)], pods), ["binpack"])
    assert packing.now is not None
    assert (packing.now.fragmented_gpus, packing.now.gpus_free) == (3.0, 3.0)


def test_what_belongs_to_a_node_stays_and_is_no_use_of_it() -> None:
    pods = [pod("p", 0, cpu=100), PackPod(name="log", request=Resources(cpu_millis=100), node=1, daemon=True)]
    packing = pack(cluster([node("a"), node("b")], pods), ["binpack"])
    assert packing.now is not None
    assert (packing.now.nodes_used, packing.staying) == (1, 1)
    assert only(packing).seats[1].node == 1


def test_what_runs_on_a_closed_node_stays_and_nothing_comes() -> None:
    pods = [pod("p", 0), pod("q", cpu=8000), pod("r", cpu=8000)]
    one = only(pack(cluster([node("old", open=False), node("b")], pods), ["binpack"]))
    assert [seat.node for seat in one.seats] == [0, 1, WAITING]
    assert (one.started, one.moved) == (1, 0)


def test_what_waits_never_takes_the_room_of_what_runs() -> None:
    urgent = PackPod(name="u", request=Resources(cpu_millis=8000), priority=1000)
    one = only(pack(cluster([node("a")], [urgent, pod("p", 0, cpu=1000)]), ["binpack"]))
    assert (one.started, one.left_out) == (0, 0)


def test_of_what_waits_the_more_important_starts_first() -> None:
    pods = [pod("low", cpu=8000), PackPod(name="high", request=Resources(cpu_millis=500), priority=10)]
    one = only(pack(cluster([node("a")], pods), ["binpack"]))
    assert [seat.node for seat in one.seats] == [WAITING, 0]


def test_pods_with_gpus_come_before_larger_ones_without() -> None:
    pods = [pod("large", cpu=8000), pod("gpu", cpu=1000, gpus=1)]
    one = only(pack(cluster([node("a", gpus=1)], pods), [AUTOMATIC]))
    assert [seat.node for seat in one.seats] == [WAITING, 0]


def test_a_node_that_holds_more_than_it_has_is_named() -> None:
    pods = [pod("p", 0, cpu=9000), pod("q", 1, gpus=1), pod("r", 1, gpus=1), pod("s", 2, gpus=1)]
    packing = pack(cluster([node("a"), node("b", gpus=1), node("c"), node("d")], pods), [AUTOMATIC])
    assert packing.overfull == ("a", "b", "c")


def test_a_pod_that_runs_and_finds_no_room_is_left_out_and_counted() -> None:
    one = only(pack(cluster([node("a", cpu=1000)], [pod("p", 0, cpu=9000)]), ["binpack"]))
    assert (one.left_out, one.figures.pods) == (1, 0)


def test_without_gpus_there_is_no_figure_of_theirs() -> None:
    packing = pack(cluster([node("a")], [pod("p", 0)]), names())
    assert all(one.figures.gpu_pct is None and one.figures.fragmented_gpus is None for one in packing.placements)
    assert [one.placement for one in packing.placements] == list(names())


# ---------------------------------------------------------------------------- any cluster


@st.composite
def clusters(draw: st.DrawFn) -> PackCluster:
    """Nodes with GPUs of two models; pods of all kinds, each running where it had room when it came, or waiting."""
    nodes = []
    for number in range(draw(st.integers(1, 5))):
        custom = (("slots", draw(st.integers(1, 6))),)
        capacity = Resources(
            cpu_millis=draw(st.sampled_from([2000, 8000])),
            memory_mib=draw(st.sampled_from([2048, 8192])),
            custom=custom,
        )
        model = draw(st.sampled_from(["A", "B"]))
        devices = tuple(Device(id=str(at), model=model) for at in range(draw(st.integers(0, 4))))
        is_open = draw(st.sampled_from([True, True, True, False]))
        nodes.append(PackNode(name=f"n{number}", capacity=capacity, devices=devices, open=is_open))
    pods: list[PackPod] = []
    for number in range(draw(st.integers(1, 14))):
        gpus = None
        if draw(st.booleans()):
            millis = draw(st.sampled_from([1000, 1000, 500, 300]))
            count = draw(st.integers(1, 2)) if millis == 1000 else 1
            gpus = DeviceRequest(count=count, gpu_millis=millis, models=draw(st.sampled_from([(), ("A",)])))
        request = Resources(
            cpu_millis=draw(st.sampled_from([0, 300, 1500])),
            memory_mib=draw(st.sampled_from([64, 700])),
            gpus=gpus,
            custom=draw(st.sampled_from([(), (("slots", 1),)])),
        )
        where = draw(st.sampled_from([None, None, frozenset({0}), frozenset(range(0, len(nodes), 2))]))
        one = PackPod(
            name=f"p{number}", request=request, nodes=where, daemon=draw(st.sampled_from([False, False, False, True])),
            priority=draw(st.integers(0, 1)),
        )  # fmt: skip
        pods.append(one)
        for place in draw(st.permutations(range(len(nodes)))):
            running = PackPod(
                name=one.name, request=request, nodes=where, daemon=one.daemon, priority=one.priority, node=place
            )
            if (where is None or place in where) and draw(st.booleans()):
                tried = cluster(nodes, [*pods[:-1], running])
                if not pack(tried, []).overfull and _models_suit(nodes[place], running):
                    pods[-1] = running
                break
    return cluster(nodes, pods)


def _models_suit(there: PackNode, one: PackPod) -> bool:
    gpus = one.request.gpus
    return gpus is None or not gpus.models or all(device.model in gpus.models for device in there.devices)


def fits_beside(there: PackCluster, one: Repacked, number: int, place: int) -> bool:
    """Whether a pod would still find room on a node, counted from the seats alone."""
    asked, capacity = there.pods[number].request, there.nodes[place].capacity
    cpu, memory, slots, millis = held(there, one, place)
    if cpu + asked.cpu_millis > capacity.cpu_millis or memory + asked.memory_mib > capacity.memory_mib:
        return False
    if asked.custom and slots + 1 > dict(capacity.custom)["slots"]:
        return False
    if asked.gpus is None:
        return True
    gpus = asked.gpus
    suits = [not gpus.models or device.model in gpus.models for device in there.nodes[place].devices]
    return sum(ok and millis[at] + gpus.gpu_millis <= 1000 for at, ok in enumerate(suits)) >= gpus.count


def held(there: PackCluster, one: Repacked, place: int) -> tuple[int, int, int, Counter[int]]:
    cpu = memory = slots = 0
    millis: Counter[int] = Counter()
    for each, seat in zip(there.pods, one.seats, strict=True):
        if seat.node == place:
            cpu += each.request.cpu_millis
            memory += each.request.memory_mib
            slots += sum(amount for _, amount in each.request.custom)
            for device in seat.devices:
                assert each.request.gpus is not None
                millis[device] += each.request.gpus.gpu_millis
    return cpu, memory, slots, millis


@settings(max_examples=examples(40), deadline=None)
@given(clusters(), st.sampled_from(names()))
def test_repacking_never_places_more_than_fits_and_never_loses_a_pod(there: PackCluster, placement: str) -> None:
    one = only(pack(there, [placement]))
    assert len(one.seats) == len(there.pods)
    for place, has in enumerate(there.nodes):
        cpu, memory, slots, millis = held(there, one, place)
        assert cpu <= has.capacity.cpu_millis
        assert memory <= has.capacity.memory_mib
        assert slots <= dict(has.capacity.custom)["slots"]
        assert all(device < len(has.devices) and amount <= 1000 for device, amount in millis.items())
    started = left_out = 0
    for each, seat in zip(there.pods, one.seats, strict=True):
        if each.node != WAITING and (each.daemon or not there.nodes[each.node].open):
            assert seat.node == each.node
        elif seat.node != WAITING:
            assert there.nodes[seat.node].open
            assert each.nodes is None or seat.node in each.nodes
            started += each.node == WAITING
        else:
            left_out += each.node != WAITING
        if seat.node != WAITING:
            gpus = each.request.gpus
            assert len(set(seat.devices)) == len(seat.devices) == (gpus.count if gpus is not None else 0)
            models = {there.nodes[seat.node].devices[device].model for device in seat.devices}
            assert gpus is None or not gpus.models or models <= set(gpus.models)
    assert (one.started, one.left_out) == (started, left_out)
    assert one.figures.pods == sum(seat.node != WAITING for seat in one.seats)


@settings(max_examples=examples(40), deadline=None)
@given(clusters(), st.sampled_from(names()))
def test_whoever_waits_afterwards_fits_nowhere(there: PackCluster, placement: str) -> None:
    one = only(pack(there, [placement]))
    for number, (each, seat) in enumerate(zip(there.pods, one.seats, strict=True)):
        if seat.node == WAITING:
            may = range(len(there.nodes)) if each.nodes is None else sorted(each.nodes)
            assert not any(there.nodes[place].open and fits_beside(there, one, number, place) for place in may)
