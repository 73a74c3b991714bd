"""Makes the image of the examples on this machine's engine: busybox, and under /data whatever files are named.

python examples/prepare.py [--image NAME] [FILE ...]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.contract.errors import RaftsmanError
from orchestrator.ops.engine import Engine
from orchestrator.ops.images import find_or_make

IMAGE = "raftsman-examples:local"


async def prepare(image: str, files: Sequence[Path]) -> str:
    """Make ``image``; returns where its busybox came from."""
    async with Engine() as engine:
        base = await find_or_make(engine)
        await engine.build_image(base.name, {f"data/{path.name}": path.read_bytes() for path in files}, image)
        return base.how


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default=IMAGE)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    said = parser.parse_args()
    try:
        how = asyncio.run(prepare(said.image, said.files))
    except (RaftsmanError, OSError) as error:
        sys.exit(f"prepare: {error}")
    print(f"made {said.image} from {how}, with {len(said.files)} files under /data")


if __name__ == "__main__":
    main()
