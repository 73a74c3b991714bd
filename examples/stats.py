"""Statistics of CSV files by a batch job of 20 tasks: count, sum, minimum and maximum of every numeric column.

    python examples/stats.py [--context NAME] [FILE ...]        (default: the files of ../shared/data/openb)

The files travel in the job's image; each task takes its share of the rows by its ordinal; the parts come back as logs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from prepare import prepare

from orchestrator.contract.model import AllocState
from orchestrator.jobfile import file as jobfile
from raftsman import Client

HERE = Path(__file__).resolve().parent
OPENB = HERE.parent.parent / "shared" / "data" / "openb"
Statistics = dict[str, dict[str, dict[str, float]]]
"""File name -> column -> count, sum, min, max."""


async def run(client: Client, files: list[Path]) -> Statistics:
    """Run ``stats.yaml`` over ``files`` and merge what its tasks print."""
    spec = jobfile.load((HERE / "stats.yaml").read_bytes(), "stats.yaml")
    await prepare("raftsman-examples:stats", files)
    await client.submit(spec)
    count = spec.groups[0].count
    while True:
        found = (await client.list_allocations(job=spec.name)).allocations
        states = {one.id: one.state for one in sorted(found, key=lambda one: one.attempt)}  # the newest attempts
        failed = [one for one in found if one.state is AllocState.FAILED]
        if failed:
            raise SystemExit(f"{failed[0].id} failed: {failed[0].reason}")
        if len(states) == count and set(states.values()) == {AllocState.COMPLETE}:
            break
        await asyncio.sleep(0.2)
    merged: Statistics = {}
    for allocation in sorted(states):
        text = b"".join([chunk.data async for chunk in client.logs(allocation)]).decode()
        for line in text.splitlines():
            path, column, n, total, low, high = line.split("\t")
            columns = merged.setdefault(Path(path).name, {})
            have = columns.setdefault(column, {"count": 0, "sum": 0.0, "min": float(low), "max": float(high)})
            have["count"] += int(n)
            have["sum"] += float(total)
            have["min"] = min(have["min"], float(low))
            have["max"] = max(have["max"], float(high))
    await client.remove_job(spec.name)
    return merged


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", help="which cluster; default: the current one")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    said = parser.parse_args()
    files = said.files or sorted(OPENB.glob("*.csv"))
    if not files:
        sys.exit(f"stats: {OPENB} is not here: name the CSV files to work on")
    async with Client.from_context(said.context) as client:
        print(json.dumps(await run(client, files), indent=2, sort_keys=True))


if __name__ == "__main__":
    asyncio.run(main())
