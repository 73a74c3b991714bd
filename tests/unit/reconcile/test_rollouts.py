"""The next step of a rollout, and its verdict, from states put together by hand.

A story says of each instance which attempts of it there are: the version and how it stands (``1``: ready), an elder
and its successor as ``1 + 2``. Whole rollouts: ``tests/properties/test_rollouts.py``, ``test_canaries.py``; whether a
step is taken: ``tests/unit/state/test_bounds.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.contract import health
from orchestrator.contract.model import (
    AllocState,
    Desired,
    Disruption,
    GangSpec,
    GroupSpec,
    NodeStatus,
    OnDisconnect,
    RestartPolicy,
)
from orchestrator.contract.rollouts import Rollout, RolloutStatus, UpdateSpec
from orchestrator.reconcile.rollouts import STUCK_MS
from orchestrator.reconcile.rounds import reconcile
from orchestrator.reconcile.work import GroupWork, Work
from orchestrator.state.commands import Action
from orchestrator.state.failures import STEADY_MS
from orchestrator.state.features import SURGING_DRAINS
from tests.unit.scheduling.cluster import Cluster, group_spec

NOW = 1_000_000
LONG_AGO = NOW - 100_000
RUNNING, PAUSED, FAILED, SUCCEEDED = (
    RolloutStatus.RUNNING,
    RolloutStatus.PAUSED,
    RolloutStatus.FAILED,
    RolloutStatus.SUCCEEDED,
)
REPLACED = "replaced by a newer version of the job"
WORDS: dict[str, dict[str, Any]] = {
    "": {},
    "sick": {"health": health.word(1, False)},
    "starting": {"state": AllocState.STARTING},
    "leaves": {"desired": Desired.STOP},
    "gone": {"state": AllocState.STOPPED, "desired": Desired.STOP},
    "failed": {"state": AllocState.FAILED},
    "unstarted": {"state": AllocState.FAILED, "start_failed": True, "failures": 1},
    "hopeless": {"state": AllocState.FAILED, "start_failed": True, "failures": 9},
    "lost": {"node": 3},  # which a test makes lost
}


def update(surge: int = 0, unavailable: int = 1, canaries: int = 0, **more: Any) -> UpdateSpec:
    more.setdefault("progress_deadline_ms", 0)
    return UpdateSpec(max_surge=surge, max_unavailable=unavailable, canaries=canaries, **more)


@dataclass
class Rolling(Cluster):
    """A job ``web`` of one group, ``main``, whose newest version is 2 (or ``newest``) and which is rolled out."""

    policy: UpdateSpec | None = field(default_factory=update)
    newest: int = 2

    def set_up(
        self, story: tuple[str, ...], *, more_groups: tuple[GroupSpec, ...] = (), count: int | None = None,
        disruption: Disruption | None = None, **rollout: Any,
    ) -> Rolling:  # fmt: skip
        self.time_ms = NOW
        for name in "abcd":
            self.node(name)
        main = group_spec(
            count=len(story) if count is None else count, update=self.policy, restart=RestartPolicy(attempts=2)
        )
        job = self.job("web", main, *more_groups, disruption=disruption, on_disconnect=OnDisconnect.KEEP)
        for number in range(2, self.newest + 1):
            groups = tuple(replace(one, tasks=group_spec(cpu=500 + number).tasks) for one in job.spec.groups)
            self.new_version(job, replace(job.spec, groups=groups))
        stands: dict[str, Any] = {"status": RUNNING, "progress_ms": LONG_AGO, **rollout}
        self.change(job, rollout=Rollout(version=self.newest, began_version=self.newest, **stands))
        for ordinal, attempts in enumerate(story):
            for number, said in enumerate(attempts.split(" + ")):
                version, _, word = said.partition(" ")
                if version:
                    facts = {"version": int(version), "attempt": number + 1, "create_time_ms": LONG_AGO, **WORDS[word]}
                    node = self.nodes[facts.pop("node", ordinal % 3)]
                    self.alloc(job, node, ordinal, modify_time_ms=LONG_AGO, **facts)
        return self

    def last(self, ordinal: int) -> dict[str, Any]:
        """The last attempt of an instance of the first group."""
        return max(
            (row for row in self.rows if row["group"] == 0 and row["ordinal"] == ordinal),
            key=lambda row: row["attempt"],
        )

    def first(self, ordinal: int) -> dict[str, Any]:
        return next(row for row in self.rows if row["group"] == 0 and row["ordinal"] == ordinal)

    def round(self) -> Work:
        return reconcile(self.view(), NOW)


def rolling(policy: UpdateSpec | None, *story: str, newest: int = 2, **more: Any) -> Rolling:
    return Rolling(policy=policy, newest=newest).set_up(story, **more)


def stopped(work: Work, cluster: Cluster) -> list[tuple[int, int]]:
    """(ordinal, attempt) of those that are told to stop for the rollout, by ordinal."""
    columns, actions = cluster.view().allocations, work.actions
    found = []
    for at, action, reason in zip(
        actions.positions.tolist(), actions.actions.tolist(), actions.reasons.tolist(), strict=True
    ):
        if actions.texts[reason] == REPLACED:
            assert action == Action.REPLACE, "it is judged again at commit"
            found.append((int(columns.ordinal[at]), int(columns.attempt[at])))
    return sorted(found)


def asked(work: Work) -> list[tuple[int, int, int]]:
    """(version, ordinal, attempt) of all that are asked for."""
    found = [
        (ask.job.version, ordinal, attempt)
        for ask in work.asks
        for ordinal, attempt in zip(ask.ordinals.tolist(), ask.attempts.tolist(), strict=True)
    ]
    return sorted(found)


def step(cluster: Rolling) -> tuple[list[int], list[int]]:
    """Ordinals that get a successor (or are placed) at the newest version, and those that are told to stop."""
    work = cluster.round()
    assert all(version == cluster.newest for version, _, _ in asked(work))
    return [ordinal for _, ordinal, _ in asked(work)], [ordinal for ordinal, _ in stopped(work, cluster)]


def note_of(work: Work) -> GroupWork:
    return work.groups[(0, 0)]


# ---------------------------------------------------------------------------- successors first


@pytest.mark.parametrize(
    ("most", "story", "expected"),
    [
        (1, ("1", "1", "1"), [0]),
        (2, ("1", "1", "1"), [0, 1]),
        (5, ("1", "1", "1"), [0, 1, 2]),
        (1, ("1", "1", "1 sick"), [2]),
        (2, ("1", "1", "1 starting", "1 sick"), [2, 3]),
        (2, ("1", "1 + 2 starting", "1"), [0]),
        (1, ("1", "1 + 2 starting", "1"), []),
        (1, ("1", "2", "1"), [0]),
        (1, ("1", "2 sick", "1"), []),
        (2, ("1", "2 sick", "1", "1"), [0]),
        (2, ("2 sick", "2 sick", "1", "1"), []),
        (1, ("1 leaves", "1", "1"), []),
        (2, ("1 leaves", "1", "1"), [1]),
    ],
    ids=[
        "one", "two", "all", "who is not ready first", "those by ordinal", "with one that has one", "as many as may",
        "the next one", "what does not come up halts it", "but what else may be on the way", "and no more",
        "who is stopped is on the way", "and counts as one",
    ],
)  # fmt: skip
def test_as_many_get_a_successor_as_may_surge(most: int, story: tuple[str, ...], expected: list[int]) -> None:
    assert step(rolling(update(most, 0), *story)) == (expected, [])


def test_a_successor_is_the_next_attempt_beside_the_others_of_its_group() -> None:
    cluster = rolling(update(2, 0), "1", "1", "1")
    cluster.last_attempts[(0, "main")] = [1, 7, 1]
    work = cluster.round()
    assert asked(work) == [(2, 0, 2), (2, 1, 8)]
    (ask,) = work.asks
    assert (sorted(ask.peers.tolist()), ask.last_node, ask.avoid, ask.at, ask.first) == ([2], 1, -1, -1, False)
    assert (note_of(work).missing, note_of(work).outdated, note_of(work).halted) == (2, 3, "")


def test_the_nodes_of_its_own_group_are_what_a_successor_hears_of() -> None:
    side = group_spec("side", count=2, update=update(1, 0))
    cluster = rolling(update(1, 0), "2 sick", "2 sick", more_groups=(side,))
    for ordinal in range(2):
        cluster.alloc(cluster.jobs[0], cluster.nodes[2 + ordinal], ordinal, group=1, version=1)
    (ask,) = cluster.round().asks
    assert (ask.group, ask.ordinals.tolist(), ask.peers.tolist(), ask.last_node) == (1, [0], [3], 2)


@pytest.mark.parametrize("surge", [1, 2])
def test_a_spread_is_kept_from_one_version_to_the_next(surge: int) -> None:
    """The instance that goes counted, so its successor went to the other node, and two by two became three and one."""
    cluster = rolling(update(surge, 0), "1", "1", "1", "1")
    for ordinal in range(4):
        cluster.first(ordinal)["node"] = ordinal % 2
    for _ in range(4 // surge):
        (ask,) = cluster.round().asks
        counts = [ask.peers.tolist().count(node) for node in (0, 1)]
        for ordinal in ask.ordinals.tolist():
            node = counts.index(min(counts))  # as ``placement: spread`` chooses
            counts[node] += 1
            old = cluster.first(ordinal)
            cluster.rows.remove(old)
            cluster.alloc(
                cluster.jobs[0],
                cluster.nodes[node],
                ordinal,
                version=2,
                attempt=2,
                **WORDS[""],
                create_time_ms=LONG_AGO,
            )
    assert sorted(row["node"] for row in cluster.rows) == [0, 0, 1, 1]


def test_those_that_avoid_no_node_and_each_that_avoids_one_are_asked_for_apart() -> None:
    cluster = rolling(update(4, 0), "1", "1 + 2 unstarted", "1 + 2 unstarted", "1 sick", "1 + 2 gone")
    cluster.last(2)["node"] = 3
    work = cluster.round()
    assert [(ask.avoid, ask.ordinals.tolist(), ask.last_node) for ask in work.asks] == [
        (-1, [0, 3], 0),
        (1, [1], 1),
        (3, [2], 2),
    ]


def test_a_successor_that_was_told_to_stop_is_followed_by_another_and_its_node_is_not_avoided() -> None:
    work = rolling(update(1, 0), "1 + 2 gone", "1").round()
    assert asked(work) == [(2, 0, 3)]
    assert [ask.avoid for ask in work.asks] == [-1]


@pytest.mark.parametrize(
    ("age_ms", "expected", "wake_at_ms"), [(1_999, [], NOW + 1), (2_000, [(2, 0, 3)], None), (3_000, [(2, 0, 3)], None)]
)
def test_the_successor_after_one_that_could_not_start_waits_for_its_backoff(
    age_ms: int, expected: list[tuple[int, int, int]], wake_at_ms: int | None
) -> None:
    cluster = rolling(update(1, 0), "1 + 2 unstarted", "2")
    cluster.last(0)["modify_time_ms"] = NOW - age_ms
    work = cluster.round()
    assert asked(work) == expected
    assert work.wake_at_ms == wake_at_ms
    assert work.verdicts == ()


def test_while_one_successor_waits_to_be_tried_again_another_instance_has_its_turn() -> None:
    cluster = rolling(update(1, 0), "1 + 2 unstarted", "1")
    cluster.last(0)["modify_time_ms"] = NOW
    assert asked(cluster.round()) == [(2, 1, 2)]


def test_a_successor_that_ended_at_an_older_version_says_nothing_of_the_newest() -> None:
    work = rolling(update(1, 0), "1 + 2 failed", "1", newest=3).round()
    assert asked(work) == [(3, 0, 3)]
    assert work.verdicts == ()


def test_what_became_of_another_job_says_nothing_of_this_one() -> None:
    """Its rows are behind those of the rollout, where a look before the first one ends."""
    cluster = rolling(update(2, 0), "1", "1")
    other = cluster.job("other")
    cluster.alloc(other, cluster.nodes[0], state=AllocState.FAILED)
    assert asked(cluster.round())[:2] == [(2, 0, 2), (2, 1, 2)]
    assert note_of(cluster.round()).outdated == 2


def test_what_is_outdated_is_counted_of_the_group_alone_and_of_what_lives() -> None:
    cluster = rolling(update(1, 0), "1", "1 gone", "2", more_groups=(group_spec("side", count=2),))
    for ordinal in range(2):
        cluster.alloc(cluster.jobs[0], cluster.nodes[0], ordinal, group=1, version=1)
    work = cluster.round()
    assert [work.groups[(0, place)].outdated for place in (0, 1)] == [1, 2]


@pytest.mark.parametrize(
    ("story", "leaves"),
    [
        (("1 + 2", "1"), [(0, 1)]),
        (("1 sick + 2", "1"), [(0, 1)]),
        (("1 + 2 sick", "1"), []),
        (("1 + 2 starting", "1"), []),
        (("1 sick + 2 sick", "1"), []),
        (("1 leaves + 2", "1"), []),
        (("1 + 2", "1 + 2"), [(0, 1), (1, 1)]),
        (("1 + 2 leaves", "1"), []),
    ],
)
def test_whoever_has_a_successor_that_is_ready_goes(story: tuple[str, ...], leaves: list[tuple[int, int]]) -> None:
    cluster = rolling(update(2, 0), *story)
    assert stopped(cluster.round(), cluster) == leaves


@pytest.mark.parametrize(("age_ms", "leaves"), [(4_999, []), (5_000, [(0, 1)])])
def test_a_successor_has_to_be_ready_for_long_enough(age_ms: int, leaves: list[tuple[int, int]]) -> None:
    cluster = rolling(update(1, 0, min_ready_ms=5_000), "1 + 2", "2")
    cluster.last(0)["modify_time_ms"] = NOW - age_ms
    work = cluster.round()
    assert stopped(work, cluster) == leaves
    assert work.wake_at_ms == (None if leaves else NOW + 1)
    assert work.verdicts == (), "the elder is there yet"


def test_who_is_ready_but_not_for_long_enough_is_on_the_way() -> None:
    cluster = rolling(update(1, 0, min_ready_ms=5_000), "2", "1")
    cluster.last(0)["modify_time_ms"] = NOW - 4_000
    work = cluster.round()
    assert (asked(work), work.wake_at_ms) == ([], NOW + 1_000)
    cluster.last(0)["modify_time_ms"] = NOW - 5_000
    assert asked(cluster.round()) == [(2, 1, 2)]


@pytest.mark.parametrize(
    ("story", "leaves"),
    [
        (("1 + 2", "1"), [(0, 2)]),
        (("1 + 2 sick", "1"), [(0, 2)]),
        (("1 sick + 2 sick", "1"), [(0, 2)]),
        (("1 sick + 2", "1"), []),
        (("1 leaves + 2", "1"), []),
        (("1 leaves + 2 sick", "1"), [(0, 2)]),
    ],
)
def test_the_successor_of_a_version_that_was_taken_back_goes_unless_it_alone_is_ready(
    story: tuple[str, ...], leaves: list[tuple[int, int]]
) -> None:
    """Version 3 is what version 1 was."""
    cluster = rolling(update(1, 0), *story, newest=3)
    cluster.change(cluster.jobs[0], twins=((1,),))
    assert stopped(cluster.round(), cluster) == leaves


@pytest.mark.parametrize(("story", "leaves"), [("1 + 2", (0, 1)), ("1 sick + 2 sick", (0, 2)), ("1 + 2 sick", (0, 2))])
def test_of_two_that_are_both_outdated_one_makes_room_for_a_third(story: str, leaves: tuple[int, int]) -> None:
    cluster = rolling(update(1, 0), story, "1", newest=3)
    work = cluster.round()
    assert stopped(work, cluster) == [leaves]
    assert asked(work) == []


# ---------------------------------------------------------------------------- stopped first


@pytest.mark.parametrize(
    ("most", "story", "expected"),
    [
        (1, ("1", "1", "1", "1"), [0]),
        (2, ("1", "1", "1", "1"), [0, 1]),
        (2, ("2", "1", "1", "1"), [1, 2]),
        (2, ("2 sick", "1", "1", "1"), [1]),
        (2, ("2 sick", "2 sick", "1", "1"), []),
        (2, ("1", "1", "1 sick", "1"), [0, 2]),
        (1, ("1", "1", "1 sick", "1"), [2]),
        (1, ("1", "1 sick", "1 sick", "1"), [1]),
        (3, ("1 sick", "1", "1", "2 sick"), [0, 1]),
        (2, ("1 leaves", "1", "1", "1"), [1]),
        (1, ("1 leaves", "1", "1", "1"), []),
        (2, ("1 gone", "1", "1", "1"), [1]),
    ],
    ids=[
        "one", "two", "the next two", "with one that is on the way", "as many as may", "who is not ready first",
        "who is not ready alone", "one at a time of those, too", "no ready one more than may be missing",
        "with one that is stopped", "and as many as may", "with one that is gone",
    ],
)  # fmt: skip
def test_as_many_are_stopped_as_may_be_missing(most: int, story: tuple[str, ...], expected: list[int]) -> None:
    assert step(rolling(update(0, most), *story))[1] == expected


def test_who_is_ready_elsewhere_and_unready_by_itself_leaves_no_ready_one_to_be_stopped() -> None:
    """Not those on the way, but those that are ready, are too few: one of the older version fell ill."""
    cluster = rolling(update(1, 1), "1", "1", "1 lost")
    cluster.change(cluster.nodes[3], status=NodeStatus.LOST)
    assert step(cluster) == ([0], [])


def test_of_a_pair_of_which_none_is_ready_and_of_one_alone_that_is_not_none_counts_as_ready() -> None:
    assert step(rolling(update(1, 1), "1 sick + 2 sick", "1", "1")) == ([], [])
    assert step(rolling(update(1, 1), "1 sick + 2 sick", "1", "1 sick")) == ([], [2]), "that costs nobody anything"
    assert step(rolling(update(1, 1), "1 + 2 sick", "1", "1")) == ([], [1])
    assert step(rolling(update(1, 1), "2 sick", "1", "1")) == ([1], [])


def test_where_nobody_is_asked_for_or_may_be_missing_no_room_is_waited_for() -> None:
    for policy, story in (
        (update(1, 1), ("2 starting", "2 starting", "1")),
        (update(1, 0), ("1", "1")),
        (update(0, 1), ("1", "1")),
    ):
        assert rolling(policy, *story, progress_ms=NOW).round().wake_at_ms is None, story
    assert rolling(update(1, 1), "1", "1", progress_ms=NOW).round().wake_at_ms == NOW + STUCK_MS


def test_who_gets_a_successor_is_on_the_way_until_there_is_no_room_for_it() -> None:
    sick = ("1 sick",) * 4
    assert step(rolling(update(1, 1), *sick, progress_ms=NOW)) == ([0], [1])
    assert step(rolling(update(1, 1), *sick)) == ([0], [0, 1])


def test_without_a_policy_it_is_one_at_a_time_and_stopped_first() -> None:
    assert step(rolling(None, "1", "1", "1")) == ([], [0])
    assert step(rolling(None, "2 starting", "1", "1")) == ([], [])


def test_a_drains_successors_are_among_those_that_may_surge() -> None:
    cluster = rolling(update(1, 0), "2", "1", "1")
    cluster.feature_level = SURGING_DRAINS
    assert asked(cluster.round()) == [(2, 1, 2)]
    cluster.change(cluster.nodes[0], cordoned=True, draining=True)
    assert asked(cluster.round()) == [(2, 0, 2)]


def test_a_drain_of_a_job_without_a_budget_holds_up_nothing() -> None:
    cluster = rolling(update(0, 2), "1", "1", "1", "1")
    cluster.change(cluster.nodes[2], cordoned=True, draining=True)
    assert step(cluster) == ([], [0])


def test_a_gang_is_not_rolled_out_by_it() -> None:
    gang = group_spec("ring", count=2, gang=GangSpec(), update=update(1, 1))
    cluster = rolling(update(), "2", more_groups=(gang,))
    for ordinal in range(2):
        cluster.alloc(cluster.jobs[0], cluster.nodes[ordinal], ordinal, group=1, version=1)
    work = cluster.round()
    assert (work.asks, work.actions.actions.tolist()) == ((), [Action.STOP, Action.STOP])


@pytest.mark.parametrize(("waited_ms", "expected"), [(STUCK_MS - 1, ([0], [1, 2])), (STUCK_MS, ([0], [0, 1]))])
def test_who_waits_for_a_successor_that_finds_no_room_is_stopped_after_a_while(
    waited_ms: int, expected: tuple[list[int], list[int]]
) -> None:
    cluster = rolling(update(1, 2), "1", "1", "1", progress_ms=NOW - waited_ms)
    assert step(cluster) == expected
    assert cluster.round().wake_at_ms == (NOW + 1 if waited_ms < STUCK_MS else None)


@pytest.mark.parametrize(("waited_ms", "wake_at_ms"), [(STUCK_MS - 1, NOW + 1), (STUCK_MS, None), (9 * STUCK_MS, None)])
def test_while_a_successor_starts_up_the_others_wait_for_room_without_a_look_at_each_moment(
    waited_ms: int, wake_at_ms: int | None
) -> None:
    """It asked to be looked at again at a moment that had passed, so the leader did nothing else."""
    cluster = rolling(update(2, 1), "1 + 2 starting", "1", "1", progress_ms=NOW - waited_ms)
    assert step(cluster) == ([1], [2])
    assert cluster.round().wake_at_ms == wake_at_ms


def test_where_nobody_may_be_missing_nobody_is_stopped_however_long_there_is_no_room() -> None:
    cluster = rolling(update(1, 0), "1", "1", progress_ms=NOW - 100 * STUCK_MS)
    assert step(cluster) == ([0], [])
    assert cluster.round().wake_at_ms is None


def test_surge_and_missing_together_bound_what_is_on_the_way() -> None:
    assert step(rolling(update(1, 1), "1", "1", "1", "1", progress_ms=NOW)) == ([0], [1])
    assert step(rolling(update(1, 1), "2 starting", "1", "1", "1", progress_ms=NOW)) == ([1], [])
    assert step(rolling(update(2, 1), "2 starting", "2 starting", "1", "1", progress_ms=NOW)) == ([2], [])
    assert step(rolling(update(1, 1), "2 starting", "2 starting", "1", "1", progress_ms=NOW)) == ([], [])


def test_what_the_count_leaves_out_plays_no_part() -> None:
    """It is stopped as a surplus, and neither counts as ready nor is replaced."""
    cluster = rolling(update(0, 1), "1", "1 sick", "1", "1", count=2)
    assert step(cluster)[1] == [1]
    cluster = rolling(update(0, 1), "1", "2 starting", "1", "1", count=2)
    assert step(cluster)[1] == []


def test_two_attempts_of_an_instance_beyond_the_count_have_a_successor_as_any_others() -> None:
    """The commit counts them: a plan was made and refused in each round until they had stopped."""
    cluster = rolling(update(1, 0), "1", "1", "1 + 2 starting", count=2)
    assert step(cluster) == ([], [])
    cluster.last(2)["state"] = AllocState.STOPPED
    assert step(cluster) == ([0], [])


def test_what_failed_beyond_the_count_fails_nothing() -> None:
    assert verdict(rolling(update(), "2", "2", "2 failed", count=2)) == (True, "")
    assert verdict(rolling(update(), "2", "2 sick", "2 failed", count=2)) is None


def test_what_is_kept_on_a_lost_node_is_not_replaced_and_not_ready() -> None:
    cluster = rolling(update(0, 2), "1 lost", "1", "1", "1")
    cluster.change(cluster.nodes[3], status=NodeStatus.LOST)
    assert step(cluster) == ([], [1])


def test_a_budget_that_a_drain_needs_leaves_nothing_for_a_rollout_to_stop() -> None:
    policy = update(1, 2)
    for draining in (False, True):
        cluster = rolling(policy, "1", "1", "1", "1", disruption=Disruption(max_unavailable=1), progress_ms=NOW)
        cluster.change(cluster.nodes[2], cordoned=draining, draining=draining)
        assert step(cluster) == ([0], [] if draining else [1, 2])


def test_a_drain_of_one_group_holds_up_no_other() -> None:
    cluster = rolling(
        update(0, 1), "1", disruption=Disruption(max_unavailable=1), more_groups=(group_spec("side"), group_spec("z"))
    )
    for place in (1, 2):
        cluster.alloc(cluster.jobs[0], cluster.nodes[place], group=place, version=1)
    cluster.change(cluster.nodes[1], cordoned=True, draining=True)
    columns, replaced = cluster.view().allocations, cluster.round().actions
    found = [
        (int(columns.group[at]), replaced.texts[reason])
        for at, reason in zip(replaced.positions.tolist(), replaced.reasons.tolist(), strict=True)
    ]
    assert found == [(0, REPLACED), (1, "its node is being drained"), (2, REPLACED)]


def test_nobody_gives_way_for_what_cannot_be_placed() -> None:
    policy = update(1, 2)
    cluster = rolling(policy, "1", "1", progress_ms=NOW)
    job = cluster.jobs[0]
    main = group_spec(count=2, update=policy, variables={"TOKEN": "api-token"})
    cluster.change(job, spec=replace(job.spec, groups=(main,)))
    work = cluster.round()
    assert (asked(work), stopped(work, cluster)) == ([], [])
    assert note_of(work).halted == "variable api-token missing"
    cluster.variables.add(("default", "api-token"))
    assert step(cluster) == ([0], [1])


def test_nobody_is_stopped_first_for_what_no_node_could_take() -> None:
    policy = timed()
    cluster = rolling(policy, "1", "1")
    job = cluster.jobs[0]
    cluster.change(job, spec=replace(job.spec, groups=(group_spec(count=2, update=policy, cpu=1_000_000),)))
    work = cluster.round()
    assert (asked(work), stopped(work, cluster)) == ([], [])
    assert note_of(work).halted == "no node could take the new version (4: too little cpu)"
    stands = Rollout(version=2, began_version=2, status=RUNNING)
    cluster.change(job, rollout=replace(stands, progress_ms=NOW - 30_000))
    assert verdict(cluster) == (
        False,
        "nothing became ready for 30 s; no node could take the new version (4: too little cpu)",
    )
    large = replace(cluster.nodes[3].spec.capacity, cpu_millis=2_000_000)
    cluster.change(cluster.nodes[3], spec=replace(cluster.nodes[3].spec, capacity=large))
    cluster.change(job, rollout=replace(stands, progress_ms=NOW))
    assert step(cluster) == ([], [0]), "it may have room made there"


# ---------------------------------------------------------------------------- who may decide


@pytest.mark.parametrize(
    ("status", "reason", "halted"),
    [
        (PAUSED, "", "it is paused (raftsman resume lets it go on)"),
        (FAILED, "too bad", "too bad"),
        (FAILED, "", "it has failed"),
    ],
)
def test_what_is_paused_or_has_failed_stands_still(status: RolloutStatus, reason: str, halted: str) -> None:
    cluster = rolling(update(2, 2), "1 + 2", "1", "2 failed", status=status, reason=reason)
    work = cluster.round()
    assert (asked(work), stopped(work, cluster), work.verdicts) == ([], [], ())
    assert note_of(work).halted == halted
    assert note_of(work).outdated == 2


def test_a_rollout_that_is_over_is_not_looked_at() -> None:
    cluster = rolling(update(2, 2), "2", "2", status=SUCCEEDED)
    work = cluster.round()
    assert (work.verdicts, work.groups) == ((), {})


def test_a_stopped_job_is_not_rolled_out() -> None:
    cluster = rolling(update(1, 1), "1", "2 failed")
    cluster.change(cluster.jobs[0], stopped=True)
    work = cluster.round()
    assert len(work.actions) == 1, "it is stopped"
    assert (asked(work), stopped(work, cluster), work.verdicts) == ([], [], ())


# ---------------------------------------------------------------------------- canaries


def test_as_many_canaries_as_were_asked_for_and_then_it_waits() -> None:
    policy = update(0, 3, canaries=2)
    assert step(rolling(policy, "1", "1", "1", "1", promoted=False)) == ([], [0, 1])
    assert step(rolling(policy, "2", "1", "1", "1", promoted=False)) == ([], [1])
    cluster = rolling(policy, "2", "2", "1", "1", promoted=False)
    assert step(cluster) == ([], [])
    assert note_of(cluster.round()).halted == "its canaries are ready and wait to be promoted (raftsman promote)"
    assert step(rolling(policy, "2", "2", "1", "1", promoted=True)) == ([], [2, 3])


def test_it_waits_for_a_promotion_once_all_canaries_are_ready() -> None:
    policy = update(0, 3, canaries=2)
    for story in (("2", "2 sick", "1"), ("2", "1", "1")):
        assert note_of(rolling(policy, *story, promoted=False).round()).halted == "", story
    assert note_of(rolling(policy, "2", "2", "1", promoted=True).round()).halted == ""
    assert rolling(policy, "2", "2", "2", promoted=False).round().groups[(0, 0)].halted == "", "nobody waits"


def test_canaries_that_fit_into_the_surge_come_beside_and_nobody_goes() -> None:
    policy = update(2, 1, canaries=2)
    assert step(rolling(policy, "1", "1", "1", promoted=False)) == ([0, 1], [])
    assert step(rolling(policy, "1 + 2", "1 + 2", "1", promoted=False)) == ([], [])
    cluster = rolling(replace(policy, max_unavailable=0), "1 + 2", "1 + 2", "1", promoted=True)
    assert step(cluster) == ([], [0, 1])


def test_a_canary_for_which_there_is_a_successor_is_not_one_more_that_is_stopped() -> None:
    policy = update(1, 2, canaries=2)
    assert step(rolling(policy, *("1",) * 5, promoted=False, progress_ms=NOW)) == ([0], [1])


def test_canaries_that_do_not_fit_into_the_surge_replace_what_runs() -> None:
    policy = update(1, 1, canaries=2)
    assert step(rolling(policy, "1 + 2", "1", "1", promoted=False)) == ([], [0, 1])
    assert step(rolling(policy, "1", "1", "1", promoted=False, progress_ms=NOW)) == ([0], [1])


# ---------------------------------------------------------------------------- held at the version before


def held(policy: UpdateSpec, *story: str, newest: int = 2, **more: Any) -> Rolling:
    """Version 1 is the one before, at which all but canaries are held."""
    return rolling(policy, *story, newest=newest, base_version=1, promoted=False, **more)


def test_what_is_held_gets_canaries_and_no_more() -> None:
    assert step(held(update(0, 3, canaries=2), "1", "1", "1", "1"))[1] == [0, 1]
    assert step(held(update(0, 3, canaries=2), "2", "1", "1", "1"))[1] == [1]
    assert step(held(update(0, 3, canaries=2), "2", "2 sick", "1", "1"))[1] == []
    assert step(held(update(2, 0, canaries=2), "1", "1", "1")) == ([0, 1], [])
    assert step(held(update(2, 0, canaries=2), "1 + 2", "1", "1")) == ([1], [])


def test_a_group_that_has_no_canaries_waits_for_those_of_others() -> None:
    side = group_spec("side", update=update(0, 1, canaries=1))
    for before in (0, 1):
        cluster = rolling(None, "1", "1", more_groups=(side,), promoted=False, base_version=before)
        cluster.alloc(cluster.jobs[0], cluster.nodes[0], group=1, version=1)
        columns = cluster.view().allocations
        found = cluster.round().actions.positions.tolist()
        assert [int(columns.group[at]) for at in found] == [1], before


def test_canaries_of_which_fewer_are_left_than_were_asked_for_come_beside_where_those_do() -> None:
    """Scaled down to two since: all of the two that are left may surge."""
    for before in (0, 1):
        cluster = rolling(update(2, 1, canaries=3), "1 + 2", "1", promoted=False, base_version=before)
        assert step(cluster) == ([1], []), before


def test_what_is_of_a_third_version_becomes_a_canary_first_and_else_goes_back() -> None:
    """Version 2 was another one's canary; version 3 waits now."""
    cluster = held(update(1, 0, canaries=1), "1", "1", "2", newest=3)
    work = cluster.round()
    assert (asked(work), stopped(work, cluster)) == ([(3, 2, 2)], [])
    cluster = held(update(2, 0, canaries=1), "2", "1", "2", newest=3)
    work = cluster.round()
    assert (asked(work), stopped(work, cluster)) == ([(1, 2, 2), (3, 0, 2)], [])
    back = next(ask for ask in work.asks if ask.job.version == 1)
    assert back.at == 0
    assert note_of(work).missing == 2


