"""``rebalance``: shows the moves, or makes them one by one.

Each move is one command of the log (``MoveAllocation``), complete in itself: whoever leads places the instance again,
whether we are still there or not. So it may be interrupted at any point, and started again: what is left is worked out
afresh. If an instance lands elsewhere than foretold, or may not move any more, the rest is worked out afresh as well.

Exit codes: 0, also where there is nothing to do; 3: a moved instance found no node; 4: it does not run; 5: not in time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import click

from orchestrator.cli.output import show, table
from orchestrator.cli.session import Session, common
from orchestrator.contract.errors import ConflictError, ExitCode, NotFoundError, PreconditionError
from orchestrator.contract.foresight import GOALS, Balance, Goal, Move, Rebalance
from orchestrator.contract.model import AllocState

if TYPE_CHECKING:
    from orchestrator.client.sync import Client
    from orchestrator.contract.model import Allocation

WAIT_S = 120.0
"""For one moved instance to run again, unless --timeout says otherwise."""
POLL_S = 0.2
REFUSALS_MAX = 10
"""Moves that are refused one after the other before we give up: the cluster is too busy."""
PAUSE_S = 1.0


@click.command()
@common
@click.option(
    "--goal", type=click.Choice(GOALS), default="pack", show_default=True, help="Fewer nodes, or no hot spots."
)
@click.option("--moves", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--dry-run", is_flag=True, help="Only show them, and the measure before and after.")
@click.pass_context
def rebalance(ctx: click.Context, /, session: Session, goal: str, moves: int, dry_run: bool) -> None:
    """Move service instances so that fewer nodes are in use (pack), or none is far busier than others (spread).

    One of a group at a time; jobs placed by 'spread' or 'round-robin' are only spread, others only packed; batch and
    system jobs stay. Ctrl-C is safe: what was moved stays moved, and everything runs.
    """
    with session.client() as client:
        found = client.rebalance(cast(Goal, goal), moves)
        session.warn_if_stale(found.read)
        if dry_run or not found.moves:
            _show(session, found)
            return
        session.note(rebalance_text(found))
        session.confirm(f"Move {len(found.moves)} instance(s), one after the other?")
        mover = _Mover(session, client, cast(Goal, goal), moves)
        code = mover.run(found)
        ended = client.rebalance(cast(Goal, goal), moves)
    done = Rebalance(
        goal=goal,
        moves=tuple(mover.done),
        before=found.before,
        after=ended.before,
        more=bool(ended.moves),
        read=ended.read,
    )
    _show(session, done)
    ctx.exit(code)


def _show(session: Session, found: Rebalance) -> None:
    show(
        session.output,
        value=lambda: found,
        names=lambda: [str(move.id) for move in found.moves],
        table=lambda wide: rebalance_text(found),
    )


class _Mover:
    def __init__(self, session: Session, client: Client, goal: Goal, moves_max: int) -> None:
        self._session = session
        self._client = client
        self._goal = goal
        self._left = moves_max
        self.done: list[Move] = []

    def run(self, found: Rebalance) -> ExitCode:
        queue = list(found.moves)
        refusals = 0
        while queue and self._left > 0:
            move = queue.pop(0)
            try:
                self._client.move_allocation(move.id, move.attempt, namespace=move.id.namespace)
            except (ConflictError, NotFoundError, PreconditionError) as error:
                refusals += 1
                self._session.note(f"{move.id}: {error.message}; working out the rest afresh")
                if refusals >= REFUSALS_MAX:
                    self._session.warn("the cluster changes too fast to be rebalanced now: try again later")
                    return ExitCode.ERROR
                time.sleep(PAUSE_S)
                queue = self._afresh()
                continue
            refusals = 0
            self._left -= 1
            landed, code = self._landed(move)
            if landed is None:
                return code
            self.done.append(
                Move(id=move.id, attempt=landed.attempt, from_node=move.from_node, to_node=landed.node_name)
            )
            self._session.note(f"{move.id}: {move.from_node} -> {landed.node_name} ({len(self.done)} done)")
            if landed.node_name != move.to_node:
                queue = self._afresh()
        return ExitCode.OK

    def _afresh(self) -> list[Move]:
        return list(self._client.rebalance(self._goal, self._left).moves) if self._left > 0 else []

    def _landed(self, move: Move) -> tuple[Allocation | None, ExitCode]:
        """The next attempt once it runs; None and why otherwise."""
        limit_s = WAIT_S if self._session.timeout_s is None else self._session.timeout_s
        deadline = time.monotonic() + limit_s
        while True:
            one = self._client.get_allocation(move.id, namespace=move.id.namespace).allocation
            fresh = one.attempt > move.attempt
            if fresh and one.state is AllocState.RUNNING:
                return one, ExitCode.OK
            if fresh and one.state in (AllocState.FAILED, AllocState.BACKOFF):
                self._session.warn(f"{move.id} does not run on {one.node_name}: {one.reason or 'no reason given'}")
                return None, ExitCode.ROLLOUT_FAILED
            if time.monotonic() >= deadline:
                what = "runs" if fresh else "has a node"
                hint = f"'raftsman why {move.id.job}' says what is in the way"
                self._session.warn(f"{move.id}: not so far that it {what} after {limit_s:g} s; {hint}")
                return None, ExitCode.TIMEOUT if fresh else ExitCode.UNPLACED
            time.sleep(POLL_S)


# ---------------------------------------------------------------------------- for reading


def rebalance_text(found: Rebalance) -> str:
    parts = []
    if found.note:
        parts.append(f"Nothing to show: {found.note}.")
    elif not found.moves:
        within = " within --moves and --timeout" if found.more else ""
        parts.append(f"No move would make it better{within}.")
    else:
        rows = [
            [str(move.id), move.from_node, move.to_node, move.id.namespace if move.id.namespace != "default" else ""]
            for move in found.moves
        ]
        parts.append(table(["ALLOCATION", "FROM", "TO", "NAMESPACE"], rows))
        if found.more:
            parts.append("There may be more: --moves, --timeout, or run it again.")
    parts.append(_measures(found.before, found.after))
    return "\n\n".join(parts)


def _measures(before: Balance, after: Balance) -> str:
    rows: list[list[object]] = [
        ["nodes in use", f"{before.nodes_used} of {before.nodes}", f"{after.nodes_used} of {after.nodes}"],
        ["busiest node", f"{before.highest / 1e4:.0f} %", f"{after.highest / 1e4:.0f} %"],
        ["least busy node", f"{before.lowest / 1e4:.0f} %", f"{after.lowest / 1e4:.0f} %"],
        ["sum of squared shares", f"{before.squares / 1e6:.3f}", f"{after.squares / 1e6:.3f}"],
        ["without a node", before.pending, after.pending],
    ]
    return table(["MEASURE", "BEFORE", "AFTER"], rows)
