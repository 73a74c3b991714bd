"""The leader's loop: while this peer leads, look at the whole state, decide, propose; again when something changed.

Owns: when to look (a change, a deadline, never a period), keeping the loop free while a large plan is made, judging
silent nodes, starting what is due (``schedule``), collecting, raising the feature level. Leaves to others: what should
be (``plan``), whether it goes in (``state.apply``), hearing heartbeats (``liveness``). The rule: leadership is a hint
to run, never permission; a deposed peer's proposals fail, and nothing that a round decided outlives the round.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog
from prometheus_client import Counter, Histogram

from orchestrator.contract.errors import NoLeaderError, NotLeaderError, RaftsmanError
from orchestrator.leader.liveness import Liveness
from orchestrator.leader.schedule import Templates, Timetable, minted
from orchestrator.reconcile.sight import Sight, Views
from orchestrator.replication.cluster_clock import unix_ms
from orchestrator.replication.log import ReplicatedLog
from orchestrator.replication.propose import Proposer
from orchestrator.scheduling import registry
from orchestrator.state.commands import (
    Applied,
    ApplyPlan,
    Collect,
    Command,
    EndRollouts,
    PlanAnswer,
    Rejected,
    RolloutVerdict,
    SetFeatureLevel,
    WriteAnswer,
)
from orchestrator.state.features import HIGHEST, LAST_WITHOUT_RULES
from orchestrator.state.model import Node
from orchestrator.state.views import ClusterView

logger = structlog.get_logger(__name__)

PLACEMENTS = Counter("raftsman_placements", "Placements that this peer's plans brought into the state")
STALE_ROWS = Counter("raftsman_plan_rows_rejected", "Rows of this peer's plans that were stale when they were applied")
PLAN_SECONDS = Histogram(
    "raftsman_plan_seconds",
    "Time to decide one round",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
FAILURES = Counter("raftsman_leader_loop_failures", "Rounds that ended with an unexpected error")

INLINE_ROWS = 500
"""A view with fewer allocations and asked-for instances is decided at once; a thread would cost more."""
PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
BRIEF_S = 0.02
COLLECT_EVERY_S = 60.0
IDLE_S = 30.0
ON_THEIR_WAY = 4
"""Chunks of one plan that are proposed before the first is committed."""


class Plan(Protocol):
    """What ``plan.decide`` returns. ``wake_at_ms``: unix ms at which the outcome can differ by itself; None: never."""

    @property
    def plans(self) -> Sequence[ApplyPlan]: ...

    @property
    def wake_at_ms(self) -> int | None: ...

    @property
    def verdicts(self) -> Sequence[RolloutVerdict]:
        """Rollouts that are over."""

    @property
    def pending(self) -> bool:
        """Something waits for what other jobs and nodes do, or for a time: the next round looks at everything."""

    @property
    def more(self) -> bool:
        """The round ended at its bound: another is to follow as soon as its plans are in."""

    @property
    def blind(self) -> bool:
        """The view of some jobs alone did not suffice: everything is to be looked at in its place, at once."""

    @property
    def left(self) -> Sequence[int] | None:
        """Then the slots of the jobs that it did not get to, where no others need a look for that."""


class Cluster(Views, Templates, Protocol):
    """The replicated state, as far as the leader's loop reads it. Called on the loop that owns it."""

    @property
    def index(self) -> int: ...

    @property
    def feature_level(self) -> int: ...

    def nodes(self) -> Iterable[Node]: ...

    def collectable(self, now_ms: int) -> bool: ...