def test_nobody_goes_back_to_what_cannot_be_placed() -> None:
    cluster = held(update(2, 0, canaries=1), "3", "1", "2", newest=3)
    assert asked(cluster.round()) == [(1, 2, 2)]
    job = cluster.jobs[0]
    main = group_spec(count=3, update=cluster.policy, variables={"TOKEN": "api-token"})
    cluster.change(job, specs=((1, replace(job.spec, groups=(main,))), *job.specs[1:]))
    assert asked(cluster.round()) == []


def test_what_goes_back_waits_until_the_surge_has_room() -> None:
    cluster = held(update(1, 0, canaries=1), "2", "1", "2", newest=3)
    assert asked(cluster.round()) == [(3, 0, 2)]
    cluster = held(update(1, 0, canaries=1), "1 + 3", "1", "2", newest=3)
    assert asked(cluster.round()) == []


def test_a_successor_back_at_the_version_before_follows_one_that_ended_there() -> None:
    """What one of the newest version came to says nothing of the version before, and the other way round."""
    policy = update(1, 0, canaries=1)
    cluster = held(policy, "3", "1", "2 + 1 failed", newest=3)
    assert asked(cluster.round()) == [], "it failed for good"
    cluster = held(policy, "1", "1", "2 + 1 failed", newest=3)
    assert asked(cluster.round()) == [(3, 2, 3)]
    cluster = held(policy, "3", "1", "2 + 3 failed", newest=3)
    assert asked(cluster.round()) == [(1, 2, 3)]
    cluster = held(policy, "3", "1", "2 + 1 unstarted", newest=3)
    work = cluster.round()
    assert asked(work) == [(1, 2, 3)]
    assert [ask.avoid for ask in work.asks] == [2]
    assert work.verdicts == ()


