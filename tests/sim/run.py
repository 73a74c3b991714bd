"""``run_seed``: one run, from a seed to what became of it.

Owns: the order of a run (first start, faults, quiet, the final audit) and its summary. Leaves the parts to ``world``,
``faults``, ``clients``, ``agents``. The one rule: a run is a function of seed, peers and guards; nothing else is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from orchestrator.contract.model import AllocState, Desired
from orchestrator.contract.transitions import TERMINAL
from orchestrator.reconcile.rounds import reconcile
from orchestrator.replication.settings import Guards
from orchestrator.state.model import Job
from orchestrator.state.state import State
from orchestrator.state.views import cluster_view
from tests import listed
from tests.sim.agents import Floor, SimAgent
from tests.sim.clients import NAMESPACE, NODES, TICK, Clients
from tests.sim.disk import PowerCutError
from tests.sim.faults import Faults
from tests.sim.histories import judge
from tests.sim.process import ProcessLoop, current
from tests.sim.schedule import Schedule
from tests.sim.world import World

MISTAKES = frozenset({"apply_failed", "a round failed", "replication.broken", "replication.unknown_frame"})
"""Log events that no fault excuses."""
TORN = frozenset({"journal.torn_tail_cut", "journal.unborn_segment_removed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    seed: int
    peers: int
    error: str  # "" if every promise was kept
    trace: str  # digest of everything that happened
    last_lines: list[str]
    holes: dict[str, int]
    steps: dict[str, int]  # step of journal or snapshots -> faults that struck there
    faults: dict[str, int]
    acknowledged: int
    reads: int
    unknown: int
    elections: int
    snapshots: int
    starts: int
    lossy_cuts: int  # power cuts that lost something
    wipes: int
    states: int
    hashes: int
    commands: int
    allocations_started: int
    ticks: int  # due times that came to a run
    ticks_skipped: int
    virtual_s: float
    wall_s: float


def replay_command(seed: int, peers: int) -> str:
    return f"scripts/soak --seed {seed} --peers {peers} -v"


def run_seed(
    seed: int, peers: int, *, guards: Guards | None = None, tell: Callable[[str], None] | None = None,
    schedule: Schedule | None = None,
) -> Outcome:  # fmt: skip
    """Never raises for a broken promise: that is ``error``. ``tell`` gets every line of the trace."""
    began = time.perf_counter()
    run = _Run(schedule or Schedule.draw(seed, peers), guards or Guards(), tell)
    collecting = gc.isenabled()
    gc.disable()  # what a dead process left behind would be unwound at a moment of its own
    try:
        with asyncio.Runner(loop_factory=ProcessLoop) as runner, run.listening():
            error = runner.run(run.main())
    finally:
        if collecting:
            gc.enable()
    return run.outcome(error, time.perf_counter() - began)


@dataclass(slots=True)
class _Run:
    schedule: Schedule
    guards: Guards
    tell: Callable[[str], None] | None
    world: World = field(init=False)
    clients: Clients = field(init=False)
    faults: Faults = field(init=False)
    floor: Floor = field(init=False)

    async def main(self) -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ProcessLoop)
        loop.set_exception_handler(self._unhandled)
        self.world = world = World(loop, self.schedule, guards=self.guards, tell=self.tell)
        self.clients = Clients(world)
        self.floor = Floor(world)
        agents = [SimAgent(world, self.floor, node) for node in NODES]
        self.faults = Faults(world, agents)
        tasks: list[asyncio.Task[Any]] = [loop.create_task(agent.live()) for agent in agents]
        try:
            for peer in world.peers.values():
                peer.start()
            if not self.schedule.from_the_start:
                await self._until(lambda: world.leader() is not None, "there is no first leader")
            writers = self.clients.start()
            tasks += writers
            await self.faults.run()
            self.clients.on = False
            await self.faults.stop()
            await self._until(lambda: world.leader() is not None, "no leader after the faults")
            await asyncio.gather(*writers)
            await self.clients.undo_cordons()
            if self.schedule.every_s:
                await self.clients.begin_ticking()
                await self._until(self._ticking, "no due time of the periodic job comes to a run")
                await self.clients.end_ticking()
            await self._until(self._settled, "not settled", say=self._unsettled)
            self._audit()
            world.witness.require()
        except AssertionError as error:
            return str(error) or "an assertion of the simulator failed"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for peer in world.peers.values():
                world.retire_disk(peer)
                peer.kill(silent=False)
            await asyncio.sleep(1)
        return world.witness.violations[0] if world.witness.violations else ""

    async def _until(self, condition: Callable[[], bool], what: str, say: Callable[[], str] | None = None) -> None:
        world = self.world
        deadline = world.loop.time() + self.schedule.settle_s
        while not condition():
            world.witness.require()
            if world.loop.time() > deadline:
                raise AssertionError(f"after {self.schedule.settle_s:.0f} s: {what}{': ' + say() if say else ''}")
            await asyncio.sleep(0.02)

    # ------------------------------------------------------------------ the end

    def _unsettled(self) -> str:
        """Why the cluster is not as it should be; "" if it is."""
        world = self.world
        peers = [world.peers[name] for name in world.members()]
        lives = [peer.life for peer in peers if peer.life is not None and peer.running]
        if len(lives) < len(peers):
            return "not all peers run"
        if world.leader() is None:
            return "no leader"
        states = {
            peer.peer_id: (engine.epoch, peer.life.machine.index, engine.core_commit)
            for peer in peers
            if (engine := peer.engine) is not None and peer.life is not None
        }
        if len(states) < len(peers):
            return f"not all peers are in an epoch: {states}"
        if len(set(states.values())) > 1:
            return f"peers have not applied the same: {states}"
        if not all(peer.admitted for peer in peers):
            return "a disk is not admitted: " + ", ".join(peer.peer_id for peer in peers if not peer.admitted)
        state = lives[0].machine.state
        if any(node not in state.nodes for node in NODES):
            return "a node is not registered"
        rows = listed.allocations(state)
        for uid, job in sorted(state.jobs.items()):
            newest = {row.id: row for row in rows if row.job_uid == uid}
            live = [row for row in newest.values() if row.state not in TERMINAL]
            wanted = (
                0
                if job.stopped or job.removing or job.spec.is_template
                else sum(group.count for group in job.spec.groups)
            )
            settled = [row for row in live if row.desired is Desired.RUN and row.state is AllocState.RUNNING]
            ended = [row for row in newest.values() if row.state is AllocState.COMPLETE]
            missing = 0 if len(settled) == wanted else wanted - len(settled) - len(ended)
            wrong = f"job {job.spec.name} wants {wanted}, has {len(settled)} running of {len(live)} live"
            if len(live) != len(settled):
                return wrong
            old = any(row.job_version < job.group_versions[0] for row in settled)
            if missing <= 0 and not old:
                continue
            given_up = _given_up(state, job)
            if missing > 0 and missing > given_up:
                return wrong
            # What fails for good halts the rollout, so that the rest of the old version stays.
            if not given_up and old:
                return f"job {job.spec.name} runs an old version"
        really = sorted((slot, node, attempt) for slot, runs in self.floor.running().items() for node, attempt in runs)
        believed = sorted(
            ((row.job_uid, row.id.group, row.id.ordinal), row.node_id, row.attempt)
            for row in rows
            if row.state not in TERMINAL
        )
        return "" if really == believed else f"{really} run, but the state says {believed}"

    def _settled(self) -> bool:
        return not self._unsettled()

    def _ticking(self) -> bool:
        """Whether a leader deals with due times in time. One whose wall clock is behind the cluster's time cannot."""
        leader = self.world.leader()
        if leader is None or leader.life is None:
            return False
        state, every_ms = leader.life.machine.state, 1_000 * self.schedule.every_s
        job = state.find_job(NAMESPACE, TICK)
        if job is None or job.schedule is None or job.stopped:
            return False
        now_ms = max(leader.wall_ms(), state.time_ms)
        return job.schedule.last_ms > 0 and now_ms - job.schedule.last_ms < 2 * every_ms

    def _audit(self) -> None:
        """All peers hold one state; every acknowledged write is in it; what clients saw is linearizable."""
        world = self.world
        hashes = {
            name: life.machine.state_hash() for name in world.members() if (life := world.peers[name].life) is not None
        }
        if len(set(hashes.values())) != 1:
            world.witness.violation(f"states differ at the end: {hashes}")
        for peer in world.peers.values():
            if peer.life is not None:
                world.witness.check_invariants(peer.peer_id, peer.life.machine.state)
        for problem in judge(self.clients.history, world.witness.value_at):
            world.witness.violation(problem)

    # ------------------------------------------------------------------ listening

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, PowerCutError):
            self.world.witness.violation(f"{context.get('message')}: {error!r}")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hear what the product logs, instead of printing it."""
        before = structlog.get_config()
        level = 0 if self.tell is not None else 30
        structlog.configure(
            processors=[self._heard], wrapper_class=structlog.make_filtering_bound_logger(level),
            cache_logger_on_first_use=False,
        )  # fmt: skip
        try:
            yield
        finally:
            structlog.configure(**before)

    def _heard(self, _logger: object, level: str, event: Any) -> Any:
        name = event.get("event", "")
        process = current()
        where = process.name if process is not None else "-"
        if name in TORN:
            self.world.holes.reached("S11")
        # A real process that exits does nothing more; a simulated one goes on to the end of what it was doing.
        if name in MISTAKES and (process is None or process.alive):
            self.world.witness.violation(f"{where} logged {name}: {event.get('error') or event.get('exc_info')}")
        if self.tell is not None:
            details = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("event", "level"))
            self.tell(f"{self.world.seconds:9.4f} {where} {level} {name} {details}")
        raise structlog.DropEvent

    # ------------------------------------------------------------------ the summary

    def outcome(self, error: str, wall_s: float) -> Outcome:
        world, witness = self.world, self.world.witness
        world.holes.refused_commands(witness.rejected)
        return Outcome(
            seed=self.schedule.seed, peers=self.schedule.peers, error=error,
            trace=f"{world.digest:08x}-{world.wires.digest:08x}", last_lines=world.last_lines,
            holes=dict(world.holes.counts), steps=dict(world.steps_struck), faults=dict(self.faults.done),
            acknowledged=self.clients.acknowledged, reads=self.clients.reads, unknown=self.clients.unknown,
            elections=len(witness.leaders), snapshots=0, starts=sum(peer.starts for peer in world.peers.values()),
            lossy_cuts=world.lossy_cuts, wipes=self.faults.wipes, states=witness.compared, hashes=witness.hashed,
            commands=len(witness.applied), allocations_started=self.floor.starts,
            ticks=len(witness.ticks.runs), ticks_skipped=witness.ticks.skipped, virtual_s=world.seconds,
            wall_s=wall_s,
        )  # fmt: skip


def _given_up(state: State, job: Job) -> int:
    """Instances that failed for good: agents may fail to start one as often as its job has it tried."""
    notes = reconcile(cluster_view(state), state.time_ms).groups
    return sum(note.failed for (slot, _), note in notes.items() if slot == job.slot)
