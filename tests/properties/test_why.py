"""``why`` names a change that really places the task: done for real, on the replicated state, it does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator import plan
from orchestrator.contract.answers import GroupExplanation, RemedyStep
from orchestrator.contract.constraints import describe
from orchestrator.contract.model import GroupSpec, JobSpec, JobType, Link, Toleration
from orchestrator.contract.taints import parse
from orchestrator.foresight.settle import perform
from orchestrator.scheduling.preferences import describe_affinity, describe_spread
from orchestrator.state import views
from orchestrator.state.commands import (
    Command,
    CordonDevice,
    CordonNode,
    JobSubmission,
    MarkNodes,
    NodeMark,
    RegisterNode,
    Rejected,
    SubmitJobs,
)
from orchestrator.state.snapshot import capture, restore
from orchestrator.state.state import State
from tests import listed
from tests.effort import examples
from tests.properties.prompt import Real, some_cluster

TWIN = "twin"
URGENT = 100


def test_the_smallest_change_really_places_one_more_and_without_it_none_fits() -> None:
    """A twin of the group, one instance, served first: it stays pending as it is, and runs once the change is made."""
    kinds: set[str] = set()
    done = 0
    for seed in range(max(40, examples(250))):  # there is every kind in forty
        real = some_cluster(seed)
        real.run()
        for job in list(real.state.jobs.values()):
            for said in plan.explain(views.cluster_view(real.state), job.uid, real.now_ms):
                if not said.rejections or job.spec.type is JobType.SYSTEM:
                    continue
                assert said.remedy, "no capacity here ever shrank: every refusal can be lifted"
                assert_it_works(real, job.spec, said)
                kinds |= {step.kind for step in said.remedy}
                done += 1
    assert done > examples(100)
    assert kinds >= {"request", "gpus", "constraint", "port", "node"}


def assert_it_works(real: Real, spec: JobSpec, said: GroupExplanation) -> None:
    group = replace(next(one for one in spec.groups if one.name == said.group), count=1)
    plain = restore(capture(real.state))
    assert not placed(plain, spec, group, real.now_ms), said.summary
    changed = restore(capture(real.state))
    for step in said.remedy:
        spec, group = made(changed, spec, group, step, said.remedy_node, real.now_ms)
    assert placed(changed, spec, group, real.now_ms), said.remedy


def placed(state: State, spec: JobSpec, group: GroupSpec, now_ms: int) -> bool:
    """Whether one round gives the twin a node."""
    twin = replace(spec, name=TWIN, groups=(group,), priority=URGENT)
    assert not isinstance(perform(state, SubmitJobs(jobs=(JobSubmission(spec=twin, uid=TWIN),)), now_ms), Rejected)
    for one in plan.decide(views.cluster_view(state), now_ms).plans:
        perform(state, one, now_ms)
    return bool(listed.allocations(state, namespace=spec.namespace, job=TWIN, live_only=True))


def made(
    state: State, spec: JobSpec, group: GroupSpec, step: RemedyStep, node_name: str, now_ms: int
) -> tuple[JobSpec, GroupSpec]:
    """The step, really made: to the job or to the node."""
    (task,) = group.tasks
    node = next(one for one in state.nodes.values() if one.spec.name == node_name)
    commands: list[Command] = []
    match step.kind:
        case "request":
            assert getattr(task.resources, step.what) == int(step.before)
            group = with_resources(group, **{step.what: int(step.after)})
        case "gpus":
            gpus = task.resources.gpus
            assert gpus is not None
            nothing = {"models": (), "compute_capability": "", "driver_version": "", "link": Link.ANY}
            value: Any = nothing[step.what] if step.what in nothing else int(step.after)
            gpus = None if (step.what, step.after) == ("count", "0") else replace(gpus, **{step.what: value})
            group = with_resources(group, gpus=gpus)
        case "constraint":
            spec = replace(spec, constraints=tuple(one for one in spec.constraints if describe(one) != step.what))
            group = replace(group, constraints=tuple(one for one in group.constraints if describe(one) != step.what))
        case "port":
            ports = [replace(one, static=0) if one.static == int(step.before) else one for one in group.ports]
            if step.what == "any":
                ports.remove(next(one for one in reversed(ports) if not one.static))
            group = replace(group, ports=tuple(ports))
        case "resource":
            amounts = {**dict(task.resources.custom), step.what: int(step.after)}
            group = with_resources(group, custom=tuple((name, amount) for name, amount in amounts.items() if amount))
        case "toleration":
            taint = parse(step.what)
            more = Toleration(key=taint.key, value=taint.value, effect=taint.effect)
            group = replace(group, tolerations=(*group.tolerations, more))
        case "affinity":
            near = (
                replace(one, required=False) if describe_affinity(one) == step.what else one for one in group.affinity
            )
            group = replace(group, affinity=tuple(near))
        case "spread":
            over = (replace(one, required=describe_spread(one) != step.what and one.required) for one in group.spread)
            group = replace(group, spread=tuple(over))
        case "device":
            commands.append(CordonDevice(node_id=node.spec.id, device_id=step.what, cordoned=False))
        case "driver":
            drivers = (*node.spec.drivers, *step.what.split(", "))
            commands.append(RegisterNode(node=replace(node.spec, drivers=drivers), identity=node.identity))
        case "node" if step.what == "uncordon":
            commands.append(CordonNode(node_id=node.spec.id, cordoned=False))
        case "node":
            mark = NodeMark(node_id=node.spec.id, register_index=node.register_index)
            commands += [MarkNodes(back=(mark,)), CordonNode(node_id=node.spec.id, cordoned=False)]
        case _:
            raise AssertionError(step)
    for command in commands:
        assert not isinstance(perform(state, command, now_ms), Rejected)
    return spec, group


def with_resources(group: GroupSpec, **changes: object) -> GroupSpec:
    (task,) = group.tasks
    resources = replace(task.resources, **changes)  # type: ignore[arg-type]
    return replace(group, tasks=(replace(task, resources=resources),))


def test_it_is_the_smallest_no_step_can_be_left_out() -> None:
    """With any step undone the twin has no room on that node's account; counted where a remedy has several steps."""
    several = 0
    for seed in range(examples(250)):
        real = some_cluster(seed)
        real.run()
        for job in list(real.state.jobs.values()):
            for said in plan.explain(views.cluster_view(real.state), job.uid, real.now_ms):
                if len(said.remedy) < 2 or job.spec.type is JobType.SYSTEM:
                    continue
                several += 1
                for left_out in range(len(said.remedy)):
                    state, spec = restore(capture(real.state)), job.spec
                    group = replace(next(one for one in spec.groups if one.name == said.group), count=1)
                    for place, step in enumerate(said.remedy):
                        if place != left_out:
                            spec, group = made(state, spec, group, step, said.remedy_node, real.now_ms)
                    assert not placed(state, spec, group, real.now_ms), (said.remedy, left_out)
    assert several > examples(10)
