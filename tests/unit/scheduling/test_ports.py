"""Which host ports are picked: any that is free, another one first at every index of the log."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.model import AllocState, JobSpec
from orchestrator.scheduling.ports import Ports
from orchestrator.state.commands import JobSubmission, RegisterNode, SubmitJobs
from orchestrator.state.model import Node
from tests.properties.prompt import Real
from tests.unit.scheduling.cluster import Cluster, group_spec, node_spec

FIRST, LAST = 20_000, 20_019


def nodes(last: int = LAST) -> list[Node]:
    cluster = Cluster()
    cluster.node("n1", port_min=FIRST, port_max=last)
    return list(cluster.view().nodes.values())


def test_an_attempt_after_another_one_gets_other_ports() -> None:
    known = nodes()
    picked = [Ports(known, index).take(0, (0,))[0] for index in range(1, 200)]
    assert picked == [Ports(known, index).take(0, (0,))[0] for index in range(1, 200)]
    assert all(FIRST <= port <= LAST for port in picked)
    assert all(one != other for one, other in pairwise(picked))
    assert all(picked.count(port) > 5 for port in range(FIRST, LAST + 1))


@given(index=st.integers(0, 2**62), taken=st.sets(st.integers(FIRST, LAST)), fixed=st.integers(FIRST - 1, LAST))
def test_whatever_the_place_all_that_is_free_is_found_and_nothing_twice(
    index: int, taken: set[int], fixed: int
) -> None:
    ports = Ports(nodes(), index)
    ports.occupy(0, taken)
    free = set(range(FIRST, LAST + 1)) - taken - {fixed}
    wanted = (*(0 for _ in free), fixed)
    assert ports.fit(0, wanted) is (fixed not in taken)
    if fixed not in taken:
        given_out = ports.take(0, wanted)
        assert given_out[-1] == fixed
        assert sorted(given_out[:-1]) == sorted(free)


def test_a_node_may_have_one_port_or_none() -> None:
    ports = Ports(nodes(last=FIRST), 12_345)
    assert ports.take(0, (0,)) == (FIRST,)
    assert not ports.fit(0, (0,))


def test_an_instance_finds_a_port_among_those_of_a_stranger() -> None:
    """Another cluster on the machine has half of the range, the lower one; the agent says so of each attempt."""
    real = Real(0)
    real.do(RegisterNode(node=node_spec("n1", port_min=FIRST, port_max=LAST), identity="n1"))
    group = group_spec(count=4, ports=(0,))
    real.do(SubmitJobs(jobs=(JobSubmission(spec=JobSpec(name="web", groups=(group,)), uid="u"),)))
    table = real.state.table
    for _ in range(20):
        real.lead()
        for row in table.live_rows().tolist():
            if table.state[row] == AllocState.PENDING:
                (port,) = table.ports[row]
                stranger = port < (FIRST + LAST) // 2
                real.observe(row, AllocState.FAILED if stranger else AllocState.RUNNING, start_failed=stranger)
        real.now_ms += 1000
    assert [table.state[row] for row in table.live_rows().tolist()] == [AllocState.RUNNING] * 4
    assert max(table.attempt[row] for row in table.live_rows().tolist()) > 1
