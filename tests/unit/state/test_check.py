"""The bounds that apply insists on, whoever made a command: what is just allowed, and what is one too many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.contract.batch import After, Origin, ParameterizedSpec, PeriodicSpec
from orchestrator.contract.health import CheckKind, CheckSpec, HealthSpec
from orchestrator.contract.model import (
    Affinity,
    Constraint,
    ConstraintOperator,
    Device,
    DeviceRequest,
    Disruption,
    GangSpec,
    GroupSpec,
    JobSpec,
    JobType,
    NodeSpec,
    PortSpec,
    Protocol,
    Resources,
    RestartPolicy,
    Spread,
    StopPolicy,
    Taint,
    TaintEffect,
    TaskSpec,
    Toleration,
)
from orchestrator.contract.rollouts import UpdateSpec
from orchestrator.state.check import gang_problem, id_problem, job_problem, name_problem, node_problem, variable_problem
from tests.unit.state.kit import group, job, node

AMOUNT, INT32 = 2**40, 2**31 - 1
ONE = Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=("b",))
CHECK = CheckSpec(kind=CheckKind.TCP)
API, TASK = group(), group().tasks[0]
BATCH = job(kind=JobType.BATCH)
N1 = node("n1")

Problem = Callable[[int], str]


def of_job(**said: object) -> str:
    return job_problem(replace(job(), **said))  # type: ignore[arg-type]


def of_group(**said: object) -> str:
    return of_job(groups=(replace(API, **said),))  # type: ignore[arg-type]


def of_task(**said: object) -> str:
    return of_group(tasks=(replace(TASK, **said),))  # type: ignore[arg-type]


def of_need(**said: object) -> str:
    return of_task(resources=replace(TASK.resources, **said))  # type: ignore[arg-type]


def of_gpus(**said: object) -> str:
    return of_need(gpus=replace(DeviceRequest(count=1), **said))  # type: ignore[arg-type]


def of_update(**said: object) -> str:
    return of_group(update=UpdateSpec(**said))  # type: ignore[arg-type]


def of_node(**said: object) -> str:
    return node_problem(replace(N1, **said))  # type: ignore[arg-type]


def of_capacity(**said: object) -> str:
    return of_node(capacity=replace(N1.capacity, **said))  # type: ignore[arg-type]


def of_device(**said: object) -> str:
    return of_node(devices=(Device(id="gpu-0"), Device(id="gpu-1", **said)))  # type: ignore[arg-type]


def names(count: int, text: str = "a{}") -> tuple[str, ...]:
    return tuple(text.format(at) for at in range(count))


def custom(count: int) -> tuple[tuple[str, int], ...]:
    return tuple((name, 1) for name in names(count))


def checks(field: str) -> dict[str, tuple[int, int, Problem, str]]:
    label = f"check's {field.removesuffix('_ms')}" + (" in ms" if field.endswith("_ms") else "")
    kinds = ("startup", "liveness", "readiness")
    return {
        f"{kind} {field}": (
            0, INT32, lambda n, k=kind: of_task(health=HealthSpec(**{k: replace(CHECK, **{field: n})})), label,  # type: ignore[misc]
        )
        for kind in kinds
    }  # fmt: skip


# Lowest and highest that may be, whom to ask, and what is said of others.
RANGES: dict[str, tuple[int, int, Problem, str]] = {
    "priority": (0, 100, lambda n: of_job(priority=n), "priority"),
    "groups": (1, 100, lambda n: of_job(groups=tuple(group(name) for name in names(n))), "number of groups"),
    "job's constraints": (0, 1_000, lambda n: of_job(constraints=(ONE,) * n), "number of constraints"),
    "unavailable": (0, 100_000, lambda n: of_job(disruption=Disruption(max_unavailable=n)), "max_unavailable"),
    "unavailable per cent": (
        0,
        100,
        lambda n: of_job(disruption=Disruption(max_unavailable=n, percent=True)),
        "max_unavailable",
    ),
    "job's affinities": (0, 1_000, lambda n: of_job(affinity=(Affinity(constraint=ONE),) * n), "number of affinities"),
    "job's spreads": (0, 1_000, lambda n: of_job(spread=(Spread(attribute="zone"),) * n), "number of spreads"),
    "job's tolerations": (0, 1_000, lambda n: of_job(tolerations=(Toleration(),) * n), "number of tolerations"),
    "affinity's weight": (-100, 100, lambda n: of_job(affinity=(Affinity(), Affinity(weight=n))), "weight"),
    "spread's weight": (
        0,
        100,
        lambda n: of_job(spread=(Spread(attribute="a"), Spread(attribute="b", weight=n))),
        "weight",
    ),
    "skew": (1, INT32, lambda n: of_job(spread=(Spread(attribute="a"), Spread(attribute="b", max_skew=n))), "max_skew"),
    "delay": (0, AMOUNT, lambda n: of_job(tolerations=(Toleration(), Toleration(delay_ms=n))), "delay_ms"),
    "cron": (
        1,
        32,
        lambda n: job_problem(replace(BATCH, periodic=PeriodicSpec(cron=("@daily",) * n))),
        "number of cron",
    ),
    "required meta": (
        0,
        64,
        lambda n: job_problem(replace(BATCH, parameterized=ParameterizedSpec(meta_required=names(n)))),
        "number of meta keys",
    ),
    "all meta": (
        0,
        62,
        lambda n: job_problem(
            replace(BATCH, parameterized=ParameterizedSpec(meta_required=("x", "y"), meta_optional=names(n)))
        ),
        "number of meta keys",
    ),
    "count": (0, 100_000, lambda n: of_group(count=n), "count"),
    "tasks": (1, 32, lambda n: of_group(tasks=tuple(replace(TASK, name=name) for name in names(n))), "number of tasks"),
    "ports": (0, 64, lambda n: of_group(ports=tuple(PortSpec(label=name) for name in names(n))), "number of ports"),
    "attempts": (0, INT32, lambda n: of_group(restart=RestartPolicy(attempts=n)), "restart attempts"),
    "restart delay": (0, INT32, lambda n: of_group(restart=RestartPolicy(delay_ms=n)), "restart delay in ms"),
    "group's constraints": (0, 1_000, lambda n: of_group(constraints=(ONE,) * n), "number of constraints"),
    "group's affinities": (0, 1_000, lambda n: of_group(affinity=(Affinity(),) * n), "number of affinities"),
    "datasets": (0, 1_000, lambda n: of_group(datasets=names(n)), "number of datasets"),
    "locality": (0, 100, lambda n: of_group(locality=n), "locality"),
    "network mode": (0, 128, lambda n: of_group(network_mode="n" * n), "length of the network mode"),
    "port": (0, 65_535, lambda n: of_group(ports=(PortSpec(label="a"), PortSpec(label="b", to=n))), "port b"),
    "static port": (
        0,
        65_535,
        lambda n: of_group(ports=(PortSpec(label="a"), PortSpec(label="b", static=n))),
        "static port b",
    ),
    "timeout": (0, AMOUNT, lambda n: of_task(timeout_ms=n), "timeout in ms"),
    "stop timeout": (0, INT32, lambda n: of_task(stop=StopPolicy(timeout_ms=n)), "stop timeout in ms"),
    "surge": (0, 100_000, lambda n: of_update(max_surge=n), "max_surge"),
    "rollout's unavailable": (0, 100_000, lambda n: of_update(max_unavailable=n), "update's max_unavailable"),
    "canaries": (0, 100_000, lambda n: of_update(canaries=n), "canaries"),
    "min_ready": (0, INT32, lambda n: of_update(min_ready_ms=n), "min_ready in ms"),
    "deadline": (0, INT32, lambda n: of_update(progress_deadline_ms=n), "progress deadline in ms"),
    **{
        name: case
        for field in ("interval_ms", "timeout_ms", "grace_ms", "successes", "failures")
        for name, case in checks(field).items()
    },
    "cpu": (0, AMOUNT, lambda n: of_need(cpu_millis=n), "cpu_millis"),
    "memory": (0, AMOUNT, lambda n: of_need(memory_mib=n), "memory_mib"),
    "disk": (0, AMOUNT, lambda n: of_need(disk_mib=n), "disk_mib"),
    "custom": (0, 64, lambda n: of_need(custom=custom(n)), "number of custom resources"),
    "amount": (0, AMOUNT, lambda n: of_need(custom=(("a", 1), ("b", n))), "resource b"),
    "gpus": (0, 64, lambda n: of_gpus(count=n), "gpu count"),
    "share": (1, 1_000, lambda n: of_gpus(gpu_millis=n), "gpu_millis"),
    "gpu memory": (0, AMOUNT, lambda n: of_gpus(memory_mib=n), "gpu memory_mib"),
    "capability asked for": (
        0,
        246,
        lambda n: of_gpus(compute_capability="8" * n, driver_version="5" * 10),
        "length of a gpu condition",
    ),
    "profile asked for": (0, 64, lambda n: of_gpus(mig="1" * n), "length of the mig profile"),
    # Nodes.
    "address": (0, 256, lambda n: of_node(address="a" * n), "length of the address"),
    "engine": (0, 256, lambda n: of_node(engine_id="a" * n), "length of the engine id"),
    "version": (0, 256, lambda n: of_node(version="a" * n), "length of the version"),
    "boot": (0, 256, lambda n: of_node(boot_id="a" * n), "length of the boot id"),
    "drivers": (0, 64, lambda n: of_node(drivers=names(n)), "number of drivers"),
    "labels": (0, 1_000, lambda n: of_node(labels=tuple((name, "") for name in names(n))), "number of labels"),
    "devices": (0, 64, lambda n: of_node(devices=tuple(Device(id=name) for name in names(n))), "number of devices"),
    "sick devices": (
        0,
        64,
        lambda n: of_node(sick_devices=tuple((name, "hot") for name in names(n))),
        "number of sick devices",
    ),
    "why sick": (1, 256, lambda n: of_node(sick_devices=(("a", "hot"), ("b", "h" * n))), "length of why"),
    "node's cpu": (0, AMOUNT, lambda n: of_capacity(cpu_millis=n), "cpu_millis"),
    "node's memory": (0, AMOUNT, lambda n: of_capacity(memory_mib=n), "memory_mib"),
    "node's disk": (0, AMOUNT, lambda n: of_capacity(disk_mib=n), "disk_mib"),
    "node's custom": (0, 64, lambda n: of_capacity(custom=custom(n)), "number of custom resources"),
    **{
        field: (0, 256, lambda n, field=field: of_node(**{field: "a" * n}), "length of arch, os, zone")  # type: ignore[misc]
        for field in ("arch", "os", "kernel", "datacenter", "region", "zone", "rack")
    },
    "taints": (
        0,
        64,
        lambda n: of_node(taints=tuple(Taint(key=k, effect=TaintEffect.NO_SCHEDULE) for k in names(n))),
        "number of taints",
    ),
    "images": (0, 64, lambda n: of_node(images=names(n)), "number of images"),
    "node's datasets": (0, 1_000, lambda n: of_node(datasets=names(n)), "number of datasets"),
    "image": (1, 512, lambda n: of_node(images=("a", "b" * n)), "length of an image"),
    "dataset": (1, 256, lambda n: of_node(datasets=("a", "b" * n)), "length of a dataset"),
    "lowest port": (1, 31_999, lambda n: of_node(port_min=n), "port"),
    "highest port": (20_000, 65_535, lambda n: of_node(port_max=n), "highest port"),
    "device's memory": (0, AMOUNT, lambda n: of_device(memory_mib=n), "device memory_mib"),
    "island": (0, INT32, lambda n: of_device(island=n), "device island"),
    "numa": (-1, INT32, lambda n: of_device(numa=n), "device numa"),
    "pcie": (0, INT32, lambda n: of_device(pcie=n), "device pcie"),
    "capability": (0, 64, lambda n: of_device(compute_capability="8" * n), "length of the device's compute capability"),
    "device's driver": (0, 64, lambda n: of_device(driver_version="5" * n), "length of the device's driver version"),
    "profile": (0, 64, lambda n: of_device(mig="1" * n), "length of the device's mig profile"),
    "parent": (0, 256, lambda n: of_device(parent="p" * n), "length of the device's parent"),
}


COUNTED = ("number of", "length of")
"""There are never fewer than none of these."""


@pytest.mark.parametrize("name", RANGES)
def test_what_is_within_its_bounds_is_no_problem_and_one_beyond_is_said(name: str) -> None:
    low, high, problem, label = RANGES[name]
    assert [problem(low), problem(high)] == ["", ""]
    assert label in problem(high + 1)
    if not (low == 0 and label.startswith(COUNTED)):
        assert label in problem(low - 1)


def test_a_node_gives_away_at_least_one_port() -> None:
    for low, high in ((1, 1), (65_535, 65_535), (20, 21)):
        assert of_node(port_min=low, port_max=high) == ""
    assert of_node(port_min=21, port_max=20) == "highest port must be from 21 to 65535, not 20"


# ---------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("problem", "good", "bad"),
    [
        (
            lambda name: name_problem("thing", name),
            "a|Z9|0|a.b_c-d|" + "a" * 128,
            "|.a|-a|_a|a b|a/b|ä|a\n|" + "a" * 129,
        ),
        (lambda name: id_problem("thing", name), "a|!~|-|/|" + "a" * 256, "|a b|ä|a\n|" + "a" * 257),
        (variable_problem, "a|_a|9|a.b/c-d_e|" + "a" * 256, "|.a|-a|/a|a b|ä|a\n|" + "a" * 257),
    ],
    ids=["name", "id", "variable"],
)
def test_names_have_letters_that_everybody_can_write(problem: Callable[[str], str], good: str, bad: str) -> None:
    assert {name: problem(name) for name in good.split("|") if problem(name)} == {}
    assert [name for name in bad.split("|") if not problem(name)] == []


@pytest.mark.parametrize(
    ("problem", "label"),
    [
        (lambda: of_job(namespace="a b"), "namespace"),
        (lambda: of_job(name="a b"), "job name"),
        (lambda: of_job(name="a/periodic-1"), "job name"),
        (lambda: of_group(name="a b"), "group name"),
        (lambda: of_task(name="a b"), "task name"),
        (lambda: of_need(custom=(("a", 1), ("b c", 1))), "resource"),
        (lambda: of_node(id="a b"), "node id"),
        (lambda: of_node(name=""), "node name"),
        (lambda: of_node(sick_devices=(("a", "hot"), ("b c", "hot"))), "sick device"),
        (lambda: of_node(devices=(Device(id="a"), Device(id="b c"))), "device id"),
        (lambda: of_node(taints=(Taint(key="a b", effect=TaintEffect.NO_SCHEDULE),)), "a taint's key"),
        (lambda: of_capacity(custom=(("b c", 1),)), "resource"),
    ],
)
def test_every_name_is_looked_at(problem: Callable[[], str], label: str) -> None:
    assert problem().removeprefix("group 'api': ").removeprefix("group 'a b': ").startswith(label)


def test_nothing_is_called_like_another() -> None:
    twice = (Taint(key="a", effect=TaintEffect.NO_SCHEDULE), Taint(key="a", value="x", effect=TaintEffect.NO_SCHEDULE))
    assert of_job(groups=(API, group("db"), API)) == "two groups are called 'api'"
    assert of_group(tasks=(TASK, TASK)) == "group 'api': two tasks are called 'main'"
    assert of_group(ports=(PortSpec(label="a"), PortSpec(label="a"))) == "group 'api': two ports are called 'a'"
    assert of_node(devices=(Device(id="a"), Device(id="a"))) == "two devices are called 'a'"
    assert of_node(sick_devices=(("a", "hot"), ("a", "cold"))) == "two sick devices are called 'a'"
    assert of_node(taints=twice) == "two taints are called 'a:NO_SCHEDULE'"
    assert of_node(taints=(twice[0], replace(twice[0], effect=TaintEffect.NO_EXECUTE))) == ""


def test_a_host_port_is_one_protocols_and_one_task_has_the_devices() -> None:
    def ports(*listed: tuple[int, Protocol]) -> str:
        return of_group(
            ports=tuple(
                PortSpec(label=f"p{at}", static=static, protocol=kind) for at, (static, kind) in enumerate(listed)
            )
        )

    assert ports((80, Protocol.TCP), (80, Protocol.UDP), (0, Protocol.TCP), (0, Protocol.TCP)) == ""
    assert "same host port" in ports((80, Protocol.TCP), (81, Protocol.TCP), (80, Protocol.TCP))
    gpu = replace(TASK, resources=Resources(gpus=DeviceRequest(count=1)))
    assert of_group(tasks=(gpu, replace(TASK, name="b"))) == ""
    assert "at most one task" in of_group(tasks=(gpu, replace(gpu, name="b")))


def test_the_first_problem_of_a_group_is_told_with_the_group() -> None:
    bad = PortSpec(label="a", static=-1), PortSpec(label="b", static=-1)
    gpus = tuple(replace(TASK, name=name, resources=Resources(gpus=DeviceRequest(count=1))) for name in "xy")
    assert of_group(ports=bad, tasks=gpus).startswith("group 'api': static port a ")
    assert of_group(ports=(replace(bad[0], to=-1), bad[1])).startswith("group 'api': port a ")
    same = tuple(PortSpec(label=name, static=80) for name in "ab")
    assert "same host port" in of_group(ports=same, tasks=gpus)
    assert of_job(groups=(API, group("b" * 100 + " "))).startswith(f"group '{'b' * 64}': group name")


# ---------------------------------------------------------------------------- gangs and batch jobs


def test_a_gang_is_small_enough_for_one_entry_and_of_no_system_job() -> None:
    gang = GangSpec()
    assert gang_problem(group(count=2_000, gang=gang), JobType.BATCH) == ""
    assert "at most 2000 instances, not 2001" in gang_problem(group(count=2_001, gang=gang), JobType.BATCH)
    assert gang_problem(group(count=2_001), JobType.BATCH) == ""
    assert "a system job cannot be a gang" in gang_problem(group(gang=gang), JobType.SYSTEM)
    assert "gang" in of_job(groups=(API, group("ring", 2_001, gang=gang)))


ORIGIN = Origin(job="nightly", uid="u", version=1)
AFTER = replace(group("b"), after=(After(group="api"),))
NIGHTLY, DISPATCHED = PeriodicSpec(cron=("@daily",)), ParameterizedSpec()


def batch(*groups: GroupSpec, **said: object) -> str:
    return job_problem(replace(BATCH, groups=groups or (API,), **said))  # type: ignore[arg-type]


def test_only_batch_jobs_have_an_order_a_schedule_or_runs() -> None:
    run: JobSpec = replace(BATCH, name="nightly/periodic-1", origin=ORIGIN)
    good = (
        replace(BATCH, groups=(API, AFTER)),
        replace(BATCH, periodic=NIGHTLY),
        replace(BATCH, parameterized=DISPATCHED),
        run,
    )
    for spec in good:
        assert job_problem(spec) == ""
        assert job_problem(replace(spec, type=JobType.SERVICE)).startswith("only a batch job has")
    assert "in a circle" in batch(AFTER)
    assert "in a circle" in batch(API, AFTER, replace(group("c"), after=(After(group="c"),)))
    assert "in a circle" in batch(AFTER, periodic=NIGHTLY)


def test_a_template_is_of_one_kind_and_no_run() -> None:
    assert batch(periodic=NIGHTLY, parameterized=DISPATCHED) == "a job is periodic or parameterized, not both"
    for said in ({"periodic": NIGHTLY}, {"parameterized": DISPATCHED}):
        assert batch(name="nightly/periodic-1", origin=ORIGIN, **said) == "a run is no template"


def test_a_run_is_named_after_its_template() -> None:
    for name in ("nightly/periodic-1", "nightly/dispatch-1-0123abcd"):
        assert batch(name=name, origin=ORIGIN) == ""
    for name in ("nightly", "nightly/", "nightly/other", "a b/periodic-1", "/periodic-1"):
        assert batch(name=name, origin=ORIGIN)


def test_a_schedule_can_be_shown() -> None:
    long, fits = "x" * 257, "x" * 256
    assert batch(periodic=PeriodicSpec(cron=(fits, fits), time_zone=fits)) == ""
    assert "is too long" in batch(periodic=PeriodicSpec(cron=("@daily", long)))
    assert "is too long" in batch(periodic=PeriodicSpec(cron=("@daily",), time_zone=long))


def test_a_task_with_devices_is_small_enough_in_all_else() -> None:
    assert "cpu_millis" in of_need(cpu_millis=-1, gpus=DeviceRequest(count=1))
    assert "cpu_millis" in of_need(cpu_millis=-1, gpus=DeviceRequest(count=-1))


def test_what_is_right_is_no_problem() -> None:
    assert job_problem(job()) == node_problem(N1) == ""
    assert node_problem(NodeSpec(id="n", name="n")) == ""
    assert of_task(health=HealthSpec(startup=CHECK, liveness=CHECK, readiness=CHECK)) == ""
    assert of_task(health=HealthSpec()) == of_job(tolerations=(Toleration(delay_ms=None),)) == ""
    assert TaskSpec(name="a").timeout_ms == 0
