"""What agents say: each observation moves its allocation forward, or does nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import AllocState, Observation
from orchestrator.contract.transitions import EDGES
from orchestrator.state import views
from orchestrator.state.commands import Applied, MarkNodes, NodeMark, Outcome, RecordStatuses
from orchestrator.state.model import MAX_COMMAND_ROWS
from tests.unit.state.kit import Kit, group, job, node


def placed() -> Kit:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a", group(ports=(0,))))
    kit.place("a/api/0", "n1", ports=(20_000,))
    return kit


def changed(outcome: Outcome) -> bool:
    assert isinstance(outcome, Applied)
    return bool(getattr(outcome.answer, "changed", False))


AGENT_STATES = [state for state in AllocState if state not in (AllocState.PENDING, AllocState.LOST)]


@pytest.mark.parametrize("before", AGENT_STATES, ids=lambda state: state.name)
@pytest.mark.parametrize("after", AGENT_STATES, ids=lambda state: state.name)
def test_observations_follow_the_table(before: AllocState, after: AllocState) -> None:
    kit = placed()
    kit.observe("a/api/0", before)
    assert changed(kit.observe("a/api/0", after)) == (after in EDGES[before])
    assert kit.alloc("a/api/0").state is (after if after in EDGES[before] else before)


@pytest.mark.parametrize("state", [AllocState.COMPLETE, AllocState.FAILED, AllocState.STOPPED])
def test_a_terminal_observation_frees_everything_at_once(state: AllocState) -> None:
    kit = placed()
    kit.observe("a/api/0", state)
    info = views.node_info(kit.state, kit.state.nodes["n1"])
    assert (info.used.cpu_millis, info.allocations) == (0, 0)
    assert not kit.state.ledger.ports


def test_a_restart_begins_again_and_an_older_one_is_ignored() -> None:
    kit = placed()
    kit.observe("a/api/0", AllocState.RUNNING)
    assert changed(kit.observe("a/api/0", AllocState.BACKOFF, reason="exit 1", exit_code=1))
    assert changed(kit.observe("a/api/0", AllocState.STARTING, restarts=1))
    assert not changed(kit.observe("a/api/0", AllocState.STOPPING, restarts=0))
    found = kit.alloc("a/api/0")
    assert (found.state, found.restarts, found.exit_code, found.reason) == (AllocState.STARTING, 1, 0, "")


@pytest.mark.parametrize("state", [AllocState.LOST, AllocState.PENDING])
def test_an_agent_does_not_say_what_only_the_control_plane_says(state: AllocState) -> None:
    kit = placed()
    assert not changed(kit.observe("a/api/0", state, restarts=3))
    assert kit.alloc("a/api/0").state is AllocState.PENDING


@pytest.mark.parametrize("restarts", [-1, 2**31], ids=["negative", "beyond the column"])
def test_absurd_restart_counts_are_ignored(restarts: int) -> None:
    assert not changed(placed().observe("a/api/0", AllocState.RUNNING, restarts=restarts))


def test_an_exit_code_beyond_the_column_is_bounded() -> None:
    kit = placed()
    kit.observe("a/api/0", AllocState.FAILED, exit_code=2**40)
    assert kit.alloc("a/api/0").exit_code == 2**31 - 1


def test_an_unknown_node_is_told_to_register() -> None:
    refused = placed().refused(RecordStatuses(node_id="nobody", observations=()))
    assert refused.reason == "NOT_FOUND"
    assert "register" in refused.message


@pytest.mark.soak
def test_as_many_observations_as_a_command_may_have_and_restarts_as_a_column_holds() -> None:
    kit = placed()
    one = Observation(key=kit.key("a/api/0"), restarts=2**31 - 1, state=AllocState.RUNNING)
    too_many = RecordStatuses(node_id="n1", observations=(one,) * (MAX_COMMAND_ROWS + 1))
    assert kit.refused(too_many).reason == "INVALID"
    assert changed(kit.do(replace(too_many, observations=(one,) * MAX_COMMAND_ROWS)))
    assert kit.alloc("a/api/0").restarts == 2**31 - 1


def test_a_lost_allocation_never_comes_back_to_life() -> None:
    kit = placed()
    index = kit.state.nodes["n1"].register_index
    kit.ok(MarkNodes(lost=(NodeMark(node_id="n1", register_index=index),)))
    kit.lose("a/api/0")
    kit.register(node("n1"))
    before = kit.state.index
    assert not changed(kit.observe("a/api/0", AllocState.RUNNING))
    assert kit.alloc("a/api/0").state is AllocState.LOST
    # Its agent hears that nothing may run under this key, each time that it says that something does.
    update = views.assignments_for(kit.state, "n1", before)
    assert [key.attempt for key in update.removed] == [1]
    assert views.assignments_index(kit.state, "n1") == kit.state.index
    assert changed(kit.observe("a/api/0", AllocState.COMPLETE))
    found = kit.alloc("a/api/0")
    assert found.state is AllocState.LOST
    assert found.reason.endswith("its agent says: complete")
    assert not changed(kit.observe("a/api/0", AllocState.FAILED))


def lost(reason: str) -> Kit:
    kit = placed()
    index = kit.state.nodes["n1"].register_index
    kit.ok(MarkNodes(lost=(NodeMark(node_id="n1", register_index=index),)))
    kit.lose("a/api/0", reason)
    return kit


def test_who_is_lost_and_still_stopping_is_told_again_and_the_words_of_the_control_plane_say_nothing() -> None:
    kit = lost("its node is lost")
    assert not changed(kit.observe("a/api/0", AllocState.STOPPING))
    assert views.assignments_index(kit.state, "n1") == kit.state.index
    assert not changed(kit.observe("a/api/0", AllocState.LOST))
    assert kit.alloc("a/api/0").reason == "its node is lost"


@pytest.mark.parametrize("reason", ["", "its node is lost", "x" * 500])
@pytest.mark.parametrize("code", [3, 2**40, -(2**40)])
def test_how_a_lost_one_ended_is_kept_whole_beside_why_it_was_lost(reason: str, code: int) -> None:
    kit = lost(reason)
    assert changed(kit.observe("a/api/0", AllocState.FAILED, exit_code=code))
    found = kit.alloc("a/api/0")
    said = "; its agent says: failed"
    assert found.reason == reason[: 500 - len(said)] + said
    assert found.exit_code == max(-(2**31 - 1), min(2**31 - 1, code))
    assert found.modify_index == kit.state.index
    assert not changed(kit.observe("a/api/0", AllocState.FAILED, exit_code=5))
