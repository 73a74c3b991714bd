"""What one round placed, as columns.

Owns: ``Placements``. Leaves to others: deciding (``solve``), cutting it into entries of the log (``plan``). The rule:
whole columns go in and come out as arrays; only what holds devices or ports costs Python per row.
"""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt

from orchestrator.scheduling.wish import Int64Array
from orchestrator.state.commands import Int32Array


class Placements:
    """What found a node, in the order of placing, as packed columns of one length, and what did not.

    ask: place in the asks; at: place in that ask's ordinals; node: number in the problem; device_mask over the node's
    devices; gpu_millis: taken of each; ports: host ports of all rows, row i's are
    ``ports[port_offsets[i]:port_offsets[i + 1]]`` in the group's order. unplaced: per ask, how many instances found no
    room (a system job's nodes that are not suitable are not counted). more: the round ended at its bound; what was not
    reached is in no column.
    """

    def __init__(self, asks: int) -> None:
        # Typed arrays: they take single values as fast as lists do, whole columns at once, and a tenth of the memory.
        self.ask = array("i")
        self.at = array("i")
        self.node = array("i")
        self.device_mask = array("Q")
        self.gpu_millis = array("i")
        self.ports = array("i")
        self.port_offsets = array("i", [0])
        self.unplaced = [0] * asks
        self.more = False

    def __len__(self) -> int:
        return len(self.ask)

    def add(self, ask: int, at: int, node: int, device_mask: int, gpu_millis: int, ports: tuple[int, ...]) -> None:
        self.ask.append(ask)
        self.at.append(at)
        self.node.append(node)
        self.device_mask.append(device_mask)
        self.gpu_millis.append(gpu_millis)
        self.ports.extend(ports)
        self.port_offsets.append(len(self.ports))

    def add_plain(self, ask: Int32Array, at: Int32Array, node: Int64Array | Int32Array) -> None:
        """Rows that hold neither devices nor ports."""
        rows = len(node)
        self.ask.frombytes(_int32(ask))
        self.at.frombytes(_int32(at))
        self.node.frombytes(_int32(node))
        self.device_mask.frombytes(bytes(8 * rows))
        self.gpu_millis.frombytes(bytes(4 * rows))
        self.port_offsets.extend(array("i", (len(self.ports),)) * rows)


def _int32(values: npt.NDArray[np.integer]) -> bytes:
    return values.astype(np.int32, copy=False).tobytes()
