"""Runs several drills on one throw-away cluster with links and disks to hurt; prints one JSON object per drill.

    python -m tests.drills.one_cluster KIND...

A process of its own, since a drill's namespaces hold a whole process and its children. Each line has ``kind`` and
``said`` (the drill's progress), and ``verdict``, or ``skipped`` or ``failed`` with the reason.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from orchestrator.contract.errors import RaftsmanError
from orchestrator.ops.drill import Drill, Options
from orchestrator.ops.drill_cluster import FaultyCluster
from orchestrator.ops.drill_kinds import KINDS
from orchestrator.ops.drill_needs import Need, prepare
from orchestrator.ops.drill_tools import MissingError
from orchestrator.ops.interrupt import run
from tests.drills.lying_disk import LyingDisk

EVERY = {**KINDS, "lying-disk": LyingDisk()}


def usable(kinds: Sequence[str]) -> list[str]:
    """Those that this machine can do; the others are told as skipped."""
    found = []
    for kind in kinds:
        try:
            prepare(EVERY[kind].needs)
            found.append(kind)
        except MissingError as error:
            tell(kind, [], skipped=error.message)
    return found


async def drill(kinds: Sequence[str]) -> None:
    needs = frozenset[Need]().union(*(EVERY[kind].needs for kind in kinds))
    has = {"links": Need.LINKS in needs, "disks": Need.DISKS in needs, "engine": Need.ENGINE in needs}
    driver = "docker" if has["engine"] else "process"
    async with FaultyCluster(driver=driver, **has) as cluster:
        for kind in kinds:
            said: list[str] = []
            began = time.monotonic()
            try:
                verdict = await Drill(cluster, Options(kind=EVERY[kind], rounds=1), said.append).run()
            except RaftsmanError as error:
                tell(kind, said, failed=error.message)
                continue
            seconds = round(time.monotonic() - began, 1)
            tell(
                kind,
                said,
                verdict=verdict.as_json(replaces=EVERY[kind].loses_node, watches_engine=EVERY[kind].watches_engine),
                seconds=seconds,
            )


def tell(kind: str, said: Sequence[str], **outcome: Any) -> None:
    print(json.dumps({"kind": kind, "said": said, **outcome}), flush=True)


def main() -> None:
    kinds = usable(sys.argv[1:])
    if kinds:
        run(drill(kinds))


if __name__ == "__main__":
    main()
