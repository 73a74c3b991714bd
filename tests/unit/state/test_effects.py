"""What commands leave behind beside their answer: what agents are told, what is stamped, what is kept and freed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.contract.model import (
    AllocState,
    Desired,
    Device,
    NodeStatus,
    Observation,
    OnDisconnect,
    Resources,
)
from orchestrator.state import views
from orchestrator.state.answers import read
from orchestrator.state.commands import (
    Applied,
    CordonNode,
    DrainNode,
    Expectation,
    ForgetNode,
    MarkNodes,
    NodeMark,
    RecordStatuses,
    Rejected,
    RemoveJob,
    StopJob,
    VariableAnswer,
    VariablesAnswer,
    WriteVariable,
    WriteVariables,
)
from tests.unit.state.kit import Kit, Placement, group, job, node

D = "default"


def running(*names: str) -> Kit:
    """Jobs of these names, each with two instances on n1 and n2."""
    kit = Kit()
    for node_id in ("n1", "n2"):
        kit.register(node(node_id, cpu=10_000, memory=10_000))
    for name in names:
        kit.submit(job(name, group(count=2)))
        kit.plan(Placement(f"{name}/api/0", "n1"), Placement(f"{name}/api/1", "n2"))
    kit.now_ms += 10_000
    return kit


def lose_node(kit: Kit, name: str, reason: str = "silent") -> None:
    kit.ok(
        MarkNodes(lost=(NodeMark(node_id=name, register_index=kit.state.nodes[name].register_index, reason=reason),))
    )


def stamped(kit: Kit, alloc: str) -> bool:
    """Whether the allocation says that it changed with the last command."""
    row = kit.alloc(alloc)
    return (row.modify_index, row.modify_time_ms) == (kit.state.index, kit.state.time_ms)


def told(kit: Kit, node_id: str) -> list[tuple[str, Desired]]:
    """What the node's agent hears of the last command."""
    if views.assignments_index(kit.state, node_id) != kit.state.index:
        return []
    update = views.assignments_for(kit.state, node_id, kit.state.index - 1)
    return [(str(row.key.id), row.desired) for row in update.assignments]


# ---------------------------------------------------------------------------- jobs


@pytest.mark.parametrize("command", [StopJob(namespace=D, name="a"), RemoveJob(namespace=D, name="a")])
def test_job_that_ends_stops_all_of_it_and_nothing_else(command: StopJob | RemoveJob) -> None:
    kit = running("a", "b")
    kit.ok(command)
    for ordinal in (0, 1):
        assert kit.alloc(f"a/api/{ordinal}").desired is Desired.STOP
        assert stamped(kit, f"a/api/{ordinal}")
        assert kit.alloc(f"b/api/{ordinal}").desired is Desired.RUN
        assert not stamped(kit, f"b/api/{ordinal}")
    assert told(kit, "n1") == [("a/api/0", Desired.STOP)]
    assert told(kit, "n2") == [("a/api/1", Desired.STOP)]
    known = kit.state.find_job(D, "a")
    assert known is not None
    assert (known.stopped, known.removing) == (True, isinstance(command, RemoveJob))
    assert (known.modify_index, known.modify_time_ms) == (kit.state.index, kit.state.time_ms)


def test_what_was_already_told_to_stop_is_not_told_again() -> None:
    kit = running("a")
    kit.stop("a/api/0", "too many")
    kit.ok(StopJob(namespace=D, name="a"))
    assert not stamped(kit, "a/api/0")
    assert stamped(kit, "a/api/1")
    assert told(kit, "n1") == []


def test_removed_job_is_forgotten_once_nothing_of_it_lives() -> None:
    kit = running("a")
    kit.ok(RemoveJob(namespace=D, name="a"))
    kit.observe("a/api/0", AllocState.STOPPED)
    assert kit.state.find_job(D, "a") is not None
    kit.observe("a/api/1", AllocState.STOPPED)
    assert kit.state.find_job(D, "a") is None
    assert not len(kit.state.table.used())
    kit.submit(job("a"))
    kit.ok(RemoveJob(namespace=D, name="a"))  # nothing of this one ever lived
    assert kit.state.find_job(D, "a") is None


