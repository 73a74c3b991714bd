"""``Control.ChangePeers``: the leader makes sure that a change of the peers can work, then proposes it.

Owns: what is asked before: every newcomer answers, is who it should be, has an empty disk and can fetch the state; a
majority of the peers that there would be lives. Leaves to others: the next epoch (``replication.epochs``), what a
configuration may be (``state.peers``). The rule: until the change is committed nothing has changed, and whoever is told
"no" is told what was missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from orchestrator.api.forward import Call
from orchestrator.api.requests import write
from orchestrator.contract.errors import (
    ConflictError,
    ExistsError,
    InvalidError,
    NotFoundError,
    PreconditionError,
)
from orchestrator.contract.model import str_map
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.epochs import FEATURE_LEVEL
from orchestrator.replication.log import LogStatus, ReplicatedLog
from orchestrator.replication.propose import Proposer
from orchestrator.state import commands as cmd
from orchestrator.state.features import CHECKED_CHANGES
from orchestrator.state.peers import MAX_MEMBERS, address_problem
from orchestrator.state.state import State

logger = structlog.get_logger(__name__)


class ChangeableLog(ReplicatedLog, Protocol):
    """``replication.epochs.EpochLog``, as far as changing the peers needs it."""

    @property
    def peers(self) -> Mapping[str, str]:
        """Id -> host:port of the present epoch's peers."""

    async def rehearse(self, peer_id: str, address: str) -> str:
        """The disk incarnation of a newcomer that is fit to join; raises ``PreconditionError``."""


class PeerChanges:
    """One change at a time."""

    def __init__(self, log: ChangeableLog, proposer: Proposer, state: Callable[[], State]) -> None:
        self._log = log
        self._proposer = proposer
        self._state = state
        self._changing = asyncio.Lock()

    async def change_peers(self, request: pb.ChangePeersRequest, call: Call) -> pb.ChangePeersResponse:
        if self._changing.locked():
            raise ConflictError("another change of the peers is under way: look at `raftsman peers`, then try again")
        async with self._changing:
            await self._log.read_barrier(timeout_s=call.timeout_s(5.0))
            if self._answered(request, call):
                command = cmd.ChangePeers(expected_epoch=0, addresses=(), incarnations=())  # answered as the first time
            else:
                command = await self._checked(request)
            done, _ = await write(self._proposer, request, call, command, cmd.WriteAnswer)
            state = self._state()
            return pb.ChangePeersResponse(index=done.index, epoch=state.epoch, peers=state.addresses)

    def _answered(self, request: pb.ChangePeersRequest, call: Call) -> bool:
        """A repetition of what was done must not be checked again: its newcomers are members now."""
        return self._state().answers.get((str(call.caller.identity), request.request_id)) is not None

    async def _checked(self, request: pb.ChangePeersRequest) -> cmd.ChangePeers:
        state, status = self._state(), self._log.status()
        epoch, now = state.epoch, dict(self._log.peers)
        if request.expect_epoch not in (0, epoch):
            raise ConflictError(f"the peers are those of epoch {epoch}, not {request.expect_epoch}: look at them again")
        added, removed = dict(request.add), set(request.remove)
        addresses = _wanted(now, added, removed)
        _check_versions(status)
        newcomers = sorted(added)
        found = await asyncio.gather(
            *(self._log.rehearse(peer, added[peer]) for peer in newcomers), return_exceptions=True
        )
        for failure in found:
            if isinstance(failure, BaseException):
                raise failure
        # As they are admitted at the moment of the check below: a disk that is admitted while newcomers are looked at
        # must not lose its vote again by this change.
        state = self._state()
        disks = {peer: disk for peer, disk in state.admitted.items() if peer in addresses and peer not in added}
        disks.update((peer, str(disk)) for peer, disk in zip(newcomers, found, strict=True))
        _check_majority(self._log.status(), addresses, added)
        logger.info("changing the peers", epoch=epoch + 1, peers=addresses)
        return cmd.ChangePeers(
            expected_epoch=epoch,
            addresses=str_map(addresses),
            incarnations=str_map(disks),
            known=str_map(state.admitted) if state.feature_level >= CHECKED_CHANGES else (),
        )


def _wanted(now: Mapping[str, str], added: Mapping[str, str], removed: set[str]) -> dict[str, str]:
    """The peers that there would be; raises what is wrong with the request."""
    if not added and not removed:
        raise InvalidError("nothing to change: add or remove a peer")
    for peer in sorted(removed):
        if peer not in now:
            raise NotFoundError(f"no peer {peer!r}; the peers are {', '.join(now)}")
    for peer, address in sorted(added.items()):
        problem = address_problem(peer, address)
        if problem:
            raise InvalidError(problem, field="add")
        if peer in now and peer not in removed:
            raise ExistsError(f"{peer} is a peer already, at {now[peer]}: `raftsman peers replace` moves it")
        if now.get(peer) == address:
            raise ExistsError(
                f"{peer} is at {address} already: a new disk there is admitted by itself once it has caught up"
            )
    addresses = dict(sorted({peer: at for peer, at in now.items() if peer not in removed}.items()))
    for peer, address in sorted(added.items()):
        taken = next((other for other, at in {**now, **addresses}.items() if at == address), "")
        if taken:
            raise ExistsError(f"{address} is the address of peer {taken}: {peer} needs one of its own")
        addresses[peer] = address
    if not addresses:
        raise PreconditionError("no peer would be left: add another one in the same change")
    if len(addresses) > MAX_MEMBERS:
        raise InvalidError(f"there would be {len(addresses)} peers; at most {MAX_MEMBERS} (three or five are right)")
    if set(addresses) == set(added) and set(added) & set(now) == set(now):
        raise PreconditionError("every peer would move under its own id: give the new ones ids of their own")
    return dict(sorted(addresses.items()))


def _check_versions(status: LogStatus) -> None:
    for peer in status.peers:
        if peer.connected and peer.peer_id != status.peer_id and peer.feature_level < FEATURE_LEVEL:
            raise PreconditionError(f"peer {peer.peer_id} runs an older raftsman: upgrade every peer first")


def _check_majority(status: LogStatus, addresses: Mapping[str, str], added: Mapping[str, str]) -> None:
    """A peer with a new disk that is not admitted yet lives, but the next epoch would not count it either."""
    connected = {peer.peer_id for peer in status.peers if peer.connected or peer.peer_id == status.peer_id}
    voters = {peer.peer_id for peer in status.peers if peer.voter and peer.peer_id in connected}
    alive = sorted(peer for peer in addresses if peer in added or peer in voters)
    joining = sorted(peer for peer in addresses if peer not in alive and peer in connected)
    dead = sorted(set(addresses) - set(alive) - set(joining))
    needed = len(addresses) // 2 + 1
    if len(alive) < needed:
        ways = [f"wait until {', '.join(joining)} may vote"] if joining else []
        ways += [f"start {', '.join(dead)} again"] if dead else []
        raise PreconditionError(
            f"of the {len(addresses)} peers that there would be, {len(alive)} live with a vote "
            f"({', '.join(alive) or 'none'}) and {needed} are needed: {', '.join(ways)}, or remove what is gone in the "
            "same change"
        )
