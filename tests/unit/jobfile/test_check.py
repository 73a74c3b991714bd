"""The server's check: the same rules for whatever arrives, without YAML or pydantic."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.model import (
    Constraint,
    ConstraintOperator,
    DeviceRequest,
    GangSpec,
    GroupSpec,
    JobSpec,
    Link,
    MountSpec,
    PortSpec,
    Resources,
    RestartPolicy,
    StopPolicy,
    TaskSpec,
)
from orchestrator.jobfile.check import MAX_PROBLEMS, dotted, find, normalise, problems
from orchestrator.jobfile.dump import dump
from orchestrator.jobfile.file import load

TASK = TaskSpec(name="main", image="nginx")
GROUP = GroupSpec(name="main", tasks=(TASK,))
GOOD = normalise(JobSpec(name="web", groups=(GROUP,)))


def with_task(**changes: object) -> JobSpec:
    return replace(GOOD, groups=(replace(GOOD.groups[0], tasks=(replace(GOOD.groups[0].tasks[0], **changes),)),))  # type: ignore[arg-type]


def test_a_good_job_has_no_problems() -> None:
    assert problems(GOOD, placements=["binpack"]) == []


def test_what_is_unset_gets_its_default() -> None:
    bare = JobSpec(
        namespace="",
        name="web",
        groups=(
            GroupSpec(
                name="",
                tasks=(
                    TaskSpec(
                        name="",
                        image="x",
                        env=(("B", "1"), ("A", "2")),
                        stop=StopPolicy(signal="", timeout_ms=5),
                        resources=Resources(gpus=DeviceRequest(count=1, gpu_millis=0)),
                    ),
                ),
                ports=(PortSpec(label="", to=80),),
            ),
        ),
    )
    made = normalise(bare)
    (group,) = made.groups
    (task,) = group.tasks
    assert (made.namespace, group.name, task.name, group.ports[0].label) == ("default", "main", "main", "80")
    assert (task.stop.signal, task.env) == ("SIGTERM", (("A", "2"), ("B", "1")))
    assert task.resources == Resources(cpu_millis=100, memory_mib=128, gpus=DeviceRequest(count=1))
    assert problems(made, placements=None) == []
    assert normalise(made) == made


def test_a_problem_names_its_place() -> None:
    bad = replace(
        GOOD,
        groups=(replace(GOOD.groups[0], tasks=(TASK, replace(TASK, name="b", resources=Resources(cpu_millis=-5)))),),
    )
    found = problems(normalise(bad), placements=None)
    assert found == ["groups[0].tasks[1].resources.cpu_millis: must be between 1m and 10000 cores, not -5m"]


def test_an_unknown_placement_lists_those_that_exist() -> None:
    (text,) = problems(replace(GOOD, placement="binpak"), placements=["binpack", "spread"])
    assert text == "placement: no such placement 'binpak'; did you mean 'binpack'? (there are: binpack, spread)"


def test_without_a_list_any_placement_of_a_good_name_passes() -> None:
    assert problems(replace(GOOD, placement="mine"), placements=None) == []


def test_a_hostile_job_gets_a_bounded_answer() -> None:
    hostile = replace(GOOD, groups=tuple(GroupSpec(name=f"../{n}") for n in range(10_000)))
    assert len(find(hostile, placements=None)) == MAX_PROBLEMS


def test_the_check_loads_neither_pydantic_nor_yaml() -> None:
    heavy = "{'pydantic', 'yaml', 'grpc', 'asyncio'}"
    code = f"import sys, orchestrator.jobfile.check; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_limits_hold_for_env_and_words() -> None:
    assert any(
        "bytes in all" in text
        for text in problems(with_task(env=tuple((f"K{n:03}", "x" * 2000) for n in range(200))), placements=None)
    )
    assert any("args: at most" in text for text in problems(with_task(args=("a",) * 1001), placements=None))
    assert any("NUL" in text for text in problems(with_task(command=("a\0",)), placements=None))


INTS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
TEXT = st.text(max_size=20)
TASKS = st.builds(
    TaskSpec,
    name=TEXT,
    driver=TEXT,
    image=TEXT,
    command=st.lists(TEXT, max_size=2).map(tuple),
    env=st.dictionaries(TEXT, TEXT, max_size=2).map(lambda pairs: tuple(sorted(pairs.items()))),
    resources=st.builds(
        Resources,
        cpu_millis=INTS,
        memory_mib=INTS,
        disk_mib=INTS,
        gpus=st.none()
        | st.builds(
            DeviceRequest,
            count=INTS,
            gpu_millis=INTS,
            models=st.lists(TEXT, max_size=2).map(tuple),
            compute_capability=TEXT,
            driver_version=TEXT,
            mig=TEXT,
            link=st.sampled_from(Link),
        ),
    ),
    stop=st.builds(StopPolicy, signal=TEXT, timeout_ms=INTS),
    mounts=st.lists(st.builds(MountSpec, source=TEXT, target=TEXT), max_size=2).map(tuple),
)
CONSTRAINTS = st.lists(
    st.builds(
        Constraint,
        attribute=TEXT,
        operator=st.sampled_from(ConstraintOperator),
        values=st.lists(TEXT, max_size=2).map(tuple),
    ),
    max_size=2,
).map(tuple)
ANY_JOB = st.builds(
    JobSpec,
    name=TEXT,
    namespace=TEXT,
    priority=INTS,
    placement=TEXT,
    constraints=CONSTRAINTS,
    groups=st.lists(
        st.builds(
            GroupSpec,
            name=TEXT,
            count=INTS,
            tasks=st.lists(TASKS, max_size=2).map(tuple),
            ports=st.lists(st.builds(PortSpec, label=TEXT, to=INTS, static=INTS), max_size=2).map(tuple),
            restart=st.builds(RestartPolicy, attempts=INTS, delay_ms=INTS),
            constraints=CONSTRAINTS,
            gang=st.none() | st.builds(GangSpec),
        ),
        max_size=2,
    ).map(tuple),
)


@given(ANY_JOB)
def test_no_job_whatever_makes_the_check_raise(spec: JobSpec) -> None:
    for text in problems(normalise(spec), placements=["binpack"]):
        assert text


VALUE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@given(
    image=st.sampled_from(["nginx", "a.b/c:1.2", "x@sha256:00"]),
    env=st.dictionaries(st.sampled_from(["A", "B_C", "d"]), VALUE, max_size=3),
    args=st.lists(VALUE | st.sampled_from(["1.10", "null", "on", "~", "0x1", "- a", "1e5"]), max_size=3),
    cpu=st.integers(1, 10_000_000),
    memory=st.integers(1, 2**30),
    stop_ms=st.integers(0, 3_600_000),
    count=st.integers(0, 100_000),
    gang=st.none() | st.builds(GangSpec),
    gpus=st.none()
    | st.builds(
        DeviceRequest,
        count=st.integers(2, 64),
        memory_mib=st.integers(0, 100_000),
        models=st.lists(st.sampled_from(["A100", "h 100"]), max_size=2).map(tuple),
        compute_capability=st.sampled_from(["", ">= 8.0", "> 7, < 9.0", "= 8.6"]),
        driver_version=st.sampled_from(["", ">= 535.104.05"]),
        mig=st.sampled_from(["", "1g.10gb", "3g.20gb+me"]),
        link=st.sampled_from(Link),
    ),
)
def test_any_valid_job_survives_dump_and_load(
    image: str,
    env: dict[str, str],
    args: list[str],
    cpu: int,
    memory: int,
    stop_ms: int,
    count: int,
    gang: GangSpec | None,
    gpus: DeviceRequest | None,
) -> None:
    task = replace(
        TASK,
        image=image,
        env=tuple(sorted(env.items())),
        args=tuple(args),
        resources=Resources(cpu_millis=cpu, memory_mib=memory, gpus=gpus),
        stop=StopPolicy(timeout_ms=stop_ms),
    )
    count = count if gang is None else count % 2001
    spec = normalise(JobSpec(name="web", groups=(replace(GROUP, tasks=(task,), count=count, gang=gang),)))
    assert problems(spec, placements=None) == []
    assert load(dump(spec)) == spec


def test_a_name_that_a_terminal_would_not_show_is_quoted_and_a_long_one_cut() -> None:
    assert dotted(("groups", 0, "env", "\x1b[31m")) == "groups[0].env.'\\x1b[31m'"
    assert dotted(("env", "x" * 5000)) == f"env.{'x' * 128}..."
    assert dotted(("groups", 0, "tasks", 1, "image")) == "groups[0].tasks[1].image"
    said = problems(replace(load("{name: a, command: x}"), placement="\ufeff"), placements=["spread"])
    assert said == [r"placement: no such placement '\ufeff' (there are: spread)"]
