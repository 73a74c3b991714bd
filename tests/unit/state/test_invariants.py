"""The invariants find what is planted: a check that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.contract.model import AllocState, Resources
from orchestrator.state.invariants import check
from orchestrator.state.state import State
from tests.unit.state.kit import Kit, Placement, group, job, node


def healthy() -> State:
    kit = Kit()
    kit.register(node("n1", gpus=1))
    kit.submit(job("a", group(count=2, gpus=1, share=500, ports=(0,))))
    kit.plan(Placement("a/api/0", "n1", ports=(1,)), Placement("a/api/1", "n1", ports=(2,)))
    return kit.state


def overcommit(state: State) -> None:
    known = state.nodes["n1"]
    state.put_node(replace(known, ceiling=Resources(cpu_millis=1)))


def share_twice(state: State) -> None:
    state.table.gpu_millis[:2] = 600


def same_port(state: State) -> None:
    state.table.ports[0] = state.table.ports[1]


def two_live(state: State) -> None:
    state.table.ordinal[1] = 0


def wrong_sum(state: State) -> None:
    state.ledger.cpu_millis[0] += 1


def wrong_newest(state: State) -> None:
    state.ordinals.newest[state.ordinals.base[0]] = 1


def unreleased(state: State) -> None:
    state.table.state[0] = int(AllocState.FAILED)


def from_the_future(state: State) -> None:
    state.table.modify_index[0] = state.index + 1


def dirty_free_row(state: State) -> None:
    rows = state.table.take(1)
    state.table.job[rows] = -1
    state.table.attempt[rows] = 7


def lost_spec(state: State) -> None:
    state.table.version[0] = 9


@pytest.mark.parametrize(
    "plant",
    [
        overcommit,
        share_twice,
        same_port,
        two_live,
        wrong_sum,
        wrong_newest,
        unreleased,
        from_the_future,
        dirty_free_row,
        lost_spec,
    ],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_fault_is_found(plant: Callable[[State], None]) -> None:
    state = healthy()
    assert check(state) == []
    plant(state)
    assert check(state)
