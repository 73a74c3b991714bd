"""The simulator's own parts: what a pause holds back, where a fault strikes, what wires keep, what is judged wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from orchestrator.replication.disk import DiskFile
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.disk import PowerCutError
from tests.sim.faulty_disk import FaultyDisk, Trap
from tests.sim.histories import History, judge
from tests.sim.process import ProcessLoop, SimProcess
from tests.sim.wires import Wire, Wires
from tests.sim.witness import Witness


def in_virtual_time(main: Callable[[ProcessLoop], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ProcessLoop)
        await main(loop)

    with asyncio.Runner(loop_factory=ProcessLoop) as runner:
        runner.run(run())


# ---------------------------------------------------------------------------- processes


def test_a_paused_process_does_in_order_afterwards_what_became_due() -> None:
    async def main(loop: ProcessLoop) -> None:
        process, done = SimProcess("p", loop), list[str]()

        async def work(name: str, after_s: float) -> None:
            await asyncio.sleep(after_s)
            done.append(f"{name} {loop.time() - began:.1f}")

        began = loop.time()
        process.spawn(work("first", 0.1))
        process.spawn(work("second", 0.2))
        process.pause(1.0)
        await asyncio.sleep(0.5)
        assert done == []
        await asyncio.sleep(1.0)
        assert done == ["first 1.1", "second 1.2"]  # they had not even begun

    in_virtual_time(main)


def test_a_timer_that_fell_due_in_a_pause_can_still_be_cancelled() -> None:
    async def main(loop: ProcessLoop) -> None:
        process, fired = SimProcess("p", loop), list[str]()
        timer = process.context.run(loop.call_later, 0.1, fired.append, "late")
        process.pause(1.0)
        await asyncio.sleep(0.5)
        timer.cancel()
        await asyncio.sleep(1.0)
        assert fired == []

    in_virtual_time(main)


def test_a_call_that_blocks_takes_time_on_the_clock_of_its_process_alone() -> None:
    async def main(loop: ProcessLoop) -> None:
        slow, other = SimProcess("slow", loop, rate=2.0), SimProcess("other", loop)
        before, theirs = slow.clock(), other.clock()
        slow.block(0.5)
        assert slow.clock() - before == pytest.approx(1.0)
        assert other.clock() == theirs
        await asyncio.sleep(0.4)
        assert slow.paused
        await asyncio.sleep(0.2)
        assert not slow.paused

    in_virtual_time(main)


def test_who_waits_for_a_process_that_ends_is_told_so() -> None:
    async def main(loop: ProcessLoop) -> None:
        process = SimProcess("p", loop)
        answer: asyncio.Future[None] = loop.create_future()
        process.calls[answer] = None
        task = process.spawn(asyncio.sleep(100))
        process.end(ConnectionError("gone"))
        with pytest.raises(ConnectionError):
            await answer
        await asyncio.sleep(0)
        assert task.cancelled()

    in_virtual_time(main)


# ---------------------------------------------------------------------------- disks


def _written(disk: FaultyDisk) -> DiskFile:
    file = disk.open(Path("/p1/journal/1.journal"))
    file.write(0, b"flushed")
    file.fdatasync()
    disk.fsync_dir(Path("/p1/journal"))
    return file


def test_power_goes_at_the_chosen_step_and_what_was_not_flushed_is_gone() -> None:
    disk = FaultyDisk(1)
    cuts: list[str] = []
    disk.power_went = lambda: cuts.append("cut")
    file = _written(disk)
    disk.trap = Trap("journal:fdatasync")
    file.write(0, b"another")
    with pytest.raises(PowerCutError):
        file.fdatasync()
    assert cuts == ["cut"] and disk.struck == {"journal:fdatasync": 1}
    disk.crash(torn=False)
    assert disk.read(Path("/p1/journal/1.journal")) in (b"flushed", b"another")  # the cut may follow the flush


def test_a_trap_waits_for_the_step_before_it() -> None:
    disk = FaultyDisk(1)
    file = _written(disk)
    disk.trap = Trap("journal:write", error=5, after="snapshots:rename")
    file.write(0, b"a")
    disk.open(Path("/p1/snapshots/state.snapshot.tmp"))
    disk.rename(Path("/p1/snapshots/state.snapshot.tmp"), Path("/p1/snapshots/state.snapshot"))
    with pytest.raises(OSError, match="Input/output"):
        file.write(0, b"b")


# ---------------------------------------------------------------------------- wires


class Ear:
    """A receiver that notes what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: list[str] = []

    def hello(self) -> pb.Hello:
        return pb.Hello(peer_id=self.name)

    def judge(self, hello: pb.Hello) -> str:
        return ""

    def peer_up(self, peer_id: str, hello: pb.Hello) -> None:
        self.told.append("up")

    def peer_down(self, peer_id: str) -> None:
        self.told.append("down")

    def session_began(self, peer_id: str, hello: pb.Hello, *, cert_expires_ms: int) -> None:
        self.told.append("began")

    def session_ended(self, peer_id: str) -> None:
        self.told.append("ended")

    def received(self, peer_id: str, frame: pb.Frame) -> None:
        self.told.append(str(frame.stale_term.term))

    def refused(self, peer_id: str, reason: str, hello: pb.Hello | None = None) -> None:
        self.told.append(reason)


def _frame(number: int) -> pb.Frame:
    return pb.Frame(stale_term=pb.StaleTerm(term=number))


