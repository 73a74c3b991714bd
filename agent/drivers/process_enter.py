"""Runs a command inside a task of the process driver: its environment, directory, user and control groups.

Owns: the command's process tree, which ends with the command, with the session, and when the agent dies. Leaves to
others: pipes, terminals and what the end means (``process_hands``). The rule: run by path with ``python -I -S``; it
stays beside the command as the one to which orphans come, and lives as long as somebody holds the other end of its
lifeline.

Arguments: the run directory, the descriptor of the lifeline, TERM ("": no terminal), the command.
It exits with the command's code (128 + signal, as a shell says it).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import sys
import termios
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import process_shim  # type: ignore[import-not-found]

NOT_FOUND = 127
NOT_RUN = 126
KILLED = 137
HANG_UP_S = 0.5
"""Between the request to end and the kill."""
PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCONT", "SIGTSTP")


def main(directory: str, lifeline: int, term: str, argv: list[str]) -> None:
    spec = process_shim.Spec.read(os.path.join(directory, "spec"))  # noqa: PTH118
    _join_groups(spec.cgroups)
    process_shim.prctl(process_shim.PR_SET_CHILD_SUBREAPER, 1)
    wake_r, wake_w = os.pipe()
    for end in (wake_r, wake_w):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    child = os.fork()
    if not child:
        try:
            _become(spec, term, argv)
        except OSError as error:
            os.write(2, f"cannot run {argv[0]!r}: {error.strerror}\n".encode("utf-8", "surrogateescape"))
            os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)  # the command's ends are its own, so that their end is its end
    for name in PASSED_ON:
        signal.signal(getattr(signal, name), lambda number, _frame: _pass_on(child, number))
    os._exit(_stay(child, lifeline, wake_r))


def _become(spec: process_shim.Spec, term: str, argv: list[str]) -> None:
    signal.set_wakeup_fd(-1)
    os.setsid()
    env = dict(spec.env)
    if term:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        env["TERM"] = term
    for name in ("SIGPIPE", "SIGXFSZ", "SIGCHLD", *PASSED_ON):
        signal.signal(getattr(signal, name), signal.SIG_DFL)  # whatever the agent was started with
    if spec.data_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (spec.data_bytes, spec.data_bytes))
    os.chdir(spec.cwd)
    os.get_exec_path(env)  # imports what execvpe needs while the library can still be read
    if spec.gid >= 0:
        os.setgroups(spec.groups)
        os.setgid(spec.gid)
    if spec.uid >= 0:
        os.setuid(spec.uid)
    os.closerange(3, 1 << 16)
    os.execvpe(argv[0], argv, env)


def _pass_on(child: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(child, number)


def _stay(child: int, lifeline: int, wake: int) -> int:
    """Until the command has ended, or must; its code. Nothing of it is left then."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.register(lifeline, select.POLLIN | select.POLLHUP)
    kill_at = 0.0
    status: int | None = None
    while status is None:
        patience = max(0.0, kill_at - time.monotonic()) * 1000 if kill_at else None
        ready = [fd for fd, _ in poll.poll(patience)]
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        if lifeline in ready and not kill_at:
            poll.unregister(lifeline)
            _pass_on(child, signal.SIGHUP)
            kill_at = time.monotonic() + HANG_UP_S
        if kill_at and time.monotonic() >= kill_at:
            _pass_on(child, signal.SIGKILL)
        status = _reap(child)
    for _ in range(20):
        left = process_shim.descendants(os.getpid())
        if not left:
            break
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        _reap(0)
        time.sleep(0.01)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _reap(child: int) -> int | None:
    """The status of ``child``, if it has ended; orphans that came here are buried."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == child:
                found = status
    return found


def _join_groups(groups: list[str]) -> None:
    """The task's control groups: its limits hold for the command, too, and its end is the command's."""
    for group in groups:
        with contextlib.suppress(OSError), open(f"{group}/cgroup.procs", "w") as procs:
            procs.write(str(os.getpid()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
