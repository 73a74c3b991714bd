"""What a drill saw, and what follows from it.

Owns: the recorded facts and the judgement, a function of them alone, so a test can plant any fact. Leaves to others:
seeing (``drill_load``, ``drill_watch``). The rule: nothing is judged from what the control plane says about itself,
only from what its clients were told, what they find afterwards, and what the engine did.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.ops.drill_lives import Life


@dataclass(frozen=True, slots=True)
class Ack:
    """A create of a uniquely named variable was acknowledged."""

    name: str
    value: str
    index: int  # command index in the answer


@dataclass(frozen=True, slots=True)
class Found:
    """What the final audit found under a name."""

    value: str
    version: int
    create_index: int


@dataclass(frozen=True, slots=True)
class Run:
    """One start of one container or process, from an independent observer. Times are seconds of one clock."""

    instance: str  # job uid (or name), group, ordinal: what must not exist twice
    run_id: str  # container id, or pid with start time
    started_s: float
    ended_s: float | None  # None: still running when the drill ended


@dataclass(slots=True, kw_only=True)
class Facts:
    """Everything that the verdict needs; filled while the drill goes on."""

    rounds: int = 0
    unavailable_ms: list[float] = field(default_factory=list)
    placement_ms: list[float] = field(default_factory=list)
    replaced_ms: list[float] = field(default_factory=list)
    ready_ms: list[float] = field(default_factory=list)
    """From the mending until every peer was a voter with the same state."""
    converged_ms: list[float] = field(default_factory=list)
    """From the mending until the engine ran exactly what the control plane believed, and all of it."""
    forgotten: list[str] = field(default_factory=list)
    """What did not become the same in time, one line each."""
    operations: int = 0
    """In the client history; ``unknown``: of them, those whose outcome nobody knows."""
    unknown: int = 0
    violations: list[str] = field(default_factory=list)
    """Why the history is not linearizable, one line each."""
    acks: list[Ack] = field(default_factory=list)
    refused_repeats: list[str] = field(default_factory=list)
    """Names whose repeated request (same request id) was carried out again instead of being answered again."""
    found: dict[str, Found] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    replacements: Counter[str] = field(default_factory=Counter)
    """By instance: how often it had to be started once more (its node was lost, its engine ended it)."""
    requests: int = 0
    requests_failed: int = 0
    lives: list[Life] = field(default_factory=list)
    """Those that ended, with what each left to the next: a write behind it was given up on purpose."""
    hashes: list[Mapping[str, str]] = field(default_factory=list)
    """Per comparison at one index: peer -> state hash."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Exact percentiles by nearest rank; milliseconds."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        if not ordered:
            return cls(0.0, 0.0, 0.0)
        return cls(_rank(ordered, 50), _rank(ordered, 99), round(ordered[-1], 1))


