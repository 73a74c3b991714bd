"""ReadIndex: each way in which a read could miss an acknowledged write, with the rule against it and without.

Every pair runs one schedule twice. Guarded, the read is not answered or holds the write; unguarded (the one rule taken
out), the same schedule gives a stale answer, so the test can fail. See Ongaro's thesis, section 6.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator.contract.errors import RaftsmanError
from orchestrator.replication.reads import Answer, Reads, RemoteReads
from orchestrator.replication.settings import EngineConfig, Guards
from orchestrator.replication.turns import EngineRoom
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.cluster import SimCluster
from tests.sim.loop import run_virtual
from tests.unit.replication.puppet import Puppet, append

UNANSWERED = "unanswered"


@contextmanager
def without(where: type, name: str, replacement: object, *, guarded: bool) -> Any:
    """One rule is taken out, unless ``guarded``."""
    with pytest.MonkeyPatch.context() as patch:
        if not guarded:
            patch.setattr(where, name, replacement)
        yield


def run(schedule: Callable[[], Coroutine[Any, Any, object]]) -> object:
    return run_virtual(schedule)


async def seen_by(read: asyncio.Future[int], applied: list[bytes]) -> object:
    """What the reader finds, if it was told that it may look."""
    if not read.done():
        read.cancel()
        return UNANSWERED
    try:
        await read
    except RaftsmanError:
        return UNANSWERED
    return list(applied)


def confirm(p1: Puppet, name: str, *, term: int | None = None) -> pb.ReadProbeReply:
    """A peer's answer to the newest round of questions."""
    asked = [frame.read_probe for peer, frame in p1.ear.heard if peer == name and frame.HasField("read_probe")]
    return pb.ReadProbeReply(term=p1.term if term is None else term, round=asked[-1].round)


def acknowledged(p1: Puppet) -> pb.AppendReply:
    return pb.AppendReply(term=p1.term, next_index=p1.last_index + 1, success=True)


async def leading(p1: Puppet) -> int:
    term = await p1.lead("p2")
    await p1.say("p2", append_reply=acknowledged(p1))
    assert p1.engine.is_leader()
    return term


# ---------------------------------------------------------------------------- a deposed leader


def _answer_without_a_round(reads: Reads, *, term: int, commit_index: int) -> None:
    waiting, reads._waiting = reads._waiting, []
    for answer in waiting:
        answer(commit_index)


@pytest.mark.parametrize(
    ("guarded", "found"), [(True, UNANSWERED), (False, [])], ids=["guarded holds", "unguarded fails"]
)
def test_leader_that_was_deposed_without_hearing_of_it_answers_no_read(guarded: bool, found: object) -> None:
    """Rule: a majority must confirm that we lead, in a round."""

    async def schedule() -> object:
        async with SimCluster(seed=31) as cluster:
            old = await cluster.elect()
            await cluster.converge()
            cluster.network.isolate(old.peer_id)
            assert old.engine.is_leader()
            read = asyncio.ensure_future(old.engine.read_barrier(timeout_s=0.6))
            new = await _other_leader(cluster, old.peer_id)
            await new.propose(b"acknowledged")
            await cluster.pass_time(1.0)
            return await seen_by(read, old.machine.applied)

    with without(Reads, "pump", _answer_without_a_round, guarded=guarded):
        assert run(schedule) == found


async def _other_leader(cluster: SimCluster, old: str) -> Any:
    await cluster.wait(lambda: any(p.peer_id != old and p.engine.is_leader() for p in cluster.running()))
    return next(p.engine for p in cluster.running() if p.peer_id != old and p.engine.is_leader())


# ---------------------------------------------------------------------------- a leader that is too new


def _forget_where_the_term_starts(original: Any) -> Any:
    def changed(room: EngineRoom, old: int, new: int) -> None:
        original(room, old, new)
        room._term_start = 0

    return changed


@pytest.mark.parametrize(
    ("guarded", "found"), [(True, UNANSWERED), (False, [b"a"])], ids=["guarded holds", "unguarded fails"]
)
def test_new_leader_answers_no_read_before_an_entry_of_its_term_is_committed(guarded: bool, found: object) -> None:
    """Rule: before that its commit index may lag behind what the leader before it acknowledged."""

    async def schedule() -> object:
        async with Puppet() as p1:
            # p2 has acknowledged the second write to its client, and died before it said so.
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"acknowledged"], commit=2))
            await p1.lead("p3")
            p1.ear.heard.clear()
            read = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=0.3))
            await p1.settle()
            if p1.sent("read_probe"):
                await p1.say("p3", read_probe_reply=confirm(p1, "p3"))
            return await seen_by(read, p1.machine.applied)

    changed = _forget_where_the_term_starts(EngineRoom.core_changed_state)
    with without(EngineRoom, "core_changed_state", changed, guarded=guarded):
        assert run(schedule) == found


