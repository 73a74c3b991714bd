"""Every kind of request together, against the rules of placing written once more (``rich``)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from orchestrator import plan
from orchestrator.contract.answers import GroupExplanation, RemedyStep
from orchestrator.contract.model import JobType
from orchestrator.state import views
from orchestrator.state.model import Job
from orchestrator.state.snapshot import capture, restore
from tests.effort import examples
from tests.properties.prompt import Real
from tests.properties.rich import disturb, has_one, refusal, rich_cluster
from tests.properties.test_why import made


def told(decision: plan.Decision) -> list[Any]:
    acted = ("job", "group", "ordinal", "attempt", "action", "reason")
    return [
        (
            (one.jobs, one.nodes, one.reasons),
            [getattr(one.actions, name).tolist() for name in acted],
            [getattr(one.placements, name).tolist() for name in one.placements.__slots__],
        )
        for one in decision.plans
    ]


def test_a_peer_that_starts_from_a_snapshot_would_plan_the_same() -> None:
    planned = 0
    for seed in range(examples(150)):
        real = rich_cluster(seed)
        for _ in range(3):
            disturb(real)
        first = plan.decide(views.cluster_view(real.state), real.now_ms)
        again = plan.decide(views.cluster_view(restore(capture(real.state))), real.now_ms)
        assert told(first) == told(again), seed
        planned += bool(first.plans)
    assert planned >= examples(40)


def test_whoever_waits_fits_nowhere_and_the_change_that_is_named_is_just_what_it_takes() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(1_000, 1_000 + examples(250)):
        real = rich_cluster(seed)
        real.run()
        for job in list(real.state.jobs.values()):
            for place, said in enumerate(plan.explain(views.cluster_view(real.state), job.uid, real.now_ms)):
                if said.rejections and job.spec.groups[place].gang is None:
                    assert_fits_nowhere(real, job, place, said)
                    assert_is_what_it_takes(real, job, place, said)
                    kinds.update(step.kind for step in said.remedy)
    if examples(100) == 100:
        assert kinds.keys() >= {"request", "gpus", "constraint", "toleration", "resource", "port", "node", "spread"}


def assert_fits_nowhere(real: Real, job: Job, place: int, said: GroupExplanation) -> None:
    state, group = real.state, job.spec.groups[place]
    nodes = list(state.nodes.values())
    if "still run the version before" in said.summary:
        return  # of another type, perhaps: whoever belongs on a node comes once those have gone
    if job.spec.type is JobType.SYSTEM:
        nodes = [node for node in nodes if not has_one(state, node, job, group.name)]
    else:
        assert sum(rejection.nodes for rejection in said.rejections) == len(nodes)
    kept = sum(rejection.nodes for rejection in said.rejections if rejection.constraint == "gang")
    free = [node.spec.name for node in nodes if not refusal(state, node, job.spec, group)]
    assert len(free) <= kept, (said, free)


def assert_is_what_it_takes(real: Real, job: Job, place: int, said: GroupExplanation) -> None:
    assert said.remedy or {rejection.constraint for rejection in said.rejections} <= {"gang"}, said
    if said.remedy:
        assert not still_refused(real, job, place, said.remedy, said.remedy_node), said
    for at in range(len(said.remedy)):
        others = said.remedy[:at] + said.remedy[at + 1 :]
        assert still_refused(real, job, place, others, said.remedy_node), (said, at)


def still_refused(real: Real, job: Job, place: int, steps: tuple[RemedyStep, ...], node_name: str) -> str:
    """Of one more instance on that node, once these steps are made."""
    state, spec, group = restore(capture(real.state)), job.spec, job.spec.groups[place]
    for step in steps:
        spec, group = made(state, spec, group, step, node_name, real.now_ms)
    node = next(one for one in state.nodes.values() if one.spec.name == node_name)
    return refusal(state, node, replace(spec, groups=(group,)), group)
