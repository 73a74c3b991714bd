"""``raftsman backup``: the state of a running cluster into a file, and what a file holds. Needs no more than a client.

Only ``--check`` loads the state itself, which takes a peer's install; without one it checks the checksum and says so.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.output import show
from orchestrator.cli.session import Session, common
from orchestrator.contract.answers import BackupHead
from orchestrator.contract.errors import CorruptError, NoLeaderError
from orchestrator.ops import backup_file

TIMEOUT_S = 60.0
"""Without a sign of life for so long, a backup is given up."""


@click.command("backup")
@common
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-f", "--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--stale", is_flag=True, help="What the first peer that answers knows, even without a majority.")
@click.option("--check", is_flag=True, help="Make none: read FILE, verify it and say what is in it.")
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
def command(session: Session, file: Path, force: bool, stale: bool, check: bool, as_json: bool) -> None:
    """Write the cluster's whole state, as it is at one index, to FILE (mode 0600).

    It holds every variable, the jobs with their environment, and the answers to recent requests: keep it like a secret.
    'raftsman restore' makes a cluster of it.
    """
    if check and (force or stale):
        raise click.UsageError("--check reads FILE and makes none: neither -f nor --stale goes with it")
    if check:
        head, loaded = _check(file)
        if not loaded:
            session.warn("the checksum is right; to load the state as well: pip install 'raftsman[peer]'")
    else:
        try:
            with session.client(TIMEOUT_S) as client:
                head = backup_file.write(file, client.backup(stale), force=force)
        except NoLeaderError as error:
            if stale or error.reason != NoLeaderError.reason:
                raise
            raise NoLeaderError(f"{error.message}. What one peer knows is had with 'raftsman backup --stale'") from None
        session.note(f"{file} holds every variable of the cluster: keep it like a secret (mode 0600)")
        if head.stale:
            session.warn(f"a stale backup of peer {head.peer_id}: {_age(head)}")
    show(
        "json" if as_json else session.output,
        value=lambda: _facts(file, head),
        names=lambda: [str(file)],
        table=lambda wide: describe(file, head),
    )


def _check(file: Path) -> tuple[BackupHead, bool]:
    """What the file holds, and whether its state was loaded too. Raises as ``backup_file.read``."""
    head, state = backup_file.read(file)
    try:
        from orchestrator.ops.restore import load
        from orchestrator.state.invariants import check
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("orchestrator"):
            raise
        return head, False
    found = load(file, state)
    broken = check(found)
    if found.index != head.index:
        broken.insert(0, f"its state is at index {found.index}, and its head says {head.index}")
    if broken:
        raise CorruptError(f"{file} contradicts itself: {broken[0]} ({len(broken)} such things)")
    return head, True


def _facts(file: Path, head: BackupHead) -> dict[str, Any]:
    return {
        "file": str(file),
        "file_bytes": file.stat().st_size,
        "cluster_id": head.cluster_id,
        "cluster": head.cluster_name,
        "peer": head.peer_id,
        "index": head.index,
        "taken": _when(head.taken_ms),
        "taken_ms": head.taken_ms,
        "time_ms": head.time_ms,
        "stale": head.stale,
        "age_ms": head.age_ms,
        "jobs": head.jobs,
        "nodes": head.nodes,
        "allocations": head.allocations,
        "variables": head.variables,
        "version": head.version,
    }


def describe(file: Path, head: BackupHead) -> str:
    """One line for people."""
    stale = f" (stale: {_age(head)})" if head.stale else ""
    return (
        f"{file}: cluster {head.cluster_name}, index {head.index}, taken {_when(head.taken_ms)} at peer {head.peer_id}"
        f"{stale}; {head.jobs} jobs, {head.nodes} nodes, {head.allocations} allocations, {head.variables} variables, "
        f"{file.stat().st_size} bytes"
    )


def _age(head: BackupHead) -> str:
    if head.age_ms < 0:
        return "it never knew of a majority"
    return f"it knew of a majority {head.age_ms / 1000:.1f} s before; later writes are not in it"


def _when(unix_ms: int) -> str:
    return datetime.datetime.fromtimestamp(unix_ms / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
