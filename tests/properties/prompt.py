"""A cluster in one thread whose agents are prompt, and random ones in the middle of something.

``Real`` is the leader and the agents written anew, row by row through the public views: it shares no code with
``foresight.settle``, which tests compare with it. Its leader looks as ``leader.loop`` does, at everything or at some
jobs alone, and remembers from one round to the next what it has seen to.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

from orchestrator import plan
from orchestrator.contract.model import (
    AllocState,
    AssignmentKey,
    Constraint,
    ConstraintOperator,
    Desired,
    DeviceRequest,
    JobSpec,
    JobType,
    NodeSpec,
    NodeStatus,
    Observation,
    OnDisconnect,
)
from orchestrator.contract.rollouts import UpdateSpec
from orchestrator.reconcile.sight import Sight, StateViews
from orchestrator.scheduling import registry
from orchestrator.state import views
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    Applied,
    Command,
    CordonNode,
    DrainNode,
    EndRollouts,
    Entry,
    JobSubmission,
    MarkNodes,
    NodeMark,
    Outcome,
    RecordStatuses,
    RegisterNode,
    RestartJob,
    ScaleJob,
    SetFeatureLevel,
    SubmitJobs,
)
from orchestrator.state.features import HIGHEST
from orchestrator.state.state import State, new_state
from tests import listed
from tests.unit.scheduling.cluster import gpus, group_spec, node_spec


def answer_of(outcome: Outcome) -> Any:
    assert isinstance(outcome, Applied), outcome
    return outcome.answer


class Real:
    """A state with a leader and agents who do their work at once, one observation a command."""

    def __init__(self, seed: int, *, rolling: bool = False) -> None:
        self.rolling = random.Random(seed) if rolling else None
        self.random = random.Random(seed)
        self.state: State = new_state()
        self.now_ms = 1_000_000
        self.wake_at_ms: int | None = None
        self.acted_ms = self.now_ms
        self.sight = Sight(StateViews(lambda: self.state))
        self.planner = plan.Planner()
        self.looks: Counter[str] = Counter()

    def do(self, command: Command) -> Outcome:
        entry = Entry(identity="test", request_id="", digest=b"", time_ms=self.now_ms, command=command)
        return apply(self.state, entry)

    def lead(self) -> bool:
        """One round of the leader's loop, but for its sleep; whether it did something."""
        view = self.sight.look(self.now_ms)
        self.looks["nothing" if view is None else "everything" if view.held is None else "some jobs"] += 1
        if view is None:
            self.wake_at_ms = self.sight.wake_at_ms
            return False
        decision = self.planner.decide(view, self.now_ms)
        if decision.blind:
            self.sight.forget()
            self.looks["everything"] += 1
            view = self.sight.look(self.now_ms)
            assert view is not None
            decision = self.planner.decide(view, self.now_ms)
        self.wake_at_ms = decision.wake_at_ms
        self.sight.decided(
            view,
            pending=decision.pending,
            more=decision.more,
            left=decision.left,
            wake_at_ms=decision.wake_at_ms,
        )
        if decision.verdicts and not answer_of(self.do(EndRollouts(verdicts=decision.verdicts))).changed:
            self.sight.forget()  # something moved since
        for one in decision.plans:
            if answer_of(self.do(one)).rejected:
                self.sight.forget()
            self.acted_ms = self.now_ms
        return bool(decision.plans or decision.verdicts)

    def observe(self, row: int, after: AllocState, *, start_failed: bool = False) -> None:
        seen = views.allocation(self.state, row)
        key = AssignmentKey(id=seen.id, job_uid=seen.job_uid, attempt=seen.attempt)
        what = Observation(key=key, restarts=seen.restarts, state=after, start_failed=start_failed)
        self.do(RecordStatuses(node_id=seen.node_id, observations=(what,)))

    def obey(self, share: float = 1.0) -> bool:
        changed = False
        table = self.state.table
        for row in table.live_rows().tolist():
            node = self.state.node_at[int(table.node[row])]
            if node.status is NodeStatus.LOST or self.random.random() >= share:
                continue
            if table.desired[row] == Desired.STOP or table.state[row] == AllocState.STOPPING:
                self.observe(row, AllocState.STOPPED)
            elif table.state[row] in (AllocState.PENDING, AllocState.STARTING):
                self.observe(row, AllocState.RUNNING)
            else:
                continue
            changed = True
            self.acted_ms = self.now_ms
        return changed

    def run(self, within_ms: int = 0) -> None:
        """Until nothing is left to do. ``within_ms``: so long the leader sleeps and looks again where it wants to."""
        end_ms = self.now_ms + within_ms
        for _ in range(500):
            decided = self.lead()
            if not self.obey() and not decided:
                if self.wake_at_ms is None or self.wake_at_ms > end_ms:
                    return
                self.now_ms = max(
                    self.now_ms, self.wake_at_ms
                )  # at once, if it saw some jobs alone and wants to see all
        raise AssertionError("the cluster does not come to rest")

    def where(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Of every live instance: node name and devices."""
        found = listed.allocations(self.state, live_only=True)
        return {f"{one.id.namespace}:{one.id}": (one.node_name, one.device_ids) for one in found}


def some_spec(real: Real, name: str) -> JobSpec:
    rng = real.random
    zone = Constraint(attribute="zone", operator=ConstraintOperator.EQUAL, values=(rng.choice("ab"),))

    def group(of: str) -> object:
        gpu = rng.choice(
            [None, None, None, DeviceRequest(count=1), DeviceRequest(count=2), DeviceRequest(count=1, gpu_millis=400)]
        )
        return group_spec(
            of,
            count=rng.randint(0, 5),
            cpu=rng.choice([100, 300, 900, 1500]),
            memory=rng.choice([100, 700]),
            gpu=gpu,
            ports=rng.choice([(), (), (0,), (8080,)]),
            constraints=(zone,) if rng.random() < 0.2 else (),
        )

    names = rng.choice([("a",), ("a",), ("a", "b")])
    made = JobSpec(
        name=name,
        type=rng.choice([JobType.SERVICE, JobType.SERVICE, JobType.SERVICE, JobType.BATCH, JobType.SYSTEM]),
        priority=rng.choice([20, 50, 50, 80]),
        groups=tuple(group(of) for of in names),  # type: ignore[misc]
        placement=rng.choice(["", *registry.names()]),
        on_disconnect=rng.choice(list(OnDisconnect)),
    )
    if real.rolling is None or made.type is not JobType.SERVICE:
        return made
    return replace(made, groups=tuple(replace(group, update=some_update(real.rolling)) for group in made.groups))


def some_update(rng: random.Random) -> UpdateSpec | None:
    if rng.random() < 0.2:
        return None
    surge = rng.choice([0, 1, 1, 2])
    return UpdateSpec(
        max_surge=surge,
        max_unavailable=rng.choice([0, 1]) if surge else 1,
        min_ready_ms=rng.choice([0, 0, 5_000, 70_000]),
        canaries=rng.choice([0, 0, 0, 1]),
        progress_deadline_ms=rng.choice([0, 120_000]),
        auto_revert=rng.random() < 0.5,
    )


def some_node(real: Real, name: str) -> NodeSpec:
    rng = real.random
    return node_spec(
        name,
        cpu=rng.choice([1000, 2000, 4000]),
        memory=rng.choice([1000, 4000]),
        devices=gpus(rng.choice([0, 0, 2, 4])),
        labels={"zone": rng.choice("ab")},
    )


def some_cluster(seed: int, *, rolling: bool = False) -> Real:
    """In the middle of something, as clusters are: agents are behind, nodes drain, instances fail to start.
    ``rolling``: jobs remember what they were, and groups have policies of how to change."""
    real = Real(seed, rolling=rolling)
    rng = real.random
    if rolling:
        real.do(SetFeatureLevel(level=HIGHEST))
    for number in range(rng.randint(2, 6)):
        real.do(RegisterNode(node=some_node(real, f"n{number}"), identity=f"n{number}"))
    for step in range(rng.randint(1, 8)):
        kind = rng.choice(
            ["submit", "submit", "submit", "scale", "restart", "cordon", "uncordon", "drain", "lose", "fail"]
        )
        node_id = rng.choice(sorted(real.state.nodes))
        name = f"job-{rng.randint(0, 3)}"
        match kind:
            case "submit":
                real.do(SubmitJobs(jobs=(JobSubmission(spec=some_spec(real, name), uid=f"u{step}", remember=rolling),)))
            case "scale":
                real.do(ScaleJob(namespace="default", name=name, group="a", count=rng.randint(0, 6)))
            case "restart":
                real.do(RestartJob(namespace="default", name=name))
            case "cordon" | "uncordon":
                real.do(CordonNode(node_id=node_id, cordoned=kind == "cordon"))
            case "drain":
                real.do(DrainNode(node_id=node_id))
            case "lose":
                mark = NodeMark(node_id=node_id, register_index=real.state.nodes[node_id].register_index)
                real.do(MarkNodes(lost=(mark,)))
            case "fail":
                for row in real.state.table.live_rows().tolist()[:2]:
                    real.observe(row, rng.choice([AllocState.FAILED, AllocState.BACKOFF]), start_failed=True)
        real.now_ms += rng.choice([10, 3_000, 700_000])
        if rng.random() < 0.8:
            real.lead()
            real.obey(rng.choice([0.3, 1.0, 1.0]))
    if rng.random() < 0.5:
        real.run()
    return real
