"""``RaftCore``: the one place that touches PySyncObj, and everything private of it that we rely on.

Owns: how a ``SyncObj`` is built and driven. Leaves all decisions to ``guard`` and ``engine``. The one rule: every
name below that is not PySyncObj's documented interface stands in ``_PRIVATE`` or ``_REPLACED`` with its reason, and
is checked to exist when a core is built, so another version of PySyncObj stops the process with a clear message.

Each core runs on a private copy of the module ``pysyncobj.syncobj``, in which a few module-level names are replaced:
the clock and the randomness (the simulator needs its own), the journal's factory, and pickle, which raises there.
Nobody else who uses PySyncObj in the same process is affected.
"""

# ruff: noqa: E402

from __future__ import annotations

import _socket
import importlib.util
import random
import socket
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol

# PySyncObj's encryption, which is for its own transport, would load cryptography: a fortieth of a peer's start.
_cryptography = sys.modules.get("cryptography")
if _cryptography is None:
    sys.modules["cryptography"] = None  # type: ignore[assignment]
from pysyncobj.node import Node
from pysyncobj.version import VERSION

if _cryptography is None:
    del sys.modules["cryptography"]
# Its module for Windows puts in the place of this one what works there alone, and does so everywhere.
socket.inet_ntop = _socket.inet_ntop

from orchestrator.contract.errors import StartupError
from orchestrator.replication.storage import RaftEntry, RaftStorage

EXPECTED_VERSION = "0.3.17"

_PREFIX = "_SyncObj__"
_PRIVATE = {
    "doApplyCommand": "the apply hook: its own unpickles the command",
    "raftElectionDeadline": "PreVote must ask before the election begins; and the loop sleeps until then",
    "newAppendEntriesTime": "the loop sleeps until the next heartbeat, and sends at once after a rejection",
    "raftLastApplied": "set once at start, to the index of the snapshot that the state was restored from",
    "raftMatchIndex": "what a wiped disk acknowledged must be forgotten; and for status",
}
_REPLACED = {
    "createJournal": "the journal is ours",
    "Serializer": "snapshots are ours: no fork, no pickle",
    "createPoller": "the loop is ours",
    "PIPE_NOTIFIER_ENABLED": "no loop to wake",
    "monotonicTime": "the clock is given",
    "random": "so is the randomness",
    "pickle": "nothing is ever unpickled",
}
_METHODS = ("doTick", "_applyCommand", "_checkCommandsToApply", "_isLeader", "_getLeader")

FOLLOWER, CANDIDATE, LEADER = 0, 1, 2  # of PySyncObj
SUCCESS = 0  # FAIL_REASON.SUCCESS

Message = dict[str, Any]


class PeerNode(Node):  # type: ignore[misc]  # pysyncobj is untyped
    """A peer by id. Hashes by its position, so that PySyncObj's sets have the same order in every process."""

    def __init__(self, peer_id: str, position: int) -> None:
        super().__init__(peer_id)
        self._position = position

    def __hash__(self) -> int:
        return self._position

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerNode) and other.id == self.id


class CoreOwner(Protocol):
    """What a core calls back into."""

    def core_sends(self, peer_id: str, message: Message) -> None: ...

    def core_applies(self, command: bytes) -> object: ...

    def core_changed_state(self, old: int, new: int) -> None: ...

    def core_wants_snapshot(self, peer_id: str) -> None:
        """The peer needs entries that are no longer held. Asked again with every heartbeat while it is connected."""

    def core_takes_snapshot(self, chunk: object) -> bool:
        """Whether a snapshot is complete and must be loaded now."""

    def core_loads_snapshot(self) -> tuple[int, int]:
        """Load it; returns the index and term of its last entry."""


class _NoPickle:
    """Stands for the module pickle in our copy of PySyncObj."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"pickle.{name} is never used: the replicated log speaks protobuf only")


class _NoPoller:
    def poll(self, timeout: float) -> None:
        """The engine's loop has polled."""