def test_what_ended_at_a_third_version_says_nothing_of_the_version_before() -> None:
    cluster = held(update(1, 0, canaries=1), "4", "1", "2 + 3 failed", newest=4)
    assert asked(cluster.round()) == [(1, 2, 3)]


def test_how_often_a_start_is_tried_again_is_said_by_the_version_that_is_tried() -> None:
    cluster = held(update(1, 0, canaries=1), "3", "1", "2 + 1 unstarted", newest=3)
    job = cluster.jobs[0]
    (main,) = job.spec.groups
    never = replace(job.specs[0][1], groups=(replace(main, restart=RestartPolicy(attempts=0)),))
    cluster.change(job, specs=((1, never), *job.specs[1:]))
    assert asked(cluster.round()) == []
    cluster = rolling(update(1, 0), "1 + 2 unstarted")
    job = cluster.jobs[0]
    (main,) = job.spec.groups
    cluster.change(job, spec=replace(job.spec, groups=(replace(main, restart=RestartPolicy(attempts=0)),)))
    assert verdict(cluster) == (False, "web/main/0 failed: it is failed")


def test_what_is_of_a_third_version_goes_also_where_a_group_has_no_canaries() -> None:
    assert step(held(update(0, 1, canaries=0), "1", "2 sick", "1", newest=3)) == ([], [1])
    cluster = held(update(0, 1, canaries=0), "1 gone", "2 sick", "1", newest=3)
    work = cluster.round()
    assert (asked(work), stopped(work, cluster)) == ([(1, 0, 2)], [(1, 1)])


