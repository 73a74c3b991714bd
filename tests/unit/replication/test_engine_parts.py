"""The engine's parts alone: proposals, the outbox, snapshot transfers, storage, and the check of PySyncObj."""

from __future__ import annotations

import random
import socket

import pytest

from orchestrator.contract.errors import OverloadedError, StartupError
from orchestrator.replication import pysync
from orchestrator.replication.link import greeting_problem
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.memory import MemoryJournal
from orchestrator.replication.outbox import Outbox
from orchestrator.replication.prevote import PreVote
from orchestrator.replication.proposals import Proposal, Proposals
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.snapshotting import Snapshot, SnapshotReceiver, SnapshotSenders, checksum
from orchestrator.replication.storage import RaftStorage, TruncationError
from orchestrator.replication.v1 import peer_pb2 as pb

# ---------------------------------------------------------------------------- proposals


def queue(**bounds: int) -> Proposals:
    return Proposals(**{"max_count": 10, "max_bytes": 1000, "batch_bytes": 100, **bounds}, rng=random.Random(1))


def test_batch_takes_what_fits_and_at_least_one() -> None:
    proposals = queue()
    for size in (60, 40, 1, 500):
        proposals.add(Proposal(b"x" * size, None))
    batch = proposals.next_batch()
    assert [len(row.payload) for row in batch] == [60, 40]
    assert proposals.next_batch() == []  # one in flight
    proposals.landed(batch)
    second = proposals.next_batch()
    assert [len(row.payload) for row in second] == [1]
    proposals.landed(second)
    assert [len(row.payload) for row in proposals.next_batch()] == [500]


def test_queue_is_bounded_by_count_and_by_bytes() -> None:
    by_count = queue(max_count=1)
    by_count.add(Proposal(b"", None))
    with pytest.raises(OverloadedError):
        by_count.add(Proposal(b"", None))
    by_bytes = queue(max_bytes=7)
    by_bytes.add(Proposal(b"x" * 7, None))
    with pytest.raises(OverloadedError):
        by_bytes.add(Proposal(b"x", None))


def test_withdrawn_proposal_frees_its_room_and_one_in_flight_stays() -> None:
    proposals = queue(max_bytes=7)
    waits = Proposal(b"x" * 7, None)
    proposals.add(waits)
    assert proposals.withdraw(waits)
    assert not proposals.withdraw(waits)
    flies = Proposal(b"x" * 7, None)
    proposals.add(flies)
    assert proposals.next_batch() == [flies]
    assert not proposals.withdraw(flies)


def test_urgent_proposals_go_first_and_have_room_when_clients_filled_theirs() -> None:
    proposals = queue(max_count=16, batch_bytes=16)
    clients = [Proposal(b"c", None) for _ in range(14)]
    for proposal in clients:
        proposals.add(proposal)
    with pytest.raises(OverloadedError) as caught:
        proposals.add(Proposal(b"c", None))
    assert 100 <= caught.value.retry_after_ms <= 300
    ours = [Proposal(b"u" * 7, None, urgent=True) for _ in range(2)]
    for proposal in ours:
        proposals.add(proposal)
    batch = proposals.next_batch()
    # They come first, and yet leave clients a part of every batch.
    assert batch[:2] == ours
    assert batch[2:] == clients[:2]


def test_urgent_proposals_are_bounded_too() -> None:
    proposals = queue(max_count=3)
    for _ in range(3):
        proposals.add(Proposal(b"", None, urgent=True))
    with pytest.raises(OverloadedError):
        proposals.add(Proposal(b"", None, urgent=True))


def test_withdrawn_proposals_do_not_pile_up_and_hold_no_bytes() -> None:
    """Whoever waits behind a leader without a majority comes and goes: 100,000 times here, with few at a time."""
    proposals = queue(max_count=8192, max_bytes=1 << 30)
    stays = Proposal(b"first", None)
    proposals.add(stays)
    for _ in range(100_000):
        gone = Proposal(b"x" * 1000, None)
        proposals.add(gone)
        assert proposals.withdraw(gone)
        assert gone.payload == b""
    assert (len(proposals), proposals.bytes) == (1, 5)
    assert len(proposals._ordinary._rows) < 100
    assert proposals.next_batch() == [stays]