class _Wire:
    """What PySyncObj takes for its transport."""

    ready = True

    def __init__(self, owner: CoreOwner) -> None:
        self._owner = owner
        self.on_message: Callable[[PeerNode, Message], None]
        self.on_connected: Callable[[PeerNode], None]
        self.on_disconnected: Callable[[PeerNode], None]

    def setOnMessageReceivedCallback(self, callback: Callable[[PeerNode, Message], None]) -> None:  # noqa: N802
        self.on_message = callback

    def setOnNodeConnectedCallback(self, callback: Callable[[PeerNode], None]) -> None:  # noqa: N802
        self.on_connected = callback

    def setOnNodeDisconnectedCallback(self, callback: Callable[[PeerNode], None]) -> None:  # noqa: N802
        self.on_disconnected = callback

    def setOnReadonlyNodeConnectedCallback(self, callback: object) -> None:  # noqa: N802
        """There are no read-only nodes."""

    def setOnReadonlyNodeDisconnectedCallback(self, callback: object) -> None:  # noqa: N802
        """There are no read-only nodes."""

    def setOnUtilityMessageCallback(self, message: str, callback: object) -> None:  # noqa: N802
        """There are no utility messages."""

    def tryGetReady(self) -> None:  # noqa: N802
        """Always ready."""

    def send(self, node: PeerNode, message: Message) -> bool:
        self._owner.core_sends(node.id, message)
        return True

    def destroy(self) -> None:
        """The engine stops the network."""


class _Snapshots:
    """What PySyncObj takes for its serializer: it never serializes, and hands every chunk to the owner."""

    def __init__(self, owner: CoreOwner) -> None:
        self._owner = owner

    def checkSerializing(self) -> tuple[int, None]:  # noqa: N802
        return 0, None  # SERIALIZER_STATE.NOT_SERIALIZING: compaction is the engine's

    def getTransmissionData(self, node: PeerNode) -> None:  # noqa: N802
        self._owner.core_wants_snapshot(node.id)

    def setTransmissionData(self, chunk: object) -> bool:  # noqa: N802
        return chunk is not None and self._owner.core_takes_snapshot(chunk)

    def deserialize(self) -> tuple[None, RaftEntry, RaftEntry, tuple[()]]:
        index, term = self._owner.core_loads_snapshot()
        last = (b"\x01", index, term)
        return None, last, last, ()

    def cancelTransmisstion(self, node: PeerNode) -> None:  # noqa: N802
        """Transfers end when the peer goes down."""


def _private_copy() -> ModuleType:
    spec = importlib.util.find_spec("pysyncobj.syncobj")
    if spec is None or spec.loader is None:
        raise StartupError("PySyncObj is not installed: pip install 'raftsman[peer]'")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if VERSION != EXPECTED_VERSION:
        raise StartupError(f"PySyncObj {VERSION} is installed and {EXPECTED_VERSION} is needed")
    for name, reason in _REPLACED.items():
        if not hasattr(module, name):
            raise StartupError(f"pysyncobj.syncobj has no {name} ({reason}): not version {EXPECTED_VERSION}")
    return module


