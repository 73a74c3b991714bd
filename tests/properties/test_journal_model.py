"""The journal against a plain list: whatever is done to it, and wherever the machine dies, what was flushed is there.

Two searches: a stateful one (operations, kills, power cuts, reopenings in any order) and an exhaustive one (random
operations, with the power cut at every single disk call of them).
"""

from __future__ import annotations

import contextlib
import errno
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestrator.replication.journal import Entry, FileJournal
from tests.effort import examples, seeds
from tests.sim.disk import PowerCutError, SimDisk

DIRECTORY = Path("/peer/journal")
SEGMENT_BYTES = 1600


@dataclass
class Model:
    """What a journal must hold."""

    first: int = 1
    entries: list[Entry] = field(default_factory=list)
    term: int = 0
    voted_for: str = ""
    commit_hint: int = 0

    @property
    def next(self) -> int:
        return self.first + len(self.entries)

    def copy(self) -> Model:
        return replace(self, entries=list(self.entries))

    @classmethod
    def of(cls, journal: FileJournal) -> Model:
        assert len(journal) == journal.last_index + 1 - journal.first_index
        held = journal.entries(0, 1 << 60)
        assert held == [journal.get(index) for index in range(journal.first_index, journal.last_index + 1)]
        return cls(
            first=journal.first_index, entries=held, term=journal.term, voted_for=journal.voted_for,
            commit_hint=journal.commit_hint,
        )  # fmt: skip


def change(chance: random.Random, model: Model, journal: FileJournal) -> None:
    """One random change, made to both."""
    if chance.random() < 0.2:
        model.commit_hint += 1
        journal.set_commit_hint(model.commit_hint)
    kind = chance.choices(["append", "truncate", "trim", "vote", "install"], [8, 3, 3, 3, 1])[0]
    if kind == "append":
        term = max(model.term, 1)
        size = chance.choice([0, 20, 100, 900])
        rows = [(model.next + row, term, chance.randbytes(size)) for row in range(chance.randint(1, 3))]
        journal.append(rows)
        model.entries.extend(rows)
    elif kind == "truncate":
        index = chance.randint(model.first, model.next + 1)
        journal.truncate_from(index)
        del model.entries[index - model.first :]
    elif kind == "trim":
        index = chance.randint(model.first, model.next + (3 if chance.random() < 0.1 else 0))
        journal.trim_before(index)
        del model.entries[: index - model.first]
        model.first = index
    elif kind == "vote":
        if model.voted_for or chance.random() < 0.5:
            model.term, model.voted_for = model.term + chance.randint(1, 3), chance.choice(["", "p1", "p2"])
        else:
            model.voted_for = "p3"
        journal.set_vote(model.term, model.voted_for)
    else:
        start = model.next + chance.randint(0, 50)
        journal.truncate_from(model.first)
        journal.append([(start, model.term, b"snapshot")])
        model.first, model.entries = start, [(start, model.term, b"snapshot")]


def reopen(disk: SimDisk) -> FileJournal:
    return FileJournal(DIRECTORY, disk=disk, segment_bytes=SEGMENT_BYTES, entropy=lambda size: b"\x5a" * size)


class JournalMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.disk = SimDisk(seed)
        self.journal = reopen(self.disk)
        self.model = Model()
        self.durable = Model()

    @rule(count=st.integers(1, 6))
    def stage(self, count: int) -> None:
        for _ in range(count):
            change(self.chance, self.model, self.journal)

    @rule()
    def flush(self) -> None:
        self._flush()

    @rule(torn=st.booleans())
    def power_cut_between_flushes(self, torn: bool) -> None:
        self.disk.crash(torn=torn)
        self.journal = reopen(self.disk)
        self.model = self.durable.copy()

    @rule()
    def kill_and_reopen(self) -> None:
        self.journal.close()
        self.journal = reopen(self.disk)
        self.model = self.durable.copy()

    @rule(call=st.integers(1, 7), cut_again=st.booleans())
    def power_cut_within_a_flush(self, call: int, cut_again: bool) -> None:
        self.disk.crash_at = self.disk.calls + call
        with contextlib.suppress(PowerCutError):
            self._flush()
        self._recover(power_lost=True, cut_again=cut_again)

    @rule(call=st.integers(1, 7), failure=st.sampled_from([errno.EIO, errno.ENOSPC]), power_lost=st.booleans())
    def disk_fails_within_a_flush(self, call: int, failure: int, power_lost: bool) -> None:
        self.disk.fail_at, self.disk.fail_errno = self.disk.calls + call, failure
        try:
            self._flush()
        except OSError as error:
            assert error.errno == failure
        self._recover(power_lost=power_lost, cut_again=False)

    def _flush(self) -> None:
        dirty = self.journal.dirty
        self.journal.flush()
        if dirty:  # a commit hint alone waits for the next flush
            self.durable = self.model.copy()

    def _recover(self, *, power_lost: bool, cut_again: bool) -> None:
        self.disk.fail_at = self.disk.crash_at = 0
        if power_lost:
            self.disk.crash()
        self.journal = reopen(self.disk)
        found = Model.of(self.journal)
        assert found in (self.durable, self.model), "neither the last flush nor the one in flight"
        if cut_again:  # whatever an opening accepted, it must have made durable
            self.disk.crash()
            self.journal = reopen(self.disk)
            assert Model.of(self.journal) == found
        self.model = found
        self.durable = found.copy()

    @invariant()
    def memory_agrees(self) -> None:
        assert Model.of(self.journal) == self.model


JournalMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
TestJournalAgainstModel = JournalMachine.TestCase


def run_until_crash(seed: int, crash_at: int) -> tuple[SimDisk, Model, Model, bool]:
    """Do the seed's operations; returns the disk, what was flushed, what was in flight, and whether power was lost."""
    chance = random.Random(seed)
    disk = SimDisk(seed * 7919 + crash_at)
    disk.crash_at = crash_at
    durable, model = Model(), Model()
    try:
        journal = reopen(disk)
        for _ in range(25):
            for _ in range(chance.randint(1, 3)):
                change(chance, model, journal)
            dirty = journal.dirty
            journal.flush()
            durable = model.copy() if dirty else durable
    except PowerCutError:
        return disk, durable, model, True
    return disk, durable, model, False


@pytest.mark.parametrize("seed", seeds(range(12), fast=[0]))
def test_power_cut_at_every_disk_call_loses_nothing_flushed_and_invents_nothing(seed: int) -> None:
    crash_at, cut = 1, True
    while cut:
        disk, durable, in_flight, cut = run_until_crash(seed, crash_at)
        disk.crash()
        # The second power cut strikes at every call of the recovery, too.
        recovery_call, recovering = 1, True
        while recovering:
            twin = disk.copy()
            twin.crash_at = recovery_call
            try:
                reopen(twin)
                recovering = False
            except PowerCutError:
                pass
            twin.crash()
            journal = reopen(twin)
            found = Model.of(journal)
            assert found in (durable, in_flight), f"seed {seed}, power cut at call {crash_at}, then {recovery_call}"
            assert journal.term >= durable.term
            journal.append([(journal.last_index + 1, 9, b"goes on")])
            journal.flush()
            twin.crash()
            assert reopen(twin).get(found.next) == (found.next, 9, b"goes on")
            recovery_call += 1
        crash_at += 1
    assert crash_at > 60, "the operations made too few disk calls to mean anything"
