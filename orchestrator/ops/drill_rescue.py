"""Drills of the operators' tools for when no majority of disks is left: a backup restored, one disk recovered.

Owns: the kinds. Leaves to others: the tools themselves, which are run as an operator would (``operate``), and what is
promised of a new life (``drill_lives``). The rule: the tool's own words are what the cluster is held to afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from orchestrator.contract.errors import PreconditionError
from orchestrator.ops import backup_file, peer_disk
from orchestrator.ops.dev import LocalCluster
from orchestrator.ops.drill_kind import BrokenPromiseError, Kind, Strike, local
from orchestrator.ops.drill_lives import Life
from orchestrator.ops.drill_needs import Need
from orchestrator.ops.drill_target import Target
from orchestrator.ops.processes import raftsman_argv
from orchestrator.ops.quiet import quietly
from orchestrator.ops.recovery import survey
from orchestrator.ops.restore import load

BEHIND_S = 1.0
"""Load goes on for so long behind a backup: there must be something to give up."""


class BackupRestore(Kind):
    """A backup is taken under load; a while later every peer and every disk is lost; the cluster goes on from the
    backup, with the other peers added again."""

    mends_first = True
    needs = frozenset({Need.FILES})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        cluster = local(target)
        file = cluster.data / f"drill-{secrets.token_hex(3)}.backup"
        made, _ = await operate(cluster, "backup", file)
        head, data = await asyncio.to_thread(backup_file.read, file)
        state = await asyncio.to_thread(load, file, data)
        if (made["index"], state.index) != (head.index, head.index):
            raise BrokenPromiseError(f"the backup says index {made['index']} and holds the state of {state.index}")
        await asyncio.sleep(BEHIND_S)
        peers = cluster.peer_names()
        at_ns = time.monotonic_ns()
        await _lose(cluster, peers)
        life = Life.ended(state, index=head.index, end_ns=at_ns)
        return Strike(at_ns=at_ns, peers=peers, how=f"backup of index {head.index}", life=life, file=file)

    async def mend(self, target: Target, strike: Strike) -> None:
        cluster = local(target)
        assert strike.life is not None and strike.file is not None
        first, *others = strike.peers
        home = cluster.peer_directory(first).resolve()
        where = ("--data", home, "--id", first, "--address", cluster.address_of(first))
        made, _ = await operate(cluster, "restore", strike.file, *where)
        strike.file.unlink()
        _began(strike.life, made["index"])
        await cluster.restart(first)
        await cluster.take_in(*others)


class Recover(Kind):
    """The leader and as many others as make a majority die, and their disks are gone; the cluster goes on from the disk
    of one follower that is left, with the others added again."""

    mends_first = True
    needs = frozenset({Need.FILES})

    async def strike(self, target: Target, agent: str, number: int) -> Strike:
        cluster = local(target)
        names = cluster.peer_names()
        if len(names) < 3:
            raise PreconditionError("this drill loses a majority and keeps a follower: it needs three peers")
        leader = await cluster.leader()
        survivor, *followers = [peer for peer in names if peer != leader]
        lost = (leader, *followers[: len(names) // 2])
        at_ns = time.monotonic_ns()
        await _lose(cluster, lost)
        # What is left has no majority. The operator stops it, and gives up what the survivor has not (`recover`
        # --compare would choose among several).
        await _lose(cluster, [peer for peer in followers if peer not in lost])
        await cluster.kill_peer(survivor)
        home = cluster.peer_directory(survivor).resolve()
        stated, said = await operate(cluster, "recover", "--data", home, "--dry-run")
        if not all(words in said for words in ("MAY BE MISSING", f"entries behind {stated['last_entry']} ")):
            raise BrokenPromiseError(f"it does not say what may be missing: {said}")
        with peer_disk.held(home), quietly():
            state = (await asyncio.to_thread(survey, home)).state
        life = Life.ended(state, index=stated["index"], end_ns=at_ns)
        peers = (survivor, *(peer for peer in names if peer != survivor))
        return Strike(at_ns=at_ns, peers=peers, how=f"{survivor} left, with index {life.index}", life=life)

    async def mend(self, target: Target, strike: Strike) -> None:
        cluster = local(target)
        assert strike.life is not None
        survivor, *others = strike.peers
        home = cluster.peer_directory(survivor).resolve()
        made, _ = await operate(cluster, "recover", "--data", home, "--address", cluster.address_of(survivor))
        await asyncio.to_thread(shutil.rmtree, made["copy"])
        if made["index"] != strike.life.index:
            raise BrokenPromiseError(f"it stated index {strike.life.index} and went on with {made['index']}")
        await cluster.restart(survivor)
        await cluster.take_in(*others)


def _began(life: Life, index: int) -> None:
    if index != life.next_index:
        raise BrokenPromiseError(f"the new life begins at index {index}, not at {life.next_index}")


async def _lose(cluster: LocalCluster, peers: list[str] | tuple[str, ...]) -> None:
    """Their processes at one moment, then their disks; empty directories are left."""
    await asyncio.gather(*(cluster.kill_peer(peer) for peer in peers))
    for peer in peers:
        await asyncio.to_thread(wipe, cluster.peer_directory(peer).resolve())


def wipe(home: Path) -> None:
    """What is left is an empty directory."""
    shutil.rmtree(home)
    home.mkdir(mode=0o700)


async def operate(cluster: LocalCluster, *arguments: str | Path) -> tuple[dict[str, Any], str]:
    """Run the command line as the cluster's operator; its JSON, and what it said beside.

    Raises ``BrokenPromiseError`` with its words if it fails.
    """
    environment = {
        **os.environ, "RAFTSMAN_ENDPOINTS": ",".join(cluster.endpoints), "RAFTSMAN_TLS_DIR": str(cluster.tls_directory)
    }  # fmt: skip
    environment.pop("RAFTSMAN_CONTEXT", None)
    argv = raftsman_argv(*(str(argument) for argument in arguments), "--yes", "-o", "json")
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise BrokenPromiseError(f"`raftsman {' '.join(map(str, arguments))}` says: {err.decode().strip()}")
    made: dict[str, Any] = json.loads(out)
    return made, err.decode()
