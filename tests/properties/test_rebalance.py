"""``rebalance``: what it foretells happens, every step makes its measure smaller, and a second run finds nothing."""

from __future__ import annotations

import random

import pytest

from orchestrator import plan
from orchestrator.contract.foresight import GOALS, Balance, Goal
from orchestrator.contract.model import AllocState, Constraint, ConstraintOperator, Desired, JobSpec, JobType
from orchestrator.foresight.rebalance import SPREADING, better, rebalance
from orchestrator.foresight.standing import balance
from orchestrator.state import views
from orchestrator.state.commands import (
    Applied,
    CordonNode,
    JobSubmission,
    MoveAllocation,
    RegisterNode,
    Rejected,
    ScaleJob,
    SubmitJobs,
)
from orchestrator.state.invariants import check
from orchestrator.state.snapshot import capture, image_hash, restore
from tests import listed
from tests.effort import examples, seeds
from tests.properties.prompt import Real, some_cluster
from tests.unit.scheduling.cluster import group_spec, node_spec


def measure(real: Real) -> Balance:
    waiting = plan.pending(views.cluster_view(real.state), real.now_ms)
    return balance(real.state, sum(waiting.values()))


def uneven(seed: int) -> Real:
    """A cluster that lost its balance: full once, then scaled down here and there, new machines after."""
    real = Real(seed)
    rng = random.Random(seed)
    for number in range(rng.randint(2, 5)):
        real.do(RegisterNode(node=node_spec(f"n{number}", cpu=rng.choice([1000, 2000])), identity=f"n{number}"))
    for number in range(rng.randint(2, 6)):
        spec = JobSpec(
            name=f"job-{number}",
            type=rng.choice([JobType.SERVICE, JobType.SERVICE, JobType.SERVICE, JobType.BATCH, JobType.SYSTEM]),
            groups=(group_spec(count=rng.randint(1, 5), cpu=rng.choice([100, 200, 500]), memory=100),),
            placement=rng.choice(["", "binpack", "spread", "round-robin"]),
        )
        real.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"u{number}"),)))
        real.run()
    for number in range(6):
        if rng.random() < 0.6:
            real.do(ScaleJob(namespace="default", name=f"job-{number}", group="main", count=rng.randint(0, 2)))
    if rng.random() < 0.7:
        real.do(RegisterNode(node=node_spec("late", cpu=2000), identity="late"))
    if rng.random() < 0.2:
        real.do(CordonNode(node_id="n0", cordoned=True))
    real.run()
    return real


@pytest.mark.parametrize("goal", seeds(GOALS, fast={"pack"}))
def test_what_rebalance_foretells_happens_and_then_it_finds_nothing(goal: Goal) -> None:
    moved = 0
    for seed in range(max(20, examples(60))):
        real = uneven(seed)
        untouched = image_hash(capture(real.state))
        answer = rebalance(capture(real.state), goal, real.now_ms, moves_max=100)
        assert image_hash(capture(real.state)) == untouched, "asking changed something"
        assert answer.note == ""
        assert answer.before == measure(real)
        for move in answer.moves:
            perform(real, move.id.job, move.id.group, move.id.ordinal, move.attempt)
            real.run()
            assert real.where()[f"default:{move.id}"][0] == move.to_node
            job = real.state.find_job("default", move.id.job)
            assert job is not None
            assert job.spec.type is JobType.SERVICE
            assert (job.spec.placement in SPREADING) is (goal == "spread")
        assert check(real.state) == []
        assert measure(real) == answer.after
        assert bool(answer.moves) == better(goal, answer.after, answer.before)
        again = rebalance(capture(real.state), goal, real.now_ms, moves_max=100)
        assert again.moves == ()
        assert not again.more
        moved += len(answer.moves)
    assert moved > examples(20)


def perform(real: Real, job: str, group: str, ordinal: int, attempt: int) -> None:
    outcome = real.do(MoveAllocation(namespace="default", name=job, group=group, ordinal=ordinal, attempt=attempt))
    assert isinstance(outcome, Applied)


def test_the_number_of_moves_is_bounded_and_the_answer_says_that_there_are_more() -> None:
    real = Real(0)
    for number in range(4):
        real.do(RegisterNode(node=node_spec(f"n{number}", cpu=1000), identity=f"n{number}"))
    for number in range(4):
        spec = JobSpec(name=f"job-{number}", groups=(group_spec(count=2, cpu=450, memory=10),))
        real.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"u{number}"),)))
        real.run()
    for number in range(4):
        real.do(ScaleJob(namespace="default", name=f"job-{number}", group="main", count=1))
    real.run()
    one = rebalance(capture(real.state), "pack", real.now_ms, moves_max=1)
    assert (len(one.moves), one.before.nodes_used, one.after.nodes_used, one.more) == (1, 4, 3, True)
    all_of_them = rebalance(capture(real.state), "pack", real.now_ms, moves_max=10)
    assert (len(all_of_them.moves), all_of_them.after.nodes_used, all_of_them.more) == (2, 2, False)
    none = rebalance(capture(real.state), "pack", real.now_ms, moves_max=10, go_on=lambda: False)
    assert (none.moves, none.more) == ((), True)