def test_removed_job_is_forgotten_when_its_last_allocation_is_lost() -> None:
    for end in ("by plan", "with its node"):
        kit = running("a", "b")
        kit.observe("a/api/1", AllocState.STOPPED)
        kit.ok(RemoveJob(namespace=D, name="a"))
        lose_node(kit, "n1")
        if end == "by plan":
            kit.lose("a/api/0")
        else:
            kit.ok(ForgetNode(node_id="n1"))
        assert kit.state.find_job(D, "a") is None, end
        assert kit.state.find_job(D, "b") is not None


def test_first_version_of_a_job_says_when_it_came() -> None:
    kit = running()
    kit.submit(job("a", group("x"), group("y")))
    known = kit.state.find_job(D, "a")
    assert known is not None
    assert (known.version, known.group_versions, known.stopped, known.removing) == (1, (1, 1), False, False)
    assert known.specs == ((1, known.spec),)
    now = (kit.state.index, kit.state.time_ms)
    assert (known.submit_index, known.create_index, known.modify_index) == (now[0],) * 3
    assert (known.create_time_ms, known.modify_time_ms) == (now[1],) * 2
    first = now
    kit.submit(job("a", group("x", 3), group("y")))
    known = kit.state.find_job(D, "a")
    assert known is not None
    assert (known.create_index, known.create_time_ms) == first
    assert (known.submit_index, known.modify_index, known.modify_time_ms) == (
        kit.state.index, kit.state.index, kit.state.time_ms,
    )  # fmt: skip


def test_job_that_is_started_again_is_outdated_in_every_group() -> None:
    kit = running("a")
    kit.ok(StopJob(namespace=D, name="a"))
    kit.submit(job("a", group(count=2)))
    known = kit.state.find_job(D, "a")
    assert known is not None
    assert (known.version, known.group_versions, known.stopped) == (2, (2,), False)


def test_agents_are_told_of_another_on_disconnect_and_the_rows_are_stamped() -> None:
    kit = running("a", "b")
    kit.submit(replace(job("a", group(count=2)), on_disconnect=OnDisconnect.KEEP))
    assert told(kit, "n1") == [("a/api/0", Desired.RUN)]
    assert stamped(kit, "a/api/1")
    assert not stamped(kit, "b/api/1")
    kit.submit(replace(job("b", group(count=2)), priority=60))
    assert told(kit, "n1") == []


# ---------------------------------------------------------------------------- nodes


def test_registered_node_is_ready_and_its_agent_is_to_be_told_everything() -> None:
    kit = running("a")
    for number in range(2):
        kit.register(node("n3"))
        known = kit.state.nodes["n3"]
        assert known.register_index == kit.state.index
        assert views.assignments_index(kit.state, "n3") == kit.state.index, number
    assert (known.status, known.identity, known.cordoned, known.draining) == (
        NodeStatus.READY, "agent:n3", False, False,
    )  # fmt: skip
    assert known.modify_index < kit.state.index  # the second time, nothing changed


def test_node_that_changes_keeps_what_its_owner_said_of_it() -> None:
    kit = running("a")
    kit.ok(DrainNode(node_id="n1"))
    drained = kit.state.nodes["n1"]
    assert (drained.cordoned, drained.draining, drained.modify_index) == (True, True, kit.state.index)
    kit.register(node("n1", cpu=20_000, memory=10_000))
    known = kit.state.nodes["n1"]
    assert (known.cordoned, known.draining, known.modify_index) == (True, True, kit.state.index)
    assert known.spec.capacity.cpu_millis == 20_000


