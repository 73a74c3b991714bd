"""Runs the test suite in lanes beside each other and sums them up.

One lane has the tests that start no processes, on a worker for each processor: properties and the simulator only
compute. The others have one test after the other: what needs the machine's engine or a browser, what starts clusters of
plain processes, and the drills. These mostly wait, so the computing is done in what they leave over: it runs with less
priority, or it would be in their way, and they are what takes longest. Workers steal from each other, or one would be
left alone with most of the simulator's seeds at the end. Each costs some five seconds of a processor before its first
test. Lanes are processes of their own: pytest-xdist 3.8's ``loadgroup`` does not group under pytest 9.

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
OTHERS = ("integration", "mutation", "properties", "scenarios", "sim", "unit", "test_architecture.py")
WORKERS = min(8, max(2, os.cpu_count() or 2))
COMPUTING = ["-n", str(WORKERS), "--dist", "worksteal", "-m", f"not ({HEAVY})"]
WAITING = (
    ["-m", ENGINE],
    ["-m", PROCESSES, "--ignore=tests/drills"],
    ["-m", PROCESSES, *(f"--ignore=tests/{name}" for name in OTHERS)],
)
LESS_PRIORITY = ["nice", "-n", "10"]
NOTHING_SELECTED = 5
SOME_FAILED = 1
WITH_REAL_TIME = ("tests/integration/", "tests/drills/", "tests/unit/")
AGAIN_AT_MOST = 4
"""More failures than this have a cause that a second look would only hide."""


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
    lanes = [Lane(options, arguments) for options in WAITING]
    lanes.append(Lane(COMPUTING, arguments, before=LESS_PRIORITY))
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
