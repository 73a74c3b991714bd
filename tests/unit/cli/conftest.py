"""A command line that talks to fake peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.unit.client.fake import FakePeer, World

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer(world: World) -> Iterator[FakePeer]:
    made = FakePeer(world)
    yield made
    made.kill()


@pytest.fixture
def cli(
    peer: FakePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Cli:
    """Run a command; gives exit code, stdout and stderr."""
    for name in ("RAFTSMAN_CONTEXT", "RAFTSMAN_TLS_DIR", "RAFTSMAN_NAMESPACE", "RAFTSMAN_OUTPUT", "RAFTSMAN_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAFTSMAN_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)  # the working directory may bring a context of its own (compose)
    monkeypatch.setenv("RAFTSMAN_ENDPOINTS", peer.address)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = main.run(list(arguments))
        out, err = capfdbinary.readouterr()
        return int(code), out.decode(), err.decode()

    return run
