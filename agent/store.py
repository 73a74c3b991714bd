"""The agent's data directory: who this node is, whose cluster it belongs to, and what runs here.

Owns: the lock on the directory, ``node.json``, ``contact.json`` and one file per allocation. Leaves to others: what the
records mean (``agent.reconcile``). The rule: every file is replaced atomically and is readable by the agent's user only
(specs carry variables). Nothing is fsynced: what must survive a power cut does not run through one either. A disk that
takes nothing (it is full, or went read-only) ends no agent and nothing that runs: what could not be written is kept in
memory and written once it can be. Only who this node is must be on the disk before anybody hears of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

import structlog
from google.protobuf import json_format

from agent.records import Hold, Record
from orchestrator.contract import codec
from orchestrator.contract.errors import StartupError
from orchestrator.contract.model import AllocState, Assignment, AssignmentKey, str_map
from orchestrator.contract.v1 import agent_pb2

_log = structlog.get_logger("agent.store")


class Store:
    """Opened once per agent process; raises ``StartupError`` where another agent holds the directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._allocations = directory / "allocations"
            self._allocations.mkdir(exist_ok=True, mode=0o700)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartupError(
                f"cannot use the data directory {directory}: {error.strerror}; pass another one with --data"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise StartupError(
                f"the data directory {directory} is in use by the agent with pid {holder}; "
                "stop that one, or give this one its own directory with --data"
            ) from None
        with contextlib.suppress(OSError):  # a full disk; the lock holds all the same
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        self._unwritten: dict[Path, str] = {}  # what the disk did not take, the newest of each file
        self._node: dict[str, Any] = self._read_json("node.json") or {}
        self._written: dict[AssignmentKey, tuple[Assignment, str]] = {}  # on the way to running: as JSON
        if not self._node.get("node_id"):
            self._node["node_id"] = str(uuid.uuid4())
            try:
                self._replace(self.directory / "node.json", json.dumps(self._node))
            except OSError as error:
                raise StartupError(
                    f"cannot write {directory}/node.json: {error.strerror}; make room, or pass another --data"
                ) from error

    def close(self) -> None:
        os.close(self._lock)

    # ------------------------------------------------------------------------ identity

    @property
    def node_id(self) -> str:
        return str(self._node["node_id"])

    @property
    def cluster_id(self) -> str:
        """ "" until the first registration."""
        return str(self._node.get("cluster_id", ""))

    def join(self, cluster_id: str) -> None:
        """Remember the cluster; raises ``StartupError`` where the directory belongs to another one."""
        if self.cluster_id == cluster_id:
            return
        if self.cluster_id:
            raise StartupError(
                f"the data directory {self.directory} belongs to cluster {self.cluster_id}, but the peers are of "
                f"cluster {cluster_id}; check --peers, or start with a fresh --data directory"
            )
        self._node["cluster_id"] = cluster_id
        self._save_node()

    def note(self, name: str, value: str) -> None:
        """Remember a small fact about this node (which certificate it claimed)."""
        if self._node.get(name) != value:
            self._node[name] = value
            self._save_node()

    def noted(self, name: str) -> str:
        return str(self._node.get(name, ""))

    def _save_node(self) -> None:
        self.write_json("node.json", self._node)

    # ------------------------------------------------------------------------ contact

    def save_contact(self, boot_id: str, sent_ms: int) -> None:
        """When the last acknowledged heartbeat was sent, on this boot's clock."""
        self.write_json("contact.json", {"boot_id": boot_id, "sent_ms": sent_ms})

    def load_contact(self, boot_id: str) -> int | None:
        contact = self._read_json("contact.json") or {}
        sent = contact.get("sent_ms")
        return sent if contact.get("boot_id") == boot_id and isinstance(sent, int) else None

    # ------------------------------------------------------------------------ allocations

    def save(self, record: Record) -> None:
        content = {
            "state": int(record.state),
            "restarts": record.restarts,
            "used": record.used,
            "reason": record.reason,
            "exit_code": record.exit_code,
            "start_failed": record.start_failed,
            "launched": list(record.launched),
            "due_ms": record.due_ms,
            "running_since_ms": record.running_since_ms,
            "overdue": record.overdue,
            "init_task": record.init_task,
            "init_since_ms": record.init_since_ms,
            "ended_ms": record.ended_ms,
            "hold": int(record.hold),
            "digests": dict(record.digests),
            "sized_version": record.sized_version,
            "health": record.health,
        }
        rest = json.dumps(content).removeprefix("{")
        text = f'{{"assignment": {self._assignment(record)}, {rest}'
        self._write(self._allocations / _file_name(record.key), text)

    def _assignment(self, record: Record) -> str:
        """The dearest part of a record to write, and the same in all of its states until it runs."""
        assignment, known = record.assignment, self._written.get(record.key)
        if known is not None and known[0] is assignment:
            text = known[1]
        else:
            message = codec.encode(assignment, agent_pb2.Assignment())
            text = json.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True))
        if record.live and record.state is not AllocState.RUNNING:
            self._written[record.key] = assignment, text
        else:
            self._written.pop(record.key, None)  # from now on it is written seldom, and there may be thousands
        return text

    def forget(self, key: AssignmentKey) -> None:
        self._written.pop(key, None)
        path = self._allocations / _file_name(key)
        self._unwritten.pop(path, None)
        with contextlib.suppress(OSError):
            path.unlink()

    def load(self) -> tuple[list[Record], list[str]]:
        """Every record, and what could not be read (an assignment comes again from the control plane anyway)."""
        records, damaged = [], []
        for path in sorted(self._allocations.glob("*.json")):
            try:
                records.append(_record(json.loads(path.read_bytes())))
            except (OSError, ValueError, KeyError, TypeError, json_format.ParseError) as error:
                damaged.append(f"{path.name}: {error}")
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(".damaged"))
        return records, damaged

    # ------------------------------------------------------------------------ files

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        self._write(self.directory / name, json.dumps(content))

    def _write(self, path: Path, text: str) -> None:
        """Now, or as soon as the disk takes it: each write tries again what is left over."""
        waited = bool(self._unwritten)
        self._unwritten[path] = text
        for one in list(self._unwritten):
            try:
                self._replace(one, self._unwritten[one])
            except OSError as error:
                if not waited:
                    _log.error(
                        "cannot_store", file=str(one), error=error.strerror, note="kept in memory until there is room"
                    )
                return
            del self._unwritten[one]
        if waited:
            _log.info("stored_again", directory=str(self.directory))

    def _replace(self, path: Path, text: str) -> None:
        new = path.with_suffix(".new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(text.encode())
            new.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise

    def read_json(self, name: str) -> dict[str, Any]:
        """What ``write_json`` kept; empty where there is nothing that can be read."""
        return self._read_json(name) or {}

    def _read_json(self, name: str) -> dict[str, Any] | None:
        try:
            content = json.loads((self.directory / name).read_bytes())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None


def _file_name(key: AssignmentKey) -> str:
    text = f"{key.id.namespace}\0{key.id.job}\0{key.id.group}\0{key.id.ordinal}\0{key.job_uid}\0{key.attempt}"
    return hashlib.sha256(text.encode()).hexdigest()[:32] + ".json"


def _record(content: dict[str, Any]) -> Record:
    message = json_format.ParseDict(content["assignment"], agent_pb2.Assignment())
    return Record(
        assignment=codec.decode(Assignment, message),
        state=AllocState(content["state"]),
        restarts=int(content["restarts"]),
        used=int(content["used"]),
        reason=str(content["reason"]),
        exit_code=int(content["exit_code"]),
        start_failed=bool(content["start_failed"]),
        launched=tuple(str(task) for task in content["launched"]),
        due_ms=int(content["due_ms"]),
        running_since_ms=int(content["running_since_ms"]),
        overdue=str(content.get("overdue", "")),
        init_task=str(content.get("init_task", "")),
        init_since_ms=int(content.get("init_since_ms", 0)),
        ended_ms=int(content["ended_ms"]),
        hold=Hold(content["hold"]),
        # Absent in what an older agent wrote: it settled nothing, and what runs has the size that was assigned.
        digests=str_map({str(name): str(digest) for name, digest in content.get("digests", {}).items()}),
        sized_version=int(content.get("sized_version", message.job_version)),
        health=int(content.get("health", 0)),
    )


def boot_clock_ms() -> int:
    """Milliseconds since boot, sleep included: a machine that was suspended notices how long."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


def boot_id() -> str:
    """Changes with every boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return str(int(psutil.boot_time()))
