"""Runs the test suite in lanes beside each other and sums them up.

One lane has what only computes: properties, scenarios and the simulator, on a worker for each processor. The next one
has the other tests that start no processes, on two. The rest have one test after the other: what needs the machine's
engine or a browser, what starts clusters of plain processes, and the drills. These mostly wait, so the computing is
done in what they leave over: it runs with less priority, or it would be in the way of whoever looks at a clock. Workers
steal from each other, or one would be left alone with most of the simulator's seeds at the end. Lanes are processes of
their own: pytest-xdist 3.8's ``loadgroup`` does not group under pytest 9.

A few failures of tests that use real processes, sockets or clocks are looked at once more, each alone, when all is
done: what fails then has failed. What passes then is counted as unsteady, with what it said the first time above: it
did not get along with what ran beside it, or finds something that comes up seldom, and wants mending either way. Tests
whose outcome is their code's alone (properties, scenarios, the simulator) have no second chance.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

ENGINE = "docker or compose or browser"
HEAVY = f"{ENGINE} or cluster or slow"
PROCESSES = f"({HEAVY}) and not ({ENGINE})"
DRILLS = ("drills",)
COMPUTING = ("properties", "scenarios", "sim")
OTHERS = ("integration", "mutation", "unit", "test_architecture.py")
WORKERS = min(8, max(2, os.cpu_count() or 2))


def without(names: Sequence[str]) -> list[str]:
    return [f"--ignore=tests/{name}" for name in names]


FIRST = (
    ["-m", ENGINE],
    ["-m", PROCESSES, *without(DRILLS)],
    ["-m", PROCESSES, *without((*COMPUTING, *OTHERS))],
    ["-n", "2", "--dist", "worksteal", "-m", f"not ({HEAVY})", *without(COMPUTING)],
)
LAST = ["-n", str(WORKERS), "--dist", "worksteal", "-m", f"not ({HEAVY})", *without((*DRILLS, *OTHERS))]
LESS_PRIORITY = ["nice", "-n", "10"]
NOTHING_SELECTED = 5
SOME_FAILED = 1
WITH_REAL_TIME = ("tests/integration/", "tests/drills/", "tests/unit/")
AGAIN_AT_MOST = 4
"""More failures than this have a cause that a second look would only hide."""


def meant(options: Sequence[str], arguments: list[str]) -> list[str] | None:
    """What of the arguments concerns a lane: pytest collects a path that it is told of, ignored or not. None: nothing,
    for all paths are another lane's."""
    ignored = tuple(one.removeprefix("--ignore=") for one in options if one.startswith("--ignore="))
    kept = [one for one in arguments if not one.startswith(ignored)]
    named, left = (any(one.startswith("tests/") for one in some) for some in (arguments, kept))
    return kept if left or not named else None


class Lane:
    """One pytest process; its output is read as it comes, so that it never waits for us."""

    def __init__(self, options: list[str], arguments: list[str], *, before: Sequence[str] = ()) -> None:
        self._cache = tempfile.TemporaryDirectory(prefix="raftsman-tests-")
        command = [
            *before, str(Path(sys.executable).parent / "pytest"), "-q", "--durations=10",
            "-o", f"cache_dir={self._cache.name}", *options, *arguments,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        self._output: list[str] = []
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        self._output.extend(stream)

    def finish(self) -> tuple[int, Counter[str], list[str]]:
        """Wait, print what it wrote; its exit status, the counts of its last line, and what failed."""
        self._reader.join()
        status = self._process.wait()
        sys.stdout.writelines(self._output)
        sys.stdout.flush()
        sums = [line for line in self._output if re.search(r"\d+ (passed|failed|errors?|skipped)\b.* in ", line)]
        counts: Counter[str] = Counter()
        for count, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", sums[-1] if sums else ""):
            counts["failed" if word.startswith("error") else word] += int(count)
        failed = Path(self._cache.name) / "v" / "cache" / "lastfailed"
        names = sorted(json.loads(failed.read_text())) if failed.exists() else []
        self._cache.cleanup()
        return status, counts, names


def may_try_again(statuses: set[int], failed: list[str]) -> bool:
    """Whether a second look may change what the run comes to."""
    return (
        statuses <= {0, NOTHING_SELECTED, SOME_FAILED}
        and 0 < len(failed) <= AGAIN_AT_MOST
        and all(name.startswith(WITH_REAL_TIME) and "::" in name for name in failed)
    )


def main(arguments: list[str]) -> int:
    """Exit 0 only if everything passed; the last line counts what ran."""
    statuses: set[int] = set()
    totals: Counter[str] = Counter()
    failed: list[str] = []
    lanes = []
    for options in (*FIRST, LAST):
        mine = meant(options, arguments)
        if mine is not None:
            lanes.append(Lane(options, mine, before=LESS_PRIORITY if options is LAST else ()))
    for lane in lanes:
        status, counts, names = lane.finish()
        totals += counts
        statuses.add(status)
        failed += names
    unsteady: list[str] = []
    if may_try_again(statuses, failed) and totals["failed"] == len(failed):
        print("failed, and once more, alone: " + ", ".join(failed))
        for name in failed:
            if Lane([], [name]).finish()[0] == 0:
                unsteady.append(name)
                print(f"UNSTEADY {name}: it failed beside others (above) and passed alone")
        totals["failed"] -= len(unsteady)
        totals["passed"] += len(unsteady)
        if not totals["failed"]:
            statuses.discard(SOME_FAILED)
    unsteady_text = f", {len(unsteady)} of them unsteady" if unsteady else ""
    print(f"{totals['passed']} passed{unsteady_text}, {totals['failed']} failed, {totals['skipped']} skipped")
    worst = max(statuses - {NOTHING_SELECTED}, default=0)
    return worst or (0 if totals["passed"] else 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
