"""``World``: one run's peers, wires, witness, clients and agents, and the record of what happened.

Owns: who is there and how one reaches them; the trace. Leaves what happens when to ``faults``. The one rule: everything
random comes from generators that the seed makes, so equal seeds give equal traces.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from orchestrator.contract.errors import NoLeaderError
from orchestrator.replication.settings import Guards
from tests.sim.holes import Holes
from tests.sim.meddler import Meddler
from tests.sim.peer import Life, SimPeer
from tests.sim.process import ProcessLoop
from tests.sim.schedule import Schedule
from tests.sim.watched import WatchedLog
from tests.sim.wires import Wires
from tests.sim.witness import Witness

T = TypeVar("T")

KEPT_LINES = 60
"""Lines of the trace that a failure shows unless all were asked for."""


class World:
    def __init__(
        self, loop: ProcessLoop, schedule: Schedule, *, guards: Guards, tell: Callable[[str], None] | None
    ) -> None:
        self.loop = loop
        self.schedule = schedule
        self._tell = tell
        self._began = loop.time()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.digest = 0  # of the trace
        self._rng = random.Random(f"world-{schedule.seed}-{schedule.peers}")
        self.holes = Holes()
        self.witness = Witness(
            stride=schedule.stride,
            every_ms=1_000 * (schedule.every_s or 1),
            trace=self.trace,
            believes=self.believes,
            holders=self.holders,
        )
        self.wires = Wires(loop, self.new_rng(), delay_s=schedule.delay_s)
        self._guards = guards
        self._first = [f"p{number}" for number in range(1, schedule.peers + 1)]
        self.peers: dict[str, SimPeer] = {}
        for name, rate in zip(self._first, schedule.clock_rates, strict=True):
            self.peers[name] = self._new_peer(name, self._first, rate)
        self.meddler = Meddler(
            self.peers, self.holes, self.new_rng(), votes=schedule.duplicate_votes, chunks=schedule.damaged_chunks,
            foreign=schedule.foreign_commands, commits=schedule.late_commits,
        )  # fmt: skip
        self.wires.tap = self.meddler.tap
        self.quiet = False  # the faults are over
        self.changing = 0  # changes of the peers that are just proposed
        self.holes.change_in_flight = lambda: bool(self.changing) or self.between_epochs
        self.steps_struck: dict[str, int] = {}
        self.lossy_cuts = 0

    def new_rng(self) -> random.Random:
        return random.Random(self._rng.getrandbits(64))

    def _new_peer(self, name: str, configured: list[str], rate: float) -> SimPeer:
        schedule = self.schedule
        return SimPeer(
            name, configured, loop=self.loop, wires=self.wires, witness=self.witness, holes=self.holes,
            rng=self.new_rng(), config=schedule.config, guards=self._guards, append_bytes=schedule.append_bytes,
            thread_s=schedule.thread_s, segment_bytes=schedule.segment_bytes, lost_after_ms=schedule.lost_after_ms,
            clock_rate=rate, trace=self.trace,
        )  # fmt: skip

    def add_peer(self) -> SimPeer:
        """A machine with an empty disk, started as one is that is to be added."""
        name = f"p{len(self.peers) + 1}"
        peer = self.peers[name] = self._new_peer(name, [*self.members(), name], 1.0)
        peer.start()
        return peer

    # ------------------------------------------------------------------ the record

    @property
    def seconds(self) -> float:
        return self.loop.time() - self._began

    def trace(self, *what: object) -> None:
        line = f"{self.seconds:9.4f} {' '.join(str(word) for word in what)}"
        self.digest = zlib.crc32(line.encode(), self.digest)
        self._lines.append(line)
        if self._tell is not None:
            self._tell(line)

    @property
    def last_lines(self) -> list[str]:
        return list(self._lines)

    def retire_disk(self, peer: SimPeer) -> None:
        """Add up what was counted on a disk that is about to be replaced, or at the end."""
        for step, count in peer.disk.struck.items():
            self.steps_struck[step] = self.steps_struck.get(step, 0) + count
        self.lossy_cuts += peer.disk.lossy

    # ------------------------------------------------------------------ who is there

    def running(self) -> list[SimPeer]:
        return [peer for peer in self.peers.values() if peer.running]

    def members(self) -> list[str]:
        """The peers of the newest epoch that anybody has applied."""
        newest = self.witness.newest
        return sorted(newest.addresses) if newest is not None and newest.addresses else list(self._first)

    @property
    def epoch(self) -> int:
        """The newest that anybody has applied."""
        return max(1, self.witness.newest.epoch) if self.witness.newest is not None else 1

    @property
    def between_epochs(self) -> bool:
        """Whether a peer has not entered the newest epoch."""
        return any(self.peers[name].epoch < self.epoch for name in self.members())

    def leader(self) -> SimPeer | None:
        """The ready leader of the highest epoch and term."""
        leading = [peer for peer in self.running() if peer.engine is not None and peer.engine.is_leader()]
        return max(leading, key=lambda peer: peer.standing, default=None)

    def holders(self, leader: WatchedLog, index: int) -> int:
        """How many peers of the epoch may hold an entry: those that run in it are asked, others believed."""
        count = 0
        for name in leader.members:
            log = self.peers[name].engine
            if log is None or log.epoch != leader.epoch or not self.peers[name].admitted:
                count += 1
            else:
                count += log.first_entry > index or log.term_at(index) == leader.term_at(index)
        return count

    def believes(self, leader: WatchedLog) -> str:
        """What a leader counts as stored at a peer that does not hold it; "" if nothing."""
        standing = (leader.epoch, leader.term)
        for name in leader.members:
            if name == leader.name:
                continue
            log = self.peers[name].engine
            if log is None or (log.epoch, log.term) != standing or not self.peers[name].admitted:
                continue
            match = leader.match_index(name)
            both_hold = match >= max(log.first_entry, leader.first_entry)
            if both_hold and log.term_at(match) != leader.term_at(match):
                return (
                    f"{leader.name} counts entry {match} of term {leader.term_at(match)} as stored at {name}, "
                    f"which has it of term {log.term_at(match)}"
                )
        return ""

    async def ask(
        self,
        rng: random.Random,
        handler: Callable[[Life], Coroutine[Any, Any, T]],
        *,
        leader: bool,
        timeout_s: float = 2.0,
    ) -> T:
        """Call some peer, or the one that some peer takes for the leader, as a client does.

        Among faults also peers that are no members (any more, or yet) are asked; later those only that a client would
        have learnt of, or a cluster with many strangers would take minutes for what takes a client seconds.
        """
        running = self.running()
        if self.quiet:
            members = self.members()
            running = [peer for peer in running if peer.peer_id in members] or running
        if not running:
            raise NoLeaderError("no peer answers")
        peer = rng.choice(running)
        if leader:
            assert peer.life is not None
            peer = self.peers.get(peer.life.log.leader_id, peer)
        return await peer.call(handler, timeout_s=timeout_s)
