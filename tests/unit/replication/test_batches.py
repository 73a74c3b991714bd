"""What an entry holds, plain and packed."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.replication import batches
from orchestrator.replication.batches import MOST_BYTES, decode, encode, weight
from orchestrator.replication.log import FutureFormatError
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.storage import BATCH, NO_OP
from orchestrator.replication.v1 import peer_pb2 as pb
from orchestrator.state.features import COUNTED_MOVES, PACKED_ENTRIES
from tests.sim.cluster import SimCluster
from tests.sim.loop import run_virtual
from tests.sim.machine import ListMachine


@example(payloads=[b"\0\0\0\0", b"\0\0\0\0", b"", b"\0\0\1\1", b"\0\0\1\0"], least=0, times=1)  # as long packed
@given(payloads=st.lists(st.binary(max_size=60)), least=st.sampled_from([None, 0, 200]), times=st.sampled_from([1, 50]))
def test_what_goes_in_comes_out(payloads: list[bytes], least: int | None, times: int) -> None:
    payloads = [payload * times for payload in payloads]
    command = encode(payloads, pack_from=least)
    assert decode(command) == payloads
    plain = BATCH + pb.Batch(format=1, payloads=payloads).SerializeToString()
    assert len(command) <= len(plain)
    if least is None or len(plain) <= least:
        assert command == plain
    assert weight(command) == (len(command) if command == plain else len(plain) - 1)


def test_what_cannot_be_packed_stays_as_it_is() -> None:
    noise = [random.Random(1).randbytes(5_000)]
    assert encode(noise, pack_from=0) == encode(noise)


def test_only_what_is_large_is_packed_and_only_where_every_peer_reads_it() -> None:
    many = [b"the same again and again" * 20] * 20
    small, plain = encode(many, pack_from=4_000), encode(many)
    assert 20 * len(small) < len(plain) == weight(small) + 1
    assert encode(many, pack_from=len(plain)) == plain


@pytest.mark.parametrize(
    "command", [b"", NO_OP, BATCH, BATCH + b"\xff", BATCH + pb.Batch(format=0).SerializeToString()]
)
def test_what_is_no_batch_holds_nothing(command: bytes) -> None:
    assert decode(command) == []
    assert weight(command) == len(command)


def packed(size: int, data: bytes) -> bytes:
    return BATCH + pb.Batch(format=2, size=size, packed=data).SerializeToString()


PLAIN = pb.Batch(format=1, payloads=[b"a" * 50]).SerializeToString()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(packed(len(PLAIN), b"no zlib"), id="not packed"),
        pytest.param(packed(len(PLAIN), zlib.compress(PLAIN)[:-5]), id="cut"),
        pytest.param(packed(len(PLAIN) - 1, zlib.compress(PLAIN)), id="longer than it says"),
        pytest.param(packed(len(PLAIN) + 1, zlib.compress(PLAIN)), id="shorter than it says"),
        pytest.param(packed(0, zlib.compress(PLAIN)), id="says nothing"),
        pytest.param(packed(len(PLAIN), zlib.compress(PLAIN) + b"x"), id="with something behind it"),
        pytest.param(packed(MOST_BYTES + 1, zlib.compress(bytes(MOST_BYTES + 1))), id="too large"),
        pytest.param(packed(5, zlib.compress(b"\xff" * 5)), id="no batch inside"),
        pytest.param(packed(len(packed(9, b"x")) - 1, zlib.compress(packed(9, b"x")[1:])), id="packed twice"),
    ],
)
def test_a_packed_entry_that_nobody_wrote_holds_nothing_and_stops_nobody(command: bytes) -> None:
    assert decode(command) == []
    assert len(command) <= weight(command) <= MOST_BYTES


def test_a_newer_format_is_not_guessed_at() -> None:
    with pytest.raises(FutureFormatError, match="format 3; this version reads 2"):
        decode(BATCH + pb.Batch(format=3, payloads=[b"x"]).SerializeToString())


@pytest.mark.parametrize("level", [COUNTED_MOVES, PACKED_ENTRIES])
def test_entries_are_packed_from_the_level_on_and_read_again_after_a_restart(
    level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ListMachine, "feature_level", lambda self: level)
    written = [b"%d " % number * 3_000 for number in range(3)]

    async def scenario() -> None:
        async with SimCluster(seed=11) as cluster:
            leader = await cluster.elect()
            for payload in written:
                await leader.engine.propose(payload)
            held = [row[0] for row in leader.engine._storage[:] if row[0][:1] == BATCH]
            assert written == [payload for command in held for payload in decode(command) if payload in written]
            large = [command for command in held if weight(command) > EngineConfig().pack_bytes]
            assert len(large) == len(written)
            assert all((len(command) < 200) == (level == PACKED_ENTRIES) for command in large)
            assert leader.engine._storage.bytes_since_snapshot >= sum(map(len, written))
            for peer in cluster.running():
                await peer.engine.read_barrier()
                assert [payload for payload in peer.machine.applied if payload in written] == written
                cluster.crash(peer.peer_id)
                await cluster.start(peer.peer_id)
            leader = await cluster.elect()
            await leader.engine.read_barrier()
            assert [payload for payload in leader.machine.applied if payload in written] == written

    run_virtual(scenario)


def test_the_weight_of_an_entry_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size that somebody made up must not make a snapshot due after every entry."""
    monkeypatch.setattr(batches, "MOST_BYTES", 1_000)
    assert weight(packed(2**31, b"x")) == 1_000
