"""The holes of RAFT.md, one directed test each, with the guard on and (where it can be shown safely) off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from orchestrator.contract.errors import InvalidError, UnknownOutcomeError
from orchestrator.replication.log import MAX_PROPOSAL_BYTES, Role, SnapshotMeta
from orchestrator.replication.memory import MemoryJournal
from orchestrator.replication.settings import EngineConfig, Guards
from orchestrator.replication.snapshotting import checksum
from orchestrator.replication.storage import RaftStorage
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.cluster import SimCluster
from tests.sim.loop import run_virtual
from tests.sim.machine import ListMachine
from tests.unit.replication.puppet import Puppet, append

Scenario = Callable[[], Coroutine[Any, Any, None]]


def in_virtual_time(scenario: Scenario) -> None:
    run_virtual(scenario)


def off(guard: str) -> Guards:
    return Guards(**{guard: False})


# ---------------------------------------------------------------------------- S1


async def _s1(guards: Guards) -> list[bytes]:
    """A deposed leader's follower holds an unverified tail and is sent part of a snapshot. What did it apply?"""
    async with Puppet(guards=guards) as p1:
        await p1.say("p2", append=append(1, (1, 0), [b"never", b"committed"]))
        chunk = pb.SnapshotChunk(
            term=2, commit_index=9, last_index=9, last_term=2, index=9, total_bytes=1000, crc32c=1, data=b"part"
        )
        await p1.say("p3", snapshot_chunk=chunk)
        await p1.say("p3", snapshot_chunk=pb.SnapshotChunk(**_same(chunk), offset=4, data=b"more"))
        return list(p1.machine.applied)


def _same(chunk: pb.SnapshotChunk) -> dict[str, int]:
    names = ("term", "commit_index", "last_index", "last_term", "index", "total_bytes", "crc32c")
    return {name: getattr(chunk, name) for name in names}


def test_s1_snapshot_chunk_commits_nothing() -> None:
    assert run_virtual(lambda: _s1(Guards())) == []
    assert run_virtual(lambda: _s1(off("cap_snapshot_commit"))) == [b"never", b"committed"]


# ---------------------------------------------------------------------------- S2


async def _s2(guards: Guards) -> int:
    """The first message of a resend arrives, the second is lost. How much of the log is left?"""
    async with Puppet(guards=guards) as p1:
        await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c", b"d"], commit=5))
        assert p1.machine.applied == [b"a", b"b", b"c", b"d"]
        await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=5))
        assert not p1.exits
        return p1.last_index


def test_s2_matching_suffix_is_never_truncated() -> None:
    assert run_virtual(lambda: _s2(Guards())) == 5
    assert run_virtual(lambda: _s2(off("keep_matching_entries"))) == 2


def test_s2_heartbeat_acknowledges_and_commits_only_what_it_verified() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c"], commit=1))
            frames = await p1.say("p3", append=append(2, (2, 1), commit=4))
            reply = frames[0].append_reply
            assert (reply.success, reply.next_index) == (True, 3)
            assert p1.commit_index == 2
            assert p1.last_index == 4  # nothing says yet that the rest is wrong

    in_virtual_time(scenario)


def test_s2_conflicting_suffix_is_replaced() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c"], commit=2))
            frames = await p1.say("p3", append=append(3, (2, 1), [b"x"], commit=3))
            assert frames[0].append_reply.next_index == 4
            assert p1.last_index == 3
            assert p1.machine.applied == [b"a", b"x"]

    in_virtual_time(scenario)


def test_s2_leader_that_contradicts_what_is_committed_stops_the_process() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"b"], commit=3))
            frames = await p1.say("p3", append=append(4, (1, 0), [b"x", b"y", b"z"]))
            assert p1.exits == [70]
            assert frames == []

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- S3


async def _s3(guards: Guards) -> int:
    """An acknowledgement of an earlier term reaches the same peer when it leads again. What does it count?"""
    async with Puppet(peers=5, guards=guards) as p1:
        first = await p1.lead("p2", "p3")
        write = asyncio.ensure_future(p1.engine.propose(b"x", timeout_s=60))
        await p1.settle()
        await p1.say("p4", stale_term=pb.StaleTerm(term=first + 3))
        again = await p1.lead("p2", "p3")
        assert again > first
        await p1.say("p5", append_reply=pb.AppendReply(term=first, next_index=p1.last_index + 1, success=True))
        counted = p1.engine.match_index("p5")
        with pytest.raises(UnknownOutcomeError):
            await write
        return counted