class LeaderLoop:
    """Run as one task for the life of the process; it sleeps while this peer does not lead.

    ``clock_ms`` gives unix milliseconds (a peer's: ``ClusterClock``), ``clock`` seconds that never go back,
    ``mint`` uids of runs.
    """

    def __init__(
        self,
        log: ReplicatedLog,
        proposer: Proposer,
        cluster: Cluster,
        liveness: Liveness,
        *,
        decide: Callable[[ClusterView, int], Plan],
        clock_ms: Callable[[], int] = unix_ms,
        clock: Callable[[], float] = time.monotonic,
        mint: Callable[[], str] = minted,
    ) -> None:
        self._log = log
        self._proposer = proposer
        self._cluster = cluster
        self._liveness = liveness
        self._decide = decide
        self._clock_ms = clock_ms
        self._clock = clock
        self._woken = asyncio.Event()
        self._collect_at = 0.0
        self._stale_pause = PAUSE_S
        self._judge_after = 0.0
        self._rest_until = 0.0
        self._sight = Sight(cluster)
        self._timetable = Timetable(cluster, mint=mint)
        self._failed_placements: set[str] = set()  # that were told

    async def run(self) -> None:
        """Never returns and never raises, except when cancelled."""
        unsubscribe = self._log.subscribe(self._woken.set)
        self._liveness.on_back = self._woken.set
        try:
            while True:
                await self._log.leadership_changed(was=False)
                await self._lead()
        finally:
            unsubscribe()

    async def _lead(self) -> None:
        term = self._log.term
        logger.info("leading", term=term)
        self._liveness.begin()
        self._collect_at = self._clock() + COLLECT_EVERY_S
        self._stale_pause = pause = PAUSE_S
        self._judge_after = 0.0
        self._sight.forget()
        self._timetable.forget()
        try:
            while self._log.is_leader() and self._log.term == term:
                try:
                    wait_s = await self._round()
                    pause = PAUSE_S
                except (NotLeaderError, NoLeaderError):
                    wait_s = PAUSE_S
                except RaftsmanError as error:
                    # Overloaded, or an outcome that is unknown: the next round sees what came of it.
                    logger.warning("a round was cut short", reason=error.reason, message=error.message)
                    wait_s = PAUSE_S
                except Exception:
                    FAILURES.inc()
                    logger.exception("a round failed")
                    await asyncio.sleep(pause)
                    wait_s, pause = 0.0, min(2 * pause, LONGEST_PAUSE_S)
                await self._wait(wait_s)
        finally:
            self._liveness.end()
            self._sight.rest()
            logger.info("no longer leading", term=term)

    async def _wait(self, seconds: float) -> None:
        """Until something changed, or ``seconds`` passed."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _round(self) -> float:
        """One look at everything; returns the seconds after which to look again even if nothing changes."""
        # A turn of the loop at least, here and for the task that proposes: what came meanwhile shares the plan's entry.
        # Without them jobs that come one by one took twice as long (docs/scale.md).
        await asyncio.sleep(max(0.0, self._rest_until - self._clock()))
        self._woken.clear()
        await self._judge()
        if await self._collect() or await self._raise_features():
            return 0.0
        now_ms = self._clock_ms()
        due = self._timetable.due(now_ms)
        if due is not None:
            # What went in is in the state now; what did not was dealt with by another leader, or will be looked at.
            return 0.0 if await self._changes(due) else PAUSE_S
        found = await self._decide_now(now_ms)
        if found is not None and found[1].blind:
            self._sight.forget()
            found = await self._decide_now(now_ms)
        if found is None:
            return self._pause_s(self._sight.wake_at_ms)
        view, plan, took = found
        PLAN_SECONDS.observe(took)
        if took > BRIEF_S and not plan.more:
            # A large cluster changes all the time: at most half of it goes into deciding, even in another thread.
            self._rest_until = self._clock() + took
        self._sight.decided(view, pending=plan.pending, more=plan.more, left=plan.left, wake_at_ms=plan.wake_at_ms)
        ended = False
        if plan.verdicts:
            ended = await self._changes(EndRollouts(verdicts=tuple(plan.verdicts)))
            if not ended:
                self._sight.forget()  # something moved since
        if plan.plans:
            await self._apply(plan.plans)
            return 0.0
        if plan.verdicts:
            return 0.0 if ended else PAUSE_S
        return self._pause_s(plan.wake_at_ms)

    async def _decide_now(self, now_ms: int) -> tuple[ClusterView, Plan, float] | None:
        """What is looked at, what comes of it, and the seconds that took; None: there is nothing to decide about."""
        make_room = self._sight.make_room()
        if make_room is not None:
            await asyncio.to_thread(make_room)
        began = self._clock()
        view = self._sight.look(now_ms)
        if view is None:
            return None
        try:
            if _is_large(view):
                plan = await asyncio.to_thread(self._decide, view, now_ms)
            else:
                plan = self._decide(view, now_ms)
        except BaseException:
            self._sight.forget()
            raise
        for name, why in registry.failures():
            if name not in self._failed_placements:
                self._failed_placements.add(name)
                logger.error("placement_failed", placement=name, reason=why, placed_by=registry.DEFAULT)
        return view, plan, self._clock() - began

    def _pause_s(self, wake_at_ms: int | None) -> float:
        """How long to sleep if nothing changes."""
        wait_s = min(IDLE_S, max(self._liveness.next_judgement_s(), self._judge_after - self._clock()))
        wait_s = min(wait_s, max(0.0, self._collect_at - self._clock()))
        for at_ms in (wake_at_ms, self._timetable.wake_at_ms):
            if at_ms is not None:
                wait_s = min(wait_s, max(0.0, (at_ms - self._clock_ms()) / 1000))
        return max(wait_s, 0.001)

    async def _judge(self) -> None:
        """Write who is lost and who is back; a verdict that changes nothing is not repeated at once."""
        # Looking at every node after every commit would cost a large cluster more than anything else here.
        if self._clock() < self._judge_after or not self._liveness.due():
            return
        mark = self._liveness.judge(self._cluster.nodes())
        if mark is not None and not await self._changes(mark):
            self._judge_after = self._clock() + LONGEST_PAUSE_S

    async def _apply(self, plans: Sequence[ApplyPlan]) -> None:
        """Propose the chunks in order, some at a time: the next is made and stored while one is on its way to the
        others. If anything of them was stale, the next round looks at everything."""
        whole = True
        waiting: deque[asyncio.Task[object]] = deque()
        went_in = False
        try:
            for plan in plans:
                if len(waiting) >= ON_THEIR_WAY:
                    answer = await waiting.popleft()
                    went_in, whole = _count(answer, went_in, whole)
                waiting.append(asyncio.create_task(self._propose(plan)))
            while waiting:
                answer = await waiting.popleft()
                went_in, whole = _count(answer, went_in, whole)
        except BaseException:
            # What became of the others the next round sees in the state.
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            self._sight.forget()
            raise
        if not whole:
            self._sight.forget()
        if went_in:
            self._stale_pause = PAUSE_S
        else:
            # Each refused plan is a command, and a command wakes this loop: without a pause it would spin.
            logger.warning("nothing of a plan went in", pause_s=self._stale_pause)
            await asyncio.sleep(self._stale_pause)
            self._stale_pause = min(2 * self._stale_pause, LONGEST_PAUSE_S)

    async def _collect(self) -> bool:
        """Forget what is over the limits, when it is time; whether there may be more."""
        if self._clock() < self._collect_at:
            return False
        if self._cluster.collectable(self._clock_ms()) and await self._changes(Collect()):
            return True
        self._collect_at = self._clock() + COLLECT_EVERY_S
        return False

    async def _raise_features(self) -> bool:
        """Once every peer said that it understands more than all of them were known to; whether it was raised."""
        if self._cluster.feature_level >= HIGHEST:
            return False
        known = min((peer.feature_level for peer in self._log.status().peers), default=0)
        level = min(known, HIGHEST)
        if level <= max(self._cluster.feature_level, LAST_WITHOUT_RULES):
            return False
        return await self._changes(SetFeatureLevel(level=level))

    async def _changes(self, command: Command) -> bool:
        answer = await self._propose(command)
        return isinstance(answer, WriteAnswer) and answer.changed

    async def _propose(self, command: Command) -> object:
        outcome = await self._proposer.propose(command)
        if isinstance(outcome, Rejected):
            logger.warning(
                "the leader's command was refused",
                command=type(command).__name__,
                reason=outcome.reason,
                message=outcome.message,
            )
            return None
        assert isinstance(outcome, Applied)
        return outcome.answer


def _count(answer: object, went_in: bool, whole: bool) -> tuple[bool, bool]:
    """Whether something went in by now, and whether everything did."""
    if not isinstance(answer, PlanAnswer):
        return went_in, False
    PLACEMENTS.inc(answer.placed)
    STALE_ROWS.inc(len(answer.rejected))
    if answer.rejected:
        logger.info("part of a plan was stale", rows=len(answer.rejected), first=answer.rejected[0])
    return went_in or answer.placed + answer.acted > 0, whole and not answer.rejected


def _is_large(view: ClusterView) -> bool:
    if len(view.allocations) > INLINE_ROWS or len(view.jobs) > INLINE_ROWS:
        return True
    if view.held is None and len(view.nodes) > INLINE_ROWS:
        return True
    return sum(group.count for job in view.jobs.values() for group in job.spec.groups) > INLINE_ROWS
