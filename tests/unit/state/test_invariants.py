"""The invariants find what is planted: a check that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.contract.model import AllocState, Resources
from orchestrator.state.commands import WriteVariable
from orchestrator.state.invariants import _differ, check
from orchestrator.state.snapshot import Image, capture, image_hash
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


def stray_run(state: State) -> None:
    state.children[("default", "nightly")] = {0: None}


def stray_template(state: State) -> None:
    state.periodic[0] = None


def wrong_drains(state: State) -> None:
    state.draining += 1


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
        stray_run,
        stray_template,
        wrong_drains,
    ],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_fault_is_found(plant: Callable[[State], None]) -> None:
    state = healthy()
    assert check(state) == []
    plant(state)
    assert check(state)


def changed(image: Image) -> list[tuple[Image, bool]]:
    """Others, and whether they are to be told apart from it."""
    (slot, one), *_ = image.jobs.items()
    key, variable = next(iter(image.variables.items()))
    (place, node_), *_ = image.nodes.items()
    return [
        (replace(image), False),
        (replace(image, jobs={**image.jobs, slot: replace(one)}), False),
        (replace(image, answers=list(image.answers), events=list(image.events)), False),
        (replace(image, jobs={**image.jobs, slot: replace(one, modify_index=99)}), True),
        (replace(image, jobs={**image.jobs, 7: one}), True),
        (replace(image, jobs={}), True),
        (replace(image, nodes={place + 1: node_}), True),
        (replace(image, variables={key: replace(variable, value="other")}), True),
        (replace(image, answers=image.answers[1:]), True),
        (replace(image, answers=image.answers[::-1]), True),
        (replace(image, events=image.events[:-1]), True),
        (replace(image, events=image.events[::-1]), True),
        (replace(image, index=image.index + 1), True),
    ]


def test_images_differ_when_their_hashes_do_whatever_they_share() -> None:
    kit = Kit()
    kit.register(node("n1"))
    kit.submit(job("a", group()))
    for number in range(2):
        kit.do(WriteVariable(namespace="default", name=f"v{number}", value="1"), request_id=f"r{number}")
    image = capture(kit.state)
    assert len(image.answers) > 1 and len(image.events) > 1
    for other, wanted in changed(image):
        for one, another in ((image, other), (other, image)):
            assert _differ(one, another) is wanted is (image_hash(one) != image_hash(another))
