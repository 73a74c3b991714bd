"""Canaries that wait for their promotion: only they run the newer version, whatever happens to the others meanwhile.

One subject at a time, each from its story; ``test_lives`` holds whole lives of such jobs against the same rule.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from orchestrator import plan
from orchestrator.contract.model import (
    AllocState,
    Desired,
    GangSpec,
    GroupSpec,
    JobSpec,
    JobType,
    OnDisconnect,
    Resources,
)
from orchestrator.contract.rollouts import Rollout, RolloutAction, RolloutStatus, UpdateSpec
from orchestrator.state import views
from orchestrator.state.apply import apply
from orchestrator.state.commands import (
    Applied,
    ApplyPlan,
    Collect,
    CordonNode,
    DrainNode,
    EndRollouts,
    Entry,
    JobSubmission,
    MarkNodes,
    NodeMark,
    PlanAnswer,
    Rejected,
    RestartJob,
    RollbackJob,
    RolloutVerdict,
    ScaleJob,
    SetFeatureLevel,
    SteerRollout,
    SubmitJobs,
    WriteVariable,
)
from orchestrator.state.features import HELD_VERSIONS
from orchestrator.state.invariants import check
from orchestrator.state.snapshot import capture, image_hash, restore
from orchestrator.state.state import new_state
from orchestrator.state.status import job_status
from tests import listed
from tests.properties.test_rollouts import World

BESIDE = UpdateSpec(max_surge=1, max_unavailable=0, canaries=1, progress_deadline_ms=30_000)
INSTEAD = UpdateSpec(max_surge=0, max_unavailable=1, canaries=1, progress_deadline_ms=30_000)
BOTH = pytest.mark.parametrize("update", [BESIDE, INSTEAD], ids=["beside", "instead"])


class Waiting(World):
    """A canary of version 2 is ready, the others of four run version 1."""

    def __init__(self, update: UpdateSpec, count: int = 4, *, level: int = HELD_VERSIONS, rest: bool = True) -> None:
        super().__init__(6, update, count)
        self.do(SetFeatureLevel(level=level))
        self.submit(0)
        self.settle()
        self.submit(1)
        if rest:
            self.settle(30)

    def submit_spec(self, spec: JobSpec) -> None:
        self.done(self.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="u", remember=True, in_place=True),))))

    def settle(self, rounds: int = 200) -> None:
        """Until nothing moves for some rounds; a rollout may wait."""
        still = 0
        for _ in range(rounds):
            self.now_ms += 1_000
            before = self.state.index
            self.lead()
            for row in self.rows():
                self.obey(row)
            still = still + 1 if self.state.index == before else 0
            if still == 3:
                return

    def lead(self, *, stale: bool = False) -> bool:
        did = super().lead(stale=stale)
        assert check(self.state) == []
        return did

    def versions(self, group: str = "api") -> dict[int, int]:
        """How many live, by version."""
        gid = self.state.ordinals.gids[(self.job.slot, group)]
        table = self.state.table
        return dict(Counter(int(table.version[row]) for row in self.rows() if int(table.gid[row]) == gid))

    def images(self, group: str = "api") -> dict[str, int]:
        found: Counter[str] = Counter()
        for one in listed.allocations(self.state, live_only=True):
            if one.id.group == group:
                spec = next(spec for version, spec in self.job.specs if version == one.job_version)
                found[next(of for of in spec.groups if of.name == group).tasks[0].image] += 1
        return dict(found)

    @property
    def rollout(self) -> Rollout:
        rollout = self.job.rollout
        assert rollout is not None
        return rollout

    def stands(self) -> RolloutStatus:
        return self.rollout.status

    def steer(self, action: RolloutAction) -> None:
        self.done(self.do(SteerRollout(namespace="default", name="web", action=action)))

    def row(self, image: str, group: str = "api") -> int:
        """A live one that runs this image."""
        for row in self.rows():
            one = views.allocation(self.state, row)
            spec = dict(self.job.specs)[one.job_version]
            if one.id.group == group and next(of for of in spec.groups if of.name == group).tasks[0].image == image:
                return row
        raise AssertionError(f"nothing runs {image}")

    def lose(self, node: str) -> None:
        self.done(self.do(MarkNodes(lost=(self.mark(node),))))

    def back(self, node: str) -> None:
        self.done(self.do(MarkNodes(back=(self.mark(node),))))

    def mark(self, node: str) -> NodeMark:
        return NodeMark(node_id=node, register_index=self.state.nodes[node].register_index)


@BOTH
def test_what_a_lost_node_had_comes_back_at_the_version_before(update: UpdateSpec) -> None:
    world = Waiting(update)
    assert world.images()["web:1"] == 1
    for node in ("n1", "n2"):
        world.lose(node)
        world.settle()
        world.back(node)
        world.settle()
        assert world.images() == {"web:1": 1, "web:0": 4 if update is BESIDE else 3}
    assert not world.rollout.promoted and world.stands() is RolloutStatus.RUNNING


def test_where_everything_was_on_the_lost_node_the_rollout_has_not_succeeded() -> None:
    world = Waiting(INSTEAD, rest=False)
    for row in world.rows():
        assert world.state.table.version[row] == 1
    for node in ("n1", "n2"):
        world.lose(node)
    world.lead()
    assert not world.rows()
    world.back("n1")
    world.settle()
    assert world.images() == {"web:0": 3, "web:1": 1}
    assert not world.rollout.promoted and world.stands() is RolloutStatus.RUNNING
    world.steer(RolloutAction.PROMOTE)
    world.settle()
    assert world.images() == {"web:1": 4} and world.stands() is RolloutStatus.SUCCEEDED
    assert [version for version, _ in world.job.specs][-1] == 2 and world.rollout.base_version == 0


@pytest.mark.parametrize("count", [1, 2])
def test_canaries_of_all_there_are_wait_for_their_promotion_too(count: int) -> None:
    world = Waiting(replace(INSTEAD, canaries=count), count)
    assert world.images() == {"web:1": count}
    assert not world.rollout.promoted and world.stands() is RolloutStatus.RUNNING
    verdict = RolloutVerdict(uid=world.job.uid, version=2, succeeded=True)
    world.do(EndRollouts(verdicts=(verdict,)))
    assert world.stands() is RolloutStatus.RUNNING, "another peer said so"
    world.steer(RolloutAction.PROMOTE)
    world.settle()
    assert world.stands() is RolloutStatus.SUCCEEDED


@BOTH
def test_more_instances_are_of_the_version_before_and_fewer_leave_the_canary(update: UpdateSpec) -> None:
    world = Waiting(update)
    world.done(world.do(ScaleJob(namespace="default", name="web", group="", count=7)))
    world.count = 7
    world.settle()
    old = 7 if update is BESIDE else 6
    assert world.images() == {"web:0": old, "web:1": 1} and not world.rollout.promoted
    world.bounded = False
    world.done(world.do(ScaleJob(namespace="default", name="web", group="", count=0)))
    world.settle()
    assert not world.rows()
    world.done(world.do(ScaleJob(namespace="default", name="web", group="", count=3)))
    world.settle()
    assert world.images() == {"web:0": 3 if update is BESIDE else 2, "web:1": 1}
    assert world.job.version == 5 and world.rollout.base_version == 1


@BOTH
@pytest.mark.parametrize("count", [2, 6])
def test_the_count_of_a_version_holds_at_once_and_its_content_waits(update: UpdateSpec, count: int) -> None:
    world = Waiting(update, rest=False)
    world.count, world.bounded = count, False
    world.submit(2)
    world.settle()
    assert world.images() == {"web:0": count if update is BESIDE else count - 1, "web:2": 1}


@BOTH
def test_a_drain_moves_what_is_of_the_version_before_as_that(update: UpdateSpec) -> None:
    world = Waiting(update)
    fewest = world.ready()
    world.done(world.do(DrainNode(node_id="n1")))
    for _ in range(60):
        world.now_ms += 1_000
        world.lead()
        fewest = min(fewest, world.ready())
        for row in world.rows():
            world.obey(row)
    table = world.state.table
    assert {int(table.node[row]) for row in world.rows()} == {world.state.nodes["n2"].slot}
    found = world.images()
    assert found["web:1"] == 1 and found["web:0"] >= 3
    assert fewest == (4 if update is BESIDE else 3), "successors came first where there may be any"
    assert not world.rollout.promoted


@BOTH
def test_a_canary_that_is_lost_comes_back_as_one(update: UpdateSpec) -> None:
    world = Waiting(update)
    canary = world.row("web:1")
    world.observe(canary, AllocState.STOPPED)
    world.settle()
    assert world.images()["web:1"] == 1 and world.stands() is RolloutStatus.RUNNING
    node = world.state.node_at[int(world.state.table.node[world.row("web:1")])].spec.id
    world.lose(node)
    world.settle()
    assert world.images()["web:1"] == 1 and not world.rollout.promoted


def test_one_instance_whose_node_is_lost_with_its_canary_comes_back_at_the_version_before_first() -> None:
    world = Waiting(BESIDE, 1)
    world.done(world.do(CordonNode(node_id="n1", cordoned=False)))
    for node in ("n1", "n2"):
        world.lose(node)
    world.lead()
    world.back("n2")
    world.lead()
    assert world.images() == {"web:0": 1}
    world.settle()
    assert world.images() == {"web:0": 1, "web:1": 1}


@BOTH
def test_what_fails_for_good_at_the_version_before_becomes_the_canary_or_stays_failed(update: UpdateSpec) -> None:
    world = Waiting(update, rest=False)
    world.observe(world.row("web:0"), AllocState.FAILED)
    world.settle()
    assert world.images() == {"web:1": 1, "web:0": 3}
    old = world.row("web:0")
    name = views.allocation(world.state, old).id
    world.observe(old, AllocState.FAILED)
    world.settle()
    assert world.images() == {"web:1": 1, "web:0": 2}, "what failed at once does so again"
    (said,) = plan.explain(views.cluster_view(world.state), world.job.uid, world.now_ms)
    assert "1 failed for good" in said.summary and said.pending == 0
    (group,) = job_status(world.state, world.job).groups
    assert (group.running, group.failed, group.pending, group.updated, group.outdated) == (3, 1, 0, 1, 2)
    world.steer(RolloutAction.PROMOTE)
    world.settle()
    assert world.images() == {"web:1": 4} and name in {
        one.id for one in listed.allocations(world.state, live_only=True)
    }


def test_starts_that_fail_at_the_version_before_wait_longer_and_longer() -> None:
    world = Waiting(INSTEAD)
    for _ in range(2):
        world.observe(world.row("web:0"), AllocState.FAILED, start_failed=True)
        index = world.state.index
        assert not world.lead() and world.state.index == index, "it is tried again after a pause"
        (said,) = plan.explain(views.cluster_view(world.state), world.job.uid, world.now_ms)
        assert "1 could not start" in said.summary and said.pending == 1
        world.now_ms += 300_000
        world.lead()
        assert world.images() == {"web:1": 1, "web:0": 3}
        for row in world.rows():
            world.obey(row)


def test_a_group_that_is_new_has_its_canaries_and_one_that_is_gone_stays_until_the_promotion() -> None:
    world = Waiting(BESIDE, 2, rest=False)
    (api,) = world.spec().groups
    former = replace(api, name="old", update=None, count=2)
    world.submit_spec(replace(world.spec(), groups=(api, former)))
    world.steer(RolloutAction.PROMOTE)
    world.bounded = False
    world.settle()
    assert world.images("old") == {"web:1": 2} and world.stands() is RolloutStatus.SUCCEEDED

    world.image = 2
    (api,) = world.spec().groups
    new, later = replace(api, name="new", count=3), replace(api, name="later", update=None)
    world.submit_spec(replace(world.spec(), groups=(new, later, api)))
    world.settle()
    assert world.images() == {"web:1": 2, "web:2": 1}
    assert world.images("new") == {"web:2": 1} and world.images("later") == {}
    assert world.images("old") == {"web:1": 2}
    said = {one.group: one for one in plan.explain(views.cluster_view(world.state), world.job.uid, world.now_ms)}
    assert said["new"].pending == 2 and said["later"].pending == 2
    assert "2 wait until version 4 is promoted (raftsman promote web)" in said["later"].summary
    waiting = plan.pending(views.cluster_view(world.state), world.now_ms)
    assert waiting == {("default", "web", "new"): 2, ("default", "web", "later"): 2}

    for node in ("n1", "n2"):  # even what is no part of the newest version comes back
        world.lose(node)
        world.settle()
        world.back(node)
        world.settle()
    assert world.images("old") == {"web:1": 2} and world.images() == {"web:1": 2, "web:2": 1}
    world.steer(RolloutAction.PROMOTE)
    world.settle()
    assert world.images("old") == {} and world.images() == {"web:2": 2}
    assert world.images("new") == {"web:2": 3} and world.images("later") == {"web:2": 2}
    assert world.stands() is RolloutStatus.SUCCEEDED


def test_a_gang_of_the_job_stays_as_it_is_until_the_promotion_and_comes_back_so() -> None:
    world = Waiting(BESIDE, 2, rest=False)
    world.bounded = False
    (api,) = world.spec().groups
    gang = GroupSpec(name="gang", count=2, tasks=api.tasks, gang=GangSpec())
    world.submit_spec(replace(world.spec(), groups=(api, gang)))
    world.steer(RolloutAction.PROMOTE)
    world.settle()
    assert world.images("gang") == {"web:1": 2}
    world.image = 2
    (api,) = world.spec().groups
    world.submit_spec(replace(world.spec(), groups=(api, replace(gang, count=3, tasks=api.tasks))))
    world.settle()
    assert world.images("gang") == {"web:1": 2} and world.images() == {"web:1": 2, "web:2": 1}
    world.observe(world.row("web:1", "gang"), AllocState.STOPPED)
    world.settle()
    assert world.images("gang") == {"web:1": 2}
    world.steer(RolloutAction.PROMOTE)
    world.settle()
    assert world.images("gang") == {"web:2": 3} and world.stands() is RolloutStatus.SUCCEEDED


@pytest.mark.parametrize("held", [RolloutAction.PAUSE, None], ids=["paused", "failed"])
def test_a_rollout_that_does_not_go_on_does_not_spread(held: RolloutAction | None) -> None:
    world = Waiting(replace(INSTEAD, canaries=0), rest=False)
    for _ in range(20):
        if world.images().get("web:1") == 2 and world.ready() == 4:
            break
        world.lead()
        for row in world.rows():
            world.obey(row)
    if held is not None:
        world.steer(held)
    else:
        verdict = RolloutVerdict(
            uid=world.job.uid, version=2, succeeded=False, progress_ms=world.rollout.progress_ms, reason="no"
        )
        world.do(EndRollouts(verdicts=(verdict,)))
        assert world.stands() is RolloutStatus.FAILED
    world.bounded = False
    assert world.images() == {"web:0": 2, "web:1": 2}
    for image in ("web:0", "web:1", "web:0"):
        world.observe(world.row(image), AllocState.STOPPED)
        world.settle()
        assert world.images() == {"web:0": 2, "web:1": 2}
    world.done(world.do(ScaleJob(namespace="default", name="web", group="", count=6)))
    world.count = 6
    world.settle()
    assert world.images() == {"web:0": 4, "web:1": 2}
    world.steer(RolloutAction.RESUME)
    world.settle()
    assert world.images() == {"web:1": 6} and world.stands() is RolloutStatus.SUCCEEDED


def test_another_version_while_canaries_wait_takes_the_place_of_theirs() -> None:
    world = Waiting(replace(BESIDE, canaries=2, max_surge=2))
    assert world.images() == {"web:0": 4, "web:1": 2}
    world.update = replace(BESIDE, canaries=1, max_surge=2)
    world.submit(2)
    world.settle()
    assert world.images() == {"web:0": 4, "web:2": 1} and world.rollout.base_version == 1
    world.submit(0)
    world.settle()
    assert world.images() == {"web:0": 4} and world.stands() is RolloutStatus.SUCCEEDED


def test_a_stray_canary_without_room_beside_goes_back_by_being_stopped_first() -> None:
    world = Waiting(replace(INSTEAD, canaries=3))
    assert world.images() == {"web:0": 1, "web:1": 3}
    world.update = INSTEAD
    world.submit(2)
    world.settle()
    assert world.images() == {"web:0": 3, "web:2": 1}


def test_a_change_of_another_group_does_not_promote_what_waits() -> None:
    """It made the rollout one without canaries, and everything followed."""
    world = Waiting(replace(BESIDE, auto_revert=True))
    world.bounded = False
    (api,) = world.spec().groups
    plain = GroupSpec(name="plain", tasks=api.tasks)
    world.submit_spec(replace(world.spec(), groups=(api, plain)))
    world.settle()
    assert not world.rollout.promoted and world.images() == {"web:0": 4, "web:1": 1}
    assert world.images("plain") == {}
    world.observe(world.row("web:1"), AllocState.FAILED)
    world.settle()
    assert world.images() == {"web:0": 4} and world.rollout.reverts == 3, "its canary is still a canary"


def test_a_restart_waits_for_the_promotion_and_a_rollback_ends_the_waiting() -> None:
    world = Waiting(BESIDE)
    refused = world.do(RestartJob(namespace="default", name="web"))
    assert isinstance(refused, Rejected) and refused.reason == "FAILED_PRECONDITION"
    assert "raftsman promote web" in refused.message
    before = {int(world.state.table.attempt[row]) for row in world.rows()}
    world.done(world.do(RollbackJob(namespace="default", name="web")))
    world.settle()
    assert world.images() == {"web:0": 4} and world.stands() is RolloutStatus.SUCCEEDED
    assert {int(world.state.table.attempt[row]) for row in world.rows()} <= before
    world.done(world.do(RestartJob(namespace="default", name="web")))


@BOTH
def test_a_canary_that_fails_takes_only_itself_back(update: UpdateSpec) -> None:
    world = Waiting(replace(update, auto_revert=True))
    world.observe(world.row("web:1"), AllocState.FAILED)
    world.settle()
    assert world.images() == {"web:0": 4} and world.job.version == 3
    assert world.stands() is RolloutStatus.SUCCEEDED and world.rollout.reverts == 2


def test_a_version_of_another_type_has_only_its_canaries() -> None:
    world = Waiting(BESIDE, 3, rest=False)
    world.bounded, world.update = False, None
    world.submit_spec(replace(world.spec(), type=JobType.BATCH))
    for _ in range(40):
        world.now_ms += 1_000
        world.lead()
        for row in world.rows():
            world.obey(row)
    assert world.images() == {"web:1": 3} and world.job.rollout is None
    world.update = BESIDE
    world.submit(2)
    world.settle()
    assert world.images() == {"web:1": 3, "web:2": 1}, "what runs goes on"
    for row in world.rows():
        if world.state.table.version[row] == 3:
            world.observe(row, AllocState.COMPLETE)
    world.settle()
    assert world.images() == {"web:2": 1}, "and its work is not done twice"
    world.steer(RolloutAction.PROMOTE)
    world.settle()
    assert world.images() == {"web:2": 3}


def test_the_version_before_needs_what_it_needs() -> None:
    """Constraints, variables and room are judged by the version that is placed."""
    world = Waiting(INSTEAD, rest=False)
    world.image = 2
    (api,) = world.spec().groups
    task = replace(api.tasks[0], variables=(("K", "missing"),), resources=Resources(cpu_millis=60, memory_mib=20))
    world.submit_spec(replace(world.spec(), groups=(replace(api, tasks=(task,)),)))
    world.settle()
    assert world.images() == {"web:0": 4}, "nobody gives way for a canary that cannot be placed"
    (said,) = plan.explain(views.cluster_view(world.state), world.job.uid, world.now_ms)
    assert "the rollout is halted: variable missing missing; 4 still run the version before" in said.summary
    world.observe(world.row("web:0"), AllocState.STOPPED)
    world.settle()
    table = world.state.table
    assert {int(table.cpu_millis[row]) for row in world.rows()} == {50}


def test_stale_plans_spread_nothing() -> None:
    """Two who believe to lead, and a promotion in between."""
    world = Waiting(INSTEAD)
    world.observe(world.row("web:0"), AllocState.STOPPED)
    (held,) = plan.decide(views.cluster_view(world.state), world.now_ms).plans
    newest = ApplyPlan(
        based_on=held.based_on,
        jobs=held.jobs,
        nodes=held.nodes,
        reasons=held.reasons,
        actions=held.actions,
        placements=replace(held.placements, version=held.placements.version + 1),
    )
    outcome = world.do(newest)
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert outcome.answer.placed == 0 and "waits for its promotion: 1 of 4" in outcome.answer.rejected[0]
    world.steer(RolloutAction.PROMOTE)
    outcome = world.do(held)
    assert isinstance(outcome, Applied) and isinstance(outcome.answer, PlanAnswer)
    assert outcome.answer.placed == 0 and "another version by now" in outcome.answer.rejected[0]
    world.settle()
    assert world.images() == {"web:1": 4}


def test_the_version_before_is_kept_for_as_long_as_it_may_be_placed_and_no_longer() -> None:
    world = Waiting(replace(INSTEAD, canaries=4))
    assert world.images() == {"web:1": 4}, "no row that lives names the version before"
    world.now_ms += 30 * 24 * 3600 * 1000
    world.do(Collect())
    assert not [row for row in world.state.table.used().tolist() if world.state.table.version[row] == 1]
    assert [version for version, _ in world.job.specs] == [1, 2]
    world.state = restore(capture(world.state))
    assert [version for version, _ in world.job.specs] == [1, 2] and check(world.state) == []
    world.bounded = False
    world.done(world.do(ScaleJob(namespace="default", name="web", group="", count=6)))
    world.settle()
    assert world.images() == {"web:1": 4, "web:0": 2}
    world.steer(RolloutAction.PROMOTE)
    world.settle()
    world.now_ms += 30 * 24 * 3600 * 1000
    world.do(Collect())
    assert [version for version, _ in world.job.specs] == [2, 3], "the canaries are of version 2"


def test_before_all_peers_know_of_it_everything_is_as_it_was() -> None:
    world = Waiting(INSTEAD, level=HELD_VERSIONS - 1)
    assert world.rollout.base_version == 0
    world.observe(world.row("web:0"), AllocState.STOPPED)
    world.settle()
    assert world.images() == {"web:0": 2, "web:1": 2}


def test_a_log_with_canaries_makes_the_same_state_on_every_peer() -> None:
    entries: list[Entry] = []

    class Told(Waiting):
        def do(self, command: object) -> object:  # type: ignore[override]
            entries.append(
                Entry(identity="t", request_id="", digest=b"", time_ms=self.now_ms, command=command)  # type: ignore[arg-type]
            )
            return apply(self.state, entries[-1])

    world = Told(BESIDE)
    world.lose("n1")
    world.settle()
    again = new_state()
    for entry in entries:
        apply(again, entry)
        again = restore(capture(again))
    assert image_hash(capture(again)) == image_hash(capture(world.state))


def test_the_deadline_runs_for_a_lost_canary_that_finds_no_room() -> None:
    """Its node is lost and stays so: that began anew at every look."""
    world = Waiting(INSTEAD)
    canary = world.row("web:1")
    node = world.state.node_at[int(world.state.table.node[canary])].spec.id
    for other in ("n1", "n2"):
        if other != node:
            world.done(world.do(CordonNode(node_id=other, cordoned=True)))
    world.lose(node)
    world.lead()
    assert world.images() == {}
    world.now_ms += 29_000
    world.lead()
    assert world.stands() is RolloutStatus.RUNNING
    world.now_ms += 2_000
    world.lead()
    assert world.stands() is RolloutStatus.FAILED


def test_a_drain_ends_where_a_canary_waits_beside_what_it_is_to_replace() -> None:
    world = Waiting(BESIDE)
    for node in ("n1", "n2"):
        world.done(world.do(DrainNode(node_id=node)))
        world.settle(60)
        assert not [row for row in world.rows() if world.state.table.node[row] == world.state.nodes[node].slot]
        assert sum(world.images().values()) >= 4 and world.images()["web:1"] == 1
        world.done(world.do(CordonNode(node_id=node, cordoned=False)))
        world.settle()


def test_a_stray_canary_stays_while_what_it_stands_beside_is_not_ready() -> None:
    """It is all that is ready of the instance: to stop it would be refused, round after round."""
    world = Waiting(BESIDE)
    canary = world.row("web:1")
    (elder,) = [row for row in world.rows() if row != canary and table_key(world, row) == table_key(world, canary)]
    world.observe(elder, AllocState.RUNNING, ready=False)
    world.submit(2)
    for _ in range(3):
        world.lead()
    assert not [one for one in world.state.events.after(0) if one.kind == "plan.rejected"]
    assert world.images()["web:1"] == 1
    world.settle()
    assert world.images() == {"web:0": 4, "web:2": 1}


def table_key(world: World, row: int) -> tuple[int, int]:
    return int(world.state.table.gid[row]), int(world.state.table.ordinal[row])


def test_what_nobody_promoted_was_never_good() -> None:
    """Of one instance the canary is all there is, and ready: it was gone back to."""
    update = replace(INSTEAD, auto_revert=True)
    world = Waiting(update, 1)
    assert world.images() == {"web:1": 1}
    world.submit(2)
    world.settle()
    assert world.images() == {"web:2": 1}
    assert [one.version for one in world.job.history if one.stable] == [1]
    world.observe(world.row("web:2"), AllocState.FAILED)
    world.settle()
    assert world.images() == {"web:0": 1}


def test_the_deadline_of_a_canary_that_is_kept_on_a_lost_node_runs_from_when_that_was_lost() -> None:
    class Kept(Waiting):
        def spec(self) -> JobSpec:
            return replace(super().spec(), on_disconnect=OnDisconnect.KEEP)

    world = Kept(INSTEAD)
    canary = world.row("web:1")
    world.now_ms += 600_000
    world.lead()
    assert world.stands() is RolloutStatus.RUNNING, "no deadline runs while a canary is ready"
    world.lose(world.state.node_at[int(world.state.table.node[canary])].spec.id)
    world.lead()
    world.now_ms += 29_000
    world.lead()
    assert (world.row("web:1"), world.stands()) == (canary, RolloutStatus.RUNNING)
    world.now_ms += 2_000
    world.lead()
    assert world.stands() is RolloutStatus.FAILED


def test_a_stray_canary_goes_back_to_the_version_before_only_once_that_can_be_placed() -> None:
    class Secret(Waiting):
        """The version before needs a variable."""

        def spec(self) -> JobSpec:
            spec = super().spec()
            if self.image:
                return spec
            (api,) = spec.groups
            return replace(spec, groups=(replace(api, tasks=(replace(api.tasks[0], variables=(("K", "key"),)),)),))

        def submit(self, image: int) -> None:
            if not image:
                self.done(self.do(WriteVariable(namespace="default", name="key", value="1")))
            super().submit(image)

    world = Secret(replace(INSTEAD, canaries=3))
    assert world.images() == {"web:0": 1, "web:1": 3}
    world.done(world.do(WriteVariable(namespace="default", name="key", value=None)))
    world.update, world.bounded = replace(BESIDE, max_surge=4), False
    world.submit(2)
    world.settle()
    assert world.images() == {"web:0": 1, "web:1": 2, "web:2": 1}
    world.done(world.do(WriteVariable(namespace="default", name="key", value="2")))
    world.settle()
    assert world.images() == {"web:0": 3, "web:2": 1}


@pytest.mark.parametrize("together", [True, False], ids=["both there", "only the canary there"])
def test_a_drain_leaves_the_canary_while_what_it_stands_beside_is_not_ready(together: bool) -> None:
    """It is all that is ready of the instance. Where both are to leave, the one that serves nobody goes."""
    world = Waiting(BESIDE, 1, rest=False)
    elder = world.rows()[0]
    here = world.state.node_at[int(world.state.table.node[elder])].spec.id
    other = "n2" if here == "n1" else "n1"
    world.done(world.do(CordonNode(node_id=other if together else here, cordoned=True)))
    world.settle(30)
    canary = world.row("web:1")
    assert int(world.state.table.node[canary]) == world.state.nodes[here if together else other].slot
    world.done(world.do(CordonNode(node_id=here if not together else other, cordoned=False)))
    world.observe(elder, AllocState.RUNNING, ready=False)
    world.done(world.do(DrainNode(node_id=here if together else other)))
    world.lead()
    desired = world.state.table.desired
    assert desired[canary] == int(Desired.RUN)
    assert desired[elder] == int(Desired.STOP if together else Desired.RUN)
    world.settle(60)
    assert world.images() == ({"web:1": 1} if together else {"web:0": 1, "web:1": 1})
    assert world.ready() == 1
    assert not [row for row in world.rows() if world.state.node_at[int(world.state.table.node[row])].draining]


@pytest.mark.parametrize("becomes", [True, False], ids=["a gang", "none"])
def test_a_group_that_becomes_a_gang_or_none_runs_on_as_it_was_until_the_promotion(becomes: bool) -> None:
    """There is no version at which what is missing of it could be placed meanwhile."""
    world = Waiting(BESIDE, 2, rest=False)
    world.bounded = False
    (api,) = world.spec().groups
    loose = GroupSpec(name="ring", count=2, tasks=api.tasks)
    gang = replace(loose, gang=GangSpec())
    before, after = (loose, gang) if becomes else (gang, loose)
    world.submit_spec(replace(world.spec(), groups=(api, before)))
    world.steer(RolloutAction.PROMOTE)
    world.settle()
    ring = [row for row in world.rows() if views.allocation(world.state, row).id.group == "ring"]
    assert len(ring) == 2 and world.stands() is RolloutStatus.SUCCEEDED
    world.image = 2
    (api,) = world.spec().groups
    world.submit_spec(replace(world.spec(), groups=(api, after)))
    world.settle()
    assert world.images() == {"web:1": 2, "web:2": 1}
    assert [row for row in world.rows() if row in ring] == ring
    world.observe(ring[0], AllocState.STOPPED)
    world.settle()
    assert world.images("ring") == {"web:1": 1} and ring[1] in world.rows()
    (said,) = (
        one for one in plan.explain(views.cluster_view(world.state), world.job.uid, world.now_ms) if one.group == "ring"
    )
    assert "until version 4 is promoted" in said.summary
    world.steer(RolloutAction.PROMOTE)
    world.settle()
    assert world.images("ring") == {"web:1": 2} and ring[1] not in world.rows()
    assert world.stands() is RolloutStatus.SUCCEEDED
