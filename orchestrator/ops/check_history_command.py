"""``raftsman check-history``: read a history, judge it, say what is wrong. Thin; the work is in ``linearizability``."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.ops import history_file
from orchestrator.ops.linearizability import Report, check_columns


@click.command("check-history")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(file: Path, as_json: bool) -> None:
    """Judge whether the operations in FILE are linearizable, and whether the log's indexes tell the truth.

    FILE has one JSON object a line, as `raftsman drill --history FILE` writes them. Every key starts absent. Exits 0
    when nothing is wrong, 1 with an explanation otherwise, 2 when FILE cannot be understood.
    """
    began = time.perf_counter()
    report = check_columns(history_file.read(file))
    seconds = time.perf_counter() - began
    click.echo(_as_json(report, seconds) if as_json else _as_text(report, seconds))
    click.get_current_context().exit(0 if report.ok else 1)


def _as_json(report: Report, seconds: float) -> str:
    fields = {
        "operations": report.operations,
        "unknown": report.unknown,
        "keys": report.keys,
        "violations": [asdict(violation) for violation in report.violations],
        "seconds": round(seconds, 3),
    }
    return json.dumps(fields)


def _as_text(report: Report, seconds: float) -> str:
    lines = []
    for violation in report.violations:
        lines.append(f"{violation.kind}: key {json.dumps(violation.key, ensure_ascii=False)}")
        lines += [f"  {line}" for line in violation.explanation.splitlines()]
        lines.append("")
    found = f"{len(report.violations)} violations" if len(report.violations) != 1 else "1 violation"
    lines.append(
        f"{report.operations:,} operations ({report.unknown:,} without an outcome) on {report.keys:,} keys: "
        f"{'linearizable' if report.ok else found} ({seconds:.1f} s; {report.searched:,} keys searched)"
    )
    return "\n".join(lines)
