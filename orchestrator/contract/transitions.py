"""The edges between allocation states: one table that apply, agents, documents and property tests read.

Owns: which observation may follow which. The rule: within one (attempt, restarts) pair an observation only moves
forward in number; a local restart raises ``restarts`` and begins again at STARTING.
"""

from __future__ import annotations

from orchestrator.contract.model import AllocState

EDGES: dict[AllocState, frozenset[AllocState]] = {
    # Placed. The agent takes it up, refuses it, or is told to stop before it began.
    AllocState.PENDING: frozenset(
        {
            AllocState.STARTING,
            AllocState.RUNNING,  # a quick start, both observations in one batch
            AllocState.BACKOFF,
            AllocState.STOPPING,
            AllocState.COMPLETE,
            AllocState.FAILED,
            AllocState.STOPPED,
            AllocState.LOST,
        }
    ),
    AllocState.STARTING: frozenset(
        {
            AllocState.RUNNING,  # every task runs
            AllocState.BACKOFF,  # could not start, will be tried again here
            AllocState.STOPPING,
            AllocState.COMPLETE,
            AllocState.FAILED,  # could not start, policy exhausted
            AllocState.STOPPED,
            AllocState.LOST,
        }
    ),
    AllocState.RUNNING: frozenset(
        {
            AllocState.BACKOFF,  # a task ended, policy allows another run here
            AllocState.STOPPING,
            AllocState.COMPLETE,  # every task exited with 0
            AllocState.FAILED,
            AllocState.STOPPED,
            AllocState.LOST,
        }
    ),
    AllocState.BACKOFF: frozenset({AllocState.STOPPING, AllocState.FAILED, AllocState.STOPPED, AllocState.LOST}),
    AllocState.STOPPING: frozenset({AllocState.COMPLETE, AllocState.FAILED, AllocState.STOPPED, AllocState.LOST}),
    # Terminal: never leaves; a new attempt replaces it. (LOST: a late observation of the same attempt may still say how
    # it really ended, so that the record is true; it never comes back to life in the control plane's eyes.)
    AllocState.COMPLETE: frozenset(),
    AllocState.FAILED: frozenset(),
    AllocState.STOPPED: frozenset(),
    AllocState.LOST: frozenset(),
}

TERMINAL = frozenset(state for state, edges in EDGES.items() if not edges)


def is_terminal(state: AllocState) -> bool:
    return state in TERMINAL


def follows(before: tuple[int, int, AllocState], after: tuple[int, int, AllocState]) -> bool:
    """Whether observation ``after`` may replace ``before``; both are (attempt, restarts, state).

    A higher attempt always wins. Within an attempt, a terminal state stays; a higher restart count wins over any live
    state; within one restart count the table decides.
    """
    if after[0] != before[0]:
        return after[0] > before[0]
    if before[2] in TERMINAL:
        return False
    if after[1] != before[1]:
        return after[1] > before[1]
    return after[2] in EDGES[before[2]]