def test_without_a_surge_what_is_of_a_third_version_is_stopped_first() -> None:
    assert step(held(update(0, 2, canaries=1), "1", "2", "2", newest=3))[1] == [1, 2]
    assert step(held(update(0, 1, canaries=1), "1", "2", "2", newest=3))[1] == [1]
    assert step(held(update(0, 1, canaries=1), "3", "1", "2", newest=3))[1] == [2]
    assert step(held(update(0, 1, canaries=1), "3", "1", "1", newest=3))[1] == []


@pytest.mark.parametrize(
    ("pair", "leaves"),
    [
        ("1 + 3", []),
        ("2 + 3", [(0, 1)]),
        ("2 + 3 sick", []),
        ("2 + 1", [(0, 1)]),
        ("2 + 1 sick", []),
        ("1 + 1", []),
        ("1 + 2", [(0, 2)]),
        ("1 + 2 sick", [(0, 2)]),
        ("1 sick + 2", []),
        ("1 sick + 2 sick", [(0, 2)]),
        ("3 + 1", [(0, 2)]),
        ("3 sick + 1", []),
        ("3 sick + 1 sick", [(0, 2)]),
    ],
)
def test_who_of_two_goes_where_a_group_is_held(pair: str, leaves: list[tuple[int, int]]) -> None:
    cluster = held(update(1, 0, canaries=1), pair, "1", "1", newest=3)
    assert stopped(cluster.round(), cluster) == leaves


