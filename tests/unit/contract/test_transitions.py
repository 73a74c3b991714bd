"""The table of allocation states, and what may follow what."""

from __future__ import annotations

from itertools import product

import pytest

from orchestrator.contract.model import AllocState
from orchestrator.contract.transitions import EDGES, TERMINAL, follows, is_terminal

STATES = list(AllocState)
LIVE = frozenset(EDGES) - TERMINAL


def test_every_state_has_its_line_in_the_table() -> None:
    assert set(EDGES) == set(AllocState)
    assert set(AllocState) == TERMINAL | LIVE
    assert not TERMINAL & LIVE
    assert {AllocState.COMPLETE, AllocState.FAILED, AllocState.STOPPED, AllocState.LOST} == TERMINAL


def test_within_one_run_numbers_only_grow() -> None:
    assert all(after > before for before, edges in EDGES.items() for after in edges)


def test_live_states_have_smaller_numbers_than_terminal_ones() -> None:
    """``state.allocations`` tells them apart by number."""
    assert max(LIVE) < min(TERMINAL)


def test_whatever_lives_can_be_stopped_lost_or_fail() -> None:
    for state in LIVE:
        assert {AllocState.FAILED, AllocState.STOPPED, AllocState.LOST} <= EDGES[state]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_terminal_means_that_nothing_of_the_attempt_follows(state: AllocState) -> None:
    reachable = any(follows((1, 0, state), (1, restarts, after)) for restarts in (0, 1, 5) for after in STATES)
    assert is_terminal(state) == (not reachable)


def test_a_higher_attempt_always_wins_and_a_lower_one_never() -> None:
    for before, after in product(STATES, STATES):
        assert follows((1, 9, before), (2, 0, after))
        assert not follows((2, 0, before), (1, 9, after))


def test_a_local_restart_begins_again() -> None:
    assert follows((1, 0, AllocState.BACKOFF), (1, 1, AllocState.STARTING))
    assert follows((1, 0, AllocState.RUNNING), (1, 1, AllocState.STARTING))
    assert not follows((1, 1, AllocState.STARTING), (1, 0, AllocState.RUNNING))


def test_no_observation_follows_itself() -> None:
    for state in STATES:
        assert not follows((1, 0, state), (1, 0, state))


def test_of_two_observations_at_most_one_order_is_allowed() -> None:
    observations = list(product((1, 2), (0, 1), STATES))
    for one, two in product(observations, observations):
        assert not (follows(one, two) and follows(two, one))
