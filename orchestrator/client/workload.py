"""The workload kit: what a task says to the cluster, and what it is told. ``from raftsman import workload``.

    workload.ready()                       # now send me requests (a job may say `workload: {ready: true}`)
    workload.heartbeat()                   # I am alive (`workload: {heartbeat: 30s}`)
    workload.report_metrics(queue=3)       # seen in `raftsman workload web/0` and on the agent's /metrics
    port = workload.allocate_port()        # mine alone on this host, until I end
    stop = workload.shutdown_signal()      # heard before SIGTERM; from now on I may use my whole grace
    stop.wait()                            # or: await stop
    workload.graceful_shutdown()           # done: end me whenever you like

``workload.aio`` has the same calls as coroutines. Outside of a cluster everything works within this process: calls are
remembered and change nothing elsewhere, ports are found by trying, SIGTERM and SIGINT are the signal.

Owns: the words of Forge's kit, and the agent's endpoint as a task sees it (``RAFTSMAN_WORKLOAD_SOCKET``,
``RAFTSMAN_WORKLOAD_TOKEN``). Leaves to others: the agent's half (``agent/workload``). The rule: the standard library
alone and one file, so that a small image may have a copy of it. A call takes at most ``TIMEOUT_S``; saying something
(``ready``, ``heartbeat``, ``report_metrics``) never raises because nobody listens, it returns whether it was heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import math
import os
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any
from urllib.parse import quote

TIMEOUT_S = 5.0
WAIT_S = 30.0
AGAIN_S = 0.25
"""Who waits for the end comes back so soon to an agent that restarts: it gives who listened a second."""
PORT_RANGE = (10_000, 20_000)
"""Where ports are looked for when nothing is said; the end is not part of it."""
METRICS_MAX = 64
_METRIC = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")  # as agents judge it
_ANSWER_BYTES = 16 * 1024 * 1024


class WorkloadError(Exception):
    """The agent said no, or does not answer; the text says why. ``status`` is HTTP's, 0 = no answer."""

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class PortError(WorkloadError):
    """There is no such port to be had."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an instance of a service answers."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a task is told at its start. ``alloc_id`` "" outside of a cluster; ``ports`` by label as in the variable's
    name; ``services`` as they were at the start (``service`` asks for those of now)."""

    alloc_id: str = ""
    namespace: str = ""
    job: str = ""
    group: str = ""
    ordinal: int = 0
    count: int = 1
    attempt: int = 0
    restarts: int = 0
    task: str = ""
    node: str = ""
    node_address: str = ""
    api: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    devices: tuple[str, ...] = ()


def facts(environ: Mapping[str, str] | None = None) -> Facts:
    """The allocation that this process belongs to, from its environment."""
    env = os.environ if environ is None else environ

    def number(name: str, default: int) -> int:
        text = env.get(f"RAFTSMAN_{name}", "")
        return int(text) if text.isascii() and text.isdigit() else default

    def listed(name: str) -> tuple[str, ...]:
        return tuple(part for part in env.get(name, "").split(",") if part)

    def under(prefix: str) -> dict[str, str]:
        return {key.removeprefix(prefix).lower(): value for key, value in env.items() if key.startswith(prefix)}

    return Facts(
        alloc_id=env.get("RAFTSMAN_ALLOC_ID", ""),
        namespace=env.get("RAFTSMAN_NAMESPACE", ""),
        job=env.get("RAFTSMAN_JOB", ""),
        group=env.get("RAFTSMAN_GROUP", ""),
        ordinal=number("ORDINAL", 0),
        count=number("COUNT", 1),
        attempt=number("ATTEMPT", 0),
        restarts=number("RESTARTS", 0),
        task=env.get("RAFTSMAN_TASK_NAME", ""),
        node=env.get("RAFTSMAN_NODE", ""),
        node_address=env.get("RAFTSMAN_NODE_ADDRESS", ""),
        api=listed("RAFTSMAN_API"),
        ports={key: int(value) for key, value in under("RAFTSMAN_PORT_").items() if value.isdigit()},
        services={key: tuple(value.split(",")) for key, value in under("RAFTSMAN_SERVICE_").items() if value},
        devices=tuple(one for one in listed("NVIDIA_VISIBLE_DEVICES") if one != "void"),  # NVIDIA's word for none
    )