# ---------------------------------------------------------------------------- verdicts


def verdict(cluster: Rolling) -> tuple[bool, str] | None:
    """(succeeded, reason)."""
    found = cluster.round().verdicts
    if not found:
        return None
    (one,) = found
    assert (one.uid, one.version) == ("uid-web", cluster.newest)
    assert one.succeeded or one.progress_ms == cluster.jobs[0].rollout.progress_ms  # type: ignore[union-attr]
    return one.succeeded, one.reason


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        (("2", "2"), (True, "")),
        (("2", "2 sick"), None),
        (("2", "1"), None),
        (("2", "1 + 2"), None),
        (("2", "2", "1"), None),
        (("2", ""), None),
        ((), (True, "")),
    ],
    ids=["all", "one is not ready", "one is outdated", "one is there yet", "a surplus", "one is missing", "of nothing"],
)
def test_it_has_succeeded_once_all_is_ready_and_nothing_older_left(
    story: tuple[str, ...], expected: tuple[bool, str] | None
) -> None:
    assert verdict(rolling(update(), *story, count=min(2, len(story)))) == expected


def test_without_a_promotion_it_has_not_succeeded() -> None:
    assert verdict(rolling(update(canaries=2), "2", "2", promoted=False)) is None


def test_what_is_left_of_a_group_that_is_gone_holds_up_the_success() -> None:
    cluster = rolling(update(), "2", more_groups=(group_spec("old"),))
    job = cluster.jobs[0]
    cluster.alloc(job, cluster.nodes[0], group=1, version=1)
    kept = replace(job.spec, groups=job.spec.groups[:1])
    cluster.change(job, spec=kept, group_versions=(2,), specs=(*job.specs[:-1], (2, kept)))
    assert verdict(cluster) is None
    cluster.rows[-1]["state"] = AllocState.STOPPED
    assert verdict(cluster) == (True, "")


