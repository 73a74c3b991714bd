#!/usr/bin/env python3
"""Durable writes a second: our journal beside SQLite (WAL, synchronous=FULL), interleaved on the same disk.

Both make every write durable before the next: one entry a flush (transaction), then batches. Each round measures both,
in turns, so that a noisy machine hits both; medians and their ratio are printed, and with --json one object last. The
last measurement opens a journal with 100,000 small entries.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.lib import own_python

own_python.go_on()

from orchestrator.replication.journal import FileJournal

Writer = Callable[[int, list[bytes]], None]


def journal_writer(journal: FileJournal) -> Writer:
    def write(first: int, payloads: list[bytes]) -> None:
        journal.append([(first + row, 1, payload) for row, payload in enumerate(payloads)])
        journal.flush()

    return write


def sqlite_writer(connection: sqlite3.Connection) -> Writer:
    def write(first: int, payloads: list[bytes]) -> None:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO log VALUES (?, 1, ?)", [(first + row, payload) for row, payload in enumerate(payloads)]
        )
        connection.execute("COMMIT")

    return write


def rate(write: Writer, first: int, payload: bytes, batch: int, seconds: float) -> tuple[float, int]:
    """Entries a second over about ``seconds``, and the next free index."""
    payloads = [payload] * batch
    start = time.perf_counter()
    index = first
    while (elapsed := time.perf_counter() - start) < seconds:
        write(index, payloads)
        index += batch
    return (index - first) / elapsed, index


def compare(
    directory: Path, *, size: int, batches: list[int], rounds: int, seconds: float
) -> dict[str, dict[str, float]]:
    journal = FileJournal(directory / "journal")
    connection = sqlite3.connect(directory / "log.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, term INTEGER, payload BLOB)")
    writers = {"journal": journal_writer(journal), "sqlite": sqlite_writer(connection)}
    following = dict.fromkeys(writers, 1)
    results: dict[str, dict[str, float]] = {}
    payload = b"\x5a" * size
    for batch in batches:
        rates: dict[str, list[float]] = {name: [] for name in writers}
        for turn in range(rounds):
            for name in sorted(writers, reverse=turn % 2 == 1):
                per_s, following[name] = rate(writers[name], following[name], payload, batch, seconds)
                rates[name].append(per_s)
        medians = {f"{name}_per_s": round(statistics.median(found), 1) for name, found in rates.items()}
        ratio = round(medians["journal_per_s"] / medians["sqlite_per_s"], 3)
        results[str(batch)] = {**medians, "ratio": ratio}
        ours, theirs = medians["journal_per_s"], medians["sqlite_per_s"]
        print(f"batch {batch:>4}: journal {ours:>9.0f}/s, sqlite {theirs:>9.0f}/s, ratio {ratio:.2f}", file=sys.stderr)
        # Neither side pays for what the other rounds left behind.
        journal.trim_before(following["journal"])
        journal.flush()
        connection.execute("DELETE FROM log")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    journal.close()
    connection.close()
    return results


def reopen(directory: Path, *, entries: int, size: int, rounds: int) -> float:
    """Median milliseconds to open a journal of so many entries, ten to a flush."""
    journal = FileJournal(directory)
    payload = b"\x5a" * size
    for first in range(1, entries + 1, 10):
        journal.append([(first + row, 1, payload) for row in range(10)])
        journal.flush()
    journal.close()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        again = FileJournal(directory)
        times.append(1000 * (time.perf_counter() - start))
        if len(again) != entries:
            raise SystemExit(f"{len(again)} entries found where {entries} were written")
        again.close()
    return round(statistics.median(times), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--size", type=int, default=200, help="bytes an entry (200)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; the median counts (7)")
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds a side and round (0.5)")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where to write: the disk that is measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-journal-", dir=options.directory) as name:
        directory = Path(name)
        batches = compare(
            directory, size=options.size, batches=[1, 32, 256], rounds=options.rounds, seconds=options.seconds
        )
        open_ms = reopen(directory / "reopen", entries=100_000, size=100, rounds=options.rounds)
    print(f"opening 100,000 entries: {open_ms:.0f} ms", file=sys.stderr)
    if options.json:
        print(json.dumps({"entry_bytes": options.size, "by_batch": batches, "open_100k_ms": open_ms}))


if __name__ == "__main__":
    main()
