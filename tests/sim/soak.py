"""``scripts/soak``: runs many seeds and says what broke, how to replay it, and how often each hole was reached.

Owns: the command line, spreading seeds over processes, and the sums. Leaves a run to ``run``. The one rule: the exit
status is 0 only if every promise was kept in every run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tests.sim.holes import MEANINGS
from tests.sim.run import Outcome, replay_command, run_seed

SHARE_AIM = 0.01
"""Of the seeds: how many should reach each hole, so that 10,000 of them reach it 100 times."""


class Totals:
    def __init__(self) -> None:
        self.seeds = 0
        self.failures: list[dict[str, Any]] = []
        self.holes: Counter[str] = Counter()
        self.hole_seeds: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        self.virtual_s = 0.0
        self.run_s = 0.0

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.holes.update(outcome.holes)
        self.hole_seeds.update(name for name, count in outcome.holes.items() if count)
        self.steps.update(outcome.steps)
        self.faults.update(outcome.faults)
        for name in SUMS:
            self.sums[name] += getattr(outcome, name)
        self.virtual_s += outcome.virtual_s
        self.run_s += outcome.wall_s
        if outcome.error:
            self.failures.append(
                {
                    "seed": outcome.seed,
                    "peers": outcome.peers,
                    "error": outcome.error,
                    "replay": replay_command(outcome.seed, outcome.peers),
                }
            )

    def summary(self, wall_s: float) -> dict[str, Any]:
        return {
            "seeds": self.seeds,
            "violations": len(self.failures),
            "failures": self.failures,
            "counts": {name: self.holes[name] for name in MEANINGS},
            "seeds_reaching": {name: self.hole_seeds[name] for name in MEANINGS},
            "steps": dict(sorted(self.steps.items())),
            "faults": dict(sorted(self.faults.items())),
            "acknowledged_writes": self.sums["acknowledged"],
            **{name: self.sums[name] for name in SUMS if name != "acknowledged"},
            "virtual_s": round(self.virtual_s, 1),
            "wall_s": round(wall_s, 1),
        }


SUMS = (
    "acknowledged", "reads", "unknown", "elections", "starts", "lossy_cuts", "wipes", "states", "hashes", "commands",
    "allocations_started", "ticks", "ticks_skipped",
)  # fmt: skip


def table(totals: Totals) -> str:
    lines = [f"{'hole':5}{'times':>9}{'seeds':>8}{'share':>8}  what was reached"]
    for name, meaning in MEANINGS.items():
        share = totals.hole_seeds[name] / max(totals.seeds, 1)
        lines.append(f"{name:5}{totals.holes[name]:9}{totals.hole_seeds[name]:8}{share:8.1%}  {meaning}")
    struck = ", ".join(f"{step} {count}" for step, count in sorted(totals.steps.items()))
    return "\n".join([*lines, f"faults struck in the middle of: {struck or 'nothing'}"])


MOST_BYTES = 4 * 2**30
"""Of address space for a process that makes runs; one run takes a few hundred MiB."""


def _bound_memory() -> None:
    """A run that takes more and more is then a failure with a seed. Without, the kernel ends the process, and the pool
    waits for its outcome for ever (seen once, at 22 GiB)."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))


def _run(job: tuple[int, int]) -> Outcome:
    try:
        return run_seed(*job)
    except MemoryError:
        raise RuntimeError(f"out of memory; replay: {replay_command(*job)}") from None


def _jobs(first: int, seeds: int, peers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """One run a seed; with both sizes they take turns."""
    for seed in range(first, first + seeds):
        yield seed, peers[seed % len(peers)]


def _replay(seed: int, peers: int, *, verbose: bool, as_json: bool) -> int:
    outcome = run_seed(seed, peers, tell=print if verbose else None)
    if outcome.error and not verbose:
        print("\n".join(outcome.last_lines))
    reached = ", ".join(f"{name} {count}" for name, count in outcome.holes.items() if count)
    print(f"seed {seed}, {peers} peers: {outcome.error or 'every promise was kept'}")
    print(f"trace {outcome.trace}; holes reached: {reached}")
    print(
        f"{outcome.virtual_s:.1f} virtual s in {outcome.wall_s:.2f} s; {outcome.acknowledged} writes acknowledged, "
        f"{outcome.reads} reads, {outcome.elections} elections, {outcome.starts} starts"
    )
    if as_json:
        totals = Totals()
        totals.add(outcome)
        print(json.dumps(totals.summary(outcome.wall_s)))
    return 1 if outcome.error else 0


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{count} is none: a run of nothing would look like success")
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.split("\n\n")[0].partition(": ")[2])
    parser.add_argument("--seeds", type=_count, default=10_000, help="how many (default 10000)")
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="N", help="the first seed (default 0)")
    parser.add_argument("--peers", choices=("3", "5", "both"), default="both", help="default: seed by seed in turn")
    parser.add_argument("--jobs", type=_count, default=2, help="processes (default 2)")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop beginning runs after so long")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument("--seed", type=int, help="replay this one, with --peers 3 (default) or 5")
    parser.add_argument("-v", "--verbose", action="store_true", help="with --seed: print everything that happens")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _replay(options.seed, 5 if options.peers == "5" else 3, verbose=options.verbose, as_json=options.json)
    peers = (3, 5) if options.peers == "both" else (int(options.peers),)
    totals, began = Totals(), time.monotonic()
    told = began
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        jobs = _jobs(options.first, options.seeds, peers)
        outcomes: Iterator[Outcome] = map(_run, jobs)
        if options.jobs > 1:
            pool = stack.enter_context(context.Pool(options.jobs, _bound_memory, maxtasksperchild=200))
            outcomes = pool.imap_unordered(_run, _in_time(jobs, began, options.seconds), chunksize=1)
        for outcome in outcomes:
            totals.add(outcome)
            if outcome.error:
                print(
                    f"FAILED {outcome.error}\n       replay: {replay_command(outcome.seed, outcome.peers)}", flush=True
                )
            now = time.monotonic()
            if now - told > 5 or totals.seeds == options.seeds:
                told = now
                print(
                    f"{totals.seeds} of {options.seeds} seeds, {len(totals.failures)} violations, "
                    f"{totals.sums['acknowledged']} writes acknowledged, {now - began:.0f} s",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            if options.seconds and now - began > options.seconds:
                break
    wall_s = time.monotonic() - began
    print(table(totals))
    print(
        f"{totals.seeds} seeds, {len(totals.failures)} violations; {totals.sums['acknowledged']} writes acknowledged, "
        f"{totals.sums['reads']} reads, {totals.sums['elections']} elections; {totals.virtual_s:.0f} virtual s "
        f"in {wall_s:.0f} s"
    )
    if options.json:
        print(json.dumps(totals.summary(wall_s)))
    return 1 if totals.failures or not totals.seeds else 0


def _in_time(jobs: Iterator[tuple[int, int]], began: float, seconds: float) -> Iterator[tuple[int, int]]:
    for job in jobs:
        if seconds and time.monotonic() - began > seconds:
            return
        yield job


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
