"""Keys of a job file about health and rollouts: ``health``, ``update``, and Orbit's ``health_check`` and
``rolling_update_config``; and how a spec is written in them.

Owns: these keys both ways. Leaves to others: rules on values (``rollout_rules``). The rules: a check alone under
``health`` is asked for readiness and for liveness; ``max_surge`` alone means that nothing need be unavailable.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from orchestrator.contract.health import CheckKind, CheckSpec, HealthSpec
from orchestrator.contract.rollouts import UpdateSpec
from orchestrator.jobfile import units
from orchestrator.jobfile.leaves import Duration, Keys, Or, Text, TextMap, Truth, Whole, Words
from orchestrator.jobfile.tree import text_of

S_co = TypeVar("S_co", covariant=True)
_KINDS = ("http", "tcp", "grpc", "exec")

# ---------------------------------------------------------------------------- checks


def _http(value: object) -> object:
    """``8080``, ``web/healthz``, ``/healthz`` is refused: which port?"""
    if isinstance(value, dict):
        return value
    text = text_of(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    port, slash, path = text.strip().removeprefix(":").partition("/")
    if not port:
        raise ValueError(f"expected a port and a path such as 8080/healthz or web/healthz, got {units.shown(value)}")
    return {"port": port, "path": f"/{path}"} if slash else {"port": port}


def _port_alone(value: object) -> object:
    return value if isinstance(value, dict) else {"port": value}


def _grpc(value: object) -> object:
    """``9000`` or ``9000/my.Service``."""
    if isinstance(value, dict):
        return value
    text = text_of(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    port, _, service = text.strip().partition("/")
    return {"port": port, "service": service}


class HttpKeys(Keys):
    port: Text = Field(description="Label or number of one of the group's ports.")
    path: Text = Field(default="/", description="What is asked for.")
    headers: TextMap = Field(default={}, description="Sent with it.")
    tls: Truth = Field(default=False, description="https, whatever the certificate.")


class TcpKeys(Keys):
    port: Text = Field(description="Label or number of one of the group's ports.")


class GrpcKeys(Keys):
    port: Text = Field(description="Label or number of one of the group's ports.")
    service: Text = Field(default="", description="Of the standard health protocol; left out: the server.")


_SHORT_PORT = {"type": ["string", "integer"]}


class CheckKeys(Keys):
    """Exactly one of http, tcp, grpc and exec."""

    http: Annotated[HttpKeys, BeforeValidator(_http), Or(_SHORT_PORT)] | None = Field(
        default=None, description="GET: 8080/healthz; 200 to 399 is good."
    )
    tcp: Annotated[TcpKeys, BeforeValidator(_port_alone), Or(_SHORT_PORT)] | None = Field(
        default=None, description="A connection is accepted."
    )
    grpc: Annotated[GrpcKeys, BeforeValidator(_grpc), Or(_SHORT_PORT)] | None = Field(
        default=None, description="The standard health protocol says SERVING."
    )
    exec: Words = Field(default=[], description="A command in the task exits with 0.")
    interval: Duration = Field(default=10_000, ge=1, description="From one question to the next.")
    timeout: Duration = Field(default=2_000, ge=1, description="For one answer.")
    successes: Whole = Field(default=1, ge=1, description="Good answers in a row.")
    failures: Whole = Field(default=3, ge=1, description="Bad answers in a row.")
    grace: Duration = Field(default=0, description="Bad answers do not count before it has run for so long.")

    def build(self) -> CheckSpec:
        kind, what = self._what()
        return CheckSpec(
            kind=kind,
            interval_ms=self.interval,
            timeout_ms=self.timeout,
            successes=self.successes,
            failures=self.failures,
            grace_ms=self.grace,
            **what,
        )

    def _what(self) -> tuple[CheckKind, dict[str, Any]]:
        if self.http is not None:
            headers = tuple(sorted(self.http.headers.items()))
            return CheckKind.HTTP, {
                "port": self.http.port, "path": self.http.path, "headers": headers, "tls": self.http.tls
            }  # fmt: skip
        if self.tcp is not None:
            return CheckKind.TCP, {"port": self.tcp.port}
        if self.grpc is not None:
            return CheckKind.GRPC, {"port": self.grpc.port, "service": self.grpc.service}
        return CheckKind.EXEC, {"command": tuple(self.exec)}


def _one_kind(value: object) -> object:
    if isinstance(value, dict):
        said = [kind for kind in _KINDS if value.get(kind) not in (None, [])]
        if len(said) != 1:
            got = f", got {' and '.join(said)}" if said else ""
            raise ValueError(f"expected exactly one of http, tcp, grpc and exec{got}")
    return value


Check = Annotated[CheckKeys, BeforeValidator(_one_kind)]


def _health(value: object) -> object:
    """A check alone stands for readiness and liveness."""
    if isinstance(value, dict) and any(kind in value for kind in _KINDS):
        return {"readiness": value, "liveness": value}
    return value


class HealthKeys(Keys):
    startup: Check | None = Field(default=None, description="Before the others; fails: the restart policy decides.")
    liveness: Check | None = Field(default=None, description="Fails: the restart policy decides.")
    readiness: Check | None = Field(default=None, description="Fails: no work for it, and a rollout waits.")

    def build(self) -> HealthSpec:
        return HealthSpec(
            startup=self.startup.build() if self.startup else None,
            liveness=self.liveness.build() if self.liveness else None,
            readiness=self.readiness.build() if self.readiness else None,
        )


_ALONE = {"type": "object", "description": "A check alone: for readiness and liveness."}
Health = Annotated[HealthKeys, BeforeValidator(_health), Or(_ALONE)]

# ---------------------------------------------------------------------------- Orbit's words


class OrbitTcp(Keys):
    port: Whole = Field(description="Port in the task.")
    timeout: Duration = Field(default=5_000, ge=1)
    period: Duration = Field(default=10_000, ge=1)
    failure_threshold: Whole = Field(default=3, ge=1)


class OrbitHealth(Keys):
    """Orbit's ``health_check``: one port, asked for all three."""

    startup_timeout: Duration = Field(default=30_000, ge=1, description="In all, for its start.")
    startup_failure_threshold: Whole = Field(default=3, ge=1, description="So many bad answers in that time.")
    liveness_period: Duration = Field(default=10_000, ge=1)
    liveness_failure_threshold: Whole = Field(default=3, ge=1)
    tcp_check: OrbitTcp

    def build(self) -> HealthSpec:
        def check(interval_ms: int, failures: int) -> CheckSpec:
            port, timeout_ms = str(self.tcp_check.port), self.tcp_check.timeout
            return CheckSpec(
                kind=CheckKind.TCP, port=port, timeout_ms=timeout_ms, interval_ms=interval_ms, failures=failures
            )

        between_ms = self.startup_timeout // max(1, self.startup_failure_threshold)
        return HealthSpec(
            startup=check(between_ms, self.startup_failure_threshold),
            liveness=check(self.liveness_period, self.liveness_failure_threshold),
            readiness=check(self.tcp_check.period, self.tcp_check.failure_threshold),
        )


