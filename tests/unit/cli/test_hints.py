"""What the command line adds to an error: what to do about it."""

from __future__ import annotations

import pytest

from orchestrator.cli import main
from orchestrator.contract.errors import NoLeaderError, NotFoundError, RaftsmanError, UnknownOutcomeError
from orchestrator.contract.status import UNCONNECTED


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NoLeaderError("no majority"), "Writes need a majority of peers"),
        (UnknownOutcomeError("no answer", reason=UNCONNECTED), "Writes need a majority of peers"),
        (UnknownOutcomeError("no majority has confirmed it in time"), "look before you repeat it"),
        (NoLeaderError("its certificate has ended"), "'raftsman certs issue --renew' renews"),
    ],
)
def test_without_a_certain_answer_it_says_what_to_look_at(
    error: RaftsmanError, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> None:
        raise error

    monkeypatch.setattr(main.cli, "main", fails)
    assert main.run(["ps"]) == 6
    told = capsys.readouterr().err
    assert told.startswith(f"raftsman: {error.message}\n")
    assert says in told


def test_what_is_certain_needs_no_more_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> None:
        raise NotFoundError("there is no job 'web'")

    monkeypatch.setattr(main.cli, "main", fails)
    assert main.run(["status", "web"]) == NotFoundError.exit_code
    assert capsys.readouterr().err == "raftsman: there is no job 'web'\n"