def test_s3_acknowledgement_of_an_earlier_term_is_not_counted() -> None:
    assert run_virtual(lambda: _s3(Guards())) == 0
    assert run_virtual(lambda: _s3(off("stamp_acks"))) > 0


# ---------------------------------------------------------------------------- S4


async def _s4(guards: Guards) -> Role:
    """One of five votes twice."""
    async with Puppet(peers=5, guards=guards) as p1:
        _, frame = await p1.hear("prevote_request")
        for name in ("p2", "p3"):
            await p1.say(name, prevote_reply=pb.PreVoteReply(round=frame.prevote_request.round, granted=True))
        for _ in range(2):
            await p1.say("p2", vote_reply=pb.VoteReply(term=p1.term))
        return p1.engine.status().role


def test_s4_vote_of_one_peer_counts_once() -> None:
    assert run_virtual(lambda: _s4(Guards())) == Role.CANDIDATE
    assert run_virtual(lambda: _s4(off("count_voters_once"))) == Role.LEADER


def test_s4_prevote_of_one_peer_counts_once() -> None:
    async def scenario() -> None:
        async with Puppet(peers=5) as p1:
            _, frame = await p1.hear("prevote_request")
            for _ in range(3):
                reply = pb.PreVoteReply(round=frame.prevote_request.round, granted=True)
                await p1.say("p2", prevote_reply=reply)
            assert not p1.sent("vote_request")

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- S5


def test_s5_journal_that_ends_before_the_snapshot_is_replaced_by_it() -> None:
    journal = MemoryJournal()
    journal.append([(1, 0, b"\x01"), (2, 1, b"\x00a"), (3, 1, b"\x00b")])
    storage = RaftStorage(journal, SnapshotMeta(last_index=10, last_term=4, index=9))
    assert (storage.first_index, storage.last_index, storage.last_term, storage.commit_index) == (10, 10, 4, 10)
    journal.flush()
    assert journal.crashed().entries(1, 100) == [(10, 4, b"")]


def test_s5_entries_behind_a_matching_snapshot_survive_opening() -> None:
    journal = MemoryJournal()
    journal.append([(n, 1, b"\x00") for n in range(1, 8)])
    storage = RaftStorage(journal, SnapshotMeta(last_index=4, last_term=1, index=4))
    assert (storage.last_index, storage.commit_index) == (7, 4)


def test_s5_journal_of_another_history_is_replaced_by_the_snapshot() -> None:
    journal = MemoryJournal()
    journal.append([(n, 1, b"\x00") for n in range(1, 8)])
    storage = RaftStorage(journal, SnapshotMeta(last_index=4, last_term=3, index=4))
    assert (storage.first_index, storage.last_index, storage.last_term) == (4, 4, 3)


# ---------------------------------------------------------------------------- S7


async def _s7(guards: Guards) -> bool:
    """A complete snapshot with the wrong checksum. Is it acknowledged?"""
    async with Puppet(guards=guards) as p1:
        chunk = pb.SnapshotChunk(
            term=2, commit_index=9, last_index=9, last_term=2, index=9, total_bytes=7, crc32c=1, data=b"garbage"
        )
        await p1.say("p3", snapshot_chunk=chunk)
        return any(frame.append_reply.success for _, frame in p1.sent("append_reply"))


def test_s7_damaged_snapshot_is_not_acknowledged() -> None:
    assert run_virtual(lambda: _s7(Guards())) is False
    assert run_virtual(lambda: _s7(off("check_snapshots"))) is True


def test_s7_snapshot_that_cannot_be_restored_is_not_acknowledged_and_changes_nothing() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=2))
            data = b"well-formed, but not a state"
            chunk = pb.SnapshotChunk(
                term=2, last_index=9, last_term=2, index=9, total_bytes=len(data), crc32c=checksum(data), data=data
            )
            await p1.say("p3", snapshot_chunk=chunk)
            assert not p1.sent("append_reply")
            assert (p1.machine.applied, p1.last_index, p1.exits) == ([b"a"], 2, [])

    in_virtual_time(scenario)


