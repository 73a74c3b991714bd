"""``OwnEngine``: a Docker engine that belongs to one drill, test or measurement, and may be killed, hung and restarted.

Owns: its containerd and dockerd, their directories, namespaces and control groups, and taking all of it back. Leaves
to others: talking to it (``engine``), what is done to it (``drill_engines``). The rule: the machine's own engine, its
network, its mounts and its control groups are never touched, and whatever ends is found by the control group that we
made for it, never by a name.

    ROOT/daemon.json  containerd.toml  docker.sock  dockerd.log  containerd.log  data/  exec/  containerd/
    /sys/fs/cgroup/[CONTROLLER/]raftsman-engine-XXXXXX/engine    dockerd, containerd and its shims
    /sys/fs/cgroup/[CONTROLLER/]raftsman-engine-XXXXXX/containers/ID  one container

containerd is a process of its own, as systemd runs it: a killed dockerd does not take it along. Both live in a mount
namespace of their own, so what they mount goes with them; in the network namespace of who starts them if that is one
already (``drill_namespaces``), else in one of their own, where published ports reach nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from orchestrator.contract.errors import StartupError, TimeoutError_
from orchestrator.ops import drill_namespaces
from orchestrator.ops.drill_tools import MissingError, tool
from orchestrator.ops.engine import Engine, EngineError
from orchestrator.ops.processes import ProcessId, end, gone, is_alive, last_lines, send, spawn

CGROUPS = Path("/sys/fs/cgroup")
START_S = 60.0
EMPTY_S = 20.0
POLL_S = 0.02
STOP_S = 30.0
"""A dockerd that is told to end gives its containers 10 s each, all at once, where it does not leave them running."""

_CONTAINERD = """\
version = 2
root = "{root}/containerd/root"
state = "{root}/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{root}/containerd/sock"
"""
_HOLDER = """
set -e
for file in {groups}; do echo $$ >"$file"; done
if [ -n "{own_network}" ]; then ip link set lo up; fi
mkdir -p /run/containerd
mount -t tmpfs none /run/containerd
mkdir -p {root}/data
if [ {data_mib} != 0 ]; then mount -t tmpfs -o size={data_mib}m none {root}/data; fi
exec {containerd} --config {root}/containerd.toml --log-level warn
"""
"""Shims put their sockets below /run/containerd whatever containerd's own directories are."""