class RaftCore:
    """One ``SyncObj``. Not for several threads; ``owner`` is called back from within every method."""

    def __init__(
        self,
        *,
        peer_id: str,
        others: Sequence[str],
        owner: CoreOwner,
        storage: RaftStorage,
        applied_index: int,
        election_s: tuple[float, float],
        heartbeat_s: float,
        fallback_s: float,
        batch_bytes: int,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        module: Any = _private_copy()
        module.createJournal = lambda _file: storage
        module.Serializer = lambda *_args: _Snapshots(owner)
        module.createPoller = lambda _kind: _NoPoller()
        module.PIPE_NOTIFIER_ENABLED = False
        module.monotonicTime = clock
        module.random = rng
        module.pickle = _NoPickle()
        config = module.SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=False,
            dynamicMembershipChange=False,
            commandsWaitLeader=False,
            commandsQueueSize=16,
            raftMinTimeout=election_s[0],
            raftMaxTimeout=election_s[1],
            appendEntriesPeriod=heartbeat_s,
            leaderFallbackTimeout=fallback_s,
            connectionTimeout=max(3.5, election_s[1]),
            appendEntriesBatchSizeBytes=batch_bytes,
            logCompactionMinEntries=2**62,
            logCompactionMinTime=2**62,
            useFork=False,
            onStateChanged=owner.core_changed_state,
        )
        self._storage = storage
        self._wire = _Wire(owner)
        names = sorted([peer_id, *others])
        self._nodes = {name: PeerNode(name, names.index(name)) for name in names}
        self._raft: Any = module.SyncObj(
            self._nodes[peer_id], [self._nodes[name] for name in sorted(others)], config, transport=self._wire
        )
        for name, reason in _PRIVATE.items():
            if not hasattr(self._raft, _PREFIX + name):
                raise StartupError(f"SyncObj has no private {name} ({reason}): not version {EXPECTED_VERSION}")
        for name in _METHODS:
            if not callable(getattr(self._raft, name, None)):
                raise StartupError(f"SyncObj has no method {name}: not version {EXPECTED_VERSION}")
        setattr(self._raft, _PREFIX + "doApplyCommand", owner.core_applies)
        setattr(self._raft, _PREFIX + "raftLastApplied", applied_index)

    # ------------------------------------------------------------------ what it knows

    @property
    def term(self) -> int:
        return int(self._raft.raftCurrentTerm)

    @property
    def is_leader(self) -> bool:
        return bool(self._raft._isLeader())

    @property
    def leader_id(self) -> str:
        node = self._raft._getLeader()
        return "" if node is None else str(node.id)

    @property
    def commit_index(self) -> int:
        return int(self._raft.raftCommitIndex)

    @property
    def applied_index(self) -> int:
        return int(self._raft.raftLastApplied)

    def match_index(self, peer_id: str) -> int:
        """What this leader counts as stored at the peer."""
        return int(getattr(self._raft, _PREFIX + "raftMatchIndex").get(self._nodes[peer_id], 0))

    def forget_match(self, peer_id: str) -> None:
        """The peer's disk is another one now: what the old one acknowledged counts no more."""
        matches = getattr(self._raft, _PREFIX + "raftMatchIndex")
        if self._nodes[peer_id] in matches:
            matches[self._nodes[peer_id]] = 0

    @property
    def election_deadline(self) -> float:
        return float(getattr(self._raft, _PREFIX + "raftElectionDeadline"))

    @election_deadline.setter
    def election_deadline(self, when: float) -> None:
        setattr(self._raft, _PREFIX + "raftElectionDeadline", when)

    @property
    def heartbeat_due(self) -> float:
        return float(getattr(self._raft, _PREFIX + "newAppendEntriesTime"))

    def send_soon(self) -> None:
        """Make the next tick send to every connected peer."""
        setattr(self._raft, _PREFIX + "newAppendEntriesTime", float("-inf"))

    def send_by(self, when: float) -> None:
        """Make a tick at that time send to every connected peer, if none does before."""
        name = _PREFIX + "newAppendEntriesTime"
        setattr(self._raft, name, min(getattr(self._raft, name), when))

    # ------------------------------------------------------------------ driving it

    def tick(self) -> None:
        self._raft.doTick(0.0)

    def submit(self, command: bytes, callback: Callable[[object, int], None]) -> None:
        """Append one entry (leader only) and send it; the callback gets the outcome and ``SUCCESS`` when applied."""
        self._raft._applyCommand(command, callback)
        self._raft._checkCommandsToApply()

    def receive(self, peer_id: str, message: Message) -> None:
        self._wire.on_message(self._nodes[peer_id], message)

    def adopt_term(self, peer_id: str, term: int) -> None:
        """Learn that a higher term exists, without any vote: a request that nobody's log can lose to.

        One that is not higher changes nothing.
        """
        self.receive(peer_id, {"type": "request_vote", "term": term, "last_log_index": -1, "last_log_term": -1})

    def peer_connected(self, peer_id: str) -> None:
        self._wire.on_connected(self._nodes[peer_id])

    def peer_disconnected(self, peer_id: str) -> None:
        self._wire.on_disconnected(self._nodes[peer_id])

    def destroy(self) -> None:
        self._raft.destroy()
