"""A state that begins a new life: nothing that the old life may have given out is given out again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import plan
from orchestrator.contract.errors import OutOfRangeError
from orchestrator.contract.model import str_map
from orchestrator.replication.machine import ClusterMachine
from orchestrator.state import views
from orchestrator.state.commands import AdmitPeers, Applied, PlanAnswer
from orchestrator.state.invariants import check
from orchestrator.state.renewal import ATTEMPT_STEP, EPOCH_STEP, INDEX_STEP, renew
from orchestrator.state.state import State
from tests.unit.state.kit import Kit, Placement, group, job, node


@pytest.fixture
def cluster() -> Kit:
    made = Kit()
    made.do(AdmitPeers(cluster_id="c-1", incarnations=str_map({"p1": "d1", "p2": "d2", "p3": "d3"})))
    made.submit(job("web", group("api", 2)))
    made.register(replace(node("n", cpu=4000), drivers=("docker",)))
    made.plan(Placement("web/api/0", "n"))
    return made


def renewed(state: State) -> State:
    """As a peer finds it on its disk."""
    renew(state, peer_id="p1", incarnation="new", address="host:7400", cause="restored in a test")
    machine = ClusterMachine()
    machine.state = state
    data = b"".join(machine.capture()())
    machine.restore(data)
    assert check(machine.state) == []
    return machine.state


def test_numbers_rise_beyond_what_the_old_life_can_have_reached(cluster: Kit) -> None:
    index = cluster.state.index
    state = renewed(cluster.state)
    assert (state.epoch, state.index, state.attempt_floor) == (EPOCH_STEP, INDEX_STEP, ATTEMPT_STEP)
    assert (state.addresses, state.admitted) == ({"p1": "host:7400"}, {"p1": "new"})
    assert state.cluster_id == "c-1"
    again = renewed(state)
    assert (again.epoch, again.index, again.attempt_floor) == (2 * EPOCH_STEP, 2 * INDEX_STEP, 2 * ATTEMPT_STEP)
    for old in (1, index, index + 1, INDEX_STEP + 5):
        with pytest.raises(OutOfRangeError):
            again.events.after(old)
    with pytest.raises(OutOfRangeError):
        again.events.after(2 * INDEX_STEP - 2)
    (event,) = again.events.after(0)
    assert again.events.after(2 * INDEX_STEP - 1) == [event]
    assert (event.kind, event.index, event.message) == ("cluster.restored", 2 * INDEX_STEP, "restored in a test")


def test_the_highest_attempt_of_all_counts_and_what_has_never_run_has_none(cluster: Kit) -> None:
    cluster.submit(job("idle", group("never")), job("busy", group("api", 3)))
    for ordinal in range(3):
        cluster.plan(Placement(f"busy/api/{ordinal}", "n"))
    state = cluster.state
    slots = {known.spec.name: known.slot for known in state.jobs.values()}
    assert state.ordinals.attempts(state.ordinals.add(slots["idle"], "never")).tolist() == []
    first = int(state.ordinals.base[state.ordinals.gids[(slots["busy"], "api")]])
    state.ordinals.last_attempt[first : first + 3] = (1, ATTEMPT_STEP, 3)
    renew(state, peer_id="p1", incarnation="new", address="host:7400", cause="")
    assert state.attempt_floor == 2 * ATTEMPT_STEP


def test_every_placement_is_above_the_floor_also_of_groups_and_ordinals_that_the_backup_does_not_know(
    cluster: Kit,
) -> None:
    state = cluster.state = renewed(cluster.state)
    cluster.submit(job("web", group("api", 3), group("later", 1)))
    decided = plan.decide(views.cluster_view(state), state.time_ms + 1)
    attempts = [attempt for one in decided.plans for attempt in one.placements.attempt.tolist()]
    assert len(attempts) >= 3
    assert set(attempts) == {ATTEMPT_STEP + 1}
    for one in decided.plans:
        outcome = cluster.do(one)
        assert isinstance(outcome, Applied)
        assert isinstance(outcome.answer, PlanAnswer)
        assert outcome.answer.rejected == ()


def test_an_attempt_that_the_old_life_may_have_made_is_refused(cluster: Kit) -> None:
    cluster.state = renewed(cluster.state)
    (rejected,) = cluster.plan(Placement("web/api/1", "n", attempt=1)).rejected
    assert "not the next attempt" in rejected
    assert cluster.plan(Placement("web/api/1", "n", attempt=ATTEMPT_STEP + 1)).rejected == ()


def test_agents_are_told_which_attempts_they_may_only_take_up(cluster: Kit) -> None:
    assert [one.adopt_only for one in views.assignments_for(cluster.state, "n").assignments] == [False]
    state = cluster.state = renewed(cluster.state)
    assert [one.adopt_only for one in views.assignments_for(state, "n").assignments] == [True]
    cluster.plan(Placement("web/api/1", "n", attempt=ATTEMPT_STEP + 1))
    found = {one.key.attempt: one.adopt_only for one in views.assignments_for(cluster.state, "n").assignments}
    assert found == {1: True, ATTEMPT_STEP + 1: False}


def test_a_cluster_that_never_started_has_no_life_to_go_on_with() -> None:
    for epoch, cluster_id in ((0, ""), (0, "c-1"), (1, "")):
        state = Kit().state
        state.epoch, state.cluster_id = epoch, cluster_id
        with pytest.raises(ValueError, match="never complete"):
            renew(state, peer_id="p1", incarnation="x", address="a:1", cause="")
