"""``Puppet``: one real engine among peers that the test plays, in virtual time.

The test hands in frames as the others and looks at what the engine sends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from orchestrator.replication.engine import EngineLog
from orchestrator.replication.link import Receiver
from orchestrator.replication.log import StateMachine
from orchestrator.replication.memory import MemoryJournal, MemorySnapshots
from orchestrator.replication.settings import EngineConfig, Guards
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.loop import run_inline
from tests.sim.machine import ListMachine, admission_payload


class _Ear:
    """A network that only listens to what the engine sends."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, pb.Frame]] = []

    async def start(self, peer_id: str, peers: dict[str, str], receiver: Receiver) -> None:
        pass

    def send(self, peer_id: str, frames: Sequence[pb.Frame]) -> None:
        self.heard.extend((peer_id, frame) for frame in frames)

    async def stop(self) -> None:
        pass


class Puppet:
    """The engine is p1; p2 and so on are the test's. All disks are admitted unless ``admitted`` says otherwise.

    ``drives``: a state machine to drive in place of ``machine``; ``engine``: another class than the product's.
    """

    def __init__(
        self,
        *,
        peers: int = 3,
        guards: Guards | None = None,
        config: EngineConfig | None = None,
        admitted: dict[str, str] | None = None,
        journal: MemoryJournal | None = None,
        snapshots: MemorySnapshots | None = None,
        fresh: bool = True,
        drives: StateMachine | None = None,
        engine: type[EngineLog] = EngineLog,
    ) -> None:
        self.names = [f"p{n}" for n in range(1, peers + 1)]
        self.journal = journal if journal is not None else MemoryJournal()
        self.snapshots = snapshots if snapshots is not None else MemorySnapshots()
        self.admitted = {name: f"disk-{name}" for name in self.names} if admitted is None else admitted
        self.machine = ListMachine(self.admitted or None)
        self.ear = _Ear()
        self.exits: list[int] = []
        self.engine = engine(
            peer_id="p1",
            peers={name: f"{name}:1" for name in self.names},
            machine=drives if drives is not None else self.machine,
            journal=self.journal,
            snapshots=self.snapshots,
            network=self.ear,
            incarnation="disk-p1",
            fresh=fresh,
            admission_payload=admission_payload,
            config=config,
            guards=guards,
            clock=asyncio.get_running_loop().time,
            rng=random.Random(1),
            exit_process=self.exits.append,
            run_blocking=run_inline,
        )

    async def __aenter__(self) -> Puppet:
        await self.engine.start()
        for name in self.names[1:]:
            self.connect(name)
        await self.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.stop()

    def hello(self, name: str, *, incarnation: str = "", admitted: dict[str, str] | None = None) -> pb.Hello:
        known = self.admitted if admitted is None else admitted
        return pb.Hello(
            cluster_id="cluster" if known else "", peer_id=name, incarnation=incarnation or f"disk-{name}", epoch=1,
            session=1, feature_level=1, peers=self.names, admitted=known,
        )  # fmt: skip

    def connect(self, name: str, *, incarnation: str = "", admitted: dict[str, str] | None = None) -> None:
        hello = self.hello(name, incarnation=incarnation, admitted=admitted)
        self.engine.session_began(name, hello, cert_expires_ms=0)
        self.engine.peer_up(name, hello)

    async def settle(self) -> None:
        """Let turns run, but (almost) no time pass."""
        for _ in range(6):
            await asyncio.sleep(0)

    async def say(self, name: str, **kind: object) -> list[pb.Frame]:
        """A peer sends one frame; returns what it is sent from then on, until all is quiet."""
        self.ear.heard.clear()
        self.engine.received(name, pb.Frame(**kind))  # type: ignore[arg-type]
        await self.settle()
        return [frame for peer, frame in self.ear.heard if peer == name]

    def sent(self, kind: str) -> list[tuple[str, pb.Frame]]:
        return [(peer, frame) for peer, frame in self.ear.heard if frame.WhichOneof("kind") == kind]

    async def hear(self, kind: str, *, within_s: float = 10.0) -> tuple[str, pb.Frame]:
        """Let time pass until the engine sends such a frame."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while not self.sent(kind):
            assert loop.time() < deadline, f"no {kind} within {within_s} s"
            await asyncio.sleep(0.005)
        return self.sent(kind)[0]

    async def lead(self, *voters: str) -> int:
        """Make the engine the leader by these peers' votes; returns the term."""
        self.ear.heard.clear()
        _, frame = await self.hear("prevote_request")
        for name in voters:
            self.engine.received(
                name, pb.Frame(prevote_reply=pb.PreVoteReply(round=frame.prevote_request.round, granted=True))
            )
        _, frame = await self.hear("vote_request")
        term = frame.vote_request.term
        for name in voters:
            self.engine.received(name, pb.Frame(vote_reply=pb.VoteReply(term=term)))
        await self.settle()
        return term

    # ------------------------------------------------------------------ looking inside

    @property
    def term(self) -> int:
        return self.engine.term

    @property
    def commit_index(self) -> int:
        return self.engine.status().commit_index

    @property
    def last_index(self) -> int:
        return self.journal.last_index


def entry(term: int, payload: bytes) -> pb.Entry:
    return pb.Entry(term=term, data=b"\x00" + pb.Batch(format=1, payloads=[payload]).SerializeToString())


def append(
    term: int, prev: tuple[int, int], payloads: Sequence[bytes] = (), *, commit: int = 1, entry_term: int = 0
) -> pb.AppendEntries:
    """``prev`` is ``(index, term)``; entries are of the leader's term unless said."""
    return pb.AppendEntries(
        term=term, commit_index=commit, prev_index=prev[0], prev_term=prev[1],
        entries=[entry(entry_term or term, payload) for payload in payloads],
    )  # fmt: skip
