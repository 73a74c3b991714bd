"""What each policy is for, by example; that it does exactly that everywhere is for ``tests/properties``."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import AllocState, Device, DeviceRequest, GroupSpec
from orchestrator.reconcile.rounds import reconcile
from orchestrator.scheduling import device_sets, registry, scoring
from orchestrator.scheduling.device_sets import DeviceSet, best_set, link_cost
from orchestrator.scheduling.policies import gpu_locality, spread
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import solve
from tests.effort import examples
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec


def best(inventory: tuple[Device, ...], free: list[int], request: DeviceRequest) -> DeviceSet | None:
    usable = [at for at, millis in enumerate(free) if millis >= request.gpu_millis]
    return best_set(inventory, free, usable, request)


def placed(cluster: Cluster) -> list[tuple[str, int, str, int]]:
    """(job, ordinal, node, device mask) in the order of placing."""
    view = cluster.view()
    work = reconcile(view, 0)
    problem = Problem(view)
    found = solve(problem, work.asks)
    return [
        (
            work.asks[ask].job.spec.name,
            int(work.asks[ask].ordinals[at]),
            problem.nodes[node].spec.name,
            mask,
        )
        for ask, at, node, mask in zip(found.ask, found.at, found.node, found.device_mask, strict=True)
    ]


def nodes_of(cluster: Cluster) -> list[str]:
    return [node for _, _, node, _ in placed(cluster)]


def one_job(policy: str, group: GroupSpec, *nodes: dict[str, Any]) -> Cluster:
    cluster = Cluster()
    for at, facts in enumerate(nodes):
        cluster.node(f"n{at}", **facts)
    cluster.job("web", group, placement=policy)
    return cluster


def test_the_default_is_binpack_and_an_unknown_name_falls_back_to_it() -> None:
    assert registry.names()[0] == registry.DEFAULT == "binpack"
    assert registry.get("").name == registry.get("from the future").name == "binpack"


def test_binpack_fills_one_node_before_it_opens_another() -> None:
    cluster = one_job("binpack", group_spec(count=5, cpu=1000), {"cpu": 4000}, {"cpu": 4000})
    assert nodes_of(cluster) == ["n0"] * 4 + ["n1"]


def test_binpack_prefers_the_smaller_node_which_it_fills_more() -> None:
    assert nodes_of(one_job("binpack", group_spec(cpu=1000), {"cpu": 8000}, {"cpu": 2000})) == ["n1"]


def test_binpack_keeps_cpu_work_away_from_gpu_nodes_while_others_have_room() -> None:
    cluster = one_job("binpack", group_spec(count=3, cpu=2000), {"devices": gpus(2)}, {"cpu": 4000})
    assert nodes_of(cluster) == ["n1", "n1", "n0"]


def test_spread_puts_as_many_on_each_node_give_or_take_one() -> None:
    cluster = one_job("spread", group_spec(count=20, cpu=100), {}, {}, {})
    where = nodes_of(cluster)
    assert sorted(where.count(f"n{at}") for at in range(3)) == [6, 7, 7]


def test_spread_counts_what_already_runs() -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.node(name)
    job = cluster.job("web", group_spec(count=3), placement="spread")
    for ordinal in range(2):
        cluster.alloc(job, cluster.nodes[0], ordinal)
    assert placed(cluster) == [("web", 2, "b", 0)]


def test_round_robin_goes_on_after_the_groups_latest_placement() -> None:
    cluster = Cluster()
    for name in ("a", "b", "c"):
        cluster.node(name)
    job = cluster.job("web", group_spec(count=4), placement="round-robin")
    cluster.alloc(job, cluster.nodes[1], 0, create_index=9)
    assert nodes_of(cluster) == ["c", "a", "b"]


def test_first_fit_decreasing_serves_the_large_first_within_a_priority() -> None:
    cluster = Cluster()
    cluster.node("a", cpu=1000)
    cluster.node("b", cpu=1000)
    for name, cpu, priority in (("small", 400, 50), ("large", 900, 50), ("urgent", 100, 60)):
        cluster.job(name, group_spec(cpu=cpu), placement="first-fit-decreasing", priority=priority)
    assert placed(cluster) == [("urgent", 0, "a", 0), ("large", 0, "a", 0), ("small", 0, "b", 0)]


@given(sizes=st.lists(st.integers(1, 10), min_size=1, max_size=8))
@settings(max_examples=examples(40), deadline=None)
def test_first_fit_decreasing_uses_at_most_eleven_ninths_of_the_best_and_one_more(sizes: list[int]) -> None:
    cluster = Cluster()
    for at in range(len(sizes)):
        cluster.node(f"n{at}", cpu=10)
    for at, size in enumerate(sizes):
        cluster.job(f"j{at}", group_spec(cpu=size, memory=0), placement="first-fit-decreasing")
    where = nodes_of(cluster)
    assert len(where) == len(sizes)
    assert len(set(where)) <= 11 / 9 * fewest_bins(sizes, 10) + 1


def fewest_bins(sizes: list[int], room: int) -> int:
    best = len(sizes)

    def pack(rest: list[int], bins: list[int]) -> None:
        nonlocal best
        if len(bins) >= best:
            return
        if not rest:
            best = len(bins)
            return
        size, later = rest[0], rest[1:]
        for at in range(len(bins)):
            if bins[at] + size <= room:
                pack(later, [*bins[:at], bins[at] + size, *bins[at + 1 :]])
        pack(later, [*bins, size])

    pack(sorted(sizes, reverse=True), [])
    return best


def test_gpu_locality_takes_a_broken_island_before_a_whole_one() -> None:
    cluster = Cluster()
    whole = gpus(4)
    cluster.node("whole", devices=whole)
    broken = cluster.node("broken", devices=whole)
    holder = cluster.job("holder", group_spec(gpu=DeviceRequest(count=2)))
    cluster.alloc(holder, broken, device_mask=0b0011, gpu_millis=1000)
    cluster.job("pair", group_spec(gpu=DeviceRequest(count=2)), placement="gpu-locality")
    assert placed(cluster) == [("pair", 0, "broken", 0b1100)]


def test_gpu_locality_prefers_the_node_with_the_best_links() -> None:
    cluster = Cluster()
    cluster.node("torn", devices=gpus(4, islands=(0, 1, 2, 3)))
    cluster.node("linked", devices=gpus(8, islands=(0, 0, 0, 0, 1, 1, 1, 1)))
    cluster.job("pair", group_spec(gpu=DeviceRequest(count=4)), placement="gpu-locality")
    assert placed(cluster) == [("pair", 0, "linked", 0b1111)]


def test_every_policy_takes_the_best_linked_devices_inside_a_node() -> None:
    for policy in registry.names():
        cluster = Cluster()
        node = cluster.node("n", devices=gpus(4, islands=(0, 0, 1, 1)))
        holder = cluster.job("holder", group_spec(gpu=DeviceRequest(count=1)))
        cluster.alloc(holder, node, device_mask=0b0001, gpu_millis=1000)
        cluster.job("pair", group_spec(gpu=DeviceRequest(count=2)), placement=policy)
        assert placed(cluster) == [("pair", 0, "n", 0b1100)], policy


def test_shares_are_packed_on_the_fullest_partly_used_device() -> None:
    cluster = Cluster()
    node = cluster.node("n", devices=gpus(3))
    holder = cluster.job("holder", group_spec(gpu=DeviceRequest(count=1, gpu_millis=300)))
    cluster.alloc(holder, node, device_mask=0b010, gpu_millis=300)
    cluster.job("tiny", group_spec(count=3, gpu=DeviceRequest(count=1, gpu_millis=300)))
    assert [mask for _, _, _, mask in placed(cluster)] == [0b010, 0b010, 0b001]


@given(taken=st.sets(st.integers(0, 7)), count=st.integers(1, 8))
def test_devices_are_contiguous_when_any_contiguous_free_run_exists(taken: set[int], count: int) -> None:
    inventory = gpus(8)
    free = [0 if number in taken else 1000 for number in range(8)]
    found = best(inventory, free, DeviceRequest(count=count))
    runs = [
        tuple(range(start, start + count))
        for start in range(8 - count + 1)
        if not taken & set(range(start, start + count))
    ]
    if found is None:
        assert 8 - len(taken) < count
    elif runs:
        assert found.numbers in runs


@given(
    islands=st.lists(st.integers(0, 3), min_size=20, max_size=24),
    taken=st.sets(st.integers(0, 23), max_size=6),
)
@settings(max_examples=examples(25), deadline=None)
def test_on_large_nodes_a_set_within_one_island_is_found_whenever_there_is_one(
    islands: list[int], taken: set[int]
) -> None:
    """And without one, none is cheaper, although the numbers are scattered over islands and NUMA nodes."""
    inventory = tuple(Device(id=str(at), island=island, numa=island // 2) for at, island in enumerate(islands))
    free = [0 if at in taken else 1000 for at in range(len(islands))]
    found = best(inventory, free, DeviceRequest(count=4))
    assert found is not None
    usable = [at for at in range(len(islands)) if free[at]]
    cheapest = min(link_cost(inventory, numbers) for numbers in combinations(usable, 4))
    assert found.cost == cheapest
    assert all(free[number] == 1000 for number in found.numbers)


def test_an_instance_that_could_not_start_goes_elsewhere_but_back_if_it_must() -> None:
    cluster = Cluster()
    first = cluster.node("a", cpu=1000)
    second = cluster.node("b", cpu=8000)
    job = cluster.job("web")
    cluster.alloc(job, first, state=AllocState.FAILED, start_failed=True, failures=1)
    cluster.time_ms = 10_000
    assert nodes_of(cluster) == ["b"]
    cluster.change(second, cordoned=True)
    assert nodes_of(cluster) == ["a"]


def test_the_pages_state_the_weights_that_the_code_has() -> None:
    pages = Path(__file__).parents[3] / "docs" / "placements"
    page = (pages / "gpu-locality.md").read_text()
    found = re.search(r"fullness - 2\^(\d+) · loss - 2\^(\d+) · links", page)
    assert found is not None
    assert (1 << int(found[1]), 1 << int(found[2])) == (gpu_locality.REST, gpu_locality.LINKS)
    costs = re.search(r"(\d) in one island .*, (\d) below one PCIe switch, (\d) in one NUMA node,\s+(\d) across", page)
    assert costs is not None
    assert [int(cost) for cost in costs.groups()] == [0, device_sets.SWITCH, device_sets.SOCKET, device_sets.ACROSS]
    found = re.search(r"2\^(\d+) · allocations of the group", (pages / "spread.md").read_text())
    assert found is not None and 1 << int(found[1]) == spread.LEVEL
    assert f"({2 * scoring.SCALE:,} less)" in (pages / "binpack.md").read_text()
