"""A program: apply logs as the version does that is on ``PYTHONPATH``, and say what came out, one line an entry.

On standard input each entry as its length (4 bytes, little-endian) and its bytes; ``AFRESH`` as a length begins the
next log. A line: the state's hash, the kind of outcome, and the reason of a refusal. It imports nothing of the tests,
for it runs with older versions, too.
"""

from __future__ import annotations

import os
import struct
import sys

AFRESH = 0xFFFFFFFF
LENGTH = struct.Struct("<I")


def main() -> None:
    from orchestrator.replication.machine import ClusterMachine

    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # where an older version logs
    machine = ClusterMachine()
    while head := sys.stdin.buffer.read(LENGTH.size):
        (size,) = LENGTH.unpack(head)
        if size == AFRESH:
            machine = ClusterMachine()
            continue
        outcome = machine.apply(sys.stdin.buffer.read(size))
        print(machine.state_hash(), type(outcome).__name__, getattr(outcome, "reason", ""), file=told)
    told.close()


if __name__ == "__main__":
    main()
