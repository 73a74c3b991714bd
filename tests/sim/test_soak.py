"""What ``scripts/soak`` makes of its runs: its exit status, the line that replays a failure, the sums."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.sim import soak
from tests.sim.holes import MEANINGS
from tests.sim.run import Outcome, run_seed

KEPT = Outcome(
    seed=0, peers=3, error="", trace="t", last_lines=["the last line"], holes={"S1": 2, "S3": 0},
    steps={"journal:write": 1}, faults={"kill": 3}, acknowledged=5, reads=4, unknown=1, elections=2, snapshots=1,
    starts=6, lossy_cuts=1, wipes=0, states=8, hashes=7, commands=9, allocations_started=3, ticks=1, ticks_skipped=0,
    virtual_s=10.0, wall_s=0.5,
)  # fmt: skip


@pytest.fixture
def _broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 11 breaks a promise."""

    def run(seed: int, peers: int, **_more: object) -> Outcome:
        return replace(KEPT, seed=seed, peers=peers, error="two leaders" if seed == 11 else "")

    monkeypatch.setattr(soak, "run_seed", run)


@pytest.mark.usefixtures("_broken")
def test_a_violation_ends_it_with_one_and_the_command_that_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--seeds", "3", "--from", "10", "--jobs", "1", "--json"]) == 1
    out = capsys.readouterr().out
    assert "FAILED two leaders\n       replay: scripts/soak --seed 11 --peers 5 -v" in out
    said = json.loads(out.splitlines()[-1])
    assert (said["seeds"], said["violations"], said["acknowledged_writes"]) == (3, 1, 15)
    assert said["failures"] == [
        {"seed": 11, "peers": 5, "error": "two leaders", "replay": "scripts/soak --seed 11 --peers 5 -v"}
    ]
    assert list(said["counts"]) == list(MEANINGS)
    assert (said["counts"]["S1"], said["seeds_reaching"]["S1"], said["seeds_reaching"]["S3"]) == (6, 3, 0)


@pytest.mark.usefixtures("_broken")
def test_the_replay_ends_likewise_and_tells_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--seed", "11", "--peers", "5", "--json"]) == 1
    out = capsys.readouterr().out
    assert "the last line" in out
    assert "seed 11, 5 peers: two leaders" in out
    assert json.loads(out.splitlines()[-1])["violations"] == 1
    assert soak.main(["--seed", "12"]) == 0
    assert "seed 12, 3 peers: every promise was kept" in capsys.readouterr().out


@pytest.mark.usefixtures("_broken")
def test_runs_without_a_violation_end_it_with_zero() -> None:
    assert soak.main(["--seeds", "3", "--from", "20", "--jobs", "1"]) == 0


@pytest.mark.parametrize("option", ["--seeds", "--jobs"])
def test_a_run_of_nothing_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        soak.main([option, "0"])
    assert ended.value.code == 2
    assert f"argument {option}: 0 is none" in capsys.readouterr().err


def test_a_real_run_is_summed_up() -> None:
    totals = soak.Totals()
    totals.add(run_seed(900_003, 3))
    said = totals.summary(1.0)
    assert (said["seeds"], said["violations"]) == (1, 0)
    assert said["acknowledged_writes"] > 0