def test_cordon_and_uncordon_say_exactly_that() -> None:
    kit = running()
    kit.ok(CordonNode(node_id="n1", cordoned=True))
    assert (kit.state.nodes["n1"].cordoned, kit.state.nodes["n1"].draining) == (True, False)
    assert kit.state.nodes["n1"].modify_index == kit.state.index
    kit.ok(DrainNode(node_id="n1"))
    kit.ok(CordonNode(node_id="n1", cordoned=True))  # is: the drain goes on
    assert (kit.state.nodes["n1"].cordoned, kit.state.nodes["n1"].draining) == (True, True)
    kit.ok(CordonNode(node_id="n1", cordoned=False))
    assert (kit.state.nodes["n1"].cordoned, kit.state.nodes["n1"].draining) == (False, False)
    assert kit.state.nodes["n1"].modify_index == kit.state.index


def test_lost_and_back_say_when_and_why() -> None:
    kit = running("a")
    lose_node(kit, "n1", "x" * 600)
    lost = kit.state.nodes["n1"]
    assert (lost.status, lost.status_reason) == (NodeStatus.LOST, "x" * 500)
    assert (lost.status_time_ms, lost.modify_index) == (kit.state.time_ms, kit.state.index)
    kit.now_ms += 5_000
    back = NodeMark(node_id="n1", register_index=lost.register_index)
    assert kit.ok(MarkNodes(back=(back,))).answer == kit.state.changed(True).answer
    known = kit.state.nodes["n1"]
    assert (known.status, known.status_reason) == (NodeStatus.READY, "")
    assert (known.status_time_ms, known.modify_index) == (kit.state.time_ms, kit.state.index)
    assert views.assignments_index(kit.state, "n1") == kit.state.index
    assert kit.ok(MarkNodes(back=(back,))).answer == kit.state.changed(False).answer


def test_lost_node_that_registers_is_back_and_that_is_a_change() -> None:
    kit = running("a")
    lose_node(kit, "n1")
    outcome = kit.register(node("n1", cpu=10_000, memory=10_000))
    assert isinstance(outcome, Applied) and outcome.answer == kit.state.changed(True).answer
    assert kit.state.nodes["n1"].status is NodeStatus.READY


def test_agents_on_the_engine_of_a_lost_node_look_again() -> None:
    kit = Kit()
    for name, engine in (("n1", "e"), ("n2", "e"), ("n3", "other")):
        kit.register(node(name, engine=engine))
    lose_node(kit, "n1")
    assert views.assignments_index(kit.state, "n2") == kit.state.index
    assert views.assignments_index(kit.state, "n3") < kit.state.index


def test_agents_on_the_engine_are_told_what_of_a_lost_node_they_must_stop() -> None:
    kit = Kit()
    for name, engine in (("n1", "e"), ("n2", "e"), ("n3", "other")):
        kit.register(node(name, engine=engine))
    kit.submit(job("a"))
    kit.place("a/api/0", "n1")
    lose_node(kit, "n1")
    kit.lose("a/api/0")
    before = kit.state.index - 1
    assert views.assignments_index(kit.state, "n2") == kit.state.index
    assert [str(key.id) for key in views.assignments_for(kit.state, "n2", before).superseded] == ["a/api/0"]
    assert views.assignments_index(kit.state, "n3") < kit.state.index
    # Its own agent, should it still be there, hears that nothing may run under this key.
    assert [str(key.id) for key in views.assignments_for(kit.state, "n1", before).removed] == ["a/api/0"]


def test_forgotten_node_loses_what_it_ran() -> None:
    kit = running("a", "b")
    lose_node(kit, "n1")
    kit.ok(ForgetNode(node_id="n1"))
    for name in ("a", "b"):
        row = kit.alloc(f"{name}/api/0")
        assert (row.state, row.reason) == (AllocState.LOST, "its node was forgotten")
        assert kit.alloc(f"{name}/api/1").state is AllocState.PENDING
    assert "n1" not in kit.state.nodes