class Shutdown:
    """The wish that this task ends: from its agent, or by SIGTERM or SIGINT. Also awaitable."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._then: list[Callable[[], None]] = []
        self._deadline: float | None = None

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it comes; False after ``timeout`` seconds without it."""
        if timeout is not None:
            return self._event.wait(timeout)
        while not self._event.wait(1.0):  # a wait without end would hold signal handlers up on some systems
            pass
        return True

    @property
    def grace_s(self) -> float | None:
        """Seconds until this task is killed; None while that is unknown."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def __await__(self) -> Generator[Any, None, None]:
        return self._awaited().__await__()

    async def _awaited(self) -> None:
        loop = asyncio.get_running_loop()
        come = asyncio.Event()

        def then() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(come.set)

        with self._lock:
            if self._event.is_set():
                return
            self._then.append(then)
        await come.wait()

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self._then = []  # who waits in the parent's loops
        came, self._event = self._event.is_set(), threading.Event()
        if came:
            self._event.set()

    def _set(self, grace_s: float | None = None) -> None:
        if grace_s is not None:
            self._deadline = time.monotonic() + grace_s
        self._event.set()
        if self._lock.acquire(blocking=False):  # a signal handler may have come upon somebody who holds it
            try:
                waiting, self._then = self._then, []
            finally:
                self._lock.release()
            for then in waiting:
                then()
        else:
            threading.Thread(target=self._set, daemon=True).start()


class Workload:
    """One task's link with its agent. The module's functions are those of one that the environment describes."""

    def __init__(self, socket_path: str = "", token: str = "") -> None:
        self._socket_path = socket_path
        self._token = token
        self._lock = threading.Lock()
        self._ports: set[tuple[int, str]] = set()  # without an agent
        self._shutdown: Shutdown | None = None
        self._listening = 0  # the process that listens for it: a fork takes no thread along
        self._ready = False
        self.metrics: dict[str, float] = {}
        """What was reported last, by this process."""

    @classmethod
    def from_environment(cls) -> Workload:
        return cls(os.environ.get("RAFTSMAN_WORKLOAD_SOCKET", ""), os.environ.get("RAFTSMAN_WORKLOAD_TOKEN", ""))

    @property
    def connected(self) -> bool:
        """Whether there is an agent to speak to."""
        return bool(self._socket_path)

    @property
    def is_ready(self) -> bool:
        """What this process said last."""
        return self._ready

    # ------------------------------------------------------------------------ saying something

    def ready(self, ready: bool = True) -> bool:
        """This task can take work (or, with False, cannot). Idempotent. Whether it was heard."""
        self._ready = ready
        return self._say("POST", "ready", {"ready": ready})

    def not_ready(self) -> bool:
        """The same as ``ready(False)``."""
        return self.ready(False)

    def heartbeat(self) -> bool:
        """This task is alive. Say it at least twice as often as the job's ``heartbeat``. Whether it was heard."""
        return self._say("POST", "heartbeat", {})

    def report_metrics(self, metrics: Mapping[str, float] | None = None, /, **more: float) -> bool:
        """Numbers by name: the newest value of each is kept. Whether it was heard.

        Raises ``WorkloadError`` for what is no metric, or too many: at most 64 names, of letters, digits and ``_``. So
        it does outside of a cluster, where a mistake is found best.
        """
        reported = {**(metrics or {}), **more}
        for name, value in reported.items():
            _check_metric(name, value)
        if len(self.metrics.keys() | reported.keys()) > METRICS_MAX:
            raise WorkloadError(f"a task reports at most {METRICS_MAX} metrics", status=400)
        heard = self._say("POST", "metrics", reported)
        self.metrics.update(reported)
        return heard

    def graceful_shutdown(self) -> bool:
        """This task is done and may be ended: it gets no more work, its ports are free. Whether it was heard.

        Not a word about how it ends: leave your main function afterwards.
        """
        self._ready = False
        with self._lock:
            self._ports.clear()
        return self._say("POST", "shutdown", {"status": "done"})

    notify_shutdown = graceful_shutdown

    # ------------------------------------------------------------------------ being told to end

    def shutdown_signal(self, *, hold: bool = True, signals: bool = True) -> Shutdown:
        """The wish that this task ends, as soon as its agent has it: before the signal. The same object each time.

        ``hold``: ask for the whole grace, so that no signal comes before ``graceful_shutdown()`` or nearly the grace's
        end; without it the signal follows a second later. ``signals``: SIGTERM and SIGINT set it too, where this is
        called in the main thread; a handler that was there is called as well. A forked process that wants to hear of
        it before the signal asks itself.
        """
        with self._lock:
            if self._shutdown is not None and self._listening == os.getpid():
                return self._shutdown
            shutdown = self._shutdown = self._shutdown or Shutdown()
            self._listening = os.getpid()
        if signals and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._also(number, shutdown)
        if self.connected:
            listening = threading.Thread(
                target=self._listen, args=(shutdown, hold), name="raftsman-shutdown", daemon=True
            )
            listening.start()
        return shutdown

    @staticmethod
    def _also(number: signal.Signals, shutdown: Shutdown) -> None:
        before = signal.getsignal(number)

        def handle(got: int, frame: FrameType | None) -> None:
            shutdown._set()
            if callable(before) and before is not signal.default_int_handler:
                before(got, frame)

        signal.signal(number, handle)

    def _listen(self, shutdown: Shutdown, hold: bool) -> None:
        path = f"shutdown?wait={WAIT_S:g}" + ("&hold=true" if hold else "")
        while not shutdown.is_set():
            try:
                said = self._call("GET", path, timeout_s=WAIT_S + TIMEOUT_S)
            except WorkloadError as error:
                if error.status == 401:
                    return  # this run is no longer its allocation's
                time.sleep(AGAIN_S)  # the agent restarts
                continue
            if said.get("stopping"):
                shutdown._set(said.get("grace_s"))

    def _forked(self) -> None:
        """In the child: threads of the parent may have held these."""
        self._lock = threading.Lock()
        if self._shutdown is not None:
            self._shutdown._forked()

    # ------------------------------------------------------------------------ ports

    def allocate_port(self, ports: tuple[int, int] | range | int | None = None) -> int:
        """A TCP port of this host that is this task's until it ends, from a range whose end is not part of it, or that
        very one. Raises ``PortError``.

        In a container on a bridge network the port is not published: declare ports in the job, or use the host's
        network.
        """
        return self._allocate(ports, ("tcp",))

    def allocate_specific_port(self, port: int) -> int:
        """This one. Raises ``PortError``."""
        return self._allocate(port, ("tcp",))

    def allocate_udp_port(self, ports: tuple[int, int] | range | int | None = None) -> int:
        """Likewise, UDP."""
        return self._allocate(ports, ("udp",))

    def allocate_game_port(self, ports: tuple[int, int] | range | int | None = None) -> int:
        """Likewise, TCP and UDP under one number."""
        return self._allocate(ports, ("tcp", "udp"))

    def release_port(self, port: int) -> bool:
        """Give it back before the task ends, TCP and UDP. False: it was not this task's."""
        if self.connected:
            return bool(self._call("DELETE", f"ports/{port}").get("released"))
        with self._lock:
            mine = {one for one in self._ports if one[0] == port}
            self._ports -= mine
        return bool(mine)

    def _allocate(self, ports: tuple[int, int] | range | int | None, protocols: tuple[str, ...]) -> int:
        if isinstance(ports, int):
            first, end = ports, ports + 1
        elif isinstance(ports, range):
            if ports.step != 1:
                raise PortError(f"expected a range without steps, got {ports}")
            first, end = ports.start, ports.stop
        else:
            first, end = PORT_RANGE if ports is None else ports
        if not self.connected:
            return self._allocate_here(first, end, protocols)
        wanted = {"first": first, "end": end, "protocols": list(protocols)}
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                left_s = max(AGAIN_S, deadline - time.monotonic())
                return int(self._call("POST", "ports", wanted, timeout_s=left_s)["port"])
            except WorkloadError as error:
                if error.status or time.monotonic() + AGAIN_S >= deadline:
                    raise PortError(str(error), status=error.status) from None
            # The agent restarts. Had it granted one and not got to say which, that stays this task's until it ends.
            time.sleep(AGAIN_S)

    def _allocate_here(self, first: int, end: int, protocols: tuple[str, ...]) -> int:
        if not 1 <= first < end <= 65_536:
            raise PortError(
                f"expected a range such as 10000 to 20000 (the end is not part of it), got {first} to {end}"
            )
        candidates = list(range(first, end))
        start = random.randrange(len(candidates))
        with self._lock:
            for port in candidates[start:] + candidates[:start]:
                wanted = {(port, protocol) for protocol in protocols}
                if not wanted & self._ports and all(_bindable(port, protocol) for protocol in protocols):
                    self._ports |= wanted
                    return port
            if end - first == 1:
                taken = any((first, protocol) in self._ports for protocol in protocols)
                raise PortError(f"Port {first} already allocated" if taken else f"Port {first} unavailable")
        raise PortError(f"No available ports in range {first}-{end}")

    # ------------------------------------------------------------------------ others

    def service(self, name: str, namespace: str = "") -> list[Address]:
        """The ready instances of a service now. Empty: none is ready. Raises ``WorkloadError`` where nobody offers it,
        and where there is no agent and the environment names none."""
        if not self.connected:
            found = facts().services.get("".join(c if c.isalnum() else "_" for c in name.lower()))
            if found is None:
                raise WorkloadError(f"no agent to ask for service {name!r}, and RAFTSMAN_SERVICE_* does not name it")
            return [Address(host.strip("[]"), int(port)) for host, _, port in (one.rpartition(":") for one in found)]
        query = f"?namespace={quote(namespace, safe='')}" if namespace else ""
        answer = self._call("GET", f"services/{quote(name, safe='')}{query}")
        return [Address(one["address"], one["port"]) for one in answer["instances"]]

    # ------------------------------------------------------------------------ the link

    def _say(self, method: str, path: str, body: Mapping[str, Any]) -> bool:
        if not self.connected:
            return False
        try:
            self._call(method, path, body)
        except WorkloadError as error:
            if error.status == 400:
                raise
            return False
        return True

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> dict[str, Any]:
        try:
            data = json.dumps(body, allow_nan=True).encode() if body is not None else b""
        except (TypeError, ValueError) as error:
            raise WorkloadError(f"cannot be sent as JSON: {error}", status=400) from None
        head = (
            f"{method} /api/v1/{path} HTTP/1.1\r\nHost: agent\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        )
        try:
            raw = _exchange(self._socket_path, head.encode() + data, timeout_s)
            if not raw:
                raise ConnectionResetError("it closed the connection")
            top, _, content = raw.partition(b"\r\n\r\n")
            status = int(top.split(b" ", 2)[1])
            answer = json.loads(content)
        except OSError as error:
            raise WorkloadError(f"the agent does not answer at {self._socket_path}: {error}") from None
        except (ValueError, IndexError):
            raise WorkloadError(f"what answers at {self._socket_path} is no agent") from None
        if not isinstance(answer, dict):
            raise WorkloadError(f"what answers at {self._socket_path} is no agent")
        if status != 200:
            raise WorkloadError(str(answer.get("error", f"status {status}")), status=status)
        return answer


def _check_metric(name: object, value: object) -> None:
    if not isinstance(name, str) or not _METRIC.fullmatch(name):
        raise WorkloadError(
            f"metric {name!r:.80}: expected 1 to 64 letters, digits and '_', not beginning with a digit", status=400
        )
    try:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        raise WorkloadError(f"metric {name}: expected a number below 1.8e308", status=400) from None
    if not good:
        raise WorkloadError(f"metric {name}: expected a finite number, got {value!r:.80}", status=400)


def _exchange(path: str, request: bytes, timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout_s)
        link.connect(path)
        link.sendall(request)
        parts: list[bytes] = []
        size = 0
        while size < _ANSWER_BYTES:
            link.settimeout(max(0.001, deadline - time.monotonic()))
            part = link.recv(65_536)
            if not part:
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts)


