"""Gangs against the replicated state: whole or not at all, whatever jobs, nodes, crashes and drains do."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from orchestrator.contract.model import (
    Affinity,
    AllocState,
    DeviceRequest,
    GangDomain,
    GangFailure,
    GangSpec,
    GroupSpec,
    JobSpec,
    JobType,
    Link,
    NodeStatus,
    OnDisconnect,
    RestartMode,
    RestartPolicy,
    Spread,
)
from orchestrator.plan import decide
from orchestrator.reconcile.rounds import reconcile
from orchestrator.scheduling import gangs
from orchestrator.scheduling.domains import place_of
from orchestrator.scheduling.filters import has_room, suitable
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.solve import solve
from orchestrator.scheduling.wish import wish_of
from orchestrator.state import views
from orchestrator.state.commands import CordonDevice, CordonNode, JobSubmission, RegisterNode, SubmitJobs
from orchestrator.state.invariants import check
from tests.effort import examples
from tests.properties.test_plan import World, disturb
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec, node_spec

NODES = ("n0", "n1", "n2", "n3")
WHERE = {"n0": ("z1", "r1"), "n1": ("z1", "r1"), "n2": ("z1", "r2"), "n3": ("z2", "r1")}


def machine(name: str, capacity: int) -> RegisterNode:
    zone, rack = WHERE[name]
    spec = node_spec(
        name, cpu=capacity, memory=capacity, devices=gpus(4, islands=(0, 0, 1, 1)), labels={"zone": zone, "rack": rack}
    )
    return RegisterNode(node=spec, identity=name)


@st.composite
def gang_jobs(draw: st.DrawFn) -> JobSpec:
    def group(name: str, gang: GangSpec | None) -> GroupSpec:
        return group_spec(
            name,
            count=draw(st.integers(0, 5)),
            cpu=draw(st.sampled_from([100, 500, 900])),
            memory=10,
            gpu=draw(
                st.sampled_from(
                    [None, DeviceRequest(count=1), DeviceRequest(count=2, link=Link.ISLAND), DeviceRequest(count=2)]
                )
            ),
            ports=draw(st.sampled_from([(), (), (0,), (8080,)])),
            gang=gang,
            restart=draw(
                st.sampled_from([RestartPolicy(attempts=1), RestartPolicy(mode=RestartMode.DELAY), RestartPolicy()])
            ),
        )

    gang = GangSpec(
        domain=draw(st.sampled_from([*GangDomain, GangDomain.CLUSTER])),
        on_failure=draw(st.sampled_from([GangFailure.RESTART, GangFailure.RESTART, GangFailure.REPLACE])),
    )
    groups = [group("a", gang)]
    if draw(st.booleans()):
        groups.append(group("b", draw(st.sampled_from([None, gang]))))
    return JobSpec(
        name=draw(st.sampled_from(["web", "sum", "log"])),
        type=draw(st.sampled_from([JobType.SERVICE, JobType.BATCH, JobType.BATCH])),
        priority=draw(st.sampled_from([50, 50, 80])),
        groups=tuple(groups),
        on_disconnect=draw(st.sampled_from([OnDisconnect.REPLACE, OnDisconnect.REPLACE, OnDisconnect.KEEP])),
    )


@given(data=st.data())
@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_gangs_stay_whole_whatever_happens_and_every_plan_with_them_goes_in(data: st.DataObject) -> None:
    """``check`` holds them whole after every command; ``decide_and_apply`` asserts that no row of a fresh plan is
    refused; and once nothing disturbs any more and there is room, the rounds come to rest."""
    world = World()
    for name in NODES:
        world.do(machine(name, data.draw(st.sampled_from([500, 1000, 4000]))))
    for _ in range(data.draw(st.integers(2, 14))):
        kind = data.draw(st.integers(0, 3))
        if kind == 0:
            submission = JobSubmission(spec=data.draw(gang_jobs()), uid=f"u{world.state.index}")
            world.do(SubmitJobs(jobs=(submission,)))
        elif kind == 1:
            node, device = data.draw(st.sampled_from(NODES)), f"gpu-{data.draw(st.integers(0, 3))}"
            world.do(CordonDevice(node_id=node, device_id=device, cordoned=data.draw(st.booleans())))
        else:
            disturb(world, data)
        assert check(world.state) == []
        if data.draw(st.booleans()):
            world.decide_and_apply()
            assert check(world.state) == []
            if data.draw(st.booleans()):
                world.agents_obey()
    for name in NODES:
        world.do(machine(name, 1_000_000))
        world.do(CordonNode(node_id=name, cordoned=False))
    for _ in range(200):
        world.now_ms += 700_000
        plans = world.decide_and_apply()
        changed = world.agents_obey()
        if not plans and not changed:
            break
    else:
        raise AssertionError("the rounds do not come to rest")
    assert check(world.state) == []
    kinds = {event.kind for event in world.state.events.after(0)}
    for job in world.state.jobs.values():
        for place, group in enumerate(job.spec.groups):
            if group.gang is not None and not job.stopped:
                event(f"a gang at rest, {'alloc.lost' in kinds=}, {'node.draining' in kinds=}")
                assert_together(world, job.slot, place, group)


def assert_together(world: World, slot: int, place: int, group: GroupSpec) -> None:
    """What lives of a gang at rest is all that has not ended for good, and in one domain."""
    assert group.gang is not None
    table = world.state.table
    rows = [row for row in table.live_rows().tolist() if table.job[row] == slot and table.group[row] == place]
    if not rows or group.gang.on_failure is GangFailure.REPLACE:
        return
    ended = [
        row
        for row in table.used().tolist()
        if table.job[row] == slot
        and table.group[row] == place
        and table.state[row] == AllocState.COMPLETE
        and world.state.ordinals.find(int(table.gid[row]), int(table.ordinal[row])) == row
    ]
    assert len(rows) + len(ended) >= group.count
    nodes = [world.state.node_at[int(table.node[row])].spec for row in rows]
    match group.gang.domain:
        case GangDomain.ISLAND | GangDomain.NODE:
            assert len({node.id for node in nodes}) == 1
        case GangDomain.RACK:
            assert len({place_of(node) for node in nodes}) == 1
        case GangDomain.ZONE:
            assert len({place_of(node)[0] for node in nodes}) == 1
        case GangDomain.CLUSTER:
            pass


# ---------------------------------------------------------------------------- the smallest domain


@st.composite
def gang_clusters(draw: st.DrawFn) -> tuple[Cluster, int]:
    cluster = Cluster()
    for at in range(draw(st.integers(1, 5))):
        labels = {}
        if draw(st.integers(0, 5)):
            labels = {"zone": draw(st.sampled_from(["z1", "z2"])), "rack": draw(st.sampled_from(["r1", "r2"]))}
        cluster.node(
            f"n{at}",
            cpu=draw(st.sampled_from([1000, 2000, 4000])),
            labels=labels,
            devices=gpus(4, islands=(0, 0, 1, 1)) if draw(st.booleans()) else (),
            engine_id=draw(st.sampled_from(["", "", "shared"])),
            status=draw(st.sampled_from([NodeStatus.READY] * 6 + [NodeStatus.LOST])),
            cordoned_devices=draw(st.sampled_from([(), (), ("gpu-1",)])),
        )
    count = draw(st.integers(1, 6))
    other = cluster.job("other", group_spec(cpu=0, memory=0))
    for ordinal in range(draw(st.integers(0, 2))):
        cluster.alloc(other, draw(st.sampled_from(cluster.nodes)), ordinal)
    cluster.change(other, stopped=True)
    cluster.job(
        "gang",
        group_spec(
            count=count,
            cpu=draw(st.sampled_from([300, 1000])),
            gpu=draw(st.sampled_from([None, None, DeviceRequest(count=1), DeviceRequest(count=2, link=Link.NUMA)])),
            ports=draw(st.sampled_from([(), (), (80,), (0,)])),
            gang=GangSpec(domain=draw(st.sampled_from(list(GangDomain)))),
            affinity=tuple(draw(st.lists(affinities(), max_size=2))),
            spread=tuple(draw(st.lists(spreads(), max_size=1))),
        ),
    )
    return cluster, count


def affinities() -> st.SearchStrategy[Affinity]:
    return st.builds(
        Affinity,
        job=st.sampled_from(["", "", "other"]),
        topology=st.sampled_from(["node.id", "rack", "zone"]),
        weight=st.sampled_from([-50, -50, 50]),
        required=st.sampled_from([True, True, False]),
    )


def spreads() -> st.SearchStrategy[Spread]:
    return st.builds(
        Spread,
        attribute=st.sampled_from(["node.id", "rack", "zone"]),
        max_skew=st.integers(1, 2),
        required=st.sampled_from([True, True, False]),
    )


@given(made=gang_clusters())
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_gang_is_placed_in_the_smallest_domain_that_holds_it_or_not_at_all(made: tuple[Cluster, int]) -> None:
    """Against trying every way to spread the members over the nodes."""
    cluster, count = made
    view = cluster.view()
    asks = reconcile(view, 0).asks
    problem = Problem(view)
    before, devices = problem.free.copy(), problem.devices.free.copy()
    found = solve(problem, asks)
    gang = cluster.jobs[1].spec.groups[0].gang
    assert gang is not None
    possible = [
        width
        for nodes in combinations_with_replacement(range(len(problem)), count)
        if (width := width_of(problem, nodes)) <= max(gang.domain, GangDomain.NODE)
        and fits(cluster, nodes)
        and may_be(cluster, nodes)
    ]
    if gang.domain is GangDomain.ISLAND:
        if len(found):
            assert_one_island(problem, found)
    elif not possible:
        assert len(found) == 0
    if not len(found):
        assert found.unplaced == [count]
        np.testing.assert_array_equal(problem.free, before)
        np.testing.assert_array_equal(problem.devices.free, devices)
        if gang.domain is not GangDomain.ISLAND:
            assert not possible
        return
    assert len(found) == count
    group = cluster.jobs[1].spec.groups[0]
    asks_for = sum(one.required for one in group.affinity) + sum(one.required for one in group.spread)
    event(f"placed, {GangDomain(min(possible)).name if possible else 'island'}, {asks_for} conditions")
    assert width_of(problem, tuple(found.node)) == min(possible)
    assert may_be(cluster, tuple(found.node))
    seen: dict[int, int] = {}
    for node, mask in zip(found.node, found.device_mask, strict=True):
        assert not seen.get(node, 0) & mask, "a device is given twice"
        seen[node] = seen.get(node, 0) | mask


def width_of(problem: Problem, nodes: tuple[int, ...]) -> GangDomain:
    """The smallest domain that these nodes share."""
    if len(set(nodes)) == 1:
        return GangDomain.NODE
    places = {place_of(problem.nodes[node].spec) for node in nodes}
    if len(places) == 1 and all(rack for _, rack in places):
        return GangDomain.RACK
    zones = {zone for zone, _ in places}
    return GangDomain.ZONE if len(zones) == 1 and all(zones) else GangDomain.CLUSTER


def fits(cluster: Cluster, nodes: tuple[int, ...]) -> bool:
    """Whether the members fit on exactly these nodes, placed one by one as if each were alone."""
    view = cluster.view()
    problem = Problem(view)
    spec = cluster.jobs[1].spec
    wish = gangs.alone(wish_of(spec, spec.groups[0], policy=lambda placement, devices: "binpack"))
    for node in nodes:
        where = np.array([node])
        if not (suitable(problem, wish)[node] and has_room(problem, wish, where)[0]):
            return False
        problem.take(node, wish)
    return True


def may_be(cluster: Cluster, nodes: tuple[int, ...]) -> bool:
    """Whether members on these nodes keep every required affinity and spread, in whatever order they came."""
    group = cluster.jobs[1].spec.groups[0]

    def value(node: int, attribute: str) -> str | None:
        spec = cluster.nodes[node].spec
        return spec.id if attribute == "node.id" else dict(spec.labels).get(attribute)

    for one in group.affinity:
        if not one.required:
            continue
        mine = [value(node, one.topology) for node in nodes]
        others = [value(row["node"], one.topology) for row in cluster.rows if one.job]
        if one.weight > 0:
            beside = set(others) if one.job else {mine[0]}
            if None in mine or not set(mine) <= beside:
                return False
        elif set(mine) & (set(others) - {None}) or (not one.job and any(mine.count(here) > 1 for here in mine if here)):
            return False
    for spread in group.spread:
        if not spread.required:
            continue
        counts = {value(node.slot, spread.attribute): 0 for node in cluster.nodes if node.status is NodeStatus.READY}
        counts.pop(None, None)
        for node in nodes:
            where = value(node, spread.attribute)
            if where is None:
                return False
            counts[where] += 1
        if counts and max(counts.values()) - min(counts.values()) > spread.max_skew:
            return False
    return True


def assert_one_island(problem: Problem, found: Any) -> None:
    assert len(set(found.node)) == 1
    if problem.devices.any and any(found.device_mask):
        devices = problem.nodes[found.node[0]].spec.devices
        used = {device.island for at, device in enumerate(devices) for mask in found.device_mask if mask >> at & 1}
        assert len(used) == 1


# ---------------------------------------------------------------------------- the queue


def submit(world: World, name: str, count: int, *, gang: GangSpec | None, kind: JobType, cpu: int = 1000) -> None:
    spec = JobSpec(name=name, type=kind, groups=(group_spec(count=count, cpu=cpu, memory=1, gang=gang),))
    world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"uid-{name}"),)))


@given(gang_size=st.integers(2, 8), other=st.integers(2, 8), lasts=st.lists(st.integers(1, 4), min_size=4, max_size=12))
@settings(max_examples=examples(30), deadline=None)
def test_two_gangs_and_a_stream_of_small_jobs_all_get_their_turn(gang_size: int, other: int, lasts: list[int]) -> None:
    """Every round brings another small batch job, and each runs for some rounds: the gangs at the head of the queue are
    not starved by them, and neither waits for the other."""
    world = World()
    for at in range(4):
        world.do(RegisterNode(node=node_spec(f"n{at}", cpu=2000, memory=1000), identity="x"))
    ends: dict[int, int] = {}
    for at in range(8):
        submit(world, f"first-{at}", 1, gang=None, kind=JobType.BATCH)
    world.decide_and_apply()
    submit(world, "one", gang_size, gang=GangSpec(), kind=JobType.BATCH)
    submit(world, "two", other, gang=GangSpec(), kind=JobType.BATCH)
    placed: dict[str, int] = {}
    for round_ in range(60):
        for at in range(2):
            submit(world, f"later-{round_}-{at}", 1, gang=None, kind=JobType.BATCH)
        world.now_ms += 1_000
        world.decide_and_apply()
        assert check(world.state) == []
        for row in list(world.live()):
            name = views.allocation(world.state, row).id.job
            if name in ("one", "two"):
                placed.setdefault(name, round_)
            if row not in ends:
                ends[row] = round_ + lasts[row % len(lasts)]
            if ends[row] <= round_:
                world.observe(row, AllocState.RUNNING)
                world.observe(row, AllocState.COMPLETE)
                ends.pop(row)
        if len(placed) == 2:
            break
    assert set(placed) == {"one", "two"}
    # Nobody runs longer than 4 rounds, so each has its nodes soon after it is the first.
    assert max(placed.values()) <= 12
    assert decide(views.cluster_view(world.state), world.now_ms).unplaced.no_room >= 0