def test_smaller_node_keeps_room_for_what_it_runs_in_every_resource() -> None:
    kit = Kit()
    kit.register(node("n1"))
    need = group(cpu=600, memory=700)
    task = need.tasks[0]
    need = replace(need, tasks=(replace(task, resources=replace(task.resources, disk_mib=800)),))
    kit.submit(job("a", need))
    kit.place("a/api/0", "n1")
    small = Resources(cpu_millis=10, memory_mib=20, disk_mib=30)
    kit.register(replace(node("n1"), capacity=small))
    assert kit.state.nodes["n1"].ceiling == Resources(cpu_millis=600, memory_mib=700, disk_mib=800)
    kit.observe("a/api/0", AllocState.STOPPED)
    kit.register(node("n1"))
    kit.register(replace(node("n1"), capacity=small))
    assert kit.state.nodes["n1"].ceiling == small


def test_devices_that_change_places_keep_their_shares() -> None:
    kit = Kit()
    kit.register(node("n1", gpus=3))
    kit.submit(job("half", group(count=2, gpus=1, share=500)), job("two", group(gpus=2, share=300)))
    kit.plan(Placement("half/api/0", "n1", devices=(0,)), Placement("half/api/1", "n1", devices=(2,)))
    kit.place("two/api/0", "n1", devices=(1, 2))
    first, second, third = node("n1", gpus=3).devices
    kit.register(replace(node("n1"), devices=(third, Device(id="fresh"), second)))
    gone, moved = kit.alloc("half/api/0"), kit.alloc("half/api/1")
    assert (gone.device_ids, gone.gpu_millis) == ((), 0)
    assert (moved.device_ids, moved.gpu_millis) == ((third.id,), 500)
    both = kit.alloc("two/api/0")
    assert (set(both.device_ids), both.gpu_millis) == ({second.id, third.id}, 300)
    info = views.node_info(kit.state, kit.state.nodes["n1"])
    assert [(use.device.id, use.used_millis) for use in info.devices] == [
        (third.id, 800), ("fresh", 0), (second.id, 300),
    ]  # fmt: skip
    assert first.id not in {use.device.id for use in info.devices}


def test_node_that_moves_to_another_engine_loses_only_what_clashes_there() -> None:
    kit = Kit()
    kit.register(node("n1", engine="e1"))
    kit.register(node("n2", engine="e2"))
    kit.submit(job("a", group(count=3, ports=(0, 0))))
    kit.plan(
        Placement("a/api/0", "n1", ports=(80, 81)), Placement("a/api/1", "n1", ports=(82, 83)),
        Placement("a/api/2", "n2", ports=(90, 81)),
    )  # fmt: skip
    kit.register(node("n1", engine="e2"))
    assert [kit.alloc(f"a/api/{ordinal}").state.name for ordinal in range(3)] == ["LOST", "PENDING", "PENDING"]
    assert {key: sorted(ports) for key, ports in kit.state.ledger.ports.items()} == {"engine:e2": [81, 82, 83, 90]}
    kit.register(node("n1"))  # and on to none at all
    assert {key: sorted(ports) for key, ports in kit.state.ledger.ports.items()} == {
        "engine:e2": [81, 90],
        "node:n1": [82, 83],
    }


def test_engine_whose_ports_another_node_still_holds_keeps_them() -> None:
    kit = Kit()
    kit.register(node("n1", engine="e"))
    kit.register(node("n2", engine="e"))
    kit.submit(job("a", group(count=2, ports=(0,))))
    kit.plan(Placement("a/api/0", "n1", ports=(80,)), Placement("a/api/1", "n2", ports=(81,)))
    kit.register(node("n1", engine="f"))
    assert {key: sorted(ports) for key, ports in kit.state.ledger.ports.items()} == {
        "engine:e": [81],
        "engine:f": [80],
    }


# ---------------------------------------------------------------------------- observations


def test_observation_is_kept_stamped_and_told() -> None:
    kit = running("a")
    kit.observe("a/api/0", AllocState.BACKOFF, restarts=2, exit_code=-9, reason="killed")
    row = kit.alloc("a/api/0")
    assert (row.state, row.restarts, row.exit_code, row.reason) == (AllocState.BACKOFF, 2, -9, "killed")
    assert stamped(kit, "a/api/0")
    assert not stamped(kit, "a/api/1")
    event = kit.state.events.after(0)[-1]
    assert (event.kind, event.namespace, event.job, event.allocation) == ("alloc.backoff", D, "a", "a/api/0")
    assert (event.node_id, event.message, event.attempt) == ("n1", "killed", 1)
    kit.observe("a/api/0", AllocState.FAILED, restarts=2, exit_code=1, reason="y" * 600)
    row = kit.alloc("a/api/0")
    assert (row.state, row.reason) == (AllocState.FAILED, "y" * 500)
    assert stamped(kit, "a/api/0")
    assert kit.state.events.after(0)[-1].kind == "alloc.failed"