# ---------------------------------------------------------------------------- confirmations that say nothing


@pytest.mark.parametrize(
    ("guarded", "answered"), [(True, False), (False, True)], ids=["guarded holds", "unguarded fails"]
)
def test_confirmation_of_another_term_does_not_count(guarded: bool, answered: bool) -> None:
    """Rule: acknowledgements carry their term (S3); rounds are numbered anew when a process starts."""

    async def schedule() -> object:
        async with Puppet(guards=Guards(stamp_acks=guarded)) as p1:
            term = await leading(p1)
            p1.ear.heard.clear()
            read = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=0.3))
            await p1.settle()
            await p1.say("p2", read_probe_reply=confirm(p1, "p2", term=term - 1))
            done = read.done()
            read.cancel()
            return done

    assert run(schedule) == answered


@pytest.mark.parametrize(
    ("guarded", "answered"), [(True, False), (False, True)], ids=["guarded holds", "unguarded fails"]
)
def test_confirmation_of_an_earlier_round_does_not_count(guarded: bool, answered: bool) -> None:
    """Rule: a confirmation is for the round that it answers."""

    def any_round(reads: Reads, peer_id: str, reply: pb.ReadProbeReply) -> None:
        reads._confirmed.add(peer_id)
        if reads._asking:
            reads._finish()

    async def schedule() -> object:
        async with Puppet() as p1:
            await leading(p1)
            read = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=0.3))
            await p1.settle()
            first = confirm(p1, "p2")
            await p1.say("p2", read_probe_reply=first)
            await read
            again = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=0.3))
            await p1.settle()
            await p1.say("p3", read_probe_reply=first)
            done = again.done()
            again.cancel()
            return done

    with without(Reads, "reply", any_round, guarded=guarded):
        assert run(schedule) == answered


def test_one_peer_that_confirms_twice_is_no_majority() -> None:
    async def schedule() -> object:
        async with Puppet(peers=5) as p1:
            await p1.lead("p2", "p3")
            for name in ("p2", "p3"):
                await p1.say(name, append_reply=acknowledged(p1))
            p1.ear.heard.clear()
            read = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=0.3))
            await p1.settle()
            reply = confirm(p1, "p2")
            for _ in range(3):
                await p1.say("p2", read_probe_reply=reply)
            assert not read.done()
            await p1.say("p3", read_probe_reply=reply)
            return await read

    assert run(schedule) == 0


def test_confirmation_of_a_disk_that_is_not_admitted_does_not_count() -> None:
    async def schedule() -> object:
        async with Puppet() as p1:
            await leading(p1)
            p1.connect("p3", incarnation="a new disk")
            p1.ear.heard.clear()
            read = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=0.3))
            await p1.settle()
            theirs, ours = confirm(p1, "p3"), confirm(p1, "p2")
            await p1.say("p3", read_probe_reply=theirs)
            assert not read.done()
            await p1.say("p2", read_probe_reply=ours)
            return await read

    assert run(schedule) == 0


# ---------------------------------------------------------------------------- a round that began too early


def _join_the_running_round(reads: Reads, answer: Answer) -> None:
    (reads._asking if reads._asking else reads._waiting).append(answer)


@pytest.mark.parametrize(("guarded", "fresh"), [(True, True), (False, False)], ids=["guarded holds", "unguarded fails"])
def test_read_that_is_asked_during_a_round_waits_for_the_next(guarded: bool, fresh: bool) -> None:
    """Rule: a round answers with the commit index of its beginning; a write may be acknowledged after that."""

    async def schedule() -> object:
        async with Puppet() as p1:
            await leading(p1)
            p1.ear.heard.clear()
            early = asyncio.ensure_future(p1.engine.read_barrier())
            await p1.settle()
            first = confirm(p1, "p2")
            write = asyncio.ensure_future(p1.engine.propose(b"acknowledged"))
            await p1.settle()
            await p1.say("p2", append_reply=acknowledged(p1))
            await write
            written = p1.commit_index
            # A follower that has not heard of it asks now.
            p1.ear.heard.clear()
            p1.engine.received("p3", pb.Frame(read_index_request=pb.ReadIndexRequest(id=7)))
            await p1.settle()
            p1.engine.received("p2", pb.Frame(read_probe_reply=first))
            await p1.settle()
            await early
            if not p1.sent("read_index_reply"):
                p1.engine.received("p2", pb.Frame(read_probe_reply=confirm(p1, "p2")))
                await p1.settle()
            answers = [frame.read_index_reply for peer, frame in p1.sent("read_index_reply") if peer == "p3"]
            assert [(answer.id, answer.ok) for answer in answers] == [(7, True)]
            return answers[0].commit_index >= written

    with without(Reads, "ask", _join_the_running_round, guarded=guarded):
        assert run(schedule) is fresh


