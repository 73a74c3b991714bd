"""``Guard``: what is promised about every message between a peer and its PySyncObj, seen from the other peers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from orchestrator.replication.log import PeerProgress, Role
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.snapshotting import checksum
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.loop import run_virtual
from tests.sim.machine import ListMachine
from tests.unit.replication.puppet import Puppet, append, entry


def in_virtual_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(scenario)


def reply(p1: Puppet, **fields: Any) -> pb.AppendReply:
    """An acknowledgement of everything in the present term, unless said otherwise."""
    return pb.AppendReply(**{"term": p1.term, "next_index": p1.last_index + 1, "success": True, **fields})


def progress(p1: Puppet, name: str) -> PeerProgress:
    return next(row for row in p1.engine.status().peers if row.peer_id == name)


def replies(frames: list[pb.Frame]) -> list[tuple[bool, bool, int]]:
    """(success, reset, next index) of each acknowledgement."""
    found = [frame.append_reply for frame in frames if frame.HasField("append_reply")]
    return [(row.success, row.reset, row.next_index) for row in found]


async def would_vote(p1: Puppet, name: str) -> bool:
    """Whether it would vote for this peer: not while it hears a leader."""
    ask = pb.PreVoteRequest(term=p1.term + 1, last_index=1000, last_term=p1.term, round=1)
    frames = await p1.say(name, prevote_request=ask)
    return [frame.prevote_reply.granted for frame in frames if frame.HasField("prevote_reply")] == [True]


# ---------------------------------------------------------------------------- entries that come again


def test_uncommitted_entries_that_come_again_stay_and_only_what_came_is_acknowledged() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c", b"d"]))
            flushes = p1.journal.flushes
            frames = await p1.say("p2", append=append(1, (1, 0), [b"a", b"b"]))
            assert replies(frames) == [(True, False, 4)]
            assert (p1.last_index, p1.journal.flushes) == (5, flushes)

    in_virtual_time(scenario)


def test_new_entries_behind_ones_that_came_before_are_added_and_all_are_acknowledged() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"b"]))
            frames = await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c"], commit=9))
            assert replies(frames) == [(True, False, 5)]
            assert (p1.commit_index, p1.machine.applied) == (4, [b"a", b"b", b"c"])

    in_virtual_time(scenario)


def test_append_that_begins_before_the_commit_index_replaces_only_what_differs_behind_it() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c"], commit=2))
            rows = [entry(1, b"a"), entry(3, b"x")]
            frames = await p1.say(
                "p3", append=pb.AppendEntries(term=3, prev_index=1, prev_term=0, commit_index=3, entries=rows)
            )
            assert replies(frames) == [(True, False, 4)]
            assert (p1.machine.applied, p1.last_index, p1.exits) == ([b"a", b"x"], 3, [])

    in_virtual_time(scenario)


def test_append_that_begins_before_the_journal_is_understood() -> None:
    async def scenario() -> None:
        async with Puppet(config=EngineConfig(compact_entries=4, tail_entries=0)) as p1:
            rows = [b"a", b"b", b"c", b"d", b"e"]
            await p1.say("p2", append=append(1, (1, 0), rows, commit=6))
            assert p1.journal.first_index == 6
            frames = await p1.say("p2", append=append(1, (1, 0), [*rows, b"f"], commit=7))
            assert replies(frames) == [(True, False, 8)]
            assert p1.machine.applied == [*rows, b"f"]

    in_virtual_time(scenario)


def test_append_that_contradicts_the_last_committed_entry_is_not_acknowledged() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"b"], commit=3))
            frames = await p1.say("p3", append=append(9, (3, 8), [b"x"], commit=4))
            assert replies(frames) == [(False, True, 4)]
            assert (p1.machine.applied, p1.last_index) == ([b"a", b"b"], 3)

    in_virtual_time(scenario)


def test_snapshot_after_an_append_is_acknowledged_to_its_end() -> None:
    async def scenario() -> None:
        source = ListMachine({"p1": "disk-p1", "p2": "disk-p2", "p3": "disk-p3"})
        source.apply(b"a")
        data = b"".join(source.capture()())
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a"]))
            whole = pb.SnapshotChunk(
                term=1, last_index=9, last_term=1, index=1, total_bytes=len(data), crc32c=checksum(data), data=data
            )
            frames = await p1.say("p2", snapshot_chunk=whole)
            assert replies(frames) == [(True, False, 10)]

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- who is a living leader


def test_append_of_an_older_term_is_no_sign_of_a_living_leader() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(7, (1, 0)))
            assert not await would_vote(p1, "p3")
            await asyncio.sleep(EngineConfig().election_min_s + 0.01)
            await p1.say("p3", append=append(6, (1, 0)))
            assert await would_vote(p1, "p3")

    in_virtual_time(scenario)


def test_leader_whose_entries_are_refused_is_no_living_leader() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0)))
            await asyncio.sleep(EngineConfig().election_min_s + 0.01)
            strange = pb.Entry(term=1, data=b"\x03")
            await p1.say("p2", append=pb.AppendEntries(term=1, prev_index=1, commit_index=1, entries=[strange]))
            assert await would_vote(p1, "p3")

    in_virtual_time(scenario)


def test_snapshot_of_an_older_term_is_answered_with_ours_and_is_no_sign_of_a_living_leader() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(7, (1, 0)))
            await asyncio.sleep(EngineConfig().election_min_s + 0.01)
            old = pb.SnapshotChunk(term=6, last_index=9, last_term=2, index=9, total_bytes=10, crc32c=1, data=b"x")
            frames = await p1.say("p3", snapshot_chunk=old)
            assert [frame.stale_term.term for frame in frames] == [7]
            assert await would_vote(p1, "p3")

    in_virtual_time(scenario)


def test_candidate_of_an_older_term_is_told_ours() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(7, (1, 0)))
            frames = await p1.say("p3", vote_request=pb.VoteRequest(term=6, last_index=100, last_term=6))
            assert [frame.stale_term.term for frame in frames] == [7]

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- votes


def test_replaced_disk_gives_no_vote_before_it_is_admitted() -> None:
    async def scenario() -> None:
        admitted = {"p1": "the disk before", "p2": "disk-p2", "p3": "disk-p3"}
        async with Puppet(admitted=admitted) as p1:
            assert await p1.say("p2", vote_request=pb.VoteRequest(term=5, last_index=100, last_term=4)) == []
            assert p1.term == 0

    in_virtual_time(scenario)


def test_empty_disk_votes_only_in_terms_that_begin_after_it_met_the_others() -> None:
    """It may be a wiped one that voted in the older ones."""

    async def scenario() -> None:
        p1 = Puppet(admitted={})
        await p1.engine.start()
        for name in ("p2", "p3"):
            hello = p1.hello(name)
            hello.term = 5
            p1.engine.session_began(name, hello, cert_expires_ms=0)
            p1.engine.peer_up(name, hello)
        for term, granted in ((4, []), (5, []), (6, [6])):
            frames = await p1.say("p2", vote_request=pb.VoteRequest(term=term, last_index=100, last_term=4))
            assert [frame.vote_reply.term for frame in frames if frame.HasField("vote_reply")] == granted
        await p1.engine.stop()

    in_virtual_time(scenario)


async def candidate(p1: Puppet, *names: str) -> None:
    """Make p1 ask for votes."""
    _, frame = await p1.hear("prevote_request")
    for name in names:
        await p1.say(name, prevote_reply=pb.PreVoteReply(round=frame.prevote_request.round, granted=True))
    assert p1.engine.status().role == Role.CANDIDATE


def test_vote_counts_once_also_when_one_of_an_older_term_comes_in_between() -> None:
    async def scenario() -> None:
        async with Puppet(peers=5) as p1:
            await candidate(p1, "p2", "p3")
            for name, term in (("p2", p1.term), ("p3", p1.term - 1), ("p2", p1.term)):
                await p1.say(name, vote_reply=pb.VoteReply(term=term))
            assert p1.engine.status().role == Role.CANDIDATE
            await p1.say("p3", vote_reply=pb.VoteReply(term=p1.term))
            assert p1.engine.status().role == Role.LEADER

    in_virtual_time(scenario)


def test_vote_of_a_disk_that_is_not_admitted_does_not_count() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await candidate(p1, "p2")
            p1.connect("p3", incarnation="a new disk")
            await p1.say("p3", vote_reply=pb.VoteReply(term=p1.term))
            assert p1.engine.status().role == Role.CANDIDATE
            await p1.say("p2", vote_reply=pb.VoteReply(term=p1.term))
            assert p1.engine.status().role == Role.LEADER

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- what a leader makes of answers


def test_leader_says_what_each_peer_has_and_when_it_last_had_a_majority() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.lead("p2")
            assert (progress(p1, "p2").match_index, p1.engine.status().last_quorum_ms) == (0, -1)
            await p1.say("p2", append_reply=reply(p1, next_index=1))
            assert progress(p1, "p2").match_index == 0  # it has nothing
            await p1.say("p2", append_reply=reply(p1))
            assert (progress(p1, "p2").match_index, p1.engine.status().last_quorum_ms) == (p1.last_index, 0)
            await p1.say("p3", append_reply=reply(p1, success=False, reset=True, next_index=2))
            assert progress(p1, "p3").match_index == 0

    in_virtual_time(scenario)


def test_leader_of_a_new_term_forgets_what_was_said_in_an_older_one() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            term = await p1.lead("p2")
            await p1.say("p2", append_reply=reply(p1))
            await p1.say("p3", stale_term=pb.StaleTerm(term=term + 1))
            assert p1.engine.status().role == Role.FOLLOWER
            assert await p1.lead("p2") > term + 1
            assert (progress(p1, "p2").match_index, p1.engine.status().last_quorum_ms) == (0, -1)

    in_virtual_time(scenario)


def test_leader_that_hears_of_a_later_term_follows() -> None:
    async def scenario() -> None:
        for kind in ("append_reply", "snapshot_progress", "read_probe_reply"):
            async with Puppet() as p1:
                term = await p1.lead("p2")
                later = {
                    "append_reply": reply(p1, term=term + 4),
                    "snapshot_progress": pb.SnapshotProgress(term=term + 4),
                    "read_probe_reply": pb.ReadProbeReply(term=term + 4),
                }[kind]
                await p1.say("p3", **{kind: later})
                assert (p1.term, p1.engine.status().role) == (term + 4, Role.FOLLOWER), kind

    in_virtual_time(scenario)


def test_leader_stays_while_a_majority_answers_anything() -> None:
    """A follower that takes in a long snapshot acknowledges no entry meanwhile."""

    async def scenario() -> None:
        async with Puppet() as p1:
            term = await p1.lead("p2")
            await p1.say("p2", append_reply=reply(p1))
            for _ in range(30):
                await asyncio.sleep(0.1)
                await p1.say("p2", snapshot_progress=pb.SnapshotProgress(term=term))
            assert p1.engine.status().role == Role.LEADER
            assert p1.engine.status().last_quorum_ms == 0
            # And it goes on from where the peer is.
            write = asyncio.ensure_future(p1.engine.propose(b"x"))
            p1.ear.heard.clear()
            await p1.settle()
            sent = [frame.append for name, frame in p1.sent("append") if name == "p2" and frame.append.entries]
            assert [row.prev_index for row in sent] == [p1.last_index - 1]
            await p1.say("p2", append_reply=reply(p1))
            assert (await write).outcome == 1

    in_virtual_time(scenario)


def test_answers_of_a_disk_that_is_not_admitted_keep_no_leader() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            term = await p1.lead("p2")
            p1.connect("p3", incarnation="a new disk")
            for _ in range(30):
                await asyncio.sleep(0.1)
                await p1.say("p3", snapshot_progress=pb.SnapshotProgress(term=term))
            assert p1.engine.status().role != Role.LEADER

    in_virtual_time(scenario)


def test_after_a_rejection_the_leader_sends_at_once_from_where_it_was_asked_to() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.lead("p2")
            await p1.say("p2", append_reply=reply(p1))
            loop = asyncio.get_running_loop()
            before = loop.time()
            frames = await p1.say("p3", append_reply=reply(p1, success=False, reset=True, next_index=2))
            assert [(frame.append.prev_index, len(frame.append.entries)) for frame in frames] == [(1, 1)]
            assert loop.time() == before

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- peers that get a snapshot


async def leader_with_snapshot(p1: Puppet) -> None:
    """p1 leads and has compacted; p3 comes with another disk, which needs a snapshot."""
    await p1.lead("p2")
    for number in range(6):
        write = asyncio.ensure_future(p1.engine.propose(b"%d" % number))
        await p1.settle()
        await p1.say("p2", append_reply=reply(p1))
        await write
    assert p1.journal.first_index > 2
    p1.connect("p3", incarnation="a new disk")
    await p1.settle()
    await p1.say("p3", append_reply=reply(p1, success=False, reset=True, next_index=2))
    assert any(name == "p3" for name, _ in p1.sent("snapshot_chunk"))


SMALL = EngineConfig(compact_entries=5, tail_entries=0)


def test_new_disk_goes_on_behind_the_snapshot_and_counts_for_nothing_yet() -> None:
    async def scenario() -> None:
        async with Puppet(config=SMALL) as p1:
            await leader_with_snapshot(p1)
            assert p1.snapshots.held is not None
            covered = p1.snapshots.held[0].last_index
            await p1.say("p3", append_reply=reply(p1, next_index=covered + 1))
            sent = [frame.append.prev_index for name, frame in p1.sent("append") if name == "p3"]
            assert sent[0] == covered
            assert not any(name == "p3" for name, _ in p1.sent("snapshot_chunk"))
            assert p1.engine.match_index("p3") == 0

    in_virtual_time(scenario)


def test_rejection_by_a_disk_that_is_not_admitted_counts_for_nothing() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.lead("p2")
            p1.connect("p3", incarnation="a new disk")
            await p1.say("p3", append_reply=reply(p1, success=False, reset=True))
            assert p1.engine.match_index("p3") == 0

    in_virtual_time(scenario)


def test_acknowledgement_of_an_older_term_ends_no_snapshot_transfer() -> None:
    async def scenario() -> None:
        async with Puppet(config=SMALL) as p1:
            await leader_with_snapshot(p1)
            await p1.say("p3", append_reply=reply(p1, term=p1.term - 1))
            p1.ear.heard.clear()
            await asyncio.sleep(2 * SMALL.heartbeat_s)
            kinds = {frame.WhichOneof("kind") for name, frame in p1.ear.heard if name == "p3"}
            assert kinds == {"snapshot_chunk"}  # still at it

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- what it makes of PySyncObj's messages


def message(entries: list[Any], *, term: int = 3, commit: int = 5, prev: tuple[int, int] = (5, 2)) -> dict[str, Any]:
    """An append of PySyncObj's. ``entries``: (payload, index, term); ``prev``: index and term of the one before."""
    return {
        "type": "append_entries", "term": term, "commit_index": commit, "entries": entries,
        "prevLogIdx": prev[0], "prevLogTerm": prev[1],
    }  # fmt: skip


