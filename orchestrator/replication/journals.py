"""``FileJournals``: where the journal of each configuration epoch is, on disk.

Owns: the directories ``journal`` (epoch 1) and ``journal-N`` beside each other. Leaves to others: which epoch is the
present one (the snapshot says it), what is in a journal (``journal``). The rule: the next epoch's journal is durable,
in its term and without a vote, before the snapshot that begins the epoch is; so a peer that finds the snapshot finds
the journal, and entries of one epoch are never read as another's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from orchestrator.contract.errors import CorruptError
from orchestrator.replication.disk import Disk, RealDisk
from orchestrator.replication.journal import WAY_BACK, FileJournal, holds_anything

_log = structlog.get_logger("raftsman.journal")


def any_holds_anything(path: Path, disk: Disk) -> bool:
    """Whether anything was ever stored in a journal of the data directory, of whichever epoch."""
    return any(holds_anything(path / name, disk) for name in _names(path, disk))


def _names(path: Path, disk: Disk) -> list[str]:
    found = []
    for name in sorted(disk.listdir(path)):
        stem, dash, number = name.partition("-")
        if stem == "journal" and (number.isdigit() if dash else not number):
            found.append(name)
    return found


class FileJournals:
    """Implements ``log.Journals`` in a data directory. ``open_one`` opens a directory's journal."""

    def __init__(
        self, path: Path, *, disk: Disk | None = None, open_one: Callable[[Path, Disk], FileJournal] | None = None
    ) -> None:
        self._path = path
        self._disk: Disk = disk if disk is not None else RealDisk()
        self._open_one = open_one if open_one is not None else lambda path, disk: FileJournal(path, disk=disk)

    def directory(self, epoch: int) -> Path:
        return self._path / ("journal" if epoch == 1 else f"journal-{epoch}")

    def exists(self, epoch: int) -> bool:
        return holds_anything(self.directory(epoch), self._disk)

    def open(self, epoch: int) -> FileJournal:
        """Raises what ``FileJournal`` raises, and ``CorruptError`` where there must be a journal and is none."""
        if epoch > 1 and not self.exists(epoch):
            raise CorruptError(
                f"{self._path} is in configuration epoch {epoch}, but {self.directory(epoch).name} is gone. {WAY_BACK}"
            )
        return self._open_one(self.directory(epoch), self._disk)

    def prepare(self, epoch: int, term: int) -> None:
        self._remove(self.directory(epoch).name)
        journal = self._open_one(self.directory(epoch), self._disk)
        try:
            journal.set_vote(term, "")
            journal.flush()
        finally:
            journal.close()

    def keep_only(self, epoch: int) -> None:
        keep = self.directory(epoch).name
        for name in _names(self._path, self._disk):
            if name != keep:
                self._remove(name)
                _log.info("journal.of_another_epoch_removed", directory=name, epoch=epoch)

    def _remove(self, name: str) -> None:
        if name not in self._disk.listdir(self._path):
            return
        directory = self._path / name
        for file in sorted(self._disk.listdir(directory)):
            self._disk.unlink(directory / file)
        self._disk.fsync_dir(directory)
        self._disk.rmdir(directory)
        self._disk.fsync_dir(self._path)
