"""A leader sends its entries ahead of its own flush, and news of commits with the next entry: what stays as it was.

The rule that makes the first one right (``turns``): in between, no turn begins, so that the leader does not count
itself for what its disk may lose. The pair below shows what happens without it.
"""

from __future__ import annotations

import asyncio
import errno
from functools import partial
from typing import Any

import pytest

from orchestrator.contract.errors import UnknownOutcomeError
from orchestrator.replication.engine import EngineLog
from orchestrator.replication.memory import MemoryJournal
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.turns import AHEAD_PROPOSALS
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.cluster import SimCluster
from tests.sim.loop import run_virtual
from tests.sim.machine import ListMachine
from tests.unit.replication.puppet import Puppet


def entries_to(p1: Puppet, name: str) -> list[pb.AppendEntries]:
    return [frame.append for peer, frame in p1.sent("append") if peer == name and frame.append.entries]


@pytest.mark.parametrize("reads", [False, True])
def test_the_leaders_entries_go_ahead_of_its_own_flush_unless_they_stand_behind_something_else(reads: bool) -> None:
    async def scenario() -> None:
        sent: list[list[str]] = []
        looks: list[Puppet] = []
        kinds = lambda p1: [str(frame.WhichOneof("kind")) for _, frame in p1.ear.heard]  # noqa: E731
        journal = MemoryJournal(lambda: sent.extend(map(kinds, looks)))
        async with Puppet(journal=journal) as p1:
            looks.append(p1)
            term = await p1.lead("p2")
            await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            sent.clear()
            p1.ear.heard.clear()
            calls: list[asyncio.Future[Any]] = []
            if reads:
                calls.append(asyncio.ensure_future(p1.engine.read_barrier()))
            calls.append(asyncio.ensure_future(p1.engine.propose(b"x")))
            await p1.settle()
            assert sent == [[] if reads else ["append", "append"]]
            assert [append.prev_index for append in entries_to(p1, "p2")] == [p1.last_index - 1]
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    run_virtual(scenario)


@pytest.mark.parametrize("calls", [AHEAD_PROPOSALS, AHEAD_PROPOSALS + 1])
def test_an_entry_of_many_callers_does_not_go_ahead(calls: int) -> None:
    async def scenario() -> None:
        sent: list[int] = []
        looks: list[Puppet] = []
        journal = MemoryJournal(lambda: sent.extend(len(entries_to(p1, "p2")) for p1 in looks))
        async with Puppet(journal=journal) as p1:
            term = await p1.lead("p2")
            await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            p1.ear.heard.clear()
            looks.append(p1)
            writes = [asyncio.ensure_future(p1.engine.propose(b"%d" % number)) for number in range(calls)]
            await p1.settle()
            assert sent == [int(calls <= AHEAD_PROPOSALS)]
            assert len(entries_to(p1, "p2")) == 1
            for write in writes:
                write.cancel()
            await asyncio.gather(*writes, return_exceptions=True)

    run_virtual(scenario)


class Hasty(EngineLog):
    """Without the rule: what comes in between is dealt with at once."""

    def wake(self) -> None:
        super().wake()
        if self._flush_due:
            self._in_turn = self._flush_due = False
            self._turn()


class Looking(ListMachine):
    """Notes, of everything that is applied, whether the disk below would still have it."""

    def __init__(self, admitted: dict[str, str], journal: MemoryJournal) -> None:
        super().__init__(admitted)
        self._journal = journal
        self.durable: list[bool] = []

    def apply(self, payload: bytes) -> object:
        self.durable.append(self._journal.crashed().last_index == self._journal.last_index)
        return super().apply(payload)


@pytest.mark.parametrize(("engine", "durable"), [(EngineLog, True), (Hasty, False)])
def test_a_follower_that_is_quicker_than_the_leaders_disk_makes_no_majority(
    engine: type[EngineLog], durable: bool
) -> None:
    async def scenario() -> None:
        journal = MemoryJournal()
        machine = Looking({name: f"disk-{name}" for name in ("p1", "p2", "p3")}, journal)
        async with Puppet(journal=journal, drives=machine, engine=engine) as p1:
            term = await p1.lead("p2")
            await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            send = p1.ear.send

            def answer_at_once(peer_id: str, frames: list[pb.Frame]) -> None:
                send(peer_id, frames)
                if peer_id == "p2" and any(frame.append.entries for frame in frames):
                    reply = pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True)
                    asyncio.get_running_loop().call_soon(p1.engine.received, "p2", pb.Frame(append_reply=reply))

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(p1.ear, "send", answer_at_once)
                await p1.engine.propose(b"x")
            assert machine.applied == [b"x"]
            assert machine.durable == [durable]

    run_virtual(scenario)