def test_given_up_batch_does_not_free_the_next_one() -> None:
    proposals = queue()
    proposals.add(Proposal(b"a", None))
    old = proposals.next_batch()
    flying, queued = proposals.give_up()
    assert (flying, queued) == (old, [])
    proposals.add(Proposal(b"b", None))
    new = proposals.next_batch()
    proposals.landed(old)
    assert proposals.in_flight is new


# ---------------------------------------------------------------------------- outbox


def test_later_append_replaces_an_empty_one_but_never_entries() -> None:
    outbox = Outbox()
    empty = pb.Frame(append=pb.AppendEntries(term=1, prev_index=5, prev_term=1, commit_index=4))
    full = pb.Frame(append=pb.AppendEntries(term=1, prev_index=5, prev_term=1, commit_index=5, entries=[pb.Entry()]))
    for frame in (empty, full, empty):
        outbox.send("p2", frame)
    assert outbox.take() == {"p2": [full, empty]}
    assert outbox.take() == {}


def test_acknowledgements_merge_and_rejections_do_not() -> None:
    outbox = Outbox()
    replies = [
        pb.AppendReply(term=1, next_index=5, success=True),
        pb.AppendReply(term=1, next_index=7, success=True),
        pb.AppendReply(term=1, next_index=3, reset=True),
        pb.AppendReply(term=2, next_index=4, success=True),
    ]
    for reply in replies:
        outbox.send("p2", pb.Frame(append_reply=reply))
    assert [frame.append_reply for frame in outbox.take()["p2"]] == replies[1:]


# ---------------------------------------------------------------------------- prevote


def test_of_two_that_ask_at_once_only_the_better_one_is_granted() -> None:
    sent: list[tuple[str, str, pb.Frame]] = []
    names = ["p1", "p2", "p3"]
    peers = {
        name: PreVote(
            peer_id=name,
            others=[other for other in names if other != name],
            send=lambda target, frame, name=name: sent.append((name, target, frame)),  # type: ignore[misc]
        )
        for name in names
    }
    standings = {"p1": (1, 5), "p2": (1, 6)}
    for name in ("p1", "p2"):
        peers[name].begin(term=1, standing=standings[name])
    requests = {source: frame.prevote_request for source, _, frame in sent}
    said = {
        name: peers[name].answer(other, requests[other], willing=True, yields=True, term=1, standing=standings[name])
        for name, other in (("p1", "p2"), ("p2", "p1"))
    }
    assert said == {"p1": True, "p2": False}


# ---------------------------------------------------------------------------- snapshot transfers


