"""What the guards against PySyncObj's holes promise beyond the pairs of ``test_holes``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.memory import MemoryJournal
from orchestrator.replication.settings import EngineConfig
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


# ---------------------------------------------------------------------------- S2


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
            with capture_logs() as logs:
                frames = await p1.say("p3", append=append(4, (1, 0), [b"x", b"y", b"z"]))
            assert p1.exits == [70]
            assert frames == []
            (said,) = [line["error"] for line in logs if line["log_level"] == "critical"]
            assert "of term 1 here and of term 4 at the leader" in said and "Way back: " in said

    in_virtual_time(scenario)


# ---------------------------------------------------------------------------- S4


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


# ---------------------------------------------------------------------------- S14


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00\xff\xff", id="no protobuf"),
        pytest.param(b"\x00", id="no format"),
        pytest.param(b"\x00" + pb.Batch(payloads=[b"x"]).SerializeToString(), id="format 0"),
    ],
)
def test_s14_entry_that_is_no_batch_holds_no_commands_and_stops_nobody(data: bytes) -> None:
    async def scenario() -> None:
        async with Puppet() as p1:
            strange = pb.AppendEntries(term=1, prev_index=1, commit_index=2, entries=[pb.Entry(term=1, data=data)])
            await p1.say("p2", append=strange)
            await p1.say("p2", append=append(1, (2, 1), [b"next"], commit=3))
            assert (p1.machine.applied, p1.commit_index, p1.exits) == ([b"next"], 3, [])

    in_virtual_time(scenario)
