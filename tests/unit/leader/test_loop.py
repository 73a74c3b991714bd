"""The leader's loop against an in-memory log: when it looks, what it survives, that it stops."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import structlog.testing

from orchestrator import plan
from orchestrator.contract import codec
from orchestrator.contract.errors import OverloadedError
from orchestrator.contract.model import AllocState, NodeStatus
from orchestrator.contract.v1 import agent_pb2, types_pb2
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.leader import loop as leader_loop
from orchestrator.leader.cluster import StateCluster
from orchestrator.leader.liveness import GATHER_S, Liveness
from orchestrator.leader.loop import LeaderLoop
from orchestrator.replication.cluster_clock import ClusterClock
from orchestrator.replication.log import LogStatus
from orchestrator.scheduling import registry
from orchestrator.state import views
from orchestrator.state.commands import ApplyPlan, Command, Outcome, RolloutVerdict
from orchestrator.state.features import HIGHEST, LAST_WITHOUT_RULES
from orchestrator.state.views import ClusterView
from tests.unit.api.harness import Api, call


@dataclass
class Decided:
    plans: tuple[ApplyPlan, ...] = ()
    wake_at_ms: int | None = None
    pending: bool = False
    more: bool = False
    left: tuple[int, ...] | None = None
    blind: bool = False
    verdicts: tuple[RolloutVerdict, ...] = ()


class Leader:
    """A running loop over ``Api``'s log and state."""

    def __init__(
        self,
        decide: Callable[[ClusterView, int], leader_loop.Plan] = plan.decide,
        clock_of: Callable[[Api], Callable[[], int]] = lambda api: lambda: api.now_ms,
    ) -> None:
        self.api = Api()
        self.api.log.lead(False)
        self.rounds = 0
        self.seen = -1
        self._decide = decide
        self.now = 1000.0
        self.liveness = Liveness(clock=lambda: self.now)
        self.api.agents._listener = self.liveness
        self.loop = LeaderLoop(
            self.api.log,
            self.api.proposer,
            StateCluster(self.api.state_now),
            self.liveness,
            decide=self._count,
            clock_ms=clock_of(self.api),
        )

    def _count(self, view: ClusterView, now_ms: int) -> leader_loop.Plan:
        self.rounds += 1
        self.seen = view.index
        return self._decide(view, now_ms)

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not check():
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def leading(leader: Leader) -> AsyncIterator[Leader]:
    task = asyncio.ensure_future(leader.loop.run())
    try:
        await asyncio.sleep(0)
        leader.api.log.lead(True)
        await leader.until(lambda: leader.liveness.leading)
        yield leader
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_what_is_submitted_is_placed_without_anybody_asking() -> None:
    async with leading(Leader()) as leader:
        await leader.api.register("a")
        await leader.api.submit("web", count=3)
        await leader.until(lambda: len(leader.api.state.table.live_rows()) == 3)


async def test_waiting_for_room_writes_nothing_and_a_new_node_wakes_it() -> None:
    async with leading(Leader()) as leader:
        await leader.api.submit("web")
        index = leader.api.state.index
        await leader.until(lambda: leader.seen == index)
        for _ in range(50):
            await asyncio.sleep(0)
        assert leader.api.state.index == index
        await leader.api.register("a")
        await leader.until(lambda: len(leader.api.state.table.live_rows()) == 1)


async def test_a_peer_that_does_not_lead_decides_nothing() -> None:
    leader = Leader()
    async with leading(leader):
        await leader.until(lambda: leader.rounds > 0)
        leader.api.log.lead(False)
        await leader.until(lambda: not leader.liveness.leading)
        rounds = leader.rounds
        for _ in range(10):
            leader.api.log._notify()
            await asyncio.sleep(0)
        assert leader.rounds == rounds
        leader.api.log.lead(True)
        await leader.until(lambda: leader.rounds > rounds)


async def test_a_silent_node_is_lost_and_its_work_goes_elsewhere() -> None:
    async with leading(Leader()) as leader:
        api = leader.api
        await api.register("a")
        await api.submit("web")
        await leader.until(lambda: len(api.state.table.live_rows()) == 1)
        await api.register("b", identity="agent:n2")
        leader.now += 14
        leader.liveness.beat("b")
        leader.now += 1
        api.log._notify()
        await leader.until(lambda: api.state.nodes["a"].status is NodeStatus.LOST)
        b = api.state.nodes["b"].slot

        def moved() -> bool:
            rows = api.state.table.live_rows()
            return [int(api.state.table.node[row]) for row in rows] == [b]

        await leader.until(moved)
        lost = [int(state) for state in api.state.table.state[: api.state.table.high]]
        assert int(AllocState.LOST) in lost
        leader.now += GATHER_S
        leader.liveness.beat("a")  # wakes the loop by itself
        await leader.until(lambda: api.state.nodes["a"].status is NodeStatus.READY)


