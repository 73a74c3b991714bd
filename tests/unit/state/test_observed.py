"""Reports in columns: what each observation does, next to the same observations one by one in a second state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.api.observed import recorded
from orchestrator.contract import codec
from orchestrator.contract.health import word
from orchestrator.contract.model import AllocState, AssignmentKey, JobSpec, Observation
from orchestrator.contract.rollouts import UpdateSpec
from orchestrator.contract.v1 import agent_pb2
from orchestrator.state import views
from orchestrator.state.allocations import FREE
from orchestrator.state.apply import apply
from orchestrator.state.apply_rows import MAX_REASON
from orchestrator.state.apply_statuses import MAX_HEALTH
from orchestrator.state.check import MAX_INT32
from orchestrator.state.commands import (
    Applied,
    Command,
    Entry,
    MarkNodes,
    NodeMark,
    ObservationColumns,
    RecordObserved,
    RecordStatuses,
    Rejected,
    RemoveJob,
)
from orchestrator.state.events import MAX_MESSAGE
from orchestrator.state.model import MAX_COMMAND_ROWS
from orchestrator.state.snapshot import state_hash
from tests.properties.test_rollouts import World
from tests.unit.state.kit import Kit, Placement, group, job, node

RUNNING, COMPLETE, FAILED, STOPPED = AllocState.RUNNING, AllocState.COMPLETE, AllocState.FAILED, AllocState.STOPPED
LARGE = node("n1", cpu=100_000, memory=100_000)


class Twins:
    """Two equal states: ``single`` hears observations one by one, ``packed`` in columns."""

    def __init__(self, *specs: JobSpec) -> None:
        self.single, self.packed = Kit(), Kit()
        for kit in (self.single, self.packed):
            for name in ("n1", "n2"):
                kit.register(replace(LARGE, id=name, name=name))
            kit.submit(*specs)
            kit.plan(
                *(
                    Placement(f"{spec.name}/{one.name}/{ordinal}", "n1")
                    for spec in specs
                    for one in spec.groups
                    for ordinal in range(one.count)
                )
            )

    def both(self, command: Command) -> None:
        for kit in (self.single, self.packed):
            kit.ok(command)

    def saw(self, alloc: str, state: AllocState, **said: object) -> Observation:
        attempt = said.pop("attempt", None)
        key = self.packed.key(alloc, attempt)  # type: ignore[arg-type]
        return replace(Observation(key=key, restarts=0, state=state), **said)  # type: ignore[arg-type]

    def say(self, *seen: Observation, node_id: str = "n1") -> bool:
        """Whether anything changed; the same of both."""
        one = self.single.ok(RecordStatuses(node_id=node_id, observations=seen))
        messages = [codec.encode(each, agent_pb2.Observation()) for each in seen]
        other = self.packed.ok(recorded(node_id, messages))
        assert one == other
        single, packed = self.single.state, self.packed.state
        assert state_hash(single) == state_hash(packed)
        assert single.events.records() == packed.events.records()
        np.testing.assert_array_equal(single.table.told, packed.table.told)
        assert single.changes.since(single.index - 1) == packed.changes.since(packed.index - 1)
        return bool(other.answer.changed)  # type: ignore[union-attr]

    def state(self, alloc: str) -> tuple[str, int, int, str]:
        """(state, restarts, exit code, reason)"""
        seen = self.packed.alloc(alloc)
        return seen.state.name, seen.restarts, seen.exit_code, seen.reason

    def failures(self, alloc: str) -> tuple[bool, int]:
        table, row = self.packed.state.table, self.packed.row(alloc)
        return bool(table.start_failed[row]), int(table.failures[row])


def twins(count: int = 4) -> Twins:
    return Twins(job("web", group("api", count), group("db", 2)), job("sum", group("api", 2)))


# ---------------------------------------------------------------------------- what counts


def test_one_report_moves_rows_of_many_jobs_and_groups_each_its_own_way() -> None:
    world = twins()
    assert world.say(
        world.saw("web/api/0", RUNNING),
        world.saw("sum/api/1", FAILED, exit_code=3, reason="exit 3"),
        world.saw("web/db/1", COMPLETE, exit_code=0, reason="done"),
        world.saw("web/api/2", AllocState.STARTING, reason="pulled", restarts=2),
        world.saw("web/api/3", FAILED, exit_code=-9, reason="no image", start_failed=True),
        world.saw("sum/api/0", RUNNING, start_failed=True),
    )
    assert world.state("web/api/0") == ("RUNNING", 0, 0, "")
    assert world.state("web/api/1") == ("PENDING", 0, 0, "")
    assert world.state("web/api/2") == ("STARTING", 2, 0, "pulled")
    assert world.state("web/api/3") == ("FAILED", 0, -9, "no image")
    assert world.state("web/db/1") == ("COMPLETE", 0, 0, "done")
    assert world.state("sum/api/1") == ("FAILED", 0, 3, "exit 3")
    assert [world.failures(f"{name}") for name in ("web/api/3", "sum/api/1", "sum/api/0")] == [
        (True, 1), (False, 0), (False, 0)
    ]  # fmt: skip
    index = world.packed.state.index
    moved = ("web/api/0", "web/api/2", "web/api/3", "web/db/1", "sum/api/1")
    assert all(world.packed.alloc(alloc).modify_index == index for alloc in moved)
    assert world.packed.alloc("web/api/1").modify_index < index
    events = list(world.packed.state.events.after(index - 1))
    assert [(event.kind, event.allocation, event.message, event.node_id) for event in events] == [
        ("alloc.running", "web/api/0", "", "n1"),
        ("alloc.failed", "sum/api/1", "exit 3", "n1"),
        ("alloc.complete", "web/db/1", "done", "n1"),
        ("alloc.starting", "web/api/2", "pulled", "n1"),
        ("alloc.failed", "web/api/3", "no image", "n1"),
        ("alloc.running", "sum/api/0", "", "n1"),
    ]


def test_a_reason_goes_when_nothing_is_said_any_more_and_is_cut() -> None:
    world = twins()
    world.say(world.saw("web/api/0", AllocState.STARTING, reason="a"), world.saw("web/api/1", RUNNING))
    world.say(world.saw("web/api/0", RUNNING), world.saw("web/api/1", AllocState.BACKOFF, reason="b" * 2_000))
    assert world.state("web/api/0")[3] == ""
    assert world.state("web/api/1")[3] == "b" * MAX_REASON
    (event,) = [event for event in world.packed.state.events.after(0) if event.kind == "alloc.backoff"]
    assert event.message == "b" * MAX_MESSAGE
    world.say(world.saw("web/api/2", RUNNING))
    assert world.state("web/api/1")[3] == "b" * MAX_REASON


def test_why_somebody_made_room_outlasts_how_it_stopped() -> None:
    world = twins()
    for kit in (world.single, world.packed):
        for alloc in ("web/api/0", "web/api/1", "web/api/2"):
            kit.state.table.reasons[kit.row(alloc)] = "preempted by x/y/0 (priority 80)"
    world.say(
        world.saw("web/api/0", STOPPED, reason="stopped as told"),
        world.saw("web/api/1", FAILED, reason="exit 3"),
        world.saw("web/api/2", FAILED),
    )
    why = "preempted by x/y/0 (priority 80)"
    assert [world.state(f"web/api/{at}")[3] for at in range(3)] == [why, f"{why}; exit 3", why]


@pytest.mark.parametrize("code", [MAX_INT32, -MAX_INT32, -MAX_INT32 - 1])
def test_exit_codes_are_kept_within_what_a_column_holds(code: int) -> None:
    world = twins()
    report = recorded("n1", [codec.encode(world.saw("web/api/0", FAILED), agent_pb2.Observation())])
    world.packed.ok(replace(report, rows=replace(report.rows, exit_code=np.array([code], dtype=np.int32))))
    assert world.state("web/api/0")[2] == max(code, -MAX_INT32)


@pytest.mark.parametrize(("before", "after"), [(0, 1), (MAX_INT32 - 1, MAX_INT32), (MAX_INT32, MAX_INT32)])
def test_failed_starts_are_counted_as_far_as_a_column_goes(before: int, after: int) -> None:
    world = twins()
    for kit in (world.single, world.packed):
        kit.state.table.failures[kit.row("web/api/0")] = before
    world.say(world.saw("web/api/0", FAILED, start_failed=True), world.saw("web/api/1", STOPPED, start_failed=True))
    assert world.failures("web/api/0") == (True, after)
    assert world.failures("web/api/1") == (False, 0)


def test_a_restart_begins_again_from_any_state_that_is_not_the_end() -> None:
    world = twins()
    world.say(world.saw("web/api/0", RUNNING), world.saw("web/api/1", FAILED), world.saw("web/api/2", RUNNING))
    assert world.say(
        world.saw("web/api/0", AllocState.STARTING, restarts=1),
        world.saw("web/api/1", RUNNING, restarts=1),
        world.saw("web/api/2", AllocState.STARTING),
    )
    assert [world.state(f"web/api/{at}")[:2] for at in range(3)] == [("STARTING", 1), ("FAILED", 0), ("RUNNING", 0)]


# ---------------------------------------------------------------------------- what does not count


def strange(world: Twins, count: int = 4) -> list[Observation]:
    good = world.saw("web/api/0", RUNNING)
    where = good.key.id
    return [
        replace(good, key=replace(good.key, job_uid="nobody")),
        replace(good, key=replace(good.key, id=replace(where, group="gone"))),
        replace(good, key=replace(good.key, id=replace(where, ordinal=count))),
        replace(good, key=replace(good.key, id=replace(where, ordinal=-1))),
        replace(good, key=replace(good.key, attempt=2)),
        replace(good, key=replace(good.key, attempt=0)),
        replace(good, restarts=-1),
        replace(good, state=AllocState.LOST),
        replace(good, state=AllocState.PENDING),
        replace(good, state=AllocState.LOST, restarts=1),
        replace(good, state=AllocState.PENDING, restarts=1),
    ]


@pytest.mark.parametrize("which", range(11))
def test_what_nobody_has_or_no_agent_can_say_is_ignored_and_the_rest_counts(which: int) -> None:
    world = twins()
    odd = strange(world)[which]
    assert not world.say(odd)
    assert world.say(world.saw("web/api/1", RUNNING), odd, world.saw("web/api/2", RUNNING))
    assert [world.state(f"web/api/{at}")[0] for at in range(4)] == ["PENDING", "RUNNING", "RUNNING", "PENDING"]


def test_what_nobody_has_moves_no_other_row() -> None:
    world = twins(12)
    assert not np.any(world.packed.state.table.job == FREE)  # -1 would be the last row, which is somebody's
    for odd in strange(world, 12)[:6]:
        assert not world.say(replace(odd, restarts=1))


def test_what_runs_is_news_while_its_job_is_changed() -> None:
    world = twins()
    slot = world.packed.state.jobs[world.saw("web/api/0", RUNNING).key.job_uid].slot
    world.say(world.saw("web/api/0", RUNNING), world.saw("sum/api/0", RUNNING))
    changes = world.packed.state.changes
    assert changes.since(world.packed.state.index - 1) == []
    for kit in (world.single, world.packed):
        kit.submit(job("web", group("api", 4, image="two"), group("db", 2)))
    world.say(world.saw("web/api/1", RUNNING), world.saw("sum/api/1", RUNNING))
    assert changes.since(world.packed.state.index - 1) == [slot]
    world.say(world.saw("web/api/1", RUNNING, health=word(1, False)))
    assert changes.since(world.packed.state.index - 1) == [slot]


def test_nobody_speaks_for_another_node() -> None:
    world = twins()
    for kit in (world.single, world.packed):
        kit.observe("web/api/3", FAILED)
        kit.place("web/api/3", "n2")
    assert not world.say(world.saw("web/api/0", RUNNING), node_id="n2")
    assert world.say(world.saw("web/api/0", RUNNING), world.saw("web/api/3", RUNNING), node_id="n2")
    assert [world.state(f"web/api/{at}")[0] for at in (0, 3)] == ["PENDING", "RUNNING"]


def test_an_older_attempt_is_found_and_has_ended() -> None:
    world = twins()
    for kit in (world.single, world.packed):
        for _ in range(2):
            kit.observe("web/api/3", FAILED)
            kit.place("web/api/3", "n1")
    assert not world.say(*(world.saw("web/api/3", RUNNING, attempt=attempt, restarts=5) for attempt in (1, 2)))
    assert world.say(*(world.saw("web/api/3", RUNNING, attempt=attempt) for attempt in (1, 2, 3)))
    assert world.state("web/api/3") == ("RUNNING", 0, 0, "")


# ---------------------------------------------------------------------------- what depends on what came before


def test_the_same_allocation_twice_in_a_report_moves_twice() -> None:
    world = twins()
    assert world.say(
        world.saw("web/api/0", RUNNING),
        world.saw("web/api/1", RUNNING),
        world.saw("web/api/0", AllocState.BACKOFF, exit_code=2, reason="exit 2"),
        world.saw("web/api/0", AllocState.STARTING, restarts=1),
        world.saw("web/api/1", FAILED, exit_code=4, reason="exit 4", start_failed=True),
    )
    assert world.state("web/api/0") == ("STARTING", 1, 0, "")
    assert world.state("web/api/1") == ("FAILED", 0, 4, "exit 4")
    assert world.failures("web/api/1") == (True, 1)
    assert not world.say(*[world.saw("web/api/1", RUNNING)] * 2)
    assert world.say(*[world.saw("web/api/2", RUNNING, health=word(1, True))] * 2)
    assert world.say(world.saw("web/api/2", RUNNING), world.saw("web/api/2", RUNNING, health=word(2, False)))
    assert not world.packed.alloc("web/api/2").ready


def test_who_was_lost_is_told_again_to_stop_and_how_it_ended_is_added() -> None:
    world = twins()
    registered = world.packed.state.nodes["n1"].register_index
    world.both(MarkNodes(lost=(NodeMark(node_id="n1", register_index=registered, reason="silent"),)))
    for kit in (world.single, world.packed):
        kit.lose("web/api/0", "its node is lost")
    assert world.say(world.saw("web/api/0", RUNNING), world.saw("web/api/1", RUNNING))
    assert world.packed.state.table.told[world.packed.row("web/api/0")] == world.packed.state.index
    assert world.say(world.saw("web/api/0", STOPPED))
    assert world.state("web/api/0")[3] == "its node is lost; its agent says: stopped"


def test_a_job_that_is_removed_goes_with_its_last_allocation() -> None:
    world = twins()
    world.both(RemoveJob(namespace="default", name="sum"))
    assert world.say(world.saw("sum/api/0", STOPPED), world.saw("sum/api/1", STOPPED), world.saw("web/api/0", RUNNING))
    assert world.packed.state.find_job("default", "sum") is None


# ---------------------------------------------------------------------------- health


def test_words_of_health_count_while_it_runs_and_only_newer_ones() -> None:
    world = twins()
    world.say(
        world.saw("web/api/0", RUNNING, health=word(5, False)),
        world.saw("web/api/1", AllocState.STARTING, health=word(9, True)),
        world.saw("web/api/2", RUNNING, health=MAX_HEALTH + 1),
        world.saw("web/api/3", RUNNING, health=MAX_HEALTH),
        world.saw("sum/api/0", RUNNING, health=word(0, True)),
    )
    assert int(world.packed.state.table.health[world.packed.row("sum/api/0")]) == word(0, True) == 1
    health = [int(world.packed.state.table.health[world.packed.row(f"web/api/{at}")]) for at in range(4)]
    assert health == [word(5, False), 0, 0, MAX_HEALTH]
    assert not world.say(world.saw("web/api/0", RUNNING, health=word(5, True)), world.saw("web/api/2", RUNNING))
    assert not world.say(world.saw("web/api/0", RUNNING, health=word(4, True)))
    assert world.say(
        world.saw("web/api/0", RUNNING, health=word(6, True), reason="checked"),
        world.saw("web/api/2", RUNNING, health=word(1, False)),
        world.saw("web/api/1", RUNNING, health=word(1, True)),
    )
    kinds = [event.kind for event in world.packed.state.events.after(world.packed.state.index - 1)]
    assert kinds == ["alloc.ready", "alloc.unready", "alloc.running"]
    assert [world.packed.alloc(f"web/api/{at}").ready for at in range(3)] == [True, True, False]
    assert world.state("web/api/0")[3] == "checked"
    assert world.say(world.saw("web/api/0", RUNNING, restarts=1, health=word(2, True)))
    assert world.say(world.saw("web/api/0", RUNNING, restarts=2))
    assert world.say(world.saw("web/api/1", COMPLETE, health=word(7, True)))
    table = world.packed.state.table
    assert [int(table.health[world.packed.row(f"web/api/{at}")]) for at in (0, 1)] == [0, 0]


def test_a_report_without_words_leaves_those_of_before() -> None:
    world = twins()
    world.say(world.saw("web/api/0", RUNNING, health=word(5, True)))
    report = recorded(
        "n1", [codec.encode(world.saw(f"web/api/{at}", RUNNING), agent_pb2.Observation()) for at in (0, 1)]
    )
    world.packed.ok(replace(report, rows=replace(report.rows, health=None)))
    assert int(world.packed.state.table.health[world.packed.row("web/api/0")]) == word(5, True)
    assert world.state("web/api/1")[0] == "RUNNING"
    # Twice the same: one by one.
    messages = [codec.encode(world.saw("web/api/2", RUNNING), agent_pb2.Observation())] * 2
    report = recorded("n1", messages)
    world.packed.ok(replace(report, rows=replace(report.rows, health=None)))
    assert world.state("web/api/2")[0] == "RUNNING"


@pytest.mark.parametrize("first_words", [((1, False), (2, True)), ((1, True),)])
@pytest.mark.parametrize("columns", [True, False])
def test_who_is_ready_is_progress_of_the_rollout(columns: bool, first_words: tuple[tuple[int, bool], ...]) -> None:
    world = World(1, UpdateSpec(max_surge=1, max_unavailable=0), 2)
    world.submit(0)
    world.settle()
    world.submit(1)
    world.lead()
    (successor,) = [row for row in world.rows() if world.state.table.version[row] == 2]
    seen = views.allocation(world.state, successor)
    key = AssignmentKey(id=seen.id, job_uid=seen.job_uid, attempt=seen.attempt)
    for sequence, ready in first_words:
        world.now_ms += 5_000
        one = Observation(key=key, restarts=0, state=RUNNING, health=word(sequence, ready))
        if columns:
            world.do(recorded(seen.node_id, [codec.encode(one, agent_pb2.Observation())]))
        else:
            world.do(RecordStatuses(node_id=seen.node_id, observations=(one,)))
        found = world.job.rollout
        assert found is not None
        assert (found.progress_ms == world.now_ms) == ready


# ---------------------------------------------------------------------------- shapes


def report(rows: int = 1, **columns: object) -> RecordObserved:
    """Of nobody's allocations: every column has ``rows`` values of 0, but for the state, unless said otherwise."""
    made: dict[str, object] = {name: np.zeros(rows, dtype=np.int32) for name in ObservationColumns.__slots__}
    made |= {"state": np.full(rows, int(RUNNING), dtype=np.int32), "health": None} | columns
    columns_of = ObservationColumns(**made)  # type: ignore[arg-type]
    return RecordObserved(node_id="n1", jobs=("u",), groups=("g",), reasons=("",), rows=columns_of)