def test_what_is_not_rolled_out_has_to_be_ready_too_and_other_jobs_have_not() -> None:
    cluster = rolling(update(), "2", more_groups=(group_spec("ring", count=2, gang=GangSpec()),))
    for ordinal in range(2):
        cluster.alloc(cluster.jobs[0], cluster.nodes[ordinal], ordinal, group=1)
    other = cluster.job("other")
    cluster.alloc(other, cluster.nodes[0], health=health.word(1, False))
    cluster.alloc(other, cluster.nodes[0], version=0)
    assert verdict(cluster) == (True, "")
    cluster.rows[1]["health"] = health.word(1, False)
    assert verdict(cluster) is None


def test_every_group_has_to_be_through() -> None:
    cluster = rolling(update(), "2", more_groups=(group_spec("side"),))
    assert verdict(cluster) is None
    cluster.alloc(cluster.jobs[0], cluster.nodes[0], group=1)
    assert verdict(cluster) == (True, "")


@pytest.mark.parametrize(
    ("story", "said"),
    [
        (("2 failed", "1"), "web/main/0 failed: it is failed"),
        (("2", "1 + 2 failed"), "web/main/1 failed: it is failed"),
        (("1 + 2 hopeless", "1"), "web/main/0 failed: it is failed"),
    ],
)
def test_an_instance_of_the_newest_version_that_fails_for_good_fails_it(story: tuple[str, ...], said: str) -> None:
    assert verdict(rolling(update(1, 0), *story)) == (False, said)


