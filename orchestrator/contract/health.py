"""Health checks as values: what is asked of a task that runs, how often, and what counts as an answer.

Owns: ``CheckSpec``, ``HealthSpec`` and the two numbers that an observation of health is. Leaves to others: writing them
in a file (``jobfile.health``), asking (``agent.checks``), judging (``agent.health``). The rules:

- ``startup`` has to succeed once before the other two are asked; a task without it has started once it runs.
- ``liveness`` that fails ``failures`` times in a row ends the run: the restart policy decides what follows.
- ``readiness`` says whether the instance should get work: it is ready after ``successes`` good answers in a row, not
  ready after ``failures`` bad ones. A task without it is ready once it has started.

A health word (``Observation.health``) is ``2 * sequence + ready``: 0 where nobody checks. Sequences grow with every
change within one run, and begin at the clock, so that an agent which lost its records goes on above what it had said.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class CheckKind(enum.IntEnum):
    HTTP = 1  # GET; 200 to 399 is good
    TCP = 2  # a connection is accepted
    GRPC = 3  # grpc.health.v1.Health/Check says SERVING
    EXEC = 4  # a command in the task exits with 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpec:
    """``port``: the label of one of the group's ports, or a number; "" with exec. ``grace_ms``: failures do not count
    before the task has run for so long. ``service``: of grpc, "" = the server as a whole."""

    kind: CheckKind
    port: str = ""
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    tls: bool = False
    service: str = ""
    command: tuple[str, ...] = ()
    interval_ms: int = 10_000
    timeout_ms: int = 2_000
    successes: int = 1
    failures: int = 3
    grace_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSpec:
    startup: CheckSpec | None = None
    liveness: CheckSpec | None = None
    readiness: CheckSpec | None = None


def word(sequence: int, ready: bool) -> int:
    return 2 * sequence + int(ready)


def is_ready(health: int) -> bool:
    """Of a task that runs: nobody checks, or the last word was good."""
    return health == 0 or bool(health & 1)


def describe(check: CheckSpec) -> str:
    """``http :8080/healthz``, for people."""
    match check.kind:
        case CheckKind.HTTP:
            return f"{'https' if check.tls else 'http'} {check.port}{check.path or '/'}"
        case CheckKind.TCP:
            return f"tcp {check.port}"
        case CheckKind.GRPC:
            return f"grpc {check.port}" + (f" {check.service}" if check.service else "")
        case CheckKind.EXEC:
            return "exec " + " ".join(check.command)[:80]