# ---------------------------------------------------------------------------- update

_SHARE_EXPECTED = "expected a number of instances such as 1, or a share such as 25%"
_SHARE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+\s*%?$"}]}


def _share(value: object) -> tuple[int, bool]:
    """(number, whether it is per cent)."""
    text = text_of(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"(\d{1,9})\s*(%?)", text.strip())
    if match is None:
        raise ValueError(f"{_SHARE_EXPECTED}, got {units.shown(value)}")
    return int(match[1]), bool(match[2])


Share = Annotated[tuple[int, bool], PlainValidator(_share), WithJsonSchema(_SHARE_SCHEMA)]


class UpdateKeys(Keys):
    max_surge: Share | None = Field(
        default=None, description="Successors that may live beside those that they replace: 1, or 25%; 0 when unsaid."
    )
    max_unavailable: Share | None = Field(
        default=None, description="Instances that need not be ready: 1, or 25%; when unsaid 1, or 0 with a surge."
    )
    canaries: Whole = Field(default=0, description="So many first; the others wait for 'raftsman promote'.")
    min_ready: Duration = Field(default=0, description="Ready for so long counts as ready.")
    progress_deadline: Duration = Field(
        default=600_000, description="Nothing became ready for so long: the rollout has failed; 0: never."
    )
    auto_revert: Truth = Field(default=False, description="Failed: back to the last version that was good.")

    def build(self) -> UpdateSpec:
        surge, surge_percent = self.max_surge or (0, False)
        unavailable, percent = self.max_unavailable or (0 if surge else 1, False)
        return UpdateSpec(
            max_surge=surge,
            surge_percent=surge_percent,
            max_unavailable=unavailable,
            unavailable_percent=percent,
            canaries=self.canaries,
            min_ready_ms=self.min_ready,
            progress_deadline_ms=self.progress_deadline,
            auto_revert=self.auto_revert,
        )


