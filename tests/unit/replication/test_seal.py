"""The last command of an epoch, as one engine sees it: what is behind it is void, and its proposers are told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.contract.errors import NoLeaderError, NotLeaderError
from orchestrator.replication.proposals import Proposal, Proposals
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.turns import Seal, apply_entry
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.loop import run_inline, run_virtual
from tests.sim.machine import ListMachine, change_payload
from tests.unit.replication.puppet import Puppet, append

ADDRESSES = {f"p{n}": f"p{n}:1" for n in (1, 2, 3, 4)}
DISKS = {f"p{n}": f"disk-p{n}" for n in (1, 2, 3, 4)}
CHANGE = change_payload(1, ADDRESSES, DISKS)


def test_what_stands_behind_a_change_in_its_entry_or_later_has_no_outcome() -> None:
    machine = ListMachine({"p1": "disk-p1"})
    batch = b"\x00" + pb.Batch(format=1, payloads=[b"a", CHANGE, b"void"]).SerializeToString()
    assert len(apply_entry(machine, batch, epoch=1)) == 2
    later = b"\x00" + pb.Batch(format=1, payloads=[b"void as well"]).SerializeToString()
    assert apply_entry(machine, later, epoch=1) == []
    assert (machine.applied, machine.index, machine.epoch()) == ([b"a"], 2, 2)
    assert len(apply_entry(machine, later, epoch=2)) == 1


def test_a_change_made_for_another_epoch_seals_nothing() -> None:
    async def main() -> None:
        async with Puppet() as puppet:
            stale = change_payload(5, ADDRESSES, DISKS)
            await puppet.say("p2", append=append(1, (1, 0), [stale, b"a"], commit=3))
            assert puppet.machine.applied == [b"a"]
            assert puppet.engine.seal is None

    run_virtual(main)


def test_a_follower_seals_where_the_leader_says_that_the_change_is_committed() -> None:
    async def main() -> None:
        async with Puppet() as puppet:
            await puppet.say("p2", append=append(4, (1, 0), [b"a", CHANGE, b"void"], commit=2))
            assert _seal_of(puppet) is None
            await puppet.say("p2", append=append(4, (4, 4), commit=4))
            seal = _seal_of(puppet)
            assert seal is not None
            assert (seal.meta.last_index, seal.meta.last_term, seal.meta.index, seal.meta.epoch) == (3, 4, 2, 2)
            assert puppet.machine.applied == [b"a"]
            assert puppet.engine.admitted == {f"p{n}": f"disk-p{n}" for n in (1, 2, 3)}, "the old epoch's disks count"

    run_virtual(main)


def _seal_of(puppet: Puppet) -> Seal | None:
    return puppet.engine.seal


async def _sealed_leader(puppet: Puppet) -> list[asyncio.Task[Any]]:
    """A leader that commits a change with three writes waiting behind it."""
    term = await puppet.lead("p2", "p3")
    index = puppet.last_index
    await puppet.say("p2", append_reply=pb.AppendReply(term=term, next_index=index + 1, success=True))
    tasks = [asyncio.ensure_future(puppet.engine.propose(CHANGE, alone=True))]
    tasks += [asyncio.ensure_future(puppet.engine.propose(b"late-%d" % n)) for n in range(3)]
    await puppet.settle()
    assert puppet.last_index == index + 1, "the change shares its entry with nobody, and nothing follows it yet"
    await puppet.say("p2", append_reply=pb.AppendReply(term=term, next_index=index + 2, success=True))
    await puppet.settle()
    return tasks


def test_a_leader_answers_the_change_and_sends_away_who_waits_behind_it() -> None:
    async def main() -> None:
        async with Puppet() as puppet:
            change, *late = await _sealed_leader(puppet)
            assert (await change).outcome == puppet.machine.index
            for task in late:
                with pytest.raises(NotLeaderError, match="being changed"):
                    await task
            assert not puppet.engine.is_leader() and puppet.engine.leader_id == ""
            told = [frame.append.commit_index for peer, frame in puppet.sent("append") if peer == "p3"]
            assert max(told) == puppet.last_index, "the others hear that the change is committed"

    run_virtual(main)


def test_writes_behind_an_older_leaders_change_are_void_and_their_callers_told_so() -> None:
    """The leader before stored the change here and died; this one commits it with its own first entries."""

    async def main() -> None:
        async with Puppet() as puppet:
            await puppet.say("p2", append=append(4, (1, 0), [CHANGE], commit=1))
            assert puppet.machine.epoch() == 1
            term = await puppet.lead("p2", "p3")
            write = asyncio.ensure_future(puppet.engine.propose(b"void"))
            await puppet.settle()
            last = puppet.last_index
            assert last > 3, "the write is stored behind the change"
            await puppet.say("p3", append_reply=pb.AppendReply(term=term, next_index=last + 1, success=True))
            with pytest.raises(NotLeaderError, match="made this write void: nothing was done"):
                await write
            seal = _seal_of(puppet)
            assert seal is not None and (seal.meta.last_index, seal.meta.last_term) == (2, 4)
            assert puppet.machine.applied == []

    run_virtual(main)


def test_a_sealed_engine_answers_no_read_and_takes_no_write() -> None:
    async def main() -> None:
        async with Puppet() as puppet:
            await asyncio.gather(*await _sealed_leader(puppet), return_exceptions=True)
            with pytest.raises(NoLeaderError, match="being changed"):
                await puppet.engine.read_barrier()
            with pytest.raises(NoLeaderError, match="being changed"):
                await puppet.engine.propose(b"more")
            assert not await puppet.say("p2", read_index_request=pb.ReadIndexRequest(id=1))
            assert not await puppet.say("p2", read_probe=pb.ReadProbe(term=puppet.term, round=1))

    run_virtual(main)


def test_a_sealed_engine_holds_no_election() -> None:
    async def main() -> None:
        async with Puppet() as puppet:
            await puppet.say("p2", append=append(4, (1, 0), [CHANGE], commit=2))
            puppet.ear.heard.clear()
            await asyncio.sleep(5.0)
            assert not puppet.sent("prevote_request") and not puppet.sent("vote_request")

    run_virtual(main)


def test_a_proposal_that_must_be_alone_is() -> None:
    proposals = Proposals(max_count=10, max_bytes=1000, batch_bytes=1000, rng=random.Random(1))
    rows = [Proposal(b"%d" % n, None, alone=n in (0, 3)) for n in range(5)]
    for row in rows:
        proposals.add(row)
    batches = []
    while batch := proposals.next_batch():
        batches.append([row.payload for row in batch])
        proposals.landed(batch)
    assert batches == [[b"0"], [b"1", b"2"], [b"3"], [b"4"]]


def test_a_snapshot_that_was_due_is_not_taken_of_a_sealed_state() -> None:
    """Its thread got the memory while the log was sealed: the state is the next epoch's, not of this one's log."""

    async def main() -> None:
        held: list[asyncio.Event] = []

        async def slow(work: Callable[[], Any]) -> Any:
            if held:
                await held[0].wait()
            return await run_inline(work)

        async with Puppet(config=EngineConfig(compact_entries=1, tail_entries=0)) as puppet:
            puppet.engine._run_blocking = slow
            held.append(asyncio.Event())
            await puppet.say("p2", append=append(4, (1, 0), [b"a"], commit=2))
            await puppet.say("p2", append=append(4, (2, 4), [CHANGE], commit=3))
            assert _seal_of(puppet) is not None
            held[0].set()
            for _ in range(5):
                await puppet.settle()
            assert puppet.snapshots.held is None

    run_virtual(main)