@pytest.mark.parametrize("seed", range(20))
def test_frames_arrive_in_order_once_and_none_of_an_older_session_after_a_newer_began(seed: int) -> None:
    async def main(loop: ProcessLoop) -> None:
        dice = random.Random(seed)
        wires = Wires(loop, random.Random(seed), delay_s=(0.001, 0.05))
        ears = {name: Ear(name) for name in ("a", "b")}
        ends = {name: Wire(wires, name, SimProcess(name, loop)) for name in ears}
        for name, end in ends.items():
            await end.start(name, {other: "" for other in ears if other != name}, ears[name])
        await asyncio.sleep(0.5)
        for number in range(1, 200):
            ends["a"].send("b", [_frame(number)])
            kind = dice.random()
            if kind < 0.03:
                wires.break_between("a", "b")
            elif kind < 0.05:
                wires.cut_direction("a", "b")
            elif kind < 0.1:
                wires.heal()
            elif kind < 0.12:
                ends["b"].process.pause(0.2)
            await asyncio.sleep(dice.uniform(0, 0.05))
        wires.heal()
        await asyncio.sleep(1)
        told = ears["b"].told
        numbers = [int(word) for word in told if word.isdigit()]
        assert numbers == sorted(set(numbers)) and len(numbers) > 20
        open_now = False
        for word in told:
            if word == "began":
                open_now = True
            elif word == "ended":
                assert open_now
                open_now = False
            elif word.isdigit():
                assert open_now, f"{word} came outside a session"
        for end in ends.values():
            end.drop(silent=False)
            end.process.end(ConnectionError())
        await asyncio.sleep(3)

    in_virtual_time(main)


# ---------------------------------------------------------------------------- histories

LOG = {1: "a", 2: "b", 3: "b"}


def _history(*rows: dict[str, Any]) -> History:
    history = History()
    for row in rows:
        operation = history.call(1, row.pop("op"), "k", row.pop("call"), value=row.pop("write", None))
        if "expect" in row:
            operation["expect"] = row.pop("expect")
        history.answered(operation, row.pop("back"), **row)
    return history


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        pytest.param([{"op": "put", "write": "a", "call": 0, "back": 1, "index": 1, "hit": True}], "", id="clean"),
        pytest.param([{"op": "get", "call": 0, "back": 1, "index": 2, "value": "a"}], "read another value", id="wrong"),
        pytest.param(
            [
                {"op": "put", "write": "b", "call": 0, "back": 1, "index": 2, "hit": True},
                {"op": "get", "call": 2, "back": 3, "index": 1, "value": "a"},
            ],
            "below 2",
            id="stale read",
        ),
        pytest.param([{"op": "put", "write": "x", "call": 0, "back": 1, "index": 2, "hit": True}], "left", id="lost"),
        pytest.param(
            [{"op": "cas", "write": "b", "expect": "z", "call": 0, "back": 1, "index": 2, "hit": True}],
            "does not fit",
            id="cas that must have missed",
        ),
    ],
)
def test_what_no_register_does_is_judged_wrong(rows: list[dict[str, Any]], wrong: str) -> None:
    problems = judge(_history(*rows), lambda _key, index: LOG.get(index))
    assert bool(problems) == bool(wrong)
    assert not wrong or any(wrong in problem for problem in problems)


class FakeLog:
    """As much of a watched log as ``Witness`` looks at: terms of its entries from 1 on, and what is committed."""

    epoch, first_entry, members, checked_commit, seen_term = 1, 0, ("a", "b", "c"), 0, 0

    def __init__(self, name: str, term: int, terms: list[int], *, commit: int = 0, leads: bool = True) -> None:
        self.name, self.term, self._terms = name, term, terms
        self.core_commit, self.leads_core = commit, leads

    @property
    def last_entry(self) -> int:
        return len(self._terms)

    def held(self, begin: int, end: int) -> list[tuple[int, int, bytes]]:
        return [(at, self._terms[at - 1], b"") for at in range(max(begin, 1), end)]


def judged(*logs: FakeLog) -> list[str]:
    """What is wrong once each of these has had its turn."""
    witness = Witness(
        stride=1, every_ms=1, trace=lambda *_: None, believes=lambda _: "", holders=lambda log, _: len(log.members)
    )  # fmt: skip
    for log in logs:
        witness.after_turn(log)  # type: ignore[arg-type]
    return witness.violations


def test_a_leader_must_hold_what_was_committed_in_earlier_terms() -> None:
    def after_two(later: FakeLog) -> list[str]:
        return judged(FakeLog("a", 1, [1, 1], commit=2), later)

    assert after_two(FakeLog("b", 2, [1, 1, 2])) == []
    assert "entry 2 was committed" in after_two(FakeLog("b", 2, [1]))[0]
    assert "the committed one is of term 1" in after_two(FakeLog("b", 3, [1, 2, 3]))[0]


def test_a_leader_elected_in_an_earlier_term_than_the_commit_may_lack_it() -> None:
    """Its votes came late: it leads nobody any more, and learns so with its first message (seed 2285 of five peers)."""

    def after_later(late: FakeLog) -> list[str]:
        return judged(FakeLog("a", 1, [1], commit=1), FakeLog("c", 4, [1, 4, 4], commit=3), late)

    assert after_later(FakeLog("b", 3, [1, 3])) == []
    assert "entry 1 was committed" in after_later(FakeLog("b", 3, []))[0]
