"""The placement policies by name: what ``placement:`` in a job may say. One line per policy.

Owns: the names, and which one a job gets that names none. Leaves to others: finding policies outside this package
(``daemon`` does that before anything is decided, and hands them in). The rules: what is here when a process has started
stays; a policy decides on the leader alone, and no peer's state depends on which policies it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orchestrator.scheduling.foreign import Foreign
from orchestrator.scheduling.policies.binpack import BinPack
from orchestrator.scheduling.policies.first_fit_decreasing import FirstFitDecreasing
from orchestrator.scheduling.policies.fragmentation import Fragmentation
from orchestrator.scheduling.policies.gpu_locality import GpuLocality
from orchestrator.scheduling.policies.round_robin import RoundRobin
from orchestrator.scheduling.policies.spread import Spread
from orchestrator.scheduling.policy import Policy

DEFAULT = "binpack"
DEFAULT_WITH_DEVICES = "fragmentation"
"""Of groups that ask for devices: it wins on the GPU trace (docs/placements/fragmentation.md)."""

_POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (BinPack(), Spread(), RoundRobin(), FirstFitDecreasing(), GpuLocality(), Fragmentation())
}


def names() -> tuple[str, ...]:
    """Every name a job may use, the default first."""
    return tuple(_POLICIES)


def get(name: str) -> Policy:
    """The policy of that name. An unknown one (a job accepted by a peer that has it) is placed by the default, which
    every peer knows; submitting one is refused at the edge."""
    return _POLICIES.get(name, _POLICIES[DEFAULT])


def complaint(name: str) -> str:
    """Why jobs that name it are placed by another one; "" where they are not."""
    policy = _POLICIES.get(name)
    if policy is None:
        return f"placement {name} is not installed on the leading peer: placed by {DEFAULT}"
    if isinstance(policy, Foreign) and policy.failure:
        why = f"failed ({policy.failure}) and is not used until the peer starts again"
        return f"placement {name} {why}: placed by {DEFAULT}"
    return ""


def failures() -> tuple[tuple[str, str], ...]:
    """Placements of other packages that are not used any more, and why."""
    return tuple((name, one.failure) for name, one in _POLICIES.items() if isinstance(one, Foreign) and one.failure)


def add(policies: Iterable[Policy]) -> None:
    """Offer further policies from now on. Raises ``ValueError`` for a name that is taken, and adds none then."""
    fresh: dict[str, Policy] = {}
    for policy in policies:
        if policy.name in _POLICIES or policy.name in fresh:
            raise ValueError(f"there are two placements named {policy.name!r}")
        fresh[policy.name] = policy
    _POLICIES.update(fresh)


def add_foreign(policies: Iterable[Policy]) -> None:
    """As ``add``, of policies that are nobody's of us: what fails is not asked again, and the default decides."""
    add([Foreign(policy, _POLICIES[DEFAULT]) for policy in policies])


def chooser(cluster_default: str) -> Callable[[str, bool], str]:
    """For ``wish_of``: the name of the policy for a group, given its job's ``placement`` ("": none) and whether it asks
    for devices. ``cluster_default``: the operator's choice, "" = what suits each."""

    def choose(placement: str, devices: bool) -> str:
        return placement or cluster_default or (DEFAULT_WITH_DEVICES if devices else DEFAULT)

    return choose


def summaries() -> tuple[tuple[str, str], ...]:
    """Name and a line about each."""
    return tuple((name, policy.summary) for name, policy in _POLICIES.items())
