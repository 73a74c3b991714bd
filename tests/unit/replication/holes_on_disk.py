"""The holes in what a disk keeps and whose disk counts: S5, S6, S10 to S12."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pysyncobj.journal import FileJournal as PlainJournal

from orchestrator.contract.errors import CorruptError
from orchestrator.replication.journal import FileJournal
from orchestrator.replication.log import SnapshotMeta
from orchestrator.replication.memory import MemoryJournal, MemorySnapshots
from orchestrator.replication.settings import EngineConfig
from orchestrator.replication.storage import RaftStorage
from orchestrator.replication.v1 import peer_pb2 as pb
from tests.sim.cluster import SimCluster
from tests.sim.disk import PowerCutError, SimDisk
from tests.sim.loop import run_virtual
from tests.unit.replication.holes import all_but, hole
from tests.unit.replication.plain import MEMBERSHIP, NO_OP, PlainPeer, membership_change
from tests.unit.replication.puppet import Puppet, append

DIRECTORY = Path("/peer/journal")


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


# ---------------------------------------------------------------------------- S5


class _CutAfterSave(MemorySnapshots):
    """Keeps the journal as a power cut would leave it when a snapshot has its name and nothing is trimmed yet."""

    def __init__(self, journal: MemoryJournal) -> None:
        super().__init__()
        self._journal = journal
        self.found: MemoryJournal | None = None

    def save(self, meta: SnapshotMeta, data: Iterable[bytes]) -> None:
        super().save(meta, data)
        self.found = self._journal.crashed()


@hole(
    "S5", "seven entries are acknowledged, a snapshot covers five, power is lost before the trim: how long is the log?",
    holds=7, fails=5,
)  # fmt: skip
def _entries_behind_a_snapshot_survive(guarded: bool) -> object:
    async def schedule() -> object:
        journal = MemoryJournal()
        store = _CutAfterSave(journal)
        async with Puppet(journal=journal, snapshots=store, config=EngineConfig(compact_entries=4)) as p1:
            frames = await p1.say("p2", append=append(1, (1, 0), [b"a", b"b", b"c", b"d", b"e", b"f"], commit=5))
            assert [frame.append_reply.next_index for frame in frames] == [8]
        assert store.held is not None and store.held[0].last_index == 5 and store.found is not None
        async with Puppet(journal=store.found, snapshots=store, fresh=False) as p1:
            return p1.last_index

    if guarded:
        return run_virtual(schedule)
    with _directory() as directory, _directory() as found:
        with PlainPeer(directory=directory) as peer:
            peer.append("p2", 1, (1, 0), [NO_OP] * 4, commit=5)
            peer.tick()
            peer.raft._forceLogCompaction()
            peer.tick()  # the dump of 5 entries has its name now; the next tick would trim the journal
            replies = peer.append("p2", 1, (5, 1), [NO_OP] * 2, commit=5)
            assert [(reply["success"], reply["next_node_idx"]) for reply in replies] == [(True, 8)]
            shutil.copytree(directory, found, dirs_exist_ok=True)
        with PlainPeer(directory=found) as peer:
            assert peer.last_index == 7
            peer.tick()  # loads the dump
            return peer.last_index


@hole(
    "S5", "a leader's snapshot is on disk, power is lost before the journal follows: does the peer go on behind it?",
    holds=[b"old", b"new"], fails=[b"old"],
)  # fmt: skip
def _a_journal_that_ends_before_the_snapshot_is_aligned(guarded: bool) -> object:
    async def schedule() -> object:
        journal, store = MemoryJournal(), MemorySnapshots()
        async with Puppet(journal=journal) as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"never"], commit=1))
            p1.machine.apply(b"old")
            store.save(SnapshotMeta(last_index=9, last_term=2, index=1), p1.machine.capture()())
        async with Puppet(journal=journal.crashed(), snapshots=store, fresh=False) as p1:
            await p1.say("p3", append=append(2, (9, 2), [b"new"], commit=10))
            return list(p1.machine.applied)

    with pytest.MonkeyPatch.context() as patch:
        if not guarded:
            patch.setattr(RaftStorage, "_align", lambda _storage, _snapshot: None)
        return run_virtual(schedule)


# ---------------------------------------------------------------------------- S6


@hole(
    "S6", "a leader that nobody hears removes both followers: what does it commit?",
    holds="nothing", fails="alone",
)  # fmt: skip
def _membership_does_not_change_within_a_log(guarded: bool) -> object:
    async def schedule() -> object:
        async with Puppet() as p1:
            term = await p1.lead("p2")
            await p1.say("p2", append_reply=pb.AppendReply(term=term, next_index=p1.last_index + 1, success=True))
            raft = p1.engine._core._raft
            committed = p1.commit_index
            for name in ("p2", "p3"):
                with pytest.raises(Exception, match="dynamicMembershipChange is disabled"):
                    raft.removeNodeFromCluster(p1.engine._core._nodes[name])
                p1.engine._core.submit(membership_change("rem", name), lambda _outcome, _reason: None)
            await p1.settle()
            return "alone" if p1.commit_index > committed else "nothing"

    if guarded:
        return run_virtual(schedule)
    with PlainPeer(dynamicMembershipChange=True) as peer:
        peer.lead("p2", "p3")
        committed = peer.raft.raftCommitIndex
        for name in ("p2", "p3"):
            peer.raft.removeNodeFromCluster(peer.nodes[name])
        peer.tick()
        peer.tick()
        return "alone" if peer.members == {"p1"} and peer.raft.raftCommitIndex > committed else "nothing"


# ---------------------------------------------------------------------------- S10


@hole(
    "S10", "p1 and p2 acknowledge a write, p2's disk is wiped, p1 is away when p3 returns: is the write still there?",
    holds="kept", fails="lost",
)  # fmt: skip
def _wiped_disks_do_not_vote(guarded: bool) -> object:
    async def schedule() -> object:
        async with SimCluster(seed=10, guards=all_but("disk_incarnations", guarded)) as cluster:
            await cluster.elect()
            await cluster.converge()
            cluster.network.isolate("p3")
            leader = await cluster.elect()
            while leader.peer_id == "p3":
                await cluster.pass_time(0.1)
                leader = await cluster.elect()
            await leader.engine.propose(b"precious")
            cluster.crash("p1")
            cluster.wipe("p2")
            cluster.network.heal()
            await cluster.start("p2")
            try:
                await cluster.elect(within_s=15)
            except AssertionError:
                await cluster.start("p1")
                await cluster.elect()
            await cluster.converge()
            return "kept" if b"precious" in cluster.running()[0].machine.applied else "lost"

    return run_virtual(schedule)


# ---------------------------------------------------------------------------- S11


class _LyingFile:
    """A file whose ``fdatasync`` does nothing."""

    def __init__(self, file: object) -> None:
        self._file = file

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def fdatasync(self) -> None:
        pass


class _DiskWithoutFlush(SimDisk):
    def open(self, path: Path) -> object:  # type: ignore[override]  # a file all the same
        return _LyingFile(super().open(path))


@hole("S11", "twenty entries are flushed, then power is lost: how many are left?", holds=20, fails=0)
def _flushed_entries_survive_a_power_cut(guarded: bool) -> object:
    disk = SimDisk() if guarded else _DiskWithoutFlush()
    journal = FileJournal(DIRECTORY, disk=disk)
    for index in range(1, 21):
        journal.append([(index, 1, b"x")])
        journal.flush()
    disk.crash(torn=False)
    return FileJournal(DIRECTORY, disk=disk).last_index


@hole(
    "S11", "one bit of a stored entry flips: what does the next start read?",
    holds="damage", fails=b"another command",
)  # fmt: skip
def _flipped_bits_are_found(guarded: bool) -> object:
    command = b"Another command"
    if guarded:
        disk = SimDisk()
        journal = FileJournal(DIRECTORY, disk=disk)
        journal.append([(1, 1, command), (2, 1, b"and one more")])
        journal.flush()
        journal.close()
        path = DIRECTORY / disk.listdir(DIRECTORY)[0]
        disk.flip(path, disk.read(path).index(command), ord("A") ^ ord("a"))
        try:
            return FileJournal(DIRECTORY, disk=disk).get(1)[2]
        except CorruptError:
            return "damage"
    with _directory() as directory:
        plain = PlainJournal(str(directory / "journal"))
        plain.add(command, 1, 1)
        plain._destroy()
        data = (directory / "journal").read_bytes()
        (directory / "journal").write_bytes(data.replace(command, b"another command"))
        plain = PlainJournal(str(directory / "journal"))
        read = plain[0][0]
        plain._destroy()
        return read


@hole(
    "S11", "the process dies at any step of a compaction: how many of ten acknowledged entries are left at worst?",
    holds=10, fails=0,
)  # fmt: skip
def _compaction_is_one_step(guarded: bool) -> object:
    """Entries 1 to 100 are held and 1 to 90 covered by a snapshot; 91 to 100 exist only in the journal."""
    if guarded:
        original = SimDisk()
        journal = FileJournal(DIRECTORY, disk=original, segment_bytes=1000)
        journal.append([(index, 1, b"x" * 40) for index in range(1, 101)])
        journal.flush()
        journal.close()
        left: list[int] = []
        for call in range(1, 100):
            disk = original.copy()
            journal = FileJournal(DIRECTORY, disk=disk, segment_bytes=1000)
            disk.crash_at = disk.calls + call
            journal.trim_before(91)
            try:
                journal.flush()
            except PowerCutError:
                disk.crash()
            else:
                assert call > 1, "nothing was cut"
                return min(left)
            left.append(_held(FileJournal(DIRECTORY, disk=disk, segment_bytes=1000)))
        raise AssertionError("the compaction never ends")
    left = []
    for step in range(10):
        with _directory() as directory:
            plain = PlainJournal(str(directory / "journal"))
            for index in range(1, 101):
                plain.add(b"x" * 40, index, 1)
            _die_after(plain, step)
            plain._destroy()
            found = PlainJournal(str(directory / "journal"))
            left.append(sum(entry[1] > 90 for entry in found[:]))
            found._destroy()
    return min(left)


def _held(journal: FileJournal) -> int:
    return len(journal.entries(91, 101))


def _die_after(plain: PlainJournal, step: int) -> None:
    """Compact, and be killed when so many entries were added again: what is in the mapped file stays."""

    class KilledError(BaseException):
        pass

    add, added = plain.add, 0

    def counted(*entry: object) -> None:
        nonlocal added
        if added == step:
            raise KilledError
        added += 1
        add(*entry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "add", counted)
        with pytest.raises(KilledError):
            plain.deleteEntriesTo(90)


# ---------------------------------------------------------------------------- S12


@hole(
    "S12", "a membership entry arrives, the peer restarts before it is committed: are its peers the same as before?",
    holds=True, fails=False,
)  # fmt: skip
def _a_restart_changes_no_membership(guarded: bool) -> object:
    change = membership_change("add", "p4")
    assert change[:1] == MEMBERSHIP

    async def schedule() -> object:
        async with Puppet() as p1:
            await p1.say("p2", append=append(1, (1, 0), [b"a"], commit=2))
            stranger = pb.Entry(term=1, data=change)
            await p1.say("p2", append=pb.AppendEntries(term=1, prev_index=2, prev_term=1, entries=[stranger]))
            before = [row.peer_id for row in p1.engine.status().peers]
            journal = p1.journal.crashed()
        async with Puppet(journal=journal, fresh=False) as p1:
            return [row.peer_id for row in p1.engine.status().peers] == before

    if guarded:
        return run_virtual(schedule)
    with _directory() as directory, _directory() as found:
        with PlainPeer(directory=directory, dynamicMembershipChange=True) as peer:
            replies = peer.append("p2", 1, (1, 0), [NO_OP, change])
            assert replies[0]["success"]
            before = peer.members
            shutil.copytree(directory, found, dirs_exist_ok=True)
        with PlainPeer(directory=found, dynamicMembershipChange=True) as peer:
            peer.tick()
            assert peer.last_index == 3, "the entry is there"
            return peer.members == before
