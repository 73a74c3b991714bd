"""Runs one command in a container: the engine's exec, with a deadline that holds.

Owns: the three calls that it takes, and killing what does not end. Leaves to others: clients and threads (``docker``).
The rule: the engine cannot kill what it executes, so the process is killed by its pid where it is one of this machine's
and of that container; where it is not, nothing new is run in the container before it has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.driver import OUTPUT_MAX, Ran


def execute(api: Any, name: str, command: tuple[str, ...], timeout_s: float, hanging: dict[str, str]) -> Ran | None:
    """Blocks for at most about ``timeout_s``; None: it did not end in time. Raises the SDK's errors.

    ``hanging``: by container, an earlier command that could not be killed (the caller forgets it when the engine has).
    """
    before = hanging.get(name)
    if before is not None:
        if not _kill(api, before, name):  # when it was last tried, the engine may not have begun it yet
            return Ran(code=-1, output="the check before has not ended, and cannot be killed from here")
        del hanging[name]
    made: str = api.exec_create(name, list(command), stdout=True, stderr=True)["Id"]
    stream = api.exec_start(made, socket=True)
    raw = getattr(stream, "_sock", stream)
    output = bytearray()
    try:
        for chunk in _frames(raw, time.monotonic() + timeout_s):
            output += chunk[: OUTPUT_MAX - len(output)]
    except TimeoutError:
        if not _kill(api, made, name):
            hanging[name] = made
        return None
    finally:
        for one in (getattr(stream, "_response", None), stream, raw):
            with contextlib.suppress(OSError, ValueError):
                if one is not None:
                    one.close()
    code = api.exec_inspect(made).get("ExitCode")
    return Ran(code=-1 if code is None else int(code), output=output.decode("utf-8", "replace"))


def _frames(raw: Any, deadline: float) -> Iterator[bytes]:
    """What the command writes: the engine sends a byte that says which stream, three of nothing and a length before."""
    while header := _exactly(raw, 8, deadline):
        yield _exactly(raw, int.from_bytes(header[4:8], "big"), deadline)


def _exactly(raw: Any, size: int, deadline: float) -> bytes:
    """So many bytes, or fewer at the end. Raises ``TimeoutError`` at the deadline (of ``time.monotonic``)."""
    data = bytearray()
    while len(data) < size:
        raw.settimeout(max(0.001, deadline - time.monotonic()))
        piece = raw.recv(min(65_536, size - len(data)))
        if not piece:
            break
        data += piece
    return bytes(data)


def _kill(api: Any, made: str, name: str) -> bool:
    """Whether it is surely gone."""
    found = api.exec_inspect(made)
    if not found.get("Running"):
        return True
    pid, container = int(found.get("Pid") or 0), str(found.get("ContainerID") or name)
    try:
        ours = container in Path(f"/proc/{pid}/cgroup").read_text()
        if not pid or not ours:
            return False
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True
