"""When a peer takes its snapshots, and how it leaves room for others while it stores one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.replication.compaction import LONGEST_REST_S, at_leisure, share_of
from orchestrator.replication.settings import EngineConfig
from tests.sim.cluster import SimCluster
from tests.sim.loop import run_virtual


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.rests: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.rests.append(round(seconds, 6))
        self.now += seconds


def test_whoever_stores_a_snapshot_rests_after_each_part_in_proportion_to_its_work() -> None:
    clock = Clock()

    def parts() -> Iterator[bytes]:
        for number in range(4):
            clock.now += 0.010  # to make it
            yield b"%d" % number

    taken: list[bytes] = []
    nobody_waits = iter((True, True, False, True))
    for part in at_leisure(parts(), 3.0, lambda: next(nobody_waits), sleep=clock.sleep, clock=clock):
        clock.now += 5.0 if part == b"1" else 0.002  # to store it
        taken += [part]
    assert taken == [b"0", b"1", b"2", b"3"]
    assert clock.rests == [0.036, LONGEST_REST_S, 0.036]


@pytest.mark.parametrize(
    ("peers", "shares"),
    [(["a"], [1.0]), (["b", "a", "c"], [5 / 6, 4 / 6, 1.0]), (list("abcde"), [0.6, 0.7, 0.8, 0.9, 1])],
)
def test_each_peer_takes_its_snapshots_after_another_number_of_entries(peers: list[str], shares: list[float]) -> None:
    assert [share_of(peer, peers) for peer in peers] == pytest.approx(shares)


def test_peers_that_apply_the_same_entries_are_not_at_their_snapshots_at_once() -> None:
    async def scenario() -> None:
        config = EngineConfig(compact_entries=60, tail_entries=0)
        async with SimCluster(seed=1, config=config) as cluster:
            leader = await cluster.elect()
            taken: dict[str, int] = {}
            for number in range(70):
                await leader.engine.propose(b"%d" % number)
                await cluster.converge()
                for peer in cluster.running():
                    if peer.engine.snapshots_saved:
                        taken.setdefault(peer.peer_id, leader.engine.status().applied_index)
            first, second, third = (taken[peer] for peer in ("p1", "p2", "p3"))
            assert 40 <= first < second - 5
            assert second < third - 5
            assert third <= 65

    run_virtual(scenario)
