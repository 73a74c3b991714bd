"""``PlanJob``, ``WhatIf`` and ``Rebalance``: what would happen, answered by any peer from a copy of its state.

Owns: the read barrier (or the age of a stale answer), the copy, the thread, the bounds on how much of it a peer does.
Leaves to others: the answers (``orchestrator.foresight``), whether a job is allowed (``control``). The rule: nothing is
written, and neither the loop nor its heartbeats ever wait: the state is copied once, as for a snapshot, and all else
happens in a thread, for one caller at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from orchestrator.api.control import Policy, at, checked_spec
from orchestrator.api.forward import Call
from orchestrator.api.reads import read_info, resolve_node
from orchestrator.api.requests import rejection
from orchestrator.contract import codec
from orchestrator.contract.errors import InvalidError, NotFoundError, OverloadedError, RaftsmanError
from orchestrator.contract.foresight import GOALS, Change, JobPlan, WhatIf
from orchestrator.contract.model import JobSpec, NodeSpec
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.foresight.job_diff import job_diff
from orchestrator.foresight.rebalance import rebalance
from orchestrator.foresight.what_if import what_if
from orchestrator.replication.cluster_clock import unix_ms
from orchestrator.replication.log import ReplicatedLog
from orchestrator.state import commands as cmd
from orchestrator.state.snapshot import Image, capture
from orchestrator.state.state import State

MOVES_DEFAULT, MOVES_MAX = 20, 1_000
NEW_NODES_MAX = 1_000
CHANGES_MAX = 100
THINK_S = 20.0
"""For one answer; what has not come to rest by then is told as far as it got."""
ANSWER_S = 0.5
"""Kept of the caller's deadline for the way back."""
BUSY_MS = 500

R = TypeVar("R")


