"""``SimPeer``: one simulated peer, made of the real parts: engine, journal, snapshots, state machine, leader's loop.

Owns: how a peer is put together (as ``orchestrator.daemon`` does it) and its lives: start, kill, loss of power, exit,
a wiped disk. Leaves when these happen to ``faults``, and what must hold to ``witness``. The one rule: nothing of the
product is replaced but the disk, the wires, the clocks, the randomness and the threads.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator import plan
from orchestrator.contract.errors import CorruptError, NoLeaderError, RaftsmanError, UnknownOutcomeError
from orchestrator.leader.cluster import StateCluster
from orchestrator.leader.liveness import Liveness
from orchestrator.leader.loop import LeaderLoop
from orchestrator.replication import snapshots
from orchestrator.replication.cluster_clock import ClusterClock
from orchestrator.replication.disk import Disk
from orchestrator.replication.epochs import EpochLog
from orchestrator.replication.journal import FileJournal
from orchestrator.replication.journals import FileJournals, any_holds_anything
from orchestrator.replication.machine import admission_payload
from orchestrator.replication.propose import Proposer
from orchestrator.replication.settings import EngineConfig, Guards
from tests.sim.disk import PowerCutError
from tests.sim.faulty_disk import FaultyDisk, Trap
from tests.sim.holes import Holes
from tests.sim.process import ProcessLoop, SimProcess
from tests.sim.watched import WatchedLog, WatchedMachine, WatchedSnapshots
from tests.sim.wires import Wire, Wires
from tests.sim.witness import Witness

T = TypeVar("T")


@dataclass(slots=True)
class Life:
    """The parts of a running peer."""

    process: SimProcess
    wire: Wire
    machine: WatchedMachine
    log: EpochLog
    proposer: Proposer
    liveness: Liveness
    loop: LeaderLoop


class SimPeer:
    """``configured``: the peers that its process is started with."""

    def __init__(
        self,
        peer_id: str,
        configured: list[str],
        *,
        loop: ProcessLoop,
        wires: Wires,
        witness: Witness,
        holes: Holes,
        rng: random.Random,
        config: EngineConfig,
        guards: Guards,
        append_bytes: int,
        thread_s: float,
        segment_bytes: int,
        lost_after_ms: int,
        clock_rate: float,
        trace: Callable[..., None],
    ) -> None:
        self.peer_id = peer_id
        self.configured = configured
        self._loop = loop
        self._wires = wires
        self._witness = witness
        self._holes = holes
        self._rng = rng
        self._config = config
        self._guards = guards
        self._append_bytes = append_bytes
        self._thread_s = thread_s
        self._segment_bytes = segment_bytes
        self._lost_after_ms = lost_after_ms
        self._clock_rate = clock_rate
        self._trace = trace
        self.wall_offset_ms = 0
        self.cut_at_install = (
            False  # power goes when a leader's snapshot is stored and the journal does not know it yet
        )
        self.slow_disk_s = 0.0  # what a flush takes at most
        self.slow_thread_s = 0.0  # what work in a thread takes at most, if more than usual
        self.life: Life | None = None
        self.process: SimProcess | None = None
        self.corrupt = ""  # why it refuses to start
        self.flipped = False  # a byte of its disk is wrong, which may not have been noticed yet
        self.retired = 0  # the epoch without it: its process has ended for good
        self.epoch = 1  # the newest that its present disk has entered
        self.exits = 0
        self.starts = 0
        self.crashes = 0
        self._disks = 0
        self.disk: FaultyDisk
        self.new_disk()

    # ------------------------------------------------------------------ its disk

    def new_disk(self) -> None:
        """An empty disk under the same peer id."""
        self._disks += 1
        self.incarnation = f"{self.peer_id}-disk-{self._disks}"
        self.disk = FaultyDisk(self._rng.getrandbits(32))
        self.disk.power_went = self._power_went
        self.disk.flushed = self._flushed
        self.corrupt = ""
        self.flipped = False
        self.epoch = 0 if self._disks > 1 else 1

    @property
    def wiped(self) -> bool:
        return self._disks > 1

    @property
    def admitted(self) -> bool:
        """Whether its present disk is admitted, as far as anybody has applied."""
        newest = self._witness.newest
        return newest is not None and newest.admitted.get(self.peer_id) == self.incarnation

    def counts(self, other: SimPeer) -> bool:
        """Whether it runs and has applied that the other's present disk is admitted."""
        if self.life is None or not self.running:
            return False
        return self.life.machine.admitted().get(other.peer_id) == other.incarnation

    def _flushed(self, step: str) -> None:
        if self.slow_disk_s and step.startswith("journal") and self.life is not None:
            self.life.process.block(self._rng.uniform(0, self.slow_disk_s))

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self._loop.time() * 1000) + self.wall_offset_ms

    # ------------------------------------------------------------------ its lives

    @property
    def running(self) -> bool:
        return self.life is not None and self.life.log.running

    @property
    def engine(self) -> WatchedLog | None:
        """The present epoch's, while it runs."""
        engine = self.life.log.engine if self.life is not None else None
        return engine if isinstance(engine, WatchedLog) and engine.running else None

    @property
    def standing(self) -> tuple[int, int]:
        """Epoch and term."""
        return (self.life.log.epoch, self.life.log.term) if self.life is not None else (0, 0)

    @property
    def up(self) -> bool:
        """It runs or is about to."""
        return self.process is not None

    def start(self) -> None:
        """Begin a new life; it is ``running`` some moments later, unless its disk is damaged or a trap waits there."""
        assert self.process is None and not self.retired, self.peer_id
        self.starts += 1
        process = self.process = SimProcess(self.peer_id, self._loop, rate=self._clock_rate)
        self._trace("start", self.peer_id)
        process.spawn(self._boot(process))

    async def _boot(self, process: SimProcess) -> None:
        base = Path("/") / self.peer_id
        try:
            stored = any_holds_anything(base, self.disk) or snapshots.holds_anything(base / "snapshots", self.disk)
            life = self._assemble(process, base, fresh=not stored)
            self.life = life
            await life.log.start()
        except CorruptError as error:
            self.corrupt = str(error)
            self._trace("corrupt", self.peer_id, str(error))
            if not self.flipped:
                self._witness.violation(f"{self.peer_id} finds damage that nobody did: {error}")
            self.kill(silent=False)
        except OSError as error:
            self._trace("disk failed at start", self.peer_id, str(error))
            self.exits += 1
            self.kill(silent=False)
        except PowerCutError:
            pass  # it is dead already
        except RaftsmanError as error:
            if self.process is process:
                self._witness.violation(f"{self.peer_id} does not start: {error}")
        else:
            if self.process is process:
                process.spawn(life.loop.run())

    def _assemble(self, process: SimProcess, base: Path, *, fresh: bool) -> Life:
        machine = WatchedMachine(self.peer_id, self._witness)
        wire = Wire(self._wires, self.peer_id, process)
        log = self.build_log(process, base, machine, wire, fresh=fresh)
        clock_ms = ClusterClock(lambda: machine.state.time_ms, wall_ms=self.wall_ms, monotonic=process.clock)
        proposer = Proposer(log, clock_ms=clock_ms)
        liveness = Liveness(clock=process.clock, bound_ms=self._lost_after_ms)
        loop = LeaderLoop(
            log, proposer, StateCluster(lambda: machine.state), liveness, decide=plan.decide, clock_ms=clock_ms,
            clock=process.clock, mint=lambda: f"{self._rng.getrandbits(128):032x}",
        )  # fmt: skip
        return Life(process, wire, machine, log, proposer, liveness, loop)

    def build_log(
        self, process: SimProcess, base: Path, machine: WatchedMachine, wire: Wire, *, fresh: bool
    ) -> EpochLog:
        def open_one(path: Path, disk: Disk) -> FileJournal:
            return FileJournal(path, disk=disk, segment_bytes=self._segment_bytes, entropy=self._rng.randbytes)

        async def run_blocking(work: Callable[[], T]) -> T:
            # The work is done at one moment; before it and after it, turns go on without it.
            longest = max(self._thread_s, self.slow_thread_s)
            await asyncio.sleep(self._rng.uniform(0, longest / 2))
            done = work()
            await asyncio.sleep(self._rng.uniform(0, longest / 2))
            return done

        store = WatchedSnapshots(base / "snapshots", disk=self.disk)
        store.written = lambda meta, checksum: self._witness.snapshot(self.peer_id, meta.index, checksum)
        log = EpochLog(
            peer_id=self.peer_id, peers={peer: f"{peer}:7400" for peer in self.configured}, machine=machine,
            journals=FileJournals(base, disk=self.disk, open_one=open_one), snapshots=store, network=wire,
            incarnation=self.incarnation, fresh=fresh,
            admission_payload=lambda cluster, disks: admission_payload(cluster, disks, time_ms=self.wall_ms()),
            config=self._config, guards=self._guards, clock=process.clock,
            rng=random.Random(self._rng.getrandbits(64)), retired=self._retired, exit_process=self._exited,
            run_blocking=run_blocking,
        )  # fmt: skip

        def make_engine(**parts: Any) -> WatchedLog:
            self.epoch = max(self.epoch, parts["config"].epoch)
            return WatchedLog(
                witness=self._witness, holes=self._holes, append_bytes=self._append_bytes,
                installing=self._installing, **parts,
            )  # fmt: skip

        log.make_engine = make_engine
        return log

    def _installing(self) -> None:
        """A leader's snapshot took the place of log and state; the journal will know with its next flush."""
        if self.cut_at_install:
            self.cut_at_install = False
            self.disk.trap = Trap(self._rng.choice(("journal:write", "journal:fdatasync")))

    def _retired(self, epoch: int) -> None:
        """It was removed, and a majority of the new peers goes on without it."""
        self._trace("retired", self.peer_id, epoch)
        self.retired = epoch
        self.kill(silent=False)

    def _exited(self, code: int) -> None:
        self._trace("exit", self.peer_id, code)
        self.exits += 1
        self.kill(silent=False)

    def _power_went(self) -> None:
        self._trace("power", self.peer_id)
        self.kill(silent=True)
        self.disk.crash()

    def crash(self) -> None:
        """Power is lost, now."""
        self._power_went()

    def kill(self, *, silent: bool) -> None:
        """The process is gone; what it wrote is there."""
        process, self.process = self.process, None
        life, self.life = self.life, None
        if process is None:
            return
        self.crashes += 1
        self._holes.died()
        self._trace("dead", self.peer_id)
        if life is not None:
            life.log.kill()
            life.wire.drop(silent=silent)
        process.end(UnknownOutcomeError("the peer is gone"))

    # ------------------------------------------------------------------ calls from outside

    async def call(self, handler: Callable[[Life], Coroutine[Any, Any, T]], *, timeout_s: float) -> T:
        """Run a handler in the peer's process. Raises what it raises, or ``UnknownOutcomeError`` if no answer comes."""
        life = self.life
        if life is None or not life.log.running:
            raise NoLeaderError(f"{self.peer_id} does not answer")
        return await life.process.ask(handler(life), timeout_s=timeout_s)
