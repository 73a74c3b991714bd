"""Where peers are reached when the cluster remembers other addresses."""

from __future__ import annotations

from orchestrator.replication.whereabouts import Whereabouts


def test_a_peer_is_looked_for_where_it_should_be_and_where_the_settings_say() -> None:
    where = Whereabouts("p1", {"p1": "a:1", "p2": "a:2"})
    assert where.ways("p2", "a:2") == ("a:2",)
    assert where.ways("p2", "old:2") == ("old:2", "a:2")
    assert where.ways("p9", "old:9") == ("old:9",)


def test_what_was_seen_to_answer_takes_the_place_of_what_is_remembered_and_so_does_this_peers_own() -> None:
    where = Whereabouts("p1", {"p1": "a:1", "p2": "a:2", "p3": "a:3"})
    peers = {"p1": "old:1", "p2": "old:2", "p3": "old:3"}
    assert where.of(peers) is peers, "stale settings alone say nothing"
    where.met("p2", "old:2", address="old:2")
    assert where.of(peers) is peers
    where.met("p2", "a:2", address="old:2")
    found = where.of(peers)
    assert found == {"p1": "a:1", "p2": "a:2", "p3": "old:3"}
    where.met("p2", "a:2", address="old:2")
    assert where.of(peers) is found, "callers compare by identity"
    assert where.of({**peers, "p4": "new:4"})["p4"] == "new:4"
    where.met("p2", "old:2", address="old:2")
    assert where.of(peers) is peers
