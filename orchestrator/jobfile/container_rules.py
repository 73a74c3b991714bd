"""Rules on what only containers have: images, networks, volumes, limits, files, logs.

Owns: these rules, for ``check``, and what is made equal before (``normal_container``). The rule: as there, it never
raises, whatever the spec; paths are those of a job file, where the settings stand beside the other keys of a task.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from orchestrator.contract import capabilities
from orchestrator.contract.containers import BRIDGE, HOST, KEPT_LOGS, NONE, container_settings, shares_network
from orchestrator.contract.model import ContainerSpec, GroupSpec, MountSpec, TaskRole, TaskSpec
from orchestrator.jobfile import limits

Path = tuple[str | int, ...]
Found = Iterator[tuple[Path, str]]
"""Where, and what is wrong."""

LOG_DRIVERS = (
    "json-file", "local", "none", "journald", "syslog", "fluentd", "gelf", "awslogs", "gcplogs", "splunk",
)  # fmt: skip
_KEPT_OPTIONS = ("max-size", "max-file")
_MAX_SIZE = re.compile(r"[1-9]\d{0,6}[kmg]")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:\d{1,5})?")
ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip
_OURS = "raftsman."
AGENTS = "/run/raftsman"
"""Where a container finds its agent."""
_HIDDEN = ("/proc", "/sys", "/dev")
"""Every container has its own mounted there when it starts."""
_ENGINES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
NearMiss = Callable[[str, tuple[str, ...]], str]


def normal_container(container: ContainerSpec | None) -> ContainerSpec | None:
    """Sorted, file modes set, and None where nothing was asked for."""
    if container is None:
        return None
    made = replace(
        container,
        labels=tuple(sorted(container.labels)),
        files=tuple(replace(file, mode=file.mode or 0o444) for file in container.files),
        logging=replace(container.logging, options=tuple(sorted(container.logging.options)))
        if container.logging is not None
        else None,
        cap_add=capabilities.normal(container.cap_add),
        cap_drop=capabilities.normal(container.cap_drop),
    )
    return None if made == ContainerSpec() else made


def normal_network(mode: str) -> str:
    return "" if mode == BRIDGE else mode


def group_rules(at: Path, group: GroupSpec) -> Found:
    yield from _network(at, group)
    roles = [task.role for task in group.tasks]
    if roles and TaskRole.MAIN not in roles:
        yield (*at, "tasks"), "a group needs a main task: 'init' tasks and sidecars are there for others"
    if shares_network(group):
        names = {task.container.hostname for task in group.tasks if task.container is not None}
        if len(names - {""}) > 1:
            yield (*at, "tasks"), "the containers of a group share a network and so a hostname: give them the same one"


def _network(at: Path, group: GroupSpec) -> Found:
    mode = group.network_mode
    if not mode:
        return
    here = (*at, "network_mode")
    if not _NETWORK.fullmatch(mode) or mode == "default":
        yield here, f"expected bridge, host, none or the name of a network of the node, got {_quoted(mode)}"
    elif all(task.driver_name == "process" for task in group.tasks):
        yield here, "processes are in the machine's own network: leave it out, or give the tasks images"
    elif mode == NONE and group.ports:
        yield (*at, "ports"), "with 'network_mode: none' nothing can listen: leave one of them out"
    elif mode == HOST:
        for number, port in enumerate(group.ports):
            if port.to and port.to != port.static:
                yield (
                    (*at, "ports", number),
                    f"with 'network_mode: host' no port leads into the container: say 'static: {port.to}', or leave "
                    f"'to: {port.to}' out and have the task listen on the port that RAFTSMAN_PORT_<LABEL> names",
                )


def task_rules(at: Path, task: TaskSpec, near: NearMiss) -> Found:
    asked = container_settings(task)
    if task.driver_name == "process" and asked:
        yield (
            (*at, *asked[0].split(".")),
            f"the process driver has no '{asked[0].split('.')[-1]}', for that takes a container: give the task an "
            "image, or leave it out",
        )
        return
    yield from _mounts((*at, "mounts"), task)
    container = task.container
    if container is None:
        return
    yield from _registry(at, container)
    yield from _limits(at, task, container, near)
    yield from _capabilities(at, task, container, near)
    yield from _files(at, task, container)
    yield from _logs((*at, "logging"), container, near)
    if container.hostname and (len(container.hostname) > 253 or not _HOSTNAME.fullmatch(container.hostname)):
        yield (*at, "hostname"), f"expected a host name such as 'web-1', got {_quoted(container.hostname)}"
    if len(container.labels) > limits.MAX_METADATA:
        yield (*at, "labels"), f"at most {limits.MAX_METADATA} labels, not {len(container.labels)}"
    for name, value in container.labels:
        if not name or len(name) > 253 or "\0" in name + value or len(value) > limits.MAX_TEXT:
            yield (
                (*at, "labels", name),
                f"expected a name of 1 to 253 characters, and at most {limits.MAX_TEXT} of text",
            )
        elif name.startswith(_OURS):
            yield (*at, "labels", name), f"labels beginning with {_OURS} are set by Raftsman itself"


# ---------------------------------------------------------------------------- volumes


def _mounts(at: Path, task: TaskSpec) -> Found:
    if len(task.mounts) > limits.MAX_MOUNTS:
        yield at, f"at most {limits.MAX_MOUNTS} volumes, not {len(task.mounts)}"
    targets: set[str] = set()
    for number, mount in enumerate(task.mounts):
        here = (*at, number)
        yield from _source(here, mount)
        if not is_absolute(mount.target) or mount.target == "/":
            yield (*here, "target"), f"expected an absolute path without '..', got {_quoted(mount.target)}"
        elif _is_within(mount.target, AGENTS):
            yield (*here, "target"), _OF_THE_AGENT
        elif ":" in mount.target or (mount.of_host and ":" in posixpath.join(mount.source, mount.sub_path)):
            yield (*here, "target"), "an engine cannot mount what has ':' in its path"
        if _plain(mount.target) in targets:
            yield (*here, "target"), f"'{_short(mount.target)}' is mounted twice"
        targets.add(_plain(mount.target))


_OF_THE_AGENT = f"{AGENTS} is where a container finds its agent"


def _is_within(path: str, folder: str) -> bool:
    """That folder, or a path below it."""
    return _plain(path) == folder or _plain(path).startswith(f"{folder}/")


def _plain(path: str) -> str:
    """The same, written in the one way in which two that are equal are equal."""
    return posixpath.normpath(f"/{path.lstrip('/')}")


def _source(here: Path, mount: MountSpec) -> Found:
    if mount.of_host:
        if not is_absolute(mount.source):
            yield (*here, "source"), f"expected an absolute path without '..', got {_quoted(mount.source)}"
    elif not _VOLUME.fullmatch(mount.source):
        yield (
            (*here, "source"),
            "expected the name of a volume (letters, digits, '_', '.', '-'; at most 63) or an absolute path on the "
            f"host, got {_quoted(mount.source)}",
        )
    sub = mount.sub_path
    if sub and (sub.startswith("/") or "\0" in sub or len(sub) > limits.MAX_TEXT or ".." in sub.split("/")):
        yield (*here, "sub_path"), f"expected a relative path without '..', got {_quoted(sub)}"


def is_absolute(path: str) -> bool:
    """Whether a path is absolute and stays below where it says."""
    return path.startswith("/") and "\0" not in path and len(path) <= limits.MAX_TEXT and ".." not in path.split("/")


# ---------------------------------------------------------------------------- images, limits


def _registry(at: Path, container: ContainerSpec) -> Found:
    auth = container.auth
    if auth is not None:
        here = (*at, "auth")
        if bool(auth.username) == bool(auth.username_variable):
            yield here, "expected exactly one of 'username' and 'username_variable'"
        if not auth.password_variable:
            yield here, "'password_variable' is missing: the variable that holds the password or token"
        for key in ("username_variable", "password_variable"):
            name = getattr(auth, key)
            if name and not limits.VARIABLE_NAME.fullmatch(name):
                yield (*here, key), f"expected {limits.VARIABLE_NAME_RULE}, got {_quoted(name)}"
        if len(auth.username) > 256 or "\0" in auth.username:
            yield (*here, "username"), "expected at most 256 characters"
        if auth.server and not _SERVER.fullmatch(auth.server):
            yield (*here, "server"), f"expected a registry such as 'ghcr.io', got {_quoted(auth.server)}"
    if len(container.env_files) > limits.MAX_ENV_FILES:
        yield (*at, "env_file"), f"at most {limits.MAX_ENV_FILES} variables, not {len(container.env_files)}"
    for number, name in enumerate(container.env_files):
        if not limits.VARIABLE_NAME.fullmatch(name):
            yield (
                (*at, "env_file", number),
                f"expected the name of a variable ({limits.VARIABLE_NAME_RULE}), got {_quoted(name)}; put the file "
                "into one with: raftsman var put NAME - < FILE",
            )


def _limits(at: Path, task: TaskSpec, container: ContainerSpec, near: NearMiss) -> Found:
    need = task.resources
    cpu, memory = container.cpu_max_millis, container.memory_max_mib
    if cpu and not need.cpu_millis <= cpu <= limits.MAX_CPU_MILLIS:
        yield (*at, "resources", "cpu_max"), "must be at least 'cpu'"
    if memory and not need.memory_mib <= memory <= limits.MAX_MEMORY_MIB:
        yield (*at, "resources", "memory_max"), "must be at least 'memory'"
    for key, value in (("pids_limit", container.pids_limit), ("shm_size", container.shm_size_mib)):
        most = limits.MAX_PIDS if key == "pids_limit" else limits.MAX_MEMORY_MIB
        if not 0 <= value <= most:
            yield (*at, key), f"must be from 1 to {most}, not {value}"
    seen: set[str] = set()
    for one in container.ulimits:
        here = (*at, "ulimits", one.name)
        if one.name not in ULIMITS:
            yield here, f"no such limit {_quoted(one.name)}{near(one.name, ULIMITS)}"
        elif one.name in seen:
            yield here, "is there twice"
        elif min(one.soft, one.hard) < -1:
            yield here, "must not be below 0; say unlimited for none"
        elif one.hard != -1 and (one.soft == -1 or one.soft > one.hard):
            yield here, f"the soft limit {one.soft} must not be above the hard limit {one.hard}"
        seen.add(one.name)


def _capabilities(at: Path, task: TaskSpec, container: ContainerSpec, near: NearMiss) -> Found:
    for key, names in (("cap_add", container.cap_add), ("cap_drop", container.cap_drop)):
        if names and task.privileged:
            yield (*at, key), "a privileged container has every capability: leave one of them out"
            return
        for number, name in enumerate(names):
            if name != capabilities.ALL and name not in capabilities.KNOWN:
                yield (*at, key, number), f"no such capability {_quoted(name)}{near(name, capabilities.KNOWN)}"
    both = sorted(set(container.cap_add) & set(container.cap_drop))
    if both:
        yield (*at, "cap_drop"), f"{both[0]} is in 'cap_add', too: leave one of them out"


# ---------------------------------------------------------------------------- files, logs


def _files(at: Path, task: TaskSpec, container: ContainerSpec) -> Found:
    if len(container.files) > limits.MAX_FILES:
        yield (*at, "files"), f"at most {limits.MAX_FILES} files, not {len(container.files)}"
    size = sum(len(file.content.encode("utf-8", "replace")) for file in container.files)
    if size > limits.MAX_FILES_BYTES:
        yield (*at, "files"), f"at most {limits.MAX_FILES_BYTES} bytes in all, not {size}"
    taken = {_plain(mount.target): "a volume" for mount in task.mounts}
    for number, one in enumerate(container.tmpfs):
        here = (*at, "tmpfs", number)
        if not is_absolute(one.target) or one.target == "/":
            yield here, f"expected an absolute path without '..', got {_quoted(one.target)}"
        elif _is_within(one.target, AGENTS):
            yield here, _OF_THE_AGENT
        elif _plain(one.target) in taken:
            yield here, f"'{_short(one.target)}' is mounted twice"
        if not 0 <= one.size_mib <= limits.MAX_MEMORY_MIB:
            yield here, f"its size must be from 0 to 1Pi, not {one.size_mib} MiB"
        if not 0 <= one.mode <= 0o7777:
            yield here, f"its mode must be from 0001 to 7777, not {one.mode:o}"
        for key, number in (("uid", one.uid), ("gid", one.gid)):
            if not 0 <= number < 2**31:
                yield here, f"its {key} must be from 0 to {2**31 - 1}, not {number}"
        taken[_plain(one.target)] = "a tmpfs"
    read_only = {_plain(mount.target) for mount in task.mounts if mount.read_only}
    seen: set[str] = set()
    for file in container.files:
        here = (*at, "files", file.target)
        around = _around(_plain(file.target), taken)
        if not is_absolute(file.target) or file.target.endswith("/"):
            yield here, f"expected an absolute path of a file without '..', got {_quoted(file.target)}"
        elif _plain(file.target) in seen:
            yield here, "is there twice"
        elif _is_within(file.target, AGENTS):
            yield here, _OF_THE_AGENT
        elif not around and any(_is_within(file.target, hidden) for hidden in (*_HIDDEN, *_ENGINES)):
            yield here, "would not be seen: when a container starts, the engine has its own there"
        elif taken.get(around) == "a tmpfs":
            yield here, f"lies in the tmpfs '{_short(around)}', which is empty when the container starts"
        elif around in read_only:
            yield here, f"lies in the volume '{_short(around)}', which is read-only"
        elif container.read_only and not around and _plain(file.target).count("/") < 2:
            yield here, "with 'read_only: true' a file needs a directory of its own, such as /etc/app/app.conf"
        if file.variable and not limits.VARIABLE_NAME.fullmatch(file.variable):
            yield here, f"expected {limits.VARIABLE_NAME_RULE}, got {_quoted(file.variable)}"
        if not 0 < file.mode <= 0o777:
            yield here, f"expected a file mode such as 0644, got {file.mode:o}"
        seen.add(_plain(file.target))


def _around(path: str, targets: dict[str, str]) -> str:
    """The longest of the mounted targets that the path lies in, or nothing."""
    inside = [target for target in targets if path.startswith(f"{target.rstrip('/')}/")]
    return max(inside, key=len, default="")


def _logs(here: Path, container: ContainerSpec, near: NearMiss) -> Found:
    logging = container.logging
    if logging is None:
        return
    if logging.driver not in LOG_DRIVERS:
        yield (*here, "driver"), f"no such log driver {_quoted(logging.driver)}{near(logging.driver, LOG_DRIVERS)}"
    elif logging.driver == "none" and logging.options:
        yield (*here, "options"), "the driver 'none' has no options"
    if len(logging.options) > limits.MAX_LOG_OPTIONS:
        yield (*here, "options"), f"at most {limits.MAX_LOG_OPTIONS} options, not {len(logging.options)}"
    for name, value in logging.options:
        at = (*here, "options", name)
        if len(name) > 128 or len(value) > limits.MAX_TEXT or "\0" in name + value:
            yield at, f"expected at most 128 characters, and {limits.MAX_TEXT} of text"
        elif logging.driver != KEPT_LOGS:
            continue
        elif name not in _KEPT_OPTIONS:
            yield at, f"json-file takes max-size and max-file{near(name, _KEPT_OPTIONS)}"
        elif name == "max-size" and not _MAX_SIZE.fullmatch(value):
            yield at, f"expected a size such as 10m, got {_quoted(value)}"
        elif name == "max-file" and not re.fullmatch(r"[1-9]\d{0,2}", value):
            yield at, f"expected a number of files from 1 to 999, got {_quoted(value)}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _quoted(text: str) -> str:
    return repr(_short(text))
