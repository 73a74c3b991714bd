"""``run`` (``apply``): submit a job and stay until it is what it should be, or say truthfully why it is not.

Exit codes: 0 as asked, 3 no room for it, 4 it failed, 5 not done in time, 6 no leader. With ``--detach``: 0 once it is
accepted.
"""

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.output import show
from orchestrator.cli.session import Session, common
from orchestrator.cli.views import allocations_table
from orchestrator.contract.errors import ExitCode, NotFoundError, RaftsmanError
from orchestrator.contract.model import JobSpec, JobType
from orchestrator.contract.plain import plain

if TYPE_CHECKING:
    from orchestrator.cli.rollout import Ended
    from orchestrator.client.sync import Client

_ONLY_WITH_A_COMMAND = ("name", "image", "cpu", "memory", "gpus", "kind", "env", "ports", "placement")


class _Run(click.Command):
    """Tells apart ``run FILE`` and ``run -- COMMAND...``, which click's parser does not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta["command"] = tuple(args[at + 1 :])
            if not args[at + 1 :]:
                raise click.UsageError("expected a command after '--'", ctx)
            args = args[:at]
        return super().parse_args(ctx, args)


@click.command(cls=_Run)
@common
@click.argument("file", required=False, metavar="[FILE | -- COMMAND...]")
@click.option("--name", help="Name of the job.")
@click.option("--image", help="Run the command in this image; without it, as a process.")
@click.option("--count", type=int, help="Instances.")
@click.option("--cpu", help="Cores: 2, 0.5, 500m.")
@click.option("--memory", help="With its unit: 256Mi.")
@click.option("--gpus", type=int, help="Whole devices.")
@click.option("--type", "kind", help="service, batch or system (a command: batch).")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Environment; may be repeated.")
@click.option("-p", "--port", "ports", multiple=True, metavar="PORT", help="8080, or 8080:80 (host:task).")
@click.option("--placement", help="One of 'raftsman placements': binpack, spread, fragmentation ...")
@click.option("--expect-version", type=int, help="Refuse unless this is its version now (0: it must not exist).")
@click.option("--wait/--detach", default=True, help="Stay until it runs (a batch job: until it is complete).")
@click.option("-d", "detach", is_flag=True, help="The same as --detach.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    session: Session,
    file: str | None,
    expect_version: int | None,
    wait: bool,
    detach: bool,
    **keys: Any,
) -> None:
    """Start or change a job.

    FILE is a job file ('-': standard input). After '--' stands a command that runs once, and whose output is printed:
    raftsman run -- echo hello
    """
    command: tuple[str, ...] = ctx.meta.get("command", ())
    if bool(file) == bool(command):
        raise click.UsageError("expected either a job FILE, or '--' and a COMMAND", ctx)
    spec = _from_command(session, command, keys) if command else _from_file(session, str(file), keys)
    with session.client() as client:
        result = client.submit(spec, expect_version=expect_version)
        verb = "unchanged" if not result.changed else "submitted" if result.version == 1 else "changed"
        session.note(f"{spec.name}: {verb} (version {result.version})")
        if detach or not wait:
            show(
                session.output,
                value=lambda: {"name": spec.name, "namespace": spec.namespace, **plain(result)},
                names=lambda: [spec.name],
                table=lambda wide: spec.name,
            )
            return
        from orchestrator.cli.rollout import Rollout

        # What a command wrote is the result that was asked for, also if it failed in the end.
        wrote = bool(command) and spec.type is JobType.BATCH and session.output in ("table", "wide")
        try:
            ended = Rollout(session, client, spec, result.version, shows_output=not wrote).wait()
        except KeyboardInterrupt:
            session.note(f"{spec.name} goes on without you: 'raftsman stop {spec.name}' ends it")
            raise
        if wrote and ended.exit_code in (ExitCode.OK, ExitCode.ROLLOUT_FAILED):
            _print_output(session, client, ended)
        elif session.output not in ("table", "wide") or (ended.allocations and not session.quiet):
            show(
                session.output,
                value=lambda: {"job": ended.job, "allocations": ended.allocations, "exit_code": int(ended.exit_code)},
                names=lambda: [str(one.id) for one in ended.allocations],
                table=lambda wide: allocations_table(ended.allocations, wide=wide),
            )
    ctx.exit(ended.exit_code)


def _print_output(session: Session, client: Client, ended: Ended) -> None:
    for one in ended.allocations:
        try:
            for chunk in client.logs(one.id, attempt=one.attempt):
                sys.stdout.buffer.write(chunk.data)
        except RaftsmanError as error:
            if ended.exit_code == ExitCode.OK:
                raise
            if not isinstance(error, NotFoundError):  # it never ran, and its reason says why
                session.warn(f"no output of {one.id}: {error.message}")
    sys.stdout.buffer.flush()


def spec_from_file(session: Session, file: str) -> JobSpec:
    """The job in FILE ('-': standard input), in the namespace that was asked for."""
    return _from_file(session, file, {"count": None, **dict.fromkeys(_ONLY_WITH_A_COMMAND)})


def _from_file(session: Session, file: str, keys: dict[str, Any]) -> JobSpec:
    from dataclasses import replace

    from orchestrator.jobfile import limits
    from orchestrator.jobfile.file import load

    said = [name for name in _ONLY_WITH_A_COMMAND if keys[name]]
    if said:
        option = {"kind": "type", "ports": "port"}.get(said[0], said[0])
        raise click.UsageError(f"--{option} goes with '-- COMMAND...'; write it into {file} instead")
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as stream:
            text = stream.read(limits.MAX_JOB_BYTES + 1)
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror or error}") from None
    spec = load(text, "<stdin>" if file == "-" else file)
    if session.namespace and session.namespace != spec.namespace:
        if spec.namespace != "default":
            raise click.UsageError(f"--namespace {session.namespace}, but {file} says {spec.namespace}")
        spec = replace(spec, namespace=session.namespace)
    if keys["count"] is not None:
        if len(spec.groups) != 1:
            raise click.UsageError("--count: the job has several groups; write their counts into the file")
        spec = replace(spec, groups=(replace(spec.groups[0], count=keys["count"]),))
        _check(spec)
    return spec


def _check(spec: JobSpec) -> None:
    from orchestrator.contract.errors import InvalidError
    from orchestrator.jobfile.check import problems

    found = problems(spec, placements=None)
    if found:
        raise InvalidError("\n".join(found))


def _from_command(session: Session, command: tuple[str, ...], keys: dict[str, Any]) -> JobSpec:
    from orchestrator.client.job import Job

    env: dict[str, str] = {}
    for pair in keys["env"]:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--env: expected NAME=VALUE, got {pair!r}")
        env[name] = value
    batch = (keys["kind"] or "batch") == "batch"
    return Job(
        keys["name"] or _invented_name(command[0]),
        namespace=session.place,
        type=keys["kind"] or "batch",
        count=1 if keys["count"] is None else keys["count"],
        command=list(command),
        image=keys["image"] or "",
        cpu=keys["cpu"],
        memory=keys["memory"],
        gpus=keys["gpus"],
        env=env,
        ports=list(keys["ports"]),
        placement=keys["placement"] or "",
        # "A command that runs once": what fails is told at once, and nothing is done twice behind the user's back.
        restart={"attempts": 0} if batch else None,
    ).spec()


def _invented_name(program: str) -> str:
    """``echo-3f2a``: what runs, and something that makes it another job each time."""
    base = re.sub(r"[^a-z0-9]+", "-", Path(program).name.lower()).strip("-")[:40].strip("-") or "run"
    return f"{base}-{secrets.token_hex(2)}"