def test_nothing_moves_while_the_cluster_is_on_the_move() -> None:
    real = Real(0)
    real.do(RegisterNode(node=node_spec("n0"), identity="n0"))
    real.do(SubmitJobs(jobs=(JobSubmission(spec=JobSpec(name="web", groups=(group_spec(),)), uid="u"),)))
    answer = rebalance(capture(real.state), "pack", real.now_ms, moves_max=10)
    assert answer.moves == ()
    assert "on the move" in answer.note


def test_packing_makes_room_for_what_waits() -> None:
    """Two half-used nodes, and an instance that needs a whole one: it waits until one of them is emptied."""
    real = Real(0)
    for number in range(2):
        real.do(RegisterNode(node=node_spec(f"n{number}", cpu=1000), identity=f"n{number}"))
    for number in range(2):
        at = Constraint(attribute="node.name", operator=ConstraintOperator.EQUAL, values=(f"n{number}",))
        constraints = (at,) if number == 0 else ()
        spec = JobSpec(name=f"half-{number}", groups=(group_spec(cpu=500, memory=10),), constraints=constraints)
        if number == 1:
            real.do(CordonNode(node_id="n0", cordoned=True))
        real.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid=f"u{number}"),)))
        real.run()
    real.do(CordonNode(node_id="n0", cordoned=False))
    whole = JobSpec(name="whole", groups=(group_spec(cpu=1000, memory=10),))
    real.do(SubmitJobs(jobs=(JobSubmission(spec=whole, uid="w"),)))
    real.run()
    answer = rebalance(capture(real.state), "pack", real.now_ms, moves_max=10)
    assert [(str(move.id), move.from_node, move.to_node) for move in answer.moves] == [("half-1/main/0", "n1", "n0")]
    assert (answer.before.pending, answer.after.pending) == (1, 0)


def test_two_at_once_never_take_down_two_of_a_group() -> None:
    """However many callers move, and in whatever order rounds and agents come in between."""
    for seed in range(examples(40)):
        real = some_cluster(seed)
        real.run()
        rng = random.Random(seed)
        for _ in range(10):
            for found in listed.allocations(real.state, live_only=True):
                outcome = real.do(
                    MoveAllocation(
                        namespace="default",
                        name=found.id.job,
                        group=found.id.group,
                        ordinal=found.id.ordinal,
                        attempt=found.attempt,
                    )
                )
                if isinstance(outcome, Rejected):
                    continue
                mine = [
                    one
                    for one in listed.allocations(real.state, live_only=True)
                    if (one.id.job, one.id.group) == (found.id.job, found.id.group)
                ]
                well = sum(one.state is AllocState.RUNNING and one.desired is Desired.RUN for one in mine)
                job = real.state.find_job("default", found.id.job)
                assert job is not None
                wanted = next(group.count for group in job.spec.groups if group.name == found.id.group)
                assert well >= wanted - 1
            real.lead()
            real.obey(rng.choice([0.5, 1.0]))
            assert check(real.state) == []


def test_a_new_leader_that_knows_only_the_state_finishes_a_move() -> None:
    """Whoever moved it, and whoever led, is gone: the state went through a snapshot at every step."""
    real = Real(0)
    for name in ("n0", "n1"):
        real.do(RegisterNode(node=node_spec(name, cpu=1000), identity=name))
    real.do(SubmitJobs(jobs=(JobSubmission(spec=JobSpec(name="web", groups=(group_spec(cpu=500),)), uid="u"),)))
    real.run()
    (before,) = real.where().values()
    perform(real, "web", "main", 0, 1)
    real.state = restore(capture(real.state))
    real.obey()
    real.state = restore(capture(real.state))
    real.run()
    (after,) = real.where().values()
    assert {before[0], after[0]} == {"n0", "n1"}


def test_without_room_elsewhere_a_moved_instance_comes_back_rather_than_wait() -> None:
    real = Real(0)
    real.do(RegisterNode(node=node_spec("n0", cpu=1000), identity="n0"))
    real.do(SubmitJobs(jobs=(JobSubmission(spec=JobSpec(name="web", groups=(group_spec(cpu=500),)), uid="u"),)))
    real.run()
    perform(real, "web", "main", 0, 1)
    real.run()
    assert real.where() == {"default:web/main/0": ("n0", ())}
    assert listed.allocations(real.state, live_only=True)[0].attempt == 2
