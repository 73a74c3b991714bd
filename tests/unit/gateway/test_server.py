"""The gateway's flags: what they are refused for, and that they can stand in the environment."""

from __future__ import annotations

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
