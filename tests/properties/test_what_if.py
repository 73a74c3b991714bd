"""``what-if`` against what then really happens: the same change made for real, the leader's rounds, prompt agents.

The real side is written anew here, row by row through the public views, and shares no code with ``foresight.settle``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator import plan
from orchestrator.contract.foresight import Change, WhatIf
from orchestrator.contract.model import Affinity, GangSpec, JobType, Spread
from orchestrator.contract.rollouts import UpdateSpec
from orchestrator.foresight.what_if import HORIZON_MS, what_if
from orchestrator.state import views
from orchestrator.state.commands import (
    Command,
    DrainNode,
    JobSubmission,
    MarkNodes,
    NodeMark,
    RegisterNode,
    Rejected,
    SubmitJobs,
)
from orchestrator.state.invariants import check
from orchestrator.state.snapshot import capture, image_hash
from tests.effort import seeds
from tests.properties.prompt import Real, some_cluster, some_node, some_spec

CASES = 1_000
CHUNK = 50


def some_change(real: Real) -> tuple[Change, list[Command]]:
    """The question, and the commands that would really be given."""
    rng, state = real.random, real.state
    node_id = rng.choice(sorted(state.nodes))
    kind = rng.choice(["drain", "lose", "submit", "submit", "add", "like"])
    if kind == "drain":
        return Change(drain=node_id), [DrainNode(node_id=node_id)]
    if kind == "lose":
        mark = NodeMark(node_id=node_id, register_index=state.nodes[node_id].register_index, reason="silent for 15 s")
        return Change(lose=node_id), [MarkNodes(lost=(mark,))]
    if kind == "submit":
        spec = some_spec(real, f"job-{rng.randint(0, 5)}")
        return Change(submit=spec), [SubmitJobs(jobs=(JobSubmission(spec=spec, uid="real", remember=True),))]
    count = rng.randint(1, 2)
    spec_of_new = some_node(real, "x") if kind == "add" else state.nodes[node_id].spec
    commands: list[Command] = [
        RegisterNode(
            node=replace(spec_of_new, id=f"id-{number}", name=f"new-{number}", engine_id="", boot_id="b"), identity="x"
        )
        for number in range(1, count + 1)
    ]
    if kind == "add":
        return Change(add_node=replace(spec_of_new, id="", name=""), count=count), commands
    return Change(like=node_id, count=count), commands


def new_version(real: Real) -> tuple[Change, list[Command]]:
    """Of a service that is there, with another command and a policy; else of one that is not."""
    rng = real.random
    jobs = [job.spec for job in real.state.jobs.values() if job.spec.type is JobType.SERVICE and not job.stopped]
    spec = rng.choice(jobs) if jobs else some_spec(real, "job-9")
    groups = []
    for group in spec.groups:
        surge = rng.choice([0, 1, 1, 2])
        update = UpdateSpec(
            max_surge=surge,
            max_unavailable=rng.choice([0, 1]) if surge else 1,
            min_ready_ms=rng.choice([5_000, 70_000]),
            progress_deadline_ms=rng.choice([0, 120_000]),
            auto_revert=rng.random() < 0.5,
        )
        tasks = tuple(replace(task, command=("other",)) for task in group.tasks)
        groups.append(replace(group, tasks=tasks, update=update))
    spec = replace(spec, groups=tuple(groups))
    return Change(submit=spec), [SubmitJobs(jobs=(JobSubmission(spec=spec, uid="real", remember=True),))]


def urgent(real: Real) -> tuple[Change, list[Command]]:
    """A service that comes before all others, in a cluster that is at rest."""
    real.run()
    spec = replace(some_spec(real, "urgent"), type=JobType.SERVICE, priority=100)
    return Change(submit=spec), [SubmitJobs(jobs=(JobSubmission(spec=spec, uid="real", remember=True),))]


def gang(real: Real) -> tuple[Change, list[Command]]:
    """One whose members must be apart, or evenly over the zones, or together, of any priority."""
    spec = some_spec(real, "gang")
    wishes: list[dict[str, Any]] = [
        {"affinity": (Affinity(weight=-100, required=True),)},
        {"spread": (Spread(attribute="zone"),)},
        {"affinity": (Affinity(weight=100, required=True, topology="zone"), Affinity(weight=-100, required=True))},
        {"affinity": (Affinity(job="job-1", weight=-100, required=True),)},
    ]
    (first, *_) = spec.groups
    group = replace(first, count=real.random.randint(2, 4), gang=GangSpec(), **real.random.choice(wishes))
    kind = real.random.choice([JobType.SERVICE, JobType.BATCH])
    spec = replace(spec, type=kind, priority=real.random.choice([50, 100]), groups=(group,))
    return Change(submit=spec), [SubmitJobs(jobs=(JobSubmission(spec=spec, uid="real", remember=True),))]


def assert_equal_to_what_happens(
    seed: int, rolling: bool, choose: Callable[[Real], tuple[Change, list[Command]]] = some_change
) -> tuple[str, int, int]:
    """How it went, how many outcomes there were, and at how many rounds the leader looked at some jobs alone."""
    real = some_cluster(seed, rolling=rolling)
    change, commands = choose(real)
    before, untouched = real.where(), image_hash(capture(real.state))
    answer = what_if(capture(real.state), (change,), real.now_ms)
    assert image_hash(capture(real.state)) == untouched, "asking changed something"

    refused = [outcome for command in commands if isinstance(outcome := real.do(command), Rejected)]
    if isinstance(answer, Rejected):
        assert refused and refused[0].message == answer.message
        return "refused", 0, 0
    assert not refused
    began_ms = real.acted_ms = real.now_ms
    real.looks.clear()
    real.run(within_ms=HORIZON_MS)
    assert check(real.state) == []

    assert answer.settled
    assert answer.takes_ms == real.acted_ms - began_ms
    after = real.where()
    assert foretold(before, answer) == after
    moved = {f"{one.id.namespace}:{one.id}" for one in answer.outcomes}
    assert all(before.get(key) == after.get(key) for key in before.keys() | after.keys() if key not in moved)
    waiting = plan.pending(views.cluster_view(real.state), real.now_ms)
    assert {(one.namespace, one.job, one.why.group): one.after for one in answer.pending if one.after} == waiting
    assert answer.pending_after == sum(waiting.values())
    return "slow" if answer.takes_ms else "done", len(answer.outcomes), real.looks["some jobs"]


def foretold(before: dict[str, tuple[str, tuple[str, ...]]], answer: WhatIf) -> dict[str, tuple[str, tuple[str, ...]]]:
    told = dict(before)
    for one in answer.outcomes:
        key = f"{one.id.namespace}:{one.id}"
        assert told.pop(key, ("", ())) == (one.from_node, one.from_devices)
        if one.to_node:
            told[key] = (one.to_node, one.to_devices)
    return told


@pytest.mark.parametrize("first", seeds(range(0, CASES, CHUNK), fast=[0]))
def test_what_if_answers_what_the_leader_then_does(first: int) -> None:
    """A thousand random clusters and changes in all; every allocation's node and devices, and everybody pending."""
    results = [assert_equal_to_what_happens(seed, seed % 2 == 1) for seed in range(first, first + CHUNK)]
    # The cases are not all trivial: a test that compares nothing with nothing would pass as well.
    assert sum(outcomes > 0 for _, outcomes, _ in results) >= CHUNK // 6
    assert sum(kind != "refused" for kind, _, _ in results) > CHUNK // 2
    assert sum(alone > 0 for _, _, alone in results) >= 3


