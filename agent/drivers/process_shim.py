"""One tiny process beside every task of the process driver: starts it, keeps its output, records how it ended.

Owns: the task's process tree, its log files and ``exit`` file in the run directory. Leaves to others: what to run and
what an exit means. It outlives the agent on purpose, so a restarted agent finds the task untouched and still learns its
exit code. The rule: run by path with ``python -I -S`` and import next to nothing: this memory is paid per task.

Where the machine has control groups the driver has made one for the task: the task enters it before its program begins,
and it is emptied and removed at the end. The shim stays outside, so that it survives a task that is out of memory.

Files in the run directory: ``spec`` (read), ``lock`` (held by flock for as long as the shim lives), ``run`` (pids and
start times, written once the task runs), ``stop`` (read on SIGUSR1), ``exit`` (code, signal, time, whether memory ran
out; written last), ``log.<offset>``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CHUNK = 65536
TIMED = 0x10
"""Beside the stream's number: eight bytes follow the length, the time of writing in unix milliseconds."""
DRAIN_S = 2.0


def main(directory: str) -> None:
    # Whatever the agent's loop left open would keep its pipes and sockets alive for as long as the task.
    os.closerange(3, 1 << 20)
    os.chdir(directory)
    lock = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _say(1, b"error another supervisor holds this run")
        os._exit(1)
    reader, writer = os.pipe()
    if os.fork():
        # The launcher: it ends as soon as the outcome is known; the agent waits only for it.
        os.close(writer)
        answer = b""
        while piece := os.read(reader, CHUNK):
            answer += piece
        _say(1, answer)
        os._exit(0)
    os.close(reader)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    Shim(Spec.read("spec"), writer).run()


def _say(fd: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, data)


class Spec:
    """``key=value`` records, each ended by NUL (no argument, variable or path can contain one)."""

    def __init__(self) -> None:
        self.argv: list[str] = []
        self.env: dict[str, str] = {}
        self.cwd = "/"
        self.uid = self.gid = -1
        self.groups: list[int] = []
        self.cgroups: list[str] = []
        self.data_bytes = 0
        self.log_bytes = 10 << 20
        self.log_files = 3

    @classmethod
    def read(cls, path: str) -> Spec:
        spec = cls()
        with open(path, "rb") as file:
            records = file.read().decode("utf-8", "surrogateescape").split("\0")
        for record in records:
            key, _, value = record.partition("=")
            if key == "arg":
                spec.argv.append(value)
            elif key == "env":
                name, _, content = value.partition("=")
                spec.env[name] = content
            elif key == "cwd":
                spec.cwd = value
            elif key == "cgroup":
                spec.cgroups.append(value)
            elif key == "groups":
                spec.groups = [int(group) for group in value.split(",") if group]
            elif key in ("uid", "gid", "data_bytes", "log_bytes", "log_files"):
                setattr(spec, key, int(value))
        return spec