def _bindable(port: int, protocol: str) -> bool:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if protocol == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
                return False
            raise
    return True


# ---------------------------------------------------------------------------- this process's own

_own: Workload | None = None
_own_lock = threading.Lock()


def current() -> Workload:
    """The workload that the environment describes; made on first use."""
    global _own
    with _own_lock:
        if _own is None:
            _own = Workload.from_environment()
        return _own


def _forked() -> None:
    global _own_lock
    _own_lock = threading.Lock()
    if _own is not None:
        _own._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def allocation() -> Facts:
    """The same as ``facts()``."""
    return facts()


def ready(ready: bool = True) -> bool:
    """See ``Workload.ready``; likewise those that follow."""
    return current().ready(ready)


def not_ready() -> bool:
    return current().not_ready()


def heartbeat() -> bool:
    return current().heartbeat()


def report_metrics(metrics: Mapping[str, float] | None = None, /, **more: float) -> bool:
    return current().report_metrics(metrics, **more)


def graceful_shutdown() -> bool:
    return current().graceful_shutdown()


notify_shutdown = graceful_shutdown


def shutdown_signal(*, hold: bool = True, signals: bool = True) -> Shutdown:
    return current().shutdown_signal(hold=hold, signals=signals)


def allocate_port(ports: tuple[int, int] | range | int | None = None) -> int:
    return current().allocate_port(ports)


