"""The holes in how entries, acknowledgements, votes and snapshots travel: S1 to S4, S7 to S9, S13 to S19."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from orchestrator.contract.errors import InvalidError, UnknownOutcomeError
from orchestrator.replication import engine
from orchestrator.replication.codec import decode_entry
from orchestrator.replication.log import MAX_PROPOSAL_BYTES, Role
from orchestrator.replication.machine import ClusterMachine
from orchestrator.replication.memory import MemoryJournal
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.snapshotting import checksum
from orchestrator.replication.v1 import peer_pb2 as pb
from orchestrator.state.apply import apply
from orchestrator.state.commands import Outcome
from tests.sim.cluster import SimCluster
from tests.sim.loop import VirtualLoop, run_virtual
from tests.sim.machine import ListMachine
from tests.unit.replication.holes import all_but, hole
from tests.unit.replication.plain import NO_OP, REGULAR, PlainPeer
from tests.unit.replication.puppet import Puppet, append

# ---------------------------------------------------------------------------- S1


@hole(
    "S1", "a deposed leader's follower holds an unverified tail and is sent a part of a snapshot: what does it apply?",
    holds=[], fails=[b"never", b"committed"],
)  # fmt: skip
def _snapshot_chunks_commit_nothing(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet(guards=all_but("cap_snapshot_commit", guarded)) as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"never", b"committed"]))
            same = {"term": 2, "commit_index": 9, "last_index": 9, "last_term": 2, "index": 9, "total_bytes": 1000}
            await p1.say("p3", snapshot_chunk=pb.SnapshotChunk(**same, crc32c=1, data=b"part"))
            await p1.say("p3", snapshot_chunk=pb.SnapshotChunk(**same, crc32c=1, offset=4, data=b"more"))
            return list(p1.machine.applied)

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S2


@hole(
    "S2", "the first message of a resend arrives, the second is lost: how much of the committed log is left?",
    holds=5, fails=2,
)  # fmt: skip
def _matching_suffix_stays(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet(guards=all_but("keep_matching_entries", guarded)) as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c", b"d"], commit=5))
            assert p1.machine.applied == [b"a", b"b", b"c", b"d"]
            await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=5))
            assert not p1.exits
            return p1.last_index

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S3


@hole(
    "S3", "an acknowledgement of term 1 reaches the same peer when it leads again in term 3: does it count?",
    holds=False, fails=True,
)  # fmt: skip
def _acknowledgements_count_in_their_term(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet(peers=5, guards=all_but("stamp_acks", guarded)) as p1:
            first = await p1.lead("p2", "p3")
            write = asyncio.ensure_future(p1.engine.propose(b"x", timeout_s=60))
            await p1.settle()
            await p1.say("p4", stale_term=pb.StaleTerm(term=first + 3))
            again = await p1.lead("p2", "p3")
            assert again > first
            await p1.say("p5", append_reply=pb.AppendReply(term=first, next_index=p1.last_index + 1, success=True))
            with pytest.raises(UnknownOutcomeError):
                await write
            return p1.engine.match_index("p5") > 0

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S4


@hole("S4", "one of five peers' votes arrives twice: who leads?", holds=Role.CANDIDATE, fails=Role.LEADER)
def _a_vote_counts_once(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet(peers=5, guards=all_but("count_voters_once", guarded)) as p1:
            _, frame = await p1.hear("prevote_request")
            for name in ("p2", "p3"):
                await p1.say(name, prevote_reply=pb.PreVoteReply(round=frame.prevote_request.round, granted=True))
            for _ in range(2):
                await p1.say("p2", vote_reply=pb.VoteReply(term=p1.term))
            return p1.engine.status().role

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S7


@hole(
    "S7", "a complete snapshot with a wrong checksum arrives: is it acknowledged?",
    holds=False, fails=True,
)  # fmt: skip
def _damaged_snapshots_are_not_acknowledged(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet(guards=all_but("check_snapshots", guarded)) as p1:
            chunk = pb.SnapshotChunk(
                term=2, commit_index=9, last_index=9, last_term=2, index=9, total_bytes=7, crc32c=1, data=b"garbage"
            )
            await p1.say("p3", snapshot_chunk=chunk)
            return any(frame.append_reply.success for _, frame in p1.sent("append_reply"))

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S8


@hole(
    "S8", "commands a few bytes around every limit are sent: which sizes arrive whole?",
    holds="all that are accepted", fails="not those a few bytes below a multiple of the batch size",
)  # fmt: skip
def _no_size_is_awkward(guarded: bool) -> object:
    if guarded:
        return run_virtual(_sizes_under_the_cap)
    batch, arrived = 1000, {}
    for size in (10, batch // 2, batch - 1, batch, 2 * batch - 3, 2 * batch, 2 * batch + 100):
        with PlainPeer(peers=2, appendEntriesBatchSizeBytes=batch) as leader, PlainPeer(peers=2) as follower:
            term = leader.lead("p2")
            follower.append("p2", term, (1, 0), [NO_OP])  # the leader's first entry
            before = follower.last_index
            leader.raft._applyCommand(NO_OP + b"x" * (size - 1), None)
            try:
                for _, message in leader.tick():
                    if message["type"] == "append_entries":
                        follower.say("p2", **message)
            except (pickle.UnpicklingError, EOFError):
                pass  # the parts are put together too early, and so they are with every resend
            arrived[size] = follower.last_index > before
    assert arrived[10] and arrived[batch - 1] and arrived[2 * batch + 100]
    if arrived[2 * batch - 3]:
        return "all"
    return "not those a few bytes below a multiple of the batch size"


async def _sizes_under_the_cap() -> object:
    config = EngineConfig(batch_bytes=2 * MAX_PROPOSAL_BYTES)
    async with SimCluster(seed=8, config=config) as cluster:
        leader = await cluster.elect()
        sizes = [0, 1, 2**16 - 1, 2**16, 2**20, *(MAX_PROPOSAL_BYTES - n for n in range(4))]
        for size in sizes:
            await leader.engine.propose(b"x" * size)
        with pytest.raises(InvalidError):
            await leader.engine.propose(b"x" * (MAX_PROPOSAL_BYTES + 1))
        await cluster.converge()
        assert all([len(row) for row in peer.machine.applied] == sizes for peer in cluster.running())
        return "all that are accepted"


@hole(
    "S8", "a caller proposes more than a batch: is it refused, or does the peer go down over it?",
    holds=("refused", []), fails=("taken", [70]),
)  # fmt: skip
def _too_large_is_refused_before_the_log(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet() as p1:
            await p1.lead("p2")
            with pytest.MonkeyPatch.context() as patch:
                if not guarded:
                    patch.setattr(engine, "check_proposal", lambda _payload: None)
                write = asyncio.ensure_future(p1.engine.propose(b"x" * (2 * EngineConfig().batch_bytes)))
                await p1.settle()
            said = "refused" if write.done() and isinstance(write.exception(), InvalidError) else "taken"
            write.cancel()
            return said, p1.exits

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S9


@hole(
    "S9", "an append does not fit a diverged tail: from which entry is the leader asked to go on (2 is committed)?",
    holds=3, fails=5,
)  # fmt: skip
def _rejections_go_back_to_the_commit_index(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet(guards=all_but("reject_to_commit", guarded)) as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c"], commit=2))
            frames = await p1.say("p3", append=append(2, (20, 2), [b"z"], commit=20))
            reply = frames[0].append_reply
            assert reply.reset and not reply.success
            return reply.next_index

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S13


@hole(
    "S13", "nobody answers the leader: does it still lead after twice the longest election timeout?",
    holds=False, fails=True,
)  # fmt: skip
def _leaders_without_a_majority_step_down(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet(guards=all_but("short_fallback", guarded)) as p1:
            await p1.lead("p2")
            await asyncio.sleep(2 * EngineConfig().election_max_s)
            return p1.engine.status().role == Role.LEADER

    return run_virtual(schedule)


@hole("S13", "a leader of term 6 writes to a peer in term 7: what does it hear?", holds=[7], fails=[])
def _old_leaders_are_told(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet(guards=all_but("answer_stale_terms", guarded)) as p1:
            await p1.say("p2", append=append(7, (1, 0)))
            frames = await p1.say("p3", append=append(6, (1, 0), [b"x"]))
            return [frame.stale_term.term for frame in frames]

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S14


class _RaisingMachine(ClusterMachine):
    """Applies without the net: what is no command raises, as a replicated method of PySyncObj would."""

    def apply(self, payload: bytes) -> Outcome:
        return apply(self.state, decode_entry(payload))


@hole(
    "S14", "what the log holds is no command: does the peer get past it, now and after a restart?",
    holds=[(2, []), (2, [])], fails=[(0, [70]), (0, [70])],
)  # fmt: skip
def _apply_is_total(guarded: bool) -> object:
    async def schedule() -> object:
        found = []
        journal = MemoryJournal()
        for _ in range(2):
            machine = ClusterMachine() if guarded else _RaisingMachine()
            async with Puppet(journal=journal, drives=machine, fresh=journal.last_index == 0, admitted={}) as p1:
                await p1.say("p2", append=append(1, (1, 0), [b"no command", b"nor is this"], commit=3))
                found.append((machine.index, p1.exits))
                journal = p1.journal.crashed()
        return found

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S15

_ran: list[str] = []


def _run(code: str) -> None:
    _ran.append(code)


class _Crafted:
    """A pickle that calls what it likes."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _run, ("code of a stranger",)


