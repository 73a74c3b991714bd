"""What was replaced elsewhere is ended before its successor starts, however long that takes; others wait a while only.

How the supervisor uses it: ``test_supervisor.py``. Which runs those are: ``agent.across``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent import clearing
from agent.clearing import SUPERSEDED_GRACE_MS, Clearing
from agent.driver import DriverUnavailableError, Instance, InstanceState, RunId, run_name
from agent.records import Record
from orchestrator.contract.model import AssignmentKey
from tests.integration.agent_fakes import CLUSTER, assignment_of, key_of, task_of

OURS, OTHER = key_of("ours"), key_of("other")


class Engine:
    """A driver by hand. ``ending``: what a stop waits for, by name; ``down``, ``refusing``: so many of the next lists
    or stops fail."""

    def __init__(self, name: str, *keys: AssignmentKey) -> None:
        self.name = name
        self.runs = {one.name: one for one in map(self.run, keys)}
        self.ending: dict[str, asyncio.Event] = {}
        self.asked: list[str] = []
        self.stops: list[tuple[str, str, int]] = []
        self.down = self.refusing = 0

    def run(self, key: AssignmentKey, state: InstanceState = InstanceState.RUNNING, task: str = "main") -> Instance:
        run = RunId(key=key, restarts=0, task=task)
        return Instance(
            name=run_name(CLUSTER, run), driver=self.name, cluster_id=CLUSTER, node_id="node-2", run=run,
            runtime_id="x", state=state,
        )  # fmt: skip

    async def list(self, cluster_id: str) -> tuple[Instance, ...]:
        self.asked.append(cluster_id)
        if self.down:
            self.down -= 1
            raise DriverUnavailableError("down")
        return tuple(self.runs.values())

    async def stop(self, name: str, *, signal: str, timeout_ms: int) -> None:
        self.stops.append((name, signal, timeout_ms))
        if self.refusing:
            self.refusing -= 1
            raise DriverUnavailableError("no exit event")
        if name in self.ending:
            await self.ending[name].wait()
        self.runs.pop(name, None)


class Bench:
    """``Clearing`` over engines. ``never``: those that have never answered; ``doubted``: which to look at again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *engines: Engine, never: tuple[str, ...] = ()) -> None:
        self.doubted: list[str] = []
        self.records: dict[AssignmentKey, Record] = {}
        lookout: Any = SimpleNamespace(look_at=self.doubted.append, has_answered=lambda name: name not in never)
        drivers: Any = {one.name: one for one in engines}
        self.clearing = Clearing(drivers, lookout, lambda: CLUSTER, self.records)
        self.now_s = 100.0
        monkeypatch.setattr(clearing, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        monkeypatch.setattr(clearing, "RETRY_S", 0)

    async def waits(self, key: AssignmentKey) -> bool:
        """Whether a start of this allocation would wait now."""
        waiting = asyncio.ensure_future(self.clearing.until_clear(key.id))
        for _ in range(3):
            await asyncio.sleep(0)
        done = waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return not done


async def soon(what: Awaitable[object]) -> None:
    async with asyncio.timeout(20):
        await what


async def test_nothing_waits_where_nothing_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not await Bench(monkeypatch).waits(OURS)


async def test_what_was_replaced_is_told_to_stop_and_everything_waits_until_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine("docker", OURS)
    (name,) = engine.runs
    engine.ending[name] = asyncio.Event()
    bench = Bench(monkeypatch, engine)
    bench.clearing.begin([OURS])
    clears = asyncio.ensure_future(bench.clearing.clear([OURS]))
    assert await bench.waits(OURS) and await bench.waits(OTHER)
    assert engine.stops == [(name, "SIGTERM", SUPERSEDED_GRACE_MS)]
    assert engine.asked == [CLUSTER]
    engine.ending[name].set()
    await soon(clears)
    assert not await bench.waits(OURS) and not await bench.waits(OTHER)


async def test_whoever_waits_goes_on_as_soon_as_the_last_one_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("docker", OURS, OTHER)
    mine, theirs = engine.runs
    for name in engine.runs:
        engine.ending[name] = asyncio.Event()
    bench = Bench(monkeypatch, engine)
    keys = [OURS, OTHER]
    bench.clearing.begin(keys)
    waiting = asyncio.ensure_future(bench.clearing.until_clear(OURS.id))
    clears = asyncio.ensure_future(bench.clearing.clear(keys))
    while len(engine.stops) < 2:
        await asyncio.sleep(0)
    engine.ending[mine].set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done(), "another one is being ended, whose ports may be those of this one"
    engine.ending[theirs].set()
    await soon(asyncio.gather(waiting, clears))


async def test_others_wait_for_a_while_and_the_successor_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.clearing.begin([OURS, key_of("third")])
    for later_s, other_waits in ((0.0, True), (clearing.CLEAR_S - 0.1, True), (clearing.CLEAR_S, False), (1e6, False)):
        bench.now_s = 100.0 + later_s
        assert (await bench.waits(OTHER), await bench.waits(OURS)) == (other_waits, True), later_s


async def test_who_waits_for_others_stops_waiting_when_the_while_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    monkeypatch.setattr(clearing, "CLEAR_S", 0.01)
    bench.clearing.begin([OURS])
    waiting = asyncio.ensure_future(bench.clearing.until_clear(OTHER.id))
    await asyncio.sleep(0)
    bench.now_s = 101.0
    await soon(waiting)


async def test_only_what_is_new_makes_others_wait_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same is said in every full set."""
    bench = Bench(monkeypatch)
    bench.clearing.begin([OURS])
    bench.now_s += clearing.CLEAR_S
    bench.clearing.begin([OURS])
    assert not await bench.waits(key_of("third"))
    bench.clearing.begin([OURS, OTHER])
    assert await bench.waits(key_of("third"))


async def test_runs_that_ended_or_that_we_want_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, wanted, newer = key_of("ended"), key_of("wanted"), key_of("newer", attempt=2)
    engine = Engine("docker", wanted, newer)
    dead = engine.run(ended, InstanceState.EXITED)
    engine.runs[dead.name] = dead
    bench = Bench(monkeypatch, engine)
    bench.records[wanted] = Record(assignment=assignment_of(wanted, task_of("run")))
    keys = [ended, wanted, key_of("newer")]
    bench.clearing.begin(keys)
    await soon(bench.clearing.clear(keys))
    assert engine.stops == [] and not await bench.waits(OURS)


async def test_all_runs_of_all_attempts_end_before_the_successor_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = key_of("moved"), key_of("moved", attempt=2)
    one, other = Engine("docker", first, second), Engine("process", first)
    side = one.run(first, task="side")
    one.runs[side.name] = side
    bench = Bench(monkeypatch, one, other)
    bench.clearing.begin([first, second])
    await soon(bench.clearing.clear([first, second]))
    assert one.runs == other.runs == {}
    assert (len(one.stops), len(other.stops)) == (3, 1)
    assert not await bench.waits(first)


async def test_an_engine_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it runs nobody knows meanwhile, so nothing has ended."""
    away, there = Engine("docker", OURS), Engine("process", OTHER)
    away.down = 2
    bench = Bench(monkeypatch, there, away)
    bench.clearing.begin([OURS, OTHER])
    with capture_logs():
        await soon(bench.clearing.clear([OURS, OTHER]))
    assert len(away.asked) == 3 and away.runs == there.runs == {}
    assert bench.doubted == ["docker", "docker"]
    assert not await bench.waits(OURS)


async def test_an_engine_that_was_never_there_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    never, there = Engine("docker"), Engine("process", OURS)
    never.down = 1000
    bench = Bench(monkeypatch, never, there, never=("docker",))
    bench.clearing.begin([OURS])
    with capture_logs():
        await soon(bench.clearing.clear([OURS]))
    assert there.runs == {} and len(never.asked) == 1 and bench.doubted == ["docker"]


async def test_a_stop_that_fails_is_tried_again_and_holds_up_its_own_successor_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stuck, other = Engine("docker", OURS), Engine("process", OTHER)
    stuck.refusing = 1
    bench = Bench(monkeypatch, stuck, other)
    monkeypatch.setattr(clearing, "RETRY_S", 3600)
    bench.clearing.begin([OURS, OTHER])
    with capture_logs():
        clears = asyncio.ensure_future(bench.clearing.clear([OURS, OTHER]))
        while not bench.doubted:
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
    bench.now_s += clearing.CLEAR_S
    assert bench.doubted == ["docker"] and not clears.done()
    assert await bench.waits(OURS) and not await bench.waits(OTHER)
    clears.cancel()
    await asyncio.gather(clears, return_exceptions=True)
    monkeypatch.setattr(clearing, "RETRY_S", 0)
    await soon(bench.clearing.clear([OURS]))
    assert stuck.runs == {} and len(stuck.stops) == 2 and not await bench.waits(OURS)


async def test_what_fails_for_once_is_ended_by_the_same_clearing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("docker", OURS)
    engine.refusing = 2
    bench = Bench(monkeypatch, engine)
    bench.clearing.begin([OURS])
    with capture_logs():
        await soon(bench.clearing.clear([OURS]))
    assert engine.runs == {} and len(engine.stops) == 3 and not await bench.waits(OURS)


async def test_an_engine_is_not_asked_to_stop_more_than_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key_of(ordinal=number) for number in range(clearing.STOPS + 4)]
    engine = Engine("docker", *keys)
    engine.ending = {name: asyncio.Event() for name in engine.runs}
    bench = Bench(monkeypatch, engine)
    bench.clearing.begin(keys)
    clears = asyncio.ensure_future(bench.clearing.clear(keys))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(engine.stops) == clearing.STOPS
    for end in engine.ending.values():
        end.set()
    await soon(clears)
    assert engine.runs == {}


async def test_a_fault_of_our_own_keeps_nothing_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("docker", OURS)
    bench = Bench(monkeypatch, engine)

    async def broken(_cluster_id: str) -> tuple[Instance, ...]:
        raise ValueError("a bug")

    monkeypatch.setattr(engine, "list", broken)
    bench.clearing.begin([OURS, OTHER])
    with capture_logs() as said:
        await soon(bench.clearing.clear([OURS]))
    assert [line["event"] for line in said] == ["clearing_failed"]
    bench.now_s += clearing.CLEAR_S
    assert not await bench.waits(OURS) and await bench.waits(OTHER)