# ---------------------------------------------------------------------------- followers


def _believe_anybody(remote: RemoteReads, reply: pb.ReadIndexReply) -> object:
    row = remote._open.pop(reply.id, None)
    return None if row is None else (row[1], reply.commit_index)


@pytest.mark.parametrize(
    ("guarded", "found"), [(True, UNANSWERED), (False, [b"a"])], ids=["guarded holds", "unguarded fails"]
)
def test_follower_does_not_take_the_word_of_a_peer_that_leads_no_more(guarded: bool, found: object) -> None:
    """Rule: whoever cannot confirm its leadership answers no, and the follower asks again."""

    async def schedule() -> object:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=2))
            p1.ear.heard.clear()
            read = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=0.3))
            await p1.settle()
            asked = [frame.read_index_request.id for peer, frame in p1.sent("read_index_request") if peer == "p2"]
            assert len(asked) == 1
            await p1.say("p2", read_index_reply=pb.ReadIndexReply(id=asked[0], ok=False, commit_index=2))
            return await seen_by(read, p1.machine.applied)

    with without(RemoteReads, "answered", _believe_anybody, guarded=guarded):
        assert run(schedule) == found


def test_peer_that_does_not_lead_says_so_to_whoever_asks_it_for_the_index() -> None:
    async def schedule() -> object:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=2))
            frames = await p1.say("p3", read_index_request=pb.ReadIndexRequest(id=3))
            return [(frame.read_index_reply.id, frame.read_index_reply.ok) for frame in frames]

    assert run(schedule) == [(3, False)]


def test_leader_that_is_deposed_during_the_round_answers_no() -> None:
    async def schedule() -> object:
        async with Puppet() as p1:
            term = await leading(p1)
            p1.ear.heard.clear()
            p1.engine.received("p3", pb.Frame(read_index_request=pb.ReadIndexRequest(id=3)))
            await p1.settle()
            assert p1.sent("read_probe")
            await p1.say("p2", stale_term=pb.StaleTerm(term=term + 1))
            answers = [frame.read_index_reply for peer, frame in p1.sent("read_index_reply") if peer == "p3"]
            return [(answer.id, answer.ok) for answer in answers]

    assert run(schedule) == [(3, False)]


def test_follower_whose_leader_changes_asks_the_new_one_and_waits_until_it_has_applied_the_index() -> None:
    async def schedule() -> object:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=2))
            p1.ear.heard.clear()
            read = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=5))
            await p1.settle()
            old = p1.sent("read_index_request")[0][1].read_index_request.id
            p1.ear.heard.clear()
            p1.engine.received("p3", pb.Frame(append=append(2, (2, 1), [b"b"], commit=2)))
            await p1.hear("read_index_request", within_s=1)
            peer, frame = p1.sent("read_index_request")[0]
            assert (peer, frame.read_index_request.id > old) == ("p3", True)
            await p1.say("p2", read_index_reply=pb.ReadIndexReply(id=old, ok=True, commit_index=2))
            assert not read.done()  # that question is void
            answer = pb.ReadIndexReply(id=frame.read_index_request.id, ok=True, commit_index=3)
            await p1.say("p3", read_index_reply=answer)
            assert not read.done()  # entry 3 is not committed here yet
            await p1.say("p3", append=append(2, (3, 2), commit=3))
            assert await read == 2
            return list(p1.machine.applied)

    assert run(schedule) == [b"a", b"b"]


def test_probes_that_were_lost_are_sent_again_with_the_heartbeat() -> None:
    async def schedule() -> object:
        async with Puppet() as p1:
            await leading(p1)
            read = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=5))
            await p1.settle()
            p1.ear.heard.clear()
            await p1.hear("read_probe", within_s=2 * EngineConfig().heartbeat_s)
            await p1.say("p3", read_probe_reply=confirm(p1, "p3"))
            return await read

    assert run(schedule) == 0
