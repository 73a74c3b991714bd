"""``ExplainJob`` and ``ExplainPast``: why instances of a job have no node, now and at an earlier state.

Owns: taking the view, and asking ``plan.explain`` off the loop; for the past, asking the other peers what this one no
longer knows. Leaves to others: the reasons (``plan``), earlier states (``past``). The rule: it looks at the same view
that a round of the leader would, so it never tells another story than the next plan did or will.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from orchestrator import plan
from orchestrator.api.forward import Call, Forwarder, read_patience_s
from orchestrator.api.identity import CONTROL
from orchestrator.api.past import Past, Recipe
from orchestrator.api.reads import no_job, read_info
from orchestrator.api.requests import job_key
from orchestrator.contract import codec
from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.errors import InvalidError, NotFoundError, OutOfRangeError, OverloadedError, RaftsmanError
from orchestrator.contract.foresight import KnownSpan
from orchestrator.contract.v1 import control_pb2 as pb
from orchestrator.replication.cluster_clock import unix_ms
from orchestrator.replication.log import ReplicatedLog
from orchestrator.state.state import State
from orchestrator.state.views import cluster_view

ASK_S = 5.0
BUSY_MS = 500


class Explain:
    def __init__(
        self,
        log: ReplicatedLog,
        state: Callable[[], State],
        past: Past,
        forwarder: Forwarder | None = None,
        *,
        clock_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self._log = log
        self._state = state
        self._past = past
        self._forwarder = forwarder
        self._clock_ms = clock_ms
        self._busy = False

    async def explain_job(self, request: pb.ExplainJobRequest, call: Call) -> pb.ExplainJobResponse:
        namespace, name = job_key(request.job)
        read = await read_info(self._log, self._state, request.read, call)
        state = self._state()
        job = state.find_job(namespace, name)
        if job is None:
            raise no_job(state, namespace, name)
        groups = await asyncio.to_thread(plan.explain, cluster_view(state), job.uid, self._clock_ms())
        response = pb.ExplainJobResponse(read=read)
        for group in groups:
            codec.encode(group, response.groups.add())
        response.summary = _summary(groups)
        return response

    # ------------------------------------------------------------------ the past

    async def explain_past(self, request: pb.ExplainPastRequest, call: Call) -> pb.ExplainPastResponse:
        namespace, name = job_key(request.job)
        if (request.at_index > 0) is (request.at_time_ms > 0) or request.at_index < 0 or request.at_time_ms < 0:
            raise InvalidError("at: expected either an index or a time, above 0", field="at")
        now_ms = self._clock_ms()
        if request.at_time_ms > now_ms:
            ahead_s = (request.at_time_ms - now_ms) / 1000
            raise InvalidError(
                f"at_time_ms: lies {ahead_s:.0f} s in the cluster's future; if you meant the past, the clock that you "
                "counted by is ahead of the cluster's (`raftsman doctor` compares them): name an index, as events do",
                field="at_time_ms",
            )
        if request.at_index > self._log.status().applied_index and not request.here_only:
            await self._log.read_barrier(timeout_s=call.timeout_s(read_patience_s(self._log)))
        try:
            recipe = self._past.recipe(index=request.at_index, time_ms=request.at_time_ms)
        except OutOfRangeError:
            return await self._ask_others(request, call)
        if self._busy:
            raise OverloadedError("this peer is looking at another state of the past", retry_after_ms=BUSY_MS)
        self._busy = True
        try:
            groups = await asyncio.shield(asyncio.to_thread(_explain_then, recipe, namespace, name, request.at_time_ms))
        finally:
            self._busy = False
        response = pb.ExplainPastResponse(
            index=recipe.index, time_ms=recipe.time_ms, summary=_summary(groups), read=self._here()
        )
        for group in groups:
            codec.encode(group, response.groups.add())
        for span in self._past.known():
            codec.encode(span, response.known.add())
        return response

    def _here(self) -> pb.ReadInfo:
        return pb.ReadInfo(index=self._state().index, peer_id=self._log.status().peer_id)

    async def _ask_others(self, request: pb.ExplainPastRequest, call: Call) -> pb.ExplainPastResponse:
        """What another peer knows; raises ``OutOfRangeError`` with everybody's spans if none does."""
        known = {self._log.status().peer_id: self._past.known()}
        if request.here_only or self._forwarder is None:
            raise _not_known(known)
        asked = pb.ExplainPastRequest()
        asked.CopyFrom(request)
        asked.here_only = True
        told: list[str] = []
        for peer_id in self._forwarder.others:
            try:
                raw = await self._forwarder.call(
                    peer_id,
                    f"/{CONTROL}/ExplainPast",
                    asked.SerializeToString(),
                    call,
                    timeout_s=call.timeout_s(ASK_S),
                    follow=False,
                )
                return pb.ExplainPastResponse.FromString(raw)
            except NotFoundError:
                raise  # it knows that state, and there was no such job
            except OutOfRangeError as error:
                told.append(error.message)
            except RaftsmanError as error:
                told.append(f"{peer_id} does not answer ({error.reason})")
        raise _not_known(known, told)


def _explain_then(recipe: Recipe, namespace: str, name: str, at_time_ms: int) -> tuple[GroupExplanation, ...]:
    """In a thread: make that state again and ask it."""
    state = recipe.cook()
    job = state.find_job(namespace, name)
    if job is None:
        raise NotFoundError(f"at index {recipe.index} there was no job {name!r} in namespace {namespace!r}")
    return plan.explain(cluster_view(state), job.uid, max(recipe.time_ms, at_time_ms))


def _summary(groups: Sequence[GroupExplanation]) -> str:
    told = [f"{group.group}: {group.summary}" for group in groups if group.summary != "nothing is missing"]
    return "; ".join(told) or "nothing of this job waits for a node"


def _not_known(known: Mapping[str, Sequence[KnownSpan]], told: Sequence[str] = ()) -> OutOfRangeError:
    parts = [
        f"{peer_id} knows "
        + (
            " and ".join(_words(span) for span in spans)
            or "nothing (it started a moment ago, or the state is too large)"
        )
        for peer_id, spans in sorted(known.items())
    ]
    return OutOfRangeError("; ".join([*parts, *told]), reason="PAST_UNKNOWN")


def _words(span: KnownSpan) -> str:
    begin, end = (
        datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        for ms in (span.first_time_ms, span.last_time_ms)
    )
    return f"from index {span.first_index} ({begin}) to {span.last_index} ({end})"
