"""``Witness``: sees everything that every peer commits and applies, and says when a promise is broken.

Owns: what was committed at each raft index, applied at each command index, hashed, elected and acknowledged, over all
lives of all peers. Leaves what clients saw to ``clients`` and what agents run to ``agents``. The one rule: it judges
after every turn of every engine, from what the engine holds, and never changes anything.

Checked after every turn: one leader a term and epoch; a leader's log holds everything that was committed in earlier
terms (one that learns late that it was elected may be behind a later one, and can commit nothing); what it counts as
stored at another peer is there; what is committed never changes and is on a majority when a leader first commits it.
With every applied command: the same command at the same index everywhere, with the same outcome, and an equal state
behind it, by its ``Fingerprint``; the invariants, where it changed what they speak of. At every ``stride``-th command:
equal full hashes of the state without its past (answers, events). Now and then: whether the indexes are those that the
tables would give. At every snapshot: equal bytes, and with what was made of them the fingerprint again.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.contract.codec import CodecError
from orchestrator.replication.codec import decode_entry
from orchestrator.state import invariants
from orchestrator.state.commands import Applied, LaunchRuns, Outcome, Rejected, WriteVariable
from orchestrator.state.snapshot import capture, image_hash
from orchestrator.state.state import State
from tests.sim.fingerprint import Fingerprint
from tests.sim.ticks import Ticks

if TYPE_CHECKING:
    from tests.sim.watched import WatchedLog, WatchedMachine


INDEXES_EVERY = 50
"""Commands: a check of the indexes takes as long as some ten commands."""
TABLES = tuple(
    Fingerprint.PARTS.index(part)
    for part in ("settings", "jobs", "nodes", "forgotten", "columns", "ports", "reasons", "groups")
)
"""What the other invariants speak of: they are checked after every command that changed any of it."""


class ViolationError(AssertionError):
    """A promise is broken."""


class Witness:
    """``stride``: the state is hashed at every so many commands. ``every_ms``: between two due times of the periodic
    job. ``trace`` hears of what happens. ``believes`` says what a leader wrongly takes for stored elsewhere, "" if
    nothing; ``holders`` on how many disks an entry may be."""

    def __init__(
        self,
        *,
        stride: int,
        every_ms: int,
        trace: Callable[..., None],
        believes: Callable[[WatchedLog], str],
        holders: Callable[[WatchedLog, int], int],
    ) -> None:
        self._holders = holders
        self._believes = believes
        self._stride = stride
        self._trace = trace
        self.violations: list[str] = []
        self.ticks = Ticks(self.violation, every_ms=every_ms)
        self.leaders: dict[tuple[int, int], str] = {}  # (epoch, term) -> peer
        # What stands behind a seal is void, and the next epoch has its own entries at those indexes.
        self.committed: dict[tuple[int, int], tuple[int, int]] = {}  # (epoch, raft index) -> term, checksum
        self.highest_commit: dict[int, int] = {}  # epoch -> raft index
        self.commits: dict[int, list[tuple[int, int]]] = {}  # epoch -> (term in which, raft index up to which)
        self.applied: dict[int, tuple[int, Outcome]] = {}  # command index -> checksum of the payload, outcome
        self.newest: State | None = None  # of the peer that has applied most
        self.variables: dict[str, list[tuple[int, str | None]]] = {}  # name -> (index, value), ascending
        self.rejected: dict[str, int] = {}  # reason -> commands
        self._fingerprints: dict[int, tuple[tuple[object, ...], str]] = {}  # command index -> state, who had it first
        self._hashes: dict[int, tuple[object, str]] = {}  # likewise
        self._snapshots: dict[int, tuple[object, str]] = {}  # likewise, of a snapshot's bytes
        self.hashed = 0  # comparisons of hashes made
        self.compared = 0  # of fingerprints

    def violation(self, what: str) -> None:
        """Remember it; the run ends at its next look."""
        self._trace("violation", what)
        self.violations.append(what)

    def require(self) -> None:
        if self.violations:
            raise ViolationError(self.violations[0])

    # ------------------------------------------------------------------ after a turn

    def after_turn(self, log: WatchedLog) -> None:
        if log.leads_core and log.term != log.seen_term:
            log.seen_term = log.term
            self._elected(log)
        commit = log.core_commit
        if commit > log.checked_commit:
            self._committed(log, log.checked_commit, commit)
            log.checked_commit = commit
        elif commit < log.checked_commit:
            self.violation(f"{log.name}: the commit index went back from {log.checked_commit} to {commit}")
        if log.leads_core and (wrong := self._believes(log)):
            self.violation(wrong)
        if log.last_entry < commit:
            self.violation(f"{log.name}: entry {commit} is committed there and its log ends at {log.last_entry}")

    def _elected(self, log: WatchedLog) -> None:
        self._trace("elected", log.name, log.term)
        known = self.leaders.setdefault((log.epoch, log.term), log.name)
        if known != log.name:
            self.violation(f"{known} and {log.name} both lead in term {log.term}")
        # Leader completeness (Raft, section 5.4): its log holds what was committed in the terms before its own.
        earlier = [index for term, index in self.commits.get(log.epoch, []) if term < log.term]
        last, highest = log.last_entry, max(earlier, default=0)
        if last < highest:
            self.violation(f"{log.name} leads term {log.term} with a log up to {last}; entry {highest} was committed")
        for index, term, _ in log.held(log.first_entry, min(last, highest) + 1):
            known_entry = self.committed.get((log.epoch, index))
            if known_entry is not None and known_entry[0] != term:
                self.violation(
                    f"{log.name} leads term {log.term} with entry {index} of term {term}; the committed one is of "
                    f"term {known_entry[0]}"
                )
                break

    def _committed(self, log: WatchedLog, after: int, commit: int) -> None:
        """Entries in ``(after, commit]`` became committed here (or are, in a new life)."""
        first = log.first_entry
        for index, term, command in log.held(after + 1, commit + 1):
            known = self.committed.get((log.epoch, index))
            if index == first:  # perhaps only the mark that a snapshot leaves: its content is in the state
                if known is not None and known[0] != term:
                    self.violation(f"{log.name}: entry {index} is of term {term}; the committed one is of {known[0]}")
                continue
            entry = (term, zlib.crc32(command))
            if known is None:
                self.committed[log.epoch, index] = entry
            elif known != entry:
                self.violation(f"{log.name}: committed entry {index} is {entry} there and was {known} elsewhere")
        if commit > self.highest_commit.get(log.epoch, 0):
            self.highest_commit[log.epoch] = commit
            # By whoever has it committed first, which is its leader, or a peer that knows no earlier term.
            self.commits.setdefault(log.epoch, []).append((log.term, commit))
            if log.leads_core:
                holders = self._holders(log, commit)
                peers = len(log.members)
                if 2 * holders <= peers:
                    self.violation(f"{log.name} committed entry {commit}, which only {holders} of {peers} hold")

    # ------------------------------------------------------------------ the state

    def after_apply(self, name: str, machine: WatchedMachine, payload: bytes, outcome: Outcome) -> None:
        state = machine.state
        index = state.index
        checksum = zlib.crc32(payload)
        known = self.applied.get(index)
        if known is None:
            self._first_applied(state, payload, checksum, outcome)
        else:
            if known[0] != checksum:
                self.violation(f"{name} applied another command at index {index} than the others")
            elif known[1] != outcome:
                self.violation(f"{name} answered command {index} with {outcome}, others with {known[1]}")
        self._fingerprint(name, machine)
        if index % self._stride == 0:
            self._hash(name, machine)
        if known is None and index % INDEXES_EVERY == 0:
            self.check_invariants(name, state)
        elif known is None and self._tables_changed(index):
            self._broken(name, state, invariants.check_tables(state))

    def _first_applied(self, state: State, payload: bytes, checksum: int, outcome: Outcome) -> None:
        index = state.index
        if index != len(self.applied) + 1:
            self.violation(f"command {index} was applied before command {len(self.applied) + 1}")
        self.applied[index] = (checksum, outcome)
        self.newest = state
        if isinstance(outcome, Rejected):
            self.rejected[outcome.reason] = self.rejected.get(outcome.reason, 0) + 1
        try:
            entry = decode_entry(payload)
        except CodecError:
            return
        if isinstance(entry.command, LaunchRuns):
            self.ticks.launched(state, entry.command)
        if isinstance(entry.command, WriteVariable) and isinstance(outcome, Applied) and not outcome.repeated:
            name = entry.command.name
            held = state.variables.get((entry.command.namespace, name))
            self.variables.setdefault(name, []).append((index, None if held is None else held.value))

    def after_restore(self, name: str, machine: WatchedMachine, data: bytes) -> None:
        if machine.index > len(self.applied):
            self.violation(f"{name} restored a snapshot of command {machine.index}, which nobody has applied")
        self.snapshot(name, machine.index, zlib.crc32(data))
        self._fingerprint(name, machine)

    def snapshot(self, name: str, index: int, checksum: int) -> None:
        """Equal states give equal bytes, so all snapshots of one index have one checksum."""
        self._same(self._snapshots, name, index, checksum)

    def _fingerprint(self, name: str, machine: WatchedMachine) -> None:
        mine = machine.fingerprint()
        others, who = self._fingerprints.setdefault(machine.index, (mine, name))
        self.compared += who != name
        if others != mine:
            wrong = [part for part, one, other in zip(Fingerprint.PARTS, mine, others, strict=True) if one != other]
            self.violation(f"{name} and {who} have different states at index {machine.index}: {', '.join(wrong)}")

    def _hash(self, name: str, machine: WatchedMachine) -> None:
        image = replace(capture(machine.state), answers=[], events=[])
        self._same(self._hashes, name, machine.index, image_hash(image))

    def _same(self, known: dict[int, tuple[object, str]], name: str, index: int, mine: object) -> None:
        first = known.setdefault(index, (mine, name))
        self.hashed += first[1] != name
        if first[0] != mine:
            self.violation(f"{name} and {first[1]} have different states at index {index}")

    def _tables_changed(self, index: int) -> bool:
        (now, _), before = self._fingerprints[index], self._fingerprints.get(index - 1)
        return before is None or any(now[part] != before[0][part] for part in TABLES)

    def check_invariants(self, name: str, state: State) -> None:
        self._broken(name, state, invariants.check(state))

    def _broken(self, name: str, state: State, what: Iterable[str]) -> None:
        for broken in what:
            self.violation(f"{name} at index {state.index}: {broken}")

    # ------------------------------------------------------------------ what clients were told

    def acknowledged(self, payload: bytes, index: int, *, repeated: bool) -> None:
        """A client was told that its command is in the log there (a repetition's own payload is elsewhere)."""
        known = self.applied.get(index)
        if known is None:
            self.violation(f"command {index} was acknowledged and nobody has applied it")
        elif not repeated and known[0] != zlib.crc32(payload):
            self.violation(f"command {index} was acknowledged and another one is there")

    def value_at(self, name: str, index: int) -> str | None:
        """The variable's value after the command at ``index``."""
        written = self.variables.get(name, [])
        place = bisect_right(written, index, key=lambda row: row[0])
        return written[place - 1][1] if place else None
