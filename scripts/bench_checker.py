#!/usr/bin/env python3
"""How long `raftsman check-history` takes for a long history: reading and parsing the file, then judging it.

Writes a linearizable history of `--operations` over `--keys` keys, by ten clients a key that overlap each other, half
of them reads, one write in 1,000 without an outcome. Judges it with the log's indexes, as drills write them, and once
more without, so that every key must be searched. `total_s` is what the command takes from opening the file to the
verdict (`cpu_s`: the processor's share of it, to compare on a busy machine); starting Python and making the history
are not in it.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

from orchestrator.ops import history_file
from orchestrator.ops.history import UNCONDITIONAL, History, Op, Operation
from orchestrator.ops.linearizability import check_columns

CLIENTS = 10
UNKNOWN = 0.001


def make(path: Path, operations: int, keys: int, *, indexed: bool, seed: int) -> None:
    """Rounds of ten overlapping operations on one key after the other, in the format of drills."""
    choose = random.Random(seed)
    values: list[str | None] = [None] * keys
    index = 1
    ops: tuple[Op, ...] = ("get", "put", "cas", "delete")
    with History(path) as history:
        for start in range(0, operations, CLIENTS):
            key = start // CLIENTS % keys
            began = start * 1000
            order = list(range(min(CLIENTS, operations - start)))
            choose.shuffle(order)
            for place, client in enumerate(order):
                (op,) = choose.choices(ops, (50, 30, 15, 5))
                found = values[key]
                hit = op != "cas" or choose.random() < 0.7
                index += op != "get"
                written = f"{index:032x}" if op in ("put", "cas") else None
                known = op == "get" or choose.random() >= UNKNOWN
                if op != "get" and hit:
                    values[key] = written
                moment = began + 900 * place
                history.add(Operation(
                    process=key * CLIENTS + client, op=op, key=f"key-{key}",
                    value=found if op == "get" else written,
                    expect=(found if hit else "no such value") if op == "cas" else UNCONDITIONAL,
                    hit=known and (hit if op != "get" else found is not None), ok=True if known else None,
                    call_ns=moment - choose.randrange(4000), return_ns=moment + choose.randrange(4000),
                    index=index if indexed and known else 0,
                ))  # fmt: skip


def measure(path: Path) -> dict[str, float | int]:
    began, cpu = time.perf_counter(), time.process_time()
    columns = history_file.read(path)
    parsed = time.perf_counter()
    report = check_columns(columns)
    judged = time.perf_counter()
    if not report.ok:
        raise SystemExit(f"a linearizable history was refused: {report.violations[0]}")
    return {
        "operations": report.operations,
        "unknown": report.unknown,
        "keys": report.keys,
        "keys_searched": report.searched,
        "file_mib": round(path.stat().st_size / 2**20, 1),
        "parse_s": round(parsed - began, 2),
        "judge_s": round(judged - parsed, 2),
        "total_s": round(judged - began, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "memory_mib_max": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, indexed in (("with indexes", True), ("without indexes", False)):
            path = Path(folder) / "history.jsonl"
            make(path, arguments.operations, arguments.keys, indexed=indexed, seed=arguments.seed)
            results[name] = measure(path)
            if not arguments.json:
                print(f"{name:16}" + "  ".join(f"{key} {value}" for key, value in results[name].items()), flush=True)
    if arguments.json:
        print(json.dumps({"python": platform.python_version(), "seed": arguments.seed, "cases": results}))


if __name__ == "__main__":
    main()
