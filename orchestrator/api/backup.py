"""``Backup``: the whole state at one index, as bytes in order, while the cluster goes on.

Owns: taking the state (a copy on the loop, its encoding in a thread) and cutting it into messages. Leaves to others:
the file (``ops.backup_file``), who may ask (``identity``). The rule: one at a time per peer, since each holds the
encoded state in memory until its caller has taken it; gRPC's own flow control holds the sender back.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable

from google.protobuf.message import Message

from orchestrator.api.forward import Call
from orchestrator.api.reads import Facts, Reads
from orchestrator.contract.errors import OverloadedError
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.cluster_clock import unix_ms
from orchestrator.replication.log import ReplicatedLog, StateMachine
from orchestrator.state import views
from orchestrator.state.state import State

FORMAT = 1
CHUNK_BYTES = 256 * 1024
BUSY_MS = 2_000


class Backup:
    def __init__(
        self,
        log: ReplicatedLog,
        machine: StateMachine,
        state: Callable[[], State],
        reads: Reads,
        facts: Facts,
        *,
        clock_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self._log = log
        self._machine = machine
        self._state = state
        self._reads = reads
        self._facts = facts
        self._clock_ms = clock_ms
        self._busy = False

    async def backup(self, request: pb.BackupRequest, call: Call) -> AsyncIterator[Message]:
        """Holds every write acknowledged before the call, unless stale."""
        if self._busy:
            raise OverloadedError("this peer is giving a backup already: ask another one", retry_after_ms=BUSY_MS)
        self._busy = True
        try:
            info = await self._reads.info(request.read, call)
            await asyncio.to_thread(self._machine.make_room())
            # From here to the copy without a pause: head and state are of one index.
            head = self._head(info)
            encode = self._machine.capture()
            parts, digest = await asyncio.to_thread(_encoded, encode)
            head.size_bytes = sum(map(len, parts))
            yield pb.BackupPart(head=head)
            for part in parts:
                for start in range(0, len(part), CHUNK_BYTES):
                    yield pb.BackupPart(data=part[start : start + CHUNK_BYTES])
            yield pb.BackupPart(sha256=digest)
        finally:
            self._busy = False

    def _head(self, info: pb.ReadInfo) -> pb.BackupHead:
        status, state = self._log.status(), self._state()
        return pb.BackupHead(
            format=FORMAT,
            cluster_id=status.cluster_id,
            cluster_name=self._facts.cluster_name,
            peer_id=status.peer_id,
            index=state.index,
            time_ms=state.time_ms,
            taken_ms=self._clock_ms(),
            age_ms=info.age_ms,
            stale=info.stale,
            term=status.term,
            entry_index=status.applied_index,
            jobs=len(state.jobs),
            nodes=len(state.nodes),
            allocations=views.live_count(state),
            variables=len(state.variables),
            version=self._facts.version,
        )


def _encoded(encode: Callable[[], Iterable[bytes]]) -> tuple[list[bytes], bytes]:
    """The encoded state in order, and its SHA-256."""
    parts, digest = [], hashlib.sha256()
    for part in encode():
        parts.append(part)
        digest.update(part)
    return parts, digest.digest()
