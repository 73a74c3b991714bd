"""Which of a group's missing instances are placed at a version that waits, and which at the version before.

Each case is one group of a job whose version 2 waits for its promotion; of every instance it says what became of it
last. Whole lives of such jobs: ``tests/properties/test_canaries.py``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import AllocState, RestartMode, RestartPolicy
from orchestrator.contract.rollouts import RolloutStatus, UpdateSpec
from orchestrator.reconcile.rounds import reconcile
from orchestrator.reconcile.work import GroupWork, Work
from orchestrator.state import views
from orchestrator.state.commands import DrainNode, JobSubmission, SetFeatureLevel, SubmitJobs
from orchestrator.state.features import HELD_VERSIONS
from tests.unit.state.kit import Kit, Placement, group, job, node

INSTEAD = UpdateSpec(canaries=1)
TWO = UpdateSpec(canaries=2)
BESIDE = UpdateSpec(canaries=1, max_surge=1, max_unavailable=0)
BESIDE_TWO = UpdateSpec(canaries=2, max_surge=2, max_unavailable=0)

RUNNING, PAUSED, FAILED = RolloutStatus.RUNNING, RolloutStatus.PAUSED, RolloutStatus.FAILED
ENDS = {"gone": AllocState.STOPPED, "sick": AllocState.FAILED, "later": AllocState.FAILED}


class Waits(Kit):
    """``story``: of each instance the words of its attempts, "" for none: the version, and how it ended (``1``, ``1
    gone``, ``2 sick``: for good, ``1 later``: tried again after a pause); of two that live, ``1 + 2``."""

    def __init__(self, update: UpdateSpec, story: tuple[str, ...], *, status: RolloutStatus, promoted: bool) -> None:
        super().__init__()
        self.ok(SetFeatureLevel(level=HELD_VERSIONS))
        self.register(node("n1", cpu=100_000, memory=100_000))
        restart = RestartPolicy(mode=RestartMode.DELAY)  # starts that fail are tried again
        api = replace(group("api", len(story), image="one"), update=update, restart=restart)
        self.submit_version(api)
        self.run(story, 1)
        self.submit_version(replace(api, tasks=group("api", image="two").tasks))
        known = self.state.jobs["u"]
        assert known.rollout is not None
        assert not known.rollout.promoted
        # Whatever has become of more of them than may be now: while it was promoted they were placed.
        free = replace(known, rollout=replace(known.rollout, promoted=True))
        self.state.put_job(free)
        self.run(story, 2)
        stands = replace(known.rollout, status=status, promoted=promoted)
        self.state.put_job(replace(self.state.jobs["u"], rollout=stands))

    def submit_version(self, api: object) -> None:
        self.ok(SubmitJobs(jobs=(JobSubmission(spec=job("web", api), uid="u", remember=True),)))  # type: ignore[arg-type]

    def run(self, story: tuple[str, ...], version: int) -> None:
        for ordinal, attempts in enumerate(story):
            for attempt in attempts.split(" + "):
                said, _, end = attempt.partition(" ")
                if said != str(version):
                    continue
                alloc = f"web/api/{ordinal}"
                answer = self.plan(Placement(alloc, "n1"))
                assert answer.placed == 1, answer.rejected
                self.observe(alloc, AllocState.RUNNING)
                if end:
                    self.observe(alloc, ENDS[end], start_failed=end == "later")

    def round(self) -> Work:
        return reconcile(views.cluster_view(self.state), self.now_ms)


def asked(work: Work) -> dict[int, list[int]]:
    """Ordinals that are to be placed now, by version."""
    found: dict[int, list[int]] = {}
    for ask in work.asks:
        found.setdefault(ask.job.version, []).extend(ask.ordinals.tolist())
    return {version: sorted(ordinals) for version, ordinals in found.items()}


def waits(
    update: UpdateSpec, *story: str, status: RolloutStatus = RUNNING, promoted: bool = False
) -> tuple[dict[int, list[int]], GroupWork]:
    """Who is placed at which version, and what is said of the group."""
    work = Waits(update, story, status=status, promoted=promoted).round()
    return asked(work), work.groups.get((0, 0), GroupWork())


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        (("", "", ""), {2: [0], 1: [1, 2]}),
        (("1", "1 gone", ""), {2: [1], 1: [2]}),
        (("1", "", "1 gone"), {2: [2], 1: [1]}),
        (("1 gone", "1 sick", "1"), {2: [1], 1: [0]}),
        (("1 gone", "1 later", "1"), {2: [1], 1: [0]}),
        (("1 gone", "2", "1 gone"), {1: [0, 2]}),
        (("", "2", ""), {1: [0, 2]}),
        (("1 gone", "2 gone", ""), {2: [1], 1: [0, 2]}),
        (("2 gone", "2 gone", "1"), {2: [0], 1: [1]}),
        (("2 gone", "2", "1"), {1: [0]}),
        (("2", "2 sick", "1"), {1: [1]}),
    ],
    ids=[
        "nothing runs: the first", "who has run before who never did", "whoever that is", "who failed for good first",
        "who waits to be tried again", "there is a canary", "and it never ran", "a canary comes back as one",
        "one of two comes back as one", "the canary that is left is enough",
        "nor does one that failed keep its place beside it",
    ],
)  # fmt: skip
def test_in_place_of_what_runs_whoever_is_missing_is_a_canary(
    story: tuple[str, ...], expected: dict[int, list[int]]
) -> None:
    found, note = waits(INSTEAD, *story)
    assert found == expected
    assert note.missing == sum(len(ordinals) for ordinals in expected.values())
    assert note.seated == 1


@pytest.mark.parametrize(
    ("story", "expected", "seated"),
    [
        (("", "", ""), {2: [0], 1: [1, 2]}, 1),
        (("1 gone", "1", "1"), {1: [0]}, 0),
        (("", "1", "1"), {1: [0]}, 0),
        (("", "1 gone", ""), {1: [0, 1, 2]}, 0),
        (("", "2 gone", ""), {1: [0, 1, 2]}, 0),
        (("", "1 + 2", "1"), {1: [0]}, 1),
        (("1 + 2", "2 gone", "1 gone"), {1: [1, 2]}, 1),
        (("1 + 2 gone", "1", ""), {1: [2]}, 0),
    ],
    ids=[
        "of nothing the first", "what ran comes back as it was", "what is missing beside others is as they are",
        "who ended is first", "also where it was the canary", "there is one beside", "a second canary goes back",
        "one that ended beside is none",
    ],
)  # fmt: skip
def test_beside_what_runs_the_version_before_is_whole_first(
    story: tuple[str, ...], expected: dict[int, list[int]], seated: int
) -> None:
    found, note = waits(BESIDE, *story)
    # Besides, who runs the version before may get a canary beside: that is the rollout's.
    beside = {ordinal for ordinal, text in enumerate(story) if text.split(" + ")[0] == "1"}
    placed = {version: [one for one in rows if one not in beside] for version, rows in found.items()}
    assert {version: rows for version, rows in placed.items() if rows} == expected
    assert note.seated == seated


def test_beside_what_runs_who_failed_there_becomes_the_canary_and_no_more_than_there_may_be() -> None:
    found, note = waits(BESIDE, "1 sick", "1 sick", "1")
    assert (found[2], note.seated, note.failed) == ([0], 1, 1)
    found, note = waits(BESIDE, "1 later", "1", "1")
    assert (found[2], note.seated, note.waiting) == ([0], 1, 0)
    found, note = waits(BESIDE_TWO, "1 sick", "1 later", "1 sick")
    assert (found[2], note.seated, note.failed) == ([0, 1], 2, 1)


def test_no_canary_is_made_of_nothing_while_anything_runs_the_version_before() -> None:
    for story in (("1", "2", ""), ("2", "1", "")):
        found, note = waits(BESIDE_TWO, *story)
        assert (2 in found.get(1, []), note.seated) == (True, 1), story


@pytest.mark.parametrize("update", [INSTEAD, BESIDE])
def test_who_failed_at_the_newer_version_comes_back_at_the_version_before_where_that_is_due(
    update: UpdateSpec,
) -> None:
    """In place it is still the canary, and stays failed; beside, the version before is placed at once."""
    found, note = waits(update, "2 sick", "1", "1")
    if update is BESIDE:
        assert (found.get(1), note.failed) == ([0], 0)
    else:
        assert (found, note.failed) == ({}, 1)


def test_as_many_canaries_as_are_asked_for() -> None:
    assert waits(TWO, "", "", "")[0] == {2: [0, 1], 1: [2]}
    assert waits(TWO, "2", "", "")[0] == {2: [1], 1: [2]}
    assert waits(TWO, "2 gone", "2", "2 gone")[0] == {2: [0], 1: [2]}


@pytest.mark.parametrize("status", [PAUSED, FAILED])
def test_no_canary_is_made_while_the_rollout_does_not_go_on_but_one_that_was_comes_back(status: RolloutStatus) -> None:
    assert waits(INSTEAD, "", "1 gone", "1", status=status)[0] == {1: [0, 1]}
    assert waits(INSTEAD, "1 sick", "1", "1", status=status)[0] == {}
    assert waits(INSTEAD, "2 gone", "1 gone", "1", status=status)[0] == {2: [0], 1: [1]}
    assert waits(BESIDE, "", "", "1 sick", status=status)[0] == {1: [0, 1]}


@pytest.mark.parametrize("status", [PAUSED, FAILED])
def test_what_was_promoted_comes_back_at_its_own_version_and_what_is_new_at_the_version_before(
    status: RolloutStatus,
) -> None:
    found, note = waits(INSTEAD, "2 gone", "2", "1 gone", "1", "2 gone", "", status=status, promoted=True)
    assert found == {2: [0, 4], 1: [2, 5]}
    assert note.seated == 3


def test_what_is_above_the_count_is_no_canary() -> None:
    world = Waits(INSTEAD, ("1", "1", "2"), status=RUNNING, promoted=False)
    (api,) = world.state.jobs["u"].spec.groups
    world.submit_version(replace(api, count=2))
    work = world.round()
    assert work.groups[(0, 0)].seated == 0


def test_a_canary_counts_though_the_successor_of_a_version_that_was_taken_back_lives_beside_it() -> None:
    """Version 2 runs, version 3 came beside it, version 4 is what version 2 was; all of them wait."""
    world = Waits(BESIDE, ("2", ""), status=RUNNING, promoted=True)
    (two,) = world.state.jobs["u"].spec.groups
    world.submit_version(replace(two, tasks=group("api", image="three").tasks))
    world.run(("3", ""), 3)
    world.submit_version(two)
    known = world.state.jobs["u"]
    assert known.rollout is not None
    stands = replace(known.rollout, promoted=False, base_version=1)
    first = (1, replace(known.spec, groups=(replace(two, tasks=group("api", image="one").tasks),)))
    specs = tuple(sorted({1: first[1], **dict(known.specs)}.items()))
    world.state.put_job(replace(known, rollout=stands, specs=specs))
    assert len(world.attempts("web/api/0")) == 2
    assert world.round().groups[(0, 0)].seated == 1


def test_every_group_has_its_own_canaries() -> None:
    kit = Kit()
    kit.ok(SetFeatureLevel(level=HELD_VERSIONS))
    kit.register(node("n1", cpu=100_000, memory=100_000))
    for image in ("one", "two"):
        groups = [replace(group(name, 2, image=image), update=INSTEAD) for name in ("api", "db", "web")]
        kit.ok(SubmitJobs(jobs=(JobSubmission(spec=job("web", *groups), uid="u", remember=True),)))
        if image == "one":
            kit.plan(*(Placement(f"web/{name}/{ordinal}", "n1") for name in ("db", "web") for ordinal in (0, 1)))
    kit.observe("web/db/1", AllocState.STOPPED)
    work = reconcile(views.cluster_view(kit.state), kit.now_ms)
    found = {(ask.group, ask.job.version): ask.ordinals.tolist() for ask in work.asks}
    assert found == {(0, 2): [0], (0, 1): [1], (1, 2): [1]}


def test_two_attempts_of_the_version_before_are_no_canary() -> None:
    """One comes beside the other while a node is drained."""
    world = Waits(BESIDE_TWO, ("1", "1"), status=RUNNING, promoted=False)
    world.register(node("n2", cpu=100_000, memory=100_000))
    world.ok(DrainNode(node_id="n1"))
    assert world.plan(Placement("web/api/0", "n2", version=1)).placed == 1
    assert len(world.attempts("web/api/0")) == 2
    assert world.round().groups[(0, 0)].seated == 0
