"""Whether the other peers can do without one peer's disk: each is asked for its own view before the disk is given up.

Owns: finding and asking the others, and the judgement (``judge``, a function of what they said). Leaves to others: what
a peer says of itself and of others (``replication.engine``), giving the disk up (``reset``, drills). The rule: peers
that run, are in one and the newest epoch and count each other's disks must be a majority of ALL members without the
one that is given up. Otherwise nobody can admit its new disk, and the cluster stands for ever: with two peers, and
where the last word on another peer's new disk was only on the disk that goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from orchestrator.client.aio import Client
from orchestrator.contract.answers import ClusterStatus
from orchestrator.contract.channel import TlsFiles
from orchestrator.contract.errors import PreconditionError, RaftsmanError

ASK_S = 3.0
AGAIN_S = 0.5

Ask = Callable[[str], Awaitable[ClusterStatus]]
"""The own view of whoever answers at an address (``host:port``). Raises ``RaftsmanError``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the peer whose disk is given up, and of its cluster, before anybody is asked. "" and 0: nothing
    is known (its disk is damaged)."""

    peer_id: str
    cluster_id: str = ""
    cluster_name: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one peer says: the members of its epoch, and whom of them it hears and counts as a voter by its own applied
    state (itself too, if its disk may vote)."""

    peer_id: str
    cluster_id: str
    cluster_name: str
    epoch: int
    members: Mapping[str, str]  # id -> host:port
    counts: frozenset[str]

    @classmethod
    def of(cls, status: ClusterStatus) -> View:
        return cls(
            peer_id=status.read.peer_id,
            cluster_id=status.cluster_id,
            cluster_name=status.cluster_name,
            epoch=status.epoch,
            members={peer.id: peer.address for peer in status.peers},
            counts=frozenset(peer.id for peer in status.peers if peer.voter and peer.connected),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Who said what, and who said nothing: address -> why."""

    views: tuple[View, ...] = ()
    silent: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """``problem``: why the disk must be kept, "" if it may go. ``seen``: a line per peer. ``passing``: enough peers
    answered, so it may be another one in a moment."""

    problem: str
    seen: tuple[str, ...]
    passing: bool = False


def asking(tls: TlsFiles | None) -> Ask:
    """Ask with these certificates; one answer of one peer each time."""

    async def ask(address: str) -> ClusterStatus:
        async with Client((address,), tls=tls, timeout_s=ASK_S) as client:
            return await client.cluster_status(stale=True)

    return ask


async def hear(
    addresses: Iterable[str], ask: Ask, *, without: str, enough: Callable[[Heard], bool] = lambda _heard: False
) -> Heard:
    """Every peer at these addresses, and every member that they name and that has not spoken; never ``without``. Who
    has not answered when what was heard is ``enough`` is waited for no longer."""
    views: dict[str, View] = {}
    silent: dict[str, str] = {}
    due = set(addresses)
    asked: set[str] = set()
    heard = Heard(silent={})
    while due:
        asked |= due
        asking = {asyncio.ensure_future(_view(address, ask)): address for address in sorted(due)}
        try:
            while asking and not enough(heard):
                done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    address, answer = asking.pop(task), task.result()
                    if isinstance(answer, str):
                        silent[address] = answer
                    elif answer.peer_id != without:
                        views[answer.peer_id] = answer
                heard = _heard(views, silent, without)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if enough(heard):
            break
        named = {
            address
            for view in views.values()
            for peer, address in view.members.items()
            if peer != without and peer not in views and address
        }
        due = named - asked
    return heard


def _heard(views: Mapping[str, View], silent: Mapping[str, str], without: str) -> Heard:
    gone = {address for view in views.values() for peer, address in view.members.items() if peer == without}
    return Heard(
        views=tuple(views[peer] for peer in sorted(views)),
        silent={address: why for address, why in sorted(silent.items()) if address not in gone},
    )


async def _view(address: str, ask: Ask) -> View | str:
    try:
        return View.of(await ask(address))
    except RaftsmanError as error:
        return error.message


def judge(known: Known, heard: Heard) -> Judgement:
    """Whether the peers that spoke can admit a new disk of ``known.peer_id``, and live until then."""
    peer_id = known.peer_id
    ours = [view for view in heard.views if view.peer_id != peer_id and not _stranger(known, view)]
    seen = tuple([_words(view, known) for view in heard.views] + [f"{at}: {why}" for at, why in heard.silent.items()])
    newest = max((view.epoch for view in ours), default=0)
    present = [view for view in ours if view.epoch == newest and view.peer_id in view.members]
    if not present or newest == 0:
        return Judgement(problem="no other peer of its cluster has told which peers there are", seen=seen)
    members = present[0].members
    clusters = sorted({view.cluster_name or view.cluster_id for view in present})
    if not known.cluster_id and (len(clusters) > 1 or peer_id not in members):
        return Judgement(
            problem=f"its disk does not say of which cluster it is, and those who answer ({', '.join(clusters)}) are "
            f"not of one that has a peer {peer_id}: ask the right ones",
            seen=seen,
        )
    if known.epoch > newest:
        return Judgement(
            problem=f"its own disk knows of epoch {known.epoch}, and nobody who answers has come further than {newest}",
            seen=seen,
        )
    needed = len(members) // 2 + 1
    others = sum(member != peer_id for member in members)
    if others < needed:
        who = "it is the only peer" if not others else f"{peer_id} is one of two peers, and each of them is needed"
        return Judgement(problem=f"{who}: nobody could take its new disk in", seen=seen)
    together = _together(present)
    if len(together) >= needed:
        return Judgement(problem="", seen=seen)
    return Judgement(
        problem=(
            f"of the {len(members)} peers of epoch {newest}, {needed} without {peer_id} must run and count each other; "
            f"{', '.join(together) or 'none'} {'does' if len(together) < 2 else 'do'}"
        ),
        seen=seen,
        passing=len(present) >= needed,
    )


def _stranger(known: Known, view: View) -> bool:
    """Of another cluster, as far as one can tell; the ids of peers are the same everywhere."""
    if known.cluster_id and view.cluster_id:
        return known.cluster_id != view.cluster_id
    return bool(known.cluster_name and view.cluster_name) and known.cluster_name != view.cluster_name


def _together(views: Sequence[View]) -> tuple[str, ...]:
    """The most of them that all count each other and themselves; there are at most nine."""
    sound = {view.peer_id: view.counts for view in views if view.peer_id in view.counts}
    for size in range(len(sound), 0, -1):
        for group in combinations(sorted(sound), size):
            if all(set(group) <= sound[peer] for peer in group):
                return group
    return ()


def _words(view: View, known: Known) -> str:
    if _stranger(known, view):
        return f"{view.peer_id}: is a peer of another cluster ({view.cluster_name or view.cluster_id})"
    if not view.epoch:
        return f"{view.peer_id}: has not begun yet"
    return f"{view.peer_id}: epoch {view.epoch}, hears and counts {', '.join(sorted(view.counts)) or 'nobody'}"


async def required(known: Known, addresses: Iterable[str], ask: Ask, *, within_s: float) -> tuple[str, ...]:
    """What was seen, once the disk may go. Raises ``PreconditionError`` with the reason and what was seen; asks again
    for up to ``within_s`` where only the moment may have been wrong."""
    addresses = tuple(addresses)

    def may_go(heard: Heard) -> bool:
        """Nobody who is still silent could change it; but for peers of another cluster, where ours is not known."""
        return bool(known.cluster_id) and not judge(known, heard).problem

    for _ in range(1 + int(within_s / AGAIN_S)):
        # The peer whose disk it is does not run, and would take its whole time not to answer.
        found = judge(known, await hear(addresses, ask, without=known.peer_id, enough=may_go))
        if not found.problem:
            return found.seen
        if not found.passing:
            break
        await asyncio.sleep(AGAIN_S)
    seen = "".join(f"\n  {line}" for line in found.seen)
    raise PreconditionError(f"the disk of {known.peer_id} must not be given up: {found.problem}.{seen}")
