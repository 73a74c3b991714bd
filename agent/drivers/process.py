"""The process driver: tasks as plain processes, each under a small supervisor of its own (``process_shim``).

Owns: run directories ``<data>/process/<name>``, starting shims, reading what they wrote. Leaves to others: control
groups (``confinement``). It limits memory, cpu and the number of processes where those can be used, and changes these
limits while a task runs; else the memory of each process, for good; always: no core files, a bounded log, and the
kernel is asked to take tasks first when memory runs out.
It does **not** isolate: a task sees the machine's files, network and processes, and GPUs are only named in its
environment. The rule: nothing that matters lives in the agent's memory; ``list`` reads it all back, so an agent that
was killed adopts what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pwd
import shutil
import signal as signals
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from agent.driver import (
    LOG_FILE_BYTES,
    LOG_FILES,
    PAYLOAD_FILE,
    DriverInfo,
    DriverUnavailableError,
    Exit,
    Instance,
    InstanceState,
    LogChunk,
    LogsGoneError,
    PortTakenError,
    Ran,
    RunId,
    RunSpec,
    StartError,
)
from agent.drivers import confinement, process_hands, process_logs, process_shim, process_usage
from agent.drivers.process_beside import run_beside
from agent.hands import Command, Connection, Entered, Incoming
from agent.log_tail import tail
from agent.usage import Counters
from agent.workload.ports import bindable
from orchestrator.contract.containers import container_settings
from orchestrator.contract.model import AllocationId, AssignmentKey
from orchestrator.contract.tree import Target

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SHELL", "USER")
"""All that a task takes over from the agent's environment: the rest is the agent's own business."""

PIDS_LIMIT = 1024
"""Processes and threads of one task, as of a container."""
MIB = 1 << 20
DATA_FACTOR = 4
"""Without control groups: ``RLIMIT_DATA`` counts what a process has reserved, as for the stacks of its threads, which
is more than it uses. So it is stopped at a multiple of what it asked for: a runaway is, a threaded server is not."""
PAYLOADS = Path("/var/run/raftsman-payloads")
"""Files of runs whose user is not the agent's: each may read its own, and nobody can list them."""
START_S = 20.0
POLL_S = 0.1
KILL_GRACE_S = 5.0
NEVER = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOEXEC, errno.EISDIR, errno.ELOOP)
"""What ``exec`` says of a command (or working directory) that is not there, or is none."""


