"""A client that lives long outlives the peers that it was made with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.client import endpoints
from orchestrator.client.aio import Client
from orchestrator.client.endpoints import Endpoints
from tests.unit.client.fake import FakePeer, World


@pytest.fixture
def peers() -> Iterator[list[FakePeer]]:
    world = World()
    made = [FakePeer(world, f"p{number}") for number in (1, 2, 3)]
    yield made
    for peer in made:
        peer.kill()


@pytest.fixture(autouse=True)
def ask_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LEARN_S", 0.0)


async def test_it_learns_the_present_peers_beside_an_answer_and_goes_on_without_the_old(peers: list[FakePeer]) -> None:
    old, new, _ = peers
    old.present_peers = [new.address]
    async with Client([old.address], timeout_s=20) as client:
        await client.put_variable("a", "1")
        assert client.endpoints == (old.address, new.address)
        old.kill()
        assert (await client.get_variable("a")).variable is not None


async def test_who_hears_nothing_keeps_what_it_has(peers: list[FakePeer]) -> None:
    async with Client([peers[0].address]) as client:
        await client.put_variable("a", "1")
        assert client.endpoints == (peers[0].address,)


async def test_one_that_makes_the_change_knows_the_new_peers_at_once(peers: list[FakePeer]) -> None:
    async with Client([peers[0].address]) as client:
        changed = await client.change_peers({"p2": peers[1].address})
        assert (changed.epoch, changed.peers) == (1, (("p2", peers[1].address),))
        assert client.endpoints == (peers[0].address, peers[1].address)


def test_peers_that_are_gone_are_forgotten_except_those_that_the_client_was_given() -> None:
    known = Endpoints(["given:1"], None)
    known.learn(["a:1", "b:1"])
    assert known.addresses == ("given:1", "a:1", "b:1")
    known.learn(["b:1", "c:1"])
    assert known.addresses == ("given:1", "b:1", "c:1")
    known.learn([])
    assert known.addresses == ("given:1", "b:1", "c:1")


def test_it_asks_at_most_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LEARN_S", 1000.0)
    known = Endpoints(["given:1"], None)
    assert known.wanted() and not known.wanted()
