"""``scripts/lib/run_tests.py``: what it makes of suites that pass, fail, and fail beside others alone."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lib import run_tests

SCRIPT = Path(run_tests.__file__)
ROOT = SCRIPT.parents[2]
ONCE = """
from pathlib import Path
import pytest
@pytest.mark.cluster
def test_unsteady():
    seen = Path(__file__).with_name("seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError("the first time")
"""
ALWAYS = """
import pytest
@pytest.mark.cluster
def test_broken():
    raise AssertionError("every time")
"""
FOLDERS = (*run_tests.DRILLS, *run_tests.COMPUTING, *run_tests.OTHERS)
FINE = "def test_fine(): pass\n"


def suite(folder: Path, **files: str) -> subprocess.CompletedProcess[str]:
    """Run it on a project of these files: names with '__' for '/'."""
    for name, text in files.items():
        path = folder / "tests" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    marks = "\n".join(f"  {name}: x" for name in ("docker", "compose", "browser", "cluster", "slow"))
    # Of the plug-ins installed here only what shares out the tests: each of these many processes would load all.
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = -p xdist\nmarkers =\n{marks}\n")
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=folder, env=alone, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "status", "last"),
    [
        (
            {"unit__test_a": FINE, "integration__test_b": ONCE},
            0,
            "2 passed, 1 of them unsteady, 0 failed, 0 skipped",
        ),
        (
            {"integration__test_b": ONCE, "integration__test_c": ALWAYS},
            1,
            "1 passed, 1 of them unsteady, 1 failed, 0 skipped",
        ),
    ],
)
def test_what_failed_beside_others_is_looked_at_once_more(
    tmp_path: Path, files: dict[str, str], status: int, last: str
) -> None:
    for folder in FOLDERS[:-1]:
        (tmp_path / "tests" / folder).mkdir(parents=True)
    done = suite(tmp_path, **files)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (status, last), done.stdout + done.stderr
    assert "the first time" in done.stdout and "UNSTEADY tests/integration/test_b.py::test_unsteady" in done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_test_is_in_one_lane_whatever_its_marks(folder: str) -> None:
    assert (ROOT / "tests" / folder).exists()
    names = ("docker", "compose", "browser", "cluster", "slow", "soak")
    for marks in itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(len(names) + 1)):
        lanes = [
            options
            for options in (*run_tests.FIRST, run_tests.LAST)
            if f"--ignore=tests/{folder}" not in options
            and eval(options[options.index("-m") + 1], {name: name in marks for name in names})
        ]
        assert len(lanes) == 1, (marks, lanes)


@pytest.mark.parametrize("path", ["tests/drills/test_a.py::test_b", "tests/sim", "tests/unit"])
def test_a_path_is_told_to_those_lanes_alone_that_may_have_it(path: str) -> None:
    every = (*run_tests.FIRST, run_tests.LAST)
    told = [run_tests.meant(options, ["-x", path]) for options in every]
    assert [one for one in told if one is not None] == [["-x", path]] * 3
    assert told.count(None) == 2
    assert all(run_tests.meant(options, ["-x"]) == ["-x"] for options in every)


def test_who_has_no_second_chance() -> None:
    few = [f"tests/integration/test_a.py::test_{number}" for number in range(run_tests.AGAIN_AT_MOST)]
    assert run_tests.may_try_again({0, 1, 5}, few)
    assert not run_tests.may_try_again({0, 1}, [*few, "tests/integration/test_a.py::test_more"])
    assert not run_tests.may_try_again({0, 1}, ["tests/sim/test_seeds.py::test_x"])
    assert not run_tests.may_try_again({0, 1, 3}, few)
    assert not run_tests.may_try_again({0}, [])