class ProcessDriver:
    name = "process"

    def __init__(
        self,
        directory: Path,
        *,
        log_file_bytes: int = LOG_FILE_BYTES,
        log_files: int = LOG_FILES,
        use_pidfd: bool = True,
        groups: confinement.Confinement | None = None,
    ) -> None:
        """``groups``: what control groups may be used for; None: find out."""
        self._root = directory
        self._groups = confinement.find() if groups is None else groups
        self._log_file_bytes = log_file_bytes
        self._log_files = log_files
        self._use_pidfd = use_pidfd and hasattr(os, "pidfd_open")
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        self._watched: dict[str, asyncio.Event] = {}
        self._pollers: set[asyncio.Task[None]] = set()
        self._pidfds: dict[str, int] = {}
        self._swept = False

    async def probe(self) -> DriverInfo:
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._swept:
                self._sweep()
                self._swept = True
        except OSError as error:
            return DriverInfo(available=False, resizes=False, reason=f"cannot use {self._root}: {error.strerror}")
        return DriverInfo(
            available=True,
            version="1",
            engine_id=_host_id(),
            resizes=self._groups.resizes,
            reason=self._not_isolated(),
        )

    def _not_isolated(self) -> str:
        """What a task's neighbours are not protected from, for operators."""
        shared = "files, network and processes are shared with this machine"
        if not self._groups.version:
            return (
                "no control groups: memory is limited of each process alone, and roughly; cpu and the number of "
                f"processes are not; {shared}"
            )
        by = f"by cgroup v{self._groups.version}"
        missing = f", {' and '.join(self._groups.missing)} not" if self._groups.missing else ""
        return f"{', '.join(self._groups.limits) or 'nothing'} limited {by}{missing}; {shared}"

    async def prepare(self, spec: RunSpec) -> None:
        if not (spec.task.command or spec.task.args):
            raise StartError(f"task {spec.task.name} has no command for the process driver to run", permanent=True)
        asked = container_settings(spec.task)
        if asked:
            raise StartError(
                f"the process driver has no '{asked[0]}', for that takes a container: give task {spec.task.name} an "
                "image, or leave it out",
                permanent=True,
            )

    async def start(self, spec: RunSpec) -> Instance:
        await self.prepare(spec)
        directory = self._root / spec.name
        found = self._read(spec.name)
        if found is not None and found.state is not InstanceState.CREATED:
            self._watch(found)
            return found
        taken = [port.host_port for port in spec.listens if not bindable(port.host_port, port.protocol)]
        if taken:
            raise PortTakenError(taken, "something that is not the cluster's listens on it")
        try:
            try:
                self._write_spec(directory, spec, self._confine(spec))
            except OSError as error:  # a full disk: elsewhere there may be room, and people are told why
                raise StartError(f"cannot write {directory}: {error.strerror}") from error
            await self._launch(directory, spec)
        except OSError as error:
            raise DriverUnavailableError(f"cannot start {spec.name}: {error.strerror}") from error
        except StartError:
            self._forget(directory)
            raise
        started = self._read(spec.name)
        if started is None or started.state is InstanceState.CREATED:
            raise StartError("the task's supervisor did not record that it started")
        self._watch(started)
        return started

    def _confine(self, spec: RunSpec) -> tuple[Path, ...]:
        """The directories of the run's control group, made with its limits."""
        try:
            return self._groups.create(self._group_of(spec.name), _limits(spec))
        except OSError as error:
            self._groups.remove(self._group_of(spec.name))
            raise StartError(f"cannot limit the task: {error.filename or 'control group'}: {error.strerror}") from error

    def _group_of(self, name: str) -> str:
        """Groups are the machine's, and other agents' clusters on it may have equal names."""
        return f"{name}-{hashlib.sha256(str(self._root).encode()).hexdigest()[:8]}"

    def _forget(self, directory: Path) -> None:
        for group in _groups(directory):
            with contextlib.suppress(OSError):
                group.rmdir()
        self._groups.remove(self._group_of(directory.name))  # of a start that was broken off, which names none yet
        with contextlib.suppress(OSError):
            (PAYLOADS / self._group_of(directory.name)).unlink()
        shutil.rmtree(directory, ignore_errors=True)

    def _sweep(self) -> None:
        """Once, before anything starts: what is left of starts that were broken off with their agent. ``list`` knows
        nothing of a run before its ``meta.json`` is there, and until then its supervisor does not run."""
        for directory in self._root.glob("raftsman-*"):
            if not (directory / "meta.json").exists():
                self._forget(directory)
        ours = self._group_of("")
        for path in (*PAYLOADS.glob(f"*{ours}"), *PAYLOADS.glob(f"*{ours}.new")):
            if not (self._root / path.name.removesuffix(ours)).exists():
                with contextlib.suppress(OSError):
                    path.unlink()

    def _write_spec(self, directory: Path, spec: RunSpec, groups: tuple[Path, ...]) -> None:
        task = spec.task
        argv = [*task.command, *task.args]
        env = {name: os.environ[name] for name in INHERITED if name in os.environ}
        uid, gid, others = _user(task.user)
        if uid >= 0:
            env |= _home(uid)
        env.update(spec.env)
        shutil.rmtree(directory, ignore_errors=True)
        work = directory / "work"
        work.mkdir(parents=True, mode=0o700)
        if uid >= 0:
            # The task owns its working directory, and may walk to it without being able to list anything above.
            directory.chmod(0o711)
            os.chown(work, uid, gid)
        if spec.payload:
            env[PAYLOAD_FILE] = str(self._write_payload(directory, spec, uid))
        records = [f"arg={argument}" for argument in argv]
        records += [f"env={name}={value}" for name, value in sorted(env.items())]
        records += [
            f"cwd={task.work_dir or work}",
            f"uid={uid}",
            f"gid={gid}",
            f"groups={','.join(map(str, others))}",
            *(f"cgroup={group}" for group in groups),
            f"data_bytes={0 if 'memory' in self._groups.parents else DATA_FACTOR * _limits(spec).memory_bytes}",
            f"log_bytes={self._log_file_bytes}",
            f"log_files={self._log_files}",
        ]
        if any("\0" in record for record in records):
            raise StartError("an argument or variable contains a NUL byte, which no process can take", permanent=True)
        _write_private(directory / "spec", "\0".join(records).encode("utf-8", "surrogateescape"))
        key = spec.run.key
        meta = {
            "cluster": spec.cluster_id,
            "node": spec.node_id,
            "namespace": key.id.namespace,
            "job": key.id.job,
            "group": key.id.group,
            "ordinal": key.id.ordinal,
            "job_uid": key.job_uid,
            "attempt": key.attempt,
            "restarts": spec.run.restarts,
            "task": spec.run.task,
            "groups": [str(group) for group in groups],
        }
        _write_private(directory / "meta.json", json.dumps(meta).encode())

    def _write_payload(self, directory: Path, spec: RunSpec, uid: int) -> Path:
        """Another user than the agent's cannot get to the run's directory, so its file is where it can."""
        path = directory / "payload" if uid < 0 else PAYLOADS / self._group_of(spec.name)
        try:
            if uid >= 0:
                PAYLOADS.mkdir(exist_ok=True)
                PAYLOADS.chmod(0o711)
            _write_private(path, spec.payload)
            if uid >= 0:
                os.chown(path, uid, -1)
            path.chmod(0o400)
        except OSError as error:  # the driver itself works: other tasks have other files
            raise StartError(f"cannot write {path}: {error.strerror}") from error
        return path

    async def _launch(self, directory: Path, spec: RunSpec) -> None:
        launcher = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            process_shim.__file__,
            str(directory),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(START_S):
                answer, _ = await launcher.communicate()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                launcher.kill()
            raise StartError(f"the task's supervisor did not answer within {START_S:.0f} s") from None
        text = answer.decode("utf-8", "replace").strip()
        if not text.startswith("ok "):
            command = (*spec.task.command, *spec.task.args)[0]
            detail = text.removeprefix("error ") or "its supervisor ended without a word"
            raise StartError(f"cannot run {command!r}: {detail}", permanent=_says(detail, *NEVER))

    async def resize(self, spec: RunSpec) -> None:
        found = self._read(spec.name)
        if found is None or not found.running:
            return
        group = self._group_of(spec.name)
        if not self._groups.resizes:
            raise StartError(
                "this node has no control groups for memory, and a process keeps the limits that it began with"
            )
        if set(_groups(self._root / spec.name)) != set(self._groups.directories(group)):
            raise StartError("it was started when this node's control groups were other ones, or none")
        try:
            await asyncio.to_thread(self._groups.resize, group, _limits(spec))
        except confinement.BusyError as error:
            raise StartError(
                f"it uses {error.used_bytes // MIB} MiB of memory, more than the {spec.task.resources.memory_mib} MiB "
                "that it may have"
            ) from error
        except FileNotFoundError:
            return  # it has just ended
        except OSError as error:
            raise StartError(f"its control group takes no new limits: {error.strerror}") from error

    async def stop(self, name: str, *, signal: str, timeout_ms: int) -> None:
        found = self._read(name)
        if found is None or not found.running:
            return
        ended = self._watch(found)
        directory = self._root / name
        number = _signal_number(signal)
        try:
            _write_private(directory / "stop", f"{number} {timeout_ms}".encode())
            os.kill(_pids(directory)[0], signals.SIGUSR1)
        except (OSError, ValueError):
            pass  # it ends just now; the wait below sees it
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000 + KILL_GRACE_S):
                await ended.wait()
                return
        # The supervisor hangs (stopped by a debugger, say): end the task's own group, then the supervisor.
        self._kill_tree(directory)
        await ended.wait()

    async def remove(self, name: str) -> None:
        await self.stop(name, signal="SIGKILL", timeout_ms=0)
        self._forget(self._root / name)  # a start that was broken off may have left what cannot be read yet
        self._watched.pop(name, None)

    async def inspect(self, name: str) -> Instance | None:
        found = self._read(name)
        if found is not None and found.running:
            self._watch(found)
        return found

    async def list(self, cluster_id: str) -> tuple[Instance, ...]:
        found = []
        try:
            names = sorted(path.name for path in self._root.iterdir()) if self._root.is_dir() else []
        except OSError as error:
            raise DriverUnavailableError(f"cannot read {self._root}: {error.strerror}") from error
        for name in names:
            instance = self._read(name)
            if instance is not None and instance.cluster_id == cluster_id:
                found.append(instance)
                if instance.running:
                    self._watch(instance)
        return tuple(found)

    async def changes(self) -> AsyncIterator[str]:
        while True:
            yield await self._changed.get()

    async def logs(self, name: str, *, follow: bool, tail_lines: int, offset: int) -> AsyncIterator[LogChunk]:
        directory = self._root / name
        if self._read(name) is None:
            raise LogsGoneError(f"{name} is unknown on this node")
        reader = process_logs.LogReader(directory, offset=offset)
        if tail_lines > 0:
            for chunk in tail(list(reader.read()), tail_lines):
                yield chunk
        while True:
            # Ask first, read then: output written before the end is not missed.
            now = self._read(name)
            idle = True
            for chunk in reader.read():
                idle = False
                yield chunk
            if now is None or (idle and not (follow and now.running)):
                return
            if idle:
                await asyncio.sleep(POLL_S)

    # ------------------------------------------------------------------------ hands on it

    async def enter(self, name: str, command: Command) -> Entered:
        return await process_hands.enter(self._root / name, command)

    async def copy_out(self, name: str, path: str) -> tuple[str, AsyncIterator[bytes]]:
        return await process_hands.copy_out(self._root / name, path)

    async def copy_in(self, name: str, target: Target) -> tuple[str, Incoming]:
        return await process_hands.copy_in(self._root / name, target)

    async def connect(self, name: str, port: int) -> Connection:
        return await process_hands.connect(port)

    async def measure(self, instances: Sequence[Instance]) -> Mapping[str, Counters]:
        pids = {one.name: _pids(self._root / one.name)[2] for one in instances}
        return await asyncio.to_thread(process_usage.measure, {name: pid for name, pid in pids.items() if pid})

    def whose(self, pids: Sequence[int], instances: Sequence[Instance]) -> Mapping[int, str]:
        firsts = {one.name: _pids(self._root / one.name)[2] for one in instances}
        return process_usage.whose(pids, {name: pid for name, pid in firsts.items() if pid})

    async def run_in(self, name: str, command: tuple[str, ...], *, timeout_ms: int) -> Ran:
        found = self._read(name)
        if found is None or not found.running:
            return Ran(code=-1, output=f"{name} does not run")
        return await run_beside(self._root / name, command, timeout_ms)

    async def close(self) -> None:
        for task in self._pollers:
            task.cancel()
        await asyncio.gather(*self._pollers, return_exceptions=True)
        loop = asyncio.get_running_loop()
        for descriptor in self._pidfds.values():
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self._pidfds.clear()

    # ------------------------------------------------------------------------ what is on disk

    def _read(self, name: str) -> Instance | None:
        directory = self._root / name
        try:
            meta = json.loads((directory / "meta.json").read_bytes())
            run = RunId(
                key=AssignmentKey(
                    id=AllocationId(
                        namespace=meta["namespace"], job=meta["job"], group=meta["group"], ordinal=meta["ordinal"]
                    ),
                    job_uid=meta["job_uid"],
                    attempt=meta["attempt"],
                ),
                restarts=meta["restarts"],
                task=meta["task"],
            )
            cluster_id, node_id = meta["cluster"], meta["node"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        pids = _pids(directory)
        # The order matters: the lock is released after ``exit`` was written.
        alive = _locked(directory / "lock")
        exit_ = _exit(directory)
        state = InstanceState.EXITED
        if exit_ is None and alive:
            state = InstanceState.RUNNING if pids[0] else InstanceState.CREATED
        elif exit_ is None and not pids[0]:
            state = InstanceState.CREATED
        elif exit_ is None:
            self._kill_tree(directory)
            exit_ = Exit(code=-1, reason="its supervisor was killed or the machine restarted: exit code unknown")
        return Instance(
            name=name,
            driver=self.name,
            cluster_id=cluster_id,
            node_id=node_id,
            run=run,
            runtime_id=str(pids[2] or ""),
            state=state,
            exit=exit_ if state is InstanceState.EXITED else None,
        )

    def _kill_tree(self, directory: Path) -> None:
        """End what is left of a task whose supervisor is dead or hangs. Start times guard against reused pids."""
        shim, shim_start, child, child_start = _pids(directory)
        if child and process_shim.start_time(child) == child_start:
            with contextlib.suppress(OSError):
                os.killpg(child, signals.SIGKILL)
        if shim and process_shim.start_time(shim) == shim_start:
            for pid in [*process_shim.descendants(shim), shim]:
                with contextlib.suppress(OSError):
                    os.kill(pid, signals.SIGKILL)
        confinement.kill(_groups(directory))

    # ------------------------------------------------------------------------ noticing ends

    def _watch(self, instance: Instance) -> asyncio.Event:
        """An event that is set once the run has ended; the name goes to ``changes`` then."""
        event = self._watched.get(instance.name)
        if event is not None and (not event.is_set() or not instance.running):
            return event
        event = self._watched[instance.name] = asyncio.Event()
        if not instance.running:
            event.set()
            return event
        directory = self._root / instance.name
        loop = asyncio.get_running_loop()
        if self._use_pidfd:
            try:
                descriptor = os.pidfd_open(_pids(directory)[0])
            except OSError:
                descriptor = -1
            # Still locked after opening: the descriptor is the supervisor's, not a later process's.
            if descriptor >= 0 and _locked(directory / "lock"):
                self._pidfds[instance.name] = descriptor
                loop.add_reader(descriptor, self._on_end, instance.name, event)
                return event
            if descriptor >= 0:
                os.close(descriptor)
        task = loop.create_task(self._poll(instance.name, event))
        self._pollers.add(task)
        task.add_done_callback(self._pollers.discard)
        return event

    def _on_end(self, name: str, event: asyncio.Event) -> None:
        descriptor = self._pidfds.pop(name, -1)
        if descriptor >= 0:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        event.set()
        self._changed.put_nowait(name)

    async def _poll(self, name: str, event: asyncio.Event) -> None:
        while _locked(self._root / name / "lock"):
            await asyncio.sleep(POLL_S)
        self._on_end(name, event)


def _says(detail: str, *numbers: int) -> bool:
    """Whether the supervisor named one of these error numbers: ``No such file or directory [2]``."""
    return any(detail.endswith(f"[{number}]") for number in numbers)


def _host_id() -> str:
    """Equal for processes that share host ports: one boot of one machine, one network namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"host-{boot}-{Path('/proc/self/ns/net').stat().st_ino}"
    except OSError:
        return f"host-{uuid.getnode():x}"


def _pids(directory: Path) -> tuple[int, int, int, int]:
    """(shim, its start time, task, its start time); zeros while unknown."""
    try:
        numbers = [int(word) for word in (directory / "run").read_text().split()]
        return numbers[0], numbers[1], numbers[2], numbers[3]
    except (OSError, ValueError, IndexError):
        return 0, 0, 0, 0


def _exit(directory: Path) -> Exit | None:
    try:
        code, signal, ended_ms, *oom = (int(word) for word in (directory / "exit").read_text().split())
    except (OSError, ValueError):
        return None
    return Exit(code=code, signal=signal, ended_ms=ended_ms, oom_killed=any(oom))


def _groups(directory: Path) -> tuple[Path, ...]:
    """The directories of a run's control group, as they were when it started."""
    try:
        return tuple(Path(group) for group in json.loads((directory / "meta.json").read_bytes()).get("groups", ()))
    except (OSError, ValueError, AttributeError, TypeError):
        return ()


def _limits(spec: RunSpec) -> confinement.Limits:
    resources = spec.task.resources
    return confinement.Limits(memory_bytes=resources.memory_mib * MIB, cpu_millis=resources.cpu_millis, pids=PIDS_LIMIT)


def _locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _write_private(path: Path, content: bytes) -> None:
    new = path.with_name(path.name + ".new")  # not its suffix: names of runs have dots
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    new.rename(path)


def _signal_number(name: str) -> int:
    try:
        return int(signals.Signals[name.upper() if name.upper().startswith("SIG") else "SIG" + name.upper()])
    except KeyError:
        return int(signals.SIGTERM)


def _home(uid: int) -> dict[str, str]:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return {"HOME": "/"}
    return {"HOME": entry.pw_dir, "USER": entry.pw_name}


def _user(user: str) -> tuple[int, int, list[int]]:
    """(uid, gid, groups) of ``name`` or ``uid[:gid]``; -1 where nothing changes."""
    if not user:
        return -1, -1, []
    name, _, group = user.partition(":")
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        uid, gid, groups = entry.pw_uid, entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:
        if not name.isdigit():
            raise StartError(f"user {name!r} does not exist on this node", permanent=True) from None
        uid, gid, groups = int(name), int(name), []
    if group:
        if not group.isdigit():
            raise StartError(f"user {user!r}: write the group as a number", permanent=True)
        gid = int(group)
    if uid == os.geteuid() and (not group or gid == os.getegid()):
        return -1, -1, []
    if os.geteuid() != 0:
        raise StartError(
            f"task wants user {user!r}, but the agent runs as uid {os.geteuid()}: only root can switch users",
            permanent=True,
        )
    return uid, gid, groups