class OwnEngine:
    """``live_restore``: containers go on while dockerd is down; without it the next dockerd ends them.

    ``data_mib``: its data is on a disk in memory of that size, 0: wherever ``root`` is. ``logs``: where its logs are,
    to outlive it; None: in ``root``. ``name``: of its control group; one that a process left behind which was killed
    can be stopped by it. ``settings``: more keys of ``daemon.json``.
    """

    def __init__(
        self,
        root: Path,
        *,
        live_restore: bool = True,
        data_mib: int = 0,
        logs: Path | None = None,
        name: str = "",
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.root = root
        self._more = dict(settings or {})
        self._logs = logs or root
        self._data_mib = data_mib
        self.live_restore = live_restore
        self.host = f"unix://{root}/docker.sock"
        self._group = name or f"raftsman-engine-{secrets.token_hex(4)}"
        self._containerd: ProcessId | None = None
        self._dockerd: ProcessId | None = None

    @property
    def group(self) -> str:
        """The control group that holds all of it, from the root of each hierarchy."""
        return f"/{self._group}"

    @property
    def pid(self) -> int:
        """Of dockerd; 0 while there is none."""
        return self._dockerd.pid if self._dockerd is not None and is_alive(self._dockerd) else 0

    # ------------------------------------------------------------------------ start and stop

    async def start(self) -> None:
        """Raises ``MissingError`` where this machine cannot have one, ``StartupError`` where it did not come up."""
        if os.geteuid() != 0:
            raise MissingError("an engine of its own needs root")
        containerd, _ = tool("containerd", "containerd"), tool("dockerd", "docker.io")
        tool("runc", "runc")
        groups = self._make_groups()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            (self.root / "containerd.toml").write_text(_CONTAINERD.format(root=self.root))
            (self.root / "daemon.json").write_text(json.dumps(self._settings(), indent=2))
            own_network = not drill_namespaces.inside("network")
            if own_network:
                tool("ip", "iproute2")
            script = _HOLDER.format(
                groups=" ".join(groups),
                own_network="1" if own_network else "",
                data_mib=self._data_mib,
                containerd=containerd,
                root=self.root,
            )
            unshare = [tool("unshare", "util-linux"), "--mount", *(["--net"] if own_network else [])]
            self._containerd = spawn([*unshare, tool("sh", "dash"), "-c", script], self._logs / "containerd.log")
            await self._until(self._containerd_answers, self._containerd, "containerd")
            await self.start_again()
        except BaseException:
            await self.stop()
            raise

    def _settings(self) -> dict[str, object]:
        return {
            "data-root": f"{self.root}/data",
            "exec-root": f"{self.root}/exec",
            "pidfile": f"{self.root}/dockerd.pid",
            "hosts": [self.host],
            "containerd": f"{self.root}/containerd/sock",
            "cgroup-parent": f"/{self._group}/containers",
            # The engine's id comes from this key: with the machine's, two engines would be taken for one.
            "deprecated-key-path": f"{self.root}/key.json",
            "iptables": False,
            "ip6tables": False,
            "live-restore": self.live_restore,
            "log-driver": "json-file",
            **self._more,
        }

    async def start_again(self) -> None:
        """dockerd, after ``kill`` or ``end``; returns when it answers. Raises ``StartupError``."""
        assert self._containerd is not None, "start() comes first"
        (self.root / "dockerd.pid").unlink(missing_ok=True)  # of a killed one: the number means another process now
        group = " ".join(self._group_files())
        script = (
            f'for file in {group}; do echo $$ >"$file"; done; '
            f"exec {tool('dockerd', 'docker.io')} --config-file {self.root}/daemon.json --log-level warn"
        )
        nsenter = [tool("nsenter", "util-linux"), "-t", str(self._containerd.pid), "-m", "-n"]
        self._dockerd = spawn([*nsenter, tool("sh", "dash"), "-c", script], self._logs / "dockerd.log")
        await self._until(self._dockerd_answers, self._dockerd, "dockerd")

    async def stop(self) -> None:
        """End all of it, its containers too, and remove everything that it made."""
        self._kill_all()
        deadline = time.monotonic() + EMPTY_S
        while not self._remove_groups():
            if time.monotonic() > deadline:
                raise TimeoutError_(f"processes of the engine in {self.root} do not end; see {self._group_files()}")
            self._kill_all()
            await asyncio.sleep(POLL_S)
        for process in (self._dockerd, self._containerd):
            if process is not None:
                await gone(process)
        self._dockerd = self._containerd = None
        await asyncio.to_thread(shutil.rmtree, self.root, ignore_errors=True)

    # ------------------------------------------------------------------------ what may happen to it

    async def kill(self) -> None:
        """SIGKILL dockerd; containerd and the containers are left as they are."""
        assert self._dockerd is not None
        send(self._dockerd, signal.SIGKILL)
        await gone(self._dockerd)

    async def end(self) -> None:
        """SIGTERM, as `systemctl stop docker` does."""
        assert self._dockerd is not None
        await end([self._dockerd], STOP_S)

    def pause(self) -> None:
        """SIGSTOP: it takes connections and answers nothing."""
        assert self._dockerd is not None
        send(self._dockerd, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._dockerd is not None
        send(self._dockerd, signal.SIGCONT)

    # ------------------------------------------------------------------------ inside

    async def _until(self, answers: Callable[[], Awaitable[bool]], process: ProcessId, what: str) -> None:
        deadline = time.monotonic() + START_S
        while not await answers():
            log = self._logs / f"{what}.log"
            if not is_alive(process):
                raise StartupError(f"{what} of the engine in {self.root} has ended: {last_lines(log, 5)}")
            if time.monotonic() > deadline:
                raise StartupError(f"{what} of the engine in {self.root} does not answer: {last_lines(log, 5)}")
            await asyncio.sleep(POLL_S)

    async def _containerd_answers(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(f"{self.root}/containerd/sock")
        except OSError:
            return False
        writer.close()
        return True

    async def _dockerd_answers(self) -> bool:
        async with Engine(self.host) as engine:
            try:
                await engine.version()
            except EngineError:
                return False
        return True

    def _group_files(self) -> list[str]:
        """Where a process joins the group of the engine: one file, or one per hierarchy of version 1 that counts."""
        if (CGROUPS / "cgroup.controllers").exists():
            return [str(CGROUPS / self._group / "engine" / "cgroup.procs")]
        return [str(CGROUPS / "pids" / self._group / "engine" / "cgroup.procs")]

    def _make_groups(self) -> list[str]:
        files = self._group_files()
        for file in files:
            try:
                Path(file).parent.mkdir(parents=True)
            except OSError as error:
                raise MissingError(f"an engine of its own needs control groups to write to: {error}") from None
        return files

    def _roots(self) -> list[Path]:
        return [path for path in (CGROUPS / self._group, *CGROUPS.glob(f"*/{self._group}")) if path.is_dir()]

    def _kill_all(self) -> None:
        for root in self._roots():
            # An engine that still runs makes and removes groups meanwhile: `walk` passes over what has gone.
            groups = [Path(directory) for directory, _, _ in os.walk(root)]
            for group in groups:  # a frozen process hears nothing, not even SIGKILL
                with contextlib.suppress(OSError):
                    if (group / "freezer.state").exists():
                        (group / "freezer.state").write_text("THAWED")
            for group in groups:
                with contextlib.suppress(OSError):
                    for pid in (group / "cgroup.procs").read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)

    def _remove_groups(self) -> bool:
        """False while some still hold a process."""
        for process in (self._dockerd, self._containerd):
            if process is not None:
                is_alive(process)  # reaps it
        for root in self._roots():
            for directory, _, _ in os.walk(root, topdown=False):
                with contextlib.suppress(OSError):
                    Path(directory).rmdir()
        return not self._roots()
