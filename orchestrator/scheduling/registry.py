"""The placement policies by name: what ``placement:`` in a job may say. One line per policy."""

from __future__ import annotations

from orchestrator.scheduling.policies.binpack import BinPack
from orchestrator.scheduling.policies.first_fit_decreasing import FirstFitDecreasing
from orchestrator.scheduling.policies.gpu_locality import GpuLocality
from orchestrator.scheduling.policies.round_robin import RoundRobin
from orchestrator.scheduling.policies.spread import Spread
from orchestrator.scheduling.policy import Policy

DEFAULT = "binpack"

_POLICIES: dict[str, Policy] = {
    policy.name: policy for policy in (BinPack(), Spread(), RoundRobin(), FirstFitDecreasing(), GpuLocality())
}


def names() -> tuple[str, ...]:
    """Every name a job may use, the default first."""
    return tuple(_POLICIES)


def get(name: str) -> Policy:
    """The policy of that name. An unknown one (a job accepted by a newer peer) is placed by the default, which every
    peer knows; submitting one is refused at the edge."""
    return _POLICIES.get(name, _POLICIES[DEFAULT])