def test_s7_whole_snapshot_is_durable_before_it_is_acknowledged() -> None:
    async def scenario() -> None:
        source = ListMachine({"p1": "disk-p1", "p2": "disk-p2", "p3": "disk-p3"})
        for number in range(5):
            source.apply(b"%d" % number)
        data = b"".join(source.capture()())
        async with Puppet() as p1:
            half = len(data) // 2
            same = {"term": 2, "last_index": 9, "last_term": 2, "index": 5, "crc32c": checksum(data)}
            await p1.say("p3", snapshot_chunk=pb.SnapshotChunk(**same, total_bytes=len(data), data=data[:half]))
            assert p1.snapshots.saves == 0
            rest = pb.SnapshotChunk(**same, total_bytes=len(data), offset=half, data=data[half:])
            await p1.say("p3", snapshot_chunk=rest)
            replies = [frame.append_reply for _, frame in p1.sent("append_reply")]
            assert [(row.success, row.next_index) for row in replies] == [(True, 10)]
            assert p1.snapshots.saves == 1
            assert p1.journal.crashed().entries(1, 100) == [(9, 2, b"")]
            assert p1.machine.applied == source.applied
            # And the log goes on behind it.
            await p1.say("p3", append=append(2, (9, 2), [b"next"], commit=10))
            assert p1.machine.applied[-1] == b"next"

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- S8


def test_s8_proposals_of_every_awkward_size_replicate() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=8) as cluster:
            leader = await cluster.elect()
            sizes = [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 2**20, MAX_PROPOSAL_BYTES - 1, MAX_PROPOSAL_BYTES]
            for size in sizes:
                await leader.engine.propose(b"x" * size)
            await asyncio.gather(*(leader.engine.propose(b"y" * (MAX_PROPOSAL_BYTES - n)) for n in range(4)))
            await cluster.converge()
            assert [len(row) for row in leader.machine.applied[: len(sizes)]] == sizes

    in_virtual_time(scenario)


def test_s8_proposal_above_the_limit_is_refused() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=8, peers=1) as cluster:
            leader = await cluster.elect()
            with pytest.raises(InvalidError, match="at most 2097152"):
                await leader.engine.propose(b"x" * (MAX_PROPOSAL_BYTES + 1))

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- S9


async def _s9(guards: Guards) -> int:
    """A diverged tail and an append that does not fit. From where is the leader asked to go on?"""
    async with Puppet(guards=guards) as p1:
        await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c"], commit=2))
        frames = await p1.say("p3", append=append(2, (20, 2), [b"z"], commit=20))
        reply = frames[0].append_reply
        assert reply.reset and not reply.success
        return reply.next_index


def test_s9_rejection_goes_back_to_the_commit_index() -> None:
    assert run_virtual(lambda: _s9(Guards())) == 3
    assert run_virtual(lambda: _s9(off("reject_to_commit"))) == 5


# ---------------------------------------------------------------------------- S10


async def _s10(guards: Guards) -> list[bytes]:
    """Acknowledged by p1 and p2, p3 away; p2's disk is wiped; p1 is away when p3 comes back."""
    async with SimCluster(seed=10, guards=guards) as cluster:
        await cluster.elect()
        await cluster.converge()
        cluster.network.isolate("p3")
        leader = await cluster.elect()
        while leader.peer_id == "p3":
            await cluster.pass_time(0.1)
            leader = await cluster.elect()
        await leader.engine.propose(b"precious")
        cluster.crash("p1")
        cluster.wipe("p2")
        cluster.network.heal()
        await cluster.start("p2")
        try:
            await cluster.elect(within_s=15)
        except AssertionError:
            await cluster.start("p1")
            await cluster.elect()
        await cluster.converge()
        return list(cluster.running()[0].machine.applied)


def test_s10_wiped_disk_does_not_vote_away_what_it_acknowledged() -> None:
    assert b"precious" in run_virtual(lambda: _s10(Guards()))
    assert b"precious" not in run_virtual(lambda: _s10(off("disk_incarnations")))