INT32_COLUMNS = [name for name in ObservationColumns.__slots__ if name != "health"]


@pytest.mark.parametrize("name", INT32_COLUMNS)
@pytest.mark.parametrize("column", [np.zeros(3, dtype=np.int32), np.zeros(2, dtype=np.int64)], ids=["long", "wide"])
def test_columns_that_do_not_fit_are_refused(name: str, column: object) -> None:
    assert shaped(report(2, **{name: column})).startswith("INVALID")


@pytest.mark.parametrize("health", [np.zeros(3, dtype=np.int64), np.zeros(2, dtype=np.int32)], ids=["long", "narrow"])
def test_words_that_do_not_fit_are_refused(health: object) -> None:
    assert shaped(report(2, health=health)).startswith("INVALID")
    assert shaped(report(2, health=np.zeros(2, dtype=np.int64))) == ""


@pytest.mark.parametrize("name", ["job", "group", "reason"])
def test_numbers_outside_of_the_lists_are_refused(name: str) -> None:
    for number, refused in ((-1, True), (0, False), (1, True)):
        outcome = shaped(report(2, **{name: np.array([0, number], dtype=np.int32)}))
        said = f"INVALID: an observation's {name} is outside of the 1 that there are"
        assert outcome == (said if refused else ""), number


@pytest.mark.parametrize("state", [-1, 0, 11, 127, 128, 200])
def test_states_that_nobody_knows_are_refused(state: int) -> None:
    outcome = shaped(report(2, state=np.array([10, state], dtype=np.int32)))
    assert outcome.startswith("INVALID: an observation's state is ")


@pytest.mark.parametrize("state", list(AllocState))
def test_states_that_are_known_are_not(state: AllocState) -> None:
    assert shaped(report(1, state=np.array([int(state)], dtype=np.int32))) == ""


def test_as_many_rows_as_a_command_may_have() -> None:
    assert shaped(report(0)) == shaped(report(MAX_COMMAND_ROWS)) == ""
    assert shaped(report(MAX_COMMAND_ROWS + 1)).startswith("INVALID")
    assert shaped(replace(report(), node_id="nobody")).startswith("NOT_FOUND")


def shaped(command: RecordObserved) -> str:
    """Reason and message of the refusal, or "" where it was taken, and changed nothing."""
    kit = Kit()
    kit.register(LARGE)
    before = len(kit.state.events.records())
    outcome = apply(kit.state, Entry(identity="", request_id="", digest=b"", time_ms=1, command=command))
    if isinstance(outcome, Rejected):
        return f"{outcome.reason}: {outcome.message}"
    assert isinstance(outcome, Applied)
    assert outcome.answer.changed is False  # type: ignore[union-attr]
    assert len(kit.state.events.records()) == before
    return ""