@hole(
    "S15", "a committed entry holds a crafted pickle: does its code run, and does the peer go on?",
    holds=([], []), fails=(["code of a stranger"], [KeyError]),
)  # fmt: skip
def _nothing_is_unpickled(guarded: bool) -> object:
    _ran.clear()
    crafted = REGULAR + pickle.dumps(_Crafted())

    async def schedule() -> object:
        async with Puppet() as p1:
            stranger = pb.Entry(term=1, data=crafted)
            await p1.say("p2", append=pb.AppendEntries(term=1, prev_index=1, commit_index=2, entries=[stranger]))
            assert p1.commit_index == 2
            return list(_ran), p1.exits

    if guarded:
        return run_virtual(schedule)
    with PlainPeer() as peer:
        peer.append("p2", 1, (1, 0), [crafted], commit=2)
        try:
            peer.tick()
        except Exception as error:  # what came out of the pickle is no method: too late
            return list(_ran), [type(error)]
    return list(_ran), []


@hole("S15", "an entry of a kind that no leader of ours writes arrives: is it stored?", holds=1, fails=2)
def _foreign_kinds_are_refused(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet(guards=all_but("refuse_foreign_commands", guarded)) as p1:
            version = pb.Entry(term=1, data=b"\x03" + pickle.dumps(7))
            await p1.say("p2", append=pb.AppendEntries(term=1, prev_index=1, commit_index=2, entries=[version]))
            return p1.last_index

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S16


@hole(
    "S16", "a follower's link to the leader is cut eight times for 2 s: how many terms pass?",
    holds="none", fails="many",
)  # fmt: skip
def _flapping_followers_depose_nobody(guarded: bool) -> object:
    async def schedule() -> object:
        async with SimCluster(seed=16, guards=all_but("prevote", guarded)) as cluster:
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
            passed = max(peer.engine.term for peer in cluster.running()) - before
            return "none" if passed == 0 else "many" if passed > 2 else passed

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S17


@hole(
    "S17", "a follower needs a snapshot that is still being read: how often is it thought of in one heartbeat?",
    holds="once", fails="as often as there is time for",
)  # fmt: skip
def _no_busy_loop_while_a_snapshot_is_awaited(guarded: bool) -> object:
    asked = 0

    async def schedule() -> object:
        nonlocal asked
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        config = EngineConfig(compact_entries=5, tail_entries=0)
        async with Puppet(guards=all_but("pause_during_dump", guarded), config=config) as p1:
            term = await p1.lead("p2")
            for number in range(10):
                write = asyncio.ensure_future(p1.engine.propose(b"%d" % number))
                await p1.settle()
                acknowledge = pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True)
                await p1.say("p2", append_reply=acknowledge)
                await write
            assert p1.snapshots.saves == 2 and p1.journal.first_index > 2
            wanted_by = p1.engine.core_wants_snapshot

            def count(peer_id: str) -> None:
                nonlocal asked
                asked += 1
                loop.advance(0.001)  # looking costs time, or the loop would never end
                wanted_by(peer_id)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(p1.engine, "core_wants_snapshot", count)
                p1.engine.received("p3", pb.Frame(append_reply=pb.AppendReply(term=term, next_index=2, reset=True)))
                await asyncio.sleep(0)
                await asyncio.sleep(0)  # one turn
            return {0: "never", 1: "once"}.get(asked, "as often as there is time for" if asked > 100 else asked)

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S18


