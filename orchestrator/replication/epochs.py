"""``EpochLog``: the replicated log through changes of its peers (RAFT.md, Membership; S6).

PySyncObj's own changes of membership are broken, so an engine always sees a fixed set of peers. A configuration epoch
is one such engine with a log of its own. ``ChangePeers`` is the last command of an epoch: whoever applies it seals its
log there, and nothing behind it is ever applied by anybody. The state behind the seal is the first snapshot of the next
epoch, whose entry indexes and terms go on from it.

Owns: the order of the switch, the way of late and new peers into the newest epoch, and that callers notice no more than
a change of leaders. Leaves to ``engine`` what happens within an epoch, to ``Journals`` and ``SnapshotStore`` the bytes.
The rules: a peer says Hello in an epoch, votes and acknowledges there only from behind that epoch's durable snapshot;
the snapshot's rename is the moment of the switch, and a crash on either side of it finds one whole epoch. Whoever
leaves an epoch holds its whole committed log, so what was acknowledged is never only on peers that are left behind.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from orchestrator.contract.errors import (
    CorruptError,
    NoLeaderError,
    NotLeaderError,
    PreconditionError,
    RaftsmanError,
)
from orchestrator.replication.engine import EngineLog
from orchestrator.replication.link import EpochNetwork, version_problem
from orchestrator.replication.log import (
    Journals,
    LogStatus,
    PeerProgress,
    Proposed,
    Role,
    SnapshotMeta,
    SnapshotStore,
    StateMachine,
)
from orchestrator.replication.retiring import REMOVED, Retiree
from orchestrator.replication.settings import EngineConfig, Guards
from orchestrator.replication.snapshotting import checksum
from orchestrator.replication.turns import EXIT_STORAGE, NOT_RUNNING, SEALED
from orchestrator.replication.v1 import peer_pb2 as pb
from orchestrator.replication.waiting import Waiting
from orchestrator.state.features import HIGHEST

_log = structlog.get_logger("raftsman.replication")

FEATURE_LEVEL = HIGHEST
"""Peers of less do not become peers of the next epoch: they would not stop at a seal (below 2), or judge commands by
rules that the cluster may have left behind."""
_LOOK_S = 0.01


class EpochLog:
    """Implements ``ReplicatedLog`` and ``link.Host``. Arguments are those of ``EngineLog``, except:

    ``peers``: id -> host:port in epoch 1, this one included; later the replicated ones rule. ``journals`` opens each
    epoch's journal. ``check_first`` is called before epoch 1 is begun or resumed and may raise ``StartupError``.
    ``retired`` is called, with the epoch, when this peer was removed and a majority of the new peers goes on without
    it: the process should end, and never use this disk again. ``config.epoch`` is not used.
    """

    make_engine: Callable[..., EngineLog] = EngineLog
    """Makes each epoch's engine; the simulator's looks into it."""

    def __init__(
        self,
        *,
        peer_id: str,
        peers: Mapping[str, str],
        machine: StateMachine,
        journals: Journals,
        snapshots: SnapshotStore,
        network: EpochNetwork,
        incarnation: str,
        fresh: bool,
        admission_payload: Callable[[str, dict[str, str]], bytes],
        config: EngineConfig | None = None,
        guards: Guards | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        observe_commit_s: Callable[[float], None] | None = None,
        refused: Callable[[str, str], None] | None = None,
        retired: Callable[[int], None] | None = None,
        check_first: Callable[[], None] | None = None,
        exit_process: Callable[[int], object] = os._exit,
        run_blocking: Callable[[Callable[[], Any]], Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._peer_id = peer_id
        self._configured = dict(sorted(peers.items()))
        self._machine = machine
        self._journals = journals
        self._store = snapshots
        self._network = network
        self._incarnation = incarnation
        self._fresh = fresh
        self._admission_payload = admission_payload
        self._config = config if config is not None else EngineConfig()
        self._guards = guards
        self._clock = clock
        self._rng = rng if rng is not None else random.Random()
        self._observe_commit_s = observe_commit_s
        self._on_refused = refused
        self._on_retired = retired
        self._check_first = check_first
        self._exit_process = exit_process
        self._run_blocking = run_blocking

        self._epoch = 1
        self._peers = self._configured
        self._address = self._configured.get(peer_id, "")
        self._engine: EngineLog | None = None
        self._retiree: Retiree | None = None
        self._shown: LogStatus | None = None  # while one engine follows the other
        self._elections = 0  # of the epochs before
        self._waiting = Waiting()
        self._due = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._newer: dict[str, tuple[int, str]] = {}  # peer id -> (epoch, address): who is ahead of us
        self._rehearsed: dict[str, str] = {}  # peer id -> incarnation: who fetched a snapshot from here
        self._waits_for = ""
        self._passing: set[str] = set()  # peers whose refusal only says that one of us is behind
        self._started = self._stopped = False

    # ================================================================== start and stop

    async def start(self) -> None:
        """Restore what is stored, then begin to talk. Raises ``StartupError`` (``CorruptError``) if that can't be."""
        self._network.serve(self)
        await self._open()
        self._started = True
        self._keeper = asyncio.create_task(self._keep(), name="epochs")

    async def stop(self) -> None:
        """As ``EngineLog.stop``."""
        self._stopped = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._engine is not None:
            await self._engine.stop()
        if self._retiree is not None:
            await self._network.stop()
        self._waiting.fail(NoLeaderError(NOT_RUNNING))

    def kill(self) -> None:
        """Stop at once, as a crash would. For the simulator."""
        self._stopped = True
        if self._keeper is not None:
            self._keeper.cancel()
        if self._engine is not None:
            self._engine.kill()

    async def _open(self) -> None:
        """Begin with what the disk holds."""
        held = await self._run_blocking(self._store.load)
        meta: SnapshotMeta | None = None
        if held is not None:
            meta, data = held
            (await self._run_blocking(lambda: self._machine.prepare(data)))()
        if (meta is None or meta.epoch == 1) and self._check_first is not None:
            self._check_first()
        epoch = meta.epoch if meta is not None else 1
        if epoch == 1 or await self._run_blocking(lambda: self._journals.exists(epoch)):
            await self._run_blocking(lambda: self._journals.keep_only(epoch))
        await self._begin(meta)

    async def _begin(self, meta: SnapshotMeta | None) -> None:
        """Build the engine of the epoch that the machine's state is of, or retire."""
        self._epoch = epoch = meta.epoch if meta is not None else 1
        self._newer = {peer: row for peer, row in self._newer.items() if row[0] > epoch}
        if epoch > 1:
            self._peers = dict(sorted(self._machine.addresses().items()))
            mine = self._machine.admitted().get(self._peer_id)
            # A disk without a journal for an epoch whose peers it is not of was dismissed; one with a journal was wiped
            # before it came here, and waits to be admitted.
            dismissed = mine != self._incarnation and not await self._run_blocking(lambda: self._journals.exists(epoch))
            if mine is None or dismissed:
                await self._retire()
                return
            self._address = self._peers[self._peer_id]
            if self._peers != self._configured:
                _log.warning("replication.peers_of_epoch", epoch=epoch, peers=self._peers, configured=self._configured)
        journal = await self._run_blocking(lambda: self._journals.open(epoch))
        engine = self._engine = self.make_engine(
            peer_id=self._peer_id, peers=self._peers, machine=self._machine, journal=journal, snapshots=self._store,
            network=self._network, incarnation=self._incarnation, fresh=self._fresh,
            admission_payload=self._admission_payload, config=replace(self._config, epoch=epoch), guards=self._guards,
            clock=self._clock, rng=self._rng, observe_commit_s=self._observe_commit_s, refused=self._refused,
            sealed=self._due.set, waiting=self._waiting, exit_process=self._exit_process,
            run_blocking=self._run_blocking,
        )  # fmt: skip
        self._fresh = False
        await engine.begin(meta)
        self._shown = None
        self._tell()

    def _tell(self) -> None:
        self._waiting.notify()
        self._waiting.look()

    # ================================================================== from one epoch to the next

    async def _keep(self) -> None:
        """Everything that ends an engine, one after the other."""
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                if self._engine is None or self._stopped:
                    return
                if self._engine.seal is not None:
                    await self._go_on(self._engine)
                elif self._newer:
                    await self._catch_up()
        except OSError as error:
            self._die("replication.disk_failed", error)
        except Exception as error:
            self._die("replication.broken", error)

    def _die(self, event: str, error: Exception) -> None:
        self.kill()
        info = error if not isinstance(error, OSError) else None
        _log.critical(event, exit_status=EXIT_STORAGE, error=str(error), exc_info=info)
        self._exit_process(EXIT_STORAGE)

    async def _go_on(self, engine: EngineLog) -> None:
        """The log is sealed: begin the next epoch with its state."""
        seal = engine.seal
        assert seal is not None
        before = engine.admitted
        await self._run_blocking(self._machine.make_room())
        encode = self._machine.capture()
        data: list[bytes] = await self._run_blocking(lambda: list(encode()))
        # Meanwhile the others hear from the leader that the seal is committed. Who does not fetches the snapshot.
        while engine.running and not engine.sealed_everywhere() and self._clock() < seal.at + self._config.heartbeat_s:
            await asyncio.sleep(_LOOK_S)
        if not engine.running:
            return
        term = max(engine.term, seal.meta.last_term)
        await self._end(engine)
        await self._enter(seal.meta, data, term, before)

    async def _catch_up(self) -> None:
        """Others are in a later epoch: take over its state from one of them."""
        newer, self._newer = self._newer, {}
        for peer_id, (epoch, address) in sorted(newer.items(), key=lambda row: (-row[1][0], row[0])):
            try:
                header, data = await self._network.fetch(address, pb.FetchRequest(hello=self._hello()))
            except RaftsmanError as error:
                _log.warning("replication.fetch_failed", peer=peer_id, address=address, error=error.message)
                continue
            if header.epoch < epoch or header.epoch <= self._epoch:
                continue
            if header.cluster_id != (self._machine.cluster_id() or header.cluster_id):
                _log.error("replication.snapshot_of_another_cluster", peer=peer_id, cluster=header.cluster_id)
                continue
            if await self._take_over(peer_id, header, data):
                return

    async def _take_over(self, peer_id: str, header: pb.SnapshotHeader, data: bytes) -> bool:
        engine = self._engine
        assert engine is not None
        before = engine.admitted
        if self._peer_id not in header.admitted and not self._admitted_in(before):
            return False
        try:
            put = await self._run_blocking(lambda: self._machine.prepare(data))
        except CorruptError as error:
            _log.error("replication.snapshot_refused", peer=peer_id, error=error.message)
            return False
        term = max(engine.term, header.term, 1)
        await self._end(engine)
        put()
        meta = SnapshotMeta(
            last_index=header.last_index, last_term=header.last_term, index=header.index, epoch=header.epoch
        )
        if self._machine.epoch() != meta.epoch:
            raise AssertionError(f"a snapshot of epoch {meta.epoch} holds a state of epoch {self._machine.epoch()}")
        _log.info("replication.epoch_taken_over", epoch=meta.epoch, peer=peer_id, index=meta.index)
        await self._enter(meta, [data], term, before)
        return True

    async def _end(self, engine: EngineLog) -> None:
        self._shown = self.status()
        self._elections += engine.elections
        await engine.stop()
        self._tell()

    async def _enter(self, meta: SnapshotMeta, parts: Sequence[bytes], term: int, before: Mapping[str, str]) -> None:
        """Make the epoch durable, then begin it. ``before``: who was admitted in the one that ends here."""
        mine = self._machine.admitted().get(self._peer_id)
        dismissed = mine is None or (mine != self._incarnation and self._admitted_in(before))

        def store() -> None:
            if not dismissed:
                self._journals.prepare(meta.epoch, term)
            self._store.save(meta, parts)
            if not dismissed:  # else the old one stays, as a sign that nothing was lost
                self._journals.keep_only(meta.epoch)

        await self._run_blocking(store)
        _log.info("replication.epoch", epoch=meta.epoch, term=term, entry=meta.last_index, member=not dismissed)
        await self._begin(meta)

    def _admitted_in(self, admitted: Mapping[str, str]) -> bool:
        return admitted.get(self._peer_id) == self._incarnation

    async def _retire(self) -> None:
        self._engine = None
        self._waits_for = f"{REMOVED} in configuration epoch {self._epoch}"
        others = {peer: address for peer, address in self._peers.items() if peer != self._peer_id}
        self._retiree = Retiree(epoch=self._epoch, members=self._peers, hello=self._hello, over=self._over)
        _log.warning("replication.removed", epoch=self._epoch, peers=self._peers)
        self._shown = None
        await self._network.start(self._peer_id, others, self._retiree)
        self._tell()

    def _over(self) -> None:
        if self._on_retired is not None:
            self._on_retired(self._epoch)

    # ================================================================== what other peers say

    def _hello(self) -> pb.Hello:
        if self._engine is not None and self._engine.running:
            return self._engine.hello()
        return pb.Hello(
            cluster_id=self._machine.cluster_id(), peer_id=self._peer_id, incarnation=self._incarnation,
            epoch=self._epoch, feature_level=self._config.feature_level, peers=sorted(self._peers),
            admitted=self._machine.admitted(), addresses=self._peers, address=self._address,
            retired=self._retiree is not None,
        )  # fmt: skip

    def _refused(self, peer_id: str, reason: str, hello: pb.Hello | None) -> None:
        if hello is not None and hello.cluster_id and self._compare(hello):
            self._passing.add(peer_id)
            return
        self._passing.discard(peer_id)
        if self._on_refused is not None:
            self._on_refused(peer_id, reason)

    def _compare(self, hello: pb.Hello) -> bool:
        """Somebody of a cluster and this peer are not of one mind about the peers. Whether one of us is just behind."""
        if hello.cluster_id != (self._machine.cluster_id() or hello.cluster_id):
            return False
        member = self._peer_id in hello.peers
        stranger = not member and not self._admitted_in(self._machine.admitted())
        if stranger:
            if hello.epoch == 1 and not set(hello.peers) <= self._configured.keys():
                return False  # the peers are still those of everybody's own list, and this one's leaves some out
            waits_for = (
                f"this peer is not a member of cluster {hello.cluster_id} yet (epoch {hello.epoch}: "
                f"{', '.join(hello.peers)}); `raftsman peers add {self._peer_id}=HOST:PORT` makes it one"
            )
            self._waits_for = waits_for
        elif hello.epoch > self._epoch and hello.address:
            self._newer[hello.peer_id] = (hello.epoch, hello.address)
            self._due.set()
        return stranger or hello.epoch != self._epoch

    async def newest_snapshot(self, hello: pb.Hello) -> tuple[pb.SnapshotHeader, bytes]:
        cluster_id = self._machine.cluster_id()
        if not cluster_id or not self._started or hello.cluster_id not in ("", cluster_id):
            raise PreconditionError(f"this peer is of cluster {cluster_id or '(none yet)'}: it has no snapshot for you")
        if problem := version_problem(hello, self._machine.feature_level()):
            raise PreconditionError(f"peer {hello.peer_id}: {problem}")
        held = await self._run_blocking(self._store.load)
        engine = self._engine
        if held is None and engine is not None and engine.running and engine.seal is None:
            held = await self._capture(engine)
        if held is None or held[0].epoch != self._machine.epoch():
            raise NoLeaderError(SEALED)
        meta, data = held
        crc = await self._run_blocking(lambda: checksum(data))
        return pb.SnapshotHeader(
            epoch=meta.epoch, last_index=meta.last_index, last_term=meta.last_term, index=meta.index,
            total_bytes=len(data), crc32c=crc, term=self.term, cluster_id=cluster_id, admitted=self._machine.admitted(),
        ), data  # fmt: skip

    async def _capture(self, engine: EngineLog) -> tuple[SnapshotMeta, bytes] | None:
        """A young cluster has saved none yet."""
        applied = engine.status().applied_index
        term = engine.entry_term(applied)
        if term is None:
            return None
        meta = SnapshotMeta(last_index=applied, last_term=term, index=self._machine.index, epoch=self._epoch)
        encode = self._machine.capture()
        return meta, await self._run_blocking(lambda: b"".join(encode()))

    def snapshot_taken(self, hello: pb.Hello) -> None:
        self._rehearsed[hello.peer_id] = hello.incarnation

    async def invited(self, invitation: pb.Invitation) -> pb.InvitationReply:
        reply = pb.InvitationReply(hello=self._hello())
        try:
            _, data = await self._network.fetch(invitation.address, pb.FetchRequest(hello=self._hello()))
            reply.fetched_bytes = len(data)
        except RaftsmanError as error:
            reply.problem = error.message
        return reply

    async def rehearse(self, peer_id: str, address: str) -> str:
        """Ask whoever listens at ``address`` whether it is fit to join as ``peer_id``; returns its disk incarnation.

        It must answer, be that peer (by its certificate), have a disk that never voted here and be able to fetch this
        peer's snapshot. Raises ``PreconditionError`` with what was missing.
        """
        self._rehearsed.pop(peer_id, None)
        where = f"{peer_id} at {address}"
        try:
            reply = await self._network.invite(address, pb.Invitation(hello=self._hello(), address=self._address))
        except RaftsmanError as error:
            raise PreconditionError(f"{where} does not answer ({error.message}): start that peer first") from None
        hello = reply.hello
        if hello.peer_id != peer_id:
            raise PreconditionError(f"{where}: {hello.peer_id!r} answers there; correct the address")
        # A new disk under the id of a peer may have fetched the state already, as a lost one would: it did not vote.
        if hello.cluster_id not in ("", self._machine.cluster_id()) or hello.retired:
            raise PreconditionError(
                f"{where} has the data of {'a removed peer' if hello.retired else f'cluster {hello.cluster_id}'}: "
                "start it with an empty data directory"
            )
        if hello.incarnation in self._machine.admitted().values():
            raise PreconditionError(f"{where} is a peer already, with the disk that it has: nothing has to be changed")
        if hello.feature_level < FEATURE_LEVEL:
            raise PreconditionError(f"{where} runs an older raftsman, which cannot join: upgrade it first")
        if reply.problem:
            raise PreconditionError(
                f"{where} cannot reach this peer at {self._address} ({reply.problem}): open that way first"
            )
        if self._rehearsed.get(peer_id) != hello.incarnation:
            raise PreconditionError(f"{where} did not prove by its certificate that it is peer {peer_id}")
        return hello.incarnation

    # ================================================================== what callers see

    @property
    def running(self) -> bool:
        return self._retiree is not None or (self._engine is not None and self._engine.running)

    @property
    def engine(self) -> EngineLog | None:
        """The present epoch's; None once this peer was removed. For tests."""
        return self._engine

    @property
    def epoch(self) -> int:
        """The configuration epoch that this peer is in."""
        return self._epoch

    @property
    def peers(self) -> dict[str, str]:
        """Id -> host:port of the present epoch's peers; another object after every change."""
        return self._peers

    @property
    def retired(self) -> bool:
        """Whether this peer is no member any more."""
        return self._retiree is not None

    @property
    def waits_for(self) -> str:
        """Why this peer takes no part (yet), and what would change it; "" if it does."""
        if self._retiree is None and (self._admitted_in(self._machine.admitted()) or self.leader_id):
            return ""
        return self._waits_for or self._first_start()

    def _first_start(self) -> str:
        """Whom a peer with an empty disk has yet to hear from; "" if it has heard all of them, or its disk is not."""
        refusals = self.refusals
        missing = [
            f"{peer} ({self._peers[peer]}{': ' + refusals[peer] if peer in refusals else ''})"
            for peer in (self._engine.not_met() if self._engine is not None else ())
        ]
        if not missing:
            return ""
        return (
            f"this peer's disk is empty, and it has not heard from {', '.join(missing)}: the first start of a cluster "
            "needs every peer of --peers once, with the same list everywhere; start them"
        )

    @property
    def refusals(self) -> dict[str, str]:
        """Peer id -> why we do not talk, where somebody must change something."""
        found = self._engine.refusals if self._engine is not None else {}
        return {peer: reason for peer, reason in found.items() if peer not in self._passing}

    def status(self) -> LogStatus:
        """Raises ``NoLeaderError`` before ``start``."""
        if self._retiree is not None:
            return self._retired_status()
        if self._shown is not None:
            return self._shown
        if self._engine is None:
            raise NoLeaderError(NOT_RUNNING)
        status = self._engine.status()
        return replace(status, elections=self._elections + status.elections, waits_for=self.waits_for)

    def _retired_status(self) -> LogStatus:
        assert self._retiree is not None
        rows = tuple(
            PeerProgress(
                peer_id=peer, address=address, connected=peer in self._retiree.begun, voter=True, incarnation="",
                match_index=0, last_contact_ms=-1, feature_level=0, cert_expires_ms=0,
            )
            for peer, address in self._peers.items()
        )  # fmt: skip
        return LogStatus(
            cluster_id=self._machine.cluster_id(), epoch=self._epoch, peer_id=self._peer_id, role=Role.JOINING, term=0,
            leader_id="", commit_index=0, applied_index=0, first_index=0, index=self._machine.index,
            last_quorum_ms=-1, state_age_ms=-1, elections=self._elections, peers=rows, waits_for=self._waits_for,
        )  # fmt: skip

    def is_leader(self) -> bool:
        return self._engine is not None and self._engine.is_leader()

    @property
    def leader_id(self) -> str:
        return self._engine.leader_id if self._engine is not None else ""

    @property
    def term(self) -> int:
        return self._engine.term if self._engine is not None else 0

    def _require_started(self) -> None:
        if not self._started or self._stopped:
            raise NoLeaderError(NOT_RUNNING)

    def _serving(self) -> EngineLog:
        if self._retiree is not None:
            raise NoLeaderError(f"{self._waits_for}: ask {', '.join(self._peers.values())}")
        if self._engine is None or self._stopped:
            raise NoLeaderError(NOT_RUNNING)
        return self._engine

    async def propose(
        self, payload: bytes, *, timeout_s: float = 10.0, alone: bool = False, urgent: bool = False
    ) -> Proposed:
        return await self._serving().propose(payload, timeout_s=timeout_s, alone=alone, urgent=urgent)

    async def read_barrier(self, *, timeout_s: float = 5.0) -> int:
        deadline = self._clock() + timeout_s
        while True:
            engine = self._serving()
            try:
                return await engine.read_barrier(timeout_s=deadline - self._clock())
            except NoLeaderError:
                if engine.running and engine.seal is None:
                    raise
                if not await self._next_engine(engine, deadline):
                    raise

    async def _next_engine(self, last: EngineLog, deadline: float) -> bool:
        """Wait until another engine runs than this one; False if none does in time."""

        def there() -> bool:
            return self._engine is not last and (self._engine is None or self._engine.running)

        return await self._waiting.until(there, deadline - self._clock())

    async def confirm_leadership(self, *, timeout_s: float = 5.0) -> None:
        try:
            await self._serving().confirm_leadership(timeout_s=timeout_s)
        except NoLeaderError as error:
            raise NotLeaderError(error.message) from None

    async def changed(self, *, after: int) -> int:
        if self._machine.index <= after:
            self._require_started()
            await self._waiting.until(lambda: self._machine.index > after)
        return self._machine.index

    async def leadership_changed(self, *, was: bool) -> bool:
        if self.is_leader() == was:
            self._require_started()
            await self._waiting.until(lambda: self.is_leader() != was)
        return self.is_leader()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        return self._waiting.subscribe(listener)