class Shim:
    def __init__(self, spec: Spec, answer: int) -> None:
        self.spec = spec
        self.answer = answer
        self.child = 0
        self.status: int | None = None
        self.kill_at: float | None = None
        self.log = LogFiles(spec.log_bytes, spec.log_files)

    def run(self) -> None:
        wake_r, wake_w = os.pipe()
        os.set_blocking(wake_w, False)
        os.set_blocking(wake_r, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        for handled in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM):
            signal.signal(handled, lambda _number, _frame: None)
        for ignored in (signal.SIGHUP, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        outputs = self.spawn()
        write_file("run", f"{os.getpid()} {start_time(os.getpid())} {self.child} {start_time(self.child)}\n")
        _say(self.answer, f"ok {os.getpid()}".encode())
        os.close(self.answer)
        poll = select.poll()
        for fd in outputs:
            poll.register(fd, select.POLLIN | select.POLLHUP)
        poll.register(wake_r, select.POLLIN)
        while self.status is None:
            for fd, _ in poll.poll(self.patience()):
                if fd == wake_r:
                    self.signalled(os.read(wake_r, CHUNK))
                elif not self.copy(fd, outputs):
                    poll.unregister(fd)
                    del outputs[fd]
            if self.kill_at is not None and time.monotonic() >= self.kill_at:
                self.kill_tree()
                self.kill_at = time.monotonic() + 1.0
        ended_ms = int(time.time() * 1000)
        # A task ends with its first process, as a container does: whatever it left behind goes too.
        self.kill_tree()
        self.drain(outputs)
        number = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0
        code = 128 + number if number else os.WEXITSTATUS(self.status)
        oom = int(bool(code) and out_of_memory(self.spec.cgroups))
        write_file("exit", f"{code} {number} {ended_ms} {oom}\n")
        for group in self.spec.cgroups:
            with contextlib.suppress(OSError):
                os.rmdir(group)  # noqa: PTH106 (pathlib would be paid for by every task)
        os._exit(0)

    def patience(self) -> float | None:
        return None if self.kill_at is None else max(0.0, self.kill_at - time.monotonic()) * 1000

    def spawn(self) -> dict[int, int]:
        """Start the task; returns {descriptor to read: 1 for stdout, 2 for stderr}. Exits if it cannot run."""
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        fail_r, fail_w = os.pipe()
        self.child = os.fork()
        if not self.child:
            try:
                self.become_task(out_w, err_w)
            except OSError as error:
                _say(fail_w, f"{error.strerror} [{error.errno}]".encode())
            except BaseException as error:
                _say(fail_w, str(error).encode() or b"unknown")
            os._exit(127)
        for fd in (out_w, err_w, fail_w):
            os.close(fd)
        failure = b""
        while piece := os.read(fail_r, CHUNK):
            failure += piece
        os.close(fail_r)
        if failure:
            os.waitpid(self.child, 0)
            _say(self.answer, b"error " + failure)
            os._exit(1)
        return {out_r: 1, err_r: 2}

    def become_task(self, out: int, err: int) -> None:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        signal.set_wakeup_fd(-1)
        for default in (
            signal.SIGPIPE,
            signal.SIGXFSZ,
            signal.SIGHUP,
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGCHLD,
            signal.SIGUSR1,
        ):
            signal.signal(default, signal.SIG_DFL)
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            # Short of memory, the kernel should take a task before the agent or a peer.
            file.write("500")
        spec = self.spec
        for group in spec.cgroups:
            try:
                with open(group + "/cgroup.procs", "w") as file:
                    file.write("0")
            except OSError as error:
                raise RuntimeError(f"cannot enter control group {group}: {error.strerror}") from error
        if spec.data_bytes:
            resource.setrlimit(resource.RLIMIT_DATA, (spec.data_bytes, spec.data_bytes))
        try:
            os.chdir(spec.cwd)
        except OSError as error:
            raise OSError(error.errno, f"its working directory {spec.cwd}: {error.strerror}") from error
        os.get_exec_path(spec.env)  # imports what execvpe needs while the library can still be read
        if spec.gid >= 0:
            os.setgroups(spec.groups)
            os.setgid(spec.gid)
        if spec.uid >= 0:
            os.setuid(spec.uid)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.execvpe(spec.argv[0], spec.argv, spec.env)

    def signalled(self, numbers: bytes) -> None:
        if signal.SIGUSR1 in numbers:
            with contextlib.suppress(OSError, ValueError), open("stop", "rb") as file:
                number, timeout_ms = file.read().split()
                self.stop(int(number), int(timeout_ms) / 1000)
        if signal.SIGTERM in numbers:
            self.stop(signal.SIGTERM, 10.0)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                if pid == self.child:
                    self.status = status

    def stop(self, number: int, timeout_s: float) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self.child, number)
        kill_at = time.monotonic() + timeout_s
        self.kill_at = kill_at if self.kill_at is None else min(kill_at, self.kill_at)

    def kill_tree(self) -> None:
        # The group first; then what left it. A few rounds, since a tree may grow while it is being read.
        if self.status is None:
            with contextlib.suppress(OSError):
                os.killpg(self.child, signal.SIGKILL)
        for _ in range(10):
            left = {*descendants(os.getpid()), *members(self.spec.cgroups)}
            if not left:
                return
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self.signalled(b"")
            time.sleep(0.01)

    def copy(self, fd: int, outputs: dict[int, int]) -> bool:
        try:
            data = os.read(fd, CHUNK)
        except OSError:
            data = b""
        if data:
            self.log.write(outputs[fd], data)
            return True
        os.close(fd)
        return False

    def drain(self, outputs: dict[int, int]) -> None:
        until = time.monotonic() + DRAIN_S
        while outputs and time.monotonic() < until:
            ready, _, _ = select.select(list(outputs), [], [], 0.1)
            for fd in ready:
                if not self.copy(fd, outputs):
                    del outputs[fd]


