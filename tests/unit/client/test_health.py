from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.client.health import MAX_LAG, unready
from orchestrator.contract.answers import ClusterStatus, PeerInfo

P1 = PeerInfo(id="p1", role="leader", connected=True, lag=0)
P2 = PeerInfo(id="p2", role="follower", connected=True, lag=MAX_LAG)
WELL = ClusterStatus(leader_id="p1", peers=(P1, P2))


def test_all_connected_voting_and_caught_up_is_ready() -> None:
    assert unready(WELL) == ""


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        (replace(P2, connected=False, role="unreachable"), "p2 is unreachable"),
        (replace(P2, connected=False), "p2 is away"),
        (replace(P2, role="joining"), "p2 is joining"),
        (replace(P2, voter=False), "p2 has no vote yet"),
        (replace(P2, lag=-1), "p2 has not answered the leader yet"),
        (replace(P2, lag=MAX_LAG + 1), f"p2 is {MAX_LAG + 1} entries behind"),
    ],
)
def test_whoever_may_not_be_relied_on_is_named(peer: PeerInfo, said: str) -> None:
    assert unready(replace(WELL, peers=(P1, peer))) == said


def test_without_a_leader_nobody_is_ready() -> None:
    assert unready(replace(WELL, leader_id="")) == "nobody leads"
