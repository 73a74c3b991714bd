"""``why --at``: earlier states come back exactly, or the answer says what is known."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import pytest

from orchestrator import plan
from orchestrator.api import past as past_module
from orchestrator.api.explain import Explain
from orchestrator.api.past import Past
from orchestrator.contract import codec
from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.errors import InvalidError, NotFoundError, OutOfRangeError
from orchestrator.contract.model import Limits
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.codec import encode_entry
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state.commands import Command, Entry, RegisterNode, WriteVariable, WriteVariables
from orchestrator.state.snapshot import capture, image_hash
from orchestrator.state.views import cluster_view
from tests.unit.api.harness import Api, call
from tests.unit.scheduling.cluster import node_spec
from tests.unit.state.kit import Kit, group, job


def machine_with_past(**bounds: Any) -> tuple[ClusterMachine, Past]:
    machine = ClusterMachine(Limits())
    return machine, Past(machine, lambda: machine.state, **bounds)


def payload(command: Command, time_ms: int) -> bytes:
    return encode_entry(Entry(identity="", request_id="", digest=b"", time_ms=time_ms, command=command))


def variable(value: str, time_ms: int) -> bytes:
    return payload(WriteVariable(namespace="default", name="v", value=value), time_ms)


async def test_every_remembered_index_comes_back_with_the_same_hash() -> None:
    kit = Kit()
    kit.submit(job("web", group(count=3)))
    kit.register(node_spec("n1"))
    kit.place("web/api/0", "n1")
    kit.submit(job("sum"))
    machine, past = machine_with_past()
    await past.begin()
    hashes = {0: image_hash(capture(machine.state))}
    for entry in kit.entries:
        past.apply(entry)
        hashes[machine.index] = image_hash(capture(machine.state))
    for index, expected in hashes.items():
        if index:
            assert image_hash(capture(past.recipe(index=index).cook())) == expected
    (span,) = past.known()
    assert (span.first_index, span.last_index) == (0, len(kit.entries))


async def test_a_time_means_the_last_state_not_later_than_it() -> None:
    _, past = machine_with_past()
    await past.begin()
    for time_ms in (1_000, 2_000, 2_000, 5_000):
        past.apply(variable("x", time_ms))
    assert [past.recipe(time_ms=at).index for at in (999, 1_000, 1_999, 2_000, 4_999, 5_000, 99_000)] == [
        0, 1, 1, 3, 3, 4, 4
    ]  # fmt: skip


async def test_a_command_of_several_writes_counts_as_one_state() -> None:
    machine, past = machine_with_past()
    await past.begin()
    one = WriteVariable(namespace="default", name="v", value="x")
    past.apply(payload(WriteVariables(writes=(one, one, one)), 1_000))
    assert machine.index == 3
    assert past.recipe(index=2).index == 3
    assert past.recipe(index=2).cook().index == 3


@pytest.mark.soak
async def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    machine, past = machine_with_past(memory_bytes=30_000, stretch_bytes=2_000, clock=lambda: 0.0)
    await past.begin()
    for number in range(3_000):
        past.apply(variable(str(number), number))
        if number % 15 == 14:
            await past.begin()
    spans = past.known()
    assert len(spans) == 1, "stretches that touch are one span"
    assert spans[0].first_index > 1_000
    assert spans[0].last_index == machine.index == 3_000
    assert past.memory_bytes <= 30_000
    with pytest.raises(OutOfRangeError):
        past.recipe(index=1)
    middle = (spans[0].first_index + spans[0].last_index) // 2
    value = past.recipe(index=middle).cook().variables[("default", "v")].value
    assert int(value) == middle - 1


async def test_where_little_memory_is_given_stretches_are_as_short_as_that_asks() -> None:
    """The one that is being recorded stays whatever its size, so it must not have the usual one."""
    machine, past = machine_with_past(memory_bytes=16_000, clock=lambda: 0.0)
    await past.begin()
    most = 0
    for number in range(300):
        past.apply(variable(str(number), number))
        if past._due.is_set():
            past._due.clear()
            await past.begin()
        most = max(most, past.memory_bytes)
    assert most <= 16_000
    (span,) = past.known()
    assert 0 < span.first_index < span.last_index - 10
    assert span.last_index == machine.index


@pytest.mark.parametrize(("memory_mib", "pause_s"), [(64, 30.0), (16, 30.0), (4, 7.5), (1, 1.875)])
async def test_short_stretches_may_follow_each_other_sooner(memory_mib: int, pause_s: float) -> None:
    """As many commands a second fit into the past without a gap, however much of it there is."""
    _, past = machine_with_past(memory_bytes=memory_mib << 20, clock=lambda: 0.0)
    await past.begin()
    assert past._next_at == pause_s


async def test_a_snapshot_that_is_larger_than_the_past_may_be_is_not_kept() -> None:
    source = ClusterMachine(Limits())
    source.apply(variable(os.urandom(10_000).hex(), 1))
    snapshot = b"".join(source.capture()())
    for memory_bytes, known in ((5_000, 0), (50_000, 1)):
        _, past = machine_with_past(memory_bytes=memory_bytes)
        past.prepare(snapshot)()
        assert len(past.known()) == known
        assert past.memory_bytes <= memory_bytes


async def test_a_stretch_that_is_over_takes_a_part_of_its_bytes_and_comes_back_exactly() -> None:
    machine, past = machine_with_past()
    await past.begin()
    hashes, applied = {}, 0
    for number in range(200):
        command = variable(f"{number} " + "a line of some file\n" * 20, number)
        past.apply(command)
        applied += len(command)
        hashes[machine.index] = image_hash(capture(machine.state))
    unpacked = past.memory_bytes
    assert unpacked > applied
    await past.begin()
    past.apply(variable("after", 1_000))
    assert past.memory_bytes < applied / 2
    for index in (1, 2, 100, 200):
        recipe = past.recipe(index=index)
        for _ in range(2):  # it is a value: it says the same again
            assert image_hash(capture(recipe.cook())) == hashes[index]
    assert past.recipe(index=201).cook().variables[("default", "v")].value == "after"


async def test_where_no_new_stretch_may_begin_there_is_a_gap_and_no_growth() -> None:
    _, past = machine_with_past(stretch_bytes=1_000)
    await past.begin()
    for number in range(1_000):
        past.apply(variable(str(number), number))
    (span,) = past.known()
    assert span.last_index < 100
    await past.begin()
    past.apply(variable("end", 1_000))
    assert [(one.first_index, one.last_index) for one in past.known()] == [(0, span.last_index), (1_000, 1_001)]
    with pytest.raises(OutOfRangeError):
        past.recipe(index=500)
    with pytest.raises(OutOfRangeError):
        past.recipe(time_ms=500)


async def test_a_state_too_large_to_copy_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_module, "LARGEST_ROWS", -1)
    _, past = machine_with_past()
    await past.begin()
    past.apply(variable("x", 1))
    assert past.known() == ()


async def test_a_restarted_peer_knows_from_its_snapshot_on() -> None:
    """The snapshot that it starts from, then the journal's entries: all of that is known again."""
    kit = Kit()
    kit.submit(job("web", group(count=3)))
    kit.register(node_spec("n1"))
    machine = ClusterMachine()
    for entry in kit.entries:
        machine.apply(entry)
    snapshot = b"".join(machine.capture()())

    again, past = machine_with_past()
    past.prepare(snapshot)()
    kit.submit(job("later"))
    past.apply(kit.entries[-1])
    (span,) = past.known()
    assert (span.first_index, span.last_index) == (2, 3)
    assert image_hash(capture(past.recipe(index=3).cook())) == image_hash(capture(again.state))
    with pytest.raises(OutOfRangeError):
        past.recipe(index=1)


