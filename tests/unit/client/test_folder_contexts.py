"""Contexts that a folder brings: what compose writes is found from below it, and a saved one of that name wins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.client import contexts
from orchestrator.contract.errors import NotFoundError, StartupError


@pytest.fixture(autouse=True)
def no_saved_contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFTSMAN_CONFIG_DIR", str(tmp_path / "config"))
    for name in ("RAFTSMAN_CONTEXT", "RAFTSMAN_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project" / ".raftsman" / "compose"
    folder.mkdir(parents=True)
    facts = {"kind": "compose", "endpoints": ["127.0.0.1:1"], "ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    (folder / "context.json").write_text(json.dumps(facts))
    below = tmp_path / "project" / "deep" / "down"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return folder


def test_a_folders_context_is_found_from_below_it(project: Path) -> None:
    found = contexts.resolve("compose")
    assert found.kind == "compose"
    assert found.tls is not None
    assert found.tls.key == project / "key.pem"


def test_a_folders_context_is_never_current_by_itself(project: Path) -> None:
    with pytest.raises(NotFoundError, match="no cluster to talk to"):
        contexts.resolve()


def test_choosing_a_folders_context_keeps_it(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts.use("compose")
    monkeypatch.chdir(tmp_path)
    assert contexts.resolve().endpoints == ("127.0.0.1:1",)


def test_a_saved_context_of_the_same_name_wins(project: Path) -> None:
    contexts.add(contexts.Context(name="compose", endpoints=("10.0.0.1:7400",)), use=False)
    assert contexts.resolve("compose").endpoints == ("10.0.0.1:7400",)


def test_an_unknown_name_is_answered_with_the_folders_too(project: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there are: compose"):
        contexts.resolve("nope")


def test_a_damaged_file_is_named(project: Path) -> None:
    (project / "context.json").write_text("{")
    with pytest.raises(StartupError, match=r"context\.json"):
        contexts.resolve("compose")