async def test_it_wakes_at_the_time_that_the_plan_names() -> None:
    def decide(view: ClusterView, now_ms: int) -> Decided:
        return Decided(wake_at_ms=now_ms + 5)

    leader = Leader(decide)
    async with leading(leader):
        for rounds in range(1, 5):
            await leader.until(functools.partial(lambda wanted: leader.rounds >= wanted, rounds))
            leader.api.now_ms += 5


async def test_before_that_time_a_change_that_no_plan_can_see_is_not_looked_at() -> None:
    """Writing variables by the thousand must not cost a plan each: of variables a plan sees the names alone."""
    async with leading(Leader()) as leader:
        put = leader.api.writes.put_variable
        await put(pb.PutVariableRequest(name="a", value="1"), call())
        await leader.until(lambda: leader.seen == leader.api.state.index)
        rounds = leader.rounds
        for number in range(10):
            await put(pb.PutVariableRequest(name="a", value=str(number)), call())
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert leader.rounds == rounds
        await put(pb.PutVariableRequest(name="b", value="1"), call())
        await leader.until(lambda: leader.rounds > rounds)


async def test_an_unexpected_error_is_logged_counted_and_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_loop, "PAUSE_S", 0.001)
    failures = [ZeroDivisionError("a bug"), OverloadedError("full", retry_after_ms=1)]

    def decide(view: ClusterView, now_ms: int) -> leader_loop.Plan:
        if failures:
            raise failures.pop(0)
        return plan.decide(view, now_ms)

    before = leader_loop.FAILURES._value.get()
    async with leading(Leader(decide)) as leader:
        await leader.api.register("a")
        await leader.api.submit("web")
        await leader.until(lambda: len(leader.api.state.table.live_rows()) == 1)
    assert leader_loop.FAILURES._value.get() == before + 1


async def test_a_large_view_is_decided_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(leader_loop, "INLINE_ROWS", 5)
    threads: list[bool] = []

    def decide(view: ClusterView, now_ms: int) -> leader_loop.Plan:
        threads.append(threading.current_thread() is threading.main_thread())
        return plan.decide(view, now_ms)

    async with leading(Leader(decide)) as leader:
        await leader.api.register("a")
        await leader.until(lambda: bool(threads))
        assert all(threads)
        await leader.api.submit("web", count=10)
        await leader.until(lambda: len(leader.api.state.table.live_rows()) == 10)
        assert not all(threads)


async def test_a_plan_of_which_nothing_goes_in_is_not_repeated_in_a_hot_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_loop, "PAUSE_S", 60.0)
    stale: list[ApplyPlan] = []

    def decide(view: ClusterView, now_ms: int) -> leader_loop.Plan:
        decision = plan.decide(view, now_ms)
        if decision.plans and not stale:
            stale.extend(decision.plans)
        return Decided(plans=tuple(stale)) if stale else decision

    async with leading(Leader(decide)) as leader:
        await leader.api.register("a")
        await leader.api.submit("web")
        # The first goes in, the second is stale: from then on there are pauses.
        await leader.until(lambda: bool(stale) and leader.seen == leader.api.state.index - 1)
        rounds = leader.rounds
        for _ in range(200):
            await asyncio.sleep(0)
        assert leader.rounds == rounds
        assert len(leader.api.state.table.live_rows()) == 1


async def test_a_placement_that_failed_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "failures", lambda: (("coldest", "RuntimeError: boom"),))
    with structlog.testing.capture_logs() as logged:
        async with leading(Leader()) as leader:
            await leader.api.register("a")
            await leader.api.submit("one")
            await leader.until(lambda: leader.rounds >= 1)
            await leader.api.submit("two")
            await leader.until(lambda: leader.rounds >= 2)
    told = [line for line in logged if line["event"] == "placement_failed"]
    assert told == [
        {
            "event": "placement_failed",
            "log_level": "error",
            "placement": "coldest",
            "reason": "RuntimeError: boom",
            "placed_by": "binpack",
        }
    ]


async def test_several_chunks_are_on_their_way_at_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "ROWS_MAX", 5)
    leader = Leader()
    proposed: list[int] = []
    answered = 0
    most = 0
    propose = leader.api.proposer.propose

    async def slowly(command: Command, **fields: Any) -> Outcome:
        nonlocal answered, most
        if isinstance(command, ApplyPlan):
            proposed.append(int(command.placements.ordinal[0]))
            most = max(most, len(proposed) - answered)
            for _ in range(20):
                await asyncio.sleep(0)
            answered += 1
        return await propose(command, **fields)

    monkeypatch.setattr(leader.api.proposer, "propose", slowly)
    async with leading(leader):
        await leader.api.register("a")
        await leader.api.submit("web", count=40)
        await leader.until(lambda: len(leader.api.state.table.live_rows()) == 40)
    assert proposed == list(range(0, 40, 5))
    assert most == leader_loop.ON_THEIR_WAY


