"""The output of a container, read back from the engine: whole, its end, or as it comes.

Owns: offsets, both streams in one, the engine's frames, each once. Leaves to others: threads and streams
(``docker_calls``). The rule: only what ``json-file`` keeps can be read back. Offsets count what the engine still has,
so they shift when it throws an old file away (30 MiB on).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import docker
import docker.errors
import docker.types.daemon

from agent.driver import LogChunk, LogsGoneError
from agent.drivers.docker_calls import Calls, open_response
from agent.drivers.docker_found import unix_ms
from agent.log_tail import tail
from orchestrator.contract.containers import KEPT_LOGS

REPEATED = 1_000
"""So many frames back one that comes again is known."""


async def read(calls: Calls, name: str, *, follow: bool, tail_lines: int, offset: int) -> AsyncIterator[LogChunk]:
    kept_by = await calls(lambda api: _log_driver(api, name))
    if not kept_by:
        raise LogsGoneError(f"{name} is unknown on this node")
    if kept_by != KEPT_LOGS:
        raise LogsGoneError(f"its log driver is {kept_by}: only what json-file keeps can be read here")
    if tail_lines > 0:
        everything = [chunk async for chunk in _output(calls, name, follow=False, offset=offset)]
        for chunk in tail(everything, tail_lines):
            yield chunk
        if not follow:
            return
        if everything:
            offset = everything[-1].offset + len(everything[-1].data)
    async for chunk in _output(calls, name, follow=follow, offset=offset):
        yield chunk


async def _output(calls: Calls, name: str, *, follow: bool, offset: int) -> AsyncIterator[LogChunk]:
    place = 0
    try:
        async for stderr, time_ms, data in calls.stream(lambda api: _open_output(api, name, follow)):
            start, place = place, place + len(data)
            if place > offset:
                skip = max(0, offset - start)
                yield LogChunk(data=data[skip:], offset=start + skip, stderr=stderr, time_ms=time_ms)
    except docker.errors.NotFound:
        raise LogsGoneError(f"{name} is unknown on this node") from None


def _log_driver(api: docker.APIClient, name: str) -> str:
    """What keeps a container's output; "" where there is no such container."""
    try:
        found = api.inspect_container(name)
    except docker.errors.NotFound:
        return ""
    return str(found["HostConfig"]["LogConfig"]["Type"])


def _open_output(api: docker.APIClient, name: str, follow: bool) -> Any:
    params = {"stdout": "1", "stderr": "1", "follow": str(int(follow)), "timestamps": "1", "tail": "all"}
    response = open_response(api, f"containers/{name}/logs", params)
    return docker.types.daemon.CancellableStream(_once(_frames(response)), response)


def _once(frames: Iterator[tuple[bool, bytes, bytes]]) -> Iterator[tuple[bool, int, bytes]]:
    """(is stderr, unix ms, bytes) of each frame, without those that the engine sends again: when it begins a new file,
    whoever follows gets some lines of the old one twice (20.10: up to ten; ``docker logs -f`` does, too).

    No two lines have one time in nanoseconds, but all pieces of a long line do, and equal ones may follow each other.
    """
    recent: deque[int] = deque(maxlen=REPEATED)
    known: set[int] = set()
    newest = b""
    for stderr, stamp, said in frames:
        key = hash((stderr, stamp, said))
        if key in known and (stamp < newest or said.endswith(b"\n")):
            continue
        if len(recent) == REPEATED:
            known.discard(recent[0])
        recent.append(key)
        known.add(key)
        newest = max(newest, stamp)
        yield stderr, unix_ms(stamp.decode("ascii", "replace")), said


def _frames(response: Any) -> Iterator[tuple[bool, bytes, bytes]]:
    """(is stderr, time, bytes) of the engine's multiplexed stream: a type byte, three zeros, a length, the bytes, which
    begin with the time (RFC 3339 with nine digits, so it can be compared as it is) and a blank."""
    while len(header := response.raw.read(8)) == 8:
        length = int.from_bytes(header[4:], "big")
        data = response.raw.read(length)
        stamp, blank, said = data.partition(b" ")
        if blank and said:
            yield header[0] == 2, stamp, said
        if len(data) < length:
            return
