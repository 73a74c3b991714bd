"""The verdict of a drill: one planted fact of each kind must turn it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from orchestrator.ops.drill_facts import Ack, Facts, Found, Run, Spread, judge

KEYS = [
    "rounds", "unavailable_ms", "placement_ms", "writes_acked", "writes_lost", "writes_duplicated",
    "containers_restarted", "containers_doubled", "requests", "requests_failed", "state_hash_equal",
    "operations", "unknown", "violations", "ready_ms",
]  # fmt: skip


def clean() -> Facts:
    """Two writes, one service of two instances, equal hashes."""
    return Facts(
        rounds=1,
        unavailable_ms=[500.0],
        placement_ms=[900.0],
        acks=[Ack("a", "1", 10), Ack("a", "1", 10), Ack("b", "2", 11)],
        found={"a": Found("1", 1, 10), "b": Found("2", 1, 11)},
        runs=[Run("web/main/0", "c0", 1.0, None), Run("web/main/1", "c1", 1.5, 9.0)],
        hashes=[{"p1": "x", "p2": "x", "p3": "x"}],
        requests=100,
    )


def test_a_clean_drill_passes() -> None:
    verdict = judge(clean())
    assert verdict.passed
    assert (verdict.writes_acked, verdict.problems) == (2, ())


def plant_lost_write(facts: Facts) -> None:
    del facts.found["b"]


def plant_changed_value(facts: Facts) -> None:
    facts.found["b"] = Found("other", 1, 11)


def plant_second_index(facts: Facts) -> None:
    facts.acks.append(Ack("a", "1", 12))


def plant_second_version(facts: Facts) -> None:
    facts.found["a"] = Found("1", 2, 10)


def plant_refused_repeat(facts: Facts) -> None:
    facts.refused_repeats.append("b")


def plant_restart(facts: Facts) -> None:
    facts.runs.append(Run("web/main/1", "c1", 9.5, None))


def plant_double(facts: Facts) -> None:
    facts.runs.append(Run("web/main/0", "c9", 2.0, 4.5))
    facts.replacements["web/main/0"] += 1  # its node was lost, so a second start alone is fine


def plant_other_hash(facts: Facts) -> None:
    facts.hashes.append({"p1": "x", "p2": "y"})


def plant_no_hash(facts: Facts) -> None:
    facts.hashes.clear()


def plant_violation(facts: Facts) -> None:
    facts.violations.append("key d/hot-1: a stale read")


def plant_forgotten(facts: Facts) -> None:
    facts.forgotten.append("a container of web/main/7 runs, and nobody wants it")


@pytest.mark.parametrize(
    ("plant", "key", "value"),
    [
        (plant_lost_write, "writes_lost", 1),
        (plant_changed_value, "writes_lost", 1),
        (plant_second_index, "writes_duplicated", 1),
        (plant_second_version, "writes_duplicated", 1),
        (plant_refused_repeat, "writes_duplicated", 1),
        (plant_restart, "containers_restarted", 1),
        (plant_double, "containers_doubled", 1),
        (plant_other_hash, "state_hash_equal", False),
        (plant_no_hash, "state_hash_equal", False),
        (plant_violation, "violations", 1),
        (plant_forgotten, "forgotten", 1),
    ],
)
def test_one_planted_fact_fails_the_drill(plant: Any, key: str, value: object) -> None:
    facts = clean()
    plant(facts)
    verdict = judge(facts)
    assert not verdict.passed
    assert len(verdict.problems) == 1
    counts = verdict.as_json(replaces=False, watches_engine=True)
    assert counts[key] == value
    others = {"writes_lost", "writes_duplicated", "containers_restarted", "containers_doubled", "violations"} - {key}
    assert {counts[other] for other in others} == {0}


def test_failed_requests_are_counted_and_do_not_fail_the_drill() -> None:
    facts = clean()
    facts.requests_failed = 3
    assert judge(facts).passed
    assert judge(facts).as_json(replaces=False)["requests_failed"] == 3


def test_a_replacement_on_another_node_is_no_restart() -> None:
    facts = clean()
    facts.runs.append(Run("web/main/1", "c7", 9.5, None))
    facts.replacements = Counter({"web/main/1": 1})
    assert judge(facts).passed


def test_double_seconds_are_the_overlap() -> None:
    facts = clean()
    facts.replacements["web/main/1"] = 1
    facts.runs.append(Run("web/main/1", "c7", 8.25, 20.0))
    verdict = judge(facts)
    assert (verdict.containers_doubled, verdict.double_seconds) == (1, 0.75)


def test_an_overlap_with_a_run_that_never_ended_counts_to_the_end_of_the_drill() -> None:
    facts = clean()
    facts.runs = [Run("w", "a", 1.0, None), Run("w", "b", 3.0, 8.0)]
    assert judge(facts).double_seconds == 5.0


def test_json_has_exactly_the_documented_keys() -> None:
    data = judge(clean()).as_json(replaces=False)
    assert list(data) == KEYS
    assert list(data["unavailable_ms"]) == ["p50", "p99", "max"]
    assert list(judge(clean()).as_json(replaces=True)) == [*KEYS, "replaced_ms", "double_seconds"]
    of_engines = ["converged_ms", "forgotten", "restarts_needed"]
    assert list(judge(clean()).as_json(replaces=False, watches_engine=True)) == [*KEYS, *of_engines]


def test_a_start_that_the_drill_made_necessary_is_none_too_many() -> None:
    facts = clean()
    facts.runs.append(Run("web/main/1", "c2", 9.5, None))
    facts.replacements["web/main/1"] += 1
    verdict = judge(facts)
    assert verdict.passed
    assert (verdict.containers_restarted, verdict.restarts_needed) == (0, 1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Spread(0.0, 0.0, 0.0)),
        ([7.0], Spread(7.0, 7.0, 7.0)),
        ([float(n) for n in range(100, 0, -1)], Spread(50.0, 99.0, 100.0)),
        ([float(n) for n in range(1, 201)], Spread(100.0, 198.0, 200.0)),
        ([1.0, 2.0, 3.0], Spread(2.0, 3.0, 3.0)),
    ],
    ids=["none", "one", "hundred", "two hundred", "three"],
)
def test_percentiles_are_exact_nearest_rank(values: list[float], expected: Spread) -> None:
    assert Spread.of(values) == expected
