"""``raftsman recover``: the operator's words around ``ops.recovery``. Offline, on the machine of the best survivor."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.output import show, table
from orchestrator.cli.session import Session, common
from orchestrator.contract.address import is_address
from orchestrator.contract.errors import InvalidError, RaftsmanError
from orchestrator.ops import peer_disk
from orchestrator.ops.quiet import quietly
from orchestrator.ops.recovery import Survivor, address_of, best, recover, survey
from orchestrator.replication.datadir import lock_directory, release
from orchestrator.replication.disk import RealDisk


@click.command("recover")
@common
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR", help="The surviving data directory to go on with."
)
@click.option("--address", metavar="HOST:PORT", help="Where its peer is reached, where its disk does not say it.")
@click.option("--dry-run", is_flag=True, help="Only say what is there and what may be missing.")
@click.option("--compare", is_flag=True, help="Several disks survive: say which holds the most.")
@click.argument("directories", nargs=-1, type=click.Path(path_type=Path), metavar="[DIR...]")
@quietly()
def command(
    session: Session,
    data: Path | None,
    address: str | None,
    dry_run: bool,
    compare: bool,
    directories: tuple[Path, ...],
) -> None:
    """A majority of the disks is lost for good: go on with one that is left, and add peers again.

    Everything on that disk is kept, and a copy of it is put aside first. Writes that were acknowledged by other peers
    only are lost; it says how far this disk goes. With --compare DIR DIR...: nothing but a comparison, of those that
    can be read.
    """
    if compare:
        if data is not None or address is not None or dry_run or len(directories) < 2:
            raise click.UsageError("--compare takes two or more directories, and no --data, --address or --dry-run")
        _compare(session, [path.absolute() for path in directories])
        return
    if data is None or directories:
        raise click.UsageError("name the surviving disk with --data DIR (or compare several: --compare DIR DIR)")
    if address is not None and not is_address(address):
        raise InvalidError(f"--address {address!r}: expected host:port, for example 10.0.0.1:7400")
    path = data.absolute()
    peer_disk.require_data(path)
    if dry_run:
        with peer_disk.held(path):
            survivor = survey(path)
        _say(session, survivor)
        _show(session, survivor, {})
        return
    lock = lock_directory(path, RealDisk())
    try:
        survivor = survey(path)
        where = address_of(survivor, address)
        _say(session, survivor)
        session.confirm(f"Go on with peer {survivor.disk.identity.peer_id} at {where} as the only peer?")
        facts = _facts(survivor)
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = recover(survivor, where, stamp)
    finally:
        release(lock)
    peer_id = survivor.disk.identity.peer_id
    session.note(
        f"Next: start {peer_id} with the flags that it had; then new peers with empty data directories, and "
        f"'raftsman peers add ID=HOST:PORT ...'. The other old disks must not be used again. A copy of before: {aside}"
    )
    _show(session, survivor, {"copy": str(aside), "address": where, "new_epoch": survivor.state.epoch}, facts)


def _compare(session: Session, paths: list[Path]) -> None:
    survivors: list[Survivor] = []
    problems: list[RaftsmanError] = []
    for path in paths:
        try:
            with peer_disk.held(path):
                survivors.append(survey(path))
        except RaftsmanError as error:  # on the day when this is needed, some of the disks are damaged
            problems.append(error)
            session.warn(f"left out: {error.message}")
    if not survivors:
        raise problems[0]
    chosen = best(survivors)
    rows = [_facts(one) for one in survivors]
    for row, one in zip(rows, survivors, strict=True):
        row["best"] = one is chosen
    session.note(
        "By Raft's own measure (a vote, then the newest epoch, term and entry) one log holds the most: "
        f"raftsman recover --data '{chosen.disk.path}'"
    )
    headings = ["DIR", "PEER", "VOTER", "EPOCH", "TERM", "LAST ENTRY", "COMMITTED", "INDEX", "BEST"]
    names = ("data", "peer", "voter", "epoch", "last_term", "last_entry", "committed_entry", "index", "best")
    show(
        session.output,
        value=lambda: {"best": str(chosen.disk.path), "disks": rows},
        names=lambda: [str(chosen.disk.path)],
        table=lambda wide: table(headings, [[_cell(row[name]) for name in names] for row in rows]),
    )


def _cell(value: object) -> object:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _facts(survivor: Survivor) -> dict[str, Any]:
    disk, state = survivor.disk, survivor.state
    return {
        "data": str(disk.path),
        "peer": disk.identity.peer_id,
        "cluster_id": state.cluster_id,
        "cluster": disk.identity.cluster_name,
        "epoch": survivor.epoch,
        "members": list(survivor.members),
        "voter": survivor.voter,
        "term": disk.term,
        "committed_entry": disk.commit_index,
        "last_entry": disk.last_index,
        "last_term": disk.last_term,
        "uncertain_entries": disk.uncertain,
        "committed_index": survivor.known_index,
        "index": state.index,
        "time_ms": state.time_ms,
        "jobs": len(state.jobs),
        "nodes": len(state.nodes),
        "variables": len(state.variables),
    }


def _say(session: Session, survivor: Survivor) -> None:
    disk, state = survivor.disk, survivor.state
    when = datetime.datetime.fromtimestamp(state.time_ms / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    others = [peer for peer in survivor.members if peer != disk.identity.peer_id]
    session.note(
        f"{disk.path}: peer {disk.identity.peer_id} of cluster {disk.identity.cluster_name}, epoch {survivor.epoch}, "
        f"with {', '.join(others) or 'nobody'}. Last entry {disk.last_index} of term {disk.last_term}, cluster time "
        f"{when}, index {state.index}; {len(state.jobs)} jobs, {len(state.nodes)} nodes, "
        f"{len(state.variables)} variables."
    )
    if disk.uncertain:
        session.note(
            f"{disk.uncertain} entries behind the known commit point ({disk.commit_index}) are KEPT: dropping them "
            "could lose an acknowledged write. Writes that nobody was told of may be among them and count from now on."
        )
    else:
        session.note("Every entry on it is known to be committed.")
    if not survivor.voter:
        session.warn(
            "this disk had NO VOTE (it was catching up): it may miss any part of the log. Look for another survivor"
        )
    if others:
        session.note(
            f"MAY BE MISSING: whatever a majority acknowledged without this disk, so entries behind {disk.last_index} "
            f"and of terms above {disk.last_term}: writes of the last moment or, if this peer was away when the others "
            f"were lost, all since {when}."
        )
    session.note(
        "Right only if a majority of the disks is lost FOR GOOD. If it can come back, start it instead: nothing is "
        "lost then. If another disk survives, compare first: raftsman recover --compare DIR DIR."
    )


def _show(session: Session, survivor: Survivor, more: dict[str, Any], facts: dict[str, Any] | None = None) -> None:
    known = {**(facts if facts is not None else _facts(survivor)), **more}
    show(
        session.output,
        value=lambda: known,
        names=lambda: [str(survivor.disk.path)],
        table=lambda wide: "\n".join(f"{name}: {value}" for name, value in known.items()),
    )
