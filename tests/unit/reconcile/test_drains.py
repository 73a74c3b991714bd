"""Drains of groups that may surge, one round at a time, from states put together by hand.

A story says of each instance which attempts of it there are: the version, the node and how it stands (``2a``: ready),
an elder and its successor as ``2a + 2c``. Nodes a and b are being drained, c and d are not, x is lost (``keep``). Whole
drains: ``tests/properties/test_drains.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.contract import health
from orchestrator.contract.model import AllocState, Desired, Disruption, NodeStatus, OnDisconnect, RestartPolicy
from orchestrator.contract.rollouts import Rollout, RolloutStatus, UpdateSpec
from orchestrator.reconcile import rounds
from orchestrator.reconcile.rounds import reconcile
from orchestrator.reconcile.work import NO_NODE, StopFirst, Work
from orchestrator.state.commands import Action
from orchestrator.state.features import SURGING_DRAINS
from tests.unit.scheduling.cluster import Cluster, group_spec

NOW = 1_000_000
LONG_AGO = NOW - 100_000
DRAINED, SPARE, SURPLUS = (rounds.REASONS[number] for number in (rounds.DRAINED, rounds.SPARE, rounds.SURPLUS))
WORDS: dict[str, dict[str, Any]] = {
    "": {},
    "sick": {"health": health.word(1, False)},
    "starting": {"state": AllocState.STARTING},
    "leaves": {"desired": Desired.STOP},
    "gone": {"state": AllocState.STOPPED, "desired": Desired.STOP},
    "unstarted": {"state": AllocState.FAILED, "start_failed": True, "failures": 1, "modify_time_ms": NOW},
    "unstarted before": {"state": AllocState.FAILED, "start_failed": True, "failures": 1},
    "hopeless": {"state": AllocState.FAILED, "start_failed": True, "failures": 9},
}
PAUSED = {"status": RolloutStatus.PAUSED}
HELD = {"status": RolloutStatus.RUNNING, "promoted": False}


@dataclass
class World(Cluster):
    """A job ``web`` of one group ``main``, of as many versions as the story names, with a rollout that is over."""

    newest: int = 2
    update: UpdateSpec | None = field(default_factory=lambda: surging(1))
    needs: dict[int, dict[str, str]] = field(default_factory=dict)  # version -> variables, of which there are none

    def set_up(self, story: tuple[str, ...], count: int | None, rollout: dict[str, Any] | None) -> World:
        self.time_ms, self.feature_level = NOW, SURGING_DRAINS
        for name in "abcdx":
            self.node(name, draining=name in "ab", status=NodeStatus.LOST if name == "x" else NodeStatus.READY)
        main = group_spec(
            count=len(story) if count is None else count, update=self.update, restart=RestartPolicy(attempts=2),
            variables=self.needs.get(1, {}),
        )  # fmt: skip
        job = self.job("web", main, on_disconnect=OnDisconnect.KEEP)
        for version in range(2, self.newest + 1):
            tasks = group_spec(cpu=500 + version, variables=self.needs.get(version, {})).tasks
            self.new_version(job, replace(job.spec, groups=(replace(main, tasks=tasks),)))
        if rollout is not None:
            stands = {"status": RolloutStatus.SUCCEEDED, "promoted": True, "progress_ms": NOW, **rollout}
            self.change(job, rollout=Rollout(version=self.newest, began_version=self.newest, **stands))
        for ordinal, attempts in enumerate(story):
            for number, said in enumerate(attempts.split(" + ")):
                what, _, word = said.partition(" ")
                facts = {"create_time_ms": LONG_AGO, "modify_time_ms": LONG_AGO, **WORDS[word]}
                node = self.nodes["abcdx".index(what[1])]
                self.alloc(job, node, ordinal, version=int(what[0]), attempt=number + 1, **facts)
        return self

    def round(self) -> Work:
        return reconcile(self.view(), NOW)


def surging(most: int, *, canaries: int = 0, min_ready_ms: int = 0, unavailable: int = 1) -> UpdateSpec:
    return UpdateSpec(
        max_surge=most, max_unavailable=unavailable, canaries=canaries, min_ready_ms=min_ready_ms,
        progress_deadline_ms=0,
    )  # fmt: skip


def world(
    *story: str, update: UpdateSpec | None = None, count: int | None = None, newest: int = 2,
    needs: dict[int, dict[str, str]] | None = None, rollout: dict[str, Any] | None = {},  # noqa: B006 - never changed
) -> World:  # fmt: skip
    return World(newest=newest, update=surging(1) if update is None else update, needs=needs or {}).set_up(
        story, count, rollout
    )


def stops(work: Work, cluster: Cluster) -> list[tuple[int, int, str]]:
    """(ordinal, attempt, why) of all that are told to stop by this round."""
    columns, actions = cluster.view().allocations, work.actions
    found = [
        (int(columns.ordinal[at]), int(columns.attempt[at]), actions.texts[reason])
        for at, reason in zip(actions.positions.tolist(), actions.reasons.tolist(), strict=True)
    ]
    return sorted(found)


def asks(work: Work) -> list[tuple[int, int, int]]:
    """(version, ordinal, attempt) of the successors that are asked for on behalf of drains."""
    found = [
        (ask.job.version, ordinal, attempt)
        for ask in work.asks
        if ask.first
        for ordinal, attempt in zip(ask.ordinals.tolist(), ask.attempts.tolist(), strict=True)
    ]
    return sorted(found)


def step(cluster: World) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, str]]]:
    work = cluster.round()
    note = work.groups.get((0, 0))
    assert len(asks(work)) == (note.successors if note is not None else 0)
    return asks(work), stops(work, cluster)


# ---------------------------------------------------------------------------- who of two goes


@pytest.mark.parametrize(
    ("story", "goes"),
    [
        ("2a + 2c", (1, DRAINED)),
        ("2a sick + 2c", (1, DRAINED)),
        ("2a + 2c starting", None),
        ("2a + 2c sick", None),
        ("2a leaves + 2c", None),
        ("2a + 2c leaves", None),
        ("2c leaves + 2d", None),
        ("2c + 2d leaves", None),
        ("2c + 2d", (2, SPARE)),
        ("2c sick + 2d", (1, SPARE)),
        ("2c sick + 2d starting", (2, SPARE)),
        ("2a + 2b", (2, SPARE)),
        ("2a sick + 2b", (1, SPARE)),
        ("2a sick + 2b starting", (2, SPARE)),
        ("2c + 2a", (2, SPARE)),
        ("2c sick + 2a", (1, SPARE)),
        ("2x + 2c", None),
        ("2c + 2x", None),
        ("2x + 2x", None),
    ],
)
def test_an_elder_goes_for_its_successor_and_of_two_that_no_drain_needs_never_the_only_ready_one(
    story: str, goes: tuple[int, str] | None
) -> None:
    cluster = world(story)
    work = cluster.round()
    assert stops(work, cluster) == ([] if goes is None else [(0, *goes)])
    assert asks(work) == []
    assert set(work.actions.actions.tolist()) <= {Action.REPLACE}, "it is judged again at commit"


@pytest.mark.parametrize(("min_ready_ms", "goes"), [(99_999, True), (100_000, True), (100_001, False)])
def test_a_successor_has_to_have_been_ready_for_long_enough(min_ready_ms: int, *, goes: bool) -> None:
    cluster = world("2a + 2c", update=surging(1, min_ready_ms=min_ready_ms))
    work = cluster.round()
    assert stops(work, cluster) == ([(0, 1, DRAINED)] if goes else [])
    assert work.wake_at_ms == (None if goes else NOW + 1)


def test_of_several_groups_and_instances_each_is_judged_by_its_own() -> None:
    cluster = world("2c", "2a + 2c", "2c + 2d", "2d")
    assert step(cluster) == ([], [(1, 1, DRAINED), (2, 2, SPARE)])


@pytest.mark.parametrize("story", [("2c", "2d"), ("2c", "2d", "2c"), ("2c", "2d starting")])
def test_where_nothing_is_drained_nothing_is_done(story: tuple[str, ...]) -> None:
    assert step(world(*story)) == ([], [])


def test_of_several_jobs_each_is_judged_by_its_own() -> None:
    cluster = world("2c", "2d")
    groups = (group_spec("one", count=2, update=surging(1)), group_spec("two", count=2, update=surging(1)))
    over = Rollout(version=1, began_version=1, status=RolloutStatus.SUCCEEDED, promoted=True)
    other = cluster.job("other", *groups)
    cluster.change(other, rollout=over)
    for place, nodes in enumerate(("ca", "bc")):
        for ordinal, name in enumerate(nodes):
            cluster.alloc(other, cluster.nodes["abcdx".index(name)], ordinal, group=place)
    cluster.alloc(other, cluster.nodes[3], 0, group=1, attempt=2)
    work = cluster.round()
    assert [(ask.group, ask.ordinals.tolist()) for ask in work.asks] == [(0, [1])]
    assert stops(work, cluster) == [(0, 1, DRAINED)]


def test_where_nothing_runs_there_is_nothing_to_do() -> None:
    cluster = World(newest=1).set_up((), 0, {})
    assert step(cluster) == ([], [])


# ---------------------------------------------------------------------------- rollouts and canaries meanwhile


@pytest.mark.parametrize(
    ("story", "goes"),
    [
        ("1c + 2d", None),
        ("1c + 1d", None),
        ("1c + 2a", None),
        ("1a + 2c", (1, DRAINED)),
        ("2c + 2d", (2, SPARE)),
    ],
)
def test_two_of_which_one_is_outdated_are_a_rollouts_where_no_drain_is_concerned(
    story: str, goes: tuple[int, str] | None
) -> None:
    assert step(world(story, rollout=PAUSED)) == ([], [] if goes is None else [(0, *goes)])


@pytest.mark.parametrize(
    ("story", "goes"),
    [
        ("1c + 3a", None),
        ("1c + 2d", None),
        ("2c + 1d", None),
        ("2c + 2d", (2, SPARE)),
        ("2c + 2a", (2, SPARE)),
        ("2c + 3a", (2, DRAINED)),
    ],
)
def test_while_version_2_is_held_two_of_it_are_a_drains_and_a_third_version_is_a_rollouts(
    story: str, goes: tuple[int, str] | None
) -> None:
    rollout = {**PAUSED, "promoted": False, "base_version": 2}
    cluster = world(story, update=surging(1, canaries=1), newest=3, rollout=rollout)
    assert step(cluster) == ([], [] if goes is None else [(0, *goes)])


@pytest.mark.parametrize(
    ("story", "goes"),
    [
        ("1c + 2d", None),
        ("1c + 2a", (2, DRAINED)),
        ("1c + 2a starting", (2, DRAINED)),
        ("1c sick + 2a sick", (2, DRAINED)),
        ("1c sick + 2a", None),
        ("1a sick + 2b", (1, DRAINED)),
        ("1a + 2b", (2, DRAINED)),
        ("1a + 2c", (1, DRAINED)),
    ],
)
def test_a_canary_beside_the_version_before_stays_unless_its_own_node_is_drained(
    story: str, goes: tuple[int, str] | None
) -> None:
    cluster = world(story, update=surging(1, canaries=1), rollout={**HELD, "base_version": 1})
    work = cluster.round()
    assert stops(work, cluster) == ([] if goes is None else [(0, *goes)])
    assert set(work.actions.actions.tolist()) <= {Action.REPLACE}, "it is judged again at commit"


def test_a_canary_that_came_in_place_of_another_is_no_successor_that_stays() -> None:
    rollout = {**PAUSED, "promoted": False, "base_version": 1}
    cluster = world("1c + 2a", "1c", "1c", update=surging(1, canaries=2), rollout=rollout)
    assert stops(cluster.round(), cluster) == []


@pytest.mark.parametrize(
    ("most", "story", "asked", "stopped"),
    [
        (1, ("1c + 2d", "1a"), [], [(1, 1, DRAINED)]),
        (2, ("1c + 2d", "1a"), [(1, 1, 2)], []),
        (1, ("1c + 2a", "1a"), [], [(0, 2, DRAINED)]),
        (1, ("1c", "1a"), [(1, 1, 2)], []),
        (1, ("1c leaves + 2d", "1a"), [], [(1, 1, DRAINED)]),
    ],
)
def test_where_canaries_are_all_that_may_surge_others_are_drained_as_if_none_could(
    most: int, story: tuple[str, ...], asked: list[tuple[int, int, int]], stopped: list[tuple[int, int, str]]
) -> None:
    rollout = {**PAUSED, "promoted": False, "base_version": 1}
    cluster = world(*story, update=surging(most, canaries=1), rollout=rollout)
    assert step(cluster) == (asked, stopped)


# ---------------------------------------------------------------------------- who gets a successor


@pytest.mark.parametrize(
    ("most", "story", "asked", "stopped"),
    [
        (1, ("2a", "2c", "2d"), [0], []),
        (1, ("2c", "2a", "2b"), [1], []),
        (2, ("2a", "2c", "2b"), [0, 2], []),
        (2, ("2a", "2b", "2a"), [0, 1], []),
        (5, ("2a", "2c"), [0], []),
        (1, ("2a + 2c starting", "2b"), [], []),
        (2, ("2a + 2c starting", "2b"), [1], []),
        (2, ("2a + 2c starting", "2b", "2b"), [1], []),
        (2, ("2c", "2a sick"), [], [(1, 1, DRAINED)]),
        (2, ("2c", "2a sick", "2b"), [2], []),
        (2, ("2c", "2a leaves"), [], []),
        (1, ("2c leaves + 2a",), [], []),
        (2, ("2c leaves + 2a",), [], []),
        (1, ("2a", "2c hopeless"), [0], []),
        (0, ("2c", "2a"), [], [(1, 1, DRAINED)]),
    ],
)
def test_what_is_ready_on_a_draining_node_waits_for_its_successor_as_many_at_once_as_may_surge(
    most: int, story: tuple[str, ...], asked: list[int], stopped: list[tuple[int, int, str]]
) -> None:
    cluster = world(*story, update=surging(most))
    assert step(cluster) == ([(2, ordinal, 2) for ordinal in asked], stopped)


def test_a_drains_successor_is_no_canary() -> None:
    cluster = world("2a + 2c", "2b", update=surging(1, min_ready_ms=100_001))
    assert step(cluster) == ([], []), "the second waits for its turn to have one"


def test_what_is_of_a_third_version_is_drained_at_once() -> None:
    held = {**PAUSED, "promoted": False, "base_version": 2}
    assert step(world("1a", "2c", newest=3, rollout=held)) == ([], [(0, 1, DRAINED)])


def test_what_is_surplus_gets_none() -> None:
    cluster = world("2c", "2a", count=1, update=surging(2))
    assert step(cluster) == ([], [(1, 1, SURPLUS)])


def test_an_outdated_one_that_a_rollout_has_not_reached_is_drained_at_once() -> None:
    assert step(world("1a", "2c", rollout=PAUSED)) == ([], [(0, 1, DRAINED)])


def test_before_all_peers_know_of_it_and_without_a_rollouts_record_it_is_stopped_first() -> None:
    early = world("2a", "2c")
    early.feature_level = SURGING_DRAINS - 1
    assert step(early) == ([], [(0, 1, DRAINED)])
    assert step(world("2a", "2c", rollout=None)) == ([], [(0, 1, DRAINED)])


@pytest.mark.parametrize(
    ("needs", "story", "asked", "stopped"),
    [
        ({2: {"A": "missing"}}, ("2a", "2c"), [], [(0, 1, DRAINED)]),
        ({1: {"A": "missing"}}, ("2a", "2c"), [(2, 0, 2)], []),
        ({1: {"A": "missing"}}, ("1a", "1c"), [], [(0, 1, DRAINED)]),
        ({2: {"A": "missing"}}, ("1a", "1c"), [(1, 0, 2)], []),
    ],
)
def test_whoever_could_not_be_placed_again_waits_for_none(
    needs: dict[int, dict[str, str]],
    story: tuple[str, ...],
    asked: list[tuple[int, int, int]],
    stopped: list[tuple[int, int, str]],
) -> None:
    held = {**PAUSED, "promoted": False, "base_version": 1} if story[0][0] == "1" else {}
    assert step(world(*story, needs=needs, rollout=held)) == (asked, stopped)


def test_of_the_newest_version_and_the_one_before_the_newest_comes_first() -> None:
    held = {**PAUSED, "promoted": False, "base_version": 1}
    for most, asked in ((1, [(2, 1, 2)]), (2, [(1, 0, 2), (2, 1, 2)]), (3, [(1, 0, 2), (1, 2, 2), (2, 1, 2)])):
        cluster = world("1a", "2a", "1a", update=surging(most, canaries=1), rollout=held)
        assert step(cluster) == (asked, [])


# ---------------------------------------------------------------------------- successors that ended


@pytest.mark.parametrize(
    ("story", "asked", "stopped"),
    [
        (("2a + 2c gone", "2c"), [(2, 0, 3)], []),
        (("2a + 2c unstarted", "2c"), [], []),
        (("2a + 2c unstarted before", "2c"), [(2, 0, 3)], []),
        (("2a + 2c hopeless", "2c"), [], [(0, 1, DRAINED)]),
        (("2c", "2a + 2c hopeless", "2a"), [(2, 2, 2)], []),
    ],
)
def test_whose_successor_ended_gets_another_as_after_any_start_and_waits_for_none_that_failed_for_good(
    story: tuple[str, ...], asked: list[tuple[int, int, int]], stopped: list[tuple[int, int, str]]
) -> None:
    assert step(world(*story)) == (asked, stopped)


def test_a_node_on_which_a_successor_did_not_start_is_avoided() -> None:
    for story, slot in (("2a + 2c unstarted before", 2), ("2a + 2c gone", NO_NODE)):
        (ask,) = world(story, "2d").round().asks
        assert ask.avoid == slot


@pytest.mark.parametrize(
    ("newest", "base", "story"),
    [(2, 1, "1a + 2c hopeless"), (3, 2, "2a + 1c hopeless"), (3, 2, "2a + 3c hopeless")],
)
def test_what_failed_of_another_version_says_nothing_of_this_one(newest: int, base: int, story: str) -> None:
    held = {**PAUSED, "promoted": False, "base_version": base}
    assert step(world(story, "2c", newest=newest, rollout=held)) == ([(base, 0, 3)], [])


# ---------------------------------------------------------------------------- where nobody has room


def test_what_is_done_where_no_successor_finds_room_is_said_with_it() -> None:
    work = world("2c", "2a", "2b").round()
    assert work.instead == {(0, 0): StopFirst(positions=(1,), held="")}
    assert world("2c", "2d").round().instead == {}


def test_a_budget_bounds_only_that() -> None:
    cluster = world("2c", "2a", "2b", update=surging(2))
    (job,) = cluster.jobs
    cluster.change(job, spec=replace(job.spec, disruption=Disruption(max_unavailable=1)))
    work = cluster.round()
    assert (asks(work), stops(work, cluster)) == ([(2, 1, 2), (2, 2, 2)], [])
    (first,) = work.instead.values()
    assert len(first.positions) == 1 and "keeps 1 on draining nodes" in first.held
