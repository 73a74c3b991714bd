"""A check's command that hangs is killed as soon as it can be, and no second one runs beside it."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from agent.driver import Ran
from agent.drivers import docker_inside

ENDED = b"\x01\0\0\0\0\0\0\x02ok"


class Engine:
    """Its first command says nothing; ``pid``: of that one, as far as the engine knows. Others end at once."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.pid = 0
        self.killed: list[tuple[int, int]] = []

    def exec_create(self, name: str, command: list[str], **_: Any) -> dict[str, str]:
        self.made.append(f"e{len(self.made)}")
        return {"Id": self.made[-1]}

    def exec_start(self, made: str, **_: Any) -> socket.socket:
        self.far, near = socket.socketpair()
        if made != "e0":
            self.far.sendall(ENDED)
            self.far.close()
        return near

    def exec_inspect(self, made: str) -> dict[str, Any]:
        if made != "e0":
            return {"Running": False, "ExitCode": 0}
        return {"Running": True, "Pid": self.pid, "ContainerID": "c" * 64}

    def kill(self, pid: int, number: int) -> None:
        self.killed.append((pid, number))


def test_a_command_that_began_after_its_deadline_is_killed_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, hanging = Engine(), dict[str, str]()
    monkeypatch.setattr(os, "kill", engine.kill)
    monkeypatch.setattr(Path, "read_text", lambda path: f"{path} 0::/docker/{'c' * 64}")

    def check() -> Ran | None:
        return docker_inside.execute(engine, "box", ("work",), 0.01, hanging)

    assert check() is None
    assert (hanging, engine.killed) == ({"box": "e0"}, [])
    waits = check()
    assert waits is not None and "has not ended" in waits.output
    assert engine.made == ["e0"], "nothing runs beside it"
    engine.pid = 77
    assert check() == Ran(code=0, output="ok")
    assert (hanging, engine.killed) == ({}, [(77, signal.SIGKILL)])
