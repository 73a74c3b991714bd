"""``World``: one run's peers, wires, witness, clients and agents, and the record of what happened.

Owns: who is there and how one reaches them; the trace. Leaves what happens when to ``faults``. The one rule: everything
random comes from generators that the seed makes, so equal seeds give equal traces.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

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
        self.witness = Witness(peers=schedule.peers, stride=schedule.stride, trace=self.trace, believes=self.believes)
        self.wires = Wires(loop, self.new_rng(), delay_s=schedule.delay_s)
        names = [f"p{number}" for number in range(1, schedule.peers + 1)]
        self.peers = {
            name: SimPeer(
                name, names, loop=loop, wires=self.wires, witness=self.witness, holes=self.holes, rng=self.new_rng(),
                config=schedule.config, guards=guards, append_bytes=schedule.append_bytes,
                thread_s=schedule.thread_s, segment_bytes=schedule.segment_bytes,
                lost_after_ms=schedule.lost_after_ms, clock_rate=rate, holders=self.holders, trace=self.trace,
            )
            for name, rate in zip(names, schedule.clock_rates, strict=True)
        }  # fmt: skip
        self.meddler = Meddler(
            self.peers, self.holes, self.new_rng(), votes=schedule.duplicate_votes, chunks=schedule.damaged_chunks,
            foreign=schedule.foreign_commands,
        )  # fmt: skip
        self.wires.tap = self.meddler.tap
        self.steps_struck: dict[str, int] = {}
        self.lossy_cuts = 0

    def new_rng(self) -> random.Random:
        return random.Random(self._rng.getrandbits(64))

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

    def leader(self) -> SimPeer | None:
        """The ready leader of the highest term."""
        leading = [peer for peer in self.running() if peer.life is not None and peer.life.log.is_leader()]
        return max(leading, key=lambda peer: peer.life.log.term if peer.life is not None else 0, default=None)

    def holders(self, index: int, term: int) -> int:
        """How many of the peers may hold this entry: those that run are asked, of the others it is believed."""
        count = 0
        for peer in self.peers.values():
            if not peer.running or peer.life is None or not peer.admitted:
                count += 1
            else:
                log = peer.life.log
                count += log.first_entry > index or log.term_at(index) == term
        return count

    def believes(self, leader: WatchedLog) -> str:
        """What a leader counts as stored at a peer that does not hold it; "" if nothing."""
        for peer in self.peers.values():
            if peer.peer_id == leader.name or not peer.running or peer.life is None or not peer.admitted:
                continue
            log, match = peer.life.log, leader.match_index(peer.peer_id)
            both_hold = match >= max(log.first_entry, leader.first_entry)
            if log.term == leader.term and both_hold and log.term_at(match) != leader.term_at(match):
                return (
                    f"{leader.name} counts entry {match} of term {leader.term_at(match)} as stored at {peer.peer_id}, "
                    f"which has it of term {log.term_at(match)}"
                )
        return ""

    async def ask(
        self, rng: random.Random, handler: Callable[[Life], Awaitable[T]], *, leader: bool, timeout_s: float = 2.0
    ) -> T:
        """Call some peer, or the one that some peer takes for the leader, as a client does."""
        running = self.running()
        if not running:
            raise NoLeaderError("no peer answers")
        peer = rng.choice(running)
        if leader:
            assert peer.life is not None
            peer = self.peers.get(peer.life.log.leader_id, peer)
        return await peer.call(handler, timeout_s=timeout_s)
