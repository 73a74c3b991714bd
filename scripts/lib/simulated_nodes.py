#!/usr/bin/env python3
"""Many nodes in one process: the agents' protocol as it is on the wire, with a driver that runs nothing.

Started by ``bench_scale.py``. Each node registers, keeps its one stream to the leader open, on which it beats every few
seconds and hears its assignments, and reports in batches what it "runs", by the calls and messages of ``agent.session``
and ``agent.attending``, and begins anew when a peer stops leading. What a real agent does for a machine is left out: no
records on disk, no streams of logs; and nodes share connections (``--nodes-per-connection``), so that what a connection
costs a peer is not measured here.

Lines of JSON on stdout, one every ``TELL_S``: how many nodes are registered and listen, how many allocations were
delivered and acknowledged as running, and when (``time.monotonic``, one clock for the whole machine) jobs whose names
begin with ``--follow`` were delivered. Ends with stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import sys
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import grpc
import grpc.aio

from orchestrator.contract.channel import dial
from orchestrator.contract.errors import NotFoundError, OverloadedError
from orchestrator.contract.loop import run_on_loop
from orchestrator.contract.status import from_rpc_error
from orchestrator.contract.v1 import agent_pb2 as pb
from orchestrator.contract.v1 import agent_pb2_grpc as rpc
from orchestrator.contract.v1 import types_pb2

TELL_S = 0.25
GATHER_S = 0.02
MAX_BATCH = 1000
JOIN_AT_ONCE = 32
AGAIN_S = 0.2
CALL_S = 10.0

RUN, STOP = 1, 2
RUNNING, STOPPED = types_pb2.ALLOC_STATE_RUNNING, types_pb2.ALLOC_STATE_STOPPED


class Fleet:
    """What the nodes of this process share: connections, who leads, and the counts."""

    def __init__(self, peers: Sequence[str], per_connection: int, follow: str) -> None:
        self.peers = list(peers)
        self.leader = random.choice(self.peers)
        self.follow = follow
        self._per_connection = per_connection
        self._stubs: dict[tuple[str, int], Any] = {}
        self._channels: list[grpc.aio.Channel] = []
        self.joining = asyncio.Semaphore(JOIN_AT_ONCE)
        self.registered = self.listening = self.delivered = self.reported = self.stopped = self.sessions = 0
        self.updates = self.reports = 0
        self.arrived: list[tuple[str, float]] = []
        self.ended: Counter[str] = Counter()
        """Why sessions ended."""

    def stub(self, number: int, address: str) -> Any:
        key = (address, number // self._per_connection)
        if key not in self._stubs:
            channel = dial(address, None)
            self._channels.append(channel)
            self._stubs[key] = rpc.AgentsStub(channel)
        return self._stubs[key]

    def go_elsewhere(self, address: str) -> None:
        """The peer there did not serve a node: the next one may, or knows who does."""
        if self.leader == address:
            self.leader = (
                self.peers[(self.peers.index(address) + 1) % len(self.peers)]
                if address in self.peers
                else (random.choice(self.peers))
            )

    def told(self) -> dict[str, object]:
        arrived, self.arrived = self.arrived, []
        return {
            "registered": self.registered, "listening": self.listening, "delivered": self.delivered,
            "reported": self.reported, "stopped": self.stopped, "sessions": self.sessions, "updates": self.updates,
            "reports": self.reports, "arrived": arrived, "ended": dict(self.ended.most_common(5)),
            "cpu_s": time.process_time(),
        }  # fmt: skip

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close(None)


class Node:
    def __init__(self, fleet: Fleet, number: int, capacity: dict[str, int]) -> None:
        self._fleet = fleet
        self._number = number
        self._id = f"node-{number:05d}"
        self._capacity = capacity
        self._registered = False
        self._beat_s = 3.0
        self._index = 0
        self._known: dict[bytes, int] = {}  # key -> desired
        self._reported: set[bytes] = set()  # as running, and acknowledged
        self._observed: list[tuple[bytes, Any, int]] = []  # to be reported: key as bytes and as message, state
        self._sending: list[bytes] = []
        self._batch: Any = None  # being reported, until it is acknowledged
        self._filled = asyncio.Event()
        self._answered = asyncio.Event()  # the last heartbeat
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        while True:
            address = self._fleet.leader
            try:
                await self._serve(self._fleet.stub(self._number, address), address)
            except grpc.aio.AioRpcError as error:
                cause = from_rpc_error(error)
                self._fleet.ended[f"{cause.reason}: {cause.message}"[:80]] += 1
                if isinstance(cause, NotFoundError):
                    self._registered = False
                if not isinstance(cause, OverloadedError):
                    self._fleet.go_elsewhere(address)
            except ConnectionResetError as error:
                self._fleet.ended[str(error)] += 1
            await asyncio.sleep(AGAIN_S * random.uniform(0.5, 1.5))

    async def _serve(self, stub: Any, address: str) -> None:
        fleet = self._fleet
        async with fleet.joining:
            if self._registered:
                await self._beat(stub, address)
            else:
                await self._register(stub, address)
        fleet.sessions += 1
        for key, desired in self._known.items():  # as a session of an agent begins
            self._observe(key, pb.AssignmentKey.FromString(key), RUNNING if desired == RUN else STOPPED)
        call = stub.Attend()
        tasks = [
            asyncio.create_task(work) for work in (self._listen(call, address), self._beats(call), self._reports(stub))
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _register(self, stub: Any, address: str) -> None:
        request = pb.RegisterRequest(
            request_id=str(uuid.uuid4()),
            node=types_pb2.NodeSpec(
                id=self._id, name=self._id, address="127.0.0.1", drivers=["fake"], capacity=self._capacity,
                port_min=20_000, port_max=31_999, version="0.1.0", boot_id="bench",
                labels={"zone": f"z{self._number % 3}", "rack": f"r{self._number // 40}"},
            ),
        )  # fmt: skip
        answer = await stub.Register(request, timeout=CALL_S)
        self._registered = True
        self._beat_s = answer.heartbeat_ms / 1000
        self._fleet.registered += 1
        self._follow(answer.leader, address)

    async def _beat(self, stub: Any, address: str) -> None:
        answer = await stub.Heartbeat(
            pb.HeartbeatRequest(node_id=self._id, sequence=1, running=len(self._known)), timeout=CALL_S
        )
        self._heard(answer, address)

    def _heard(self, answer: pb.HeartbeatResponse, address: str) -> None:
        if answer.register_again:
            self._registered = False
            raise ConnectionResetError("unknown node")
        self._follow(answer.leader, address)

    def _follow(self, leader: pb.LeaderHint, address: str) -> None:
        if leader.address and leader.address != address:
            self._fleet.leader = leader.address
            raise ConnectionResetError("another peer leads")

    async def _beats(self, call: Any) -> None:
        pause_s = self._beat_s * random.random()
        sequence = 1
        while True:
            began = time.monotonic()
            sequence += 1
            self._answered.clear()
            beat = pb.HeartbeatRequest(node_id=self._id, sequence=sequence, running=len(self._known))
            await self._say(call, pb.AttendUp(heartbeat=beat))
            await self._answered.wait()
            await asyncio.sleep(max(0.0, pause_s - (time.monotonic() - began)))
            pause_s = self._beat_s

    async def _say(self, call: Any, up: pb.AttendUp) -> None:
        async with self._writing:
            try:
                await call.write(up)
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):  # the call has ended; ``_listen`` says why
                await asyncio.get_running_loop().create_future()

    async def _listen(self, call: Any, address: str) -> None:
        fleet = self._fleet
        first = True
        parts = b""
        try:
            while isinstance(down := await call.read(), pb.AttendDown):
                if down.HasField("acknowledged"):
                    self._heard(down.acknowledged, address)
                    self._answered.set()
                    continue
                piece = down.piece
                parts += piece.data
                if piece.last:
                    update, parts = pb.AssignmentsUpdate.FromString(parts), b""
                    if first:
                        assert update.full, "the assignments did not begin with a full set"
                        first = False
                        fleet.listening += 1
                    assert update.index >= self._index, "a peer went back in time"
                    self._index = update.index
                    self._take(update)
                    del update
                if piece.mark:
                    await self._say(call, pb.AttendUp(arrived=piece.mark))
                del down, piece
        finally:
            fleet.listening -= not first
        raise ConnectionResetError("the peer ended the stream")

    def _take(self, update: pb.AssignmentsUpdate) -> None:
        fleet, known = self._fleet, self._known
        fleet.updates += 1
        for assignment in update.assignments:
            key, desired = assignment.key, assignment.desired
            raw = key.SerializeToString()
            before = known.get(raw)
            if before == desired:
                continue
            known[raw] = desired
            if before is None:
                fleet.delivered += 1
                if fleet.follow and key.id.job.startswith(fleet.follow):
                    fleet.arrived.append((key.id.job, time.monotonic()))
            self._observe(raw, key, RUNNING if desired == RUN else STOPPED)
        for key in update.removed:
            known.pop(key.SerializeToString(), None)

    def _observe(self, raw: bytes, key: Any, state: int) -> None:
        self._observed.append((raw, key, state))
        self._filled.set()

    async def _reports(self, stub: Any) -> None:
        fleet = self._fleet
        while True:
            if self._batch is None:
                await self._filled.wait()
                await asyncio.sleep(GATHER_S)
                self._filled.clear()
                taken, self._observed = self._observed[:MAX_BATCH], self._observed[MAX_BATCH:]
                if self._observed:
                    self._filled.set()
                self._batch = pb.ReportStatusesRequest(request_id=str(uuid.uuid4()), node_id=self._id)
                self._sending = [raw for raw, _, _ in taken]
                for _, key, state in taken:
                    self._batch.observations.add(key=key, state=state)
            try:
                await stub.ReportStatuses(self._batch, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                cause = from_rpc_error(error)
                if not isinstance(cause, OverloadedError):
                    raise
                await asyncio.sleep(cause.retry_after_ms / 1000 * random.uniform(1.0, 1.5))
                continue
            fleet.reports += 1
            for raw, one in zip(self._sending, self._batch.observations, strict=True):
                if one.state != RUNNING:
                    fleet.stopped += 1
                    self._known.pop(raw, None)
                elif raw not in self._reported:
                    self._reported.add(raw)
                    fleet.reported += 1
            self._batch = None


async def run(said: argparse.Namespace) -> None:
    fleet = Fleet(said.peers.split(","), said.nodes_per_connection, said.follow)
    capacity = {"cpu_millis": said.cpu, "memory_mib": said.memory, "disk_mib": said.disk}
    nodes = [
        asyncio.create_task(Node(fleet, number, capacity).run())
        for number in range(said.first, said.first + said.nodes)
    ]
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    settled = False
    while not ended.done():
        await asyncio.sleep(TELL_S)
        if not settled and fleet.listening >= said.nodes:
            # What thousands of nodes hold is looked through for garbage now and never again: it would take this process
            # most of a second each time, and no node holds it in truth.
            settled = True
            gc.collect()
            gc.freeze()
            gc.set_threshold(700, 10, 1_000_000)
        if broken := [node for node in nodes if node.done()]:
            traceback.print_exception(broken[0].exception())
            os._exit(1)  # whoever reads stdin in a thread would be waited for otherwise
        print(json.dumps(fleet.told()), flush=True)
    for node in nodes:
        node.cancel()
    await asyncio.gather(*nodes, return_exceptions=True)
    with contextlib.suppress(Exception):
        await fleet.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--cpu", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True)
    parser.add_argument("--disk", type=int, required=True)
    parser.add_argument("--nodes-per-connection", type=int, default=50)
    parser.add_argument("--follow", default="")
    said = parser.parse_args()
    run_on_loop(run(said))


if __name__ == "__main__":
    main()
