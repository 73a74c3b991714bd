"""What planners, clients and agents see."""

from __future__ import annotations

import numpy as np

from orchestrator.contract.model import AllocState
from orchestrator.state import views
from orchestrator.state.allocations import VIEWED
from orchestrator.state.commands import Action, Command, Expectation, MarkNodes, NodeMark, StopJob, WriteVariable
from orchestrator.state.snapshot import capture, restore
from orchestrator.state.status import job_status
from tests.unit.state.kit import Kit, Placement, group, job, node


def running() -> Kit:
    kit = Kit()
    kit.register(node("n1", engine="e1"))
    kit.register(node("n2", engine="e1"))
    kit.register(node("n3", engine="e3"))
    kit.submit(job("a", group("x", 2), group("y", 1)), job("b", group("x", 1)))
    kit.plan(Placement("b/x/0", "n1"), Placement("a/y/0", "n1"), Placement("a/x/1", "n2"), Placement("a/x/0", "n3"))
    return kit


def test_the_planner_sees_every_ordinal_once_in_order() -> None:
    kit = running()
    kit.observe("a/x/0", AllocState.FAILED)
    kit.place("a/x/0", "n3")
    kit.observe("b/x/0", AllocState.COMPLETE)
    view = views.cluster_view(kit.state)
    rows = view.allocations
    seen = [
        (view.jobs_by_slot[job_].spec.name, group_, ordinal, attempt)
        for job_, group_, ordinal, attempt in zip(
            rows.job.tolist(), rows.group.tolist(), rows.ordinal.tolist(), rows.attempt.tolist(), strict=True
        )
    ]
    assert seen == [("a", 0, 0, 2), ("a", 0, 1, 1), ("a", 1, 0, 1), ("b", 0, 0, 1)]
    slot = next(iter(view.jobs_by_slot))
    assert np.asarray(view.last_attempt[(slot, "x")]).tolist() == [2, 1]


def test_a_view_shares_nothing_with_the_state() -> None:
    kit = running()
    view = views.cluster_view(kit.state)
    before = (view.allocations.state.tolist(), view.allocations.node.tolist(), len(view.jobs), view.index)
    kit.observe("a/x/0", AllocState.RUNNING)
    kit.submit(job("c"))
    kit.ok(StopJob(namespace="default", name="a"))
    assert (view.allocations.state.tolist(), view.allocations.node.tolist(), len(view.jobs), view.index) == before
    for name in VIEWED:
        assert not np.shares_memory(getattr(view.allocations, name), getattr(kit.state.table, name))


def test_what_may_still_run_is_counted() -> None:
    kit = running()
    kit.observe("a/x/1", AllocState.FAILED)
    assert views.live_count(kit.state) == 3


def test_an_agent_gets_everything_first_and_then_only_what_concerns_it() -> None:
    kit = running()
    first = views.assignments_for(kit.state, "n1")
    assert first.full
    assert {str(sub.key.id) for sub in first.assignments} == {"b/x/0", "a/y/0"}
    # Its own observations, and other nodes' work, are nothing to tell it.
    kit.observe("a/y/0", AllocState.RUNNING)
    kit.observe("a/x/1", AllocState.FAILED)
    kit.place("a/x/1", "n2")
    assert views.assignments_index(kit.state, "n1") <= first.index
    assert views.assignments_for(kit.state, "n1", first.index).assignments == ()
    kit.plan(actions=[(Action.STOP, "a/y/0", "surplus")])
    assert views.assignments_index(kit.state, "n1") == kit.state.index
    changes = views.assignments_for(kit.state, "n1", first.index)
    assert [(str(sub.key.id), sub.desired.name) for sub in changes.assignments] == [("a/y/0", "STOP")]
    assert not changes.full


def test_an_unknown_node_has_nothing_to_run() -> None:
    update = views.assignments_for(running().state, "nobody")
    assert (update.full, update.assignments) == (True, ())
    assert views.assignments_index(running().state, "nobody") == 0


def test_assignments_carry_the_values_of_named_variables_that_exist() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.ok(WriteVariable(namespace="default", name="token", value="secret"))
    kit.ok(WriteVariable(namespace="other", name="gone", value="not mine"))
    kit.submit(job("a", group(variables=(("GONE", "gone"), ("TOKEN", "token")))))
    kit.place("a/api/0", "n1")
    (assignment,) = views.assignments_for(kit.state, "n1").assignments
    assert assignment.variables == (("token", "secret"),)


