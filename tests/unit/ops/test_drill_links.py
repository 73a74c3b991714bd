"""Which packets a partition drops: exactly those of the directions that were named."""

from __future__ import annotations

import pytest

from orchestrator.contract.errors import PreconditionError
from orchestrator.ops.drill_kinds import KINDS
from orchestrator.ops.drill_links import Links, dropped_packets, rules_for, rules_for_silence
from orchestrator.ops.drill_partitions import Partition


@pytest.mark.parametrize(
    ("kind", "peers", "ways"),
    [
        ("partition-leader", 3, "21 12 23 32"),
        ("partition-half", 3, "21 12 23 32"),
        ("partition-half", 5, "23 32 24 42 25 52 13 31 14 41 15 51"),
        ("partition-one-way", 3, "21"),
        ("partition-deaf", 3, "12 32"),
        ("partition-deaf", 5, "12 32 42 52"),
    ],
)
def test_each_partition_cuts_what_its_name_says(kind: str, peers: int, ways: str) -> None:
    """The leader is p2; ``23``: what p2 says to p3."""
    partition = KINDS[kind]
    assert isinstance(partition, Partition)
    others = [f"p{number}" for number in range(1, peers + 1) if number != 2]
    cut = {f"{one[1:]}{other[1:]}" for one, other in partition.ways("p2", others)}
    assert cut == set(ways.split())


def test_a_cut_drops_what_goes_to_the_address_of_that_direction_alone() -> None:
    assert rules_for([("p3", "p1"), ("p1", "p2"), ("p1", "p2")]) == [
        "-A raftsman -d 127.1.1.2 -j DROP",
        "-A raftsman -d 127.1.3.1 -j DROP",
    ]


def test_a_silent_machine_neither_answers_nor_tells_the_peers_that_it_had_dialled() -> None:
    assert rules_for_silence("p1", 7400, ["p2", "p3"]) == [
        "-A raftsman -p tcp --dport 7400 -j DROP",
        "-A raftsman -p tcp --sport 7400 -j DROP",
        "-A raftsman -d 127.1.1.2 -j DROP",
        "-A raftsman -d 127.1.1.3 -j DROP",
    ]


def test_dropped_packets_are_summed_over_the_rules() -> None:
    listing = """Chain raftsman (1 references)
    pkts      bytes target     prot opt in     out     source               destination
      17     2040 DROP       0    --  *      *       0.0.0.0/0            127.1.1.2
       0        0 DROP       0    --  *      *       0.0.0.0/0            127.1.1.3
       5      400 DROP       6    --  *      *       0.0.0.0/0            0.0.0.0/0            tcp dpt:7400
"""
    assert dropped_packets(listing) == 22
    assert (
        dropped_packets("Chain raftsman (1 references)\n pkts bytes target prot opt in out source destination\n") == 0
    )


def test_nothing_is_ever_dropped_in_the_machines_own_network() -> None:
    with pytest.raises(PreconditionError, match="network namespace of the drill's own"):
        Links()