async def test_stretches_begin_by_themselves_when_the_last_one_is_long() -> None:
    now = [0.0]
    machine, past = machine_with_past(stretch_bytes=1_000, clock=lambda: now[0])
    task = asyncio.create_task(past.run())
    try:
        for number in range(50):
            past.apply(variable(str(number), number))
            now[0] += 1_000
            await asyncio.sleep(0)
            while past._due.is_set() or (past._stretches and past._stretches[-1].start is None):
                await asyncio.sleep(0.001)
        (span,) = past.known()
        assert span.last_index == machine.index
        assert len(past._stretches) > 2
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def waits_before_remembering(past: Past, now: list[float], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long ``past`` waited, on the clock ``now``, until it knew something."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", wait)
    task = asyncio.create_task(past.run())
    try:
        while not past.known():
            await sleep(0.001)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return waits


async def test_a_large_state_that_was_just_read_is_not_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_module, "SMALL_SNAPSHOT_BYTES", 0)
    now = [0.0]
    source = ClusterMachine(Limits())
    source.apply(variable("x", 1))
    machine, past = machine_with_past(settle_s=10.0, clock=lambda: now[0])
    past.prepare(b"".join(source.capture()()))()
    assert (await waits_before_remembering(past, now, monkeypatch))[0] == 10.0
    (span,) = past.known()
    assert span.last_index == machine.index


