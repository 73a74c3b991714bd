"""Contexts are saved atomically and decided in one order: name, environment, current."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestrator.client import contexts
from orchestrator.client.contexts import Context
from orchestrator.contract.errors import InvalidError, NotFoundError, StartupError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAFTSMAN_CONTEXT", "RAFTSMAN_ENDPOINTS", "RAFTSMAN_TLS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAFTSMAN_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)  # the working directory may bring a context of its own (compose)
    return tmp_path / "config"


DEV = Context(
    name="dev", endpoints=("127.0.0.1:7400",), ca="/c/ca.pem", cert="/c/cert.pem", key="/c/key.pem", kind="dev"
)
FAR = Context(name="far", endpoints=("a:1", "b:2"))


def test_what_is_saved_is_loaded() -> None:
    contexts.add(DEV)
    contexts.add(FAR, use=False)
    known = contexts.load()
    assert known.current == "dev"
    assert known.contexts == {"dev": DEV, "far": FAR}
    tls = known.contexts["dev"].tls
    assert tls is not None
    assert tls.key == Path("/c/key.pem")


def test_only_the_owner_reads_the_file(config: Path) -> None:
    contexts.add(DEV)
    assert stat.S_IMODE((config / "contexts.json").stat().st_mode) == 0o600
    assert [path.name for path in config.iterdir()] == ["contexts.json"]


def test_removing_the_current_one_leaves_another() -> None:
    contexts.add(DEV)
    contexts.add(FAR)
    contexts.remove("far")
    assert contexts.load().current == "dev"
    with pytest.raises(NotFoundError, match="there are: dev"):
        contexts.remove("far")


def test_a_name_beats_the_environment_and_that_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts.add(DEV)
    contexts.add(FAR)
    assert contexts.resolve().name == "far"
    monkeypatch.setenv("RAFTSMAN_CONTEXT", "dev")
    assert contexts.resolve().name == "dev"
    assert contexts.resolve("far").name == "far"
    monkeypatch.setenv("RAFTSMAN_ENDPOINTS", "x:1, y:2")
    monkeypatch.setenv("RAFTSMAN_TLS_DIR", "/t")
    environment = contexts.resolve()
    assert environment.endpoints == ("x:1", "y:2")
    assert environment.ca == "/t/ca.pem"
    assert contexts.resolve("dev").name == "dev"


def test_no_context_says_what_to_do() -> None:
    with pytest.raises(NotFoundError, match="raftsman dev"):
        contexts.resolve()
    with pytest.raises(NotFoundError, match="no context 'x'"):
        contexts.use("x")
    with pytest.raises(InvalidError):
        contexts.add(Context(name="x", endpoints=()))


@pytest.mark.parametrize("text", ["{", "[]", '{"contexts": {"a": {}}}', '{"contexts": 3}'])
def test_a_damaged_file_is_named(config: Path, text: str) -> None:
    config.mkdir()
    (config / "contexts.json").write_text(text)
    with pytest.raises(StartupError, match=r"contexts\.json holds no contexts"):
        contexts.load()


def test_a_file_that_cannot_be_read_is_not_called_damaged(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, *_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(StartupError) as caught:
        contexts.load()
    assert caught.value.message == f"cannot read {config / 'contexts.json'}: Permission denied; it is to be this user's"
