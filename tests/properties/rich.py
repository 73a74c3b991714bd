"""Clusters and backlogs in which every kind of request meets every other, and the rules of placing once more, naively.

``prompt.some_cluster`` draws few kinds; here each group may ask for labels, versions, spreading, affinity to others,
devices by model, memory, capability and link, shares, custom resources, ports and a gang, all at once, on nodes with
taints, missing labels, shared hosts and narrow port ranges. ``refusal`` judges one node for one more instance from the
public records, row by row; it shares no code with ``scheduling``.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from orchestrator.contract.constraints import attribute_of, matches
from orchestrator.contract.devices import linked, mismatch
from orchestrator.contract.model import (
    Affinity,
    AllocState,
    Constraint,
    ConstraintOperator,
    Device,
    DeviceRequest,
    Disruption,
    GangDomain,
    GangFailure,
    GangSpec,
    GroupSpec,
    JobSpec,
    JobType,
    Link,
    NodeSpec,
    NodeStatus,
    OnDisconnect,
    Quota,
    Spread,
    Taint,
    TaintEffect,
    TaintKey,
    Toleration,
)
from orchestrator.contract.taints import repelling
from orchestrator.scheduling import registry
from orchestrator.state.commands import (
    ApplyPlan,
    Command,
    CordonDevice,
    CordonNode,
    DrainNode,
    JobSubmission,
    MarkNodes,
    MoveAllocation,
    NamespaceWrite,
    NodeMark,
    Outcome,
    RegisterNode,
    RestartJob,
    ScaleJob,
    SetFeatureLevel,
    StopJob,
    SubmitJobs,
    TaintNode,
    WriteNamespace,
)
from orchestrator.state.features import HIGHEST
from orchestrator.state.invariants import check
from orchestrator.state.model import Job, Node
from orchestrator.state.state import State
from orchestrator.state.views import allocation
from tests.properties.prompt import Real, answer_of
from tests.unit.scheduling.cluster import group_spec, node_spec

# ---------------------------------------------------------------------------- what there is


def some_devices(rng: random.Random) -> tuple[Device, ...]:
    count = rng.choice([0, 0, 2, 4])
    model, memory, capability, driver = rng.choice(
        [("A100", 40_000, "8.0", "535.1"), ("H100", 80_000, "9.0", "550.2"), ("T4", 16_000, "7.5", "")]
    )
    return tuple(
        Device(
            id=f"g{at}",
            model=model,
            memory_mib=memory,
            island=at // 2 if rng.random() < 0.7 else at,
            numa=at // 2 if count > 2 else 0,
            compute_capability=capability,
            driver_version=driver,
        )
        for at in range(count)
    )


def some_taint(rng: random.Random) -> Taint:
    return Taint(key=rng.choice("kl"), value=rng.choice(["", "v"]), effect=rng.choice(list(TaintEffect)))


def some_node(rng: random.Random, name: str) -> NodeSpec:
    labels = {
        **({"zone": rng.choice("abc")} if rng.random() < 0.85 else {}),
        **({"os": rng.choice(["1.2.3", "1.10.0", "2.0"])} if rng.random() < 0.5 else {}),
        **({"num": rng.choice(["3", "10", "x"])} if rng.random() < 0.5 else {}),
    }
    first = rng.choice([20_000, 20_000, 20_001])
    spec = node_spec(
        name,
        cpu=rng.choice([1000, 2000, 4000]),
        memory=rng.choice([1000, 4000]),
        disk=rng.choice([100, 1000]),
        devices=some_devices(rng),
        labels=labels,
        custom={"lic": rng.choice([0, 1, 3])} if rng.random() < 0.6 else {},
        rack=rng.choice(["", "r1", "r2", "r3"]),
        engine_id=rng.choice(["", "", "", "host"]),
        port_min=first,
        port_max=first + rng.choice([0, 1, 3, 1000]),
        taints=(some_taint(rng),) if rng.random() < 0.15 else (),
        datasets=("d1",) if rng.random() < 0.4 else (),
    )
    return replace(spec, drivers=("docker",)) if rng.random() < 0.15 else spec


# ---------------------------------------------------------------------------- what is asked for

_O = ConstraintOperator
CONSTRAINTS = tuple(
    Constraint(attribute=attribute, operator=operator, values=values)
    for attribute, operator, values in (
        ("zone", _O.EQUAL, ("a",)),
        ("zone", _O.NOT_EQUAL, ("a",)),
        ("zone", _O.IN, ("a", "b")),
        ("zone", _O.NOT_IN, ("c",)),
        ("os", _O.EXISTS, ()),
        ("os", _O.NOT_EXISTS, ()),
        ("num", _O.GREATER, ("5",)),
        ("num", _O.LESS_EQUAL, ("5",)),
        ("os", _O.VERSION, (">= 1.3, < 2",)),
        ("os", _O.MATCHES, ("1\\..*",)),
        ("os", _O.NOT_MATCHES, ("2.*",)),
        ("node.rack", _O.EQUAL, ("r1",)),
    )
)


def some_toleration(rng: random.Random) -> Toleration:
    return Toleration(
        key=rng.choice(["", "k", "l"]),
        value=rng.choice([None, "", "v"]),
        effect=rng.choice([None, *TaintEffect]),
        delay_ms=rng.choice([None, None, 0, 5_000, 100_000]),
    )


def some_affinity(rng: random.Random) -> Affinity:
    if rng.random() < 0.3:
        return Affinity(constraint=rng.choice(CONSTRAINTS), weight=rng.choice([-100, -3, 1, 50, 100]))
    return Affinity(
        job=rng.choice(["", "", "j0", "j1"]),
        group=rng.choice(["", "", "a"]),
        topology=rng.choice(["node.id", "node.id", "zone", "node.rack"]),
        weight=rng.choice([-100, -50, 50, 100]),
        required=rng.random() < 0.5,
    )


def some_spread(rng: random.Random) -> Spread:
    attribute = rng.choice(["zone", "node.rack", "node.id"])
    return Spread(attribute=attribute, max_skew=rng.choice([1, 2]), required=rng.random() < 0.7)


def some_gpus(rng: random.Random) -> DeviceRequest | None:
    if rng.random() < 0.6:
        return None
    count = rng.choice([1, 1, 1, 2, 2, 3])
    return DeviceRequest(
        count=count,
        gpu_millis=rng.choice([1000, 400, 250]) if count == 1 else 1000,
        models=rng.choice([("A100",), ("H100", "T4")]) if rng.random() < 0.2 else (),
        memory_mib=rng.choice([20_000, 60_000]) if rng.random() < 0.2 else 0,
        compute_capability=rng.choice([">= 8.0", "< 9"]) if rng.random() < 0.15 else "",
        driver_version=">= 540" if rng.random() < 0.1 else "",
        link=rng.choice([Link.ISLAND, Link.NUMA]) if count > 1 and rng.random() < 0.3 else Link.ANY,
    )


def some_group(rng: random.Random, name: str, kind: JobType) -> GroupSpec:
    more: dict[str, Any] = {}
    if rng.random() < 0.25:
        more["constraints"] = (rng.choice(CONSTRAINTS),)
    if rng.random() < 0.25:
        more["tolerations"] = (some_toleration(rng),)
    if rng.random() < 0.2:
        more["custom"] = {"lic": rng.choice([1, 2])}
    if rng.random() < 0.25:
        more["ports"] = rng.choice([(0,), (8080,), (0, 0), (8080, 0)])
    gpu = some_gpus(rng)
    if kind is not JobType.SYSTEM:
        if rng.random() < 0.25:
            more["affinity"] = tuple(some_affinity(rng) for _ in range(rng.choice([1, 1, 2])))
        if rng.random() < 0.2:
            more["spread"] = tuple(some_spread(rng) for _ in range(rng.choice([1, 1, 2])))
        if rng.random() < 0.15:
            more |= {"locality": rng.choice([50, -20, 100]), "datasets": ("d1",)}
        if rng.random() < 0.25:
            domain = rng.choice([one for one in GangDomain if gpu is not None or one is not GangDomain.ISLAND])
            more["gang"] = GangSpec(domain=domain, on_failure=rng.choice(list(GangFailure)))
    return group_spec(
        name,
        count=1 if kind is JobType.SYSTEM else rng.randint(0, 5),
        cpu=rng.choice([0, 100, 300, 900, 1500]),
        memory=rng.choice([0, 100, 700]),
        disk=rng.choice([0, 0, 0, 60]),
        gpu=gpu,
        **more,
    )


def some_job(rng: random.Random, name: str) -> JobSpec:
    kind = rng.choice([JobType.SERVICE] * 3 + [JobType.BATCH] * 2 + [JobType.SYSTEM])
    budgets = [None, None, None, Disruption(), Disruption(max_unavailable=50, percent=True)]
    return JobSpec(
        name=name,
        namespace=rng.choice(["default", "default", "team"]),
        type=kind,
        priority=rng.choice([20, 50, 50, 80]),
        groups=tuple(some_group(rng, of, kind) for of in rng.choice([("a",), ("a",), ("a", "b")])),
        placement=rng.choice(["", "", *registry.names()]),
        on_disconnect=rng.choice(list(OnDisconnect)),
        disruption=rng.choice([*budgets, Disruption(max_unavailable=0)]),
        unpreemptible=rng.random() < 0.1,
    )


# ---------------------------------------------------------------------------- what happens


class Judged(Real):
    """What is planned goes in whole, and no invariant breaks."""

    def do(self, command: Command) -> Outcome:
        outcome = super().do(command)
        if isinstance(command, ApplyPlan):
            assert answer_of(outcome).rejected == ()
            assert check(self.state) == []
        return outcome


def rich_cluster(seed: int) -> Real:
    real = Judged(seed)
    rng = real.random
    real.do(SetFeatureLevel(level=HIGHEST))
    quota = Quota(cpu_millis=6000, allocations=9, gpu_millis=3000) if rng.random() < 0.5 else Quota()
    real.do(WriteNamespace(name="team", kind=NamespaceWrite.CREATE, quota=quota))
    for number in range(rng.randint(2, 7)):
        real.do(RegisterNode(node=some_node(rng, f"n{number}"), identity=f"n{number}"))
    for _ in range(rng.randint(1, 9)):
        disturb(real)
        if rng.random() < 0.8:
            real.lead()
            real.obey(rng.choice([0.3, 1.0, 1.0]))
    return real


def disturb(real: Real) -> None:
    rng, state = real.random, real.state
    rows = state.table.live_rows().tolist()
    if rows and rng.random() < 0.2:
        row = rng.choice(rows)
        if rng.random() < 0.3:
            seen = allocation(state, row)
            of = {"namespace": seen.id.namespace, "name": seen.id.job, "group": seen.id.group}
            real.do(MoveAllocation(**of, ordinal=seen.id.ordinal, attempt=seen.attempt))
        elif state.table.state[row] == AllocState.RUNNING:
            real.observe(row, rng.choice([AllocState.COMPLETE, AllocState.FAILED]))
        else:
            real.observe(row, AllocState.FAILED, start_failed=True)
    else:
        real.do(some_command(real))
    real.now_ms += rng.choice([10, 3_000, 700_000])


def some_command(real: Real) -> Command:
    rng = real.random
    node_id, name, namespace = (
        rng.choice(sorted(real.state.nodes)),
        f"j{rng.randint(0, 5)}",
        rng.choice(["default", "team"]),
    )
    record = real.state.nodes[node_id]
    mark = NodeMark(node_id=node_id, register_index=record.register_index)
    devices = [device.id for device in record.spec.devices]
    spec = some_job(rng, name)
    commands: list[Command] = [
        *[SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"u{real.state.index}"),))] * 9,
        ScaleJob(namespace=namespace, name=name, group="a", count=rng.randint(0, 6)),
        RestartJob(namespace=namespace, name=name),
        StopJob(namespace=namespace, name=name),
        CordonNode(node_id=node_id, cordoned=rng.random() < 0.5),
        DrainNode(node_id=node_id),
        MarkNodes(lost=(mark,)),
        MarkNodes(back=(mark,)),
        TaintNode(node_id=node_id, put=(some_taint(rng),)),
        TaintNode(node_id=node_id, drop=(TaintKey(key=rng.choice("kl")),)),
        *[CordonDevice(node_id=node_id, device_id=one, cordoned=rng.random() < 0.7) for one in devices[:2]],
    ]
    return rng.choice(commands)


# ---------------------------------------------------------------------------- the rules, naively


def rows_on(state: State, node: Node) -> list[int]:
    return [row for row in state.table.live_rows().tolist() if int(state.table.node[row]) == node.slot]


def refusal(state: State, node: Node, spec: JobSpec, group: GroupSpec) -> str:
    """The first reason against one more instance there, or ""."""
    return (
        unsuitable(node, spec, group) or next(shortages(state, node, group), "") or misplaced(state, node, spec, group)
    )


def unsuitable(node: Node, spec: JobSpec, group: GroupSpec) -> str:
    if node.status is not NodeStatus.READY or node.cordoned or node.draining:
        return "closed"
    if not {task.driver_name for task in group.tasks} <= set(node.spec.drivers):
        return "driver"
    if repelling(node.taints, spec.tolerations + group.tolerations) is not None:
        return "taint"
    return "" if matches(node.spec, spec.constraints + group.constraints) else "label"


def shortages(state: State, node: Node, group: GroupSpec) -> Iterator[str]:
    table, rows, capacity, need = state.table, rows_on(state, node), node.spec.capacity, group.resources
    for name in ("cpu_millis", "memory_mib", "disk_mib"):
        if sum(int(getattr(table, name)[row]) for row in rows) + getattr(need, name) > getattr(capacity, name):
            yield name
    if need.gpus is not None and not devices_do(state, node, need.gpus):
        yield "gpus"
    used: Counter[str] = Counter()
    for row in rows:
        used.update(dict(table.custom.get(row, ())))
    if any(amount > dict(capacity.custom).get(name, 0) - used[name] for name, amount in need.custom):
        yield "custom"
    engine = node.spec.engine_id
    host = [one for one in state.nodes.values() if one.slot == node.slot or (engine and one.spec.engine_id == engine)]
    taken = {port for one in host for row in rows_on(state, one) for port in table.ports.get(row, ())}
    fixed = {port.static for port in group.ports if port.static}
    left = set(range(node.spec.port_min, node.spec.port_max + 1)) - taken - fixed
    if fixed & taken or len(left) < sum(1 for port in group.ports if not port.static):
        yield "port"


def devices_do(state: State, node: Node, request: DeviceRequest) -> bool:
    used: Counter[int] = Counter()
    for row in rows_on(state, node):
        for at in range(len(node.spec.devices)):
            if int(state.table.device_mask[row]) >> at & 1:
                used[at] += int(state.table.gpu_millis[row])
    usable = [
        device
        for at, device in enumerate(node.spec.devices)
        if not mismatch(device, request)
        and device.id not in node.closed_devices
        and used[at] + request.gpu_millis <= 1000
    ]
    return any(linked(some, request.link) for some in itertools.combinations(usable, request.count))


def where(state: State, namespace: str, job: str, group: str) -> list[Node]:
    """The node of each live instance of the group ("": of the job)."""
    found = []
    for row in state.table.live_rows().tolist():
        spec: JobSpec = state.job_at[int(state.table.job[row])].spec
        name = state.ordinals.names[int(state.table.gid[row])][1]
        slot = int(state.table.node[row])
        if (spec.namespace, spec.name) == (namespace, job) and group in ("", name) and slot not in state.forgotten:
            found.append(state.node_at[slot])
    return found


def misplaced(state: State, node: Node, spec: JobSpec, group: GroupSpec) -> str:
    for one in spec.affinity + group.affinity:
        if not one.required or one.constraint is not None:
            continue
        whom = one.group if one.job or one.group else group.name
        there = where(state, spec.namespace, one.job or spec.name, whom)
        value = attribute_of(node.spec, one.topology)
        near = value is not None and any(attribute_of(other.spec, one.topology) == value for other in there)
        begins = one.job in ("", spec.name) and whom in ("", group.name) and not there and value is not None
        if near if one.weight < 0 else not (near or begins):
            return "affinity"
    for spread in spec.spread + group.spread:
        if not spread.required:
            continue
        value = attribute_of(node.spec, spread.attribute)
        mine = where(state, spec.namespace, spec.name, group.name)
        counts = Counter(attribute_of(other.spec, spread.attribute) for other in mine)
        open_nodes = [one for one in state.nodes.values() if not unsuitable(one, spec, group)]
        values = {attribute_of(one.spec, spread.attribute) for one in open_nodes} - {None}
        least = min((counts[one] for one in values), default=0)
        if value is None or counts[value] + 1 - least > spread.max_skew:
            return "spread"
    return ""


def has_one(state: State, node: Node, job: Job, group: str) -> bool:
    """Whether an attempt of the group is on the node, be it over: a system job's instance there may wait or have
    failed."""
    gid = state.ordinals.gids[(job.slot, group)]
    return any(int(state.table.node[row]) == node.slot for row in state.ordinals.rows(gid).tolist() if row >= 0)
