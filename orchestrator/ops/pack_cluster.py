"""A cluster as ``raftsman pack`` sees it, whatever file it was read from: nodes, pods, and what the file left open.

Owns: the values that every reader makes. Leaves to others: reading (``pack_trace``, ``pack_kubectl``, ``pack_nomad``),
packing (``pack``). The rule: a reader decides who may run where (``PackPod.nodes``), so that nothing behind it knows a
foreign cluster's selectors and taints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.contract.model import Device, IntMap, Resources

AMOUNT_MAX = 1 << 42
"""The most of anything that a node may have or a pod may ask for: a million of them still add up in an int64."""
WAITING = -1
"""In place of a node's number."""


class PackError(Exception):
    """A file that cannot be packed; the text names it, the place in it and what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackNode:
    """``open``: it takes pods; what runs on a node that does not stays there. ``capacity``: without devices."""

    name: str
    capacity: Resources
    devices: tuple[Device, ...] = ()
    open: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPod:
    """``node``: number of the node that it runs on, ``WAITING`` = none; ``devices``: the numbers of what it holds
    there, () = the file does not say; ``nodes``: numbers of those that it may run on, None = any; ``daemon``: belongs
    to its node (a DaemonSet, a system job), so that it never moves and does not count as a use of the node."""

    name: str
    request: Resources
    node: int = WAITING
    devices: tuple[int, ...] = ()
    nodes: frozenset[int] | None = None
    daemon: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PackCluster:
    """``format``: trace, kubectl or nomad; ``cpu_unit``: what ``cpu_millis`` counts; ``placed``: whether the file says
    where pods run; ``carried``: further resources that are kept to; ``ignored``: those that are not; ``notes``: what
    else a reader of the report should know; ``ended``: pods that hold nothing any more and were left out."""

    format: str
    nodes: tuple[PackNode, ...]
    pods: tuple[PackPod, ...]
    placed: bool
    cpu_unit: str = "millicores"
    carried: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ended: int = 0

    @property
    def gpus(self) -> int:
        return sum(len(node.devices) for node in self.nodes)


def amounts(pairs: Iterable[tuple[str, int]]) -> IntMap:
    """Sorted by name, zeros left out."""
    return tuple(sorted((name, amount) for name, amount in pairs if amount))
