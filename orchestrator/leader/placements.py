"""Placement policies that other packages bring: finding and checking them when a process starts.

Owns: the entry points of group ``raftsman.placements`` and the complaints about them. Leaves to others: offering them
(``scheduling.registry``). The rule: a plug-in that cannot be used stops the start, with its name and what is wrong;
without it the jobs that name it would be placed otherwise, and nobody would know why.

An entry point names a ``scheduling.policy.Policy``: an object, or a class that is called without arguments. Its name in
the group must be the policy's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from orchestrator.contract.errors import StartupError
from orchestrator.scheduling import registry
from orchestrator.scheduling.policy import Policy

GROUP = "raftsman.placements"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_METHODS = ("scores", "choose", "place_many")
_FLAGS = ("knows_groups", "big_first", "fullest_first")


def install_placements() -> None:
    """Offer what the installed packages bring, from now on. Raises ``StartupError``."""
    policies = load(entry_points(group=GROUP))
    try:
        registry.add_foreign(policies)
    except ValueError as error:
        raise StartupError(
            f"{error}: one is brought by a plug-in (entry points {GROUP}); rename or remove it"
        ) from None


def load(points: Iterable[EntryPoint]) -> tuple[Policy, ...]:
    """The policies, by name. Raises ``StartupError``."""
    return tuple(_load(point) for point in sorted(points, key=lambda point: (point.name, point.value)))


def _load(point: EntryPoint) -> Policy:
    where = f"placement {point.name!r} of {point.dist.name if point.dist is not None else point.value}"
    try:
        found = point.load()
        policy: Policy = found() if isinstance(found, type) else found
    except Exception as error:  # whatever a stranger's module does when it is imported
        raise StartupError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    problem = _problem(point.name, policy)
    if problem:
        raise StartupError(f"{where} is no placement: {problem}")
    return policy


def _problem(name: str, policy: Policy) -> str:
    if not _NAME.fullmatch(name):
        return "its name must be letters, digits, '.', '_' and '-', beginning with a letter or digit"
    said = getattr(policy, "name", None)
    if said != name:
        return f"it calls itself {said!r}; the entry point must have the same name"
    for method in _METHODS:
        if not callable(getattr(policy, method, None)):
            return f"it has no method {method}"
    for flag in _FLAGS:
        if not isinstance(getattr(policy, flag, None), bool):
            return f"{flag} must be True or False"
    if not isinstance(getattr(policy, "summary", None), str):
        return "summary must be a line of text"
    return ""
