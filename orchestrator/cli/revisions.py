"""``pause``, ``resume``, ``promote``, ``rollback``, ``versions`` and ``diff``: how a job goes from version to
version."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import click

from orchestrator.cli.output import age, show, table
from orchestrator.cli.session import Session, common
from orchestrator.contract.errors import ExitCode, NotFoundError
from orchestrator.contract.rollouts import RolloutAction

if TYPE_CHECKING:
    from orchestrator.contract.model import JobSpec, Revision

_wait = click.option("--wait/--detach", default=True, help="Stay until it is so.")


def _steer(session: Session, job: str, action: RolloutAction, done: str) -> None:
    with session.client() as client:
        result = client.steer_rollout(job, action)
        session.note(f"{job}: {done}" if result.changed else f"{job}: nothing to change")


@click.command()
@common
@click.argument("job")
def pause(session: Session, job: str) -> None:
    """Hold the rollout of JOB where it is: nothing more is replaced."""
    _steer(session, job, RolloutAction.PAUSE, "rollout paused")


@click.command()
@common
@click.argument("job")
def resume(session: Session, job: str) -> None:
    """Let a paused rollout of JOB go on; one that failed gets its deadline anew."""
    _steer(session, job, RolloutAction.RESUME, "rollout goes on")


@click.command()
@common
@click.argument("job")
@_wait
def promote(session: Session, job: str, wait: bool) -> int:
    """The canaries of JOB are good: replace the others, too. A paused rollout stays paused until it is resumed."""
    _steer(session, job, RolloutAction.PROMOTE, "canaries promoted")
    return _follow(session, job, 0) if wait else ExitCode.OK


@click.command()
@common
@click.argument("job")
@click.argument("version", type=click.IntRange(min=1), required=False)
@_wait
def rollback(session: Session, job: str, version: int | None, wait: bool) -> int:
    """Go back to an older VERSION of JOB: the last that was good when unsaid. Counts stay as they are."""
    with session.client() as client:
        done = client.rollback_job(job, version or 0)
        session.note(f"{job}: rolling back, as version {done.version}")
    return _follow(session, job, done.version) if wait else ExitCode.OK


def _follow(session: Session, job: str, version: int) -> int:
    from orchestrator.cli.rollout import Rollout

    with session.client() as client:
        status = client.get_job(job).job
        return Rollout(session, client, status.spec, version or status.version).wait().exit_code


@click.command()
@common
@click.argument("job")
def versions(session: Session, job: str) -> None:
    """What JOB is and was: its versions, the newest first."""
    with session.client() as client:
        found = client.list_job_versions(job)
        session.warn_if_stale(found.read)
    listed = found.versions

    def text(wide: bool) -> str:
        rows: list[list[object]] = []
        for place, one in enumerate(listed):
            before = listed[place + 1].spec if place + 1 < len(listed) else None
            changed = _changes(before, one.spec) if before is not None else "the oldest that is remembered"
            words = {
                "current": not place,
                "held": one.version == found.held_version,
                "base": one.version == found.base_version,
                "good": one.stable,
            }
            state = " ".join(word for word, holds in words.items() if holds)
            rows.append([one.version, state, age(one.time_ms), changed])
        return table(["VERSION", "STATE", "AGE", "CHANGES"], rows)

    show(
        session.output,
        value=lambda: found,
        names=lambda: [str(one.version) for one in listed],
        table=text,
    )


@click.command()
@common
@click.argument("job")
@click.argument("old", metavar="[V1]", type=click.IntRange(min=1), required=False)
@click.argument("new", metavar="[V2]", type=click.IntRange(min=1), required=False)
def diff(session: Session, job: str, old: int | None, new: int | None) -> None:
    """What differs between two versions of JOB as job files: V1 and V2, V1 and the current one, or the last two."""
    with session.client() as client:
        listed = client.list_job_versions(job).versions
    after = _version(job, listed, new or listed[0].version)
    if old is None and len(listed) < 2:
        raise NotFoundError(f"job {job!r} has one version only: there is nothing to compare")
    before = _version(job, listed, old or listed[1].version)
    lines = _diff(before, after)
    show(
        session.output,
        value=lambda: {"old": before.version, "new": after.version, "lines": lines},
        names=lambda: lines,
        table=lambda wide: "\n".join(_coloured(lines)) or f"Versions {before.version} and {after.version} are equal.",
    )


def _version(job: str, listed: tuple[Revision, ...], wanted: int) -> Revision:
    for one in listed:
        if one.version == wanted:
            return one
    known = ", ".join(str(one.version) for one in listed)
    raise NotFoundError(f"job {job!r} has no version {wanted} that is remembered; there are: {known}")


def _diff(before: Revision, after: Revision) -> list[str]:
    from orchestrator.jobfile.dump import dump

    names = (f"version {before.version}", f"version {after.version}")
    texts = (dump(before.spec).splitlines(), dump(after.spec).splitlines())
    return list(difflib.unified_diff(texts[0], texts[1], *names, lineterm=""))


def _changes(before: JobSpec, after: JobSpec) -> str:
    """The first lines that differ: ``image: web:2; count: 3``."""
    from orchestrator.jobfile.dump import dump

    old = dump(before).splitlines()
    changed = [line.strip() for line in dump(after).splitlines() if line not in old]
    gone = [f"no {line.strip()}" for line in old if line not in dump(after).splitlines()] if not changed else []
    text = "; ".join([*changed, *gone][:3])
    return text[:80] or "nothing (restarted, or started again)"


def _coloured(lines: list[str]) -> list[str]:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    return [click.style(line, fg=colours[line[0]]) if line[:1] in colours else line for line in lines]
