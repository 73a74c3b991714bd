"""All allocations of a state as records, for tests that look at what has become of something."""

from __future__ import annotations

from orchestrator.contract.model import Allocation
from orchestrator.contract.transitions import is_terminal
from orchestrator.state import views
from orchestrator.state.state import State


def allocations(state: State, *, namespace: str = "", job: str = "", live_only: bool = False) -> list[Allocation]:
    """By id and attempt; ``namespace`` "" and ``job`` "": of all."""
    every = (views.allocation(state, row) for row in state.table.used().tolist())
    found = [
        one
        for one in every
        if namespace in ("", one.id.namespace)
        and job in ("", one.id.job)
        and not (live_only and is_terminal(one.state))
    ]
    return sorted(found, key=lambda one: (one.id, one.attempt))