@pytest.mark.parametrize(("stretch_bytes", "waited"), [(1_000, 10.0), (1_000_000, 0.0)])
async def test_nor_is_a_state_made_by_applying_a_long_log(
    monkeypatch: pytest.MonkeyPatch, stretch_bytes: int, waited: float
) -> None:
    now = [0.0]
    machine, past = machine_with_past(settle_s=10.0, stretch_bytes=stretch_bytes, clock=lambda: now[0])
    for number in range(20):
        past.apply(variable(f"{number}", number))
    assert (await waits_before_remembering(past, now, monkeypatch))[0] == waited
    (span,) = past.known()
    assert span.last_index == machine.index


# ---------------------------------------------------------------------------- asked over the API


def asked(name: str, index: int = 0, time_ms: int = 0, **more: Any) -> pb.ExplainPastRequest:
    return pb.ExplainPastRequest(job={"name": name}, at_index=index, at_time_ms=time_ms, **more)


async def test_why_then_is_what_why_said_then() -> None:
    api = Api()
    await api.past.begin()
    said: dict[int, tuple[GroupExplanation, ...]] = {}

    def remember(uid: str) -> None:
        said[api.state.index] = plan.explain(cluster_view(api.state), uid, api.now_ms)

    uid = (await api.submit("web", count=3, task={"resources": {"cpu_millis": 3000, "memory_mib": 1}})).uid
    remember(uid)
    for name in ("n1", "n2"):
        api.now_ms += 60_000
        await api.register(name, identity=f"agent:{name}")
        remember(uid)
        await api.place()
        remember(uid)
    for index, groups in said.items():
        answer = await api.explain.explain_past(asked("web", index), call())
        assert answer.index == index
        assert tuple(codec.decode(GroupExplanation, one) for one in answer.groups) == groups
        assert answer.known[0].first_index == 0
    assert len({groups[0].summary for groups in said.values()}) > 2
    by_time = await api.explain.explain_past(asked("web", time_ms=api.now_ms - 1), call())
    assert "1 of 1 nodes" in by_time.summary


async def test_what_is_not_known_is_said_with_what_is() -> None:
    api = Api()
    await api.submit("web")
    await api.past.begin()
    await api.submit("sum")
    with pytest.raises(OutOfRangeError, match=r"p1 knows from index 1 \(2023-11-14 22:13:20 UTC\) to 2"):
        await api.explain.explain_past(asked("web", 99, here_only=True), call())
    with pytest.raises(NotFoundError, match="at index 1 there was no job 'sum'"):
        await api.explain.explain_past(asked("sum", 1), call())
    for bad in (asked("web"), asked("web", 1, 1), asked("web", -1), asked("web", time_ms=api.now_ms + 1)):
        with pytest.raises(InvalidError):
            await api.explain.explain_past(bad, call())
    # Who asks counts "5m ago" by a clock of his own.
    with pytest.raises(InvalidError, match=r"lies 3300 s in the cluster's future; .* ahead of the cluster's"):
        await api.explain.explain_past(asked("web", time_ms=api.now_ms + 3_300_000), call())


async def test_another_peer_that_knows_more_is_asked() -> None:
    """This peer began a moment ago; one of the others lived then."""
    api, other = Api(), Api()
    await other.past.begin()
    await other.submit("web")
    await api.submit("web")

    class Others:
        def __init__(self) -> None:
            self.others = ["p2", "p3"]
            self.asked: list[str] = []

        async def call(self, peer_id: str, path: str, raw: bytes, call_: Any, **more: Any) -> bytes:
            self.asked.append(peer_id)
            request = pb.ExplainPastRequest.FromString(raw)
            assert request.here_only
            if peer_id == "p2":
                raise OutOfRangeError("p2 knows nothing")
            return (await other.explain.explain_past(request, call_)).SerializeToString()

    others = Others()
    explain = Explain(api.log, api.state_now, api.past, others, clock_ms=lambda: api.now_ms)  # type: ignore[arg-type]
    answer = await explain.explain_past(asked("web", 1), call())
    assert (answer.index, others.asked) == (1, ["p2", "p3"])
    with pytest.raises(OutOfRangeError, match="p2 knows nothing; p1 knows from index 0"):
        await explain.explain_past(asked("web", 77), call())


def test_a_register_is_remembered_like_any_other() -> None:
    machine, past = machine_with_past()
    past.prepare(b"".join(ClusterMachine().capture()()))()
    past.apply(payload(RegisterNode(node=node_spec("n1"), identity="a"), 5))
    assert past.recipe(index=1).cook().nodes.keys() == machine.state.nodes.keys() == {"n1"}