@pytest.mark.parametrize("story", [("1 failed", "2"), ("2 unstarted", "1"), ("2 gone", "1"), ("1 + 2 gone", "2")])
def test_what_comes_again_or_is_older_fails_nothing(story: tuple[str, ...]) -> None:
    assert verdict(rolling(update(1, 0), *story)) is None


def test_a_failure_says_what_the_agent_said() -> None:
    cluster = rolling(update(1, 0), "1 + 2 failed", "1")
    cluster.last(0)["reason"] = "exit code 3"
    assert verdict(cluster) == (False, "web/main/0 failed: exit code 3")


def test_what_lasted_before_it_failed_comes_again() -> None:
    cluster = rolling(update(1, 0), "2 failed", "1")
    cluster.last(0)["create_time_ms"] = LONG_AGO - STEADY_MS
    assert verdict(cluster) is None


def test_of_two_groups_the_first_that_failed_is_named() -> None:
    cluster = rolling(update(1, 0), "2", more_groups=(group_spec("side", update=update()),))
    cluster.alloc(cluster.jobs[0], cluster.nodes[0], group=1, state=AllocState.FAILED)
    assert verdict(cluster) == (False, "web/side/0 failed: it is failed")


# ---------------------------------------------------------------------------- deadlines


def timed(surge: int = 0, unavailable: int = 1, **more: Any) -> UpdateSpec:
    return update(surge, unavailable, progress_deadline_ms=30_000, **more)


@pytest.mark.parametrize(("waited_ms", "late"), [(29_999, False), (30_000, True)])
def test_without_progress_for_so_long_it_has_failed(waited_ms: int, late: bool) -> None:
    cluster = rolling(timed(), "2 sick", "1", progress_ms=NOW - waited_ms)
    assert verdict(cluster) == ((False, "nothing became ready for 30 s; web/main/0 is not ready") if late else None)
    assert cluster.round().wake_at_ms == (None if late else NOW + 1)


def test_without_a_deadline_it_waits_for_ever() -> None:
    cluster = rolling(update(), "2 sick", "1", progress_ms=1)
    assert (verdict(cluster), cluster.round().wake_at_ms) == (None, None)


@pytest.mark.parametrize(
    ("story", "said"),
    [
        (("2 starting", "1"), "; web/main/0 is starting"),
        (("2", "2 sick"), "; web/main/1 is not ready"),
        (("1 + 2 starting", "1"), "; web/main/0 is starting"),
        (("1 + 2 unstarted", "1"), "; web/main/0 is failed: no such image"),
        (("2", "1"), "; there is no room for the next"),
        (("2", ""), ""),
    ],
)
def test_it_says_what_was_in_the_way(story: tuple[str, ...], said: str) -> None:
    cluster = rolling(timed(1, 0), *story)
    for row in cluster.rows:
        if row["start_failed"]:
            row["reason"] = "no such image"
    assert verdict(cluster) == (False, f"nothing became ready for 30 s{said}")


def test_the_longest_deadline_of_what_is_not_through_counts_and_none_is_the_longest() -> None:
    def two(side: UpdateSpec, *, sick: bool) -> Rolling:
        cluster = rolling(timed(), "2 sick", more_groups=(group_spec("side", update=side),))
        more = {"health": health.word(1, False)} if sick else {}
        cluster.alloc(cluster.jobs[0], cluster.nodes[0], group=1, **more)
        return cluster

    longer = update(progress_deadline_ms=200_000)
    assert two(longer, sick=True).round().wake_at_ms == LONG_AGO + 200_000
    assert verdict(two(longer, sick=True)) is None
    assert verdict(two(longer, sick=False)) == (False, "nothing became ready for 30 s; web/main/0 is not ready")
    assert verdict(two(update(), sick=True)) is None
    assert verdict(two(update(), sick=False)) is not None


