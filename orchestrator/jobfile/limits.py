"""The bounds of what may be asked for, in one place: job files, the server's check and the JSON Schema all use these.

The rule: a bound exists to stop nonsense and attacks, never to ration; each is far above what a real job needs.
"""

from __future__ import annotations

import re

MAX_JOB_BYTES = 1024 * 1024
"""Of a job file's text, and of an encoded JobSpec."""

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
NAME_RULE = "1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit"
PORT_LABEL = re.compile(r"[a-z0-9]([a-z0-9_-]{0,30}[a-z0-9])?")
PORT_LABEL_RULE = "1 to 32 lower-case letters, digits, '-' and '_', beginning and ending with a letter or digit"
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
ENV_NAME_RULE = "letters, digits and '_', not beginning with a digit"
VARIABLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,253}")
VARIABLE_NAME_RULE = "1 to 254 letters, digits, '.', '_', '-' and '/', beginning with a letter, a digit or '_'"
ATTRIBUTE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_./-]{0,251}[A-Za-z0-9])?")
ATTRIBUTE_RULE = "the name of a node label, or an attribute such as node.name, node.arch or node.zone"
RESERVED_ENV_PREFIX = "RAFTSMAN_"

SIGNALS = frozenset(
    f"SIG{name}"
    for name in ("ABRT", "ALRM", "CONT", "HUP", "INT", "KILL", "PIPE", "QUIT", "TERM", "USR1", "USR2", "WINCH")
)

MAX_PRIORITY = 100
MAX_COUNT = 100_000
MAX_GANG = 2_000
MAX_CONDITION = 128
MAX_GROUPS = 100
MAX_TASKS = 32
MAX_CPU_MILLIS = 10_000 * 1000
MAX_MEMORY_MIB = 1024**3
MAX_DISK_MIB = 1024**3
MAX_DEVICES = 64
MAX_PORTS = 64
MAX_PORT = 65_535
MAX_ATTEMPTS = 1_000
MAX_DELAY_MS = 24 * 3600 * 1000
MAX_STOP_TIMEOUT_MS = 3600 * 1000
MAX_ARGUMENTS = 1_000
MAX_ARGUMENT_BYTES = 128 * 1024
"""Linux refuses a single argument, or NAME=value pair, that is longer."""
MAX_ENV = 1_000
MAX_ENV_BYTES = 256 * 1024
MAX_CONSTRAINTS = 100
MAX_CONSTRAINT_VALUES = 1_000
MAX_MOUNTS = 100
MAX_PIDS = 4_194_304
MAX_ENV_FILES = 32
MAX_FILES = 100
MAX_FILES_BYTES = 256 * 1024
MAX_LOG_OPTIONS = 32
MAX_METADATA = 100
MAX_METADATA_BYTES = 64 * 1024
MAX_TEXT = 4_096
MAX_AFFINITIES = 50
MAX_SPREADS = 10
MAX_TOLERATIONS = 100
MAX_DATASETS = 100
MAX_SERVICES = 64
MAX_NEEDS = 32
MIN_HEARTBEAT_MS = 1_000
MAX_HEARTBEAT_MS = 24 * 3600 * 1000
MAX_WEIGHT = 100
MAX_SKEW = 100_000
MAX_CUSTOM = 32
MAX_CUSTOM_AMOUNT = 10**9
RESOURCE = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
RESOURCE_RULE = "1 to 63 lower-case letters, digits, '.', '_' and '-'"

DEFAULT_CPU_MILLIS = 100
DEFAULT_MEMORY_MIB = 128
DEFAULT_PIDS = 1_024
DEFAULT_PRIORITY = 50
DEFAULT_LOCALITY = 50
DEFAULT_GROUP = "main"
DEFAULT_TASK = "main"
