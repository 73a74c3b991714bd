"""What the engine says of a container, as the agent's words for a run.

Owns: reading its answers: states, exits, times, what its init said when it could not run the command; that a container
has the name of its run. Leaves to others: calls and threads (``docker_calls``), what follows. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import docker
import docker.errors
import structlog

from agent.driver import Exit, Instance, InstanceState, RunId, run_name
from agent.drivers.docker_arguments import LABEL, run_of

DRIVER = "docker"
"""The driver's name in what it found."""
log = structlog.get_logger("agent.docker")


def look_up(api: docker.APIClient, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = api.inspect_container(name)
    except docker.errors.NotFound:
        return None
    return found


def inspect(api: docker.APIClient, name: str) -> Instance | None:
    found = look_up(api, name)
    return instance_of(api, found) if found is not None else None


def runs(api: docker.APIClient, name: str) -> bool:
    """Whether the engine calls the container running."""
    try:
        return bool(api.inspect_container(name)["State"]["Running"])
    except docker.errors.NotFound:
        return False


def instance_of(api: docker.APIClient, found: dict[str, Any]) -> Instance | None:
    labels = found["Config"]["Labels"] or {}
    run = run_of(labels)
    if run is None:
        return None
    state = found["State"]
    one = instance(found["Name"].lstrip("/"), found["Id"], labels, run, state["Status"], state)
    if one.exit is not None and one.exit.code in (126, 127):
        why = _init_failure(api, found["Id"])
        if why:
            image = found["Config"]["Image"]
            reason = f"command not found in image {image}: {why}"
            return replace(one, exit=replace(one.exit, reason=reason, never_ran=True))
    return one


def renamed(listed: Sequence[dict[str, Any]], cluster_id: str) -> list[tuple[dict[str, Any], str]]:
    """Those of a cluster's listed containers that do not have the name of their run any more, with that name."""
    runs = ((row, run_of(row["Labels"])) for row in listed)
    named = [(row, run_name(cluster_id, run)) for row, run in runs if run is not None]
    return [(row, name) for row, name in named if f"/{name}" not in row["Names"]]


def name_again(api: docker.APIClient, renamed: Sequence[tuple[dict[str, Any], str]]) -> None:
    """Give them the names back by which everybody finds them; where another has it, what they are called now stays."""
    for row, name in renamed:
        with contextlib.suppress(docker.errors.APIError):
            api.rename(row["Id"], name)
            log.info("named_again", name=name, found=row["Names"])
            row["Names"] = [f"/{name}"]


def _init_failure(api: docker.APIClient, id_: str) -> str:
    """What the init said when it could not run the command; the engine takes that for an ordinary exit."""
    try:
        said = api.logs(id_, stdout=False, stderr=True, tail=5)
    except docker.errors.APIError:
        return ""
    for line in bytes(said).decode("utf-8", "replace").splitlines():
        if line.startswith("[FATAL tini") and " exec " in line:
            return line.partition("] ")[2]
    return ""


def instance(
    name: str, id_: str, labels: dict[str, str], run: RunId, status: str, state: dict[str, Any] | None
) -> Instance:
    exit_: Exit | None = None
    what = InstanceState.RUNNING
    if status == "created":
        what = InstanceState.CREATED
    elif status in ("exited", "dead", "removing"):
        what = InstanceState.EXITED
        code = int(state["ExitCode"]) if state else -1
        exit_ = Exit(
            code=code,
            signal=code - 128 if 128 < code <= 128 + 64 else 0,
            # A killed child of a task that went on and exited with 0 is no failure.
            oom_killed=bool(state and state.get("OOMKilled")) and code != 0,
            ended_ms=unix_ms(state.get("FinishedAt", "")) if state else 0,
        )
    return Instance(
        name=name,
        driver=DRIVER,
        cluster_id=labels.get(LABEL + "cluster", ""),
        node_id=labels.get(LABEL + "node", ""),
        run=run,
        runtime_id=id_,
        state=what,
        exit=exit_,
    )


def unix_ms(text: str) -> int:
    """An engine's time (RFC 3339 with up to nine digits) as unix milliseconds; 0 if it is none."""
    try:
        seconds, _, fraction = text.rstrip("Z").partition(".")
        moment = datetime.datetime.fromisoformat(seconds).replace(tzinfo=datetime.UTC)
    except ValueError:
        return 0
    return int(moment.timestamp() * 1000) + int((fraction + "000")[:3])
