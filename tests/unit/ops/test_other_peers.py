"""What the other peers say decides whether a disk may be given up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from orchestrator.contract.answers import ClusterStatus, PeerInfo, ReadInfo
from orchestrator.contract.errors import NoLeaderError, PreconditionError
from orchestrator.ops.other_peers import Heard, Judgement, Known, View, hear, judge, required

P1 = Known(peer_id="p1", cluster_id="c-1", cluster_name="home")


def status(
    peer: str, size: int, *, epoch: int = 1, ignores: str = "", away: str = "", cluster: str = "c-1"
) -> ClusterStatus:
    """The own view of ``peer`` in a cluster of ``size``; it does not count ``ignores`` and does not hear ``away``."""
    peers = tuple(
        PeerInfo(
            id=f"p{n}", address=f"h{n}:1", voter=f"p{n}" not in ignores.split(), connected=f"p{n}" not in away.split()
        )
        for n in range(1, size + 1)
    )
    return ClusterStatus(
        cluster_id=cluster, cluster_name="home", epoch=epoch, peers=peers, read=ReadInfo(peer_id=peer, stale=True)
    )


def judged(*answers: ClusterStatus, known: Known = P1) -> Judgement:
    return judge(known, Heard(views=tuple(View.of(answer) for answer in answers), silent={"h9:1": "no answer"}))


@pytest.mark.parametrize("size", [3, 5])
def test_with_every_other_peer_well_the_disk_may_go(size: int) -> None:
    found = judged(*(status(f"p{n}", size, away="p1", ignores="p1") for n in range(2, size + 1)))
    assert found.problem == ""
    assert found.seen[0].startswith("p2: epoch 1, hears and counts p2, p3")
    assert found.seen[-1] == "h9:1: no answer"


def test_one_of_two_peers_and_the_only_one_are_never_given_up() -> None:
    found = judged(status("p2", 2))
    assert "p1 is one of two peers, and each of them is needed" in found.problem
    assert not found.passing
    assert "no other peer" in judged(status("p1", 1)).problem, "itself is nobody else"


def test_a_further_peer_that_is_down_is_one_too_many_of_three_and_not_of_five() -> None:
    assert "2 without p1 must run and count each other; p2 does" in judged(status("p2", 3, away="p3")).problem
    assert judged(*(status(f"p{n}", 5, away="p5") for n in (2, 3, 4))).problem == ""
    assert "p2, p3 do" in judged(*(status(f"p{n}", 5, away="p4 p5") for n in (2, 3))).problem


def test_a_peer_that_does_not_count_the_new_disk_of_another_yet_does_not_count_with_it() -> None:
    """Only the disk that goes knew of the admission; the other has restarted and has not applied it."""
    found = judged(status("p2", 3, ignores="p3"), status("p3", 3))
    assert "p2 does" in found.problem
    assert found.passing, "it may be another one in a moment"
    assert judged(status("p2", 3), status("p3", 3, ignores="p3")).problem, "nor does one that may not vote itself"


def test_who_does_not_hear_another_does_not_count_with_it() -> None:
    assert judged(status("p2", 3), status("p3", 3, away="p2")).problem


def test_only_the_newest_epoch_counts_and_the_disk_may_know_a_newer_one() -> None:
    assert "of the 3 peers of epoch 5" in judged(status("p2", 3, epoch=4), status("p3", 3, epoch=5)).problem
    both = [status(peer, 3, epoch=4) for peer in ("p2", "p3")]
    assert judged(*both).problem == ""
    found = judged(*both, known=Known(peer_id="p1", cluster_id="c-1", epoch=5))
    assert "its own disk knows of epoch 5" in found.problem


def test_peers_of_another_cluster_say_nothing_about_this_one() -> None:
    found = judged(*(status(peer, 3, cluster="c-2") for peer in ("p2", "p3")))
    assert "no other peer of its cluster" in found.problem
    assert "p2: is a peer of another cluster" in found.seen[0]


def test_a_disk_that_does_not_say_whose_it_is_needs_peers_that_know_it() -> None:
    lost = Known(peer_id="p1")
    assert judged(status("p2", 3), status("p3", 3), known=lost).problem == ""
    stranger = Known(peer_id="x1")
    assert "not of one that has a peer x1" in judged(status("p2", 3), status("p3", 3), known=stranger).problem


def test_who_has_not_begun_says_so() -> None:
    found = judged(status("p2", 3, epoch=0))
    assert "no other peer of its cluster" in found.problem
    assert found.seen[0] == "p2: has not begun yet"


# ---------------------------------------------------------------------------- asking


class Cluster:
    """Answers by address; each address that was asked is noted."""

    def __init__(self, answers: Mapping[str, ClusterStatus]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    async def __call__(self, address: str) -> ClusterStatus:
        self.asked.append(address)
        if address not in self.answers:
            raise NoLeaderError("no connection")
        return self.answers[address]


async def test_members_that_the_first_answer_names_are_asked_as_well_and_the_one_that_goes_never() -> None:
    cluster = Cluster({"h2:1": status("p2", 3), "h3:1": status("p3", 3)})
    heard = await hear(["h2:1"], cluster, without="p1")
    assert [view.peer_id for view in heard.views] == ["p2", "p3"]
    assert sorted(cluster.asked) == ["h2:1", "h3:1"]
    assert heard.silent == {}


async def test_an_answer_counts_for_the_peer_that_gave_it() -> None:
    """A name of the context's may lead to whichever peer lives."""
    cluster = Cluster({"any:1": status("p2", 3), "h2:1": status("p2", 3)})
    heard = await hear(["any:1", "h2:1"], cluster, without="p1")
    assert [view.peer_id for view in heard.views] == ["p2"]
    assert heard.silent == {"h3:1": "no connection"}


async def test_a_moment_of_doubt_passes_and_two_peers_stay_two() -> None:
    cluster = Cluster({"h2:1": status("p2", 3, away="p3"), "h3:1": status("p3", 3)})

    class Mending(Cluster):
        async def __call__(self, address: str) -> ClusterStatus:
            answer = await super().__call__(address)
            self.answers["h2:1"] = status("p2", 3)
            return answer

    assert await required(P1, ["h2:1", "h3:1"], Mending(cluster.answers), within_s=1.0)
    two = Cluster({"h2:1": status("p2", 2)})
    with pytest.raises(PreconditionError, match="must not be given up: p1 is one of two peers"):
        await required(P1, ["h2:1"], two, within_s=600.0)
    assert two.asked == ["h2:1"]


@pytest.mark.parametrize("known", [P1, Known(peer_id="p1")], ids=["known", "not known"])
async def test_nobody_is_waited_for_once_the_disk_may_go(known: Known) -> None:
    """But where its cluster is not known: who is silent might be of another one, and is given its time."""
    asked: list[str] = []
    answered = asyncio.Event()

    async def ask(address: str) -> ClusterStatus:
        asked.append(address)
        if address == "h1:1":
            await answered.wait()
            raise NoLeaderError("no connection")
        return status(f"p{address[1]}", 3)

    doing = asyncio.ensure_future(required(known, ["h1:1", "h2:1", "h3:1"], ask, within_s=0.0))
    if not known.cluster_id:
        while len(asked) < 3:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not doing.done()
        answered.set()
    assert len(await doing) == 2