# ---------------------------------------------------------------------------- S13


def test_s13_append_of_an_older_term_is_answered_with_ours() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(7, (1, 0)))
            frames = await p1.say("p3", append=append(6, (1, 0), [b"x"]))
            assert [frame.stale_term.term for frame in frames] == [7]

    in_virtual_time(scenario)


async def _s13(guards: Guards) -> bool:
    """Nobody answers the leader. Does it still lead after twice the longest election timeout?"""
    async with Puppet(guards=guards) as p1:
        await p1.lead("p2")
        await asyncio.sleep(2 * EngineConfig().election_max_s)
        return p1.engine.status().role == Role.LEADER


def test_s13_leader_without_a_majority_steps_down_soon() -> None:
    assert run_virtual(lambda: _s13(Guards())) is False
    assert run_virtual(lambda: _s13(off("short_fallback"))) is True


# ---------------------------------------------------------------------------- S15


async def _s15(guards: Guards) -> int:
    async with Puppet(guards=guards) as p1:
        evil = pb.Entry(term=1, data=b"\x02cos\nsystem\n(S'true'\ntR.")
        await p1.say("p2", append=pb.AppendEntries(term=1, prev_index=1, commit_index=2, entries=[evil]))
        return p1.last_index


def test_s15_foreign_command_is_refused() -> None:
    assert run_virtual(lambda: _s15(Guards())) == 1
    assert run_virtual(lambda: _s15(off("refuse_foreign_commands"))) == 2  # stored; but still never unpickled


# ---------------------------------------------------------------------------- S16


async def _s16(guards: Guards) -> int:
    """How many terms pass while a follower's link to the leader flaps."""
    async with SimCluster(seed=16, guards=guards) as cluster:
        leader = await cluster.elect()
        await cluster.converge()
        before = leader.engine.term
        other = next(peer.peer_id for peer in cluster.running() if peer is not leader)
        for _ in range(8):
            cluster.network.cut_link(leader.peer_id, other)
            cluster.network.cut_link(other, leader.peer_id)
            await cluster.pass_time(2.0)
            cluster.network.heal()
            await cluster.pass_time(0.5)
        return max(peer.engine.term for peer in cluster.running()) - before


def test_s16_flapping_follower_deposes_nobody() -> None:
    assert run_virtual(lambda: _s16(Guards())) == 0
    assert run_virtual(lambda: _s16(off("prevote"))) > 2


# ---------------------------------------------------------------------------- S17


def test_s17_peer_that_waits_for_a_snapshot_is_sent_no_flood() -> None:
    async def scenario() -> None:
        config = EngineConfig(compact_entries=10, tail_entries=2)
        async with SimCluster(seed=17, config=config) as cluster:
            leader = await cluster.elect()
            behind = next(peer.peer_id for peer in cluster.running() if peer is not leader)
            cluster.crash(behind)
            for number in range(60):
                await leader.engine.propose(b"%d" % number)
            frames: list[pb.Frame] = []

            def tap(_source: str, target: str, frame: pb.Frame) -> pb.Frame:
                if target == behind:
                    frames.append(frame)
                return frame

            cluster.network.tap = tap
            await cluster.start(behind)
            await cluster.converge()
            assert cluster.peers[behind].engine.snapshots_installed == 1
            assert len([frame for frame in frames if frame.HasField("snapshot_chunk")]) < 5

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- S18


async def _s18(guards: Guards) -> bool:
    """A leader is deposed with a write in flight. Is its caller told?"""
    async with Puppet(guards=guards) as p1:
        term = await p1.lead("p2")
        write = asyncio.ensure_future(p1.engine.propose(b"x", timeout_s=30))
        await p1.settle()
        await p1.say("p3", stale_term=pb.StaleTerm(term=term + 1))
        told = write.done()
        if told:
            with pytest.raises(UnknownOutcomeError):
                await write
        write.cancel()
        return told


def test_s18_write_in_flight_of_a_deposed_leader_is_answered_unknown() -> None:
    assert run_virtual(lambda: _s18(Guards())) is True
    assert run_virtual(lambda: _s18(off("fail_pending"))) is False
