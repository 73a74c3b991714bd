"""Where nodes are: racks and zones, as their agents were told, else from the labels ``rack`` and ``zone``.

Owns: this one reading of them (``place_of``), and numbering places. The rule: a rack is one of its zone, so equal
names in two zones are two racks; a node that does not say is in a rack, or a zone, of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.contract.model import GangDomain, NodeSpec
from orchestrator.scheduling.wish import Int64Array
from orchestrator.state.model import Node


def place_of(spec: NodeSpec) -> tuple[str, str]:
    """(zone, rack), "" where the node does not say."""
    labels = dict(spec.labels)
    return spec.zone or labels.get("zone", ""), spec.rack or labels.get("rack", "")


def numbered(nodes: Sequence[Node], domain: GangDomain) -> tuple[Int64Array, list[str]]:
    """int64 per node: the number of its rack or zone, in the order of the first node of each; and their names ("" of a
    node that stands alone). Of smaller domains each node is one, of CLUSTER all are one."""
    numbers: dict[tuple[str, ...], int] = {}
    names: list[str] = []
    where = []
    for at, node in enumerate(nodes):
        zone, rack = place_of(node.spec)
        key: tuple[str, ...]
        if domain is GangDomain.CLUSTER:
            key, name = ("all",), ""
        elif domain is GangDomain.ZONE and zone:
            key, name = ("zone", zone), zone
        elif domain is GangDomain.RACK and rack:
            key, name = ("rack", zone, rack), f"{zone}/{rack}" if zone else rack
        else:
            key, name = ("node", str(at)), ""
        if key not in numbers:
            numbers[key] = len(names)
            names.append(name)
        where.append(numbers[key])
    return np.array(where, dtype=np.int64), names
