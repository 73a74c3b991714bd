"""No key of a job file does nothing: each is in the manual, changes what the job is, and is told by a dump."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import pydantic
import pytest

from orchestrator.jobfile import models
from orchestrator.jobfile.dump import dump
from orchestrator.jobfile.file import load

MANUAL = (Path(__file__).resolve().parents[3] / "docs" / "manual.md").read_text(encoding="utf-8")
IMAGE = "image: nginx"
PORT = f"{IMAGE}\nports: {{http: 80}}"
TWO = "groups: {a: {image: nginx}, b: {image: nginx, %s}}\ntype: batch"

# Model, key: what stands in the file beside the name, without the key and with it.
KEYS: dict[tuple[str, str], tuple[str, str]] = {
    ("JobFile", "name"): (IMAGE, f"{IMAGE}\nname: other"),
    ("JobFile", "namespace"): (IMAGE, f"{IMAGE}\nnamespace: team"),
    ("JobFile", "type"): (IMAGE, f"{IMAGE}\ntype: batch"),
    ("JobFile", "priority"): (IMAGE, f"{IMAGE}\npriority: high"),
    ("JobFile", "preemptible"): (IMAGE, f"{IMAGE}\npreemptible: false"),
    ("JobFile", "disruption"): (IMAGE, f"{IMAGE}\ndisruption: 25%"),
    ("JobFile", "placement"): (IMAGE, f"{IMAGE}\nplacement: spread"),
    ("JobFile", "on_disconnect"): (IMAGE, f"{IMAGE}\non_disconnect: keep"),
    ("JobFile", "periodic"): (f"{IMAGE}\ntype: batch", f"{IMAGE}\ntype: batch\nperiodic: '@daily'"),
    ("JobFile", "parameterized"): (f"{IMAGE}\ntype: batch", f"{IMAGE}\ntype: batch\nparameterized: true"),
    ("JobFile", "metadata"): (IMAGE, f"{IMAGE}\nmetadata: {{a: b}}"),
    ("JobFile", "groups"): (IMAGE, "groups: {api: {image: nginx}}"),
    ("DisruptionKeys", "max_unavailable"): (
        f"{IMAGE}\ndisruption: {{max_unavailable: 1}}",
        f"{IMAGE}\ndisruption: {{max_unavailable: 2}}",
    ),
    ("PeriodicKeys", "cron"): (
        f"{IMAGE}\ntype: batch\nperiodic: '@daily'",
        f"{IMAGE}\ntype: batch\nperiodic: {{cron: '@hourly'}}",
    ),
    **{
        ("PeriodicKeys", key): (
            f"{IMAGE}\ntype: batch\nperiodic: '@daily'",
            f"{IMAGE}\ntype: batch\nperiodic: {{cron: '@daily', {key}: {value}}}",
        )
        for key, value in (
            ("time_zone", "Europe/Berlin"), ("overlap", "forbid"), ("missed", "once"), ("paused", "true")
        )
    },
    **{
        ("ParameterizedKeys", key): (
            f"{IMAGE}\ntype: batch\nparameterized: true",
            f"{IMAGE}\ntype: batch\nparameterized: {{{key}: {value}}}",
        )
        for key, value in (("payload", "required"), ("meta_required", "[a]"), ("meta_optional", "[a]"))
    },
    ("Group", "name"): ("groups: [{name: a, image: nginx}]", "groups: [{name: b, image: nginx}]"),
    ("Task", "name"): ("tasks: [{name: a, image: nginx}]", "tasks: [{name: b, image: nginx}]"),
    ("AfterKeys", "group"): (TWO % "count: 1", TWO % "after: [{group: a}]"),
    ("AfterKeys", "condition"): (TWO % "after: [{group: a}]", TWO % "after: [{group: a, condition: any}]"),
    ("JobFile", "after"): (TWO % "count: 1", TWO % "after: a"),
    ("JobFile", "image"): (IMAGE, "image: redis"),
    ("JobFile", "tasks"): (IMAGE, "tasks: {other: {image: nginx}}"),
    ("JobFile", "needs"): (IMAGE, f"{IMAGE}\nneeds: db"),
    ("JobFile", "ports"): (IMAGE, PORT),
    ("JobFile", "services"): (PORT, f"{PORT}\nservices: [other]"),
    **{
        ("Port", key): (f"{IMAGE}\nports: [{{label: http, to: 80}}]", f"{IMAGE}\nports: [{{{value}}}]")
        for key, value in (
            ("label", "label: web, to: 80"),
            ("to", "label: http, to: 81"),
            ("static", "label: http, to: 80, static: 8080"),
            ("protocol", "label: http, to: 80, protocol: udp"),
        )
    },
    ("Service", "name"): (PORT, f"{PORT}\nservices: [{{name: other}}]"),
    ("Service", "port"): (
        f"{IMAGE}\nports: {{a: 1, b: 2}}\nservices: [{{name: s}}]",
        f"{IMAGE}\nports: {{a: 1, b: 2}}\nservices: [{{name: s, port: b}}]",
    ),
    **{
        ("JobFile", key): (IMAGE, f"{IMAGE}\n{key}: {value}")
        for key, value in (
            ("count", "2"),
            ("restart", "{attempts: 1}"),
            ("constraints", "[a = b]"),
            ("gang", "rack"),
            ("affinity", "[{job: db}]"),
            ("distinct_hosts", "true"),
            ("spread", "[node.zone]"),
            ("tolerations", "[gpu]"),
            ("datasets", "imagenet"),
            ("locality", "10"),
            ("network_mode", "host"),
            ("update", "{max_surge: 1}"),
            ("rolling_update_config", "{timeout: 1m}"),
            ("driver", "fake"),
            ("command", "[ls]"),
            ("args", "[-l]"),
            ("env", "{A: b}"),
            ("resources", "{cpu: 2}"),
            ("stop", "{timeout: 1s}"),
            ("timeout", "1h"),
            ("variables", "{A: b}"),
            ("work_dir", "/x"),
            ("user", "'1000'"),
            ("privileged", "true"),
            ("volumes", "['data:/x']"),
            ("workload", "ready"),
            ("health", "{exec: 'true'}"),
            ("pull_policy", "always"),
            ("auth", "{username: u, password_variable: p}"),
            ("env_file", "app-env"),
            ("hostname", "web"),
            ("labels", "{a: b}"),
            ("init", "false"),
            ("pids_limit", "10"),
            ("ulimits", "{nofile: 10}"),
            ("shm_size", "1Gi"),
            ("read_only", "true"),
            ("tmpfs", "/x"),
            ("logging", "none"),
            ("cap_add", "[CHOWN]"),
            ("cap_drop", "[CHOWN]"),
            ("files", "{/x: y}"),
        )
    },
    ("JobFile", "health_check"): (PORT, f"{PORT}\nhealth_check: {{tcp_check: {{port: 80}}}}"),
    ("JobFile", "role"): (
        "tasks: {a: {image: nginx}, b: {image: nginx}}",
        "tasks: {a: {image: nginx}, b: {image: nginx, role: sidecar}}",
    ),
    ("Restart", "attempts"): (IMAGE, f"{IMAGE}\nrestart: {{attempts: 1}}"),
    ("Restart", "delay"): (IMAGE, f"{IMAGE}\nrestart: {{delay: 1s}}"),
    ("Restart", "mode"): (IMAGE, f"{IMAGE}\nrestart: {{mode: delay}}"),
    ("Stop", "signal"): (IMAGE, f"{IMAGE}\nstop: {{signal: INT}}"),
    ("Stop", "timeout"): (IMAGE, f"{IMAGE}\nstop: {{timeout: 1s}}"),
    ("Gang", "domain"): (f"{IMAGE}\ngang: true", f"{IMAGE}\ngang: {{domain: rack}}"),
    ("Gang", "on_failure"): (f"{IMAGE}\ngang: true", f"{IMAGE}\ngang: {{on_failure: replace}}"),
    ("Workload", "ready"): (IMAGE, f"{IMAGE}\nworkload: {{ready: true}}"),
    ("Workload", "heartbeat"): (IMAGE, f"{IMAGE}\nworkload: {{heartbeat: 30s}}"),
    **{
        ("ResourceKeys", key): (IMAGE, f"{IMAGE}\nresources: {{{key}: {value}}}")
        for key, value in (
            ("cpu", "2"), ("memory", "1Gi"), ("disk", "1Gi"), ("cpu_max", "2"), ("memory_max", "1Gi"),
            ("custom", "{licenses: 1}"), ("gpus", "1"),
        )
    },
    **{
        ("Gpus", key): (
            f"{IMAGE}\nresources: {{gpus: {{count: 2}}}}",
            f"{IMAGE}\nresources: {{gpus: {{count: {1 if key == 'share' else 2}, {key}: {value}}}}}",
        )
        for key, value in (
            ("model", "A100"), ("models", "[A100]"), ("memory", "40Gi"), ("share", "0.5"),
            ("compute_capability", "'>= 8.0'"), ("driver_version", "'>= 535'"), ("mig", "1g.10gb"), ("link", "island"),
        )
    },
    ("Gpus", "count"): (f"{IMAGE}\nresources: {{gpus: {{count: 1}}}}", f"{IMAGE}\nresources: {{gpus: {{count: 2}}}}"),
    **{
        ("Auth", key): (f"{IMAGE}\nauth: {{username: u, password_variable: p}}", f"{IMAGE}\nauth: {{{value}}}")
        for key, value in (
            ("username", "username: v, password_variable: p"),
            ("username_variable", "username_variable: u, password_variable: p"),
            ("password_variable", "username: u, password_variable: q"),
            ("server", "username: u, password_variable: p, server: r.example"),
        )
    },
    **{
        ("Tmpfs", key): (f"{IMAGE}\ntmpfs: [{{target: /x}}]", f"{IMAGE}\ntmpfs: [{{{value}}}]")
        for key, value in (
            ("target", "target: /y"), ("size", "target: /x, size: 1Mi"), ("mode", "target: /x, mode: 0750"),
            ("uid", "target: /x, uid: 7"), ("gid", "target: /x, gid: 7"),
        )
    },
    ("Logging", "driver"): (IMAGE, f"{IMAGE}\nlogging: {{driver: none}}"),
    ("Logging", "options"): (IMAGE, f"{IMAGE}\nlogging: {{options: {{max-size: 1m}}}}"),
    ("File", "content"): (f"{IMAGE}\nfiles: {{/x: y}}", f"{IMAGE}\nfiles: {{/x: {{content: z}}}}"),
    ("File", "variable"): (f"{IMAGE}\nfiles: {{/x: y}}", f"{IMAGE}\nfiles: {{/x: {{variable: y}}}}"),
    ("File", "mode"): (f"{IMAGE}\nfiles: {{/x: y}}", f"{IMAGE}\nfiles: {{/x: {{content: y, mode: 0400}}}}"),
    **{
        ("Volume", key): (f"{IMAGE}\nvolumes: ['data:/x']", f"{IMAGE}\nvolumes: [{{{value}}}]")
        for key, value in (
            ("source", "source: other, target: /x"), ("target", "source: data, target: /y"),
            ("read_only", "source: data, target: /x, read_only: true"),
            ("sub_path", "source: data, target: /x, sub_path: a"),
        )
    },
    **{
        ("HealthKeys", key): (f"{IMAGE}\nhealth: {{}}", f"{IMAGE}\nhealth: {{{key}: {{exec: 'true'}}}}")
        for key in ("startup", "liveness", "readiness")
    },
    **{
        ("CheckKeys", key): (
            f"{PORT}\nhealth: {{readiness: {{exec: x}}}}", f"{PORT}\nhealth: {{readiness: {{{value}}}}}"
        )
        for key, value in (
            ("http", "http: http"), ("tcp", "tcp: http"), ("grpc", "grpc: http"), ("exec", "exec: y"),
            ("interval", "exec: x, interval: 3s"), ("timeout", "exec: x, timeout: 3s"),
            ("successes", "exec: x, successes: 2"), ("failures", "exec: x, failures: 2"),
            ("grace", "exec: x, grace: 3s"),
        )
    },
    **{
        (model, key): (
            f"{IMAGE}\nports: {{a: 1, b: 2}}\nhealth: {{readiness: {{{kind}: {{port: a}}}}}}",
            f"{IMAGE}\nports: {{a: 1, b: 2}}\nhealth: {{readiness: {{{kind}: {{{value}}}}}}}",
        )
        for model, kind, key, value in (
            ("HttpKeys", "http", "port", "port: b"), ("HttpKeys", "http", "path", "port: a, path: /x"),
            ("HttpKeys", "http", "headers", "port: a, headers: {x: y}"),
            ("HttpKeys", "http", "tls", "port: a, tls: true"),
            ("TcpKeys", "tcp", "port", "port: b"), ("GrpcKeys", "grpc", "port", "port: b"),
            ("GrpcKeys", "grpc", "service", "port: a, service: x"),
        )
    },
    **{
        (model, key): (
            f"{IMAGE}\nports: [80, 81]\nhealth_check: {{tcp_check: {{port: 80}}}}",
            f"{IMAGE}\nports: [80, 81]\nhealth_check: {{{value}}}",
        )
        for model, key, value in (
            ("OrbitHealth", "startup_timeout", "startup_timeout: 9s, tcp_check: {port: 80}"),
            ("OrbitHealth", "startup_failure_threshold", "startup_failure_threshold: 9, tcp_check: {port: 80}"),
            ("OrbitHealth", "liveness_period", "liveness_period: 9s, tcp_check: {port: 80}"),
            ("OrbitHealth", "liveness_failure_threshold", "liveness_failure_threshold: 9, tcp_check: {port: 80}"),
            ("OrbitHealth", "tcp_check", "tcp_check: {port: 81}"),
            ("OrbitTcp", "port", "tcp_check: {port: 81}"),
            ("OrbitTcp", "timeout", "tcp_check: {port: 80, timeout: 9s}"),
            ("OrbitTcp", "period", "tcp_check: {port: 80, period: 9s}"),
            ("OrbitTcp", "failure_threshold", "tcp_check: {port: 80, failure_threshold: 9}"),
        )
    },
    **{
        ("UpdateKeys", key): (f"{IMAGE}\ncount: 4", f"{IMAGE}\ncount: 4\nupdate: {{{key}: {value}}}")
        for key, value in (
            ("max_surge", "1"), ("max_unavailable", "2"), ("canaries", "1"), ("min_ready", "1s"),
            ("progress_deadline", "1m"), ("auto_revert", "true"),
        )
    },
    **{
        ("OrbitUpdate", key): (
            f"{IMAGE}\nrolling_update_config: {{}}", f"{IMAGE}\nrolling_update_config: {{{key}: {value}}}"
        )
        for key, value in (("max_unavailable", "2"), ("max_surge", "2"), ("timeout", "1m"))
    },
    **{
        ("ConstraintKeys", key): (
            f"{IMAGE}\nconstraints: [{{attribute: a, value: b}}]", f"{IMAGE}\nconstraints: [{{{value}}}]"
        )
        for key, value in (
            ("attribute", "attribute: b, value: b"), ("operator", "attribute: a, operator: '!=', value: b"),
            ("value", "attribute: a, value: c"), ("values", "attribute: a, values: [c]"),
        )
    },
    **{
        ("AffinityKeys", key): (f"{IMAGE}\naffinity: [{{job: db}}]", f"{IMAGE}\naffinity: [{{{value}}}]")
        for key, value in (
            ("node", "node: a = b"), ("job", "job: other"), ("group", "job: db, group: a"), ("own", "own: true"),
            ("topology", "job: db, topology: node.rack"), ("weight", "job: db, weight: 7"),
            ("required", "job: db, required: true"),
        )
    },
    **{
        ("SpreadKeys", key): (
            f"{IMAGE}\nspread: [{{over: node.zone, when_unsatisfiable: place-anyway}}]",
            f"{IMAGE}\nspread: [{{{value}}}]",
        )
        for key, value in (
            ("over", "over: node.rack, when_unsatisfiable: place-anyway"),
            ("max_skew", "over: node.zone, when_unsatisfiable: place-anyway, max_skew: 2"),
            ("when_unsatisfiable", "over: node.zone, when_unsatisfiable: wait"),
            ("weight", "over: node.zone, when_unsatisfiable: place-anyway, weight: 7"),
        )
    },
    **{
        ("TolerationKeys", key): (f"{IMAGE}\ntolerations: [{{key: a}}]", f"{IMAGE}\ntolerations: [{{{value}}}]")
        for key, value in (
            ("key", "key: b"), ("value", "key: a, value: x"), ("effect", "key: a, effect: NoExecute"),
            ("for", "key: a, for: 5m"),
        )
    },
}  # fmt: skip


def inner(annotation: Any) -> set[type[pydantic.BaseModel]]:
    found = {annotation} if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel) else set()
    return found.union(*(inner(one) for one in typing.get_args(annotation)))


def every_key() -> set[tuple[str, str]]:
    """Each model and its keys; those that groups and tasks share with the whole file stand there once."""
    shared = set(models.JobFile.model_fields)
    seen: set[tuple[str, str]] = set()
    todo: list[type[pydantic.BaseModel]] = [models.JobFile]
    done: set[type[pydantic.BaseModel]] = set()
    while todo:
        model = todo.pop()
        done.add(model)
        for name, field in model.model_fields.items():
            key = field.alias or name
            inherited = model in (models.Group, models.Task) and name != "name" and name in shared
            seen |= set() if inherited else {(model.__name__, key)}
            todo += inner(field.annotation) - done
    return seen


def test_the_table_has_every_key() -> None:
    assert set(KEYS) == every_key()


@pytest.mark.parametrize("key", sorted(KEYS), ids=".".join)
def test_a_key_changes_what_the_job_is_and_is_kept_by_a_dump(key: tuple[str, str]) -> None:
    without, with_it = (load(text if "\nname:" in text else f"name: web\n{text}") for text in KEYS[key])
    assert without != with_it
    assert load(dump(with_it)) == with_it


@pytest.mark.parametrize("key", sorted({key for _, key in every_key()}))
def test_a_key_is_in_the_manual(key: str) -> None:
    assert any(written in MANUAL for written in (f"`{key}`", f"{key}:", f"{key}="))
