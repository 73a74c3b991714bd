"""``PlainPeer``: PySyncObj as it comes, in given time and among peers that the test plays: what our guards are for.

Only its clock, its randomness and its poller are replaced. It has its own journal, dumps and pickles.
"""

from __future__ import annotations

import importlib.util
import pickle
import random
from pathlib import Path
from types import ModuleType
from typing import Any

from pysyncobj.node import Node

NO_OP, REGULAR, MEMBERSHIP = b"\x01", b"\x00", b"\x02"


class _Wire:
    """Keeps what is sent, and hands in what the test says."""

    ready = True

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.message: Any = None
        self.connected: Any = None

    def setOnMessageReceivedCallback(self, callback: Any) -> None:  # noqa: N802 - PySyncObj's names
        self.message = callback

    def setOnNodeConnectedCallback(self, callback: Any) -> None:  # noqa: N802
        self.connected = callback

    def setOnNodeDisconnectedCallback(self, callback: Any) -> None:  # noqa: N802
        pass

    def setOnReadonlyNodeConnectedCallback(self, callback: Any) -> None:  # noqa: N802
        pass

    def setOnReadonlyNodeDisconnectedCallback(self, callback: Any) -> None:  # noqa: N802
        pass

    def setOnUtilityMessageCallback(self, message: str, callback: Any) -> None:  # noqa: N802
        pass

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self.sent.append((node.id, message))
        return True

    def addNode(self, node: Node) -> None:  # noqa: N802
        pass

    def dropNode(self, node: Node) -> None:  # noqa: N802
        pass

    def destroy(self) -> None:
        pass


class _NoPoller:
    def poll(self, timeout: float) -> None:
        pass


def _module(clock: Any) -> ModuleType:
    spec = importlib.util.find_spec("pysyncobj.syncobj")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.monotonicTime = clock
    module.random = random.Random(1)
    module.createPoller = lambda _kind: _NoPoller()
    module.PIPE_NOTIFIER_ENABLED = False
    return module  # type: ignore[no-any-return]


class PlainPeer:
    """p1 of ``peers``; ``directory`` holds its journal and dump, if it is to have any. Time passes by ``pass_time``."""

    def __init__(self, *, peers: int = 3, directory: Path | None = None, **settings: Any) -> None:
        self.now = 100.0
        module: Any = _module(lambda: self.now)
        self.wire = _Wire()
        self.nodes = {f"p{n}": Node(f"p{n}") for n in range(1, peers + 1)}
        if directory is not None:
            settings.update(journalFile=str(directory / "journal"), fullDumpFile=str(directory / "dump"))
        conf = module.SyncObjConf(autoTick=False, useFork=False, appendEntriesUseBatch=False, **settings)
        others = [node for name, node in self.nodes.items() if name != "p1"]
        self.raft: Any = module.SyncObj(self.nodes["p1"], others, conf, transport=self.wire, nodeClass=Node)
        for node in others:
            self.wire.connected(node)

    def __enter__(self) -> PlainPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.raft.destroy()

    def tick(self) -> list[tuple[str, dict[str, Any]]]:
        """One tick; returns what was sent by it."""
        self.wire.sent.clear()
        self.raft.doTick(0.0)
        return list(self.wire.sent)

    def say(self, name: str, **message: object) -> list[dict[str, Any]]:
        """A peer sends a message; returns what it is answered at once."""
        self.wire.sent.clear()
        self.wire.message(self.nodes[name], message)
        return [answer for peer, answer in self.wire.sent if peer == name]

    def append(
        self, name: str, term: int, prev: tuple[int, int], commands: list[bytes], *, commit: int = 1
    ) -> list[dict[str, Any]]:
        entries = [(command, prev[0] + 1 + number, term) for number, command in enumerate(commands)]
        return self.say(
            name, type="append_entries", term=term, commit_index=commit, entries=entries, prevLogIdx=prev[0],
            prevLogTerm=prev[1],
        )  # fmt: skip

    def lead(self, *voters: str) -> int:
        """Make it the leader by these votes, and let it commit its first entry; returns the term."""
        self.now += 10.0
        self.tick()
        for name in voters:
            self.say(name, type="response_vote", term=self.raft.raftCurrentTerm)
        for name in voters:
            self.acknowledge(name)
        self.tick()
        return int(self.raft.raftCurrentTerm)

    def acknowledge(self, name: str) -> None:
        """The peer says that it has everything."""
        self.say(name, type="next_node_idx", next_node_idx=self.last_index + 1, reset=False, success=True)

    @property
    def last_index(self) -> int:
        return int(self.raft._SyncObj__raftLog[-1][1])

    @property
    def members(self) -> set[str]:
        return {"p1", *(node.id for node in self.raft.otherNodes)}


def membership_change(kind: str, name: str) -> bytes:
    """The command that PySyncObj makes of ``addNodeToCluster`` ("add") and ``removeNodeFromCluster`` ("rem")."""
    return MEMBERSHIP + pickle.dumps([kind, name])