class Transfer:
    """Both ends, with a link that the test may break."""

    def __init__(self, data: bytes, *, chunk: int = 10, window: int = 3) -> None:
        self.chunks: list[pb.SnapshotChunk] = []
        self.senders = SnapshotSenders(
            send=lambda _, frame: self.chunks.append(frame.snapshot_chunk), stamp=lambda: (1, 1), chunk_bytes=chunk,
            window=window,
        )  # fmt: skip
        self.receiver = SnapshotReceiver(check=True)
        self.meta = SnapshotMeta(last_index=9, last_term=1, index=7)
        self.snapshot = Snapshot(self.meta, data, checksum(data))
        self.received: list[bytes] = []
        self.most_in_flight = 0
        self.senders.begin("p2")
        self.senders.provide(self.snapshot)

    def run(self, rng: random.Random | None = None, *, loss: float = 0.0) -> None:
        for _ in range(10_000):
            if self.received:
                return
            self.most_in_flight = max(self.most_in_flight, sum(bool(chunk.data) for chunk in self.chunks))
            if not self.chunks:
                self.senders.keep_alive()
                continue
            chunk = self.chunks.pop(0)
            if rng is not None and rng.random() < loss:
                continue
            taken = self.receiver.take("p1", chunk)
            if isinstance(taken, tuple):
                assert taken[1] == self.meta
                self.received.append(b"".join(taken[2]))
                taken = taken[0]
            self.senders.progress("p2", pb.SnapshotProgress(term=1, last_index=9, next_offset=taken))
        raise AssertionError("the transfer never ends")


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 30, 31, 1000])
def test_snapshot_of_any_size_arrives_whole(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    transfer = Transfer(data)
    transfer.run()
    assert transfer.received == [data]
    assert transfer.most_in_flight <= 3


@pytest.mark.parametrize("seed", range(20))
def test_lost_chunks_are_sent_again(seed: int) -> None:
    data = bytes(number % 251 for number in range(500))
    transfer = Transfer(data)
    transfer.run(random.Random(seed), loss=0.3)
    assert transfer.received == [data]


def test_chunk_that_claims_more_than_the_total_is_refused() -> None:
    receiver = SnapshotReceiver(check=True)
    chunk = pb.SnapshotChunk(last_index=9, last_term=1, total_bytes=3, data=b"too much")
    assert receiver.take("p1", chunk) == 0


def test_wrong_checksum_starts_over() -> None:
    receiver = SnapshotReceiver(check=True)
    chunk = pb.SnapshotChunk(last_index=9, last_term=1, total_bytes=4, crc32c=1, data=b"data")
    assert receiver.take("p1", chunk) == 0
    assert receiver.refused == 1


# ---------------------------------------------------------------------------- storage


def test_tail_is_kept_behind_a_snapshot_by_entries_and_by_bytes() -> None:
    for tail_entries, tail_bytes, first in ((10, 10**6, 90), (1000, 55, 95), (0, 10**6, 100)):
        journal = MemoryJournal()
        storage = RaftStorage(journal, None)
        for index in range(2, 111):
            storage.add(b"\x00" * 11, index, 1)
        storage.setRaftCommitIndex(110)
        storage.saved(
            SnapshotMeta(last_index=100, last_term=1, index=1), tail_entries=tail_entries, tail_bytes=tail_bytes
        )
        assert (storage.first_index, journal.first_index, storage.last_index) == (first, first, 110)
        assert storage.bytes_since_snapshot == 110


def test_committed_entries_cannot_be_truncated() -> None:
    storage = RaftStorage(MemoryJournal(), None)
    for index in range(2, 6):
        storage.add(b"\x00", index, 1)
    storage.setRaftCommitIndex(4)
    storage.deleteEntriesFrom(4)
    assert storage.last_index == 4
    with pytest.raises(TruncationError):
        storage.deleteEntriesFrom(3)


def test_journal_without_its_beginning_and_without_a_snapshot_is_refused() -> None:
    journal = MemoryJournal()
    journal.append([(5, 1, b"\x00")])
    with pytest.raises(TruncationError, match="no snapshot"):
        RaftStorage(journal, None)


def test_commit_hint_beyond_the_journal_is_not_believed() -> None:
    journal = MemoryJournal()
    journal.append([(1, 0, b"\x01"), (2, 1, b"\x00")])
    journal.set_commit_hint(50)
    assert RaftStorage(journal, None).commit_index == 2


# ---------------------------------------------------------------------------- settings and PySyncObj


def test_heartbeat_too_slow_for_the_election_timeout_is_refused() -> None:
    with pytest.raises(ValueError, match="heartbeat below a third"):
        EngineConfig(heartbeat_s=0.2)
    assert EngineConfig.fast_failover().election_max_s < EngineConfig().election_min_s


def test_another_version_of_pysyncobj_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pysync, "VERSION", "0.3.18")
    with pytest.raises(StartupError, match=r"0\.3\.18 is installed"):
        pysync._private_copy()


def test_missing_private_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pysync._REPLACED, "gone", "a test")
    with pytest.raises(StartupError, match="has no gone"):
        pysync._private_copy()


def test_pickle_cannot_be_reached_in_our_copy() -> None:
    with pytest.raises(RuntimeError, match="never used"):
        pysync._NoPickle().loads(b"")


def test_the_process_keeps_its_own_inet_ntop() -> None:
    """``pysyncobj.win_inet_pton`` 0.3.17 replaces it on every system, with what only Windows has."""
    assert socket.inet_ntop(socket.AF_INET, b"\x7f\0\0\1") == "127.0.0.1"
    assert socket.inet_ntop(socket.AF_INET6, b"\0" * 15 + b"\1") == "::1"


def test_a_peer_of_a_version_that_the_cluster_has_left_behind_is_no_company() -> None:
    """It would judge the same entries otherwise."""
    ours = pb.Hello(cluster_id="c", peer_id="p1", incarnation="d1", epoch=1, peers=["p1", "p2"], feature_level=5)
    theirs = pb.Hello(cluster_id="c", peer_id="p2", incarnation="d2", epoch=1, peers=["p1", "p2"], feature_level=3)
    assert greeting_problem(ours, theirs, level=3) == ""
    assert "knows feature levels up to 3, and the cluster's is 4" in greeting_problem(ours, theirs, level=4)
