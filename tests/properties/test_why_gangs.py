"""``why`` names, of a gang that waits, the cheapest single kind of change that really places all of it.

The judge here counts room by itself, on machines written down as plain numbers, and tries every change there is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, combinations, combinations_with_replacement
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from orchestrator import plan
from orchestrator.contract.answers import GroupExplanation, RemedyStep
from orchestrator.contract.model import (
    Affinity,
    Constraint,
    ConstraintOperator,
    DeviceRequest,
    GangDomain,
    GangSpec,
    GroupSpec,
    JobSpec,
    NodeStatus,
    NodeTaint,
    Taint,
    TaintEffect,
    Toleration,
)
from orchestrator.foresight.settle import perform
from orchestrator.state import views
from orchestrator.state.commands import JobSubmission, Rejected, SubmitJobs
from orchestrator.state.snapshot import capture, restore
from orchestrator.state.state import State
from tests import listed
from tests.effort import examples
from tests.properties.prompt import Real, some_cluster
from tests.properties.test_why import URGENT, made, with_resources
from tests.unit.scheduling.cluster import Cluster, gpus, group_spec, node_spec

DISK = Constraint(attribute="disk", operator=ConstraintOperator.EQUAL, values=("ssd",))
NET = Constraint(attribute="net", operator=ConstraintOperator.EQUAL, values=("fast",))
OLD = Taint(key="old", effect=TaintEffect.NO_SCHEDULE)
TEAM = Taint(key="team", value="ml", effect=TaintEffect.NO_EXECUTE)


@dataclass(frozen=True)
class Machine:
    name: str
    place: tuple[str, str]  # zone, rack
    cpu: int
    memory: int
    gpus: int = 0
    labels: tuple[str, ...] = ()
    taints: tuple[Taint, ...] = ()
    drivers: tuple[str, ...] = ("process",)
    state: str = "open"


@dataclass(frozen=True)
class Gang:
    count: int
    domain: GangDomain
    cpu: int
    memory: int
    gpus: int = 0
    constraints: tuple[Constraint, ...] = ()
    tolerated: tuple[Taint, ...] = ()
    ports: tuple[int, ...] = ()
    apart: tuple[str, ...] = ()  # attributes of which no two members may share a value


Setting = tuple[Gang, tuple[Machine, ...]]


@st.composite
def gang_settings(draw: st.DrawFn) -> Setting:
    in_the_way = draw(
        st.lists(st.sampled_from(["gpus", "labels", "taints", "drivers", "states", "ports", "apart"]), max_size=2)
    )

    def maybe(what: str, usual: Any, *others: Any) -> Any:
        return draw(st.sampled_from([usual, *others])) if what in in_the_way else usual

    machines = tuple(
        Machine(
            name=f"n{at}",
            place=(draw(st.sampled_from(["", "z1", "z1", "z2"])), draw(st.sampled_from(["", "r1", "r1", "r2"]))),
            cpu=draw(st.integers(1, 6)),
            memory=draw(st.integers(2, 6)),
            gpus=maybe("gpus", 0, 2, 3),
            labels=maybe("labels", ("disk", "net"), (), ("disk",), ("net",)),
            taints=maybe("taints", (), (OLD,), (TEAM,), (OLD, TEAM)),
            drivers=maybe("drivers", ("process",), (), ()),
            state=maybe("states", "open", "cordoned", "draining", "lost"),
        )
        for at in range(draw(st.integers(2, 4)))
    )
    gang = Gang(
        count=draw(st.sampled_from([1, 1, 2, 3, 4])),
        domain=draw(st.sampled_from([GangDomain.NODE, GangDomain.RACK, GangDomain.ZONE, GangDomain.CLUSTER])),
        cpu=draw(st.sampled_from([1, 1, 2, 3, 5])),
        memory=draw(st.integers(1, 3)),
        gpus=maybe("gpus", 1, 2, 3),
        constraints=maybe("labels", (), (DISK,), (NET,), (DISK, NET)),
        ports=maybe("ports", (), (80,), (80, 81)),
        apart=maybe("apart", (), ("node.id",), ("node.id",), ("node.zone",), ("node.id", "node.zone")),
    )
    if "gpus" not in in_the_way:
        gang = replace(gang, gpus=0)
    return gang, machines


# ---------------------------------------------------------------------------- the judge


def possible(gang: Gang, machines: tuple[Machine, ...]) -> bool:
    suited = [
        one
        for one in machines
        if one.state == "open"
        and "process" in one.drivers
        and set(one.taints) <= set(gang.tolerated)
        and all(constraint.attribute in one.labels for constraint in gang.constraints)
    ]
    return any(
        all(takes(one, chosen.count(one), gang) for one in set(chosen))
        and width(chosen) <= gang.domain
        and all(keep_apart(chosen, attribute) for attribute in gang.apart)
        for chosen in combinations_with_replacement(suited, gang.count)
    )


def takes(machine: Machine, times: int, gang: Gang) -> bool:
    return (
        times * gang.cpu <= machine.cpu
        and times * gang.memory <= machine.memory
        and times * gang.gpus <= machine.gpus
        and (times == 1 or not any(gang.ports))
    )


def keep_apart(chosen: tuple[Machine, ...], attribute: str) -> bool:
    values = [one.name if attribute == "node.id" else one.place[0] for one in chosen]
    return all(values.count(value) == 1 for value in values if value)


def width(chosen: tuple[Machine, ...]) -> GangDomain:
    if len(set(chosen)) == 1:
        return GangDomain.NODE
    places, zones = {one.place for one in chosen}, {one.place[0] for one in chosen}
    if len(places) == 1 and all(rack for _, rack in places):
        return GangDomain.RACK
    return GangDomain.ZONE if len(zones) == 1 and all(zones) else GangDomain.CLUSTER


def every_change(gang: Gang, machines: tuple[Machine, ...]) -> Iterator[tuple[float, Setting]]:
    """Of one kind each, with its cost."""
    for domain in GangDomain:
        if domain > gang.domain:
            yield 0.25 * (domain - gang.domain), (replace(gang, domain=domain), machines)
    for name in ("count", "cpu", "memory", "gpus"):
        wanted = getattr(gang, name)
        for left in range(0 if name == "gpus" else 1, wanted):  # nobody can ask for no cpu or no memory
            cost = 3.0 if (name, left) == ("gpus", 0) else (wanted - left) / wanted
            yield cost, (with_amount(gang, name, left), machines)
    for some in subsets(gang.constraints):
        yield len(some), (replace(gang, constraints=tuple(set(gang.constraints) - set(some))), machines)
    for some in subsets((OLD, TEAM)):
        yield len(some), (replace(gang, tolerated=some), machines)
    for some in subsets(gang.apart):
        yield len(some), (replace(gang, apart=tuple(set(gang.apart) - set(some))), machines)
    for some in subsets(gang.ports):
        yield len(some), (replace(gang, ports=tuple(0 if port in some else port for port in gang.ports)), machines)
    for cost, states in ((0.75, ("cordoned", "draining")), (2.5, ("lost",))):
        for some in subsets(tuple(one for one in machines if one.state in states)):
            yield cost * len(some), (gang, with_changed(machines, some, state="open"))
    for some in subsets(tuple(one for one in machines if not one.drivers)):
        yield 2.0 * len(some), (gang, with_changed(machines, some, drivers=("process",)))


def subsets(things: tuple[object, ...]) -> Iterator[tuple]:  # type: ignore[type-arg]
    return chain.from_iterable(combinations(things, size) for size in range(1, len(things) + 1))


def with_changed(machines: tuple[Machine, ...], some: tuple[Machine, ...], **change: object) -> tuple[Machine, ...]:
    return tuple(replace(one, **change) if one in some else one for one in machines)  # type: ignore[arg-type]


def with_amount(gang: Gang, name: str, amount: int) -> Gang:
    changes: dict[str, Any] = {name: amount}
    return replace(gang, **changes)


# ---------------------------------------------------------------------------- the program


def cluster_of(gang: Gang, machines: tuple[Machine, ...]) -> Cluster:
    cluster = Cluster()
    for one in machines:
        zone, rack = one.place
        spec = node_spec(
            one.name,
            cpu=one.cpu,
            memory=one.memory,
            zone=zone,
            rack=rack,
            devices=gpus(one.gpus),
            labels={label: {"disk": "ssd", "net": "fast"}[label] for label in one.labels},
        )
        cluster.node(
            one.name,
            spec=replace(spec, drivers=one.drivers),
            taints=tuple(NodeTaint(taint=taint) for taint in one.taints),
            status=NodeStatus.LOST if one.state == "lost" else NodeStatus.READY,
            cordoned=one.state == "cordoned",
            draining=one.state == "draining",
        )
    group = group_spec(
        count=gang.count,
        cpu=gang.cpu,
        memory=gang.memory,
        gpu=DeviceRequest(count=gang.gpus) if gang.gpus else None,
        ports=gang.ports,
        constraints=gang.constraints,
        tolerations=tuple(Toleration(key=one.key, value=one.value, effect=one.effect) for one in gang.tolerated),
        gang=GangSpec(domain=gang.domain),
        affinity=tuple(Affinity(weight=-100, required=True, topology=attribute) for attribute in gang.apart),
    )
    cluster.job("gang", group)
    return cluster


def placed(gang: Gang, machines: tuple[Machine, ...]) -> int:
    return sum(len(one.placements) for one in plan.decide(cluster_of(gang, machines).view(), 0).plans)


def done(step: RemedyStep, gang: Gang, machines: tuple[Machine, ...]) -> tuple[float, Setting]:
    """The step, made; and its cost."""
    match step.kind:
        case "gang":
            domain = GangDomain[step.after.upper()]
            assert step.before == gang.domain.name.lower()
            return 0.25 * (domain - gang.domain), (replace(gang, domain=domain), machines)
        case "count" | "request" | "gpus":
            name = {"cpu_millis": "cpu", "memory_mib": "memory", "count": "gpus" if step.kind == "gpus" else "count"}
            wanted, left = getattr(gang, name[step.what]), int(step.after)
            assert wanted == int(step.before)
            cost = 3.0 if (step.kind, left) == ("gpus", 0) else (wanted - left) / wanted
            return cost, (with_amount(gang, name[step.what], left), machines)
        case "constraint":
            left_in = tuple(one for one in gang.constraints if not step.what.startswith(one.attribute))
            assert len(left_in) == len(gang.constraints) - 1
            return 1.0, (replace(gang, constraints=left_in), machines)
        case "affinity":
            attribute = "node.id" if "the same node" in step.what else step.what.split()[1]
            assert attribute in gang.apart
            return 1.0, (replace(gang, apart=tuple(one for one in gang.apart if one != attribute)), machines)
        case "toleration":
            taint = OLD if step.what.startswith("old") else TEAM
            return 1.0, (replace(gang, tolerated=(*gang.tolerated, taint)), machines)
        case "port":
            assert int(step.before) in gang.ports
            ports = tuple(0 if port == int(step.before) else port for port in gang.ports)
            return 1.0, (replace(gang, ports=ports), machines)
        case "node":
            some = tuple(one for one in machines if one.name == step.after)
            assert {one.state == "lost" for one in some} == {step.what == "back"}
            return (2.5 if step.what == "back" else 0.75), (gang, with_changed(machines, some, state="open"))
        case "driver":
            some = tuple(one for one in machines if f" {one.name} " in step.text)
            return 2.0, (gang, with_changed(machines, some, drivers=("process",)))
    raise AssertionError(step)


def why(gang: Gang, machines: tuple[Machine, ...]) -> GroupExplanation:
    cluster = cluster_of(gang, machines)
    return plan.explain(cluster.view(), cluster.jobs[0].uid, 0)[0]


@given(made=gang_settings())
@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_remedy_places_the_whole_gang_and_no_single_kind_of_change_is_smaller(made: Setting) -> None:
    said = why(*made)
    if possible(*made):
        assert not said.pending
        event("placed as it is")
        return
    assert said.pending == made[0].count
    least = min((cost for cost, changed in every_change(*made) if possible(*changed)), default=None)
    if least is None:
        assert not said.remedy
        event("no single kind of change does")
        return
    assert said.remedy
    event(said.remedy[0].kind + (", several" if len(said.remedy) > 1 else ""))
    assert len({step.kind for step in said.remedy}) == 1
    changed, costs = made, 0.0
    for step in said.remedy:
        cost, changed = done(step, *changed)
        costs += cost
    assert placed(*made) == 0
    assert placed(*changed) == changed[0].count
    assert costs == pytest.approx(least), said.remedy


# ---------------------------------------------------------------------------- in the middle of something


def test_the_remedy_works_in_clusters_where_other_jobs_run_wait_and_stop() -> None:
    kinds: set[str] = set()
    waited = 0
    for seed in range(max(75, examples(150))):
        real = some_cluster(seed)
        real.run()
        spec = some_gang(real)
        submit(real.state, spec, real.now_ms)
        (said,) = plan.explain(views.cluster_view(real.state), "gang-1", real.now_ms)
        if not said.rejections:
            continue
        waited += 1
        if not said.remedy:
            continue
        assert not settled_in(restore(capture(real.state)), spec, real.now_ms)
        state, (group,) = restore(capture(real.state)), spec.groups
        for step in said.remedy:
            if step.kind == "gang":
                group = replace(group, gang=GangSpec(domain=GangDomain[step.after.upper()]))
            elif step.kind == "count":
                group = replace(group, count=int(step.after))
            else:
                where = step.after if step.kind == "node" else said.remedy_node.split(", ")[0]
                spec, group = made(state, spec, group, step, where, real.now_ms)
            kinds.add(step.kind)
        changed = replace(spec, groups=(group,))
        if changed != spec:
            submit(state, changed, real.now_ms)
        assert settled_in(state, changed, real.now_ms), said.remedy
    assert waited >= max(12, examples(30))
    assert kinds >= {"gang", "count", "request", "node"}


def some_gang(real: Real) -> JobSpec:
    rng: random.Random = real.random
    gpu = rng.choice([None, None, DeviceRequest(count=2), DeviceRequest(count=1, gpu_millis=600)])
    group: GroupSpec = group_spec(
        count=rng.randint(2, 5),
        cpu=rng.choice([300, 900, 1500]),
        memory=rng.choice([100, 700]),
        gang=GangSpec(domain=rng.choice([GangDomain.NODE, GangDomain.ZONE, GangDomain.CLUSTER])),
    )
    return JobSpec(name="gang", priority=URGENT, groups=(with_resources(group, gpus=gpu),))


def submit(state: State, spec: JobSpec, now_ms: int) -> None:
    submission = JobSubmission(spec=spec, uid="gang-1")
    assert not isinstance(perform(state, SubmitJobs(jobs=(submission,)), now_ms), Rejected)


def settled_in(state: State, spec: JobSpec, now_ms: int) -> bool:
    """Whether one round gives the whole gang its nodes."""
    for one in plan.decide(views.cluster_view(state), now_ms).plans:
        perform(state, one, now_ms)
    live = listed.allocations(state, namespace=spec.namespace, job=spec.name, live_only=True)
    return len(live) == spec.groups[0].count
