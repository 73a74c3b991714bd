"""Becomes a command inside a task of the process driver: its environment, directory, user and control groups.

Owns: what happens between the agent's ``spawn`` and the command. Leaves to others: pipes, terminals and the end
(``process_hands``). The rule: run by path with ``python -I -S``, in a session of its own, and gone with ``exec``; if
the agent dies, the kernel kills it.

Arguments: the run directory, the pid of the task, TERM ("" : no terminal), the command.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import termios

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import process_shim  # type: ignore[import-not-found]

NOT_FOUND = 127
NOT_RUN = 126


def main(directory: str, task: int, term: str, argv: list[str]) -> None:
    agent = os.getppid()
    spec = process_shim.Spec.read(os.path.join(directory, "spec"))  # noqa: PTH118
    _join_groups(task)
    env = dict(spec.env)
    if term:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        env["TERM"] = term
    for default in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(default, signal.SIG_DFL)
    try:
        os.chdir(spec.cwd)
        os.get_exec_path(env)  # imports what execvpe needs while the library can still be read
        if spec.gid >= 0:
            os.setgroups(spec.groups)
            os.setgid(spec.gid)
        if spec.uid >= 0:
            os.setuid(spec.uid)
        process_shim.prctl(process_shim.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != agent:
            os._exit(137)
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(2, f"cannot run {argv[0]!r}: {error.strerror}\n".encode("utf-8", "surrogateescape"))
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN)


def _join_groups(task: int) -> None:
    """The task's control groups, wherever the agent may write them: its limits hold for the command, too."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{task}/cgroup") as file:
            lines = file.read().splitlines()
        with open("/proc/self/cgroup") as file:
            own = set(file.read().splitlines())
        for line in lines:
            if line not in own:
                _, controllers, path = line.split(":", 2)
                base = "/sys/fs/cgroup" + (f"/{controllers.removeprefix('name=')}" if controllers else "")
                with contextlib.suppress(OSError), open(f"{base}{path}/cgroup.procs", "w") as procs:
                    procs.write(str(os.getpid()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