def allocate_specific_port(port: int) -> int:
    return current().allocate_specific_port(port)


def allocate_udp_port(ports: tuple[int, int] | range | int | None = None) -> int:
    return current().allocate_udp_port(ports)


def allocate_game_port(ports: tuple[int, int] | range | int | None = None) -> int:
    return current().allocate_game_port(ports)


def release_port(port: int) -> bool:
    return current().release_port(port)


def service(name: str, namespace: str = "") -> list[Address]:
    return current().service(name, namespace)


class _Aio:
    """The same calls as coroutines, each in a thread: none of them holds up the loop."""

    @staticmethod
    async def ready(ready: bool = True) -> bool:
        return await asyncio.to_thread(current().ready, ready)

    @staticmethod
    async def not_ready() -> bool:
        return await asyncio.to_thread(current().not_ready)

    @staticmethod
    async def heartbeat() -> bool:
        return await asyncio.to_thread(current().heartbeat)

    @staticmethod
    async def report_metrics(metrics: Mapping[str, float] | None = None, /, **more: float) -> bool:
        return await asyncio.to_thread(current().report_metrics, metrics, **more)

    @staticmethod
    async def graceful_shutdown() -> bool:
        return await asyncio.to_thread(current().graceful_shutdown)

    notify_shutdown = graceful_shutdown

    @staticmethod
    async def shutdown_signal(*, hold: bool = True, signals: bool = True) -> Shutdown:
        return current().shutdown_signal(
            hold=hold, signals=signals
        )  # waits for nobody, and signals want the main thread

    @staticmethod
    async def allocate_port(ports: tuple[int, int] | range | int | None = None) -> int:
        return await asyncio.to_thread(current().allocate_port, ports)

    @staticmethod
    async def allocate_specific_port(port: int) -> int:
        return await asyncio.to_thread(current().allocate_specific_port, port)

    @staticmethod
    async def allocate_udp_port(ports: tuple[int, int] | range | int | None = None) -> int:
        return await asyncio.to_thread(current().allocate_udp_port, ports)

    @staticmethod
    async def allocate_game_port(ports: tuple[int, int] | range | int | None = None) -> int:
        return await asyncio.to_thread(current().allocate_game_port, ports)

    @staticmethod
    async def release_port(port: int) -> bool:
        return await asyncio.to_thread(current().release_port, port)

    @staticmethod
    async def service(name: str, namespace: str = "") -> list[Address]:
        return await asyncio.to_thread(current().service, name, namespace)


aio = _Aio()