@pytest.mark.parametrize("first", seeds(range(2_000, 2_100, 25), fast=[2_000]))
def test_a_rollout_is_foretold_with_the_time_that_it_takes(first: int) -> None:
    """Surges, canaries, min_ready, what has no room, deadlines that pass and versions that are taken back."""
    results = [assert_equal_to_what_happens(seed, True, new_version) for seed in range(first, first + 25)]
    assert sum(kind == "slow" for kind, _, _ in results) >= 3, "time passes in some of them"


@pytest.mark.parametrize("first", seeds(range(3_000, 3_100, 25), fast=[3_025]))
def test_whom_an_urgent_job_evicts_is_foretold_though_the_leader_first_looks_at_that_job_alone(first: int) -> None:
    results = [assert_equal_to_what_happens(seed, False, urgent) for seed in range(first, first + 25)]
    assert sum(alone > 0 for *_, alone in results) >= 5


@pytest.mark.parametrize("first", seeds(range(4_000, 4_080, 20), fast=[4_000]))
def test_where_a_gang_goes_that_heeds_its_own_members_and_others_is_foretold(first: int) -> None:
    results = [assert_equal_to_what_happens(seed, False, gang) for seed in range(first, first + 20)]
    assert sum(outcomes >= 2 for _, outcomes, _ in results) >= 5
