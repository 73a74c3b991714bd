"""``SimCluster``: peers in one virtual loop that can crash, lose their disk, and come back.

Owns: the life of simulated processes, and the checks that must hold at any moment (``check``). Extensible by the
journal and snapshot factories, the state machine, and the network's tap.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from orchestrator.replication.engine import EngineLog
from orchestrator.replication.log import StateMachine
from orchestrator.replication.memory import MemoryJournal, MemorySnapshots
from orchestrator.replication.settings import EngineConfig, Guards
from tests.sim.loop import run_inline
from tests.sim.machine import ListMachine, admission_payload
from tests.sim.network import Endpoint, SimNetwork


@dataclass(slots=True)
class SimPeer:
    peer_id: str
    incarnation: str
    journal: MemoryJournal
    snapshots: MemorySnapshots
    fresh: bool = True
    machine: Any = field(default_factory=ListMachine)
    log: EngineLog | None = None
    endpoint: Endpoint | None = None
    exits: list[int] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.log is not None

    @property
    def engine(self) -> EngineLog:
        assert self.log is not None, f"{self.peer_id} is down"
        return self.log


class SimCluster:
    """``async with SimCluster(seed=1, peers=3) as cluster``. All peers are started."""

    def __init__(
        self,
        *,
        seed: int,
        peers: int = 3,
        config: EngineConfig | None = None,
        guards: Guards | None = None,
        start: bool = True,
        machines: Callable[[], StateMachine] = ListMachine,
        admission: Callable[[str, dict[str, str]], bytes] = admission_payload,
    ) -> None:
        self.rng = random.Random(seed)
        self.network = SimNetwork(self.rng)
        self.config = config if config is not None else EngineConfig()
        self.guards = guards if guards is not None else Guards()
        self._start = start
        self._machines = machines
        self._admission = admission
        self._disks = 0
        self.peers = {f"p{n}": self._new_peer(f"p{n}") for n in range(1, peers + 1)}
        self.leaders: dict[int, str] = {}  # term -> who led in it
        self.committed: list[bytes] = []  # the longest applied sequence seen

    def _new_peer(self, peer_id: str) -> SimPeer:
        self._disks += 1
        return SimPeer(peer_id, f"disk-{self._disks}", MemoryJournal(), MemorySnapshots())

    async def __aenter__(self) -> Self:
        if self._start:
            for peer_id in self.peers:
                await self.start(peer_id)
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in self.peers.values():
            if peer.log is not None:
                await peer.log.stop()

    # ------------------------------------------------------------------ life of a peer

    async def start(self, peer_id: str) -> EngineLog:
        peer = self.peers[peer_id]
        peer.machine = self._machines()
        peer.endpoint = self.network.endpoint(peer_id)
        peer.log = EngineLog(
            peer_id=peer_id,
            peers={other: f"{other}:7400" for other in self.peers},
            machine=peer.machine,
            journal=peer.journal,
            snapshots=peer.snapshots,
            network=peer.endpoint,
            incarnation=peer.incarnation,
            fresh=peer.fresh,
            admission_payload=self._admission,
            config=self.config,
            guards=self.guards,
            clock=asyncio.get_running_loop().time,
            rng=random.Random(self.rng.getrandbits(64)),
            exit_process=lambda code: self._exited(peer, code),
            run_blocking=run_inline,
        )
        peer.fresh = False
        await peer.log.start()
        return peer.log

    def _exited(self, peer: SimPeer, code: int) -> None:
        peer.exits.append(code)
        self.crash(peer.peer_id)

    def crash(self, peer_id: str, *, power: bool = True) -> None:
        """The process is gone at once; with ``power`` also everything that was not flushed."""
        peer = self.peers[peer_id]
        if peer.log is None or peer.endpoint is None:
            return
        peer.log.kill()
        peer.endpoint.kill()
        peer.log = peer.endpoint = None
        if power:
            peer.journal = peer.journal.crashed()

    def wipe(self, peer_id: str) -> None:
        """Crash, and a new empty disk under the same peer id."""
        self.crash(peer_id)
        self.peers[peer_id] = self._new_peer(peer_id)

    # ------------------------------------------------------------------ watching

    def running(self) -> list[SimPeer]:
        return [peer for peer in self.peers.values() if peer.log is not None]

    def leader(self) -> SimPeer | None:
        """The ready leader of the highest term."""
        leading = [peer for peer in self.running() if peer.engine.is_leader()]
        return max(leading, key=lambda peer: peer.engine.term, default=None)

    async def wait(self, condition: Callable[[], bool], *, within_s: float = 30.0, what: str = "") -> None:
        """Let virtual time pass until the condition holds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while not condition():
            self.check()
            assert loop.time() < deadline, f"not within {within_s} s: {what or condition}"
            await asyncio.sleep(0.01)

    async def pass_time(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            self.check()
            await asyncio.sleep(0.01)

    async def elect(self, *, within_s: float = 30.0) -> SimPeer:
        await self.wait(lambda: self.leader() is not None, within_s=within_s, what="a leader")
        leader = self.leader()
        assert leader is not None
        return leader

    async def converge(self, *, within_s: float = 30.0) -> None:
        """Until every running peer has applied the same."""

        def equal() -> bool:
            states = {(peer.machine.index, peer.machine.state_hash()) for peer in self.running()}
            return self.leader() is not None and len(states) == 1

        await self.wait(equal, within_s=within_s, what="equal states")

    def check(self) -> None:
        """One leader a term; what was applied anywhere is one sequence."""
        for peer in self.running():
            status = peer.engine.status()
            if status.role == "leader":
                known = self.leaders.setdefault(status.term, peer.peer_id)
                assert known == peer.peer_id, f"{known} and {peer.peer_id} both lead in term {status.term}"
            applied = peer.machine.applied
            shared = min(len(applied), len(self.committed))
            assert applied[:shared] == self.committed[:shared], f"{peer.peer_id} applied something else"
            if len(applied) > len(self.committed):
                self.committed = list(applied)
