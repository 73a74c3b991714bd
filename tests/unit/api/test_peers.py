"""Changing the peers, at the leader: what is checked before, and that a "no" says what was missing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.api.peers import PeerChanges
from orchestrator.contract.errors import (
    ConflictError,
    ExistsError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    RaftsmanError,
)
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.codec import encode_entry
from orchestrator.replication.log import LogStatus, PeerProgress
from orchestrator.replication.machine import ClusterMachine, admission_payload
from orchestrator.replication.memory import MemoryLog
from orchestrator.replication.propose import Proposer
from orchestrator.state import commands as cmd
from orchestrator.state.features import CHECKED_CHANGES, HIGHEST
from tests.unit.api.harness import call


class FakeLog(MemoryLog):
    """A leader p1 of three; ``dead`` ones do not answer, ``newcomers`` (id -> disk) are fit to join."""

    def __init__(self, machine: ClusterMachine) -> None:
        super().__init__(machine, peer_id="p1")
        self.machine = machine
        self.first = {f"p{n}": f"h{n}:1" for n in (1, 2, 3)}
        self.dead: set[str] = set()
        self.old: set[str] = set()
        self.joining: set[str] = set()
        self.newcomers = {"p4": "d4", "p5": "d5", "p3": "new"}
        self.hold: asyncio.Event | None = None

    @property
    def peers(self) -> dict[str, str]:
        return self.machine.addresses() or self.first

    async def rehearse(self, peer_id: str, address: str) -> str:
        if self.hold is not None:
            await self.hold.wait()
        if peer_id not in self.newcomers:
            raise PreconditionError(f"{peer_id} at {address} does not answer")
        return self.newcomers[peer_id]

    def status(self) -> LogStatus:
        rows = tuple(
            PeerProgress(
                peer_id=peer, address=at, connected=peer not in self.dead, voter=peer not in self.joining,
                incarnation="", match_index=0, last_contact_ms=0, feature_level=2 if peer in self.old else HIGHEST,
                cert_expires_ms=0,
            )
            for peer, at in self.peers.items()
        )  # fmt: skip
        return replace(super().status(), peers=rows)


class Changes:
    def __init__(self) -> None:
        self.machine = ClusterMachine()
        self.machine.apply(admission_payload("c", {f"p{n}": f"d{n}" for n in (1, 2, 3)}))
        self.log = FakeLog(self.machine)
        self.log.lead(True)
        self.changes = PeerChanges(self.log, Proposer(self.log), lambda: self.machine.state)

    async def __call__(self, *remove: str, epoch: int = 0, request_id: str = "", **add: str) -> pb.ChangePeersResponse:
        request = pb.ChangePeersRequest(request_id=request_id, add=add, remove=remove, expect_epoch=epoch)
        return await self.changes.change_peers(request, call())


@pytest.fixture
def change() -> Changes:
    return Changes()


async def test_several_changes_make_one_epoch_with_the_disks_that_were_seen(change: Changes) -> None:
    answer = await change("p2", p4="h4:1", p5="h5:1")
    assert (answer.epoch, dict(answer.peers)) == (2, {"p1": "h1:1", "p3": "h3:1", "p4": "h4:1", "p5": "h5:1"})
    assert change.machine.admitted() == {"p1": "d1", "p3": "d3", "p4": "d4", "p5": "d5"}


async def test_a_peer_moves_to_another_machine_under_its_id(change: Changes) -> None:
    change.log.dead = {"p3"}
    answer = await change("p3", p3="h9:1")
    assert answer.peers["p3"] == "h9:1"
    assert change.machine.admitted()["p3"] == "new"


@pytest.mark.parametrize(
    ("remove", "add", "error", "said"),
    [
        ((), {}, InvalidError, "nothing to change"),
        (("p9",), {}, NotFoundError, "no peer 'p9'; the peers are p1, p2, p3"),
        ((), {"p4": "nowhere"}, InvalidError, "must be host:port"),
        ((), {"p3": "h9:1"}, ExistsError, "p3 is a peer already, at h3:1"),
        (("p3",), {"p3": "h3:1"}, ExistsError, "p3 is at h3:1 already"),
        ((), {"p4": "h3:1"}, ExistsError, "h3:1 is the address of peer p3"),
        (("p1", "p2", "p3"), {}, PreconditionError, "no peer would be left"),
        ((), {"p7": "h7:1"}, PreconditionError, "p7 at h7:1 does not answer"),
        ((), {f"x{n}": f"x{n}:1" for n in range(7)}, InvalidError, "there would be 10 peers"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    change: Changes, remove: tuple[str, ...], add: dict[str, Any], error: type[RaftsmanError], said: str
) -> None:
    with pytest.raises(error, match=said):
        await change(*remove, **add)
    assert change.machine.epoch() == 1


async def test_without_a_living_majority_it_is_refused_with_the_numbers(change: Changes) -> None:
    change.log.dead = {"p2", "p3"}
    with pytest.raises(
        PreconditionError,
        match=r"of the 2 peers that there would be, 1 live with a vote \(p1\) and 2 are needed: start p3",
    ):
        await change("p2")
    assert (await change("p2", "p3")).epoch == 2


async def test_an_older_raftsman_among_the_peers_is_named(change: Changes) -> None:
    change.log.old = {"p2"}
    with pytest.raises(PreconditionError, match="peer p2 runs an older raftsman"):
        await change(p4="h4:1")


async def test_a_change_that_was_meant_for_another_epoch_is_refused(change: Changes) -> None:
    with pytest.raises(ConflictError, match="epoch 1, not 5"):
        await change(p4="h4:1", epoch=5)


async def test_two_changes_at_once_are_one_too_many(change: Changes) -> None:
    change.log.hold = asyncio.Event()
    first = asyncio.ensure_future(change(p4="h4:1"))
    await asyncio.sleep(0)
    with pytest.raises(ConflictError, match="another change of the peers is under way"):
        await change(p5="h5:1")
    change.log.hold.set()
    assert (await first).epoch == 2


async def test_a_repetition_is_answered_and_not_checked_again(change: Changes) -> None:
    first = await change(p4="h4:1", request_id="r")
    change.log.newcomers.clear()
    assert await change(p4="h4:1", request_id="r") == first
    with pytest.raises(InvalidError, match="used before"):
        await change(p5="h5:1", request_id="r")
    assert change.machine.epoch() == 2


async def test_the_only_peer_cannot_move_under_its_own_id(change: Changes) -> None:
    await change("p2", "p3")
    change.log.newcomers["p1"] = "new"
    with pytest.raises(PreconditionError, match="ids of their own"):
        await change("p1", p1="h9:1")


async def test_a_disk_that_is_not_admitted_yet_is_not_counted_upon(change: Changes) -> None:
    change.log.joining = {"p3"}
    with pytest.raises(PreconditionError, match=r"1 live with a vote \(p1\) and 2 are needed: wait until p3 may vote"):
        await change("p2")
    assert change.machine.epoch() == 1
    assert (await change("p2", p4="h4:1")).epoch == 2


async def test_a_disk_admitted_while_newcomers_are_looked_at_keeps_its_vote(change: Changes) -> None:
    change.log.hold = asyncio.Event()
    waiting = asyncio.create_task(change("p2", p4="h4:1"))
    await asyncio.sleep(0)
    change.machine.apply(admission_payload("c", {"p1": "d1", "p2": "d2", "p3": "d3-new"}))
    change.log.hold.set()
    await waiting
    assert change.machine.admitted() == {"p1": "d1", "p3": "d3-new", "p4": "d4"}


@pytest.mark.parametrize("level", [2, CHECKED_CHANGES])
async def test_a_disk_admitted_between_the_check_and_the_log_keeps_its_vote(
    change: Changes, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    """Found by the simulator (seed 8515): the peer with the new disk took itself for removed. Without the rule it still
    does, which older peers would judge so."""
    level_up = cmd.SetFeatureLevel(level=level)
    change.machine.apply(encode_entry(cmd.Entry(identity="", request_id="", digest=b"", time_ms=1, command=level_up)))
    propose = change.log.propose

    async def late(*arguments: Any, **options: Any) -> Any:
        change.machine.apply(admission_payload("c", {"p3": "d3-new"}))
        return await propose(*arguments, **options)

    monkeypatch.setattr(change.log, "propose", late)
    if level < CHECKED_CHANGES:
        await change("p2")
        assert change.machine.admitted() == {"p1": "d1", "p3": "d3"}
        return
    with pytest.raises(ConflictError, match="a new disk of p3 was admitted while the change was looked at: try again"):
        await change("p2")
    assert (change.machine.epoch(), change.machine.admitted()["p3"]) == (1, "d3-new")
    await change("p2")
    assert change.machine.admitted() == {"p1": "d1", "p3": "d3-new"}
