"""The scheduler against its oracle: the same nodes, devices, ports and scores, for every policy, on random clusters."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import (
    Constraint,
    ConstraintOperator,
    Device,
    DeviceRequest,
    GroupSpec,
    JobType,
    Link,
    NodeStatus,
)
from orchestrator.plan import decide
from orchestrator.reconcile.rounds import reconcile
from orchestrator.scheduling import registry
from orchestrator.scheduling.device_sets import best_set, link_cost
from orchestrator.scheduling.devices import Devices, mask_of
from orchestrator.scheduling.filters import has_room, suitable
from orchestrator.scheduling.placements import Placements
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import WAYS, Ways, solve
from orchestrator.scheduling.wish import wish_of
from orchestrator.state.typical import Shape
from orchestrator.state.views import ClusterView
from tests.effort import examples
from tests.unit.scheduling.cluster import Cluster, group_spec
from tests.unit.scheduling.oracle import Machine, Oracle, best_devices, fullness, oracle_of, pair_cost, skipped, worth

NEVER = 10**9
BY_SCORES = Ways(closed_form_from=NEVER, shelves_from=NEVER, fill_from=NEVER)
QUICK = settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])

OPERATORS = st.sampled_from(
    [
        Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=("a",)),
        Constraint(attribute="zone", operator=ConstraintOperator.NOT_EQUAL, values=("a",)),
        Constraint(attribute="zone", operator=ConstraintOperator.IN, values=("a", "b")),
        Constraint(attribute="zone", operator=ConstraintOperator.NOT_IN, values=("b",)),
        Constraint(attribute="ssd", operator=ConstraintOperator.EXISTS),
        Constraint(attribute="ssd", operator=ConstraintOperator.NOT_EXISTS),
        Constraint(attribute="cores", operator=ConstraintOperator.GREATER, values=("8",)),
        Constraint(attribute="cores", operator=ConstraintOperator.LESS, values=("16",)),
        Constraint(attribute="node.name", operator=ConstraintOperator.NOT_EQUAL, values=("n0",)),
    ]
)


TOPOLOGIES = st.sampled_from(
    [
        # devices per island, per PCIe switch (0: none known), per NUMA node; each nests in the next or spans it whole
        (1, 0, 4),
        (2, 0, 4),
        (4, 0, 4),
        (1, 2, 4),
        (2, 4, 4),
        (8, 2, 4),
        (4, 2, 2),
        (1, 2, 0),
    ]
)


@st.composite
def inventories(draw: st.DrawFn, most: int = 6) -> tuple[Device, ...]:
    count = draw(st.sampled_from([0, 0, 1, 2, 4, most]))
    model = draw(st.sampled_from(["NVIDIA H100 80GB", "NVIDIA A100", "Tesla T4"]))
    island, switch, socket = draw(TOPOLOGIES)
    memories = draw(st.sampled_from([(80_000,), (80_000,), (16_000, 80_000)]))
    return tuple(
        Device(
            id=f"d{at}",
            model=model,
            memory_mib=draw(st.sampled_from(memories)),
            island=at // island,
            numa=at // socket if socket else -1,
            pcie=at // switch + 1 if switch else 0,
            compute_capability=draw(st.sampled_from(["8.0", "8.0", "9.0", ""])),
            mig=draw(st.sampled_from(["", "", "", "", "1g.10gb"])),
        )
        for at in range(count)
    )


@st.composite
def requests(draw: st.DrawFn) -> DeviceRequest | None:
    count = draw(st.sampled_from([0, 0, 1, 1, 2, 3]))
    if not count:
        return None
    return DeviceRequest(
        count=count,
        gpu_millis=draw(st.sampled_from([1000, 1000, 500, 300])) if count == 1 else 1000,
        memory_mib=draw(st.sampled_from([0, 40_000])),
        models=draw(st.sampled_from([(), ("h100",), ("T4", "a100")])),
        compute_capability=draw(st.sampled_from(["", "", ">= 8.0", ">= 9.0"])),
        mig=draw(st.sampled_from(["", "", "", "1g.10gb"])),
        link=draw(st.sampled_from([Link.ANY, Link.ANY, Link.ISLAND, Link.NUMA])),
    )


def shapes() -> st.SearchStrategy[Shape]:
    """What was typically asked for; small against the nodes here, so that some of it fits."""
    cpu = st.sampled_from([0, 300, 1000, 3000])
    with_devices = st.builds(
        Shape, cpu, st.integers(1, 3), st.sampled_from([1000, 500, 300]), st.sampled_from([0, 40_000]),
        st.sampled_from([(), ("h100",)]),
    )  # fmt: skip
    return st.one_of(with_devices, st.builds(Shape, cpu, st.just(0), st.just(0), st.just(0), st.just(())))


@st.composite
def groups(draw: st.DrawFn, name: str, plain: bool) -> GroupSpec:
    ports: tuple[int, ...] = () if plain else draw(st.sampled_from([(), (), (0,), (80,), (0, 80), (0, 0), (20_001, 0)]))
    return group_spec(
        name,
        count=draw(st.integers(0, 30 if plain else 7)),
        cpu=draw(st.sampled_from([0, 100, 250, 700, 1500])),
        memory=draw(st.sampled_from([0, 64, 300, 1000])),
        disk=draw(st.sampled_from([0, 0, 4000])),
        gpu=None if plain else draw(requests()),
        ports=ports,
        constraints=tuple(draw(st.lists(OPERATORS, max_size=1))),
    )


@st.composite
def clusters(draw: st.DrawFn, policy: str | None = None, plain: bool = False) -> Cluster:
    """Up to 6 nodes, up to 5 jobs, some of which run already, not always in a tidy way."""
    cluster = Cluster(
        typical=tuple(draw(st.lists(st.tuples(shapes(), st.integers(1, 60)), max_size=4, unique_by=lambda one: one[0])))
    )
    for at in range(draw(st.integers(0, 6))):
        labels = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "zone": st.sampled_from("abc"),
                    "ssd": st.just("1"),
                    "cores": st.sampled_from(["4", "16", "x"]),
                },
            )
        )
        cluster.node(
            f"n{at}",
            cpu=draw(st.sampled_from([0, 1000, 2000, 4000])),
            memory=draw(st.sampled_from([512, 1024, 4096])),
            disk=draw(st.sampled_from([0, 8000, 50_000])),
            labels=labels,
            devices=() if plain else draw(inventories()),
            engine_id=draw(st.sampled_from(["", "", "shared"])),
            port_min=20_000,
            port_max=draw(st.sampled_from([20_002, 20_050])),
            status=draw(st.sampled_from([NodeStatus.READY] * 5 + [NodeStatus.LOST])),
            cordoned=draw(st.integers(0, 9)) == 0,
            draining=draw(st.integers(0, 9)) == 0,
            cordoned_devices=draw(st.sampled_from([(), (), (), ("d0",), ("d1", "d2", "gone")])),
            sick_devices=draw(st.sampled_from([(), (), (), (), (("d1", "XID 79"),)])),
        )
    for at in range(draw(st.integers(1, 5))):
        job = cluster.job(
            f"j{at}",
            *(draw(groups(f"g{number}", plain)) for number in range(draw(st.integers(1, 2)))),
            placement=policy or draw(st.sampled_from(["", *registry.names()])),
            priority=draw(st.sampled_from([50, 50, 80])),
            type=draw(st.sampled_from([JobType.SERVICE] * 4 + [JobType.BATCH, JobType.SYSTEM])),
        )
        if cluster.nodes and job.spec.type is not JobType.SYSTEM:
            _some_run(draw, cluster, job)
    return cluster


def _some_run(draw: st.DrawFn, cluster: Cluster, job: Any) -> None:
    for group, spec in enumerate(job.spec.groups):
        for ordinal in range(draw(st.integers(0, min(3, spec.count)))):
            node = cluster.nodes[draw(st.integers(0, len(cluster.nodes) - 1))]
            request = spec.resources.gpus
            if spec.ports or (request is not None and len(node.spec.devices) < request.count):
                continue
            mask = (1 << request.count) - 1 if request is not None else 0
            millis = request.gpu_millis if request is not None else 0
            cluster.alloc(
                job,
                node,
                ordinal,
                group=group,
                device_mask=mask,
                gpu_millis=millis,
                create_index=draw(st.integers(1, 9)),
            )


def scheduled(view: ClusterView, ways: Ways = WAYS) -> tuple[list[tuple[Any, ...]], Placements, Problem]:
    work = reconcile(view, 0)
    problem = Problem(view)
    found = solve(problem, work.asks, ways=ways)
    rows = [
        (
            found.ask[at],
            int(work.asks[found.ask[at]].ordinals[found.at[at]]),
            problem.nodes[found.node[at]].spec.id,
            found.device_mask[at],
            tuple(found.ports[found.port_offsets[at] : found.port_offsets[at + 1]]),
        )
        for at in range(len(found))
    ]
    return rows, found, problem


def expected(view: ClusterView) -> tuple[list[tuple[Any, ...]], Oracle]:
    oracle = oracle_of(view)
    chosen = oracle.place(reconcile(view, 0).asks)
    return [
        (choice.ask, choice.ordinal, choice.node, mask_of(choice.devices), choice.ports) for choice in chosen
    ], oracle


@pytest.mark.parametrize("policy", registry.names())
@given(data=st.data())
@QUICK
def test_every_policy_chooses_what_its_oracle_chooses(policy: str, data: st.DataObject) -> None:
    view = data.draw(clusters(policy)).view()
    assert scheduled(view)[0] == expected(view)[0]


@pytest.mark.parametrize("policy", registry.names())
@given(data=st.data())
@QUICK
def test_the_closed_form_places_exactly_as_one_by_one_does(policy: str, data: st.DataObject) -> None:
    view = data.draw(clusters(policy, plain=True)).view()
    by_scores = scheduled(view, BY_SCORES)[0]
    assert scheduled(view, Ways(closed_form_from=1, shelves_from=NEVER, fill_from=NEVER))[0] == by_scores
    assert by_scores == expected(view)[0]


@pytest.mark.parametrize("policy", ["binpack", "gpu-locality"])
@given(data=st.data())
@settings(QUICK, max_examples=examples(150))
def test_sorted_shelves_choose_exactly_what_scores_choose(policy: str, data: st.DataObject) -> None:
    view = data.draw(clusters(policy, plain=data.draw(st.booleans()))).view()
    assert scheduled(view, Ways(closed_form_from=NEVER, shelves_from=0, fill_from=NEVER))[0] == expected(view)[0]


@given(cluster=clusters())
@QUICK
def test_policies_mixed_in_one_round_see_each_others_placements(cluster: Cluster) -> None:
    view = cluster.view()
    assert scheduled(view, Ways(closed_form_from=4, shelves_from=2, fill_from=NEVER))[0] == expected(view)[0]


@given(cluster=clusters())
@QUICK
def test_scores_and_feasibility_equal_the_oracles_node_by_node(cluster: Cluster) -> None:
    view = cluster.view()
    problem, oracle = Problem(view), oracle_of(view)
    everybody = np.arange(len(problem), dtype=np.int64)
    for job in cluster.jobs:
        for group in job.spec.groups:
            wish = wish_of(job.spec, group, policy=registry.chooser(""))
            fits = suitable(problem, wish) & has_room(problem, wish, everybody)
            assert fits.tolist() == [oracle.fits(machine, job.spec, group) for machine in oracle.machines]
            where = np.flatnonzero(fits)
            binpack = registry.get("binpack").scores(problem, wish, where).tolist() if len(where) else []
            for score, number in zip(binpack, where.tolist(), strict=True):
                machine = oracle.machines[number]
                last_resort = group.resources.gpus is None and bool(machine.devices)
                assert score == fullness(machine, group) - 2_000_000 * last_resort


@given(cluster=clusters())
@QUICK
def test_what_is_committed_never_exceeds_what_was_free(cluster: Cluster) -> None:
    view = cluster.view()
    before = Problem(view)
    free, devices = before.free.copy(), before.devices.free.copy()
    _, found, problem = scheduled(view, Ways(closed_form_from=4, shelves_from=0, fill_from=2))
    used = np.unique(np.array(found.node, dtype=np.int64))
    assert (problem.free[used] >= 0).all()
    assert (problem.devices.free[used] >= np.minimum(devices[used], 0)).all()
    assert (problem.free <= free).all()
    seen: set[tuple[str, int]] = set()
    for at, node in enumerate(found.node):
        spec = problem.nodes[node].spec
        for port in found.ports[found.port_offsets[at] : found.port_offsets[at + 1]]:
            host = (spec.engine_id or spec.id, port)
            assert host not in seen
            seen.add(host)


@given(cluster=clusters(), seed=st.integers(0, 2**32))
@QUICK
def test_the_order_of_mappings_does_not_change_the_plan(cluster: Cluster, seed: int) -> None:
    straight, shuffled = decide(cluster.view(), 0), decide(cluster.view(random.Random(seed)), 0)
    assert straight.unplaced == shuffled.unplaced
    assert straight.wake_at_ms == shuffled.wake_at_ms
    assert len(straight.plans) == len(shuffled.plans)
    for left, right in zip(straight.plans, shuffled.plans, strict=True):
        assert (left.jobs, left.nodes, left.reasons) == (right.jobs, right.nodes, right.reasons)
        for columns in ("actions", "placements"):
            ours, theirs = getattr(left, columns), getattr(right, columns)
            for name in ours.__slots__:
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@given(inventory=inventories(most=8), count=st.integers(1, 8), millis=st.sampled_from([1000, 500]), data=st.data())
@settings(QUICK, max_examples=examples(400))
def test_the_set_of_devices_is_the_best_of_all_sets(
    inventory: tuple[Device, ...], count: int, millis: int, data: st.DataObject
) -> None:
    """Every set of every request is looked at by the oracle; the arrays over all nodes agree with it, too."""
    request = DeviceRequest(
        count=count,
        gpu_millis=millis if count == 1 else 1000,
        models=data.draw(st.sampled_from([(), (), ("h100",)])),
        compute_capability=data.draw(st.sampled_from(["", "", ">= 8.0"])),
        link=data.draw(st.sampled_from([Link.ANY, Link.ANY, Link.ISLAND, Link.NUMA])),
    )
    free = [data.draw(st.sampled_from([1000, 1000, 1000, 700, 300, 0])) for _ in inventory]
    cluster = Cluster()
    cordoned = data.draw(st.sampled_from([(), (), ("d0",), ("d1", "d3")]))
    record = cluster.node("n", devices=inventory, cordoned_devices=cordoned)
    machine = Machine(record=record, cpu=0, memory=0, disk=0, devices=free, engine="")
    devices = Devices([inventory], [cordoned])
    devices.free[0, : len(free)] = free
    expected = best_devices(machine, request)
    found = devices.best(0, request)
    assert (found.numbers if found is not None else None) == expected
    where = np.array([0])
    assert devices.enough(request, where).tolist() == [expected is not None]
    times = 0
    if found is not None:
        cost, loss = devices.judge(request, where)
        assert (cost.tolist(), loss.tolist()) == ([pair_cost(machine, found.numbers)], [found.loss])
        assert found.rest == worth(machine, found.numbers)
        assert found.loss == worth(machine, ()) - found.rest
        asked = int(devices.times(request, where)[0])
        while (more := devices.best(0, request)) is not None:
            devices.take(0, more.numbers, request.gpu_millis)
            times += 1
        assert times == asked, "times() says how often it can be done"


@given(count=st.integers(2, 12), data=st.data())
@settings(QUICK, max_examples=examples(60))
def test_in_large_nodes_no_set_has_cheaper_links_or_leaves_more(count: int, data: st.DataObject) -> None:
    """16 devices: too many sets of up to 12 to look at all in Python, so by circles: how many of each are taken decides
    the cost and the rest, and all ways to split are tried."""
    island, switch = data.draw(st.sampled_from([(1, 2), (2, 4), (4, 0), (1, 4)]))
    inventory = tuple(
        Device(id=f"d{at}", island=at // island, pcie=at // switch + 1 if switch else 0, numa=at // 8)
        for at in range(16)
    )
    free = [data.draw(st.sampled_from([1000, 1000, 0])) for _ in inventory]
    usable = [at for at, millis in enumerate(free) if millis == 1000]
    request = DeviceRequest(count=count)
    found = best_set(inventory, free, usable, request)
    cluster = Cluster()
    machine = Machine(record=cluster.node("n", devices=inventory), cpu=0, memory=0, disk=0, devices=free, engine="")
    islands: dict[int, list[int]] = {}
    for at in usable:
        islands.setdefault(at // island, []).append(at)
    candidates = [
        tuple(sorted(at for run in runs for at in run))
        for split in product(*(range(len(members) + 1) for members in islands.values()))
        if sum(split) == count
        for runs in product(
            *(
                [members[start : start + taken] for start in range(len(members) - taken + 1)] if taken else [[]]
                for members, taken in zip(islands.values(), split, strict=True)
            )
        )
    ]
    if len(usable) < count:
        assert found is None
        return
    assert found is not None
    best = min(
        candidates,
        key=lambda numbers: (
            link_cost(inventory, numbers),
            -worth(machine, numbers),
            skipped(machine, numbers),
            numbers,
        ),
    )
    assert found.numbers == best
