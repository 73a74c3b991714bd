"""``EpochCluster``: simulated peers with ``EpochLog``, real journals and snapshots on simulated disks.

Owns: the life of the processes, changes of the peers, and the checks that must hold at any moment. Whoever is removed
ends by itself, as its process would.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.contract.errors import RaftsmanError
from orchestrator.replication.epochs import EpochLog
from orchestrator.replication.journals import FileJournals
from orchestrator.replication.settings import EngineConfig, Guards
from orchestrator.replication.snapshots import FileSnapshots
from tests.sim.disk import PowerCutError, SimDisk, StepAction
from tests.sim.loop import run_inline
from tests.sim.machine import ListMachine, admission_payload, change_payload
from tests.sim.network import Endpoint, SimNetwork

DATA = Path("/data")


class _Disk(SimDisk):
    """Says so when its power is cut: whoever runs on it is gone before the call ends."""

    power_cut: Callable[[], None] | None = None

    def step(self, name: str, act: StepAction) -> None:
        try:
            super().step(name, act)
        except PowerCutError:
            if self.power_cut is not None:
                self.power_cut()
            raise


@dataclass(slots=True)
class EpochPeer:
    peer_id: str
    address: str
    incarnation: str
    disk: _Disk
    configured: dict[str, str]  # as in its --peers
    fresh: bool = True
    machine: ListMachine = field(default_factory=ListMachine)
    log: EpochLog | None = None
    endpoint: Endpoint | None = None
    exits: list[int] = field(default_factory=list)
    retired: int = 0  # the epoch in which it was removed and ended
    crashes: int = 0

    @property
    def epochs(self) -> EpochLog:
        assert self.log is not None, f"{self.peer_id} is down"
        return self.log


class EpochCluster:
    """``async with EpochCluster(seed=1, peers=3) as cluster``. All first peers are started."""

    def __init__(
        self, *, seed: int, peers: int = 3, config: EngineConfig | None = None, guards: Guards | None = None
    ) -> None:
        self.rng = random.Random(seed)
        self.network = SimNetwork(self.rng)
        self.config = config if config is not None else EngineConfig()
        self.guards = guards if guards is not None else Guards()
        self._disks = 0
        self.peers: dict[str, EpochPeer] = {}
        first = {f"p{n}": f"p{n}:7400" for n in range(1, peers + 1)}
        for peer_id in first:
            self.place(peer_id, configured=first)
        self.leaders: dict[tuple[int, int], str] = {}  # (epoch, term) -> who led in it
        self.terms: dict[str, int] = {}  # the highest term of each disk
        self.committed: list[bytes] = []  # the longest applied sequence seen

    async def __aenter__(self) -> EpochCluster:
        asyncio.get_running_loop().set_exception_handler(_ignore_power_cuts)
        for peer_id in list(self.peers):
            await self.start(peer_id)
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in self.peers.values():
            if peer.log is not None:
                await peer.log.stop()

    # ------------------------------------------------------------------ life of a peer

    def place(self, peer_id: str, *, configured: Mapping[str, str] | None = None, address: str = "") -> EpochPeer:
        """A peer with an empty disk that does not run yet; in place of an older one of that id, which is gone."""
        if peer_id in self.peers:
            self.crash(peer_id)
        self._disks += 1
        address = address or f"{peer_id}:7400"
        known = configured if configured is not None else {**self.members(), peer_id: address}
        disk = _Disk(self.rng.getrandbits(32))
        peer = self.peers[peer_id] = EpochPeer(peer_id, address, f"disk-{self._disks}", disk, dict(known))
        return peer

    async def start(self, peer_id: str) -> None:
        """Start the process; if its disk loses power meanwhile it is down again."""
        peer = self.peers[peer_id]
        peer.machine = ListMachine()
        peer.endpoint = self.network.endpoint(peer_id)
        peer.disk.power_cut = lambda: self.crash(peer_id)
        try:
            log = peer.log = EpochLog(
                peer_id=peer_id, peers=peer.configured, machine=peer.machine,
                journals=FileJournals(DATA, disk=peer.disk),
                snapshots=FileSnapshots(DATA / "snapshots", disk=peer.disk), network=peer.endpoint,
                incarnation=peer.incarnation, fresh=peer.fresh, admission_payload=admission_payload,
                config=self.config, guards=self.guards, clock=asyncio.get_running_loop().time,
                rng=random.Random(self.rng.getrandbits(64)), retired=lambda epoch: self._retired(peer, epoch),
                exit_process=lambda code: self._exited(peer, code), run_blocking=run_inline,
            )  # fmt: skip
            peer.fresh = False
            await log.start()
        except PowerCutError:
            pass

    def _exited(self, peer: EpochPeer, code: int) -> None:
        peer.exits.append(code)
        self.crash(peer.peer_id)

    def _retired(self, peer: EpochPeer, epoch: int) -> None:
        peer.retired = epoch
        self.crash(peer.peer_id, power=False)

    def crash(self, peer_id: str, *, power: bool = True) -> None:
        """The process is gone at once; with ``power`` also everything that was not flushed."""
        peer = self.peers[peer_id]
        if peer.log is None or peer.endpoint is None:
            return
        peer.crashes += 1
        peer.disk.power_cut = None
        keeper = peer.log._keeper
        if keeper is not None:
            keeper.add_done_callback(lambda task: task.cancelled() or task.exception())
        peer.log.kill()
        peer.endpoint.kill()
        peer.log = peer.endpoint = None
        if power:
            peer.disk.crash()

    # ------------------------------------------------------------------ changing the peers

    def members(self) -> dict[str, str]:
        """Of the newest epoch that anybody is in."""
        running = self.running()
        if not running:
            return {}
        return max(running, key=lambda peer: peer.epochs.epoch).epochs.peers

    async def change(self, *, add: Iterable[str] = (), remove: Iterable[str] = (), timeout_s: float = 5.0) -> int:
        """As ``raftsman peers``: at the present leader; the newcomers run. Returns the new epoch.

        Raises what the leader raises.
        """
        leader = await self.elect()
        log = leader.epochs
        epoch = log.epoch
        gone = set(remove)
        addresses = {peer: address for peer, address in log.peers.items() if peer not in gone}
        disks = {peer: disk for peer, disk in leader.machine.admitted().items() if peer not in gone}
        for peer_id in add:
            addresses[peer_id] = self.peers[peer_id].address
            disks[peer_id] = await log.rehearse(peer_id, addresses[peer_id])
        outcome = await log.propose(change_payload(epoch, addresses, disks), timeout_s=timeout_s, alone=True)
        assert outcome.outcome == outcome.index, outcome
        return epoch + 1

    async def settle(self, epoch: int, *, within_s: float = 30.0) -> EpochPeer:
        """Until every running member is in the epoch and one leads; returns the leader."""

        def there() -> bool:
            leader = self.leader()
            if leader is None or leader.epochs.epoch != epoch:
                return False
            inside = [self.peers[peer] for peer in leader.epochs.peers if self.peers[peer].log is not None]
            return all(peer.epochs.epoch == epoch for peer in inside)

        await self.wait(there, within_s=within_s, what=f"all members in epoch {epoch}")
        leader = self.leader()
        assert leader is not None
        return leader

    # ------------------------------------------------------------------ watching

    def running(self) -> list[EpochPeer]:
        return [peer for peer in self.peers.values() if peer.log is not None and peer.log.running]

    def leader(self) -> EpochPeer | None:
        """The ready leader of the highest epoch and term."""
        leading = [peer for peer in self.running() if peer.epochs.is_leader()]
        return max(leading, key=lambda peer: (peer.epochs.epoch, peer.epochs.term), default=None)

    async def wait(self, condition: Callable[[], bool], *, within_s: float = 30.0, what: str = "") -> None:
        """Let virtual time pass until the condition holds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while not condition():
            self.check()
            assert loop.time() < deadline, f"not within {within_s} s: {what or condition}; {self.picture()}"
            await asyncio.sleep(0.01)
        self.check()

    async def pass_time(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            self.check()
            await asyncio.sleep(0.01)

    async def elect(self, *, within_s: float = 30.0) -> EpochPeer:
        await self.wait(lambda: self.leader() is not None, within_s=within_s, what="a leader")
        leader = self.leader()
        assert leader is not None
        return leader

    async def write(self, payload: bytes, *, within_s: float = 20.0) -> None:
        """One write that is acknowledged in the end; it may be applied more than once."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while True:
            leader = await self.elect()
            try:
                await leader.epochs.propose(payload, timeout_s=2.0)
            except RaftsmanError:
                assert loop.time() < deadline, f"{payload!r} was never acknowledged; {self.picture()}"
                await asyncio.sleep(0.01)
            else:
                return

    async def converge(self, *, within_s: float = 30.0) -> None:
        """Until every running member of the newest epoch has applied the same."""

        def equal() -> bool:
            leader = self.leader()
            if leader is None or len(self.running()) == 0:
                return False
            inside = [self.peers[peer] for peer in leader.epochs.peers if self.peers[peer].log is not None]
            states = {(peer.epochs.epoch, peer.machine.index, peer.machine.state_hash()) for peer in inside}
            return len(states) == 1

        await self.wait(equal, within_s=within_s, what="equal states")

    def picture(self) -> str:
        rows = []
        for peer in self.peers.values():
            if peer.log is None:
                rows.append(f"{peer.peer_id}: down{f', removed in {peer.retired}' if peer.retired else ''}")
                continue
            log = peer.log
            rows.append(
                f"{peer.peer_id}: epoch {log.epoch} term {log.term} leader {log.leader_id!r} index "
                f"{peer.machine.index} retired {log.retired} waits {log.waits_for!r}"
            )
        return "; ".join(rows)

    def check(self) -> None:
        """One leader per epoch and term; terms of a disk only grow; what was applied anywhere is one sequence."""
        for peer in self.running():
            log = peer.epochs
            if not log.retired and log.engine is not None and log.engine.running:
                status = log.engine.status()
                if status.role == "leader":
                    known = self.leaders.setdefault((status.epoch, status.term), peer.peer_id)
                    assert known == peer.peer_id, f"{known} and {peer.peer_id} both lead in {status.epoch, status.term}"
                assert status.term >= self.terms.get(peer.incarnation, 0), f"the term of {peer.peer_id} fell"
                self.terms[peer.incarnation] = status.term
            applied = peer.machine.applied
            shared = min(len(applied), len(self.committed))
            assert applied[:shared] == self.committed[:shared], f"{peer.peer_id} applied something else"
            if len(applied) > len(self.committed):
                self.committed = list(applied)


def _ignore_power_cuts(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), PowerCutError):
        loop.default_exception_handler(context)
