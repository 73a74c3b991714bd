"""A placement that another package brings, so kept that it can spoil nobody's round but its own jobs' order.

Owns: asking it, judging what it answers, and who answers instead. Leaves to others: loading it (``leader.placements``),
saying that it failed (``leader.loop``, ``plan``). The rule: one exception, or one answer that no policy may give, and
it is not asked again in this process: ``instead`` decides, so that its jobs are placed and everybody else's are, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from orchestrator.scheduling.policy import NOWHERE, Policy, Turn, picked
from orchestrator.scheduling.problem import Problem
from orchestrator.scheduling.wish import Int64Array, Wish

MOST_WORDS = 200

T = TypeVar("T")


class _WrongError(Exception):
    """What it answered no policy may answer."""


class Foreign:
    """``failure``: why it is not asked any more, "" while it is. It gets copies of what is cached."""

    def __init__(self, policy: Policy, instead: Policy) -> None:
        self.name = policy.name
        self.summary = policy.summary
        self.knows_groups = policy.knows_groups
        self.big_first = policy.big_first
        self.fullest_first = policy.fullest_first
        self.failure = ""
        self._policy = policy
        self._instead = instead

    def scores(self, problem: Problem, wish: Wish, nodes: Int64Array) -> Int64Array:
        return self._asked(
            lambda: _whole("scores", self._policy.scores(problem, wish, nodes), len(nodes)),
            lambda: self._instead.scores(problem, wish, nodes),
        )

    def choose(self, scores: Int64Array, turn: Turn) -> int:
        return self._asked(
            lambda: _fitting(int(self._policy.choose(scores.copy(), turn)), scores),
            lambda: self._instead.choose(scores, turn),
        )

    def place_many(
        self, problem: Problem, wish: Wish, scores: Int64Array, times: Int64Array, wanted: int, turn: Turn
    ) -> Int64Array:
        return self._asked(
            lambda: _room(
                self._policy.place_many(problem, wish, scores.copy(), times.copy(), wanted, turn),
                np.where(scores == NOWHERE, 0, times),
                wanted,
            ),
            lambda: self._instead.place_many(problem, wish, scores, times, wanted, turn),
        )

    def devices(self, problem: Problem, wish: Wish, node: int) -> tuple[int, ...]:
        return self._asked(
            lambda: _free(picked(self._policy, problem, wish, node), problem, wish, node),
            lambda: picked(self._instead, problem, wish, node),
        )

    def _asked(self, ask: Callable[[], T], otherwise: Callable[[], T]) -> T:
        if self.failure:
            return otherwise()
        try:
            return ask()
        except Exception as error:  # whatever a stranger's code does
            said = str(error) if isinstance(error, _WrongError) else f"{type(error).__name__}: {error}"
            self.failure = said[:MOST_WORDS]
            return otherwise()


def _whole(what: str, answer: npt.ArrayLike, length: int) -> Int64Array:
    found = np.asarray(answer)
    if found.shape != (length,) or (length and found.dtype.kind not in "iu"):
        raise _WrongError(f"{what}: {found.dtype} of shape {found.shape}; expected {length} whole numbers")
    return found.astype(np.int64)


def _fitting(node: int, scores: Int64Array) -> int:
    if not 0 <= node < len(scores) or scores[node] == NOWHERE:
        raise _WrongError(f"choose: node {node}, where the instance does not fit")
    return node


def _room(answer: npt.ArrayLike, times: Int64Array, wanted: int) -> Int64Array:
    found = np.asarray(answer)
    if found.ndim != 1 or len(found) > wanted:
        raise _WrongError(f"place_many: shape {found.shape}; expected at most {wanted} nodes")
    nodes = _whole("place_many", found, len(found))
    if len(nodes) and (nodes.min() < 0 or nodes.max() >= len(times)):
        raise _WrongError(f"place_many: nodes {nodes.min()} to {nodes.max()} of {len(times)}")
    if np.any(np.bincount(nodes, minlength=len(times)) > times):
        raise _WrongError("place_many: more instances on a node than fit there")
    return nodes


def _free(devices: tuple[int, ...], problem: Problem, wish: Wish, node: int) -> tuple[int, ...]:
    assert wish.gpus is not None, "only of a wish with GPUs"
    free = problem.devices.free[node]
    chosen = tuple(int(device) for device in devices)
    if chosen and (
        not len(set(chosen)) == len(chosen) == wish.gpus.count
        or any(not 0 <= device < len(free) or free[device] < wish.gpus.gpu_millis for device in chosen)
    ):
        raise _WrongError(f"devices: {chosen} on node {node}; expected {wish.gpus.count} with room")
    return chosen
