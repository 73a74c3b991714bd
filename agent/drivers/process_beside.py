"""Runs one command as a task of the process driver runs: its environment, directory and user.

Owns: reading these from the run's ``spec`` file, the deadline. The rule: whatever the command started is killed with
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from agent.driver import OUTPUT_MAX, DriverUnavailableError, Ran

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""What a shell says."""


async def run_beside(spec_file: Path, command: tuple[str, ...], timeout_ms: int) -> Ran:
    """Raises ``TimeoutError``, and ``DriverUnavailableError`` where the run's files cannot be read."""
    records = _records(spec_file)
    fields = dict(record.partition("=")[::2] for record in records if not record.startswith(("arg=", "env=")))
    env = dict(record.removeprefix("env=").partition("=")[::2] for record in records if record.startswith("env="))
    who: dict[str, Any] = {}
    if int(fields.get("uid", "-1")) >= 0:
        groups = [int(group) for group in fields.get("groups", "").split(",") if group]
        who = {"user": int(fields["uid"]), "group": int(fields["gid"]), "extra_groups": groups}
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=env,
            cwd=fields.get("cwd") or None,
            start_new_session=True,
            **who,
        )
    except FileNotFoundError:
        return Ran(code=NOT_FOUND, output=f"{command[0]}: not found")
    except (PermissionError, OSError) as error:
        return Ran(code=NOT_EXECUTABLE, output=f"{command[0]}: {error.strerror}")
    assert process.stdout is not None, "asked for"
    output = bytearray()
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            while chunk := await process.stdout.read(65_536):
                output += chunk[: OUTPUT_MAX - len(output)]
            code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await process.wait()
    return Ran(code=code if code >= 0 else 128 - code, output=output.decode("utf-8", "replace"))


def _records(spec_file: Path) -> list[str]:
    try:
        return spec_file.read_bytes().decode("utf-8", "surrogateescape").split("\0")
    except OSError as error:
        raise DriverUnavailableError(f"cannot read {spec_file}: {error.strerror}") from error