@pytest.mark.parametrize(("said", "kept"), [(2**40, 2**31 - 1), (-(2**40), -(2**31 - 1)), (2**31 - 1, 2**31 - 1)])
def test_exit_code_is_bounded_also_of_what_was_lost(said: int, kept: int) -> None:
    kit = running("a")
    kit.observe("a/api/1", AllocState.COMPLETE, exit_code=said)
    assert kit.alloc("a/api/1").exit_code == kept
    lose_node(kit, "n1")
    kit.lose("a/api/0")
    kit.observe("a/api/0", AllocState.COMPLETE, exit_code=said)
    assert kit.alloc("a/api/0").exit_code == kept


def test_observation_of_another_nodes_or_an_unknown_allocation_is_ignored() -> None:
    kit = running("a")
    key = kit.key("a/api/0")
    for change in (
        {"node_id": "n2"}, {"attempt": 2}, {"attempt": 0}, {"restarts": 2**31}, {"restarts": -1},
    ):  # fmt: skip
        arguments = {"node_id": "n1", **change}
        outcome = kit.observe("a/api/0", AllocState.RUNNING, **arguments)  # type: ignore[arg-type]
        assert isinstance(outcome, Applied) and outcome.answer == kit.state.changed(False).answer, change
    assert kit.alloc("a/api/0").state is AllocState.PENDING
    assert kit.key("a/api/0") == key
    outcome = kit.observe("a/api/0", AllocState.RUNNING, restarts=2**31 - 1)
    assert isinstance(outcome, Applied) and outcome.answer == kit.state.changed(True).answer


@pytest.mark.parametrize(
    "change", [{"job_uid": "nobody"}, {"group": "other"}, {"ordinal": 2}, {"ordinal": -1}, {"attempt": 7}], ids=str
)
def test_observation_of_what_there_is_not_is_ignored_and_the_rest_of_the_batch_counts(change: dict[str, Any]) -> None:
    kit = running("a", "b")
    key = kit.key("a/api/0")
    place = {name: value for name, value in change.items() if name in ("group", "ordinal")}
    rest = {name: value for name, value in change.items() if name not in place}
    unknown = replace(key, id=replace(key.id, **place), **rest)
    batch = tuple(
        Observation(key=each, restarts=0, state=AllocState.RUNNING, exit_code=0, reason="", start_failed=False)
        for each in (kit.key("b/api/0"), unknown)
    )
    outcome = kit.ok(RecordStatuses(node_id="n1", observations=batch))
    assert outcome.answer == kit.state.changed(True).answer  # although the last one changed nothing
    outcome = kit.ok(RecordStatuses(node_id="n2", observations=batch[1:]))
    assert outcome.answer == kit.state.changed(False).answer
    names = ("a/api/0", "a/api/1", "b/api/0", "b/api/1")
    assert [kit.alloc(name).state.name for name in names] == ["PENDING", "PENDING", "RUNNING", "PENDING"]


def test_older_attempt_is_found_as_long_as_the_table_has_it() -> None:
    kit = running("a")
    kit.observe("a/api/0", AllocState.RUNNING)
    lose_node(kit, "n1")
    kit.lose("a/api/0", "its node is lost")
    kit.place("a/api/0", "n2")
    kit.observe("a/api/0", AllocState.COMPLETE, attempt=1, node_id="n1", exit_code=3)
    old, new = kit.alloc("a/api/0", 1), kit.alloc("a/api/0")
    assert (old.state, old.reason, old.exit_code) == (
        AllocState.LOST, "its node is lost; its agent says: complete", 3,
    )  # fmt: skip
    assert old.modify_index == kit.state.index
    assert (new.attempt, new.state, new.node_id) == (2, AllocState.PENDING, "n2")


