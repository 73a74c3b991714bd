from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from orchestrator.api import backup as module
from orchestrator.api.backup import Backup
from orchestrator.api.identity import CONTROL, Caller, authorize
from orchestrator.contract.channel import Identity
from orchestrator.contract.errors import NoLeaderError, OverloadedError, PermissionError_
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.machine import ClusterMachine
from tests.unit.api.harness import Api, call


@pytest.fixture
def api() -> Api:
    return Api()


def backups(api: Api) -> Backup:
    return Backup(api.log, api.hashing, api.state_now, api.reads, api.reads._facts, clock_ms=lambda: 5)


async def collect(stream: Any) -> list[pb.BackupPart]:
    return [part async for part in stream]


async def test_a_backup_is_the_state_at_its_index_whatever_happens_meanwhile(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 50)
    await api.submit("web", count=3)
    await api.register("n")
    await api.place()
    expected, index = api.machine.state_hash(), api.state.index
    stream = backups(api).backup(pb.BackupRequest(), call())
    first: Any = await anext(stream)
    await api.submit("later")
    parts = [first, *await collect(stream)]
    data = b"".join(part.data for part in parts)
    assert (first.head.index, first.head.jobs, first.head.nodes, first.head.allocations) == (index, 1, 1, 3)
    assert (first.head.taken_ms, first.head.stale, first.head.size_bytes) == (5, False, len(data))
    assert max(len(part.data) for part in parts) <= 50
    assert parts[-1].sha256 == hashlib.sha256(data).digest()
    restored = ClusterMachine()
    restored.restore(data)
    assert restored.state_hash() == expected


async def test_one_at_a_time_and_an_abandoned_one_makes_room(api: Api) -> None:
    served = backups(api)
    stream: Any = served.backup(pb.BackupRequest(), call())
    await anext(stream)
    with pytest.raises(OverloadedError, match="ask another one"):
        await collect(served.backup(pb.BackupRequest(), call()))
    await stream.aclose()
    assert len(await collect(served.backup(pb.BackupRequest(), call()))) > 1


async def test_without_a_majority_only_a_stale_one_is_given(api: Api) -> None:
    await api.submit("web")
    api.log.lead(False)
    with pytest.raises(NoLeaderError):
        async with asyncio.timeout(10):
            await collect(backups(api).backup(pb.BackupRequest(), call(timeout_s=0.2)))
    parts = await collect(backups(api).backup(pb.BackupRequest(read=pb.ReadOptions(stale=True)), call()))
    assert (parts[0].head.stale, parts[0].head.jobs) == (True, 1)


@pytest.mark.parametrize("kind", ["gateway", "agent", "peer"])
def test_only_clients_may_ask(kind: Any) -> None:
    authorize(Caller(identity=Identity("client", "admin")), CONTROL, "Backup")
    with pytest.raises(PermissionError_, match="a certificate of a client"):
        authorize(Caller(identity=Identity(kind, "x")), CONTROL, "Backup")