def test_what_is_ready_needs_no_deadline_though_something_older_takes_its_time_to_stop() -> None:
    """Or a drain's successor its time to be ready: it failed the rollout, and was taken back, with all of it ready."""
    cluster = rolling(timed(1, 0), "1 leaves + 2", "2")
    assert (verdict(cluster), cluster.round().wake_at_ms) == (None, None)
    assert verdict(rolling(timed(1, 0), "2 + 2 sick", "2")) == (True, "")


def test_the_earliest_moment_counts() -> None:
    cluster = rolling(timed(0, 1, min_ready_ms=5_000), "2", "2 sick", progress_ms=NOW - 28_000)
    cluster.last(0)["modify_time_ms"] = NOW - 4_000
    assert cluster.round().wake_at_ms == NOW + 1_000
    cluster.last(0)["modify_time_ms"] = NOW - 1_000
    assert cluster.round().wake_at_ms == NOW + 2_000


def test_what_is_old_is_not_named_and_who_waits_for_room_is_looked_for_in_every_group() -> None:
    assert verdict(rolling(timed(1, 0), "1 sick", "2 sick")) == (
        False,
        "nothing became ready for 30 s; web/main/1 is not ready",
    )
    cluster = rolling(timed(1, 0), "2", more_groups=(group_spec("side", update=timed(1, 0)),))
    row = cluster.alloc(cluster.jobs[0], cluster.nodes[0], group=1, version=1)
    assert verdict(cluster) == (False, "nothing became ready for 30 s; there is no room for the next")
    row.update(version=2, health=health.word(1, False))
    assert verdict(cluster) == (False, "nothing became ready for 30 s; web/side/0 is not ready")
    cluster = rolling(timed(1, 0), "2", "1")
    cluster.alloc(cluster.job("other"), cluster.nodes[0], health=health.word(1, False))
    assert verdict(cluster) == (False, "nothing became ready for 30 s; there is no room for the next")


def test_what_waits_for_a_promotion_has_no_deadline() -> None:
    policy = timed(0, 2, canaries=1)
    cluster = rolling(policy, "2", "1", "2 sick", promoted=False)
    assert (verdict(cluster), cluster.round().wake_at_ms) == (None, None)


@pytest.mark.parametrize(
    ("what", "since_ms"),
    [
        ({}, LONG_AGO),
        ({"create_time_ms": NOW - 7_000, "modify_time_ms": NOW - 3_000}, NOW - 7_000),
        ({"create_time_ms": NOW - 7_000, "modify_time_ms": NOW - 3_000, "failures": 1}, LONG_AGO),
        ({"create_time_ms": LONG_AGO - 1, "modify_time_ms": NOW - 3_000}, NOW - 3_000),
        ({"create_time_ms": LONG_AGO, "modify_time_ms": NOW - 3_000}, NOW - 3_000),
        ({"create_time_ms": LONG_AGO + 1, "modify_time_ms": NOW - 3_000}, LONG_AGO + 1),
    ],
    ids=["nothing since", "placed since", "tried again since", "was ready before", "placed with it", "placed after it"],
)
def test_a_canary_that_stops_being_ready_or_moves_has_all_of_the_time_anew(what: dict[str, Any], since_ms: int) -> None:
    policy = update(0, 1, canaries=1, progress_deadline_ms=200_000)
    cluster = rolling(policy, "2 sick", "1", promoted=False)
    cluster.last(0).update(what)
    assert verdict(cluster) is None
    assert cluster.round().wake_at_ms == since_ms + 200_000


def test_canaries_that_are_lost_or_drained_now_have_all_of_the_time_from_now_on() -> None:
    policy = update(0, 1, canaries=1, progress_deadline_ms=200_000)
    cluster = rolling(policy, "2 lost", "1", promoted=False)
    cluster.change(cluster.nodes[3], status=NodeStatus.LOST, status_time_ms=NOW - 5_000)
    assert cluster.round().wake_at_ms == NOW + 195_000, "kept there"
    cluster.change(cluster.jobs[0], spec=replace(cluster.jobs[0].spec, on_disconnect=OnDisconnect.REPLACE))
    assert cluster.round().wake_at_ms == NOW + 200_000, "given up in this round"
    drained = rolling(policy, "2 lost", "1", promoted=False)
    drained.change(drained.nodes[3], cordoned=True, draining=True)
    assert drained.round().wake_at_ms == NOW + 200_000


def test_whatever_else_happened_gives_canaries_no_more_time() -> None:
    policy = update(0, 2, canaries=2, progress_deadline_ms=200_000)
    due_ms = LONG_AGO + 200_000
    for story in (("2", "2 sick", "1"), ("2 sick", "1 sick", "1"), ("2 leaves", "1", "1"), ("2 gone", "1", "1")):
        cluster = rolling(policy, *story, promoted=False)
        for row in cluster.rows:
            if row["version"] == 1 or ("health" not in row and row["desired"] == Desired.RUN):
                row["modify_time_ms"] = NOW - 3_000
        assert cluster.round().wake_at_ms == due_ms, story
    cluster = rolling(policy, "2 lost", "2", "1", promoted=False)
    cluster.last(0)["state"] = AllocState.STOPPED
    cluster.change(cluster.nodes[3], status=NodeStatus.LOST, status_time_ms=NOW - 5_000)
    assert cluster.round().wake_at_ms == due_ms, "it had ended before its node was lost"


def test_the_canaries_of_every_group_have_their_time() -> None:
    policy = update(0, 1, canaries=1, progress_deadline_ms=200_000)
    cluster = rolling(policy, "2", more_groups=(group_spec("side", update=policy),), promoted=False)
    cluster.alloc(cluster.jobs[0], cluster.nodes[0], group=1, health=health.word(1, False), modify_time_ms=NOW - 3_000)
    assert cluster.round().wake_at_ms == NOW + 197_000


def test_once_they_are_promoted_only_progress_counts() -> None:
    cluster = rolling(update(0, 1, canaries=1, progress_deadline_ms=200_000), "2 sick", "1", promoted=True)
    cluster.last(0).update(create_time_ms=NOW, modify_time_ms=NOW)
    assert cluster.round().wake_at_ms == LONG_AGO + 200_000
