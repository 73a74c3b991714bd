"""What happens to a node's taints: an operator's command, and what its agent declares at registration.

The rules: a node has at most one taint of a key and effect; those that the agent declares are changed by its settings
alone, so that what an operator sees taken away does not come back by itself; a taint that stays keeps the time since
which it is there, because evictions count from it.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.contract import taints
from orchestrator.contract.model import NodeTaint, Taint
from orchestrator.state.commands import Outcome, TaintNode
from orchestrator.state.model import Node
from orchestrator.state.state import State


def change(state: State, command: TaintNode) -> Outcome:
    node = state.nodes.get(command.node_id)
    if node is None:
        return state.reject("NOT_FOUND", f"there is no node {command.node_id[:128]!r}")
    if not 1 <= len(command.put) + len(command.drop) <= taints.TAINTS_MAX:
        return state.reject("INVALID", f"name 1 to {taints.TAINTS_MAX} taints")
    wrong = next((text for taint in command.put if (text := taints.problem(taint))), "")
    if wrong:
        return state.reject("INVALID", wrong)
    theirs = {_place(one.taint): one for one in node.taints if one.declared}
    mine = {_place(one.taint): one for one in node.taints if not one.declared}
    before = dict(mine)
    for dropped in command.drop:
        hit = [place for place in theirs if place[0] == dropped.key and dropped.effect in (None, place[1])]
        if hit:
            return _not_yours(state, node, theirs[hit[0]].taint)
        for place in [place for place in mine if place[0] == dropped.key and dropped.effect in (None, place[1])]:
            del mine[place]
    for taint in command.put:
        if _place(taint) in theirs:
            return _not_yours(state, node, theirs[_place(taint)].taint)
        known = before.get(_place(taint))
        since_ms = known.since_ms if known is not None and known.taint == taint else state.time_ms
        mine[_place(taint)] = NodeTaint(taint=taint, since_ms=since_ms)
    if len(mine) + len(theirs) > taints.TAINTS_MAX:
        return state.reject("INVALID", f"a node has at most {taints.TAINTS_MAX} taints")
    if mine == before:
        return state.changed(False)
    state.put_node(replace(node, taints=_ordered(theirs, mine), modify_index=state.index))
    tell(state, node, state.nodes[node.spec.id])
    return state.changed()


def declared(state: State, node: Node | None, listed: tuple[Taint, ...]) -> tuple[NodeTaint, ...]:
    """The node's taints once its agent declares ``listed`` (checked). An operator's of the same key and effect goes."""
    present = node.taints if node is not None else ()
    before = {_place(one.taint): one for one in present if one.declared}
    theirs = {}
    for taint in listed:
        known = before.get(_place(taint))
        since_ms = known.since_ms if known is not None and known.taint == taint else state.time_ms
        theirs[_place(taint)] = NodeTaint(taint=taint, since_ms=since_ms, declared=True)
    mine = {_place(one.taint): one for one in present if not one.declared and _place(one.taint) not in theirs}
    return _ordered(theirs, dict(sorted(mine.items())[: taints.TAINTS_MAX - len(theirs)]))


def tell(state: State, before: Node | None, after: Node) -> None:
    """Events for what changed."""
    old = {taints.describe(one.taint) for one in before.taints} if before is not None else set()
    new = {taints.describe(one.taint) for one in after.taints}
    for text in sorted(old - new):
        state.events.emit("node.untainted", node_id=after.spec.id, message=text)
    for text in sorted(new - old):
        state.events.emit("node.tainted", node_id=after.spec.id, message=text)


def _place(taint: Taint) -> tuple[str, int]:
    return taint.key, int(taint.effect)


def _ordered(theirs: dict[tuple[str, int], NodeTaint], mine: dict[tuple[str, int], NodeTaint]) -> tuple[NodeTaint, ...]:
    return tuple(part[place] for part in (theirs, mine) for place in sorted(part))


def _not_yours(state: State, node: Node, taint: Taint) -> Outcome:
    return state.reject(
        "FAILED_PRECONDITION",
        f"taint {taints.describe(taint)} of node {node.spec.name!r} is declared by its agent: change the agent's "
        "setting (--taint) and start it again",
    )