def test_a_frame_says_what_its_message_says_whatever_was_sent_before() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            one, two, other = (b"one", 6, 3), (b"two", 7, 3), (b"two", 7, 2)
            messages = [
                message([]),
                message([one, two]),
                message([one]),
                message([one, two]),
                message([one, other]),
                message([other, two]),
                message([one, two], commit=6),
                message([one, two], term=4),
                message([one, two], prev=(5, 1)),
                message([one, two], prev=(4, 2)),
                message([]),
                message([one, two], prev=(4, 2)),
            ]
            for said in messages:
                frame = p1.engine._guard.outgoing(said)
                assert frame is not None
                assert frame.append == pb.AppendEntries(
                    term=said["term"],
                    commit_index=said["commit_index"],
                    prev_index=said["prevLogIdx"],
                    prev_term=said["prevLogTerm"],
                    entries=[pb.Entry(term=term, data=data) for data, _, term in said["entries"]],
                )

    in_virtual_time(scenario)


def test_peers_that_are_as_far_get_one_frame_also_where_a_heartbeat_came_between() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            entries = [(b"one", 6, 3), (b"two", 7, 3)]
            first = p1.engine._guard.outgoing(message(list(entries)))
            assert p1.engine._guard.outgoing(message(list(entries))) is first
            p1.engine._guard.outgoing(message([]))
            assert p1.engine._guard.outgoing(message(list(entries))) is first

    in_virtual_time(scenario)