class Foresight:
    def __init__(
        self,
        log: ReplicatedLog,
        state: Callable[[], State],
        policy: Policy,
        *,
        clock_ms: Callable[[], int] = unix_ms,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._state = state
        self._policy = policy
        self._clock_ms = clock_ms
        self._clock = clock
        self._busy = False

    async def what_if(self, request: pb.WhatIfRequest, call: Call) -> pb.WhatIfResponse:
        if not 1 <= len(request.changes) <= CHANGES_MAX:
            raise InvalidError(f"changes: {len(request.changes)}; expected 1 to {CHANGES_MAX}", field="changes")
        read = await read_info(self._log, self._state, request.read, call)
        changes = tuple(self._change(place, message) for place, message in enumerate(request.changes))
        answer = await self._think(call, lambda image, now_ms, go_on: what_if(image, changes, now_ms, go_on=go_on))
        if isinstance(answer, cmd.Rejected):
            raise rejection(answer)
        return _put_what_if(answer, read, pb.WhatIfResponse())

    async def plan_job(self, request: pb.PlanJobRequest, call: Call) -> pb.PlanJobResponse:
        spec = checked_spec(request.job, self._policy)
        read = await read_info(self._log, self._state, request.read, call)
        job = self._state().find_job(spec.namespace, spec.name)
        said = JobPlan(
            change=_kind(spec, None if job is None else job.spec, stopped=job is not None and job.stopped),
            version=job.version if job is not None else 0,
            fields=job_diff(job.spec if job is not None else None, spec),
        )
        said = replace(said, next_version=said.version + (said.change != "none"))
        change = Change(submit=spec)
        answer = await self._think(call, lambda image, now_ms, go_on: what_if(image, (change,), now_ms, go_on=go_on))
        if isinstance(answer, cmd.Rejected):
            raise rejection(answer)
        response = codec.encode(said, pb.PlanJobResponse())
        response.ClearField("what_if")
        _put_what_if(answer, read, response.what_if)
        return response

    async def rebalance(self, request: pb.RebalanceRequest, call: Call) -> pb.RebalanceResponse:
        goal = request.goal or GOALS[0]
        if goal not in GOALS:
            raise InvalidError(f"goal: {goal[:80]!r}; expected {' or '.join(GOALS)}", field="goal")
        moves_max = request.moves_max or MOVES_DEFAULT
        if not 1 <= moves_max <= MOVES_MAX:
            raise InvalidError(f"moves_max: {moves_max}; expected 1 to {MOVES_MAX}", field="moves_max")
        read = await read_info(self._log, self._state, request.read, call)
        answer = await self._think(
            call,
            lambda image, now_ms, go_on: rebalance(image, goal, now_ms, moves_max=moves_max, go_on=go_on),
        )
        response = codec.encode(answer, pb.RebalanceResponse())
        response.read.CopyFrom(read)
        return response

    # ------------------------------------------------------------------ all of them

    async def _think(self, call: Call, work: Callable[[Image, int, Callable[[], bool]], R]) -> R:
        """Do ``work`` with a copy of the state, in a thread. Raises ``OverloadedError`` while another is at work."""
        if self._busy:
            raise OverloadedError("this peer is thinking about another what-if: ask again, or another peer",
                                  retry_after_ms=BUSY_MS)  # fmt: skip
        self._busy = True
        wanted = True
        thinking: asyncio.Future[R] | None = None
        try:
            end = self._clock() + max(0.0, call.timeout_s(THINK_S + ANSWER_S) - ANSWER_S)
            image, now_ms = capture(self._state()), self._clock_ms()
            loop = asyncio.get_running_loop()
            thinking = loop.run_in_executor(None, lambda: work(image, now_ms, lambda: wanted and self._clock() < end))
            # One that nobody waits for any more is at work until its next round: the next caller must wait for that.
            return await asyncio.shield(thinking)
        finally:
            wanted = False
            if thinking is None or thinking.done():
                self._busy = False
            else:
                thinking.add_done_callback(self._free)

    def _free(self, done: asyncio.Future[Any]) -> None:
        self._busy = False
        if not done.cancelled():
            done.exception()  # nobody is left to hear of it

    def _change(self, place: int, message: Any) -> Change:
        """A change whose nodes are ids; raises ``InvalidError`` and ``NotFoundError``."""
        where = f"changes[{place}]"
        said = [name for name in ("drain", "lose", "like") if getattr(message, name)]
        said += [name for name in ("submit", "add_node") if message.HasField(name)]
        if len(said) != 1:
            listed = ", ".join(said) or "nothing"
            raise InvalidError(
                f"{where}: says {listed}; expected one of drain, lose, submit, add_node and like", field=where
            )
        count = message.count or 1
        if not 1 <= count <= NEW_NODES_MAX:
            raise InvalidError(f"{where}.count: {count}; expected 1 to {NEW_NODES_MAX}", field=where)
        kind = said[0]
        if kind == "submit":
            try:
                return Change(submit=checked_spec(message.submit, self._policy))
            except RaftsmanError as error:
                raise at(f"{where}.submit", error) from None
        if kind == "add_node":
            try:
                return Change(add_node=codec.decode(NodeSpec, message.add_node), count=count)
            except codec.CodecError as error:
                raise InvalidError(f"{where}.add_node.{error}", field=where) from None
        wanted = getattr(message, kind)
        found = resolve_node(self._state(), wanted)
        if found is None:
            raise NotFoundError(f"no node {wanted[:80]!r}: expected an id, the beginning of one, or a name")
        return Change(
            drain=found if kind == "drain" else "",
            lose=found if kind == "lose" else "",
            like=found if kind == "like" else "",
            count=count,
        )


def _kind(spec: JobSpec, before: JobSpec | None, *, stopped: bool) -> str:
    if before is None:
        return "create"
    if stopped:
        return "restart"
    return "none" if spec == before else "update"


def _put_what_if(answer: WhatIf, read: pb.ReadInfo, response: pb.WhatIfResponse) -> pb.WhatIfResponse:
    codec.encode(answer, response)
    response.read.CopyFrom(read)
    return response