@pytest.mark.parametrize("away", [0, 1])
def test_a_leader_whose_disk_fails_behind_its_entries_has_promised_nothing(
    away: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both followers have the entry, or one and the other is away: who is left goes on with it, and so does the leader
    when it is back with a disk that never had it."""

    async def scenario() -> None:
        failing: set[str] = set()

        def flush(peer_id: str) -> None:
            if peer_id in failing:
                raise OSError(errno.EIO, "as the test wants")

        async with SimCluster(seed=7, start=False) as cluster:
            for peer in cluster.peers.values():
                peer.journal = MemoryJournal(partial(flush, peer.peer_id))
            for peer_id in cluster.peers:
                await cluster.start(peer_id)
            leader = await cluster.elect()
            await leader.engine.propose(b"kept")
            others = [peer for peer in cluster.peers.values() if peer is not leader]
            await cluster.wait(lambda: all(peer.machine.applied == [b"kept"] for peer in others))
            held = leader.journal.last_index
            for peer in others[:away]:
                cluster.crash(peer.peer_id)
            failing.add(leader.peer_id)

            def at_once(peer_id: str, frames: list[pb.Frame]) -> None:
                """Here a crash takes along what is on its way; what was given to a real network mostly arrives."""
                for frame in frames:
                    if cluster.peers[peer_id].running:
                        copy = pb.Frame.FromString(frame.SerializeToString())
                        cluster.peers[peer_id].engine.received(leader.peer_id, copy)

            assert leader.endpoint is not None
            monkeypatch.setattr(leader.endpoint, "send", at_once)
            write = asyncio.ensure_future(leader.engine.propose(b"ahead", timeout_s=0.5))
            await cluster.wait(lambda: not leader.running)
            failing.clear()
            assert leader.exits == [70]
            assert leader.journal.last_index == held
            with pytest.raises(UnknownOutcomeError):
                await write
            if away:
                await cluster.start(leader.peer_id)
            await cluster.elect()
            for peer in cluster.peers.values():
                if not peer.running:
                    await cluster.start(peer.peer_id)
            await cluster.wait(
                lambda: all(peer.machine.applied == [b"kept", b"ahead"] for peer in cluster.peers.values())
            )

    run_virtual(scenario)


def test_news_of_a_commit_comes_with_the_next_entry_or_a_little_later() -> None:
    async def scenario() -> None:
        config = EngineConfig(notice_s=0.02)
        async with Puppet(config=config) as p1:
            term = await p1.lead("p2")

            async def acknowledge() -> None:
                await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))

            await acknowledge()
            first = asyncio.ensure_future(p1.engine.propose(b"a"))
            await p1.settle()
            await acknowledge()
            assert first.done()
            assert not p1.sent("append")
            second = asyncio.ensure_future(p1.engine.propose(b"b"))
            await p1.settle()
            assert [one.commit_index for one in entries_to(p1, "p3")] == [p1.last_index - 1]
            await acknowledge()
            assert second.done()
            began = asyncio.get_running_loop().time()
            _, frame = await p1.hear("append")
            assert not frame.append.entries
            assert frame.append.commit_index == p1.last_index
            assert asyncio.get_running_loop().time() - began < 2 * config.notice_s

    run_virtual(scenario)


def test_who_asks_what_is_newest_is_told_at_once_what_is_committed() -> None:
    async def scenario() -> None:
        async with Puppet(config=EngineConfig(notice_s=0.1)) as p1:
            term = await p1.lead("p2")

            async def acknowledge() -> None:
                await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))

            await acknowledge()
            write = asyncio.ensure_future(p1.engine.propose(b"a"))
            await p1.settle()
            await acknowledge()
            assert write.done()
            await p1.say("p3", read_index_request=pb.ReadIndexRequest(id=1))
            (probe,) = (frame.read_probe for peer, frame in p1.sent("read_probe") if peer == "p2")
            began = asyncio.get_running_loop().time()
            await p1.say("p2", read_probe_reply=pb.ReadProbeReply(term=term, round=probe.round))
            assert p1.sent("read_index_reply")
            _, frame = await p1.hear("append")
            assert frame.append.commit_index == p1.last_index
            assert asyncio.get_running_loop().time() - began < 0.01

    run_virtual(scenario)
