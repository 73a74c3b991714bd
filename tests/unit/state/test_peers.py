"""Which disks may vote, and changes of the peers: each epoch names all of its peers, and of two changes one happens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.model import StrMap, str_map
from orchestrator.state.commands import AdmitPeers, ChangePeers
from orchestrator.state.peers import MAX_ADMITTED, MAX_MEMBERS
from tests.unit.state.kit import Kit

DISKS = {"p1": "d1", "p2": "d2", "p3": "d3"}
FIRST = AdmitPeers(cluster_id="c-1", incarnations=str_map(DISKS))
NEXT = ChangePeers(
    expected_epoch=1,
    addresses=str_map({"p1": "h1:7400", "p4": "h4:7400"}),
    incarnations=str_map({"p1": "d1", "p4": "d4"}),
    known=str_map(DISKS),
)


def started() -> Kit:
    kit = Kit()
    kit.ok(FIRST)
    return kit


def peers(count: int, port: int = 7400) -> tuple[StrMap, StrMap]:
    names = [f"p{number:02}" for number in range(count)]
    return str_map({name: f"{name}:{port}" for name in names}), str_map({name: f"disk-{name}" for name in names})


def stands(kit: Kit) -> tuple[str, int, dict[str, str], dict[str, str]]:
    state = kit.state
    return state.cluster_id, state.epoch, dict(state.admitted), dict(state.addresses)


def told(kit: Kit) -> list[tuple[str, str]]:
    return [(one.kind, one.message) for one in kit.state.events.after(0)]


# ---------------------------------------------------------------------------- admitted


def test_the_first_start_begins_the_first_epoch_with_the_disks_that_were_named() -> None:
    kit = Kit()
    assert kit.ok(replace(FIRST, incarnations=(("p2", "d2"), ("p1", "d1")))).answer.changed is True  # type: ignore[union-attr]
    assert stands(kit) == ("c-1", 1, {"p1": "d1", "p2": "d2"}, {})
    assert told(kit) == [("peers.admitted", "p1, p2")]


def test_to_be_told_the_same_again_changes_nothing() -> None:
    kit = started()
    assert kit.ok(FIRST).answer.changed is False  # type: ignore[union-attr]
    assert len(told(kit)) == 1


def test_a_new_disk_of_a_peer_takes_the_place_of_its_old_one_and_the_epoch_stays() -> None:
    kit = started()
    kit.ok(NEXT)
    kit.ok(AdmitPeers(cluster_id="c-1", incarnations=(("p4", "new"),)))
    assert stands(kit)[:3] == ("c-1", 2, {"p1": "d1", "p4": "new"})
    assert told(kit)[-1] == ("peers.admitted", "p4")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (replace(FIRST, cluster_id="c-2"), "CONFLICT"),
        (replace(FIRST, cluster_id="with blank"), "INVALID"),
        (replace(FIRST, cluster_id=""), "INVALID"),
        (replace(FIRST, incarnations=()), "INVALID"),
        (replace(FIRST, incarnations=(("p1", "d1"), ("p 2", "d2"))), "INVALID"),
        (replace(FIRST, incarnations=(("p1", "d1"), ("p2", "d 2"))), "INVALID"),
        (replace(FIRST, incarnations=peers(MAX_ADMITTED + 1)[1]), "INVALID"),
        (replace(FIRST, incarnations=(("p1", "d1"), ("p4", "d4"))), "FAILED_PRECONDITION"),
    ],
    ids=["cluster", "cluster id", "no cluster id", "nobody", "peer", "disk", "too many", "stranger"],
)
def test_what_must_not_be_admitted_changes_nothing(command: AdmitPeers, reason: str) -> None:
    kit = started()
    before = stands(kit)
    assert kit.refused(command).reason == reason
    assert stands(kit) == before


@pytest.mark.parametrize("count", [1, MAX_ADMITTED])
def test_as_many_as_may_be_are_admitted(count: int) -> None:
    kit = Kit()
    kit.ok(replace(FIRST, incarnations=peers(count)[1]))
    assert len(kit.state.admitted) == count
    assert kit.refused(replace(FIRST, incarnations=peers(MAX_ADMITTED + 1)[1])).reason == "INVALID"


# ---------------------------------------------------------------------------- changed


def test_a_change_begins_the_next_epoch_with_these_peers_and_no_others() -> None:
    kit = started()
    assert kit.ok(NEXT).answer.changed is True  # type: ignore[union-attr]
    assert stands(kit) == ("c-1", 2, {"p1": "d1", "p4": "d4"}, {"p1": "h1:7400", "p4": "h4:7400"})
    assert told(kit)[-1] == ("peers.changed", "epoch 2: p1, p4")


def test_of_two_changes_that_were_made_for_one_epoch_the_second_does_not_happen() -> None:
    kit = started()
    kit.ok(NEXT)
    refused = kit.refused(replace(NEXT, addresses=NEXT.addresses[:1], incarnations=NEXT.incarnations[:1]))
    assert (refused.reason, dict(refused.metadata)) == ("CONFLICT", {"epoch": "2"})
    assert kit.refused(replace(NEXT, expected_epoch=3)).reason == "CONFLICT"
    assert kit.ok(replace(NEXT, expected_epoch=2, known=())).answer.changed is False  # type: ignore[union-attr]
    assert kit.state.epoch == 2


@pytest.mark.parametrize("change", [{"addresses": (("p1", "h9:7400"), ("p4", "h4:7400"))},
                                    {"incarnations": (("p1", "d9"), ("p4", "d4"))}])  # fmt: skip
def test_another_address_or_another_disk_is_a_change(change: dict[str, StrMap]) -> None:
    kit = started()
    kit.ok(NEXT)
    assert kit.ok(replace(NEXT, expected_epoch=2, known=(), **change)).answer.changed is True  # type: ignore[union-attr]
    assert kit.state.epoch == 3


def test_a_disk_that_was_admitted_meanwhile_is_not_dismissed_unseen() -> None:
    kit = started()
    kit.ok(AdmitPeers(cluster_id="c-1", incarnations=(("p2", "new"),)))
    refused = kit.refused(NEXT)
    assert refused.reason == "CONFLICT" and "p2" in refused.message and "p1" not in refused.message
    kit.ok(replace(NEXT, known=()))  # as a peer of before says it
    assert kit.state.epoch == 2


def test_there_is_nothing_to_change_before_the_first_start() -> None:
    kit = Kit()
    assert kit.refused(replace(NEXT, expected_epoch=0, known=())).reason == "FAILED_PRECONDITION"


MANY, THEIR_DISKS = peers(MAX_MEMBERS)
TOO_MANY, TOO_MANY_DISKS = peers(MAX_MEMBERS + 1)


@pytest.mark.parametrize(
    ("addresses", "incarnations", "said"),
    [
        ((), (), "number of peers"),
        (TOO_MANY, TOO_MANY_DISKS, "number of peers"),
        ((("p1", "h1:1"),), (("p1", "d 1"),), "disk incarnation"),
        ((("p 1", "h1:1"),), (("p 1", "d1"),), "peer id"),
        ((("p1", "h1:1"), ("p2", "nowhere")), (("p1", "d1"), ("p2", "d2")), "'nowhere' of peer 'p2'"),
        ((("p1", "h1:1"), ("p2", "h2:1")), (("p1", "d1"),), "one address and one disk"),
        ((("p1", "h1:1"),), (("p1", "d1"), ("p2", "d2")), "one address and one disk"),
        ((("p1", "h1:1"), ("p2", "h1:1")), (("p1", "d1"), ("p2", "d2")), "same address"),
        (TOO_MANY, (("p1", "d1"),), "number of peers"),
        ((("p1", "nowhere"), ("p2", "nowhere")), (("p1", "d1"), ("p2", "d2")), "'nowhere' of peer 'p1'"),
        ((("p1", "h1:1"),), (("p1", "d1"), ("p2", "d1")), "one address and one disk"),
        ((("p1", "h1:1"), ("p2", "h2:1")), (("p1", "d1"), ("p2", "d1")), "same disk"),
    ],
)
def test_what_cannot_be_an_epoch_is_refused_and_the_first_thing_that_is_wrong_is_said(
    addresses: StrMap, incarnations: StrMap, said: str
) -> None:
    kit = started()
    before = stands(kit)
    refused = kit.refused(replace(NEXT, addresses=addresses, incarnations=incarnations))
    assert refused.reason == "INVALID" and said in refused.message
    assert stands(kit) == before


@pytest.mark.parametrize(("addresses", "disks"), [(MANY, THEIR_DISKS), (MANY[:1], THEIR_DISKS[:1])])
def test_as_many_peers_as_may_be_are_an_epoch(addresses: StrMap, disks: StrMap) -> None:
    kit = started()
    kit.ok(replace(NEXT, addresses=addresses, incarnations=disks))
    assert kit.state.addresses == dict(addresses)