async def test_an_allocation_that_begins_to_run_costs_no_round() -> None:
    async with leading(Leader()) as leader:
        await leader.api.register("a")
        await leader.api.submit("web")
        await leader.until(lambda: len(leader.api.state.table.live_rows()) == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        rounds = leader.rounds
        (row,) = leader.api.state.table.live_rows().tolist()
        key = codec.encode(views.assignment(leader.api.state, row).key, agent_pb2.AssignmentKey())
        report = agent_pb2.ReportStatusesRequest(
            request_id="r",
            node_id="a",
            observations=[agent_pb2.Observation(key=key, state=types_pb2.ALLOC_STATE_RUNNING)],
        )
        await leader.api.agents.report_statuses(report, call("agent:n1"))
        assert leader.api.state.table.state[row] == AllocState.RUNNING
        for _ in range(20):
            await asyncio.sleep(0)
        assert leader.rounds == rounds


async def test_what_is_over_the_limits_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_loop, "COLLECT_EVERY_S", 0.005)
    async with leading(Leader()) as leader:
        await leader.api.submit("web", request_id="r1")
        assert len(leader.api.state.answers) == 1
        leader.api.now_ms += 25 * 3600 * 1000
        await leader.api.submit("db")
        await leader.until(lambda: leader.api.state.answers.get(("client:admin", "r1")) is None)


async def test_a_verdict_that_changes_nothing_is_not_repeated_in_a_hot_loop() -> None:
    async with leading(Leader()) as leader:
        api = leader.api
        await api.register("a", name="same")
        leader.now += 16
        api.log._notify()
        await leader.until(lambda: api.state.nodes["a"].status is NodeStatus.LOST)
        await api.register("b", identity="agent:n2", name="same")
        await leader.until(lambda: "a" in leader.liveness._lost)
        index = api.state.index
        leader.now += GATHER_S
        leader.liveness.beat("a")  # it is heard, but another node has its name now
        await leader.until(lambda: api.state.index == index + 1)
        leader.now += GATHER_S
        leader.liveness.beat("a")
        api.log._notify()
        for _ in range(200):
            await asyncio.sleep(0)
        assert api.state.index == index + 1
        assert api.state.nodes["a"].status is NodeStatus.LOST


async def test_the_mass_loss_brake_is_told_by_one_event() -> None:
    async with leading(Leader()) as leader:
        api = leader.api
        for number, name in enumerate("abcd"):
            await api.register(name, identity=f"agent:n{number}")
        leader.now += 16

        def told() -> list[str]:
            return [event.message for event in api.state.events.after(0) if event.kind == "node.braked"]

        api.log._notify()
        await leader.until(lambda: bool(told()))
        for _ in range(3):
            api.log._notify()
            await leader.until(lambda: leader.seen == api.state.index)
        assert len(told()) == 1
        assert "4 of 4 ready nodes" in told()[0]
        assert all(node.status is NodeStatus.READY for node in api.state.nodes.values())


async def test_the_feature_level_rises_once_every_peer_supports_it() -> None:
    leader = Leader()
    levels = [HIGHEST, LAST_WITHOUT_RULES]
    status = leader.api.log.status

    def with_levels() -> LogStatus:
        (me,) = status().peers
        return replace(
            status(), peers=tuple(replace(me, peer_id=f"p{at}", feature_level=n) for at, n in enumerate(levels))
        )

    leader.api.log.status = with_levels  # type: ignore[method-assign]
    async with leading(leader):
        await leader.api.submit("web")
        index = leader.api.state.index
        await leader.until(lambda: leader.seen == index)
        assert leader.api.state.feature_level == 0, "one peer would judge otherwise"
        levels[1] = HIGHEST - 1
        await leader.api.submit("api")
        await leader.until(lambda: leader.api.state.feature_level == HIGHEST - 1)
        levels[1] = HIGHEST + 1
        await leader.api.register("a")
        await leader.until(lambda: leader.api.state.feature_level == HIGHEST)
        await leader.until(lambda: len(leader.api.state.table.live_rows()) == 2)
    assert sum(event.kind == "feature.raised" for event in leader.api.state.events.after(0)) == 2


async def test_periodic_jobs_go_on_while_the_leaders_clock_is_an_hour_behind_cluster_time() -> None:
    """A leader's clock was an hour fast, and is right again: cluster time must not stand for an hour."""
    passed_s = 0.0

    def clock_of(api: Api) -> Callable[[], int]:
        return ClusterClock(lambda: api.state.time_ms, wall_ms=lambda: api.now_ms, monotonic=lambda: passed_s)

    def runs() -> int:
        return sum(job.spec.name != "tick" for job in leader.api.state.jobs.values())

    leader = Leader(clock_of=clock_of)
    leader.api.proposer._clock_ms = leader.loop._clock_ms
    async with leading(leader):
        leader.api.now_ms += 3_600_000
        periodic = types_pb2.PeriodicSpec(cron=["@every 60s"])
        await leader.api.submit("tick", type=types_pb2.JOB_TYPE_BATCH, periodic=periodic)
        leader.api.now_ms -= 3_600_000
        passed_s += 130.0
        leader.loop._woken.set()
        await leader.until(lambda: runs() == 1)
