"""Runs the test suite in two passes and sums them up.

First the tests that start no processes, on two workers. Then the others in three lanes beside each other, each one test
after the other: what needs the machine's engine or a browser, what starts clusters of plain processes, which mostly
wait, and the drills. Lanes are processes of their own: pytest-xdist 3.8's ``loadgroup`` does not group under pytest 9.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import IO

ENGINE = "docker or compose or browser"
HEAVY = f"{ENGINE} or cluster or slow"
PROCESSES = f"({HEAVY}) and not ({ENGINE})"
OTHERS = ("integration", "mutation", "properties", "scenarios", "sim", "unit", "test_architecture.py")
PASSES = (
    (["-n", "2", "-m", f"not ({HEAVY})"],),
    (
        ["-m", ENGINE],
        ["-m", PROCESSES, "--ignore=tests/drills"],
        ["-m", PROCESSES, *(f"--ignore=tests/{name}" for name in OTHERS)],
    ),
)
NOTHING_SELECTED = 5


class Lane:
    """One pytest process; its output is read as it comes, so that it never waits for us."""

    def __init__(self, options: list[str], arguments: list[str]) -> None:
        command = [str(Path(sys.executable).parent / "pytest"), "-q", "--durations=10", *options, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        self._output: list[str] = []
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        self._output.extend(stream)

    def finish(self) -> tuple[int, Counter[str]]:
        """Wait, print what it wrote; its exit status and the counts of its last line."""
        self._reader.join()
        status = self._process.wait()
        sys.stdout.writelines(self._output)
        sys.stdout.flush()
        sums = [line for line in self._output if re.search(r"\d+ (passed|failed|errors?|skipped)\b.* in ", line)]
        counts: Counter[str] = Counter()
        for count, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", sums[-1] if sums else ""):
            counts["failed" if word.startswith("error") else word] += int(count)
        return status, counts


def main(arguments: list[str]) -> int:
    """Exit 0 only if everything passed; the last line counts what ran."""
    worst = 0
    totals: Counter[str] = Counter()
    for lanes in PASSES:
        for lane in [Lane(options, arguments) for options in lanes]:
            status, counts = lane.finish()
            totals += counts
            if status not in (0, NOTHING_SELECTED):
                worst = worst or status
    print(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")
    if not totals["passed"]:
        return worst or 1
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
