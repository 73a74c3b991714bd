"""The last lines of an output: shared by drivers whose store cannot be asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.driver import LogChunk


def tail(chunks: Sequence[LogChunk], lines: int) -> list[LogChunk]:
    """The end of ``chunks`` that holds the last ``lines`` lines; a final newline ends a line and begins none."""
    kept: list[LogChunk] = []
    missing = lines
    last = True
    for chunk in reversed(chunks):
        data = chunk.data
        cut = len(data)
        if last and data.endswith(b"\n"):
            cut -= 1
        last = False
        while missing:
            cut = data.rfind(b"\n", 0, cut)
            if cut < 0:
                break
            missing -= 1
        if not missing:
            rest = data[cut + 1 :]
            if rest:
                kept.append(replace(chunk, data=rest, offset=chunk.offset + cut + 1))
            break
        kept.append(chunk)
    kept.reverse()
    return kept
