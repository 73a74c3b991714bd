"""Runs the test suite in two passes, each with two workers, and sums them up.

The second has what starts real processes. Whatever needs the engine, a browser or most of the machine stays with one
worker (``tests/conftest.py`` groups it); what mostly waits goes on beside it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HEAVY = "docker or compose or cluster or browser or slow"
PASSES = (
    ["-n", "2", "-m", f"not ({HEAVY})"],
    ["-n", "2", "--dist", "loadgroup", "-m", HEAVY],
)


def main(arguments: list[str]) -> int:
    """Exit 0 only if both passes did; the last line counts what ran in both."""
    worst = 0
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    for options in PASSES:
        command = [str(Path(sys.executable).parent / "pytest"), "-q", "--durations=10", *options, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if re.search(r"\d+ (passed|failed|error|skipped)", line):
                last = line
        status = process.wait()
        for count, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", last):
            totals["failed" if word.startswith("error") else word] += int(count)
        if status not in (0, 5):  # 5: nothing selected in this pass
            worst = worst or status
    print(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")
    if totals["passed"] == 0:
        return worst or 1
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
