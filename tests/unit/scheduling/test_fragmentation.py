"""The measure, the waste and the typical classes against their definitions; the policy by example."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import Device, DeviceRequest
from orchestrator.reconcile.rounds import reconcile
from orchestrator.scheduling import registry
from orchestrator.scheduling.descent import point_limits, points
from orchestrator.scheduling.fragments import Fragments
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.sequence import Sequence
from orchestrator.scheduling.solve import solve
from orchestrator.scheduling.typical import PRIOR, TypicalClass, typical_classes
from orchestrator.scheduling.waste import expected_waste
from orchestrator.scheduling.wish import CPU, Wish
from orchestrator.state.typical import Shape
from tests.effort import examples
from tests.unit.scheduling import fragment_oracle
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec
from tests.unit.scheduling.test_policies import nodes_of, one_job, placed

requests = st.builds(
    DeviceRequest,
    count=st.integers(1, 3),
    gpu_millis=st.sampled_from([1000, 500, 300, 70]),
    memory_mib=st.sampled_from([0, 40_000]),
    models=st.sampled_from([(), ("h100",)]),
)
classes = st.lists(
    st.builds(
        TypicalClass,
        cpu_millis=st.sampled_from([0, 500, 2000]),
        gpus=st.one_of(st.none(), requests),
        weight=st.integers(1, 50),
    ),
    min_size=1,
    max_size=6,
)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    cluster = Cluster()
    for at in range(draw(st.integers(1, 4))):
        devices = tuple(
            Device(
                id=f"d{number}",
                model=draw(st.sampled_from(["H100", "T4"])),
                memory_mib=draw(st.sampled_from([16_000, 80_000])),
            )
            for number in range(draw(st.integers(0, 4)))
        )
        cluster.node(f"n{at}", cpu=draw(st.sampled_from([0, 499, 500, 1999, 5000])), devices=devices)
    problem = Problem(cluster.view())
    for node, record in enumerate(problem.nodes):
        for number in range(len(record.spec.devices)):
            problem.devices.free[node, number] = draw(st.sampled_from([1000, 1000, 700, 500, 230, 0]))
    return problem


@given(problems(), classes)
@settings(max_examples=examples(150), deadline=None)
def test_the_measure_is_the_papers(problem: Problem, typical: list[TypicalClass]) -> None:
    fragments = Fragments(problem, typical)
    nodes = np.arange(len(problem), dtype=np.int64)
    measured = fragments.measure(fragments.states(nodes), problem.free[:, CPU])
    for node, record in enumerate(problem.nodes):
        inventory = record.spec.devices
        left = problem.devices.free[node].tolist()[: len(inventory)]
        wanted = fragment_oracle.fragmentation(int(problem.free[node, CPU]), inventory, left, typical)
        assert Fraction(int(measured[node]), fragments.weights) == wanted


@given(problems(), classes, requests)
@settings(max_examples=examples(150), deadline=None)
def test_every_way_leads_where_taking_the_devices_leads(
    problem: Problem, typical: list[TypicalClass], request: DeviceRequest
) -> None:
    fragments = Fragments(problem, typical)
    nodes = np.arange(len(problem), dtype=np.int64)
    states = fragments.states(nodes)
    options = fragments.options(request, states)
    for node in nodes.tolist():
        state = int(states[node])
        ways = [way for way in range(options.after.shape[1]) if options.left[state, way] <= 1000]
        assert bool(ways) == bool(problem.devices.enough(request, np.array([node]))[0])
        if request.count > 1:
            continue
        before = problem.devices.free[node].copy()
        for way in ways:
            number = fragments.device(node, int(options.code[state, way]))
            assert before[number] == options.left[state, way]
            problem.devices.free[node, number] -= request.gpu_millis
            assert fragments.state(node) == options.after[state, way]
            problem.devices.free[node] = before


def test_a_wrong_expectation_is_noticed() -> None:
    cluster = Cluster()
    cluster.node("n", devices=gpus(2))
    problem = Problem(cluster.view())
    fragments = Fragments.of(problem)
    whole = fragments.state(0)
    fragments.expect(0, 0, 500, 99)
    assert fragments.state(0) == whole


@given(
    st.lists(
        st.builds(
            TypicalClass,
            cpu_millis=st.just(0),
            gpus=st.builds(DeviceRequest, count=st.just(1), gpu_millis=st.sampled_from([250, 300, 410, 1000])),
            weight=st.integers(1, 9),
        ),
        max_size=4,
    ),
    st.integers(0, 1000),
)
def test_the_waste_is_that_of_its_recursion(typical: list[TypicalClass], left: int) -> None:
    table = expected_waste(typical)
    assert table.shape == (1001,)
    # Each of the few steps rounds down.
    assert 0 <= fragment_oracle.waste(left, typical) * 1_000_000 - int(table[left]) < 6


@given(st.integers(1, 4000), st.integers(1, 30_000), st.integers(-8000, 8000))
def test_points_are_those_of_the_sigmoid(width: int, weights: int, shrinkage: int) -> None:
    found = int(points(np.array([shrinkage * weights]), point_limits(width, weights))[0])
    exact = 100 / (1 + math.exp(min(-shrinkage / width, 700)))
    assert abs(found + 0.5 - exact) <= 0.5 + 1e-6


def test_typical_classes_cover_95_percent_and_no_more() -> None:
    counts = [(Shape(cpu, 1, 1000, 0, ()), count) for cpu, count in ((1, 50), (2, 30), (3, 14), (4, 4), (5, 2))]
    assert [one.weight for one in typical_classes(counts, prior=False)] == [50, 30, 14, 4]


def test_typical_classes_are_told_apart_by_models_only_where_that_is_asked_for() -> None:
    counts = [
        (Shape(1, 1, 1000, 0, ()), 3),
        (Shape(1, 1, 1000, 0, ("T4",)), 4),
        (Shape(1, 1, 1000, 80, ("H100",)), 5),
        (Shape(2, 1, 1000, 0, ()), 6),
    ]
    plain = typical_classes(counts, prior=False)
    assert [(one.cpu_millis, one.weight, one.gpus) for one in plain] == [
        (1, 12, DeviceRequest(count=1)),
        (2, 6, DeviceRequest(count=1)),
    ]
    apart = typical_classes(counts, prior=False, by_model=True)
    assert [(one.weight, one.gpus) for one in apart] == [
        (6, DeviceRequest(count=1)),
        (5, DeviceRequest(count=1, memory_mib=80, models=("H100",))),
        (4, DeviceRequest(count=1, models=("T4",))),
        (3, DeviceRequest(count=1)),
    ]


def test_with_nothing_submitted_the_prior_speaks_and_later_it_does_not() -> None:
    shapes = {shape for shape, _ in PRIOR}
    assert {
        Shape(one.cpu_millis, one.gpus.count, one.gpus.gpu_millis, 0, ()) for one in typical_classes(()) if one.gpus
    }
    many = typical_classes([(Shape(777, 1, 1000, 0, ()), 5000)])
    assert [one.cpu_millis for one in many] == [777]
    assert all(shape.cpu_millis != 777 for shape in shapes)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=30), st.randoms(use_true_random=False))
def test_equal_counts_in_any_order_give_equal_classes(pairs: list[tuple[int, int]], shuffle: random.Random) -> None:
    counts = [(Shape(cpu, 0, 0, 0, ()), count) for cpu, count in dict(pairs).items()]
    mixed = list(counts)
    shuffle.shuffle(mixed)
    assert typical_classes(counts) == typical_classes(mixed)


# ---------------------------------------------------------------------------- the policy


def test_jobs_with_gpus_get_fragmentation_and_others_binpack() -> None:
    choose = registry.chooser("")
    assert (choose("", True), choose("", False)) == ("fragmentation", "binpack")
    assert registry.chooser("spread")("", True) == "spread"
    assert registry.chooser("spread")("binpack", True) == "binpack"


def test_the_clusters_default_places_jobs_that_name_none() -> None:
    cluster = Cluster(default_placement="spread")
    for at in range(3):
        cluster.node(f"n{at}")
    cluster.job("web", group_spec(count=3))
    assert sorted(nodes_of(cluster)) == ["n0", "n1", "n2"]


def test_a_share_goes_beside_another_share_and_leaves_whole_devices_whole() -> None:
    cluster = one_job(
        "fragmentation", group_spec(count=2, gpu=DeviceRequest(count=1, gpu_millis=500)), {"devices": gpus(4)}
    )
    masks = [mask for _, _, _, mask in placed(cluster)]
    assert masks[0] == masks[1]


def test_without_gpus_it_goes_to_nodes_without_gpus_first() -> None:
    cluster = one_job("fragmentation", group_spec(count=9, cpu=1000), {"devices": gpus(2)}, {"cpu": 4000})
    assert nodes_of(cluster) == ["n1"] * 4 + ["n0"] * 4


def test_one_gpu_comes_out_of_the_broken_node() -> None:
    cluster = Cluster()
    for at in range(2):
        cluster.node(f"n{at}", cpu=96_000, memory=10**6, devices=gpus(8))
    cluster.job("running", group_spec(gpu=DeviceRequest(count=1)))
    cluster.alloc(cluster.jobs[0], cluster.nodes[1], device_mask=1, gpu_millis=1000)
    cluster.job("new", group_spec(cpu=8000, gpu=DeviceRequest(count=1)), placement="fragmentation")
    assert nodes_of(cluster) == ["n1"]


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4]), max_size=25), st.sampled_from(sorted(registry.names())))
@settings(max_examples=examples(60), deadline=None)
def test_a_sequence_places_as_solve_does(order: list[int], policy: str) -> None:
    if registry.get(policy).knows_groups or registry.get(policy).big_first:
        policy = "fragmentation"
    shapes = [
        (500, None),
        (700, DeviceRequest(count=1)),
        (200, DeviceRequest(count=1, gpu_millis=300)),
        (900, DeviceRequest(count=2)),
        (100, DeviceRequest(count=1, gpu_millis=650)),
    ]
    cluster = Cluster()
    for at, count in enumerate((0, 1, 2, 4)):
        cluster.node(f"n{at}", cpu=2000 + 700 * at, devices=gpus(count))
    for at, shape in enumerate(order):
        cpu, gpu = shapes[shape]
        cluster.job(f"j{at:02}", group_spec(cpu=cpu, gpu=gpu), placement=policy)
    view = cluster.view()
    asks = reconcile(view, 0).asks
    found = solve(Problem(view), asks)
    wanted = {
        asks[ask].job.spec.name: (node, mask)
        for ask, node, mask in zip(found.ask, found.node, found.device_mask, strict=True)
    }
    sequence = Sequence(Problem(view))
    wishes: dict[Wish, Wish] = {}
    got = {}
    for ask in asks:
        need = ask.job.spec.groups[0].resources
        wish = Wish(
            request=(need.cpu_millis, need.memory_mib, 0),
            gpus=need.gpus,
            ports=(),
            drivers=("docker",),
            constraints=(),
            policy=policy,
        )
        made = sequence.place(wishes.setdefault(wish, wish))
        if made is not None:
            got[ask.job.spec.name] = (made.node, sum(1 << number for number in made.devices))
    assert got == wanted


def test_what_is_released_can_be_placed_again() -> None:
    cluster = Cluster()
    cluster.node("n", devices=gpus(1))
    sequence = Sequence(Problem(cluster.view()))
    wish = Wish(
        request=(100, 10, 0), gpus=DeviceRequest(count=1), ports=(), drivers=(), constraints=(), policy="fragmentation"
    )
    first = sequence.place(wish)
    assert first is not None
    assert sequence.place(wish) is None
    sequence.release(first)
    assert sequence.place(wish) == first
