"""What is still on a node that is being drained, and what each of it waits for.

Owns: these words. Leaves to others: who leaves when (``reconcile``), why something has no node (``plan``). The rule: it
looks at the round that would be decided now, so it never tells another story than that does.
"""

from __future__ import annotations

import numpy as np

from orchestrator import plan
from orchestrator.contract.answers import DrainStep
from orchestrator.contract.model import AllocationId, AllocState, Desired
from orchestrator.reconcile.rounds import NO_ROOM
from orchestrator.reconcile.work import Work
from orchestrator.state.commands import Action
from orchestrator.state.model import Job
from orchestrator.state.views import ClusterView

NAMED_MAX = 3
_WORDS = {
    AllocState.PENDING: "is not taken up yet",
    AllocState.STARTING: "starts",
    AllocState.BACKOFF: "is to be restarted",
    AllocState.STOPPING: "stops",
    AllocState.RUNNING: "is not ready yet",
}


def left_on(view: ClusterView, slot: int, now_ms: int) -> tuple[DrainStep, ...]:
    """Every live allocation of the node with this slot, by id; ``view`` is of everything."""
    columns = view.allocations
    here = np.flatnonzero(columns.live & (columns.node == slot)).tolist()
    node = view.nodes_by_slot[slot]
    if not node.draining:
        return tuple(sorted((_step(view, at, "stays", "") for at in here), key=lambda step: step.id))
    work = plan.work_of(view, now_ms)
    actions = work.actions
    stopping = np.isin(actions.actions, (Action.STOP, Action.REPLACE))
    turn = dict(zip(actions.positions[stopping].tolist(), actions.reasons[stopping].tolist(), strict=True))
    asked = _asked(work)
    waiting = [at for at in here if columns.desired[at] == Desired.RUN and at not in turn]
    uids = {view.jobs_by_slot[int(columns.job[at])].uid for at in waiting if int(columns.job[at]) in view.jobs_by_slot}
    pending = plan.explain_many(view, sorted(uids), now_ms) if waiting else {}
    steps = []
    for at in here:
        job, group = _owner(view, at)
        if columns.desired[at] != Desired.RUN:
            steps.append(_step(view, at, "stopping", columns.reasons.get(int(columns.row[at]), "told to stop")))
        elif at in turn:
            steps.append(_step(view, at, "next", "it is told to stop now" + _SAID_MORE.get(turn[at], "")))
        elif job is None:
            steps.append(_step(view, at, "waits", "its job is unknown here"))
        else:
            place = next((place for place, one in enumerate(job.spec.groups) if one.name == group), -1)
            note = work.groups.get((job.slot, place))
            if (job.slot, place, int(columns.ordinal[at])) in asked:
                steps.append(_step(view, at, "next", "its successor gets a node now"))
                continue
            if note is not None and note.held:
                steps.append(_step(view, at, "budget", note.held))
                continue
            said = pending.get((job.spec.namespace, job.spec.name, group))
            why = [f"{said.pending} of its group first: {said.summary}"] if said is not None else []
            why += _on_the_move(view, at, job, group)
            steps.append(_step(view, at, "waits", "; ".join(why) or "one of its group at a time, and others go first"))
    return tuple(sorted(steps, key=lambda step: step.id))


_SAID_MORE = {NO_ROOM: f": {plan.NO_ROOM_FIRST}"}


def _asked(work: Work) -> frozenset[tuple[int, int, int]]:
    """(job slot, place of the group, ordinal) of those that get a successor in this round."""
    none = {key for key, note in work.groups.items() if key in work.instead and note.held}
    stopped = set(work.actions.positions[work.actions.reasons == NO_ROOM].tolist())
    none |= {key for key, one in work.instead.items() if stopped & set(one.positions)}
    return frozenset(
        (ask.job.slot, ask.group, ordinal)
        for ask in work.asks
        if ask.first and (ask.job.slot, ask.group) not in none
        for ordinal in ask.ordinals.tolist()
    )


def _owner(view: ClusterView, at: int) -> tuple[Job | None, str]:
    """The job and the name of the group of a row."""
    columns = view.allocations
    job = view.jobs_by_slot.get(int(columns.job[at]))
    if job is None:
        return None, ""
    spec = next((spec for version, spec in job.specs if version == int(columns.version[at])), job.spec)
    place = int(columns.group[at])
    return job, spec.groups[place].name if place < len(spec.groups) else ""


def _step(view: ClusterView, at: int, kind: str, why: str) -> DrainStep:
    columns = view.allocations
    job, group = _owner(view, at)
    return DrainStep(
        id=AllocationId(
            namespace=job.spec.namespace if job is not None else "",
            job=job.spec.name if job is not None else "",
            group=group,
            ordinal=int(columns.ordinal[at]),
        ),
        attempt=int(columns.attempt[at]),
        state=AllocState(int(columns.state[at])),
        kind=kind,
        why=why,
    )


def _on_the_move(view: ClusterView, at: int, job: Job, group: str) -> list[str]:
    """Others of its group that have to settle first."""
    columns = view.allocations
    said: list[str] = []
    for other in np.flatnonzero(columns.live & (columns.job == job.slot)).tolist():
        state = AllocState(int(columns.state[other]))
        stopping = columns.desired[other] != Desired.RUN
        settled = bool(columns.ready[other]) and not stopping
        successor = columns.ordinal[other] == columns.ordinal[at]
        if other == at or _owner(view, other)[1] != group or (settled and not successor):
            continue
        node = view.nodes_by_slot.get(int(columns.node[other]))
        where = f" on {node.spec.name}" if node is not None else ""
        if successor:
            word = "is ready, and has to stay so for min_ready" if settled else "stops" if stopping else _WORDS[state]
            said.insert(0, f"its successor{where} {word}")
            continue
        said.append(f"{group}/{int(columns.ordinal[other])} {'stops' if stopping else _WORDS.get(state, '')}{where}")
    more = [f"{len(said) - NAMED_MAX} more of its group"] if len(said) > NAMED_MAX else []
    return [*said[:NAMED_MAX], *more]
