"""Keys of a job file that only containers have, and how a spec is written in them.

Owns: these keys both ways, with Compose's and Nomad's words. Leaves to others: rules on values (``container_rules``).
The rule: each has a short form for the common case and a mapping for the rest; what is not said is not in the spec.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from orchestrator.contract import capabilities
from orchestrator.contract import model as nouns
from orchestrator.jobfile import limits, units
from orchestrator.jobfile.leaves import (
    Keys,
    Memory,
    Or,
    Text,
    TextList,
    TextMap,
    Truth,
    Whole,
    word,
)
from orchestrator.jobfile.tree import text_of

PULL_POLICIES = {policy.name.lower(): policy for policy in nouns.PullPolicy}
ROLES = {role.name.lower(): role for role in nouns.TaskRole}
PullPolicy = Annotated[nouns.PullPolicy, *word(PULL_POLICIES)]
Role = Annotated[nouns.TaskRole, *word(ROLES)]
UNLIMITED = -1


# ---------------------------------------------------------------------------- volumes


def volume(value: object) -> object:
    """``data:/data``, ``/data:/data:rw``, or a mapping."""
    if isinstance(value, dict):
        return value
    parts = value.split(":") if isinstance(value, str) else []
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise ValueError(
            "expected a volume such as 'data:/path' (a volume of the node), '/host/path:/path' or "
            f"'/host/path:/path:rw', got {units.shown(value)}"
        )
    made: dict[str, object] = {"source": parts[0], "target": parts[1]}
    if len(parts) == 3:
        made["read_only"] = parts[2] == "ro"
    return made


class Volume(Keys):
    source: Text = Field(description="Name of a volume of the node, or an absolute path on the host.")
    target: Text = Field(description="Absolute path in the container.")
    read_only: Truth | None = Field(default=None, description="Left out: true for host paths, false for volumes.")
    sub_path: Text = Field(default="", description="A directory within the source, made if it is missing.")

    def build(self) -> nouns.MountSpec:
        of_host = self.source.startswith("/")
        return nouns.MountSpec(
            source=self.source,
            target=self.target,
            read_only=of_host if self.read_only is None else self.read_only,
            sub_path=self.sub_path,
        )


Volumes = list[Annotated[Volume, BeforeValidator(volume), Or({"type": "string"})]]


# ---------------------------------------------------------------------------- registry, limits, files, logs


class Auth(Keys):
    username: Text = Field(default="", description="For the image's registry.")
    username_variable: Text = Field(default="", description="Or the variable that holds it.")
    password_variable: Text = Field(description="Variable that holds the password or token.")
    server: Text = Field(default="", description="Registry; that of the image when left out.")

    def build(self) -> nouns.RegistryAuth:
        return nouns.RegistryAuth(
            username=self.username,
            username_variable=self.username_variable,
            password_variable=self.password_variable,
            server=self.server,
        )


def _auth(value: object) -> object:
    if isinstance(value, dict) and "password" in value:
        raise ValueError(
            "a password does not belong in a job file: put it into a variable (raftsman var put NAME VALUE), and say "
            "'password_variable: NAME'"
        )
    return value


_BOUND = re.compile(r"-?\d{1,18}")


def _ulimit(value: object) -> tuple[int, int]:
    """``1024``, ``1024:4096``, ``unlimited`` or ``{soft, hard}``."""
    if isinstance(value, dict):
        extra = sorted(str(key) for key in value if key not in ("soft", "hard"))
        if extra or len(value) != 2:
            raise ValueError(f"expected 'soft' and 'hard'{f', got {extra[0]!r}' if extra else ''}")
        parts = [text_of(value["soft"]), text_of(value["hard"])]
    elif isinstance(value, (str, int)) and not isinstance(value, bool):
        parts = text_of(value).split(":")
    else:
        parts = []
    numbers = [UNLIMITED if part == "unlimited" else int(part) for part in parts if _is_bound(part)]
    if not parts or len(parts) > 2 or len(numbers) != len(parts):
        raise ValueError(
            f"expected a limit such as 65536, '1024:4096' (soft:hard) or unlimited, got {units.shown(value)}"
        )
    return numbers[0], numbers[-1]


def _is_bound(text: str) -> bool:
    return text == "unlimited" or bool(_BOUND.fullmatch(text))


def _mode(digits: str, example: str) -> Callable[[object], int]:
    def read(value: object) -> int:
        text = text_of(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        if not re.fullmatch(digits, text):
            raise ValueError(f"expected a file mode such as {example}, got {units.shown(value)}")
        return int(text, 8)

    return read


def _mode_schema(example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "integer"], "examples": [example]})


FileMode = Annotated[int, PlainValidator(_mode("0?[0-7]{3}", "0644")), _mode_schema("0644")]
TmpfsMode = Annotated[int, PlainValidator(_mode("0?[0-7]{3}|0?[1-7][0-7]{3}", "0750 or 1777")), _mode_schema("0750")]

_ULIMIT_SCHEMA = {
    "anyOf": [
        {"type": ["integer", "string"], "examples": [65536, "1024:4096", "unlimited"]},
        {"type": "object", "properties": {"soft": {"type": "integer"}, "hard": {"type": "integer"}}},
    ]
}
UlimitValue = Annotated[tuple[int, int], PlainValidator(_ulimit), WithJsonSchema(_ULIMIT_SCHEMA)]


_TMPFS_OPTIONS = ("size", "mode", "uid", "gid")


def _tmpfs(value: object) -> object:
    """``/run``, ``/run:size=64Mi,mode=0750,uid=1000,gid=1000``, or a mapping."""
    if isinstance(value, dict):
        return value
    target, colon, options = value.partition(":") if isinstance(value, str) else ("", "", "")
    made: dict[str, object] = {"target": target}
    for option in options.split(",") if colon else ():
        key, equals, said = option.partition("=")
        if not equals or key not in _TMPFS_OPTIONS or key in made:
            target = ""
        made[key] = int(said) if key in ("uid", "gid") and said.isascii() and said.isdigit() else said
    if not target:
        raise ValueError(f"expected a tmpfs such as '/run' or '/run:size=64Mi,mode=0750', got {units.shown(value)}")
    return made


class Tmpfs(Keys):
    target: Text = Field(description="Absolute path in the container.")
    size: Memory = Field(default=0, description="With its unit; bounded by the container's memory when left out.")
    mode: TmpfsMode = Field(default=0, description="Octal; 1777 when left out.")
    uid: Whole = Field(default=0, description="Whose the directory is, by number.")
    gid: Whole = Field(default=0, description="Which group's the directory is, by number.")

    def build(self) -> nouns.TmpfsSpec:
        return nouns.TmpfsSpec(target=self.target, size_mib=self.size, mode=self.mode, uid=self.uid, gid=self.gid)


def _one_or_many(value: object) -> object:
    return value if isinstance(value, list) else [value]


Tmpfses = Annotated[
    list[Annotated[Tmpfs, BeforeValidator(_tmpfs), Or({"type": "string", "examples": ["/run:size=64Mi,mode=0750"]})]],
    BeforeValidator(_one_or_many),
]


class Logging(Keys):
    driver: Text = Field(default="json-file", description="Only json-file keeps output for raftsman logs.")
    options: TextMap = Field(default={}, description="As the engine names them; json-file: max-size, max-file.")

    def build(self) -> nouns.LogSpec:
        return nouns.LogSpec(driver=self.driver, options=tuple(sorted(self.options.items())))


def _logging(value: object) -> object:
    """``none`` means ``{driver: none}``."""
    return {"driver": value} if isinstance(value, str) else value


class File(Keys):
    content: Text | None = Field(default=None, description="Its text; or:")
    variable: Text | None = Field(default=None, description="the variable that holds its text.")
    mode: FileMode = Field(default=0o444, description="Octal.")

    def build(self, target: str) -> nouns.FileSpec:
        return nouns.FileSpec(target=target, content=self.content or "", variable=self.variable or "", mode=self.mode)


def _file(value: object) -> object:
    """Text means ``{content: text}``."""
    if not isinstance(value, dict):
        return {"content": value}
    if ("content" in value) == ("variable" in value):
        raise ValueError("expected exactly one of 'content' and 'variable'")
    return value


Files = dict[Text, Annotated[File, BeforeValidator(_file), Or({"type": "string"})]]


class ContainerKeys(Keys):
    """Keys of a task that only a container has."""

    pull_policy: PullPolicy = Field(
        default_factory=lambda: nouns.PullPolicy.MISSING,
        description="missing, always (asked of the registry once per version) or never.",
    )
    auth: Annotated[Auth, BeforeValidator(_auth)] | None = Field(default=None, description="For the image's registry.")
    env_file: TextList = Field(default=[], description="Variables of the cluster that hold lines NAME=value.")
    hostname: Text = Field(default="", description="Name of the container for itself.")
    labels: TextMap = Field(default={}, description="Labels of the container.")
    init: Truth = Field(default=True, description="An init that reaps and forwards signals runs first.")
    pids_limit: Whole = Field(default=0, ge=0, description=f"Processes; {limits.DEFAULT_PIDS} when left out.")
    ulimits: dict[Text, UlimitValue] = Field(default={}, description="Name: limit, or soft:hard.")
    shm_size: Memory = Field(default=0, description="Of /dev/shm, with its unit; the engine's 64Mi when left out.")
    read_only: Truth = Field(default=False, description="The container's own files cannot be written.")
    tmpfs: Tmpfses = Field(default=[], description="Paths in memory: target[:size=...,mode=...,uid=...,gid=...].")
    logging: Annotated[Logging, BeforeValidator(_logging), Or({"type": "string"})] | None = Field(
        default=None, description="driver and options; output of other drivers than json-file cannot be read back."
    )
    cap_add: TextList = Field(
        default=[], description="Linux capabilities that it has, such as NET_BIND_SERVICE; without any: none."
    )
    cap_drop: TextList = Field(default=[], description="Those that it does not have although cap_add says ALL.")
    files: Files = Field(default={}, description="Path in the container: text, or content, variable, mode.")

    def build_container(self, *, cpu_max: int, memory_max: int) -> nouns.ContainerSpec | None:
        made = nouns.ContainerSpec(
            pull_policy=self.pull_policy,
            auth=self.auth.build() if self.auth is not None else None,
            env_files=tuple(self.env_file),
            hostname=self.hostname,
            labels=tuple(sorted(self.labels.items())),
            no_init=not self.init,
            pids_limit=self.pids_limit,
            ulimits=tuple(nouns.Ulimit(name=name, soft=two[0], hard=two[1]) for name, two in self.ulimits.items()),
            shm_size_mib=self.shm_size,
            read_only=self.read_only,
            tmpfs=tuple(one.build() for one in self.tmpfs),
            logging=self.logging.build() if self.logging is not None else None,
            files=tuple(one.build(target) for target, one in self.files.items()),
            cap_add=capabilities.normal(self.cap_add),
            cap_drop=capabilities.normal(self.cap_drop),
            cpu_max_millis=cpu_max,
            memory_max_mib=memory_max,
        )
        return None if made == nouns.ContainerSpec() else made


# ---------------------------------------------------------------------------- writing


def written(spec: nouns.ContainerSpec) -> dict[str, Any]:
    """The keys as a file has them, without those within ``resources``."""
    made: dict[str, Any] = {}
    if spec.pull_policy is not nouns.PullPolicy.MISSING:
        made["pull_policy"] = spec.pull_policy.name.lower()
    if spec.auth is not None:
        names = ("username", "username_variable", "password_variable", "server")
        made["auth"] = {name: getattr(spec.auth, name) for name in names if getattr(spec.auth, name)}
    if spec.env_files:
        made["env_file"] = list(spec.env_files)
    if spec.hostname:
        made["hostname"] = spec.hostname
    if spec.labels:
        made["labels"] = dict(spec.labels)
    if spec.no_init:
        made["init"] = False
    if spec.pids_limit:
        made["pids_limit"] = spec.pids_limit
    if spec.ulimits:
        made["ulimits"] = {one.name: _written_ulimit(one) for one in spec.ulimits}
    if spec.shm_size_mib:
        made["shm_size"] = units.format_memory(spec.shm_size_mib)
    if spec.read_only:
        made["read_only"] = True
    if spec.tmpfs:
        made["tmpfs"] = [_written_tmpfs(one) for one in spec.tmpfs]
    if spec.logging is not None:
        made["logging"] = {"driver": spec.logging.driver}
        if spec.logging.options:
            made["logging"]["options"] = dict(spec.logging.options)
    if spec.cap_add:
        made["cap_add"] = list(spec.cap_add)
    if spec.cap_drop:
        made["cap_drop"] = list(spec.cap_drop)
    if spec.files:
        made["files"] = {file.target: _written_file(file) for file in spec.files}
    return made


def written_limits(spec: nouns.ContainerSpec) -> dict[str, Any]:
    """The keys within ``resources``."""
    made: dict[str, Any] = {}
    if spec.cpu_max_millis:
        made["cpu_max"] = units.format_cpu(spec.cpu_max_millis)
    if spec.memory_max_mib:
        made["memory_max"] = units.format_memory(spec.memory_max_mib)
    return made


def written_mount(mount: nouns.MountSpec) -> dict[str, Any]:
    made: dict[str, Any] = {"source": mount.source, "target": mount.target, "read_only": mount.read_only}
    if mount.sub_path:
        made["sub_path"] = mount.sub_path
    return made


def _written_ulimit(one: nouns.Ulimit) -> Any:
    return one.soft if one.soft == one.hard else {"soft": one.soft, "hard": one.hard}


def _written_tmpfs(one: nouns.TmpfsSpec) -> Any:
    options = [f"size={units.format_memory(one.size_mib)}"] if one.size_mib else []
    options += [f"mode={one.mode:04o}"] if one.mode else []
    options += [f"{key}={number}" for key, number in (("uid", one.uid), ("gid", one.gid)) if number]
    return f"{one.target}:{','.join(options)}" if options else one.target


def _written_file(file: nouns.FileSpec) -> dict[str, Any]:
    made: dict[str, Any] = {"variable": file.variable} if file.variable else {"content": file.content}
    if file.mode != 0o444:
        made["mode"] = f"{file.mode:04o}"
    return made
