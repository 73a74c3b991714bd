"""Which host ports are picked: any that is free, another one first at every index of the log."""

from __future__ import annotations

from itertools import pairwise

import pytest
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


# ---------------------------------------------------------------------------- engines and ranges

HERE, BESIDE, ALONE, NONE = range(4)
"""Two nodes of one engine whose ranges share 20005 to 20009, one of its own with the first range, one without any."""


@pytest.fixture
def ports() -> Ports:
    cluster = Cluster()
    cluster.node("n0", engine_id="e", port_min=20_000, port_max=20_009)
    cluster.node("n1", engine_id="e", port_min=20_005, port_max=20_014)
    cluster.node("n2", port_min=20_000, port_max=20_009)
    cluster.node("n3", port_min=1, port_max=0)
    return Ports(list(cluster.view().nodes.values()), 7)


def left(ports: Ports) -> list[int]:
    """How many single ports each node could still give."""
    return [ports.times(node, (0,)) for node in (HERE, BESIDE, ALONE, NONE)]


def test_nodes_of_one_engine_share_its_ports(ports: Ports) -> None:
    assert [ports.neighbours(node) for node in (HERE, BESIDE, ALONE)] == [[0, 1], [0, 1], [2]]
    assert left(ports) == [10, 10, 10, 0]
    ports.occupy(HERE, (20_007,))
    assert left(ports) == [9, 9, 10, 0]
    assert [ports.taken(node, (20_007, 0)) for node in (HERE, BESIDE, ALONE)] == [[20_007], [20_007], []]


@pytest.mark.parametrize(
    ("port", "lost"),
    [(19_999, (0, 0)), (20_000, (1, 0)), (20_004, (1, 0)), (20_005, (1, 1)), (20_009, (1, 1)), (20_010, (0, 1)),
     (20_014, (0, 1)), (20_015, (0, 0))],
)  # fmt: skip
def test_a_port_counts_in_the_ranges_that_it_lies_in_once(ports: Ports, port: int, lost: tuple[int, int]) -> None:
    for _ in range(2):
        ports.occupy(BESIDE, (port,))
        assert left(ports) == [10 - lost[0], 10 - lost[1], 10, 0]
    for _ in range(2):
        ports.release(HERE, (port,))
        assert left(ports) == [10, 10, 10, 0]
        assert ports.taken(HERE, (port,)) == []


def test_fixed_ports_that_are_taken_are_named_once_in_the_order_of_the_wish(ports: Ports) -> None:
    ports.occupy(HERE, (20_001, 80))
    assert ports.taken(HERE, (80, 0, 20_001, 80, 443)) == [80, 20_001]
    assert not ports.fit(HERE, (80,)) and ports.fit(HERE, (443,)) and ports.fit(ALONE, (80,))


@pytest.mark.parametrize(
    ("wanted", "missing"),
    [
        ((), 0),
        ((80,), 0),
        ((0, 0), 0),
        ((0, 0, 0), 1),
        ((0, 0, 0, 0), 2),
        ((0, 0, 80), 0),
        ((0, 0, 20_000), 1),
        ((0, 0, 20_000, 20_000), 1),
        ((0, 0, 20_009), 1),
        ((0, 0, 20_010), 0),
        ((0, 0, 19_999), 0),
        ((0, 0, 20_005), 0),
        ((20_000, 20_009), 0),
    ],
)
def test_how_many_ports_a_range_lacks(ports: Ports, wanted: tuple[int, ...], missing: int) -> None:
    """Of the first range 20000 and 20009 are free; a fixed port takes one away, if it is free and lies there."""
    ports.occupy(HERE, range(20_001, 20_009))
    assert ports.missing(HERE, wanted) == missing
    assert ports.fit(HERE, wanted) is (missing == 0 and 20_005 not in wanted)


@pytest.mark.parametrize(
    ("wanted", "times"),
    [((0,), 9), ((0, 0), 4), ((0, 0, 0), 3), ((0,) * 9, 1), ((0,) * 10, 0), ((80,), 1), ((0, 80), 1), ((20_003,), 0)],
)
def test_how_many_instances_get_ports(ports: Ports, wanted: tuple[int, ...], times: int) -> None:
    """A fixed port is there once."""
    ports.occupy(HERE, (20_003,))
    assert ports.times(HERE, wanted) == times


def test_what_is_given_stands_in_the_order_of_the_wish_and_is_taken_then(ports: Ports) -> None:
    given = ports.take(HERE, (0, 20_004, 0, 80))
    assert given[1::2] == (20_004, 80)
    assert len(set(given)) == 4 and {given[0], given[2]} <= set(range(20_000, 20_010)) - {20_004}
    assert sorted(ports.taken(BESIDE, given)) == sorted(given)
    rest = ports.take(HERE, (0,) * 7)
    assert set(rest) | set(given) == {*range(20_000, 20_010), 80}
    assert left(ports)[HERE] == 0


@pytest.mark.parametrize("index", range(12))
def test_wherever_it_begins_the_search_goes_on_at_the_other_end(index: int) -> None:
    ports = Ports(nodes(FIRST + 3), index)
    assert sorted(ports.take(0, (0, 0, 0, 0))) == [FIRST, FIRST + 1, FIRST + 2, FIRST + 3]


def test_there_is_a_way_back(ports: Ports) -> None:
    ports.occupy(HERE, (20_001,))
    for _ in range(2):
        back = ports.remember((BESIDE, ALONE))
        first = ports.take(HERE, (0, 0))
        ports.take(ALONE, (0, 80))
        assert left(ports)[::2] != [9, 10]
        back()
        assert left(ports)[HERE] == 9 and left(ports)[ALONE] == 10
        assert ports.taken(HERE, (20_001, *first)) == [20_001] and ports.fit(ALONE, (80,))
        assert ports.take(HERE, (0, 0)) == first, "the next one is found at the same place"
        back()


def test_only_what_was_asked_for_is_remembered(ports: Ports) -> None:
    back = ports.remember((ALONE,))
    ports.occupy(HERE, (80,))
    ports.occupy(ALONE, (80,))
    back()
    assert ports.taken(HERE, (80,)) == [80] and ports.taken(ALONE, (80,)) == []