def _rank(ordered: Sequence[float], percent: int) -> float:
    return round(ordered[math.ceil(len(ordered) * percent / 100) - 1], 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The numbers that a drill prints, under the names of its JSON output."""

    rounds: int
    unavailable_ms: Spread
    placement_ms: Spread
    writes_acked: int
    writes_lost: int
    writes_duplicated: int
    containers_restarted: int
    containers_doubled: int
    requests: int
    requests_failed: int
    state_hash_equal: bool
    operations: int
    unknown: int
    violations: int
    ready_ms: Spread
    replaced_ms: Spread
    double_seconds: float
    converged_ms: Spread
    forgotten: int
    restarts_needed: int
    problems: tuple[str, ...]
    """One line for people per loss, duplicate, restart, double, differing hash or violation."""

    @property
    def passed(self) -> bool:
        bad = self.writes_lost + self.writes_duplicated + self.containers_restarted + self.containers_doubled
        return bad + self.forgotten + self.violations == 0 and self.state_hash_equal

    def as_json(self, *, replaces: bool, watches_engine: bool = False) -> dict[str, Any]:
        """``replaces``: with what only drills that lose a node measure; ``watches_engine``: that hurt an engine."""
        data: dict[str, Any] = {
            "rounds": self.rounds,
            "unavailable_ms": _spread(self.unavailable_ms),
            "placement_ms": _spread(self.placement_ms),
            "writes_acked": self.writes_acked,
            "writes_lost": self.writes_lost,
            "writes_duplicated": self.writes_duplicated,
            "containers_restarted": self.containers_restarted,
            "containers_doubled": self.containers_doubled,
            "requests": self.requests,
            "requests_failed": self.requests_failed,
            "state_hash_equal": self.state_hash_equal,
            "operations": self.operations,
            "unknown": self.unknown,
            "violations": self.violations,
            "ready_ms": _spread(self.ready_ms),
        }
        if replaces:
            data["replaced_ms"] = _spread(self.replaced_ms)
            data["double_seconds"] = self.double_seconds
        if watches_engine:
            data["converged_ms"] = _spread(self.converged_ms)
            data["forgotten"] = self.forgotten
            data["restarts_needed"] = self.restarts_needed
        return data


def _spread(spread: Spread) -> dict[str, float]:
    return {"p50": spread.p50, "p99": spread.p99, "max": spread.max}


def judge(facts: Facts) -> Verdict:
    """The verdict on ``facts``."""
    problems: list[str] = []
    lost = _lost(facts, problems)
    duplicated = _duplicated(facts, problems)
    restarted = _restarted(facts, problems)
    doubled, double_seconds = _doubled(facts.runs, problems)
    equal = bool(facts.hashes) and all(len(set(hashes.values())) == 1 for hashes in facts.hashes)
    if not equal:
        first = next((dict(hashes) for hashes in facts.hashes if len(set(hashes.values())) != 1), "none compared")
        problems.append(f"state hashes differ: {first}")
    problems.extend(f"forgotten: {what}" for what in facts.forgotten)
    problems.extend(f"not linearizable: {violation}" for violation in facts.violations)
    return Verdict(
        rounds=facts.rounds,
        unavailable_ms=Spread.of(facts.unavailable_ms),
        placement_ms=Spread.of(facts.placement_ms),
        writes_acked=len({ack.name for ack in facts.acks}),
        writes_lost=lost,
        writes_duplicated=duplicated,
        containers_restarted=restarted,
        containers_doubled=doubled,
        requests=facts.requests,
        requests_failed=facts.requests_failed,
        state_hash_equal=equal,
        operations=facts.operations,
        unknown=facts.unknown,
        violations=len(facts.violations),
        ready_ms=Spread.of(facts.ready_ms),
        replaced_ms=Spread.of(facts.replaced_ms),
        double_seconds=round(double_seconds, 3),
        converged_ms=Spread.of(facts.converged_ms),
        forgotten=len(facts.forgotten),
        restarts_needed=facts.replacements.total(),
        problems=tuple(problems),
    )


def _given_up(facts: Facts, ack: Ack) -> bool:
    return any(life.gives_up(ack.index) for life in facts.lives)


def _lost(facts: Facts, problems: list[str]) -> int:
    lost = 0
    promised = {ack.name: ack.value for ack in facts.acks if not _given_up(facts, ack)}
    for name, value in promised.items():
        found = facts.found.get(name)
        if found is None or found.value != value:
            lost += 1
            problems.append(f"lost: {name} was acknowledged and is {'absent' if found is None else 'another value'}")
    return lost


def _duplicated(facts: Facts, problems: list[str]) -> int:
    """A create took effect twice: two answers with different indexes, a repeat that was carried out again, or a
    variable that was written again after its creation."""
    indexes: dict[str, set[int]] = defaultdict(set)
    for ack in facts.acks:
        if not _given_up(facts, ack):  # its request, repeated, was carried out in the next life: not a second time
            indexes[ack.name].add(ack.index)
    twice = set(facts.refused_repeats)
    for name, answers in indexes.items():
        found = facts.found.get(name)
        if len(answers) > 1 or (found is not None and (found.version != 1 or found.create_index not in answers)):
            twice.add(name)
    problems.extend(f"duplicated: {name} (answers at {sorted(indexes[name])})" for name in sorted(twice))
    return len(twice)


def _restarted(facts: Facts, problems: list[str]) -> int:
    """Starts beyond the first one of an instance and those that the drill made necessary."""
    starts = Counter(run.instance for run in facts.runs)
    restarted = 0
    for instance, count in sorted(starts.items()):
        extra = count - 1 - facts.replacements[instance]
        if extra > 0:
            restarted += extra
            problems.append(f"restarted: {instance} was started {count} times")
    return restarted


def _doubled(runs: Iterable[Run], problems: list[str]) -> tuple[int, float]:
    """How many starts happened while another run of the same instance was alive; for how long in all (seconds)."""
    by_instance: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_instance[run.instance].append(run)
    doubled, seconds = 0, 0.0
    for instance, known in sorted(by_instance.items()):
        known.sort(key=lambda run: run.started_s)
        # An open end is as far as the drill saw.
        horizon = max([run.started_s for run in known] + [run.ended_s for run in known if run.ended_s is not None])
        for place, run in enumerate(known):
            before = [
                earlier for earlier in known[:place] if earlier.ended_s is None or earlier.ended_s > run.started_s
            ]
            if before:
                doubled += 1
                until = max(horizon if old.ended_s is None else old.ended_s for old in before)
                end = horizon if run.ended_s is None else run.ended_s
                seconds += max(0.0, min(until, end) - run.started_s)
                problems.append(f"doubled: {instance} ran as {before[-1].run_id[:20]} and {run.run_id[:20]} at once")
    return doubled, seconds
