"""The gateway's flags: what they are refused for, and that they can stand in the environment."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.gateway import server

GOOD = ("gateway", "--insecure", "--endpoints", "10.0.0.1:7400")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--listen", "127.0.0.1:99999"), "--listen: expected HOST:PORT"),
        (("--listen", "127.0.0.1:\u00b2"), "--listen: expected HOST:PORT"),
        (("--listen", "8080"), "--listen: expected HOST:PORT"),
        (("--endpoints", ""), "--endpoints: is empty"),
        (("--endpoints", "10.0.0.1:7400,http://x:1"), "--endpoints: expected HOST:PORT"),
        (("--tls", "somewhere"), "--tls and --insecure exclude each other"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(
    flags: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*GOOD, *flags]) == 2
    assert text in capsys.readouterr().err


def test_a_key_that_cannot_be_read_is_found_out_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It served, and every request failed."""
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    opened = Path.open

    def denied(path: Path, *rest: Any, **more: Any) -> Any:
        if path.name == "key.pem":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *rest, **more)

    async def serve(*_: Any) -> None:
        raise AssertionError("it serves")

    monkeypatch.setattr(Path, "open", denied)
    monkeypatch.setattr(server, "serve", serve)
    assert main.run(["gateway", "--endpoints", "10.0.0.1:7400", "--tls", str(tmp_path)]) == 1
    assert f"{tmp_path}/key.pem: Permission denied" in capsys.readouterr().err


def test_every_flag_can_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []

    async def serve(*given: Any) -> None:
        served.extend(given)

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setenv("RAFTSMAN_GATEWAY_LISTEN", "[::1]:0")
    monkeypatch.setenv("RAFTSMAN_GATEWAY_ENDPOINTS", "a:1, b:2")
    monkeypatch.setenv("RAFTSMAN_GATEWAY_ALLOW_HOST", "one.example,two.example")
    monkeypatch.setenv("RAFTSMAN_GATEWAY_INSECURE", "1")
    assert main.run(["gateway"]) == 0
    assert served == [["a:1", "b:2"], None, "::1", 0, ("one.example", "two.example"), None]


def test_it_logs_json_lines_on_stderr_and_so_do_its_libraries() -> None:
    words = [sys.executable, "-m", "orchestrator.cli.main", "gateway", "--listen", "127.0.0.1:0"]
    words += ["--insecure", "--endpoints", "127.0.0.1:1"]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as gateway:
        assert gateway.stderr is not None and gateway.stdout is not None
        try:
            serves = json.loads(gateway.stderr.readline())
            with socket.create_connection(("127.0.0.1", int(serves["listen"].rpartition(":")[2])), timeout=30) as link:
                link.sendall(b"no http\r\n\r\n")  # uvicorn warns of it
                link.recv(1024)
            complains = json.loads(gateway.stderr.readline())
        finally:
            gateway.terminate()
        rest, told = gateway.stderr.read(), gateway.stdout.read()
    assert (serves["event"], serves["level"]) == ("gateway_serves", "info")
    assert (complains["library"], complains["level"]) == ("uvicorn.error", "warning")
    assert (rest, told) == ("", "")
