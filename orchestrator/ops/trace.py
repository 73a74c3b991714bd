"""Cluster traces as CSV, in the format of the openb GPU trace (Alibaba, published with USENIX ATC 2023's "Beware of
Fragmentation"): what the nodes have and what the pods ask for.

Owns: reading and checking both files. Leaves to others: what to do with the rows (``trace_cluster``, ``pack``). The
rule: columns go by name, in any order, others are ignored; a file that is wrong is refused with its name, line and
column.

Nodes: ``sn, cpu_milli, memory_mib, gpu, model``; no ``gpu`` column, empty or 0: none. Pods: ``name, cpu_milli,
memory_mib, num_gpu`` (empty: none), ``gpu_milli`` of each (empty, or no such column: whole ones), ``gpu_spec`` (models
that will do, ``A|B``; empty: any), where times matter ``creation_time, deletion_time, scheduled_time`` in seconds, and
where it is known ``node``: the ``sn`` of the node it runs on.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from orchestrator.contract.model import MAX_DEVICES, WHOLE_DEVICE

_NUMBER = re.compile(r"[0-9]{1,15}(\.0+)?")
_NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib")
_POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu")

T = TypeVar("T")


class TraceError(ValueError):
    """A file that is no trace; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceNode:
    """``gpus``: whole devices, all of the one ``model``."""

    name: str
    cpu_millis: int
    memory_mib: int
    gpus: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePod:
    """``gpus`` devices with ``gpu_millis`` of each; ``models``: any of these, () = any at all. Times are seconds of the
    trace's own clock, None where the file does not say."""

    name: str
    cpu_millis: int
    memory_mib: int
    gpus: int
    gpu_millis: int
    models: tuple[str, ...]
    created_s: int | None
    deleted_s: int | None
    scheduled_s: int | None
    node: str | None = None
    """None: the file has no such column; "": it waits."""

    @property
    def gpu_demand_millis(self) -> int:
        return self.gpus * self.gpu_millis

    @property
    def duration_s(self) -> int | None:
        """How long it ran: from when it was scheduled (else created) until it was deleted; None: the trace does not
        say."""
        start = self.created_s if self.scheduled_s is None else self.scheduled_s
        return None if start is None or self.deleted_s is None else max(self.deleted_s - start, 0)


def read_nodes(path: Path) -> tuple[TraceNode, ...]:
    """Raises ``TraceError``; ``OSError`` if the file cannot be read."""
    return _read(path, _NODE_COLUMNS, _node)


def read_pods(path: Path) -> tuple[TracePod, ...]:
    """Raises ``TraceError``; ``OSError`` if the file cannot be read."""
    return _read(path, _POD_COLUMNS, _pod)


# ---------------------------------------------------------------------------- rows


class _Row:
    """One line of a file; knows where it stands, for complaints."""

    def __init__(self, path: Path, line: int, cells: Mapping[str, str]) -> None:
        self._path = path
        self._line = line
        self._cells = cells

    def refuse(self, column: str, text: str) -> NoReturn:
        raise TraceError(f"{self._path}, line {self._line}, column {column}: {text}")

    def text(self, column: str) -> str:
        return self._cells.get(column, "").strip()

    def has(self, column: str) -> bool:
        return column in self._cells

    def number(self, column: str, most: int = 10**15) -> int:
        found = self.maybe(column, most)
        if found is None:
            self.refuse(column, "is empty; expected a whole number")
        return found

    def maybe(self, column: str, most: int = 10**15) -> int | None:
        """The number there; None if the cell is empty or there is no such column."""
        text = self.text(column)
        if not text:
            return None
        if not _NUMBER.fullmatch(text):
            self.refuse(column, f"{text[:40]!r} is not a whole number from 0 on")
        value = int(text.partition(".")[0])
        if value > most:
            self.refuse(column, f"{value} is more than {most}")
        return value


def _node(row: _Row) -> TraceNode:
    gpus = row.maybe("gpu", MAX_DEVICES) or 0
    return TraceNode(
        name=row.text("sn") or row.refuse("sn", "is empty"),
        cpu_millis=row.number("cpu_milli"),
        memory_mib=row.number("memory_mib"),
        gpus=gpus,
        model=row.text("model") if gpus else "",
    )


def _pod(row: _Row) -> TracePod:
    gpus, share = row.maybe("num_gpu", MAX_DEVICES) or 0, row.maybe("gpu_milli", WHOLE_DEVICE)
    millis = share if share is not None else WHOLE_DEVICE if gpus else 0
    if gpus and not millis:
        row.refuse("gpu_milli", f"is 0, but num_gpu is {gpus}")
    if millis and not gpus:
        row.refuse("num_gpu", f"is 0, but gpu_milli is {millis}")
    created, deleted = row.maybe("creation_time"), row.maybe("deletion_time")
    if created is not None and deleted is not None and deleted < created:
        row.refuse("deletion_time", f"{deleted} is before creation_time {created}")
    models = tuple(sorted({model.strip() for model in row.text("gpu_spec").split("|")} - {""})) if gpus else ()
    return TracePod(
        name=row.text("name") or row.refuse("name", "is empty"),
        cpu_millis=row.number("cpu_milli"),
        memory_mib=row.number("memory_mib"),
        gpus=gpus,
        gpu_millis=millis,
        models=models,
        created_s=created,
        deleted_s=deleted,
        scheduled_s=row.maybe("scheduled_time"),
        node=row.text("node") if row.has("node") else None,
    )


def _read(path: Path, wanted: tuple[str, ...], make: Callable[[_Row], T]) -> tuple[T, ...]:
    found = tuple(make(row) for row in _rows(path, wanted))
    if not found:
        raise TraceError(f"{path}: has a header and no rows")
    return found


def _rows(path: Path, wanted: tuple[str, ...]) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in wanted if name not in header]
            if missing:
                raise TraceError(
                    f"{path}, line 1: has no column {', '.join(missing)}; it has: {', '.join(header)[:200]}"
                )
            if len(set(header)) != len(header):
                raise TraceError(f"{path}, line 1: two columns have one name")
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise TraceError(
                        f"{path}, line {reader.line_num}: has {len(cells)} columns, the header has {len(header)}"
                    )
                yield _Row(path, reader.line_num, dict(zip(header, cells, strict=True)))
    except UnicodeDecodeError:
        raise TraceError(f"{path}: is not UTF-8 text") from None
    except csv.Error as error:
        raise TraceError(f"{path}, line {reader.line_num}: {error}") from None
