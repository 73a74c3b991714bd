"""Counting what is typically asked for: exact, bounded, fading, the same on every peer and after a restore."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.batch import ParameterizedSpec
from orchestrator.contract.model import (
    DeviceRequest,
    GroupSpec,
    JobSpec,
    JobType,
    LimitsChange,
    Quota,
    Resources,
    TaskSpec,
)
from orchestrator.replication.snapshot_codec import decode_snapshot, encode_snapshot
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    Applied,
    Command,
    Entry,
    JobSubmission,
    NamespaceWrite,
    Outcome,
    Rejected,
    RestartJob,
    ScaleJob,
    SetLimits,
    StopJob,
    SubmitJobs,
    WriteNamespace,
)
from orchestrator.state.snapshot import capture, restore, state_hash
from orchestrator.state.state import State, new_state
from orchestrator.state.typical import CLASSES_MAX, STEP_MAX, TOTAL_MAX, Shape, Typical, problem
from orchestrator.state.views import cluster_view

GPU = DeviceRequest(count=1, gpu_millis=500, models=("A100",))
SHAPE = Shape(2000, 1, 500, 0, ("A100",))


def spec(name: str = "train", count: int = 3, gpus: DeviceRequest | None = GPU, **more: object) -> JobSpec:
    task = TaskSpec(name="t", command=("true",), resources=Resources(cpu_millis=2000, memory_mib=64, gpus=gpus))
    return replace(JobSpec(name=name, groups=(GroupSpec(name="main", count=count, tasks=(task,)),)), **more)  # type: ignore[arg-type]


def do(state: State, command: Command) -> Outcome:
    return apply(state, Entry(identity="i", request_id="", digest=b"", time_ms=1, command=command))


def submit(state: State, *specs: JobSpec) -> None:
    jobs = tuple(JobSubmission(spec=one, uid=f"uid-{one.name}-{state.index}") for one in specs)
    assert isinstance(do(state, SubmitJobs(jobs=jobs)), Applied)


def test_a_submission_counts_its_instances_and_an_equal_one_counts_nothing() -> None:
    state = new_state()
    submit(state, spec())
    submit(state, spec())
    assert state.typical.shown() == ((SHAPE, 3),)


def test_scaling_up_counts_what_is_new_and_scaling_down_nothing() -> None:
    state = new_state()
    submit(state, spec())
    for count in (10, 4, 6):
        do(state, ScaleJob(namespace="default", name="train", group="", count=count))
    assert dict(state.typical.shown()) == {SHAPE: 3 + 7 + 2}


def test_another_shape_counts_as_a_whole_and_a_restart_not_at_all() -> None:
    state = new_state()
    submit(state, spec())
    do(state, RestartJob(namespace="default", name="train"))
    submit(state, spec(gpus=None))
    assert dict(state.typical.shown()) == {SHAPE: 3, Shape(2000, 0, 0, 0, ()): 3}


def test_what_a_quota_refuses_counts_nothing_and_what_it_allows_counts_once() -> None:
    state = new_state()
    do(state, WriteNamespace(name="default", kind=NamespaceWrite.SET, quota=Quota(allocations=5)))
    submit(state, spec())
    refused = do(state, SubmitJobs(jobs=(JobSubmission(spec=spec(count=6), uid="another"),)))
    assert isinstance(refused, Rejected)
    assert state.typical.shown() == ((SHAPE, 3),)
    submit(state, spec(count=5))
    assert state.typical.shown() == ((SHAPE, 5),)


def test_a_stopped_job_that_is_submitted_again_counts_again() -> None:
    state = new_state()
    submit(state, spec())
    do(state, StopJob(namespace="default", name="train"))
    submit(state, spec())
    assert dict(state.typical.shown()) == {SHAPE: 6}


def test_a_template_counts_nothing_and_all_of_it_counts_once_it_is_an_ordinary_job() -> None:
    state = new_state()
    template = spec(type=JobType.BATCH, parameterized=ParameterizedSpec())
    submit(state, template)
    assert state.typical.shown() == ()
    submit(state, spec(type=JobType.BATCH))
    assert dict(state.typical.shown()) == {SHAPE: 3}
    submit(state, template)
    assert dict(state.typical.shown()) == {SHAPE: 3}


def test_system_jobs_say_nothing() -> None:
    state = new_state()
    submit(state, spec(type=JobType.SYSTEM, count=1))
    assert state.typical.shown() == ()


def test_the_planner_sees_the_counts() -> None:
    state = new_state()
    submit(state, spec())
    assert cluster_view(state).typical == ((SHAPE, 3),)


def test_old_counts_fade_so_that_the_newest_shape_overtakes() -> None:
    typical = Typical()
    old, new = Shape(1, 0, 0, 0, ()), Shape(2, 0, 0, 0, ())
    for _ in range(40):
        typical.add(old, STEP_MAX)
    for _ in range(12):
        typical.add(new, STEP_MAX)
    assert typical.shown()[0][0] == new
    assert sum(typical.counts.values()) <= TOTAL_MAX


def test_one_submission_cannot_blot_out_everything() -> None:
    typical = Typical({SHAPE: 1000})
    typical.add(Shape(1, 0, 0, 0, ()), 10**9)
    assert typical.counts == {SHAPE: 1000, Shape(1, 0, 0, 0, ()): STEP_MAX}


shapes = st.builds(
    Shape,
    st.integers(0, 400),
    st.just(1),
    st.sampled_from([500, 1000]),
    st.just(0),
    st.sampled_from([(), ("a",), ("ab",)]),
)


@given(st.lists(st.tuples(shapes, st.integers(-5, 5000)), max_size=600), st.randoms(use_true_random=False))
def test_it_stays_bounded_and_goes_on_from_a_copy_in_any_order(
    added: list[tuple[Shape, int]], shuffle: random.Random
) -> None:
    typical = Typical()
    for at, (shape, count) in enumerate(added):
        typical.add(shape, count)
        if at % 50 == 0:
            items = list(typical.counts.items())
            shuffle.shuffle(items)
            copy = Typical(dict(items))
            assert copy.shown() == typical.shown()
            typical = copy
    assert len(typical.counts) <= CLASSES_MAX
    assert problem(typical.shown()) == ""
    again = Typical()
    for shape, count in added:
        again.add(shape, count)
    assert again.shown() == typical.shown()


def test_what_falls_out_is_the_rarest_and_never_the_newcomer() -> None:
    typical = Typical({Shape(cpu, 0, 0, 0, ()): 5 for cpu in range(CLASSES_MAX)})
    typical.add(SHAPE, 1)
    assert SHAPE in typical.counts
    assert Shape(CLASSES_MAX - 1, 0, 0, 0, ()) not in typical.counts
    assert len(typical.counts) == CLASSES_MAX


def test_a_snapshot_keeps_the_counts_and_the_hash_covers_them() -> None:
    state = new_state()
    submit(state, spec(), spec("other", gpus=None))
    do(state, SetLimits(change=LimitsChange(default_placement="spread")))
    image = decode_snapshot(b"".join(encode_snapshot(capture(state))))
    back = restore(image)
    assert back.typical.shown() == state.typical.shown() != ()
    assert back.limits.default_placement == "spread"
    assert state_hash(back) == state_hash(state)
    back.typical.add(SHAPE, 1)
    assert state_hash(back) != state_hash(state)


def test_the_default_placement_is_checked_and_may_be_unset() -> None:
    state = new_state()
    assert isinstance(do(state, SetLimits(change=LimitsChange(default_placement="no good"))), Rejected)
    assert isinstance(do(state, SetLimits(change=LimitsChange(default_placement="mine"))), Applied)
    assert cluster_view(state).default_placement == "mine"
    assert isinstance(do(state, SetLimits(change=LimitsChange(default_placement=""))), Applied)
    assert cluster_view(state).default_placement == ""
