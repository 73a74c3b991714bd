"""A number that one group serves by TCP and by UDP, as name servers do: one host port of one instance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import plan
from orchestrator.contract.model import AllocState, PortSpec, Protocol
from orchestrator.state import views
from orchestrator.state.commands import Rejected
from tests.unit.state.kit import Kit, Placement, group, job, node

BOTH = (
    PortSpec(label="tcp", to=53, static=53),
    PortSpec(label="udp", to=53, static=53, protocol=Protocol.UDP),
    PortSpec(label="web"),
)


@pytest.fixture
def kit() -> Kit:
    made = Kit()
    made.register(node("n1", engine="e"))
    made.register(node("n2", engine="e"))
    made.submit(job("dns", replace(group(count=2), ports=BOTH)))
    return made


def test_it_is_placed_once_per_engine_and_free_again_after_its_end(kit: Kit) -> None:
    for one in plan.decide(views.cluster_view(kit.state), kit.now_ms).plans:
        kit.ok(one)
    *fixed, picked = (bound.host_port for bound in kit.alloc("dns/api/0").ports)
    assert fixed == [53, 53]
    assert 20_000 <= picked <= 31_999
    assert len(kit.state.live_rows(0)) == 1  # the other instance has no host port left
    kit.observe("dns/api/0", AllocState.FAILED)
    assert kit.state.ledger.ports == {}
    kit.place("dns/api/1", "n2", ports=(53, 53, 20_000))
    assert kit.alloc("dns/api/1").node_id == "n2"


def test_nobody_else_gets_the_number_and_nothing_twice_that_was_not_asked_for_twice(kit: Kit) -> None:
    answer = kit.plan(Placement("dns/api/0", "n1", ports=(53, 53, 53)))
    assert answer.rejected == ("dns/api/0: it gets the same host port twice",)
    kit.place("dns/api/0", "n1", ports=(53, 53, 20_000))
    assert "host port 53 is taken" in kit.place("dns/api/1", "n2", ports=(53, 53, 20_001)).rejected[0]
    twice = replace(group(), ports=(PortSpec(label="a", static=80), PortSpec(label="b", static=80)))
    outcome = kit.submit(job("web", twice))
    assert isinstance(outcome, Rejected)
    assert "two ports of a group ask for the same host port" in outcome.message