def test_an_agent_hears_of_a_lost_neighbours_containers_on_its_engine() -> None:
    kit = running()
    before = kit.state.index
    index = kit.state.nodes["n2"].register_index
    kit.ok(MarkNodes(lost=(NodeMark(node_id="n2", register_index=index),)))
    assert views.superseded_for(kit.state, "n1") == ()  # nothing was replaced yet
    kit.plan(Placement("a/x/1", "n1", attempt=2), actions=[(Action.LOSE, "a/x/1", "lost")])
    for update in (views.assignments_for(kit.state, "n1"), views.assignments_for(kit.state, "n1", before)):
        assert [(str(key.id), key.attempt) for key in update.superseded] == [("a/x/1", 1)]
    assert views.superseded_for(kit.state, "n3") == ()  # another engine
    assert views.superseded_for(kit.state, "n1", kit.state.index) == ()  # told already
    kit.register(node("n2", engine="e1"))
    assert views.superseded_for(kit.state, "n1") == ()  # its own agent is back and does it


def test_the_lost_rows_of_nodes_are_those_that_a_look_at_every_row_finds() -> None:
    kit = running()
    first, second, third = (kit.state.nodes[name].slot for name in ("n1", "n2", "n3"))

    def agree() -> list[int]:
        state, counts = kit.state, []
        for slots in ([], [first], [second], [third], [first, third], [third, second, first]):
            used = state.table.used().tolist()
            lost = [row for row in used if state.table.state[row] == AllocState.LOST and state.table.node[row] in slots]
            assert state.lost_rows(slots).tolist() == lost
            counts.append(len(lost))
        return counts

    assert agree() == [0, 0, 0, 0, 0, 0]
    marks = tuple(NodeMark(node_id=one.spec.id, register_index=one.register_index) for one in kit.state.nodes.values())
    kit.ok(MarkNodes(lost=marks))
    for alloc, expected in (
        ("a/x/1", [0, 0, 1, 0, 0, 1]),
        ("b/x/0", [0, 1, 1, 0, 1, 2]),
        ("a/x/0", [0, 1, 1, 1, 2, 3]),
    ):
        kit.lose(alloc)
        assert agree() == expected
        assert agree() == expected  # from memory


def test_devices_and_ports_are_named() -> None:
    kit = Kit()
    kit.register(node("g", gpus=3))
    kit.submit(job("a", group(gpus=2, ports=(0, 8080))))
    kit.place("a/api/0", "g", devices=(0, 2), ports=(20_001, 8080))
    found = kit.alloc("a/api/0")
    assert found.device_ids == ("g-gpu-0", "g-gpu-2")
    assert [(binding.label, binding.host_port) for binding in found.ports] == [("p0", 20_001), ("p1", 8080)]
    assert found.resources.gpus is not None
    assert found.resources.gpus.count == 2


def test_status_counts_every_instance_once() -> None:
    kit = running()
    kit.observe("a/x/0", AllocState.RUNNING)
    kit.observe("a/x/1", AllocState.FAILED)
    by_name = {job.spec.name: job_status(kit.state, job) for job in kit.state.jobs.values()}
    assert sorted(by_name) == ["a", "b"]
    x, y = by_name["a"].groups
    assert (x.running, x.failed, x.starting, x.pending) == (1, 1, 0, 0)
    assert (y.starting, y.pending) == (1, 0)
    assert by_name["a"].state == "running"
    assert by_name["b"].state == "pending"


def test_a_stopped_job_is_stopping_until_its_last_instance_ended() -> None:
    kit = running()
    known = kit.state.find_job("default", "b")
    assert known is not None
    kit.ok(StopJob(namespace="default", name="b"))
    assert job_status(kit.state, kit.state.jobs[known.uid]).state == "stopping"
    kit.observe("b/x/0", AllocState.STOPPED)
    assert job_status(kit.state, kit.state.jobs[known.uid]).state == "stopped"


def test_group_that_left_the_job_is_shown_while_something_of_it_lives() -> None:
    kit = running()
    kit.submit(job("a", group("x", 2)))
    known = kit.state.find_job("default", "a")
    assert known is not None
    assert [status.group for status in job_status(kit.state, known).groups] == ["x", "y"]
    kit.observe("a/y/0", AllocState.STOPPED)
    assert [status.group for status in job_status(kit.state, known).groups] == ["x"]


def test_the_shown_index_moves_with_whatever_a_view_can_show() -> None:
    """Of variables a view has the names; a value, a missed expectation and a repetition change nothing in it."""
    kit = running()

    def moves(command: Command) -> bool:
        shown, before = kit.state.shown_index, views.cluster_view(kit.state).variables
        kit.ok(command)
        moved = kit.state.shown_index != shown
        assert moved or views.cluster_view(kit.state).variables == before
        return moved

    def write(value: str | None, expected: str | None = None) -> WriteVariable:
        expectation = Expectation.NONE if expected is None else Expectation.VALUE
        return WriteVariable(
            namespace="default", name="v", value=value, expectation=expectation, expected=expected or ""
        )

    assert moves(write("1"))
    assert not moves(write("2"))
    assert not moves(write("3", expected="1"))
    assert not moves(write("3", expected="2"))
    assert moves(write(None))
    assert not moves(write(None))
    assert moves(StopJob(namespace="default", name="a"))
    assert restore(capture(kit.state)).shown_index == kit.state.index
