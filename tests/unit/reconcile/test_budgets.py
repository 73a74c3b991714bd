"""A drain and a rebalance that know nothing of each other keep one budget together."""

from __future__ import annotations

import pytest

from orchestrator import plan
from orchestrator.contract.model import Desired, Disruption, JobSpec
from orchestrator.state import views
from orchestrator.state.commands import (
    DrainNode,
    JobSubmission,
    MoveAllocation,
    RegisterNode,
    SetFeatureLevel,
    SubmitJobs,
)
from orchestrator.state.features import BUDGETED_DRAINS
from tests import listed
from tests.properties.prompt import Real, answer_of
from tests.unit.scheduling.cluster import group_spec, node_spec


@pytest.mark.parametrize("level", [BUDGETED_DRAINS - 1, BUDGETED_DRAINS])
def test_a_plan_of_before_a_move_takes_nobody_down_beside_it(level: int) -> None:
    real = Real(0)
    real.do(SetFeatureLevel(level=level))
    for name in ("a", "b", "c"):
        real.do(RegisterNode(node=node_spec(name, cpu=1000), identity=name))
    spec = JobSpec(name="web", disruption=Disruption(), placement="spread", groups=(group_spec(count=3, cpu=300),))
    real.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="web"),)))
    real.run()
    real.do(DrainNode(node_id="a"))
    (drain,) = plan.decide(views.cluster_view(real.state), real.now_ms).plans
    moving = next(one.id for one in listed.allocations(real.state, live_only=True) if one.node_name == "b")
    move = MoveAllocation(namespace="default", name="web", group="main", ordinal=moving.ordinal, attempt=1)
    assert answer_of(real.do(move)).changed

    answer = answer_of(real.do(drain))
    stopping = sum(one.desired is Desired.STOP for one in listed.allocations(real.state, live_only=True))
    if level < BUDGETED_DRAINS:
        assert stopping == 2, "as peers of before judge it"
        return
    assert stopping == 1
    assert "the disruption budget of web/main: 1 of 3 may be down, 1 is" in answer.rejected[0]
    real.sight.forget()
    real.run()
    assert {node for node, _ in real.where().values()} <= {"b", "c"}, "and then the drain goes on"
