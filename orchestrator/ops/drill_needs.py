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

from orchestrator.contract.errors import StartupError
from orchestrator.ops import drill_disks, drill_links, drill_namespaces, drill_strace
from orchestrator.ops.drill_tools import MissingError
from orchestrator.ops.interrupt import run
from orchestrator.ops.own_engine import OwnEngine

EXIT_SKIPPED = 77
"""Exit status of a drill that this machine cannot do; as test harnesses have it (GNU automake)."""


class Need(enum.Enum):
    """``FILES``: the peers' processes and directories, so a cluster of this machine. The others: more than that."""

    FILES = "files"
    STRACE = "strace"
    LINKS = "links"
    DISKS = "disks"
    ENGINE = "engine"


OWN_CLUSTER = frozenset({Need.LINKS, Need.DISKS, Need.ENGINE})
"""Needs that only a cluster meets that was made for the drill."""


IN_OWN_NETWORK = frozenset({Need.LINKS, Need.ENGINE})
"""Needs for which the whole drill runs in a network namespace of its own."""


def prepare(needs: Collection[Need]) -> None:
    """Enter the namespaces that ``needs`` call for, and try what will be done in them. Raises ``MissingError``, and
    ``KeyboardInterrupt`` when it is told to end.

    Call it before the process has other threads: they would stay outside.
    """
    drill_namespaces.enter(network=bool(IN_OWN_NETWORK & frozenset(needs)), mounts=Need.DISKS in needs)
    if Need.LINKS in needs:
        drill_links.check()
    if Need.DISKS in needs:
        with tempfile.TemporaryDirectory(prefix="raftsman-check-") as directory:
            drill_disks.check(Path(directory))
    if Need.ENGINE in needs:
        with tempfile.TemporaryDirectory(prefix="raftsman-check-") as directory:
            run(_check_engine(Path(directory)))
    if Need.STRACE in needs:
        drill_strace.check()


async def _check_engine(directory: Path) -> None:
    engine = OwnEngine(directory / "engine")
    try:
        await engine.start()
        await engine.stop()
    except StartupError as error:
        raise MissingError(f"a Docker engine of the drill's own does not come up here: {error.message}") from None