class OrbitUpdate(Keys):
    """Orbit's ``rolling_update_config``."""

    max_unavailable: Whole = 1
    max_surge: Whole = 1
    timeout: Duration = Field(default=600_000, description="Without progress.")

    def build(self) -> UpdateSpec:
        return UpdateSpec(
            max_surge=self.max_surge, max_unavailable=self.max_unavailable, progress_deadline_ms=self.timeout
        )


class _Built(Protocol[S_co]):
    def build(self) -> S_co: ...


def either(ours: _Built[S_co] | None, theirs: _Built[S_co] | None) -> S_co | None:
    """What one of two words for the same says; ``only_one`` sees to it that it is one."""
    said = ours if ours is not None else theirs
    return None if said is None else said.build()


def only_one(value: object, other: object, name: str) -> None:
    """Raises ``ValueError`` where both words for the same are there."""
    if value is not None and other is not None:
        raise ValueError(f"another word for '{name}', which is there already: write one of them")


# ---------------------------------------------------------------------------- written


def written_health(health: HealthSpec) -> dict[str, Any]:
    return {
        name: _check(check)
        for name in ("startup", "liveness", "readiness")
        if (check := getattr(health, name)) is not None
    }


def _check(check: CheckSpec) -> dict[str, Any]:
    made: dict[str, Any]
    match check.kind:
        case CheckKind.HTTP:
            what: dict[str, Any] = {"port": check.port, "path": check.path or "/"}
            if check.headers:
                what["headers"] = dict(check.headers)
            if check.tls:
                what["tls"] = True
            made = {"http": what}
        case CheckKind.TCP:
            made = {"tcp": {"port": check.port}}
        case CheckKind.GRPC:
            made = {"grpc": {"port": check.port, **({"service": check.service} if check.service else {})}}
        case CheckKind.EXEC:
            made = {"exec": list(check.command)}
    unsaid = CheckSpec(kind=check.kind)
    for key in ("interval", "timeout", "grace"):
        if getattr(check, f"{key}_ms") != getattr(unsaid, f"{key}_ms"):
            made[key] = units.format_duration(getattr(check, f"{key}_ms"))
    for key in ("successes", "failures"):
        if getattr(check, key) != getattr(unsaid, key):
            made[key] = getattr(check, key)
    return made


def written_update(update: UpdateSpec) -> dict[str, Any]:
    made: dict[str, Any] = {
        "max_surge": f"{update.max_surge}%" if update.surge_percent else update.max_surge,
        "max_unavailable": f"{update.max_unavailable}%" if update.unavailable_percent else update.max_unavailable,
    }
    if update.canaries:
        made["canaries"] = update.canaries
    if update.min_ready_ms:
        made["min_ready"] = units.format_duration(update.min_ready_ms)
    if update.progress_deadline_ms != UpdateSpec().progress_deadline_ms:
        made["progress_deadline"] = units.format_duration(update.progress_deadline_ms)
    if update.auto_revert:
        made["auto_revert"] = True
    return made