class LogFiles:
    """Output of both streams in order: frames of (stream, length, time, bytes) in files named by their first offset."""

    def __init__(self, limit: int, files: int) -> None:
        self.limit = limit
        self.files = files
        self.offset = 0
        self.names: list[str] = []
        self.fd = -1
        self.size = 0

    def write(self, stream: int, data: bytes) -> None:
        for at in range(0, len(data), self.limit):  # however much came at once, a file stays near its limit
            self.frame(stream, data[at : at + self.limit])

    def frame(self, stream: int, data: bytes) -> None:
        now_ms = int(time.time() * 1000)
        frame = bytes((stream | TIMED,)) + len(data).to_bytes(4, "big") + now_ms.to_bytes(8, "big") + data
        try:
            if self.fd < 0 or self.size >= self.limit:
                self.rotate()
            written = os.write(self.fd, frame)
            if written == len(frame):
                self.size += written
                self.offset += len(data)
            else:
                os.ftruncate(self.fd, self.size)  # a full disk loses output, never the task
        except OSError:
            return

    def rotate(self) -> None:
        name = f"log.{self.offset:020d}"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.size = fd, 0
        self.names.append(name)
        while len(self.names) > self.files:
            with contextlib.suppress(OSError):
                os.unlink(self.names.pop(0))  # noqa: PTH108 (pathlib would be paid for by every task)


def write_file(name: str, content: str) -> None:
    with open(name + ".new", "w") as file:
        file.write(content)
    os.rename(name + ".new", name)  # noqa: PTH104


def start_time(pid: int) -> int:
    """Clock ticks after boot at which the process started; tells it from a later one with its number. 0: unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return 0


def members(cgroups: list[str]) -> list[int]:
    """Every process in these control groups; those that left the tree are in there still."""
    found: set[int] = set()
    for group in cgroups:
        with contextlib.suppress(OSError, ValueError), open(group + "/cgroup.procs", "rb") as file:
            found.update(int(pid) for pid in file.read().split())
    return sorted(found - {0})


def out_of_memory(cgroups: list[str]) -> bool:
    """Whether the kernel ended a process of these groups for want of memory."""
    for group in cgroups:
        for name in ("memory.events", "memory.oom_control"):  # v2, v1
            with contextlib.suppress(OSError, ValueError), open(f"{group}/{name}") as file:
                for line in file:
                    word, _, count = line.partition(" ")
                    if word == "oom_kill" and int(count):
                        return True
    return False


def descendants(pid: int) -> list[int]:
    """Every process below ``pid`` that is not yet a zombie."""
    children: dict[int, list[int]] = {}
    zombies = set()
    try:
        entries = os.listdir("/proc")  # noqa: PTH208
    except OSError:
        return []
    for entry in entries:
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
            if fields[0] == b"Z":
                zombies.add(int(entry))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found.extend(below)
        queue.extend(below)
    return [one for one in found if one not in zombies]


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        try:
            import ctypes

            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
        except (ImportError, OSError, AttributeError):
            return


if __name__ == "__main__":
    main(sys.argv[1])
