"""What a drill needs from the machine: checked before anything starts, and what is missing is said in words.

Owns: the list of needs and the checks, each of which does the real thing once in small. The rule: nothing that these
drills do to network or mounts can outlive them: it is done in namespaces of their own, which the kernel takes back with
their last process, however that ends.
"""

from __future__ import annotations

import enum
import tempfile
from collections.abc import Collection
from pathlib import Path

from orchestrator.ops import drill_disks, drill_links, drill_namespaces, drill_strace

EXIT_SKIPPED = 77
"""Exit status of a drill that this machine cannot do; as test harnesses have it (GNU automake)."""


class Need(enum.Enum):
    """``FILES``: the peers' processes and directories, so a cluster of this machine. The others: more than that."""

    FILES = "files"
    STRACE = "strace"
    LINKS = "links"
    DISKS = "disks"


OWN_CLUSTER = frozenset({Need.LINKS, Need.DISKS})
"""Needs that only a cluster meets that was made for the drill."""


def prepare(needs: Collection[Need]) -> None:
    """Enter the namespaces that ``needs`` call for, and try what will be done in them. Raises ``MissingError``.

    Call it before the process has other threads: they would stay outside.
    """
    drill_namespaces.enter(network=Need.LINKS in needs, mounts=Need.DISKS in needs)
    if Need.LINKS in needs:
        drill_links.check()
    if Need.DISKS in needs:
        with tempfile.TemporaryDirectory(prefix="raftsman-check-") as directory:
            drill_disks.check(Path(directory))
    if Need.STRACE in needs:
        drill_strace.check()
