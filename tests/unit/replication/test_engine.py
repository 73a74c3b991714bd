"""``EngineLog``: writes, reads, first start, wiped disks, restarts, and what ends the process."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from orchestrator.contract.errors import (
    NoLeaderError,
    NotLeaderError,
    OverloadedError,
    StartupError,
    UnknownOutcomeError,
)
from orchestrator.replication.log import Role
from orchestrator.replication.memory import MemoryJournal
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.cluster import SimCluster, SimPeer
from tests.sim.loop import VirtualLoop, run_virtual
from tests.unit.replication.puppet import Puppet, append


def in_virtual_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(scenario)


# ---------------------------------------------------------------------------- one peer


def test_single_peer_elects_itself_and_commits_alone() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=1, peers=1) as cluster:
            leader = await cluster.elect(within_s=0.1)
            done = await leader.engine.propose(b"a")
            assert (done.index, done.outcome) == (2, 2)  # the first command admitted the disk
            assert await leader.engine.read_barrier() == 2
            await leader.engine.confirm_leadership()

    in_virtual_time(scenario)


def test_single_peer_finds_everything_again_after_a_power_cut() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=1, peers=1, config=EngineConfig(compact_entries=7, tail_entries=2)) as cluster:
            leader = await cluster.elect()
            for number in range(20):
                await leader.engine.propose(b"%d" % number)
            cluster.crash("p1")
            await cluster.start("p1")
            leader = await cluster.elect(within_s=0.1)
            assert leader.machine.applied == [b"%d" % number for number in range(20)]
            assert leader.machine.restores == 1

    in_virtual_time(scenario)


def test_many_commands_in_few_entries_are_compacted_too() -> None:
    async def scenario() -> None:
        config = EngineConfig(compact_commands=50, tail_entries=0)
        async with SimCluster(seed=1, peers=1, config=config) as cluster:
            leader = await cluster.elect()
            await asyncio.gather(*(leader.engine.propose(b"%d" % number) for number in range(40)))
            await cluster.pass_time(1)
            assert leader.engine.snapshots_saved == 0
            await asyncio.gather(*(leader.engine.propose(b"%d" % number) for number in range(40, 60)))
            await cluster.wait(lambda: leader.engine.snapshots_saved == 1, within_s=1)
            assert leader.engine.status().applied_index < 10

    in_virtual_time(scenario)


def test_a_peer_that_has_just_started_anew_takes_only_a_snapshot_that_is_long_overdue() -> None:
    async def scenario() -> None:
        config = EngineConfig(compact_commands=50, tail_entries=0, settle_s=10)
        async with SimCluster(seed=1, peers=1, config=config) as cluster:

            async def started_again_and_given(commands: int) -> SimPeer:
                await cluster.start("p1")
                leader = await cluster.elect()
                await asyncio.gather(*(leader.engine.propose(b"%d" % number) for number in range(commands)))
                return leader

            leader = await cluster.elect()
            await leader.engine.propose(b"to be read again")
            cluster.crash("p1")
            leader = await started_again_and_given(100)
            await cluster.pass_time(8)
            assert leader.engine.snapshots_saved == 0
            await cluster.wait(lambda: leader.engine.snapshots_saved == 1, within_s=4)
            await leader.engine.propose(b"to be read again")
            cluster.crash("p1")
            leader = await started_again_and_given(420)
            await cluster.wait(lambda: leader.engine.snapshots_saved == 1, within_s=2)

    in_virtual_time(scenario)


def test_a_peer_that_had_nothing_to_read_waits_for_nothing_before_its_first_snapshot() -> None:
    async def scenario() -> None:
        config = EngineConfig(compact_commands=50, tail_entries=0, settle_s=10)
        async with SimCluster(seed=1, peers=1, config=config) as cluster:
            leader = await cluster.elect()
            await asyncio.gather(*(leader.engine.propose(b"%d" % number) for number in range(100)))
            await cluster.wait(lambda: leader.engine.snapshots_saved == 1, within_s=2)

    in_virtual_time(scenario)


def test_single_peer_with_a_replaced_disk_refuses_to_start() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=1, peers=1) as cluster:
            await cluster.elect()
            cluster.crash("p1")
            cluster.peers["p1"].incarnation = "another"
            with pytest.raises(StartupError, match="not the one that the cluster's only peer was admitted with"):
                await cluster.start("p1")

    in_virtual_time(scenario)


def test_peer_that_is_not_in_its_own_list_is_refused() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            with pytest.raises(StartupError, match="not in its own peer list"):
                type(p1.engine)(
                    peer_id="p9", peers={"p1": "a:1"}, machine=p1.machine, journal=p1.journal, snapshots=p1.snapshots,
                    network=p1.ear, incarnation="x", fresh=True, admission_payload=lambda *_: b"",
                )  # fmt: skip

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- writes


def test_proposals_made_while_one_entry_is_in_flight_share_the_next() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=2) as cluster:
            leader = await cluster.elect()
            before = leader.engine.status().commit_index
            first = asyncio.ensure_future(leader.engine.propose(b"first"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.gather(first, *(leader.engine.propose(b"%d" % number) for number in range(200)))
            assert leader.engine.status().commit_index == before + 2

    in_virtual_time(scenario)


def test_follower_names_the_leader_and_does_nothing() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=3) as cluster:
            leader = await cluster.elect()
            await cluster.converge()
            follower = next(peer for peer in cluster.running() if peer is not leader)
            with pytest.raises(NotLeaderError) as caught:
                await follower.engine.propose(b"x")
            assert caught.value.leader_id == leader.peer_id
            with pytest.raises(NotLeaderError):
                await follower.engine.confirm_leadership()

    in_virtual_time(scenario)


def test_write_without_a_leader_is_refused() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            with pytest.raises(NoLeaderError):
                await p1.engine.propose(b"x")
            with pytest.raises(NoLeaderError, match="no leader with a majority"):
                await p1.engine.read_barrier(timeout_s=1.0)

    in_virtual_time(scenario)


def test_full_queue_refuses_and_says_when_to_try_again() -> None:
    async def scenario() -> None:
        async with Puppet(config=EngineConfig(max_queue_count=2)) as p1:
            await p1.lead("p2")
            flying = [asyncio.ensure_future(p1.engine.propose(b"flying"))]
            await p1.settle()
            flying += [asyncio.ensure_future(p1.engine.propose(b"queued")) for _ in range(2)]
            await p1.settle()
            with pytest.raises(OverloadedError) as caught:
                await p1.engine.propose(b"too many")
            assert caught.value.retry_after_ms > 0
            for task in flying:
                task.cancel()

    in_virtual_time(scenario)


def test_timeout_in_flight_is_unknown_and_in_the_queue_is_not_done() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.lead("p2")
            flying = asyncio.ensure_future(p1.engine.propose(b"flying", timeout_s=0.2))
            await p1.settle()
            queued = asyncio.ensure_future(p1.engine.propose(b"queued", timeout_s=0.2))
            await asyncio.sleep(0.3)
            with pytest.raises(UnknownOutcomeError):
                await flying
            with pytest.raises(OverloadedError, match="nothing was done"):
                await queued

    in_virtual_time(scenario)


def test_unknown_write_may_still_be_applied_and_is_applied_once() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            term = await p1.lead("p2")
            write = asyncio.ensure_future(p1.engine.propose(b"x", timeout_s=0.1))
            with pytest.raises(UnknownOutcomeError):
                await write
            await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            assert p1.machine.applied == [b"x"]

    in_virtual_time(scenario)


def test_nothing_is_sent_or_answered_before_the_flush() -> None:
    async def scenario() -> None:
        order: list[str] = []
        async with Puppet(journal=MemoryJournal(lambda: order.append("flush"))) as p1:
            heard = p1.ear.send

            def send(peer_id: str, frames: list[pb.Frame]) -> None:
                order.extend(str(frame.WhichOneof("kind")) for frame in frames)
                heard(peer_id, frames)

            p1.ear.send = send  # type: ignore[assignment, method-assign]
            order.clear()
            await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=2))
            await p1.say("p3", vote_request=pb.VoteRequest(term=2, last_index=9, last_term=9))
            assert order == ["flush", "append_reply", "flush", "vote_reply"]

    in_virtual_time(scenario)


def test_failing_disk_ends_the_process_and_nothing_leaves_it() -> None:
    async def scenario() -> None:
        broken = False

        def flush() -> None:
            if broken:
                raise OSError(errno.EIO, "the disk is gone")

        async with Puppet(journal=MemoryJournal(flush)) as p1:
            broken = True
            frames = await p1.say("p2", append=append(1, (1, 0), [b"a"]))
            assert (p1.exits, frames) == ([70], [])

    in_virtual_time(scenario)


def test_command_of_a_newer_format_ends_the_process() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"future:x"], commit=2))
            assert (p1.exits, p1.machine.index) == ([71], 0)
        async with Puppet() as p1:
            newer = pb.Entry(term=1, data=b"\x00" + pb.Batch(format=3, payloads=[b"x"]).SerializeToString())
            await p1.say("p2", append=pb.AppendEntries(term=1, prev_index=1, commit_index=2, entries=[newer]))
            assert (p1.exits, p1.machine.index) == ([71], 0)

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- reads


def test_read_on_every_peer_includes_what_was_acknowledged_before() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=4) as cluster:
            leader = await cluster.elect()
            for number in range(10):
                await leader.engine.propose(b"%d" % number)
                for peer in cluster.running():
                    await peer.engine.read_barrier()
                    assert peer.machine.applied[-1] == b"%d" % number

    in_virtual_time(scenario)


def test_deposed_leader_answers_no_read() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=5) as cluster:
            old = await cluster.elect()
            await cluster.converge()
            cluster.network.isolate(old.peer_id)
            with pytest.raises(NotLeaderError):
                await old.engine.confirm_leadership(timeout_s=3)
            with pytest.raises(NoLeaderError):
                await old.engine.read_barrier(timeout_s=1)
            new = await cluster.elect()
            assert new is not old
            await new.engine.propose(b"x")
            cluster.network.heal()
            await old.engine.read_barrier(timeout_s=10)
            assert old.machine.applied == [b"x"]

    in_virtual_time(scenario)


def test_reads_that_wait_together_share_one_round() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            term = await p1.lead("p2")
            await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            reads = [asyncio.ensure_future(p1.engine.read_barrier()) for _ in range(50)]
            await p1.settle()
            probes = p1.sent("read_probe")
            assert len(probes) == 2  # one for each other peer
            reply = pb.ReadProbeReply(term=term, round=probes[0][1].read_probe.round)
            p1.engine.received("p3", pb.Frame(read_probe_reply=reply))
            await asyncio.wait_for(asyncio.gather(*reads), 0.05)

    in_virtual_time(scenario)


def test_read_is_not_answered_by_an_earlier_round_or_another_term() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            term = await p1.lead("p2")
            await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            read = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=0.3))
            await p1.settle()
            number = p1.sent("read_probe")[0][1].read_probe.round
            await p1.say("p2", read_probe_reply=pb.ReadProbeReply(term=term, round=number - 1))
            await p1.say("p2", read_probe_reply=pb.ReadProbeReply(term=term - 1, round=number))
            assert not read.done()
            with pytest.raises(NoLeaderError):
                await read

    in_virtual_time(scenario)


def test_new_leader_answers_reads_only_after_an_entry_of_its_term_is_committed() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.lead("p2")
            read = asyncio.ensure_future(p1.engine.read_barrier(timeout_s=0.3))
            await p1.settle()
            assert not p1.sent("read_probe")
            assert not p1.engine.is_leader()
            with pytest.raises(NoLeaderError):
                await read

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- first start and wiped disks


def test_first_start_waits_for_every_configured_peer() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=6, start=False) as cluster:
            await cluster.start("p1")
            await cluster.start("p2")
            await cluster.pass_time(10)
            assert {peer.engine.status().role for peer in cluster.running()} == {Role.JOINING}
            await cluster.start("p3")
            await cluster.elect(within_s=2)
            await cluster.converge()
            status = cluster.peers["p3"].engine.status()
            assert status.cluster_id
            assert {row.peer_id: row.voter for row in status.peers} == {"p1": True, "p2": True, "p3": True}

    in_virtual_time(scenario)


def test_wiped_peer_catches_up_is_admitted_and_then_votes() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=7, config=EngineConfig(compact_entries=10, tail_entries=2)) as cluster:
            leader = await cluster.elect()
            wiped = next(peer.peer_id for peer in cluster.running() if peer is not leader)
            for number in range(30):
                await leader.engine.propose(b"%d" % number)
            cluster.wipe(wiped)
            await cluster.start(wiped)
            assert cluster.peers[wiped].engine.status().role == Role.JOINING
            await cluster.converge()
            new = cluster.peers[wiped]
            await cluster.wait(lambda: new.engine.status().role == Role.FOLLOWER, within_s=5)
            assert new.machine.admitted()[wiped] == new.incarnation
            third = next(peer.peer_id for peer in cluster.running() if peer not in (leader, new))
            cluster.crash(third)
            await leader.engine.propose(b"counted")  # only with the new disk's acknowledgement

    in_virtual_time(scenario)


def test_an_admission_that_was_applied_is_known_after_power_cuts_too() -> None:
    """Found by the simulator (seed 412): nobody who was left knew that the new disk counted, and none could lead."""

    async def scenario() -> None:
        async with SimCluster(seed=7) as cluster:
            leader = await cluster.elect()
            wiped = next(peer.peer_id for peer in cluster.running() if peer is not leader)
            cluster.wipe(wiped)
            await cluster.start(wiped)
            new = cluster.peers[wiped]
            known = [peer.machine for peer in cluster.running()]
            await cluster.wait(lambda: all(one.admitted().get(wiped) == new.incarnation for one in known), within_s=5)
            third = next(peer.peer_id for peer in cluster.running() if peer not in (leader, new))
            cluster.wipe(third)
            for peer in (leader, new):
                cluster.crash(peer.peer_id)
                await cluster.start(peer.peer_id)
            assert (await cluster.elect(within_s=10)).peer_id in (leader.peer_id, wiped)

    in_virtual_time(scenario)


def test_acknowledgements_of_a_wiped_disk_do_not_count() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            term = await p1.lead("p2")
            await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            committed = p1.commit_index
            p1.connect("p3", incarnation="a new disk")
            write = asyncio.ensure_future(p1.engine.propose(b"x", timeout_s=0.2))
            await p1.settle()
            await p1.say("p3", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            assert p1.commit_index == committed
            with pytest.raises(UnknownOutcomeError):
                await write

    in_virtual_time(scenario)


def test_disk_that_is_wiped_while_we_lead_loses_what_was_counted_for_it() -> None:
    async def scenario() -> None:
        async with Puppet(peers=5) as p1:
            term = await p1.lead("p2", "p3")
            write = asyncio.ensure_future(p1.engine.propose(b"x", timeout_s=5))
            await p1.settle()
            reply = pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True)
            await p1.say("p2", append_reply=reply)
            assert p1.engine.match_index("p2") == p1.last_index
            p1.connect("p2", incarnation="a new disk")
            await p1.say("p3", append_reply=reply)
            assert not write.done()  # p1 and p3 have it; the disk of p2 that had it is gone
            await p1.say("p4", append_reply=reply)
            assert (await write).outcome == 1

    in_virtual_time(scenario)


def test_followers_that_have_nothing_to_say_to_each_other_are_in_contact_while_they_are_connected() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=3, peers=3) as cluster:
            leader = await cluster.elect()
            one, other = (peer for peer in cluster.running() if peer is not leader)

            def seen(peer_id: str) -> int:
                return next(row.last_contact_ms for row in one.engine.status().peers if row.peer_id == peer_id)

            await cluster.pass_time(60)
            assert seen(other.peer_id) == 0
            assert 0 <= seen(leader.peer_id) < 1000
            cluster.crash(other.peer_id)
            await cluster.pass_time(20)
            assert 15_000 < seen(other.peer_id) <= 21_000, "since its end, not since they last had something to say"

    in_virtual_time(scenario)


def test_wiped_peer_and_a_never_started_one_form_no_cluster() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=9) as cluster:
            await cluster.elect()
            await cluster.converge()
            cluster.crash("p1")
            cluster.wipe("p2")
            cluster.wipe("p3")
            await cluster.start("p2")
            await cluster.start("p3")
            await cluster.pass_time(10)
            assert cluster.leader() is None
            assert {peer.engine.status().cluster_id for peer in cluster.running()} == {""}

    in_virtual_time(scenario)


def test_peer_of_another_cluster_or_list_is_refused_with_the_reason() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            foreign = p1.hello("p2")
            foreign.cluster_id = "elsewhere"
            assert "belongs to cluster elsewhere" in p1.engine.judge(foreign)
            other_list = p1.hello("p2")
            other_list.peers.append("p4")
            assert "peer list is p1, p2, p3, p4 and this peer's is p1, p2, p3" in p1.engine.judge(other_list)
            twin = p1.hello("p1")
            assert "same peer id" in p1.engine.judge(twin)
            assert p1.engine.judge(p1.hello("p2")) == ""

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- elections


def test_crash_of_the_leader_costs_less_than_an_election_timeout() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=11) as cluster:
            loop = asyncio.get_running_loop()
            for _ in range(5):
                leader = await cluster.elect()
                await cluster.converge()
                began = loop.time()
                cluster.crash(leader.peer_id)
                await cluster.elect()
                assert loop.time() - began < EngineConfig().election_min_s
                await cluster.start(leader.peer_id)
                await cluster.converge()

    in_virtual_time(scenario)


def test_broken_stream_alone_changes_no_leader() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=12) as cluster:
            leader = await cluster.elect()
            await cluster.converge()
            term = leader.engine.term
            for other in ("p1", "p2", "p3"):
                if other != leader.peer_id:
                    cluster.network.break_stream(leader.peer_id, other)
                    await cluster.pass_time(1.5)
                    cluster.network.break_stream(other, leader.peer_id)
                    await cluster.pass_time(1.5)
            assert (cluster.leader(), leader.engine.term) == (leader, term)

    in_virtual_time(scenario)


@pytest.mark.parametrize("seed", range(10))
def test_a_deposed_leader_that_hears_nobody_does_not_hold_back_the_others(seed: int) -> None:
    """`raftsman drill partition-deaf`: it asks for ever whether it may lead, is told yes, and never hears so."""

    async def scenario() -> None:
        async with SimCluster(seed=seed, peers=3) as cluster:
            deaf = await cluster.elect()
            await cluster.pass_time(1.0)
            cluster.network.tap = lambda source, target, frame: None if target == deaf.peer_id else frame
            others = [peer for peer in cluster.running() if peer is not deaf]
            await cluster.wait(lambda: any(peer.engine.is_leader() for peer in others), within_s=3.0)

    in_virtual_time(scenario)


def test_no_prevote_for_a_shorter_log_or_while_a_leader_is_heard() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(3, (1, 0), [b"a", b"b"]))
            ask = pb.PreVoteRequest(term=4, last_index=9, last_term=3, round=1)
            frames = await p1.say("p3", prevote_request=ask)
            assert [frame.prevote_reply.granted for frame in frames] == [False]
            await asyncio.sleep(EngineConfig().election_min_s + 0.01)
            frames = await p1.say("p3", prevote_request=pb.PreVoteRequest(term=4, last_index=2, last_term=3, round=2))
            assert [frame.prevote_reply.granted for frame in frames] == [False]
            frames = await p1.say("p3", prevote_request=pb.PreVoteRequest(term=4, last_index=4, last_term=3, round=3))
            assert [frame.prevote_reply.granted for frame in frames] == [True]
            assert p1.term == 3

    in_virtual_time(scenario)


def test_loop_that_was_held_up_reads_what_the_leader_said_before_it_asks_for_an_election() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(3, (1, 0)))
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.advance(5.0)  # somebody computed for five seconds
            p1.ear.heard.clear()
            await asyncio.sleep(0.01)
            assert not p1.sent("prevote_request")
            await p1.say("p2", append=append(3, (1, 0)))
            await asyncio.sleep(EngineConfig().election_min_s / 2)
            assert not p1.sent("prevote_request")
            await p1.hear("prevote_request")

    in_virtual_time(scenario)


def test_one_vote_a_term_also_across_a_crash() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            frames = await p1.say("p2", vote_request=pb.VoteRequest(term=5, last_index=9, last_term=4))
            assert [frame.vote_reply.term for frame in frames] == [5]
            journal = p1.journal.crashed()
        async with Puppet(journal=journal, fresh=False) as p1:
            frames = await p1.say("p3", vote_request=pb.VoteRequest(term=5, last_index=9, last_term=4))
            assert frames == []

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- waiting and the rest


def test_waiters_and_listeners_hear_of_changes_after_the_flush() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            heard: list[int] = []
            unsubscribe = p1.engine.subscribe(lambda: heard.append(p1.machine.index))
            waiter = asyncio.ensure_future(p1.engine.changed(after=1))
            await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=2))
            assert not waiter.done()
            await p1.say("p2", append=append(1, (2, 1), [b"b"], commit=3))
            assert await waiter == 2
            assert heard[-1] == 2
            unsubscribe()
            count = len(heard)
            await p1.say("p2", append=append(1, (3, 1), [b"c"], commit=4))
            assert len(heard) == count

    in_virtual_time(scenario)


def test_leadership_changes_are_reported_both_ways() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=13) as cluster:
            watching = asyncio.ensure_future(cluster.peers["p1"].engine.leadership_changed(was=False))
            leader = await cluster.elect()
            while leader.peer_id != "p1":
                cluster.crash(leader.peer_id)
                await cluster.elect()
                await cluster.start(leader.peer_id)
                await cluster.converge()
                leader = await cluster.elect()
            assert await watching is True
            losing = asyncio.ensure_future(leader.engine.leadership_changed(was=True))
            cluster.network.isolate("p1")
            assert await losing is False

    in_virtual_time(scenario)


def test_stop_answers_everybody_who_waits() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.lead("p2")
            write = asyncio.ensure_future(p1.engine.propose(b"x"))
            change = asyncio.ensure_future(p1.engine.changed(after=100))
            read = asyncio.ensure_future(p1.engine.read_barrier())
            await p1.settle()
            await p1.engine.stop()
            with pytest.raises(UnknownOutcomeError):
                await write
            for waiter in (change, read):
                with pytest.raises(NoLeaderError):
                    await waiter
            assert p1.journal.closed
            with pytest.raises(NoLeaderError, match="not running"):
                await p1.engine.propose(b"y")

    in_virtual_time(scenario)


def test_frames_of_a_session_that_is_over_are_dropped() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            p1.engine.received("p2", pb.Frame(append=append(1, (1, 0), [b"late"], commit=2)))
            p1.connect("p2")
            await p1.settle()
            assert p1.last_index == 1

    in_virtual_time(scenario)


def test_known_commits_are_applied_before_the_first_word_to_anybody() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a", b"b"], commit=3))
            await p1.say("p2", append=append(1, (3, 1), [b"c"], commit=3))
            journal = p1.journal.crashed()
        async with Puppet(journal=journal, fresh=False) as p1:
            assert p1.machine.applied == [b"a", b"b"]

    in_virtual_time(scenario)


def test_equal_seeds_give_equal_runs() -> None:
    async def scenario() -> list[object]:
        async with SimCluster(seed=14) as cluster:
            leader = await cluster.elect()
            for number in range(20):
                await leader.engine.propose(b"%d" % number)
            cluster.crash(leader.peer_id)
            await cluster.elect()
            await cluster.start(leader.peer_id)
            await cluster.converge()
            loop = asyncio.get_running_loop()
            return [loop.time(), cluster.network.delivered, [peer.engine.status() for peer in cluster.running()]]

    assert run_virtual(scenario) == run_virtual(scenario)


def test_answer_that_says_nothing_new_is_spared_until_it_is_due_again() -> None:
    async def scenario() -> None:
        beat = EngineConfig().heartbeat_s
        async with Puppet() as p1:
            frames = await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=1))
            assert [frame.append_reply.next_index for frame in frames] == [3]
            assert await p1.say("p2", append=append(1, (2, 1), commit=2)) == []
            # A new entry and another leader's question are answered at once.
            assert [f.append_reply.next_index for f in await p1.say("p2", append=append(1, (2, 1), [b"b"]))] == [4]
            assert [f.append_reply.term for f in await p1.say("p3", append=append(2, (3, 1)))] == [2]
            answered = 0
            for _ in range(10):
                await asyncio.sleep(beat)
                answered += len(await p1.say("p3", append=append(2, (3, 1))))
            assert answered == 5

    in_virtual_time(scenario)


def test_refusal_is_never_spared() -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            for _ in range(3):
                frames = await p1.say("p2", append=append(1, (7, 1), commit=1))
                assert [(f.append_reply.success, f.append_reply.reset) for f in frames] == [(False, True)]

    in_virtual_time(scenario)


def test_idle_cluster_only_beats() -> None:
    async def scenario() -> None:
        async with SimCluster(seed=15) as cluster:
            await cluster.elect()
            await cluster.converge()
            before = cluster.network.delivered
            flushes = [peer.journal.flushes for peer in cluster.running()]
            await cluster.pass_time(10)
            beats = 10 / EngineConfig().heartbeat_s
            # To two followers; and back every second time, for that a leader is still heard is soon said.
            assert cluster.network.delivered - before <= 3.2 * beats
            assert [peer.journal.flushes for peer in cluster.running()] == flushes

    in_virtual_time(scenario)
