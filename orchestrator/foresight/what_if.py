"""What would happen if: a hypothetical change to a copy of the state, played out to the end.

Owns: turning changes into commands, comparing before with after. Leaves to others: playing it out (``settle``), naming
nodes (``api`` hands in ids). The rule: the change is the very command that the real one would be, so a change that
would be refused is refused here with the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from orchestrator import plan
from orchestrator.contract.answers import GroupExplanation
from orchestrator.contract.devices import is_real
from orchestrator.contract.foresight import Change, PendingGroup, WhatIf
from orchestrator.contract.model import NodeSpec, NodeStatus
from orchestrator.foresight.settle import at_rest, perform, settle
from orchestrator.foresight.standing import Standings, outcomes, used_nodes
from orchestrator.state.commands import (
    Command,
    DrainNode,
    JobSubmission,
    MarkNodes,
    NodeMark,
    RegisterNode,
    Rejected,
    SubmitJobs,
)
from orchestrator.state.model import Node
from orchestrator.state.snapshot import Image, restore
from orchestrator.state.state import State
from orchestrator.state.views import cluster_view

OUTCOMES_MAX = 20_000
"""In one answer."""
EXPLAINED_MAX = 20
"""Jobs whose pending groups get reasons; the others are counted."""
HORIZON_MS = 3_600_000
"""So much time passes in an answer, where the leader waits for time alone."""
LOST_REASON = "what if it were lost"


def what_if(
    image: Image, changes: Sequence[Change], now_ms: int, *, go_on: Callable[[], bool] = lambda: True
) -> WhatIf | Rejected:
    """Play ``changes`` out on copies of ``image``. Nodes in ``changes`` are ids; an unknown one is ``Rejected``."""
    now = restore(image)
    before, pending_before = Standings(now), plan.pending(cluster_view(now), now_ms)
    used_before = len(used_nodes(now))
    resting = at_rest(now, now_ms, horizon_ms=HORIZON_MS)
    then = restore(image)
    for command in (one for change in changes for one in commands_of(then, change)):
        outcome = command if isinstance(command, Rejected) else perform(then, command, now_ms)
        if isinstance(outcome, Rejected):
            return outcome
    ran = settle(then, now_ms, go_on=go_on, horizon_ms=HORIZON_MS)
    if not resting:
        settle(now, now_ms, go_on=go_on, horizon_ms=HORIZON_MS)
    found = outcomes(
        before,
        Standings(then),
        before if resting else Standings(now),
        reasons=ran.reasons,
        lost=frozenset(node.spec.id for node in then.nodes.values() if node.status is NodeStatus.LOST),
    )
    pending_after = plan.pending(cluster_view(then), ran.now_ms)
    return WhatIf(
        outcomes=tuple(found[:OUTCOMES_MAX]),
        pending=tuple(_pending_groups(then, pending_before, pending_after, ran.now_ms)),
        pending_before=sum(pending_before.values()),
        pending_after=sum(pending_after.values()),
        nodes_used_before=used_before,
        nodes_used_after=len(used_nodes(then)),
        rounds=ran.rounds,
        settled=ran.settled,
        takes_ms=ran.acted_ms - now_ms,
        left_out=max(0, len(found) - OUTCOMES_MAX),
    )


def commands_of(state: State, change: Change) -> Iterator[Command | Rejected]:
    """The commands that the change is, one after the other, each made when the one before was applied."""
    if change.drain:
        yield DrainNode(node_id=change.drain)
    if change.lose:
        node = state.nodes.get(change.lose)
        if node is None:
            yield state.reject("NOT_FOUND", f"there is no node {change.lose[:128]!r}")
        else:
            mark = NodeMark(node_id=change.lose, register_index=node.register_index, reason=LOST_REASON)
            yield MarkNodes(lost=(mark,))
    if change.submit is not None:
        yield SubmitJobs(jobs=(JobSubmission(spec=change.submit, uid=_fresh_uid(state), in_place=True, remember=True),))
    wanted = change.add_node
    if change.like:
        model = state.nodes.get(change.like)
        if model is None:
            yield state.reject("NOT_FOUND", f"there is no node {change.like[:128]!r}")
            return
        wanted = _another(model)
    if wanted is not None:
        for _ in range(change.count):
            spec = _named(state, wanted)
            yield RegisterNode(node=spec, identity=f"agent:{spec.id}")


def _fresh_uid(state: State) -> str:
    return next(uid for number in range(len(state.jobs) + 1) if (uid := f"what-if-{number}") not in state.jobs)


def _another(node: Node) -> NodeSpec:
    """A machine like this one, on an engine of its own and with GPUs of its own."""
    devices = tuple(
        replace(one, id=f"another-{one.id}", parent=one.parent and f"another-{one.parent}") if is_real(one.id) else one
        for one in node.spec.devices
    )
    return replace(node.spec, id="", name="", engine_id="", address="", boot_id="", devices=devices, sick_devices=())


def _named(state: State, spec: NodeSpec) -> NodeSpec:
    """With an id and a name that nobody has."""
    names = state.node_names
    fresh = next(
        name
        for number in range(1, len(state.node_at) + 2)
        if (name := f"new-{number}") not in names and name not in state.nodes
    )
    return replace(spec, id=spec.id or fresh, name=spec.name or fresh)


def _pending_groups(
    then: State, before: dict[plan.GroupKey, int], after: dict[plan.GroupKey, int], now_ms: int
) -> Iterator[PendingGroup]:
    waiting = sorted(key for key in before.keys() | after.keys())
    named = {key[:2] for key in after}
    uids = [job.uid for _, job in sorted(then.job_at.items()) if (job.spec.namespace, job.spec.name) in named]
    reasons = plan.explain_many(cluster_view(then), uids[:EXPLAINED_MAX], now_ms) if uids else {}
    for key in waiting:
        namespace, job, group = key
        yield PendingGroup(
            namespace=namespace,
            job=job,
            before=before.get(key, 0),
            after=after.get(key, 0),
            why=reasons.get(key) or GroupExplanation(group=group, pending=after.get(key, 0)),
        )