@hole(
    "S18", "a leader is deposed with a write in flight: is its caller told?",
    holds="unknown", fails="nothing",
)  # fmt: skip
def _callers_of_deposed_leaders_are_told(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet(guards=all_but("fail_pending", guarded)) as p1:
            term = await p1.lead("p2")
            write = asyncio.ensure_future(p1.engine.propose(b"x", timeout_s=30))
            await p1.settle()
            await p1.say("p3", stale_term=pb.StaleTerm(term=term + 1))
            if write.done():
                return "unknown" if isinstance(write.exception(), UnknownOutcomeError) else write.exception()
            write.cancel()
            return "nothing"

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S19


@hole(
    "S19", "entries up to 4 were acknowledged; a snapshot up to 3 that was under way arrives: what is still held?",
    holds=[2, 3, 4], fails=[3],
)  # fmt: skip
def _snapshots_take_no_acknowledged_entries_away(guarded: bool) -> object:
    async def schedule() -> object:
        source = ListMachine({"p1": "disk-p1", "p2": "disk-p2", "p3": "disk-p3"})
        for payload in (b"a", b"b"):
            source.apply(payload)
        data = b"".join(source.capture()())
        async with Puppet(guards=all_but("keep_log_over_snapshot", guarded)) as p1:
            frames = await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c"]))
            assert [frame.append_reply.next_index for frame in frames] == [5]
            whole = pb.SnapshotChunk(
                term=1, last_index=3, last_term=1, index=2, total_bytes=len(data), crc32c=checksum(data), data=data
            )
            frames = await p1.say("p2", snapshot_chunk=whole)
            # Either way the leader goes on behind the snapshot.
            said = [frame.append_reply for frame in frames if frame.HasField("append_reply")]
            assert [(reply.success, reply.next_index) for reply in said] == [(True, 4)]
            return [index for index, _, _ in p1.journal.crashed().entries(2, 10)]

    return run_virtual(schedule)