@pytest.mark.parametrize("state", [AllocState.RUNNING, AllocState.STOPPING])
def test_agent_that_still_runs_what_is_lost_is_told_each_time_that_it_must_not(state: AllocState) -> None:
    kit = running("a")
    lose_node(kit, "n1")
    kit.lose("a/api/0")
    for _ in range(2):
        before = kit.state.index
        outcome = kit.observe("a/api/0", state)
        assert isinstance(outcome, Applied) and outcome.answer == kit.state.changed(False).answer
        assert [str(key.id) for key in views.assignments_for(kit.state, "n1", before).removed] == ["a/api/0"]
        assert views.assignments_index(kit.state, "n1") == kit.state.index
    assert kit.alloc("a/api/0").state is AllocState.LOST


@pytest.mark.parametrize("reason", ["", "its node is lost", "r" * 490, "r" * 500], ids=lambda reason: str(len(reason)))
def test_how_a_lost_allocation_ended_is_noted_once_whatever_its_reason(reason: str) -> None:
    kit = running("a")
    lose_node(kit, "n1")
    kit.lose("a/api/0", reason)
    said = "; its agent says: complete"
    assert kit.observe("a/api/0", AllocState.LOST) == kit.state.changed(False)
    assert kit.observe("a/api/0", AllocState.COMPLETE) == kit.state.changed(True)
    found = kit.alloc("a/api/0").reason
    assert found == reason[: 500 - len(said)] + said
    for state in (AllocState.COMPLETE, AllocState.FAILED):
        assert kit.observe("a/api/0", state) == kit.state.changed(False)
    assert kit.alloc("a/api/0").reason == found


@pytest.mark.parametrize(
    ("state", "started", "failures"),
    [(AllocState.FAILED, False, 1), (AllocState.FAILED, True, 0), (AllocState.COMPLETE, False, 0)],
    ids=["never started", "started", "complete"],
)
def test_only_a_failed_start_counts_as_one(state: AllocState, started: bool, failures: int) -> None:
    kit = running("a")
    kit.observe("a/api/0", state, start_failed=not started)
    row = kit.row("a/api/0")
    assert int(kit.state.table.failures[row]) == failures
    assert bool(kit.state.table.start_failed[row]) == bool(failures)


def test_reason_goes_when_a_later_observation_has_none() -> None:
    kit = running("a")
    kit.observe("a/api/0", AllocState.BACKOFF, reason="exit 1")
    kit.observe("a/api/0", AllocState.STARTING, restarts=1)
    assert kit.alloc("a/api/0").reason == ""
    assert kit.row("a/api/0") not in kit.state.table.reasons


# ---------------------------------------------------------------------------- variables


def write(
    kit: Kit, value: str | None, *, expectation: Expectation = Expectation.NONE, expected: str = "", namespace: str = D
) -> VariableAnswer:
    command = WriteVariable(namespace=namespace, name="v", value=value, expectation=expectation, expected=expected)
    answer = kit.ok(command).answer
    assert isinstance(answer, VariableAnswer)
    return answer


def test_many_writes_in_one_entry_are_as_many_commands() -> None:
    kit, alone = Kit(), Kit()
    writes = (
        WriteVariable(namespace=D, name="a", value="1"),
        WriteVariable(namespace=D, name="a", value="2", expectation=Expectation.VALUE, expected="1"),
        WriteVariable(namespace=D, name="a b", value="2"),
        WriteVariable(namespace=D, name="a", value=None, expectation=Expectation.VALUE, expected="1"),
    )
    together = kit.do(WriteVariables(writes=writes), request_id="r")
    outcomes = tuple(alone.do(write, request_id=f"r/{place}") for place, write in enumerate(writes))
    assert isinstance(together, Applied)
    assert together.answer == VariablesAnswer(outcomes=outcomes)
    assert [outcome.index for outcome in outcomes] == [1, 2, 3, 4]
    assert kit.state.variables == alone.state.variables
    assert [(key, read(one).outcome) for key, one in kit.state.answers.items()] == [
        (key, read(one).outcome) for key, one in alone.state.answers.items()
    ]
    assert kit.kinds() == alone.kinds()
    again = kit.do(WriteVariables(writes=writes), request_id="r")
    assert isinstance(again, Applied)
    assert isinstance(again.answer, VariablesAnswer)
    assert [outcome.index for outcome in again.answer.outcomes] == [1, 2, 3, 4]
    assert kit.state.index == 8, "repeating them is as many commands that do nothing"


