"""Readiness in the state: which word is newer, what it changes, and that nothing of a rollout is lost in a snapshot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.api.observed import recorded
from orchestrator.contract import codec
from orchestrator.contract.health import word
from orchestrator.contract.model import AllocState, AssignmentKey, Desired, Observation
from orchestrator.contract.rollouts import RolloutAction, RolloutStatus, UpdateSpec
from orchestrator.contract.v1 import agent_pb2
from orchestrator.replication import snapshot_codec
from orchestrator.replication.codec import encode_entry
from orchestrator.replication.v1 import log_pb2
from orchestrator.state import views
from orchestrator.state.commands import (
    Command,
    Entry,
    JobSubmission,
    RecordStatuses,
    RollbackJob,
    SteerRollout,
    SubmitJobs,
)
from orchestrator.state.snapshot import capture, image_hash, restore, state_hash
from tests.properties.test_rollouts import World

RUNNING = AllocState.RUNNING


def seen(world: World, row: int, **said: object) -> Observation:
    one = views.allocation(world.state, row)
    key = AssignmentKey(id=one.id, job_uid=one.job_uid, attempt=one.attempt)
    fresh = Observation(key=key, restarts=one.restarts, state=RUNNING)
    return replace(fresh, **said)  # type: ignore[arg-type]


def in_rows(world: World, *observations: Observation) -> Command:
    return recorded("n1", [codec.encode(one, agent_pb2.Observation()) for one in observations])


def one_by_one(world: World, *observations: Observation) -> Command:
    return RecordStatuses(node_id="n1", observations=observations)


def running(count: int = 1, update: UpdateSpec | None = None) -> World:
    world = World(1, update, count)
    world.submit(0)
    world.lead()
    return world


@pytest.mark.parametrize("say", [in_rows, one_by_one])
def test_only_a_newer_word_changes_readiness_and_the_last_one_stays(say: object) -> None:
    world = running()
    (row,) = world.rows()
    told = [(5, False), (7, True), (6, False), (7, False), (9, False), (8, True)]
    found = []
    for sequence, ready in told:
        world.do(say(world, seen(world, row, health=word(sequence, ready), reason=f"word {sequence}")))  # type: ignore[operator]
        one = views.allocation(world.state, row)
        found.append((one.ready, one.reason))
    assert found == [
        (False, "word 5"), (True, "word 7"), (True, "word 7"), (True, "word 7"), (False, "word 9"), (False, "word 9")
    ]  # fmt: skip
    kinds = [event.kind for event in world.state.events.after(0) if event.kind.startswith("alloc.")]
    assert kinds == ["alloc.placed", "alloc.running", "alloc.ready", "alloc.unready"]


@pytest.mark.parametrize("say", [in_rows, one_by_one])
def test_another_run_begins_with_its_own_word_and_who_ends_has_none(say: object) -> None:
    world = running()
    (row,) = world.rows()
    world.do(say(world, seen(world, row, health=word(50, True))))  # type: ignore[operator]
    world.do(say(world, seen(world, row, restarts=1, health=word(3, False))))  # type: ignore[operator]
    assert not views.allocation(world.state, row).ready and int(world.state.table.health[row]) >> 1 == 3
    world.do(say(world, seen(world, row, restarts=1, state=AllocState.BACKOFF)))  # type: ignore[operator]
    assert not world.state.table.health.any()


def test_who_is_told_to_stop_or_whose_node_is_lost_is_not_ready_and_without_checks_running_is() -> None:
    world = running()
    (row,) = world.rows()
    world.do(one_by_one(world, seen(world, row)))
    assert views.allocation(world.state, row).ready
    world.state.table.desired[row] = int(Desired.STOP)
    assert not views.allocation(world.state, row).ready


def test_both_ways_to_record_give_equal_states() -> None:
    states = []
    for say in (in_rows, one_by_one):
        world = running(3)
        rows = world.rows()
        for sequence, ready in ((1, False), (2, True), (3, True), (2, False)):
            mine = [row for row in rows if views.allocation(world.state, row).node_id == "n1"]
            world.do(say(world, *(seen(world, row, health=word(sequence, ready)) for row in mine)))
        states.append(state_hash(world.state))
    assert states[0] == states[1]


def test_a_snapshot_keeps_words_history_and_where_a_rollout_stands() -> None:
    world = running(2, UpdateSpec(max_surge=1, max_unavailable=0, canaries=1))
    world.settle()
    for version in (1, 0, 2):
        world.submit(version)
        world.lead()
    world.do(SteerRollout(namespace="default", name="web", action=RolloutAction.PAUSE))
    image = capture(world.state)
    data = b"".join(snapshot_codec.encode_snapshot(image))
    assert log_pb2.SnapshotParts.FromString(data[:7]).format == 5
    again = restore(snapshot_codec.decode_snapshot(data))
    assert state_hash(again) == image_hash(image)
    (job,) = again.jobs.values()
    assert job.rollout is not None and job.rollout.status is RolloutStatus.PAUSED and not job.rollout.promoted
    assert [one.version for one in job.history] == [1, 2, 3] and job.history[0].stable


def test_what_uses_none_of_it_is_written_as_before() -> None:
    world = World(1, None, 1)
    spec = world.spec()
    world.do(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="u"),)))
    data = b"".join(snapshot_codec.encode_snapshot(capture(world.state)))
    assert log_pb2.SnapshotParts.FromString(data[:7]).format == 2

    def format_of(command: Command) -> int:
        entry = Entry(identity="", request_id="", digest=b"", time_ms=0, command=command)
        return log_pb2.LogEntry.FromString(encode_entry(entry)).format

    assert format_of(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="u"),))) == 1
    assert format_of(SubmitJobs(jobs=(JobSubmission(spec=spec, uid="u", remember=True),))) == 4
    assert format_of(RollbackJob(namespace="d", name="j")) == 4


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (SteerRollout(namespace="default", name="web", action=RolloutAction.PAUSE), "has succeeded"),
        (SteerRollout(namespace="default", name="web", action=RolloutAction.RESUME), "has succeeded"),
        (SteerRollout(namespace="default", name="web", action=RolloutAction.PROMOTE), "has succeeded"),
        (SteerRollout(namespace="default", name="no", action=RolloutAction.PAUSE), "there is no job 'no'"),
        (RollbackJob(namespace="default", name="web"), "no version with other content"),
        (RollbackJob(namespace="default", name="web", version=9), "version 9 of job 'web' is not remembered"),
        (RollbackJob(namespace="default", name="web", version=1), "version 1 is the current one"),
    ],
)
def test_what_cannot_be_done_says_why(command: Command, says: str) -> None:
    world = running(1, UpdateSpec())
    world.settle()
    outcome = world.do(command)
    assert says in getattr(outcome, "message", "")
