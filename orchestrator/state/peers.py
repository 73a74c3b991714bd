"""The cluster's own peers: which disks may vote (``admitted``), and the configuration epochs.

Owns: ``AdmitPeers`` (the first start begins epoch 1; later a wiped disk of a member that has caught up) and
``ChangePeers`` (the next epoch). Leaves to others: sealing the log behind a change (``replication.epochs``). The rule:
within an epoch the peers' ids never change; a change names the epoch that it was made for, so of two only one happens.

In epoch 1 every peer's own ``--peers`` says where the others are and ``addresses`` is empty; from epoch 2 on the state
says it.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.contract.address import is_address
from orchestrator.state.check import id_problem, range_problem
from orchestrator.state.commands import AdmitPeers, ChangePeers, Outcome
from orchestrator.state.state import State

MAX_ADMITTED = 64
MAX_MEMBERS = 9
"""As many as ``--peers`` takes: more only makes every write slower."""


def admit(state: State, command: AdmitPeers) -> Outcome:
    problem = (
        id_problem("cluster id", command.cluster_id)
        or range_problem("number of peers", len(command.incarnations), 1, MAX_ADMITTED)
        or _incarnation_problem(command.incarnations)
    )
    if problem:
        return state.reject("INVALID", problem)
    if state.cluster_id and state.cluster_id != command.cluster_id:
        return state.reject(
            "CONFLICT",
            f"this is cluster {state.cluster_id!r}, not {command.cluster_id!r}: check the peer's data directory",
        )
    strangers = sorted(peer for peer, _ in command.incarnations if state.epoch and peer not in state.admitted)
    if strangers:
        return state.reject(
            "FAILED_PRECONDITION",
            f"{strangers[0]!r} is no peer of epoch {state.epoch}: `raftsman peers add` makes it one",
        )
    before = (state.cluster_id, dict(state.admitted))
    state.cluster_id = command.cluster_id
    state.epoch = state.epoch or 1
    state.admitted.update(command.incarnations)
    if before == (state.cluster_id, state.admitted):
        return state.changed(False)
    state.events.emit("peers.admitted", message=", ".join(peer for peer, _ in sorted(command.incarnations)))
    return state.changed()


def change(state: State, command: ChangePeers) -> Outcome:
    addresses, incarnations = dict(command.addresses), dict(command.incarnations)
    if not state.epoch:
        return state.reject("FAILED_PRECONDITION", "the first start is not complete: there are no peers to change yet")
    if command.expected_epoch != state.epoch:
        return state.reject(
            "CONFLICT",
            f"the peers are those of epoch {state.epoch}, not {command.expected_epoch}: they were changed meanwhile; "
            "look at `raftsman peers` and repeat what is still wanted",
            epoch=str(state.epoch),
        )
    if command.known and dict(command.known) != state.admitted:
        # Between the check and this place in the log a new disk was admitted. The change names the one before it, and
        # would dismiss a peer that nobody wants to remove.
        changed = ", ".join(sorted(peer for peer, _ in set(state.admitted.items()) - set(command.known)))
        return state.reject(
            "CONFLICT", f"a new disk of {changed} was admitted while the change was looked at: try again"
        )
    problem = (
        range_problem("number of peers", len(command.addresses), 1, MAX_MEMBERS)
        or _incarnation_problem(command.incarnations)
        or next((said for peer, address in command.addresses if (said := address_problem(peer, address))), "")
    )
    if not problem and addresses.keys() != incarnations.keys():
        problem = "every peer needs one address and one disk incarnation"
    if not problem and len(set(addresses.values())) != len(addresses):
        problem = "two peers have the same address"
    if not problem and len(set(incarnations.values())) != len(incarnations):
        problem = "two peers have the same disk incarnation"
    if problem:
        return state.reject("INVALID", problem)
    if (addresses, incarnations) == (state.addresses, state.admitted):
        return state.changed(False)
    state.epoch += 1
    state.addresses = dict(sorted(addresses.items()))
    state.admitted = dict(sorted(incarnations.items()))
    state.events.emit("peers.changed", message=f"epoch {state.epoch}: {', '.join(state.admitted)}")
    return state.changed()


def address_problem(peer: str, address: str) -> str:
    """Why a peer cannot be dialled there; "" if it can."""
    if not is_address(address):
        return f"the address {address[:80]!r} of peer {peer[:64]!r} must be host:port"
    return ""


def _incarnation_problem(incarnations: Iterable[tuple[str, str]]) -> str:
    return next(
        (
            problem
            for peer, incarnation in incarnations
            if (problem := id_problem("peer id", peer) or id_problem("disk incarnation", incarnation))
        ),
        "",
    )