def test_many_writes_without_a_request_id_are_all_done_and_none_is_remembered() -> None:
    kit = Kit()
    same = WriteVariable(namespace=D, name="v", value="1")
    for first in (1, 3):
        answer = kit.ok(WriteVariables(writes=(same, same))).answer
        assert isinstance(answer, VariablesAnswer)
        outcomes = [(outcome.index, getattr(outcome, "repeated", None)) for outcome in answer.outcomes]
        assert outcomes == [(first, False), (first + 1, False)]
    assert not len(kit.state.answers)


def test_of_many_writes_only_those_are_refused_whose_own_request_id_is_too_long() -> None:
    kit = Kit()
    writes = tuple(WriteVariable(namespace=D, name=f"v{place}", value="1") for place in range(11))
    together = kit.do(WriteVariables(writes=writes), request_id="r" * 254)  # /9 is the last that fits
    assert isinstance(together, Applied)
    assert isinstance(together.answer, VariablesAnswer)
    assert [isinstance(outcome, Applied) for outcome in together.answer.outcomes] == [True] * 10 + [False]
    assert sorted(name for _, name in kit.state.variables) == sorted(f"v{place}" for place in range(10))


def test_no_writes_at_all_are_refused() -> None:
    kit = Kit()
    outcome = kit.do(WriteVariables(writes=()))
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.index, kit.state.index) == ("INVALID", 1, 1)


def test_variable_counts_its_versions_and_keeps_when_it_came() -> None:
    kit = Kit()
    first = write(kit, "a").variable
    created = kit.state.index
    second = write(kit, "b").variable
    assert first is not None and second is not None
    assert (first.value, first.version, first.create_index, first.modify_index) == ("a", 1, created, created)
    assert (second.value, second.version, second.create_index) == ("b", 2, created)
    assert second.modify_index == kit.state.index == created + 1
    assert (second.namespace, second.name) == (D, "v")
    assert write(kit, None) == VariableAnswer(variable=None, hit=True)
    again = write(kit, "c").variable
    assert again is not None
    assert (again.version, again.create_index) == (1, kit.state.index)
    assert kit.kinds() == ["variable.changed", "variable.changed", "variable.deleted", "variable.changed"]


def test_expectation_that_fails_answers_with_what_is_there_and_writes_nothing() -> None:
    kit = Kit()
    assert write(kit, "x", expectation=Expectation.VALUE, expected="") == VariableAnswer(variable=None, hit=False)
    assert write(kit, "a", expectation=Expectation.ABSENT).hit
    for expectation, expected in ((Expectation.ABSENT, ""), (Expectation.VALUE, "b"), (Expectation.VALUE, "")):
        for value in ("x", None):
            answer = write(kit, value, expectation=expectation, expected=expected)
            assert not answer.hit
            assert answer.variable is not None and answer.variable.value == "a"
    assert write(kit, None, expectation=Expectation.VALUE, expected="a").hit
    assert not kit.state.variables
    assert kit.kinds() == ["variable.changed", "variable.deleted"]
    assert write(kit, None).hit  # deleting what is not there is no miss, and no event
    assert kit.kinds() == ["variable.changed", "variable.deleted"]


def test_variables_of_one_name_in_two_namespaces_keep_apart() -> None:
    kit = Kit()
    write(kit, "a")
    write(kit, "b", namespace="other")
    write(kit, None)
    assert [variable.value for variable in kit.state.variables.values()] == ["b"]
